"""What the page offers to all who visit: models, loaded when they are first chosen, and directories of vectors."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import torch

from taskvec.analysis import head_taskness, taskness
from taskvec.analysis.scores import HeadScores, TokenScores
from taskvec.data import load_data
from taskvec.files import printable
from taskvec.library import Library
from taskvec.models import load_model
from taskvec.models.interface import PromptedModel
from taskvec.prompts import draw_prompts
from taskvec.statistics import Statistics
from taskvec.tasks import TASKS

if TYPE_CHECKING:
    from taskvec.analysis.clustering import HeadOutputs

SAMPLES = 16  # drawn prompts of each task, whose head outputs are a picture
MADE = "(made here)"  # behind the names of what a visitor made


@dataclass(frozen=True)
class Taskness:
    """Scores of a model's head outputs, of every head and of every place."""

    heads: HeadScores
    places: TokenScores


@dataclass(frozen=True)
class Offer:
    """The models by name, the places with directories of task vectors, and files of statistics.

    Any number of threads may use it. Nothing but what it was made with can be asked for: a visitor names no paths.
    """

    models: Sequence[str]
    places: Sequence[Path] = ()
    statistics: Sequence[Path] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _loaded: dict[str, PromptedModel] = field(default_factory=dict, init=False, repr=False)
    _known: dict[str, Taskness | None] = field(default_factory=dict, init=False, repr=False)
    _samples: dict[str, "HeadOutputs"] = field(default_factory=dict, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def model(self, name: str) -> PromptedModel:
        """The model of this name, ready; ValueError for a name that is not offered, and as ``load_model`` has it."""
        if name not in self.models:
            raise ValueError(f"the model {name} is not offered here: expected one of {', '.join(self.models)}")
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = load_model(name, self.device)
            return self._loaded[name]

    def vectors(self, model: PromptedModel, made: Path | None = None) -> dict[str, Path]:
        """The directories with task vectors of a model in the places, and in that of what a visitor ``made``, by what
        they are called in the page.

        What is damaged is left out: `taskvec list` tells what is wrong with it.
        """
        found: dict[str, Path] = {}
        for place in self.places:
            for name, directory in _of_model(model, place):
                found[printable(place / name) if name in found else name] = directory
        if made is not None:
            found |= {f"{name} {MADE}": directory for name, directory in _of_model(model, made)}
        return found

    def taskness(self, model: PromptedModel) -> Taskness | None:
        """Of the first file of statistics of this model that has several tasks; None where there is none."""
        key = model.fingerprint()
        with self._lock:
            if key not in self._known:
                self._known[key] = self._taskness(key)
            return self._known[key]

    def samples(self, model: PromptedModel) -> "HeadOutputs":
        """Head outputs of one-shot runs on drawn scenes of every task, made when they are first asked for.

        Raises ValueError for a model of texts.
        """
        from taskvec.analysis.clustering import head_outputs  # noqa: PLC0415 (where scikit-learn comes from)

        if model.takes_texts:
            raise ValueError("scenes are drawn for models of images alone")
        key = model.fingerprint()
        with self._lock:
            if key not in self._samples:
                data, size = load_data("scenes", "test"), model.image_size
                prompts = [draw_prompts(data, task, SAMPLES, size, seed=0) for task in TASKS.values()]
                self._samples[key] = head_outputs(model, prompts, SAMPLES)
            return self._samples[key]

    def _taskness(self, fingerprint: str) -> Taskness | None:
        for path in self.statistics:
            statistics = Statistics.load(path)
            if statistics.model_fingerprint == fingerprint and len(statistics.tasks) > 1:
                places = taskness(statistics)
                return Taskness(head_taskness(places), places)
        return None


def _of_model(model: PromptedModel, place: Path) -> Iterator[tuple[str, Path]]:
    known = {model.fingerprint(), model.former_fingerprint()}
    for name, entry in Library(place).items():
        with suppress(ValueError):
            if entry.config.model_fingerprint in known:
                yield printable(place.resolve().name if name == "." else name), entry.directory
