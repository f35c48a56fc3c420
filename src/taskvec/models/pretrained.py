"""Models as directories of config.json and model.safetensors. Strict, and nothing but data is ever read."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar
from weakref import WeakKeyDictionary

import torch
from huggingface_hub import ModelCard
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from taskvec import digests
from taskvec.files import read_json, read_text, replacing
from taskvec.memory import is_shortage
from taskvec.models.sharing import CARD, Shared

CONFIG, WEIGHTS = "config.json", "model.safetensors"

T = TypeVar("T")


class _Part(NamedTuple):
    """A weight or a module in the dictionary of the module that it is part of; of a weight, its state."""

    owner: Mapping[str, object]
    name: str
    value: object
    place: int
    version: int


# by model and kind of fingerprint: its parts as they were, and the fingerprint that it had
_fingerprints: WeakKeyDictionary[nn.Module, dict[str, tuple[list[_Part], str]]] = WeakKeyDictionary()


def parse(kind: type[T], values: Any, source: Path | str) -> T:
    """``values`` of JSON or TOML as the dataclass ``kind``; of other types, only integers are taken, for floats.

    Raises ValueError, which begins with ``source`` and names the field and what was expected.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(values, default=str), strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ValueError(f"{source}: {place}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


class Pretrained(Shared, nn.Module):
    """A module made from one dataclass, ``config``."""

    config_class: ClassVar[type]
    config: Any

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

        Raises ValueError, which names file, key and shapes, where a file is missing, is something else or does not fit:
        before memory is taken for anything but the names and shapes of the weights.
        """
        for name in (CONFIG, WEIGHTS):
            if not (directory / name).is_file():
                raise ValueError(f"{directory} is not a model: there is no {name} in it")
        config = parse(cls.config_class, read_json(directory / CONFIG), directory / CONFIG)
        try:
            with safe_open(directory / WEIGHTS, "pt") as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            with torch.device("meta"):
                expected = {name: tuple(tensor.shape) for name, tensor in cls(config).state_dict().items()}
            check_shapes(shapes, expected, directory / WEIGHTS)
            with torch.inference_mode(False):  # whose tensors could not be told from changed ones
                model = cls(config)
                state = load_file(directory / WEIGHTS)
                check_values(state, directory / WEIGHTS)
                model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
        except SafetensorError as error:
            raise ValueError(f"{directory / WEIGHTS} is not a safetensors file: {error}") from error
        except (RuntimeError, OverflowError, TypeError) as error:  # sizes that no memory has
            if is_shortage(error):  # of which the file is, too: it is this machine that has not enough
                raise
            raise ValueError(f"{directory / CONFIG} describes a model that cannot be made: {error}") from error
        model.licence = stated_licence(directory / CARD)
        return model.eval().requires_grad_(False)

    def fingerprint(self) -> str:
        """SHA-256 of configuration and weights, 16 hexadecimal digits: the same weights, the same fingerprint.

        Weights that half precision holds exactly count as stored in it, as in the shipped models. It is computed once
        and kept until a weight is replaced or changed in place, as torch counts it: what is written through ``.data``
        is not seen. Where a weight requires a gradient, as in training, it is computed anew with every call.
        """
        return self._remembered(
            "fingerprint", lambda: digests.of_tensors(self.state_dict(), asdict(self.config), compact=True)
        )

    def former_fingerprint(self) -> str:
        """What task vectors of formats 1 and 2, and statistics of their time, call this model."""

        def compute() -> str:
            digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
            for name, tensor in sorted(self.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
            return digest.hexdigest()[: digests.LENGTH]

        return self._remembered("former", compute)

    def _remembered(self, kind: str, compute: Callable[[], str]) -> str:
        """What was computed of the weights as they are now, or is now."""
        remembered = _fingerprints.setdefault(self, {})
        if kind in remembered:
            parts, fingerprint = remembered[kind]
            if all(map(_is_as_before, parts)):
                return fingerprint
        parts = [
            _Part(owner, name, value, *(_state(value) if isinstance(value, Tensor) else (0, 0)))
            for module in self.modules()
            for owner in (module._parameters, module._buffers, module._modules)
            for name, value in owner.items()
        ]
        fingerprint = compute()
        if not any(isinstance(part.value, Tensor) and _is_untold(part.value) for part in parts):
            remembered[kind] = parts, fingerprint
        return fingerprint


def _is_untold(weight: Tensor) -> bool:
    """Whether a weight may be changed without torch's counting it."""
    return weight.requires_grad or weight.is_inference()


def _state(weight: Tensor) -> tuple[int, int]:
    """Where its values lie, and how often they were changed in place."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


def _is_as_before(part: _Part) -> bool:
    if part.owner.get(part.name) is not part.value:
        return False
    weight = part.value
    return not isinstance(weight, Tensor) or (not weight.requires_grad and _state(weight) == (part.place, part.version))


def stated_licence(card: Path) -> str | None:
    """The licence in the metadata at the head of a model card; a card that cannot be read states none."""
    try:
        facts = ModelCard(read_text(card)).data.to_dict()
        return facts.get("license_name") or facts.get("license")
    except Exception:  # the hub's reader raises anything for metadata that are not as it expects
        return None


def check_shapes(shapes: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], source: Path) -> None:
    """ValueError where a key is missing, surplus, or of another shape."""
    for name in sorted(expected.keys() | shapes.keys()):
        if name not in shapes:
            raise ValueError(f"{source}: {name} is missing, expected shape {expected[name]}")
        if name not in expected:
            raise ValueError(f"{source}: {name} of shape {shapes[name]} is not part of this architecture")
        if shapes[name] != expected[name]:
            raise ValueError(f"{source}: {name} has shape {shapes[name]}, expected {expected[name]}")


def check_values(state: dict[str, Tensor], source: Path) -> None:
    """ValueError for a tensor that is no floating-point numbers, or has some that are not finite."""
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{source}: {name} is of {tensor.dtype}, expected floating-point numbers")
        if not tensor.isfinite().all():
            raise ValueError(f"{source}: {name} holds values that are not finite")
