"""The loop both stages share: progress for people, JSONL for machines, checkpoints to go on from."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from taskvec.files import replacing
from taskvec.training.processes import Processes

Numbers = Mapping[str, float]

LOG_EVERY = 100
VALIDATE_EVERY = 1000
CHECKPOINT_SECONDS = 60.0


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...


@dataclass(frozen=True)
class Run:
    """Where a training keeps logs and checkpoints, the seed of all its draws, where it tells of its progress, and which
    of how many processes this is.
    """

    directory: Path
    seed: int
    console: Console
    processes: Processes = Processes()


def learning_rate_factor(step: int, steps: int, warmup: int = 100, decay: float = 0.4) -> float:
    """Linear warm-up, a plateau, then a linear fall to zero over the last ``decay`` of the steps."""
    return min((step + 1) / warmup, 1.0, (steps - step) / (decay * steps))


def run_stage(
    name: str,
    run: Run,
    steps: int,
    parts: dict[str, Stateful],
    step: Callable[[int], Numbers],
    validate: Callable[[], Numbers],
) -> None:
    """Call ``step(0)`` .. ``step(steps - 1)``, or only those that an earlier run of this directory has not done.

    Every random draw of a step must come from its number, so that an interrupted run ends as an uninterrupted one.
    ``NAME.jsonl`` gets the mean of what steps return every hundred steps and, every thousand, what ``validate`` gives.
    A checkpoint is written every minute, at the end, and on Ctrl-C, which waits for the step to be complete. Of several
    processes, the first one writes.
    """
    processes = run.processes
    run.directory.mkdir(parents=True, exist_ok=True)
    checkpoint, log = run.directory / f"{name}.checkpoint.pt", run.directory / f"{name}.jsonl"
    first, seconds_before = 0, 0.0
    try:
        there = processes.first and checkpoint.exists()
        saved = processes.firsts(torch.load(checkpoint, weights_only=True, map_location="cpu") if there else None)
        if saved is not None:
            for key, part in parts.items():
                part.load_state_dict(saved[key])
            first, seconds_before = saved["step"], saved["seconds"]
    except Exception as error:
        raise ValueError(f"{checkpoint} is damaged; remove it to begin the stage again: {error}") from error
    if processes.first:
        _forget_after(log, first)
    started = saved_at = time.monotonic()

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def save(done: int) -> None:
        if not processes.first:
            return
        with replacing(checkpoint) as path:
            torch.save({"step": done, "seconds": seconds(), **{k: p.state_dict() for k, p in parts.items()}}, path)

    def write(done: int, numbers: Numbers) -> str:
        if processes.first:
            with log.open("a") as lines:
                lines.write(json.dumps({"step": done, "seconds": round(seconds(), 1), **numbers}) + "\n")
        return "  ".join(f"{key} {value:.4g}" for key, value in numbers.items())

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    recent: list[Numbers] = []
    with (
        _interrupt_between_steps() as interrupted,
        Progress(
            *columns, TextColumn("{task.fields[status]}"), console=run.console, disable=not processes.first
        ) as progress,
    ):
        bar = progress.add_task(name, total=steps, completed=first, status="")
        for done in range(first + 1, steps + 1):
            recent.append(step(done - 1))
            progress.update(bar, completed=done)
            if done % LOG_EVERY == 0 or done == steps:
                progress.update(bar, status=write(done, processes.mean(_means(recent))))
                recent = []
            if (done % VALIDATE_EVERY == 0 or done == steps) and processes.first:
                progress.console.print(f"{name} {done}: {write(done, validate())}")
            stop = processes.any(interrupted())
            if time.monotonic() - saved_at > CHECKPOINT_SECONDS or done == steps or stop:
                save(done)
                saved_at = time.monotonic()
            if stop:
                raise KeyboardInterrupt
    processes.wait()  # until the first has saved


@contextmanager
def _interrupt_between_steps() -> Iterator[Callable[[], bool]]:
    """Ctrl-C inside the block only makes the function that it gives return True: half a step must never be saved."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only the main thread may listen to signals
        yield pressed.is_set
        return
    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


def _forget_after(log: Path, step: int) -> None:
    """Drop what a killed run logged after its last checkpoint, and half a last line: those steps are done again."""
    if log.exists():
        whole = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("}\n")]
        kept = [line for line in whole if json.loads(line)["step"] <= step]
        with replacing(log) as path:
            path.write_text("".join(kept))


def _means(records: list[Numbers]) -> Numbers:
    """The mean of each number over the records that have it."""
    values = {key: [record[key] for record in records if key in record] for key in records[-1]}
    return {key: sum(each) / len(each) for key, each in values.items()}
