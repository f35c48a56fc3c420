"""HEIC and HEIF, a phone's photographs, where pillow-heif is installed."""

from importlib.util import find_spec
from io import BytesIO

from PIL import Image

ENDINGS = (".heic", ".heif", ".hif")
HOW = "it is HEIC: pip install pillow-heif, or convert it, such as heif-convert FILE NAME.jpg"


def installed() -> bool:
    return find_spec("pillow_heif") is not None


def is_heif(content: bytes) -> bool:
    """By the brand of the file; AVIF, whose container is the same, is pillow's own."""
    return content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1")


def open_heif(content: bytes) -> Image.Image:
    """The primary image, upright; ValueError where pillow-heif is not installed."""
    if not installed():
        raise ValueError(HOW)
    from pillow_heif.as_plugin import HeifImageFile  # noqa: PLC0415 an optional package

    return HeifImageFile(BytesIO(content))
