"""DICOM files, by pydicom: levels after rescaling, and what the file's own window shows of them."""

from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from taskvec.extras import install

if TYPE_CHECKING:
    from pydicom import Dataset

ENDINGS = (".dcm", ".dicom", ".dic", ".ima")
HOW = f"it is DICOM: {install('medical')}"
SIGNED = 132  # bytes that tell: a preamble of 128 and a word


def installed() -> bool:
    return find_spec("pydicom") is not None


def is_dicom(content: bytes) -> bool:
    return content[128:SIGNED] == b"DICM"


@dataclass(frozen=True)
class Slice:
    """levels: [height, width] after rescaling (CT: Hounsfield units), or RGB bytes. shown: as the window has it."""

    levels: np.ndarray
    shown: UInt8[np.ndarray, "height width"] | None
    inverted: bool


def open_dicom(content: bytes, *, pixels: bool = True) -> "Dataset":
    """The data set, checked to be one image; ValueError where it is not, or pydicom is not installed."""
    if not installed():
        raise ValueError(HOW)
    import pydicom  # noqa: PLC0415 an optional package

    data = pydicom.dcmread(BytesIO(content), force=True, stop_before_pixels=not pixels)
    if "Rows" not in data or "Columns" not in data:
        raise ValueError(f"it is DICOM without an image ({data.get('Modality', 'of no modality')})")
    frames = int(data.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        raise ValueError(f"it holds {frames} frames, expected one: save each as a file, such as .npy")
    return data


def decode(content: bytes) -> Slice:
    """One image as pydicom gives it: the modality's rescaling, the first window or VOI table, MONOCHROME1 inverted."""
    data = open_dicom(content)
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut  # noqa: PLC0415 an optional package
    from pydicom.pixels.utils import pixel_array  # noqa: PLC0415

    stored = pixel_array(data)
    if stored.ndim == 3:
        levels = stored if stored.dtype == np.uint8 else stored >> max(0, int(data.BitsStored) - 8)
        return Slice(np.ascontiguousarray(levels, np.uint8), None, False)
    levels, inverted = apply_modality_lut(stored, data), data.get("PhotometricInterpretation") == "MONOCHROME1"
    shown = None
    if "WindowCenter" in data or "VOILUTSequence" in data:
        windowed = np.asarray(apply_voi_lut(levels, data), np.float64)
        low, high = _ends(data)
        shown = np.round(np.clip((windowed - low) / (high - low), 0, 1) * 255).astype(np.uint8)
        shown = 255 - shown if inverted else shown
    kinds = {np.dtype(np.float64): np.float32, np.dtype(np.int64): np.int32}
    levels = np.ascontiguousarray(levels, kinds.get(levels.dtype, levels.dtype))
    if levels.dtype == np.uint8 and int(data.BitsStored) < 8:
        levels = levels.astype(np.uint16)  # whose range is not that of a byte
    if levels.dtype == np.uint8 and inverted:
        levels, inverted = 255 - levels, False
    return Slice(levels, shown, inverted)


def _ends(data: "Dataset") -> tuple[float, float]:
    """What apply_voi_lut gives for black and white: the ends of what can be stored, rescaled (PS3.3 C.11.2.1.2)."""
    if "VOILUTSequence" in data:
        bits = int(data.VOILUTSequence[0].LUTDescriptor[2])
        return 0.0, float(2**bits - 1)
    if "ModalityLUTSequence" in data:
        return 0.0, float(2 ** int(data.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    bits, signed = int(data.BitsStored), bool(data.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope, intercept = float(data.get("RescaleSlope", 1) or 1), float(data.get("RescaleIntercept", 0) or 0)
    return low * slope + intercept, high * slope + intercept
