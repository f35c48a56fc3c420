"""The 2x2 canvas: its geometry, its quadrants, its tokens, and the views a model has of it.

Canvas tokens are numbered 0 = CLS, then 1 + the row-major index of the patch. Every other module names tokens this way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from taskvec.models.interface import VIEWS, Images, Inputs, Locations, ViewName
from taskvec.sites import Place

Region = Literal["cls", "support_input", "support_output", "query_input", "query_output"]
QUADRANTS: tuple[Region, ...] = ("support_input", "support_output", "query_input", "query_output")
REGIONS: tuple[Region, ...] = ("cls", *QUADRANTS)

# which image is in each of QUADRANTS' corners, row by row
Arrangement = tuple[Region, Region, Region, Region]
USUAL: Arrangement = ("support_input", "support_output", "query_input", "query_output")
# Sun et al. (2023): the query output in any corner, an input beside its output or above it; first the usual
ARRANGEMENTS: tuple[Arrangement, ...] = (
    USUAL,
    ("support_output", "support_input", "query_output", "query_input"),
    ("query_input", "query_output", "support_input", "support_output"),
    ("query_output", "query_input", "support_output", "support_input"),
    ("support_input", "query_input", "support_output", "query_output"),
    ("query_input", "support_input", "query_output", "support_output"),
    ("support_output", "query_output", "support_input", "query_input"),
    ("query_output", "support_output", "query_input", "support_input"),
)


@dataclass(frozen=True)
class View:
    """Which canvas tokens a model sees: a row of indices for the encoder, one for the decoder, as data.

    Both begin with 0, the token CLS, and ascend; a model without an encoder has no tokens there. ``predicted`` are the
    patches (canvas tokens without CLS) whose codes the decoder gives: all that it has, or ``only`` these, ascending.
    ``name`` is what errors call the view. Raises ValueError for other tokens.
    """

    encoder_tokens: Int[Tensor, " encoder_tokens"]
    decoder_tokens: Int[Tensor, " decoder_tokens"]
    name: str = "given"
    only: Int[Tensor, " predicted"] | None = None

    def __post_init__(self) -> None:
        for stack in ("encoder", "decoder"):
            tokens = self.tokens(stack)
            if not isinstance(tokens, Tensor) or tokens.ndim != 1 or tokens.dtype not in (torch.int32, torch.int64):
                raise ValueError(f"the {stack} tokens of a view are {tokens!r}: expected a row of integers as a tensor")
            values = tokens.tolist()
            if not values and stack == "encoder":
                continue
            if not values or values[0] != 0 or any(after <= before for before, after in pairwise(values)):
                raise ValueError(
                    f"the {stack} tokens of a view are {values}: expected 0, the token CLS, and after it patches in "
                    "ascending order"
                )

    def __str__(self) -> str:
        return f"view {self.name}"

    @property
    def predicted(self) -> Int[Tensor, " predicted"]:
        return self.decoder_tokens[1:] if self.only is None else self.only

    def tokens(self, stack: str) -> Int[Tensor, " tokens"]:
        return {"encoder": self.encoder_tokens, "decoder": self.decoder_tokens}[stack]

    def locations(self, stack: str, places: int) -> Locations:
        """Where this many places, the canvas tokens, are in a stack's sequence."""
        tokens = self.tokens(stack)
        where = torch.full((1, places), -1)
        where[0, tokens] = torch.arange(len(tokens))
        return Locations(where, len(tokens))


@dataclass(frozen=True)
class CanvasGeometry:
    """Sizes in pixels: the square canvas, one of its four images, one patch. Between the images lies a white gap.

    Raises ValueError where the canvas does not divide into an even grid of patches or the images do not fit.
    """

    canvas_size: int
    image_size: int
    patch_size: int

    def __post_init__(self) -> None:
        if self.canvas_size % (2 * self.patch_size):
            raise ValueError(
                f"a canvas of {self.canvas_size} pixels has no even grid of {self.patch_size}-pixel patches"
            )
        if not self.canvas_size // 2 - self.patch_size < self.image_size <= self.canvas_size // 2:
            raise ValueError(
                f"images of {self.image_size} pixels do not fill the quadrants of a {self.canvas_size}-pixel canvas"
            )

    @property
    def grid(self) -> int:
        """Patches along one side of the canvas."""
        return self.canvas_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Canvas tokens, CLS included."""
        return 1 + self.grid**2

    def corner(self, quadrant: Region) -> tuple[int, int]:
        """Top row and left column of a quadrant's image: images sit in the corners of the canvas."""
        far = self.canvas_size - self.image_size
        index = QUADRANTS.index(quadrant)
        return far * (index // 2), far * (index % 2)

    def token_regions(self) -> Int[Tensor, " tokens"]:
        """Index into REGIONS of every canvas token, int64."""
        rows, columns = torch.meshgrid(*[torch.arange(self.grid) // (self.grid // 2)] * 2, indexing="ij")
        return torch.cat([torch.zeros(1, dtype=torch.int64), 1 + (2 * rows + columns).flatten()])

    def places(self) -> tuple[Place, ...]:
        """The canvas tokens as places of head outputs."""
        half = self.grid // 2
        quadrants = [QUADRANTS[2 * (row // half) + column // half] for row, column in np.ndindex(self.grid, self.grid)]
        return tuple(Place(region, token) for token, region in enumerate(["cls", *quadrants]))

    def region_tokens(self, *regions: Region) -> Int[Tensor, " tokens_of_regions"]:
        """Canvas tokens of these regions, ascending."""
        wanted = torch.tensor([REGIONS.index(region) for region in regions])
        return torch.isin(self.token_regions(), wanted).nonzero()[:, 0]

    def view(self, name: ViewName) -> View:
        """``one_shot``: the encoder sees all but the query output, the decoder all (Section 8.4).

        ``query_only``: the encoder sees CLS and the query input, the decoder CLS and the bottom half (Section 8.1).
        """
        if name == "one_shot":
            return self.one_shot_view()
        if name == "query_only":
            decoder = self.region_tokens("cls", "query_input", "query_output")
            return View(self.region_tokens("cls", "query_input"), decoder, name)
        raise ValueError(f"there is no view {name!r}: expected one of {', '.join(VIEWS)}")

    def one_shot_view(self, arrangement: Arrangement = USUAL) -> View:
        """The view ``one_shot`` of a canvas whose images are arranged so."""
        seen: list[Region] = [
            corner for corner, region in zip(QUADRANTS, arrangement, strict=True) if region != "query_output"
        ]
        return View(self.region_tokens("cls", *seen), torch.arange(self.tokens), "one_shot")

    def patches_in(self, arrangement: Arrangement) -> Int[Tensor, " patches"]:
        """For every patch of the usual canvas, row-major, the patch of this arrangement that shows the same."""
        half = self.grid // 2
        patches = torch.arange(self.grid**2).view(2, half, 2, half)
        by_corner = patches.transpose(1, 2).flatten(0, 1)  # [corner, row, column]
        moved = by_corner[[arrangement.index(region) for region in QUADRANTS]]
        return moved.view(2, 2, half, half).transpose(1, 2).flatten()

    def compose(self, images: Mapping[Region, Images]) -> UInt8[np.ndarray, "n canvas canvas 3"]:
        """White canvases with these images in their quadrants."""
        count = len(next(iter(images.values()), ()))
        canvases = np.full((count, self.canvas_size, self.canvas_size, 3), 255, np.uint8)
        for quadrant, pixels in images.items():
            top, left = self.corner(quadrant)
            canvases[:, top : top + self.image_size, left : left + self.image_size] = pixels
        return canvases

    def canvases(self, inputs: Inputs, arrangement: Arrangement = USUAL) -> UInt8[Tensor, "n canvas canvas 3"]:
        """Canvases with what there is of a support, a query and its output.

        The output is there as the truth: no view shows it to a model.
        """
        none = inputs.query_input[:0]
        images: dict[Region, Images] = {
            corner: getattr(inputs, region, none) for corner, region in zip(QUADRANTS, arrangement, strict=True)
        }
        return torch.from_numpy(self.compose({quadrant: own for quadrant, own in images.items() if len(own)}))

    def crop(self, canvases: UInt8[Tensor, "n canvas canvas 3"], quadrant: Region) -> UInt8[Tensor, "n size size 3"]:
        """The image of one quadrant."""
        top, left = self.corner(quadrant)
        return canvases[:, top : top + self.image_size, left : left + self.image_size]

    def paste(
        self, canvases: UInt8[Tensor, "n canvas canvas 3"], decoded: UInt8[Tensor, "n canvas canvas 3"]
    ) -> UInt8[Tensor, "n canvas canvas 3"]:
        """The canvases with the patches of the query output taken from a decoded canvas."""
        middle = self.canvas_size // 2
        pasted = canvases.clone()
        pasted[:, middle:, middle:] = decoded[:, middle:, middle:]
        return pasted
