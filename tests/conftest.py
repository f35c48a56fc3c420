"""What several tests need: the recorded numbers of the official code, and the small random model they belong to."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from hypothesis import HealthCheck, settings
from PIL import Image
from torch import Tensor

import hub_server
import recorded
from taskvec.data.scenes import Scenes
from taskvec.heads import Means
from taskvec.models import load_model
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig
from taskvec.models.transformer import StackConfig
from taskvec.models.vqgan import VqganConfig
from taskvec.prompts import Prompts, draw_prompts
from taskvec.report import figures
from taskvec.tasks import COLORIZATION, SEGMENTATION
from taskvec.vectors import TaskVectors

# the same examples in every run, and no limits on time: tests must not depend on the machine's mood
settings.register_profile(
    "taskvec", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("taskvec")

# what takes longest is begun first, so that no process is left with it when the others are done
SLOW = (
    "test_kills.py",
    "test_on_ray.py",
    "test_broken.py",
    "experiments",
    "test_judging.py",
    "test_cli.py",
    "test_finding.py",
    "training",
)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Every file's tests are run by one process, as are those of a directory whose fixtures take long to make."""
    item.add_marker(
        pytest.mark.xdist_group(_group(item))
    )  # here, as pytest-xdist takes the groups before the next hook


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SLOW.index(_group(item)) if _group(item) in SLOW else len(SLOW))


def _group(item: pytest.Item) -> str:
    return next((name for name in SLOW if name in item.path.parts), item.path.name)


# a random model small enough for properties: 4 x 4 patches, two stacks of unequal size
SMALL_CONFIG = MaeVqganConfig(
    canvas_size=32,
    image_size=15,
    patch_size=8,
    encoder=StackConfig(2, 32, 4),
    decoder=StackConfig(2, 16, 2),
    vqgan=VqganConfig(
        codes=32, code_channels=8, latent_channels=8, channels=32, multipliers=(1, 1, 1, 1), residual_blocks=1
    ),
)


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    return recorded.load()[0]


@pytest.fixture(scope="session")
def golden_model() -> MaeVqgan:
    return recorded.load()[1]


@pytest.fixture(scope="session")
def golden_means(golden: dict[str, Tensor], golden_model: MaeVqgan) -> Means:
    return recorded.means(golden, golden_model)


@pytest.fixture(scope="session")
def small_model() -> MaeVqgan:
    torch.manual_seed(0)
    model = MaeVqgan(SMALL_CONFIG)
    for parameter in model.parameters():
        if parameter.ndim < 2:  # tokens, biases and scales away from their trivial start
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def small_means(small_model: MaeVqgan) -> Means:
    """Random means for two tasks at every position."""
    generator = torch.Generator().manual_seed(1)
    tokens = small_model.geometry.tokens
    shapes = {"encoder": (2, 2, 4, tokens, 8), "decoder": (2, 2, 2, tokens, 8)}
    tensors = {stack: torch.randn(shape, generator=generator) for stack, shape in shapes.items()}
    return Means(tensors, small_model.fingerprint())


@pytest.fixture(scope="session")
def small_prompts(small_model: MaeVqgan) -> list[Prompts]:
    """Six prompts each of two tasks."""
    size = small_model.config.image_size
    return [draw_prompts(Scenes("test"), task, 6, size, seed=0) for task in (SEGMENTATION, COLORIZATION)]


@pytest.fixture(scope="session")
def canvases(small_model: MaeVqgan, small_prompts: list[Prompts]) -> Tensor:
    return torch.cat([small_model.geometry.canvases(prompts) for prompts in small_prompts])


@pytest.fixture(scope="session")
def random_vectors(small_model: MaeVqgan, small_means: Means) -> TaskVectors:
    """Three sites of the small random model with random means."""
    sites = small_model.sites("quadrant")
    means = {stack: mean[0] for stack, mean in small_means.items()}
    return TaskVectors.select(small_model, sites, sites.mask([0, 5, 9]), means, task="task", metric="mse", found=None)


@pytest.fixture(scope="session")
def small_directory(small_model: MaeVqgan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small random model, for commands whose numbers are no matter."""
    directory = tmp_path_factory.mktemp("small")
    small_model.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def tiny() -> MaeVqgan:
    return load_model("tiny")


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of reports are made but not drawn, which takes longer than a short search."""
    pixel = BytesIO()
    Image.new("RGB", (1, 1)).save(pixel, "PNG")
    monkeypatch.setattr(figures, "_png", lambda figure: pixel.getvalue())
    monkeypatch.setattr(figures, "_svg", lambda figure: '<svg xmlns="http://www.w3.org/2000/svg"/>')


@pytest.fixture(scope="session")
def endpoint() -> Iterator[hub_server.Hub]:
    with hub_server.serving() as served:
        yield served


@pytest.fixture
def served(endpoint: hub_server.Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> hub_server.Hub:
    """An empty hub that the client asks, with a cache of its own and nobody logged in."""
    for kept in (endpoint.repositories, endpoint.asked, endpoint.received):
        kept.clear()
    template = f"{endpoint.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for name, value in {
        "ENDPOINT": endpoint.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN_PATH": str(tmp_path / "token"),
    }.items():
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return endpoint
