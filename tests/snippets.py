"""The snippets of the pages. `python tests/snippets.py` runs those that take long, of all pages or of some.

Every block of Python or sh is run by the tests, or has a comment before it that says why not:

* `runs: long`, by this script; `runs: long, with SmolLM2`, where `make demo-language` has been, and `runs: long, until
  it is ended`, which serves a page that is asked for and then ended by Ctrl-C;
* `runs: needs`, and what a machine may lack, by nobody.

Blocks of Python of a page follow one another in one namespace. What pages name and nobody has at hand is drawn or
random, in the formats of the real thing; the hub and a cluster are on this machine.
"""

import csv
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import drawn_pascal
import hub_server
import published
import random_seggpt
import taskvec
from taskvec.data.scenes import Scenes
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
LANGUAGE_MODEL = ROOT / "models" / "smollm2"
LONG, LANGUAGE, SERVED = "long", "long, with SmolLM2", "long, until it is ended"
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


def some_vectors(model: MaeVqgan, task: str) -> TaskVectors:
    """Of some sites that nobody searched for."""
    known, sites = taskvec.TASKS[task], model.sites("quadrant")
    prompts = taskvec.draw_prompts(Scenes("train"), known, count=2, size=model.image_size, seed=0)
    means = {stack: each[0] for stack, each in taskvec.collect(model, [prompts]).means([task]).items()}
    return TaskVectors.select(model, sites, sites.mask(range(30)), means, task=task, metric=known.metric.name)


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


def _scenes(count: int) -> list[bytes]:
    """Drawn images as the bytes of PNG files."""
    written = [io.BytesIO() for _ in range(count)]
    for file, image in zip(written, Scenes("test").load(np.arange(count), 64).images, strict=True):
        Image.fromarray(image).save(file, "PNG")
    return [file.getvalue() for file in written]


def _write_shards(place: Path, folder: str, count: int) -> None:
    (place / folder).mkdir(exist_ok=True)
    for number, content in enumerate(_scenes(count)):
        with tarfile.open(place / folder / f"train-{number:06}.tar", "w") as file:
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))


def _write_tables(place: Path) -> None:
    import pyarrow  # noqa: PLC0415 (an extra)
    from pyarrow import parquet  # noqa: PLC0415

    (place / "tables").mkdir()
    for name in ("first", "second"):
        parquet.write_table(pyarrow.table({"image": _scenes(8)}), place / "tables" / f"{name}.parquet")


def _write_capitals(place: Path) -> None:
    text = (files("taskvec") / "relations" / "country-capital.tsv").read_text()
    with (place / "capitals.csv").open("w", newline="") as file:
        csv.writer(file).writerows(line.split("\t") for line in text.splitlines())


def _write_list(place: Path) -> None:
    (place / "images.txt").write_text("".join(f"images/{number}.png\n" for number in range(10)))


def _write_seggpt(place: Path) -> None:
    state = random_seggpt.published_state(random_seggpt.network_of(**random_seggpt.LAYERS))
    torch.save({"model": state}, place / "seggpt_vit_large.pth")


# What is made for a page that has these words in what is run.
STAND_INS: dict[str, Callable[[Path], object]] = {
    "VOCdevkit": lambda place: drawn_pascal.write_devkit(place, each=5),
    "checkpoint-3400.pth": published.write_small,
    "seggpt_vit_large.pth": _write_seggpt,
    "capitals.csv": _write_capitals,
    "images.txt": _write_list,
    "train-{000000..000127}.tar": lambda place: _write_shards(place, ".", 128),
    "tables/": _write_tables,
    "incoming/": lambda place: _write_shards(place, "incoming", 4),
}
FOUND = {"applying.md": ["segmentation"], "experiments.md": ["inpainting"], "sharing.md": ["lungs"]}  # as if before


@contextmanager
def _cluster(place: Path) -> Iterator[None]:
    """A Ray of two processors on this machine, which `--address auto` finds."""
    import ray  # noqa: PLC0415 (an extra)

    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init("local", num_cpus=2, object_store_memory=80 << 20, _temp_dir=str(place), **quiet)
    try:
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        ray.shutdown()


def _run_until_ended(text: str) -> None:
    """Start what serves a page, ask for it at the address that is said, and press Ctrl-C: nothing of it may be left."""
    with tempfile.TemporaryDirectory() as place:
        command, environment = ["bash", "-c", f"exec {text.strip()}"], {**os.environ, "TMPDIR": place}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as serving:
            try:
                assert serving.stdout is not None
                said = (re.search(r"http://[\d.:]+/?", line) for line in serving.stdout)
                address = next(found[0] for found in said if found)
                with urllib.request.urlopen(address) as answer:  # noqa: S310 (it is http)
                    assert "taskvec" in answer.read().decode()
                serving.send_signal(signal.SIGINT)
                assert serving.wait(60) == 130
            finally:
                serving.kill()
        assert not list(Path(place).glob("taskvec-app-*"))


def _run(snippet: Snippet, namespace: dict[str, object], cluster: Path) -> None:
    if snippet.language == "python":
        exec(snippet.text, namespace)  # noqa: S102 our own pages
    elif snippet.mark == SERVED:
        _run_until_ended(snippet.text)
    elif "--address auto" in snippet.text:
        with _cluster(cluster):
            subprocess.run(["bash", "-euo", "pipefail", "-c", snippet.text], check=True)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", snippet.text], check=True)


def run_page(page: Path) -> int:
    """In the working directory, what of a page is marked as long, and the Python around it; how many blocks failed."""
    failed, namespace = 0, known()
    if page.name in FOUND:
        namespace["vectors"] = TaskVectors.from_pretrained(f"vectors/{FOUND[page.name][0]}")
    for snippet in of_page(page):
        if snippet.mark.startswith("needs") or (snippet.language == "sh" and not snippet.mark):
            continue
        if snippet.mark == LANGUAGE and not LANGUAGE_MODEL.exists():
            print(f"{snippet.place} left out: `make demo-language` makes {LANGUAGE_MODEL}", flush=True)
            continue
        start = time.perf_counter()
        try:
            _run(snippet, namespace, Path("ray").absolute())
        except Exception as error:  # the next block may do without
            print(f"{snippet.place} FAILED: {error!r}", flush=True)
            failed += 1
        else:
            print(f"{snippet.place} ran, {time.perf_counter() - start:.0f} s", flush=True)
    return failed


def run_long(place: Path, pages: list[Path]) -> list[str]:
    """Each page in a process and a directory of its own; the names of those of which something failed."""
    model = taskvec.load_model("tiny")
    assert isinstance(model, MaeVqgan)
    vectors, inpainting = some_vectors(model, "segmentation"), some_vectors(model, "inpainting")
    failed = []
    with hub_server.serving() as hub:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(place / "hub"),
            "HF_TOKEN": hub_server.ME,
        }
        for page in pages:
            text = "".join(snippet.text for snippet in of_page(page) if snippet.mark.startswith(LONG))
            if not text:
                continue
            own, start = place / page.stem, time.perf_counter()
            make_workspace(own, vectors)
            for name in FOUND.get(page.name, []):
                (inpainting if name == "inpainting" else vectors).save_pretrained(own / "vectors" / name)
            for words, make in STAND_INS.items():
                if words in text:
                    make(own)
            (own / "models").mkdir()
            if LANGUAGE_MODEL.exists():
                (own / "models" / "smollm2").symlink_to(LANGUAGE_MODEL)
            command = [sys.executable, __file__, "--here", page.name]
            if subprocess.run(command, cwd=own, env=environment, check=False).returncode:
                failed.append(page.name)
            print(f"{page.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    asked = [page for page in PAGES if page.name in sys.argv[1:]] or PAGES
    if sys.argv[1:2] == ["--here"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have told to ignore
        sys.exit(min(1, run_page(asked[0])))
    with tempfile.TemporaryDirectory() as place:
        if failed := run_long(Path(place), asked):
            sys.exit(f"failed: {', '.join(failed)}")
