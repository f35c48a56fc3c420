"""Texts that a language model goes on with: greedy or sampled, many rows in a pass, with the keys and values kept.

A patch acts on the prompt's last token and on nothing that is generated. Where a model's cache is of use
(``taskvec.models.key_values``), every step runs one token a row; elsewhere whole sequences, patched where the prompt
ended, which is the same.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvec.heads import Patch
from taskvec.memory import rows_of_a_pass
from taskvec.models.interface import Locations, RowCost
from taskvec.models.key_values import Prefixes, kept_cache
from taskvec.models.passes import cached, numbered, run_whole, selected_logits
from taskvec.models.token_texts import NOTHING, padded

if TYPE_CHECKING:
    from taskvec.models.causal_lm import CausalLm

Chosen = Int[Tensor, "rows tokens"]


@torch.no_grad()
def generate(
    model: "CausalLm",
    prompts: Sequence[Sequence[int]],
    tokens: int,
    patch: Patch | None,
    temperature: float,
    top_p: float,
    seed: int,
) -> Chosen:
    """Up to ``tokens`` tokens behind every prompt, -1 behind the end of a text; ``CausalLm.generate`` says the rest."""
    if tokens < 1:
        raise ValueError(f"{tokens} tokens were asked for, expected at least 1")
    if temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(f"temperature {temperature} and top_p {top_p}: expected at least 0, and above 0 up to 1")
    if patch is not None and len(patch.masks) not in (1, len(prompts)):
        raise ValueError(f"a patch of {len(patch.masks)} rows does not fit {len(prompts)} texts")
    draws = torch.rand(len(prompts), tokens, generator=torch.Generator().manual_seed(seed))  # whatever shares a pass
    longest = max(map(len, prompts), default=1) + tokens
    kept = model.way.continues and longest > 1 + tokens
    kept = kept and (model.way.window is None or longest <= model.way.window)
    size = model.bytes_of_a_pass(longest, longest, gradient=False) + longest * model.way.bytes_of_a_token
    cost = RowCost(longest, size)
    together = rows_of_a_pass(model.device, cost)
    found = []
    for start in range(0, len(prompts), together):
        rows = slice(start, start + together)
        step = _Kept(model, prompts[rows]) if kept else _Whole(model, prompts[rows])
        own = patch if patch is None else _rows_of(patch, rows)
        found.append(_loop(model, step, own, draws[rows].to(model.device), temperature, top_p).cpu())
    return torch.cat(found) if found else torch.empty(0, tokens, dtype=torch.int64)


class _Kept:
    """Steps of one token a row; keys and values of all before it are kept, a copy of each row's own."""

    def __init__(self, model: "CausalLm", prompts: Sequence[Sequence[int]]):
        self._model = model
        self._prefixes: Prefixes = model.prefixes_of([prompt[:-1] for prompt in prompts])
        self._cache = kept_cache(self._prefixes)
        self._tokens = torch.tensor([[prompt[-1]] for prompt in prompts], device=model.device)
        self._generated = 0

    def locations(self) -> Locations | None:
        return None if self._generated else Locations(torch.zeros(1, 1, dtype=torch.int64), 1)

    def logits(self) -> Float[Tensor, "rows vocabulary"]:
        valid = self._prefixes.valid.long()
        own = torch.ones(len(valid), 1 + self._generated, dtype=torch.int64, device=valid.device)
        model: Any = self._model.model
        return selected_logits(
            model,
            torch.zeros_like(self._tokens),
            input_ids=self._tokens,
            attention_mask=torch.cat([valid, own], 1),
            **numbered(model, self._prefixes.lengths[:, None] + self._generated),
            **cached(model, self._cache),
        )[:, 0].float()

    def add(self, chosen: Int[Tensor, " rows"]) -> None:
        self._tokens = chosen[:, None]
        self._generated += 1


class _Whole:
    """Steps of whole sequences."""

    def __init__(self, model: "CausalLm", prompts: Sequence[Sequence[int]]):
        self._model = model
        self._rows = [list(prompt) for prompt in prompts]
        self._last = torch.tensor([[len(prompt) - 1] for prompt in prompts])

    def locations(self) -> Locations:
        return Locations(self._last, max(map(len, self._rows)))

    def logits(self) -> Float[Tensor, "rows vocabulary"]:
        tokens = padded(self._rows, self._model.filler).to(self._model.device)
        lengths = torch.tensor([len(row) for row in self._rows], device=self._model.device)
        return run_whole(self._model.model, tokens, lengths, lengths[:, None] - 1)[:, 0].float()

    def add(self, chosen: Int[Tensor, " rows"]) -> None:
        for row, token in zip(self._rows, chosen.tolist(), strict=True):
            row.append(token)


def _loop(
    model: "CausalLm",
    step: _Kept | _Whole,
    patch: Patch | None,
    draws: Float[Tensor, "rows tokens"],
    temperature: float,
    top_p: float,
) -> Chosen:
    ends = torch.tensor(sorted(model.ends), dtype=torch.int64, device=model.device)
    found = torch.full(draws.shape, NOTHING, device=model.device)
    ended = torch.zeros(len(draws), dtype=torch.bool, device=model.device)
    for number in range(draws.shape[1]):
        locations = step.locations()
        patched: AbstractContextManager[None] = nullcontext()
        if patch is not None and locations is not None:
            patched = patch.applied(model, dict.fromkeys(model.stacks, locations))
        with patched:
            logits = step.logits()
        chosen = logits.argmax(-1) if temperature == 0 else _sampled(logits / temperature, draws[:, number], top_p)
        ended = ended | torch.isin(chosen, ends)
        found[:, number] = torch.where(ended, NOTHING, chosen)
        if ended.all():
            break
        step.add(chosen)
    return found


def _sampled(
    logits: Float[Tensor, "rows vocabulary"], draws: Float[Tensor, " rows"], top_p: float
) -> Int[Tensor, " rows"]:
    """Of the likeliest tokens, as few as have ``top_p`` of the probability, each by its own; draws are 0 to 1."""
    probabilities, order = logits.softmax(-1).sort(-1, descending=True)
    reached = probabilities.cumsum(-1)
    within = reached - probabilities < top_p
    mass = (probabilities * within).cumsum(-1)
    place = torch.searchsorted(mass, draws[:, None].to(mass) * mass[:, -1:], right=True)
    return order.gather(1, place.clamp(max=within.sum(-1, keepdim=True) - 1))[:, 0]


def _rows_of(patch: Patch, rows: slice) -> Patch:
    masks = patch.masks if len(patch.masks) == 1 else patch.masks[rows]
    return replace(patch, masks=masks, tasks=None if patch.tasks is None else patch.tasks[rows])
