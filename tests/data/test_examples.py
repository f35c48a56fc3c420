from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from taskvec.data.examples import partition, task_for, tasks_of
from taskvec.data.folder import Folder
from taskvec.data.pictures import Pictures
from taskvec.data.scenes import Scenes
from taskvec.tasks import SEGMENTATION, TASKS


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
