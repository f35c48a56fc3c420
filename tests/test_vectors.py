import json
import operator
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from taskvec.canvas import VIEWS, ViewName
from taskvec.heads import Means, Patch, recording
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors, read_config


def _vectors(model: MaeVqgan, means: Means, task: int = 0, chosen: tuple[int, ...] = (0, 5, 9)) -> TaskVectors:
    sites = model.sites("quadrant")
    one = {stack: mean[task] for stack, mean in means.items()}
    found = {"step": 1}
    return TaskVectors.select(model, sites, sites.mask(chosen), one, task=f"task {task}", metric="mse", found=found)


@pytest.fixture
def vectors(small_model: MaeVqgan, small_means: Means) -> TaskVectors:
    return _vectors(small_model, small_means)


def test_they_patch_as_the_searched_mask_does(
    small_model: MaeVqgan, small_means: Means, vectors: TaskVectors, canvases: Tensor
) -> None:
    sites = small_model.sites("quadrant")
    patch = Patch(sites, sites.mask([0, 5, 9])[None], {stack: mean[:1] for stack, mean in small_means.items()})
    expected = small_model(canvases, "query_only", patch)
    assert torch.equal(small_model(canvases, "query_only", vectors.patch), expected)
    with vectors.applied() as model:
        assert torch.equal(model(canvases, "query_only"), expected)
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
    with pytest.raises(ValueError, match=r"belong to the model with fingerprint \w{16}, not to this one with \w{16}"):
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
        TaskVectors.select(small_model, sites, sites.mask([0, 5]), means, task="a", metric="mse", found={})


def test_vectors_of_the_same_sites_add_up(
    small_model: MaeVqgan, small_means: Means, vectors: TaskVectors, canvases: Tensor
) -> None:
    other = _vectors(small_model, small_means, task=1)
    combined = vectors + other - vectors
    assert combined.task == "task 0 + task 1 - task 0"
    for stack, mean in other.means.items():
        torch.testing.assert_close(combined.means[stack], mean, equal_nan=True)
    torch.testing.assert_close(
        small_model(canvases, "query_only", combined.patch), small_model(canvases, "query_only", other.patch)
    )
    with pytest.raises(ValueError, match="task 0 and task 0 have different sites"):
        _ = vectors + _vectors(small_model, small_means, chosen=(0, 5))


FACTORS = st.floats(0.125, 8) | st.floats(-8, -0.125) | st.sampled_from([-1, 1, 2])


@given(FACTORS, FACTORS)
@settings(max_examples=10)
def test_arithmetic_is_that_of_their_means(
    small_model: MaeVqgan, small_means: Means, first: float, second: float
) -> None:
    a, b = (_vectors(small_model, small_means, task) for task in (0, 1))
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
    a, b = (_vectors(small_model, small_means, task) for task in (0, 1))
    assert (a - (b - 0.5 * a)).task == "task 0 - task 1 + 0.5 * task 0"
    assert (-(2 * a) + b / 4).task == "-2 * task 0 + 0.25 * task 1"
    assert (-a).config.found["terms"] == [
        {"factor": -1, "task": "task 0", "metric": "mse", "fingerprint": a.fingerprint(), "found": {"step": 1}}
    ]


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
    both, encoder = _vectors(small_model, small_means), small_model.sites("quadrant", ("encoder",))
    means = {stack: mean[1] for stack, mean in small_means.items()}
    other = TaskVectors.select(small_model, encoder, encoder.mask([0, 5, 9]), means, task="b", metric="mse", found={})
    for combined in (both + other, other + both):
        torch.testing.assert_close(
            combined.means["encoder"], both.means["encoder"] + other.means["encoder"], equal_nan=True
        )


@pytest.mark.parametrize("view", VIEWS)
def test_just_the_chosen_positions_are_replaced_in_either_view(
    view: ViewName, small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    """By what went into the patch and what came out of it in the same run, position by position of the canvas."""
    vectors = _vectors(small_model, small_means, chosen=(0, 5, 9, 16, 19, 24))
    with recording(small_model) as before, vectors.applied(view) as model, recording(model) as after:
        model(canvases, view)
    for stack, mean in vectors.means.items():
        tokens = small_model.view(view).tokens(stack)
        z, replaced = torch.stack(before[stack], 1), torch.stack(after[stack], 1)
        expected = mean[:, :, tokens].transpose(1, 2).expand_as(z)  # [batch, layers, tokens, heads, head_dim]
        assert torch.equal(replaced, torch.where(expected.isnan(), z, expected))
        assert not torch.equal(replaced, z)


def test_no_sites_are_no_vectors(small_model: MaeVqgan, small_means: Means) -> None:
    with pytest.raises(ValueError, match="touches nothing"):
        _vectors(small_model, small_means, chosen=())


def test_damaged_files_are_refused(small_model: MaeVqgan, vectors: TaskVectors, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no task vectors: there is no config.json"):
        TaskVectors.load(tmp_path, small_model)
    vectors.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(ValueError, match="has format 99, expected 2"):
        TaskVectors.load(tmp_path, small_model)
    (tmp_path / "config.json").write_text(json.dumps({**config, "sites": "many"}))
    with pytest.raises(ValueError, match=r"config.json: sites: input should be a valid tuple"):
        TaskVectors.load(tmp_path, small_model)
    (tmp_path / "config.json").write_text(json.dumps(config))
    whole = load_file(tmp_path / "vectors.safetensors")
    spoilt = {
        "nan": {**whole, "encoder.values": whole["encoder.values"] * torch.nan},
        "inf": {**whole, "encoder.values": whole["encoder.values"] + torch.inf},
        "fewer": {**whole, **{f"encoder.{part}": whole[f"encoder.{part}"][1:] for part in ("positions", "values")}},
        "narrow": {**whole, "encoder.values": whole["encoder.values"][:, :3].contiguous()},
        "moved": {**whole, "encoder.positions": whole["encoder.positions"] + 1},
    }
    for tensors in spoilt.values():
        save_file(tensors, tmp_path / "vectors.safetensors")
        with pytest.raises(ValueError, match=r"vectors.safetensors (does not hold finite|is missing or damaged)"):
            TaskVectors.load(tmp_path, small_model)
    other = [{**config["sites"][0], "layer": 77}]
    (tmp_path / "config.json").write_text(json.dumps({**config, "sites": other}))
    with pytest.raises(ValueError, match="names a site that the model does not have"):
        TaskVectors.load(tmp_path, small_model)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "vectors.safetensors").write_bytes((tmp_path / "vectors.safetensors").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"vectors.safetensors is missing or damaged"):
        TaskVectors.load(tmp_path, small_model)


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
