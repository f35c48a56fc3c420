"""The whole job for one task: statistics, search, choice on held-out items, task vectors."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from taskvec.data.examples import DataSet, partition
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.objectives import Objective, ObjectiveKind
from taskvec.prompts import Prompts, draw_prompts
from taskvec.search.reinforce import ReinforceSettings, reinforce
from taskvec.sites import Granularity
from taskvec.statistics import Statistics, collect
from taskvec.tasks import Task, task_named
from taskvec.vectors import TaskVectors


@dataclass(frozen=True)
class FindSettings:
    """How task vectors are found; the defaults are the paper's (Sections 8.1 and 8.2), with 100 held-out items.

    ``prompts`` are behind each mean, ``items`` are searched on, ``held_out`` choose among checkpoints; the three come
    from disjoint parts of the data. ``taskvec.objectives`` and ``taskvec.sites`` explain objectives and granularities.
    """

    prompts: int = 100
    items: int = 10
    held_out: int = 100
    objective: ObjectiveKind = "pixel"
    granularity: Granularity = "quadrant"
    stacks: tuple[str, ...] = ("encoder", "decoder")
    search: ReinforceSettings = ReinforceSettings()
    seed: int = 0
    bfloat16: bool = False


SHARES = (0.5, 0.2, 0.3)  # of the data for statistics, search and held-out items


def statistics_prompts(model: MaeVqgan, data: DataSet, task: Task, settings: FindSettings) -> Prompts:
    """The prompts behind the means."""
    part = partition(data, SHARES, settings.seed)[0]
    return draw_prompts(part, task, settings.prompts, model.config.image_size, settings.seed)


def find(
    model: MaeVqgan,
    data: DataSet,
    task: Task | str,
    settings: FindSettings | None = None,
    statistics: Statistics | None = None,
    on_step: Callable[[dict[str, Any]], None] = lambda record: None,
) -> TaskVectors:
    """Find the task vectors of one task; ``statistics`` collected before are used where given.

    Raises ValueError where the statistics belong to another model, KeyError where they lack the task.
    """
    task = task_named(task) if isinstance(task, str) else task
    settings = settings or FindSettings()
    if statistics is None:
        statistics = collect(model, [statistics_prompts(model, data, task, settings)])
    if statistics.model_fingerprint != model.fingerprint():
        raise ValueError(
            f"the statistics belong to the model with fingerprint {statistics.model_fingerprint}, "
            f"not to this one with {model.fingerprint()}"
        )
    _, search_part, held_out_part = partition(data, SHARES, settings.seed)
    size = model.config.image_size
    sites = model.sites(settings.granularity, settings.stacks)
    means = statistics.means([task.name])

    def objective(prompts: Prompts) -> Objective:
        return Objective(model, sites, means, [prompts], settings.objective, bfloat16=settings.bfloat16)

    searched = draw_prompts(search_part, task, settings.items, size, settings.seed)
    held_out = objective(draw_prompts(held_out_part, task, settings.held_out, size, settings.seed))
    found = reinforce(
        objective(searched), held_out.mean_losses, len(sites), settings.items, settings.search, on_step=on_step
    )
    record = {
        "data": data.describe(),
        "settings": asdict(settings),
        "statistics": {"count": statistics.tasks[task.name].count, **statistics.tasks[task.name].prompts},
        "step": found.step,
        "held_out_loss": found.loss,
        "evaluations": found.evaluations,
        "history": found.history,
        "torch": torch.__version__,
    }
    one_task = {stack: mean[0] for stack, mean in means.items()}
    return TaskVectors.select(model, sites, found.mask, one_task, task=task.name, metric=task.metric, found=record)
