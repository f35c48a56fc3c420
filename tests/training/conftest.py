from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from taskvec.training.recipe import read_recipe, train

WIDTH, HEIGHT = 48, 32

MINIATURE = """
seed = 3
scenes = 96
tasks = ["segmentation", "low_light", "identity", "identity", "mirror", "dark_to_mask"]
[model]
canvas_size = 16
image_size = 8
patch_size = 4
encoder = { layers = 1, width = 16, heads = 2 }
decoder = { layers = 1, width = 16, heads = 2 }
[model.vqgan]
codes = 16
code_channels = 4
latent_channels = 8
channels = 32
multipliers = [1, 1, 1]
residual_blocks = 1
local = true
[tokenizer]
steps = 6
autoencoder_steps = 3
batch = 8
[mae]
steps = 6
batch = 4
"""


def write_photograph(folder: Path, name: str, labels: np.ndarray, kind: str, random: np.random.Generator) -> None:
    """A photograph of noise, with its labels."""
    for directory in (folder / "JPEGImages", folder / kind):
        directory.mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "JPEGImages" / f"{name}.jpg")
    Image.fromarray(labels).save(folder / kind / f"{name}.png")


@pytest.fixture(scope="session")
def photographs_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``classed``: 59 listed photographs of classes 1 and 2, one for validation; ``parts``: 8 of regions."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for index in range(60):
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[6:24, 10:34] = 1 + index % 2
        labels[5, 10:34] = 255  # a border that is ignored
        write_photograph(root / "classed", f"{index:02d}", labels, "SegmentationClass", random)
    for index in range(8):
        labels = np.ones((HEIGHT, WIDTH), np.uint8)
        labels[:, 20:] = 2
        labels[0, 0] = 3  # too small for an object
        write_photograph(root / "parts", f"{index:02d}", labels, "Regions", random)
    for part, members in (("trn", range(59)), ("val", [59])):
        lists = root / "classed" / "splits" / part
        lists.mkdir(parents=True)
        (lists / "fold0.txt").write_text("".join(f"{index:02d}__{1 + index % 2:02d}\n" for index in members))
    return root


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "miniature.toml"
    path.write_text(MINIATURE)
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the miniature, to read or to copy."""
    directory = tmp_path_factory.mktemp("finished")
    (directory / "miniature.toml").write_text(MINIATURE)
    train(read_recipe(directory / "miniature.toml"), directory / "run", Console(quiet=True))
    return directory / "run"
