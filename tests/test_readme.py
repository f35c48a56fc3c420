"""The README's Python runs as it stands."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bad_inputs
import taskvec
from taskvec.cli.commands import COMMANDS
from taskvec.data.scenes import Scenes

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block in order, in one namespace, as it stands: what it reads is there, no setting is changed."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    namespace: dict[str, object] = {}
    started = time.process_time()
    exec(blocks[0], namespace)  # noqa: S102 our own README
    assert time.process_time() - started < 60  # "takes seconds"; of processor time, whatever else the machine does
    for block in blocks[1:]:
        exec(block, namespace)  # noqa: S102
    mask, vectors = namespace["mask"], namespace["vectors"]
    assert isinstance(mask, Image.Image)
    assert isinstance(vectors, taskvec.TaskVectors)
    truth = Scenes("test").load(np.array([5]), 256).masks
    assert truth is not None
    found, truth = np.asarray(mask) > 127, truth[0] > 127
    assert (found & truth).sum() / (found | truth).sum() > 0.7


def test_the_page_about_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, namespace)  # noqa: S102
    masks, evaluation = namespace["masks"], namespace["evaluation"]
    assert isinstance(masks, np.ndarray)
    assert (masks.shape, masks.dtype) == ((3, 64, 64), np.uint8)
    assert isinstance(evaluation, taskvec.Evaluation)
    assert evaluation.interval.mean > 0.7


def test_every_command_it_names_exists() -> None:
    pages = [README, *(path.read_text() for path in sorted((Path(__file__).parents[1] / "docs").glob("*.md")))]
    named = [set(re.findall(r"^(?:\.venv/bin/)?taskvec (\w+)", page, re.MULTILINE)) for page in pages]
    assert named[0]
    assert set.union(*named) <= {name.split(maxsplit=1)[0] for name in COMMANDS}


def test_the_table_of_broken_inputs_is_that_of_the_tests() -> None:
    page = (Path(__file__).parents[1] / "docs" / "real-images.md").read_text()
    for case in bad_inputs.CASES:
        assert f"| {case.what} | {case.status} | " in page
