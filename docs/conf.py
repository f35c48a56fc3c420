"""How Sphinx builds these pages: `make docs`.

The sources are the whole repository's, so that links lead to the same files as where the pages are read beside the
code.
"""

import re
from pathlib import PurePosixPath

from sphinx.application import Sphinx

project = "taskvec"
author = "the authors of taskvec"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["docs/**.md", "README.md", "CONTRIBUTING.md", "benchmarks/README.md", "src/taskvec/**/README.md"]
exclude_patterns = [
    ".*",
    "benchmarks/.venv",
    "demo",
    "models",
    "recipes",
    "tests",
    "docs/_build",
]  # which need not be walked
html_theme = "furo"
html_title = "taskvec"
html_extra_path = ["redirect"]
html_copy_source = False
nitpicky = False  # types of other libraries are named, not linked

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # as GitHub gives them, to which links with a # lead

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
suppress_warnings = ["misc.highlighting_failure"]  # a command's braces are no shell that Pygments knows


def with_contents(app: Sphinx, document: str, text: list[str]) -> None:
    """The index is lists of links by headings, which read as they are; each is also a part of the contents."""
    if document != root_doc:
        return
    for part in re.split(r"^## ", text[0], flags=re.MULTILINE)[1:]:
        title, _, rest = part.partition("\n")
        pages = re.findall(r"^\* \[[^]]*\]\(([^)#]*)\)", rest, re.MULTILINE)
        places = [f"/{_resolved(page)}".removesuffix(".md") for page in pages]
        text[0] += "\n```{toctree}\n:hidden:\n:caption: " + title + "\n\n" + "\n".join(places) + "\n```\n"


def _resolved(page: str) -> PurePosixPath:
    parts: list[str] = ["docs"]
    for part in PurePosixPath(page).parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)


def as_a_sentence(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Docstrings say `this` of code, which reStructuredText takes for a title."""
    lines[:] = [re.sub(r"(?<!`)`([^`\n]+)`(?![`_])", r"``\1``", line) for line in lines]


def setup(app: Sphinx) -> None:
    app.connect("source-read", with_contents)
    app.connect("autodoc-process-docstring", as_a_sentence)
