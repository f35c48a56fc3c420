"""What a search minimises: the loss of a query-only run under a patch, for any masks and items at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvec.choices import OBJECTIVES, ObjectiveKind
from taskvec.heads import Means, Patch, StackMeans, require_means, run
from taskvec.interrupts import must_stop
from taskvec.memory import Passes, divided_evenly, least_rows, rows_of_a_pass, rows_worth_it
from taskvec.metrics import Metric, cut
from taskvec.models.interface import Items, PromptedModel, RowCost, ViewName
from taskvec.processes import Processes, current
from taskvec.prompts import Prompts, joined
from taskvec.sites import Sites

REMEMBERED = 2**15  # losses of answers, each some hundred bytes


class _Pass(NamedTuple):
    """Pairs that run together from a layer on, of a group of items that come to it together."""

    together: Int[Tensor, " items"]
    depth: int
    pairs: Int[Tensor, " pairs"]


@dataclass
class Objective:
    """Losses of patched runs on fixed items, which are the queries of one or several tasks, task after task.

    ``pixel`` is the task's metric of the model's answers (its negative for IoU); ``token`` the model's own loss, of
    MAE-VQGAN the mean cross-entropy in nats of the true codes, which needs no decoding. Task t's items take the t-th of
    ``means``. ``rows`` bounds how many patched runs share a forward pass, None by the memory that is free; results do
    not depend on it, beyond the last bits of products on processors whose libraries compute a row otherwise among more.

    Several ``processes`` share the passes, which are the same whatever their number, and each gets all results. All of
    them must evaluate the same. Where passes begin, and between them, work may stop as ``interrupts.stoppable`` says.

    The layers before the first patched one run once for an item, whatever the masks, and what does not end in the loss
    is not computed. An answer that an item had before is not made again: its loss is remembered.

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
    processes: Processes = field(default_factory=current, repr=False)
    tasks: Int[Tensor, " items"] = field(init=False, repr=False)  # the task of every item
    _items: Items = field(init=False, repr=False)
    _depths: Int[Tensor, " sites"] = field(init=False, repr=False)  # of the first layer of every site
    _targets: Any = field(init=False, repr=False)  # of the model's own loss; else true images
    _ignored: Tensor | None = field(init=False, repr=False)  # of their pixels, None where all count
    _memory: dict[bool, Passes] = field(init=False, repr=False, default_factory=dict)
    # of an item, a number of levels and an answer
    _known: dict[tuple[int, int, bytes], Tensor] = field(init=False, repr=False, default_factory=dict)

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
        self.means = self.means.map(lambda mean: self.processes.firsts(mean).to(device))
        self._depths = _depths(self.model, self.sites)
        items = self.model.narrow(self.model.prepare(every, self.view), answers=self.kind == "pixel")
        self._items = self.model.advance(items, int(self._depths.min()))
        self._ignored = None if every.query_ignored is None else torch.from_numpy(every.query_ignored).to(device)
        if self.kind == "token":
            self._targets = self.model.targets(every)
        else:
            self._targets = self.model.truths(every).to(device)

    @property
    def items(self) -> int:
        return len(self._items)

    def __call__(self, masks: Bool[Tensor, "rows sites"], items: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The loss of each row: item ``items[row]`` with the sites of ``masks[row]`` patched; float32 on the CPU."""
        return self._evaluate(masks, torch.arange(len(masks)), items)[:, 0]

    def evaluate_product(
        self, masks: Bool[Tensor, "masks sites"], items: Int[Tensor, " items"]
    ) -> Float[Tensor, "masks items"]:
        """The loss of every mask on every item, as for their pairs; no more than one pass's masks are there for each
        item. float32 on the CPU.
        """
        return self._product(masks, items)[..., 0]

    def _product(
        self, masks: Bool[Tensor, "masks sites"], items: Int[Tensor, " items"], levels: Sequence[float] = ()
    ) -> Float[Tensor, "masks items levels"]:
        """The same at every one of these levels, or at that of the decoding."""
        chosen = torch.arange(len(masks)).repeat_interleave(len(items))
        return self._evaluate(masks, chosen, items.repeat(len(masks)), levels).view(len(masks), len(items), -1)

    @torch.no_grad()
    def _evaluate(
        self,
        masks: Bool[Tensor, "masks sites"],
        chosen: Int[Tensor, " pairs"],
        items: Int[Tensor, " pairs"],
        levels: Sequence[float] = (),
    ) -> Float[Tensor, "pairs levels"]:
        """The loss of mask ``chosen[pair]`` on item ``items[pair]``, at every one of these levels or the decoding's.

        Items are taken together from one patched layer to the next; the pairs whose masks begin there run from it.
        """
        self.processes.begin(masks, chosen, items)
        losses = torch.zeros(len(chosen), max(1, len(levels)))
        passes = list(self._passes(items, self._first_depths(masks)[chosen]))
        together, prepared = None, self._items
        for number in self._own([each.pairs for each in passes]):
            own = passes[number]
            if own.together is not together:
                together, prepared = own.together, self._items[own.together]
            prepared = self.model.advance(prepared, own.depth)
            run = partial(self._run, prepared, own, masks[chosen[own.pairs]], items[own.pairs], levels)
            losses[own.pairs] = self._fitting(gradient=False)(run)
        return self.processes.together(losses)

    def _run(
        self,
        prepared: Items,
        own: "_Pass",
        masks: Bool[Tensor, "pairs sites"],
        items: Int[Tensor, " pairs"],
        levels: Sequence[float],
        most: int,
    ) -> Float[Tensor, "pairs levels"]:
        """The losses of a pass's pairs, whose group of items has been ``prepared``, in passes of so many at most."""
        at = torch.searchsorted(own.together, items)
        parts = zip(masks.split(most), items.split(most), at.split(most), strict=True)
        return torch.cat([self._losses(mask, item, prepared[where], levels).cpu() for mask, item, where in parts])

    def _passes(self, items: Int[Tensor, " pairs"], depths: Int[Tensor, " pairs"]) -> Iterator["_Pass"]:
        """All passes of these pairs, those of one group of items next to each other, from the first layers on.

        The pairs of an item are next to each other, since masks of one item often give the same answer.
        """
        for together in self._divided(items.unique(), gradient=False):
            among = torch.isin(items, together)
            for depth in depths[among].unique().tolist():
                pairs = (among & (depths == depth)).nonzero()[:, 0]
                pairs = pairs[items[pairs].argsort(stable=True)]
                yield from (_Pass(together, depth, rows) for rows in self._divided(pairs, gradient=False))

    def _own(self, passes: Sequence[Int[Tensor, " pass"]]) -> Iterator[int]:
        """The numbers of the passes that this process does, until a signal comes."""
        for number in self.processes.divide([len(rows) for rows in passes]):
            if must_stop():
                return
            yield number

    def _first_depths(self, masks: Bool[Tensor, "masks sites"]) -> Int[Tensor, " masks"]:
        """How many layers run before the first one that each mask patches, or any, where it patches none."""
        first = self._depths.max().repeat(len(masks))
        for depth in self._depths.unique().flip(0):
            first[masks[:, self._depths == depth].any(1)] = depth
        return first

    def differentiate(
        self, shares: Float[Tensor, " sites"], items: Int[Tensor, " rows"]
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, " sites"]]:
        """The loss of each item with these shares of the means, and the gradient of their mean by the shares.

        ``pixel`` follows the soft form of the task's metric. Raises ValueError where that, or the model's decoding, has
        none: the choice of the likeliest code has no gradient.
        """
        self._require_gradient()
        self.processes.begin(shares, items)
        found = torch.zeros(len(items), 1 + len(self.sites))  # of every item the loss, and its gradient
        passes = self._divided(torch.arange(len(items)), gradient=True)
        for number in self._own(passes):
            found[passes[number]] = self._fitting(gradient=True)(partial(self._slopes, shares, items[passes[number]]))
        found = self.processes.together(found)
        return found[:, 0].clone(), found[:, 1:].double().mean(0).float()

    def _slopes(
        self, shares: Float[Tensor, " sites"], items: Int[Tensor, " rows"], most: int
    ) -> Float[Tensor, "rows 1+sites"]:
        """The loss of each item, and its gradient by the shares, in passes of so many rows at most."""
        found = []
        for some in items.split(most):
            leaf = shares.to(self.model.device).repeat(len(some), 1).requires_grad_()
            losses = self._losses(leaf, some, self._items[some])[:, 0]
            (gradients,) = torch.autograd.grad(losses.sum(), leaf)  # of nothing else: no model's weights
            found.append(torch.cat([losses.detach()[:, None], gradients], 1).cpu())
        return torch.cat(found)

    def differentiate_means(
        self, means: Means, items: Int[Tensor, " rows"]
    ) -> tuple[Float[Tensor, " rows"], dict[str, StackMeans]]:
        """The loss of each item with every site patched by these means, and the gradient of their mean by the means of
        each stack, 0 where nothing is patched. ``means`` are in place of the objective's; errors as above.
        """
        self._require_gradient()
        self.processes.begin(*means.values(), items)
        leaves = {stack: mean.to(self.model.device).clone().requires_grad_() for stack, mean in means.items()}
        losses = torch.zeros(len(items))
        passes = self._divided(torch.arange(len(items)), gradient=True)
        sums = {stack: torch.zeros(len(passes), *leaf.shape) for stack, leaf in leaves.items()}  # of each pass
        for number in self._own(passes):
            run = partial(self._slopes_of_means, Means(leaves, means.model), items[passes[number]])
            losses[passes[number]], gradients = self._fitting(gradient=True)(run)
            for stack, gradient in gradients.items():
                sums[stack][number] = gradient
        losses = self.processes.together(losses)
        sums = {stack: self.processes.together(each) for stack, each in sums.items()}
        return losses, {stack: (each.double().sum(0) / len(items)).float() for stack, each in sums.items()}

    def _slopes_of_means(
        self, leaves: Means, items: Int[Tensor, " rows"], most: int
    ) -> tuple[Float[Tensor, " rows"], dict[str, StackMeans]]:
        """The loss of each item, and the gradient of their sum by the means, in passes of so many rows at most."""
        losses, sums = [], {stack: torch.zeros(leaf.shape) for stack, leaf in leaves.items()}
        for some in items.split(most):
            ones = torch.ones(len(some), len(self.sites))
            own = self._losses(ones, some, self._items[some], means=leaves)[:, 0]
            gradients = torch.autograd.grad(own.sum(), list(leaves.values()), materialize_grads=True)
            for stack, gradient in zip(leaves, gradients, strict=True):  # 0 of a stack where nothing is patched
                sums[stack] += gradient.nan_to_num().cpu()
            losses.append(own.detach().cpu())
        return torch.cat(losses), sums

    def _require_gradient(self) -> None:
        hard = [prompts.task.metric.label for prompts in self.prompts if prompts.task.metric.soft is None]
        if self.kind == "pixel" and hard:
            raise ValueError(f"{hard[0]} has no soft form that a gradient could follow: expected the objective 'token'")

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

    def _divided(self, rows: Int[Tensor, " rows"], *, gradient: bool) -> Sequence[Int[Tensor, " pass"]]:
        """Rows in passes, which are the same whatever memory is free and however many processes there are."""
        if self.rows:
            return rows.split(self.rows)
        device, cost = self.model.device, self._cost(gradient=gradient)
        most = rows_worth_it(device, cost)
        return divided_evenly(rows, min(most, least_rows(device, cost, gradient=gradient)), most)

    def _fitting(self, *, gradient: bool) -> Passes:
        """Passes of as many rows as there is memory for; where that is fewer than share one, it changes last bits at
        most."""
        if gradient not in self._memory:
            device = self.model.device
            rows = self.rows or rows_of_a_pass(device, self._cost(gradient=gradient))
            self._memory[gradient] = Passes(device, rows)
        return self._memory[gradient]

    def _cost(self, *, gradient: bool) -> RowCost:
        return self.model.cost(self.view, answers=self.kind == "pixel", gradient=gradient)

    def _losses(
        self,
        masks: Tensor,
        items: Tensor,
        prepared: Items,
        levels: Sequence[float] = (),
        means: Means | None = None,
    ) -> Float[Tensor, "rows levels"]:
        """Of each row at every one of these levels, or at that of the decoding, patched with these means or the
        objective's. Masks that are numbers are shares, whose losses have a gradient."""
        tasks = self.tasks[items]
        own = tasks if len(self.prompts) > 1 else None
        shares = masks.is_floating_point()
        patch = Patch(self.sites, masks, means or self.means, own) if shares or masks.any() else None
        outputs = run(self.model, prepared, patch)
        if self.kind == "token":
            return self.model.losses(outputs, prepared, self._targets[items])[:, None]
        if shares:
            return self._pixel_losses(self.model.pictures(outputs, prepared), items)
        drafts = self.model.drafts(outputs)
        if drafts is None:
            return self._pixel_losses(self.model.answers(outputs, prepared), items, levels)
        answers = (draft.tobytes() for draft in drafts.cpu().numpy())
        keys = [(item, len(levels), answer) for item, answer in zip(items.tolist(), answers, strict=True)]
        if len(self._known) + len(keys) > REMEMBERED:
            self._known.clear()
        new = {key: row for row, key in enumerate(keys) if key not in self._known}
        if new:
            rows = torch.tensor(list(new.values()))
            losses = self._pixel_losses(self.model.answers(outputs[rows], prepared[rows]), items[rows], levels)
            self._known.update(zip(new, losses, strict=True))
        return torch.stack([self._known[key] for key in keys])

    def _pixel_losses(
        self, images: Tensor, items: Tensor, levels: Sequence[float] = ()
    ) -> Float[Tensor, "rows levels"]:
        """Of answers, bytes, or of pictures, numbers with a gradient."""
        tasks, targets = self.tasks[items], self._targets[items]
        losses = torch.empty(len(items), max(1, len(levels)), device=images.device)
        for index, prompts in enumerate(self.prompts):
            own = tasks == index
            if own.any():
                ignored = None if self._ignored is None else self._ignored[items][own]
                losses[own] = self._of_task(prompts.task.metric, images[own], targets[own], ignored, levels)
        return losses

    def _of_task(
        self, metric: Metric, images: Tensor, targets: Tensor, ignored: Tensor | None, levels: Sequence[float]
    ) -> Float[Tensor, "rows levels"]:
        if images.is_floating_point() and metric.soft is not None:
            return metric.loss(metric.soft(images, targets, ignored, self.model.decoding.threshold))[:, None]
        at_levels = [cut(images, level) for level in levels] if metric.of_masks and levels else [images]
        return torch.stack([metric.loss(metric.score(each, targets, ignored)).float() for each in at_levels], 1)


def _depths(model: PromptedModel, sites: Sites) -> Int[Tensor, " sites"]:
    """How many layers run before the first one that each site covers."""
    depths = torch.full((len(sites),), torch.iinfo(torch.int64).max)
    for stack, index in sites.index.items():
        for layer, covered in enumerate(index):
            own = covered[covered >= 0]
            depths[own] = depths[own].clamp(max=model.depth(stack, layer))
    return depths
