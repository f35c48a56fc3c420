"""What several tests need: the recorded numbers of the official code, and the tiny random model they belong to."""

from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from taskvec.models.checkpoints import from_official
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig, StackConfig
from taskvec.models.vqgan import VqganConfig

GOLDEN_VQGAN = VqganConfig(
    codes=64,
    code_channels=16,
    latent_channels=16,
    channels=32,
    multipliers=(1, 1, 1, 1, 2),
    residual_blocks=1,
    attention_resolutions=(16,),
    resolution=256,
)
GOLDEN = MaeVqganConfig(
    canvas_size=224,
    image_size=111,
    patch_size=16,
    encoder=StackConfig(3, 64, 4),
    decoder=StackConfig(2, 32, 4),
    vqgan=GOLDEN_VQGAN,
)


@pytest.fixture(scope="session")
def golden() -> dict[str, Tensor]:
    return load_file(Path(__file__).parent / "golden" / "golden.safetensors")


@pytest.fixture(scope="session")
def golden_model(golden: dict[str, Tensor]) -> MaeVqgan:
    model = MaeVqgan(GOLDEN)
    prefix = "state_dict/"
    official = {name.removeprefix(prefix): tensor for name, tensor in golden.items() if name.startswith(prefix)}
    model.load_state_dict(from_official(official), strict=True)
    return model.eval().requires_grad_(False)
