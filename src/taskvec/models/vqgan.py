"""VQGAN (Esser et al., 2021): images to a grid of codes and back, with the layer names of the published checkpoints."""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

MOST_LEVELS, MOST_BLOCKS = 12, 100  # which are made one by one

FeatureMap = Float[Tensor, "n channels height width"]


@dataclass(frozen=True)
class VqganConfig:
    """Sizes of a VQGAN; the defaults are the published ImageNet f16 model with 1024 codes.

    ``resolution`` only says at which of ``attention_resolutions`` a level has attention, as in the published configs.
    ``local`` normalises each position by itself and leaves attention out, which makes a tokenizer for single quadrants:
    each is coded and decoded by itself, and nothing beside it on the canvas can change its codes.
    """

    codes: int = 1024
    code_channels: int = 256
    latent_channels: int = 256
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    residual_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (16,)
    resolution: int = 256
    local: bool = False

    def __post_init__(self) -> None:
        sizes = (self.codes, self.code_channels, self.latent_channels, self.channels, self.residual_blocks)
        if min(*sizes, *self.multipliers, self.resolution) < 1 or not self.multipliers:
            raise ValueError("a VQGAN's sizes must all be positive")
        if self.residual_blocks > MOST_BLOCKS or len(self.multipliers) > MOST_LEVELS:
            raise ValueError(
                f"a VQGAN has {len(self.multipliers)} levels of {self.residual_blocks} residual blocks, expected "
                f"{MOST_LEVELS} of {MOST_BLOCKS} or fewer"
            )
        if not self.local and self.channels % 32:
            raise ValueError(f"channels is {self.channels}, expected a multiple of the 32 groups of its normalisation")

    @property
    def patch_size(self) -> int:
        """Pixels along one side of the square that one code stands for."""
        return 2 ** (len(self.multipliers) - 1)


class PositionNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every position of a feature map."""

    def forward(self, input: FeatureMap) -> FeatureMap:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _norm(channels: int, config: VqganConfig) -> nn.Module:
    return PositionNorm(channels, 1e-6) if config.local else nn.GroupNorm(32, channels, 1e-6)


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: VqganConfig):
        super().__init__()
        self.norm1 = _norm(inputs, config)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = _norm(outputs, config)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: FeatureMap) -> FeatureMap:
        hidden = self.conv1(F.silu(self.norm1(x)))
        return self.nin_shortcut(x) + self.conv2(F.silu(self.norm2(hidden)))


class SpatialAttention(nn.Module):
    """One head over all positions of a feature map."""

    def __init__(self, channels: int, config: VqganConfig):
        super().__init__()
        self.norm = _norm(channels, config)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: FeatureMap) -> FeatureMap:
        normed = self.norm(x)
        q, k, v = (conv(normed).flatten(2).transpose(1, 2) for conv in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(mixed.transpose(1, 2).unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: FeatureMap) -> FeatureMap:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: FeatureMap) -> FeatureMap:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution, and the change to the next, if there is one."""

    def __init__(self, inputs: int, outputs: int, blocks: int, attends: bool, config: VqganConfig):
        super().__init__()
        widths = [inputs] + [outputs] * blocks
        self.block = nn.ModuleList(ResidualBlock(width, outputs, config) for width in widths[:-1])
        self.attn = nn.ModuleList(SpatialAttention(outputs, config) for _ in range(blocks if attends else 0))
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None

    def forward(self, x: FeatureMap) -> FeatureMap:
        for index, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[index](x)
        for change in (self.downsample, self.upsample):
            if change is not None:
                x = change(x)
        return x


class Middle(nn.Module):
    def __init__(self, channels: int, config: VqganConfig):
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, config)
        self.attn_1 = nn.Identity() if config.local else SpatialAttention(channels, config)
        self.block_2 = ResidualBlock(channels, channels, config)

    def forward(self, x: FeatureMap) -> FeatureMap:
        return self.block_2(self.attn_1(self.block_1(x)))


def _attends(index: int, config: VqganConfig) -> bool:
    return not config.local and config.resolution // 2**index in config.attention_resolutions


class Encoder(nn.Module):
    def __init__(self, config: VqganConfig):
        super().__init__()
        widths = [config.channels * m for m in (1, *config.multipliers)]
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        levels = []
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            level = Level(inputs, outputs, config.residual_blocks, _attends(index, config), config)
            if index < len(config.multipliers) - 1:
                level.downsample = Downsample(outputs)
            levels.append(level)
        self.down = nn.Sequential(*levels)
        self.mid = Middle(widths[-1], config)
        self.norm_out = _norm(widths[-1], config)
        self.conv_out = nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, x: FeatureMap) -> FeatureMap:
        return self.conv_out(F.silu(self.norm_out(self.mid(self.down(self.conv_in(x))))))


class Decoder(nn.Module):
    def __init__(self, config: VqganConfig):
        super().__init__()
        widths = [config.channels * m for m in config.multipliers]
        self.conv_in = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], config)
        levels = []
        for index, outputs in enumerate(widths):
            inputs = widths[min(index + 1, len(widths) - 1)]
            level = Level(inputs, outputs, config.residual_blocks + 1, _attends(index, config), config)
            if index:
                level.upsample = Upsample(outputs)
            levels.append(level)
        self.up = nn.ModuleList(levels)
        self.norm_out = _norm(widths[0], config)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, x: FeatureMap) -> FeatureMap:
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Quantizer(nn.Module):
    """The codebook."""

    def __init__(self, config: VqganConfig):
        super().__init__()
        self.embedding = nn.Embedding(config.codes, config.code_channels)

    def forward(self, latents: FeatureMap) -> Int[Tensor, "n height width"]:
        """Index of the code nearest to each latent."""
        flat = latents.permute(0, 2, 3, 1).flatten(0, 2).float()
        codebook = self.embedding.weight
        with torch.autocast(flat.device.type, enabled=False):  # near codes differ by less than bfloat16 resolves
            distances = flat.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * flat @ codebook.T
        return distances.argmin(1).view(len(latents), *latents.shape[2:])


class Vqgan(nn.Module):
    """Images in [-1, 1], channels first, to codes and back."""

    def __init__(self, config: VqganConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Quantizer(config)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.code_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.code_channels, config.latent_channels, 1)

    def latents(self, images: Float[Tensor, "n 3 height width"]) -> FeatureMap:
        """What is quantised: [n, code_channels, height / patch, width / patch]."""
        return self.quant_conv(self.encoder(images))

    def encode(self, images: Float[Tensor, "n 3 height width"]) -> Int[Tensor, "n rows columns"]:
        return self.quantize(self.latents(images))

    def decode_latents(self, latents: FeatureMap) -> Float[Tensor, "n 3 height width"]:
        return self.decoder(self.post_quant_conv(latents))

    def decode(self, codes: Int[Tensor, "n rows columns"]) -> Float[Tensor, "n 3 height width"]:
        """Images in about [-1, 1], not clamped."""
        return self.decode_latents(self.quantize.embedding(codes).permute(0, 3, 1, 2))


def to_unit(pixels: Tensor) -> Float[Tensor, "n 3 height width"]:
    """uint8 [n, height, width, 3] to float32 in [-1, 1], channels first."""
    return pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_pixels(images: Float[Tensor, "n 3 height width"]) -> Tensor:
    """[-1, 1], channels first, to uint8 [n, height, width, 3], truncated as the official code does."""
    return images.clamp(-1, 1).add(1).div(2).mul(255).to(torch.uint8).permute(0, 2, 3, 1)
