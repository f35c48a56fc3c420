"""Pascal-5i on a drawn stand-in for VOCdevkit; and on the real one where TASKVEC_PASCAL names its directory."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn_pascal import lines_of, write_devkit, write_list
from taskvec.data.examples import partition
from taskvec.data.pascal import CLASSES, FOLDS, Pascal
from taskvec.prompts import draw_prompts
from taskvec.tasks import SEGMENTATION

real_data = pytest.mark.skipif("TASKVEC_PASCAL" not in os.environ, reason="needs TASKVEC_PASCAL, Pascal VOC 2012")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_devkit(tmp_path)


def _classes(data: Pascal) -> set[int]:
    return set(data.class_of(np.arange(len(data))).tolist())


@pytest.mark.parametrize("fold", range(FOLDS))
@pytest.mark.parametrize("arrangement", ["few_shot", "official"])
def test_both_layouts_come_from_lists_in_either_arrangement(root: Path, fold: int, arrangement: str) -> None:
    if arrangement == "official":
        for each in range(FOLDS):
            path = root / "VOC2012" / "splits" / "trn" / f"fold{each}.txt"
            write_list(path, lines_of(0, range(5 * each + 1, 5 * each + 6)))
    inside = set(range(5 * fold + 1, 5 * fold + 6))
    assert _classes(Pascal(root, "test", fold)) == inside
    assert _classes(Pascal(root, "train", fold)) == set(range(1, 21)) - inside
    assert _classes(Pascal(root, "train", fold, "official")) == inside
    assert len(Pascal(root, "train", fold)) == 30
    assert len(Pascal(root, "train", fold, "official")) == 10
    assert len(Pascal(root, "train")) == len(Pascal(root, "test")) == 40


def test_the_directory_may_be_named_at_any_level(root: Path) -> None:
    for place in (root, root / "VOC2012", root.parent):
        assert len(Pascal(place, "test", 0)) == 10
    shutil.move(root / "VOC2012" / "splits", root / "splits")
    assert len(Pascal(root, "test", 0)) == 10
    (root / "splits" / "pascal").mkdir()
    for name in ("trn", "val"):
        shutil.move(root / "splits" / name, root / "splits" / "pascal" / name)
    assert len(Pascal(root, "test", 0)) == 10


def test_a_mask_is_its_class_and_what_is_ignored_is_background(root: Path) -> None:
    data = Pascal(root, "test", 1)
    examples = data.load(np.array([3, 0, 3]), 20)
    assert examples.images.shape == (3, 20, 20, 3)
    assert examples.masks is not None
    assert (examples.masks[0, 6:14, 8:15] == 255).all()
    assert (examples.masks[0, :3] == 0).all()
    assert np.array_equal(examples.masks[0], examples.masks[2])
    assert examples.classes.tolist() == [7, 6, 7]
    assert data.names(np.array([3, 0])) == ["2007_000113__07", "2007_000110__06"]


def test_augmented_masks_go_first(root: Path) -> None:
    augmented = root / "VOC2012" / "SegmentationClassAug"
    augmented.mkdir()
    Image.fromarray(np.full((20, 30), 1, np.uint8)).save(augmented / "2007_000100.png")
    masks = Pascal(root, "test", 0).load(np.arange(2), 8).masks
    assert masks is not None
    assert (masks[0] == 255).all()
    assert not (masks[1] == 255).all()


def test_parts_share_no_image(root: Path) -> None:
    """An image of several classes is in several lines."""
    several = [f"2007_{index:06}__{c:02}" for index in range(10) for c in (index // 2 + 1, index % 5 + 1)]
    write_list(root / "VOC2012" / "splits" / "val" / "fold0.txt", list(dict.fromkeys(several)))
    data = Pascal(root, "test", 0)
    parts = [set(part.images_of(np.arange(len(part)))) for part in partition(data, (0.5, 0.2, 0.3), 0)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 10
    assert all(parts)


def test_official_sampling_goes_through_the_list_and_begins_again(root: Path) -> None:
    data = Pascal(root, "test", 0)
    prompts = draw_prompts(data, SEGMENTATION, 13, 8, seed=0, sampling="official")
    assert prompts.query_names == [*data.names(np.arange(10)), *data.names(np.arange(3))]
    assert (prompts.support_indices != prompts.query_indices).all()
    assert np.array_equal(data.class_of(prompts.support_indices), data.class_of(prompts.query_indices))


def test_classes_of_one_example_are_counted(root: Path) -> None:
    path = root / "VOC2012" / "splits" / "val" / "fold0.txt"
    write_list(path, lines_of(100, range(1, 4)) + lines_of(100, range(4, 5))[:1])
    for sampling in ("balanced", "official"):
        prompts = draw_prompts(Pascal(root, "test", 0), SEGMENTATION, 12, 8, seed=0, sampling=sampling)
        assert prompts.origin["classes_of_one"] == 1
        assert {name[-2:] for name in prompts.query_names} == {"01", "02", "03"}


def test_what_is_missing_is_an_error_or_counted(root: Path) -> None:
    (root / "VOC2012" / "JPEGImages" / "2007_000101.jpg").unlink()
    (root / "VOC2012" / "SegmentationClass" / "2007_000104.png").unlink()
    with pytest.raises(ValueError, match=r"2007_000101.jpg is missing \(incomplete: 2 of 10 examples\); skip_missing"):
        Pascal(root, "test", 0)
    data = Pascal(root, "test", 0, skip_missing=True)
    assert (len(data), data.describe()["missing"]) == (8, 2)
    assert "2007_000101__01" not in data.names(np.arange(8))


def test_wrong_places_and_choices_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no Pascal VOC: expected JPEGImages in it or in .*VOC2012"):
        Pascal(tmp_path / "absent")
    for options, message in (
        ({"split": "val"}, "pascal has no split 'val': expected one of train, test"),
        ({"fold": 4}, "pascal has no fold 4: expected 0 to 3"),
        ({"layout": "own"}, "pascal has no layout 'own': expected one of few_shot, official"),
    ):
        with pytest.raises(ValueError, match=message):
            Pascal(root, **options)  # pyright: ignore[reportArgumentType]
    (root / "VOC2012" / "splits" / "val" / "fold2.txt").unlink()
    with pytest.raises(ValueError, match=r"fold2.txt is not a readable list"):
        Pascal(root, "test", 2)
    shutil.rmtree(root / "VOC2012" / "splits")
    with pytest.raises(ValueError, match=r"holds no lists of Pascal-5i: expected trn/fold0.txt to val/fold3.txt in"):
        Pascal(root, "test", 0)


@pytest.mark.parametrize("line", ["2007_000100__21", "2007_000100__00", "2007_000100", "../etc__01", "a b__01"])
def test_a_line_of_a_list_names_an_image_and_a_class(root: Path, line: str) -> None:
    write_list(root / "VOC2012" / "splits" / "val" / "fold0.txt", ["2007_000100__01", line])
    with pytest.raises(ValueError, match=r"fold0.txt, line 2: .*, expected ID__CC with a class CC from 01 to 20"):
        Pascal(root, "test", 0)


def test_a_list_of_another_fold_is_refused(root: Path) -> None:
    write_list(root / "VOC2012" / "splits" / "val" / "fold0.txt", ["2007_000100__01", "2007_000110__06"])
    with pytest.raises(ValueError, match=r"line 2: '2007_000110__06' is a class of fold 1, expected 0"):
        Pascal(root, "test", 0)
    write_list(root / "VOC2012" / "splits" / "val" / "fold0.txt", [])
    with pytest.raises(ValueError, match="no example of split test, fold 0 is left"):
        Pascal(root, "test", 0)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((20, 31), 1, np.uint8), "is of 31 x 20 pixels, expected 30 x 20 as its image"),
        (np.full((20, 30), 37, np.uint8), "holds class 37, expected 0 to 20, or 255 for ignored"),
        (np.full((20, 30), 2, np.uint8), r"has no pixel of class 01 \(aeroplane\), which a list names"),
        (np.full((20, 30, 3), 1, np.uint8), r"has mode RGB, expected a byte a pixel"),
        (None, "cannot be read as an image: its content is of no known format"),
    ],
)
def test_a_mask_that_does_not_fit_is_told(root: Path, mask: np.ndarray | None, message: str) -> None:
    path = root / "VOC2012" / "SegmentationClass" / "2007_000100.png"
    if mask is None:
        path.write_bytes(b"")
    else:
        Image.fromarray(mask).save(path)
    with pytest.raises(ValueError, match=rf"2007_000100.png.*{message}"):
        Pascal(root, "test", 0).load(np.arange(4), 8)


@real_data
def test_the_real_lists_are_complete() -> None:
    root = Path(os.environ["TASKVEC_PASCAL"])
    assert [len(Pascal(root, "test", fold)) for fold in range(FOLDS)] == [346, 451, 725, 346]
    for fold in range(FOLDS):
        train, official = (Pascal(root, "train", fold, layout) for layout in ("few_shot", "official"))
        assert _classes(train).isdisjoint(_classes(official))
        assert set(official.names(np.arange(len(official)))) <= set(Pascal(root).names(np.arange(len(Pascal(root)))))


@real_data
@pytest.mark.parametrize("fold", range(FOLDS))
def test_every_real_example_has_its_object(fold: int) -> None:
    data = Pascal(Path(os.environ["TASKVEC_PASCAL"]), "test", fold)
    masks = data.load(np.arange(len(data)), 111).masks
    assert masks is not None
    assert (masks.max((1, 2)) > 0).all()
    assert 0.05 < (masks > 127).mean() < 0.4
    assert len(CLASSES) == 20
