"""Models by name or directory."""

from importlib.resources import as_file, files
from pathlib import Path

import torch

from taskvec import hub
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.names import choose_from

SHIPPED = ("tiny", "small")


def load_model(name: str | Path, device: str | torch.device = "cpu") -> MaeVqgan:
    """A model that ships with the package (``tiny``, ``small``), a model directory, or ``hub:OWNER/NAME``, which is
    downloaded: nothing else is ever taken from the network.

    Raises ValueError where there is no such model or its files do not fit.
    """
    if str(name) in SHIPPED:
        with as_file(files("taskvec") / "weights" / str(name)) as directory:
            model = MaeVqgan.load(directory)
        model.name = str(name)
        return model.to(device)
    if hub.is_named(name):
        return MaeVqgan.from_pretrained(name).to(device)
    if not Path(name).is_dir():
        more = f", a directory that holds one, or {hub.PREFIX}OWNER/NAME"
        raise ValueError(f"{name} is no model: {choose_from(str(name), SHIPPED, more)}")
    return MaeVqgan.load(Path(name)).to(device)


def shipped_model(fingerprint: str) -> str | None:
    """The name of the shipped model that has or had this fingerprint; None where none has."""
    return next((name for name in SHIPPED if _has(load_model(name), fingerprint)), None)


def check_model(model: MaeVqgan, what: str, name: str | None, fingerprint: str) -> None:
    """ValueError, which says what to do, where ``what`` is of another model than this, by its fingerprint now or then.

    ``name`` is what ``what`` calls its model, None where it is not recorded.
    """
    if _has(model, fingerprint):
        return
    name = shipped_model(fingerprint) or name
    this = model.name or "this one"
    if name in SHIPPED:
        raise ValueError(f"{what} are of the model {name}, not of {this}: pass --model {name}")
    known = f"the model {name}" if name else "another model"
    raise ValueError(
        f"{what} are of {known} with fingerprint {fingerprint}, not of {this} with {model.fingerprint()}: pass the "
        "directory of their model as --model"
    )


def _has(model: MaeVqgan, fingerprint: str) -> bool:
    """The former fingerprint is computed only where the present one is another."""
    return fingerprint == model.fingerprint() or fingerprint == model.former_fingerprint()
