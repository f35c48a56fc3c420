import os
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taskvec import environment, threads

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nobody_has_chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And what the test sets is undone."""
    before = torch.get_num_threads()
    for name in threads.CHOOSERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_usual", before)
    monkeypatch.setattr(threads, "_chooser", "PyTorch")
    monkeypatch.setattr(threads, "cores", lambda: 4)
    yield
    torch.set_num_threads(before)


def timer(seconds: Mapping[int, float]) -> Callable[[int], float]:
    return lambda number: seconds[number]


def test_the_fastest_number_of_threads_is_taken_and_said() -> None:
    threads.settle(CPU, seconds_of=timer({1: 1.0, 2: 0.6, 4: 0.8}))
    machine = environment.machine()
    assert (machine["threads"], machine["threads_chosen_by"]) == (2, "measurement")


def test_a_tie_goes_to_fewer_threads() -> None:
    assert threads.fastest(4, timer({1: 1.0, 2: 0.96, 4: 0.97})) == 1


def test_one_slow_round_does_not_decide() -> None:
    seen = []

    def seconds(number: int) -> float:
        seen.append(number)
        return 9.0 if len(seen) == 2 else {1: 1.0, 2: 0.5}[number]

    assert threads.fastest(2, seconds) == 2
    assert seen == [1, 2] * threads.ROUNDS  # in turns


@given(st.integers(1, 64), st.data())
def test_the_choice_is_no_slower_than_any_other_but_for_ties(most: int, data: st.DataObject) -> None:
    seconds = {number: data.draw(st.floats(0.01, 10)) for number in range(1, most + 1)}
    tried = set()

    def seconds_of(number: int) -> float:
        tried.add(number)
        return seconds[number]

    chosen = threads.fastest(most, seconds_of)
    assert chosen in tried or most == 1
    assert all(seconds[chosen] * threads.FASTER <= seconds[other] for other in tried)


def test_one_core_needs_no_measurement() -> None:
    assert threads.fastest(1, lambda _: pytest.fail("measured")) == 1


def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    never = timer({})
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "3")
    threads.settle(CPU, seconds_of=never)
    assert threads.chosen_by() == "environment"
    monkeypatch.delitem(os.environ, "OMP_NUM_THREADS")
    torch.set_num_threads(threads._usual + 1)
    threads.settle(CPU, seconds_of=never)
    assert (threads.chosen_by(), torch.get_num_threads()) == ("program", threads._usual + 1)


def test_an_option_goes_before_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "3")
    threads.settle(CPU, 2, timer({}))
    assert (threads.chosen_by(), torch.get_num_threads()) == ("option", 2)
    with pytest.raises(ValueError, match="there must be at least 1 thread, not 0"):
        threads.settle(CPU, 0)


def test_a_gpu_leaves_the_processors_threads_alone() -> None:
    threads.settle(torch.device("cuda"), seconds_of=timer({}))
    assert threads.chosen_by() == "PyTorch"


def test_the_measurement_itself_is_short() -> None:
    """It leaves the number that it tried, which ``settle`` replaces."""
    assert 0 < threads._seconds_of(1) < 5
    assert torch.get_num_threads() == 1
