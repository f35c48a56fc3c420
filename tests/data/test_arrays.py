from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import taskvec
from taskvec.data.folder import Folder
from taskvec.metrics import IOU, MSE
from taskvec.prompts import draw_prompts

COUNT = 12
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (COUNT, 10, 14, 3), np.uint8)
MASKS = np.where(np.arange(14) > RANDOM.integers(3, 10, (COUNT, 1, 1)), np.uint8(255), np.uint8(0)).repeat(10, 1)


def _loaded(data: Any) -> tuple[np.ndarray, np.ndarray | None]:
    examples = data.load(np.arange(len(data)), 8)
    return examples.images, examples.outputs


def _write(root: Path) -> tuple[list[str], list[str]]:
    places: tuple[list[str], list[str]] = ([], [])
    for name, paths, arrays in zip(("input", "output"), places, (IMAGES, MASKS), strict=True):
        (root / name).mkdir()
        for index, array in enumerate(arrays):
            paths.append(str(root / name / f"{index:02}.png"))
            Image.fromarray(array).save(paths[-1])
    return places


class _Items:
    """A data set of dictionaries, as Hugging Face's are, that counts what is taken from it."""

    def __init__(self, *columns: str):
        self.columns, self.taken = columns, 0

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.taken += 1
        return dict(zip(self.columns, (Image.fromarray(IMAGES[index]), Image.fromarray(MASKS[index])), strict=True))


def test_whatever_gives_them_the_pairs_are_those_of_a_folder_of_the_same(tmp_path: Path) -> None:
    paths = _write(tmp_path)
    folder = Folder(tmp_path, "all")
    images, outputs = _loaded(folder)
    encoded = [
        [{"bytes": Path(path).read_bytes(), "path": None} for path in paths[0]],
        [{"bytes": None, "path": path} for path in paths[1]],
    ]
    ways = [
        taskvec.pairs(IMAGES, MASKS),
        taskvec.pairs(list(IMAGES), MASKS > 0),
        taskvec.pairs([Image.fromarray(image) for image in IMAGES], [Image.fromarray(mask) for mask in MASKS]),
        taskvec.pairs(torch.from_numpy(IMAGES).movedim(3, 1), torch.from_numpy(MASKS)),
        taskvec.pairs(*paths),
        taskvec.pairs([Path(path) for path in paths[0]], paths[1]),
        taskvec.pairs(*encoded),
        taskvec.pairs(list(zip(IMAGES, MASKS, strict=True))),
        taskvec.pairs(_Items("image", "mask")),
        taskvec.pairs(_Items("x", "y"), input="x", output="y"),
    ]
    for data in ways:
        assert (len(data), data.own_task and data.own_task.metric) == (COUNT, IOU)
        own_images, own_outputs = _loaded(data)
        assert np.array_equal(own_images, images)
        assert outputs is not None
        assert own_outputs is not None
        assert np.array_equal(own_outputs, outputs)


def test_numbers_that_are_no_bytes_have_one_range_for_all() -> None:
    images, _ = _loaded(taskvec.pairs(IMAGES, MASKS))
    floats, _ = _loaded(taskvec.pairs(torch.from_numpy(IMAGES).movedim(3, 1) / 255, MASKS))
    assert np.abs(floats.astype(int) - images).max() <= 1
    dark, _ = _loaded(taskvec.pairs(IMAGES / 255, MASKS, levels=(0, 2)))
    assert np.abs(dark.astype(int) - images // 2).max() <= 4  # bicubic overshoot is cut off elsewhere


def test_an_item_is_taken_only_when_it_is_needed() -> None:
    items = _Items("image", "label")
    data = taskvec.pairs(items, metric="mse")
    assert items.taken == 1  # by which the columns are known
    assert data.names(np.array([3])) == ["03"]
    draw_prompts(data, data.own_task or pytest.fail("no task"), 2, 8, seed=0)
    assert items.taken > 1


def test_a_fifth_is_kept_aside_and_groups_stay_together() -> None:
    train, test = (taskvec.pairs(IMAGES, MASKS, split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (10, 2)
    assert not {*train.images_of(np.arange(10))} & {*test.images_of(np.arange(2))}
    patients = [index // 3 for index in range(COUNT)]
    aside = taskvec.pairs(IMAGES, MASKS, split="test", groups=patients)
    assert aside.groups_of(np.arange(len(aside))) == aside.groups_of(np.zeros(len(aside), int))
    assert aside.describe()["groups"] == 4


def test_the_task_is_called_and_scored_as_was_asked() -> None:
    data = taskvec.pairs(IMAGES, 255 - IMAGES, name="negative")
    assert data.own_task is not None
    assert (data.own_task.name, data.own_task.metric) == ("negative", MSE)
    same = taskvec.pairs(IMAGES.copy(), 255 - IMAGES, name="other")
    assert same.describe() == data.describe()  # of their content
    assert taskvec.pairs(IMAGES).own_task is None


@pytest.mark.parametrize(
    ("inputs", "outputs", "options", "said"),
    [
        ([], [], {}, "there are no inputs"),
        (IMAGES, MASKS[:5], {}, "there are 12 inputs and 5 outputs: expected as many"),
        (IMAGES, MASKS, {"groups": [1]}, "there are 12 inputs and 1 groups: expected as many"),
        (IMAGES[:5], MASKS[:5], {"split": "train"}, "inputs has 5 images, expected 10 or more"),
        (IMAGES, MASKS, {"split": "val"}, "there is no split 'val'|no split 'val'"),
        (_Items("x", "mask"), None, {}, "which column is the input.*there are x, mask"),
        (_Items("image", "mask"), None, {"output": "truth"}, "which column is the output"),
        ([object()] * COUNT, MASKS, {}, "inputs/00 cannot be read as an image: it is of type object"),
        (["nowhere.png"] * COUNT, MASKS, {}, "nowhere.png"),
        (IMAGES[..., :2], MASKS, {}, r"inputs/00 cannot be read as an image: its array has shape \(10, 14, 2\)"),
        (IMAGES, MASKS.swapaxes(1, 2), {}, "outputs/00 is of 10 x 14 pixels"),
    ],
)
def test_what_is_no_pair_of_images_is_one_sentence(inputs: Any, outputs: Any, options: Any, said: str) -> None:
    with pytest.raises((ValueError, OSError), match=said):
        _ = taskvec.pairs(inputs, outputs, **options).own_task
