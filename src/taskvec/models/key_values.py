"""Keys and values of all tokens of a prompt but the last, computed once for all runs that patch the last one.

A causal decoder's earlier tokens know nothing of the last, so that their keys and values are all that it takes from
them. ``Prefixes`` holds them by prompt; ``ContinuedCache`` gives them to a pass of one token a row, or a few, in one of
two ways. ``shared``: attention is computed here, all rows of one prompt against its one copy, as a matrix product.
``gathered``: every row gets a copy, and attention is the model's own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import DynamicCache

from taskvec.models.attention_taps import attending_by
from taskvec.models.passes import cached, numbered, run_prefixes, run_whole, selected_logits, setting
from taskvec.models.token_texts import padded

Layout = Literal["shared", "gathered"]
LAYOUTS: tuple[Layout, ...] = ("shared", "gathered")  # the faster one first
UNKNOWN = ("softcap", "s_aux", "sinks", "position_bias", "indices", "block_indices")  # what ``shared`` does not compute
PROBED = 7  # tokens of a prefix that a way is tried on
SHARE_OF_EFFECT = 1e-4  # of what prefixes change in logits that a way may be off by
FILLED = 1.5  # how many times the rows there may be slots, before rows of a prompt are divided


@dataclass(frozen=True)
class Prefixes:
    """Keys and values by layer, filled up on the right to one number of tokens; None in a layer that has none."""

    keys: tuple[Float[Tensor, "prompts heads tokens width"] | None, ...]
    values: tuple[Float[Tensor, "prompts heads tokens width"] | None, ...]
    lengths: Int[Tensor, " prompts"]
    tokens: int

    @cached_property
    def uneven(self) -> bool:
        return bool((self.lengths != self.tokens).any())

    @property
    def valid(self) -> Bool[Tensor, "prompts tokens"]:
        return torch.arange(self.tokens, device=self.lengths.device) < self.lengths[:, None]


@dataclass(frozen=True)
class Blocks:
    """Rows by their prompts: blocks of one number of slots, those of a block of one prompt; some slots may be empty.

    ``row`` is the row in each slot, any in an empty one, and ``slot`` the slot of each row, None where they are equal.
    """

    prompt: Int[Tensor, " blocks"] | slice
    size: int
    row: Int[Tensor, " slots"] | None
    slot: Int[Tensor, " rows"] | None

    @classmethod
    def of(cls, prompts: Int[Tensor, " rows"]) -> Self:
        rows = len(prompts)
        order = prompts.argsort(stable=True)
        different, inverse, counts = prompts[order].unique_consecutive(return_inverse=True, return_counts=True)
        size = int(counts.max())
        if size * len(counts) > FILLED * rows:
            size = -(-rows // len(counts))
        blocks = -(-counts // size)
        within = torch.arange(rows, device=prompts.device) - (counts.cumsum(0) - counts)[inverse]
        slots = (blocks.cumsum(0) - blocks)[inverse] * size + within
        slot, row = (
            torch.empty_like(order),
            torch.zeros(int(blocks.sum()) * size, dtype=order.dtype, device=order.device),
        )
        slot[order], row[slots] = slots, order
        of_block = different.repeat_interleave(blocks)
        first, count = int(of_block[0]), len(of_block)
        in_order = torch.equal(of_block, torch.arange(first, first + count, device=of_block.device))
        prompt = slice(first, first + count) if in_order else of_block  # of a slice no copy is made
        if len(row) == rows and torch.equal(row, torch.arange(rows, device=row.device)):
            return cls(prompt, size, None, None)
        return cls(prompt, size, row, slot)

    def spread(self, values: Float[Tensor, "rows *shape"]) -> Float[Tensor, "blocks size *shape"]:
        return (values if self.row is None else values[self.row]).unflatten(0, (-1, self.size))

    def collect(self, values: Float[Tensor, "blocks size *shape"]) -> Float[Tensor, "rows *shape"]:
        values = values.flatten(0, 1)
        return values if self.slot is None else values[self.slot]


class UnfitError(ValueError):
    """Attention that ``shared`` would compute otherwise than the model."""


class ContinuedCache(DynamicCache):
    """What a model takes for the cache of earlier tokens: the prefix of each row's prompt."""

    def __init__(self, prefixes: Prefixes, prompt: Int[Tensor, " rows"], layout: Layout):
        super().__init__()
        self.prefixes = prefixes
        self.prompt = prompt
        self.layout = layout
        self._layer = -1  # whose attention is next
        self._blocks = Blocks.of(prompt) if layout == "shared" else None

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        self._layer = layer_idx
        if self.layout == "shared":
            return key_states, value_states
        keys, values = self._of(layer_idx)
        return (
            torch.cat([keys[self.prompt], key_states], 2),
            torch.cat([values[self.prompt], value_states], 2),
        )

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.prefixes.tokens

    def get_query_offset(self, layer_idx: int = 0) -> int:
        return self.prefixes.tokens

    def get_mask_sizes(self, query_length: int | Tensor, layer_idx: int = 0) -> tuple[int, int]:
        # before transformers 5.1 the first argument was the positions of the queries
        count = query_length if isinstance(query_length, int) else len(query_length)
        return self.prefixes.tokens + count, 0

    def _of(self, layer: int) -> tuple[Tensor, Tensor]:
        keys, values = self.prefixes.keys[layer], self.prefixes.values[layer]
        if keys is None or values is None:
            raise UnfitError(f"layer {layer} kept no keys and values")
        return keys, values

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Passes inside the block may use this cache."""
        if self.layout == "gathered":
            yield
            return
        with attending_by(self.attend):
            yield
        if self._layer < 0:
            raise UnfitError("no attention asked for earlier tokens")

    def attend(
        self,
        module: nn.Module,
        query: Float[Tensor, "rows heads tokens width"],
        key: Float[Tensor, "rows key_heads tokens width"],
        value: Float[Tensor, "rows key_heads tokens width"],
        attention_mask: Any = None,
        *,
        scaling: float | None = None,
        **options: Any,
    ) -> tuple[Float[Tensor, "rows tokens heads width"], None]:
        """What an attention function returns, of each row's tokens on its prompt's and its own up to each.

        Whether a prompt's tokens are within a window of attention is for the caller to see to.
        """
        if found := [name for name in UNKNOWN if options.get(name) is not None]:
            raise UnfitError(f"attention with {found[0]}")
        blocks = self._blocks
        assert blocks is not None  # noqa: S101 (of this layout)
        keys, values = (side[blocks.prompt] for side in self._of(self._layer))
        key_heads, before, tokens = *keys.shape[1:3], query.shape[2]
        if key.shape[1] != key_heads or key.shape[2] != tokens:
            raise UnfitError("attention on other keys than those of the tokens")
        # [blocks, key_heads, size, group, tokens, width]: heads of a group share their keys
        grouped = blocks.spread(query).unflatten(2, (key_heads, -1)).transpose(1, 2)
        own_keys, own_values = (blocks.spread(side).transpose(1, 2) for side in (key, value))
        size, group = grouped.shape[2:4]
        scores = grouped.flatten(2, 4) @ keys.mT
        if self.prefixes.uneven:
            scores = scores + self._hidden(blocks)
        own = (grouped.flatten(3, 4) @ own_keys.mT).unflatten(3, (group, tokens))
        if tokens > 1:
            own = own.masked_fill(torch.ones(tokens, tokens, dtype=torch.bool, device=own.device).triu(1), -torch.inf)
        both = torch.cat([scores.unflatten(2, (size, group, tokens)), own], -1)
        both = both * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        weights = F.softmax(both, -1, dtype=torch.float32).to(value.dtype)
        before_z = (weights[..., :before].flatten(2, 4) @ values).unflatten(2, (size, group, tokens))
        own_z = (weights[..., before:].flatten(3, 4) @ own_values).unflatten(3, (group, tokens))
        z = (before_z + own_z).permute(0, 2, 4, 1, 3, 5).flatten(3, 4)  # [blocks, size, tokens, heads, width]
        return blocks.collect(z), None

    def _hidden(self, blocks: Blocks) -> Float[Tensor, "blocks 1 1 tokens"]:
        """Minus infinity where a prompt has no more tokens."""
        valid = self.prefixes.valid[blocks.prompt]
        return torch.zeros(valid.shape, device=valid.device).masked_fill(~valid, -torch.inf)[:, None, None]


def compute_prefixes(model: Any, rows: Sequence[Sequence[int]], filler: int, together: int) -> Prefixes:
    """Run prefixes, tokens of each, ``together`` in a pass, and keep their keys and values.

    Raises UnfitError for a model that keeps anything else in its cache.
    """
    device = model.device
    longest = max(1, *map(len, rows))
    lengths = torch.tensor([len(row) for row in rows], device=device)
    tokens = padded(rows, filler, longest).to(device)
    kept: list[tuple[Tensor, Tensor] | None] = []
    for start in range(0, len(rows), together):
        some = slice(start, start + together)
        cache = DynamicCache()
        run_prefixes(model, tokens[some], lengths[some].clamp(min=1), cache)  # of none, the filler is run
        sides = [_kept_by(layer, longest) for layer in cache.layers]
        if start == 0:
            kept = [own and (_room(own[0], len(rows)), _room(own[1], len(rows))) for own in sides]
        for stores, own in zip(kept, sides, strict=True):
            for store, side in zip(stores or (), own or (), strict=True):
                store[some] = side
    if not any(kept):
        raise UnfitError("nothing is kept")
    keys, values = zip(*(each or (None, None) for each in kept), strict=True)
    return Prefixes(keys, values, lengths, longest)


def _kept_by(layer: Any, tokens: int) -> tuple[Tensor, Tensor] | None:
    """Keys and values that a layer of a cache kept of so many tokens, None where it kept nothing."""
    keys, values = layer.keys, layer.values
    if keys is None or values is None:
        return None
    if any(side.ndim != 4 or side.shape[2] != tokens for side in (keys, values)):
        raise UnfitError(f"a layer keeps {tuple(keys.shape)} of {tokens} tokens")
    return keys, values


def _room(side: Tensor, prompts: int) -> Tensor:
    return side.new_empty(prompts, *side.shape[1:])


def run_continued(
    model: Any,
    tokens: Int[Tensor, "rows tokens"],
    lengths: Int[Tensor, " rows"],
    chosen: Int[Tensor, "rows chosen"],
    prefixes: Prefixes,
    prompt: Int[Tensor, " rows"],
    layout: Layout,
) -> Float[Tensor, "rows chosen vocabulary"]:
    """Logits at the chosen ones of these tokens, which follow the prefix of each row's prompt."""
    numbers = torch.arange(tokens.shape[1], device=tokens.device)
    own = (numbers < lengths[:, None]).long()
    mask = torch.cat([prefixes.valid[prompt].long(), own], 1)
    cache = ContinuedCache(prefixes, prompt, layout)
    positions = prefixes.lengths[prompt][:, None] + numbers
    with cache.attending():
        return selected_logits(
            model,
            chosen,
            input_ids=tokens,
            attention_mask=mask,
            **numbered(model, positions),
            **cached(model, cache),
        )


def kept_cache(prefixes: Prefixes) -> DynamicCache:
    """A cache of the library's own that holds the prefixes, one a row, and grows with what is run behind them."""
    cache = DynamicCache()
    for number, (keys, values) in enumerate(zip(prefixes.keys, prefixes.values, strict=True)):
        if keys is not None and values is not None:
            cache.update(keys, values, number)
    return cache


@dataclass(frozen=True)
class Way:
    """How prompts of a model are run: with kept keys and values in this layout, or, None, as whole sequences.

    ``reason`` says why not faster. ``continues`` is whether the library's own cache can be gone on from that holds the
    keys and values. ``window`` is how many tokens attention reaches back where that is bounded in some layer.
    ``bytes_of_a_token`` are those of its keys and values in all layers.
    """

    layout: Layout | None
    reason: str | None
    continues: bool = False
    window: int | None = None
    bytes_of_a_token: int = 0

    def __str__(self) -> str:
        kept = {"shared": "keys and values of a prompt kept once", "gathered": "keys and values of a prompt kept"}
        said = "whole sequences" if self.layout is None else kept[self.layout]
        return said if self.reason is None else f"{said}: {self.reason}"


@torch.no_grad()
def find_way(model: Any, filler: int) -> Way:
    """The fastest way whose logits are those of whole sequences, found by running a few tokens in each.

    The taps of the model were found before.
    """
    config = model.config.get_text_config(decoder=True)
    windows = [setting(config, name) for name in ("sliding_window", "attention_chunk_size", "window_size")]
    window = min((each for each in windows if isinstance(each, int)), default=None)
    random = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    rows = [torch.randint(vocabulary, (length,), generator=random).tolist() for length in (PROBED, PROBED - 2)]
    whole = [[*row, *row[:1]] for row in (rows[0], rows[1], rows[1])]  # two tokens behind a prefix
    whole[2][-2] = rows[0][0]
    device = model.device
    lengths = torch.tensor([len(row) for row in whole], device=device)
    ends = lengths[:, None] - torch.tensor([2, 1], device=device)
    expected = run_whole(model, padded(whole, filler).to(device), lengths, ends)
    alone = torch.tensor([row[-2:] for row in whole], device=device)
    both, first = torch.full((3,), 2, device=device), torch.tensor([[0, 1]] * 3, device=device)
    effect = (expected - run_whole(model, alone, both, first)).abs().max()  # of what is to be kept
    bound = torch.maximum(SHARE_OF_EFFECT * effect, 16 * torch.finfo(expected.dtype).eps * expected.abs().max())
    try:
        prefixes = compute_prefixes(model, [row[:-1] for row in rows], filler, len(rows))
    except Exception as error:  # whatever a model does with a cache that is not its own
        return Way(None, f"its cache is not of keys and values alone ({_sentence(error)})", window=window)
    kept = [side for side in (*prefixes.keys, *prefixes.values) if side is not None]
    size = sum(side[0, :, 0].numel() * side.element_size() for side in kept)
    prompt = torch.tensor([0, 1, 1], device=device)
    failures: dict[Layout, str] = {}
    for layout in LAYOUTS:
        try:
            error = (run_continued(model, alone, both, first, prefixes, prompt, layout) - expected).abs().max()
            if not error <= bound:
                failures[layout] = f"logits would differ by {float(error):.2g}"
        except UnfitError as error:
            failures[layout] = str(error)
        except Exception as error:  # of shapes that do not fit, where keys are not those that a model of its own awaits
            failures[layout] = f"its attention is not that of the library ({_sentence(error)})"
    fastest: Layout | None = next((layout for layout in LAYOUTS if layout not in failures), None)
    reason = next(iter(failures.values()), None)
    return Way(fastest, None if fastest == LAYOUTS[0] else reason, "gathered" not in failures, window, size)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
