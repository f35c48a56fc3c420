"""The one place where head outputs are recorded and replaced.

z, the output of a head before the output projection, is the projection's input. Hooks in front of the projections
therefore reach the head outputs of any model that can name its projections; the model itself knows nothing of it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from taskvec.canvas import View
from taskvec.sites import Sites

HeadOutput = Float[Tensor, "batch tokens heads head_dim"]
Means = dict[str, Float[Tensor, "tasks layers heads tokens head_dim"]]


@dataclass(frozen=True)
class Projections:
    """The output projections of one stack, by layer, and how many heads share each."""

    modules: list[nn.Module]
    heads: int


class HasHeads(Protocol):
    """A model whose head outputs can be reached."""

    def projections(self) -> dict[str, Projections]: ...


@contextmanager
def intercept(model: HasHeads, function: Callable[[str, int, HeadOutput], HeadOutput | None]) -> Iterator[None]:
    """Call ``function(stack, layer, z)`` with every head output; what it returns, unless None, replaces z.

    The model is as before when the block ends, however it ends.
    """
    handles = []

    def hook(stack: str, layer: int, heads: int) -> Callable[..., tuple[Tensor, ...] | None]:
        def before_projection(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            replaced = function(stack, layer, inputs[0].unflatten(-1, (heads, -1)))
            return None if replaced is None else (replaced.flatten(-2), *inputs[1:])

        return before_projection

    try:
        for stack, projections in model.projections().items():
            for layer, module in enumerate(projections.modules):
                handles.append(module.register_forward_pre_hook(hook(stack, layer, projections.heads)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recording(model: HasHeads) -> Iterator[dict[str, list[HeadOutput]]]:
    """The head outputs of the forward pass run inside the block: by stack, a list of layers, in the view's tokens."""
    recorded: dict[str, list[HeadOutput]] = {stack: [] for stack in model.projections()}

    def keep(stack: str, layer: int, z: HeadOutput) -> None:
        recorded[stack].append(z.detach().clone())

    with intercept(model, keep):
        yield recorded


@dataclass(frozen=True)
class Patch:
    """For every row of a batch, the sites whose head outputs are replaced by a mean.

    masks: [rows, sites]; a single row serves a batch of any size. As numbers they are shares 0..1 of the mean, which
    may require gradients, and every site counts as selected. means: by stack [tasks, layers, heads, canvas tokens,
    head_dim], NaN where nothing was recorded. tasks: which of the means each row takes; None where there is one.
    Raises ValueError where nothing would be patched or a selected position has no mean.
    """

    sites: Sites
    masks: Bool[Tensor, "rows sites"] | Float[Tensor, "rows sites"]
    means: Means
    tasks: Int[Tensor, " rows"] | None = None
    _layers: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        if self.masks.ndim != 2 or self.masks.shape[1] != len(self.sites):
            raise ValueError(f"masks of shape {tuple(self.masks.shape)} do not fit {len(self.sites)} sites")
        if self.tasks is None and any(len(mean) != 1 for mean in self.means.values()):
            raise ValueError("the means are of several tasks: say which task each row takes")
        layers = {}
        every = self.masks.is_floating_point()  # a share of 0 has a gradient, too
        selected = self._selected(self.masks.any(0, keepdim=True) | every)
        for stack, positions in selected.items():
            if stack not in self.means:
                raise ValueError(f"there are no means for the {stack}")
            mean = self.means[stack]
            if mean.shape[1:4] != positions.shape[1:]:
                raise ValueError(
                    f"means of shape {tuple(mean.shape)} do not fit the {stack}: expected [tasks, layers, heads, "
                    f"tokens, head_dim] with {tuple(positions.shape[1:])} for layers, heads and tokens"
                )
            if mean.isnan().any(0).any(-1)[positions[0]].any():
                raise ValueError(f"a selected position of the {stack} has no mean: it was not recorded")
            layers[stack] = positions[0].flatten(1).any(1).nonzero()[:, 0].tolist()
        if not any(layers.values()):
            raise ValueError("the patch touches nothing: no position is selected in any row")
        object.__setattr__(self, "_layers", layers)

    def _selected(self, masks: Bool[Tensor, "rows sites"]) -> dict[str, Bool[Tensor, "rows layers heads tokens"]]:
        return {stack: _spread(masks, index) for stack, index in self.sites.index.items()}

    @contextmanager
    def applied(self, model: HasHeads, view: View) -> Iterator[None]:
        """Replace head outputs in the forward passes run inside the block.

        Raises ValueError where the model's tokens or rows are not those of the view and the patch, and RuntimeError
        where the block ends without a patched layer having run.
        """
        pending = {(stack, layer) for stack, layers in self._layers.items() for layer in layers}

        def replace(stack: str, layer: int, z: HeadOutput) -> HeadOutput | None:
            if layer not in self._layers.get(stack, ()):
                return None
            pending.discard((stack, layer))
            tokens = view.tokens(stack).to(z.device)
            if z.shape[1] != len(tokens):
                raise ValueError(f"the {stack} ran on {z.shape[1]} tokens, but the view of the patch has {len(tokens)}")
            if len(self.masks) not in (1, len(z)):
                raise ValueError(f"a patch of {len(self.masks)} rows does not fit a batch of {len(z)}")
            index = self.sites.index[stack][layer].to(z.device)[:, tokens].T
            mean = self.means[stack][:, layer].to(z)[:, :, tokens].transpose(1, 2)
            if self.tasks is not None:
                mean = mean[self.tasks.to(z.device)]
            shares = _spread(self.masks.to(z.device), index)[..., None]
            if shares.dtype == torch.bool:
                return torch.where(shares, mean, z)
            return z + shares.to(z) * (mean.nan_to_num() - z)  # where nothing was recorded, the share is 0

        with intercept(model, replace):
            yield
        if pending:
            raise RuntimeError(f"the patch did not reach {sorted(pending)}: the model was not run inside the block")


def _spread(masks: Tensor, index: Int[Tensor, "*positions"]) -> Shaped[Tensor, "rows *positions"]:
    """Each position's value in each row's mask; 0 where the position belongs to no site (-1, the added column)."""
    return torch.nn.functional.pad(masks, (0, 1))[:, index]
