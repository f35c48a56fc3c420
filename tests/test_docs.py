"""The pages say what is so: every sentence that can be said is listed, every page is found, every snippet runs."""

import re
from pathlib import Path

import sentences

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))


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
