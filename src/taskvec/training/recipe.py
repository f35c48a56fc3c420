"""A recipe: everything a shipped model is made from, in one TOML file."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from taskvec import environment
from taskvec.data.examples import DataSet
from taskvec.data.scenes import CLASSES, Scenes
from taskvec.files import check_destination, check_destination_directory, read_json, read_toml, write_json
from taskvec.locks import locked
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig
from taskvec.models.pretrained import CONFIG, WEIGHTS, parse
from taskvec.names import choose_from
from taskvec.processes import Processes, joined
from taskvec.tasks import IDENTITY, TASKS, Task
from taskvec.training.checkpoints import DivergedError
from taskvec.training.loop import Run, stage_files
from taskvec.training.mae import MaeRecipe, train_mae
from taskvec.training.photograph_tasks import PHOTOGRAPH_TASKS
from taskvec.training.photographs import Crops, Together, WholePhotographs, read_photographs, split
from taskvec.training.prompt_pool import SCENE_TASKS, PromptPool
from taskvec.training.sharpening import SharpeningRecipe, train_sharpening
from taskvec.training.tokenizer import TokenizerRecipe, train_tokenizer

STAGES = ("tokenizer", "sharpening", "mae")
STORED = torch.float16  # of the model that comes out
TRAINING_TASKS = {task.name: task for task in (*SCENE_TASKS, *PHOTOGRAPH_TASKS)}  # beside the built-in ones


@dataclass(frozen=True)
class Recipe:
    """Architecture, the two stages and perhaps one between, and the seed of the first weights and of every draw.

    ``scenes`` and ``photographs`` are the numbers of training scenes and of crops of photographs held in memory; with
    photographs, what is held out are photographs. ``tasks`` names what is learnt, each as
    often as it is to be drawn.
    """

    model: MaeVqganConfig
    tokenizer: TokenizerRecipe
    mae: MaeRecipe
    tasks: tuple[str, ...]
    sharpening: SharpeningRecipe | None = None
    scenes: int = 49152
    photographs: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.model.vqgan.local or 2 * self.model.image_size != self.model.canvas_size:
            raise ValueError("recipes make models with a local tokenizer and images of half the canvas, without a gap")
        if not self.tasks:
            raise ValueError("tasks is empty, expected the names of what is learnt")
        _ = self.trained  # all of them are known
        if self.scenes < 2 * len(CLASSES):
            raise ValueError(f"scenes is {self.scenes}, expected at least two of each of the {len(CLASSES)} classes")
        if self.photographs < 0:
            raise ValueError(f"photographs is {self.photographs}, expected 0 or more crops")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is {self.seed}, expected 0 or more and less than 2^63")
        counts = {"scenes": self.scenes, "photographs": self.photographs}
        for stage in STAGES:  # rates, weights and shares
            values = vars(getattr(self, stage)) if getattr(self, stage) else {}
            for name, value in values.items():
                if isinstance(value, int):
                    counts[f"{stage}.{name}"] = value
                if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                    raise ValueError(f"{stage}.{name} is {value}, expected a finite number of at least 0")
        for name, count in counts.items():
            if count >= 2**31:
                raise ValueError(f"{name} is {count}, expected less than 2^31")

    @property
    def trained(self) -> list[Task]:
        """What is drawn from, in the recipe's order; ValueError where a task is not known."""
        known = {**TASKS, **TRAINING_TASKS}
        for name in self.tasks:
            if name not in known:
                raise ValueError(f"tasks has {name!r}: {choose_from(name, known)}")
        return [known[name] for name in self.tasks]

    @property
    def validated(self) -> list[Task]:
        """Those that are scored while the model is trained: what is trained and built in."""
        return [TASKS[name] for name in dict.fromkeys(self.tasks) if name not in TRAINING_TASKS]


def read_recipe(path: Path) -> Recipe:
    """Raises ValueError that names the file, the field and what was expected."""
    try:
        values = read_toml(path)
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a readable recipe: {error}") from error
    return parse(Recipe, values, path)


def train(
    recipe: Recipe,
    directory: Path,
    console: Console,
    device: torch.device | str = "cpu",
    photographs: Path | None = None,
) -> Path:
    """Run all stages, or what is left of them, in ``directory``; returns the model's directory inside it (float16).

    ``photographs`` is where a recipe that trains on photographs finds them (``training.photographs`` says how). Started
    by torchrun, all processes train together.
    Raises ValueError where the directory holds the run of another recipe or of other photographs, something stands
    where a file will be written or another process writes there, and DivergedError, with the last good checkpoint kept,
    where numbers are not finite.
    """
    with locked(directory), joined(torch.device(device)) as (processes, own_device):
        return _train(recipe, directory, console, own_device, photographs, processes)


def _train(
    recipe: Recipe,
    directory: Path,
    console: Console,
    device: torch.device,
    photographs: Path | None,
    processes: Processes,
) -> Path:
    # before hours are spent: of a tokenizer's batch, a fourth are canvases now and then
    batches = [recipe.tokenizer.batch // 4, recipe.mae.batch, *([recipe.sharpening.batch] if recipe.sharpening else [])]
    for batch in batches:
        processes.share(range(batch))
    if processes.first:
        _check_destinations(directory)
    trained, held_out = _read_data(recipe, photographs)
    if processes.first:
        _claim(directory, recipe, {"trained": trained.describe(), "held_out": held_out.describe()})
    run = Run(directory, recipe.seed, console, processes)
    torch.manual_seed(recipe.seed)
    try:
        model = MaeVqgan(recipe.model).to(device)
    except (RuntimeError, OverflowError, TypeError) as error:  # sizes that no memory has
        raise ValueError(f"the recipe describes a model that cannot be made: {error}") from error
    size = recipe.model.image_size
    if recipe.photographs:
        pool = PromptPool(trained, len(trained), size, recipe.trained, "natural")
        tokenizer_held_out = PromptPool(held_out, len(held_out), size, [IDENTITY], "natural")
    else:
        pool = PromptPool(trained, recipe.scenes, size, recipe.trained)
        tokenizer_held_out = PromptPool(held_out, 2048, size, recipe.trained)
    train_tokenizer(model.vqgan, recipe.tokenizer, pool, tokenizer_held_out, run)
    if recipe.sharpening is not None:
        train_sharpening(model.vqgan, recipe.sharpening, pool, tokenizer_held_out, run)
    train_mae(model, recipe.mae, pool, held_out, recipe.validated, run)
    largest = max(float(parameter.detach().abs().max()) for parameter in model.parameters())
    if largest > torch.finfo(STORED).max:
        raise DivergedError(f"weights have grown up to {largest:.3g}, which {STORED} does not hold: lower the rates")
    if processes.first:
        model.write(directory / "model", STORED)
    processes.wait()  # until it is there
    return directory / "model"


def _check_destinations(directory: Path) -> None:
    """ValueError where something stands in the way of a file, before hours are spent."""
    for place in (directory, directory / "model"):
        check_destination_directory(place)
    for path in (directory / "run.json", directory / "model" / CONFIG, directory / "model" / WEIGHTS):
        check_destination(path)
    for stage in STAGES:
        stage_files(directory, stage)


def _read_data(recipe: Recipe, photographs: Path | None) -> tuple[DataSet, DataSet]:
    """What the recipe trains on, and what is held out."""
    if not recipe.photographs:
        if photographs is not None:
            raise ValueError(f"the recipe trains on scenes alone, so {photographs} would not be used")
        return Scenes("train"), Scenes("validation")
    if photographs is None:
        raise ValueError("the recipe trains on photographs: expected a directory of them (--photographs)")
    trained, others = split(read_photographs(photographs), recipe.seed)
    held_out = WholePhotographs(others)
    if np.bincount(held_out.class_of(np.arange(len(held_out)))).max(initial=0) < 2:
        raise ValueError(f"{photographs} holds too few photographs: no two of those held out show one class")
    crops = Crops(trained, recipe.photographs, recipe.seed)
    return Together(((crops, recipe.photographs), (Scenes("train"), recipe.scenes))), held_out


def _claim(directory: Path, recipe: Recipe, data: dict[str, object]) -> None:
    """Write down what the directory's run is; refuse one of another recipe."""
    path = directory / "run.json"
    record = json.loads(json.dumps(asdict(recipe)))
    if path.exists():
        try:
            facts = read_json(path)
            earlier = dict(facts["recipe"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {error}; remove it to go on with the run") from error
        if "tasks" not in earlier:
            raise ValueError(f"{directory} holds a run that does not say what tasks it trains; name another directory")
        for field in record.keys() | earlier.keys():
            if record.get(field) != earlier.get(field):
                raise ValueError(
                    f"{directory} holds the run of a recipe with another {field}: "
                    f"{earlier.get(field)}, not {record.get(field)}; name another directory"
                )
        if facts.get("data") != json.loads(json.dumps(data)):
            raise ValueError(f"{directory} holds a run on other photographs; name another directory")
        return
    machine, versions = environment.machine(), environment.versions()
    write_json(path, {"recipe": record, "data": data, "machine": machine, "versions": versions})
