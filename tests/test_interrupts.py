import signal

import pytest

from taskvec.interrupts import interrupts_between_steps, own_signals, pass_on
from taskvec.rounds import in_rounds


def test_a_signal_waits_for_the_end_of_a_step() -> None:
    with interrupts_between_steps() as interrupted:
        assert interrupted() is None
        signal.raise_signal(signal.SIGINT)
        assert interrupted() == signal.SIGINT
    with pytest.raises(KeyboardInterrupt):
        pass_on(interrupted(), stopped=True)


def test_work_in_blocks_that_is_a_part_of_a_step_is_done_to_its_end() -> None:
    """As a training's validation: the step that it ends, and its checkpoint, are whole."""
    done: list[int] = []

    def run(some: range) -> None:
        signal.raise_signal(signal.SIGINT)
        done.append(some.start)

    with interrupts_between_steps() as interrupted:
        in_rounds(range(3), run)
        assert (done, interrupted()) == ([0, 1, 2], signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):  # as before, once that is over
        in_rounds(range(3), run)
    assert done == [0, 1, 2, 0]


def test_what_a_library_does_to_signals_is_undone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with own_signals():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) == before
