"""Models as directories of config.json and model.safetensors. Strict, and nothing but data is ever read."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, cast

import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from taskvec.files import read_json, read_text, replacing

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"

T = TypeVar("T")


def parse(kind: type[T], values: Any, source: Path) -> T:
    """``values`` as the dataclass ``kind``; ValueError names the file, the field and what was expected."""
    try:
        return TypeAdapter(kind).validate_python(values, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ValueError(f"{source}: {place}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


class Pretrained(nn.Module, ModelHubMixin):
    """A module made from one dataclass, ``config``; gives from_pretrained, save_pretrained and push_to_hub.

    ``load`` reads a directory of this machine and nothing else; only from_pretrained with a hub name uses the network.
    """

    config_class: ClassVar[type]
    config: Any
    licence: str | None = None  # as the model's card states it, where there is one

    def _save_pretrained(self, save_directory: Path) -> None:
        self.write(save_directory)

    def write(self, directory: Path, dtype: torch.dtype | None = None) -> None:
        """Write the directory; ``dtype`` stores floating-point weights in less precision."""
        state = {}
        for name, tensor in self.state_dict().items():
            stored = tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
            state[name] = stored.detach().cpu().contiguous()
        with replacing(directory / WEIGHTS) as path:
            save_file(state, path, {"format": "pt"})
        with replacing(directory / CONFIG) as path:
            path.write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a model directory as float32, in evaluation mode and without gradients.

        Raises ValueError, which names file, key and shapes, where a file is missing, is something else or does not fit.
        """
        for name in (CONFIG, WEIGHTS):
            if not (directory / name).is_file():
                raise ValueError(f"{directory} is not a model: there is no {name} in it")
        config = read_json(directory / CONFIG)
        try:
            model = cls(parse(cls.config_class, config, directory / CONFIG))
        except RuntimeError as error:  # sizes that no memory has
            raise ValueError(f"{directory / CONFIG} describes a model that cannot be made: {error}") from error
        try:
            state = load_file(directory / WEIGHTS)
        except SafetensorError as error:
            raise ValueError(f"{directory / WEIGHTS} is not a safetensors file: {error}") from error
        check_state(model, state, directory / WEIGHTS)
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
        model.licence = _stated_licence(directory / CARD)
        return model.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, name: str | Path, *, revision: str | None = None, local_files_only: bool = False
    ) -> Self:
        """``load`` for a directory; any other name is a repository of the Hugging Face hub, which is downloaded."""
        if Path(name).is_dir():
            return cls.load(Path(name))
        return cls.load(Path(snapshot_download(str(name), revision=revision, local_files_only=local_files_only)))

    def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
        """What save_pretrained and push_to_hub write where there is no card yet."""
        facts = "A model for visual prompting: `taskvec.load_model(DIRECTORY)`, or `from_pretrained` with its name."
        return ModelCard(f"---\nlibrary_name: taskvec\ntags: [visual-prompting]\n---\n{facts}\n")

    def fingerprint(self) -> str:
        """SHA-256 of configuration and weights, 16 hexadecimal digits: the same weights, the same fingerprint."""
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(cast(Tensor, tensor).detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]


def _stated_licence(card: Path) -> str | None:
    """``license`` of the metadata at the head of a model card; a card that cannot be read states none."""
    try:
        return ModelCard(read_text(card)).data.to_dict().get("license")
    except Exception:  # the hub's reader raises anything for metadata that are not as it expects
        return None


def check_state(model: nn.Module, state: dict[str, Tensor], source: Path) -> None:
    """ValueError where a key is missing, surplus, of another shape, or not finite."""
    expected = model.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        if name not in state:
            raise ValueError(f"{source}: {name} is missing, expected shape {tuple(expected[name].shape)}")
        if name not in expected:
            raise ValueError(f"{source}: {name} of shape {tuple(state[name].shape)} is not part of this architecture")
        if state[name].shape != expected[name].shape:
            found, wanted = tuple(state[name].shape), tuple(expected[name].shape)
            raise ValueError(f"{source}: {name} has shape {found}, expected {wanted}")
        if not state[name].isfinite().all():
            raise ValueError(f"{source}: {name} holds values that are not finite")
