"""The snippets of the pages. `python tests/snippets.py` runs those that take long, of all pages or of some.

Every block of Python or sh is run by the tests, or has a comment before it that says why not: `runs: long`, or
`runs: needs` and what a machine may lack. Blocks of Python of a page follow one another in one namespace.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

import taskvec
from taskvec.data.scenes import Scenes
from taskvec.vectors import TaskVectors

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"(?:<!-- runs: (.*?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Snippet:
    page: str
    line: int
    language: str
    mark: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def of_page(page: Path) -> list[Snippet]:
    """In order; those without a language are what a command says, not what one types."""
    text = page.read_text()
    return [
        Snippet(page.name, text.count("\n", 0, found.start(3)), found[2], found[1] or "", found[3])
        for found in BLOCK.finditer(text)
        if found[2]
    ]


def lines_of(snippet: Snippet) -> Iterator[str]:
    """The arguments of taskvec in a block of sh, as they stand there, a command a line."""
    whole = re.sub(r"\\\n\s*", " ", snippet.text)
    for line in whole.splitlines():
        if found := re.search(r"(?:^|/|-m | -- )taskvec ([^|]*)", line):
            yield found[1]


def make_workspace(place: Path, vectors: TaskVectors) -> None:
    """What the pages suppose to be there: pairs, images and task vectors, under the names that they use."""
    scenes = Scenes("train").load(np.arange(25), 64)
    masks = scenes.masks
    assert masks is not None
    for task in ("mytask", "mypairs", "denoise"):
        for side, images in (("input", scenes.images), ("output", masks if task != "denoise" else scenes.images)):
            (place / task / side).mkdir(parents=True)
            for number, image in enumerate(images):
                Image.fromarray(image).save(place / task / side / f"{number}.png")
    for folder in ("images", "photos", "photographs"):
        (place / folder).mkdir(parents=True)
        for number, image in enumerate(scenes.images):
            Image.fromarray(image).save(place / folder / f"{number}.png")
    for name in ("xrays/lungs", "xrays/ribs"):
        vectors.save_pretrained(place / "vectors" / name)
    vectors.save_pretrained(place / "runs" / "one")


def known() -> dict[str, object]:
    """What the pages suppose to be known in Python: ten inputs and their outputs."""
    scenes = Scenes("test").load(np.arange(10), 64)
    return {"taskvec": taskvec, "inputs": scenes.images, "outputs": scenes.masks}


def run_long(place: Path, pages: list[Path]) -> int:
    """What is marked as long, and what it needs of the same page; how many blocks failed."""
    data = taskvec.load_data("scenes", split="train")
    model = taskvec.load_model("tiny")
    vectors, inpainting = taskvec.find_all(model, data, ["segmentation", "inpainting"])
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    failed = 0
    for page in pages:
        snippets = of_page(page)
        if not any(snippet.mark == "long" for snippet in snippets):
            continue
        namespace, own = known(), place / page.stem
        make_workspace(own, vectors)
        inpainting.save_pretrained(own / "vectors" / "inpainting")
        os.chdir(own)
        for snippet in snippets:
            if snippet.mark.startswith("needs") or (snippet.language == "sh" and snippet.mark != "long"):
                continue
            print(f"{snippet.place}", flush=True)
            try:
                if snippet.language == "python":
                    exec(snippet.text, namespace)  # noqa: S102 our own pages
                else:
                    subprocess.run(["bash", "-euo", "pipefail", "-c", snippet.text], check=True)
            except Exception as error:  # the next page is another matter
                print(f"{snippet.place} failed: {error}", flush=True)
                failed += 1
    return failed


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asked = [page for page in PAGES if page.name in sys.argv[1:]] or PAGES
        sys.exit(min(1, run_long(Path(place), asked)))
