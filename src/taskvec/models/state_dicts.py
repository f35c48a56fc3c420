"""Which tensors in a checkpoint are a model's: state dicts under any key, wrapped by any tool, and of which kind."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from taskvec.files import printable
from taskvec.models.checkpoint_files import Checkpoint, read_checkpoint
from taskvec.models.pickles import SAVE_STATE_DICT
from taskvec.models.stored import StoredTensor, Unreadable

Kind = Literal["mae", "vqgan"]

MARK: dict[Kind, str] = {"mae": "patch_embed.proj.weight", "vqgan": "quantize.embedding.weight"}
NEEDED: dict[Kind, str] = {
    "mae": "--mae takes the MAE-VQGAN (checkpoint-3400.pth): an MAE whose decoder predicts the codes of a VQGAN",
    "vqgan": "--vqgan takes the VQGAN whose codes that MAE predicts (last.ckpt of vqgan_imagenet_f16_1024)",
}
# what DDP, torch.compile, FSDP, activation checkpointing and DeepSpeed put before the names of what they wrap
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
_SHOWN = 5  # names in a sentence

Weight = StoredTensor | Unreadable


@dataclass
class StateDict:
    """A model's tensors by their published names, where in the file they were, and what was beside them."""

    path: Path
    label: str
    weights: dict[str, Weight]
    ignored: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    files: tuple[Path, ...] = ()


def read_state_dict(path: Path, kind: Kind, key: str | None = None) -> StateDict:
    """The one state dict of a model of this kind in a checkpoint; ``key`` says which where there are several.

    Raises ValueError, which names the file, says what it holds, and what is needed instead.
    """
    checkpoint = read_checkpoint(path)
    found = [state for label, mapping in _mappings(checkpoint) for state in _of_kind(checkpoint, label, mapping, kind)]
    labels = ", ".join(state.label for state in found)
    if not found:
        raise ValueError(f"{path} {_what_it_is(checkpoint, kind)}")
    if key is not None:
        found = [state for state in found if state.label == key]
        if not found:
            raise ValueError(f"{path} has no state dict {key!r} of this kind, expected one of: {labels}")
    if len(found) > 1:
        raise ValueError(f"{path} holds several models: {labels}; choose with --{kind}-key KEY")
    (state,) = found
    state.files = checkpoint.files
    return state


def _mappings(checkpoint: Checkpoint) -> Iterator[tuple[tuple[str, ...], dict[Any, Any]]]:
    """Every mapping in a checkpoint that holds tensors by name, with the keys that lead to it; cycles end."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), checkpoint.content)]
    seen: set[int] = set()
    while waiting:
        keys, value = waiting.pop(0)
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            if any(isinstance(entry, Weight) and isinstance(name, str) for name, entry in value.items()):
                yield keys, value
            parts = list(value.items())
        elif isinstance(value, list | tuple):
            parts = list(enumerate(value))
        else:
            continue
        waiting += [((*keys, str(name)[:80]), part) for name, part in parts if isinstance(part, dict | list | tuple)]


def _of_kind(checkpoint: Checkpoint, keys: tuple[str, ...], mapping: dict[Any, Any], kind: Kind) -> Iterator[StateDict]:
    """The state dicts of this kind in a mapping: one for every prefix under which there is a model."""
    path = checkpoint.path
    names, taken = _without_wrappers(mapping, path)
    mark = MARK[kind]
    prefixes = [plain.removesuffix(mark) for plain in names if plain == mark or plain.endswith(f".{mark}")]
    if kind == "vqgan":  # that of an MAE-VQGAN is not a file of its own
        masked = [plain.removesuffix(MARK["mae"]) for plain in names if plain.endswith(MARK["mae"])]
        prefixes = [prefix for prefix in prefixes if not any(prefix == f"{outer}vae." for outer in masked)]
    for prefix in prefixes:
        label = ".".join([*keys, *([prefix.removesuffix(".")] if prefix else [])]) or "."
        state = StateDict(path, label, {})
        beside: dict[str, int] = {}
        for plain, name in names.items():
            value = mapping[name]
            if plain.startswith(prefix) and _is_weight(plain, value):
                weight = value if isinstance(value, Weight) else Unreadable(f"no tensor but {_class(value)}")
                state.weights[plain.removeprefix(prefix)] = weight
            else:
                first = f"{plain.split('.')[0]}.*" if "." in plain and not plain.startswith(prefix) else plain
                beside[first] = beside.get(first, 0) + 1
        beside |= {str(name)[:80]: 1 for name in mapping if not isinstance(name, str)}
        state.ignored = [*_around(checkpoint, keys), *(_counted(path, name, n) for name, n in beside.items())]
        classes = {weight.kind for weight in state.weights.values() if isinstance(weight, StoredTensor) and weight.kind}
        for name in sorted(classes):
            state.remarks.append(f"{printable(path.name)}: of tensors of the class {name} the plain numbers are taken")
        for wrapper, count in taken.items():
            state.remarks.append(f"{printable(path.name)}: '{wrapper}.' is taken off {count} names")
        if prefix:
            state.remarks.append(f"{printable(path.name)}: '{prefix}' is taken off {len(state.weights)} names")
        yield state


def _without_wrappers(mapping: dict[Any, Any], path: Path) -> tuple[dict[str, str], dict[str, int]]:
    """The names in a mapping, by what they are without wrappers; of every wrapper, how many names had it."""
    names: dict[str, str] = {}
    taken: dict[str, int] = {}
    for name in mapping:
        if not isinstance(name, str):
            continue
        *parts, last = name.split(".")
        for wrapper in WRAPPERS:
            if wrapper in parts:
                taken[wrapper] = taken.get(wrapper, 0) + 1
        plain = ".".join([*(part for part in parts if part not in WRAPPERS), last])
        if plain in names:
            raise ValueError(f"{path}: {names[plain]} and {name} are the same weight")
        names[plain] = name
    return names, taken


def _is_weight(name: str, value: object) -> bool:
    """Whether a value is one or belongs where one should be: counters and other state of modules are not."""
    if isinstance(value, StoredTensor):
        return value.shape != ()
    return isinstance(value, Unreadable) or name.endswith((".weight", ".bias", "_token", "pos_embed"))


def _around(checkpoint: Checkpoint, keys: tuple[str, ...]) -> Iterator[str]:
    """The names of what is beside the way to a mapping."""
    value: Any = checkpoint.content
    for depth, key in enumerate(keys):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        following: Any = None
        for name, entry in entries:
            if str(name)[:80] == key and following is None:
                following = entry
            else:
                yield _counted(checkpoint.path, ".".join([*keys[:depth], str(name)[:80]]), 1)
        value = following


def _counted(path: Path, name: str, count: int) -> str:
    return f"{printable(path.name)}: {f'{count} keys ' if count > 1 else ''}{printable(name)}"


def _what_it_is(checkpoint: Checkpoint, kind: Kind) -> str:
    """What a checkpoint holds that has no model of the kind that is needed, and what is."""
    mappings = [mapping for _, mapping in _mappings(checkpoint)]
    for mapping in sorted(mappings, key=len, reverse=True):
        named = {name: value for name, value in mapping.items() if isinstance(name, str)}
        shapes = {name: value.shape if isinstance(value, StoredTensor) else () for name, value in named.items()}
        if (what := kind_of(shapes)) is not None:
            other = {"a VQGAN": "--vqgan", "an MAE": "--mae", "an MAE-VQGAN": "--mae"}.get(what)
            place = f", which is for {other}" if other not in (None, f"--{kind}") else ""
            return f"holds {what}{place}; {NEEDED[kind]}"
    if module := _whole_module(checkpoint.content):
        return f"holds a whole pickled module ({module}); {SAVE_STATE_DICT}"
    if mappings:
        names = [str(name) for name in max(mappings, key=len)]
        return f"holds no model of a known kind (its tensors are {_some(names)}); {NEEDED[kind]}"
    content = checkpoint.content
    if isinstance(content, dict):
        if any(isinstance(value, StoredTensor) for value in content.values()):
            return "holds tensors whose names are not text; save them under their names in the model's state_dict()"
        keys = [f"{printable(str(name)[:60])} ({_class(value)})" for name, value in content.items()]
        return f"holds no state dict, a mapping of names to tensors; its keys are {_some(keys)}"
    return f"holds no state dict, a mapping of names to tensors, but {_class(content)}; {SAVE_STATE_DICT}"


def _class(value: object) -> str:
    name = str(getattr(value, "stands_for", type(value).__name__))
    return "NumPy array" if name.startswith("numpy.") else name


def _some(names: list[str]) -> str:
    shown = ", ".join(printable(name[:100]) for name in names[:_SHOWN]) or "none"
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _whole_module(content: Any) -> str | None:
    """The class of a module that was pickled as it is, alone or under a key."""
    for value in [content, *(content.values() if isinstance(content, dict) else ())]:
        state = getattr(value, "state", None)
        if isinstance(state, dict) and "_modules" in state and "_parameters" in state:
            return str(getattr(value, "stands_for", "a class"))
    return None


def kind_of(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """What model tensors of these names and shapes belong to, in words, or None where that is not known."""

    def has(*endings: str) -> bool:
        return all(any(name == ending or name.endswith(f".{ending}") for name in shapes) for ending in endings)

    def starts(*beginnings: str) -> bool:
        return any(f".{name}".find(f".{beginning}") >= 0 for name in shapes for beginning in beginnings)

    kinds = (
        (has("vqgan.quantize.embedding.weight"), "a model that is converted already: pass its directory to --model"),
        (starts("_flat_param"), "flattened parts of FSDP: save it again with StateDictType.FULL_STATE_DICT"),
        (starts("lora_A", "lora_B"), "an adapter (LoRA), not a model"),
        (has("embeddings.patch_embeddings.projection.weight"), "a model with the names of Hugging Face transformers"),
        (starts("encoder.down_blocks."), "an autoencoder with the names of Hugging Face diffusers"),
        (
            has(MARK["mae"], "decoder_embed.weight", "decoder_pred.weight", "vae.quantize.embedding.weight"),
            "an MAE-VQGAN",
        ),
        (has(MARK["mae"], "decoder_embed.weight"), "an MAE"),
        (has(MARK["mae"]), "an encoder alone (a vision transformer without MAE's decoder)"),
        (has("quantize.embed.weight"), "a Gumbel VQGAN"),
        (has(MARK["vqgan"]), "a VQGAN"),
        (has("quant_conv.weight", "encoder.conv_in.weight"), "an autoencoder without codes (KL)"),
    )
    return next((what for true, what in kinds if true), None)
