"""The whole job: statistics, a search for sites, the choice on held-out items, task vectors of one or several tasks."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from taskvec import digests, environment
from taskvec.analysis import layers_by_taskness, taskness
from taskvec.data.examples import DataSet, Part, partition, task_for, tasks_of
from taskvec.heads import Means
from taskvec.models.mae_vqgan import DecodeArea, MaeVqgan
from taskvec.objectives import OBJECTIVES, Objective, ObjectiveKind
from taskvec.progress import search_progress, show_step
from taskvec.prompts import Prompts, Sampling, draw_prompts, pairs_of, sides
from taskvec.provenance import Drawn, Former, Search
from taskvec.search import (
    CmaSettings,
    FiniteLosses,
    Found,
    GreedySettings,
    Memory,
    NonFinite,
    ReinforceSettings,
    RelaxedSettings,
    cma,
    greedy,
    reinforce,
    relaxed,
)
from taskvec.search.found import Validate
from taskvec.sites import Granularity, Sites
from taskvec.statistics import Statistics, collect
from taskvec.tasks import Task
from taskvec.vectors import TaskVectors

SearchSettings = ReinforceSettings | RelaxedSettings | CmaSettings | GreedySettings
SEARCHES: dict[str, type[SearchSettings]] = {
    "reinforce": ReinforceSettings,
    "relaxed": RelaxedSettings,
    "cma": CmaSettings,
    "greedy": GreedySettings,
}

SHARES = (0.5, 0.2, 0.3)  # of the data for statistics, search and held-out items
PARTITION_SEED = 0  # never the user's: statistics collected with one seed must stay clear of a search with another
YARDSTICK = (32, 0.3)  # random masks, and the share of sites in each, that tell by how much masks move a task's loss


@dataclass(frozen=True)
class FindSettings:
    """How task vectors are found. The defaults are preset ``best``, a search by gradient of some seconds; preset
    ``paper`` is the paper's protocol (Sections 8.1 and 8.2), and ``taskvec.presets.with_method`` has other searches.

    ``seed`` seeds everything: what is drawn and the search, unless that has a seed of its own. ``bfloat16`` computes
    the search's passes in that type, which some processors do faster; it is never chosen by the machine.

    ``prompts`` are behind each mean; where ``pool`` is more, as many pairs are drawn and those that one-shot prompting
    does best are kept. ``items`` are searched on, ``held_out`` choose among candidates, by the task's own metric
    whatever the objective is; the three come from disjoint parts of the data. Both are of all tasks together: a search
    for the sites of five tasks has two of ten items of each. Those of ``judged_by`` that are among them choose, or all.
    ``taskvec.objectives`` explains objectives, ``taskvec.sites`` granularities, ``taskvec.prompts`` samplings and
    holes. ``area`` is what is decoded together in the search, by default what the model's tokenizer is made for, as
    always where vectors are applied. ``non_finite`` says what becomes of losses that are NaN or infinite, as in
    ``taskvec.search.FiniteLosses``.
    """

    prompts: int = 200
    items: int = 40
    held_out: int = 100
    objective: ObjectiveKind = "token"
    granularity: Granularity = "quadrant"
    stacks: tuple[str, ...] = ("encoder", "decoder")
    search: SearchSettings = RelaxedSettings(halving=True)
    seed: int = 0
    bfloat16: bool = False
    area: DecodeArea | None = None
    pool: int = 0
    sampling: Sampling = "balanced"
    same_hole: bool = False
    judged_by: tuple[str, ...] = ()
    non_finite: NonFinite = "refuse"

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"there is no objective {self.objective!r}: expected one of {', '.join(OBJECTIVES)}")
        if min(self.prompts, self.items, self.held_out) < 1:
            raise ValueError("prompts, items and held_out must each be at least 1")
        FiniteLosses(self.non_finite)  # ValueError for another policy
        if isinstance(self.search, RelaxedSettings) and self.objective != "token":
            raise ValueError(f"the relaxed search needs a gradient: the objective is {self.objective}, expected token")

    @property
    def ranks_layers(self) -> bool:
        """Whether the search needs the statistics of other tasks, too."""
        return isinstance(self.search, GreedySettings)

    @property
    def seeded_search(self) -> SearchSettings:
        """The search's settings with the seed that it has: its own, or that of everything."""
        if isinstance(self.search, CmaSettings) or self.search.seed is not None:
            return self.search
        return replace(self.search, seed=self.seed)


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of ``find`` or ``find_all``: ``vectors`` are the best so far, one a task, ready for use."""

    def __init__(self, vectors: Sequence[TaskVectors], step: int):
        super().__init__(f"interrupted after step {step}: the best task vectors so far are .vectors of this exception")
        self.vectors = list(vectors)


@dataclass(frozen=True)
class FoundSites:
    """Sites that one search found for one or several tasks, and everything that is to be kept of how."""

    sites: Sites
    found: Found
    record: Search


def method_of(settings: FindSettings) -> str:
    """The name of the search, of SEARCHES."""
    return next(name for name, kind in SEARCHES.items() if type(settings.search) is kind)


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


def statistics_prompts(model: MaeVqgan, data: DataSet, task: Task, settings: FindSettings) -> Prompts:
    """The prompts behind the means."""
    part = parts_of(data)[0]
    pairs = pairs_of(part)
    drawn = _draw(model, part, task, min(max(settings.prompts, settings.pool), pairs), settings)
    if settings.pool <= settings.prompts:
        return drawn
    return drawn.take(_one_shot_losses(model, drawn, settings.area).argsort(stable=True)[: settings.prompts].numpy())


def _draw(
    model: MaeVqgan, data: DataSet, task: Task, count: int, settings: FindSettings, *, query_only: bool = False
) -> Prompts:
    options: dict[str, Any] = {"sampling": settings.sampling, "same_hole": settings.same_hole, "query_only": query_only}
    return draw_prompts(data, task, count, model.config.image_size, settings.seed, **options)


@torch.inference_mode()
def _one_shot_losses(model: MaeVqgan, prompts: Prompts, area: DecodeArea | None, batch: int = 64) -> Tensor:
    losses = []
    for start, canvases in enumerate(prompts.canvases(model.geometry).to(model.device).split(batch)):
        images = model.decode(model(canvases, "one_shot").argmax(-1), "one_shot", area)
        metric, truth = prompts.task.metric, model.geometry.crop(canvases, "query_output")
        rows = slice(start * batch, (start + 1) * batch)
        own = None if prompts.query_ignored is None else torch.from_numpy(prompts.query_ignored[rows]).to(model.device)
        losses.append(metric.loss(metric.score(images, truth, own)).cpu())
    return torch.cat(losses)


Data = DataSet | Sequence[DataSet]  # of all tasks, or one for each


def data_of_each(data: Data, tasks: Sequence[Task | str | None]) -> list[DataSet]:
    """The data set of each task; ValueError where there are several, but not one for each."""
    if not isinstance(data, list | tuple):
        return [cast(DataSet, data)] * len(tasks)
    if len(data) != len(tasks):
        raise ValueError(
            f"there are {len(data)} data sets for {len(tasks)} tasks: expected one for all, or one for each"
        )
    return list(data)


def find_sites(
    model: MaeVqgan,
    data: Data,
    tasks: Sequence[Task],
    settings: FindSettings,
    statistics: Statistics,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
    memory: Memory | None = None,
) -> FoundSites:
    """One set of sites for all of the tasks, each patched with its own means: task-specific for one, else multi-task.

    ``data`` is that of all of the tasks, or a list with one for each, such as of folders that are tasks of their own.
    Where there are fewer examples than items or held-out items, each is used once. ``memory`` lets an interrupted
    search by REINFORCE or gradient go on, and one that is over end at once: call ``memory.forget()`` when the result is
    safe. Raises ValueError where a task comes twice, examples are too few, the statistics lack a task or belong to
    another model or other data, or the memory to another search, or where losses are not finite.
    """
    if len({task.name for task in tasks}) < len(tasks):
        raise ValueError(f"a task is named twice: {', '.join(task.name for task in tasks)}")
    of_each = data_of_each(data, tasks)
    parted = {id(one): parts_of(one) for one in of_each}
    search_parts, held_out_parts = ([parted[id(one)][index] for one in of_each] for index in (1, 2))
    apart = [part for parts in parted.values() for part in parts[1:]]
    statistics = statistics.of(model)
    means = statistics.means([task.name for task in tasks])
    for task, one in zip(tasks, of_each, strict=True):
        _check_origin(statistics.tasks[task.name].prompts, one, task, apart)
    evaluate = _objective(model, search_parts, tasks, settings, statistics, settings.items, settings.objective)
    settings = replace(settings, search=settings.seeded_search)
    sites, search, held_out = evaluate.sites, settings.search, []
    task_of_item = evaluate.tasks if len(tasks) > 1 else None
    size = (len(sites), evaluate.items)
    if memory is not None:
        memory = replace(memory, of={**memory.of, **_identity(statistics, means, of_each, tasks, settings)})
    names = [f"{prompts.task.name} of {name}" for prompts in evaluate.prompts for name in prompts.query_names]
    finite = FiniteLosses(settings.non_finite, names)
    if isinstance(search, CmaSettings):
        found = cma(evaluate, *size, search, task_of_item, on_step, finite)
    elif isinstance(search, GreedySettings):
        found = greedy(evaluate, _layers(sites, statistics, search), *size, search, task_of_item, on_step, finite)
    else:
        judge = _objective(model, held_out_parts, tasks, settings, statistics, settings.held_out, "pixel")
        validate, held_out = _validate(judge, [task.name for task in tasks], settings), judge.prompts
        if isinstance(search, RelaxedSettings):
            found = relaxed(evaluate.differentiate, validate, *size, search, task_of_item, on_step, memory, finite)
        else:
            found = reinforce(evaluate, validate, *size, search, task_of_item, on_step, memory, finite)
    record = Search(
        method=method_of(settings),
        settings=digests.plain(asdict(settings)),
        tasks=tuple(task.name for task in tasks),
        search=tuple(Drawn.of(prompts, supports=False) for prompts in evaluate.prompts),
        held_out=tuple(Drawn.of(prompts, supports=False) for prompts in held_out),
        statistics=None,
        step=found.step,
        loss=found.loss,
        evaluations=found.evaluations,
        interrupted=found.interrupted,
        non_finite=found.non_finite,
        history=tuple(found.history),
        versions=environment.versions(),
    )
    return FoundSites(sites, found, record)


def search_objective(
    model: MaeVqgan, data: DataSet, tasks: Sequence[Task], settings: FindSettings, statistics: Statistics
) -> Objective:
    """What ``find_sites`` minimises: losses of masks on the items that it searches on."""
    parts = [parts_of(data)[1]] * len(tasks)
    return _objective(model, parts, tasks, settings, statistics, settings.items, settings.objective)


def _objective(
    model: MaeVqgan,
    parts: Sequence[DataSet],
    tasks: Sequence[Task],
    settings: FindSettings,
    statistics: Statistics,
    items: int,
    kind: ObjectiveKind,
) -> Objective:
    each = max(1, items // len(tasks))
    prompts = [
        _draw(model, part, task, min(each, len(part)), settings, query_only=True)
        for part, task in zip(parts, tasks, strict=True)
    ]
    sites = model.sites(settings.granularity, settings.stacks)
    means = statistics.means([task.name for task in tasks])
    return Objective(model, sites, means, prompts, kind, area=settings.area, bfloat16=settings.bfloat16)


def find(
    model: MaeVqgan,
    data: DataSet,
    task: Task | str | None = None,
    settings: FindSettings | None = None,
    statistics: Statistics | None = None,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
    memory: Memory | None = None,
    *,
    progress: bool = True,
) -> TaskVectors:
    """Find the task vectors of one task, the data's own if none is named; ``statistics`` may be collected before.

    ``settings`` are by default those of preset ``best``, as of the command. ``progress`` shows bars of the statistics
    and of the search on standard error, or in a notebook. Ctrl-C raises SearchInterrupted, which has the best task
    vectors so far, once there are any, and is a KeyboardInterrupt; a ``memory`` keeps the state then, too. ``memory``
    and what else is raised are as in ``find_sites``.
    """
    return find_all(model, data, [task_for(data, task)], settings, statistics, on_step, memory, progress=progress)[0]


def find_all(
    model: MaeVqgan,
    data: Data,
    tasks: Sequence[Task | str | None],
    settings: FindSettings | None = None,
    statistics: Statistics | None = None,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
    memory: Memory | None = None,
    *,
    progress: bool = True,
) -> list[TaskVectors]:
    """Multi-task: one search for the sites of all tasks, and the task vectors of each, which therefore add up.

    ``data`` is that of all tasks, or a list with one for each: ``find_all(model, [lungs, ribs], [None, None])`` of two
    folders that are tasks of their own.     ``settings``, ``progress``, Ctrl-C and errors are as in ``find``.
    """
    settings = settings or FindSettings()
    chosen = [task_for(one, task) for one, task in zip(data_of_each(data, tasks), tasks, strict=True)]
    with search_progress(shown=progress) as shown:
        if statistics is None:
            bar = shown.add_task("statistics", total=settings.prompts, status="")

            def each_batch(task: str, done: int) -> None:
                shown.update(bar, completed=done, status=task)

            statistics = collect_for(model, data, chosen, settings, each_batch)
            shown.remove_task(bar)
        bar = shown.add_task(" + ".join(task.name for task in chosen), total=None, status="")
        show = show_step(shown, bar, getattr(settings.search, "steps", None))

        def each_step(record: dict[str, Any]) -> None:
            show(record)
            on_step(record)

        found = find_sites(model, data, chosen, settings, statistics, each_step, memory)
    vectors = [select(model, found, statistics, task) for task in chosen]
    if found.found.interrupted:
        raise SearchInterrupted(vectors, len(found.found.history))
    return vectors


def collect_for(
    model: MaeVqgan,
    data: Data,
    tasks: Sequence[Task],
    settings: FindSettings,
    on_batch: Callable[[str, int], None] = lambda task, count: None,
) -> Statistics:
    """The statistics that a search for these tasks takes: those of all that the data serve where it ranks layers."""
    of_each = data_of_each(data, tasks)
    others = [(task, one) for one in of_each for task in tasks_of(one)] if settings.ranks_layers else []
    known = {task.name: (task, one) for task, one in [*others, *zip(tasks, of_each, strict=True)]}.values()
    return collect(model, (statistics_prompts(model, one, task, settings) for task, one in known), on_batch)


def select(model: MaeVqgan, found: FoundSites, statistics: Statistics, task: Task) -> TaskVectors:
    """The task vectors of one task at the sites that were found."""
    own = statistics.tasks[task.name]
    record = replace(found.record, statistics=own.prompts)
    mask = found.found.mask
    levels: Any = own.prompts.data.get("input_levels") if isinstance(own.prompts, Drawn) else None
    return TaskVectors.select(
        model,
        found.sites,
        mask,
        own.mean,
        task=task.name,
        metric=task.metric.name,
        found=record,
        input_levels=None if levels is None else (levels[0], levels[1]),
    )


def _layers(sites: Sites, statistics: Statistics, search: GreedySettings) -> list[Tensor]:
    """The sites of each layer, in the order that the greedy search takes them."""
    if len(statistics.tasks) < 2:
        raise ValueError("the greedy search ranks layers by taskness, which takes the statistics of several tasks")
    layers = layers_by_taskness(sites, taskness(statistics))
    if search.order == "random":
        order = torch.randperm(len(layers), generator=torch.Generator().manual_seed(search.seed or 0))
        return [layers[index] for index in order]
    return layers


def _validate(objective: Objective, tasks: Sequence[str], settings: FindSettings) -> Validate:
    """The held-out loss of each mask: of one task its mean, of several the mean of their standardised losses.

    Losses of different tasks have different units and spreads: each task's are standardised by the mean and the
    standard deviation that random masks give it.
    """
    if len(tasks) == 1:
        return objective.mean_losses
    named = [index for index, name in enumerate(tasks) if name in settings.judged_by]
    judges = named or list(range(len(tasks)))
    yardstick = objective.task_losses(objective.sites.sample(*YARDSTICK, seed=settings.seed))
    kept = FiniteLosses(settings.non_finite).of(yardstick.sum(1), "held-out losses of random sets of sites")
    if int(kept.sum()) < 2:
        raise ValueError(f"{int(kept.sum())} of {len(kept)} random sets of sites have finite held-out losses: too few")
    yardstick = yardstick[kept]
    mean, deviation = yardstick.mean(0), yardstick.std(0, correction=1) + 1e-6

    def validate(masks: Tensor, share: float = 1.0) -> Tensor:
        return ((objective.task_losses(masks, share) - mean) / deviation)[:, judges].mean(1)

    return validate


def _identity(
    statistics: Statistics, means: Means, data: Sequence[DataSet], tasks: Sequence[Task], settings: FindSettings
) -> dict[str, Any]:
    """All that a search depends on, beside what it knows itself."""
    return {
        "model": statistics.model_fingerprint,
        "data": list({id(one): one.describe() for one in data}.values()),
        "tasks": [[task.name, sides(task), task.metric.name] for task in tasks],
        "finding": {**asdict(settings), "search": None},  # whose settings it knows itself
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
