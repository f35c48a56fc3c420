"""Image files of any kind as upright RGB bytes, and their resizing."""

from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from taskvec.files import read_bytes

# what pillow lists but cannot read by itself, and what is no still image
_NO_STILL_IMAGES = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "WMF"}
_FULL_RANGE = 4096  # 16-bit images that stay below are of 12 bits or fewer: to scale them would blacken them


def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.OPEN if name not in _NO_STILL_IMAGES]


def image_files(directory: Path) -> list[Path]:
    """The images of a directory, by name; hidden files are left out.

    Raises ValueError where there is no such directory, nothing in it, or something that is no image by its name.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory} is not a directory, expected a directory of images")
    paths = sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    if not paths:
        raise ValueError(f"{directory} has no files: expected images")
    for path in paths:
        check_is_image(path)
    return paths


def check_is_image(path: Path) -> None:
    """ValueError where a path is no file or its ending is not one of an image that can be read."""
    if path.is_dir():
        raise ValueError(f"{path} is a directory, expected an image")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a device or a pipe, expected an image")
    if Image.registered_extensions().get(path.suffix.lower()) not in _formats():
        raise ValueError(f"{path} is not an image: expected an ending such as .png, .jpg or .tiff")


def read_image(path: Path, content: bytes | None = None) -> Image.Image:
    """The image in a file of one (or in its ``content``, read before), upright as its EXIF data say.

    Raises ValueError where it cannot be read as one whole image.
    """
    # from memory: pillow would map a plain TIFF from the file with the width and height of its turned state
    data = read_bytes(path) if content is None else content
    try:
        with Image.open(BytesIO(data), formats=_formats()) as image:
            # a phone's MPO file is one photograph with a preview, and a PSD's frames are its layers
            frames = 1 if image.format in ("MPO", "PSD") else getattr(image, "n_frames", 1)
            upright = ImageOps.exif_transpose(image) if frames == 1 else None
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} cannot be read as an image: its content is of no known format") from error
    except Exception as error:  # pillow's plugins raise anything for damaged data
        raise ValueError(f"{path} cannot be read as an image: {error or type(error).__name__}") from error
    if upright is None:
        raise ValueError(f"{path} cannot be read as an image: it holds {frames} images, expected one")
    return upright


def read_rgb(path: Path, content: bytes | None = None) -> Image.Image:
    """``read_image`` as RGB bytes; ValueError where it cannot be."""
    image = read_image(path, content)
    try:
        return to_rgb(image)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any kind as RGB bytes: 16-bit levels are scaled down, transparency is laid on white.

    Raises ValueError for levels of unknown range: floating point, more than 16 bits, or 16 bits of which a small part
    is used, as of 12-bit x-rays.
    """
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError(f"it has levels from {levels.min()} to {levels.max()}, expected 0 to 65535 at most")
        if len(np.unique(levels)) == 2:  # a mask, whatever its levels are
            return Image.fromarray(np.where(levels > levels.min(), np.uint8(255), np.uint8(0))).convert("RGB")
        if 0 < levels.max() < _FULL_RANGE:
            raise ValueError(f"its 16-bit levels end at {levels.max()}, expected a range to 65535: scale them first")
        return Image.fromarray((levels // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("it has floating-point levels, whose range is unknown")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def resize(image: UInt8[np.ndarray, "height width *channels"], size: int) -> UInt8[np.ndarray, "size size *channels"]:
    """Bicubic resize to a square, as the official code does it (PIL on bytes); the aspect ratio is not kept."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
