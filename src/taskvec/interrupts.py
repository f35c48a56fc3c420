"""Ctrl-C and SIGTERM, taken where work may stop: between steps, never in the middle of one."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_between_steps() -> Iterator[Callable[[], int | None]]:
    """In the block a Ctrl-C or SIGTERM does nothing but make the function that this gives return the signal.

    Outside the main thread, which alone may listen to signals, that function returns None.
    """
    received: list[int] = []

    def listen(number: int, frame: FrameType | None) -> None:
        received.append(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, listen)
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def pass_on(received: int | None, *, stopped: bool) -> None:
    """Let a signal do, after the block, what whoever listens outside does at it, which mostly is a KeyboardInterrupt.

    ``stopped`` says that the work did stop, as where another process received the signal: KeyboardInterrupt it is.
    """
    if received is not None:
        signal.raise_signal(received)
    if stopped:
        raise KeyboardInterrupt
