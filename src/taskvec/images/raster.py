"""One image as its file has it, and as the RGB bytes that a model sees."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

from taskvec.images.colour import Profile, to_srgb

Levels = Shaped[np.ndarray, "height width *channels"]
_TABLE = 65536  # levels of 16 bits are looked up


@dataclass(frozen=True)
class Range:
    """The levels that become black and white, for all files of a folder alike."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ValueError(f"the levels {self.low:g} to {self.high:g} are no range: expected LO below HI")

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"

    def to_bytes(self, levels: Levels) -> UInt8[np.ndarray, "height width *channels"]:
        """``low`` as 0, ``high`` as 255, what is beyond as the nearer of them, and what is no number as 0."""
        if levels.dtype in (np.uint16, np.int16):
            every = np.arange(_TABLE).astype(np.uint16).view(levels.dtype)
            return self._scale(every.astype(np.float64))[levels.view(np.uint16)]
        return self._scale(levels.astype(np.float64))

    def _scale(self, levels: Float[np.ndarray, "*any"]) -> UInt8[np.ndarray, "*any"]:
        share = np.nan_to_num((levels - self.low) / (self.high - self.low), nan=0.0, posinf=1.0, neginf=0.0)
        return np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class Raster:
    """Upright pixels of one file.

    levels: [height, width] or, in colour, [height, width, 3], as they are stored: bool, uint8, or deep, of any other
    type. palette: the colours [n, 3] that levels are the numbers of, None where they are levels themselves. alpha: 0
    transparent to 255 opaque, None where all is opaque. shown: a deep image as its file says that it is to be shown
    (the window of a DICOM file). inverted: low levels are bright. orientation: how EXIF says that the stored pixels are
    to be turned, which they were; 1 for not at all. profile: of the levels' colours, where they are not sRGB.
    whole: width and height of an image that came reduced, None for one that is as it was.
    """

    levels: Levels
    alpha: UInt8[np.ndarray, "height width"] | None = None
    palette: UInt8[np.ndarray, "colours 3"] | None = None
    shown: UInt8[np.ndarray, "height width"] | None = None
    inverted: bool = False
    orientation: int = 1
    profile: Profile | None = None
    whole: tuple[int, int] | None = None

    @property
    def deep(self) -> bool:
        """Whether its levels have another range than 0 to 255."""
        return self.levels.dtype not in (np.uint8, np.bool_)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.levels.shape[0], self.levels.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, of a reduced image as they were."""
        return self.whole or (self.shape[1], self.shape[0])

    def bytes(self, levels: Range | None = None) -> UInt8[np.ndarray, "height width *channels"]:
        """Grey [height, width] or RGB [height, width, 3], 0 to 255, in sRGB, transparency laid on white.

        ``levels`` is the range of a deep image; others keep theirs. Raises ValueError for a deep image without.
        """
        pixels = self._pixels(levels)
        if self.profile is not None:
            pixels = to_srgb(pixels, self.profile)
        return pixels if self.alpha is None else _on_white(pixels, self.alpha)

    def rgb(self, levels: Range | None = None) -> UInt8[np.ndarray, "height width 3"]:
        """``bytes`` in three channels."""
        return in_colour(self.bytes(levels))

    def _pixels(self, levels: Range | None) -> UInt8[np.ndarray, "height width *channels"]:
        if not self.deep:
            if self.palette is not None:
                return self.palette[self.levels]
            return np.where(self.levels, np.uint8(255), np.uint8(0)) if self.levels.dtype == np.bool_ else self.levels
        if levels is not None:
            pixels = levels.to_bytes(self.levels)
            return 255 - pixels if self.inverted else pixels
        if self.shown is not None:
            return self.shown
        finite = self.levels[np.isfinite(self.levels)]
        ends = f" from {finite.min():g} to {finite.max():g}" if finite.size else ""
        raise ValueError(
            f"it has {self.levels.dtype.name} levels{ends}, and which of them are black and white is not said: "
            "expected a range for all images (--levels LO HI)"
        )

    def as_stored(self) -> "Raster":
        """Turned back to how the pixels are stored."""

        def turn(pixels: Any) -> Any:
            return None if pixels is None else _turn_back(pixels, self.orientation)

        turned = replace(self, levels=turn(self.levels), alpha=turn(self.alpha), shown=turn(self.shown), orientation=1)
        crosswise = self.whole is not None and self.orientation in (5, 6, 7, 8)
        return replace(turned, whole=self.whole[::-1]) if crosswise and self.whole else turned


def in_colour(pixels: UInt8[np.ndarray, "height width *channels"]) -> UInt8[np.ndarray, "height width 3"]:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)


def _on_white(
    pixels: UInt8[np.ndarray, "height width *channels"], alpha: UInt8[np.ndarray, "height width"]
) -> UInt8[np.ndarray, "height width *channels"]:
    image = Image.fromarray(in_colour(pixels)).convert("RGBA")
    image.putalpha(Image.fromarray(alpha))
    result = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return np.asarray(result) if pixels.ndim == 3 else np.asarray(result)[..., 0]


def _turn_back(pixels: Levels, orientation: int) -> Levels:
    """Undo what makes an image upright whose EXIF orientation is 1 to 8."""
    undo = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }
    return np.ascontiguousarray(undo[orientation](pixels)) if orientation in undo else pixels
