"""The work on a cluster: Ray Data maps portions to images at the model's size, to its answers, to results.

Images are read and results written by tasks on any processor, the model runs in actors, on an accelerator where there
is one. All machines reach images, task vectors and results by the same paths. What a machine had that dies is done
again by others: results are the same bytes, and a file appears whole, so nothing is lost and nothing is there twice.
"""

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeVar

import torch

from taskvec.application.running import Chunk, OnDone, answers, chunks_of, read_all, store
from taskvec.application.samples import Input, Making, Sample
from taskvec.application.sinks import Left, Sink
from taskvec.application.sources import Portion
from taskvec.extras import install
from taskvec.interrupts import own_signals
from taskvec.vectors import BATCH, TaskVectors

try:
    import ray
except ImportError as error:
    raise ValueError(f"--engine ray takes Ray: {install('cluster')}") from error

_T = TypeVar("_T")
_R = TypeVar("_R")

_ROW = "row"  # the one column of every dataset: pickled, as rows are of many types and sizes
_SHARE = 0.5  # of a processor, for a task that reads or writes and for a model, so that one is enough for both


@dataclass(frozen=True)
class _Travelling:
    """A portion with all of its samples, without their files' contents, and what was read of them."""

    chunk: Chunk
    left: Left


class OnRay:
    """A Ray cluster: that of an address, or one of this machine, which ends with the block that it is a context of."""

    def __init__(self, load: Callable[[torch.device], TaskVectors], device: str, address: str | None = None):
        """``load`` gives the task vectors on any machine, with their model on a device of it."""
        self.load, self.device, self.address = load, device, address

    def __enter__(self) -> Self:
        self.own = not ray.is_initialized()
        if self.own:
            try:
                with own_signals():
                    ray.init(self.address, logging_level=logging.ERROR, log_to_driver=False, include_dashboard=False)
            except (ConnectionError, ValueError) as error:
                raise ValueError(f"--address {self.address}: no Ray cluster answers there: {error}") from error
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        return self

    def __exit__(self, *raised: object) -> None:
        if self.own:
            ray.shutdown()

    def map(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        return _taken(_rows(items).map(partial(_mapped, function), num_cpus=_SHARE))

    def apply(
        self, work: Iterable[tuple[Portion, Left]], sink: Sink, making: Making, on_done: OnDone, *, strict: bool
    ) -> dict[str, str]:
        cluster = ray.cluster_resources()
        accelerators, processors = int(cluster.get("GPU", 0)), int(cluster.get("CPU", 1))
        resources: dict[str, Any] = {"num_gpus": 1} if accelerators else {"num_cpus": _SHARE}
        most = max(1, accelerators or processors)
        portions = list(work)
        if not portions:
            return {}
        read = _rows(portions).map(partial(_mapped, partial(_read, making)), num_cpus=_SHARE)
        answered = read.map(
            _Answers,  # pyright: ignore[reportArgumentType] of which each actor makes one
            fn_constructor_args=(self.load, "cuda" if accelerators else self.device),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
            **resources,
        )
        written = answered.map(partial(_mapped, partial(_write, sink, making)), num_cpus=_SHARE)
        failures: dict[str, str] = {}
        for number, failed in _taken(written):
            if strict and failed:
                raise ValueError(next(iter(failed.values())))
            failures |= failed
            on_done(number)
        return failures


class _Answers:
    """The model, which an actor holds."""

    def __init__(self, load: Callable[[torch.device], TaskVectors], device: str):
        self.vectors = load(torch.device(device))

    def __call__(self, row: dict[str, bytes]) -> dict[str, bytes]:
        travelling: _Travelling = pickle.loads(row[_ROW])  # noqa: S301 what this module pickled
        chunk = travelling.chunk
        return _row(replace(travelling, chunk=chunk.answered(answers(self.vectors, chunk.inputs))))


def _read(making: Making, work: tuple[Portion, Left]) -> _Travelling:
    """A portion with all that is left of it."""
    samples: list[Sample] = []
    inputs: list[Input | str] = []
    broken = None
    for chunk in chunks_of([work], BATCH):
        inputs += read_all(making, chunk.samples)
        samples += [replace(sample, content=b"", others=None) for sample in chunk.samples]
        broken = chunk.broken
    return _Travelling(Chunk(work[0], samples, inputs, broken=broken), work[1])


def _write(sink: Sink, making: Making, travelling: _Travelling) -> tuple[int, dict[str, str]]:
    """How many samples are done with, and what failed."""
    whole = travelling.chunk
    number = 0

    def count(some: int) -> None:
        nonlocal number
        number += some

    failed = store(whole.portion, _finished(sink, making, travelling), sink, making, count, strict=False)
    return number, failed


def _finished(sink: Sink, making: Making, travelling: _Travelling) -> Iterator[Chunk]:
    """The portion in chunks with their results; what its shard has of a sample beside the image is read once more."""
    whole, start, used = travelling.chunk, 0, 0
    for chunk in chunks_of([(whole.portion, travelling.left)], BATCH):
        inputs = whole.inputs[start : start + len(chunk.samples)]
        readable = sum(isinstance(image, Input) for image in inputs)
        outputs = None if whole.outputs is None else whole.outputs[used : used + readable]
        start, used = start + len(inputs), used + readable
        results = sink.finish(whole.portion.directory, chunk.samples, inputs, outputs, making)
        yield replace(chunk, samples=chunk.samples, results=results, broken=chunk.broken)


def _rows(items: Iterable[Any]) -> "ray.data.Dataset":
    """One block of each, so that each is work of its own."""
    rows = [_row(item) for item in items]
    return ray.data.from_items(rows, override_num_blocks=max(1, len(rows)))


def _row(item: object) -> dict[str, bytes]:
    return {_ROW: pickle.dumps(item)}


def _mapped(function: Callable[[Any], Any], row: dict[str, bytes]) -> dict[str, bytes]:
    return _row(function(pickle.loads(row[_ROW])))  # noqa: S301 what this module pickled


def _taken(data: "ray.data.Dataset") -> Iterator[Any]:
    for row in data.iter_rows():
        yield pickle.loads(row[_ROW])  # noqa: S301 what this module pickled
