"""One range of levels for all images of a folder: told from them together, never from one alone."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from taskvec.images import Range, Raster

_PERCENT = (0.5, 99.5)  # of all levels together: what lies beyond are markers, dead pixels, padding
_CUSTOMARY = (1, 255, 4095, 65535)  # what white is where a file's range is used as it was meant
_USED = 0.5  # of a customary range, between the percentiles, for it to be taken
_FILES, _LEVELS = 64, 65536  # that are looked at, and of each


def range_of(read: Sequence[Callable[[], Raster | None]]) -> Range | None:
    """The range of deep images, each given by what reads it (None where that cannot be done); None where none is deep,
    or the files themselves say how they are to be shown.

    From 0 to the lowest of 1 (of floating point), 255, 4095 and 65535 that no level exceeds, if the middle 99 % of all
    levels span half of that or more; else those middle 99 %. Of many images, 64 are looked at.
    """
    chosen = np.unique(np.linspace(0, len(read) - 1, min(len(read), _FILES)).round().astype(int)) if read else []
    samples, floating = [], False
    for index in chosen:
        raster = read[index]()
        if raster is not None and raster.deep and raster.shown is None:
            samples.append(_sample(raster))
            floating |= raster.levels.dtype.kind == "f"
    if not samples:
        return None
    levels = np.concatenate([sample[0] for sample in samples])
    if not levels.size:
        raise ValueError("the images hold no finite level: expected numbers")
    least, most = min(sample[1] for sample in samples), max(sample[2] for sample in samples)
    low, high = (float(value) for value in np.percentile(levels, _PERCENT))
    for white in _CUSTOMARY:
        if least >= 0 and most <= white and (floating or white > 1):
            if high - low >= _USED * white:
                return Range(0, white)
            break
    return Range(low, high) if low < high else Range(least, most) if least < most else Range(least, least + 1)


def _sample(raster: Raster) -> tuple[Float[np.ndarray, " n"], float, float]:
    """Levels from all over the image, at most as many of every image, and the least and the most of all."""
    levels = raster.levels[np.isfinite(raster.levels)]
    if not levels.size:
        return np.zeros(0), np.inf, -np.inf
    rows = np.linspace(0, levels.size - 1, min(levels.size, _LEVELS)).round().astype(np.int64)
    return levels[rows].astype(np.float64), float(levels.min()), float(levels.max())
