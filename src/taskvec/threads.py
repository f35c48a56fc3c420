"""How many threads compute: as many as are fastest at the moment, told by a short measurement.

PyTorch takes as many as there are cores. Where others keep one of them busy, each operation waits for the thread that
does not get its turn, and two threads are several times slower than one.
"""

import logging
import os
import statistics
import time
from collections.abc import Callable
from typing import Literal

import torch

_log = logging.getLogger(__name__)

ROUNDS = 5  # in each of which every number of threads takes its turn
FASTER = 0.95  # of the seconds that fewer threads take: more threads must be worth it
CHOOSERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # of the environment, which PyTorch follows

Chooser = Literal["option", "environment", "program", "measurement", "PyTorch"]

_usual = torch.get_num_threads()
_chooser: Chooser = "PyTorch"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chosen_by() -> Chooser:
    """Who said how many threads there are: ``settle`` by an option or a measurement, the user, or nobody."""
    if _chooser != "PyTorch":
        return _chooser
    if any(os.environ.get(name) for name in CHOOSERS):
        return "environment"
    return "program" if torch.get_num_threads() != _usual else "PyTorch"


def settle(device: torch.device, threads: int | None = None, seconds_of: Callable[[int], float] | None = None) -> None:
    """Set the number of threads for long work on a device: ``threads``, or those that the user chose by the environment
    or ``torch.set_num_threads``, or else, on a processor, the fastest of 1, 2, 4 ... and the number of cores.

    ``seconds_of`` says how long a little typical work takes with so many threads; by default it is tried, which takes a
    fraction of a second. ValueError for fewer than one thread.
    """
    global _chooser  # noqa: PLW0603 as global as what it tells of
    if threads is not None:
        if threads < 1:
            raise ValueError(f"there must be at least 1 thread, not {threads}")
        torch.set_num_threads(threads)
        _chooser = "option"
    elif device.type == "cpu" and chosen_by() == "PyTorch":
        torch.set_num_threads(fastest(cores(), seconds_of or _seconds_of))
        _chooser = "measurement"
    _log.info("%d threads, chosen by %s", torch.get_num_threads(), chosen_by())


def fastest(most: int, seconds_of: Callable[[int], float]) -> int:
    """Of 1, 2, 4 ... and ``most`` threads the number with the lowest median of seconds; ties go to fewer."""
    numbers = sorted({2**power for power in range(most.bit_length()) if 2**power <= most} | {most})
    rounds = [[seconds_of(number) for number in numbers] for _ in range(ROUNDS if len(numbers) > 1 else 0)]
    best, least = numbers[0], float("inf")
    for number, seconds in zip(numbers, zip(*rounds, strict=True), strict=False):
        if (median := statistics.median(seconds)) < FASTER * least:
            best, least = number, median
    return best


@torch.no_grad()
def _seconds_of(threads: int) -> float:
    """Of products and convolutions of the size that a layer of a small model has, a hundredth of a second's worth."""
    torch.set_num_threads(threads)
    rows, weights = torch.ones(512, 256), torch.ones(256, 1024)
    picture, kernel = torch.ones(1, 64, 56, 56), torch.ones(64, 64, 3, 3)
    started = 0.0
    for _ in range(2):  # the first wakes the threads up
        started = time.perf_counter()
        torch.nn.functional.gelu(rows @ weights)
        torch.nn.functional.conv2d(picture, kernel, padding=1)
    return time.perf_counter() - started
