"""One file's image, upright, with the levels that it has: by pillow, pydicom, pillow-heif or numpy."""

import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from taskvec.choices import MAX_PIXELS
from taskvec.files import check_regular, read_bytes
from taskvec.images import dicom, heif
from taskvec.images.colour import cmyk_to_srgb, profile_of
from taskvec.images.files import formats
from taskvec.images.raster import Range, Raster

_LARGE = 25_000_000  # pixels: beyond, images are decoded one at a time, and reduced where that is allowed
_REDUCED_SIDE = 2048  # of the shorter side, at least, of what is left
ONE_AT_A_TIME: AbstractContextManager[Any] = Lock()  # of a process, or of several where one is shared
_ORIENTATION, _PHOTOMETRIC, _BITS, _SAMPLE_FORMAT, _PLANAR = 0x0112, 262, 258, 339, 284
_REDUCED, _SIGNED = 254, 2
_JPEG, _PNG, _PNG_BITS = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", 24  # where a PNG has the bits of a channel
_NUMPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HDR = {16: "PQ", 18: "HLG"}  # transfer characteristics (ITU-T H.273)
_FITS_BLOCK = 2880  # bytes, of which headers and pixels fill whole ones
_FITS_NUMBERS = {b"16": (">i2", "i2"), b"32": (">i4", "i4"), b"-32": (">f4", "f4"), b"-64": (">f8", "f4")}
_MANY = 16  # levels of transparency that no edge needs


@dataclass(frozen=True)
class Header:
    """What a file's first bytes say: the upright size, the EXIF orientation (1 for upright), and whether it is deep.

    windowed: whether a deep file says itself how it is to be shown. remark: what makes the file unusual, in words, None
    for nothing.
    """

    width: int
    height: int
    orientation: int
    deep: bool
    remark: str | None = None
    windowed: bool = False

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height of the pixels as they are stored."""
        return (self.height, self.width) if self.orientation in (5, 6, 7, 8) else (self.width, self.height)


def peek(path: Path) -> Header:
    """The header of a file, without its pixels where that can be; ValueError where it is no image that is read."""
    with _sentences(path):
        start = _start(path)
        if start.startswith(_NUMPY):
            levels = np.load(path, mmap_mode="r", allow_pickle=False)
            _check_array(levels)
            return Header(levels.shape[1], levels.shape[0], 1, levels.dtype not in (np.uint8, np.bool_))
        if dicom.is_dicom(start) or _is_bare_dicom(path, start):
            raster = read_raster(path)  # whether it is deep depends on its windows and tables
            return Header(raster.shape[1], raster.shape[0], 1, raster.deep, windowed=raster.shown is not None)
        with heif.open_heif(read_bytes(path)) if heif.is_heif(start) else Image.open(path, formats=formats()) as image:
            width, height = image.size
            orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)  # PNG's own reads all pixels
            if orientation in (5, 6, 7, 8) and image.format != "TIFF":  # whose size is the upright one
                width, height = height, width
            deep = image.mode in ("F", "I") or image.mode.startswith("I;")
            deep = deep or _is_deep_colour(image) or _is_signed_byte(image)
            return Header(width, height, orientation if orientation in range(1, 9) else 1, deep, _remark(image))


def is_deep(path: Path, content: bytes | None = None) -> bool:
    """Whether an image's levels have another range than 0 to 255, as ``peek`` tells, most by their first bytes; False
    for what cannot be read. ``content`` is what the file holds, if it was read before.
    """
    with suppress(ValueError, OSError):
        start = _start(path) if content is None else content[:256]
        if start.startswith(_JPEG) or (start.startswith(_PNG) and start[_PNG_BITS : _PNG_BITS + 1] < b"\x10"):
            return False
        return peek(path).deep if content is None else read_raster(path, content, reduce=True).deep
    return False


def _start(path: Path) -> bytes:
    check_regular(path)
    with path.open("rb") as file:
        return file.read(256)


def _remark(image: Image.Image) -> str | None:
    if image.format == "TIFF" and image.mode == "1" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
        return "is a TIFF of one bit that says 1 is black, as tifffile writes arrays of True and False"
    return None


def read_raster(
    path: Path, content: bytes | None = None, *, max_pixels: int = MAX_PIXELS, reduce: bool = False
) -> Raster:
    """The image in a file of one (or in its ``content``, read before), upright as its EXIF data say.

    ``reduce`` allows that an image of more than 25 million pixels comes smaller, as its average. Raises ValueError
    where it cannot be read as one whole image, or has more than ``max_pixels``.
    """
    data = read_bytes(path) if content is None else content
    with _sentences(path):
        if data.startswith(_NUMPY):
            levels = np.load(BytesIO(data), allow_pickle=False)
            return raster_of_array(levels)
        if dicom.is_dicom(data) or _is_bare_dicom(path, data):
            plane = dicom.decode(data)
            return Raster(plane.levels, shown=plane.shown, inverted=plane.inverted)
        # from memory: pillow would map a plain TIFF from the file with the width and height of its turned state
        with _open(data) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                raise ValueError(
                    f"it has {image.width} x {image.height} pixels, expected {max_pixels / 1e6:g} million at most "
                    "(--max-pixels)"
                )
            _check_frames(image)
            _check_kind(image, data)
            if pixels <= _LARGE:
                return _decode(image, data)
            with ONE_AT_A_TIME:
                return _decode(image, data, _factor(image.size) if reduce else 1)


def raster_of(image: Image.Image) -> Raster:
    """An image of pillow's, upright as its EXIF data say."""
    return _decode(image, b"")


def read_image(path: Path, content: bytes | None = None) -> Image.Image:
    """As ``read_raster``, the image as pillow has it, of its own mode."""
    data = read_bytes(path) if content is None else content
    with _sentences(path), _open(data) as image:
        _check_frames(image)
        _check_kind(image, data)
        return ImageOps.exif_transpose(image)


def read_rgb(path: Path, content: bytes | None = None) -> Image.Image:
    """As ``read_raster``, in RGB bytes; ValueError also for levels whose range is not known."""
    raster = read_raster(path, content)
    with _sentences(path):
        return Image.fromarray(raster.rgb())


def to_rgb(image: Image.Image, levels: Range | None = None) -> Image.Image:
    """An image of any kind as RGB bytes, upright, in sRGB, transparency laid on white; ``levels`` of deep ones is the
    range that becomes 0 to 255. Raises ValueError where that is needed and not given.
    """
    return Image.fromarray(raster_of(image).rgb(levels))


@contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """Whatever goes wrong is a ValueError that names the file, but for what the file system says."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} cannot be read as an image: {_unknown(path)}") from error
    except MemoryError as error:
        raise ValueError(f"{path} cannot be read as an image: there is not enough memory for it") from error
    except Exception as error:  # pillow's plugins raise anything for damaged data
        if isinstance(error, OSError) and error.errno:
            raise
        raise ValueError(f"{path} cannot be read as an image: {error or type(error).__name__}") from error


def _unknown(path: Path) -> str:
    """Why pillow knows nothing of a file's content."""
    start = b""
    with suppress(OSError), path.open("rb") as file:
        start = file.read(64)
    if start.startswith(_TIFF):
        return (
            "its TIFF is of a kind that is not read (such as float64, or float in colour): save it as .npy, such as "
            "numpy.save(NAME, tifffile.imread(FILE))"
        )
    if start.startswith(b"\x1f\x8b"):
        return "it is compressed by gzip: unpack it"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS: git lfs pull"
    return "its content is of no known format"


def _open(data: bytes) -> Image.Image:
    if heif.is_heif(data):
        return heif.open_heif(data)
    return Image.open(BytesIO(data), formats=formats())


def _is_bare_dicom(path: Path, content: bytes) -> bool:
    """Of the days before the preamble: known by the ending, and a first element of a low group."""
    return path.suffix.lower() in dicom.ENDINGS and content[:1] in (b"\x02", b"\x08") and content[1:2] == b"\0"


def _check_frames(image: Image.Image) -> None:
    """Leaves the image at its only frame; ValueError where there are several. Reduced copies of a page do not count."""
    # a phone's MPO file is one photograph with a preview, and a PSD's frames are its layers; HEIF shows the primary
    frames = 1 if image.format in ("MPO", "PSD", "HEIF") else getattr(image, "n_frames", 1)
    if frames == 1:
        return
    whole = list(range(frames))
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        whole = []
        for frame in range(frames):
            image.seek(frame)
            if not image.tag_v2.get(_REDUCED, 0) & 0b101:  # a reduced copy or a mask of transparency
                whole.append(frame)
        image.seek(whole[0] if whole else 0)
    if len(whole) != 1:
        raise ValueError(f"it holds {frames} images, expected one")


def _check_kind(image: Image.Image, data: bytes) -> None:
    """ValueError for what pillow would read as something else."""
    transfer = _transfer(image.format, data)
    if transfer in _HDR:
        raise ValueError(
            f"it is of high dynamic range ({_HDR[transfer]}), whose levels are no sRGB: export it as a standard image"
        )
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        raise ValueError(
            "it is a CMYK JPEG without Adobe's marker, so whether its inks are inverted is not said: save it in RGB"
        )
    if isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PLANAR) == 2:
        bits = image.tag_v2.get(_BITS, (8,))
        if max(bits) > 8:
            raise ValueError(
                f"it holds planes of {max(bits)} bits one after the other, which pillow misreads: save it with the "
                "channels of a pixel together (planarconfig contig)"
            )
    if image.format == "JPEG2000" and image.mode in ("RGB", "RGBA") and _jpeg_2000_bits(data) > 8:
        raise ValueError("it is a JPEG 2000 in colour of more than 8 bits, of which pillow keeps 8: save it as .tiff")


def _transfer(kind: str | None, data: bytes) -> int:
    """The transfer characteristics that a container names, 0 for none (ISO/IEC 23008-12 and PNG's cICP)."""
    if kind in ("AVIF", "HEIF"):
        at = data.find(b"colrnclx")
        return struct.unpack_from(">H", data, at + 10)[0] if 0 <= at <= len(data) - 12 else 0
    if kind == "PNG":
        at = data.find(b"cICP", 0, data.find(b"IDAT"))
        return data[at + 5] if 0 <= at < len(data) - 5 else 0
    return 0


def _jpeg_2000_bits(data: bytes) -> int:
    """Of the first component (SIZ marker, ISO/IEC 15444-1 A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51")
    return (data[at + 42] & 0x7F) + 1 if 0 <= at < len(data) - 42 else 8


def _factor(size: tuple[int, int]) -> int:
    return max(1, min(size) // _REDUCED_SIDE)


def _decode(image: Image.Image, data: bytes, factor: int = 1) -> Raster:
    in_deep_colour = _is_deep_colour(image)  # which is forgotten once pixels are read
    orientation = _orientation(image)
    orientation = orientation if orientation in range(2, 9) else 1
    if factor > 1:
        crosswise = orientation in (5, 6, 7, 8) and image.format != "TIFF"  # whose size is the upright one
        whole = (image.height, image.width) if crosswise else image.size
        if image.format in ("JPEG", "MPO"):
            image.draft(image.mode, (image.width // factor, image.height // factor))
            factor = _factor(image.size)
        return replace(_turned(image, data, orientation, factor, in_deep_colour=in_deep_colour), whole=whole)
    return _turned(image, data, orientation, factor, in_deep_colour=in_deep_colour)


def _turned(image: Image.Image, data: bytes, orientation: int, factor: int, *, in_deep_colour: bool) -> Raster:
    upright: Any = ImageOps.exif_transpose(image)
    if factor > 1 and not upright.mode.startswith(("I", "F")):
        if upright.mode in ("1", "P", "PA"):  # whose numbers have no average
            upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        upright = upright.reduce(factor)
    deep = _deep_colours(data) if in_deep_colour and data else _deep_levels(image, upright, data)
    if deep is not None:
        if factor > 1:
            deep = _mean_of_blocks(deep, factor)
        alpha = _deep_alpha(image, upright, data, deep)
        if deep.ndim == 3 and deep.shape[2] == 4:
            deep = deep[..., :3]
        levels = np.ascontiguousarray(deep)
        return Raster(levels, _check_alpha(alpha), inverted=_is_white_zero(image), orientation=orientation)
    alpha = _alpha(upright)
    profile = profile_of(image)
    if upright.mode == "CMYK":
        return Raster(np.asarray(cmyk_to_srgb(upright)), orientation=orientation)
    if upright.mode in ("P", "PA"):
        colours = np.frombuffer(bytes(upright.getpalette("RGB") or ()), np.uint8).reshape(-1, 3)
        levels = np.asarray(upright if upright.mode == "P" else upright.getchannel("P"))
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(colours)] = colours[:256]
        return Raster(levels, alpha, palette, orientation=orientation, profile=profile)
    if upright.mode in ("1", "L"):
        levels = np.asarray(upright)
    elif upright.mode in ("LA", "La"):
        levels = np.asarray(upright.convert("LA").getchannel("L"))
    elif upright.mode in ("RGBA", "RGBa"):
        levels = np.asarray(upright.convert("RGBA"))[..., :3].copy()
    else:
        levels = np.asarray(upright.convert("RGB"))
    return Raster(levels, alpha, orientation=orientation, profile=profile)


def _mean_of_blocks(levels: np.ndarray, side: int) -> np.ndarray:
    """Means of squares of pixels, without a copy of the whole in another type."""
    height, width = (length // side * side for length in levels.shape[:2])
    total = np.zeros((height // side, width // side, *levels.shape[2:]))
    for row in range(side):
        for column in range(side):
            total += levels[row:height:side, column:width:side]
    mean = total / side**2
    return (mean if levels.dtype.kind == "f" else np.round(mean)).astype(levels.dtype)


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # damaged EXIF data say nothing
        return image.getexif().get(_ORIENTATION, 1)
    return 1


def _is_white_zero(image: Image.Image) -> bool:
    return image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether pillow keeps the higher byte alone of 16-bit colours."""
    return (
        isinstance(image, ImageFile.ImageFile)
        and bool(image.tile)
        and (";16" in _raw_mode(image) or _maximum_of_ppm(image) > 255)
    )


def _is_signed_byte(image: Image.Image) -> bool:
    """Whether pillow takes -128 to 127 for 0 to 255."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" and image.mode == "L" else {}
    return tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED and tags.get(_BITS, (8,))[0] == 8


def _raw_mode(image: ImageFile.ImageFile) -> str:
    arguments: Any = image.tile[0][3]
    first = arguments if isinstance(arguments, str) else arguments[0] if arguments else ""
    return first if isinstance(first, str) and not image.mode.startswith("I") else ""


def _maximum_of_ppm(image: ImageFile.ImageFile) -> int:
    codec, _, _, arguments = image.tile[0]
    return int(arguments[1]) if codec == "ppm" and isinstance(arguments, tuple) and image.mode == "RGB" else 0


def _deep_levels(image: Image.Image, upright: Image.Image, data: bytes) -> np.ndarray | None:
    """Grey levels of other than 8 bits, upright; None where it has none."""
    if _is_signed_byte(image):
        return np.asarray(upright).view(np.int8).astype(np.int16)
    if upright.mode == "F":
        levels = np.asarray(upright)
    elif upright.mode.startswith("I;16"):
        levels = np.asarray(upright).astype(np.uint16)
    elif upright.mode == "I":
        levels = np.asarray(upright)
        tags = getattr(image, "tag_v2", {})
        if image.format == "TIFF" and tags.get(_SAMPLE_FORMAT, (1,))[0] == 1 and tags.get(_BITS, (0,))[0] == 32:
            levels = levels.view(np.uint32)
        elif levels.size and levels.min() >= 0 and levels.max() < 65536:
            levels = levels.astype(np.uint16)
    else:
        return None
    return _fits_levels(data, image.height, image.width) if image.format == "FITS" and data else levels


def _deep_colours(data: bytes) -> np.ndarray | None:
    """uint16 [height, width, 3 or 4] of a file of 16-bit colours: pillow keeps one byte of two, by the order of bytes
    that it is told, so that two readings have both.
    """
    with Image.open(BytesIO(data), formats=formats()) as image:
        if not isinstance(image, ImageFile.ImageFile):
            return None
        _check_frames(image)
        if _maximum_of_ppm(image):
            tile: Any = image.tile[0]
            pixels = np.frombuffer(data, ">u2", image.width * image.height * 3, tile[2])
            return pixels.reshape(image.height, image.width, 3).astype(np.uint16)
        if _raw_mode(image) == "LA;16B":
            image.tile = [(*tile[:3], "RGBA") for tile in image.tile]  # pyright: ignore[reportAttributeAccessIssue]
            high_low = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)
            grey, alpha = (high_low[..., k] * np.uint16(256) + high_low[..., k + 1] for k in (0, 2))
            return np.stack([grey, grey, grey, alpha], -1)
        swapped: Any = []
        for tile in image.tile:
            parts: Any = tile
            codec, extents, offset, arguments = parts
            mode = arguments if isinstance(arguments, str) else arguments[0]
            other = mode[:-1] + ("B" if mode[-1] in "LN" else "L")
            swapped.append(
                type(tile)(codec, extents, offset, other if isinstance(arguments, str) else (other, *arguments[1:]))
            )
        high = np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16)
    with Image.open(BytesIO(data), formats=formats()) as image:
        _check_frames(image)
        image.tile = swapped
        return high * np.uint16(256) + np.asarray(ImageOps.exif_transpose(image))


def _deep_alpha(image: Image.Image, upright: Image.Image, data: bytes, levels: np.ndarray) -> np.ndarray | None:
    if levels.ndim == 3:
        return (levels[..., 3] >> 8).astype(np.uint8) if levels.shape[2] == 4 else None
    transparent = image.info.get("transparency")
    if isinstance(transparent, int) and image.format == "PNG":
        return np.where(levels == transparent, np.uint8(0), np.uint8(255))
    return None


def _alpha(image: Image.Image) -> np.ndarray | None:
    if image.mode in ("LA", "RGBA", "PA"):
        alpha = np.asarray(image.getchannel("A"))
    elif image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    else:
        return None
    return _check_alpha(alpha)


def _check_alpha(alpha: np.ndarray | None) -> np.ndarray | None:
    """None where all is opaque, or nothing, which is how a channel without a meaning is written.

    Raises ValueError for what has the levels of an image, such as near infrared beside three colours.
    """
    if alpha is None or alpha.min() == 255 or alpha.max() == 0:
        return None
    counts = np.bincount(alpha.ravel(), minlength=256)
    between = counts[1:255]
    if between.sum() > alpha.size / 2 and (between > 0).sum() > _MANY:
        raise ValueError(
            f"its fourth channel is marked as transparency and has {(counts > 0).sum()} levels, such as near infrared "
            "has: save the three colours alone"
        )
    return alpha


def _fits_levels(data: bytes, height: int, width: int) -> np.ndarray:
    """With the header's offset and factor (FITS standard 4.0, 4.4.2.5), from the file's own bytes: pillow before 13
    takes them in the wrong order.
    """
    cards, start = _fits_header(data, 0)
    if cards.get(b"NAXIS") == b"0":  # what is shown is in the first extension
        cards, start = _fits_header(data, start)
    numbers = _FITS_NUMBERS.get(cards.get(b"BITPIX", b""))
    if b"ZIMAGE" in cards or cards.get(b"NAXIS") != b"2" or numbers is None:
        raise ValueError("its FITS is compressed or of several planes: save the plane as .npy, by astropy")
    stored, native = numbers
    levels = np.frombuffer(data, stored, height * width, start).reshape(height, width)[::-1].astype(native)
    offset, factor = float(cards.get(b"BZERO", 0)), float(cards.get(b"BSCALE", 1))
    if (offset, factor) == (0.0, 1.0):
        return levels
    scaled = levels.astype(np.float64) * factor + offset
    whole = offset.is_integer() and factor.is_integer() and scaled.min() >= 0 and scaled.max() < 65536
    return scaled.astype(np.uint16 if whole else np.float32)


def _fits_header(data: bytes, begin: int) -> tuple[dict[bytes, bytes], int]:
    """Its cards from there on, and where what it is of begins."""
    cards = {}
    for start in range(begin, min(len(data), begin + _FITS_BLOCK * 100), 80):
        card = data[start : start + 80]
        if card.startswith(b"END     "):
            begin = start // _FITS_BLOCK * _FITS_BLOCK + _FITS_BLOCK
            break
        if card[8:10] == b"= ":
            cards[card[:8].strip()] = card[10:].split(b"/")[0].strip()
    return cards, begin


def _check_array(levels: np.ndarray) -> None:
    if (levels.ndim != 2 and not (levels.ndim == 3 and levels.shape[2] in (1, 3, 4))) or not levels.size:
        raise ValueError(
            f"its array has shape {levels.shape}, expected [height, width], or [height, width, channels] with 3 or 4"
        )
    if levels.dtype.kind not in "buif":
        raise ValueError(f"its array is of {levels.dtype}, expected numbers")


def raster_of_array(levels: np.ndarray) -> Raster:
    """Of levels [height, width], or [height, width, channels] with 1, 3 or 4: bytes and bools are what they are, all
    else is deep. ValueError for other shapes, and for what are no numbers.
    """
    _check_array(levels)
    alpha = None
    if levels.ndim == 3:
        if levels.shape[2] == 4:
            alpha = levels[..., 3]
            if alpha.dtype != np.uint8:
                raise ValueError(f"its fourth channel is of {alpha.dtype}: expected bytes, or three channels")
        levels = levels[..., 0] if levels.shape[2] == 1 else levels[..., :3]
    if levels.dtype == np.bool_ and levels.ndim == 3:
        levels = levels.astype(np.uint8) * np.uint8(255)
    return Raster(np.ascontiguousarray(levels.astype(levels.dtype.newbyteorder("="))), _check_alpha(alpha))
