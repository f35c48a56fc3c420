"""What became of a study's cells: told as it happens in ``log.jsonl``, read again by `taskvec experiment status`.

Every line is an event: a run begins, is over, or a cell is running, done or failed. Cells that are done are files; the
log alone says what is running, and why something failed.
"""

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskvec.files import is_running, json_text, read_text

LOG, CELLS = "log.jsonl", "cells"  # in a study's directory


@dataclass
class Journal:
    """Writes the events of one run to the log of a study's directory; nothing where there is nothing to compute."""

    directory: Path
    engine: str

    def planned(self, cells: int) -> None:
        """A run begins, in which so many cells are to be computed."""
        self._say({"run": self.engine, "cells": cells, "machine": platform.node(), "process": os.getpid()})

    def running(self, cell: str, where: str) -> None:
        self._say({"cell": cell, "state": "running", "where": where})

    def done(self, cell: str, seconds: float | None) -> None:
        """``seconds`` is None where it was there already."""
        self._say({"cell": cell, "state": "done", "seconds": None if seconds is None else round(seconds, 3)})

    def failed(self, cell: str, reason: str, traceback: str | None = None) -> None:
        self._say({"cell": cell, "state": "failed", "reason": reason, "traceback": traceback})

    def over(self) -> None:
        """The run is over, however it came to its end."""
        self._say({"run": "over"})

    def _say(self, event: Mapping[str, Any]) -> None:
        with (self.directory / LOG).open("a", encoding="utf-8") as lines:
            lines.write(json_text({**event, "at": round(time.time(), 3)}) + "\n")


@dataclass(frozen=True)
class Status:
    """How far a study is. ``done`` counts cells; ``running`` says where and since when (seconds since 1970) each
    is computed, ``failed`` why each failed; ``to_come`` counts those of the last run that are none of these.

    ``engine`` is that of the last run, on ``machine``, which is still at work where ``alive``.
    """

    done: int
    running: dict[str, tuple[str, float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    to_come: int = 0
    engine: str | None = None
    machine: str | None = None
    alive: bool = False


def status(directory: Path) -> Status:
    """How far the study in a directory is.

    Whether a run on another machine is still at work cannot be told: it counts as such until it says that it is over.
    Raises ValueError where there is no study.
    """
    if not (directory / CELLS).is_dir() and not (directory / LOG).exists():
        raise ValueError(f"{directory} holds no study: expected the --out of `taskvec experiment`")
    done = sum(1 for _ in (directory / CELLS).glob("*.json"))
    run: dict[str, Any] = {}
    over, of_run = True, set()
    running: dict[str, tuple[str, float]] = {}
    failed: dict[str, str] = {}
    for event in _events(directory / LOG):
        if event.get("run") == "over":
            over, running = True, {}
        elif "run" in event:
            run, over, running, of_run = event, False, {}, set()
        elif "cell" in event:
            cell, state = str(event["cell"]), event.get("state", "done")
            running.pop(cell, None)
            failed.pop(cell, None)
            if state == "running":
                running[cell] = str(event.get("where")), float(event.get("at", 0))
            elif state == "failed":
                failed[cell] = str(event.get("reason"))
            if state != "running":
                of_run.add(cell)
    machine, process = run.get("machine"), run.get("process")
    alive = not over and (machine != platform.node() or is_running(int(process or 0)))
    running = running if alive else {}
    to_come = max(0, int(run.get("cells", 0)) - len(of_run) - len(running))
    return Status(done, running, failed, to_come, run.get("run"), machine, alive)


def _events(log: Path) -> list[dict[str, Any]]:
    """Those of a log, of which a killed process may have left the last line unfinished."""
    events = []
    for line in read_text(log).splitlines() if log.exists() else []:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return events
