import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taskvec.artefacts import read_config
from taskvec.cli import main
from taskvec.cli.data_options import DataOptions
from taskvec.data.scenes import Scenes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Scenes of 12 bits in 16, and maps of three classes called NAME_mask."""
    scenes = Scenes("test").load(np.arange(12), 48)
    assert scenes.masks is not None
    for name in ("photos", "maps"):
        (tmp_path / "cells" / name).mkdir(parents=True)
    for index, (image, mask) in enumerate(zip(scenes.images, scenes.masks, strict=True)):
        levels = 100 + image[..., 1].astype(np.uint16) * 7
        Image.fromarray(levels).save(tmp_path / "cells" / "photos" / f"{index}.png")
        labels = np.where(mask > 0, np.uint8(2), np.uint8(0))
        labels[:3] = 1
        Image.fromarray(labels).save(tmp_path / "cells" / "maps" / f"{index}_mask.png")
    return tmp_path / "cells"


def test_only_what_was_given_reaches_the_data_set() -> None:
    assert DataOptions("scenes", fold=2).given() == {"fold": 2}
    given = DataOptions("folder", [Path("a")], suffix="_mask", object_level="2", levels=(0, 9)).given()
    assert given == {"root": Path("a"), "suffix": "_mask", "object_level": "2", "levels": (0, 9)}


def test_a_template_is_given_in_one_line() -> None:
    given = DataOptions("pairs", [Path("a.csv")], template=r"{input}\n= {output}\t\\n\d", shots=3).given()
    assert given == {"root": Path("a.csv"), "template": "{input}\n= {output}\t\\n\\d", "shots": 3}


def test_every_relation_that_is_named_is_data_of_its_own(tmp_path: Path) -> None:
    named = ["country-capital", "present-past"]
    of_each = DataOptions("relations", template="colon").load_each("test", named)
    tasks = [data.own_task for data in of_each]
    assert [task and task.name for task in tasks] == named
    assert of_each[0].load(np.arange(1), 0).images.tolist() == ["Algeria:"]
    with pytest.raises(ValueError, match=r"relations needs the name of one \(--task\)"):
        DataOptions("relations").load_each("test", None)
    with pytest.raises(ValueError, match="relations has no root"):
        DataOptions("relations", [tmp_path]).load_each("test", named)
    one, other = DataOptions("scenes").load_each("test", ["identity", "low_light"])
    assert one is other
    assert len(DataOptions("scenes").load_each("test", None)) == 1


def test_the_options_of_a_folder_go_through_the_whole_job(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--root", str(root), "--input", "photos", "--output", "maps", "--suffix", "_mask"]
    out = tmp_path / "found"
    find = ["find", *data, "--out", str(out), "--steps", "2", "--queries", "2"]
    assert main(find) == 1
    assert "levels 0..2 are classes: which is the object? --object N (0, 1, 2 occur)" in capsys.readouterr().err
    assert main([*find, "--object", "2", "--levels", "100", "1885"]) == 0
    told = capsys.readouterr().err
    assert told.count("metric IoU: level 2 of 0, 1 and 2, ") == 1
    assert told.count("levels 100 to 1885 of the 12 deep files in ") == 1
    assert read_config(out).input_levels == (100.0, 1885.0)
    assert "level 2 of 0, 1 and 2" in (out / "config.json").read_text()
    assert "The first pairs as the model is given them" in (out / "report.html").read_text()
    with Image.open(out / "pairs.png") as sheet:
        assert sheet.width > 200

    (root / "photos" / "notes.txt").write_text("nothing")
    apply = ["apply", str(out), str(root / "photos"), "--out", str(tmp_path / "done")]
    assert main([*apply, "--json", str(tmp_path / "a.json")]) == 0
    told = capsys.readouterr().err
    assert "levels 100 to 1885 of the 12 deep images become 0 to 255 (as the task vectors were found with)" in told
    assert "skipped, as they are no images: 1: " in told
    assert list(json.loads((tmp_path / "a.json").read_text())["skipped"]) == [str(root / "photos" / "notes.txt")]
    assert main([*apply, "--strict"]) == 1
    assert "--strict: " in capsys.readouterr().err


def test_help_shows_them_where_they_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("collect", "search", "find", "evaluate", "demo", "experiment"):
        assert main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert "Options for your own folders" in shown
        assert "--groups" in shown
        assert "Options for word pairs" in shown
        assert "--template" in shown
        assert ("--metric" in shown) == (command not in ("demo", "experiment"))
