"""One training, or one search, on several processes that `torchrun` started.

All of them do the same with the same draws, but for their shares of what takes long. Of a training each takes its rows
of a batch, and gradients are averaged: a run does not depend on how many they are, but for the order of sums, for
noise, and for what a loss says of a batch as a whole. Of a search each does some of the passes, and all have the
results of all: it does not depend on how many they are at all. Only the first one needs the run's directory.
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from taskvec.interrupts import must_stop, stop
from taskvec.torchrun import started

Rows = TypeVar("Rows", range, np.ndarray, Tensor)
WHOLE = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # whole numbers by their bytes


class ProcessLostError(OSError):
    """Another of the processes has ended, mostly by an error that it tells itself."""


@dataclass(frozen=True)
class Processes:
    """This process's number among ``count``; alone, every method does nothing."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that tells, logs and saves."""
        return self.rank == 0

    def share(self, batch: Rows) -> Rows:
        """The rows of this process. Raises ValueError where they cannot be divided evenly."""
        if len(batch) % self.count:
            raise ValueError(f"a batch of {len(batch)} cannot be divided evenly among {self.count} processes")
        return batch[self.rank :: self.count]

    def own_seed(self, seed: int) -> int:
        """A seed for draws that every process makes for its rows alone; the first one keeps the seed."""
        return (seed + (self.rank << 40)) % 2**63

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their means over processes."""
        if self.count > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            together = torch.cat([gradient.flatten() for gradient in gradients])
            dist.all_reduce(together)
            pieces = (together / self.count).split([gradient.numel() for gradient in gradients])
            for gradient, piece in zip(gradients, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the order of the batch that was shared out."""
        if self.count == 1:
            return rows
        own = rows.contiguous()
        parts = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(parts, own)
        return torch.stack(parts, 1).flatten(0, 1)

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by the first process's: sums on a GPU may differ in their last bits."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def firsts(self, value: Any) -> Any:
        """What the first process says."""
        return self.told(value, 0)

    def told(self, value: Any, rank: int) -> Any:
        """What the process of this number says."""
        if self.count == 1:
            return value
        values = [value]
        with _reaching_others():
            dist.broadcast_object_list(values, rank)
        return values[0]

    def each(self, value: Any) -> list[Any]:
        """What every process says, in their order."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with _reaching_others():
            dist.all_gather_object(values, value)
        return values

    def mean(self, numbers: Mapping[str, float]) -> Mapping[str, float]:
        """Each number's mean over processes."""
        if self.count == 1:
            return numbers
        every = self.each(numbers)
        return {key: sum(each[key] for each in every) / self.count for key in numbers}

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return any(self.each(flag))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            with _reaching_others():
                dist.barrier()

    def divide(self, sizes: Sequence[int]) -> list[int]:
        """The numbers of the parts, of these sizes, that are this process's: each part is one's, and all have about the
        same to do."""
        loads, own = [0] * self.count, []
        for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
            rank = loads.index(min(loads))
            loads[rank] += sizes[number]
            if rank == self.rank:
                own.append(number)
        return sorted(own)

    def begin(self, *tensors: Tensor) -> None:
        """Here all processes are about to share out the same work, which these tensors describe.

        Work may stop here: KeyboardInterrupt in all of them where a signal has come to one (see
        ``interrupts.stoppable``). Raises ValueError where another process has other work, ProcessLostError where one is
        gone.
        """
        stopping = must_stop()
        if self.count > 1:
            digest = 0
            for tensor in tensors:
                digest = zlib.crc32(tensor.cpu().contiguous().numpy().tobytes(), digest)
            own = torch.tensor([digest, stopping])
            every = [torch.empty_like(own) for _ in range(self.count)]
            with _reaching_others():
                dist.all_gather(every, own)
            digests, flags = torch.stack(every).T
            if len(digests.unique()) > 1:
                raise ValueError(
                    "the processes do not do the same, as they must: start all of them with the same command, in the "
                    "same versions, on processors of one type"
                )
            stopping = bool(flags.any())
        if stopping:
            stop()

    def together(self, own: Tensor) -> Tensor:
        """A tensor of which each process has its parts, and 0 elsewhere, with the parts of all, to the last bit.

        Raises KeyboardInterrupt and ProcessLostError as ``begin`` does.
        """
        stopping = must_stop()
        if self.count > 1:
            bits = torch.cat([own.contiguous().view(WHOLE[own.element_size()]).flatten(), torch.tensor([stopping])])
            with _reaching_others():
                dist.all_reduce(bits)  # of whole numbers, which are the same in whatever order they are added
            own, stopping = bits[:-1].view(own.dtype).view_as(own), bool(bits[-1])
        if stopping:
            stop()
        return own


ALONE = Processes()
_current: ContextVar[Processes] = ContextVar("processes", default=ALONE)


def current() -> Processes:
    """Those that this one is ``joined`` with, or this one alone."""
    return _current.get()


@contextmanager
def _reaching_others() -> Iterator[None]:
    """ProcessLostError where torch says that another process does not answer."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError(
            "another process of this job has ended, or cannot be reached: see what it says"
        ) from error


def own_device(device: torch.device) -> torch.device:
    """The device of this process: where several are ``joined``, each has a GPU of its machine for ``cuda``."""
    if device.type != "cuda" or current().count == 1:
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """The processes that torchrun started, and ``own_device``; this one alone where it did not.

    In the block they are ``current()``. Inside another such block it changes nothing.
    """
    if started() == 1 or current().count > 1:
        yield current(), own_device(device)
        return
    # gloo for what is no tensor on a GPU
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    processes = Processes(dist.get_rank(), dist.get_world_size())
    token = _current.set(processes)
    try:
        if device.type == "cuda":
            torch.cuda.set_device(own_device(device))
        yield processes, own_device(device)
    finally:
        _current.reset(token)
        dist.destroy_process_group()
