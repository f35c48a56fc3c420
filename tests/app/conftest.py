from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taskvec.heads import Means
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors


@pytest.fixture(scope="session")
def mask_vectors(small_model: MaeVqgan, small_means: Means) -> TaskVectors:
    """Of the same sites as ``random_vectors``, with the other task's means, whose outputs are masks."""
    sites = small_model.sites("quadrant")
    means = {stack: mean[1] for stack, mean in small_means.items()}
    return TaskVectors.select(small_model, sites, sites.mask([0, 5, 9]), means, task="masks", metric="iou", found=None)


@pytest.fixture
def image_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a random picture, or a mask of two levels, and says where."""

    def write(name: str, *, seed: int = 0, mask: bool = False, size: tuple[int, int] = (40, 30)) -> Path:
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
        image = Image.fromarray(pixels)
        if mask:
            image = Image.fromarray((pixels[..., 0] > 127).astype(np.uint8))  # levels 0 and 1
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        image.save(path)
        return path

    return write
