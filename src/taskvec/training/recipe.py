"""A recipe: everything a shipped model is made from, in one TOML file."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from taskvec.data.scenes import Scenes
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig
from taskvec.models.pretrained import parse
from taskvec.training.figures import Figures
from taskvec.training.mae import MaeRecipe, train_mae
from taskvec.training.tokenizer import TokenizerRecipe, train_tokenizer


@dataclass(frozen=True)
class Recipe:
    """Architecture, both stages, the number of training scenes held in memory, and the seed of the first weights."""

    model: MaeVqganConfig
    tokenizer: TokenizerRecipe
    mae: MaeRecipe
    scenes: int = 49152
    seed: int = 0


def read_recipe(path: Path) -> Recipe:
    """Raises ValueError that names the file, the field and what was expected."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} is not a readable recipe: {error}") from error
    return parse(Recipe, values, path)


def train(recipe: Recipe, directory: Path, console: Console, device: torch.device | str = "cpu") -> Path:
    """Run both stages, or what is left of them, in ``directory``; returns the model's directory inside it (float16)."""
    torch.manual_seed(recipe.seed)
    model = MaeVqgan(recipe.model).to(device)
    size = recipe.model.image_size
    figures = Figures(Scenes("train"), recipe.scenes, size)
    held_out = Scenes("validation")
    train_tokenizer(model.vqgan, recipe.tokenizer, figures, Figures(held_out, 2048, size), directory, console)
    train_mae(model, recipe.mae, figures, held_out, directory, console)
    model.write(directory / "model", torch.float16)
    return directory / "model"
