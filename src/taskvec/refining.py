"""Better values for task vectors at their sites: the means are where a gradient starts from.

A search chooses where head outputs are replaced, by the mean of what the heads gave with an example. The loss of a run
has a gradient by these values, too, so a short descent makes them say more of the task than their mean does. What comes
out are task vectors like any others.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from taskvec import digests, evaluation
from taskvec.answering import Choices, calibrate
from taskvec.data.examples import DataSet, Part, task_for
from taskvec.finding import parts_of
from taskvec.heads import Means
from taskvec.interrupts import stoppable
from taskvec.metrics import METRICS
from taskvec.models.interface import Decoding, Variant
from taskvec.objectives import Objective
from taskvec.processes import current
from taskvec.progress import search_progress, show_descent
from taskvec.prompts import Prompts, draw_prompts
from taskvec.provenance import Drawn, Refinement, images_of
from taskvec.refine_settings import RefineSettings
from taskvec.tasks import is_built_in
from taskvec.vectors import TaskVectors

OnStep = Callable[[dict[str, Any]], None]


def refine(
    vectors: TaskVectors,
    data: DataSet,
    settings: RefineSettings = RefineSettings(),
    on_step: OnStep = lambda record: None,
    *,
    progress: bool = False,
) -> TaskVectors:
    """Task vectors with refined values at the same sites.

    ``data`` is of their task; parted as ``taskvec.find`` parts it, its queries for the means and for the search are
    learnt from, and its validation queries choose the step and, where the vectors have the decoding ``expected``, its
    temperature and level anew. ``on_step`` sees a record of every step: step, loss, and where they are scored the
    validation loss. Ctrl-C and SIGTERM end it, between steps, with the best so far. Of several ``processes``, which all
    call this with the same arguments, the first one tells of steps. ``progress`` shows a bar on standard error, or in a
    notebook.

    Raises ValueError for vectors that no search found, or that are refined already, for data of another task or
    template, and where a validation query is among the images that they were found on, other than as a validation
    query.
    """
    if vectors.search.refinement is not None:
        raise ValueError(f"the task vectors of {vectors.task} are refined already: refine those that the search found")
    search, task = vectors.search, task_for(data, vectors.task if is_built_in(vectors.task) else None)
    if task.metric.name != vectors.config.metric:
        raise ValueError(f"the task vectors are scored by {vectors.config.metric}, the data by {task.metric.name}")
    own, others = vectors.config.wording, data.wording
    if own is not None and others is not None and own.template != others.template:
        raise ValueError(
            f"the task vectors of {vectors.task} are for the template {own.template!r}, the data have "
            f"{others.template!r}: refine them with their own"
        )
    behind, searched, kept_aside = parts_of(data)
    shown = Part(data, np.concatenate([behind.members, searched.members]))
    size = vectors.model.image_size
    learnt, validation = (
        draw_prompts(part, task, min(count, len(part)), size, settings.seed, query_only=True)
        for part, count in ((shown, settings.prompts), (kept_aside, settings.validation))
    )
    used = images_of(replace(search, validation=()))
    if seen := used.intersection(validation.query_images):
        raise ValueError(
            f"{len(seen)} of the images that would validate are among those that the task vectors were found on, such "
            f"as {min(seen)}: refine them on the data of their search, or on other data"
        )
    with search_progress(shown=progress and current().first) as shown, stoppable():
        show = show_descent(shown, settings.steps)

        def each_step(record: dict[str, Any]) -> None:
            show(task.name, record)
            on_step(record)

        return _Descent(vectors, learnt, validation, settings).run(
            each_step if current().first else lambda record: None
        )


@dataclass
class _Descent:
    """Values that follow the gradient of the loss on ``learnt``, and the best of them by ``validation``."""

    vectors: TaskVectors
    learnt: Prompts
    validation: Prompts
    settings: RefineSettings

    def run(self, on_step: OnStep) -> TaskVectors:
        settings, vectors = self.settings, self.vectors
        model = vectors.model.variant(Variant(decoding=vectors.config.decoding))
        patch = vectors.patch
        followed = vectors.config.decoding.kind == "expected" and self.learnt.task.metric.soft is not None
        kind = settings.objective or ("pixel" if followed else "token")
        objective = Objective(model, patch.sites, patch.means, [self.learnt], kind)
        values = {stack: mean.clone() for stack, mean in vectors.means.items()}
        optimizer = torch.optim.Adam([mean.requires_grad_() for mean in values.values()], settings.learning_rate)
        generator = torch.Generator().manual_seed(settings.seed)
        before = best = self._loss(vectors)
        kept, best_step, waited, history = vectors, 0, 0, []
        try:
            for step in range(1, settings.steps + 1):
                items = torch.randperm(objective.items, generator=generator)[: settings.batch]
                losses, gradients = objective.differentiate_means(
                    Means({stack: mean.detach()[None] for stack, mean in values.items()}, patch.means.model), items
                )
                for stack, mean in values.items():
                    mean.grad = gradients[stack][0]
                optimizer.step()
                record: dict[str, float | None] = {"step": step, "loss": float(losses.mean())}
                if step % settings.validate_every == 0 or step == settings.steps:
                    now = replace(vectors, means={stack: mean.detach().clone() for stack, mean in values.items()})
                    record["validation_loss"] = loss = self._loss(now)
                    waited += 1
                    if loss < best:
                        kept, best, best_step, waited = now, loss, step, 0
                history.append(record)
                on_step(record)
                if waited == settings.patience:
                    break
        except KeyboardInterrupt:
            pass  # with the best so far
        found = vectors.search
        refinement = Refinement(
            settings=digests.plain(asdict(replace(settings, objective=kind))),
            learnt=Drawn.of(self.learnt),
            validation=Drawn.of(self.validation),
            step=best_step,
            loss_before=before,
            loss=best,
            history=tuple(history),
        )
        decoding = vectors.config.decoding
        if best_step and decoding.kind == "expected":
            method = evaluation.run(vectors.model, "query_only", kept.patch)
            decoding = current().firsts(calibrate(method, self.validation, _around(decoding)))
        config = replace(kept.config, found=replace(found, refinement=refinement), decoding=decoding)
        return TaskVectors(vectors.model, config, kept.means)

    def _loss(self, vectors: TaskVectors) -> float:
        method = evaluation.run(vectors.answering, "query_only", vectors.patch)
        metric = METRICS[vectors.config.metric]
        return current().firsts(float(metric.loss(evaluation.scores(vectors.model, method, self.validation).mean())))


def _around(decoding: Decoding) -> Choices:
    """All that there are, and the one that there is first, which is kept where no other is better."""
    levels = () if decoding.level is None else (decoding.level,)
    every = Choices()
    return Choices(
        temperatures=tuple(dict.fromkeys((decoding.temperature, *every.temperatures))),
        levels=tuple(dict.fromkeys((*levels, *every.levels))),
    )
