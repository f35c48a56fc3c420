"""Ctrl-C and SIGTERM, taken where work may stop: between steps or evaluations, never in the middle of one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import FrameType

_inside: ContextVar[bool] = ContextVar("inside", default=False)


@contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], int | None]]:
    """In the block a Ctrl-C or SIGTERM does nothing but make the function that this gives return the signal.

    Outside the main thread, which alone may listen to signals, that function returns None; inside another such block,
    too, whose step the work is a part of.
    """
    if _inside.get():
        yield lambda: None
        return
    token = _inside.set(True)
    try:
        with _listening() as received:
            yield lambda: received[0] if received else None
    finally:
        _inside.reset(token)


def pass_on(received: int | None, *, stopped: bool) -> None:
    """Let a signal do, after the block, what whoever listens outside does at it, which mostly is a KeyboardInterrupt.

    ``stopped`` says that the work did stop, as where another process received the signal: KeyboardInterrupt it is.
    """
    if received is not None:
        signal.raise_signal(received)
    if stopped:
        raise KeyboardInterrupt


@dataclass
class _Stoppable:
    """Work that stops where it says so, once: what it still has to do after that is not stopped again."""

    received: list[int] = field(default_factory=list)
    stopped: bool = False


_stoppable: ContextVar[_Stoppable | None] = ContextVar("stoppable", default=None)


@contextmanager
def stoppable() -> Iterator[None]:
    """In the block a Ctrl-C or SIGTERM does nothing until the work comes to where it stops if it ``must_stop()``: it
    calls ``stop()`` there, which raises KeyboardInterrupt. What comes later does nothing.

    At the end whoever listens outside hears of it, as a signal that comes then. Where the work was stopped and ended
    with what it had, the KeyboardInterrupt that this mostly is goes no further.
    """
    work = _Stoppable()
    token = _stoppable.set(work)
    try:
        with _listening() as work.received:
            yield
    finally:
        _stoppable.reset(token)
        if work.received:
            with suppress(KeyboardInterrupt) if work.stopped else nullcontext():
                signal.raise_signal(work.received[0])


def must_stop() -> bool:
    """Whether a signal has come since the block began that was not taken yet."""
    work = _stoppable.get()
    return work is not None and bool(work.received) and not work.stopped


def stop() -> None:
    """KeyboardInterrupt, where work may stop and this process, or another that does the same, was told to."""
    if (work := _stoppable.get()) is not None:
        work.stopped = True
    raise KeyboardInterrupt


@contextmanager
def own_signals() -> Iterator[None]:
    """What this process does at signals stays as it is, whatever a library does in the block."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _listening() -> Iterator[list[int]]:
    """The signals that come in the block, where they do nothing else."""
    received: list[int] = []

    def listen(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, listen)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
