"""Table 8: the same method on a language model, beside prompts with examples and causal mediation analysis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from taskvec.data.pairs import WordPairs
from taskvec.experiments.cells import Cell, Store
from taskvec.experiments.evidence import LANGUAGE_METHODS, Evidence, LanguageEvidence
from taskvec.experiments.paper import TABLE_8
from taskvec.experiments.protocol import Group, Protocol
from taskvec.experiments.study import Study
from taskvec.experiments.study_cells import FoundSites, SearchCell
from taskvec.experiments.ways import Way, WayOn
from taskvec.finding import FindSettings
from taskvec.heads import Patch
from taskvec.models.interface import PromptedModel, ViewName
from taskvec.prompts import Prompts, shots_of
from taskvec.report.style import BLUE, tidy
from taskvec.results import Column, Picture, Row, Scores, Table
from taskvec.search import CmaSettings, ReinforceSettings, SearchResult
from taskvec.search.baselines import top_sites
from taskvec.tasks import Task

FEW = 2  # examples of the row between none and all
COUNTED = 4  # prompts whose operations are counted
FEW_SHOT = "few-shot"  # of ``Protocol.others``
VIEWS: tuple[ViewName, ...] = ("query_only", "one_shot")
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
class LanguageProtocol:
    """Relations, and how task vectors of each are found.

    ``settings`` are those of the best search; ``reinforce`` are those of REINFORCE, on as many items as in the paper,
    and CMA measures effects on as many prompts with shuffled labels; validation items choose its number of heads. All
    three follow the model's own loss.
    """

    relations: tuple[Relation, ...]
    seeds: tuple[int, ...]
    pairs: int
    settings: FindSettings
    reinforce: ReinforceSettings
    items: int = 10

    def of(self, relation: Relation) -> Protocol:
        """That of one relation, of which every seed is a group."""
        groups = tuple(Group(f"seed {seed}", relation.train, relation.test, seed) for seed in self.seeds)
        few = {FEW_SHOT: replace(relation.test, shots=FEW)} if relation.test.shots > FEW else {}
        return Protocol(self.settings, groups, self.pairs, others=few)

    def way(self, method: str) -> "LanguageWay":
        """How one of PATCHED answers."""
        if method == "vectors":
            return LanguageWay(method, self.settings)
        if method == "reinforce":
            return LanguageWay(method, replace(self.settings, search=self.reinforce, items=self.items))
        cma = replace(self.settings, search=CmaSettings(), items=self.items, searched_in="shuffled", curve=True)
        return LanguageWay(method, cma)


@dataclass(frozen=True)
class LanguageStudy:
    """A language model under a protocol: a study of every relation, whose cells are in one place."""

    model: PromptedModel
    protocol: LanguageProtocol
    store: Store

    @property
    def relations(self) -> tuple[Relation, ...]:
        return self.protocol.relations

    @property
    def names(self) -> list[str]:
        return [relation.task.name for relation in self.relations]

    def study(self, relation: str) -> Study:
        """The study of one relation."""
        return self._studies[relation]

    @cached_property
    def _studies(self) -> dict[str, Study]:
        relations = self.protocol.relations
        return {each.task.name: Study(self.model, self.protocol.of(each), self.store) for each in relations}

    def scores(self, method: str, relation: str) -> Scores:
        """What a method of LANGUAGE_METHODS scored at a relation, seed by seed."""
        return self.study(relation).scores(*self._asked(method, relation))

    def cells(self) -> list["OfRelation"]:
        """All that the table, its figure and the claim ask for."""
        cells: list[OfRelation] = []
        for name in self.names:
            asked = [self._asked(method, name) for method in LANGUAGE_METHODS]
            cells += [OfRelation(name, cell) for each in asked for cell in self.study(name).scores_cells(*each)]
            cells += [OfRelation(name, OperationsCell(view)) for view in VIEWS]
        return cells

    def _asked(self, method: str, relation: str) -> tuple[str | Way, str, None, str | None]:
        """The question that a study of one relation is asked."""
        way = self.protocol.way(method) if method in PATCHED else "one_shot" if method == "few" else method
        others = self.study(relation).protocol.others
        return way, relation, None, FEW_SHOT if method == "few" and FEW_SHOT in others else None

    def found(self, method: str, relation: str, group: Group) -> FoundSites:
        """What the search of one of PATCHED came to."""
        return self.protocol.way(method).search_cell(relation, group).value(self.study(relation))

    def gigaflops(self, relation: str, view: ViewName) -> float:
        """Of a run of a prompt, all of its tokens, the mean over the first ``COUNTED`` that judge."""
        return OperationsCell(view).value(self.study(relation))

    @cached_property
    def saved(self) -> float:
        """The share of operations of prompts with examples that the query alone saves, the mean over relations."""
        names = [each.task.name for each in self.relations]
        return float(
            np.mean([1 - self.gigaflops(name, "query_only") / self.gigaflops(name, "one_shot") for name in names])
        )


@dataclass(frozen=True)
class OfRelation(Cell[LanguageStudy]):
    """A cell of the study of one relation."""

    relation: str
    cell: Cell[Study]

    def title(self, study: LanguageStudy) -> str:
        return self.cell.title(study.study(self.relation))

    def needs(self, study: LanguageStudy) -> Sequence["OfRelation"]:
        return [OfRelation(self.relation, cell) for cell in self.cell.needs(study.study(self.relation))]

    def key(self, study: LanguageStudy) -> dict[str, Any]:
        return self.cell.key(study.study(self.relation))

    def compute(self, study: LanguageStudy) -> Any:
        return self.cell.compute(study.study(self.relation))

    def value(self, study: LanguageStudy) -> Any:
        return self.cell.value(study.study(self.relation))


@dataclass(frozen=True)
class LanguageSearchCell(SearchCell):
    """The heads that a search finds for a relation; ``method`` is one of PATCHED."""

    method: str

    def key(self, study: Study) -> dict[str, Any]:
        return {"cell": "language search", "settings": self.settings, **study.origin(study.group(self.group))}

    def chosen(self, result: SearchResult) -> Bool[Tensor, " sites"]:
        """Of causal mediation as many as do best on validation items."""
        if self.method != "cma" or result.scores is None:
            return result.mask
        count, _ = min(result.curve, key=lambda at: at[1])
        return top_sites(result.scores, count)


@dataclass(frozen=True)
class LanguageWay(Way):
    """The query alone, with the heads patched that one of PATCHED found; ``settings`` are of any seed."""

    method: str
    settings: FindSettings

    def search_cell(self, task: str, group: Group) -> LanguageSearchCell:
        settings, what = replace(self.settings, seed=group.seed), f"{self.name}: sites of {task}"
        return LanguageSearchCell((task,), group.name, settings, what, self.method)

    @property
    def name(self) -> str:
        return LANGUAGE_METHODS[self.method]

    def needs(self, study: Study, task: str, group: Group) -> Sequence[Cell[Study]]:
        return self.search_cell(task, group), study.statistics_cell(group)

    def key(self, study: Study, task: str, group: Group) -> dict[str, Any]:
        return {"method": self.method, "settings": replace(self.settings, seed=group.seed)}

    def on(self, study: Study, task: str, group: Group) -> WayOn:
        sites = study.model.sites(study.protocol.settings.granularity)
        mask = sites.mask(self.search_cell(task, group).value(study).sites)
        return study.patched(Patch(sites, mask[None], study.statistics(group).means([task])))


@dataclass(frozen=True)
class OperationsCell(Cell[Study]):
    """What ``LanguageStudy.gigaflops`` counts, in the first group."""

    view: ViewName

    def title(self, study: Study) -> str:
        return f"operations of {self.view}, {self._task(study)}, {study.protocol.groups[0].name}"

    def key(self, study: Study) -> dict[str, Any]:
        origin = study.origin(study.protocol.groups[0])
        return {"cell": "operations", "view": self.view, "task": self._task(study), **origin}

    def compute(self, study: Study) -> float:
        prompts, model = study.prompts(self._task(study), study.protocol.groups[0])[:COUNTED], study.model
        model.prepare(prompts[:1], self.view)  # what a model finds out in its first run is no part of it
        return float(np.mean([_gigaflops(model, prompts[row : row + 1], self.view) for row in range(len(prompts))]))

    def _task(self, study: Study) -> str:
        return study.protocol.tasks[0].name


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
    scores = {(method, name): study.scores(method, name) for method in LANGUAGE_METHODS for name in study.names}
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
    columns = [
        Column(name, relation.task.metric.better) for name, relation in zip(study.names, study.relations, strict=True)
    ]
    columns += [Column("mean", columns[0].better), Column(f"operations of {title_of('one_shot', study)}")]
    rows = []
    for method in rows_of(study):
        each = [study.scores(method, name) for name in study.names]
        share = {"one_shot": "100 %", "few": ""}.get(method, f"{1 - study.saved:.1%}")
        printed = TABLE_8.get(method, {})
        paper = (*map(printed.get, study.names), None, None) if printed.keys() & set(study.names) else ()
        cells = (*(one.value() for one in each), together(each).value(), share)
        rows.append(Row(title_of(method, study), cells, paper))
    seeds = len(study.protocol.seeds)
    spread = f"± is the standard deviation over {seeds} seeds (ddof 0), of the mean that over seeds and relations"
    note = (
        f"Top-1 accuracy of the answer's first token, of up to {study.protocol.pairs} queries a seed. "
        f"{spread if seeds > 1 else '95 % intervals over queries'}. The paper's numbers are of Llama-2-7B."
    )
    return Table("table-8", "A language model", note, tuple(columns), tuple(rows))


def _gains(study: LanguageStudy) -> Table:
    """Paired differences of task vectors to every other row, with their intervals."""
    columns = [*map(Column, study.names), Column("mean")]
    rows = []
    for method in rows_of(study):
        if method == "vectors":
            continue
        pairs = [(study.scores("vectors", name), study.scores(method, name)) for name in study.names]
        gains = [ours.gain_over(theirs) for ours, theirs in pairs]
        gains.append(together([ours for ours, _ in pairs]).gain_over(together([theirs for _, theirs in pairs])))
        cells = tuple(f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]" for gain in gains)
        rows.append(Row(f"over {title_of(method, study)}", cells))
    note = "By how much 0-shot + best is better, query by query, with 95 % intervals over queries, seeds and relations."
    return Table("table-8-gains", "Task vectors against every other row", note, tuple(columns), tuple(rows))


def _layers(study: LanguageStudy) -> Picture:
    """In which layers the chosen heads are: the share of each layer's heads, the mean over relations and seeds."""
    shares: Mapping[str, np.ndarray] = {
        method: np.mean([_by_layer(study, method, each.task.name) for each in study.relations], 0) for method in PATCHED
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


def _by_layer(study: LanguageStudy, method: str, relation: str) -> np.ndarray:
    """Of all stacks one after the other, the mean over seeds."""
    sites = study.model.sites(study.protocol.settings.granularity)
    found = []
    for group in study.study(relation).protocol.groups:
        mask = torch.nn.functional.pad(sites.mask(study.found(method, relation, group).sites).float(), (0, 1))
        shares = [mask[index].mean((1, 2)) for index in sites.index.values()]
        found.append(torch.cat(shares).numpy())
    return np.mean(found, 0)
