"""Prompts: an example (support) and a query of the same class, both sides of a task, ready for a canvas."""

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from taskvec.canvas import CanvasGeometry
from taskvec.data.examples import DataSet
from taskvec.tasks import Images, Source, Task


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts of one task.

    ``origin`` says what they were drawn from and how; indices which examples of that data set they were made of.
    """

    task: Task
    origin: dict[str, object]
    support_input: Images
    support_output: Images
    query_input: Images
    query_output: Images
    support_indices: Int[np.ndarray, " n"]
    query_indices: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.query_input)

    def __getitem__(self, rows: slice) -> "Prompts":
        return Prompts(self.task, self.origin, **{f.name: getattr(self, f.name)[rows] for f in fields(self)[2:]})

    def canvases(self, geometry: CanvasGeometry) -> UInt8[Tensor, "n canvas canvas 3"]:
        """Complete canvases; the query output is there as the truth, and no view shows it to a model."""
        return torch.from_numpy(
            geometry.compose(
                {
                    "support_input": self.support_input,
                    "support_output": self.support_output,
                    "query_input": self.query_input,
                    "query_output": self.query_output,
                }
            )
        )


def draw_prompts(data: DataSet, task: Task, count: int, size: int, seed: int, *, same_hole: bool = False) -> Prompts:
    """``count`` prompts with images of ``size`` pixels, their support and query two different examples of one class.

    Classes are equally frequent, and an example is a query again only when every one of its class has been.
    The same data, task, count and seed give the same prompts. Holes are at different places in support and query,
    unless ``same_hole``, which is how the official code has it. Raises ValueError where no class has two examples.
    """
    random = np.random.default_rng(seed)
    classes = data.class_of(np.arange(len(data)))
    groups = [members for members in (np.flatnonzero(classes == c) for c in np.unique(classes)) if len(members) > 1]
    if not groups:
        raise ValueError(f"no class of {data.describe()} has two examples, which a prompt needs")
    queries, supports = np.empty(count, np.int64), np.empty(count, np.int64)
    turns = random.permutation(np.arange(count) % len(groups))
    for index, members in enumerate(groups):
        rows = np.flatnonzero(turns == index)
        rounds = [random.permutation(members) for _ in range(-(-len(rows) // len(members)))]
        queries[rows] = np.concatenate([*rounds, []])[: len(rows)]
        others = random.integers(0, len(members) - 1, len(rows))
        supports[rows] = members[others + (members[others] >= queries[rows])]
    support_examples, query_examples = data.load(supports, size), data.load(queries, size)
    support, query = Source.draw(support_examples, random), Source.draw(query_examples, random)
    if same_hole:
        query = replace(query, holes=support.holes)
    return Prompts(
        task,
        {**data.describe(), "draw_seed": seed, "same_hole": same_hole},
        support_input=np.ascontiguousarray(task.input(support)),
        support_output=np.ascontiguousarray(task.output(support)),
        query_input=np.ascontiguousarray(task.input(query)),
        query_output=np.ascontiguousarray(task.output(query)),
        support_indices=support_examples.indices,
        query_indices=query_examples.indices,
    )
