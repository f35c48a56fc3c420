from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelled import labelled
from taskvec.data.examples import Part
from taskvec.data.pairs import WordPairs
from taskvec.data.scenes import Scenes
from taskvec.models.canvas import CanvasGeometry
from taskvec.prompts import SAMPLINGS, Sampling, draw_prompts, pairs_of, plan_prompts
from taskvec.tasks import INPAINTING, SEGMENTATION


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(0, 99), st.sampled_from([None, 0, 3]))
def test_support_and_query_are_two_examples_of_one_class(count: int, seed: int, fold: int | None) -> None:
    data = Scenes("test", fold, count=120)
    prompts = draw_prompts(data, SEGMENTATION, count, 8, seed)
    assert len(prompts) == count
    assert (prompts.support_indices != prompts.query_indices).all()
    classes = data.class_of(prompts.query_indices)
    assert np.array_equal(classes, data.class_of(prompts.support_indices))
    frequencies = np.unique(classes, return_counts=True)[1]
    assert frequencies.max() - frequencies.min() <= 1 or len(frequencies) == count


def test_queries_repeat_only_when_their_class_is_used_up() -> None:
    data = Scenes("test", count=24)  # two of each class
    queries = draw_prompts(data, SEGMENTATION, 48, 8, seed=0).query_indices
    assert np.unique(queries, return_counts=True)[1].tolist() == [2] * 24


@settings(max_examples=20)
@given(st.integers(2, 7), st.integers(0, 99), st.sampled_from(SAMPLINGS))
def test_as_many_prompts_as_pairs_are_all_the_pairs(examples: int, seed: int, sampling: Sampling) -> None:
    data = Scenes("test", fold=0, count=3 * examples)
    prompts = draw_prompts(data, SEGMENTATION, pairs_of(data), 8, seed, sampling=sampling)
    pairs = set(zip(prompts.support_names, prompts.query_names, strict=True))
    assert len(pairs) == len(prompts) == 3 * examples * (examples - 1)


def test_the_same_seed_draws_the_same_prompts() -> None:
    first, again, other = (draw_prompts(Scenes("test"), INPAINTING, 9, 16, seed) for seed in (4, 4, 5))
    assert np.array_equal(first.query_input, again.query_input)
    assert not np.array_equal(first.query_indices, other.query_indices)


def test_indices_are_those_of_the_whole_data_set() -> None:
    data = Scenes("test", count=240)
    part = Part(data, np.arange(120, 240))
    prompts = draw_prompts(part, SEGMENTATION, 5, 16, seed=0)
    assert (prompts.query_indices >= 120).all()
    assert np.array_equal(prompts.query_input, data.load(prompts.query_indices, 16).images)


def test_holes_of_support_and_query_are_at_different_places() -> None:
    prompts = draw_prompts(Scenes("test"), INPAINTING, 20, 32, seed=0)
    holes = [
        (i != o).any(-1)
        for i, o in ((prompts.support_input, prompts.support_output), (prompts.query_input, prompts.query_output))
    ]
    assert (holes[0] != holes[1]).any((1, 2)).sum() >= 18


def test_holes_can_be_at_the_same_place() -> None:
    prompts = draw_prompts(Scenes("test"), INPAINTING, 20, 32, seed=0, same_hole=True)
    pairs = ((prompts.support_input, prompts.support_output), (prompts.query_input, prompts.query_output))
    support, query = ((given != truth).any(-1) for given, truth in pairs)
    support_box, query_box = (np.argwhere(hole.any(0)) for hole in (support, query))
    assert np.array_equal(support_box.min(0), query_box.min(0))
    assert prompts.origin["same_hole"] is True


def test_canvases_show_all_four_images() -> None:
    prompts = draw_prompts(Scenes("test"), SEGMENTATION, 2, 15, seed=0)
    geometry = CanvasGeometry(32, 15, 8)
    canvases = geometry.canvases(prompts)
    assert np.array_equal(geometry.crop(canvases, "query_output"), prompts.query_output)
    assert np.array_equal(geometry.crop(canvases, "support_input"), prompts.support_input)
    assert len(prompts[1:]) == 1


def test_a_class_needs_two_examples() -> None:
    with pytest.raises(ValueError, match="has two examples here, which a prompt needs"):
        draw_prompts(Scenes("test", count=12), SEGMENTATION, 3, 8, seed=0)


def test_taking_some_prompts_keeps_their_order() -> None:
    prompts = draw_prompts(Scenes("test"), SEGMENTATION, 6, 16, seed=0)
    some = prompts.take(np.array([4, 1]))
    assert some.query_names == [prompts.query_names[4], prompts.query_names[1]]
    np.testing.assert_array_equal(some.support_output, prompts.support_output[[4, 1]])


def test_support_and_query_are_of_two_patients_where_a_class_has_two() -> None:
    patients = ["a", "b", "a", "b", "a", "c", "d", "d", "d"]
    data = labelled([0] * 6 + [1] * 3, patients)
    assert pairs_of(data) == 3 * 3 + 2 * 4 + 1 * 5 + 3 * 2
    for sampling in SAMPLINGS:
        prompts = draw_prompts(data, SEGMENTATION, 60, 8, 0, sampling=sampling)
        pairs = list(zip(prompts.support_indices.tolist(), prompts.query_indices.tolist(), strict=True))
        of_class = [(patients[s], patients[q]) for s, q in pairs if q < 6]
        assert all(support != query for support, query in of_class)
        assert all(s != q and s >= 6 for s, q in pairs if q >= 6)  # one patient alone: another image


@settings(max_examples=20)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=9), st.integers(0, 99))
def test_the_pairs_of_two_patients_are_all_drawn(patients: list[int], seed: int) -> None:
    data = labelled([0] * len(patients), patients)
    prompts = draw_prompts(data, SEGMENTATION, len(patients) * 20, 8, seed)
    assert len(set(zip(prompts.support_names, prompts.query_names, strict=True))) == pairs_of(data)


def test_a_query_alone_in_its_class_needs_no_pair_where_none_is_shown() -> None:
    data = labelled([0, 1, 1, 2])
    assert set(draw_prompts(data, SEGMENTATION, 12, 8, 0).query_indices) == {1, 2}
    prompts = draw_prompts(data, SEGMENTATION, 12, 8, 0, query_only=True)
    assert set(prompts.query_indices) == {0, 1, 2, 3}
    assert (
        len(prompts.support_indices) == len(prompts.support_input) == len(prompts.take(np.arange(3)).support_names) == 0
    )
    assert prompts.origin["classes_of_one"] == 0
    single = draw_prompts(labelled([0]), SEGMENTATION, 2, 8, 0, query_only=True)
    assert single.query_indices.tolist() == [0, 0]
    with pytest.raises(ValueError, match="there are 3 examples of 3 classes"):
        draw_prompts(labelled([0, 1, 2]), SEGMENTATION, 2, 8, 0)


def _pairs(path: Path, count: int, shots: int = 3) -> WordPairs:
    file = path / "doubled.tsv"
    file.write_text("".join(f"{number}\tx{2 * number}\n" for number in range(count)))
    return WordPairs(file, "all", shots=shots)


def test_texts_have_several_supports(tmp_path: Path) -> None:
    """All different, none the query, and written so that a prompt is all of them one after the other."""
    data = _pairs(tmp_path, 12)
    prompts = draw_prompts(data, data.own_task, 30, 0, seed=1)
    assert (prompts.shots, prompts.support_input.shape, prompts.support_indices.shape) == (3, (30, 3), (30, 3))
    together = np.concatenate([prompts.support_indices, prompts.query_indices[:, None]], 1)
    assert all(len(set(row)) == 4 for row in together.tolist())
    first = prompts.support_indices[0, 0]
    assert (prompts.support_input[0, 0], prompts.support_output[0, 0]) == (f"Q: {first}\nA:", f" x{2 * first}\n\n")
    query = prompts.query_indices[0]
    assert (prompts.query_input[0], prompts.query_output[0]) == (f"Q: {query}\nA:", f" x{2 * query}")
    assert prompts.support_names[0].split(", ") == data.names(prompts.support_indices[0])
    assert prompts.support_images[0].split() == data.images_of(prompts.support_indices[0])
    again = draw_prompts(data, data.own_task, 30, 0, seed=1)
    assert np.array_equal(again.support_indices, prompts.support_indices)
    assert len({tuple(row) for row in prompts.support_indices.tolist()}) > 20
    half = prompts[:15]
    assert (half.shots, len(half), len(half.support_names)) == (3, 15, 15)


def test_queries_are_those_of_any_number_of_shots(tmp_path: Path) -> None:
    """So that prompts with two examples are judged by the queries of those with ten."""
    few, more = (_pairs(tmp_path, 20, shots) for shots in (1, 5))
    prompts = [draw_prompts(data, data.own_task, 12, 0, seed=3) for data in (few, more)]
    assert np.array_equal(prompts[0].query_indices, prompts[1].query_indices)
    assert prompts[0].support_input.shape == (12, 1)
    alone = draw_prompts(more, more.own_task, 12, 0, seed=3, query_only=True)
    assert np.array_equal(alone.query_input, prompts[1].query_input)
    assert (len(alone.support_input), alone.support_names, alone.support_images) == (0, [], [])


def test_where_there_are_fewer_examples_prompts_have_these(tmp_path: Path) -> None:
    data = _pairs(tmp_path, 5, shots=10)
    assert draw_prompts(data, data.own_task, 4, 0, seed=0).shots == 4


def test_images_and_texts_are_not_mixed_up(tmp_path: Path) -> None:
    data = _pairs(tmp_path, 5)
    with pytest.raises(ValueError, match="pairs are texts, and the model takes images of 8 pixels"):
        draw_prompts(data, data.own_task, 2, 8, seed=0)
    with pytest.raises(ValueError, match="scenes are images, and the model takes texts"):
        draw_prompts(Scenes("test", count=8), SEGMENTATION, 2, 0, seed=0)


@pytest.mark.parametrize("query_only", [False, True])
def test_planned_prompts_are_those_that_are_drawn_whatever_is_read_together(query_only: bool) -> None:
    whole = draw_prompts(Scenes("test"), INPAINTING, 9, 16, 4, query_only=query_only)
    planned = plan_prompts(Scenes("test"), INPAINTING, 9, 16, 4, query_only=query_only)
    assert (len(planned), planned.shots, planned.origin) == (9, whole.shots, whole.origin)
    names = ("query_names", "query_images", "query_groups", "support_names", "support_images")
    assert all(getattr(planned, name) == getattr(whole, name) for name in names)
    for some, expected in (
        (planned[3:5], whole[3:5]),
        (planned.take(np.array([7, 0, 7]))[:], whole.take(np.array([7, 0, 7]))),
        (planned.take(np.array([7, 0, 7]))[1:], whole.take(np.array([0, 7]))),
    ):
        for name in ("query_input", "query_output", "support_input", "support_output", "support_indices"):
            assert np.array_equal(getattr(some, name), getattr(expected, name))
        assert all(getattr(some, name) == getattr(expected, name) for name in names)
