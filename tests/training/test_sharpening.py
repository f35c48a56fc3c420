from pathlib import Path

import pytest
import torch
from rich.console import Console

from taskvec.data.scenes import Scenes
from taskvec.models.vqgan import Vqgan, VqganConfig
from taskvec.tasks import TASKS
from taskvec.training.loop import Run
from taskvec.training.prompt_pool import PromptPool
from taskvec.training.sharpening import Discriminator, SharpeningRecipe, train_sharpening

CONFIG = VqganConfig(
    codes=16, code_channels=4, latent_channels=8, channels=8, multipliers=(1, 1, 1), residual_blocks=1, local=True
)


def test_only_the_decoder_changes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vqgan = Vqgan(CONFIG)
    before = {name: tensor.clone() for name, tensor in vqgan.state_dict().items()}
    figures = PromptPool(Scenes("train"), 48, 16, list(TASKS.values()))
    train_sharpening(vqgan, SharpeningRecipe(3, 1, batch=4), figures, figures, Run(tmp_path, 0, Console(quiet=True)))
    changed = {
        name.split(".")[0] for name, tensor in vqgan.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"decoder", "post_quant_conv"}


def test_while_the_discriminator_learns_alone_nothing_else_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vqgan = Vqgan(CONFIG)
    figures = PromptPool(Scenes("train"), 48, 16, list(TASKS.values()))
    run = Run(tmp_path, 0, Console(quiet=True))
    train_sharpening(vqgan, SharpeningRecipe(4, 3, batch=4), figures, figures, run)
    assert '"matching"' in (tmp_path / "sharpening.jsonl").read_text()


def test_the_discriminator_judges_patches() -> None:
    *features, judgement = Discriminator(8).features(torch.rand(2, 3, 32, 32))
    assert [tuple(feature.shape[1:]) for feature in features] == [(8, 16, 16), (16, 8, 8), (32, 4, 4)]
    assert judgement.shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("steps", "alone", "batch", "message"), [(5, 5, 4, "fewer than steps, 5"), (5, 0, 0, "batch is")]
)
def test_wrong_recipes_are_refused(steps: int, alone: int, batch: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SharpeningRecipe(steps, alone, batch)
