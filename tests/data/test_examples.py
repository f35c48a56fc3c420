from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labelled import Labelled, labelled
from taskvec.data import examples as module
from taskvec.data.examples import Examples, partition, remembered, task_for, tasks_of
from taskvec.data.folder import Folder
from taskvec.data.pictures import Pictures
from taskvec.data.scenes import Scenes
from taskvec.tasks import SEGMENTATION, TASKS, Task, image, mask


@given(st.integers(24, 300), st.integers(0, 99))
def test_parts_are_disjoint_complete_and_hold_their_share_of_every_class(count: int, seed: int) -> None:
    data = Scenes(count=count)
    shares = (0.5, 0.2, 0.3)
    parts = partition(data, shares, seed)
    assert sorted(np.concatenate([part.members for part in parts]).tolist()) == list(range(count))
    for share, part in zip(shares, parts, strict=True):
        classes = np.bincount(part.class_of(np.arange(len(part))), minlength=12)
        whole = np.bincount(data.class_of(np.arange(count)), minlength=12)
        assert np.abs(classes - share * whole).max() <= 1
        assert abs(len(part) - share * count) <= 3


def sizes(data: Labelled) -> list[int]:
    return [len(part) for part in partition(data, (0.5, 0.2, 0.3), 0)]


def test_many_small_classes_starve_no_part() -> None:
    assert sizes(labelled([example // 3 for example in range(60)])) == [30, 12, 18]
    assert sizes(labelled(range(20))) == [10, 4, 6]
    assert sizes(labelled([example // 2 for example in range(40)])) == [20, 8, 12]


def test_the_parts_of_large_classes_do_not_move() -> None:
    parts = partition(Scenes("validation"), (0.5, 0.2, 0.3), 0)
    assert [part.members[:5].tolist() for part in parts] == [[1, 2, 3, 5, 7], [6, 8, 16, 21, 34], [0, 4, 19, 20, 26]]
    assert [len(part) for part in parts] == [24576, 9828, 14748]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), min_size=4, max_size=80), st.integers(0, 99))
def test_no_group_is_in_two_parts_and_none_is_empty(examples: list[tuple[int, int]], seed: int) -> None:
    labels, patients = zip(*examples, strict=True)
    parts = partition(labelled(labels, patients), (0.5, 0.2, 0.3), seed)
    members = [set(part.groups_of(np.arange(len(part)))) for part in parts]
    assert sum(len(part) for part in parts) == len(examples)
    assert sum(map(len, members)) == len(set.union(*members)) == len(set(patients))
    assert all(members) or len(set(patients)) < 3


@given(st.integers(10, 60), st.integers(2, 9), st.integers(0, 99))
def test_groups_of_several_images_divide_as_the_shares_do(patients: int, images: int, seed: int) -> None:
    data = labelled([0] * (patients * images), np.repeat(np.arange(patients), images).tolist())
    for share, part in zip((0.5, 0.2, 0.3), partition(data, (0.5, 0.2, 0.3), seed), strict=True):
        assert abs(len(part) / images - share * patients) <= 1


def test_a_part_loads_the_examples_of_the_whole() -> None:
    data = Scenes(count=60)
    part = partition(data, (0.5, 0.5), 0)[1]
    loaded = part.load(np.arange(4), 16)
    assert np.array_equal(loaded.indices, part.members[:4])
    assert np.array_equal(loaded.images, data.load(part.members[:4], 16).images)
    assert part.describe() == data.describe()


def test_tasks_that_data_serve(tmp_path: Path) -> None:
    assert tasks_of(Pictures()) == list(TASKS.values())
    Image.new("RGB", (8, 8)).save(tmp_path / "black.png")
    assert tasks_of(Folder(tmp_path, "all")) == [task for task in TASKS.values() if task is not SEGMENTATION]
    for name, level in (("input", 90), ("output", 50)):
        (tmp_path / "own" / name).mkdir(parents=True)
        Image.fromarray(np.array([[level, 7, 4]], np.uint8)).save(tmp_path / "own" / name / "0.png")
    own = Folder(tmp_path / "own", "all")
    assert tasks_of(own) == [own.own_task]


def test_a_folders_own_task_comes_before_one_of_its_name(tmp_path: Path) -> None:
    for name, level in (("input", 90), ("output", 50)):
        (tmp_path / "colorization" / name).mkdir(parents=True)
        Image.fromarray(np.array([[level, 7, 4]], np.uint8)).save(tmp_path / "colorization" / name / "0.png")
    own = Folder(tmp_path / "colorization", "all")
    assert task_for(own, "colorization") == own.own_task
    assert task_for(own, "low_light") == TASKS["low_light"]


def test_a_task_is_offered_where_the_data_has_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outline = Task("outline", image, mask, needs=("masks",))
    monkeypatch.setitem(TASKS, "outline", outline)
    assert outline in tasks_of(Scenes(count=24))
    for number in range(10):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    photographs = Folder(tmp_path, "all")
    assert outline not in tasks_of(photographs)
    for task in ("segmentation", "inpainting+segmentation", outline):
        with pytest.raises(ValueError, match=r": the images have no masks of objects, which this task needs$"):
            task_for(photographs, task)
    assert task_for(photographs, "low_light").title == "Low light"


def test_examples_that_were_read_are_kept_as_far_as_memory_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in ("input", "output"):
        (tmp_path / side).mkdir()
        for index, pixels in enumerate(Scenes("test").load(np.arange(6), 20).images):
            Image.fromarray(pixels).save(tmp_path / side / f"{index}.png")
    data = Folder(tmp_path, "all")
    read: list[int] = []
    load = Folder.load

    def watched(folder: Folder, indices: np.ndarray, size: int) -> Examples:
        read.extend(indices.tolist())
        return load(folder, indices, size)

    monkeypatch.setattr(Folder, "load", watched)
    monkeypatch.setattr(module, "REMEMBERED", 3 * load(data, np.arange(1), 16).bytes)
    kept = remembered(data)
    for indices in ([4, 1, 4], [1, 0, 5], [5, 4, 1]):
        expected, found = load(data, np.array(indices), 16), kept.load(np.array(indices), 16)
        assert found.masks is expected.masks is None
        for name in ("images", "outputs", "classes", "indices"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))
    assert read == [4, 1, 0, 5, 5]
    assert (kept.describe(), kept.own_task, len(kept)) == (data.describe(), data.own_task, 6)
