import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from taskvec.models import SHIPPED, load_model
from taskvec.training import loop
from taskvec.training.recipe import read_recipe, train

RECIPES = Path(__file__).parents[2] / "recipes"


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a step: of the tokenizer, of its last step, and of the transformer."""
    console = Console(quiet=True)
    whole = train(read_recipe(recipe), tmp_path / "whole", console)
    original = loop.learning_rate_factor

    def interrupt_at(stage: str, at: int) -> None:
        def learning_rate_factor(step: int, steps: int) -> float:
            if step == at:
                os.kill(os.getpid(), signal.SIGINT)
            return original(step, steps)

        monkeypatch.setattr(f"taskvec.training.{stage}.learning_rate_factor", learning_rate_factor)

    for stage, step in (("tokenizer", 4), ("tokenizer", 5), ("mae", 3)):
        interrupt_at(stage, step)
        with pytest.raises(KeyboardInterrupt):
            train(read_recipe(recipe), tmp_path / "parts", console)
    monkeypatch.undo()
    parts = train(read_recipe(recipe), tmp_path / "parts", console)

    first, second = (load_file(directory / "model.safetensors") for directory in (whole, parts))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_training_writes(recipe: Path, tmp_path: Path) -> None:
    directory = train(read_recipe(recipe), tmp_path / "run", Console(quiet=True))
    model = load_model(directory)
    assert model.config == read_recipe(recipe).model
    assert (model.vqgan.quantize.embedding.weight != 0).any()
    stages = {stage: (tmp_path / "run" / f"{stage}.jsonl").read_text().splitlines() for stage in ("tokenizer", "mae")}
    for lines in stages.values():
        assert [json.loads(line)["step"] for line in lines] == [6, 6]
    assert {"mse", "commitment"} <= json.loads(stages["tokenizer"][0]).keys()
    assert 0 < json.loads(stages["mae"][0])["loss"] < 10
    assert json.loads(stages["mae"][1]).keys() > {"segmentation", "low_light", "identity"}


def test_another_recipe_does_not_go_on_with_a_run(recipe: Path, tmp_path: Path) -> None:
    train(read_recipe(recipe), tmp_path / "run", Console(quiet=True))
    other = replace(read_recipe(recipe), seed=4)
    with pytest.raises(ValueError, match=r"run holds the run of a recipe with another seed: 3, not 4"):
        train(other, tmp_path / "run", Console(quiet=True))


def test_a_killed_run_forgets_what_it_logged_after_its_checkpoint(recipe: Path, tmp_path: Path) -> None:
    train(read_recipe(recipe), tmp_path / "run", Console(quiet=True))
    log, checkpoint = (tmp_path / "run" / f"mae.{ending}" for ending in ("jsonl", "checkpoint.pt"))
    complete = [json.loads(line) for line in log.read_text().splitlines()]
    checkpoint.unlink()
    train(read_recipe(recipe), tmp_path / "run", Console(quiet=True))
    again = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in again] == [line["step"] for line in complete]
    assert again[0]["loss"] == complete[0]["loss"]


def test_damaged_runs_are_one_clear_error(recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(read_recipe(recipe), run, Console(quiet=True))
    with (run / "mae.jsonl").open("a") as log:
        log.write('{"step": 7, "los')  # a kill in the middle of a line does no harm
    train(read_recipe(recipe), run, Console(quiet=True))
    (run / "mae.checkpoint.pt").write_bytes((run / "mae.checkpoint.pt").read_bytes()[:500])
    with pytest.raises(ValueError, match=r"mae.checkpoint.pt is damaged; remove it to begin the stage again"):
        train(read_recipe(recipe), run, Console(quiet=True))
    (run / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run.json is damaged"):
        train(read_recipe(recipe), run, Console(quiet=True))


def test_the_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    factors = [loop.learning_rate_factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[100:600] == [1.0] * 500
    assert factors[-1] == pytest.approx(1 / 400)
    assert factors[600:] == sorted(factors[600:], reverse=True)


def test_shipped_recipes_are_readable_and_make_the_shipped_models() -> None:
    for name in SHIPPED:
        assert read_recipe(RECIPES / f"{name}.toml").model == load_model(name).config


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps = 6\nbatch = 4", "steps = 'many'", r"miniature.toml: mae.steps: input should be a valid integer"),
        ("seed = 3", "sed = 3", r"miniature.toml: sed: unexpected keyword argument"),
        ("[mae]", "[mea]", r"miniature.toml: "),
        ("seed = 3", "seed = -3", r"miniature.toml: .*seed is -3, expected 0 or more"),
        ("steps = 6\nbatch = 4", "steps = 6\nadamw_learning_rate = nan\nbatch = 4", r"mae.adamw_learning_rate is nan"),
        ("seed = 3", "seed = = 3", r"miniature.toml is not a readable recipe"),
        ("patch_size = 4", "patch_size = 8", r"one code stands for 4 pixels and a patch for 8"),
        ("width = 16, heads = 2", "width = 18, heads = 2", r"a width of 18 does not divide among 2 heads and by 4"),
        ("layers = 1", "layers = 0", r"a stack has 0 layers and 2 heads"),
        ("codes = 16", "codes = -1", r"sizes must all be positive"),
        ("local = true", "local = false", r"recipes make models with a local tokenizer"),
        ("scenes = 96", "scenes = 12", r"scenes is 12, expected at least two of each of the 12 classes"),
        ("[mae]", "[mae]\nrandom_masks = 7.0", r"are shares, expected between 0 and 1"),
        ("autoencoder_steps = 3", "autoencoder_steps = 6", r"autoencoder_steps is 6, expected 1 or more and fewer"),
    ],
)
def test_wrong_recipes_are_refused(old: str, new: str, message: str, recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_recipe(recipe)
