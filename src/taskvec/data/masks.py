"""What the outputs of a folder are: pictures, masks of one object, or maps of classes of which one is the object."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from taskvec.images import Raster
from taskvec.metrics import FOR_IMAGES, FOR_MASKS, Metric

VOID = 255  # the class that says: ignore this pixel
_CLASSES = 64  # more levels than that in a file are no classes; nor are classes, but for VOID, of a higher number
_PIXELS = 16  # a class has, on average, or its levels are noise
_NEAR = 16  # levels around either of two that are still that one, after JPEG or a soft edge
_ALIKE = 0.5  # of neighbours, at least, in a map of classes; dark pictures have few levels, too, but mixed
_SHOWN = 8  # levels in a sentence
_APART = 64  # levels between the two
_SHARE = 0.9  # of pixels that are near either, of a mask
_COLOUR = 1 << 24  # beyond what any level is
_LEAST = 0.002  # of pixels, that the rarer of the two has

Files = Mapping[Path, "Census"]
Union = dict[float, int]  # pixels by level
Labels = Shaped[np.ndarray, "height width"]


@dataclass(frozen=True)
class Census:
    """The levels of one output, sorted, how bright each looks, and how many pixels have it.

    ``levels`` are of a grey image its own, of a palette in colour the numbers of its colours, of few other colours
    ``colour_label``, of many their luminance. ``flat``: so few that they may be classes. ``transparent``: the mask is
    in the transparency. ``colours``: those that the numbers stand for.
    """

    levels: Shaped[np.ndarray, " n"]
    brightness: Shaped[np.ndarray, " n"]
    counts: Shaped[np.ndarray, " n"]
    flat: bool
    transparent: bool = False
    colours: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def census(raster: Raster) -> Census:
    """What levels an output has."""
    transparent = _transparent_mask(raster)
    if transparent is not None:
        levels, counts = np.array([0, VOID]), np.bincount(transparent.ravel(), minlength=2)
        return Census(levels, levels, counts, flat=True, transparent=True)
    labels, colours = _labels(raster)
    levels, counts = _count(labels)
    few = len(levels) <= _CLASSES and len(levels) * _PIXELS <= labels.size
    flat = few and (labels[:, 1:] == labels[:, :-1]).mean() >= _ALIKE
    return Census(levels, _looks(levels, colours), counts, flat or len(levels) <= 2, colours=colours)


@dataclass(frozen=True)
class MaskRule:
    """How an output becomes a mask: the pixels of one label, or those brighter than ``above``.

    ``ignored`` is the label of pixels that count nowhere, None where there is none. ``remark`` says in words what is
    taken for the object.
    """

    remark: str
    label: float | None = None
    above: float | None = None
    ignored: float | None = None

    def mask(self, raster: Raster) -> tuple[UInt8[np.ndarray, "height width"], Bool[np.ndarray, "height width"] | None]:
        """255 on the object and 0 elsewhere; and True where it is not to count, None where all counts."""
        transparent = _transparent_mask(raster)
        if transparent is not None:
            return _as_bytes(transparent), None
        labels, colours = _labels(raster)
        if self.label is not None:
            ignored = labels == self.ignored if self.ignored is not None else None
            return _as_bytes(labels == self.label), ignored
        if labels.dtype != np.uint8 or colours:
            levels, place = np.unique(labels, return_inverse=True)
            labels = _looks(levels, colours)[place].reshape(labels.shape)
        return _as_bytes(labels > self.above), None


@dataclass(frozen=True)
class Outputs:
    """What all outputs are together: masks by a rule, or pictures; ``refusal`` says why it cannot be told."""

    rule: MaskRule | None = None
    refusal: str | None = None
    remark: str | None = None


def outputs_of(files: Files, metric: Metric | None, wanted: int | None, void: int | None, where: Path) -> Outputs:
    """Tell what outputs are from the levels of all: ``metric`` where the user said it, ``wanted`` the label
    of the object and ``void`` that of what is to be ignored, where the user named them.
    """
    if metric is not None and not metric.of_masks:
        return Outputs(remark=f"metric {metric.label}, as asked for: the outputs are pictures")
    union = _union(files.values())
    if wanted is not None:
        return _one_label(files, union, wanted, void, where)
    if len(union) == 1:
        level = _name(next(iter(union)))
        return Outputs(refusal=f"all of {where} is of one grey level, {level} (transparency is laid on white)")
    clash = _clash(files)
    if clash is not None:
        return Outputs(refusal=clash)
    return _few_levels(files, union, where) or _many_levels(files, union, metric, where)


def _few_levels(files: Files, union: Union, where: Path) -> Outputs | None:
    """Masks of two levels, or of two classes and what is void; None where they are not."""
    if not all(one.flat for one in files.values()):
        return None
    if len(union) == 2:
        return Outputs(_brighter_of_two(files, union))
    ids = [level for level in union if level != VOID]
    return _with_void(files, ids, where) if _are_numbers(ids) and len(ids) == 2 and VOID in union else None


def _many_levels(files: Files, union: Union, metric: Metric | None, where: Path) -> Outputs:
    """Masks with soft edges, maps of classes, pictures."""
    ids = [level for level in union if level != VOID]
    flat = all(one.flat for one in files.values())
    numbered = flat and _are_numbers(ids)
    soft = None if numbered or (flat and len(union) == 3) else _nearly_two(files)
    if soft is not None:
        return Outputs(soft)
    if flat and (numbered or metric is None) and any(len(one.levels) > 1 for one in files.values()):
        shown = ", ".join(_name(level) for level in sorted(union)[:_SHOWN]) + (", ..." if len(union) > _SHOWN else "")
        if numbered:
            span = f"{min(ids):g}..{max(ids):g}"
            asked = f"levels {span} are classes: which is the object? --object N ({shown} occur)"
        else:
            asked = f"{len(union)} levels are classes: which is the object? --object N ({shown} occur), or "
            asked += f"--metric {FOR_IMAGES.name} if they are pictures"
        return Outputs(refusal=f"{where}: {asked}")
    if metric is None:
        return _pictures(files, where)
    if any(one.brightness.max() > 127 for one in files.values()):
        return Outputs(_brighter(files, 127.5, f"brighter than 127.5 of {len(union)} levels"))
    return Outputs(
        refusal=f"{where} has grey levels from {min(union):g} to {max(union):g}: what is object and what is not "
        "cannot be told, expected two levels, or brighter objects (or --object N)"
    )


def _are_numbers(levels: Sequence[float]) -> bool:
    """Whether levels, but for VOID, are so low that they number classes."""
    return max(levels) < _CLASSES


def _clash(files: Files) -> str | None:
    """Two files whose palettes give one number to different colours: their numbers are no classes."""
    known: dict[int, tuple[tuple[int, ...], Path]] = {}
    for path, one in files.items():
        for number, colour in one.colours.items():
            other = known.setdefault(number, (colour, path))
            if other[0] != colour:
                return (
                    f"colour {number} of the palette is {_name(colour_label(*other[0]))} in {other[1]} and "
                    f"{_name(colour_label(*colour))} in {path}: expected one palette, or colours without one"
                )
    return None


def _pictures(files: Files, where: Path) -> Outputs:
    two = [path for path, one in files.items() if len(one.levels) <= 2 or _is_nearly_two(one)]
    others = [path for path in files if path not in set(two)]
    if others and len(two) > len(others):
        return Outputs(
            refusal=f"{len(two)} of {len(files)} outputs in {where} are masks, and {others[0].name} has "
            f"{len(files[others[0]].levels)} levels{_and_others(others)}: --metric {FOR_MASKS.name} takes what is "
            f"brighter than grey for the object, --metric {FOR_IMAGES.name} takes all as pictures"
        )
    return Outputs(remark=f"metric {FOR_IMAGES.label}: the outputs are pictures of many levels")


def _one_label(files: Files, union: Union, wanted: int, void: int | None, where: Path) -> Outputs:
    if wanted not in union:
        occur = ", ".join(_name(level) for level in sorted(union)[:20])
        return Outputs(refusal=f"--object {_name(wanted)}: no output in {where} has that level, but {occur}")
    if void is None:
        ids = [level for level in union if level != VOID]
        void = VOID if VOID in union and wanted != VOID and max(ids) < _CLASSES else None
    elif void == wanted:
        return Outputs(refusal=f"--void {_name(void)} is the --object too: expected another level")
    elif void not in union:
        return Outputs(refusal=f"--void {_name(void)}: no output in {where} has that level")
    share = _share(files, lambda one: one.levels == wanted)
    text = f"level {_name(wanted)} of {_listed(union)}, {share} of the outputs"
    return Outputs(MaskRule(text + _ignored(files, void), label=wanted, ignored=void))


def _brighter_of_two(files: Files, union: Union) -> MaskRule:
    """The brighter of the two; of two colours in a palette by how they look."""
    looks = {}
    for one in files.values():
        looks.update(zip(one.levels.tolist(), one.brightness.tolist(), strict=True))
    low, high = sorted(union, key=lambda level: (looks[level], level))
    if all(one.transparent for one in files.values()):
        share = _share(files, lambda one: one.brightness > 127)
        return MaskRule(f"what is not transparent, {share} of the outputs", above=127.5)
    middle = (looks[low] + looks[high]) / 2
    share = _share(files, lambda one: one.brightness > middle)
    what = "the brighter of 2 levels" if looks[low] != looks[high] else f"level {_name(high)} of {_listed(union)}"
    if looks[low] == looks[high]:
        return MaskRule(f"{what}, {_share(files, lambda one: one.levels == high)} of the outputs", label=high)
    return MaskRule(f"{what}, {share} of the outputs", above=middle)


def _with_void(files: Files, ids: Sequence[float], where: Path) -> Outputs:
    """Of two classes and 255: the higher class, 255 ignored, if some file has both."""
    background, thing = sorted(ids)
    together = [path for path, one in files.items() if {thing, VOID} <= set(one.levels.tolist())]
    alone = [path for path, one in files.items() if VOID in one.levels and thing not in one.levels]
    if not together:
        first = next(path for path, one in files.items() if thing in one.levels)
        return Outputs(
            refusal=f"{where}: {first.name} has level {thing:g} where {alone[0].name} has {VOID}: which is the object? "
            f"--object {thing:g} ignores {VOID}, and --object {VOID} takes it"
        )
    share = _share(files, lambda one: one.levels == thing)
    text = f"level {thing:g} of {_listed({background, thing, VOID})}, {share} of the outputs"
    return Outputs(MaskRule(text + _ignored(files, VOID), label=thing, ignored=VOID))


def _nearly_two(files: Files) -> MaskRule | None:
    """Masks with soft edges or JPEG's noise, if all are: what is brighter than the middle of the two levels."""
    if not all(len(one.levels) <= 2 or _is_nearly_two(one) for one in files.values()):
        return None
    counts = _histogram(files.values())
    pair = _two_peaks(counts)
    if pair is None:
        return None
    soft = [path for path, one in files.items() if len(one.levels) > 2]
    middle = sum(pair) / 2
    named = (
        "" if len(soft) > len(files) / 2 else f" ({soft[0].name} has {len(files[soft[0]].levels)}{_and_others(soft)})"
    )
    return _brighter(files, middle, f"brighter than {middle:g} of nearly 2 levels, with soft edges{named}")


def _brighter(files: Files, above: float, what: str) -> MaskRule:
    share = _share(files, lambda one: one.brightness > above)
    return MaskRule(f"{what}, {share} of the outputs", above=above)


def _is_nearly_two(one: Census) -> bool:
    return _two_peaks(_histogram([one]), least=0) is not None


def _histogram(files: Iterable[Census]) -> np.ndarray:
    """Pixels by brightness, of bytes."""
    counts = np.zeros(256)
    for one in files:
        if one.brightness.min() < 0 or one.brightness.max() > 255:
            return np.zeros(256)
        np.add.at(counts, one.brightness.round().astype(int), one.counts / one.counts.sum())
    return counts / max(1e-9, counts.sum())


def _two_peaks(shares: np.ndarray, least: float = _LEAST) -> tuple[int, int] | None:
    """The two levels that nearly all pixels are near, and that are far apart; None where there are no two such.

    With soft edges the levels between the two are many, and on both sides of the middle.
    """
    if not shares.any():
        return None
    levels = np.arange(256)
    first = int(shares.argmax())
    apart = np.where(np.abs(levels - first) >= _APART, shares, 0)
    if not apart.any():
        return None
    second = int(apart.argmax())
    near = [shares[np.abs(levels - peak) <= _NEAR].sum() for peak in (first, second)]
    if sum(near) < _SHARE or min(near) < least:
        return None
    return min(first, second), max(first, second)


def _union(files: Iterable[Census]) -> dict[float, int]:
    counts: dict[float, int] = {}
    for one in files:
        for level, count in zip(one.levels.tolist(), one.counts.tolist(), strict=True):
            counts[level] = counts.get(level, 0) + count
    return counts


def _share(files: Files, chosen: Callable[[Census], np.ndarray]) -> str:
    """The mean share of pixels of the chosen levels, in words."""
    shares = [one.counts[chosen(one)].sum() / one.counts.sum() for one in files.values()]
    percent = 100 * float(np.mean(shares))
    return f"{percent:.0f} %" if percent >= 1 else f"{percent:.2g} %"


def _ignored(files: Files, void: float | None) -> str:
    if void is None:
        return ""
    return f"; {_name(void)} (void) is ignored, {_share(files, lambda one: one.levels == void)}"


def _and_others(paths: Sequence[Path]) -> str:
    return f" and {len(paths) - 1} more" if len(paths) > 1 else ""


def _transparent_mask(raster: Raster) -> Bool[np.ndarray, "height width"] | None:
    """What is opaque, if transparency has two levels but for edges, and what is opaque one colour; else None."""
    if raster.alpha is None:
        return None
    counts = np.bincount(raster.alpha.ravel(), minlength=256)
    if counts[0] + counts[255] < _SHARE * raster.alpha.size or not counts[0] or not counts[255]:
        return None
    levels = raster.levels[raster.alpha == 255]
    return raster.alpha > 127 if (levels == levels[0]).all() else None


def _labels(raster: Raster) -> tuple[Labels, dict[int, tuple[int, ...]]]:
    """One number a pixel, and the colours that the numbers stand for, where they are of a palette in colour."""
    levels = raster.levels
    if raster.palette is not None:
        used = np.flatnonzero(np.bincount(levels.ravel(), minlength=256))
        palette = raster.palette[used].astype(int)
        if np.abs(palette - palette[:, :1]).max() > 0 and len(used) <= _CLASSES:
            return levels, {int(n): tuple(colour) for n, colour in zip(used, palette.tolist(), strict=True)}
        levels = raster.palette[levels]
    if raster.alpha is not None:
        levels = raster.bytes() if not raster.deep else levels
    if levels.dtype == np.bool_:
        return _as_bytes(levels), {}
    if levels.ndim == 3:
        return _colour_labels(levels), {}
    return (levels.max() - levels if raster.inverted else levels), {}


def _colour_labels(pixels: Shaped[np.ndarray, "height width 3"]) -> Labels:
    """Of grey in colours the grey; of few colours ``colour_label``; else the luminance."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return red
    if pixels.dtype != np.uint8:
        return green
    packed = red.astype(np.int32) << 16 | green.astype(np.int32) << 8 | blue
    if len(np.unique(packed)) > _CLASSES:
        return _luminance_of(pixels)
    return np.where((red == green) & (green == blue), red.astype(np.int32), packed | _COLOUR)


def _luminance_of(pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width"]:
    """ITU-R 601, as pillow rounds it."""
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def _looks(levels: np.ndarray, colours: Mapping[int, tuple[int, ...]]) -> np.ndarray:
    """How bright labels look: colours by their luminance, levels as they are."""
    if not colours and not (levels.dtype == np.int32 and (levels >= _COLOUR).any()):
        return levels
    shown = [colours.get(int(level)) or _colour_of(int(level)) for level in levels]
    return _luminance_of(np.array([shown], np.uint8))[0]


def colour_label(red: int, green: int, blue: int) -> int:
    """The number of a colour as a label: a grey's is its level, others' are beyond all levels."""
    return red if red == green == blue else _COLOUR | red << 16 | green << 8 | blue


def _colour_of(label: int) -> tuple[int, ...]:
    if label < _COLOUR:
        return (label, label, label)
    return tuple(label >> shift & 255 for shift in (16, 8, 0))


def label_named(text: str) -> int:
    """The label that a user means by a level, such as 1, or a colour, such as #800000; ValueError for neither."""
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return colour_label(*bytes.fromhex(text[1:]))
    raise ValueError(f"{text!r} is no level: expected a number, such as 1, or a colour, such as #800000")


def _name(label: float) -> str:
    return f"{label:g}" if label < _COLOUR else f"#{int(label) - _COLOUR:06x}"


def _listed(levels: Collection[float]) -> str:
    """0, 8 and 255; of many the first, and how many there are."""
    names = [_name(level) for level in sorted(levels)]
    if len(names) > _SHOWN:
        return f"{', '.join(names[:_SHOWN])}, ... ({len(names)} levels)"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if names[1:] else names[0]


def _count(labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    if labels.dtype == np.uint8:
        counts = np.bincount(labels.ravel(), minlength=256)
        return np.flatnonzero(counts), counts[counts > 0]
    finite = labels[np.isfinite(labels)]
    return np.unique(finite, return_counts=True)


def _as_bytes(inside: Bool[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    return np.where(inside, np.uint8(255), np.uint8(0))
