"""The loop both stages share: progress for people, JSONL for machines, checkpoints to go on from."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from taskvec.files import replacing

Numbers = Mapping[str, float]


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...


def learning_rate_factor(step: int, steps: int, warmup: int = 100, decay: float = 0.4) -> float:
    """Linear warm-up, a plateau, then a linear fall to zero over the last ``decay`` of the steps."""
    return min((step + 1) / warmup, 1.0, (steps - step) / (decay * steps))


def run_stage(
    name: str,
    directory: Path,
    steps: int,
    parts: dict[str, Stateful],
    step: Callable[[int], Numbers],
    validate: Callable[[], Numbers],
    console: Console,
    log_every: int = 100,
    validate_every: int = 1000,
    checkpoint_seconds: float = 60.0,
) -> None:
    """Call ``step(0)`` .. ``step(steps - 1)``, or only those that an earlier run of this directory has not done.

    Every random draw of a step must come from its number, so that an interrupted run ends as an uninterrupted one.
    ``NAME.jsonl`` gets the mean of what steps return every ``log_every`` steps and what ``validate`` returns; a
    checkpoint is written every minute, on Ctrl-C and at the end.
    """
    directory.mkdir(parents=True, exist_ok=True)
    checkpoint, log = directory / f"{name}.checkpoint.pt", directory / f"{name}.jsonl"
    first, seconds_before = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for key, part in parts.items():
            part.load_state_dict(saved[key])
        first, seconds_before = saved["step"], saved["seconds"]
    if first >= steps:
        return
    started = saved_at = time.monotonic()

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def save(done: int) -> None:
        with replacing(checkpoint) as path:
            torch.save({"step": done, "seconds": seconds(), **{k: p.state_dict() for k, p in parts.items()}}, path)

    def write(done: int, numbers: Numbers) -> str:
        with log.open("a") as lines:
            lines.write(json.dumps({"step": done, "seconds": round(seconds(), 1), **numbers}) + "\n")
        return "  ".join(f"{key} {value:.4g}" for key, value in numbers.items())

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    recent: list[Numbers] = []
    done = first
    with Progress(*columns, TextColumn("{task.fields[status]}"), console=console) as progress:
        bar = progress.add_task(name, total=steps, completed=first, status="")
        try:
            for index in range(first, steps):
                recent.append(step(index))
                done = index + 1
                if done % log_every == 0 or done == steps:
                    means = _means(recent)
                    recent = []
                    progress.update(bar, status=write(done, means))
                if done % validate_every == 0 or done == steps:
                    progress.console.print(f"{name} {done}: {write(done, validate())}")
                if time.monotonic() - saved_at > checkpoint_seconds or done == steps:
                    save(done)
                    saved_at = time.monotonic()
                progress.update(bar, completed=done)
        except KeyboardInterrupt:
            save(done)
            raise


def _means(records: list[Numbers]) -> Numbers:
    """The mean of each number over the records that have it."""
    values = {key: [record[key] for record in records if key in record] for key in records[-1]}
    return {key: sum(each) / len(each) for key, each in values.items()}
