"""The published MAE-VQGAN files, and their conversion to a model directory.

What a file describes is told from its shapes, never from its name: widths, layers, codes, the tokenizer's levels. Only
the number of heads leaves no trace in any shape; it is known for the widths of ViT-B, L and H and otherwise asked for.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from taskvec.files import printable, read_text, replacing
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig, StackConfig
from taskvec.models.pickles import StoredTensor, read_checkpoint
from taskvec.models.pretrained import CARD, CONFIG, WEIGHTS
from taskvec.models.vqgan import VqganConfig

# first match wins; names that no rule touches are the same in both
_RENAMED_PREFIXES = (
    ("vae.", "vqgan."),
    ("patch_embed.proj.", "patch_embed."),
    ("blocks.", "encoder.blocks."),
    ("norm.", "encoder.norm."),
    ("pos_embed", "encoder.pos_embed"),
    ("decoder_blocks.", "decoder.blocks."),
    ("decoder_norm.", "decoder.norm."),
    ("decoder_pos_embed", "decoder.pos_embed"),
)
_WITHOUT_BATCH_AXES = {"cls_token": 1, "mask_token": 1, "encoder.pos_embed": 2, "decoder.pos_embed": 2}

_ENCODER_HEADS = {768: 12, 1024: 16, 1280: 16}  # ViT-B, ViT-L, ViT-H
_DECODER_HEADS = {512: 16}
_IGNORED_IN_VQGAN = ("loss.",)  # the discriminator and the perceptual network, which only training needs
_GAP = 2  # white pixels between the images of a published canvas


def our_name(official: str) -> str:
    """Our name of a parameter of the published file."""
    for old, new in _RENAMED_PREFIXES:
        if official.startswith(old):
            return new + official.removeprefix(old)
    return official


def our_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens and position embeddings are published with batch axes of length one, which ours lack."""
    axes = _WITHOUT_BATCH_AXES.get(name)
    return shape[-axes:] if axes and all(length == 1 for length in shape[:-axes]) else shape


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in the published naming, in ours, as float32; load it with ``strict=True``."""
    converted = {}
    for official, tensor in state.items():
        name = our_name(official)
        converted[name] = tensor.reshape(our_shape(name, tuple(tensor.shape))).float()
    return converted


@dataclass(frozen=True)
class Converted:
    """Where a converted model is, and what of the published files was not part of it."""

    directory: Path
    config: MaeVqganConfig
    ignored: list[str] = field(default_factory=list)


def convert(
    mae: Path,
    out: Path,
    vqgan: Path | None = None,
    vqgan_config: Path | None = None,
    encoder_heads: int | None = None,
    decoder_heads: int | None = None,
    licence: str | None = None,
) -> Converted:
    """Turn the published files into a model directory with a card, one tensor in memory at a time.

    The files do not say under which licence they are; ``licence`` is what the card shall state, an identifier such as
    ``mit``, or nothing.

    The MAE file may hold the tokenizer as ``vae.*``; if the tokenizer's own file is given too, both must be equal.
    Raises ValueError, which names file, key and shapes, where a key is missing, surplus or of a wrong shape, a value is
    not finite, the files disagree, or the number of heads is neither known nor given.
    """
    tensors, ignored = _state(mae, "model")
    if vqgan is not None:
        ignored += _merge_vqgan(tensors, vqgan)
    elif not any(name.startswith("vae.") for name in tensors):
        raise ValueError(f"{mae} holds no tokenizer (no keys vae.*): pass the VQGAN's file too")
    config = infer_config({n: t.shape for n, (t, _) in tensors.items()}, mae, encoder_heads, decoder_heads)
    if vqgan_config is not None:
        _check_vqgan_config(config.vqgan, vqgan_config)
    _check_shapes(tensors, config, mae)
    card = _card(config, [file for file in (mae, vqgan) if file is not None], ignored, licence)
    with replacing(out / WEIGHTS) as path:
        _write_safetensors(path, {our_name(name): value for name, value in tensors.items()})
    with replacing(out / CARD) as path:
        path.write_text(card)
    with replacing(out / CONFIG) as path:
        path.write_text(json.dumps(asdict(config), indent=2) + "\n")
    return Converted(out, config, ignored)


def _card(config: MaeVqganConfig, sources: list[Path], ignored: list[str], licence: str | None) -> str:
    """A model card: what the model is, the files that it was made from, and what of them was left out."""
    facts = {"library_name": "taskvec", "tags": ["visual-prompting"]} | ({"license": licence} if licence else {})
    encoder, decoder, vqgan = config.encoder, config.decoder, config.vqgan
    lines = [
        f"---\n{yaml.safe_dump(facts, sort_keys=False)}---",
        "# MAE-VQGAN\n",
        "A model for visual prompting, made by `taskvec convert`; `taskvec.load_model(DIRECTORY)` loads it.\n",
        f"Canvas {config.canvas_size} pixels, images {config.image_size}, patches {config.patch_size}. "
        f"Encoder {encoder.layers} layers, {encoder.width} wide, {encoder.heads} heads; "
        f"decoder {decoder.layers} layers, {decoder.width} wide, {decoder.heads} heads; "
        f"VQGAN of {vqgan.codes} codes.\n",
        "Made from:\n",
        *(f"* `{printable(path.name)}`, {path.stat().st_size:,} bytes, SHA-256 `{_sha256(path)}`" for path in sources),
        "\nLeft out:\n",
        *(f"* {name}" for name in ignored or ["nothing"]),
    ]
    if licence is None:
        lines.append("\nThe files do not state a licence: that of their publisher applies.")
    return "\n".join(lines) + "\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


Tensors = dict[str, tuple[StoredTensor, Path]]


def _state(path: Path, key: str) -> tuple[Tensors, list[str]]:
    """The tensors under ``key`` of a checkpoint, and the names of everything else in it."""
    checkpoint = read_checkpoint(path)
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(key), dict):
        raise ValueError(f"{path} has no state dict under {key!r}")
    tensors: Tensors = {}
    for name, value in checkpoint[key].items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            raise ValueError(f"{path}: {name} under {key!r} is not a tensor")
        tensors[name] = (value, path)
    return tensors, [f"{printable(path.name)}: {name}" for name in checkpoint if name != key]


def _merge_vqgan(tensors: Tensors, path: Path) -> list[str]:
    """Add the tokenizer's own file to the tensors, or check that it is the tokenizer they hold."""
    state, ignored = _state(path, "state_dict")
    surplus = [name for name in state if name.startswith(_IGNORED_IN_VQGAN)]
    own = {f"vae.{name}": value for name, value in state.items() if name not in surplus}
    held = {name: value for name, value in tensors.items() if name.startswith("vae.")}
    if held and held.keys() != own.keys():
        name = min(held.keys() ^ own.keys())
        where = path if name in held else next(iter(held.values()))[1]
        raise ValueError(f"{where}: {name.removeprefix('vae.')} is missing, but the other file has it")
    for name, (other, source) in held.items():
        if other.shape != own[name][0].shape or not torch.equal(other.read(), own[name][0].read()):
            raise ValueError(f"{path} and {source} disagree about {name.removeprefix('vae.')}")
    tensors.update(own)
    counted = [f"{printable(path.name)}: {len(surplus)} keys {prefix}*" for prefix in _IGNORED_IN_VQGAN if surplus]
    return ignored + counted


def infer_config(
    shapes: Mapping[str, tuple[int, ...]],
    source: Path,
    encoder_heads: int | None = None,
    decoder_heads: int | None = None,
) -> MaeVqganConfig:
    """The architecture that tensors of these official names and shapes belong to; ValueError where they do not tell."""

    def shape(name: str, axes: int) -> tuple[int, ...]:
        if name not in shapes:
            raise ValueError(f"{source}: {name} is missing, the architecture cannot be told without it")
        if len(shapes[name]) != axes:
            raise ValueError(f"{source}: {name} has shape {tuple(shapes[name])}, expected {axes} axes")
        if 0 in shapes[name]:
            raise ValueError(f"{source}: {name} of shape {tuple(shapes[name])} is empty")
        return tuple(shapes[name])

    def stack(prefix: str, width: int, known: dict[int, int], heads: int | None, option: str) -> StackConfig:
        heads = heads or known.get(width)
        if heads is None:
            raise ValueError(f"{source}: shapes do not tell how many heads a width of {width} has; pass {option}")
        hidden = shape(f"{prefix}0.mlp.fc1.weight", 2)[0]
        return StackConfig(_count(shapes, prefix), width, heads, hidden / width)

    width, _, patch_size, _ = shape("patch_embed.proj.weight", 4)
    grid = round((shape("pos_embed", 3)[1] - 1) ** 0.5)
    canvas_size = grid * patch_size
    vqgan = _infer_vqgan(shapes, shape)
    decoder_width = shape("decoder_embed.weight", 2)[0]
    return MaeVqganConfig(
        canvas_size=canvas_size,
        image_size=(canvas_size - _GAP) // 2,
        patch_size=patch_size,
        encoder=stack("blocks.", width, _ENCODER_HEADS, encoder_heads, "--encoder-heads"),
        decoder=stack("decoder_blocks.", decoder_width, _DECODER_HEADS, decoder_heads, "--decoder-heads"),
        vqgan=vqgan,
    )


def _infer_vqgan(shapes: Mapping[str, tuple[int, ...]], shape: Any) -> VqganConfig:
    codes, code_channels = shape("vae.quantize.embedding.weight", 2)
    channels = shape("vae.encoder.conv_in.weight", 4)[0]
    levels = _count(shapes, "vae.encoder.down.")
    outputs = [shape(f"vae.encoder.down.{level}.block.0.conv2.weight", 4)[0] for level in range(levels)]
    default = VqganConfig()
    attends = [level for level in range(levels) if f"vae.encoder.down.{level}.attn.0.norm.weight" in shapes]
    return VqganConfig(
        codes=codes,
        code_channels=code_channels,
        latent_channels=shape("vae.encoder.conv_out.weight", 4)[0],
        channels=channels,
        multipliers=tuple(output // channels for output in outputs),
        residual_blocks=_count(shapes, "vae.encoder.down.0.block."),
        attention_resolutions=tuple(default.resolution // 2**level for level in attends),
        resolution=default.resolution,
    )


def _count(shapes: Mapping[str, Any], prefix: str) -> int:
    """How many numbered parts have this prefix."""
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})


def _check_vqgan_config(config: VqganConfig, path: Path) -> None:
    """ValueError where model.yaml describes another tokenizer than the shapes do."""
    try:
        parameters = yaml.safe_load(read_text(path))["model"]["params"]
        told = {**parameters["ddconfig"], "embed_dim": parameters["embed_dim"], "n_embed": parameters["n_embed"]}
        levels = [told["resolution"] // 2**level for level in range(len(config.multipliers))]
        told["levels with attention"] = [n for n, size in enumerate(levels) if size in told["attn_resolutions"]]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the configuration of a VQGAN: {error}") from error
    found = {
        "n_embed": config.codes,
        "embed_dim": config.code_channels,
        "z_channels": config.latent_channels,
        "ch": config.channels,
        "ch_mult": list(config.multipliers),
        "num_res_blocks": config.residual_blocks,
        "double_z": False,
        "levels with attention": [
            n for n in range(len(config.multipliers)) if config.resolution // 2**n in config.attention_resolutions
        ],
    }
    for name, value in found.items():
        if told.get(name) != value:
            raise ValueError(f"{path}: {name} is {told.get(name)}, but the weights have {value}")


def _check_shapes(tensors: Tensors, config: MaeVqganConfig, source: Path) -> None:
    """ValueError where a key is missing, surplus or of another shape than the architecture has."""
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in MaeVqgan(config).state_dict().items()}
    names: dict[str, str] = {}
    for name in tensors:
        if (other := names.setdefault(our_name(name), name)) != name:
            raise ValueError(f"{source}: {other} and {name} are the same weight")
    for name in sorted(expected.keys() | names.keys()):
        if name not in names:
            raise ValueError(f"{source}: {_official_name(name)} is missing, expected shape {expected[name]}")
        stored, path = tensors[names[name]]
        if name not in expected:
            raise ValueError(f"{path}: {names[name]} of shape {stored.shape} is not part of this architecture")
        if our_shape(name, stored.shape) != expected[name]:
            raise ValueError(f"{path}: {names[name]} has shape {stored.shape}, expected {expected[name]}")


def _official_name(name: str) -> str:
    return next((old + name.removeprefix(new) for old, new in _RENAMED_PREFIXES if name.startswith(new)), name)


def _write_safetensors(path: Path, tensors: dict[str, tuple[StoredTensor, Path]]) -> None:
    """The safetensors format, float32, written tensor by tensor: the library's writer holds all of them in memory."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (stored, _) in tensors.items():
        shape = our_shape(name, stored.shape)
        start, end = end, end + 4 * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in _finite_values(tensors):
            file.write(values.numpy().data)


def _finite_values(tensors: dict[str, tuple[StoredTensor, Path]]) -> Iterator[Tensor]:
    for name, (stored, path) in tensors.items():
        values = stored.read().float().contiguous()
        if not values.isfinite().all():
            raise ValueError(f"{path}: {_official_name(name)} holds values that are not finite")
        yield values
