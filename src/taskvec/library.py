"""Many task vectors in one place: which there are, what they score on the same pairs, and which of them does best."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from taskvec import evaluation
from taskvec.artefacts import VectorsConfig, base_model_of, read_config
from taskvec.catalogue import entries
from taskvec.data.examples import DataSet, task_for
from taskvec.intervals import CONFIDENCE, FEWEST, Interval, gain
from taskvec.metrics import Metric
from taskvec.models import load_model
from taskvec.models.interface import PromptedModel
from taskvec.progress import counting
from taskvec.prompts import plan_prompts
from taskvec.tasks import Task
from taskvec.vectors import TaskVectors

PAIRS = 100  # that task vectors are scored on at most, if no number is given


@dataclass(frozen=True)
class Entry:
    """Task vectors in a library, by name; nothing of them is read until it is asked for."""

    name: str
    directory: Path

    @cached_property
    def config(self) -> VectorsConfig:
        """Their task, sites, model and record, without the model; ValueError where they are damaged."""
        return read_config(self.directory)

    def load(self, model: PromptedModel | None = None, device: str | torch.device = "cpu") -> TaskVectors:
        """The task vectors, with their model if none is given; ValueError as ``TaskVectors.load`` has it, and where
        their model has no name or would have to be downloaded."""
        return TaskVectors.load(self.directory, model or load_model(base_model_of(self.directory), device))


class Library(Mapping[str, Entry]):
    """The task vectors in a directory and within it, by the names of their directories, such as ``xrays/lungs``.

    They are those that ``taskvec list`` lists, looked up once. Raises ValueError where there is no directory.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise ValueError(f"there is no directory {path}: expected one that holds task vectors")
        places = [Path(listed.path) for listed in entries(self.path) if listed.kind == "task vectors"]
        found = {place.relative_to(self.path).as_posix(): place for place in places}
        self._entries = {name: Entry(name, found[name]) for name in sorted(found)}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Library({str(self.path)!r}: {', '.join(self) or 'no task vectors'})"

    def score(
        self,
        data: DataSet,
        task: Task | str | None = None,
        *,
        pairs: int = PAIRS,
        seed: int = 0,
        model: PromptedModel | None = None,
        device: str | torch.device = "cpu",
        progress: bool = False,
    ) -> "LibraryScores":
        """What each of them scores on the same pairs, ``pairs`` of a task or as many as there are, and the query alone.

        Every model is loaded once; those of vectors that belong to ``model`` are it. The query alone answers with the
        decoding that suits it best on these very pairs, which the vectors do not get. What cannot be scored, as it is
        damaged, of texts where the pairs are images, or of a model that is not here, is in ``skipped`` with the reason.
        """
        chosen = task_for(data, task)
        skipped: dict[str, str] = {}
        groups: list[str] = []
        scores: dict[str, np.ndarray] = {}
        alone: dict[str, np.ndarray] = {}
        seen: dict[str, int] = {}
        for alike in self._by_model(skipped):
            loaded = _loaded(alike, model, device, data, skipped)
            if not loaded:
                continue
            network = next(iter(loaded.values())).model
            texts = network.takes_texts
            prompts = plan_prompts(data, chosen, min(pairs, len(data)), network.image_size, seed, query_only=not texts)
            ways = [evaluation.Way.of(evaluation.query_alone(network, prompts), "")]
            for name, each in loaded.items():
                method = evaluation.run(each.answering, "query_only", each.patch)
                ways.append(evaluation.Way.of(method, name))
            with counting(f"{len(loaded)} of {len(self)}", len(prompts), shown=progress) as advance:
                found = evaluation.evaluate_each(network, ways, prompts, advance)
            groups = prompts.query_groups  # the same for every model
            for name, each in loaded.items():
                scores[name], alone[name] = found[name].scores, found[""].scores
                seen[name] = evaluation.seen(each.config, prompts)
        if not scores:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
            raise ValueError(f"none of the task vectors in {self.path} can be scored: {reasons or 'there are none'}")
        return LibraryScores(chosen.name, chosen.metric, groups, scores, alone, seen, skipped)

    def best(self, data: DataSet, task: Task | str | None = None, **options: object) -> "Best":
        """Which of them does best on pairs; ``options`` are those of ``score``."""
        return self.score(data, task, **options).best()  # pyright: ignore[reportArgumentType]

    def _by_model(self, skipped: dict[str, str]) -> list[list[Entry]]:
        """Entries that belong to one model together; those that cannot be read go to ``skipped``."""
        found: dict[str, list[Entry]] = {}
        for entry in self.values():
            try:
                found.setdefault(entry.config.model_fingerprint, []).append(entry)
            except ValueError as error:
                skipped[entry.name] = str(error)
        return list(found.values())


def _loaded(
    entries: list[Entry],
    given: PromptedModel | None,
    device: str | torch.device,
    data: DataSet,
    skipped: dict[str, str],
) -> dict[str, TaskVectors]:
    """The task vectors of one model by name; those that cannot be scored on data go to ``skipped``."""
    try:
        model = _model_of(entries[0], given, device)
        if model.takes_texts != (data.wording is not None):
            kinds = ("texts", "images") if model.takes_texts else ("images", "texts")
            raise ValueError(f"they are of {kinds[0]}, and the pairs are {kinds[1]}")
    except ValueError as error:
        skipped.update({entry.name: str(error) for entry in entries})
        return {}
    loaded = {}
    for entry in entries:
        try:
            loaded[entry.name] = entry.load(model)
        except ValueError as error:
            skipped[entry.name] = str(error)
    return loaded


def _model_of(entry: Entry, given: PromptedModel | None, device: str | torch.device) -> PromptedModel:
    if given is not None and entry.config.model_fingerprint in (given.fingerprint(), given.former_fingerprint()):
        return given
    return load_model(base_model_of(entry.directory), device)


@dataclass(frozen=True, repr=False)
class LibraryScores:
    """What the task vectors of a library scored on the same pairs of a task, by its metric.

    By name ``scores`` [pairs], and ``alone`` those of the query alone with the same model; ``groups`` tell which pairs
    hang together. ``seen`` has how many of the queries each was found on, ``skipped`` why any was not scored.
    """

    task: str
    metric: Metric
    groups: list[str]
    scores: dict[str, Float[np.ndarray, " pairs"]]
    alone: dict[str, Float[np.ndarray, " pairs"]]
    seen: dict[str, int]
    skipped: dict[str, str]

    @property
    def ranking(self) -> list[str]:
        """Their names, the one with the best mean first."""
        return sorted(self.scores, key=lambda name: float(self.metric.loss(self.scores[name].mean())))

    def interval(self, name: str) -> Interval:
        """The mean of one of them, with its 95 % interval."""
        return evaluation.mean_of(self.scores[name], self.groups, self.metric)

    def gain(self, name: str) -> Interval:
        """By how much it is better than the query alone, positive where it is, with an interval.

        The intervals of all of them hold together at 95 % (Bonferroni): whichever is picked for its score is not
        flattered by the choice.
        """
        return gain(self.metric, self.scores[name], self.alone[name], self.groups, self._together(len(self.scores)))

    def best(self) -> "Best":
        """The one with the best mean, and what can be said of it."""
        first, *others = self.ranking
        ahead = None
        if others:
            confidence = self._together(len(others))
            ahead = gain(self.metric, self.scores[first], self.scores[others[0]], self.groups, confidence)
        return Best(self, first, self.gain(first), others[0] if others else None, ahead)

    def _together(self, count: int) -> float:
        """The confidence of each of so many intervals that all hold together."""
        return 1 - (1 - CONFIDENCE) / count

    def __repr__(self) -> str:
        rows = self.rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([f"{self.told}; gains are over the query alone", *lines])

    def _repr_html_(self) -> str:
        from taskvec.report.notebook import library_html  # noqa: PLC0415 which knows of libraries

        return library_html(self)

    @property
    def told(self) -> str:
        """What the numbers are."""
        groups = len(set(self.groups))
        return (
            f"{self.task}, {self.metric.label}, {self.metric.better} is better: {len(self.groups)} pairs in {groups} "
            "independent groups"
        )

    def rows(self) -> list[tuple[str, str, str, str]]:
        """For people, the best first: name, score, gain over the query alone, remark."""
        return [(name, _span(self.interval(name)), _gain(self.gain(name)), self._remark(name)) for name in self.ranking]

    def _remark(self, name: str) -> str:
        seen = self.seen[name]
        return f"{seen} of the queries are of what it was found on" if seen else ""


@dataclass(frozen=True, repr=False)
class Best:
    """The task vectors that do best on some pairs, as ``LibraryScores.best`` tells them.

    ``gain`` is over the query alone, ``ahead`` over the second best, ``runner_up``; both with intervals that allow for
    the choice among many. ``name`` is the best by its mean, whether or not that means anything.
    """

    scores: LibraryScores
    name: str
    gain: Interval
    runner_up: str | None
    ahead: Interval | None

    @property
    def beats_query_only(self) -> bool:
        """Whether it is better than the query alone, by more than chance."""
        return not self.gain.too_few and self.gain.low > 0

    def __repr__(self) -> str:
        """What follows, in a sentence or two."""
        scores = self.scores
        mean = f"{scores.metric.label} {_span(scores.interval(self.name))}"
        if self.gain.too_few:
            return (
                f"Too few pairs to tell: {self.gain.groups} independent ones, it takes {FEWEST} or more. {self.name} "
                f"has the best mean, {mean}, {self.gain.mean:+.3f} over the query alone."
            )
        over = f"{_gain(self.gain)} over the query alone"
        if not self.beats_query_only:
            return f"None is shown to beat the query alone: {self.name} comes nearest with {mean}, {over}."
        if self.ahead is None:
            return f"{self.name} is the best with {mean}, {over}; there is no other."
        shown = "ahead" if self.ahead.low > 0 else "not shown to be ahead"
        return f"{self.name} is the best with {mean}, {over}, and {shown} of {self.runner_up}, {_gain(self.ahead)}."

    def _repr_html_(self) -> str:
        from taskvec.report.notebook import best_html  # noqa: PLC0415 which knows of libraries

        return best_html(self)


def _span(found: Interval) -> str:
    return f"{found.mean:.3f}" if found.too_few else f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _gain(found: Interval) -> str:
    return f"{found.mean:+.3f}" if found.too_few else f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
