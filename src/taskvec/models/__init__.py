"""Models by name or directory."""

from importlib.resources import as_file, files
from pathlib import Path

import torch

from taskvec.models.mae_vqgan import MaeVqgan

SHIPPED = ("tiny", "small")


def load_model(name: str | Path, device: str | torch.device = "cpu") -> MaeVqgan:
    """A model that ships with the package (``tiny``, ``small``) or a model directory; never anything from the network.

    Raises ValueError where there is no such model or its files do not fit.
    """
    if str(name) in SHIPPED:
        with as_file(files("taskvec") / "weights" / str(name)) as directory:
            return MaeVqgan.load(directory).to(device)
    if not Path(name).is_dir():
        raise ValueError(f"{name} is no model: expected {', '.join(SHIPPED)} or a directory that holds one")
    return MaeVqgan.load(Path(name)).to(device)
