"""Passes of a Hugging Face decoder: what it is given, by the names that it has for it, and which logits are taken."""

from contextvars import ContextVar
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from taskvec.heads import _hooking

CACHES = ("cache", "past_key_values")  # what versions of the library call earlier tokens' keys and values
# the pass that is run where this is read: every thread sees its own
_running: ContextVar[object] = ContextVar("running", default=None)


def takes(model: Any, name: str) -> bool:
    return name in signature(model.forward).parameters


def cached(model: Any, cache: Any) -> dict[str, Any]:
    """The cache by the name that the model has for it; ValueError where it has none."""
    name = next((name for name in CACHES if takes(model, name)), None)
    if name is None:
        raise ValueError(f"{type(model).__name__} takes no earlier tokens")
    return {name: cache, "use_cache": True}


def numbered(model: Any, positions: Int[Tensor, "rows tokens"]) -> dict[str, Any]:
    """The numbers of tokens, where the model takes any."""
    return {"position_ids": positions} if takes(model, "position_ids") else {}


def run_whole(
    model: Any, tokens: Int[Tensor, "rows tokens"], lengths: Int[Tensor, " rows"], chosen: Int[Tensor, "rows chosen"]
) -> Float[Tensor, "rows chosen vocabulary"]:
    """Logits at the chosen tokens of whole sequences, which are filled up on the right.

    What stands there is seen by no other token, and tokens have the numbers that the model gives them of its own.
    """
    uncached = {"use_cache": False} if takes(model, "use_cache") else {}
    return selected_logits(model, chosen, input_ids=tokens, attention_mask=_mask(tokens, lengths), **uncached)


def run_prefixes(model: Any, tokens: Int[Tensor, "rows tokens"], lengths: Int[Tensor, " rows"], cache: Any) -> None:
    """Fill the cache with what whole sequences leave in it; no logits are made."""
    mask = _mask(tokens, lengths)
    selected_logits(model, tokens[:, :0], input_ids=tokens, attention_mask=mask, **cached(model, cache))


def _mask(tokens: Int[Tensor, "rows tokens"], lengths: Int[Tensor, " rows"]) -> Int[Tensor, "rows tokens"]:
    return (torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]).long()


def setting(config: Any, name: str) -> Any:
    """What a configuration says of this; None where nothing, or where its layers differ in it."""
    try:
        return getattr(config, name, None)
    except Exception:  # the library's own kind of error, which is no AttributeError, where layers differ
        return None


def selected_logits(
    model: Any, chosen: Int[Tensor, "rows chosen"], **inputs: Any
) -> Float[Tensor, "rows chosen vocabulary"]:
    """The logits that ``model(**inputs)`` has at the chosen tokens, which may differ from row to row.

    The module that makes logits gets no other tokens, as all tokens times a vocabulary are most of a pass's memory;
    what the model does with logits behind it is done. Where there is no such module, all of them are computed.
    """
    head = model.get_output_embeddings()
    if head is None:
        return _at(model(**inputs).logits, chosen)
    this, reached = object(), []

    def select(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if _running.get() is not this or arguments[0].ndim != 3:
            return None
        reached.append(True)
        return (_at(arguments[0], chosen), *arguments[1:])

    with _hooking:
        handle = head.register_forward_pre_hook(select)
    token = _running.set(this)
    try:
        logits = model(**inputs).logits
    finally:
        _running.reset(token)
        with _hooking:
            handle.remove()
    return logits if reached else _at(logits, chosen)


def _at(values: Float[Tensor, "rows tokens width"], chosen: Int[Tensor, "rows chosen"]) -> Tensor:
    rows = torch.arange(len(values), device=values.device)[:, None]
    return values[rows, chosen.to(values.device)]
