"""A recipe: everything a shipped model is made from, in one TOML file."""

import json
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from taskvec import environment
from taskvec.data.scenes import CLASSES, Scenes
from taskvec.files import replacing
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig
from taskvec.models.pretrained import parse
from taskvec.training.figures import Figures
from taskvec.training.loop import Run
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

    def __post_init__(self) -> None:
        if not self.model.vqgan.local or 2 * self.model.image_size != self.model.canvas_size:
            raise ValueError("recipes make models with a local tokenizer and images of half the canvas, without a gap")
        if self.scenes < 2 * len(CLASSES):
            raise ValueError(f"scenes is {self.scenes}, expected at least two of each of the {len(CLASSES)} classes")


def read_recipe(path: Path) -> Recipe:
    """Raises ValueError that names the file, the field and what was expected."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} is not a readable recipe: {error}") from error
    return parse(Recipe, values, path)


def train(recipe: Recipe, directory: Path, console: Console, device: torch.device | str = "cpu") -> Path:
    """Run both stages, or what is left of them, in ``directory``; returns the model's directory inside it (float16).

    Raises ValueError where the directory holds the run of another recipe.
    """
    _claim(directory, recipe)
    run = Run(directory, recipe.seed, console)
    torch.manual_seed(recipe.seed)
    model = MaeVqgan(recipe.model).to(device)
    size = recipe.model.image_size
    figures = Figures(Scenes("train"), recipe.scenes, size)
    held_out = Scenes("validation")
    train_tokenizer(model.vqgan, recipe.tokenizer, figures, Figures(held_out, 2048, size), run)
    train_mae(model, recipe.mae, figures, held_out, run)
    model.write(directory / "model", torch.float16)
    return directory / "model"


def _claim(directory: Path, recipe: Recipe) -> None:
    """Write down what the directory's run is; refuse one of another recipe."""
    path = directory / "run.json"
    record = json.loads(json.dumps(asdict(recipe)))
    if path.exists():
        try:
            earlier = dict(json.loads(path.read_text())["recipe"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {error}; remove it to go on with the run") from error
        for field in record.keys() | earlier.keys():
            if record.get(field) != earlier.get(field):
                raise ValueError(
                    f"{directory} holds the run of a recipe with another {field}: "
                    f"{earlier.get(field)}, not {record.get(field)}; name another directory"
                )
        return
    with replacing(path) as temporary:
        facts = {"recipe": record, "machine": environment.machine(), "versions": environment.versions()}
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
