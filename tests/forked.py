"""Processes that do the same, as torchrun would start them, but forked: an interpreter takes seconds to start."""

import os
import pickle
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvec.processes import Processes, joined

SECONDS = 600  # of a machine that does much else, too


def forked(
    count: int,
    work: Callable[[Processes], Any],
    address: str = "127.0.0.1",
    before: Callable[[int], None] = lambda rank: None,
) -> list[Any]:
    """What ``work`` gives in each of as many processes, by rank: its result, or the exception that it raises; None of
    one that was killed, as it is when it takes more than SECONDS.

    The first one is reached at ``address``; ``before`` is called with the rank before they meet.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"MASTER_ADDR": address, "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryDirectory() as place:
        children = [_fork(rank, settings, work, before, Path(place) / str(rank)) for rank in range(count)]
        for child in children:
            os.waitpid(child, 0)
        outcomes = (Path(place) / str(rank) for rank in range(count))
        return [pickle.loads(outcome.read_bytes()) if outcome.exists() else None for outcome in outcomes]  # noqa: S301


def _fork(
    rank: int,
    settings: Mapping[str, str],
    work: Callable[[Processes], Any],
    before: Callable[[int], None],
    place: Path,
) -> int:
    if child := os.fork():
        return child
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        os.environ |= {**settings, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        try:
            before(rank)
            with joined(torch.device("cpu")) as (processes, _):
                outcome = work(processes)
        except BaseException as error:
            outcome = error
        place.with_suffix(".part").write_bytes(pickle.dumps(outcome))
        place.with_suffix(".part").rename(place)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def outcomes(count: int, work: Callable[[Processes], Any], **options: Any) -> list[Any]:
    """The results of ``forked``, where none has failed."""
    results = forked(count, work, **options)
    for rank, result in enumerate(results):
        if isinstance(result, BaseException) or result is None:
            pytest.fail(f"process {rank} of {count} ended with {result!r}")
    return results
