import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taskvec.data.folder import Folder
from taskvec.metrics import IOU, MSE
from taskvec.prompts import draw_prompts
from taskvec.tasks import LOW_LIGHT, SEGMENTATION


def _noise(seed: int, size: tuple[int, int] = (12, 9)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def _masks(seed: int) -> np.ndarray:
    return np.where(_noise(seed)[..., 0] > 200, np.uint8(255), np.uint8(0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve pairs of noise and a negative of it, of several formats and sizes."""
    for name in ("input", "output"):
        (tmp_path / "negate" / name).mkdir(parents=True)
    for index in range(12):
        image = _noise(index, (10 + index, 16))
        ending = ("png", "bmp", "tiff")[index % 3]
        Image.fromarray(image).save(tmp_path / "negate" / "input" / f"{index:02}.{ending}")
        Image.fromarray(255 - image).save(tmp_path / "negate" / "output" / f"{index:02}.png")
    return tmp_path / "negate"


def _write_outputs(root: Path, outputs: list[np.ndarray]) -> None:
    shutil.rmtree(root / "output")
    (root / "output").mkdir()
    for index, output in enumerate(outputs):  # of the size of their inputs
        resized = Image.fromarray(output).resize((16, 10 + index), Image.Resampling.NEAREST)
        resized.save(root / "output" / f"{index:02}.png")


def test_a_directory_is_a_task_of_its_own(root: Path) -> None:
    data = Folder(root, "all")
    assert data.own_task is not None
    assert (data.own_task.name, data.own_task.metric) == ("negate", MSE)
    prompts = draw_prompts(data, data.own_task, 20, 8, seed=0)
    difference = 255 - prompts.query_input.astype(int) - prompts.query_output
    assert np.abs(difference).max() <= 1  # bicubic rounding
    assert set(prompts.query_names) == {f"{index:02}.{('png', 'bmp', 'tiff')[index % 3]}" for index in range(12)}


def test_what_is_kept_aside_is_always_the_same(root: Path) -> None:
    train, test, every = (set(Folder(root, split).names(np.arange(len(Folder(root, split))))) for split in _SPLITS)
    assert (len(train), len(test)) == (10, 2)
    assert train | test == every
    assert not train & test
    for index in range(12, 14):  # new pairs move at most as many as there are more kept aside
        image = _noise(index, (12, 16))
        Image.fromarray(image).save(root / "input" / f"{index}.png")
        Image.fromarray(255 - image).save(root / "output" / f"{index}.png")
        more = set(Folder(root, "test").names(np.arange(len(Folder(root, "test")))))
        assert len((more - {f"{index}.png"}) - test) <= len(more) - len(test)


_SPLITS = ("train", "test", "all")


@pytest.mark.parametrize("levels", [(0, 255), (0, 1), (30, 200)])
def test_outputs_of_two_levels_are_masks(root: Path, levels: tuple[int, int]) -> None:
    masks = [_masks(index) > 0 for index in range(12)]
    _write_outputs(root, [np.where(mask, *(np.uint8(level) for level in levels[::-1])) for mask in masks])
    data = Folder(root, "all")
    assert data.own_task is not None
    assert data.own_task.metric is IOU
    outputs = data.load(np.arange(12), 12).outputs
    assert outputs is not None
    assert outputs.min() == 0
    assert outputs.max() == 255
    assert np.abs((outputs > 127).mean() - np.mean(masks)) < 0.1
    assert data.remarks() == [f"metric IoU: the brighter of 2 levels, {100 * np.mean(masks):.0f} % of the outputs"]


def test_masks_in_colour_have_two_levels_too(root: Path) -> None:
    colours = np.array([[0, 0, 0], [128, 0, 0]], np.uint8)
    _write_outputs(root, [colours[(_masks(index) > 0).astype(int)] for index in range(12)])
    task = Folder(root, "all").own_task
    assert task is not None
    assert task.metric is IOU


def test_the_metric_can_be_chosen(root: Path) -> None:
    _write_outputs(root, [np.arange(0, 256, 16, dtype=np.uint8)[None].repeat(16, 0)] * 12)
    data = Folder(root, "all", "iou")
    assert data.own_task is not None
    assert data.own_task.metric is IOU
    outputs = data.load(np.arange(12), 16).outputs
    assert outputs is not None
    assert not outputs[:, :, :8].any()
    assert (outputs[:, :, 8:] == 255).all()
    with pytest.raises(ValueError, match="there is no metric 'psnr': expected one of iou, mse"):
        Folder(root, "all", "psnr")  # pyright: ignore[reportArgumentType]


def test_inputs_alone_serve_the_built_in_tasks(root: Path) -> None:
    shutil.rmtree(root / "output")
    data = Folder(root)
    assert data.own_task is None
    assert len(draw_prompts(data, LOW_LIGHT, 3, 8, seed=0)) == 3
    with pytest.raises(ValueError, match="the images have no masks of objects, which this task needs"):
        draw_prompts(data, SEGMENTATION, 3, 8, seed=0)
    with pytest.raises(ValueError, match="has no output/ that the metric mse could compare with"):
        Folder(root, metric="mse")


def test_pairs_that_do_not_fit_are_refused(root: Path) -> None:
    (root / "output" / "03.png").rename(root / "output" / "three.png")
    with pytest.raises(ValueError, match=r"input/03.png has no partner of the same name .* \(2 such files in all\)"):
        Folder(root, "all").load(np.arange(1), 8)
    (root / "output" / "three.png").rename(root / "output" / "03.png")
    shutil.copy(root / "input" / "03.png", root / "input" / "03.bmp")
    with pytest.raises(ValueError, match=r"03.bmp and .*03.png share a name"):
        Folder(root, "all").load(np.arange(1), 8)


def test_directories_that_do_not_fit_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="folders have no split 'val': expected one of train, test, all"):
        Folder(root, "val")
    with pytest.raises(
        ValueError,
        match=r"absent is not a directory: expected input/NAME.\* and output/NAME.\* \(or images",
    ):
        Folder(tmp_path / "absent")
    with pytest.raises(ValueError, match=r" has no images, but negate/: expected input/NAME"):
        Folder(tmp_path)
    (root / "input" / "film.mp4").write_bytes(b"")
    assert Folder(root).remarks()[-1] == "left out, as they are no images: film.mp4"


@pytest.mark.parametrize(
    ("places", "options"),
    [
        ("JPEGImages SegmentationClass", "--input JPEGImages --output SegmentationClass?"),
        ("annotated photos", "--input photos --output annotated?"),
        ("gt photos", "--input photos --output gt?"),
        ("one other", "--input one --output other, or the other way round?"),
        ("my\N{NO-BREAK SPACE}photos truth", "--input 'my\N{NO-BREAK SPACE}photos' --output truth?"),
        ("photos masks", "--input photos --output masks?"),
    ],
)
def test_two_directories_by_other_names_are_told_as_the_options_that_take_them(
    places: str, options: str, root: Path, tmp_path: Path
) -> None:
    first, last = places.split(" ")
    inputs, outputs = (last, first) if options.startswith(f"--input {last}") else (first, last)
    (root / "input").rename(tmp_path / "negate" / inputs)
    (root / "output").rename(tmp_path / "negate" / outputs)
    (root / "lists").mkdir()
    (root / "lists" / "train.txt").write_text("00\n")
    with pytest.raises(ValueError, match=re.escape(f": did you mean {options}") + "$"):
        Folder(root)
    told = shlex.split(options.removesuffix("?").removesuffix(", or the other way round"))
    assert len(Folder(root, "all", input=Path(told[1]), output=Path(told[3]))) == 12
    shutil.copytree(root / inputs, root / "more")  # whose names go with those of both
    with pytest.raises(ValueError, match=re.escape(": expected input/NAME.* and output/NAME.*")):
        Folder(root)
    for image in (root / "more").iterdir():
        image.rename(image.with_stem(f"other_{image.stem}"))
    with pytest.raises(ValueError, match=re.escape(f": did you mean {options}")):
        Folder(root)


def test_the_suffix_of_outputs_is_among_these_options(root: Path) -> None:
    (root / "input").rename(root / "scans")
    (root / "output").rename(root / "lungs")
    for output in (root / "lungs").iterdir():
        output.rename(output.with_stem(f"{output.stem}_lung"))
    with pytest.raises(ValueError, match="did you mean --input lungs --output scans, or the other way round"):
        Folder(root)
    (root / "lungs").rename(root / "truth")
    with pytest.raises(ValueError, match=r"did you mean --input scans --output truth --suffix _lung\?"):
        Folder(root)


def test_fewer_than_ten_pairs_are_not_divided(root: Path) -> None:
    for index in range(3):
        for name in ("input", "output"):
            next((root / name).glob(f"{index:02}.*")).unlink()
    assert len(Folder(root, "all")) == 9
    with pytest.raises(ValueError, match=r"has 9 images, expected 10 or more: some are kept aside"):
        Folder(root)


def test_objects_darker_than_grey_are_not_guessed(root: Path) -> None:
    _write_outputs(root, [np.arange(256, dtype=np.uint8).reshape(16, 16) // 16 % 3] * 12)
    for metric in (None, "iou"):
        with pytest.raises(ValueError, match=r"levels 0..2 are classes: which is the object\? --object N \(0, 1, 2"):
            _ = Folder(root, metric=metric).own_task
    task = Folder(root, metric="mse").own_task
    assert task is not None
    assert task.metric is MSE
    _write_outputs(root, [np.arange(256, dtype=np.uint8).reshape(16, 16) // 2] * 12)
    with pytest.raises(ValueError, match=r"output has grey levels from 0 to 127: what is object and what is not"):
        _ = Folder(root, metric="iou").own_task


def test_a_name_that_is_no_text_can_be_told(root: Path) -> None:
    renamed = root.parent / os.fsdecode(b"n\xffgate")
    root.rename(renamed)
    task = Folder(renamed).own_task
    assert task is not None
    assert task.name == "n\N{REPLACEMENT CHARACTER}gate"


def test_outputs_of_one_level_serve_other_tasks(root: Path) -> None:
    _write_outputs(root, [np.full((8, 8), 7, np.uint8)] * 12)
    assert len(draw_prompts(Folder(root), LOW_LIGHT, 3, 8, seed=0)) == 3


def test_outputs_of_one_level_are_no_task(root: Path) -> None:
    _write_outputs(root, [np.full((8, 8), 7, np.uint8)] * 12)
    with pytest.raises(ValueError, match=r"all of .*output is of one grey level, 7"):
        _ = Folder(root).own_task


def test_an_image_is_known_by_its_content(tmp_path: Path) -> None:
    """A folder that was copied, moved or renamed holds the same images."""
    first, second = tmp_path / "first", tmp_path / "second"
    for root, prefix in ((first, ""), (second, "copy of ")):
        root.mkdir()
        for index in range(3):
            Image.new("RGB", (4, 4), (index, 0, 0)).save(root / f"{prefix}{index}.png")
    every = np.arange(3)
    assert Folder(first, "all").images_of(every) == Folder(second, "all").images_of(every)
    assert len(set(Folder(first, "all").images_of(every))) == 3
    assert Folder(first, "all").groups_of(every) == Folder(first, "all").images_of(every)


def test_dark_and_noisy_pictures_are_no_classes(root: Path) -> None:
    """They have few levels, as maps of classes have, but not in areas."""
    noise = [np.random.default_rng(index).gamma(1, 9, (48, 48)).clip(0, 60).astype(np.uint8) for index in range(12)]
    for outputs in (noise, [np.repeat(levels[..., None], 3, -1) // [1, 2, 1] for levels in noise]):
        _write_outputs(root, [np.asarray(levels, np.uint8) for levels in outputs])
        task = Folder(root).own_task
        assert task is not None
        assert task.metric is MSE
