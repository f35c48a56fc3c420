"""Stage two: the masked autoencoder, on prompts, by cross-entropy on the tokenizer's codes of the hidden patches.

Mostly the query output is hidden as a whole, as prompting hides it; otherwise random patches are, as in MAE.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from taskvec import evaluation
from taskvec.data.examples import DataSet
from taskvec.environment import bfloat16_is_fast
from taskvec.models.canvas import QUADRANTS, View
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.models.vqgan import to_unit
from taskvec.prompts import draw_prompts
from taskvec.tasks import Task
from taskvec.training.checkpoints import clip_gradients
from taskvec.training.loop import Run, learning_rate_factor, run_stage
from taskvec.training.prompt_pool import PromptPool


@dataclass(frozen=True)
class MaeRecipe:
    """Matrices of the blocks are trained by Muon, everything else by AdamW; a batch is ``batch`` canvases.

    ``compile`` lets PyTorch compile the blocks, for which processors need a C++ compiler on the machine: on two cores,
    steps of `small` take three quarters of the time.
    """

    steps: int
    batch: int = 64
    muon_learning_rate: float = 5e-3
    adamw_learning_rate: float = 2e-3
    weight_decay: float = 0.02
    random_masks: float = 0.15
    hidden_at_random: float = 0.75
    compile: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise ValueError(f"steps and batch are {self.steps} and {self.batch}, expected at least 1")
        if not 0 <= self.random_masks <= 1 or not 0 < self.hidden_at_random < 1:
            raise ValueError("random_masks and hidden_at_random are shares, expected between 0 and 1")


def train_mae(
    model: MaeVqgan, recipe: MaeRecipe, pool: PromptPool, held_out: DataSet, validated: Sequence[Task], run: Run
) -> None:
    """Train all of ``model`` but its tokenizer, in place; goes on where an earlier run in the directory stopped.

    ``validated`` are the tasks that it is scored by on what is held out.
    """
    model.vqgan.requires_grad_(False)
    optimizers = _optimizers(model, recipe)
    rates = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    tokens = model.geometry.region_tokens(*QUADRANTS)
    query_output = model.geometry.region_tokens("query_output")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    initialise(model, run.seed)
    processes = run.processes
    if recipe.compile:
        for block in [*model.encoder.blocks, *model.decoder.blocks]:
            block.compile(dynamic=False)
    device = model.device
    bfloat16 = bfloat16_is_fast(device)

    def step(index: int) -> dict[str, float]:
        random = np.random.default_rng([run.seed, 4, index])
        factor = learning_rate_factor(index, recipe.steps)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate * factor
        whole = random.random() >= recipe.random_masks
        if whole:
            hidden = query_output
        else:
            shuffled = random.permutation(len(tokens))[: round(recipe.hidden_at_random * len(tokens))]
            hidden = tokens[np.sort(shuffled)]
        quadrants = processes.share(pool.quadrants(recipe.batch, random))
        view = View(_without(torch.arange(model.geometry.tokens), hidden), torch.arange(model.geometry.tokens))
        images = dict(zip(QUADRANTS, quadrants.swapaxes(0, 1), strict=True))
        canvases = torch.from_numpy(model.geometry.compose(images)).to(device)
        targets = _codes(model, canvases, whole)[:, hidden - 1]
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            logits = model(canvases, view)[:, hidden - 1]
        loss = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        loss.backward()
        processes.average_gradients(trained)
        clip_gradients(trained)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return {"loss": float(loss.detach())}

    def validate() -> dict[str, float]:
        results = {}
        for task in validated:
            prompts = draw_prompts(held_out, task, 200, model.config.image_size, seed=run.seed)
            with torch.compiler.set_stance("force_eager"):  # compiling would take longer, for every new size of batch
                scores = evaluation.scores(model, evaluation.run(model, "one_shot"), prompts)
            results[task.name] = round(float(scores.mean()), 4)
        return results

    parts: dict[str, Any] = {"model": model, **{f"optimizer_{i}": o for i, o in enumerate(optimizers)}}
    run_stage("mae", run, recipe.steps, parts, step, validate)


def initialise(model: MaeVqgan, seed: int) -> None:
    """MAE's initialisation: uniform Glorot weights, zero biases, small CLS and mask tokens."""
    torch.manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not name.startswith("vqgan."):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(model.patch_embed.weight.data.flatten(1))
    for token in (model.cls_token, model.mask_token):
        nn.init.normal_(token, std=0.02)


def _optimizers(model: MaeVqgan, recipe: MaeRecipe) -> list[torch.optim.Optimizer]:
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (matrices if parameter.ndim == 2 and ".blocks." in name else others).append(parameter)
    muon = torch.optim.Muon(matrices, recipe.muon_learning_rate, recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, recipe.adamw_learning_rate, (0.9, 0.98), weight_decay=recipe.weight_decay)
    return [muon, adamw]


@torch.no_grad()
def _codes(model: MaeVqgan, canvases: Tensor, query_output_only: bool) -> Int[Tensor, "n patches"]:
    """Codes of every canvas patch, row-major; only the query output's are filled in where no others are needed."""
    grid = model.geometry.grid
    half, middle = grid // 2, model.config.canvas_size // 2
    codes = torch.zeros(len(canvases), grid, grid, dtype=torch.int64, device=canvases.device)
    for row, column in [(1, 1)] if query_output_only else [(0, 0), (0, 1), (1, 0), (1, 1)]:
        quadrant = canvases[:, row * middle : (row + 1) * middle, column * middle : (column + 1) * middle]
        codes[:, row * half : (row + 1) * half, column * half : (column + 1) * half] = model.vqgan.encode(
            to_unit(quadrant).contiguous(memory_format=torch.channels_last)
        )
    return codes.flatten(1)


def _without(tokens: Tensor, removed: Tensor) -> Tensor:
    return tokens[~torch.isin(tokens, removed)]
