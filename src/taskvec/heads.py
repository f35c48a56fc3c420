"""The one place where head outputs are recorded and replaced.

z is the output of a head before the output projection. A model says where each layer's are reached (``taps``) and
knows nothing of what is done with them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from taskvec.models.interface import Handle, HeadFunction, HeadOutput, Locations, PromptedModel, Tap
from taskvec.sites import Sites, StackLayout

StackMeans = Float[Tensor, "tasks layers heads places head_dim"]


@dataclass(frozen=True, eq=False)
class Means(Mapping[str, StackMeans]):
    """Means of head outputs by stack: float [tasks, layers, heads, places, head_dim], NaN where none is known.

    ``model`` is the fingerprint of the model that they are of: ``Means(tensors, model.fingerprint())``.
    """

    tensors: Mapping[str, StackMeans] = field(repr=False)
    model: str

    def __getitem__(self, stack: str) -> StackMeans:
        return self.tensors[stack]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def map(self, function: Callable[[StackMeans], StackMeans]) -> "Means":
        """What ``function`` makes of every stack's means, of the same model."""
        return Means({stack: function(mean) for stack, mean in self.items()}, self.model)


def require_means(means: object) -> None:
    """ValueError for anything but ``Means``."""
    if not isinstance(means, Means):
        raise ValueError(
            f"the means are a {type(means).__name__}, which does not say what model they are of: "
            "expected Means(tensors, model.fingerprint())"
        )


class HasHeads(Protocol):
    """A model whose head outputs can be reached; every ``PromptedModel`` is one."""

    @property
    def stacks(self) -> Mapping[str, StackLayout]: ...
    def taps(self) -> Mapping[str, Sequence[Tap]]: ...


class Patchable(HasHeads, Protocol):
    """One that means can belong to, too: the same weights have the same fingerprint."""

    def fingerprint(self) -> str: ...


# the blocks that are open where this is read: every thread and every asynchronous task sees its own
_open_blocks: ContextVar[frozenset[object]] = ContextVar("open_blocks", default=frozenset())
_fingerprints: WeakKeyDictionary[Patchable, tuple[list[tuple[int, int]], str]] = WeakKeyDictionary()
_hooking = Lock()  # torch numbers hooks without one: two threads can get one number, and lose one of the hooks


@contextmanager
def intercept(model: HasHeads, function: Callable[[str, int, HeadOutput], HeadOutput | None]) -> Iterator[None]:
    """Call ``function(stack, layer, z)`` with every head output; what it returns, unless None, replaces z.

    Only in forward passes of the thread, or the asynchronous task, that opened the block: others may run the model
    meanwhile and see nothing of it. The model is as before when the block ends, however it ends.
    """
    block = object()
    handles: list[Handle] = []

    def inside(stack: str, layer: int) -> HeadFunction:
        return lambda z: function(stack, layer, z) if block in _open_blocks.get() else None

    try:
        with _hooking:
            for stack, taps in model.taps().items():
                heads = model.stacks[stack].heads
                for layer, tap in enumerate(taps):
                    handles.append(tap.attach(inside(stack, layer), heads))
        _open_blocks.set(_open_blocks.get() | {block})
        yield
    finally:
        _open_blocks.set(_open_blocks.get() - {block})
        with _hooking:
            for handle in handles:
                handle.remove()


@contextmanager
def unseen() -> Iterator[None]:
    """What this thread, or asynchronous task, runs inside the block is not intercepted by blocks that are open: what a
    model prepares once for all patches."""
    token = _open_blocks.set(frozenset())
    try:
        yield
    finally:
        _open_blocks.reset(token)


@contextmanager
def recording(model: HasHeads) -> Iterator[dict[str, list[HeadOutput]]]:
    """The head outputs of the forward pass run inside the block: by stack a list of layers, [rows, tokens, heads,
    head_dim] each.

    They are copies without a gradient, to be used and edited as any tensor, under ``torch.inference_mode`` too.
    RuntimeError where the block ends without every layer having run in it.
    """
    recorded: dict[str, list[HeadOutput]] = {stack: [] for stack in model.taps()}
    pending = {(stack, layer) for stack, taps in model.taps().items() for layer in range(len(taps))}

    def keep(stack: str, layer: int, z: HeadOutput) -> None:
        pending.discard((stack, layer))
        with torch.inference_mode(False), torch.no_grad():
            recorded[stack].append(z.clone())

    with intercept(model, keep):
        yield recorded
    _require_reached("recording", pending)


@dataclass(frozen=True)
class Patch:
    """For every row of a batch, the sites whose head outputs are replaced by a mean.

    masks: [rows, sites]; a single row serves a batch of any size. As numbers they are shares 0..1 of the mean, which
    may require gradients, and every site counts as selected. tasks: which of the means each row takes; None where there
    is one. Raises ValueError where nothing would be patched or a selected position has no finite mean.
    """

    sites: Sites
    masks: Bool[Tensor, "rows sites"] | Float[Tensor, "rows sites"]
    means: Means
    tasks: Int[Tensor, " rows"] | None = None
    _selected: dict[str, Bool[Tensor, "layers heads places"]] = field(init=False, repr=False)  # in any row
    _layers: dict[str, list[int]] = field(init=False, repr=False)  # that have a selected position

    def __post_init__(self) -> None:
        if self.masks.ndim != 2 or self.masks.shape[1] != len(self.sites):
            raise ValueError(f"masks of shape {tuple(self.masks.shape)} do not fit {len(self.sites)} sites")
        require_means(self.means)
        if self.tasks is None and any(len(mean) != 1 for mean in self.means.values()):
            raise ValueError("the means are of several tasks: say which task each row takes")
        every = self.masks.is_floating_point()  # a share of 0 has a gradient, too
        chosen = self.masks.any(0, keepdim=True).cpu() | every
        selected = {stack: _spread(chosen, index)[0] for stack, index in self.sites.index.items()}
        layers = {}
        for stack, positions in selected.items():
            if stack not in self.means:
                raise ValueError(f"there are no means for the {stack}")
            mean = self.means[stack]
            if mean.shape[1:4] != positions.shape:
                raise ValueError(
                    f"means of shape {tuple(mean.shape)} do not fit the {stack}: expected [tasks, layers, heads, "
                    f"places, head_dim] with {tuple(positions.shape)} for layers, heads and places"
                )
            # sums find what is not finite in one pass over the memory; large numbers may overflow in them
            if not mean.sum((0, -1))[positions].isfinite().all():
                of_selected = mean[:, positions]
                if of_selected.isnan().any():
                    raise ValueError(f"a selected position of the {stack} has no mean: it was not recorded")
                if of_selected.isinf().any():
                    raise ValueError(f"a selected position of the {stack} has a mean that is not finite")
            layers[stack] = positions.flatten(1).any(1).nonzero()[:, 0].tolist()
        if not any(layers.values()):
            raise ValueError("the patch touches nothing: no position is selected in any row")
        object.__setattr__(self, "_selected", selected)
        object.__setattr__(self, "_layers", layers)

    @contextmanager
    def applied(self, model: Patchable, locations: Mapping[str, Locations]) -> Iterator[None]:
        """Replace head outputs in the forward passes that this thread, or asynchronous task, runs inside the block.

        ``locations`` are those of the items that are run. A generator that yields inside the block leaves it open for
        its caller, until it goes on. A function that is to be checkpointed (torch.utils.checkpoint) opens the block
        itself, as ``run(model, items, patch)`` does: what the backward pass runs again is patched only so.

        Raises ValueError where the means are of another model, a selected position is not in a run, or the model's
        tokens or rows are not those of the items and the patch; RuntimeError where the block ends without a patched
        layer having run.
        """
        if self.means.model != (fingerprint := _fingerprint(model)):
            raise ValueError(
                f"the means of the patch are of the model with fingerprint {self.means.model}, not of this one with "
                f"{fingerprint}"
            )
        self._check_presence(locations)
        pending = {(stack, layer) for stack, layers in self._layers.items() for layer in layers}

        def replace(stack: str, layer: int, z: HeadOutput) -> HeadOutput | None:
            if layer not in self._layers.get(stack, ()):
                return None
            pending.discard((stack, layer))
            own = locations[stack]
            if z.shape[1] != own.tokens:
                raise ValueError(
                    f"the {stack} ran on {z.shape[1]} tokens, but the items of the patch have {own.tokens}"
                )
            if len(self.masks) not in (1, len(z)):
                raise ValueError(f"a patch of {len(self.masks)} rows does not fit a batch of {len(z)}")
            if (places := own.sequence) is not None:  # every token is a place: all of z at once
                return self._replaced(z, stack, layer, places.to(z.device))
            rows, places = (own.where.expand(len(z), -1) >= 0).nonzero(as_tuple=True)
            tokens = own.where.expand(len(z), -1).to(z.device).clamp(min=0)
            every = torch.arange(len(z), device=z.device)[:, None]
            replaced = self._replaced(z[every, tokens], stack, layer, torch.arange(tokens.shape[1], device=z.device))
            rows, places = rows.to(z.device), places.to(z.device)
            return z.index_put((rows, tokens[rows, places]), replaced[rows, places])

        with intercept(model, replace):
            yield
        _require_reached("patch", pending)

    def _replaced(
        self, z: Float[Tensor, "rows places heads head_dim"], stack: str, layer: int, places: Int[Tensor, " places"]
    ) -> Float[Tensor, "rows places heads head_dim"]:
        """Head outputs at these places with what the masks select replaced."""
        index = self.sites.index[stack][layer].to(z.device)[:, places].T
        mean = self.means[stack][:, layer].to(z)[:, :, places].transpose(1, 2)
        if self.tasks is not None:
            mean = mean[self.tasks.to(z.device)]
        shares = _spread(self.masks.to(z.device), index)[..., None]
        if shares.dtype == torch.bool:
            return torch.where(shares, mean, z)
        return z + shares.to(z) * (mean.nan_to_num() - z)  # where nothing was recorded, the share is 0

    def _check_presence(self, locations: Mapping[str, Locations]) -> None:
        """ValueError where a selected position is not in a run, naming one."""
        for stack, selected in self._selected.items():
            if stack not in locations:
                raise ValueError(f"the run has no stack {stack}, which the patch is of")
            where, known = locations[stack].where, selected.shape[-1]
            if where.shape[1] != known:
                raise ValueError(
                    f"the run has {where.shape[1]} places in the {stack}, the patch's sites are of {known}"
                )
            absent = where < 0
            missing = selected & absent.any(0)
            if not missing.any():
                continue
            at_row = ""
            if len(absent) > 1:  # of those rows, whose masks may leave them out
                chosen = _spread(self.masks.cpu() != 0, self.sites.index[stack]) & absent[:, None, None]
                if not chosen.any():
                    continue
                row = int(chosen.flatten(1).any(1).nonzero()[0])
                missing, at_row = chosen[row], f" {row}" if len(chosen) == len(absent) else ""
            layer, head, place = missing.nonzero()[0].tolist()
            site = self.sites.names[int(self.sites.index[stack][layer, head, place])]
            name = f"token {place}" if site.region is None else f"token {place} ({site.region})"
            raise ValueError(
                f"the patch selects a position that the run{at_row} does not have: {stack}, layer {layer}, head "
                f"{head}, {name}: choose sites of the view that is run"
            )


def run(model: PromptedModel, items: Any, patch: Patch | None = None) -> Tensor:
    """Outputs of a model's forward pass of prepared runs, under a patch if there is one; ``Patch.applied`` says what is
    raised."""
    with nullcontext() if patch is None else patch.applied(model, items.places):
        return model.run(items)


def _fingerprint(model: Patchable) -> str:
    """The model's fingerprint, asked for anew when the weights next to the heads are others.

    Every pass under a patch needs it, and to look at all weights would take a tenth of a small model's pass.
    """
    weights = [weight for taps in model.taps().values() for tap in taps for weight in tap.weights()]
    state = [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights]
    known = _fingerprints.get(model)
    if known is None or known[0] != state:
        known = _fingerprints[model] = (state, model.fingerprint())
    return known[1]


def _require_reached(what: str, pending: set[tuple[str, int]]) -> None:
    """RuntimeError where a block has ended and some of its layers, as (stack, number), have not run in it."""
    if pending:
        raise RuntimeError(
            f"the {what} did not reach {sorted(pending)}: the model was not run inside the block, or from a later "
            f"layer, or in another thread, where a {what} has no effect"
        )


def _spread(masks: Tensor, index: Int[Tensor, "*positions"]) -> Shaped[Tensor, "rows *positions"]:
    """Each position's value in each row's mask; 0 where the position belongs to no site (-1, the added column)."""
    return torch.nn.functional.pad(masks, (0, 1))[:, index]
