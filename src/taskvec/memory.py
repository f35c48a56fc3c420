"""How many rows one pass takes: by what a row needs, what memory is free, and how many rows there is a gain from."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from taskvec.models.interface import RowCost

SHARE = 0.5  # of the free memory that a pass may take: the rest is for others, and for what no model foresees
PROCESSOR_TOKENS = 4096  # of all stacks in one pass: on a processor more are no faster
PROCESSOR_BYTES = 300_000_000  # in one pass on a processor, where less is no slower: a gradient keeps that of few rows
GPU_TOKENS = 65536  # so that where memory is plenty rows do not hang on how much of it is free at the moment
LEAST_PROCESSOR_TOKENS, LEAST_GPU_TOKENS = 800, 8192  # in one pass, with which a row takes no longer than among more
SHARES = 12  # equal parts of what several processes do: 1, 2, 3, 4, 6 and 12 of them have as much to do each


def rows_of_a_pass(device: torch.device, cost: RowCost) -> int:
    """How many rows of this cost share a pass on the device, at least one."""
    rows, free = rows_worth_it(device, cost), free_bytes(device)
    if free is not None:
        rows = min(rows, int(SHARE * free) // cost.bytes)
    return max(1, rows)


def rows_worth_it(device: torch.device, cost: RowCost) -> int:
    """How many rows there is a gain from, however much memory is free, at least one."""
    if device.type == "cpu":
        rows = min(PROCESSOR_TOKENS // cost.tokens, PROCESSOR_BYTES // cost.bytes)
    else:
        rows = GPU_TOKENS // cost.tokens
    return max(1, rows)


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
    """Memory that can be had now, within the limits of the process's control group; None where nothing says it."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    found = [_available_in_system(), _available_in_group()]
    return min((each for each in found if each is not None), default=None)


def _available_in_system() -> int | None:
    information = Path("/proc/meminfo")
    if not information.is_file():
        return None
    fields = dict(line.split(":") for line in information.read_text().splitlines())
    return 1024 * int(fields["MemAvailable"].split()[0])


def _available_in_group(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit leaves (control groups of version 2)."""
    limit, used, statistics = (root / name for name in ("memory.max", "memory.current", "memory.stat"))
    if not limit.is_file() or not used.is_file() or limit.read_text().strip() == "max":
        return None
    known = dict(line.split() for line in statistics.read_text().splitlines()) if statistics.is_file() else {}
    cached = int(known.get("inactive_file", 0))  # files that were read, which give way
    return max(0, int(limit.read_text()) - int(used.read_text()) + cached)
