"""Hugging Face decoders (Llama, GPT-2, GPT-NeoX, ...) as models whose head outputs the one engine reaches.

Their one stack is ``decoder``; its tokens are numbered by their places in the sequence. The model comes loaded from the
library transformers, which nothing here imports.
"""

import hashlib
import json
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from taskvec.heads import Patch
from taskvec.models.interface import Locations, Place, ProjectionTap, StackLayout
from taskvec.sites import Granularity, Sites

STACK = "decoder"
ATTENTIONS = ("self_attn", "self_attention", "attn", "attention")  # what the architectures call a block's attention
OUTPUT_PROJECTIONS = ("o_proj", "out_proj", "c_proj", "dense")  # and in it the layer that takes all heads' outputs


def locations(length: int) -> dict[str, Locations]:
    """Of sequences of this length, whose every token is a place."""
    return {STACK: Locations(torch.arange(length)[None], length)}


class CausalLm:
    """A decoder with a head for language modelling, on sequences of one length: tokens in, logits out.

    Raises ValueError where its layers do not have one attention output projection each, or its numbers of layers and
    heads are not told or not the attention's own.
    """

    def __init__(self, model: nn.Module):
        config: Any = model.config
        self.model = model
        layers, heads = (getattr(config, name, None) for name in ("num_hidden_layers", "num_attention_heads"))
        if layers is None or heads is None:
            raise ValueError(f"{type(model).__name__} does not tell its numbers of layers and heads: it is no decoder")
        self.layers: int = layers
        self.heads: int = heads
        found = _output_projections(model)
        self._projections = [projection for _, projection in found]
        if len(self._projections) != self.layers:
            raise ValueError(
                f"{type(model).__name__} has {len(self._projections)} attention output projections in {self.layers} "
                f"layers, expected one in each, named {', '.join(OUTPUT_PROJECTIONS)}"
            )

        for attention, _ in found:
            if (own := getattr(attention, "num_heads", heads)) != heads:
                raise ValueError(f"{type(model).__name__} has attention of {own} heads, its configuration says {heads}")

    @property
    def stacks(self) -> dict[str, StackLayout]:
        return {STACK: self.layout(0)}

    def layout(self, length: int) -> StackLayout:
        """Of sequences of this length, whose every token is a place."""
        return StackLayout(self.layers, self.heads, 0, tuple(Place(None, token) for token in range(length)))

    def taps(self) -> dict[str, list[ProjectionTap]]:
        return {STACK: [ProjectionTap(projection) for projection in self._projections]}

    def fingerprint(self) -> str:
        """SHA-256 of class, configuration and weights, 16 hexadecimal digits, computed once: means are of one model."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        config: Any = self.model.config
        # of the configuration what the numbers depend on: neither where the model lies nor who wrote it
        passing = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
        facts = {name: value for name, value in config.to_dict().items() if name not in passing}
        kept = json.dumps([type(self.model).__name__, facts], sort_keys=True, default=str)
        digest = hashlib.sha256(kept.encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def sites(self, granularity: Granularity, length: int) -> Sites:
        """The sites of a search in sequences of this length: by ``token``, ``head`` or ``layer``."""
        if granularity == "quadrant":
            raise ValueError("a sequence has no quadrants: expected the granularity token, head or layer")
        return Sites.group({STACK: self.layout(length)}, {STACK: torch.arange(length)}, granularity)

    def __call__(
        self, tokens: Int[Tensor, "batch tokens"], patch: Patch | None = None
    ) -> Float[Tensor, "batch tokens vocabulary"]:
        """Logits of every next token; nothing is cached."""
        if patch is None:
            return self.model(tokens, use_cache=False).logits
        with patch.applied(self, locations(tokens.shape[1])):
            return self(tokens)


def _output_projections(model: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """Every layer's attention and its output projection, in the order of the layers."""
    found = []
    for name, module in model.named_modules():
        *_, parent, own = ["", "", *name.split(".")]
        if parent in ATTENTIONS and own in OUTPUT_PROJECTIONS:
            found.append((model.get_submodule(name.rpartition(".")[0]), module))
    return found
