"""What a report is made of: everything measured about a task, with pictures of some of its queries."""

from dataclasses import dataclass
from typing import Any

from taskvec.evaluate import Interval
from taskvec.sites import Site
from taskvec.tasks import Images, Metric

# Columns of every table, in this order, with what the reader is told of them.
METHODS = {
    "one_shot": "the model with one example in its prompt",
    "query_only": "the model with the query alone",
    "task_vectors": "the query alone, task vectors patched in",
    "random": "as many random sites patched, mean of several draws",
    "copy_input": "the query input returned as the answer",
    "ceiling": "the tokenizer's reconstruction of the truth",
}

EXAMPLES = ("support_input", "support_output", "query_input", "one_shot", "query_only", "task_vectors", "truth")


@dataclass(frozen=True)
class TaskOutcome:
    """One task: its scores by method (keys of METHODS), pictures, search and sites.

    ``examples`` has uint8 [k, size, size, 3] under each name of EXAMPLES. ``history`` are the search's records (step,
    loss, sites, at checkpoints held_out_loss and chosen_sites). ``seconds`` is the time of statistics and search.
    ``pairs`` has names of support and query and the score of each method that was run once, for every pair.
    """

    task: str
    metric: Metric
    scores: dict[str, Interval]
    sites: tuple[Site, ...]
    of: int
    examples: dict[str, Images]
    history: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """A whole run: its tasks, the numbers of pairs and of different queries behind scores, what it was run with.

    ``data`` describes the data that the task vectors were found on and those that they are judged on.
    """

    tasks: list[TaskOutcome]
    pairs: int
    queries: int
    layers: dict[str, int]
    heads: dict[str, int]
    model: dict[str, Any]
    data: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    seconds: float
    machine: dict[str, Any]
    versions: dict[str, str]

    @property
    def counted(self) -> str:
        """What scores are means over: 200 queries, or 132 pairs of 12 queries."""
        return (
            f"{self.queries} queries" if self.pairs == self.queries else f"{self.pairs} pairs of {self.queries} queries"
        )
