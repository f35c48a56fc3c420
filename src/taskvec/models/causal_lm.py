"""Hugging Face decoders (Llama, GPT-2, GPT-NeoX, ...) as models that learn from examples in their prompt.

A prompt is text: the examples, then the question (``taskvec.models.token_texts``). There is one place, the prompt's
last token, wherever it is in a row; it has no region. The stack is ``decoder``; where layers differ in heads or their
width, there is one for each kind, such as ``decoder_8x256``. Scored is the first token of an answer or, with
``Variant(answers="whole")``, every one of its tokens, each behind the true ones before it: all of these are the
likeliest if and only if what greedy generation gives begins with the answer.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from taskvec.files import write_text
from taskvec.heads import Patch, unseen
from taskvec.memory import free_bytes, rows_of_a_pass
from taskvec.models.attention_taps import AttentionTap, DecoderTaps, find_taps
from taskvec.models.causal_lm_loading import read, write
from taskvec.models.decoder_fingerprint import fingerprint_of
from taskvec.models.generation import generate
from taskvec.models.interface import (
    VIEWS,
    AnswerScope,
    Decoding,
    Images,
    Inputs,
    Locations,
    Place,
    ProjectionTap,
    PromptedModel,
    RowCost,
    StackLayout,
    Tap,
    Truths,
    Variant,
    ViewName,
)
from taskvec.models.key_values import Layout, Prefixes, Way, compute_prefixes, find_way, run_continued
from taskvec.models.passes import run_whole, setting
from taskvec.models.pretrained import CARD, stated_licence
from taskvec.models.token_texts import NOTHING, FirstTokens, TokenTexts, padded, texts_of

TYPE = "causal_lm"
STACK = "decoder"
LAST = Place(None, None)  # the prompt's last token
NUMBER = 4  # bytes
LOGITS, LOGITS_WITH_GRADIENT = 2, 4  # how often a row's are there at the peak
ASSUMED_TOKENS = 128  # of a prompt, where none was prepared yet
KEPT_SHARE = 0.25  # of the free memory that keys and values of prompts may take


@dataclass(frozen=True)
class CausalItems:
    """Prompts as tokens, filled up on the right, with those of their answers that are run too.

    ``last`` is where in a row its prompt's last token is, from which on ``scored`` tokens have their next one scored.
    """

    tokens: Int[Tensor, "rows tokens"]
    lengths: Int[Tensor, " rows"]  # of all tokens of a row
    last: Int[Tensor, " rows"]
    scored: int
    stacks: tuple[str, ...]
    prefixes: Prefixes | None = None  # of all tokens of a prompt but the last, where these are not among ``tokens``
    prompt: Int[Tensor, " rows"] | None = None  # the number of each row's prefix

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, rows: Int[Tensor, " rows"] | slice) -> "CausalItems":
        """These rows, no longer than the longest of them."""
        lengths = self.lengths[rows]
        longest = int(lengths.max()) if len(lengths) else 0
        own = None if self.prompt is None else self.prompt[rows]
        return replace(self, tokens=self.tokens[rows, :longest], lengths=lengths, last=self.last[rows], prompt=own)

    @property
    def places(self) -> Mapping[str, Locations]:
        where = torch.zeros(1, 1, dtype=torch.int64) if self.prefixes else self.last[:, None].cpu()
        own = Locations(where, self.tokens.shape[1])
        return dict.fromkeys(self.stacks, own)


@dataclass(frozen=True)
class _Tokens:
    """How many a row has at most: in its prompt, in its run, and scored."""

    prompt: int
    run: int
    scored: int

    def most(self, other: "_Tokens") -> "_Tokens":
        return _Tokens(max(self.prompt, other.prompt), max(self.run, other.run), max(self.scored, other.scored))


class CausalLm(PromptedModel):
    """A ``transformers`` decoder with its head for language modelling, and its tokenizer.

    The model is frozen and put into evaluation mode. Of one that takes pictures too, its language model is run. Raises
    ValueError where head outputs cannot be reached.
    """

    model_type = TYPE
    _variant = Variant()

    def __init__(self, model: Any, tokenizer: Any):
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self._texts = TokenTexts(tokenizer)
        self._config = model.config.get_text_config(decoder=True)
        found = find_taps(model)
        if not found.causal:
            raise ValueError(f"{type(model).__name__} sees later tokens from earlier ones: expected a causal decoder")
        self._found = found
        shapes = list(zip(found.heads, found.widths, strict=True))
        kinds = sorted(set(shapes))
        self._kinds = {
            STACK if len(kinds) == 1 else f"{STACK}_{heads}x{width}": (heads, width) for heads, width in kinds
        }
        self._stacks = {stack: StackLayout(shapes.count(kind), *kind, (LAST,)) for stack, kind in self._kinds.items()}
        self._taps = self._by_stack(found.taps)
        self._own = self.model, self._taps  # in the precision that it was loaded in
        self._prepared: dict[tuple[ViewName, bool], _Tokens] = {}  # by view and whether whole answers are scored
        self._ways: dict[bool, Way] = {}  # by whether it is in bfloat16
        self._in_bfloat16: list[Any] = []  # the copy of the model, once there is one; variants share the list
        self._fingerprint = fingerprint_of(model, self._config)

    @classmethod
    def load(cls, path: Path, dtype: torch.dtype | None = None) -> Self:
        """Of a directory or a GGUF file, with weights of this type, float32 by default.

        Nothing is taken from the network. Raises ValueError, which names the file, where it is no language model.
        """
        model = cls(*read(path, dtype or torch.float32))
        model.licence = stated_licence(path / CARD)
        return model

    def write(self, directory: Path) -> None:
        """Write a directory that ``load_model`` reads at once: weights as safetensors, configuration, tokenizer, and a
        card where a licence is known."""
        write(self.model, self.tokenizer, directory)
        if self.licence:
            write_text(directory / CARD, f"---\nlicense: {self.licence}\n---\n# A language model\n")

    def _by_stack(self, taps: Sequence[Tap]) -> dict[str, list[Tap]]:
        of_kind = list(zip(self._found.heads, self._found.widths, strict=True))
        return {
            stack: [tap for tap, own in zip(taps, of_kind, strict=True) if own == kind]
            for stack, kind in self._kinds.items()
        }

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        for model in (self._own[0], *self._in_bfloat16):
            model.to(device)
        return self

    @property
    def stacks(self) -> Mapping[str, StackLayout]:
        return self._stacks

    def taps(self) -> Mapping[str, Sequence[Tap]]:
        return self._taps

    def present(self, view: ViewName) -> Mapping[str, Int[Tensor, " present"]]:
        _check_view(view)
        return {stack: torch.tensor([0]) for stack in self._stacks}

    @property
    def answer_scope(self) -> AnswerScope:
        return self._variant.answers or "first"

    @property
    def _whole(self) -> bool:
        return self.answer_scope == "whole"

    def variant(self, variant: Variant) -> Self:
        """Attention is one kernel in any case. ``bfloat16`` computes everything but the logits' softmax in it."""
        if variant.area is not None:
            raise ValueError(f"a language model has no canvas: expected no area, not {variant.area!r}")
        if variant.decoding not in (None, Decoding()):
            raise ValueError(
                f"a language model has no decoding {variant.decoding}: its answers are the likeliest tokens"
            )
        wanted = self._variant.with_(variant)
        if wanted == self._variant:
            return self
        other = copy.copy(self)
        other._variant = wanted
        other.model, other._taps = self._own
        if wanted.bfloat16:
            if not self._in_bfloat16:
                self._in_bfloat16.append(_in_bfloat16(other.model))
            other.model = self._in_bfloat16[0]
            other._taps = self._by_stack(_taps_of(self._found, other.model))
        return other

    @torch.no_grad()
    def prepare(self, inputs: Inputs, view: ViewName) -> CausalItems:
        """Where all tokens of answers are scored, inputs that have no answers are run to the first of them."""
        _check_view(view)
        texts = texts_of(inputs, view)
        prompts = self._texts.of_texts(texts)
        behind: list[list[int]] = [[] for _ in prompts]
        if self._whole and hasattr(inputs, "query_output"):
            behind = [own[:-1] for own in self._answers_of(inputs)]
        self._check_lengths([len(prompt) + len(own) for prompt, own in zip(prompts, behind, strict=True)])
        scored = 1 + max(map(len, behind), default=0)
        longest = max(map(len, prompts), default=1)
        layout = self._layout_for(prompts, scored)
        known, prompt_of_row = None, None
        if layout is not None:
            different: dict[tuple[int, ...], int] = {}
            numbers = [different.setdefault(tuple(prompt[:-1]), len(different)) for prompt in prompts]
            known, prompt_of_row = self.prefixes_of(list(different)), torch.tensor(numbers, device=self.device)
            prompts = [prompt[-1:] for prompt in prompts]
        rows = [prompt + own for prompt, own in zip(prompts, behind, strict=True)]
        lengths, last = (torch.tensor([len(row) for row in each], dtype=torch.int64) for each in (rows, prompts))
        tokens = _Tokens(longest, max(map(len, rows), default=1), scored)
        self._prepared[view, self._whole] = tokens.most(self._prepared.get((view, self._whole), tokens))
        return CausalItems(
            padded(rows, self.filler).to(self.device),
            lengths.to(self.device),
            last.to(self.device) - 1,
            scored,
            tuple(self._stacks),
            known,
            prompt_of_row,
        )

    @property
    def way(self) -> Way:
        """How prompts are run, found out by running a few tokens in every way when it is first asked for."""
        if self._variant.bfloat16 not in self._ways:
            with unseen():
                self._ways[self._variant.bfloat16] = find_way(self.model, self.filler)
        return self._ways[self._variant.bfloat16]

    def _layout_for(self, prompts: Sequence[Sequence[int]], scored: int) -> Layout | None:
        """How prefixes of these prompts are used, None where whole sequences are run.

        That is so in a model that cannot, of prompts longer than a window of its attention, and where the keys and
        values of all of them would take too much of the memory that is free.
        """
        longest = max(map(len, prompts), default=1)
        way = self.way
        if way.layout is None or longest == 1 or (way.window is not None and longest + scored > way.window):
            return None
        free = free_bytes(self.device)
        needed = len(prompts) * longest * way.bytes_of_a_token
        return None if free is not None and needed > KEPT_SHARE * free else way.layout

    def prefixes_of(self, rows: Sequence[Sequence[int]]) -> Prefixes:
        tokens = max(map(len, rows))
        cost = RowCost(tokens, self.bytes_of_a_pass(tokens, tokens, gradient=False))
        together = rows_of_a_pass(self.device, cost)
        with unseen():
            return compute_prefixes(self.model, rows, self.filler, together)

    @property
    def filler(self) -> int:
        """The token that rows are filled up with, which no other token sees."""
        return self.tokenizer.pad_token_id or 0

    def _check_lengths(self, lengths: Sequence[int]) -> None:
        most = setting(self._config, "max_position_embeddings")
        if most is not None and max(lengths, default=0) > most:
            raise ValueError(f"a prompt with its answer has {max(lengths)} tokens, more than the model's {most}")

    def run(self, items: CausalItems) -> Float[Tensor, "rows scored vocabulary"]:
        """Logits, float32, of the tokens that are scored."""
        positions = (items.last[:, None] + torch.arange(items.scored, device=items.tokens.device)).clamp(
            max=items.tokens.shape[1] - 1
        )
        if items.prefixes is None or items.prompt is None:
            return run_whole(self.model, items.tokens, items.lengths, positions).float()
        layout = self.way.layout or "gathered"
        return run_continued(
            self.model, items.tokens, items.lengths, positions, items.prefixes, items.prompt, layout
        ).float()

    def answers(self, outputs: Tensor, items: Any) -> Int[Tensor, "rows scored"]:
        """The likeliest tokens."""
        return outputs.detach().argmax(-1)

    def truths(self, prompts: Truths) -> Int[Tensor, "rows scored"]:
        """The true tokens, -1 where an answer has no more."""
        tokens = self._answers_of(prompts)
        return padded(tokens if self._whole else [own[:1] for own in tokens], NOTHING)

    def _answers_of(self, prompts: Any) -> list[list[int]]:
        return self._texts.of_answers(texts_of(prompts, "query_only"), prompts.query_output.tolist())

    def texts(self, answers: Int[Tensor, "rows tokens"]) -> list[str]:
        return self._texts.decode(answers)

    def generate(
        self,
        texts: Sequence[str],
        tokens: int,
        *,
        patch: Patch | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[str]:
        """What the model goes on with behind every text: up to ``tokens`` tokens, or to the end that it sets itself.

        Greedy at temperature 0; else sampled from softmax(logits / temperature), of the likeliest tokens that together
        have ``top_p`` of the probability. Texts do not hang on which others are there. A patch, of one row or a row for
        every text, acts on the texts' last tokens. Raises ValueError for other values, or texts that are too long.
        """
        prompts = self._texts.of_texts(texts)
        self._check_lengths([len(prompt) + tokens - 1 for prompt in prompts])
        return self.texts(generate(self, prompts, tokens, patch, temperature, top_p, seed))

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a text."""
        settings = (getattr(self.model, "generation_config", None), self._config, self.tokenizer)
        told = [getattr(each, "eos_token_id", None) for each in settings]
        return frozenset(
            end for ends in told for end in (ends if isinstance(ends, list | tuple) else [ends]) if end is not None
        )

    def targets(self, prompts: Truths) -> Int[Tensor, "rows scored"]:
        return self.truths(prompts).to(self.device)

    def losses(
        self, outputs: Float[Tensor, "rows scored vocabulary"], items: Any, targets: Int[Tensor, "rows scored"]
    ) -> Float[Tensor, " rows"]:
        """The mean cross-entropy of the true tokens, in nats."""
        scored = outputs.shape[1]
        if (targets[:, scored:] != NOTHING).any():
            raise ValueError(f"targets of {targets.shape[1]} tokens do not fit outputs of {scored}")
        true = F.pad(targets[:, :scored], (0, max(0, scored - targets.shape[1])), value=NOTHING)
        losses = F.cross_entropy(outputs.transpose(1, 2), true, ignore_index=NOTHING, reduction="none")
        return losses.sum(1) / (true != NOTHING).sum(1)

    def first_tokens(self, prompts: Truths) -> FirstTokens:
        """How many of the different answers have several tokens, or share their first one."""
        return self._texts.first_tokens(texts_of(prompts, "query_only"), prompts.query_output.tolist())

    def remarks(self, prompts: Truths) -> list[str]:
        """How many answers are not told by their first token alone, where that is scored."""
        found = self.first_tokens(prompts)
        if self._whole or not (found.several or found.shared):
            return []
        return [
            f"scored is the first token of an answer: of {found.answers} different answers, {found.several} have "
            f"several tokens, and {found.shared} share their first one with another"
        ]

    def features(self, images: Images) -> Float[Tensor, "n width"]:
        raise ValueError("a language model has no features of images")

    def mean_outputs(self, outputs: Iterable[Tensor]) -> Tensor:
        """The logarithm of mean probabilities."""
        first, *others = outputs
        if not others:
            return first
        mean = first.log_softmax(-1)
        for count, other in enumerate(others, 1):
            mean = (
                torch.logaddexp(mean + torch.tensor(count).log(), other.log_softmax(-1)) - torch.tensor(count + 1).log()
            )
        return mean

    def cost(self, view: ViewName, *, answers: bool, gradient: bool) -> RowCost:
        """By the longest prompts that were prepared in this view, or 128 tokens where none was."""
        _check_view(view)
        run = 1 if self.way.layout is not None else ASSUMED_TOKENS
        tokens = self._prepared.get((view, self._whole), _Tokens(ASSUMED_TOKENS, run, 1))
        logits = tokens.scored * self._config.vocab_size * (LOGITS_WITH_GRADIENT if gradient else LOGITS)
        size = self.bytes_of_a_pass(tokens.run, tokens.prompt + tokens.scored, gradient=gradient) + NUMBER * logits
        if self.way.layout == "gathered":  # a copy of keys and values for every row, of all layers or of one
            size += tokens.prompt * self.way.bytes_of_a_token // (1 if gradient else self._layers)
        return RowCost(tokens.run, size)

    @property
    def _layers(self) -> int:
        return len(self._found.layers) + len(self._found.without)

    def bytes_of_a_pass(self, tokens: int, seen: int, *, gradient: bool) -> int:
        """Of a row, as many of whose tokens are run, each of which sees up to so many; without logits."""
        config, found = self._config, self._found
        hidden = setting(config, "intermediate_size") or 4 * config.hidden_size
        hidden = (hidden if isinstance(hidden, int) else max(hidden)) * (setting(config, "num_experts_per_tok") or 1)
        heads = max(h * w for h, w in zip(found.heads, found.widths, strict=True))
        layer = 12 * config.hidden_size + 10 * heads + 5 * hidden + 4 * max(found.heads) * seen
        return NUMBER * tokens * layer * (self._layers if gradient else 1)

    @property
    def number_of_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def gigaflops(self) -> dict[str, float]:
        """Of a prompt's last token, which is what a patched run is, and of every one before it, which are run once for
        all masks; without what attention to earlier tokens takes.
        """
        token = torch.zeros(1, 1, dtype=torch.int64, device=self.device)
        one = torch.ones(1, dtype=torch.int64, device=self.device)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run_whole(self.model, token, one, token)
            last = counter.get_total_flops() / 1e9
            run_whole(self.model, token, one, token[:, :0])
            earlier = counter.get_total_flops() / 1e9 - last
        return {"last_token": last, "earlier_token": earlier}

    def describe(self) -> dict[str, Any]:
        config, found = self._config, self._found
        return {
            "architecture": type(self.model).__name__,
            "layers": self._layers,
            "layers_without_attention": list(found.without),
            "heads": sorted(set(found.heads)),
            "head_widths": sorted(set(found.widths)),
            "key_value_heads": setting(config, "num_key_value_heads") or max(found.heads),
            "width": config.hidden_size,
            "vocabulary": config.vocab_size,
            "way": str(self.way),
            "remarks": list(found.remarks),
        }

    def fingerprint(self) -> str:
        """That of ``decoder_fingerprint``, computed when the model was taken."""
        return self._fingerprint


def _taps_of(found: DecoderTaps, copied: nn.Module) -> list[Tap]:
    """The taps that were found in a model, in a copy of it."""
    kinds = [AttentionTap if isinstance(tap, AttentionTap) else ProjectionTap for tap in found.taps]
    return [kind(copied.get_submodule(name)) for kind, name in zip(kinds, found.names, strict=True)]


def _in_bfloat16(model: Any) -> Any:
    """A copy whose parameters are of that type; nothing is there in the model's own type twice but small buffers."""
    with torch.no_grad():
        memo: dict[int, Any] = {
            id(weight): nn.Parameter(weight.to(torch.bfloat16), requires_grad=False) for weight in model.parameters()
        }
    return copy.deepcopy(model, memo)


def _check_view(view: str) -> None:
    if view not in VIEWS:
        raise ValueError(f"there is no view {view!r}: expected one of {', '.join(VIEWS)}")
