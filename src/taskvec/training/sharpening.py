"""Between the stages, where a recipe asks for it: the tokenizer's decoder learns to be sharp.

Squared error blurs what the codes do not tell. Here the decoder is trained on against a discriminator of patches, which
asks for texture in its place. Encoder and codebook stay as they are, so no code changes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from taskvec.environment import bfloat16_is_fast
from taskvec.models.vqgan import FeatureMap, Vqgan, to_unit
from taskvec.processes import Processes
from taskvec.training.checkpoints import clip_gradients
from taskvec.training.loop import Run, learning_rate_factor, run_stage
from taskvec.training.prompt_pool import PromptPool


@dataclass(frozen=True)
class SharpeningRecipe:
    """``adversarial`` and ``features`` are how strongly the two losses of the discriminator pull at the decoder's last
    layer, compared with the reconstruction loss; for the first ``discriminator_steps`` the discriminator learns alone.
    """

    steps: int
    discriminator_steps: int = 50
    batch: int = 32
    learning_rate: float = 3e-4
    discriminator_learning_rate: float = 4e-4
    adversarial: float = 0.4
    features: float = 0.4

    def __post_init__(self) -> None:
        if not 0 <= self.discriminator_steps < self.steps:
            raise ValueError(
                f"discriminator_steps is {self.discriminator_steps}, "
                f"expected 0 or more and fewer than steps, {self.steps}"
            )
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}, expected at least 1")


class Discriminator(nn.Sequential):
    """Judges overlapping patches of 22 pixels: above 0 where they look like the data, below where they look decoded."""

    def __init__(self, channels: int = 48):
        widths = (3, channels, 2 * channels, 4 * channels)
        layers = [nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths)]
        super().__init__(*(spectral_norm(layer) for layer in [*layers, nn.Conv2d(widths[-1], 1, 1)]))

    def features(self, images: FeatureMap) -> Iterator[FeatureMap]:
        """What every layer gives, the judgement last."""
        x = images
        for layer in self:
            x = layer(x)
            yield x
            x = F.leaky_relu(x, 0.2)


def train_sharpening(vqgan: Vqgan, recipe: SharpeningRecipe, pool: PromptPool, held_out: PromptPool, run: Run) -> None:
    """Train the decoder of ``vqgan`` in place; goes on where an earlier run in the directory stopped."""
    device = vqgan.quant_conv.weight.device
    mixed = partial(torch.autocast, device.type, torch.bfloat16, enabled=bfloat16_is_fast(device))
    torch.manual_seed(run.seed)
    vqgan.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    discriminator = Discriminator().to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    trained = [*vqgan.decoder.parameters(), *vqgan.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(trained, betas=(0.5, 0.99), weight_decay=1e-4)
    judge_optimizer = torch.optim.AdamW(discriminator.parameters(), betas=(0.5, 0.99), weight_decay=1e-4)
    last_layer = vqgan.decoder.conv_out.weight

    def step(index: int) -> dict[str, float]:
        torch.manual_seed((run.seed * 1_000_003 + index) % 2**63)
        factor = learning_rate_factor(index, recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * factor
        for group in judge_optimizer.param_groups:
            group["lr"] = recipe.discriminator_learning_rate * factor
        drawn = pool.images(recipe.batch, np.random.default_rng([run.seed, 5, index]))
        images = to_unit(torch.from_numpy(run.processes.share(drawn)))
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        alone = index < recipe.discriminator_steps
        with torch.no_grad():
            codes = vqgan.encode(images)
        with torch.set_grad_enabled(not alone), mixed():
            decoded = vqgan.decode(codes)
        decoded = decoded.float()
        numbers = {"mse": float(F.mse_loss(decoded.detach(), images))}
        with mixed():
            *real_features, real = discriminator.features(images)
            *_, fake = discriminator.features(decoded.detach())
        judge_loss = F.relu(1 - real.float()).mean() + F.relu(1 + fake.float()).mean()
        _update(judge_optimizer, judge_loss, run.processes)
        numbers["discriminator"] = float(judge_loss.detach())
        if alone:
            return numbers

        discriminator.requires_grad_(False)
        with mixed():
            *features, fake = discriminator.features(decoded)
        discriminator.requires_grad_(True)
        loss = F.mse_loss(decoded, images) + 0.2 * F.l1_loss(decoded, images)
        pairs = zip(features, real_features, strict=True)
        matching = sum((F.l1_loss(a.float(), b.detach().float()) for a, b in pairs), torch.zeros((), device=device))
        pull = _length(loss, last_layer)
        for weight, other in ((recipe.adversarial, -fake.float().mean()), (recipe.features, matching)):
            loss = loss + weight * pull / (_length(other, last_layer) + 1e-6) * other
        _update(optimizer, loss, run.processes)
        return {**numbers, "matching": float(matching.detach())}

    def validate() -> dict[str, float]:
        images = to_unit(torch.from_numpy(held_out.images(512, np.random.default_rng([run.seed, 2])))).to(device)
        with torch.inference_mode():
            decoded = torch.cat([vqgan.decode(vqgan.encode(chunk)) for chunk in images.split(64)]).clamp(-1, 1)
        return {
            "held_out_mse": float(F.mse_loss(decoded, images)),
            "sharpness": float(_gradients(decoded) / _gradients(images)),
        }

    parts: dict[str, Any] = {
        "model": vqgan,
        "optimizer": optimizer,
        "discriminator": discriminator,
        "discriminator_optimizer": judge_optimizer,
    }
    run_stage("sharpening", run, recipe.steps, parts, step, validate)


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, processes: Processes) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.zero_grad()
    loss.backward()
    processes.average_gradients(parameters)
    clip_gradients(parameters)
    optimizer.step()


def _length(loss: Tensor, weight: Tensor) -> Tensor:
    """Length of a loss's gradient with respect to a weight."""
    return torch.autograd.grad(loss, weight, retain_graph=True)[0].norm()


def _gradients(images: FeatureMap) -> Tensor:
    """Mean difference of neighbouring pixels: what blur loses."""
    return images.diff(dim=-1).abs().mean() + images.diff(dim=-2).abs().mean()
