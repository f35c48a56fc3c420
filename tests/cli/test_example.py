import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taskvec.cli import main
from taskvec.data.folder import Folder


def test_what_it_writes_is_a_task_of_ones_own(tmp_path: Path) -> None:
    root = tmp_path / "mytask"
    facts = tmp_path / "facts.json"
    assert main(["example", str(root), "--pairs", "12", "--size", "48", "--json", str(facts)]) == 0
    assert json.loads(facts.read_text())["pairs"] == 12
    folder = Folder(root, split="all")
    assert len(folder) == 12
    assert folder.own_task is not None
    assert folder.own_task.metric.name == "iou"
    new = [np.asarray(Image.open(path)) for path in sorted((root / "new").iterdir())]
    assert [image.shape for image in new] == [(48, 48, 3)] * 10
    inputs = [np.asarray(Image.open(path)) for path in sorted((root / "input").iterdir())]
    assert not any(np.array_equal(one, other) for one in new for other in inputs)
    again = tmp_path / "again"
    assert main(["example", str(again), "--pairs", "12", "--size", "48"]) == 0
    names = [path.relative_to(root) for path in root.rglob("*.png")]
    assert all((root / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_another_task_and_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "dark"
    assert main(["example", str(root), "--task", "low_light", "--pairs", "1", "--size", "32"]) == 0
    dark, light = (np.asarray(Image.open(root / side / "000.png")) for side in ("input", "output"))
    assert dark.mean() < light.mean() / 1.5
    assert main(["example", str(root)]) == 1
    assert "exists: results are never merged" in capsys.readouterr().err
    assert main(["example", str(tmp_path / "odd"), "--task", "odd"]) == 1
    assert "there is no task 'odd': expected one of segmentation" in capsys.readouterr().err
    assert not (tmp_path / "odd").exists()
