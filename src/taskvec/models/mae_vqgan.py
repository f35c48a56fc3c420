"""MAE-VQGAN (Bar et al., 2022): a masked autoencoder that predicts the VQGAN codes of a canvas's hidden patches."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from taskvec.canvas import CanvasGeometry, View, ViewName
from taskvec.heads import Patch, Projections
from taskvec.images.colour import IMAGENET_MEAN, IMAGENET_STD
from taskvec.models.pretrained import Pretrained
from taskvec.models.vqgan import Vqgan, VqganConfig, to_pixels, to_unit
from taskvec.sites import Granularity, Sites, StackShape

DecodeArea = Literal["canvas", "quadrant"]

MOST_LAYERS = 1000  # which are made one by one
CACHED_PIXELS = 224 * 224  # decoded together on a processor: activations of more fall out of its cache


@dataclass(frozen=True)
class StackConfig:
    """A stack of transformer blocks."""

    layers: int
    width: int
    heads: int
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        if self.layers > MOST_LAYERS:
            raise ValueError(f"a stack has {self.layers} layers, expected {MOST_LAYERS} or fewer")
        if self.layers < 1 or self.heads < 1:
            raise ValueError(f"a stack has {self.layers} layers and {self.heads} heads, expected at least one of each")
        if self.width < 1 or not 0 < self.mlp_ratio < math.inf:
            raise ValueError(f"a stack has a width of {self.width} and an MLP ratio of {self.mlp_ratio}")
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"a width of {self.width} does not divide among {self.heads} heads and by 4")


@dataclass(frozen=True)
class MaeVqganConfig:
    """The defaults are the published model: ViT-L/16 with a decoder of 8 layers, and the VQGAN f16 with 1024 codes."""

    canvas_size: int = 224
    image_size: int = 111
    patch_size: int = 16
    encoder: StackConfig = StackConfig(24, 1024, 16)
    decoder: StackConfig = StackConfig(8, 512, 16)
    vqgan: VqganConfig = field(default_factory=VqganConfig)

    def __post_init__(self) -> None:
        if min(self.canvas_size, self.image_size, self.patch_size) < 1:
            raise ValueError("canvas_size, image_size and patch_size must be positive")
        if self.vqgan.patch_size != self.patch_size:
            raise ValueError(
                f"one code stands for {self.vqgan.patch_size} pixels and a patch for {self.patch_size}: they must agree"
            )


class Attention(nn.Module):
    """Self-attention, by default spelt out in the order of operations of the official code, equal to the last bit.

    ``fused`` computes it in one kernel, which writes no weights to memory and differs by rounding.
    """

    fused = False

    def __init__(self, config: StackConfig):
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.fused:
            z = F.scaled_dot_product_attention(q, k, v)  # [batch, heads, tokens, head_dim]
        else:
            z = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return self.proj(z.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, config: StackConfig):
        super().__init__()
        hidden = int(config.width * config.mlp_ratio)
        self.fc1 = nn.Linear(config.width, hidden)
        self.fc2 = nn.Linear(hidden, config.width)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, config: StackConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, 1e-6)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, 1e-6)
        self.mlp = Mlp(config)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Stack(nn.Module):
    """Blocks, a last normalisation and a position embedding for every canvas token."""

    def __init__(self, config: StackConfig, tokens: int):
        super().__init__()
        self.pos_embed = nn.Parameter(sinusoidal_positions(config.width, tokens))
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width, 1e-6)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        return self.norm(self.blocks(x))

    def projections(self) -> Projections:
        blocks = [block for block in self.blocks if isinstance(block, Block)]
        return Projections([block.attn.proj for block in blocks], blocks[0].attn.heads)


class MaeVqgan(Pretrained):
    """Canvases in, codes of the hidden patches out; see ``taskvec.canvas`` for canvases, tokens and views."""

    config_class = MaeVqganConfig
    config: MaeVqganConfig
    _identity: str | None = None  # of the model that this is an accelerated variant of

    def __init__(self, config: MaeVqganConfig):
        super().__init__()
        self.config = config
        self.geometry = CanvasGeometry(config.canvas_size, config.image_size, config.patch_size)
        self.patch_embed = nn.Conv2d(3, config.encoder.width, config.patch_size, config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(config.encoder.width))
        self.encoder = Stack(config.encoder, self.geometry.tokens)
        self.decoder_embed = nn.Linear(config.encoder.width, config.decoder.width)
        self.mask_token = nn.Parameter(torch.zeros(config.decoder.width))
        self.decoder = Stack(config.decoder, self.geometry.tokens)
        self.decoder_pred = nn.Linear(config.decoder.width, config.vqgan.codes)
        self.vqgan = Vqgan(config.vqgan)

    @property
    def device(self) -> torch.device:
        return self.cls_token.device

    def fingerprint(self) -> str:
        """Of an accelerated variant, that of the model which it is a variant of."""
        return self._identity or super().fingerprint()

    def projections(self) -> dict[str, Projections]:
        return {"encoder": self.encoder.projections(), "decoder": self.decoder.projections()}

    def head_width(self, stack: str) -> int:
        """Dimensions of one head output of a stack."""
        config = {"encoder": self.config.encoder, "decoder": self.config.decoder}[stack]
        return config.width // config.heads

    def sites(
        self,
        granularity: Granularity = "quadrant",
        stacks: Sequence[str] = ("encoder", "decoder"),
        view: ViewName = "query_only",
    ) -> Sites:
        """The sites of a search among the tokens that ``view`` has."""
        tokens = self.view(view)
        shapes = {
            stack: StackShape(config.layers, config.heads, self.geometry.token_regions(), tokens.tokens(stack))
            for stack, config in (("encoder", self.config.encoder), ("decoder", self.config.decoder))
        }
        return Sites.group(shapes, granularity, stacks)

    def view(self, view: ViewName | View) -> View:
        """A view by its name, or one of one's own; ValueError where that has no encoder or tokens beyond the canvas."""
        if not isinstance(view, View):
            return self.geometry.view(view)
        if not len(view.encoder_tokens):
            raise ValueError(f"the {view} has no encoder tokens: expected 0, the token CLS, at least")
        if (last := max(int(view.encoder_tokens[-1]), int(view.decoder_tokens[-1]))) >= self.geometry.tokens:
            raise ValueError(
                f"the {view} has token {last}: the model's canvas has tokens 0 to {self.geometry.tokens - 1}"
            )
        return view

    def forward(
        self,
        canvases: UInt8[Tensor, "batch canvas canvas 3"],
        view: ViewName | View = "one_shot",
        patch: Patch | None = None,
    ) -> Float[Tensor, "batch predicted codes"]:
        """Logits of the codes at the view's predicted patches; pixels of tokens outside the view make no difference."""
        return self.predict(self.embed(canvases, view), view, patch)

    def embed(
        self, canvases: UInt8[Tensor, "batch canvas canvas 3"], view: ViewName | View
    ) -> Float[Tensor, "batch encoder_tokens width"]:
        """What the encoder starts from: CLS and the view's own patches, with their positions added."""
        tokens, size = self.view(view).encoder_tokens, self.config.patch_size
        patches = canvases.unflatten(2, (-1, size)).unflatten(1, (-1, size)).transpose(2, 3).flatten(1, 2)
        seen = normalise(patches[:, tokens[1:] - 1]).permute(0, 1, 4, 2, 3)  # [batch, tokens, 3, size, size]
        embedded = self.patch_embed(seen.flatten(0, 1)).flatten(1).unflatten(0, seen.shape[:2])
        positions = self.encoder.pos_embed[tokens]
        first = (self.cls_token + positions[0]).expand(len(canvases), 1, -1).to(embedded.dtype)
        return torch.cat([first, embedded + positions[1:]], 1)

    def predict(
        self, embedded: Float[Tensor, "batch encoder_tokens width"], view: ViewName | View, patch: Patch | None = None
    ) -> Float[Tensor, "batch predicted codes"]:
        """``forward`` from what ``embed`` gave."""
        view = self.view(view)
        with patch.applied(self, view) if patch is not None else nullcontext():
            return self._decode_tokens(self.encoder(embedded), view)

    def _decode_tokens(self, encoded: Tensor, view: View) -> Float[Tensor, "batch predicted codes"]:
        embedded = self.decoder_embed(encoded)
        canvas = self.mask_token.to(embedded.dtype).repeat(len(encoded), self.geometry.tokens, 1)
        canvas[:, view.encoder_tokens] = embedded
        decoded = self.decoder(canvas[:, view.decoder_tokens] + self.decoder.pos_embed[view.decoder_tokens])
        return self.decoder_pred(decoded[:, 1:])

    def accelerated(self, bfloat16: bool) -> "MaeVqgan":
        """This model with fused attention; it shares all weights that stay as they are, and its fingerprint.

        ``bfloat16`` makes the weights of matrix products and convolutions of that type, so that autocast need not
        convert them in every call; normalisations, embeddings and the sums of the residual stream stay float32.
        """
        known = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        if bfloat16:
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    for weight in module.parameters(recurse=False):
                        known[id(weight)] = nn.Parameter(weight.detach().bfloat16(), requires_grad=False)
        copy = deepcopy(self, known)
        copy._identity = self.fingerprint()
        for module in copy.modules():
            if isinstance(module, Attention):
                module.fused = True
        return copy

    # From codes to pixels and back

    @property
    def default_area(self) -> DecodeArea:
        """What is decoded together: a local tokenizer is made for single quadrants, others for canvases."""
        return "quadrant" if self.config.vqgan.local else "canvas"

    def query_output_logits(self, logits: Tensor, view: ViewName | View) -> Float[Tensor, "batch patches codes"]:
        """The part of a view's logits that belongs to the query output, row-major.

        Raises ValueError for a view that does not predict all of it.
        """
        view, wanted = self.view(view), self.geometry.region_tokens("query_output")
        chosen = torch.isin(view.predicted, wanted)
        if int(chosen.sum()) < len(wanted):
            raise ValueError(
                f"the {view} predicts {int(chosen.sum())} of the {len(wanted)} patches of the query output"
            )
        return logits[:, chosen]

    def decode_canvas(
        self, codes: Int[Tensor, "batch predicted"], view: ViewName | View
    ) -> UInt8[Tensor, "batch canvas canvas 3"]:
        """Decode a view's predicted codes as one canvas.

        A view without the top half is decoded with its bottom half in both places, as the official code does.
        Raises ValueError for a view that predicts neither the canvas nor its bottom half.
        """
        predicted, grid = self.view(view).predicted.tolist(), self.geometry.grid
        whole = list(range(1, 1 + grid * grid))
        if predicted not in (whole, whole[len(whole) // 2 :]):
            raise ValueError("only views that predict the whole canvas or its bottom half can be decoded as a canvas")
        if predicted != whole:
            codes = torch.cat([codes, codes], 1)
        return self._decode_grid(codes.view(len(codes), grid, grid))

    def decode(
        self, codes: Int[Tensor, "batch predicted"], view: ViewName | View, area: DecodeArea | None = None
    ) -> UInt8[Tensor, "batch size size 3"]:
        """The query output's image from a view's predicted codes, decoding the whole canvas or that quadrant alone."""
        if (area or self.default_area) == "canvas":
            return self.geometry.crop(self.decode_canvas(codes, view), "query_output")
        return self.decode_quadrant(self.query_output_logits(codes[..., None], view)[..., 0])

    def decode_quadrant(self, codes: Int[Tensor, "batch patches"]) -> UInt8[Tensor, "batch size size 3"]:
        """The query output's image from its own codes alone."""
        half = self.geometry.grid // 2
        size = self.config.image_size
        return self._decode_grid(codes.view(len(codes), half, half))[:, -size:, -size:]

    def reconstruct(self, canvases: UInt8[Tensor, "batch canvas canvas 3"]) -> UInt8[Tensor, "batch size size 3"]:
        """The query output of complete canvases through the tokenizer and back, decoded as predictions are."""
        if self.default_area == "quadrant":
            return self.decode_quadrant(self.target_codes(canvases))
        return self.geometry.crop(self._decode_grid(self.vqgan.encode(to_unit(canvases))), "query_output")

    def _decode_grid(self, codes: Int[Tensor, "batch rows columns"]) -> UInt8[Tensor, "batch height width 3"]:
        pixels = codes[0].numel() * self.config.patch_size**2
        together = len(codes) if codes.is_cuda else max(1, CACHED_PIXELS // pixels)
        different, index = codes.unique(dim=0, return_inverse=True)  # masks of one item often give the same codes
        return torch.cat([to_pixels(self.vqgan.decode(some).float()) for some in different.split(together)])[index]

    def target_codes(self, canvases: UInt8[Tensor, "batch canvas canvas 3"]) -> Int[Tensor, "batch patches"]:
        """The tokenizer's codes of the query output of complete canvases, row-major."""
        half = self.geometry.grid // 2
        if self.config.vqgan.local:
            middle = self.config.canvas_size // 2
            return self.vqgan.encode(to_unit(canvases[:, middle:, middle:])).flatten(1)
        return self.vqgan.encode(to_unit(canvases))[:, half:, half:].flatten(1)


def sinusoidal_positions(width: int, tokens: int) -> Float[Tensor, "tokens width"]:
    """MAE's 2-D sine and cosine embedding; zeros for CLS. Half of the width stands for columns, half for rows."""
    grid = round((tokens - 1) ** 0.5)
    frequencies = 10000 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], 1)
    columns = axis[None, :].expand(grid, -1, -1)
    rows = axis[:, None].expand(-1, grid, -1)
    table = torch.cat([columns, rows], -1).flatten(0, 1)
    return torch.cat([torch.zeros(1, width), table.float()])


def normalise(pixels: UInt8[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Bytes to ImageNet-normalised float32, computed in float64 from float32 fractions as the official code does."""
    fractions = pixels.float().div(255).double()
    mean, std = (torch.tensor(v, dtype=torch.float64, device=pixels.device) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((fractions - mean) / std).float()
