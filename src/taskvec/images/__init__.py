"""Image files of any kind as upright levels, and their resizing.

``files`` says which files are images, ``decoding`` reads one, ``raster`` is what comes out: levels as the file has
them, and how they become RGB bytes.
"""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from taskvec.images.decoding import (
    MAX_PIXELS,
    Header,
    is_deep,
    peek,
    raster_of,
    raster_of_array,
    read_image,
    read_raster,
    read_rgb,
    to_rgb,
)
from taskvec.images.files import FURNITURE, Listing, check_is_image, image_files, listing, walk
from taskvec.images.raster import Range, Raster, in_colour

__all__ = [
    "FURNITURE",
    "MAX_PIXELS",
    "Header",
    "Listing",
    "Range",
    "Raster",
    "check_is_image",
    "image_files",
    "in_colour",
    "is_deep",
    "listing",
    "peek",
    "raster_of",
    "raster_of_array",
    "read_image",
    "read_raster",
    "read_rgb",
    "resize",
    "to_rgb",
    "walk",
]


def resize(image: UInt8[np.ndarray, "height width *channels"], size: int) -> UInt8[np.ndarray, "size size *channels"]:
    """Bicubic resize to a square, as the official code does it (PIL on bytes); the aspect ratio is not kept."""
    if image.shape[:2] == (size, size):
        return image
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
