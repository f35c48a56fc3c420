"""Kills: commands die at random moments and before chosen changes of files, and are given again.

    OMP_NUM_THREADS=1 .venv/bin/python tests/kills.py --kills 200

prints the table of docs/reliability.md. Every run is a fork of this process, which has imported everything once. A job
is run whole, then ended in the middle, then run again as it was: all that it leaves must be what the whole run left,
byte by byte, but for the seconds that things took. It ends by SIGKILL at a random moment or before a random change of
files, by SIGTERM or SIGINT at a random moment, or because the disk is full from a random change of files on.
"""

import argparse
import errno
import gc
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from conftest import SMALL_CONFIG
from taskvec import opponents, rounds
from taskvec.cli import commands, main
from taskvec.data.scenes import Scenes
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.training import checkpoints, loop, recipe
from taskvec.training.prompt_pool import PromptPool
from training.conftest import MINIATURE

CHANGES = ("replace", "fsync", "unlink", "mkdir", "rmdir")  # of os: what a kill may fall before
KILLED, AT_A_CHANGE, TERMINATED, INTERRUPTED, FULL = "SIGKILL", "SIGKILL at a change", "SIGTERM", "SIGINT", "disk full"
SIGNALS = {KILLED: signal.SIGKILL, TERMINATED: signal.SIGTERM, INTERRUPTED: signal.SIGINT}
VOLATILE = ("log.jsonl", "report.html")  # which tell how long things took
_SECONDS = re.compile(rb'"(pairs_per_)?seconds?[a-z ]*": [0-9.e+-]+')
LONGEST = 120  # seconds of one run

_COARSE = ["--items", "4", "--validation", "4"]
_SEARCH = ["search", "--model", "model", "--task", "segmentation", "--prompts", "8", *_COARSE, "--out", "out"]
_FEW = ["--steps", "8", "--set", "search.checkpoint_every=2", "--set", "search.candidates=1"]
JOBS = {
    "train": ["train", "recipe.toml", "--out", "out"],
    "collect": ["collect", "--model", "model", "--task", "segmentation", "--prompts", "64", "--out", "out.safetensors"],
    "search, reinforce": [*_SEARCH, *_FEW, "--objective", "token", "--set", "search.masks_per_item=2"],
    "search, relaxed": [*_SEARCH, *_FEW, "--method", "relaxed"],
    "search, cma": [*_SEARCH, "--method", "cma"],
    "search, greedy": [*_SEARCH, "--method", "greedy", "--set", "search.trials=4", "--set", "search.sweeps=1"],
    "find": [
        *["find", "--data", "scenes", "--model", "model", "--task", "segmentation", "--out", "out", "--queries", "4"],
        *["--steps", "4", "--set", "search.checkpoint_every=1", "--set", "items=4", "--set", "validation=4"],
        *["--set", "prompts=8", "--set", "search.candidates=1"],
    ],
    "evaluate": [
        *["evaluate", "--model", "model", "--method", "one_shot", "--task", "low_light", "--decoding", "likeliest"],
        *["--pairs", "24", "--fold", "all", "--json", "out.json"],
    ],
    "experiment": ["experiment", "table-2", "--quick", "--pairs", "4", "--model", "model", "--out", "out"],
    "apply": ["apply", "vectors", "images", "--model", "model", "--out", "out"],
}

# those that take least most often
IN_TURN = [
    *["collect", "apply", "search, reinforce", "search, relaxed", "search, cma", "evaluate", "search, greedy", "find"],
    *["apply", "collect", "search, relaxed", "search, reinforce", "experiment", "search, cma", "train", "collect"],
    *["search, reinforce", "apply", "evaluate", "search, relaxed", "collect", "search, cma", "apply"],
    *["search, reinforce", "search, cma", "collect", "apply", "collect", "search, relaxed", "apply"],
]


@dataclass(frozen=True)
class Ending:
    """How a run ended: its status as of ``os.waitstatus_to_exitcode``, its seconds, its changes of files, and what it
    said on standard error."""

    status: int
    seconds: float
    processor: float
    changes: int
    said: str


def make_workspace(directory: Path) -> None:
    """What the jobs read: a small random model, task vectors of it, images, a recipe."""
    torch.manual_seed(0)
    MaeVqgan(SMALL_CONFIG).eval().write(directory / "model", torch.float16)
    (directory / "recipe.toml").write_text(MINIATURE)
    (directory / "images").mkdir()
    for index, image in enumerate(Scenes("test").load(np.arange(8), 48).images):
        Image.fromarray(image).save(directory / "images" / f"{index}.png")
    os.chdir(directory)
    if main([*_SEARCH[:-1], "vectors", "--method", "cma"]):
        raise SystemExit("the workspace's own search failed")


def check_forks() -> None:
    """RuntimeError where this process has threads, which forks would lack."""
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if len(threads) - threads.count("jemalloc_bg_thd") > 1:  # which knows what a fork is
        raise RuntimeError(f"this process cannot be forked, with threads {threads}: set OMP_NUM_THREADS=1")
    gc.collect()
    gc.freeze()  # so that forks share this memory


def forked(work: Callable[[], int], kill_after: float | None = None, signal_number: int = signal.SIGKILL) -> Ending:
    """Do some work in a fork of this process, which gets a signal after so many seconds of a processor."""
    read, write = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.close(read)
            os.dup2(write, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = work()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(write)
    os.set_blocking(read, False)
    said, sent = b"", False
    while True:
        done, status, used = os.wait4(child, os.WNOHANG)
        passed = time.monotonic() - began
        with suppress(BlockingIOError):
            said += os.read(read, 1 << 16)
        if done:
            break
        if passed > LONGEST:
            os.kill(child, signal.SIGKILL)
        elif kill_after is not None and not sent and _processor(child) >= kill_after:
            os.kill(child, signal_number)
            sent = True
        time.sleep(0.001)
    os.close(read)
    lines = said.decode(errors="replace").splitlines()
    counts = [int(line.split()[1]) for line in lines if line.startswith("changes: ")]
    told = "\n".join(line for line in lines if not line.startswith("changes: "))
    seconds, processor = time.monotonic() - began, used.ru_utime + used.ru_stime
    return Ending(os.waitstatus_to_exitcode(status), seconds, processor, counts[-1] if counts else 0, told)


def _processor(process: int) -> float:
    """The seconds of a processor that a process has had, to a hundredth."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def command(
    arguments: list[str], directory: Path, kill_before: int | None = None, full_from: int | None = None
) -> Callable[..., int]:
    """A run of the command, or of the work that it is called with, in a directory, killed before the change of files of
    this number, counted from 1, or with a full disk from it on."""

    def work(other: Callable[[], int] | None = None) -> int:
        os.chdir(directory)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        loop.CHECKPOINT_SECONDS = rounds.KEEP_EVERY = 0.0  # a checkpoint after every step
        rounds.KEEP_SHARE = 1e9  # whatever it takes
        opponents.NEAREST_OF = 8
        recipe.PromptPool = lambda data, size, *rest: PromptPool(data, min(size, 96), *rest)
        changes = _count_changes(kill_before, full_from)
        status = main(arguments) if other is None else other()
        print(f"changes: {changes['all']}", file=sys.stderr)
        return status

    return work


def _count_changes(kill_before: int | None, full_from: int | None) -> Counter[str]:
    changes: Counter[str] = Counter()

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            changes["all"] += 1
            if changes["all"] == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
            if full_from is not None and changes["all"] >= full_from and change.__name__ in ("fsync", "mkdir"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return change(*arguments, **options)

        return wrapper

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    return changes


def results(directory: Path) -> dict[str, bytes]:
    """What a job left, without what tells how long it took."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if not name.startswith("out") or (path.is_dir() and any(path.iterdir())):
            continue
        content = b"" if path.is_dir() or path.name in VOLATILE else path.read_bytes()
        with suppress(ValueError):  # which is damaged
            state = checkpoints.read(path) if path.suffix == ".pt" else {}
            content = checkpoints.digest({**state, "seconds": 0}).encode() if state else content
        if path.suffix in (".json", ".jsonl"):
            content = _SECONDS.sub(b'"seconds": 0', content)
            content = re.sub(rb'"digest": "[0-9a-f]{64}"', b'"digest": ""', content)  # of a cell with its seconds
        found[name] = content
    return found


@dataclass(frozen=True)
class Kill:
    """One job that was ended in the middle and given again; ``ended`` is False where it was over before."""

    job: str
    how: str
    when: str
    ended: bool
    same: bool
    told: str


def try_job(
    workspace: Path, job: str, how: str, whole: Ending, expected: dict[str, bytes], chance: random.Random
) -> Kill:
    """End a job at a random moment, or at a random change of files, and give it again."""
    directory = copied(workspace)
    try:
        moment, number = chance.uniform(0, 0.9 * whole.processor), chance.randint(1, whole.changes)
        at_change = how in (AT_A_CHANGE, FULL)
        when = f"change {number} of {whole.changes}" if at_change else f"{moment:.2f} of {whole.processor:.2f} s"
        if how == AT_A_CHANGE:
            first = forked(command(JOBS[job], directory, kill_before=number))
        elif how == FULL:
            first = forked(command(JOBS[job], directory, full_from=number))
        else:
            first = forked(command(JOBS[job], directory), moment, SIGNALS[how])
        again = forked(command(JOBS[job], directory))
        done = again.status == 0 or "results are never merged" in again.said  # it was killed when all was there
        told = "" if done else again.said
        if wrong := _wrong_words(how, first):
            told = f"{told} {wrong}"
        found = results(directory)
        different = [name for name in {*found, *expected} if found.get(name) != expected.get(name)]
        if different:
            told = f"{told} different: {', '.join(sorted(different))}"
        return Kill(job, how, when, first.status != 0, done and not different and not wrong, told.strip())
    finally:
        shutil.rmtree(directory)


def _wrong_words(how: str, ending: Ending) -> str:
    """What is not as promised in how a run ended and what it said; nothing where all is."""
    if how in (KILLED, AT_A_CHANGE) or ending.status == 0:
        return ""
    last = ending.said.splitlines()[-1] if ending.said else ""
    expected = {
        TERMINATED: (143, "terminated"),
        INTERRUPTED: (130, "interrupted"),
        FULL: (1, "No space left on device"),
    }
    status, words = expected[how]
    good = ending.status == status and words in last and last.startswith("taskvec: ") and "Traceback" not in ending.said
    return "" if good else f"ended with {ending.status} and {last!r}"


def copied(workspace: Path) -> Path:
    directory = Path(tempfile.mkdtemp(dir=workspace.parent))
    shutil.copytree(workspace, directory, dirs_exist_ok=True)
    return directory


def try_all(kills: int, seed: int, kinds: list[str], tell: Callable[[str], None]) -> list[Kill]:
    """As many ends of these kinds, of all jobs in turn; RuntimeError where a job fails by itself."""
    tried, chance = [], random.Random(seed)  # noqa: S311 (it draws moments)
    with tempfile.TemporaryDirectory() as place:
        workspace = Path(place) / "workspace"
        workspace.mkdir()
        make_workspace(workspace)
        check_forks()
        whole: dict[str, tuple[Ending, dict[str, bytes]]] = {}
        for number in range(kills):
            job = IN_TURN[number % len(IN_TURN)]
            how = kinds[number % len(kinds)]
            if job not in whole:
                directory = copied(workspace)
                ending = forked(command(JOBS[job], directory))
                if ending.status:
                    raise RuntimeError(f"{job} fails by itself: {ending.said}")
                whole[job] = ending, results(directory)
                used = f"{ending.seconds:.2f} s ({ending.processor:.2f} of a processor)"
                tell(f"{job}: {used}, {ending.changes} changes, {len(whole[job][1])} files")
            tried.append(try_job(workspace, job, how, *whole[job], chance))
            tell(str(tried[-1]))
    return tried


def table(tried: list[Kill]) -> str:
    """By command and kind of end: in how many of how many the same command again had the same result."""
    kinds = list(dict.fromkeys(each.how for each in tried))
    lines = [f"| command | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    for name in [*JOBS, "all"]:
        cells = []
        for how in kinds:
            own = [each for each in tried if each.how == how and each.ended and name in (each.job, "all")]
            cells.append(f"{sum(each.same for each in own)} of {len(own)}" if own else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=[KILLED, AT_A_CHANGE], help="of ends, in turn")
    parser.add_argument("--json", action="store_true", help="print what happened as JSON")
    options = parser.parse_args()
    tried = try_all(options.kills, options.seed, options.kinds, lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps([vars(each) for each in tried]) if options.json else table(tried))


if __name__ == "__main__":
    for command_of_all in commands.COMMANDS.values():
        for module in command_of_all.loads:
            import_module(f"taskvec.{module}")  # before the first fork
    run()
