"""Models by name or directory."""

import logging
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from taskvec import hub, names
from taskvec.choices import SHIPPED
from taskvec.files import read_json
from taskvec.names import GGUF, choose_from

if TYPE_CHECKING:
    from taskvec.models.interface import PromptedModel
    from taskvec.models.mae_vqgan import MaeVqgan

_log = logging.getLogger(__name__)

DECODER = "causal_lm"  # no model_type, but what all of those are that are decoders of transformers

# by ``model_type`` in config.json: module and class, which are imported when a model is one
TYPES = {
    "mae_vqgan": ("taskvec.models.mae_vqgan", "MaeVqgan"),
    "seggpt": ("taskvec.models.seggpt", "SegGpt"),
    DECODER: ("taskvec.models.causal_lm", "CausalLm"),
}
MARKS = {"segment_token_x": "seggpt"}  # a name that the published file of this type has, and no other
UNNAMED = "mae_vqgan"  # whose configuration has no model_type


@overload
def load_model(name: Literal["tiny", "small"], device: str | torch.device = "cpu") -> "MaeVqgan": ...


@overload
def load_model(
    name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    *,
    token: str | None = None,
    local_files_only: bool = False,
) -> "PromptedModel": ...


def load_model(
    name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    *,
    token: str | None = None,
    local_files_only: bool = False,
) -> "PromptedModel":
    """A model that ships with the package (``tiny``, ``small``), a model directory, a language model's GGUF file, or
    ``hub:OWNER/NAME``, which is downloaded: nothing else is ever taken from the network. ``hub:OWNER/NAME@REVISION``
    is a branch, tag or commit of it; ``token`` and ``local_files_only`` are as in ``from_pretrained``.

    ``dtype`` is that of a language model's weights, float32 by default; other models' are of float32. Raises ValueError
    where there is no such model or its files do not fit.
    """
    if str(name) in SHIPPED:
        with as_file(files("taskvec") / "weights" / str(name)) as directory:
            return _load(directory, str(name), device, dtype)
    if hub.is_named(name):
        place = hub.download(name, token=token, local_files_only=local_files_only)
        model = _load(place, hub.named(hub.repository(name)), device, dtype)
        model.revision = hub.commit_of(place)
        return model
    names.check_model(name)
    return _load(Path(name), None, device, dtype)


def _load(directory: Path, name: str | None, device: str | torch.device, dtype: torch.dtype | None) -> "PromptedModel":
    kind = _class_of(directory)
    if dtype is not None and kind.model_type != DECODER:
        raise ValueError(f"{directory} is a model of the type {kind.model_type}, whose weights are of float32 alone")
    model = kind.load(directory) if dtype is None else kind.load(directory, dtype)
    model.name = name
    _log.info("model %s, of the type %s, from %s", name or directory, kind.model_type, directory)
    return model.to(device)


def _class_of(directory: Path) -> Any:
    """The class of the model in a directory; ValueError for a type that there is not."""
    path = directory / "config.json"
    values = read_json(path) if path.is_file() else {}
    kind = values.get("model_type", UNNAMED) if isinstance(values, dict) else UNNAMED
    gguf = directory.suffix == GGUF or (not path.is_file() and any(directory.glob(f"*{GGUF}")))
    if gguf or kind not in TYPES:
        from taskvec.models import causal_lm_loading  # noqa: PLC0415 (looks for transformers, which is an extra)

        if not gguf and not causal_lm_loading.is_decoder(str(kind)):
            raise ValueError(f"{path}: model_type is {kind!r}: {choose_from(str(kind), TYPES)}")
        causal_lm_loading.require_transformers()
        kind = DECODER
    module, name = TYPES[kind]
    return getattr(import_module(module), name)


def convert_checkpoint(checkpoint: Path, out: Path, licence: str | None = None, key: str | None = None) -> None:
    """Turn a file with the names of a published model that is one file, such as seggpt_vit_large.pth, or a language
    model's GGUF file into a model directory. It is read as data; nothing in it runs.

    ``key`` says which model where the file holds several, ``licence`` what the card shall state. Raises ValueError,
    which names file, key and shapes, for a file of any other kind, or values that are not finite.
    """
    if checkpoint.suffix == GGUF:
        module, name = TYPES[DECODER]
        language_model = getattr(import_module(module), name).load(checkpoint)
        language_model.licence = licence
        language_model.write(out)
        return
    from taskvec.models.pretrained import check_values  # noqa: PLC0415 (what loading a model does not need)
    from taskvec.models.state_dicts import read_state_dict  # noqa: PLC0415
    from taskvec.models.stored import StoredTensor  # noqa: PLC0415

    weights = read_state_dict(checkpoint, "mae", key).weights
    kind = next((kind for mark, kind in MARKS.items() if mark in weights), None)
    if kind is None:
        known = ", ".join(f"{kind} ({mark})" for mark, kind in MARKS.items())
        raise ValueError(f"{checkpoint} is no published file of {known}; one of an MAE-VQGAN is given with --mae")
    module, name = TYPES[kind]
    tensors = {}
    for key_of, weight in weights.items():
        if not isinstance(weight, StoredTensor):
            raise ValueError(f"{checkpoint}: {key_of} is {weight.reason}")
        tensors[key_of] = weight.read()
    check_values(tensors, checkpoint)
    model = getattr(import_module(module), name).from_original(tensors, checkpoint)
    model.licence = licence
    model.write(out)


def published_architecture() -> "PromptedModel":
    """The paper's model, without memory for its weights: to be described, not run."""
    from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig  # noqa: PLC0415 (a model is imported when it is used)

    with torch.device("meta"):
        return MaeVqgan(MaeVqganConfig())


def shipped_model(fingerprint: str) -> str | None:
    """The name of the shipped model that has or had this fingerprint; None where none has."""
    return next((name for name in SHIPPED if _has(load_model(name), fingerprint)), None)


def check_model(model: "PromptedModel", what: str, name: str | None, fingerprint: str) -> None:
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


def public_name(name: str | None) -> str | None:
    """A model's name as an artefact may record it: of one that ships, or OWNER/NAME of one that is on the hub; None of
    anything else, which may be a place of its maker's."""
    if name in SHIPPED:
        return name
    return hub.repository(name) if name is not None and hub.is_named(name) else None


def _has(model: "PromptedModel", fingerprint: str) -> bool:
    """The former fingerprint is computed only where the present one is another."""
    return fingerprint == model.fingerprint() or fingerprint == model.former_fingerprint()
