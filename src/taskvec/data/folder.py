"""A user's own images as a directory, or task: ``input/`` with images and ``output/`` with what they should become."""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from taskvec.data.examples import Examples, digests, read_each
from taskvec.digests import of_json
from taskvec.files import printable
from taskvec.images import image_files, read_rgb, resize
from taskvec.tasks import METRICS, Metric, Task, image, own_output

SPLITS = ("train", "test", "all")
TEST_SHARE = 0.2
FEWEST = 10  # of which two are kept aside and four are behind the means


@dataclass(frozen=True)
class Folder:
    """The pairs ``input/NAME.*``, ``output/NAME.*`` of a directory, or its images alone where there is no ``output/``.

    A fifth of the pairs, chosen by their names alone, is ``split`` ``test``, the rest ``train``; ``all`` is every pair.
    Files may be of any format that pillow reads and of any size. The directory is a task of its own, called as it is,
    with ``metric`` ``iou`` where the outputs are masks, which is told from their having two grey levels in all, else
    ``mse``. The brighter level is the object.

    Raises ValueError for a split or metric that there is not, a directory that is missing, names without a partner or
    twice, files that are no images, and fewer than ten pairs, unless all are asked for.
    """

    root: Path
    split: str = "train"
    metric: Metric | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if self.split not in SPLITS:
            raise ValueError(f"folders have no split {self.split!r}: expected one of {', '.join(SPLITS)}")
        if self.metric is not None and self.metric not in METRICS:
            raise ValueError(f"there is no metric {self.metric!r}: expected one of {', '.join(METRICS)}")
        if self.metric is not None and self._outputs is None:
            raise ValueError(f"{self.root} has no output/ that the metric {self.metric} could compare with")
        if len(self._inputs) < FEWEST and self.split != "all":
            raise ValueError(
                f"{self.root} has {len(self._inputs)} images, expected {FEWEST} or more: "
                "some are kept aside to judge by (`taskvec evaluate --data folder --part all` scores on every one)"
            )

    def __len__(self) -> int:
        return len(self._members)

    @property
    def own_task(self) -> Task | None:
        return self._task

    @cached_property
    def _task(self) -> Task | None:
        if self._outputs is None:
            return None
        return Task(printable(self.root.resolve().name), image, own_output, self._choose_metric())

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """All are of one class."""
        return np.zeros(len(indices), np.int64)

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [printable(self._inputs[self._members[index]].name) for index in indices]

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [self._digests[self._members[index]] for index in indices]

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self.images_of(indices)

    def describe(self) -> dict[str, object]:
        return {
            "data": "folder",
            "split": self.split,
            "examples": len(self),
            "metric": self.metric,
            "digest": self._digest,
        }

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        """Examples resized to ``size`` x ``size`` pixels; ValueError for a file that cannot be read."""
        members = self._members[indices]
        images = read_each(lambda index: resize(np.asarray(read_rgb(self._inputs[index])), size), members)
        outputs = None
        if self._outputs is not None:
            paths = self._outputs
            outputs = np.stack(read_each(lambda index: resize(self._read_output(paths[index]), size), members))
        return Examples(np.stack(images), None, self.class_of(indices), np.asarray(indices), outputs)

    @cached_property
    def _inputs(self) -> list[Path]:
        if not self.root.is_dir():
            raise ValueError(f"{self.root} is not a directory, expected one of images, or with input/ and output/")
        if (self.root / "input").exists() or (self.root / "output").exists():
            return image_files(self.root / "input")
        try:
            return image_files(self.root)
        except ValueError as error:
            raise ValueError(f"{error}, or input/ and output/ in {self.root}") from error

    @cached_property
    def _outputs(self) -> list[Path] | None:
        """The partner of every input."""
        if not (self.root / "output").exists():
            return None
        inputs, outputs = _by_name(self._inputs), _by_name(image_files(self.root / "output"))
        alone = sorted(inputs.keys() ^ outputs.keys())
        if alone:
            path = {**inputs, **outputs}[alone[0]]
            raise ValueError(
                f"{path} has no partner of the same name in the other directory ({len(alone)} such files in all): "
                "expected input/NAME.* and output/NAME.*"
            )
        return [outputs[path.stem] for path in self._inputs]

    @cached_property
    def _digests(self) -> list[str]:
        return digests(self._inputs)

    @cached_property
    def _digest(self) -> str:
        """Of the content of these examples, in whatever directory and by whatever names."""
        outputs = self._outputs and digests([self._outputs[index] for index in self._members])
        inputs = [self._digests[index] for index in self._members]
        return of_json(sorted(zip(inputs, outputs or inputs, strict=True)))

    @cached_property
    def _members(self) -> Int[np.ndarray, " n"]:
        digests = [hashlib.sha256(os.fsencode(path.stem)).hexdigest() for path in self._inputs]
        order = np.argsort(digests)
        aside = round(TEST_SHARE * len(order))
        return np.sort({"test": order[:aside], "train": order[aside:], "all": order}[self.split])

    @cached_property
    def _levels(self) -> UInt8[np.ndarray, " levels"]:
        """The grey levels of the outputs, all of them if they are at most two, otherwise of some outputs."""
        levels = np.array([], np.uint8)
        for path in self._outputs or []:
            levels = np.union1d(levels, np.unique(np.asarray(read_rgb(path).convert("L"))))
            if len(levels) > 2 and levels[-1] > 127:
                break
        return levels

    def _choose_metric(self) -> Metric:
        """The metric that was asked for, or the one that the outputs' levels tell."""
        levels = self._levels
        if len(levels) == 1:
            raise ValueError(
                f"all of {self.root / 'output'} is of one grey level, {levels[0]} (transparency is laid on white)"
            )
        if self.metric == "iou" and len(levels) > 2 and levels[-1] <= 127:
            raise ValueError(
                f"{self.root / 'output'} has grey levels from {levels[0]} to {levels[-1]}: what is object and what is "
                "not cannot be told, expected two levels, or brighter objects"
            )
        return self._likely_metric

    @property
    def _likely_metric(self) -> Metric:
        """As ``_choose_metric``, also where the outputs make no task of their own."""
        return self.metric or ("iou" if len(self._levels) == 2 else "mse")

    def _read_output(self, path: Path) -> UInt8[np.ndarray, "height width 3"]:
        output = read_rgb(path)
        if self._likely_metric == "mse":
            return np.asarray(output)
        middle = self._levels.mean() if len(self._levels) == 2 else 127.5
        inside = np.asarray(output.convert("L")) > middle
        return np.repeat(np.where(inside, np.uint8(255), np.uint8(0))[..., None], 3, -1)


def _by_name(paths: list[Path]) -> dict[str, Path]:
    """Paths by name without ending; ValueError where two share one."""
    named: dict[str, Path] = {}
    for path in paths:
        if path.stem in named:
            raise ValueError(f"{named[path.stem]} and {path} share a name, which pairs them with the same partner")
        named[path.stem] = path
    return named
