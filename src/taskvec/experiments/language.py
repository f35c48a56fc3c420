"""Table 8: the same method on a language model, beside prompts with examples and causal mediation analysis."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from taskvec.data.pairs import WordPairs
from taskvec.experiments.cells import Store
from taskvec.experiments.evidence import LANGUAGE_METHODS, Evidence, LanguageEvidence
from taskvec.experiments.paper import TABLE_8
from taskvec.experiments.protocol import Group, Protocol
from taskvec.experiments.study import FoundSites, Study
from taskvec.finding import FindSettings, find_sites
from taskvec.heads import Patch
from taskvec.models.interface import PromptedModel, ViewName
from taskvec.prompts import Prompts, shots_of
from taskvec.report.style import BLUE, tidy
from taskvec.results import Column, Picture, Row, Scores, Table
from taskvec.search import CmaSettings, ReinforceSettings
from taskvec.search.baselines import top_sites
from taskvec.tasks import Task

FEW = 2  # examples of the row between none and all
COUNTED = 4  # prompts whose operations are counted
PATCHED = ("cma", "reinforce", "vectors")


@dataclass(frozen=True)
class Relation:
    """A task of a language model: pairs that task vectors are found on, and others to judge them by."""

    train: WordPairs
    test: WordPairs

    @property
    def task(self) -> Task:
        return self.train.own_task


@dataclass(frozen=True)
class LanguageStudy:
    """A language model, relations, and how task vectors of each are found.

    ``settings`` are those of the best search; ``reinforce`` are those of REINFORCE, on as many items as in the paper,
    and CMA measures effects on as many prompts with shuffled labels; validation items choose its number of heads. All
    three follow the model's own loss.
    """

    model: PromptedModel
    relations: tuple[Relation, ...]
    seeds: tuple[int, ...]
    pairs: int
    settings: FindSettings
    reinforce: ReinforceSettings
    store: Store
    items: int = 10

    def study(self, relation: Relation) -> Study:
        """The study of one relation, of which every seed is a group."""
        return self._studies[relation.task.name]

    @cached_property
    def _studies(self) -> dict[str, Study]:
        return {each.task.name: self._study(each) for each in self.relations}

    def _study(self, relation: Relation) -> Study:
        groups = tuple(Group(f"seed {seed}", relation.train, relation.test, seed) for seed in self.seeds)
        return Study(self.model, Protocol(self.settings, groups, self.pairs), self.store)

    def scores(self, method: str, relation: Relation) -> Scores:
        """What a method of LANGUAGE_METHODS scored at a relation, seed by seed."""
        study, task = self.study(relation), relation.task
        if method in ("one_shot", "query_only"):
            return study.scores(method, task)
        if method == "few":
            few = replace(relation.test, shots=min(FEW, relation.test.shots))
            judged = {group.name: replace(group, test=few) for group in study.protocol.groups}
            groups = {
                group.name: study.group_scores("one_shot", task, group, judged[group.name])
                for group in study.protocol.groups
            }
            return Scores(task.metric, groups)
        return Scores(
            task.metric,
            {group.name: self._patched_scores(method, relation, group) for group in study.protocol.groups},
        )

    def _patched_scores(self, method: str, relation: Relation, group: Group) -> Any:
        study, task = self.study(relation), relation.task
        sites = self.model.sites(self.settings.granularity)
        mask = sites.mask(self.found(method, relation, group).sites)
        patch = Patch(sites, mask[None], study.statistics(group).means([task.name]))
        key = {"method": method, "settings": self._settings(method, group.seed)}
        return study.score_patch(patch, task, group, f"{LANGUAGE_METHODS[method]} of {task.name}", key)

    def found(self, method: str, relation: Relation, group: Group) -> FoundSites:
        """What a search came to, as a cell."""
        study, task, settings = self.study(relation), relation.task, self._settings(method, group.seed)
        what = f"{LANGUAGE_METHODS[method]}: sites of {task.name}"

        def compute() -> dict[str, Any]:
            result = find_sites(self.model, group.train, [task], settings, study.statistics(group)).result
            if result.interrupted:
                raise KeyboardInterrupt
            mask = result.mask
            if method == "cma" and result.scores is not None:
                count, _ = min(result.curve, key=lambda at: at[1])
                mask = top_sites(result.scores, count)
            return asdict(FoundSites(mask.nonzero()[:, 0].tolist(), result.loss, result.evaluations))

        return FoundSites(**study.cell(what, {"cell": "language search", "settings": settings}, group, compute))

    def _settings(self, method: str, seed: int) -> FindSettings:
        base = replace(self.settings, seed=seed)
        if method == "vectors":
            return base
        if method == "reinforce":
            return replace(base, search=self.reinforce, items=self.items)
        return replace(base, search=CmaSettings(), items=self.items, searched_in="shuffled", curve=True)

    def gigaflops(self, relation: Relation, view: ViewName) -> float:
        """Of a run of a prompt, all of its tokens, the mean over the first ``COUNTED`` that judge."""
        study = self.study(relation)
        group = study.protocol.groups[0]
        prompts = study.prompts(relation.task, group)[:COUNTED]
        key = {"cell": "operations", "view": view, "task": relation.task.name}

        def compute() -> float:
            self.model.prepare(prompts[:1], view)  # what a model finds out in its first run is no part of it
            return float(np.mean([_gigaflops(self.model, prompts[row : row + 1], view) for row in range(len(prompts))]))

        return study.cell(f"operations of {view}, {relation.task.name}", key, group, compute)

    @cached_property
    def saved(self) -> float:
        """The share of operations of prompts with examples that the query alone saves, the mean over relations."""
        shares = [1 - self.gigaflops(each, "query_only") / self.gigaflops(each, "one_shot") for each in self.relations]
        return float(np.mean(shares))


@torch.no_grad()
def _gigaflops(model: PromptedModel, prompts: Prompts, view: ViewName) -> float:
    with FlopCounterMode(display=False) as counter:
        model.run(model.prepare(prompts, view))
    return counter.get_total_flops() / 1e9


def together(scores: Sequence[Scores]) -> Scores:
    """Those of several relations as of one, in which each has its own groups."""
    groups = {f"{number} {name}": group for number, each in enumerate(scores) for name, group in each.groups.items()}
    return Scores(scores[0].metric, groups)


def table_8(study: LanguageStudy) -> list[Table | Picture]:
    """Table 8, how far task vectors are from the other rows, and the layers that their heads are in."""
    return [_accuracies(study), _gains(study), _layers(study)]


def evidence(study: LanguageStudy) -> Evidence:
    """What claim C13 is judged by."""
    scores = {
        (method, relation.task.name): study.scores(method, relation)
        for method in LANGUAGE_METHODS
        for relation in study.relations
    }
    return Evidence({}, language=LanguageEvidence(scores, study.saved, study.model.name or study.model.fingerprint()))


def title_of(method: str, study: LanguageStudy) -> str:
    """What tables call a method, with the number of examples that its prompts have."""
    most = [shots_of(relation.test) for relation in study.relations]
    if method not in ("one_shot", "few"):
        return LANGUAGE_METHODS[method]
    shots = sorted({min(FEW, each) if method == "few" else each for each in most})
    return f"{' to '.join(map(str, dict.fromkeys((shots[0], shots[-1]))))}-shot"


def rows_of(study: LanguageStudy) -> list[str]:
    """The methods in the tables: without the row of few examples where there are no more of them."""
    most = max(shots_of(relation.test) for relation in study.relations)
    return [method for method in LANGUAGE_METHODS if method != "few" or most > FEW]


def _accuracies(study: LanguageStudy) -> Table:
    names = [relation.task.name for relation in study.relations]
    columns = [Column(name, relation.task.metric.better) for name, relation in zip(names, study.relations, strict=True)]
    columns += [Column("mean", columns[0].better), Column(f"operations of {title_of('one_shot', study)}")]
    rows = []
    for method in rows_of(study):
        each = [study.scores(method, relation) for relation in study.relations]
        share = {"one_shot": "100 %", "few": ""}.get(method, f"{1 - study.saved:.1%}")
        printed = TABLE_8.get(method, {})
        paper = (*map(printed.get, names), None, None) if printed.keys() & set(names) else ()
        cells = (*(one.value() for one in each), together(each).value(), share)
        rows.append(Row(title_of(method, study), cells, paper))
    seeds = len(study.seeds)
    spread = f"± is the standard deviation over {seeds} seeds (ddof 0), of the mean that over seeds and relations"
    note = (
        f"Top-1 accuracy of the answer's first token, of up to {study.pairs} queries a seed. "
        f"{spread if seeds > 1 else '95 % intervals over queries'}. The paper's numbers are of Llama-2-7B."
    )
    return Table("table-8", "A language model", note, tuple(columns), tuple(rows))


def _gains(study: LanguageStudy) -> Table:
    """Paired differences of task vectors to every other row, with their intervals."""
    columns = [Column(relation.task.name) for relation in study.relations] + [Column("mean")]
    rows = []
    for method in rows_of(study):
        if method == "vectors":
            continue
        pairs = [(study.scores("vectors", each), study.scores(method, each)) for each in study.relations]
        gains = [ours.gain_over(theirs) for ours, theirs in pairs]
        gains.append(together([ours for ours, _ in pairs]).gain_over(together([theirs for _, theirs in pairs])))
        cells = tuple(f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" for gain in gains)
        rows.append(Row(f"over {title_of(method, study)}", cells))
    note = "By how much 0-shot + best is better, query by query, with 95 % intervals over queries, seeds and relations."
    return Table("table-8-gains", "Task vectors against every other row", note, tuple(columns), tuple(rows))


def _layers(study: LanguageStudy) -> Picture:
    """In which layers the chosen heads are: the share of each layer's heads, the mean over relations and seeds."""
    shares: Mapping[str, np.ndarray] = {
        method: np.mean([_by_layer(study, method, each) for each in study.relations], 0) for method in PATCHED
    }
    figure = Figure((6.4, 1.6 * len(shares)), layout="constrained")
    for axes, (method, share) in zip(figure.subplots(len(shares), 1, sharex=True), shares.items(), strict=True):
        axes.bar(np.arange(len(share)), share, color=BLUE)
        axes.set_title(LANGUAGE_METHODS[method], fontsize=9)
        axes.set_ylabel("share of heads", fontsize=8.5)
        axes.set_ylim(0, 1)
        tidy(axes)
    figure.axes[-1].set_xlabel("layer")
    caption = "The share of each layer's heads that is patched at the last token, the mean over relations and seeds."
    return Picture("table-8-layers", "Which layers hold the task vectors", caption, figure)


def _by_layer(study: LanguageStudy, method: str, relation: Relation) -> np.ndarray:
    """Of all stacks one after the other, the mean over seeds."""
    sites = study.model.sites(study.settings.granularity)
    found = []
    for group in study.study(relation).protocol.groups:
        mask = torch.nn.functional.pad(sites.mask(study.found(method, relation, group).sites).float(), (0, 1))
        shares = [mask[index].mean((1, 2)) for index in sites.index.values()]
        found.append(torch.cat(shares).numpy())
    return np.mean(found, 0)
