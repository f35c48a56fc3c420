"""Stage one: the VQ tokenizer.

A plain autoencoder comes first, with noise on its latents that grows to about what quantisation will do to them, and a
pull towards zero mean and unit variance, without which latents drift or collapse. Its latents are clustered into the
codebook, which then follows them by moving averages while the rest learns to reconstruct through it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from taskvec.environment import bfloat16_is_fast
from taskvec.models.vqgan import Vqgan, to_unit
from taskvec.training.checkpoints import clip_gradients
from taskvec.training.loop import Run, learning_rate_factor, run_stage
from taskvec.training.prompt_pool import PromptPool


@dataclass(frozen=True)
class TokenizerRecipe:
    """``steps`` in all, the first ``autoencoder_steps`` without codes; a batch is ``batch`` images."""

    steps: int
    autoencoder_steps: int
    batch: int = 64
    learning_rate: float = 2e-3
    noise: float = 0.6
    commitment: float = 0.25
    average_decay: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.autoencoder_steps < self.steps:
            raise ValueError(
                f"autoencoder_steps is {self.autoencoder_steps}, expected 1 or more and fewer than steps, {self.steps}"
            )
        if self.batch < 4 or self.batch % 4:
            raise ValueError(f"batch is {self.batch}, expected a multiple of 4")


class MovingCodebook(nn.Module):
    """Exponential moving averages of the latents assigned to each code; codes that fall out of use are restarted."""

    counts: Tensor
    sums: Tensor

    def __init__(self, embedding: nn.Embedding, decay: float):
        super().__init__()
        self.register_buffer("counts", torch.ones(embedding.num_embeddings, device=embedding.weight.device))
        self.register_buffer("sums", embedding.weight.detach().clone())
        self._embedding, self._decay = [embedding], decay  # in a list: the weights are saved with the model

    def state(self) -> tuple[Tensor, Tensor, Tensor]:
        """All that a step changes."""
        return self.counts, self.sums, self._embedding[0].weight.data

    def start(self, latents: Float[Tensor, "n channels"], rounds: int = 12) -> None:
        """Lloyd's k-means on these latents; ValueError where they are fewer than the codes."""
        if len(latents) < len(self._embedding[0].weight):
            raise ValueError(f"{len(self._embedding[0].weight)} codes cannot start from {len(latents)} latents")
        weight = self._embedding[0].weight.data
        weight.copy_(latents[torch.linspace(0, len(latents) - 1, len(weight)).long()])
        for _ in range(rounds):
            nearest = torch.cdist(latents, weight).argmin(1)
            counts, sums = _totals(latents, nearest, len(weight))
            empty = counts == 0
            weight.copy_(sums / counts.clamp(min=1)[:, None])
            weight[empty] = latents[torch.randperm(len(latents))[: int(empty.sum())]]
        self.counts.fill_(1.0)
        self.sums.copy_(weight)

    def update(self, latents: Float[Tensor, "n channels"], codes: Int[Tensor, " n"]) -> None:
        counts, sums = _totals(latents, codes, len(self.counts))
        self.counts.lerp_(counts, 1 - self._decay)
        self.sums.lerp_(sums, 1 - self._decay)
        unused = self.counts < 0.02
        if unused.any():
            fresh = latents[torch.randint(len(latents), (int(unused.sum()),))]
            self.counts[unused], self.sums[unused] = 1.0, fresh
        self._embedding[0].weight.data.copy_(self.sums / self.counts.clamp(min=1e-3)[:, None])


def _totals(latents: Tensor, codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    counts = latents.new_zeros(size).index_add_(0, codes, latents.new_ones(len(codes)))
    return counts, latents.new_zeros(size, latents.shape[1]).index_add_(0, codes, latents)


def train_tokenizer(vqgan: Vqgan, recipe: TokenizerRecipe, pool: PromptPool, held_out: PromptPool, run: Run) -> None:
    """Train ``vqgan`` in place on images of the pool; goes on where an earlier run in the directory stopped."""
    seed, processes = run.seed, run.processes
    device = vqgan.quant_conv.weight.device
    mixed = partial(torch.autocast, device.type, torch.bfloat16, enabled=bfloat16_is_fast(device))
    vqgan.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    trained = [parameter for name, parameter in vqgan.named_parameters() if not name.startswith("quantize.")]
    optimizer = torch.optim.AdamW(trained, betas=(0.9, 0.99), weight_decay=1e-4)
    codebook = MovingCodebook(vqgan.quantize.embedding, recipe.average_decay)

    def step(index: int) -> dict[str, float]:
        if index == recipe.autoencoder_steps:
            torch.manual_seed(seed)
            codebook.start(_latents(vqgan, pool, count=12288, seed=seed))
            processes.agree(codebook.state())
        torch.manual_seed((seed * 1_000_003 + index) % 2**63)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * learning_rate_factor(index, recipe.steps)
        # canvases now and then, so that decoding a whole canvas, which is not how the model is used, stays possible
        draw = pool.canvases if index % 4 == 3 else pool.images
        images = to_unit(torch.from_numpy(processes.share(draw(recipe.batch, np.random.default_rng([seed, 1, index])))))
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        with mixed():
            latents = vqgan.latents(images)
        latents = latents.float()
        flat = latents.permute(0, 2, 3, 1).flatten(0, 2)
        spread = flat.mean(0).square().mean() + (flat.var(0) - 1).square().mean()
        numbers = {"spread": float(spread.detach())}
        if index < recipe.autoencoder_steps:
            torch.manual_seed(processes.own_seed(seed * 1_000_003 + index))
            noise = recipe.noise * (0.1 + 0.9 * index / recipe.autoencoder_steps)
            coded = latents + noise * torch.randn_like(latents)
            loss = 0.1 * spread
        else:
            codes = vqgan.quantize(latents.detach())
            nearest = vqgan.quantize.embedding(codes).permute(0, 3, 1, 2).detach()
            every = processes.gather(latents.detach().permute(0, 2, 3, 1)).flatten(0, 2)
            codebook.update(every, processes.gather(codes).flatten())
            processes.agree(codebook.state())
            commitment = F.mse_loss(latents, nearest)
            coded = latents + (nearest - latents).detach()
            loss = recipe.commitment * commitment + 0.01 * spread
            numbers["commitment"] = float(commitment.detach())
        with mixed():
            decoded = vqgan.decode_latents(coded)
        difference = decoded.float() - images
        # squared error is what the metrics ask for; absolute error keeps edges and flat areas clean
        loss = loss + difference.square().mean() + 0.2 * difference.abs().mean()
        optimizer.zero_grad()
        loss.backward()
        processes.average_gradients(trained)
        clip_gradients(trained)
        optimizer.step()
        return {"mse": float(difference.detach().square().mean()), **numbers}

    parts: dict[str, Any] = {"model": vqgan, "optimizer": optimizer, "codebook": codebook}
    run_stage("tokenizer", run, recipe.steps, parts, step, partial(_validate, vqgan, held_out, seed))


def _validate(vqgan: Vqgan, held_out: PromptPool, seed: int) -> dict[str, float]:
    device = vqgan.quant_conv.weight.device
    images = to_unit(torch.from_numpy(held_out.images(1024, np.random.default_rng([seed, 2])))).to(device)
    with torch.inference_mode():
        codes = vqgan.encode(images)
        decoded = vqgan.decode(codes).clamp(-1, 1)
    return {
        "held_out_mse": float(F.mse_loss(decoded, images)),
        "codes_in_use": float(codes.unique().numel()),
    }


@torch.inference_mode()
def _latents(vqgan: Vqgan, pool: PromptPool, count: int, seed: int) -> Float[Tensor, "n channels"]:
    images = torch.from_numpy(pool.images(count // 8, np.random.default_rng([seed, 3])))
    device = vqgan.quant_conv.weight.device
    latents = torch.cat([vqgan.latents(to_unit(chunk.to(device))) for chunk in images.split(128)])
    flat = latents.permute(0, 2, 3, 1).flatten(0, 2)
    return flat[torch.randperm(len(flat))[:count]]
