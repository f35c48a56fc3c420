"""One training on several processes, started by `torchrun`: each takes its rows of a batch, gradients are averaged.

All of them make the same draws, so a run does not depend on how many they are, but for the order of sums, for noise,
and for what a loss says of a batch as a whole. Only the first one needs the run's directory.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

Rows = TypeVar("Rows", range, np.ndarray, Tensor)


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
        dist.broadcast_object_list(values, rank)
        return values[0]

    def each(self, value: Any) -> list[Any]:
        """What every process says, in their order."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def mean(self, numbers: Mapping[str, float]) -> Mapping[str, float]:
        """Each number's mean over processes."""
        if self.count == 1:
            return numbers
        every: list[Mapping[str, float]] = [{}] * self.count
        dist.all_gather_object(every, numbers)
        return {key: sum(each[key] for each in every) / self.count for key in numbers}

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        if self.count == 1:
            return flag
        flags: list[bool] = [False] * self.count
        dist.all_gather_object(flags, flag)
        return any(flags)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()


def is_first() -> bool:
    """Whether this process is the first of those that torchrun started, or was not started by it."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """The processes that torchrun started, each with a GPU of its own for ``cuda``; this one alone where it did not."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # gloo for what is no tensor on a GPU
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
