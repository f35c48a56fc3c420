"""A study's cells as a data frame, for pandas."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taskvec.experiments.cells import read_cell
from taskvec.experiments.journal import CELLS
from taskvec.extras import install

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("cell", "what", "method", "task", "seed", "fold", "draw", "pairs", "decoding", "granularity")
VALUES = ("mean", "scores", "sites", "loss", "evaluations", "temperature", "level", "seconds", "digest", "key")


def read(directory: str | Path) -> "DataFrame":
    """A row for every cell of the study in ``directory`` (the ``--out`` of ``taskvec experiment``), in the order of
    their names. What a cell does not have is missing.

    ``cell`` is its kind (scores, search, decoding, statistics, ...), ``what`` its title. Of scores, ``scores`` are
    those of every prompt, float64 [pairs] in the metric's unit, and ``mean`` is their mean: ``frame.explode("scores")``
    has a row for every prompt. Of searches, ``sites`` are the numbers of those that were found. ``decoding`` is the
    kind that scores are by; ``temperature`` and ``level`` are those that were chosen. ``key`` is the whole
    configuration.

    Raises ValueError where pandas is missing, there is no study, or a cell is damaged.
    """
    try:
        import pandas  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ValueError(f"a data frame needs pandas: {install('frames')}") from error
    cells = Path(directory) / CELLS
    if not cells.is_dir():
        raise ValueError(f"{directory} holds no study: expected the --out of `taskvec experiment`")
    rows = [{**_row(read_cell(path)), "digest": path.stem} for path in sorted(cells.glob("*.json"))]
    return pandas.DataFrame(rows, columns=[*COLUMNS, *VALUES])


def _row(cell: dict[str, Any]) -> dict[str, Any]:
    key, value = cell["key"], cell["value"]
    settings, choices = key.get("settings") or {}, key.get("decoding") or key.get("choices") or {}
    row = {
        "cell": key.get("cell"),
        "what": cell["what"],
        "method": key.get("method"),
        "task": key.get("task") or " ".join(key.get("tasks", ())) or None,
        "seed": key.get("seed"),
        "fold": key.get("test", {}).get("fold"),
        "draw": key.get("draw"),
        "pairs": key.get("pairs"),
        "decoding": choices.get("kind"),
        "granularity": settings.get("granularity"),
        "seconds": cell["seconds"],
        "key": key,
    }
    if isinstance(value, dict):
        row |= {name: value[name] for name in ("sites", "loss", "evaluations", "temperature", "level") if name in value}
        value = value.get("scores")
    if isinstance(value, list) and all(isinstance(each, float | int) for each in value) and value:
        row |= {"scores": np.array(value, np.float64), "mean": float(np.mean(value))}
    return row
