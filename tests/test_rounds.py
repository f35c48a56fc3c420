import signal
from pathlib import Path

import pytest

from forked import outcomes
from taskvec import rounds
from taskvec.processes import Processes
from taskvec.rounds import in_rounds


def test_blocks_come_in_order_one_for_each_process() -> None:
    seen: list[range] = []
    in_rounds(range(1, 6), seen.append)
    assert seen == [range(start, start + 1) for start in range(1, 6)]

    def shared(_: Processes) -> list[range]:
        own: list[range] = []
        in_rounds(range(5), own.append)
        return own

    assert outcomes(2, shared) == [[range(2), range(2, 4), range(4, 5)]] * 2


def test_states_are_kept_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before ten seconds are over, and less often where it takes long."""
    now = [0.0]
    monkeypatch.setattr(rounds.time, "monotonic", lambda: now[0])
    kept: list[float] = []

    def run(some: range) -> None:
        now[0] += 6

    def keep(done: int) -> None:
        kept.append(now[0])
        now[0] += 0.5  # which fifty times is what must lie between two of them

    in_rounds(range(15), run, keep)
    assert kept == [12.0, 42.5, 73.0]


def test_a_signal_ends_the_work_after_its_round_with_a_state(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def run(some: range) -> None:
        if some.start == 1:
            signal.raise_signal(signal.SIGINT)
        done.append(some.start)

    kept: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        in_rounds(range(4), run, kept.append)
    assert (done, kept) == ([0, 1], [2])


def test_a_signal_to_one_process_ends_all(tmp_path: Path) -> None:
    def work(processes: Processes) -> tuple[list[int], list[int]]:
        done: list[int] = []
        kept: list[int] = []

        def run(some: range) -> None:
            if not processes.first and some.start == 2:
                signal.raise_signal(signal.SIGTERM)
            done.append(some.start)

        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            in_rounds(range(9), run, kept.append)
        except KeyboardInterrupt:
            return done, kept
        return [], []

    assert outcomes(2, work) == [([0, 2], [4]), ([0, 2], [])]
