"""Records of searches, as small as they can be."""

from dataclasses import replace
from typing import Any

from taskvec.provenance import Drawn, Search


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
