"""A small made-up outcome: two tasks, one of each metric, one with a name that must be escaped."""

import numpy as np
import pytest

from taskvec.metrics import IOU, MSE, Metric
from taskvec.models.interface import Decoding
from taskvec.report.outcomes import EXAMPLES, METHODS, Outcome, SearchedStack, TaskOutcome
from taskvec.sites import Site

SITES = (
    Site("encoder", 0, 1, "cls", None),
    Site("encoder", 2, 0, "query_input", None),
    Site("decoder", 1, 1, "query_output", None),
)
HISTORY = [
    {"step": 1, "loss": 5.0, "sites": 6.0},
    {"step": 2, "loss": 4.0, "sites": 5.0, "validation_loss": 3.5, "chosen_sites": 4},
    {"step": 3, "loss": 3.0, "sites": 4.0},
    {"step": 4, "loss": 3.1, "sites": 3.0, "validation_loss": 3.2, "chosen_sites": 3},
]


def make_task(name: str, metric: Metric, means: list[float]) -> TaskOutcome:
    """Two examples of 8 pixels, the image of column c in row r all 20 c + 10 r; 123 scores about each mean."""
    examples = {
        column: np.stack([np.full((8, 8, 3), 20 * index + 10 * row, np.uint8) for row in range(2)])
        for index, column in enumerate(EXAMPLES)
    }
    noise = np.random.default_rng(0).standard_normal((len(means), 123))
    noise = 0.06 * (noise - noise.mean(1, keepdims=True))
    scores = {method: mean + noise[row] for row, (method, mean) in enumerate(zip(METHODS, means, strict=True))}
    names = [f"query {row}" for row in range(123)]
    decodings: dict[str, Decoding] = dict.fromkeys(
        ("one_shot", "query_only", "task_vectors"), Decoding("expected", 1.5)
    )
    likeliest = {method: scores[method] - 0.01 for method in decodings}
    return TaskOutcome(
        name, metric, scores, names, names[::-1], names, SITES, 24, examples, HISTORY, 75.0, decodings, likeliest
    )


STACKS = {
    "encoder": SearchedStack(3, 2, {"cls": 1, "query_input": 4}),
    "decoder": SearchedStack(2, 2, {"cls": 1, "query_input": 4, "query_output": 4}),
}


@pytest.fixture(scope="session")
def outcome() -> Outcome:
    return Outcome(
        tasks=[
            make_task("segmentation", IOU, [0.511, 0.422, 0.122, 0.533, 0.144, 0.255, 0.177, 0.966]),
            make_task("<b>&_blur", MSE, [0.311, 0.512, 0.922, 0.333, 0.944, 0.755, 0.877, 0.066]),
        ],
        pairs=123,
        queries=123,
        stacks=STACKS,
        model={"fingerprint": "c0ffee", "parameters": 1234567},
        data={"found on": {"data": "scenes"}, "judged on": {"data": "folder", "root": "a<b>"}},
        settings={"objective": "token", "stacks": ("encoder", "decoder"), "search": {"steps": 4, "bfloat16": False}},
        seconds=200.4,
        machine={"processor": "abacus", "cores": 2},
        versions={"python": "3.11.0"},
    )
