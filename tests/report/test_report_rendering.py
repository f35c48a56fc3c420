import pytest

from taskvec.report.rendering import duration, facts


def test_facts_are_flat_and_readable():
    values = {"search": {"learning_rate": 0.1, "best": {"of": 3}}, "stacks": ["a", "b"], "fast": True, "count": 10000}
    values["metric"] = None  # nobody asked for one
    assert facts(values) == {
        "search · learning rate": "0.1",
        "search · best · of": "3",
        "stacks": "a, b",
        "fast": "yes",
        "count": "10,000",
    }


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, words: str):
    assert duration(seconds) == words
