"""How an extra is installed is said in one way: in messages, on every page, and as pyproject.toml has it."""

import re
import tomllib
from pathlib import Path

import pytest

from taskvec.extras import EXTRAS, install

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
FOR_WORK_ON_IT = {"dev", "docs"}


def test_extras_are_those_of_the_package() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {name: tuple(each) for name, each in told.items() if name not in FOR_WORK_ON_IT} == EXTRAS


def test_nobody_is_sent_to_an_index_for_this_package() -> None:
    for path in [*PAGES, *sorted((ROOT / "src").rglob("*.py"))]:
        assert "taskvec[" not in path.read_text(encoding="utf-8"), path
        assert "pip install taskvec" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_say_what_messages_say(page: Path) -> None:
    for extra in re.findall(r'pip install [^`\n]*"\.\[(\w+)\]"', page.read_text(encoding="utf-8")):
        assert extra in FOR_WORK_ON_IT, f"{page} has another way to install {extra} than {install(extra)}"
