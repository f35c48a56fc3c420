from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskvec.metrics import TOP1
from taskvec.prompts import Prompts
from taskvec.shuffled_labels import with_shuffled_labels
from taskvec.tasks import Task, image, own_output


def _prompts(outputs: list[list[str]]) -> Prompts:
    labels = np.array(outputs, np.str_)
    rows, shots = labels.shape
    inputs = np.array([[f"i{row}.{shot}" for shot in range(shots)] for row in range(rows)], np.str_)
    few: dict[str, Any] = {
        name: [""] * rows for name in ("support_names", "query_names", "support_images", "query_images", "query_groups")
    }
    task = Task("words", image, own_output, TOP1)
    return Prompts(
        task, {"data": "pairs"}, inputs, labels, inputs[:, 0], labels[:, 0], np.arange(rows), np.arange(rows), **few
    )


_SHOTS = st.integers(2, 12)
_ROWS = _SHOTS.flatmap(
    lambda shots: st.lists(
        st.lists(st.sampled_from([*"abcdef", "abc"]), min_size=shots, max_size=shots), min_size=1, max_size=5
    )
)


@given(_ROWS, st.integers(0, 99))
def test_no_example_keeps_its_output_where_that_can_be(outputs: list[list[str]], seed: int) -> None:
    prompts = _prompts(outputs)
    shuffled = with_shuffled_labels(prompts, seed)
    for before, after in zip(prompts.support_output, shuffled.support_output, strict=True):
        assert Counter(before.tolist()) == Counter(after.tolist())
        most = max(Counter(before.tolist()).values())
        assert (before == after).sum() == max(0, 2 * most - len(before))
    assert (shuffled.support_input == prompts.support_input).all()
    assert (shuffled.query_output == prompts.query_output).all()
    assert shuffled.origin == {"data": "pairs", "shuffled_labels": seed}
    again = with_shuffled_labels(prompts, seed)
    assert (again.support_output == shuffled.support_output).all()


def test_every_other_output_is_as_likely() -> None:
    shots, rows = 5, 4000
    outputs = [[str(shot) for shot in range(shots)]] * rows
    shuffled = with_shuffled_labels(_prompts(outputs), 0).support_output
    for shot in range(shots):
        counts = Counter(shuffled[:, shot].tolist())
        assert str(shot) not in counts
        assert len(counts) == shots - 1
        assert all(abs(count / rows - 1 / (shots - 1)) < 0.03 for count in counts.values())


def test_a_single_example_has_no_other_label() -> None:
    prompts = _prompts([["a"], ["b"]])
    for few in (prompts, replace(prompts, support_output=prompts.support_output[:0, 0])):
        with pytest.raises(
            ValueError, match=r"labels are shuffled among the examples of a prompt, which has [01]: exp"
        ):
            with_shuffled_labels(few, 0)
