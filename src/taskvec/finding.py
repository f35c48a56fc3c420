"""The whole job for one task: statistics, search, choice on held-out items, task vectors."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from taskvec import environment
from taskvec.data.examples import DataSet, Part, partition, task_for
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.objectives import OBJECTIVES, Objective, ObjectiveKind
from taskvec.prompts import Prompts, draw_prompts, pairs_of, sides
from taskvec.search import ReinforceSettings, RelaxedSettings, reinforce, relaxed
from taskvec.sites import Granularity
from taskvec.statistics import Statistics, collect
from taskvec.tasks import Task
from taskvec.vectors import TaskVectors


@dataclass(frozen=True)
class FindSettings:
    """How task vectors are found; the defaults are the paper's (Sections 8.1 and 8.2), with 100 held-out items.

    ``prompts`` are behind each mean, ``items`` are searched on, ``held_out`` choose among checkpoints, by the task's
    own metric whatever the objective is; the three come from disjoint parts of the data. ``taskvec.objectives`` and
    ``taskvec.sites`` explain objectives and granularities.
    """

    prompts: int = 100
    items: int = 10
    held_out: int = 100
    objective: ObjectiveKind = "pixel"
    granularity: Granularity = "quadrant"
    stacks: tuple[str, ...] = ("encoder", "decoder")
    search: ReinforceSettings | RelaxedSettings = ReinforceSettings()
    seed: int = 0
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"there is no objective {self.objective!r}: expected one of {', '.join(OBJECTIVES)}")
        if min(self.prompts, self.items, self.held_out) < 1:
            raise ValueError("prompts, items and held_out must each be at least 1")
        if isinstance(self.search, RelaxedSettings) and self.objective != "token":
            raise ValueError(f"the relaxed search needs a gradient: the objective is {self.objective}, expected token")


# Losses are read from the codes without decoding, so that they have a gradient by the shares of all sites at once. The
# final set is the best of some samples by the task's metric on held-out items, which matters more than further steps.
QUICK = FindSettings(
    prompts=200,
    items=40,
    held_out=100,
    objective="token",
    search=RelaxedSettings(),
)

SHARES = (0.5, 0.2, 0.3)  # of the data for statistics, search and held-out items
PARTITION_SEED = 0  # never the user's: statistics collected with one seed must stay clear of a search with another


def method_of(settings: FindSettings) -> str:
    """The name of the search: reinforce or relaxed."""
    return "relaxed" if isinstance(settings.search, RelaxedSettings) else "reinforce"


def statistics_prompts(model: MaeVqgan, data: DataSet, task: Task, settings: FindSettings) -> Prompts:
    """The prompts behind the means."""
    part = partition(data, SHARES, PARTITION_SEED)[0]
    count = min(settings.prompts, pairs_of(part))
    return draw_prompts(part, task, count, model.config.image_size, settings.seed)


def find(
    model: MaeVqgan,
    data: DataSet,
    task: Task | str | None = None,
    settings: FindSettings | None = None,
    statistics: Statistics | None = None,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
) -> TaskVectors:
    """Find the task vectors of one task, the data's own if none is named; ``statistics`` may be collected before.

    Where there are fewer examples than prompts, items or held-out items, each is used once. Raises ValueError where
    they are too few, or the statistics belong to another model or other data, KeyError where they lack the task.
    """
    task = task_for(data, task)
    settings = settings or FindSettings()
    sites = model.sites(settings.granularity, settings.stacks)
    statistics_part, search_part, held_out_part = partition(data, SHARES, PARTITION_SEED)
    sizes = [len(part) for part in (statistics_part, search_part, held_out_part)]
    if not all(sizes):
        raise ValueError(
            f"{len(data)} examples are too few: {sizes[0]} fall to the statistics, {sizes[1]} to the search and "
            f"{sizes[2]} to the choice among its results"
        )
    if statistics is None:
        statistics = collect(model, [statistics_prompts(model, data, task, settings)])
    means = statistics.means([task.name])
    own = statistics.tasks[task.name]
    _check_origin(statistics.model_fingerprint, own.prompts, model, data, task, [search_part, held_out_part])

    def objective(part: DataSet, items: int, kind: ObjectiveKind) -> tuple[Prompts, Objective]:
        prompts = draw_prompts(part, task, min(items, len(part)), model.config.image_size, settings.seed)
        return prompts, Objective(model, sites, means, [prompts], kind, bfloat16=settings.bfloat16)

    searched, evaluate = objective(search_part, settings.items, settings.objective)
    held_out, judge = objective(held_out_part, settings.held_out, "pixel")
    size = (len(sites), len(searched))
    if isinstance(settings.search, RelaxedSettings):
        found = relaxed(evaluate.differentiate, judge.mean_losses, *size, settings.search, on_step)
    else:
        found = reinforce(evaluate, judge.mean_losses, *size, settings.search, on_step=on_step)
    record = {
        "method": method_of(settings),
        "settings": asdict(settings),
        "statistics": {**own.prompts, "prompts": own.count},
        "search": _record(searched),
        "held_out": _record(held_out),
        "step": found.step,
        "held_out_loss": found.loss,
        "evaluations": found.evaluations,
        "interrupted": found.interrupted,
        "history": found.history,
        "versions": environment.versions(),
    }
    one_task = {stack: mean[0] for stack, mean in means.items()}
    return TaskVectors.select(model, sites, found.mask, one_task, task=task.name, metric=task.metric, found=record)


def _record(prompts: Prompts) -> dict[str, object]:
    """Which queries a search saw; it never sees supports."""
    return {**prompts.origin, "query": prompts.query_names, "images": sorted(set(prompts.query_images))}


def _check_origin(
    fingerprint: str, prompts: dict[str, Any], model: MaeVqgan, data: DataSet, task: Task, apart: list[Part]
) -> None:
    if fingerprint != model.fingerprint():
        raise ValueError(
            f"the statistics belong to the model with fingerprint {fingerprint}, "
            f"not to this one with {model.fingerprint()}"
        )
    for name, value in data.describe().items():
        if prompts.get(name) != value:
            raise ValueError(
                f"the statistics are of data with {name} {prompts.get(name)}, the search is on {name} {value}: "
                "only parts of the same data are kept apart"
            )
    if prompts.get("sides") != sides(task):
        raise ValueError(f"the statistics of {task.name} are of {prompts.get('sides')}, the search is of {sides(task)}")
    reserved = {name for part in apart for name in part.images_of(np.arange(len(part)))}
    shared = sorted(reserved.intersection(prompts["images"]))
    if shared:
        raise ValueError(
            f"the statistics were collected on {len(shared)} images that the search needs for itself, such as "
            f"{shared[0]}: collect them on the data's own part for statistics, as `taskvec collect` does"
        )
