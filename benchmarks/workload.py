"""What several benchmarks measure: a model, an objective on one query with real means, and random masks."""

from typing import Any

import torch
from torch import Tensor

from taskvec import collect, draw_prompts, load_data, load_model
from taskvec.models.interface import Variant
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig
from taskvec.objectives import Objective
from taskvec.sites import Granularity
from taskvec.tasks import LOW_LIGHT

PLAIN = Variant()


def model_of(name: str) -> MaeVqgan:
    """A shipped model, a directory, or ``full``: the published architecture with random weights."""
    torch.manual_seed(0)
    if name == "full":
        return MaeVqgan(MaeVqganConfig()).eval().requires_grad_(False)
    model = load_model(name)
    if not isinstance(model, MaeVqgan):
        raise ValueError(f"{name} is a {model.model_type}, expected an MAE-VQGAN")
    return model


def objective_of(
    model: MaeVqgan, granularity: Granularity = "quadrant", variant: Variant = PLAIN, items: int = 1, **options: Any
) -> Objective:
    """Low light on as many drawn scenes, with means over eight prompts."""
    data, size = load_data("scenes", "validation"), model.config.image_size
    means = collect(model, [draw_prompts(data, LOW_LIGHT, 8, size, 1)]).means([LOW_LIGHT.name])
    drawn = draw_prompts(data, LOW_LIGHT, items, size, 0)
    return Objective(model.variant(variant), model.sites(granularity), means, [drawn], **options)


def masks_and_items(objective: Objective, count: int) -> tuple[Tensor, Tensor]:
    """Masks with 30 % of the sites, all of the one query."""
    return objective.sites.sample(count, 0.3), torch.zeros(count, dtype=torch.int64)
