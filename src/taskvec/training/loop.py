"""The loop both stages share: progress for people, JSONL for machines, checkpoints to go on from."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from taskvec.files import check_destination, json_text, read_text, write_text
from taskvec.interrupts import interrupts_between_steps, pass_on
from taskvec.processes import Processes
from taskvec.training import checkpoints
from taskvec.training.checkpoints import DivergedError

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
    A checkpoint is written every minute, at the end, and on Ctrl-C or SIGTERM, which wait for the step to be complete.
    Of several processes, the first one writes.

    Raises DivergedError, with the last good checkpoint kept, as soon as a loss, a gradient or what would be saved
    is not finite, and ValueError where the checkpoint or the log of the directory is damaged or of something else.
    """
    processes = run.processes
    run.directory.mkdir(parents=True, exist_ok=True)
    checkpoint, log = stage_files(run.directory, name)
    there = processes.first and checkpoint.exists()
    saved = processes.firsts(checkpoints.read(checkpoint) if there else None)
    first, seconds_before, recent = (0, 0.0, []) if saved is None else _take_up(saved, parts, steps, checkpoint)
    if processes.first:
        _forget_after(log, first)
    started = saved_at = time.monotonic()
    kept = first  # the step of the checkpoint that is there

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def save(done: int) -> None:
        states = {key: part.state_dict() for key, part in parts.items()}
        checkpoints.check_finite(states)  # in every process, as they are the same in all
        if processes.first:
            state = {"step": done, "seconds": seconds(), "recent": recent, "parts": states}
            checkpoints.write(checkpoint, state)

    def write(done: int, numbers: Numbers) -> str:
        if processes.first:
            with log.open("a") as lines:
                lines.write(json_text({"step": done, "seconds": round(seconds(), 1), **numbers}) + "\n")
        return "  ".join(f"{key} {value:.4g}" for key, value in numbers.items())

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    stop = False
    with (
        interrupts_between_steps() as interrupted,
        Progress(
            *columns, TextColumn("{task.fields[status]}"), console=run.console, disable=not processes.first
        ) as progress,
    ):
        bar = progress.add_task(name, total=steps, completed=first, status="")
        for done in range(first + 1, steps + 1):
            try:
                recent.append({key: float(value) for key, value in step(done - 1).items()})
                progress.update(bar, completed=done)
                if done % LOG_EVERY == 0 or done == steps:
                    progress.update(bar, status=write(done, _finite(processes.mean(_means(recent)))))
                    recent = []
                if done % VALIDATE_EVERY == 0 or done == steps:
                    told = write(done, validate())  # by all processes: an evaluation is shared among them
                    if processes.first:
                        progress.console.print(f"{name} {done}: {told}")
                stop = processes.any(interrupted() is not None)
                if time.monotonic() - saved_at > CHECKPOINT_SECONDS or done == steps or stop:
                    save(done)
                    saved_at, kept = time.monotonic(), done
            except DivergedError as error:
                there = (
                    f"the checkpoint of step {kept}, {checkpoint}, is kept" if kept else "there is no checkpoint yet"
                )
                raise DivergedError(
                    f"{name} diverged at step {done}: {error}; {there}. Lower the recipe's learning rates and name "
                    "another directory"
                ) from error
            if stop:
                break
    pass_on(interrupted(), stopped=stop)
    processes.wait()  # until the first has saved


def stage_files(directory: Path, name: str) -> tuple[Path, Path]:
    """Checkpoint and log of a stage; ValueError where one of them cannot be written."""
    paths = directory / f"{name}.checkpoint.pt", directory / f"{name}.jsonl"
    for path in paths:
        check_destination(path)
    return paths


def _take_up(
    saved: checkpoints.Content, parts: dict[str, Stateful], steps: int, source: Path
) -> tuple[int, float, list[Numbers]]:
    """Give parts their states back; the steps that were done, the seconds that they took, and what is yet to log."""
    try:
        if not 0 < saved["step"] <= steps:
            raise ValueError(f"it is of step {saved['step']}, expected 1 to {steps}")
        for key, part in parts.items():
            part.load_state_dict(saved["parts"][key])
        return saved["step"], saved["seconds"], list(saved.get("recent", []))
    except Exception as error:  # as torch's optimizers raise anything
        raise ValueError(f"{source} is damaged; remove it to begin the stage again: {error}") from error


def _finite(numbers: Numbers) -> Numbers:
    """The same; DivergedError where one is not finite."""
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} is not finite")
    return numbers


def _forget_after(log: Path, step: int) -> None:
    """Drop what a killed run logged after its last checkpoint, and half a last line: those steps are done again."""
    if log.exists():
        whole = [line for line in read_text(log).splitlines(keepends=True) if line.endswith("}\n")]
        try:
            kept = [line for line in whole if json.loads(line)["step"] <= step]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{log} is damaged, expected records with a step; move it away to go on") from error
        write_text(log, "".join(kept))


def _means(records: list[Numbers]) -> Numbers:
    """The mean of each number over the records that have it."""
    values = {key: [record[key] for record in records if key in record] for key in records[-1]}
    return {key: sum(each) / len(each) for key, each in values.items()}
