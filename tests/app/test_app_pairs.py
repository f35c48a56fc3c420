"""Dropped files are read by the rules of folders, and told of by the names that they were dropped with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from taskvec.app.pairs import read_pairs, stage, told_by_name
from taskvec.data.folder import Folder

Write = Callable[..., Path]


def test_the_brighter_of_two_levels_is_the_object(image_file: Write) -> None:
    size = (16, 16)  # the model's, so that nothing lies between the levels
    examples, metric = read_pairs([(image_file("a.png", size=size), image_file("b.png", mask=True, size=size))], 16)
    assert metric.name == "iou"
    assert examples.outputs is not None
    assert set(np.unique(examples.outputs)) == {0, 255}
    pictures, metric = read_pairs([(image_file("a.png"), image_file("c.png", seed=1))], 16)
    assert metric.name == "mse"
    assert pictures.images.shape == (1, 16, 16, 3)


def test_errors_have_the_names_that_were_dropped(image_file: Write) -> None:
    tall = image_file("tall.png", size=(10, 40))
    with pytest.raises(ValueError, match=r"^tall\.png .*wide\.png") as refused:
        read_pairs([(image_file("wide.png"), tall)], 16)
    assert "/" not in str(refused.value)


def test_pairs_are_staged_as_a_folder_that_is_a_task(image_file: Write, tmp_path: Path) -> None:
    inputs = [image_file(f"in/{number}.png", seed=number) for number in range(10)]
    outputs = [image_file(f"out/{number}_mask.png", seed=number, mask=True) for number in range(10)]
    stage(tmp_path / "task", inputs, outputs)
    folder = Folder(tmp_path / "task", split="all", suffix="_mask")
    assert len(folder) == 10
    assert folder.own_task is not None
    assert folder.own_task.name == "task"
    with pytest.raises(ValueError, match="there are 9 inputs: drop 10 pairs or more"):
        stage(tmp_path / "few", inputs[:9], outputs)
    with pytest.raises(ValueError, match="there are no outputs yet"):
        stage(tmp_path / "none", inputs, [])
    with pytest.raises(ValueError, match=r"0\.png is there twice among the inputs"):
        stage(tmp_path / "twice", [*inputs, image_file("again/0.png")], outputs)


def test_places_are_left_out_of_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^task/input/a\.png is odd$"), told_by_name(tmp_path):
        raise ValueError(f"{tmp_path}/task/input/a.png is odd")
