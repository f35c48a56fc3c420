"""MAE-VQGAN (Bar et al., 2022): a masked autoencoder that predicts the VQGAN codes of a canvas's hidden patches."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import copy, deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from taskvec import heads
from taskvec.images.colour import IMAGENET_MEAN, IMAGENET_STD
from taskvec.memory import rows_of_a_pass
from taskvec.models.canvas import ARRANGEMENTS, CanvasGeometry, View
from taskvec.models.interface import (
    DECODINGS,
    VIEWS,
    Area,
    Decoding,
    Images,
    Inputs,
    Locations,
    Pixels,
    ProjectionTap,
    PromptedModel,
    Queries,
    RowCost,
    Truths,
    Variant,
    ViewName,
)
from taskvec.models.pretrained import Pretrained
from taskvec.models.transformer import Attention, Block, Stack, StackConfig
from taskvec.models.vqgan import Vqgan, VqganConfig, to_pixels, to_unit
from taskvec.sites import StackLayout

CACHED_PIXELS = 224 * 224  # embedded or decoded together on a processor: activations of more fall out of its cache
MIXTURE_STEPS, MIXTURE_RATE = 60, 0.3  # of the descent to the best mixture of codes, after which it hardly moves
NUMBER = 4  # bytes; bfloat16 needs less and is given as much


@dataclass(frozen=True)
class MaeVqganConfig:
    """The defaults are the published model: ViT-L/16 with a decoder of 8 layers, and the VQGAN f16 with 1024 codes."""

    canvas_size: int = 224
    image_size: int = 111
    patch_size: int = 16
    encoder: StackConfig = StackConfig(24, 1024, 16)
    decoder: StackConfig = StackConfig(8, 512, 16)
    vqgan: VqganConfig = field(default_factory=VqganConfig)

    def __post_init__(self) -> None:
        if min(self.canvas_size, self.image_size, self.patch_size) < 1:
            raise ValueError("canvas_size, image_size and patch_size must be positive")
        if self.vqgan.patch_size != self.patch_size:
            raise ValueError(
                f"one code stands for {self.vqgan.patch_size} pixels and a patch for {self.patch_size}: they must agree"
            )


@dataclass(frozen=True)
class CanvasItems:
    """Runs that are prepared: the input of the layer that they start from, of the tokens of a view.

    ``depth`` counts the layers before that one, those of the decoder after those of the encoder. ``head_outputs`` are
    the layer's, side by side, where they are known already: no patch changes what they are before it replaces them.
    """

    embedded: Float[Tensor, "rows tokens width"]
    view: View
    places: Mapping[str, Locations]
    depth: int = 0
    head_outputs: Float[Tensor, "rows tokens width"] | None = None

    def __len__(self) -> int:
        return len(self.embedded)

    def __getitem__(self, rows: Int[Tensor, " rows"] | slice) -> "CanvasItems":
        z = None if self.head_outputs is None else self.head_outputs[rows]
        return replace(self, embedded=self.embedded[rows], head_outputs=z)


@dataclass(frozen=True)
class CodeTargets:
    """The true codes of query outputs, and the share of each patch's pixels that count, None where all do."""

    codes: Int[Tensor, "rows patches"]
    counted: Float[Tensor, "rows patches"] | None

    def __getitem__(self, rows: Int[Tensor, " rows"] | slice) -> "CodeTargets":
        return CodeTargets(self.codes[rows], None if self.counted is None else self.counted[rows])


class MaeVqgan(Pretrained, PromptedModel):
    """Canvases in, codes of the hidden patches out; see ``taskvec.models.canvas`` for canvases, tokens and views.

    Its outputs are logits of the codes at a view's predicted patches, its own loss is their cross-entropy in nats.
    """

    model_type = "mae_vqgan"
    decodings = DECODINGS
    arrangements = len(ARRANGEMENTS)
    config_class = MaeVqganConfig
    config: MaeVqganConfig
    _variant = Variant()
    _base: "tuple[MaeVqgan] | None" = None  # the model that this is a variant of; in a tuple, it is no part of it

    def __init__(self, config: MaeVqganConfig):
        super().__init__()
        self.config = config
        self.geometry = CanvasGeometry(config.canvas_size, config.image_size, config.patch_size)
        self.patch_embed = nn.Conv2d(3, config.encoder.width, config.patch_size, config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(config.encoder.width))
        self.encoder = Stack(config.encoder, self.geometry.tokens)
        self.decoder_embed = nn.Linear(config.encoder.width, config.decoder.width)
        self.mask_token = nn.Parameter(torch.zeros(config.decoder.width))
        self.decoder = Stack(config.decoder, self.geometry.tokens)
        self.decoder_pred = nn.Linear(config.decoder.width, config.vqgan.codes)
        self.vqgan = Vqgan(config.vqgan)
        places = self.geometry.places()
        self._stacks = {
            stack: StackLayout(own.layers, own.heads, own.width // own.heads, places)
            for stack, own in (("encoder", config.encoder), ("decoder", config.decoder))
        }

    @property
    def device(self) -> torch.device:
        return self.cls_token.device

    @property
    def image_size(self) -> int:
        return self.config.image_size

    def fingerprint(self) -> str:
        """Of a variant, that of the model which it is a variant of."""
        return self._base[0].fingerprint() if self._base else super().fingerprint()

    def former_fingerprint(self) -> str:
        return self._base[0].former_fingerprint() if self._base else super().former_fingerprint()

    @property
    def stacks(self) -> dict[str, StackLayout]:
        """Both have a place for every canvas token."""
        return self._stacks

    def taps(self) -> dict[str, list[ProjectionTap]]:
        return {"encoder": self.encoder.taps(), "decoder": self.decoder.taps()}

    def present(self, view: ViewName | View = "query_only") -> dict[str, Int[Tensor, " present"]]:
        tokens = self.view(view)
        return {stack: tokens.tokens(stack).sort().values for stack in self.stacks}

    def view(self, view: ViewName | View) -> View:
        """A view by its name, or one of one's own; ValueError where that has no encoder or tokens beyond the canvas."""
        if not isinstance(view, View):
            return self.geometry.view(view)
        if not len(view.encoder_tokens):
            raise ValueError(f"the {view} has no encoder tokens: expected 0, the token CLS, at least")
        if (last := max(int(view.encoder_tokens[-1]), int(view.decoder_tokens[-1]))) >= self.geometry.tokens:
            raise ValueError(
                f"the {view} has token {last}: the model's canvas has tokens 0 to {self.geometry.tokens - 1}"
            )
        return view

    def forward(
        self,
        canvases: UInt8[Tensor, "batch canvas canvas 3"],
        view: ViewName | View = "one_shot",
        patch: heads.Patch | None = None,
    ) -> Float[Tensor, "batch predicted codes"]:
        """Logits of the codes at the view's predicted patches; pixels of tokens outside the view make no difference."""
        return heads.run(self, self._items(self.embed(canvases, view), self.view(view)), patch)

    def prepare(self, inputs: Inputs, view: ViewName | View) -> CanvasItems:
        """``view`` may be one of one's own; ValueError where it shows an example and there is none."""
        chosen = self.view(view)
        tokens = chosen.encoder_tokens
        supports = self.geometry.region_tokens("support_input", "support_output")
        if len(inputs.support_input) < len(inputs.query_input) and torch.isin(tokens, supports).any():
            raise ValueError(f"the {chosen} shows an example, but only queries were drawn")
        return self._prepared(self.geometry.canvases(inputs), chosen)

    def _prepared(self, canvases: UInt8[Tensor, "rows canvas canvas 3"], view: View) -> CanvasItems:
        chunks = canvases.to(self.device).split(max(1, CACHED_PIXELS // self.config.canvas_size**2))
        with torch.no_grad():
            return self._items(torch.cat([self.embed(chunk, view) for chunk in chunks]), view)

    def _items(self, embedded: Tensor, view: View) -> CanvasItems:
        return CanvasItems(embedded, view, self.locations(view))

    def locations(self, view: ViewName | View) -> dict[str, Locations]:
        """Where the places of both stacks are in runs of this view."""
        chosen = self.view(view)
        return {stack: chosen.locations(stack, self.geometry.tokens) for stack in self.stacks}

    def embed(
        self, canvases: UInt8[Tensor, "batch canvas canvas 3"], view: ViewName | View
    ) -> Float[Tensor, "batch encoder_tokens width"]:
        """What the encoder starts from: CLS and the view's own patches, with their positions added."""
        tokens, size = self.view(view).encoder_tokens, self.config.patch_size
        patches = canvases.unflatten(2, (-1, size)).unflatten(1, (-1, size)).transpose(2, 3).flatten(1, 2)
        seen = normalise(patches[:, tokens[1:] - 1]).permute(0, 1, 4, 2, 3)  # [batch, tokens, 3, size, size]
        embedded = self.patch_embed(seen.flatten(0, 1)).flatten(1).unflatten(0, seen.shape[:2])
        positions = self.encoder.pos_embed[tokens]
        first = (self.cls_token + positions[0]).expand(len(canvases), 1, -1).to(embedded.dtype)
        return torch.cat([first, embedded + positions[1:]], 1)

    def run(self, items: CanvasItems) -> Float[Tensor, "rows predicted codes"]:
        view, layers, x = items.view, self._layers(), items.embedded
        wanted = None if view.only is None else torch.searchsorted(view.decoder_tokens, view.only)
        with self._autocast():
            for depth in range(items.depth, len(layers)):
                if depth == self.config.encoder.layers > items.depth:
                    x = self._decoder_input(x, view)
                z = items.head_outputs if depth == items.depth else None
                x = layers[depth](x, z, wanted if depth == len(layers) - 1 else None)
            decoded = self.decoder.norm(x)
            return self.decoder_pred(decoded[:, 1:] if wanted is None else decoded)

    def depth(self, stack: str, layer: int) -> int:
        return layer + {"encoder": 0, "decoder": self.config.encoder.layers}[stack]

    @torch.no_grad()
    def advance(self, items: CanvasItems, depth: int) -> CanvasItems:
        if depth < items.depth:
            raise ValueError(f"the items start from layer {items.depth} of both stacks, which is beyond {depth}")
        if depth == items.depth and items.head_outputs is not None:
            return items
        rows = rows_of_a_pass(self.device, self.cost(items.view, answers=False, gradient=False))
        advanced = [self._advance(items[some], depth) for some in torch.arange(len(items)).split(rows)]
        x, z = (torch.cat(parts) for parts in zip(*advanced, strict=True))
        return replace(items, embedded=x, depth=depth, head_outputs=z)

    def _advance(self, items: CanvasItems, depth: int) -> tuple[Tensor, Tensor]:
        """Input and head outputs of a layer."""
        layers, x = self._layers(), items.embedded
        with self._autocast():
            for before in range(items.depth, depth):
                x = layers[before](x, items.head_outputs if before == items.depth else None)
                if before == self.config.encoder.layers - 1:
                    x = self._decoder_input(x, items.view)
            return x, layers[depth].head_outputs(x)

    def narrow(self, items: CanvasItems, *, answers: bool) -> CanvasItems:
        """The query output's patches alone are predicted, but where a canvas is decoded whole."""
        if answers and self.area == "canvas":
            return items
        predicted = items.view.predicted
        wanted = torch.isin(predicted, self.geometry.region_tokens("query_output"))
        return replace(items, view=replace(items.view, only=predicted[wanted]))

    def _layers(self) -> list[Block]:
        """Of both stacks, in the order in which they run."""
        return self.encoder.layers() + self.decoder.layers()

    @torch.no_grad()
    def features(self, images: Images) -> Float[Tensor, "n width"]:
        """Of images as query inputs without an example, CLS left out."""
        x = self.prepare(Queries(images), "query_only").embedded
        with self._autocast():
            for layer in self.encoder.layers():
                x = layer(x)
            return self.encoder.norm(x)[:, 1:].mean(1).float()

    def mean_outputs(
        self, outputs: Iterable[Float[Tensor, "rows predicted codes"]]
    ) -> Float[Tensor, "rows predicted codes"]:
        """Logarithms of the mean probability of each code, which are logits again."""
        runs = iter(outputs)  # one at a time: logits of a batch are large
        first = next(runs)
        total, count = first.float().log_softmax(-1), 1
        for logits in runs:
            total, count = torch.logaddexp(total, logits.float().log_softmax(-1)), count + 1
        return first if count == 1 else total - math.log(count)

    def arranged(self, inputs: Inputs) -> Iterator[Float[Tensor, "rows predicted codes"]]:
        """Sun et al. (2023). Where images do not fill their quadrants (111 of 112 pixels at the published model), the
        patches of one image begin elsewhere in another corner, by the gap."""
        if len(inputs.support_input) < len(inputs.query_input):
            raise ValueError("an arranged prompt shows an example, but only queries were drawn")
        for arrangement in ARRANGEMENTS:
            canvases = self.geometry.canvases(inputs, arrangement)
            items = self._prepared(canvases, self.geometry.one_shot_view(arrangement))
            yield self.run(items)[:, self.geometry.patches_in(arrangement)]

    def answers(
        self, outputs: Float[Tensor, "rows predicted codes"], items: CanvasItems
    ) -> UInt8[Tensor, "n size size 3"]:
        """The likeliest codes, or the mean of all under their probabilities, decoded."""
        with self._autocast():
            if self.decoding.kind == "likeliest":
                images = self.decode(outputs.argmax(-1), items.view)
            else:
                images = self._cropped(torch.cat([to_pixels(some) for some in self._believed(outputs, items.view)]))
        return self.decoding.finish(images)

    def pictures(
        self, outputs: Float[Tensor, "rows predicted codes"], items: CanvasItems
    ) -> Float[Tensor, "rows size size 3"]:
        """Of the decoding ``expected``."""
        if self.decoding.kind != "expected":
            return super().pictures(outputs, items)
        with self._autocast():
            images = torch.cat([some.float() for some in self._believed(outputs, items.view)])
        return self._cropped(images.clamp(-1, 1).add(1).mul(127.5).permute(0, 2, 3, 1))

    def _believed(
        self, outputs: Float[Tensor, "rows predicted codes"], view: View
    ) -> Iterator[Float[Tensor, "some 3 height width"]]:
        """The decoded mean of the codebook's entries under their probabilities, some rows at a time, in about [-1, 1].

        Every patch has a mean of its own, so that nothing but memory would be gained by looking for equal rows.
        """
        logits = self._grid(outputs, view).float() / self.decoding.temperature
        for some in logits.split(self._decoded_together(logits)):
            yield self._decode_means(some)

    def drafts(self, outputs: Float[Tensor, "rows predicted codes"]) -> Int[Tensor, "rows predicted"] | None:
        """The likeliest codes, where they are what is decoded."""
        return outputs.argmax(-1) if self.decoding.kind == "likeliest" else None

    def targets(self, prompts: Truths) -> CodeTargets:
        canvases = self.geometry.canvases(prompts).to(self.device)
        chunks = canvases.split(max(1, CACHED_PIXELS // self.config.canvas_size**2))
        with torch.no_grad():
            return CodeTargets(torch.cat([self.target_codes(chunk) for chunk in chunks]), self._counted(prompts))

    def _counted(self, prompts: Truths) -> Float[Tensor, "rows patches"] | None:
        """The share of every patch's pixels that count, all of a patch's where none of the item's would."""
        if prompts.query_ignored is None:
            return None
        geometry = self.geometry
        gap = geometry.canvas_size // 2 - geometry.image_size  # of the quadrant, above and left of the image
        ignored = torch.from_numpy(prompts.query_ignored).to(self.device)
        shares = F.pad(1 - ignored.float(), (gap, 0, gap, 0), value=1.0)
        patches = F.avg_pool2d(shares[:, None], geometry.patch_size).flatten(1)
        return torch.where(patches.sum(1, keepdim=True) > 0, patches, torch.ones_like(patches))

    def losses(
        self, outputs: Float[Tensor, "rows predicted codes"], items: CanvasItems, targets: CodeTargets
    ) -> Float[Tensor, " rows"]:
        """Mean over patches of the cross-entropy of the true codes, in nats."""
        with self._autocast():
            logits = self.query_output_logits(outputs, items.view)
            return negative_log_likelihood(logits, targets.codes, targets.counted)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self._variant.bfloat16 else nullcontext()

    def _decoder_input(self, encoded: Tensor, view: View) -> Float[Tensor, "batch decoder_tokens width"]:
        embedded = self.decoder_embed(self.encoder.norm(encoded))
        canvas = self.mask_token.to(embedded.dtype).repeat(len(encoded), self.geometry.tokens, 1)
        canvas[:, view.encoder_tokens] = embedded
        return canvas[:, view.decoder_tokens] + self.decoder.pos_embed[view.decoder_tokens]

    def variant(self, variant: Variant) -> "MaeVqgan":
        """Weights are shared but for matrix products in bfloat16, which have a copy so that no call converts them.

        Embeddings, normalisations, the sums of the residual stream and the tokenizer keep float32 weights. Variants
        that differ in what is made of their outputs alone share their modules, too: a patch of one is one of the other.
        """
        wanted, own = self._variant.with_(variant), self._variant
        if wanted == own:
            return self
        same_modules = (wanted.bfloat16, wanted.fused) == (own.bfloat16, own.fused)
        other = copy(self) if same_modules else self._accelerated(wanted)
        other._variant, other._base = wanted, self._base or (self,)
        return other

    def _accelerated(self, wanted: Variant) -> "MaeVqgan":
        """With modules of its own that compute so."""
        base = self._base or (self,)
        known: dict[int, Any] = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers(), base)}
        if wanted.bfloat16:
            for part in (self.encoder, self.decoder_embed, self.decoder, self.decoder_pred):
                for module in part.modules():
                    if isinstance(module, nn.Linear):
                        for weight in module.parameters(recurse=False):
                            known[id(weight)] = nn.Parameter(weight.detach().bfloat16(), requires_grad=False)
        other = deepcopy(self, known)
        for module in other.modules():
            if isinstance(module, Attention):
                module.fused = wanted.fused or wanted.bfloat16
        return other

    # From codes to pixels and back

    @property
    def decoding(self) -> Decoding:
        return self._variant.decoding or Decoding()

    @property
    def area(self) -> Area:
        """What is decoded together: unless chosen, a local tokenizer's quadrants, with others whole canvases."""
        return self._variant.area or ("quadrant" if self.config.vqgan.local else "canvas")

    def query_output_logits(
        self, logits: Shaped[Tensor, "batch predicted *more"], view: ViewName | View
    ) -> Shaped[Tensor, "batch patches *more"]:
        """The part of a view's logits, or codes, that belongs to the query output, row-major.

        Raises ValueError for a view that does not predict all of it.
        """
        view, wanted = self.view(view), self.geometry.region_tokens("query_output")
        chosen = torch.isin(view.predicted, wanted)
        if int(chosen.sum()) < len(wanted):
            raise ValueError(
                f"the {view} predicts {int(chosen.sum())} of the {len(wanted)} patches of the query output"
            )
        return logits[:, chosen]

    def decode_canvas(
        self, codes: Int[Tensor, "batch predicted"], view: ViewName | View
    ) -> UInt8[Tensor, "batch canvas canvas 3"]:
        """Decode a view's predicted codes as one canvas.

        A view without the top half is decoded with its bottom half in both places, as the official code does.
        Raises ValueError for a view that predicts neither the canvas nor its bottom half.
        """
        return self._decode_grid(self._canvas_grid(codes, view))

    def _canvas_grid(
        self, predictions: Shaped[Tensor, "batch predicted *more"], view: ViewName | View
    ) -> Shaped[Tensor, "batch rows columns *more"]:
        """A view's predictions as those of a whole canvas; see ``decode_canvas``."""
        predicted, grid = self.view(view).predicted.tolist(), self.geometry.grid
        whole = list(range(1, 1 + grid * grid))
        if predicted not in (whole, whole[len(whole) // 2 :]):
            raise ValueError("only views that predict the whole canvas or its bottom half can be decoded as a canvas")
        if predicted != whole:
            predictions = torch.cat([predictions, predictions], 1)
        return predictions.unflatten(1, (grid, grid))

    def _grid(
        self, predictions: Shaped[Tensor, "batch predicted *more"], view: ViewName | View
    ) -> Shaped[Tensor, "batch rows columns *more"]:
        """A view's predictions of all that is decoded together, the ``area``."""
        if self.area == "canvas":
            return self._canvas_grid(predictions, view)
        half = self.geometry.grid // 2
        return self.query_output_logits(predictions, view).unflatten(1, (half, half))

    def _cropped(self, decoded: Shaped[Tensor, "batch height width 3"]) -> Shaped[Tensor, "batch size size 3"]:
        """The query output's image in a decoded ``area``."""
        if self.area == "canvas":
            return self.geometry.crop(decoded, "query_output")
        size = self.config.image_size
        return decoded[:, -size:, -size:]

    def decode(
        self, codes: Int[Tensor, "batch predicted"], view: ViewName | View
    ) -> UInt8[Tensor, "batch size size 3"]:
        """The query output's image from a view's predicted codes, decoding ``area`` together."""
        return self._cropped(self._decode_grid(self._grid(codes, view)))

    def decode_quadrant(self, codes: Int[Tensor, "batch patches"]) -> UInt8[Tensor, "batch size size 3"]:
        """The query output's image from its own codes alone."""
        half, size = self.geometry.grid // 2, self.config.image_size
        return self._decode_grid(codes.view(len(codes), half, half))[:, -size:, -size:]

    def reconstruct(self, canvases: UInt8[Tensor, "batch canvas canvas 3"]) -> UInt8[Tensor, "batch size size 3"]:
        """The query output of complete canvases through the tokenizer and back, decoded as predictions are."""
        if self.area == "quadrant":
            return self.decode_quadrant(self.target_codes(canvases))
        return self.geometry.crop(self._decode_grid(self.vqgan.encode(to_unit(canvases))), "query_output")

    @property
    def has_tokenizer(self) -> bool:
        return True

    def reconstruction(self, prompts: Truths) -> Pixels:
        """The tokenizer's reconstruction of the truth: what perfect codes would give."""
        return self.reconstruct(self.geometry.canvases(prompts).to(self.device))

    def mixture(self, prompts: Truths) -> Pixels:
        """Some steps of Adam on the codes' logits in every patch that is decoded, by the squared error of the answer's
        pixels, from a belief in the codes that are near to what the tokenizer's encoder says."""
        truths = torch.from_numpy(prompts.query_output).to(self.device)
        canvases = self.geometry.canvases(prompts).to(self.device)
        rows = max(1, CACHED_PIXELS // self.config.canvas_size**2)
        with torch.enable_grad():
            mixed = [self._mixture(*each) for each in zip(canvases.split(rows), truths.split(rows), strict=True)]
        return torch.cat(mixed) if mixed else truths

    def _mixture(
        self, canvases: UInt8[Tensor, "rows canvas canvas 3"], truths: UInt8[Tensor, "rows size size 3"]
    ) -> Pixels:
        codebook = self.vqgan.quantize.embedding.weight.detach()
        latents = self._latents(canvases).detach().permute(0, 2, 3, 1)
        distances = torch.cdist(latents.flatten(1, 2), codebook).square().unflatten(1, latents.shape[1:3])
        logits = (-distances / distances.amin(-1, keepdim=True).clamp(min=1e-6)).requires_grad_()
        optimizer = torch.optim.Adam([logits], MIXTURE_RATE)
        for _ in range(MIXTURE_STEPS):
            optimizer.zero_grad()
            self._squared_error(logits, truths).backward(inputs=[logits])
            optimizer.step()
        return self._cropped(to_pixels(self._decode_means(logits.detach())))

    def _squared_error(self, logits: Tensor, truths: Pixels) -> Float[Tensor, ""]:
        """Of every row its mean, whose gradient no other row changes, and their sum."""
        pictures = self._cropped(self._decode_means(logits).permute(0, 2, 3, 1)).clamp(-1, 1).add(1).mul(127.5)
        return (pictures - truths.float()).square().flatten(1).mean(1).sum()

    def _latents(
        self, canvases: UInt8[Tensor, "batch canvas canvas 3"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """What the tokenizer's encoder says of all that is decoded together."""
        if self.area == "canvas":
            return self.vqgan.latents(to_unit(canvases))
        half, middle = self.geometry.grid // 2, self.config.canvas_size // 2
        if self.config.vqgan.local:
            return self.vqgan.latents(to_unit(canvases[:, middle:, middle:]))
        return self.vqgan.latents(to_unit(canvases))[:, :, half:, half:]

    def _decode_means(self, logits: Float[Tensor, "batch rows columns codes"]) -> Float[Tensor, "batch 3 height width"]:
        """The decoded mean of the codebook's entries under the probabilities of these logits, in about [-1, 1]."""
        means = logits.softmax(-1) @ self.vqgan.quantize.embedding.weight
        return self.vqgan.decode_latents(means.permute(0, 3, 1, 2)).float()

    def _decode_grid(self, codes: Int[Tensor, "batch rows columns"]) -> UInt8[Tensor, "batch height width 3"]:
        together = self._decoded_together(codes)
        different, index = codes.unique(dim=0, return_inverse=True)  # masks of one item often give the same codes
        return torch.cat([to_pixels(self.vqgan.decode(some).float()) for some in different.split(together)])[index]

    def _decoded_together(self, grids: Shaped[Tensor, "batch rows columns *more"]) -> int:
        """Rows that are decoded in one pass."""
        pixels = grids.shape[1] * grids.shape[2] * self.config.patch_size**2
        return max(1, len(grids)) if grids.is_cuda else max(1, CACHED_PIXELS // pixels)

    def target_codes(self, canvases: UInt8[Tensor, "batch canvas canvas 3"]) -> Int[Tensor, "batch patches"]:
        """The tokenizer's codes of the query output of complete canvases, row-major."""
        half = self.geometry.grid // 2
        if self.config.vqgan.local:
            middle = self.config.canvas_size // 2
            return self.vqgan.encode(to_unit(canvases[:, middle:, middle:])).flatten(1)
        return self.vqgan.encode(to_unit(canvases))[:, half:, half:].flatten(1)

    # What it costs

    def cost(self, view: ViewName | View, *, answers: bool, gradient: bool) -> RowCost:
        """With a gradient every layer of both stacks keeps what its backward pass needs; without, one layer's
        activations are there at a time. A GPU decodes all images at once, a processor in pieces, which rows add nothing
        to."""
        chosen, config = self.view(view), self.config
        encoder = (config.encoder, len(chosen.encoder_tokens))
        decoder = (config.decoder, len(chosen.decoder_tokens))
        logits = 4 * len(chosen.predicted) * config.vqgan.codes  # predicted, selected, and two in the cross-entropy
        running = max(_running(*encoder), _running(*decoder), logits)
        kept = _kept(*encoder) + _kept(*decoder) if gradient else 0
        decoded = 0
        if answers and self.device.type != "cpu":  # feature maps of the last level, at the size of the image
            side = config.canvas_size if self.area == "canvas" else config.canvas_size // 2
            decoded = 4 * side**2 * config.vqgan.channels * max(config.vqgan.multipliers[:2])
        tokens = len(chosen.encoder_tokens) + len(chosen.decoder_tokens)
        return RowCost(tokens, NUMBER * (kept + max(running, decoded)))

    @property
    def number_of_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def describe(self) -> dict[str, Any]:
        tokenizer = sum(p.numel() for p in self.vqgan.parameters())
        return {
            "architecture": asdict(self.config),
            "parameters_without_tokenizer": self.number_of_parameters - tokenizer,
        }

    @torch.inference_mode()
    def gigaflops(self) -> dict[str, float]:
        """Of one canvas: the transformer in each view, and the decoding of a whole canvas or of one quadrant."""
        size, grid = self.config.canvas_size, self.geometry.grid
        canvas = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=self.device)
        counted = {}
        for view in VIEWS:
            with FlopCounterMode(display=False) as counter:
                self(canvas, view)
            counted[view] = counter.get_total_flops() / 1e9
        for name, side in (("decode_canvas", grid), ("decode_quadrant", grid // 2)):
            with FlopCounterMode(display=False) as counter:
                self.vqgan.decode(torch.zeros(1, side, side, dtype=torch.int64, device=self.device))
            counted[name] = counter.get_total_flops() / 1e9
        return counted


def _running(config: StackConfig, tokens: int) -> int:
    """Numbers of one block: input, normed input, q, k and v as projected and once more in order, z, z as patched ..."""
    attention = 12 * tokens * config.width + 2 * config.heads * tokens**2
    mlp = (2 + 2 * config.mlp_ratio) * tokens * config.width
    return int(max(attention, mlp))


def _kept(config: StackConfig, tokens: int) -> int:
    """Numbers that all blocks keep: inputs of both norms, q, k, v, z and its change twice, attention, hidden layer."""
    block = (12 + config.mlp_ratio) * tokens * config.width + 2 * config.heads * tokens**2
    return int(config.layers * block)


def negative_log_likelihood(
    logits: Float[Tensor, "n patches codes"],
    codes: Int[Tensor, "n patches"],
    counted: Float[Tensor, "n patches"] | None = None,
) -> Float[Tensor, " n"]:
    """Mean over patches of the cross-entropy of the true codes, in nats; ``counted`` are the patches' weights."""
    entropies = F.cross_entropy(logits.float().transpose(1, 2), codes, reduction="none")
    return entropies.mean(1) if counted is None else (entropies * counted).sum(1) / counted.sum(1)


def normalise(pixels: UInt8[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Bytes to ImageNet-normalised float32, computed in float64 from float32 fractions as the official code does."""
    fractions = pixels.float().div(255).double()
    mean, std = (torch.tensor(v, dtype=torch.float64, device=pixels.device) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((fractions - mean) / std).float()
