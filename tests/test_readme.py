"""The README's Python runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import bad_inputs
import taskvec
from taskvec.cli.commands import app
from taskvec.data.scenes import Scenes
from taskvec.finding import FindSettings
from taskvec.search.reinforce import ReinforceSettings

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block in order, in one namespace; only the search's defaults are made small."""
    quick = FindSettings(prompts=16, items=4, held_out=8, search=ReinforceSettings(steps=3, masks_per_item=4))
    monkeypatch.setattr("taskvec.finding.FindSettings", lambda: quick)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(Scenes("test").load(np.array([5]), 64).images[0]).save("photo.png")
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(block, namespace)  # noqa: S102 our own README
    assert isinstance(namespace["mask"], Image.Image)
    assert isinstance(namespace["vectors"], taskvec.TaskVectors)


def test_every_command_it_names_exists() -> None:
    known = {command.name for command in app.registered_commands}
    pages = [README, *(path.read_text() for path in sorted((Path(__file__).parents[1] / "docs").glob("*.md")))]
    named = [set(re.findall(r"^(?:\.venv/bin/)?taskvec (\w+)", page, re.MULTILINE)) for page in pages]
    assert named[0]
    assert set.union(*named) <= known


def test_the_table_of_broken_inputs_is_that_of_the_tests() -> None:
    page = (Path(__file__).parents[1] / "docs" / "real-images.md").read_text()
    for case in bad_inputs.CASES:
        assert f"| {case.what} | {case.status} | " in page
