"""Broken artefacts and inputs: files of every kind that is read, changed at random, and the commands that read them.

    OMP_NUM_THREADS=1 .venv/bin/python tests/broken.py --trials 500

prints the table of docs/reliability.md. Each trial changes one file of a copy of a small workspace, by bytes, as JSON,
as tensors, or for another file of it, and runs the command in a fork of this process. The command must end well, or
with one sentence: never with a traceback, after too long, with too much memory, with a program started or a file
written elsewhere, or with other results than those of the file as it was written.
"""

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import kills
import published
import recorded
from kills import JOBS, LONGEST, Ending, command, forked, results
from taskvec import cli, digests
from taskvec.cli import main
from taskvec.data import load_data
from taskvec.data.scenes import Scenes
from taskvec.experiments import cells
from taskvec.training import checkpoints

MEMORY = 2 << 30  # bytes above what this process has, at most
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
PROGRAM_STARTED = 98  # the status of a process that tried to
ODD: list[Any] = [
    *(None, True, -1, 0, 1 << 31, 10**30, 0.5, -1e308, float("nan"), float("inf"), "", "x", "../../etc/passwd"),
    *("\x1b]0;title\x07", "a" * 5000, [], {}, [None], [[[]]], {"": None}, "NaN", "\ud800"),
]

Change = Callable[[Path, random.Random], str]  # changes a file; says how


@dataclass(frozen=True)
class Artefact:
    """A file that a command reads. ``sealed``: it was written by us, so other results of it are never taken."""

    name: str
    place: str  # the directory of the workspace in which the command runs
    file: str  # in it; a pattern
    arguments: list[str]
    changes: tuple[Change, ...]
    sealed: bool = True


def some_bytes(path: Path, chance: random.Random) -> str:
    """Flip, cut, insert, repeat or blank bytes."""
    content = bytearray(path.read_bytes())
    kind = chance.choice(["bit", "bytes", "cut", "empty", "blank", "insert", "repeat", "head"])
    at = chance.randrange(len(content)) if content else 0
    if kind == "bit" and content:
        content[at] ^= 1 << chance.randrange(8)
    elif kind == "bytes":
        for _ in range(min(len(content), chance.randint(1, 16))):
            content[chance.randrange(len(content))] = chance.randrange(256)
    elif kind == "head":
        for _ in range(min(len(content), 3)):
            content[chance.randrange(min(64, len(content)))] = chance.randrange(256)
    elif kind == "cut":
        del content[at:]
    elif kind == "empty":
        content.clear()
    elif kind == "blank":
        length = min(len(content) - at, chance.randint(1, 4096))
        content[at : at + length] = bytes(length)
    elif kind == "insert":
        content[at:at] = chance.randbytes(chance.randint(1, 64))
    elif kind == "repeat":
        content += bytes(content)
    path.write_bytes(content)
    return kind


def another_file(path: Path, chance: random.Random) -> str:
    """Another file of the workspace in its place."""
    root = next(parent for parent in path.parents if parent.name.startswith("trial"))
    others = sorted(other for other in root.rglob("*") if other.is_file() and other != path)
    other = chance.choice(others)
    path.write_bytes(other.read_bytes())
    return f"{other.relative_to(root)} in its place"


def changed_value(value: Any, chance: random.Random) -> tuple[Any, str]:
    """A JSON value in which one thing is of another type, missing, surplus or odd."""
    if isinstance(value, dict | list) and value and chance.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key: Any = chance.choice(keys)
        copy: Any = dict(value) if isinstance(value, dict) else list(value)
        if chance.random() < 0.15:
            del copy[key]
            return copy, f"no {key}"
        if chance.random() < 0.1 and isinstance(value, dict):
            copy[f"{key}x"] = copy.pop(key)
            return copy, f"{key} has another name"
        copy[key], how = changed_value(value[key], chance)
        return copy, f"{key}.{how}"
    odd = chance.choice([*ODD, [value], {"value": value}, str(value)])
    return odd, repr(odd)[:40]


def as_json(seal: Callable[[Path, Any], Any] | None = None) -> Change:
    """Change a value of a JSON file, and its digest with it where ``seal`` makes a new one."""

    def change(path: Path, chance: random.Random) -> str:
        value, how = changed_value(json.loads(path.read_text()), chance)
        if seal is not None:
            with suppress(Exception):  # what cannot be sealed stays as it is
                value = seal(path, value)
        path.write_bytes(json.dumps(value).encode(errors="surrogatepass"))
        return f"{'resealed, ' if seal else ''}{how}"

    return change


def seal_config(_: Path, value: Any) -> Any:
    value = {name: item for name, item in value.items() if name != "digest"}
    return {**value, "digest": digests.of_json(value)}


def seal_cell(_: Path, value: Any) -> Any:
    value = {name: item for name, item in value.items() if name != "digest"}
    return {**value, "digest": cells._content(value)}


def header(path: Path, chance: random.Random) -> str:
    """Change a value of a safetensors file's header."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    value, how = changed_value(json.loads(content[8 : 8 + length]), chance)
    new = json.dumps(value).encode(errors="surrogatepass")
    path.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + length :])
    return f"header, {how}"


def odd_tensor(tensor: torch.Tensor, chance: random.Random) -> tuple[torch.Tensor, str]:
    how = chance.choice(["type", "shape", "nan", "inf", "huge", "shorter", "integers"])
    if how == "type":
        return tensor.to(chance.choice([torch.float64, torch.int32, torch.bool, torch.float16])), how
    if how == "integers":
        return torch.full_like(tensor, 3).long(), how
    if how == "shape":
        return tensor.flatten()[None], how
    if how == "shorter":
        return tensor.flatten()[: tensor.numel() // 2].clone(), how
    if not tensor.is_floating_point():
        return tensor.to(torch.float32).sqrt(), how
    value = {"nan": torch.nan, "inf": torch.inf, "huge": torch.finfo(tensor.dtype).max}[how]
    return torch.full_like(tensor, value), how


def tensors(path: Path, chance: random.Random) -> str:
    """Change a tensor, or a value of the metadata, with a digest of what comes out."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        metadata = json.loads(file.read(length)).get("__metadata__", {})
    metadata.pop("digest", None)
    held = load_file(path)
    if metadata and chance.random() < 0.5:
        name = chance.choice(sorted(metadata))
        try:
            value, how = changed_value(json.loads(metadata[name]), chance)
            metadata[name] = json.dumps(value)
        except ValueError:
            metadata[name], how = str(chance.choice(ODD)).encode(errors="replace").decode(), "another text"
        how = f"{name}: {how}"
    else:
        name = chance.choice(sorted(held))
        if chance.random() < 0.15:
            del held[name]
            how = f"no {name}"
        else:
            held[name], how = odd_tensor(held[name], chance)
            how = f"{name}: {how}"
    sealed = {name: tensor.contiguous() for name, tensor in held.items()}
    save_file(sealed, path, {**metadata, "digest": digests.of_tensors(sealed, metadata)} if metadata else None)
    return f"resealed, {how}"


def vectors_tensors(path: Path, chance: random.Random) -> str:
    """The same for task vectors, whose config.json has the digest."""
    how = tensors(path, chance)
    config = path.with_name("config.json")
    values = {**json.loads(config.read_text()), "tensors": kills_digest(path)}
    config.write_text(json.dumps(seal_config(config, values)))
    return how


def kills_digest(path: Path) -> str:
    from taskvec.files import digest  # noqa: PLC0415

    return digest(path.read_bytes())


def checkpoint(path: Path, chance: random.Random) -> str:
    """Change a value of a training's checkpoint, with a digest of what comes out."""

    def changed(value: Any) -> tuple[Any, str]:
        if isinstance(value, torch.Tensor):
            return odd_tensor(value, chance)
        if isinstance(value, dict) and value:
            key = chance.choice(list(value))
            if chance.random() < 0.1:
                return {name: item for name, item in value.items() if name != key}, f"no {key}"
            item, how = changed(value[key])
            return {**value, key: item}, f"{key}.{how}"
        return chance.choice([None, -1, 10**6, "x", [], {}, float("nan")]), "odd"

    content, how = changed(checkpoints.read(path))
    with suppress(Exception):
        checkpoints.write(path, content)
    return f"resealed, {how}"


def lines(path: Path, chance: random.Random) -> str:
    """Change words, numbers or lines of a text."""
    text = path.read_bytes().decode(errors="replace").split("\n")
    at = chance.randrange(len(text))
    how = chance.choice(["drop", "twice", "word", "number", "odd", "separator"])
    if how == "drop":
        del text[at]
    elif how == "twice":
        text.insert(at, text[at])
    elif how == "number":
        text[at] = "".join(chance.choice(["-1", "1e999", "nan", "99999999999"]) if c.isdigit() else c for c in text[at])
    elif how == "odd":
        text[at] += chance.choice(["\0", "\x1b[2J", "\ufeff", '"', "[", "'''", "é\u202e", "a" * 100_000])
    elif how == "separator":
        text[at] = text[at].replace(",", "\t\t").replace("=", ":").replace("__", "_")
    else:
        text[at] = text[at][::-1]
    path.write_bytes("\n".join(text).encode())
    return how


BYTES = (some_bytes, some_bytes, another_file)
JSON = (*BYTES, as_json())
SAFETENSORS = (*BYTES, header, tensors)
APPLY = ["apply", "vectors", "images", "--model", "model", "--out", "out"]
IMAGES = ("png", "jpg", "gif", "bmp", "tiff", "webp")
MODEL_OF_IMAGES = ["evaluate", "--model", "model", "--method", "copy_input", "--task", "identity", "--pairs", "2"]
CONVERT = ["convert", "--mae", "mae.pth", "--encoder-heads", "4", "--decoder-heads", "4", "--out", "out"]
PASCAL = [*MODEL_OF_IMAGES, "--data", "pascal", "--root", "voc", "--fold", "0"]
PAIRS = ["(pairs)"]  # read without a language model, whose imports take seconds
FROM_STATISTICS = [word for word in JOBS["search, cma"] if word not in ("--prompts", "8")]
TEXTS = (some_bytes, another_file, lines, lines)
ARTEFACTS = [
    Artefact("config.json of task vectors", "read", "vectors/config.json", APPLY, (*JSON, as_json(seal_config))),
    Artefact("tensors of task vectors", "read", "vectors/*.safetensors", APPLY, (*BYTES, header, vectors_tensors)),
    Artefact(
        "statistics",
        "read",
        "statistics.safetensors",
        [*FROM_STATISTICS, "--statistics", "statistics.safetensors"],
        SAFETENSORS,
    ),
    Artefact("state of a relaxed search", "relaxed", "out/search.safetensors", JOBS["search, relaxed"], SAFETENSORS),
    Artefact("state of a greedy search", "greedy", "out/search.safetensors", JOBS["search, greedy"], SAFETENSORS),
    Artefact("checkpoint of a training", "train", "out/*.checkpoint.pt", JOBS["train"], (*BYTES, checkpoint)),
    Artefact("run.json, logs of a training", "train", "out/*.json*", JOBS["train"], (some_bytes, another_file, lines)),
    Artefact("cell of a study", "study", "out/cells/*.json", JOBS["experiment"], (*JSON, as_json(seal_cell))),
    Artefact("run.json of a study", "study", "out/run.json", JOBS["experiment"], JSON),
    Artefact("config.json of a model", "read", "model/config.json", APPLY, JSON),
    Artefact("weights of a model", "read", "model/model.safetensors", APPLY, SAFETENSORS),
    Artefact("checkpoint to convert", "convert", "mae.pth", CONVERT, BYTES, sealed=False),
    Artefact("recipe", "recipe", "recipe.toml", JOBS["train"], TEXTS, sealed=False),
    Artefact("list of Pascal-5i", "pascal", "voc/splits/val/fold0.txt", PASCAL, TEXTS, sealed=False),
    Artefact("image or mask of Pascal-5i", "pascal", "voc/*/*.*g", PASCAL, BYTES, sealed=False),
    Artefact("table of word pairs", "pairs", "pairs.csv", PAIRS, TEXTS, sealed=False),
    *(Artefact(f"image, {kind}", "read", f"images/{kind}.{kind}", APPLY, BYTES, sealed=False) for kind in IMAGES),
]


def make_workspace(place: Path) -> dict[str, Path]:
    """The directories that commands run in, by name."""
    base = place / "base"
    base.mkdir()
    kills.make_workspace(base)
    picture = Image.fromarray(Scenes("test").load(np.arange(1), 48).images[0])
    shutil.rmtree(base / "images")
    (base / "images").mkdir()
    for kind in IMAGES:
        picture.save(base / "images" / f"{kind}.{kind}")
    made = {}

    def directory(name: str) -> Path:
        made[name] = place / name
        shutil.copytree(base, made[name])
        os.chdir(made[name])
        return made[name]

    directory("read")
    collected = [*JOBS["collect"][:-1], "statistics.safetensors"]
    if main([*collected, "--prompts", "8"]):
        raise RuntimeError("the statistics cannot be collected")
    for name, job, change in (
        ("relaxed", "search, relaxed", 40),
        ("greedy", "search, greedy", 30),
        ("train", "train", 70),
    ):
        stopped = forked(command(JOBS[job], directory(name), kill_before=change))
        if stopped.status != -signal.SIGKILL:
            raise RuntimeError(f"{job} was not stopped: {stopped}")
    directory("recipe")
    if (ending := forked(command(JOBS["experiment"], directory("study")))).status:
        raise RuntimeError(f"the study cannot be made: {ending.said}")
    golden = load_file(recorded.FIXTURE / "golden.safetensors")
    official = {
        name.removeprefix("state_dict/"): each for name, each in golden.items() if name.startswith("state_dict/")
    }
    published.write_mae(directory("convert") / "mae.pth", official)
    (directory("pairs") / "pairs.csv").write_text("".join(f"word{n},other {n}\n" for n in range(30)))
    _make_pascal(directory("pascal") / "voc")
    return made


def _make_pascal(root: Path) -> None:
    scenes = Scenes("test").load(np.arange(4), 32)
    for name in ("JPEGImages", "SegmentationClass", "splits/trn", "splits/val"):
        (root / name).mkdir(parents=True)
    assert scenes.masks is not None
    for index, (image, mask) in enumerate(zip(scenes.images, scenes.masks, strict=True)):
        Image.fromarray(image).save(root / "JPEGImages" / f"2007_{index:06}.jpg")
        Image.fromarray(np.where(mask > 0, np.uint8(1), np.uint8(0))).save(
            root / "SegmentationClass" / f"2007_{index:06}.png"
        )
    for kind in ("trn", "val"):
        (root / "splits" / kind / "fold0.txt").write_text("".join(f"2007_{index:06}__01\n" for index in range(4)))


def read_pairs() -> int:
    """Read a table of word pairs, and tell of errors as the command does."""
    try:
        data = load_data("pairs", "train", root=Path("pairs.csv"))
        print(data.load(np.arange(min(4, len(data))), 0))
    except Exception as error:
        return cli._complain(*cli._told(error))
    return 0


def work_of(artefact: Artefact, directory: Path) -> Callable[[], int]:
    run = command(artefact.arguments, directory)
    return guarded(lambda: run(read_pairs if artefact.arguments == PAIRS else None))


def guarded(work: Callable[[], int]) -> Callable[[], int]:
    """The same where no program may be started, and memory is limited."""

    def run() -> int:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        sys.addaudithook(lambda event, _: os._exit(PROGRAM_STARTED) if event in FORBIDDEN else None)
        return work()

    return run


@dataclass(frozen=True)
class Trial:
    """What came of one change: ``same`` result, ``refused`` in a sentence, ``other`` results of an input that is
    another, or what must not be: ``traceback``, ``hang``, ``memory``, ``program``, ``silent``, ``elsewhere``,
    ``several lines``."""

    artefact: str
    file: str
    how: str
    outcome: str
    named: bool
    said: str


GOOD = ("same", "refused", "other")


def judge(artefact: Artefact, how: str, ending: Ending, same: Callable[[], bool]) -> str:
    """What came of a change; ``same`` says whether the results are those of the file as it was."""
    told = [line for line in ending.said.splitlines() if line.startswith("taskvec: ")]
    sealed = artefact.sealed and not how.startswith("resealed")
    outcomes = {
        "hang": ending.status == -signal.SIGKILL and ending.seconds >= LONGEST,
        "program": ending.status == PROGRAM_STARTED,
        "memory": "not enough memory" in ending.said or "MemoryError" in ending.said,
        "traceback": "Traceback" in ending.said or ending.status not in (0, 1, 2),
        "several lines": ending.status != 0 and len(told) != 1,
        "refused": ending.status != 0,
    }
    known = next((name for name, holds in outcomes.items() if holds), None)
    return known or ("same" if same() else "silent" if sealed else "other")


@dataclass
class Trials:
    """Directories of a workspace, and what their commands leave there where nothing is changed."""

    place: Path
    sources: dict[str, Path]
    chance: random.Random
    whole: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def expected(self, artefact: Artefact) -> dict[str, bytes]:
        if artefact.name not in self.whole:
            with copied(self.sources[artefact.place], self.place) as directory:
                ending = forked(work_of(artefact, directory))
                if ending.status:
                    raise RuntimeError(f"the command that reads the {artefact.name} fails by itself: {ending.said}")
                self.whole[artefact.name] = results(directory)
        return self.whole[artefact.name]

    def one(self, artefact: Artefact) -> Trial:
        """Change a file of a copy, and run the command that reads it."""
        with copied(self.sources[artefact.place], self.place) as directory:
            before = {path.name for path in self.place.iterdir()}
            path = self.chance.choice(sorted(directory.glob(artefact.file)))
            how = self.chance.choice(artefact.changes)(path, self.chance)
            ending = forked(work_of(artefact, directory))
            elsewhere = {each.name for each in self.place.iterdir()} != before
            file = str(path.relative_to(directory))

            def same() -> bool:
                found, expected = (dict(each) for each in (results(directory), self.expected(artefact)))
                for held in (found, expected):
                    held.pop(file, None)  # which the command need not have read
                return found == expected

            outcome = judge(artefact, how, ending, same)
            named = path.name in ending.said or path.parent.name in ending.said
            said = ending.said if outcome not in GOOD else " ".join(ending.said.splitlines()[-1:])
            return Trial(artefact.name, file, how, "elsewhere" if elsewhere else outcome, named, said)


@contextmanager
def copied(source: Path, place: Path) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="trial", dir=place))
    try:
        shutil.copytree(source, directory, dirs_exist_ok=True)
        yield directory
    finally:
        shutil.rmtree(directory)


def try_all(trials: int, seed: int, only: str, tell: Callable[[str], None]) -> list[Trial]:
    """As many trials, of all artefacts in turn."""
    tried: list[Trial] = []
    chosen = [artefact for artefact in ARTEFACTS if only in artefact.name]
    with tempfile.TemporaryDirectory() as name:
        work = Trials(Path(name), make_workspace(Path(name)), random.Random(seed))  # noqa: S311 (it draws changes)
        kills.check_forks()
        for number in range(trials):
            tried.append(work.one(chosen[number % len(chosen)]))
            if tried[-1].outcome not in GOOD:
                tell(str(tried[-1]))
    return tried


def table(tried: list[Trial]) -> str:
    """What came out, by kind of file."""
    lines = ["| file | tried | refused | same result | other input | bad |", "|---|---|---|---|---|---|"]
    for name in [*dict.fromkeys(each.artefact for each in tried), "all"]:
        own = [each for each in tried if name in (each.artefact, "all")]
        counts = [sum(each.outcome == outcome for each in own) for outcome in ("refused", "same", "other")]
        cells = [str(count) for count in (len(own), *counts, len(own) - sum(counts))]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="artefacts with this in their name")
    parser.add_argument("--json", action="store_true", help="print what happened as JSON")
    options = parser.parse_args()
    sys.stderr = io.TextIOWrapper(os.fdopen(os.dup(2), "wb", buffering=0), write_through=True)
    tried = try_all(options.trials, options.seed, options.only, lambda line: print(line, file=sys.stderr))
    print(json.dumps([vars(each) for each in tried]) if options.json else table(tried))


if __name__ == "__main__":
    run()
