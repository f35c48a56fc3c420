from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taskvec.data.examples import partition
from taskvec.data.folder import Folder
from taskvec.data.groups import groups_of

PATHS = [Path(f"/data/anna_{index}.png") for index in range(3)] + [
    Path(f"/data/bert_{index}.png") for index in range(2)
]


def test_a_rule_names_groups(tmp_path: Path) -> None:
    expected = ["anna"] * 3 + ["bert"] * 2
    (tmp_path / "groups.csv").write_text("".join(f"{path.stem},{path.stem[:4]}\n" for path in PATHS))
    (tmp_path / "names.csv").write_text("\ufeff" + "".join(f"{path.name},{path.stem[:4]}\n" for path in PATHS))
    for rule in ("4", "_", r"^([a-z]+)_", str(tmp_path / "groups.csv"), str(tmp_path / "names.csv")):
        assert groups_of(PATHS, rule) == expected, rule


def test_a_rule_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("anna_0,anna\n")
    (tmp_path / "wrong.csv").write_text("anna_0;anna\n")
    for rule, sentence in {
        "patient": "expected a number of first letters, a separator",
        "-": "anna_0.png has no - that ends the name of its group",
        "(a)(b)": "has 2 groups in parentheses, expected one",
        "(": "is no regular expression",
        "^(anna)": "bert_0.png does not match",
        str(tmp_path / "few.csv"): "has no line for anna_1.png",
        str(tmp_path / "wrong.csv"): "line 1: 'anna_0;anna', expected NAME,GROUP",
        str(tmp_path / "none.csv"): "none.csv cannot be read",
    }.items():
        with pytest.raises(ValueError, match="--groups") as refused:
            groups_of(PATHS, rule)
        assert sentence in str(refused.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten patients with three images each; one image of the first two is the same."""
    root = tmp_path / "scans"
    root.mkdir()
    for patient in range(10):
        for index in range(3):
            seed = 0 if index == 0 and patient < 2 else 1 + 3 * patient + index
            pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / f"{patient}_{index}.png")
    return root


def _patients(root: Path, split: str) -> set[str]:
    data = Folder(root, split, groups="_")
    return {name.split("_")[0] for name in data.names(np.arange(len(data)))}


def test_a_group_is_on_one_side_of_every_split(root: Path) -> None:
    train, test = _patients(root, "train"), _patients(root, "test")
    assert train | test == {str(patient) for patient in range(10)}
    assert not train & test
    assert len(Folder(root, "test", groups="_")) == 6
    assert {"0", "1"} <= train or {"0", "1"} <= test  # as they share an image
    data = Folder(root, "train", groups="_")
    parts = partition(data, (0.5, 0.2, 0.3), 0)
    groups = [set(part.groups_of(np.arange(len(part)))) for part in parts]
    assert not groups[0] & groups[1]
    assert not groups[1] & groups[2]
    assert "9 groups by --groups, each on one side of every split" in data.remarks()


def test_a_folder_with_other_names_is_divided_alike(root: Path, tmp_path: Path) -> None:
    def content(where: Path, split: str) -> set[str]:
        data = Folder(where, split)
        return set(data.images_of(np.arange(len(data))))

    before = {split: content(root, split) for split in ("train", "test")}
    assert not before["train"] & before["test"]  # the same image twice is on one side
    moved = root.rename(tmp_path / "moved")
    for number, path in enumerate(sorted(moved.iterdir(), reverse=True)):
        path.rename(moved / f"image {number}.png")
    assert {split: content(moved, split) for split in before} == before


def test_one_group_cannot_be_divided(root: Path) -> None:
    with pytest.raises(ValueError, match=r"all 30 images of .* are of one group: expected two or more"):
        len(Folder(root, "test", groups=r"\.(png)"))
