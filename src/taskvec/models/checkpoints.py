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
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig
from taskvec.models.pretrained import CARD, CONFIG, WEIGHTS
from taskvec.models.state_dicts import NEEDED, StateDict, Weight, kind_of, read_state_dict
from taskvec.models.stored import StoredTensor, Unreadable
from taskvec.models.transformer import StackConfig
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
# the discriminator and the perceptual network, which only training needs; averages whose names lost their dots
_IGNORED_IN_VQGAN = ("loss.", "model_ema.")
_PRECISIONS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_MOST_REPEATED = 2**16  # elements of a tensor that repeats what is stored: no file of a few bytes may fill the disk
_MOST_PARTS = 1000  # layers of a stack, or blocks of a level: more than any model of this kind has
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
    """Where a converted model is, what of the files was not part of it, and what was done to what was."""

    directory: Path
    config: MaeVqganConfig
    ignored: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def convert(
    mae: Path,
    out: Path,
    vqgan: Path | None = None,
    vqgan_config: Path | None = None,
    encoder_heads: int | None = None,
    decoder_heads: int | None = None,
    licence: str | None = None,
    mae_key: str | None = None,
    vqgan_key: str | None = None,
) -> Converted:
    """Turn checkpoints with the published names into a model directory with a card, one tensor in memory at a time.

    Files of torch.save, safetensors, or the index of several. The state dict is found wherever it is in them, and the
    names that DDP, torch.compile and others put before its own are taken off; where a file holds several models,
    ``mae_key`` and ``vqgan_key`` say which. The files do not say under which licence they are; ``licence`` is what the
    card shall state, an identifier such as ``mit``, or nothing.

    The MAE file may hold the tokenizer as ``vae.*``; if the tokenizer's own file is given too, both must be equal, but
    for the rounding of the less precise. Raises ValueError, which names file, key and shapes, where a file is of
    another kind, a key is missing, surplus or of a wrong shape, a value is not finite, the files disagree, or the
    number of heads is neither known nor given.
    """
    state = read_state_dict(mae, "mae", mae_key)
    _check_is_mae(state)
    ignored, remarks, files = state.ignored, state.remarks, state.files
    weights = state.weights
    if vqgan is not None:
        tokenizer = read_state_dict(vqgan, "vqgan", vqgan_key)
        remarks = remarks + tokenizer.remarks
        counted, said = _merge_vqgan(weights, tokenizer, mae)
        ignored, remarks, files = ignored + tokenizer.ignored + counted, remarks + said, files + tokenizer.files
    elif not any(name.startswith("vae.") for name in weights):
        raise ValueError(f"{mae} holds no tokenizer (no keys vae.*): {_predicts(weights)}pass the VQGAN's file too")
    tensors = _readable(weights, mae)
    _check_codes(tensors)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    config = infer_config(shapes, mae, encoder_heads, decoder_heads)
    if vqgan_config is not None:
        _check_vqgan_config(config.vqgan, vqgan_config)
    _check_shapes(tensors, config, mae)
    remarks = remarks + _rounded(tensors)
    card = _card(config, files, ignored, remarks, licence)
    new = not out.exists()
    try:
        with replacing(out / WEIGHTS) as path:
            _write_safetensors(path, {our_name(name): tensor for name, tensor in tensors.items()}, mae)
    except BaseException:
        if new and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        raise
    with replacing(out / CARD) as path:
        path.write_text(card)
    with replacing(out / CONFIG) as path:
        path.write_text(json.dumps(asdict(config), indent=2) + "\n")
    return Converted(out, config, ignored, remarks)


def _card(
    config: MaeVqganConfig, sources: tuple[Path, ...], ignored: list[str], remarks: list[str], licence: str | None
) -> str:
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
        *(["\nChanged:\n", *(f"* {remark}" for remark in remarks)] if remarks else []),
    ]
    if licence is None:
        lines.append("\nThe files do not state a licence: that of their publisher applies.")
    return "\n".join(lines) + "\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


Tensors = dict[str, StoredTensor]


def _check_is_mae(state: StateDict) -> None:
    """ValueError where there is only an encoder, or what its decoder predicts is not there."""
    shapes = {name: w.shape for name, w in state.weights.items() if isinstance(w, StoredTensor)}
    if not {"decoder_embed.weight", "decoder_pred.weight"} & shapes.keys():
        raise ValueError(f"{state.path} holds {kind_of(shapes) or 'no MAE'}; {NEEDED['mae']}")
    if shapes.get("decoder_embed.weight") == (0,):
        raise ValueError(
            f"{state.path}: decoder_embed.weight is empty, as DeepSpeed's ZeRO-3 leaves it; "
            "python zero_to_fp32.py DIRECTORY FILE makes a whole file of its directory"
        )


def _predicts(weights: Mapping[str, Weight]) -> str:
    """What the decoder predicts where it seems to be the pixels of a patch."""
    patch, predicted = weights.get("patch_embed.proj.weight"), weights.get("decoder_pred.weight")
    if not isinstance(patch, StoredTensor) or not isinstance(predicted, StoredTensor) or len(patch.shape) != 4:
        return ""
    if predicted.shape[:1] == (3 * patch.shape[2] * patch.shape[3],):
        return (
            f"its decoder predicts {predicted.shape[0]} numbers a patch, one for every pixel and colour, so it is an "
            f"MAE of pixels; {NEEDED['mae']}; if it does predict codes, "
        )
    return ""


def _check_codes(tensors: Tensors) -> None:
    """ValueError where the tokenizer has other codes than the MAE predicts: their files do not belong together."""
    predicted, codes = tensors.get("decoder_pred.weight"), tensors.get("vae.quantize.embedding.weight")
    if predicted is None or codes is None or len(predicted.shape) != 2 or len(codes.shape) != 2:
        return
    levels, patch = _count(tensors, "vae.encoder.down."), tensors["patch_embed.proj.weight"].shape[-1:]
    if predicted.shape[0] == codes.shape[0] and patch and levels and 2 ** (levels - 1) != patch[0]:
        raise ValueError(
            f"{codes.path} holds a VQGAN whose codes stand for {2 ** (levels - 1)} pixels, but {predicted.path} has "
            f"patches of {patch[0]}: they do not belong together; {NEEDED['vqgan']}"
        )
    if predicted.shape[0] != codes.shape[0]:
        pixels = _predicts(tensors).removesuffix("if it does predict codes, ")
        raise ValueError(
            f"{codes.path} holds a VQGAN of {codes.shape[0]} codes, but {predicted.path} predicts one of "
            f"{predicted.shape[0]}: they do not belong together; {pixels or NEEDED['vqgan']}".removesuffix("; ")
        )


def _merge_vqgan(weights: dict[str, Weight], tokenizer: StateDict, mae: Path) -> tuple[list[str], list[str]]:
    """Add the tokenizer's own file to the weights, or check that it is the tokenizer they hold.

    Gives what of the file was left out and what is to be said.
    """
    path = tokenizer.path
    surplus = [name for name in tokenizer.weights if name.startswith(_IGNORED_IN_VQGAN)]
    own = {f"vae.{name}": weight for name, weight in tokenizer.weights.items() if name not in surplus}
    held = {name: weight for name, weight in weights.items() if name.startswith("vae.")}
    if held and held.keys() != own.keys():
        name = min(held.keys() ^ own.keys())
        where = path if name in held else mae
        raise ValueError(f"{where}: {name.removeprefix('vae.')} is missing, but the other file has it")
    differing: set[str] = set()
    for name, other in _readable(held, mae).items():
        mine = _readable({name: own[name]}, path)[name]
        if other.shape != mine.shape or not _agree(other, mine):
            raise ValueError(f"{path} and {mae} disagree about {name.removeprefix('vae.')}")
        if other.dtype != mine.dtype:
            differing.add(f"{_plain(other.dtype)} and {_plain(mine.dtype)}")
            if torch.finfo(other.dtype).eps < torch.finfo(mine.dtype).eps:
                own[name] = other
    weights.update(own)
    counts = {prefix: sum(name.startswith(prefix) for name in surplus) for prefix in _IGNORED_IN_VQGAN}
    counted = [
        f"{printable(path.name)}: {count} {'keys' if count > 1 else 'key'} {prefix}*"
        for prefix, count in counts.items()
        if count
    ]
    said = [
        f"the tokenizers in {printable(mae.name)} and {printable(path.name)} ({kinds}) agree but for rounding; "
        "the more precise one is taken"
        for kinds in sorted(differing)
    ]
    return counted, said


def _agree(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors of one shape are equal, or differ by no more than the rounding of the less precise type."""
    if one.dtype == other.dtype:
        return torch.equal(one.read(), other.read())
    epsilon = max(torch.finfo(one.dtype).eps, torch.finfo(other.dtype).eps)
    first, second = one.read().double(), other.read().double()
    least = max(torch.finfo(one.dtype).tiny, torch.finfo(other.dtype).tiny)  # below it, steps no longer shrink
    return bool(((first - second).abs() <= epsilon * first.abs().clamp(min=least)).all())


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _readable(weights: Mapping[str, Weight], source: Path) -> Tensors:
    """The weights as tensors of real numbers; ValueError for one that is anything else."""
    tensors: Tensors = {}
    for name, weight in weights.items():
        if isinstance(weight, Unreadable):
            raise ValueError(f"{source}: {name} is {weight.reason}")
        if weight.dtype not in _PRECISIONS:
            raise ValueError(
                f"{weight.path}: {name} is stored as {_plain(weight.dtype)}{_why_not(weight.dtype)}; "
                "save the weights as float32, bfloat16 or float16"
            )
        if weight.repeats and weight.elements > _MOST_REPEATED:
            raise ValueError(
                f"{weight.path}: {name} of shape {weight.shape} has fewer stored numbers; save it with .contiguous()"
            )
        tensors[name] = weight
    return tensors


def _why_not(dtype: torch.dtype) -> str:
    if dtype.is_floating_point:
        return ", numbers of 8 bits or fewer, which mean nothing without the scales they were divided by"
    return ", complex numbers" if dtype.is_complex else ", whole numbers, as quantised weights are"


def _rounded(tensors: Tensors) -> list[str]:
    double = sum(tensor.dtype == torch.float64 for tensor in tensors.values())
    return [f"{double} tensors of float64 are rounded to float32"] if double else []


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
    decoder_width = shape("decoder_embed.weight", 2)[0]
    try:
        return MaeVqganConfig(
            canvas_size=canvas_size,
            image_size=(canvas_size - _GAP) // 2,
            patch_size=patch_size,
            encoder=stack("blocks.", width, _ENCODER_HEADS, encoder_heads, "--encoder-heads"),
            decoder=stack("decoder_blocks.", decoder_width, _DECODER_HEADS, decoder_heads, "--decoder-heads"),
            vqgan=_infer_vqgan(shapes, shape),
        )
    except ValueError as error:
        raise ValueError(str(error) if str(source) in str(error) else f"{source}: {error}") from error


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
    count = len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})
    if count > _MOST_PARTS:
        raise ValueError(f"there are {count} parts {prefix}*, more than any model of this kind has ({_MOST_PARTS})")
    return count


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
    try:
        with torch.device("meta"):
            expected = {name: tuple(tensor.shape) for name, tensor in MaeVqgan(config).state_dict().items()}
    except (ValueError, RuntimeError) as error:  # sizes that do not go together, or that no tensor has
        raise ValueError(f"{source} describes a model that cannot be made: {error}") from error
    names: dict[str, str] = {}
    for name in tensors:
        if (other := names.setdefault(our_name(name), name)) != name:
            raise ValueError(f"{source}: {other} and {name} are the same weight")
    tokenizer = next((tensor.path for name, tensor in tensors.items() if name.startswith("vae.")), source)
    for name in sorted(expected.keys() | names.keys()):
        if name not in names:
            file = tokenizer if name.startswith("vqgan.") else source
            official = _official_name(name).removeprefix("vae." if file != source else "")
            raise ValueError(f"{file}: {official} is missing, expected shape {expected[name]}")
        stored = tensors[names[name]]
        shown = names[name].removeprefix("vae." if stored.path == tokenizer != source else "")
        if name not in expected:
            raise ValueError(f"{stored.path}: {shown} of shape {stored.shape} is not part of this architecture")
        if our_shape(name, stored.shape) != expected[name]:
            raise ValueError(f"{stored.path}: {shown} has shape {stored.shape}, expected {expected[name]}")


def _official_name(name: str) -> str:
    return next((old + name.removeprefix(new) for old, new in _RENAMED_PREFIXES if name.startswith(new)), name)


def _write_safetensors(path: Path, tensors: Tensors, source: Path) -> None:
    """The safetensors format, float32, written tensor by tensor: the library's writer holds all of them in memory."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, stored in tensors.items():
        shape = our_shape(name, stored.shape)
        start, end = end, end + 4 * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in _finite_values(tensors, source):
            file.write(values.numpy().data)


def _finite_values(tensors: Tensors, source: Path) -> Iterator[Tensor]:
    """ValueError where a value is not finite, or all numbers of a matrix of weights are zero: they were not written."""
    zeros = True
    for name, stored in tensors.items():
        values = stored.read().float().contiguous()
        if not values.isfinite().all():
            raise ValueError(f"{stored.path}: {_official_name(name)} holds values that are not finite")
        zeros = zeros and not values.any()
        yield values
    if zeros:
        raise ValueError(f"{source} holds nothing but zeros: its numbers were never written, save or fetch it again")
