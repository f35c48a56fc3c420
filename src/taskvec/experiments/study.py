"""A study: every number that tables, figures and claims need, computed once and kept in cells."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from taskvec import evaluation, results
from taskvec.analysis import site_taskness, taskness
from taskvec.answering import Choices
from taskvec.experiments.cells import Cell, Store
from taskvec.experiments.methods import PATCHINGS, Patching, find_settings
from taskvec.experiments.protocol import Group, Protocol
from taskvec.experiments.study_cells import DecodingCell, FoundSites, ScoresCell, SearchCell, StatisticsCell, answering
from taskvec.experiments.ways import RANDOM_DRAWS, Way, WayOn, ways_of
from taskvec.finding import validation_prompts
from taskvec.heads import Means, Patch
from taskvec.models.interface import Decoding, DecodingKind, PromptedModel, Variant, ViewName
from taskvec.prompts import Prompts, draw_prompts, pairs_of
from taskvec.search.baselines import random_sites, top_sites
from taskvec.sites import Sites
from taskvec.statistics import Statistics
from taskvec.tasks import Images, Task, task_named

SEEDS = 2**63  # that a generator takes


@dataclass(frozen=True)
class Study:
    """A model under a protocol. Everything is computed when it is first asked for.

    Each question has a method beside it, called so with ``_cells``, for the cells that answer it, which an engine may
    have computed elsewhere before.
    """

    model: PromptedModel
    protocol: Protocol
    store: Store
    _prompts: dict[tuple[str, ...], Prompts] = field(default_factory=dict, init=False, repr=False)
    _statistics: dict[Path, Statistics] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def _fingerprint(self) -> str:
        return self.model.fingerprint()

    @cached_property
    def judged(self) -> PromptedModel:
        """The model as every method is judged with it, but for the decoding."""
        return self.model.variant(Variant(area=self.protocol.settings.area))

    def choices(self, decoding: DecodingKind | None = None) -> Choices:
        """The decodings that every method chooses among, on prompts that judge nothing: those of a kind, or of the
        protocol's."""
        chosen = self.protocol.settings.choices
        return chosen if decoding is None else replace(chosen, kind=decoding)

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks that results are about: identity only fills up the multi-task search (Section 8.6)."""
        return tuple(task.name for task in self.protocol.tasks if task.name != "identity")

    def task(self, name: str) -> Task:
        """One of the protocol, or any other by its name."""
        return next((task for task in self.protocol.tasks if task.name == name), None) or task_named(name)

    def group(self, name: str, judged_on: str | None = None) -> Group:
        """A group of the protocol, judged on other data of the protocol where these are named."""
        group = next(group for group in self.protocol.groups if group.name == name)
        return group if judged_on is None else replace(group, test=self.protocol.others[judged_on])

    # What the tables ask for

    def scores(
        self, method: str | Way, task: str, decoding: DecodingKind | None = None, judged_on: str | None = None
    ) -> results.Scores:
        """What a method scored at a task, in every group, by the protocol's decoding or another one.

        ``judged_on`` names data of ``Protocol.others``. Of random sites, a prompt's score is its mean over several
        draws.
        """
        cells = self.scores_cells(method, task, decoding, judged_on)
        groups = {}
        for group in self.protocol.groups:
            scores = np.mean([cell.value(self) for cell in cells if cell.group == group.name], 0)
            prompts = self.prompts(task, self.group(group.name, judged_on))
            groups[group.name] = results.GroupScores(scores, prompts.query_groups)
        return results.Scores(self.task(task).metric, groups)

    def scores_cells(
        self, method: str | Way, task: str, decoding: DecodingKind | None = None, judged_on: str | None = None
    ) -> list[ScoresCell]:
        return [
            ScoresCell(way, task, group.name, None if way.is_reference else decoding, judged_on)
            for group in self.protocol.groups
            for way in ways_of(method)
        ]

    def answers(self, method: str | Way, task: str, count: int, judged_on: str | None = None) -> Images:
        """A method's first answers in the first group, of random sites those of the first draw."""
        group, way = self.protocol.groups[0], ways_of(method)[0]
        judged = self.group(group.name, judged_on)
        run = self.decoded(way, task, group)(judged.test)
        return evaluation.answers(self.model, run, self.prompts(task, judged)[:count]).numpy()

    def answers_cells(self, method: str | Way, task: str) -> list[Cell["Study"]]:
        group, way = self.protocol.groups[0], ways_of(method)[0]
        return [*way.needs(self, task, group), *self.decoding_cells(way, task, group)]

    def mask(self, method: str, task: str, group: Group, draw: int = 0) -> tuple[Sites, Bool[Tensor, " sites"]]:
        """The sites that a method patches for a task, of random ones those of one draw."""
        patching = PATCHINGS[method]
        if patching.kind in ("random", "top"):
            return self._baseline(patching, task, group, draw)
        sites = self.model.sites(patching.granularity, patching.stacks)
        return sites, sites.mask(self.found(method, task, group).sites)

    def found(self, method: str, task: str, group: Group) -> FoundSites:
        """What a method's search came to, of random and top quadrants that whose number of sites they have."""
        return self.search_cell(method, task, group).value(self)

    def search_cell(self, method: str, task: str, group: Group) -> SearchCell:
        patching = PATCHINGS[method]
        if patching.kind in ("random", "top"):
            return self.search_cell("vectors_multi" if patching.multi else "vectors", task, group)
        settings = find_settings(patching, self.protocol, self.model, group.seed)
        tasks = tuple(each.name for each in self.protocol.tasks) if patching.multi else (task,)
        return SearchCell(tasks, group.name, settings, f"{method} {'all tasks' if patching.multi else task}")

    def statistics(self, group: Group, prompts: int | None = None) -> Statistics:
        """The statistics of every task, over the protocol's number of prompts or another one."""
        cell = self.statistics_cell(group, prompts)
        cell.value(self)
        path = cell.path(self)
        if path not in self._statistics:
            self._statistics[path] = Statistics.load(path)
        return self._statistics[path]

    def statistics_cell(self, group: Group, prompts: int | None = None) -> StatisticsCell:
        return StatisticsCell(group.name, self.protocol.settings.prompts if prompts is None else prompts)

    def means(self, group: Group, weights: dict[str, float]) -> Means:
        """A sum of tasks' means with these weights, as the means of one task."""
        statistics = self.statistics(group)
        total: dict[str, Tensor] = {}
        for name, weight in weights.items():
            for stack, mean in statistics.means([name]).items():
                total[stack] = weight * mean + total.get(stack, torch.zeros(()))
        return Means(total, statistics.model_fingerprint)

    # What cells are made of

    def prompts(self, task: str, group: Group) -> Prompts:
        """The prompts that judge every method at a task in a group."""
        place = task, group.name, str(group.test.describe())
        if place not in self._prompts:
            count, settings = min(self.protocol.pairs, pairs_of(group.test)), self.protocol.settings
            options: dict[str, Any] = {"sampling": settings.sampling, "same_hole": settings.same_hole}
            drawn = draw_prompts(group.test, self.task(task), count, self.model.image_size, group.seed, **options)
            self._prompts[place] = drawn
        return self._prompts[place]

    def calibrating(self, task: str, group: Group) -> Prompts:
        """The prompts by which every method chooses its decoding at a task in a group."""
        place = "calibrating", task, group.name, str(group.train.describe())
        if place not in self._prompts:
            settings = replace(self.protocol.settings, seed=group.seed)
            self._prompts[place] = validation_prompts(self.model, group.train, self.task(task), settings)
        return self._prompts[place]

    def decoded(self, way: Way, task: str, group: Group, decoding: DecodingKind | None = None) -> WayOn:
        """A way of doing a task with the decoding that is chosen for it in a group, on any data."""
        run = way.on(self, task, group)
        if way.is_reference:
            return run
        chosen = self.choices(decoding).first(self.model)
        for cell in self.decoding_cells(way, task, group, decoding):
            chosen = Decoding(**cell.value(self))
        return lambda data: answering(run(data)).decoded(chosen)

    def decoding_cells(
        self, way: Way, task: str, group: Group, decoding: DecodingKind | None = None
    ) -> Sequence[DecodingCell]:
        """The one that says which decoding is chosen, none where there is no choice."""
        if way.is_reference or not self.choices(decoding).adapted:
            return ()
        return (DecodingCell(way, task, group.name, decoding),)

    def patched(self, patch: Patch, view: ViewName = "query_only") -> WayOn:
        """How runs under a patch answer."""
        return lambda data: evaluation.run(self.judged, view, patch)

    def origin(self, group: Group) -> dict[str, Any]:
        """Of the keys of a group's cells what they have in common."""
        return {
            "model": self._fingerprint,
            "train": group.train.describe(),
            "test": group.test.describe(),
            "seed": group.seed,
        }

    def _baseline(self, patching: Patching, task: str, group: Group, draw: int) -> tuple[Sites, Bool[Tensor, " sites"]]:
        """As many quadrants as task vectors have, at random or those of the highest taskness."""
        sites, mask = self.mask("vectors_multi" if patching.multi else "vectors", task, group)
        count = int(mask.sum())
        if patching.kind == "random":
            return sites, random_sites(len(sites), count, (RANDOM_DRAWS * group.seed + draw) % SEEDS)
        return sites, top_sites(site_taskness(sites, taskness(self.statistics(group))), count)
