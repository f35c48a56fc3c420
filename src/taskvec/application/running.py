"""The work itself, on this machine: images are read and results written in processes of their own while the model runs.

    portions -> chunks of samples -> read (processes) -> model (threads) -> finish (processes) -> sink, in order

Each arrow holds a few chunks, whatever the number of images.
"""

import gc
import itertools
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.synchronize import Lock
from threading import Thread
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch

from taskvec.application.samples import Input, Making, Sample, read, without_pixels
from taskvec.application.shards import BrokenShardError
from taskvec.application.sinks import Left, Result, Sink
from taskvec.application.sources import Portion
from taskvec.images import decoding
from taskvec.threads import chosen_by, cores
from taskvec.vectors import BATCH, TaskVectors

BYTES = 32 << 20  # of files' contents in a chunk, about
_MOST_STREAMS = 4  # of the model on a processor: beyond, each gets several threads
_MOST_WORKERS = 16

_T = TypeVar("_T")
_R = TypeVar("_R")

OnDone = Callable[[int], None]


@dataclass(frozen=True)
class Chunk:
    """Some samples of a portion with what became of them. ``broken`` says why its last chunk is not the whole rest.

    No more is held than what is still needed: files' contents until they are read, pixels until they are answered.
    """

    portion: Portion
    samples: Sequence[Sample]
    inputs: Sequence[Input | str] = ()
    outputs: Any = None  # uint8 [readable, side, side, 3], None where no image could be read
    results: Sequence[Result] = ()
    broken: str | None = None

    def read(self, inputs: Sequence[Input | str]) -> "Chunk":
        return replace(self, inputs=inputs, samples=[replace(sample, content=b"") for sample in self.samples])

    def answered(self, outputs: Any) -> "Chunk":
        return replace(self, outputs=outputs, inputs=[without_pixels(image) for image in self.inputs])

    def finished(self, results: Sequence[Result]) -> "Chunk":
        return replace(self, results=results, inputs=(), outputs=None)


class Engine(Protocol):
    """Where work is done: here, or on Ray."""

    def map(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        """In order; the function is sent to other processes, and so are items and what it gives."""
        ...

    def apply(
        self, work: Iterable[tuple[Portion, Left]], sink: Sink, making: Making, on_done: OnDone, *, strict: bool
    ) -> dict[str, str]:
        """Do the task on every image that is left; in the end the images that could not be done, with the reason.

        ``on_done`` is called with numbers of images. Raises OSError where there is no space left or no writing at all,
        and, if ``strict``, ValueError at the first image that cannot be done.
        """
        ...


class Here:
    """This machine; its processes end with the block that it is a context of."""

    def __init__(self, vectors: TaskVectors, processes: int | None = None):
        """``processes`` of 0 reads and writes in threads of this one, as a single image deserves."""
        self.vectors = vectors
        self.processes = min(cores(), _MOST_WORKERS) if processes is None else processes

    def __enter__(self) -> Self:
        self.pool = _processes(self.processes) if self.processes else ThreadPoolExecutor(2)
        self.ahead = 2 * max(2, self.processes)
        return self

    def __exit__(self, *raised: object) -> None:
        self.pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        with _told_of_death():
            for _, result in overlapped(partial(self.pool.submit, function), items, self.ahead):
                yield result

    def apply(
        self, work: Iterable[tuple[Portion, Left]], sink: Sink, making: Making, on_done: OnDone, *, strict: bool
    ) -> dict[str, str]:
        streams, threads = _streams(self.vectors)
        failures: dict[str, str] = {}
        with _told_of_death(), _threads_of_each(threads), ThreadPoolExecutor(streams) as model:

            def read(chunk: Chunk) -> Future[list[Input | str]]:
                return self.pool.submit(read_all, making, [replace(sample, others=None) for sample in chunk.samples])

            def answer(chunk: Chunk) -> Future[Any]:
                return model.submit(answers, self.vectors, chunk.inputs)

            def finish(chunk: Chunk) -> Future[list[Result]]:
                samples = [replace(sample, others=None) for sample in chunk.samples]
                directory = chunk.portion.directory
                return self.pool.submit(sink.finish, directory, samples, chunk.inputs, chunk.outputs, making)

            chunks = chunks_of(work, max(1, BATCH // streams))
            known = (chunk.read(inputs) for chunk, inputs in overlapped(read, chunks, self.ahead))
            answered = (chunk.answered(outputs) for chunk, outputs in overlapped(answer, known, streams + 1))
            done = (chunk.finished(results) for chunk, results in overlapped(finish, answered, self.ahead))
            for portion, some in itertools.groupby(done, lambda chunk: chunk.portion):
                failures |= store(portion, some, sink, making, on_done, strict=strict)
        return failures


def chunks_of(work: Iterable[tuple[Portion, Left]], size: int) -> Iterator[Chunk]:
    """What is left of portions, ``size`` samples at a time; the last chunk of a portion may have none."""
    for portion, left in work:
        samples = itertools.compress(portion.samples(), left.left) if left.left else portion.samples()
        some: list[Sample] = []
        held, broken = 0, None
        try:
            for sample in samples:
                some.append(sample)
                held += len(sample.content) if isinstance(sample.content, bytes) else 0
                if len(some) == size or held >= BYTES:
                    yield Chunk(portion, some)
                    some, held = [], 0
        except BrokenShardError as error:
            broken = str(error)
        yield Chunk(portion, some, broken=broken)


def read_all(making: Making, samples: Sequence[Sample]) -> list[Input | str]:
    return [read(sample, making) for sample in samples]


def answers(vectors: TaskVectors, inputs: Sequence[Input | str]) -> Any:
    """The model's, uint8 [readable, side, side, 3], to the images that could be read; None where there is none."""
    pixels = [image.pixels for image in inputs if isinstance(image, Input)]
    return vectors.uncut(np.stack(pixels)) if pixels else None


def store(
    portion: Portion, chunks: Iterable[Chunk], sink: Sink, making: Making, on_done: OnDone, *, strict: bool
) -> dict[str, str]:
    """Give a portion's results to the sink; what could not be done, with the reason. A shard that is damaged is one."""
    failed: dict[str, str] = {}
    try:
        with sink.open(portion, making, failed) as add:
            for chunk in chunks:
                for sample, result in zip(chunk.samples, chunk.results, strict=True):
                    if isinstance(result, bytes):
                        add(sample, result)
                    elif result is not None:
                        failed[sample.name] = result
                if strict and failed:
                    raise ValueError(next(iter(failed.values())))
                on_done(len(chunk.samples))
                if chunk.broken is not None:
                    raise BrokenShardError(chunk.broken)
    except BrokenShardError as error:
        if strict:
            raise
        failed[portion.name] = str(error)
    return failed


def overlapped(submit: Callable[[_T], Future[_R]], items: Iterable[_T], ahead: int) -> Iterator[tuple[_T, _R]]:
    """Items and what comes of them, in order, with no more than ``ahead`` in work or waiting to be taken."""
    waiting: deque[tuple[_T, Future[_R]]] = deque()
    try:
        for item in items:
            waiting.append((item, submit(item)))
            if len(waiting) >= ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


@contextmanager
def _told_of_death() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a process that reads and writes images was killed, as by the system where memory is short: what is done "
            "stays, and the same command goes on with the rest"
        ) from error


def _streams(vectors: TaskVectors) -> tuple[int, int]:
    """How many batches the model works on at once, and the threads of each.

    On a processor, batches side by side take less time than one with a thread for each core, which wait for each other.
    """
    if vectors.model.device.type != "cpu":
        return 1, torch.get_num_threads()
    threads = torch.get_num_threads() if chosen_by() in ("option", "environment", "program") else cores()
    streams = min(threads, _MOST_STREAMS)
    return streams, threads // streams


@contextmanager
def _threads_of_each(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processes(number: int) -> ProcessPoolExecutor:
    """Copies of this process where the system has such, which share its memory until they change it."""
    forks = "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux"
    context = multiprocessing.get_context("fork" if forks else None)
    gc.collect()
    gc.freeze()  # the collector of a copy would write to all that it looks at
    pool = ProcessPoolExecutor(number, context, _begin, (context.Lock(),))
    try:
        for future in [pool.submit(os.getpid) for _ in range(number)]:  # they begin now, not once threads are at work
            future.result()
    finally:
        gc.unfreeze()
    return pool


def _begin(lock: Lock) -> None:
    """What a process does first. Signals are for the one that it works for, with which it ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    decoding.ONE_AT_A_TIME = lock
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
