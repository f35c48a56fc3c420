"""The whole job: statistics, a search for sites and the choice on validation items, task vectors of every task."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from taskvec import digests, environment, evaluation
from taskvec.analysis import layers_by_taskness, taskness
from taskvec.answering import LEVELS, TEMPERATURES, Choices, calibrate
from taskvec.data.examples import DataSet, Part, Wording, partition, task_for, tasks_of
from taskvec.heads import Means, Patch
from taskvec.interrupts import stoppable
from taskvec.metrics import METRICS
from taskvec.models.interface import AnswerScope, Area, Decoding, DecodingKind, PromptedModel, Variant, require_model
from taskvec.objectives import OBJECTIVES, Objective, ObjectiveKind
from taskvec.processes import current
from taskvec.progress import search_progress, show_step
from taskvec.prompts import PlannedPrompts, Prompts, Sampling, pairs_of, plan_prompts, shots_of, sides
from taskvec.provenance import Drawn, Former, Search
from taskvec.search import (
    Checkpoint,
    FiniteLosses,
    NonFinite,
    OnStep,
    Problem,
    RelaxedSettings,
    SearchResult,
    SearchSettings,
    Validate,
    prune,
    with_curve,
)
from taskvec.shuffled_labels import with_shuffled_labels
from taskvec.sites import Granularity, Sites
from taskvec.statistics import Statistics, collect
from taskvec.tasks import Task
from taskvec.vectors import TaskVectors

SearchedIn = Literal["query_only", "shuffled"]
TEXT_PROMPTS = 50  # behind each mean of a language model, by default
SHARES = (0.5, 0.2, 0.3)  # of the data for statistics, search and validation items
PARTITION_SEED = 0  # never the user's: statistics collected with one seed must stay clear of a search with another
YARDSTICK = (32, 0.3)  # random masks, and the share of sites in each, that tell by how much masks move a task's loss


@dataclass(frozen=True)
class FindSettings:
    """How task vectors are found. The defaults are preset ``best``, a search by gradient of some seconds; preset
    ``paper`` is the paper's protocol (Sections 8.1 and 8.2), and ``taskvec.presets.with_method`` has other searches.

    ``seed`` seeds everything, what is drawn and the search. ``bfloat16`` computes
    the search's passes in that type, which some processors do faster; it is never chosen by the machine.

    ``prompts`` are behind each mean; where ``pool`` is more, as many pairs are drawn and those that one-shot prompting
    does best are kept. ``items`` are searched on, as many items as ``validation`` says choose among candidates, by the
    task's own metric whatever the objective is; the three come from disjoint parts of the data. Both are of all tasks
    together: a search for the sites of five tasks has two of ten items of each. Those of ``judged_by`` that are among
    them choose, or all.
    ``decoding`` is how outputs become answers (``taskvec.models.interface.Decoding``). With ``expected``, one of the
    ``temperatures``, and for masks one of the ``levels``, is chosen for the sites that were found, by the validation
    items; the search is at the first temperature, and validates at the level that is best for each set of sites.
    ``taskvec.objectives`` explains objectives, ``taskvec.sites`` granularities, ``taskvec.prompts`` samplings and
    holes. ``area`` is what is decoded together in the search, by default what the model's tokenizer is made for, as
    always where vectors are applied. ``non_finite`` says what becomes of losses that are NaN or infinite, as in
    ``taskvec.search.FiniteLosses``.

    ``searched_in`` says in what runs sites are searched: ``query_only``, or ``shuffled``, prompts whose examples have
    each other's outputs, in which causal mediation of language models looks for effects (Todd et al., 2024).
    ``answers`` is how much of a text is to be right, its first token or the whole; by default what the model's variant
    has.

    ``at_most`` is how many sites may be chosen, None for any number. ``prune`` drops sites that harm, as
    ``taskvec.search.prune`` does; ``curve`` judges the best 1, 2, 4, ... sites, too, by the search's own ranking.
    """

    prompts: int = 200
    items: int = 40
    validation: int = 100
    objective: ObjectiveKind = "token"
    granularity: Granularity = "quadrant"
    stacks: tuple[str, ...] | None = None  # all of the model's
    search: SearchSettings = RelaxedSettings(halving=True)
    seed: int = 0
    bfloat16: bool = False
    area: Area | None = None
    decoding: DecodingKind = "expected"
    temperatures: tuple[float, ...] = TEMPERATURES
    levels: tuple[float, ...] = LEVELS
    pool: int = 0
    sampling: Sampling = "balanced"
    same_hole: bool = False
    judged_by: tuple[str, ...] = ()
    non_finite: NonFinite = "refuse"
    searched_in: SearchedIn = "query_only"
    answers: AnswerScope | None = None
    at_most: int | None = None
    prune: bool = False
    curve: bool = False

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"there is no objective {self.objective!r}: expected one of {', '.join(OBJECTIVES)}")
        if self.searched_in not in get_args(SearchedIn):
            expected = " or ".join(get_args(SearchedIn))
            raise ValueError(f"sites cannot be searched in {self.searched_in!r}: expected {expected}")
        if min(self.prompts, self.items, self.validation) < 1:
            raise ValueError("prompts, items and validation must each be at least 1")
        if self.at_most is not None and self.at_most < 1:
            raise ValueError(f"at_most is {self.at_most}: at least 1 site is chosen")
        FiniteLosses(self.non_finite)  # ValueError for another policy
        if "differentiate" in self.search.needs and self.objective != "token" and not self.choices.adapted:
            raise ValueError(
                f"the {self.search.name} search needs a gradient: the objective is {self.objective} and the decoding "
                f"{self.decoding}, expected the objective token or the decoding expected"
            )

    def of(self, model: PromptedModel) -> "FindSettings":
        """These settings with the stacks that are searched in a model, and how much of its answers is judged."""
        return replace(self, stacks=self.stacks or tuple(model.stacks), answers=self.answers or model.answer_scope)

    @property
    def choices(self) -> Choices:
        """The decodings that may be chosen; ValueError for one that there is not."""
        return Choices(self.decoding, self.temperatures, self.levels)

    def searched(self, model: PromptedModel) -> PromptedModel:
        """The variant of a model that the search's passes compute with."""
        decoding = self.choices.first(model)
        return model.variant(Variant(bfloat16=self.bfloat16, area=self.area, decoding=decoding, answers=self.answers))


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of ``find`` or ``find_all``: ``vectors`` are the best so far, one a task, ready for use."""

    def __init__(self, vectors: Sequence[TaskVectors], step: int):
        super().__init__(f"interrupted after step {step}: the best task vectors so far are .vectors of this exception")
        self.vectors = list(vectors)


@dataclass(frozen=True)
class Finding:
    """What the whole job came to: the result of a search among ``sites`` for one or several tasks, the statistics whose
    means are patched, and the record of all of it.
    """

    model: PromptedModel
    tasks: tuple[Task, ...]
    statistics: Statistics
    sites: Sites
    result: SearchResult
    record: Search
    decodings: tuple[Decoding, ...]  # of the tasks
    wordings: tuple[Wording | None, ...]

    def vectors(self) -> list[TaskVectors]:
        """The task vectors of each task, all at the sites that were found."""
        each = zip(self.tasks, self.decodings, self.wordings, strict=True)
        return [self._select(task, decoding, wording) for task, decoding, wording in each]

    def _select(self, task: Task, decoding: Decoding, wording: Wording | None) -> TaskVectors:
        own = self.statistics.tasks[task.name]
        levels: Any = own.prompts.data.get("input_levels") if isinstance(own.prompts, Drawn) else None
        return TaskVectors.select(
            self.model,
            self.sites,
            self.result.mask,
            own.mean,
            task=task.name,
            metric=task.metric.name,
            found=replace(self.record, statistics=own.prompts),
            input_levels=None if levels is None else (levels[0], levels[1]),
            decoding=decoding,
            wording=wording,
        )


def parts_of(data: DataSet) -> list[Part]:
    """What the means, the search and the choice among its results see, which share no group (patient, video, image).

    Raises ValueError where nothing is left for one of them, or no pair for the means.
    """
    parts = partition(data, SHARES, PARTITION_SEED)
    sizes = [len(part) for part in parts]
    if not all(sizes):
        groups = len(set(data.groups_of(np.arange(len(data)))))
        raise ValueError(
            f"{len(data)} examples in {groups} groups are too few: {sizes[0]} fall to the statistics, {sizes[1]} to "
            f"the search and {sizes[2]} to the choice among its results, expected one group for each at least"
        )
    if not pairs_of(parts[0]):
        raise ValueError(
            f"{len(data)} examples are too few: of the {sizes[0]} that fall to the statistics no two are of one class, "
            "expected a class of four or more"
        )
    return parts


def statistics_prompts(model: PromptedModel, data: DataSet, task: Task, settings: FindSettings) -> PlannedPrompts:
    """The prompts behind the means."""
    part = parts_of(data)[0]
    pairs = pairs_of(part)
    drawn = _plan(model, part, task, min(max(settings.prompts, settings.pool), pairs), settings)
    if settings.pool <= settings.prompts:
        return drawn
    judged = _one_shot_losses(model.variant(Variant(area=settings.area)), drawn)  # by the likeliest codes
    return drawn.take(current().firsts(judged.argsort(stable=True))[: settings.prompts].numpy())


def _plan(
    model: PromptedModel, data: DataSet, task: Task, count: int, settings: FindSettings, *, query_only: bool = False
) -> PlannedPrompts:
    options: dict[str, Any] = {"sampling": settings.sampling, "same_hole": settings.same_hole, "query_only": query_only}
    return plan_prompts(data, task, count, model.image_size, settings.seed, **options)


def _one_shot_losses(model: PromptedModel, prompts: PlannedPrompts) -> Tensor:
    scores = torch.from_numpy(evaluation.scores(model, evaluation.run(model, "one_shot"), prompts))
    return prompts.task.metric.loss(scores)


Data = DataSet | Sequence[DataSet]  # of all tasks, or one for each
OnBatch = Callable[[str, int], None]  # sees a task, and how many of its prompts are behind its mean


def data_of_each(data: Data, tasks: Sequence[Task | str | None]) -> list[DataSet]:
    """The data set of each task; ValueError where there are several, but not one for each."""
    if not isinstance(data, list | tuple):
        return [cast(DataSet, data)] * len(tasks)
    if len(data) != len(tasks):
        raise ValueError(
            f"there are {len(data)} data sets for {len(tasks)} tasks: expected one for all, or one for each"
        )
    return list(data)


@dataclass(frozen=True)
class PosedSearch:
    """A search's problem, and the objectives that it is made of, on the items searched on and on validation items."""

    problem: Problem
    objective: Objective
    validation: Objective | None


def pose_search(
    model: PromptedModel, data: Data, tasks: Sequence[Task], settings: FindSettings, statistics: Statistics
) -> PosedSearch:
    """The problem that the search of ``settings`` is given, without the parts that it does not need."""
    of_each = data_of_each(data, tasks)
    parted = {id(one): parts_of(one) for one in of_each}
    parts = [parted[id(one)] for one in of_each]
    needs, names = settings.search.needs, [task.name for task in tasks]
    own = [part[1] for part in parts]
    objective = _objective(model, own, tasks, settings, statistics, settings.items, settings.objective)
    validation = screen = None
    if "validate" in needs or settings.choices.adapted or settings.prune or settings.curve:
        own = [part[2] for part in parts]
        validation = _objective(model, own, tasks, settings, statistics, settings.validation, "pixel", validating=True)
        if settings.objective == "token":
            screen = _when_asked(partial(_screen, validation, names, settings))
    problem = Problem(
        sites=len(objective.sites),
        items=objective.items,
        evaluate=objective,
        evaluate_product=objective.evaluate_product,
        tasks=objective.tasks if len(tasks) > 1 else None,
        differentiate=objective.differentiate if settings.objective == "token" or settings.choices.adapted else None,
        validate=None if validation is None else _when_asked(partial(_validate, validation, names, settings)),
        layers=partial(_layers, objective.sites, statistics),
        seed=settings.seed,
        names=[f"{prompts.task.name} of {name}" for prompts in objective.prompts for name in prompts.query_names],
        screen=screen,
        at_most=settings.at_most,
    )
    return PosedSearch(problem, objective, validation)


def find_sites(
    model: PromptedModel,
    data: Data,
    tasks: Sequence[Task],
    settings: FindSettings,
    statistics: Statistics | None = None,
    on_step: OnStep = lambda record: None,
    checkpoint: Checkpoint | None = None,
    on_batch: OnBatch = lambda task, count: None,
) -> Finding:
    """One set of sites for all of the tasks, each patched with its own means: task-specific for one, else multi-task.

    ``data`` is that of all of the tasks, or a list with one for each, such as of folders that are tasks of their own.
    Where there are fewer examples than items or validation items, each is used once. ``statistics`` are collected where
    none are given, and ``on_batch`` sees how far that is. ``checkpoint`` lets a search that was stopped go
    on, and one that is over end at once: call ``checkpoint.forget()`` when the result is safe. Raises
    ValueError where a task comes twice, examples are too few, the statistics lack a task or belong to another model or
    other data, or the checkpoint to another search, or where losses are not finite.

    Ctrl-C and SIGTERM are taken between evaluations, and end the search early as its settings say. Of several
    ``processes``, which all call this with the same arguments, the first one tells of steps and keeps the checkpoint.
    """
    if not current().first:
        on_step, on_batch = (lambda record: None), (lambda task, count: None)
    if len({task.name for task in tasks}) < len(tasks):
        raise ValueError(f"a task is named twice: {', '.join(task.name for task in tasks)}")
    for task in tasks:
        if METRICS.get(task.metric.name) != task.metric:
            raise ValueError(
                f"the metric {task.metric.name!r} of {task.name} is not one of taskvec.metrics.METRICS, by which saved "
                "task vectors know theirs: add it there"
            )
    of_each = data_of_each(data, tasks)
    parted = {id(one): parts_of(one) for one in of_each}
    apart = [part for parts in parted.values() for part in parts[1:]]
    statistics = (statistics or collect_for(model, data, tasks, settings, on_batch)).of(model)
    means = statistics.means([task.name for task in tasks])
    for task, one in zip(tasks, of_each, strict=True):
        _check_origin(statistics.tasks[task.name].prompts, one, task, apart)
    settings = settings.of(model)
    posed = pose_search(model, data, tasks, settings, statistics)
    if checkpoint is not None:
        identity = _identity(statistics, means, of_each, tasks, settings)
        checkpoint = replace(checkpoint, of={**checkpoint.of, **identity})
    with stoppable():
        result = settings.search.search(posed.problem, on_step, checkpoint, settings.non_finite)
        if not result.interrupted:
            result = prune(posed.problem, result, settings.non_finite) if settings.prune else result
            result = with_curve(posed.problem, result, settings.non_finite) if settings.curve else result
        decodings = tuple(_decoding(model, posed, result, settings, task) for task in range(len(tasks)))
    record = Search(
        method=settings.search.name,
        settings=digests.plain(asdict(settings)),
        tasks=tuple(task.name for task in tasks),
        search=_drawn(posed.objective),
        validation=() if posed.validation is None else _drawn(posed.validation),
        statistics=None,
        step=result.step,
        loss=result.loss,
        evaluations=result.evaluations,
        interrupted=result.interrupted,
        non_finite=result.non_finite,
        harmful=tuple(posed.objective.sites.names[site] for site in result.harmful),
        curve=result.curve,
        history=tuple(result.history),
        versions=environment.versions(),
    )
    wordings = tuple(_wording(one, parted[id(one)][0]) for one in of_each)
    return Finding(model, tuple(tasks), statistics, posed.objective.sites, result, record, decodings, wordings)


def _wording(data: DataSet, behind: Part) -> Wording | None:
    """That of the prompts behind the means, which have fewer shots where there are no more examples."""
    return None if data.wording is None else replace(data.wording, shots=shots_of(behind))


def _decoding(
    model: PromptedModel, posed: PosedSearch, result: SearchResult, settings: FindSettings, task: int
) -> Decoding:
    """The one that is chosen for the sites that a search found, for a task by its number."""
    if posed.validation is None:
        return settings.choices.first(model)
    objective = posed.validation
    patch = Patch(objective.sites, result.mask[None], objective.means.map(lambda mean: mean[[task]]))
    own = evaluation.run(settings.searched(model), "query_only", patch)
    return current().firsts(calibrate(own, objective.prompts[task], settings.choices))


def validation_prompts(model: PromptedModel, data: DataSet, task: Task, settings: FindSettings) -> Prompts:
    """Prompts with examples of the part that validates, by which ways of prompting choose their decoding; of data with
    no pair there, prompts of the part behind the means."""
    part = next(part for part in reversed(parts_of(data)) if pairs_of(part))
    return _plan(model, part, task, min(settings.validation, pairs_of(part)), settings)[:]


def _drawn(objective: Objective) -> tuple[Drawn, ...]:
    return tuple(Drawn.of(prompts) for prompts in objective.prompts)


def _objective(
    model: PromptedModel,
    parts: Sequence[DataSet],
    tasks: Sequence[Task],
    settings: FindSettings,
    statistics: Statistics,
    items: int,
    kind: ObjectiveKind,
    *,
    validating: bool = False,
) -> Objective:
    each = max(1, items // len(tasks))
    shuffled = settings.searched_in == "shuffled" and not validating
    prompts = [
        _plan(model, part, task, min(each, len(part)), settings, query_only=not shuffled)[:]
        for part, task in zip(parts, tasks, strict=True)
    ]
    if shuffled:
        prompts = [with_shuffled_labels(each, settings.seed) for each in prompts]
    sites = model.sites(settings.granularity, settings.stacks)
    means = statistics.means([task.name for task in tasks])
    of_masks = settings.choices.adapted and kind == "pixel"
    levels = settings.levels if of_masks else ()
    view = "one_shot" if shuffled else "query_only"
    return Objective(settings.searched(model), sites, means, prompts, kind, view, levels=levels)


def find(
    model: PromptedModel,
    data: DataSet,
    task: Task | str | None = None,
    settings: FindSettings | None = None,
    statistics: Statistics | None = None,
    on_step: OnStep = lambda record: None,
    checkpoint: Checkpoint | None = None,
    *,
    progress: bool = True,
) -> TaskVectors:
    """Find the task vectors of one task, the data's own if none is named; ``statistics`` may be collected before.

    ``settings`` are by default those of the command: preset ``best``, or ``language`` of a language model.
    ``progress`` shows bars of the statistics and of the search on standard error, or in a notebook. Ctrl-C raises
    SearchInterrupted, which has the best task vectors so far, once there are any, and is a KeyboardInterrupt; a
    ``checkpoint`` keeps the state then, too.
    ``checkpoint`` and what else is raised are as in ``find_sites``.
    """
    (vectors,) = find_all(model, data, [task], settings, statistics, on_step, checkpoint, progress=progress)
    return vectors


def find_all(
    model: PromptedModel,
    data: Data,
    tasks: Sequence[Task | str | None],
    settings: FindSettings | None = None,
    statistics: Statistics | None = None,
    on_step: OnStep = lambda record: None,
    checkpoint: Checkpoint | None = None,
    *,
    progress: bool = True,
) -> list[TaskVectors]:
    """Multi-task: one search for the sites of all tasks, and the task vectors of each, which therefore add up.

    ``data`` is that of all tasks, or a list with one for each: ``find_all(model, [lungs, ribs], [None, None])`` of two
    folders that are tasks of their own. ``settings``, ``progress``, Ctrl-C and errors are as in ``find``.
    """
    require_model(model)
    settings = settings or FindSettings(prompts=TEXT_PROMPTS if model.takes_texts else FindSettings.prompts)
    chosen = [task_for(one, task) for one, task in zip(data_of_each(data, tasks), tasks, strict=True)]
    with search_progress(shown=progress and current().first) as shown:
        collecting = shown.add_task("statistics", total=settings.prompts, status="", visible=statistics is None)
        searching = shown.add_task(" + ".join(task.name for task in chosen), total=None, status="")
        show = show_step(shown, searching, settings.search.number_of_steps)

        def each_batch(task: str, done: int) -> None:
            shown.update(collecting, completed=done, status=task)

        def each_step(record: dict[str, Any]) -> None:
            shown.update(collecting, visible=False)
            show(record)
            on_step(record)

        finding = find_sites(model, data, chosen, settings, statistics, each_step, checkpoint, each_batch)
    vectors = finding.vectors()
    if finding.result.interrupted:
        raise SearchInterrupted(vectors, len(finding.result.history))
    return vectors


def collect_for(
    model: PromptedModel,
    data: Data,
    tasks: Sequence[Task],
    settings: FindSettings,
    on_batch: OnBatch = lambda task, count: None,
) -> Statistics:
    """The statistics that a search for these tasks takes: those of all that the data serve where it ranks layers."""
    of_each = data_of_each(data, tasks)
    others = [(task, one) for one in of_each for task in tasks_of(one)] if "layers" in settings.search.needs else []
    known = {task.name: (task, one) for task, one in [*others, *zip(tasks, of_each, strict=True)]}.values()
    return collect(model, (statistics_prompts(model, one, task, settings) for task, one in known), on_batch)


def _layers(sites: Sites, statistics: Statistics) -> list[Tensor]:
    """The sites of each layer, that of the highest taskness first."""
    if len(statistics.tasks) < 2:
        raise ValueError("this search ranks layers by taskness, which takes the statistics of several tasks")
    return layers_by_taskness(sites, taskness(statistics))


def _validate(objective: Objective, tasks: Sequence[str], settings: FindSettings) -> Validate:
    """The validation loss of each mask: of one task its mean, of several the mean of their standardised losses.

    Losses of different tasks have different units and spreads: each task's are standardised by the mean and the
    standard deviation that random masks give it.
    """
    if len(tasks) == 1:
        return objective.mean_losses
    named = [index for index, name in enumerate(tasks) if name in settings.judged_by]
    judges = named or list(range(len(tasks)))
    yardstick = objective.task_losses(objective.sites.sample(*YARDSTICK, seed=settings.seed))
    kept = FiniteLosses(settings.non_finite).of(yardstick.sum(1), "validation losses of random sets of sites")
    if int(kept.sum()) < 2:
        raise ValueError(
            f"{int(kept.sum())} of {len(kept)} random sets of sites have finite validation losses: too few"
        )
    yardstick = yardstick[kept]
    mean, deviation = yardstick.mean(0), yardstick.std(0, correction=1) + 1e-6

    def validate(masks: Tensor, share: float = 1.0) -> Tensor:
        return ((objective.task_losses(masks, share) - mean) / deviation)[:, judges].mean(1)

    return validate


def _screen(validation: Objective, tasks: Sequence[str], settings: FindSettings) -> Validate:
    """The validation loss by the model's own loss, which decodes nothing."""
    return _validate(replace(validation, kind="token"), tasks, settings)


def _when_asked(make: Callable[[], Validate]) -> Validate:
    """What ``make`` makes, which is done when it is first needed."""
    made = cache(make)
    return lambda masks, share=1.0: made()(masks, share)


def _identity(
    statistics: Statistics, means: Means, data: Sequence[DataSet], tasks: Sequence[Task], settings: FindSettings
) -> dict[str, Any]:
    """All that a search depends on, beside what it knows itself."""
    return {
        "model": statistics.model_fingerprint,
        "data": list({id(one): one.describe() for one in data}.values()),
        "tasks": [[task.name, sides(task), task.metric.name] for task in tasks],
        # without what comes after the search, and the search's own settings, which it knows itself
        "finding": {**asdict(settings), "search": None, "prune": None, "curve": None},
        "means": digests.of_tensors(means),
    }


def _check_origin(prompts: Drawn | Former, data: DataSet, task: Task, apart: list[Part]) -> None:
    if isinstance(prompts, Former):
        raise ValueError(
            f"the statistics of {task.name} were collected by an earlier version, which knew images by their names: "
            "collect them again (`taskvec collect`)"
        )
    described = digests.plain(data.describe())
    for name in sorted(described, key=lambda name: name == "digest"):  # which anything else explains
        if prompts.data.get(name) != described[name]:
            raise ValueError(
                f"the statistics are of data with {name} {prompts.data.get(name)}, the search is on {name} "
                f"{described[name]}: only parts of the same data are kept apart"
            )
    if prompts.sides != sides(task):
        raise ValueError(f"the statistics of {task.name} are of {prompts.sides}, the search is of {sides(task)}")
    reserved = {name for part in apart for name in part.images_of(np.arange(len(part)))}
    shared = sorted(reserved.intersection(prompts.images))
    if shared:
        raise ValueError(
            f"the statistics were collected on {len(shared)} images that the search needs for itself, such as "
            f"{shared[0]}: collect them on the data's own part for statistics, as `taskvec collect` does"
        )
