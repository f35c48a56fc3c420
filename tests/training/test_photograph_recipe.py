import json
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from taskvec.cli import main
from taskvec.models import load_model
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.training import loop
from taskvec.training.recipe import read_recipe, train

MINIATURE = """
seed = 3
scenes = 24
photographs = 48
tasks = ["segmentation", "low_light", "inpainting", "colorization", "identity", "denoise", "box"]
[model]
canvas_size = 32
image_size = 16
patch_size = 8
encoder = { layers = 2, width = 16, heads = 2 }
decoder = { layers = 1, width = 16, heads = 2 }
[model.vqgan]
codes = 16
code_channels = 4
latent_channels = 8
channels = 8
multipliers = [1, 1, 1, 1]
residual_blocks = 1
local = true
[tokenizer]
steps = 3
autoencoder_steps = 1
batch = 8
[sharpening]
steps = 3
discriminator_steps = 1
batch = 4
[mae]
steps = 6
batch = 4
random_masks = 0.5
"""
QUIET = Console(quiet=True)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "miniature.toml"
    path.write_text(MINIATURE)
    return path


@pytest.fixture(scope="module")
def finished(photographs_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, to read or to copy."""
    directory = tmp_path_factory.mktemp("finished")
    (directory / "miniature.toml").write_text(MINIATURE)
    recipe = read_recipe(directory / "miniature.toml")
    return train(recipe, directory / "run", QUIET, photographs=photographs_directory).parent


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def _equal(first: Path, second: Path) -> bool:
    one, other = _weights(first), _weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_training_on_photographs_writes(finished: Path, recipe: Path) -> None:
    model = load_model(finished / "model")
    assert isinstance(model, MaeVqgan)
    assert model.config == read_recipe(recipe).model
    logs = {
        stage: [json.loads(line) for line in (finished / f"{stage}.jsonl").read_text().splitlines()]
        for stage in ("tokenizer", "sharpening", "mae")
    }
    assert logs["sharpening"][1].keys() >= {"held_out_mse", "sharpness"}
    assert logs["mae"][1].keys() > {"segmentation", "low_light", "identity"}
    facts = json.loads((finished / "run.json").read_text())
    assert facts["data"]["held_out"]["count"] == 7
    assert [part["data"] for part in facts["data"]["trained"]["parts"]] == ["photographs", "scenes"]


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    finished: Path, recipe: Path, tmp_path: Path, photographs_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(step: int, steps: int) -> float:
        if step == 2:
            raise KeyboardInterrupt  # as a kill: nothing is saved
        return loop.learning_rate_factor(step, steps)

    for stage in ("sharpening", "mae"):
        monkeypatch.setattr(f"taskvec.training.{stage}.learning_rate_factor", interrupted)
        monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train(read_recipe(recipe), tmp_path / "parts", QUIET, photographs=photographs_directory)
        monkeypatch.undo()
    whole = finished / "model"
    assert _equal(whole, train(read_recipe(recipe), tmp_path / "parts", QUIET, photographs=photographs_directory))


def test_compiled_blocks_are_the_same_model(
    finished: Path, recipe: Path, tmp_path: Path, photographs_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced but run by PyTorch's own kernels, so that no C++ compiler is needed and every bit is the same."""
    plain = finished / "model"
    compiled: list[nn.Module] = []
    original = nn.Module.compile

    def compile_(self: nn.Module, **options: object) -> None:
        compiled.append(self)
        original(self, backend="eager", **options)

    monkeypatch.setattr(nn.Module, "compile", compile_)
    recipe.write_text(MINIATURE + "compile = true\n")
    assert _equal(plain, train(read_recipe(recipe), tmp_path / "compiled", QUIET, photographs=photographs_directory))
    assert len(compiled) == 3


def test_the_command_takes_the_directory(
    finished: Path, recipe: Path, tmp_path: Path, photographs_directory: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["train", str(recipe), "--out", str(tmp_path / "run")]
    assert main(command) == 1
    assert "expected a directory of them (--photographs)" in " ".join(capsys.readouterr().err.split())
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")  # which is all that is left to do
    assert main([*command, "--photographs", str(photographs_directory)]) == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


def test_too_few_photographs_are_refused(recipe: Path, tmp_path: Path, photographs_directory: Path) -> None:
    shutil.copytree(photographs_directory, tmp_path / "few")
    (tmp_path / "few" / "classed" / "splits" / "trn" / "fold0.txt").write_text("00__01\n02__01\n04__01\n06__01\n")
    with pytest.raises(ValueError, match=r"few holds too few photographs: no two of those held out show one class"):
        train(read_recipe(recipe), tmp_path / "run", QUIET, photographs=tmp_path / "few")


def test_the_directory_of_photographs_must_fit_the_recipe(
    finished: Path, recipe: Path, tmp_path: Path, photographs_directory: Path
) -> None:
    with pytest.raises(ValueError, match=r"trains on photographs: expected a directory of them \(--photographs\)"):
        train(read_recipe(recipe), tmp_path / "none", QUIET)
    shutil.copytree(finished, tmp_path / "run")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    facts["data"]["held_out"]["names"] = "0123456789abcdef"
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"run holds a run on other photographs"):
        train(read_recipe(recipe), tmp_path / "run", QUIET, photographs=photographs_directory)
    recipe.write_text(MINIATURE.replace("photographs = 48", ""))
    with pytest.raises(ValueError, match=r"the recipe trains on scenes alone, so .* would not be used"):
        train(read_recipe(recipe), tmp_path / "run", QUIET, photographs=photographs_directory)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("photographs = 48", "photographs = -1", r"photographs is -1, expected 0 or more crops"),
        (
            "discriminator_steps = 1",
            "discriminator_steps = 3",
            r"discriminator_steps is 3, expected 0 or more and fewer",
        ),
        ("discriminator_steps = 1", "discriminator = 1", r"miniature.toml: sharpening.discriminator: unexpected"),
    ],
)
def test_wrong_recipes_are_refused(old: str, new: str, message: str, recipe: Path) -> None:
    recipe.write_text(MINIATURE.replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_recipe(recipe)
