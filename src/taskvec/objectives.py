"""What a search minimises: the loss of a query-only run under a patch, for any masks and items at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvec import metrics
from taskvec.canvas import ViewName
from taskvec.heads import Means, Patch, require_means
from taskvec.memory import rows_of_a_pass
from taskvec.models.mae_vqgan import CACHED_PIXELS, DecodeArea, MaeVqgan
from taskvec.prompts import Prompts
from taskvec.sites import Sites

ObjectiveKind = Literal["pixel", "token"]
OBJECTIVES: tuple[ObjectiveKind, ...] = ("pixel", "token")


@dataclass
class Objective:
    """Losses of patched runs on fixed items, which are the queries of one or several tasks, task after task.

    ``pixel`` is the task's metric after decoding (its negative for IoU); ``token`` the mean cross-entropy in nats of
    the true codes, which needs no decoding. Task t's items take the t-th of ``means``. ``rows`` bounds how many patched
    runs share a forward pass, None by the memory that is free; results do not depend on it, beyond the order of
    floating-point sums. ``fused`` computes attention in one kernel, equal but for rounding. ``bfloat16`` computes
    matrix products and convolutions in that type, with a copy of their weights, and attention as ``fused`` does.
    """

    model: MaeVqgan
    sites: Sites
    means: Means
    prompts: Sequence[Prompts]
    kind: ObjectiveKind = "pixel"
    view: ViewName = "query_only"
    area: DecodeArea | None = None
    rows: int | None = None
    bfloat16: bool = False
    fused: bool = False
    tasks: Int[Tensor, " items"] = field(init=False, repr=False)  # the task of every item
    _model: MaeVqgan = field(init=False, repr=False)  # what is run
    _embedded: Tensor = field(init=False, repr=False)  # what the encoder starts from, of every item
    _targets: Tensor = field(init=False, repr=False)
    _ignored: Tensor | None = field(init=False, repr=False)  # of the targets' pixels, None where all count

    def __post_init__(self) -> None:
        if self.kind not in OBJECTIVES:
            raise ValueError(f"there is no objective {self.kind!r}: expected one of {', '.join(OBJECTIVES)}")
        require_means(self.means)
        if len(self.prompts) != len(next(iter(self.means.values()))):
            raise ValueError(f"{len(self.prompts)} tasks of items do not fit the means: one task of means for each")
        if self.rows is not None and self.rows < 1:
            raise ValueError(f"rows is {self.rows}, expected at least 1, or None for what memory allows")
        device = self.model.device
        self._model = self.model.accelerated(self.bfloat16) if self.bfloat16 or self.fused else self.model
        canvases = torch.cat([p.canvases(self.model.geometry) for p in self.prompts]).to(device)
        self.tasks = torch.cat([torch.full((len(p),), t) for t, p in enumerate(self.prompts)])
        self.means = self.means.map(lambda mean: mean.to(device))
        with torch.no_grad():
            chunks = canvases.split(max(1, CACHED_PIXELS // self.model.config.canvas_size**2))
            self._embedded = torch.cat([self.model.embed(chunk, self.view) for chunk in chunks])
            if self.kind == "token":
                self._targets = torch.cat([self.model.target_codes(chunk) for chunk in chunks])
            else:
                self._targets = self.model.geometry.crop(canvases, "query_output")

        self._ignored = self._where_ignored()

    def _where_ignored(self) -> Bool[Tensor, "items size size"] | None:
        ignored = [prompts.query_ignored for prompts in self.prompts]
        if all(pixels is None for pixels in ignored):
            return None
        pixels = [
            np.zeros(prompts.query_output.shape[:3], np.bool_) if own is None else own
            for prompts, own in zip(self.prompts, ignored, strict=True)
        ]
        return torch.from_numpy(np.concatenate(pixels)).to(self.model.device)

    def _counted(self, items: Int[Tensor, " rows"]) -> Float[Tensor, "rows patches"] | None:
        """The share of every patch's pixels that count, all of a patch's where none of the item's would."""
        if self._ignored is None:
            return None
        geometry = self.model.geometry
        gap = geometry.canvas_size // 2 - geometry.image_size  # of the quadrant, above and left of the image
        shares = torch.nn.functional.pad(1 - self._ignored[items].float(), (gap, 0, gap, 0), value=1.0)
        patches = torch.nn.functional.avg_pool2d(shares[:, None], geometry.patch_size).flatten(1)
        return torch.where(patches.sum(1, keepdim=True) > 0, patches, torch.ones_like(patches))

    @property
    def items(self) -> int:
        return len(self._embedded)

    @torch.no_grad()
    def __call__(self, masks: Bool[Tensor, "rows sites"], items: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The loss of each row: item ``items[row]`` with the sites of ``masks[row]`` patched; float32 on the CPU."""
        losses = torch.empty(len(masks))
        together = self._together(gradient=False)
        for start in range(0, len(masks), together):
            rows = slice(start, start + together)
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bfloat16):
                losses[rows] = self._losses(masks[rows], items[rows]).cpu()
        return losses

    def differentiate(
        self, shares: Float[Tensor, " sites"], items: Int[Tensor, " rows"]
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " sites"]]:
        """The loss of each item with these shares of the means, and the gradient of their mean by the shares.

        Raises ValueError for the kind ``pixel``: the choice of a code has no gradient.
        """
        if self.kind != "token":
            raise ValueError(f"the objective {self.kind!r} has no gradient: expected 'token'")
        shares = shares.to(self.model.device).clone().requires_grad_()
        losses, gradient = torch.empty(len(items)), torch.zeros_like(shares)
        together = self._together(gradient=True)
        for start in range(0, len(items), together):
            rows = slice(start, start + together)
            with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bfloat16):
                own = self._losses(shares.expand(len(items[rows]), -1), items[rows])
            gradient += torch.autograd.grad(own.sum(), shares)[0] / len(items)  # of nothing else: no model's weights
            losses[rows] = own.detach().cpu()
        return losses, gradient.cpu()

    def mean_losses(self, masks: Bool[Tensor, "masks sites"], share: float = 1.0) -> Float[Tensor, " masks"]:
        """The mean loss of each mask over all items, or over the first ``share`` of each task's."""
        return self._losses_of_items(masks, share)[0].mean(1)

    def task_losses(self, masks: Bool[Tensor, "masks sites"], share: float = 1.0) -> Float[Tensor, "masks tasks"]:
        """The mean loss of each mask over the items of each task, in the task's own units; ``share`` as above."""
        losses, tasks = self._losses_of_items(masks, share)
        return torch.stack([losses[:, tasks == task].mean(1) for task in range(len(self.prompts))], 1)

    def _losses_of_items(
        self, masks: Bool[Tensor, "masks sites"], share: float
    ) -> tuple[Float[Tensor, "masks items"], Int[Tensor, " items"]]:
        """Losses of each mask, and the tasks of the items that were taken, at least one of each task."""
        own = [(self.tasks == task).nonzero()[:, 0] for task in range(len(self.prompts))]
        items = torch.cat([members[: max(1, round(share * len(members)))] for members in own])
        losses = self(masks.repeat_interleave(len(items), 0), items.repeat(len(masks)))
        return losses.view(len(masks), len(items)), self.tasks[items]

    def _together(self, *, gradient: bool) -> int:
        """Rows of one pass."""
        return self.rows or rows_of_a_pass(self.model, self.view, self.area, self.kind == "pixel", gradient)

    def _losses(self, masks: Tensor, items: Tensor) -> Float[Tensor, " rows"]:
        tasks = self.tasks[items]
        own = tasks if len(self.prompts) > 1 else None
        patch = Patch(self.sites, masks, self.means, own) if masks.is_floating_point() or masks.any() else None
        logits = self._model.predict(self._embedded[items], self.view, patch)
        targets = self._targets[items]
        if self.kind == "token":
            logits = self.model.query_output_logits(logits, self.view)
            return metrics.negative_log_likelihood(logits, targets, self._counted(items))
        images = self._model.decode(logits.argmax(-1), self.view, self.area)
        losses = torch.empty(len(items), device=images.device)
        for index, prompts in enumerate(self.prompts):
            own = tasks == index
            if own.any():
                metric = prompts.task.metric
                ignored = None if self._ignored is None else self._ignored[items][own]
                losses[own] = metric.loss(metric.score(images[own], targets[own], ignored)).float()
        return losses
