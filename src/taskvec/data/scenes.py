"""Procedural scenes: one textured object on a textured background, with its mask.

They stand in for Pascal-5i where no photographs may be shipped: twelve shape classes in four folds of three, exact
masks, any resolution, and colours that follow (mostly) from grey level, texture and shape, so that colorization can
be learnt. Luminance is drawn first and chroma of zero luminance is added, hence the grey image of a scene is its
luminance, up to rounding.
"""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from taskvec.choices import FOLDS
from taskvec.data.examples import Examples

CLASSES = (
    "disk",
    "square",
    "triangle",
    "star",
    "ring",
    "cross",
    "crescent",
    "hexagon",
    "heart",
    "arrow",
    "bar",
    "drop",
)
SPLITS = ("train", "validation", "test", "final")  # the number of a split is in its random stream: add at the end

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_BLOCK = 512  # scenes drawn from one random stream; fixed, so that scene i does not depend on how many are asked for
_TEXTURES = 4

Field = Float[np.ndarray, "n height width"]
PerScene = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Scenes:
    """The scenes of one split: scene ``i`` is a function of (split, seed, fold, i) alone, drawn when it is asked for.

    Models are trained on ``train``, task vectors found on ``validation``, and what is developed is tried on ``test``.
    Published results are on ``final``, on which nothing is ever chosen: no settings, checkpoints or margins.
    ``fold`` 0..3 keeps the three classes of that fold; None keeps all twelve. Classes alternate with the index, so each
    is equally frequent. Raises ValueError for an unknown split or fold.
    """

    split: str = "train"
    fold: int | None = None
    seed: int = 0
    count: int = 49152

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"scenes have no split {self.split!r}: expected one of {', '.join(SPLITS)}")
        if self.fold is not None and self.fold not in range(FOLDS):
            raise ValueError(f"scenes have no fold {self.fold}: expected 0 to {FOLDS - 1}")

    def __len__(self) -> int:
        return self.count

    @property
    def classes(self) -> Int[np.ndarray, " classes"]:
        every = np.arange(len(CLASSES))
        return every if self.fold is None else every.reshape(FOLDS, -1)[self.fold]

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        return self.classes[np.asarray(indices) % len(self.classes)]

    @property
    def own_task(self) -> None:
        return None

    @property
    def wording(self) -> None:
        return None

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [
            f"{self.split}/{self.seed}/{index}_{CLASSES[c]}"
            for index, c in zip(np.asarray(indices).tolist(), self.class_of(indices).tolist(), strict=True)
        ]

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        """Their names, of which a scene is a function."""
        return self.names(indices)

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self.images_of(indices)

    def remarks(self) -> list[str]:
        return []

    def describe(self) -> dict[str, object]:
        return {"data": "scenes", **asdict(self)}

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        """Scenes ``indices`` rendered at ``size`` x ``size`` pixels."""
        indices = np.asarray(indices, np.int64)
        classes = self.class_of(indices)
        images = np.empty((len(indices), size, size, 3), np.uint8)
        masks = np.empty((len(indices), size, size), np.uint8)
        for block in np.unique(indices // _BLOCK):
            rows = np.flatnonzero(indices // _BLOCK == block)
            layout = _draw_layout(np.random.default_rng([SPLITS.index(self.split), self.seed, int(block)]))
            chosen = {name: values[indices[rows] % _BLOCK] for name, values in layout.items()}
            images[rows], masks[rows] = _render(classes[rows], chosen, size)
        return Examples(images, masks, classes, indices)


def _draw_layout(random: np.random.Generator) -> dict[str, PerScene]:
    """Place, levels and textures of one block of scenes. Lengths are in half image sides, angles in radians."""

    def uniform(low: float, high: float) -> PerScene:
        return random.uniform(low, high, _BLOCK).astype(np.float32)

    ground_level = uniform(0.25, 0.75)
    gap = uniform(0.24, 0.42) * np.where(ground_level > uniform(0.35, 0.65), -1, 1).astype(np.float32)
    layout = {
        "x": uniform(-0.35, 0.35),
        "y": uniform(-0.35, 0.35),
        "radius": uniform(0.55, 0.85),
        "angle": uniform(-0.5, 0.5),
        "ground_level": ground_level,
        "object_level": np.clip(ground_level + gap, 0.08, 0.92),
    }
    for part in ("object", "ground"):
        layout[f"{part}_texture"] = random.integers(0, _TEXTURES, _BLOCK).astype(np.float32)
        layout[f"{part}_period"] = uniform(0.7, 1.0)
        layout[f"{part}_angle"] = uniform(0, np.pi)
        layout[f"{part}_phase"] = uniform(0, 2 * np.pi)
        layout[f"{part}_contrast"] = uniform(0.05, 0.13)
        layout[f"{part}_chroma"] = uniform(0.85, 1.0)
    return layout


def _render(
    classes: Int[np.ndarray, " n"], layout: dict[str, PerScene], size: int
) -> tuple[UInt8[np.ndarray, "n size size 3"], UInt8[np.ndarray, "n size size"]]:
    each = {name: values[:, None, None] for name, values in layout.items()}
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1)[None]
    x, y = np.broadcast_arrays(axis[:, None, :], axis[:, :, None])

    # the object's own frame: its centre at the origin, its radius 1
    shift_x, shift_y = (x - each["x"]) / each["radius"], (y - each["y"]) / each["radius"]
    u, v = _rotate(shift_x, shift_y, each["angle"])
    distance = np.empty((len(classes), size, size), np.float32)
    for shape in np.unique(classes):
        rows = classes == shape
        distance[rows] = _SHAPES[shape](u[rows], v[rows])
    pixel = 2 / size / each["radius"]
    coverage = np.clip(0.5 - distance / pixel, 0, 1)[..., None]

    ground = _paint(x, y, {name: each[f"ground_{name}"] for name in _PAINT}, _COOL)
    thing = _paint(shift_x * 0.6, shift_y * 0.6, {name: each[f"object_{name}"] for name in _PAINT}, _WARM)
    image = ground + (thing - ground) * coverage
    return np.round(image * 255).astype(np.uint8), np.where(coverage[..., 0] > 0.5, 255, 0).astype(np.uint8)


_PAINT = ("level", "texture", "period", "angle", "phase", "contrast", "chroma")


def _paint(x: Field, y: Field, part: dict[str, np.ndarray], hues: np.ndarray) -> Float[np.ndarray, "n h w 3"]:
    """A texture in grey, then its colour: chroma is set by the texture's kind and shrinks towards black and white."""
    along, across = _rotate(x, y, part["angle"])
    wave = 2 * np.pi / part["period"]
    kind = part["texture"].astype(np.int64)
    pattern = np.select(
        [kind == 0, kind == 1, kind == 2],
        [
            along * 1.2,  # a gradient
            np.clip(3 * np.sin(along * wave + part["phase"]), -1, 1),  # stripes
            np.clip(5 * np.sin(along * wave * 0.7 + part["phase"]) * np.sin(across * wave * 0.7), -1, 1),  # checks
        ],
        np.cos(np.hypot(x, y) * wave + part["phase"]),  # rings
    )
    level = np.clip(part["level"] + part["contrast"] * pattern, 0.02, 0.98)[..., None]
    chroma = hues[kind[:, 0, 0]][:, None, None] * part["chroma"][..., None]
    return np.clip(level + chroma * np.minimum(level, 1 - level) * 2, 0, 1).astype(np.float32)


def _hues(degrees: list[float]) -> Float[np.ndarray, "textures 3"]:
    """Directions in RGB of these hues with zero luminance, as long as the smaller half of the cube allows."""
    angle = np.deg2rad(np.asarray(degrees))[:, None]
    rgb = 0.5 + 0.5 * np.cos(angle - np.deg2rad([0, 120, 240]))
    direction = rgb - rgb @ _LUMA[:, None]
    return (0.5 * direction / np.abs(direction).max(1, keepdims=True)).astype(np.float32)


_WARM = _hues([5, 35, 60, 330])
_COOL = _hues([190, 220, 250, 145])


def _rotate(x: Field, y: Field, angle: np.ndarray) -> tuple[Field, Field]:
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


# Signed distances (negative inside), exact or nearly so at the border; y points down; each fits in the unit disk.


def _polygon(u: Field, v: Field, corners: list[tuple[float, float]]) -> Field:
    """Distance to a simple polygon: to its nearest edge, with the sign of an even-odd crossing count."""
    nearest = np.full(u.shape, np.inf, np.float32)
    inside = np.zeros(u.shape, bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey = bx - ax, by - ay
        t = np.clip(((u - ax) * ex + (v - ay) * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, np.hypot(u - ax - t * ex, v - ay - t * ey))
        if ay != by:
            inside ^= ((ay > v) != (by > v)) & (u < ax + ex * (v - ay) / ey)
    return np.where(inside, -nearest, nearest)


def _regular(points: int, inner: float, start: float = -np.pi / 2) -> list[tuple[float, float]]:
    """Corners of a star with ``points`` points; inner = cos(pi / points) makes it a regular polygon."""
    angles = start + np.arange(2 * points) * np.pi / points
    radii = np.where(np.arange(2 * points) % 2, inner, 1.0)
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for a, r in zip(angles, radii, strict=True)]


_CROSS = [(-0.3, -0.9), (0.3, -0.9), (0.3, -0.3), (0.9, -0.3), (0.9, 0.3), (0.3, 0.3)]
_CROSS += [(0.3, 0.9), (-0.3, 0.9), (-0.3, 0.3), (-0.9, 0.3), (-0.9, -0.3), (-0.3, -0.3)]
_ARROW = [(-0.95, -0.3), (0.1, -0.3), (0.1, -0.75), (0.95, 0), (0.1, 0.75), (0.1, 0.3), (-0.95, 0.3)]


def _heart(u: Field, v: Field) -> Field:
    lobes = np.hypot(np.abs(u) - 0.42, v + 0.25) - 0.5
    return np.minimum(lobes, _polygon(u, v, [(-0.86, 0.0), (-0.42, -0.3), (0.42, -0.3), (0.86, 0.0), (0.0, 0.95)]))


def _drop(u: Field, v: Field) -> Field:
    return np.minimum(np.hypot(u, v - 0.3) - 0.62, _polygon(u, v, [(0.0, -1.0), (0.56, 0.03), (-0.56, 0.03)]))


_SHAPES = {
    CLASSES.index(name): shape
    for name, shape in {
        "disk": lambda u, v: np.hypot(u, v) - 0.85,
        "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.75,
        "triangle": lambda u, v: _polygon(u, v, [(0.0, -0.95), (0.95, 0.75), (-0.95, 0.75)]),
        "star": lambda u, v: _polygon(u, v, _regular(5, 0.45)),
        "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.68) - 0.24,
        "cross": lambda u, v: _polygon(u, v, _CROSS),
        "crescent": lambda u, v: np.maximum(np.hypot(u, v) - 0.95, 0.75 - np.hypot(u - 0.5, v)),
        "hexagon": lambda u, v: _polygon(u, v, _regular(6, float(np.cos(np.pi / 6)))),
        "heart": _heart,
        "arrow": lambda u, v: _polygon(u, v, _ARROW),
        "bar": lambda u, v: np.maximum(np.abs(u) - 0.95, np.abs(v) - 0.38),
        "drop": _drop,
    }.items()
}
