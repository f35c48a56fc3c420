"""Files that were dropped as data that the rest of the package reads: the same checks, the same rules for masks."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from taskvec.data.examples import Examples
from taskvec.data.folder import Folder
from taskvec.data.layouts import FEWEST
from taskvec.files import printable
from taskvec.metrics import Metric

Pair = tuple[Path, Path]  # an input and its output


@contextmanager
def told_by_name(*places: Path) -> Iterator[None]:
    """Errors of the block name files as the visitor does, without the directories that they were put in."""
    try:
        yield
    except (ValueError, OSError) as error:
        text = str(error)
        for place in places:
            text = text.replace(f"{place}{os.sep}", "")
        raise ValueError(text) from error


def read_pairs(
    pairs: Sequence[Pair], size: int, metric: str | None = None, levels: tuple[float, float] | None = None
) -> tuple[Examples, Metric]:
    """Pairs at ``size`` x ``size`` pixels, and the metric that their outputs have, which is told if none is named.

    What is object in a mask is told from all outputs together, as in a folder (``taskvec.data.folder``). Raises
    ValueError, which names the file, for one that is no image or does not fit its partner.
    """
    with TemporaryDirectory() as directory:
        root = Path(directory)
        names: dict[str, str] = {}
        for number, pair in enumerate(pairs):
            for side, path in zip(("input", "output"), pair, strict=True):
                place = root / side / f"pair-{number}{path.suffix}"
                place.parent.mkdir(exist_ok=True)
                place.symlink_to(path.resolve())
                names[str(place)] = printable(path.name)
            names[f"pair-{number}{pair[0].suffix}"] = printable(pair[0].name)  # which may be told of without its place
        try:
            folder = Folder(root, split="all", metric=metric, levels=levels)
            examples, task = folder.load(np.arange(len(pairs)), size), folder.own_task
        except (ValueError, OSError) as error:
            text = str(error)
            for place, name in names.items():
                text = text.replace(place, name)
            raise ValueError(text.replace(f"{root}{os.sep}", "")) from error
    if task is None or examples.outputs is None:
        raise ValueError("the outputs do not tell what the task is")
    return examples, task.metric


def stage(directory: Path, inputs: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Lay out dropped files as a folder that is a task: input/ and output/.

    Raises ValueError where a side has too few files, or two of one name.
    """
    for side, paths in (("input", inputs), ("output", outputs)):
        if len(paths) < FEWEST:
            few = f"there are {len(paths)} {side}s" if paths else f"there are no {side}s yet"
            raise ValueError(f"{few}: drop {FEWEST} pairs or more, matched by their names")
        place = directory / side
        place.mkdir(parents=True)
        for path in paths:
            target = place / path.name
            if target.exists():
                raise ValueError(f"{printable(path.name)} is there twice among the {side}s: expected each name once")
            target.symlink_to(path.resolve())
