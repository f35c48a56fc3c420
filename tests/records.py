"""Records of searches, and task vectors with one, as small as they can be."""

from dataclasses import replace
from typing import Any

import torch

from taskvec.heads import Means
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.provenance import Drawn, Search
from taskvec.vectors import TaskVectors


def drawn(*images: str, **changes: Any) -> Drawn:
    kind = {"data": "scenes", "split": "train", "fold": None, "seed": 0, "count": 600}
    return replace(Drawn(kind, len(images), 0, "balanced", False, "image to mask", 0, tuple(sorted(images))), **changes)


def search(*images: str, **changes: Any) -> Search:
    """Of these images, or one."""
    record = Search(
        method="relaxed",
        settings={"items": 1, "search": {"steps": 2}},
        tasks=("task",),
        search=(drawn(*images or ("a",)),),
        validation=(),
        statistics=drawn("b"),
        step=2,
        loss=0.5,
        evaluations=6,
        interrupted=False,
        history=({"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}),
        versions={"taskvec": "0.1.0"},
    )
    return replace(record, **changes)


def vectors_at(model: MaeVqgan, means: Means, task: int = 0, chosen: tuple[int, ...] = (0, 5, 9)) -> TaskVectors:
    sites = model.sites("quadrant")
    one = {stack: mean[task] for stack, mean in means.items()}
    name = f"task {task}"
    return TaskVectors.select(model, sites, sites.mask(chosen), one, task=name, metric="mse", found=search())


def same(first: TaskVectors, second: TaskVectors) -> bool:
    """To the last bit, with all that is recorded."""
    return first.config == second.config and all(
        torch.equal(mean.view(torch.int32), second.means[stack].view(torch.int32))
        for stack, mean in first.means.items()
    )
