"""Files in the format of the published checkpoints: what training left in them, tensors as given or random.

    python tests/published.py DIRECTORY

writes the full-size pair with random weights (2.0 GB), for measuring a conversion.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

KEYS = Path(__file__).parent / "golden" / "official_keys.json"

YAML = """
model:
  target: taming.models.vqgan.VQModel
  params:
    embed_dim: 16
    n_embed: 64
    ddconfig: {double_z: false, z_channels: 16, resolution: 256, in_channels: 3, out_ch: 3, ch: 32,
               ch_mult: [1, 1, 1, 1, 2], num_res_blocks: 1, attn_resolutions: [16], dropout: 0.0}
"""  # of the recorded model's tokenizer


class ModelCheckpoint:
    """Stands for the callback object that Lightning pickles into its files."""

    def __init__(self) -> None:
        self.best_model_score = torch.tensor(0.5)


def write_mae(path: Path, model: Mapping[str, Tensor]) -> None:
    """As the MAE training script saves: model, optimizer, epoch, scaler and command line."""
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2), "exp_avg_sq": torch.zeros(2)}
    torch.save(
        {
            "model": dict(model),
            "optimizer": {"state": {0: moments}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
            "epoch": 3400,
            "scaler": {"scale": 65536.0, "growth_tracker": 12},
            "args": argparse.Namespace(model="mae_vit_large_patch16", lr=1e-4, output_dir=Path("out")),
        },
        path,
    )


def write_vqgan(path: Path, generator: Mapping[str, Tensor]) -> None:
    """As Lightning saves: the generator, the loss's networks, callbacks and loops."""
    loss = {"loss.discriminator.main.0.weight": torch.zeros(2, 3), "loss.perceptual_loss.lin0.weight": torch.zeros(1)}
    torch.save(
        {
            "epoch": 11,
            "global_step": 1000,
            "pytorch-lightning_version": "1.0.8",
            "callbacks": {ModelCheckpoint: {"best_model_score": torch.tensor(0.5)}},
            "state_dict": {**generator, **loss},
            "optimizer_states": [{"state": {}, "param_groups": []}],
        },
        path,
    )


def write_small(directory: Path) -> None:
    """The three files under the published names, of the published widths and one layer a stack, with random weights.

    The tokenizer is that of the recorded model.
    """
    recorded, prefix = load_file(KEYS.parent / "golden.safetensors"), "state_dict/vae."
    own = {name.removeprefix(prefix): tensor for name, tensor in recorded.items() if name.startswith(prefix)}
    codes = len(own["quantize.embedding.weight"])
    model = {f"vae.{name}": tensor for name, tensor in own.items()}
    torch.manual_seed(0)
    for name, shape in json.loads(KEYS.read_text())["mae_vit_large_patch16.model"].items():
        if not re.match(r"vae\.|(decoder_)?blocks\.[1-9]", name):
            model[name] = torch.randn([codes, *shape[1:]] if name.startswith("decoder_pred.") else shape) * 0.02
    write_mae(directory / "checkpoint-3400.pth", model)
    write_vqgan(directory / "last.ckpt", own)
    (directory / "model.yaml").write_text(YAML)


def main(directory: Path) -> None:
    keys = json.loads(KEYS.read_text())
    torch.manual_seed(0)
    model = {name: torch.randn(shape) * 0.02 for name, shape in keys["mae_vit_large_patch16.model"].items()}
    directory.mkdir(parents=True, exist_ok=True)
    write_mae(directory / "checkpoint-3400.pth", model)
    own = {name.removeprefix("vae."): tensor for name, tensor in model.items() if name.startswith("vae.")}
    write_vqgan(directory / "last.ckpt", own)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
