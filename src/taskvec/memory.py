"""How many rows one pass takes: by what a row needs, what memory is free, and how many rows there is a gain from.

Where memory does not suffice after all, passes of fewer rows do the same.
"""

import gc
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from taskvec.models.interface import RowCost

try:
    import resource
except ImportError:  # Windows, where processes have no such limits
    resource = None

SHARE = 0.5  # of the free memory that a pass may take: the rest is for others, and for what no model foresees
PROCESSOR_TOKENS = 4096  # of all stacks in one pass: on a processor more are no faster
PROCESSOR_BYTES = 300_000_000  # in one pass on a processor, where less is no slower: a gradient keeps that of few rows
GPU_TOKENS = 65536  # so that where memory is plenty rows do not hang on how much of it is free at the moment
LEAST_PROCESSOR_TOKENS, LEAST_GPU_TOKENS = 800, 8192  # in one pass, with which a row takes no longer than among more
BOUNDLESS = 2**60  # bytes: what is stated for "no limit" is larger
SHARES = 12  # equal parts of what several processes do: 1, 2, 3, 4, 6 and 12 of them have as much to do each

# what control groups of versions 2 and 1 call the limit, what is used, and what of it are files that give way
_GROUP_FILES = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
# how torch, its libraries and numpy say it of a processor's memory
_SHORT = re.compile(
    r"[Cc]an(.|no)t allocate memory|not enough memory|bad_alloc|[Uu]nable to (mmap|allocate)|start new thread"
)
# how oneDNN says it, and also other things: counted as such where there is hardly any memory
_PERHAPS_SHORT, HARDLY_ANY = re.compile(r"could not (create|execute) a (primitive|memory)"), 2**28
_WANTED = re.compile(r"allocate\s+([\d.]+)\s*(bytes|[KMGT]?i?B)\b")

ADVICE = "end other programs, raise the limit (`ulimit -v`, or the job's), or take a smaller model or fewer items"
PROCESSOR = torch.device("cpu")

T = TypeVar("T")


def rows_of_a_pass(device: torch.device, cost: RowCost) -> int:
    """How many rows of this cost share a pass on the device, at least one."""
    return rows_that_fit(device, cost, rows_worth_it(device, cost))


def rows_worth_it(device: torch.device, cost: RowCost) -> int:
    """How many rows there is a gain from, however much memory is free, at least one."""
    if device.type == "cpu":
        rows = min(PROCESSOR_TOKENS // cost.tokens, PROCESSOR_BYTES // cost.bytes)
    else:
        rows = GPU_TOKENS // cost.tokens
    return max(1, rows)


def rows_that_fit(device: torch.device, cost: RowCost, most: int) -> int:
    """How many rows of this cost fit into the share of the free memory that a pass may take; one to ``most``."""
    free = free_bytes(device)
    return most if free is None else max(1, min(most, int(SHARE * free) // cost.bytes))


def reserve_for_numpy() -> None:
    """Have numpy's OpenBLAS take its buffer now: where there is no memory for it later, it ends the process itself."""
    np.linalg.inv(np.eye(64))


class ShortageError(MemoryError):
    """Memory did not suffice: one sentence that says for what, how much was wanted, and what is free."""


@dataclass
class Passes:
    """How many rows share a pass on a device: ``rows``, and fewer from when memory did not suffice for them."""

    device: torch.device
    rows: int

    def __call__(self, run: Callable[[int], T]) -> T:
        """``run(rows)``, which takes its work in passes of so many rows at most; from the start again with half as many
        for as long as memory does not suffice, of which there is one warning.

        So ``run`` must leave nothing behind where it fails. Raises ShortageError where a single row is too many.
        """
        before = self.rows
        while True:
            try:
                result = _in_a_sound_thread(run, self.rows)
                break
            except Exception as error:
                if not is_shortage(error):
                    raise
                if self.rows == 1:
                    raise ShortageError(
                        f"{shortage(error, self.device)}, in a pass of a single row: {ADVICE}"
                    ) from error
            # only here the error, whose traceback holds what the pass had made, is gone
            self.rows = -(-self.rows // 2)
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        if self.rows < before:
            free = free_bytes(self.device)
            left = "" if free is None else f" ({_size(free)} are free)"
            warnings.warn(
                f"memory does not suffice for {before} rows in a pass: {self.rows} share one{left}", stacklevel=2
            )
        return result


_spoilt = threading.local()  # ``here``, in threads in which oneDNN can make nothing new


def _in_a_sound_thread(run: Callable[[int], T], rows: int) -> T:
    """``run(rows)`` in this thread, or in a new one, with what is open here, once a shortage has spoilt this.

    For what fails in oneDNN fails in the same thread for ever, also when memory is there again.
    """
    if not getattr(_spoilt, "here", False):
        try:
            return run(rows)
        except RuntimeError as error:
            _spoilt.here = _PERHAPS_SHORT.search(str(error)) is not None
            raise
    gradients = torch.is_grad_enabled()

    def run_there() -> T:
        with torch.set_grad_enabled(gradients):
            return run(rows)

    with ThreadPoolExecutor(1) as sound:
        return sound.submit(copy_context().run, run_there).result()


def is_shortage(error: BaseException) -> bool:
    """Whether memory, of a device or of the processor, did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if type(error) is not RuntimeError:
        return False
    if _PERHAPS_SHORT.search(str(error)):
        free = free_bytes(PROCESSOR)
        return free is not None and free < HARDLY_ANY
    return _SHORT.search(str(error)) is not None


def shortage(error: BaseException, device: torch.device = PROCESSOR) -> str:
    """What a shortage was of, as a part of a sentence: how much was wanted, where that is known, and what is free."""
    wanted, free = _WANTED.search(str(error)), free_bytes(device)
    told = []
    if wanted:
        told.append(f"{_size(int(wanted[1])) if wanted[2] == 'bytes' else f'{wanted[1]} {wanted[2]}'} more were wanted")
    if free is not None:
        told.append(f"{_size(free)} are free")
    return "there is not enough memory" + (f": {', '.join(told)}" if told else "")


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def least_rows(device: torch.device, cost: RowCost, *, gradient: bool = False) -> int:
    """How many rows a pass must have to be about as fast, row by row, as one with more; half as many with a gradient,
    which does more for each."""
    tokens = LEAST_PROCESSOR_TOKENS if device.type == "cpu" else LEAST_GPU_TOKENS
    return -(-tokens // (cost.tokens * (2 if gradient else 1)))


def divided_evenly(rows: Tensor, least: int, most: int) -> Sequence[Tensor]:
    """Rows in passes of equal numbers, give or take one, of ``most`` at most.

    There are as many passes as leave each ``least`` rows, but no more than SHARES where fewer would do; from there on a
    multiple of it.
    """
    count = max(-(-len(rows) // most), min(SHARES, len(rows) // least), 1)
    if count > SHARES:
        count = min(-(-count // SHARES) * SHARES, len(rows))
    return rows.tensor_split(count) if len(rows) else []


def free_bytes(device: torch.device) -> int | None:
    """Memory that can be had now, within the limits of the process and of its control groups; None where nothing says
    it."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return min(left().values(), default=None)


def left() -> dict[str, int]:
    """A processor's memory that can be had now, by what leaves it: the system, control groups, limits of the process.

    What bounds nothing is not there.
    """
    system = _available_in_system()
    every = {
        "the system": [] if system is None else [system],
        "control groups": list(_left_by_groups()),
        "limits of the process": list(_left_by_limits()),
    }
    return {name: min(sizes) for name, sizes in every.items() if sizes and min(sizes) < BOUNDLESS}


def _available_in_system() -> int | None:
    information = Path("/proc/meminfo")
    if not information.is_file():
        return None
    fields = dict(line.split(":") for line in information.read_text().splitlines())
    return 1024 * int(fields["MemAvailable"].split()[0])


def _left_by_groups(
    root: Path = Path("/sys/fs/cgroup"), memberships: Path = Path("/proc/self/cgroup")
) -> Iterator[int]:
    """What the limits of this process's control groups, of either version, and of those that they are in leave."""
    known = memberships.read_text().splitlines() if memberships.is_file() else []
    for controller, limit, used, files in _GROUP_FILES:
        places = {Path("/")}  # as a container sees its own
        for line in known:
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                places |= {Path(path), *Path(path).parents}
        for place in places:
            group = root / controller / place.relative_to("/")
            if (left := _left_by_group(group, limit, used, files)) is not None:
                yield left


def _left_by_group(group: Path, limit: str, used: str, files: str) -> int | None:
    try:
        most = (group / limit).read_text().strip()
        if most == "max":
            return None
        taken = int((group / used).read_text())
        statistics = group / "memory.stat"
        known = dict(line.split() for line in statistics.read_text().splitlines()) if statistics.is_file() else {}
    except OSError:  # there is none, or it is not for us to see
        return None
    return max(0, int(most) - taken + int(known.get(files, 0)))


def _left_by_limits(status: Path = Path("/proc/self/status")) -> Iterator[int]:
    """What the limits on this process's addresses and data (`ulimit -v` and `-d`) leave."""
    if resource is None or not status.is_file():
        return
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
    for limit, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            yield max(0, most - 1024 * int(fields[used].split()[0]))
