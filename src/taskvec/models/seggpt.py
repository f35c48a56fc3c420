"""SegGPT (Wang et al., 2023), as Hugging Face transformers has it, and Painter, whose architecture it is.

Its canvas is two images high: the example above, the query below. Pictures of inputs and pictures of outputs ("masks")
run through the first layers as two streams that do not see each other, lie one after the other in the batch, and are
averaged behind layer ``merge_index``. So there are three stacks: ``image`` and ``mask``, of layers 0 to ``merge_index``
each, and ``merged``, of all layers after it. Tokens are the canvas's patches, row by row, in each of them; the upper
half's are the regions ``support_input``, ``support_output`` and ``support``, the lower half's ``query_input``,
``query_output`` and ``query``. The output is the query's picture, in continuous colours.

Relative positions hang on the whole grid, so that no token can be left out: a ``query_only`` run has a blank prompt,
and all places. Blank are an image of the mean colour of ImageNet, which normalisation makes zero, so that of it the
tokens hold nothing but where they are; and, in place of an output, the mask tokens that the model was trained to take
for an output which is not known. A black output would be an example, of an image in which nothing is found.
"""

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from taskvec import digests
from taskvec.extras import install
from taskvec.files import read_json, replacing
from taskvec.images.colour import IMAGENET_MEAN, IMAGENET_STD
from taskvec.models.interface import (
    VIEWS,
    Decoding,
    Images,
    Inputs,
    Locations,
    Pixels,
    Place,
    ProjectionTap,
    PromptedModel,
    Queries,
    RowCost,
    StackLayout,
    Truths,
    Variant,
    ViewName,
)
from taskvec.models.pretrained import CARD, CONFIG, WEIGHTS, check_shapes, check_values, stated_licence

TYPE = "seggpt"  # also what config.json calls it
EMBEDDING = "instance"  # which of the two type tokens is added: the default of the official code and of transformers
BLANK_PROMPT = "an image of ImageNet's mean colour, and mask tokens as its output"
# regions of every stack: of the upper half of the canvas, of the lower half
REGIONS = {
    "image": ("support_input", "query_input"),
    "mask": ("support_output", "query_output"),
    "merged": ("support", "query"),
}
STREAMS = ("image", "mask")  # in the order in which they lie in a batch
# what of a configuration the numbers depend on: not what only training needs, nor who wrote it
ARCHITECTURE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_act",
    "layer_norm_eps",
    "image_size",
    "patch_size",
    "num_channels",
    "qkv_bias",
    "mlp_dim",
    "pretrain_image_size",
    "decoder_hidden_size",
    "use_relative_position_embeddings",
    "merge_index",
    "intermediate_hidden_state_indices",
    "beta",
)
# our names of parameters and those of the published code, of which every one that fits is replaced
ORIGINAL_NAMES = (
    ("model.encoder.layers.", "blocks."),
    (".attention.", ".attn."),
    (".mlp.lin", ".mlp.fc"),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    ("model.encoder.layernorm.", "norm."),
    ("model.embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("model.embeddings.position_embeddings", "pos_embed"),
    ("model.embeddings.segment_token_input", "segment_token_x"),
    ("model.embeddings.segment_token_prompt", "segment_token_y"),
    ("model.embeddings.type_token_semantic", "type_token_cls"),
    ("model.embeddings.type_token_instance", "type_token_ins"),
    ("model.embeddings.mask_token", "mask_token"),
    ("decoder.decoder_embed.", "decoder_embed."),
    ("decoder.decoder_pred.conv.", "decoder_pred.0."),
    ("decoder.decoder_pred.layernorm.", "decoder_pred.1."),
    ("decoder.decoder_pred.head.", "decoder_pred.3."),
)
ORIGINAL_MARK = "segment_token_x"  # a name that only the published SegGPT and Painter have
# what leaves no trace in any shape
ORIGINAL_CONSTANTS = {
    "layer_norm_eps": 1e-6,
    "merge_index": 2,
    "intermediate_hidden_state_indices": [5, 11, 17, 23],
    "beta": 0.01,
}
MOST_LAYERS = 1000  # which are made one by one
PREPARED_TOGETHER = 8  # rows whose pixels are there as floating-point numbers at a time
NUMBER = 4  # bytes


@dataclass(frozen=True)
class SegGptItems:
    """Embeddings of the two halves of both streams, by region; what all rows share is stored once."""

    halves: Mapping[str, Float[Tensor, "rows height width channels"]]
    places: Mapping[str, Locations]

    def __len__(self) -> int:
        return len(self.halves["query_input"])

    def __getitem__(self, rows: Int[Tensor, " rows"] | slice) -> "SegGptItems":
        return replace(self, halves={region: half[rows] for region, half in self.halves.items()})


@dataclass(frozen=True)
class SegGptTargets:
    """True pictures, and which of their pixels count; None where all do."""

    truth: Pixels
    counted: Bool[Tensor, "rows size size"] | None

    def __getitem__(self, rows: Int[Tensor, " rows"] | slice) -> "SegGptTargets":
        return SegGptTargets(self.truth[rows], None if self.counted is None else self.counted[rows])


class SegGpt(PromptedModel):
    """A ``transformers.SegGptForImageSegmentation`` as a model that learns from an example in its prompt.

    The model is frozen and put into evaluation mode. Raises ValueError for a configuration that there can be no such
    model of. Rows of a batch never mix: ``feature_ensemble``, which averages over them, is not used.
    """

    model_type = TYPE
    _variant = Variant()

    def __init__(self, model: Any):
        _check_config(model.config, f"the configuration of {type(model).__name__}")
        self.model = model.eval().requires_grad_(False)
        config = model.config
        self._side = config.image_size[1] // config.patch_size  # of an image, in tokens
        split, tokens = config.merge_index + 1, 2 * self._side**2
        layers = {"image": split, "mask": split, "merged": config.num_hidden_layers - split}
        self._stacks = {
            stack: StackLayout(
                layers[stack],
                config.num_attention_heads,
                config.hidden_size // config.num_attention_heads,
                tuple(Place(regions[2 * token // tokens], token) for token in range(tokens)),
            )
            for stack, regions in REGIONS.items()
        }

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a directory that ``save_pretrained`` wrote, as float32; nothing of it runs, nothing is downloaded.

        Raises ValueError, which names file, key and shapes, where a file is missing, is something else or does not fit.
        """
        weights = directory / WEIGHTS
        if not (directory / CONFIG).is_file():
            raise ValueError(f"{directory} is not a model: there is no {CONFIG} in it")
        if not weights.is_file():
            raise ValueError(
                f"{directory} is not a model: there is no {WEIGHTS} in it; files of torch.save are not read"
            )
        values = read_json(directory / CONFIG)
        if not isinstance(values, dict) or values.get("model_type") != TYPE:
            raise ValueError(f"{directory / CONFIG} is not that of a SegGPT: expected the model_type {TYPE!r}")
        try:
            with safe_open(weights, "pt") as file:
                shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            model = _empty(values, str(directory / CONFIG))
            check_shapes(shapes, _shapes(model), weights)
            state = load_file(weights)
        except SafetensorError as error:
            raise ValueError(f"{weights} is not a safetensors file: {error}") from error
        loaded = cls(_filled(model, state, weights))
        loaded.licence = stated_licence(directory / CARD)
        return loaded

    @classmethod
    def from_original(cls, state: Mapping[str, Tensor], source: Path) -> Self:
        """A state dict with the names of the published SegGPT (seggpt_vit_large.pth) or Painter, as float32.

        All but what stands in that code as constants is told from the shapes. Painter is a SegGPT without type tokens,
        which are zeros then. Raises ValueError, which names ``source``, key and shapes, where something does not fit.
        """
        state = dict(state)
        if ORIGINAL_MARK in state and not {"type_token_cls", "type_token_ins"} & state.keys():
            state |= {name: torch.zeros_like(state[ORIGINAL_MARK]) for name in ("type_token_cls", "type_token_ins")}
        model = _empty(_original_config({name: tuple(t.shape) for name, t in state.items()}, source), str(source))
        names = {name: original_name(name) for name in model.state_dict()}
        expected = {names[name]: shape for name, shape in _shapes(model).items()}
        check_shapes({name: tuple(tensor.shape) for name, tensor in state.items()}, expected, source)
        # not in the file that they may still be in, nor in each other's memory
        own = {name: state[key].clone(memory_format=torch.contiguous_format) for name, key in names.items()}
        return cls(_filled(model, own, source))

    def write(self, directory: Path) -> None:
        """Write the directory that ``load`` reads, with a card where a licence is known; every file appears whole."""
        with TemporaryDirectory() as temporary:
            self.model.save_pretrained(temporary, max_shard_size="1TB")
            if self.licence:
                (Path(temporary) / CARD).write_text(f"---\nlicense: {self.licence}\n---\n# SegGPT\n", encoding="utf-8")
            for name in (WEIGHTS, CARD, CONFIG):  # the last makes it a model
                if (Path(temporary) / name).is_file():
                    with replacing(directory / name) as path:
                        shutil.copyfile(Path(temporary) / name, path)

    def to(self, device: str | torch.device) -> Self:
        """This model, moved."""
        self.model.to(device)
        return self

    def variant(self, variant: Variant) -> "SegGpt":
        """``bfloat16`` and a level of masks alone: attention is spelt out, and there are no codes to decode."""
        if variant.fused or variant.area is not None:
            raise ValueError(f"SegGPT has neither fused attention nor an area that is decoded: {variant}")
        if variant.decoding is not None and variant.decoding.kind not in self.decodings:
            raise ValueError(f"SegGPT gives pictures, not codes that have a decoding {variant.decoding.kind!r}")
        wanted = self._variant.with_(variant)
        if wanted == self._variant:
            return self
        other = copy(self)
        other._variant = wanted
        return other

    @property
    def decoding(self) -> Decoding:
        return self._variant.decoding or Decoding()

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def image_size(self) -> int:
        return self.model.config.image_size[1]

    @property
    def stacks(self) -> Mapping[str, StackLayout]:
        return self._stacks

    def taps(self) -> Mapping[str, Sequence[ProjectionTap]]:
        projections = [layer.attention.proj for layer in self.model.model.encoder.layers]
        split = self.model.config.merge_index + 1
        return {
            **{
                name: [ProjectionTap(each, part, 2) for each in projections[:split]]
                for part, name in enumerate(STREAMS)
            },
            "merged": [ProjectionTap(each) for each in projections[split:]],
        }

    def present(self, view: ViewName) -> Mapping[str, Int[Tensor, " present"]]:
        _check_view(view)
        return {stack: torch.arange(len(layout.places)) for stack, layout in self._stacks.items()}

    @torch.no_grad()
    def prepare(self, inputs: Inputs, view: ViewName) -> SegGptItems:
        """Both streams as the first layer gets them."""
        _check_view(view)
        shown = view == "one_shot"
        given = {"query_input": inputs.query_input}
        if shown:
            if len(inputs.support_input) < len(inputs.query_input):
                raise ValueError("the view one_shot shows an example, but only queries were drawn")
            given |= {"support_input": inputs.support_input, "support_output": inputs.support_output}
        for region, images in given.items():
            self._check_images(images, region, len(inputs.query_input))
        halves: dict[str, list[Tensor]] = {}
        for start in range(0, max(1, len(inputs.query_input)), PREPARED_TOGETHER):
            some = {region: images[start : start + PREPARED_TOGETHER] for region, images in given.items()}
            for region, half in self._embed(some, shown).items():
                halves.setdefault(region, []).append(half)
        whole = {
            region: torch.cat(parts) if region in given else parts[0][:1].expand(len(inputs.query_input), -1, -1, -1)
            for region, parts in halves.items()
        }
        tokens = 2 * self._side**2
        return SegGptItems(whole, dict.fromkeys(self._stacks, Locations(torch.arange(tokens)[None], tokens)))

    def _embed(
        self, given: Mapping[str, Images], shown: bool
    ) -> dict[str, Float[Tensor, "rows height width channels"]]:
        """By region, each in memory of its own."""
        pixels = {region: normalise(self._tensor(images)) for region, images in given.items()}
        nothing = torch.zeros_like(pixels["query_input"])  # where it is the query's output, no model sees it
        canvas = torch.cat([pixels.get("support_input", nothing), pixels["query_input"]], 2)
        masks = torch.cat([pixels.get("support_output", nothing), nothing], 2)
        hidden = torch.ones(1, 2, self._side**2, dtype=torch.bool, device=self.device)
        hidden[:, 0] = not shown
        embedded = self.model.model.embeddings(
            canvas, masks, bool_masked_pos=hidden.flatten(1), embedding_type=EMBEDDING
        )
        # [stream, row, half, height, width, channels]
        streams = embedded.unflatten(0, (2, len(canvas))).unflatten(2, (2, self._side))
        return {
            region: streams[stream, :, half].clone()
            for stream, name in enumerate(STREAMS)
            for half, region in enumerate(REGIONS[name])
        }

    def run(self, items: SegGptItems) -> Float[Tensor, "rows 3 size size"]:
        """The query's picture, normalised."""
        streams = [torch.cat([items.halves[region] for region in REGIONS[name]], 1) for name in STREAMS]
        with torch.autocast(self.device.type, torch.bfloat16) if self._variant.bfloat16 else nullcontext():
            features = self.model.model.encoder(torch.cat(streams)).intermediate_hidden_states
            # of the support's half the decoder needs only the last row of patches, which its convolution reaches into
            lower = torch.cat([feature[:, self._side - 1 :] for feature in features], -1)
            return self.model.decoder(lower)[:, :, self.model.config.patch_size :]

    @torch.no_grad()
    def features(self, images: Images) -> Float[Tensor, "n channels"]:
        """Of the last layer that the decoder reads, below a blank prompt."""
        items = self.prepare(Queries(images), "query_only")
        streams = [torch.cat([items.halves[region] for region in REGIONS[name]], 1) for name in STREAMS]
        with torch.autocast(self.device.type, torch.bfloat16) if self._variant.bfloat16 else nullcontext():
            last = self.model.model.encoder(torch.cat(streams)).intermediate_hidden_states[-1]
            return last[:, self._side :].mean((1, 2)).float()

    def mean_outputs(self, outputs: Iterable[Tensor]) -> Tensor:
        """Mean pictures."""
        first, *others = outputs
        return torch.stack([first, *others]).mean(0) if others else first

    def answers(self, outputs: Tensor, items: SegGptItems) -> Pixels:
        """The nearest colours: a picture that equals the truth comes out as it."""
        return self.decoding.finish(self.pictures(outputs.detach(), items).round().to(torch.uint8))

    def pictures(self, outputs: Tensor, items: SegGptItems) -> Float[Tensor, "rows size size 3"]:
        mean, std = (torch.tensor(values, device=outputs.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
        return (255 * (outputs.float().permute(0, 2, 3, 1) * std + mean)).clamp(0, 255)

    def targets(self, prompts: Truths) -> SegGptTargets:
        """Where none of a picture's pixels would count, all do."""
        self._check_images(prompts.query_output, "query_output", len(prompts.query_output))
        truth = self._tensor(prompts.query_output)
        if prompts.query_ignored is None:
            return SegGptTargets(truth, None)
        counted = ~self._tensor(prompts.query_ignored)
        return SegGptTargets(truth, counted | ~counted.any(2, keepdim=True).any(1, keepdim=True))

    def losses(self, outputs: Tensor, items: SegGptItems, targets: SegGptTargets) -> Float[Tensor, " rows"]:
        """The smooth L1 distance from the normalised truth, mean of colours and counted pixels, as in training."""
        beta = self.model.config.beta
        of_pixels = F.smooth_l1_loss(outputs.float(), normalise(targets.truth), reduction="none", beta=beta).mean(1)
        if targets.counted is None:
            return of_pixels.mean((1, 2))
        shares = targets.counted.to(of_pixels)
        return (of_pixels * shares).sum((1, 2)) / shares.sum((1, 2))

    @property
    def has_tokenizer(self) -> bool:
        """Its outputs can be any picture."""
        return False

    def cost(self, view: ViewName, *, answers: bool, gradient: bool) -> RowCost:
        """A blank prompt costs what a prompt does.

        Without a gradient one layer's activations are there at a time, of both streams in the first layers. With one,
        every layer keeps what its backward pass needs, which ends behind the attention of the first. Attention is spelt
        out: its weights are there three times while positions are added to them.
        """
        _check_view(view)
        config = self.model.config
        tokens, width, hidden = 2 * self._side**2, config.hidden_size, config.mlp_dim
        weights, residual = config.num_attention_heads * tokens**2, tokens * width
        features = len(config.intermediate_hidden_state_indices) * residual
        layer = max(3 * weights + 8 * residual, tokens * (3 * width + 2 * hidden))  # of one stream
        pixels = (self._side + 1) * self._side * config.patch_size**2 * config.decoder_hidden_size
        decoder = 4 * pixels + features
        numbers = max(2 * layer, decoder)
        if gradient:
            runs = config.num_hidden_layers + config.merge_index + 1  # of one stream through one layer
            kept = (runs - 2) * weights + runs * (11 * residual + 2 * tokens * hidden) + 4 * pixels
            numbers = max(2 * layer, kept + max(layer, decoder))
        return RowCost(3 * tokens, NUMBER * (numbers + features))

    def describe(self) -> dict[str, Any]:
        """Architecture, and what the blank prompt is."""
        return {
            "architecture": _architecture(self.model.config),
            "blank_prompt": BLANK_PROMPT,
        }

    @property
    def number_of_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def gigaflops(self) -> dict[str, float]:
        """GFLOP of a run from pixels to its output, as torch counts them; no number is computed."""
        queries = Queries(np.zeros((1, self.image_size, self.image_size, 3), np.uint8))
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            empty = SegGpt(type(self.model)(self.model.config))
            empty.run(empty.prepare(queries, "query_only"))
        return dict.fromkeys(VIEWS, counter.get_total_flops() / 1e9)  # a blank prompt is a prompt

    def fingerprint(self) -> str:
        """SHA-256 of configuration, blank prompt and weights, 16 hexadecimal digits, computed once.

        Weights that half precision holds exactly count as stored in it.
        """
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        facts = [_architecture(self.model.config), EMBEDDING, BLANK_PROMPT]
        return digests.of_tensors(self.model.state_dict(), *facts, compact=True)

    def _tensor(self, values: np.ndarray) -> Tensor:
        """A copy on the model's device, of arrays that are read-only or turned around, too."""
        return torch.from_numpy(np.array(values, order="C")).to(self.device)

    def _check_images(self, images: Images, region: str, count: int) -> None:
        wanted = (count, self.image_size, self.image_size, 3)
        if images.dtype != np.uint8 or images.shape != wanted:
            raise ValueError(f"{region} is {images.dtype} of shape {images.shape}, expected uint8 of shape {wanted}")


def normalise(pixels: UInt8[Tensor, "n height width 3"]) -> Float[Tensor, "n 3 height width"]:
    """Bytes to ImageNet-normalised float32, channels first, as the published image processor does."""
    mean, std = (torch.tensor(values, device=pixels.device) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def original_name(name: str) -> str:
    """What the published code calls a parameter."""
    for ours, original in ORIGINAL_NAMES:
        name = name.replace(ours, original)
    return name


def _original_config(shapes: Mapping[str, tuple[int, ...]], source: Path) -> dict[str, Any]:
    """The configuration of the published code for weights of these shapes."""

    def size(name: str, axis: int) -> int:
        if name not in shapes:
            raise ValueError(f"{source}: {name} is missing, which SegGPT and Painter have")
        if axis >= len(shapes[name]):
            raise ValueError(f"{source}: {name} has shape {shapes[name]}, expected {axis + 1} axes at least")
        return shapes[name][axis]

    width, patch = size("patch_embed.proj.weight", 0), size("patch_embed.proj.weight", 2)
    distances = size("blocks.0.attn.rel_pos_h", 0), size("blocks.0.attn.rel_pos_w", 0)  # from -(n - 1) to n - 1
    return {
        "hidden_size": width,
        "num_hidden_layers": sum(name.startswith("blocks.") and name.endswith(".norm1.weight") for name in shapes),
        "num_attention_heads": width // max(1, size("blocks.0.attn.rel_pos_h", 1)),
        "image_size": [patch * ((count + 1) // 2) for count in distances],
        "patch_size": patch,
        "num_channels": size("patch_embed.proj.weight", 1),
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        "mlp_dim": size("blocks.0.mlp.fc1.weight", 0),
        "pretrain_image_size": patch * math.isqrt(max(0, size("pos_embed", 1) - 1)),
        "decoder_hidden_size": size("decoder_pred.0.weight", 0),
        **ORIGINAL_CONSTANTS,
    }


def _architecture(config: Any) -> dict[str, Any]:
    return {name: digests.plain(getattr(config, name)) for name in ARCHITECTURE}


def _check_view(view: str) -> None:
    if view not in VIEWS:
        raise ValueError(f"there is no view {view!r}: expected one of {', '.join(VIEWS)}")


def _check_config(config: Any, source: str) -> None:
    """ValueError, which begins with ``source``, for what the other functions here take to be otherwise."""
    for name in ("patch_size", "pretrain_image_size"):
        if not isinstance(getattr(config, name), int):
            raise ValueError(f"{source}: {name} is {getattr(config, name)}, expected one number of pixels")
    size, patch, layers = config.image_size, config.patch_size, config.num_hidden_layers
    if isinstance(size, int) or len(size) != 2 or size[0] != 2 * size[1]:
        raise ValueError(f"{source}: image_size is {size}, expected a canvas twice as high as wide")
    if patch < 1 or size[1] < 1 or size[1] % patch:
        raise ValueError(f"{source}: patches of {patch} pixels do not divide images of {size[1]}")
    if config.num_channels != 3:
        raise ValueError(f"{source}: num_channels is {config.num_channels}, expected the 3 colours")
    if config.num_attention_heads < 1 or config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"{source}: a hidden_size of {config.hidden_size} does not divide among {config.num_attention_heads} heads"
        )
    if not 0 <= config.merge_index < layers - 1 or layers > MOST_LAYERS:
        raise ValueError(
            f"{source}: merge_index is {config.merge_index} of {layers} layers, expected one with layers after it, and "
            f"{MOST_LAYERS} layers or fewer"
        )
    features = list(config.intermediate_hidden_state_indices)
    if (
        not features
        or len(set(features)) < len(features)
        or not config.merge_index <= min(features) <= max(features) < layers
    ):
        raise ValueError(
            f"{source}: intermediate_hidden_state_indices are {features}, expected different layers from "
            f"{config.merge_index}, where the streams are averaged, to {layers - 1}"
        )


def _empty(values: dict[str, Any], source: str) -> Any:
    """A model that has the names and shapes of weights and takes no memory for them."""
    try:
        from transformers import SegGptConfig, SegGptForImageSegmentation  # noqa: PLC0415 an extra, and slow to import
    except ImportError as error:
        raise ValueError(f"SegGPT needs the library transformers: {install('seggpt')}") from error
    try:
        config = SegGptConfig.from_dict(values)
    except Exception as error:  # of the validation of dataclasses, which are no ValueErrors
        raise ValueError(f"{source}: {' '.join(str(error).split())}") from error
    _check_config(config, source)
    try:
        with torch.device("meta"):
            return SegGptForImageSegmentation(config)
    except Exception as error:  # activations that there are not, sizes that no memory has
        reason = " ".join(str(error).split())
        raise ValueError(f"{source} describes a model that cannot be made: {type(error).__name__}: {reason}") from error


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _filled(model: Any, state: Mapping[str, Tensor], source: Path) -> Any:
    """An empty model with these weights, as float32."""
    check_values(dict(state), source)
    with torch.inference_mode(False):  # whose tensors no gradient goes through
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True, assign=True)
    return model
