"""Engines: where the cells of a study are computed. Whichever it is, the files are the same.

A cell is started as soon as the cells that it needs are there, whoever needs it, once. One that fails takes only those
with it that need it; one whose process is killed is tried again.
"""

import heapq
import os
import pickle
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, Protocol

import torch

from taskvec.experiments.cells import Cell
from taskvec.experiments.spec import AnyStudy, StudySpec
from taskvec.extras import install
from taskvec.interrupts import own_signals

ATTEMPTS = 3  # at a cell whose process is killed
GRACE = 5.0  # seconds that a process has to end when it is told to
# Not by a fork of this process, which would share locks of threads, and what runs on a GPU. On Linux they are forks of
# one that has imported everything and done nothing, so that they are there at once.
_START = "forkserver" if sys.platform == "linux" else "spawn"
_EXPECTED = (ValueError, OSError, OverflowError, NotImplementedError, MemoryError)  # which need no traceback


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: the seconds it took, None where it was there already, or why it failed."""

    seconds: float | None = None
    reason: str | None = None
    traceback: str | None = None


News = tuple[int, Outcome | str]  # of a cell by its number: what became of it, or where it has been started


class Engine(Protocol):
    """Computes cells, by the number that each is given, while it is open."""

    def open(self) -> None:
        """Make ready."""

    @property
    def free(self) -> bool:
        """Whether it takes another cell."""
        ...

    def start(self, number: int, cell: Cell[Any]) -> None:
        """Take a cell, whose needs are there."""

    def wait(self) -> Sequence[News]:
        """What there is to tell of the cells it took, once there is something."""
        ...

    def close(self) -> None:
        """End whatever is still being computed, and leave nothing behind."""


class Watcher(Protocol):
    """Sees what becomes of cells, by their titles."""

    def planned(self, cells: int) -> None:
        """So many are to be computed."""

    def running(self, cell: str, where: str) -> None: ...

    def done(self, cell: str, seconds: float | None) -> None: ...

    def failed(self, cell: str, reason: str, traceback: str | None) -> None: ...

    def over(self) -> None:
        """No more is computed, for whatever reason."""


def missing(study: AnyStudy, wanted: Sequence[Cell[Any]]) -> dict[Cell[Any], set[Cell[Any]]]:
    """The cells that are not there yet of those that are wanted and all that they need, which come first: each with
    those of its needs that are missing."""
    plan: dict[Cell[Any], set[Cell[Any]]] = {}
    there: set[Cell[Any]] = set()
    for each in wanted:
        _plan(each, study, plan, there)
    return plan


def _plan(cell: Cell[Any], study: AnyStudy, plan: dict[Cell[Any], set[Cell[Any]]], there: set[Cell[Any]]) -> None:
    if cell in plan or cell in there:
        return
    needs = cell.needs(study)
    for need in needs:
        _plan(need, study, plan, there)
    lacks = {need for need in needs if need in plan}
    if not lacks and study.store.has(cell.key(study)):  # the key may follow from what it needs
        there.add(cell)
    else:
        plan[cell] = lacks


@dataclass
class Run:
    """Has an engine compute what is missing for some goals: the cells that each of them wants.

    Iterating gives the names of the goals as they are reached. What fails does not stop the rest: ``failures`` has the
    reasons by the cells' titles, and ``not_tried`` counts the cells that need those.
    """

    study: AnyStudy
    goals: Mapping[str, Sequence[Cell[Any]]]
    engine: Engine
    watcher: Watcher
    failures: dict[str, str] = field(default_factory=dict, init=False)
    not_tried: int = field(default=0, init=False)

    def __iter__(self) -> Iterator[str]:
        plan = missing(self.study, [cell for cells in self.goals.values() for cell in cells])
        left = {name: {cell for cell in cells if cell in plan} for name, cells in self.goals.items()}
        yield from _reached(left)
        if not plan:
            return
        self.watcher.planned(len(plan))
        try:
            self.engine.open()
            for cell in self._computed(plan):
                for wanted in left.values():
                    wanted.discard(cell)
                yield from _reached(left)
        finally:
            self.engine.close()
            self.watcher.over()

    def _computed(self, plan: dict[Cell[Any], set[Cell[Any]]]) -> Iterator[Cell[Any]]:
        """The cells of a plan, each once it is there; the first of those that can be computed is started first."""
        cells = list(plan)
        number_of = {cell: number for number, cell in enumerate(cells)}
        needed_by: dict[Cell[Any], list[Cell[Any]]] = {cell: [] for cell in cells}
        for cell, lacks in plan.items():
            for need in lacks:
                needed_by[need].append(cell)
        ready = [number_of[cell] for cell, lacks in plan.items() if not lacks]  # in order, and so a heap
        at_work: set[int] = set()
        self.not_tried = len(cells)
        while ready or at_work:
            while ready and self.engine.free:
                at_work.add(number := heapq.heappop(ready))
                self.engine.start(number, cells[number])
            for number, news in self.engine.wait():
                cell, title = cells[number], cells[number].title(self.study)
                if isinstance(news, str):
                    self.watcher.running(title, news)
                    continue
                at_work.remove(number)
                self.not_tried -= 1
                if news.reason is not None:
                    self.failures[title] = news.reason
                    self.watcher.failed(title, news.reason, news.traceback)
                    continue
                self.watcher.done(title, news.seconds)
                for other in needed_by[cell]:
                    plan[other].discard(cell)
                    if not plan[other]:
                        heapq.heappush(ready, number_of[other])
                yield cell


def _reached(left: dict[str, set[Cell[Any]]]) -> list[str]:
    """The goals that want no more cells, which are taken out."""
    names = [name for name, cells in left.items() if not cells]
    for name in names:
        del left[name]
    return names


def outcome(study: AnyStudy, cell: Cell[Any]) -> Outcome:
    """Compute a cell; whatever goes wrong, but for signals, is its outcome."""
    started = time.perf_counter()
    try:
        was_there = study.store.has(cell.key(study))
        cell.value(study)
    except Exception as error:
        return _failure(error)
    return Outcome(None if was_there else time.perf_counter() - started)


def _failure(error: Exception) -> Outcome:
    if isinstance(error, _EXPECTED) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return Outcome(reason=str(error) or type(error).__name__)
    told = "".join(traceback.format_exception(error))
    return Outcome(reason=f"{type(error).__name__}: {error}", traceback=told)


class Here:
    """This process, one cell after the other."""

    def __init__(self, study: AnyStudy) -> None:
        self._study = study
        self._taken: tuple[int, Cell[Any]] | None = None
        self._told = False

    def open(self) -> None:
        pass

    @property
    def free(self) -> bool:
        return self._taken is None

    def start(self, number: int, cell: Cell[Any]) -> None:
        self._taken, self._told = (number, cell), False

    def wait(self) -> Sequence[News]:
        if self._taken is None:
            return []
        number, cell = self._taken
        if not self._told:
            self._told = True
            return [(number, "this process")]
        self._taken = None
        return [(number, outcome(self._study, cell))]

    def close(self) -> None:
        pass


class _Worker:
    """A process that computes cells, one after the other, in one thread."""

    def __init__(self, spec: bytes, device: str) -> None:
        self._spec, self._device = spec, device
        self.taken: tuple[int, Cell[Any]] | None = None
        self.killed = 0  # how often, at the cell that it has
        self._begin()

    def _begin(self) -> None:
        context = get_context(_START)
        context.set_forkserver_preload([__name__])
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(self._spec, self._device, other), daemon=True)
        with _one_thread():
            self.process.start()
        other.close()  # so that the pipe ends when the process does

    def take(self, number: int, cell: Cell[Any]) -> None:
        self.taken, self.killed = (number, cell), 0
        self._send(cell)

    def _send(self, cell: Cell[Any]) -> None:
        with suppress(OSError):  # it was killed, which ``news`` finds out
            self.pipe.send(cell)

    def news(self) -> Outcome | None:
        """What became of the cell that it has, None where it has been begun anew."""
        try:
            told = self.pipe.recv()
        except (EOFError, OSError):
            return self._again()
        self.taken = None
        return told

    def _again(self) -> Outcome | None:
        self.process.join(GRACE)
        self.killed += 1
        code = self.process.exitcode
        self.end()
        self._begin()
        if self.killed < ATTEMPTS and self.taken is not None:
            self._send(self.taken[1])
            return None
        self.taken = None
        how = f"by signal {-code} " if code is not None and code < 0 else ""
        return Outcome(reason=f"its process was ended {how}{ATTEMPTS} times")

    def end(self) -> None:
        self.process.terminate()
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


class Processes:
    """Processes of this machine, of one thread each, which load the model once. With GPUs, each has one in turn."""

    def __init__(self, spec: StudySpec, count: int) -> None:
        self._spec, self._count = spec, count
        self._workers: list[_Worker] = []
        self._started: list[News] = []

    def open(self) -> None:
        gpus = torch.cuda.device_count() if self._spec.device.startswith("cuda") else 0
        for number in range(self._count):
            device = f"cuda:{number % gpus}" if gpus else self._spec.device
            self._workers.append(_Worker(pickle.dumps(self._spec), device))

    @property
    def free(self) -> bool:
        return any(worker.taken is None for worker in self._workers)

    def start(self, number: int, cell: Cell[Any]) -> None:
        worker = next(worker for worker in self._workers if worker.taken is None)
        worker.take(number, cell)
        self._started.append((number, self._where(worker)))

    def wait(self) -> Sequence[News]:
        if self._started:
            started, self._started = self._started, []
            return started
        news: list[News] = []
        busy = {worker.pipe: worker for worker in self._workers if worker.taken is not None}
        for pipe in connection.wait(list(busy)):
            worker = busy[pipe]  # pyright: ignore[reportArgumentType]
            number = worker.taken[0] if worker.taken else -1
            told = worker.news()
            news.append((number, self._where(worker) if told is None else told))
        return news

    def _where(self, worker: _Worker) -> str:
        return f"process {self._workers.index(worker) + 1} ({worker.process.pid})"

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()  # all at once, so that they end together
        for worker in self._workers:
            worker.end()
        self._workers = []


def _work(spec: bytes, device: str, pipe: connection.Connection) -> None:
    """What a process does: compute the cells that come through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C comes to all; the first process decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with suppress(EOFError):  # there are no more
        while True:
            pipe.send(_outcome(spec, device, pipe.recv()))


def _leave_with_parent() -> None:
    """A process that was killed ends nobody: who waits for it does."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _outcome(spec: bytes, device: str, cell: Cell[Any]) -> Outcome:
    """That of a cell in a process of an engine, in one thread; ``spec`` is a pickled StudySpec."""
    torch.set_num_threads(1)
    try:
        study = _study(spec, device)
    except Exception as error:
        return _failure(error)
    return outcome(study, cell)


@lru_cache(1)
def _study(spec: bytes, device: str) -> AnyStudy:
    """Made once in a process, with the model and what is drawn."""
    return pickle.loads(spec).study(device)  # noqa: S301 (which our own engine wrote)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that begin in the block compute in one thread, whatever library does."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class OnRay:
    """Tasks of Ray, which finds a place for each and tries again where a process or a machine is gone.

    ``address`` is that of a cluster, None for one of this machine's cores that lives as long as the engine is open.
    ``count`` is how many cells are computed at a time, by default as many as there is room for: each takes a core, and
    a GPU where the study is on one. Machines must have this package and see the directory of cells at the same path.
    """

    def __init__(self, spec: StudySpec, count: int | None = None, address: str | None = None) -> None:
        self._spec, self._count, self._address = spec, count, address
        self._tasks: dict[Any, int] = {}  # streams of a place and an outcome, and the numbers of their cells
        self._ours = False

    def open(self) -> None:
        ray = _ray()
        self._ours = not ray.is_initialized()
        if self._ours:
            own = {"address": self._address} if self._address else {"address": "local", "num_cpus": self._count}
            quiet = {"include_dashboard": None if self._address else False, "log_to_driver": False}
            with own_signals():
                ray.init(**own, **quiet, logging_level="ERROR", configure_logging=True)
        gpus = int(self._spec.device.startswith("cuda"))
        options = {"num_cpus": 1, "num_gpus": gpus, "max_retries": ATTEMPTS - 1, "num_returns": "streaming"}
        self._remote = ray.remote(**options)(_on_ray)
        self._described = ray.put(pickle.dumps(self._spec))
        self._device = "cuda" if gpus else self._spec.device  # Ray says which: the only one that its task sees

    @property
    def free(self) -> bool:
        return self._count is None or len(self._tasks) < self._count

    def start(self, number: int, cell: Cell[Any]) -> None:
        self._tasks[self._remote.remote(self._described, self._device, str(Path.cwd()), cell)] = number

    def wait(self) -> Sequence[News]:
        ray = _ray()
        news: list[News] = []
        for task in ray.wait(list(self._tasks))[0]:
            number = self._tasks[task]
            try:
                told: Outcome | str = ray.get(next(task))
            except ray.exceptions.RayError as error:
                told = Outcome(reason=f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
            if isinstance(told, Outcome):
                del self._tasks[task]
            news.append((number, told))
        return news

    def close(self) -> None:
        for task in self._tasks:
            with suppress(Exception):  # it may be over by now
                _ray().cancel(task, force=True)
        self._tasks = {}
        if self._ours:
            _ray().shutdown()


def _ray() -> Any:
    """Ray, which is an extra; ValueError without."""
    try:
        import ray  # noqa: PLC0415
        import ray.exceptions  # noqa: PLC0415
    except ImportError as error:
        raise ValueError(f"the engine ray needs Ray: {install('cluster')}") from error
    return ray


def _on_ray(spec: bytes, device: str, directory: str, cell: Cell[Any]) -> Iterator[Outcome | str]:
    """A task: where it is, and what becomes of its cell. ``directory`` is what paths are relative to."""
    yield f"{platform.node()} ({os.getpid()})"
    try:
        os.chdir(directory)
    except OSError as error:
        yield Outcome(reason=f"{platform.node()} does not see {directory}: {error.strerror}")
        return
    yield _outcome(spec, device, cell)
