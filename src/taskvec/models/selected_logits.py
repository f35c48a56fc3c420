"""Logits of chosen tokens alone: all tokens times a vocabulary is most of a pass's memory."""

from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from taskvec.heads import _hooking

# the pass that is run where this is read: every thread sees its own
_running: ContextVar[object] = ContextVar("running", default=None)


def selected_logits(
    model: Any, positions: Int[Tensor, "rows chosen"], **inputs: Any
) -> Float[Tensor, "rows chosen vocabulary"]:
    """The logits that ``model(**inputs)`` has at these positions, which may differ from row to row.

    The module that makes logits gets no other tokens; what the model does with them behind it is done. Where there is
    no such module, all logits are computed and these are taken.
    """
    head = model.get_output_embeddings()
    if head is None:
        return _at(model(**inputs).logits, positions)
    this, reached = object(), []

    def select(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if _running.get() is not this or arguments[0].ndim != 3:
            return None
        reached.append(True)
        return (_at(arguments[0], positions), *arguments[1:])

    with _hooking:
        handle = head.register_forward_pre_hook(select)
    token = _running.set(this)
    try:
        logits = model(**inputs).logits
    finally:
        _running.reset(token)
        with _hooking:
            handle.remove()
    return logits if reached else _at(logits, positions)


def _at(values: Float[Tensor, "rows tokens width"], positions: Int[Tensor, "rows chosen"]) -> Tensor:
    rows = torch.arange(len(values), device=values.device)[:, None]
    return values[rows, positions.to(values.device)]
