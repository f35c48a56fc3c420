"""Colours as sRGB, whatever profile a file says that they are in."""

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green, blue, 0..1
_NEAR = 2  # levels by which a profile may differ from sRGB and be sRGB all the same
_SRGB_GAMMA = 0.45455


@dataclass(frozen=True)
class Profile:
    """An ICC profile, or a PNG's gamma: samples are the light to the power of ``gamma``."""

    icc: bytes | None = None
    gamma: float | None = None


def profile_of(image: Image.Image) -> Profile | None:
    """The profile of a pillow image's colours, None for sRGB, for none, and for one that cannot be read."""
    icc = image.info.get("icc_profile")
    if icc:
        modes = ("L", "RGB") if image.mode in ("L", "LA", "1") else ("RGB",)
        return Profile(icc) if any(_transform(icc, mode) for mode in modes) else None
    gamma = image.info.get("gamma")
    if gamma and "srgb" not in image.info and abs(gamma - _SRGB_GAMMA) > 0.01 and image.format == "PNG":
        return Profile(gamma=float(gamma))
    return None


def to_srgb(
    pixels: UInt8[np.ndarray, "height width *channels"], profile: Profile
) -> UInt8[np.ndarray, "height width *channels"]:
    """Levels, grey or RGB, as sRGB has them."""
    if profile.icc is None:
        return _gamma_table(profile.gamma or _SRGB_GAMMA)[pixels]
    if pixels.ndim == 2:
        return _grey_table(profile.icc)[pixels]
    transform = _transform(profile.icc, "RGB")
    converted = None if transform is None else ImageCms.applyTransform(Image.fromarray(pixels), transform)
    return pixels if converted is None else np.asarray(converted)


@lru_cache(maxsize=32)
def _grey_table(icc: bytes) -> UInt8[np.ndarray, "256"]:
    """Of a grey profile, or one of colours that a grey image has."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    for mode in ("L", "RGB"):
        transform = _transform(icc, mode)
        converted = None if transform is None else ImageCms.applyTransform(ramp.convert(mode), transform)
        if converted is not None:
            return np.asarray(converted)[0, :, 1]
    return np.asarray(ramp)[0]


def cmyk_to_srgb(image: Image.Image) -> Image.Image:
    """By its profile where it has one, else as pillow converts inks."""
    icc = image.info.get("icc_profile")
    transform = _transform(icc, "CMYK") if icc else None
    converted = None if transform is None else ImageCms.applyTransform(image, transform)
    return image.convert("RGB") if converted is None else converted


@lru_cache(maxsize=32)
def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """To sRGB, from a profile of images of this mode; None where it is as good as sRGB, or no such profile."""
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            # exact where it is a table, which by default has steps of many levels near black
            flags=ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    probe = _probe(mode)
    converted = ImageCms.applyTransform(probe, transform)
    if converted is None:
        return None
    change = np.abs(np.asarray(converted).astype(int) - np.asarray(probe.convert("RGB")))
    return transform if change.max() > _NEAR or mode == "CMYK" else None


def _probe(mode: str) -> Image.Image:
    """Colours, or greys, from dark to light."""
    steps = np.arange(0, 256, 17, dtype=np.uint8)
    if mode == "L":
        return Image.fromarray(steps[None])
    cube = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(64, 64, 3)
    return Image.fromarray(cube).convert(mode)


@lru_cache(maxsize=32)
def _gamma_table(gamma: float) -> UInt8[np.ndarray, "256"]:
    light = (np.arange(256) / 255) ** (1 / gamma)
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)
