"""Long work on blocks of prompts: shared by processes, interrupted between blocks, kept now and then to go on from."""

import time
from collections.abc import Callable

from taskvec.interrupts import interrupts_between_steps, pass_on
from taskvec.processes import current

KEEP_EVERY = 10.0  # seconds between two states that are kept, at least
KEEP_SHARE = 0.02  # of the time, at most, that keeping them may take


def in_rounds(
    blocks: range,
    run: Callable[[range], None],
    keep: Callable[[int], None] | None = None,
) -> None:
    """``run`` blocks, in rounds of one for each of the ``current`` processes, all of which call it with each round.

    ``keep(done)`` is called in the first process, every ten seconds or less often where it takes long, and before the
    KeyboardInterrupt that ends the work after a round in which some process got Ctrl-C or SIGTERM; ``done`` is the
    number of the next block.
    """
    processes, stop, kept, took = current(), False, time.monotonic(), 0.0
    with interrupts_between_steps() as interrupted:
        for start in range(blocks.start, blocks.stop, processes.count):
            some = range(start, min(start + processes.count, blocks.stop))
            run(some)
            stop = processes.any(interrupted() is not None)
            now = time.monotonic()
            if keep is not None and processes.first and (stop or now - kept >= max(KEEP_EVERY, took / KEEP_SHARE)):
                keep(some.stop)
                kept = time.monotonic()
                took = kept - now
            if stop:
                break
    pass_on(interrupted(), stopped=stop)
