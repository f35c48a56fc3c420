"""Ctrl-C and SIGTERM, which clusters and containers send: one line and a status of its own, whenever they come."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

# exit statuses as shells know them: 128 and the signal's number
INTERRUPTED, TERMINATED, BROKEN_PIPE = 130, 143, 141

_STATUSES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
WORDS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}


class Signals:
    """What to do when a signal comes.

    While ``at_once``, the process ends there and then: there is nothing to keep, and imports may turn an exception
    into another. Otherwise the signal is a KeyboardInterrupt, at which a search, say, keeps its best sites.
    """

    def __init__(self) -> None:
        self.at_once = True
        self.status: int | None = None  # to end with, once a signal has come
        self.number = 0  # of the signal that came last

    def __call__(self, number: int, frame: FrameType | None) -> NoReturn:
        self.number = number
        self.status = _STATUSES[signal.Signals(number)]
        if self.at_once:
            os.write(2, f"taskvec: {WORDS[self.status]}\n".encode())
            os._exit(self.status)
        raise KeyboardInterrupt


@contextmanager
def listening() -> Iterator[Signals]:
    """Listen to both signals inside the block; only the main thread may, and a signal that is ignored stays so."""
    signals = Signals()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _STATUSES:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, signals)
    hook = sys.unraisablehook

    def let_go(exception: Any) -> None:
        """Some libraries' compiled code goes on after an exception: was it the interrupt, it comes again."""
        if exception.exc_type is KeyboardInterrupt and signals.number:
            threading.Timer(0.05, os.kill, [os.getpid(), signals.number]).start()  # here it would be let go of, too
        else:
            hook(exception)

    sys.unraisablehook = let_go
    try:
        yield signals
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
