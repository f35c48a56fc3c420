"""A study: every number that tables, figures and claims need, computed once and kept in cells."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from taskvec import evaluation, results
from taskvec.analysis import site_taskness, taskness
from taskvec.answering import Answering, Choices, calibrate
from taskvec.data.examples import DataSet
from taskvec.experiments.cells import Store
from taskvec.experiments.methods import PATCHINGS, Patching, find_settings
from taskvec.experiments.protocol import Group, Protocol
from taskvec.finding import FindSettings, find_sites, statistics_prompts, validation_prompts
from taskvec.heads import Means, Patch
from taskvec.models.interface import Decoding, DecodingKind, PromptedModel, Variant, ViewName
from taskvec.prompts import Prompts, draw_prompts, pairs_of
from taskvec.search.baselines import random_sites, top_sites
from taskvec.sites import Sites
from taskvec.statistics import Statistics, collect
from taskvec.tasks import Images, Task

WayOn = Callable[[DataSet], evaluation.Method]  # of doing a task, on prompts that were drawn from these data
RANDOM_DRAWS = 5
SEEDS = 2**63  # that a generator takes


@dataclass(frozen=True)
class FoundSites:
    """What a search came to, as its cell holds it: the numbers of its sites, their loss, and how many evaluations."""

    sites: list[int]
    loss: float
    evaluations: int


@dataclass(frozen=True)
class Study:
    """A model under a protocol. Everything is computed when it is first asked for."""

    model: PromptedModel
    protocol: Protocol
    store: Store
    decoding: DecodingKind | None = None  # that methods are judged with, None for that of the protocol's settings
    _prompts: dict[tuple[str, ...], Prompts] = field(default_factory=dict, init=False, repr=False)
    _statistics: dict[Path, Statistics] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def _fingerprint(self) -> str:
        return self.model.fingerprint()

    @cached_property
    def judged(self) -> PromptedModel:
        """The model as every method is judged with it, but for the decoding."""
        return self.model.variant(Variant(area=self.protocol.settings.area))

    @cached_property
    def choices(self) -> Choices:
        """The decodings that every method chooses among, on prompts that judge nothing."""
        chosen = self.protocol.settings.choices
        return chosen if self.decoding is None else replace(chosen, kind=self.decoding)

    @cached_property
    def likeliest(self) -> "Study":
        """The same methods at the same sites, judged by the likeliest codes as the paper does."""
        other = replace(self, decoding="likeliest")
        object.__setattr__(other, "_prompts", self._prompts)  # drawn once, and statistics read once
        object.__setattr__(other, "_statistics", self._statistics)
        return other

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks that results are about: identity only fills up the multi-task search (Section 8.6)."""
        return tuple(task.name for task in self.protocol.tasks if task.name != "identity")

    def task(self, name: str) -> Task:
        return next(task for task in self.protocol.tasks if task.name == name)

    # What the tables ask for

    def scores(self, method: str, task: Task | str) -> results.Scores:
        """What a method scored at a task, in every group."""
        chosen = self.task(task) if isinstance(task, str) else task
        groups = {group.name: self.group_scores(method, chosen, group) for group in self.protocol.groups}
        return results.Scores(chosen.metric, groups)

    def answers(self, method: str, task: Task | str, count: int) -> Images:
        """A method's first answers in the first group."""
        chosen = self.task(task) if isinstance(task, str) else task
        group = self.protocol.groups[0]
        prompts = self.prompts(chosen, group)[:count]
        return evaluation.answers(self.model, self.method(method, chosen, group), prompts).numpy()

    def mask(self, method: str, task: str, group: Group, draw: int = 0) -> tuple[Sites, Bool[Tensor, " sites"]]:
        """The sites that a method patches for a task, of random ones those of one draw."""
        patching = PATCHINGS[method]
        if patching.kind in ("random", "top"):
            return self._baseline(patching, task, group, draw)
        sites = self.model.sites(patching.granularity, patching.stacks)
        return sites, sites.mask(self.found(method, task, group).sites)

    def found(self, method: str, task: str, group: Group) -> FoundSites:
        """What a method's search came to."""
        patching = PATCHINGS[method]
        tasks = self.protocol.tasks if patching.multi else (self.task(task),)
        settings = find_settings(patching, self.protocol, self.model, group.seed)
        return self.search(tasks, group, settings, f"{method} {'all tasks' if patching.multi else task}")

    def search(self, tasks: Sequence[Task], group: Group, settings: FindSettings, what: str) -> FoundSites:
        """A search of a group, as a cell."""

        def compute() -> dict[str, Any]:
            result = find_sites(self.model, group.train, tasks, settings, self.statistics(group)).result
            if result.interrupted:
                raise KeyboardInterrupt
            return asdict(FoundSites(result.mask.nonzero()[:, 0].tolist(), result.loss, result.evaluations))

        key = {"cell": "search", "tasks": [task.name for task in tasks], "settings": settings}
        return FoundSites(**self.store.get(f"{what}, {group.name}", {**key, **self._origin(group)}, compute))

    def statistics(self, group: Group, prompts: int | None = None) -> Statistics:
        """The statistics of every task, over the protocol's number of prompts or another one."""
        settings = replace(self.protocol.settings, seed=group.seed)
        if prompts is not None:
            settings = replace(settings, prompts=prompts)
        kept = {name: getattr(settings, name) for name in ("prompts", "pool", "sampling", "same_hole", "seed", "area")}
        key = {"cell": "statistics", **kept, **self._origin(group)}
        path = self.store.path(key, ".safetensors")

        def compute() -> dict[str, int]:
            drawn = (statistics_prompts(self.model, group.train, task, settings) for task in self.protocol.tasks)
            collected = collect(self.model, drawn)
            collected.save(path)
            return {name: task.count for name, task in collected.tasks.items()}

        self.store.get(f"statistics of {settings.prompts} prompts, {group.name}", key, compute)
        if path not in self._statistics:
            self._statistics[path] = Statistics.load(path)
        return self._statistics[path]

    def prompts(self, task: Task, group: Group) -> Prompts:
        """The prompts that judge every method at a task in a group."""
        place = task.name, group.name, str(group.test.describe())
        if place not in self._prompts:
            count, settings = min(self.protocol.pairs, pairs_of(group.test)), self.protocol.settings
            options = {"sampling": settings.sampling, "same_hole": settings.same_hole}
            size = self.model.image_size
            self._prompts[place] = draw_prompts(group.test, task, count, size, group.seed, **options)  # pyright: ignore[reportArgumentType]
        return self._prompts[place]

    def cell(self, what: str, key: dict[str, Any], group: Group, compute: Callable[[], Any]) -> Any:
        """Anything else of a group, as a cell; the value must be JSON."""
        return self.store.get(f"{what}, {group.name}", {**key, **self._origin(group)}, compute)

    def score_patch(
        self, patch: Patch, task: Task, group: Group, what: str, key: dict[str, Any]
    ) -> results.GroupScores:
        """The scores of query-only runs under a patch that ``key`` tells apart from others."""
        return self._score(lambda: self._patched(patch), task, group, group, what, key)

    def patched(self, patch: Patch, task: Task, group: Group, what: str, key: dict[str, Any]) -> evaluation.Method:
        """How such runs answer."""
        return self._decoded(self._patched(patch), task, group, what, key)(group.test)

    def method(self, method: str, task: Task, group: Group, judged: Group | None = None) -> evaluation.Method:
        """How a method answers, of random sites those of the first draw; ``judged`` as in ``group_scores``."""
        key = {**self._key(method, group), "draw": 0}
        return self._decoded(self.way(method, task, group), task, group, method, key)((judged or group).test)

    # How they come about

    def _key(self, method: str, group: Group) -> dict[str, Any]:
        """What tells a method's cells apart from others'."""
        if method not in PATCHINGS:
            return {"method": method}
        settings = find_settings(PATCHINGS[method], self.protocol, self.model, group.seed)
        return {"method": method, "patching": PATCHINGS[method], "settings": settings}

    def group_scores(self, method: str, task: Task, group: Group, judged: Group | None = None) -> results.GroupScores:
        """The same in one group; ``judged`` holds other data to judge by, for sites and means of this group.

        Of random sites, a prompt's score is its mean over several draws.
        """
        key = self._key(method, group)
        draws = range(RANDOM_DRAWS) if method in PATCHINGS and PATCHINGS[method].kind == "random" else [0]
        every = []
        for draw in draws:
            own = {**key, "draw": draw}
            way = partial(self.way, method, task, group, draw)
            every.append(self._score(way, task, group, judged or group, method, own))
        return replace(every[0], scores=np.mean([each.scores for each in every], 0))

    def _score(
        self,
        way: Callable[[], WayOn],
        task: Task,
        group: Group,
        judged: Group,
        what: str,
        key: dict[str, Any],
    ) -> results.GroupScores:
        """The scores on what ``judged`` holds, with the decoding that is best on prompts of ``group`` that judge
        nothing; references have none."""
        prompts = self.prompts(task, judged)

        def compute() -> list[float]:
            run = self._decoded(way(), task, group, what, key)
            return evaluation.scores(self.model, run(judged.test), prompts).tolist()

        settings = self.protocol.settings
        of = {"pairs": len(prompts), "area": settings.area, "origin": prompts.origin, "task": task.name}
        if what not in evaluation.REFERENCES:
            of |= {"decoding": self.choices}
        cell = {"cell": "scores", **key, **of, **self._origin(judged)}
        with_codes = f" by {self.decoding}" if self.decoding and what not in evaluation.REFERENCES else ""
        values = self.store.get(f"{what} at {task.name}, {judged.name}{with_codes}", cell, compute)
        return results.GroupScores(np.array(values), prompts.query_groups)

    def _decoded(self, way: WayOn, task: Task, group: Group, what: str, key: dict[str, Any]) -> WayOn:
        """A way of doing a task with the decoding that is chosen for it, on any data."""
        if what in evaluation.REFERENCES:
            return way
        if not self.choices.adapted:
            decoding = self.choices.first(self.model)
        else:

            def compute() -> dict[str, Any]:
                prompts = self._calibrating(task, group)
                return asdict(calibrate(_answering(way(group.train)), prompts, self.choices))

            cell = {"cell": "decoding", **key, "choices": self.choices, "task": task.name, **self._origin(group)}
            decoding = Decoding(**self.store.get(f"decoding of {what} at {task.name}, {group.name}", cell, compute))
        return lambda data: _answering(way(data)).decoded(decoding)

    def _calibrating(self, task: Task, group: Group) -> Prompts:
        """The prompts by which every method chooses its decoding at a task in a group."""
        place = "calibrating", task.name, group.name, str(group.train.describe())
        if place not in self._prompts:
            settings = replace(self.protocol.settings, seed=group.seed)
            self._prompts[place] = validation_prompts(self.model, group.train, task, settings)
        return self._prompts[place]

    def way(self, method: str, task: Task, group: Group, draw: int = 0) -> WayOn:
        """How a method answers: of METHOD_TITLES, those with a search have it done first."""
        if method not in PATCHINGS:
            return lambda data: evaluation.method_named(self.judged, method, data)
        sites, mask = self.mask(method, task.name, group, draw)
        patch = Patch(sites, mask[None], self.statistics(group).means([task.name]))
        return self._patched(patch, PATCHINGS[method].view)

    def _patched(self, patch: Patch, view: ViewName = "query_only") -> WayOn:
        return lambda data: evaluation.run(self.judged, view, patch)

    def _baseline(self, patching: Patching, task: str, group: Group, draw: int) -> tuple[Sites, Bool[Tensor, " sites"]]:
        """As many quadrants as task vectors have, at random or those of the highest taskness."""
        sites, mask = self.mask("vectors_multi" if patching.multi else "vectors", task, group)
        count = int(mask.sum())
        if patching.kind == "random":
            return sites, random_sites(len(sites), count, (RANDOM_DRAWS * group.seed + draw) % SEEDS)
        return sites, top_sites(site_taskness(sites, taskness(self.statistics(group))), count)

    def means(self, group: Group, weights: dict[str, float]) -> Means:
        """A sum of tasks' means with these weights, as the means of one task."""
        statistics = self.statistics(group)
        total: dict[str, Tensor] = {}
        for name, weight in weights.items():
            for stack, mean in statistics.means([name]).items():
                total[stack] = weight * mean + total.get(stack, torch.zeros(()))
        return Means(total, statistics.model_fingerprint)

    def _origin(self, group: Group) -> dict[str, Any]:
        return {
            "model": self._fingerprint,
            "train": group.train.describe(),
            "test": group.test.describe(),
            "seed": group.seed,
        }


def _answering(method: evaluation.Method) -> Answering:
    if not isinstance(method, Answering):
        raise TypeError(f"{method} is no way in which a model answers")
    return method
