"""What a search minimises: the loss of a query-only run under a patch, for any masks and items at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvec.heads import Means, Patch, StackMeans, require_means, run
from taskvec.memory import rows_of_a_pass
from taskvec.metrics import WHITE, Metric, cut
from taskvec.models.interface import Items, PromptedModel, ViewName
from taskvec.prompts import Prompts, joined
from taskvec.sites import Sites

ObjectiveKind = Literal["pixel", "token"]
OBJECTIVES: tuple[ObjectiveKind, ...] = ("pixel", "token")


@dataclass
class Objective:
    """Losses of patched runs on fixed items, which are the queries of one or several tasks, task after task.

    ``pixel`` is the task's metric of the model's answers (its negative for IoU); ``token`` the model's own loss, of
    MAE-VQGAN the mean cross-entropy in nats of the true codes, which needs no decoding. Task t's items take the t-th of
    ``means``. ``rows`` bounds how many patched runs share a forward pass, None by the memory that is free; results do
    not depend on it, beyond the order of floating-point sums.

    ``levels``, 0 to 255, are where answers that are masks may be cut: the mean loss of a set of sites over the items of
    a task whose metric is of masks is then that at the best level. Everything else is at the level of the model's
    decoding, which is one half where it has none.
    """

    model: PromptedModel
    sites: Sites
    means: Means
    prompts: Sequence[Prompts]
    kind: ObjectiveKind = "pixel"
    view: ViewName = "query_only"
    rows: int | None = None
    levels: tuple[float, ...] = ()
    tasks: Int[Tensor, " items"] = field(init=False, repr=False)  # the task of every item
    _items: Items = field(init=False, repr=False)
    _targets: Any = field(init=False, repr=False)  # of the model's own loss; else true images
    _ignored: Tensor | None = field(init=False, repr=False)  # of their pixels, None where all count

    def __post_init__(self) -> None:
        if self.kind not in OBJECTIVES:
            raise ValueError(f"there is no objective {self.kind!r}: expected one of {', '.join(OBJECTIVES)}")
        require_means(self.means)
        if len(self.prompts) != len(next(iter(self.means.values()))):
            raise ValueError(f"{len(self.prompts)} tasks of items do not fit the means: one task of means for each")
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows is {self.rows}, expected at least 1, or None for what memory allows")
        device, every = self.model.device, joined(self.prompts)
        self.tasks = torch.cat([torch.full((len(p),), t) for t, p in enumerate(self.prompts)])
        self.means = self.means.map(lambda mean: mean.to(device))
        self._items = self.model.prepare(every, self.view)
        self._ignored = None if every.query_ignored is None else torch.from_numpy(every.query_ignored).to(device)
        if self.kind == "token":
            self._targets = self.model.targets(every)
        else:
            self._targets = torch.from_numpy(every.query_output).to(device)

    @property
    def items(self) -> int:
        return len(self._items)

    @torch.no_grad()
    def __call__(self, masks: Bool[Tensor, "rows sites"], items: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The loss of each row: item ``items[row]`` with the sites of ``masks[row]`` patched; float32 on the CPU."""
        losses = torch.empty(len(masks))
        together = self._together(gradient=False)
        for start in range(0, len(masks), together):
            rows = slice(start, start + together)
            losses[rows] = self._losses(masks[rows], items[rows])[:, 0].cpu()
        return losses

    def evaluate_product(
        self, masks: Bool[Tensor, "masks sites"], items: Int[Tensor, " items"]
    ) -> Float[Tensor, "masks items"]:
        """The loss of every mask on every item, as for their pairs; float32 on the CPU."""
        return self._product(masks, items)[..., 0]

    @torch.no_grad()
    def _product(
        self, masks: Bool[Tensor, "masks sites"], items: Int[Tensor, " items"], levels: Sequence[float] = ()
    ) -> Float[Tensor, "masks items levels"]:
        """The same at every one of these levels, or at that of the decoding; no more than one pass's masks are there
        for each item."""
        losses = torch.empty(len(masks) * len(items), max(1, len(levels)))
        for pairs in torch.arange(len(losses)).split(self._together(gradient=False)):
            losses[pairs] = self._losses(masks[pairs // len(items)], items[pairs % len(items)], levels).cpu()
        return losses.view(len(masks), len(items), -1)

    def differentiate(
        self, shares: Float[Tensor, " sites"], items: Int[Tensor, " rows"]
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " sites"]]:
        """The loss of each item with these shares of the means, and the gradient of their mean by the shares.

        ``pixel`` follows the soft form of the task's metric. Raises ValueError where that, or the model's decoding, has
        none: the choice of the likeliest code has no gradient.
        """
        hard = [prompts.task.metric.label for prompts in self.prompts if prompts.task.metric.soft is None]
        if self.kind == "pixel" and hard:
            raise ValueError(f"{hard[0]} has no soft form that a gradient could follow: expected the objective 'token'")
        shares = shares.to(self.model.device).clone().requires_grad_()
        losses, gradient = torch.empty(len(items)), torch.zeros_like(shares)
        together = self._together(gradient=True)
        for start in range(0, len(items), together):
            rows = slice(start, start + together)
            own = self._losses(shares.expand(len(items[rows]), -1), items[rows])[:, 0]
            gradient += torch.autograd.grad(own.sum(), shares)[0] / len(items)  # of nothing else: no model's weights
            losses[rows] = own.detach().cpu()
        return losses, gradient.cpu()

    def differentiate_means(
        self, means: Means, items: Int[Tensor, " rows"]
    ) -> tuple[Float[Tensor, " rows"], dict[str, StackMeans]]:
        """The loss of each item with every site patched by these means, and the gradient of their mean by the means of
        each stack, 0 where nothing is patched. ``means`` are in place of the objective's; errors as above.
        """
        leaves = {stack: mean.to(self.model.device).clone().requires_grad_() for stack, mean in means.items()}
        patched = Means(leaves, means.model)
        losses = torch.empty(len(items))
        gradients = {stack: torch.zeros_like(leaf) for stack, leaf in leaves.items()}
        together = self._together(gradient=True)
        for start in range(0, len(items), together):
            rows = slice(start, start + together)
            own = self._losses(torch.ones(len(items[rows]), len(self.sites)), items[rows], means=patched)[:, 0]
            for stack, gradient in zip(leaves, torch.autograd.grad(own.sum(), list(leaves.values())), strict=True):
                gradients[stack] += gradient.nan_to_num() / len(items)
            losses[rows] = own.detach().cpu()
        return losses, {stack: gradient.cpu() for stack, gradient in gradients.items()}

    def mean_losses(self, masks: Bool[Tensor, "masks sites"], share: float = 1.0) -> Float[Tensor, " masks"]:
        """The mean loss of each mask over all items, or over the first ``share`` of each task's."""
        return self._losses_of_items(masks, share)[0].mean(1).amin(-1)

    def task_losses(self, masks: Bool[Tensor, "masks sites"], share: float = 1.0) -> Float[Tensor, "masks tasks"]:
        """The mean loss of each mask over the items of each task, in the task's own units; ``share`` as above."""
        losses, tasks = self._losses_of_items(masks, share)
        return torch.stack([losses[:, tasks == task].mean(1).amin(-1) for task in range(len(self.prompts))], 1)

    def _losses_of_items(
        self, masks: Bool[Tensor, "masks sites"], share: float
    ) -> tuple[Float[Tensor, "masks items levels"], Int[Tensor, " items"]]:
        """Losses of each mask at every level, and the tasks of the items that were taken, at least one of each task."""
        own = [(self.tasks == task).nonzero()[:, 0] for task in range(len(self.prompts))]
        items = torch.cat([members[: max(1, round(share * len(members)))] for members in own])
        return self._product(masks, items, self.levels), self.tasks[items]

    def _together(self, *, gradient: bool) -> int:
        """Rows of one pass."""
        if self.rows:
            return self.rows
        cost = self.model.cost(self.view, answers=self.kind == "pixel", gradient=gradient)
        return rows_of_a_pass(self.model.device, cost)

    def _losses(
        self, masks: Tensor, items: Tensor, levels: Sequence[float] = (), means: Means | None = None
    ) -> Float[Tensor, "rows levels"]:
        """Of each row at every one of these levels, or at that of the decoding, patched with these means or the
        objective's. Masks that are numbers are shares."""
        tasks = self.tasks[items]
        own = tasks if len(self.prompts) > 1 else None
        shares = masks.is_floating_point()
        patch = Patch(self.sites, masks, means or self.means, own) if shares or masks.any() else None
        prepared, targets = self._items[items], self._targets[items]
        outputs = run(self.model, prepared, patch)
        if self.kind == "token":
            return self.model.losses(outputs, prepared, targets)[:, None]
        answer = self.model.pictures if shares else self.model.answers
        images = answer(outputs, prepared)
        losses = torch.empty(len(items), max(1, len(levels)), device=images.device)
        for index, prompts in enumerate(self.prompts):
            own = tasks == index
            if own.any():
                ignored = None if self._ignored is None else self._ignored[items][own]
                losses[own] = self._pixel_losses(prompts.task.metric, images[own], targets[own], ignored, levels)
        return losses

    def _pixel_losses(
        self, metric: Metric, images: Tensor, targets: Tensor, ignored: Tensor | None, levels: Sequence[float]
    ) -> Float[Tensor, "rows levels"]:
        if images.is_floating_point() and metric.soft is not None:
            return metric.loss(metric.soft(images, targets, ignored, self.model.decoding.level or WHITE / 2))[:, None]
        at_levels = [cut(images, level) for level in levels] if metric.of_masks and levels else [images]
        return torch.stack([metric.loss(metric.score(each, targets, ignored)).float() for each in at_levels], 1)
