"""The pages say what is so: every sentence that can be said is listed, every page is found, every snippet runs."""

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import sentences
from snippets import (
    LANGUAGE,
    LONG,
    PAGES,
    ROOT,
    SERVED,
    Snippet,
    known,
    lines_of,
    make_workspace,
    of_page,
    some_vectors,
)
from taskvec.cli.commands import COMMANDS, command_named
from taskvec.models.mae_vqgan import MaeVqgan

SNIPPETS = [snippet for page in PAGES for snippet in of_page(page)]
NOT_RUN = Counter(
    {
        ("clusters.md", "needs Slurm"): 2,
        ("clusters.md", "needs two machines"): 1,
        ("command-line.md", "needs hours"): 1,
        ("experiments.md", "needs hours, Pascal-5i and photographs"): 1,
        ("language.md", "needs the network"): 1,
        ("start.md", "needs the network"): 1,
    }
)
COMMAND_LINES = [each for each in [*SNIPPETS, *of_page(ROOT / "README.md")] if each.language == "sh"]


def test_every_sentence_is_on_the_page_about_errors() -> None:
    """A new one goes under the heading that says what to do about it; `python tests/sentences.py` prints its line."""
    said, listed = sentences.sentences(), sentences.listed()
    missing = [sentences.as_entry(each) for each in said if each not in set(listed)]
    assert not missing, "docs/errors.md lacks\n" + "\n".join(missing)
    in_vain = [sentences.as_entry(each) for each in listed if each not in said]
    assert not in_vain, "docs/errors.md has what is no longer said\n" + "\n".join(in_vain)
    assert len(listed) == len(set(listed))
    assert len(listed) > 600


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    assert {page.name for page in PAGES if page.name != "index.md"} <= set(re.findall(r"\]\(([^)]*)\)", index))


def test_every_snippet_is_run_or_says_why_not() -> None:
    for snippet in SNIPPETS:
        assert snippet.language in {"python", "sh"}, snippet.place
        assert snippet.mark in {"", LONG, LANGUAGE, SERVED} or snippet.mark.startswith("needs "), snippet.place
    needs = Counter((each.page, each.mark) for each in SNIPPETS if each.mark.startswith("needs "))
    run, long = (sum(each.mark.startswith(LONG) == wanted for each in SNIPPETS) for wanted in (False, True))
    print(f"\n{run - needs.total()} run here, {long} by make docs-long, {needs.total()} shown and parsed")
    assert run - needs.total() >= 8
    assert needs == NOT_RUN


@pytest.mark.parametrize("snippet", COMMAND_LINES, ids=lambda each: each.place)
def test_commands_are_such(snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not they are run: every command and option exists, values are of their types, none is missing."""
    monkeypatch.chdir(tmp_path)
    for line in lines_of(snippet):
        words = shlex.split(line, comments=True)
        name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        assert name in COMMANDS
        given = words[len(name.split()) :]
        parsed = command_named(name)
        assert parsed.make_context(name, list(given)).args == []
        options = {option for parameter in parsed.params for option in parameter.opts}
        assert {word for word in given if word.startswith("--")} <= options


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, tiny: MaeVqgan) -> Path:
    place = tmp_path_factory.mktemp("pages")
    make_workspace(place, some_vectors(tiny, "segmentation"))
    return place


# python.md is run by tests/test_readme.py
@pytest.mark.parametrize("page", sorted({each.page for each in SNIPPETS if not each.mark} - {"python.md"}))
def test_snippets_run(page: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, as they stand."""
    monkeypatch.chdir(workspace)
    namespace = known()
    for snippet in SNIPPETS:
        if snippet.page == page and not snippet.mark:
            if snippet.language == "python":
                exec(snippet.text, namespace)  # noqa: S102 our own pages
            else:
                path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
                command = ["bash", "-euo", "pipefail", "-c", snippet.text]
                subprocess.run(command, check=True, env={**os.environ, "PATH": path})


def test_notebooks_are_scripts_of_cells() -> None:
    """`make docs-long` executes them."""
    place = ROOT / "docs" / "notebooks"
    told = (place / "README.md").read_text()
    for path in sorted(place.glob("*.py")):
        compile(path.read_text(), path.name, "exec")
        assert path.read_text().startswith("# %% [markdown]\n# # ")
        assert f"[{path.name}]({path.name})" in told
    assert {path.stem for path in place.glob("*.py")} == set(re.findall(r"\[(\w+)\.py\]", told))
