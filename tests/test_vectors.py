import operator
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import records
from taskvec import evaluation
from taskvec.artefacts import read_config
from taskvec.heads import Means, Patch, recording
from taskvec.images import raster_of
from taskvec.metrics import cut, is_white
from taskvec.models.interface import VIEWS, Decoding, ViewName
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts
from taskvec.provenance import Combination, Term
from taskvec.vectors import TaskVectors


@pytest.fixture
def vectors(small_model: MaeVqgan, small_means: Means) -> TaskVectors:
    return records.vectors_at(small_model, small_means)


def test_they_patch_as_the_searched_mask_does(
    small_model: MaeVqgan, small_means: Means, vectors: TaskVectors, canvases: Tensor
) -> None:
    sites = small_model.sites("quadrant")
    patch = Patch(sites, sites.mask([0, 5, 9])[None], small_means.map(lambda mean: mean[:1]))
    expected = small_model(canvases, "query_only", patch)
    assert torch.equal(small_model(canvases, "query_only", vectors.patch), expected)
    items = small_model._items(small_model.embed(canvases, "query_only"), small_model.view("query_only"))
    with vectors.applied(items) as model:
        assert torch.equal(model.run(items), expected)
    assert not torch.equal(small_model(canvases, "query_only"), expected)
    assert vectors.sites == tuple(sites.names[i] for i in (0, 5, 9))


def test_they_come_back_as_they_were(
    small_model: MaeVqgan, vectors: TaskVectors, canvases: Tensor, tmp_path: Path
) -> None:
    vectors.save_pretrained(tmp_path)
    loaded = TaskVectors.from_pretrained(tmp_path, small_model)
    assert loaded.config == vectors.config
    assert read_config(tmp_path) == vectors.config
    before, after = (small_model(canvases, "query_only", v.patch) for v in (vectors, loaded))
    assert torch.equal(before, after)


def test_another_model_is_refused(vectors: TaskVectors, golden_model: MaeVqgan, tmp_path: Path) -> None:
    vectors.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError,
        match=r"these task vectors are of another model with fingerprint \w{16}, not of this one with \w{16}: pass",
    ):
        TaskVectors.load(tmp_path, golden_model)


def test_images_go_in_and_come_out_at_their_size(vectors: TaskVectors, random: np.random.Generator) -> None:
    images = [Image.fromarray(random.integers(0, 256, (h, w, 3), np.uint8)) for h, w in ((40, 23), (15, 15))]
    outputs = vectors(images)
    assert [output.size for output in outputs] == [(23, 40), (15, 15)]
    assert np.array_equal(np.asarray(vectors(images[1])), vectors.predict(np.asarray(images[1])[None])[0])
    assert vectors(Image.new("RGBA", (9, 9))).mode == "RGB"


def test_photographs_are_turned_upright(vectors: TaskVectors) -> None:
    image = Image.new("RGB", (40, 20))
    image.getexif()[0x0112] = 6
    assert vectors(image).size == (20, 40)


def test_sites_of_another_view_are_refused(small_model: MaeVqgan, small_means: Means) -> None:
    sites = small_model.sites("head", view="one_shot")
    means = {stack: mean[0] for stack, mean in small_means.items()}
    with pytest.raises(ValueError, match="are not those of the view query_only"):
        TaskVectors.select(small_model, sites, sites.mask([0, 5]), means, task="a", metric="mse", found=None)


def test_vectors_of_the_same_sites_add_up(
    small_model: MaeVqgan, small_means: Means, vectors: TaskVectors, canvases: Tensor
) -> None:
    other = records.vectors_at(small_model, small_means, task=1)
    combined = vectors + other - vectors
    assert combined.task == "task 0 + task 1 - task 0"
    for stack, mean in other.means.items():
        torch.testing.assert_close(combined.means[stack], mean, equal_nan=True)
    torch.testing.assert_close(
        small_model(canvases, "query_only", combined.patch), small_model(canvases, "query_only", other.patch)
    )
    with pytest.raises(ValueError, match="task 0 and task 0 have different sites"):
        _ = vectors + records.vectors_at(small_model, small_means, chosen=(0, 5))


FACTORS = st.floats(0.125, 8) | st.floats(-8, -0.125) | st.sampled_from([-1, 1, 2])


@given(FACTORS, FACTORS)
@settings(max_examples=10)
def test_arithmetic_is_that_of_their_means(
    small_model: MaeVqgan, small_means: Means, first: float, second: float
) -> None:
    a, b = (records.vectors_at(small_model, small_means, task) for task in (0, 1))
    expected = {
        stack: (first * mean - b.means[stack] / second, mean - b.means[stack], mean) for stack, mean in a.means.items()
    }
    for stack, (linear, difference, same) in expected.items():
        close = {"equal_nan": True, "rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close((a * first - b / second).means[stack], linear, **close)
        torch.testing.assert_close((first * (a - b)).means[stack], first * difference, **close)
        torch.testing.assert_close((a + b - b).means[stack], same, **close)
        torch.testing.assert_close((b - (b + -a)).means[stack], same, **close)


def test_a_combination_is_named_by_its_terms(small_model: MaeVqgan, small_means: Means) -> None:
    a, b = (records.vectors_at(small_model, small_means, task) for task in (0, 1))
    assert (a - (b - 0.5 * a)).task == "task 0 - task 1 + 0.5 * task 0"
    assert (-(2 * a) + b / 4).task == "-2 * task 0 + 0.25 * task 1"
    assert (-a).config.found == Combination("-task 0", (Term(-1, "task 0", "mse", a.fingerprint(), records.search()),))


def test_only_vectors_are_added_and_only_numbers_multiply(vectors: TaskVectors) -> None:
    wrong: list[tuple[Callable[..., object], object, object]] = [
        (operator.add, vectors, 1),
        (operator.sub, 1, vectors),
        (operator.mul, vectors, vectors),
        (operator.truediv, 2, vectors),
        (operator.truediv, vectors, vectors),
    ]
    for calculate, left, right in wrong:
        with pytest.raises(TypeError):
            calculate(left, right)
    for factor in (float("nan"), float("inf"), 1e300):
        with pytest.raises(ValueError, match=r"the values of .* \* task 0 are not finite in float32"):
            _ = factor * vectors


def test_a_stack_without_sites_need_not_have_been_searched(small_model: MaeVqgan, small_means: Means) -> None:
    """Sites 0, 5 and 9 are all of the encoder, the first stack."""
    both, encoder = records.vectors_at(small_model, small_means), small_model.sites("quadrant", ("encoder",))
    means = {stack: mean[1] for stack, mean in small_means.items()}
    other = TaskVectors.select(small_model, encoder, encoder.mask([0, 5, 9]), means, task="b", metric="mse", found=None)
    for combined in (both + other, other + both):
        torch.testing.assert_close(
            combined.means["encoder"], both.means["encoder"] + other.means["encoder"], equal_nan=True
        )


@pytest.mark.parametrize("view", VIEWS)
def test_just_the_chosen_positions_are_replaced_in_either_view(
    view: ViewName, small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    """By what went into the patch and what came out of it in the same run, position by position of the canvas."""
    vectors = records.vectors_at(small_model, small_means, chosen=(0, 5, 9, 16, 19, 24))
    items = small_model._items(small_model.embed(canvases, view), small_model.view(view))
    with recording(small_model) as before, vectors.applied(items) as model, recording(model) as after:
        model.run(items)
    for stack, mean in vectors.means.items():
        tokens = small_model.view(view).tokens(stack)
        z, replaced = torch.stack(before[stack], 1), torch.stack(after[stack], 1)
        expected = mean[:, :, tokens].transpose(1, 2).expand_as(z)  # [batch, layers, tokens, heads, head_dim]
        assert torch.equal(replaced, torch.where(expected.isnan(), z, expected))
        assert not torch.equal(replaced, z)


def test_no_sites_are_no_vectors(small_model: MaeVqgan, small_means: Means) -> None:
    with pytest.raises(ValueError, match="touches nothing"):
        records.vectors_at(small_model, small_means, chosen=())


def test_what_is_no_record_is_not_written(small_model: MaeVqgan, vectors: TaskVectors) -> None:
    with pytest.raises(ValueError, match="found is a dict, expected a record of"):
        replace(vectors, config=replace(vectors.config, found={"step": 1}))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="there are no images in the record"):
        records.drawn()


def test_vectors_of_two_searches_say_how_to_add_them(small_model: MaeVqgan, small_means: Means) -> None:
    sites = small_model.sites("quadrant")
    one = {stack: mean[0] for stack, mean in small_means.items()}
    a, b, own = (
        TaskVectors.select(small_model, sites, sites.mask(chosen), one, task=task, metric="mse")
        for task, chosen in (("low_light", (0, 5)), ("identity", (0, 6)), ("lungs", (0, 7)))
    )
    with pytest.raises(ValueError, match="`taskvec search --task low_light --task identity --out DIRECTORY`"):
        _ = a + b
    with pytest.raises(ValueError, match="`taskvec search --data folder --root FIRST --root SECOND --out DIRECTORY`"):
        _ = a - own


def test_vectors_of_other_levels_do_not_add_up(small_model: MaeVqgan, random_vectors: TaskVectors) -> None:
    first, second = (
        TaskVectors(small_model, replace(random_vectors.config, input_levels=levels), random_vectors.means)
        for levels in ((0.0, 4095.0), (0.0, 255.0))
    )
    with pytest.raises(ValueError, match=r"of different levels, 0 to 4095 and 0 to 255: only those of the same range"):
        _ = first + second
    assert (first + random_vectors).levels == first.levels


def test_a_deep_image_takes_the_vectors_levels(small_model: MaeVqgan, random_vectors: TaskVectors) -> None:
    deep = Image.fromarray(np.linspace(0, 4095, 144).reshape(12, 12).astype(np.uint16))
    with pytest.raises(ValueError, match=r"it has uint16 levels from 0 to 4095"):
        random_vectors(deep)
    found = TaskVectors(small_model, replace(random_vectors.config, input_levels=(0.0, 4095.0)), random_vectors.means)
    expected = random_vectors(Image.fromarray(np.round(np.asarray(deep) / 4095 * 255).astype(np.uint8)))
    assert np.array_equal(np.asarray(found(deep)), np.asarray(expected))
    assert np.array_equal(np.asarray(random_vectors(deep, levels=(0, 4095))), np.asarray(expected))


def _decoded(vectors: TaskVectors, *decoding: object, **changes: object) -> TaskVectors:
    """The same with another decoding and other values of the configuration."""
    values: dict[str, Any] = {**changes, "decoding": Decoding(*decoding)}  # pyright: ignore[reportArgumentType]
    return replace(vectors, config=replace(vectors.config, **values))


def test_a_fingerprint_is_of_the_decoding_too(vectors: TaskVectors) -> None:
    assert vectors.config.decoding == Decoding()
    ways = [
        (),
        ("expected",),
        ("expected", 1.5),
        ("expected", 1.5, 3.0),
        ("expected", 1.5, 4.0),
        ("likeliest", 1.0, 3.0),
    ]
    assert len({_decoded(vectors, *way).fingerprint() for way in ways}) == len(ways)
    assert _decoded(vectors).fingerprint() == vectors.fingerprint()


def test_a_score_is_of_the_vectors_that_were_scored(vectors: TaskVectors, small_prompts: list[Prompts]) -> None:
    scores = np.linspace(0, 1, len(small_prompts[1]))
    scored = evaluation.with_score(vectors, small_prompts[1], scores, {"query_only": scores / 2})
    (score,) = evaluation.with_score(scored, small_prompts[1], scores, {"query_only": scores / 2}).config.scores
    assert (score.of, score.metric, score.data, score.pairs) == (vectors.fingerprint(), "mse", "scenes", 6)
    assert score.value.mean == pytest.approx(0.5)
    assert score.others["query_only"].mean == pytest.approx(0.25)
    assert scored.fingerprint() == vectors.fingerprint()
    for other in (2 * scored, replace(scored, means={name: mean + 1 for name, mean in scored.means.items()})):
        assert other.config.scores == ()


@pytest.mark.parametrize("kind", ["likeliest", "expected"])
def test_masks_are_cut_at_the_level(kind: str, vectors: TaskVectors, small_prompts: list[Prompts]) -> None:
    """At the model's size where they are judged, at that of the image where they are applied."""
    own = _decoded(vectors, kind, 1.5, 104.0, metric="iou")
    images = small_prompts[0].query_input
    uncut = own.uncut(images)
    assert len(np.unique(uncut)) > 2
    predicted = own.predict(images)
    assert np.array_equal(predicted, cut(torch.from_numpy(uncut), 104.0).numpy())
    assert np.array_equal(_decoded(own, kind, 1.5, metric="iou").predict(images), uncut)
    judged = evaluation.run(own.answering, "query_only", own.patch)(small_prompts[0]).numpy()
    assert np.array_equal(judged, predicted)
    for size in ((15, 15), (40, 23)):
        result = own(Image.fromarray(images[0]).resize(size))
        seen = own.uncut(own.to_input(raster_of(Image.fromarray(images[0]).resize(size)))[None])[0]
        larger = np.array(Image.fromarray(seen).resize(size, Image.Resampling.BICUBIC))
        expected = is_white(torch.from_numpy(larger)[None], 104.0)[0].numpy()
        assert (result.mode, result.size) == ("L", size)
        assert np.array_equal(np.asarray(result), np.where(expected, 255, 0))
        assert 0 < expected.mean() < 1
    halves = _decoded(vectors, kind, 1.5, metric="iou")(Image.fromarray(images[0]))  # without a level: at one half
    assert np.array_equal(np.asarray(halves) == 255, is_white(torch.from_numpy(uncut[:1]))[0].numpy())


def test_a_sum_is_decoded_as_what_it_is_scored_as(vectors: TaskVectors) -> None:
    """As the first that is of its metric; images are never cut."""
    masks, others = (_decoded(vectors, "expected", 1.5, level, metric="iou") for level in (3.0, 8.0))
    images, more = (_decoded(vectors, "expected", temperature) for temperature in (2.0, 1.0))
    for combined, metric, decoding in (
        (masks + images, "iou", Decoding("expected", 1.5, 3.0)),
        (images + masks, "iou", Decoding("expected", 1.5, 3.0)),
        (others + masks, "iou", Decoding("expected", 1.5, 8.0)),
        (images + more, "mse", Decoding("expected", 2.0)),
        (images - masks, "mse", Decoding("expected", 2.0)),
        (masks - images, "iou", Decoding("expected", 1.5, 3.0)),
        (0.5 * masks, "iou", Decoding("expected", 1.5, 3.0)),
        (-masks, "mse", Decoding("expected", 1.5)),
        (images - more + others, "iou", Decoding("expected", 1.5, 8.0)),
    ):
        assert (combined.config.metric, combined.config.decoding) == (metric, decoding), combined.task


@pytest.mark.parametrize("shape", [(20, 30, 3), (20, 30)])
def test_arrays_go_in_and_come_out(shape: tuple[int, ...], vectors: TaskVectors, random: np.random.Generator) -> None:
    several = random.integers(0, 256, (2, *shape), np.uint8)
    expected = [np.asarray(vectors(Image.fromarray(one))) for one in several]
    assert np.array_equal(vectors(several[0]), expected[0])
    assert all(map(np.array_equal, vectors(list(several)), expected))
    mixed: Any = vectors([several[0], Image.fromarray(several[1])])  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert [type(one) for one in mixed] == [np.ndarray, Image.Image]
    if len(shape) == 3:  # which without channels would be one image
        together = vectors(several)
        assert (together.shape, together.dtype) == ((2, 20, 30, 3), np.uint8)
        assert np.array_equal(together[1], expected[1])
    masks = replace(vectors, config=replace(vectors.config, metric="iou"))(several[0])
    assert (masks.shape, {*np.unique(masks)} <= {0, 255}) == ((20, 30), True)


def test_an_evaluation_of_others_is_no_score(
    small_model: MaeVqgan, vectors: TaskVectors, small_prompts: list[Prompts], capfd: pytest.CaptureFixture[str]
) -> None:
    own = evaluation.evaluate(small_model, vectors, small_prompts[1], progress=True)
    assert "6/6" in capfd.readouterr().err
    alone = evaluation.evaluate(small_model, "query_only", small_prompts[1])
    assert list(vectors.scored(own, query_only=alone).config.scores[0].others) == ["query_only"]
    with pytest.raises(ValueError, match=r"^the evaluation is not of these task vectors: expected taskvec.evaluate\("):
        (2 * vectors).scored(own)
    other = evaluation.evaluate(small_model, "query_only", small_prompts[1].take(np.arange(5)))
    with pytest.raises(ValueError, match=r"^query_only was evaluated on other prompts than the task vectors$"):
        vectors.scored(own, query_only=other)
