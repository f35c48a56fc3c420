"""Transformer blocks of a masked autoencoder, whose head outputs can be known before a layer runs."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from taskvec.models.interface import ProjectionTap

MOST_LAYERS = 1000  # which are made one by one


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
        """Head outputs side by side, not yet projected."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.fused:
            z = F.scaled_dot_product_attention(q, k, v)  # [batch, heads, tokens, head_dim]
        else:
            z = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return z.transpose(1, 2).flatten(2)


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

    def forward(
        self,
        x: Float[Tensor, "batch tokens width"],
        z: Float[Tensor, "batch tokens width"] | None = None,
        tokens: Int[Tensor, " wanted"] | None = None,
    ) -> Float[Tensor, "batch wanted width"]:
        """``z`` are the head outputs where they are known already, ``tokens`` those whose output is wanted, or all."""
        x = x + self.attn.proj(self.head_outputs(x) if z is None else z)
        if tokens is not None:
            x = x[:, tokens]
        return x + self.mlp(self.norm2(x))

    def head_outputs(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """z of every head, side by side: what a patch replaces."""
        return self.attn(self.norm1(x))


class Stack(nn.Module):
    """Blocks, a last normalisation and a position embedding for every canvas token."""

    def __init__(self, config: StackConfig, tokens: int):
        super().__init__()
        self.pos_embed = nn.Parameter(sinusoidal_positions(config.width, tokens))
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width, 1e-6)

    def layers(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def taps(self) -> list[ProjectionTap]:
        return [ProjectionTap(block.attn.proj) for block in self.layers()]


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
