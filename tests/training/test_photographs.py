import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taskvec.data.examples import Examples
from taskvec.data.scenes import Scenes
from taskvec.training.photographs import (
    NO_CLASS,
    Crops,
    Photograph,
    Together,
    WholePhotographs,
    describe,
    read_photographs,
    split,
)


def _masks(examples: Examples) -> np.ndarray:
    assert examples.masks is not None
    return examples.masks


@pytest.fixture(scope="module")
def photographs(photographs_directory: Path) -> list[Photograph]:
    return read_photographs(photographs_directory)


def test_what_is_read(photographs: list[Photograph]) -> None:
    names = [photograph.name for photograph in photographs]
    assert names == [f"classed/{i:02d}" for i in range(59)] + [f"parts/{i:02d}" for i in range(8)]
    first, last = photographs[0], photographs[-1]
    assert (first.image.size, first.labels.shape) == ((48, 32), (32, 48))
    assert first.objects == first.of_a_class == ((1, 1),)
    assert last.objects == ((1, NO_CLASS), (2, NO_CLASS))
    assert last.of_a_class == ()


def test_no_photograph_of_the_validation_lists_is_read(photographs_directory: Path, tmp_path: Path) -> None:
    assert (photographs_directory / "classed" / "JPEGImages" / "59.jpg").exists()
    assert "classed/59" not in {photograph.name for photograph in read_photographs(photographs_directory)}
    shutil.copytree(photographs_directory, tmp_path / "wrong")
    with (tmp_path / "wrong" / "classed" / "splits" / "val" / "fold0.txt").open("a") as lines:
        lines.write("03__02\n")
    with pytest.raises(ValueError, match=r"classed: 03 is in the lists of splits/trn and of splits/val"):
        read_photographs(tmp_path / "wrong")


def test_a_class_that_few_photographs_show_is_none(photographs_directory: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs_directory, tmp_path / "few")
    (tmp_path / "few" / "classed" / "splits" / "trn" / "fold0.txt").write_text("00__01\n01__02\n02__01\n04__01\n06__01")
    kinds = [photograph.objects[0][1] for photograph in read_photographs(tmp_path / "few")[:5]]
    assert kinds == [1, NO_CLASS, 1, 1, 1]


def test_masks_of_another_size_and_empty_directories_are_refused(photographs_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no photographs: expected folders with JPEGImages"):
        read_photographs(tmp_path)
    shutil.copytree(photographs_directory, tmp_path / "wrong")
    Image.new("L", (5, 4)).save(tmp_path / "wrong" / "parts" / "Regions" / "03.png")
    with pytest.raises(ValueError, match=r"03.png has a shape of \(4, 5\), expected the photograph's, \(32, 48\)"):
        read_photographs(tmp_path / "wrong")


def test_held_out_photographs_are_not_trained_on(photographs: list[Photograph]) -> None:
    trained, held_out = split(photographs, seed=0)
    assert len(held_out) == round(0.1 * len(photographs))
    assert {each.name for each in trained} | {each.name for each in held_out} == {each.name for each in photographs}
    assert len(trained) + len(held_out) == len(photographs)
    assert describe(trained) != describe(photographs)


def test_whole_photographs_are_not_changed(photographs: list[Photograph]) -> None:
    data = WholePhotographs(photographs)
    assert len(data) == 59
    examples = data.load(np.array([3, 0]), 16)
    assert np.array_equal(
        examples.images[1], np.asarray(photographs[0].image.resize((16, 16), Image.Resampling.BICUBIC))
    )
    assert examples.classes.tolist() == data.class_of(np.array([3, 0])).tolist() == [2, 1]
    assert np.unique(_masks(examples)).tolist() == [0, 255]
    assert (_masks(examples) > 0).mean() == pytest.approx(18 * 24 / (32 * 48), abs=0.06)


def test_a_crop_depends_on_seed_and_index_alone(photographs: list[Photograph]) -> None:
    data = Crops(photographs, 40)
    some, alone = data.load(np.array([5, 7, 5]), 16), data.load(np.array([7]), 16)
    assert np.array_equal(some.images[1], alone.images[0])
    assert np.array_equal(_masks(some)[1], _masks(alone)[0])
    assert np.array_equal(some.images[0], some.images[2])
    assert not np.array_equal(some.images[0], some.images[1])
    assert not np.array_equal(alone.images, Crops(photographs, 40, seed=1).load(np.array([7]), 16).images)


def test_crops_have_objects_of_several_classes_and_of_none(photographs: list[Photograph]) -> None:
    data = Crops(photographs, 60)
    examples = data.load(np.arange(60), 16)
    assert set(examples.classes.tolist()) == {NO_CLASS, 1, 2}
    assert np.array_equal(examples.classes, data.class_of(np.arange(60)))
    assert np.unique(_masks(examples)).tolist() == [0, 255]
    shares = (_masks(examples) > 0).mean((1, 2))
    assert shares.min() > 0.01
    assert shares.max() < 0.95


def test_crops_need_objects_of_a_class(photographs: list[Photograph]) -> None:
    with pytest.raises(ValueError, match=r"no object in the photographs is of a class"):
        Crops(photographs[-8:], 10)


def test_data_sets_together(photographs: list[Photograph]) -> None:
    scenes = Scenes("train")
    data = Together(((WholePhotographs(photographs), 10), (scenes, 24)))
    assert len(data) == 34
    examples = data.load(np.array([33, 2, 10]), 16)
    assert np.array_equal(examples.images[0], scenes.load(np.array([23]), 16).images[0])
    assert np.array_equal(examples.images[1], WholePhotographs(photographs).load(np.array([2]), 16).images[0])
    assert np.array_equal(examples.classes, data.class_of(np.array([33, 2, 10])))
    assert not set(data.class_of(np.arange(10))) & set(data.class_of(np.arange(10, 34)))
    assert data.names(np.array([33, 2])) == [*scenes.names(np.array([23])), "classed/02__001"]
    assert data.images_of(np.array([33, 2])) == [*scenes.images_of(np.array([23])), "classed/02"]
    assert data.own_task is None


@pytest.mark.parametrize("line", ["/etc/passwd__01", "../../outside__01", "..__01", "__01", "a\\b__01", "a\0b__01"])
def test_a_list_names_files_of_its_directory_alone(line: str, photographs_directory: Path, tmp_path: Path) -> None:
    root = shutil.copytree(photographs_directory, tmp_path / "photographs")
    (root / "classed" / "splits" / "trn" / "more.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"more.txt: .*expected NAME__CLASS with the name of a file in JPEGImages"):
        read_photographs(root)
