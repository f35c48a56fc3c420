"""Images as people's tools write them, and what the model is given of each, or what is said where it is given none.

    cd tests && python -m data.image_kinds

prints the table of docs/images.md. A kind is a row of it; its cases are made with the tools that people use.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

SIDE = 32
Make = Callable[[Path], None]

_AXIS = np.linspace(0, 1, SIDE)
RAMP = np.add.outer(_AXIS, 2 * _AXIS) / 3  # 0 to 1, of no symmetry
PHOTO = np.stack([255 * RAMP, 255 * RAMP[::-1], 160 + 0 * RAMP], -1).round().astype(np.uint8)
MASK = np.zeros((SIDE, SIDE), bool)
MASK[4:14, 6:26] = True
MASK[14:24, 6:12] = True
NOISE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)


@dataclass(frozen=True)
class Case:
    """Files that ``make`` writes into a directory, and what becomes of them.

    ``sees``: of images alone the RGB bytes [SIDE, SIDE, 3] or grey ones [SIDE, SIDE] that the model is given of the
    first file; of pairs the true mask [SIDE, SIDE] of all outputs. ``ignored``: where these are not to count. ``says``
    is in a remark, ``refuses`` in the error. ``tolerance`` is in levels.
    """

    what: str
    make: Make
    sees: np.ndarray | None = None
    tolerance: int = 0
    refuses: str | None = None
    says: str | None = None
    ignored: np.ndarray | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Tools that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]


@dataclass(frozen=True)
class Kind:
    """A row of the table: what people bring, and what happens, in words."""

    name: str
    happens: str
    cases: list[Case]


# Writers


def by_pillow(name: str, pixels: np.ndarray | Image.Image, **options: Any) -> Make:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return lambda root: image.save(root / name, **options)


def by_opencv(name: str, pixels: np.ndarray) -> Make:
    def make(root: Path) -> None:
        import cv2  # noqa: PLC0415 an optional tool

        order = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
        assert cv2.imwrite(str(root / name), np.ascontiguousarray(order))

    return make


def by_tifffile(name: str, pixels: np.ndarray, **options: Any) -> Make:
    def make(root: Path) -> None:
        import tifffile  # noqa: PLC0415

        tifffile.imwrite(root / name, pixels, **options)

    return make


def by_numpy(name: str, levels: np.ndarray, **options: Any) -> Make:
    return lambda root: np.save(root / name, levels, **options)


def by_heif(name: str, pixels: np.ndarray) -> Make:
    def make(root: Path) -> None:
        import pillow_heif  # noqa: PLC0415

        pillow_heif.from_pillow(Image.fromarray(pixels)).save(root / name, quality=95)

    return make


def content(name: str, data: bytes) -> Make:
    def make(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    return make


def both(*makes: Make) -> Make:
    def make(root: Path) -> None:
        for one in makes:
            one(root)

    return make


def pairs(
    write: Callable[[str], Make], count: int = 2, size: tuple[int, int] = (SIDE, SIDE), places: str = "input output"
) -> Make:
    """``count`` photographs and the output of each, which ``write`` of its name, without an ending, makes."""

    def make(root: Path) -> None:
        first, second = places.split()
        (root / first).mkdir(exist_ok=True)
        (root / second).mkdir(exist_ok=True)
        for index in range(count):
            Image.fromarray(np.roll(PHOTO, index, 0)).resize(size).save(root / first / f"{index}.png")
            write(str(index))(root / second)

    return make


def png(pixels: np.ndarray, colour: int, bits: int = 8, chunks: Mapping[bytes, bytes] | None = None) -> bytes:
    """A PNG with any chunks before its pixels, as other programs write them."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if bits == 16 else np.uint8).tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    extra = b"".join(chunk(name, data) for name, data in (chunks or {}).items())
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def fits(levels: np.ndarray, extension: bool = False, **cards: object) -> bytes:
    """A FITS file of one plane, whose first row is the lowest, in an extension where that is asked for."""
    bits = {"i2": 16, "f4": -32, "u1": 8, "i4": 32}[levels.dtype.str[1:]]
    first = {"XTENSION": "'IMAGE   '"} if extension else {"SIMPLE": "T"}
    sizes = {"BITPIX": bits, "NAXIS": 2, "NAXIS1": levels.shape[1], "NAXIS2": levels.shape[0]}
    data = levels[::-1].astype(levels.dtype.newbyteorder(">")).tobytes()
    before = _fits_header({"SIMPLE": "T", "BITPIX": 8, "NAXIS": 0}) if extension else b""
    return before + _fits_header({**first, **sizes, **cards}) + data.ljust(-(-len(data) // 2880) * 2880, b"\0")


def _fits_header(cards: dict[str, object]) -> bytes:
    text = "".join(f"{name:8}= {value:>20}".ljust(80) for name, value in cards.items()) + "END".ljust(80)
    return text.ljust(-(-len(text) // 2880) * 2880).encode()


SRGB_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
P3_PRIMARIES = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
ADOBE_PRIMARIES = ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446))


def icc(gamma: float, primaries: tuple[tuple[float, ...], ...] | None = SRGB_PRIMARIES) -> bytes:
    """A colour profile (ICC v2) of these primaries (XYZ under D50) and gamma; a grey one without primaries."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"made\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"0\0",
    }
    tags[b"wtpt"] = b"XYZ " + bytes(4) + fixed(0.9642, 1.0, 0.8249)
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        for name, xyz in zip((b"rXYZ", b"gXYZ", b"bXYZ"), primaries, strict=True):
            tags[name] = b"XYZ " + bytes(4) + fixed(*xyz)
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    place, table, body = 132 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        table += name + struct.pack(">II", place + len(body), len(data))
        body += padded
    space = b"GRAY" if primaries is None else b"RGB "
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"lcms", 0x02100000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed(0.9642, 1.0, 0.8249) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def linear_as_srgb(pixels: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """What samples of light to the power of 1 / ``gamma`` are in sRGB (IEC 61966-2-1)."""
    light = (pixels / 255) ** gamma
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)


def between_primaries(pixels: np.ndarray, gamma: float, primaries: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """Pixels of other primaries in sRGB, by matrices."""
    light = (pixels / 255) ** gamma @ np.array(primaries) @ np.linalg.inv(np.array(SRGB_PRIMARIES))
    light = np.clip(light, 0, 1)
    return np.round(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).astype(
        np.uint8
    )


def dicom(
    levels: np.ndarray, *, name: str = "scan.dcm", bits: int = 16, frames: int = 1, pixels: bool = True, **tags: Any
) -> Make:
    def make(root: Path) -> None:
        import pydicom  # noqa: PLC0415
        from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid  # noqa: PLC0415

        data = pydicom.Dataset()
        data.file_meta = pydicom.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid(entropy_srcs=["taskvec"])
        data.Modality = "CT"
        if pixels:
            data.Rows, data.Columns = levels.shape[:2] if frames == 1 else levels.shape[1:3]
            colour = levels.ndim == 3 and frames == 1
            data.SamplesPerPixel = 3 if colour else 1
            data.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
            if colour:
                data.PlanarConfiguration = 0
            data.BitsAllocated, data.BitsStored = 8 * levels.dtype.itemsize, bits
            data.HighBit, data.PixelRepresentation = bits - 1, int(levels.dtype.kind == "i")
            if frames > 1:
                data.NumberOfFrames = frames
            data.PixelData = levels.tobytes()
        for tag, value in tags.items():
            setattr(data, tag, value)
        data.save_as(root / name, enforce_file_format=True)

    return make


# What is expected


def scaled(levels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Bytes of levels by a range."""
    return np.round(255 * np.clip((levels.astype(np.float64) - low) / (high - low), 0, 1)).astype(np.uint8)


def by_percentiles(*files: np.ndarray) -> np.ndarray:
    """Of the first file, by the middle 99 % of the levels of all."""
    low, high = np.percentile(np.concatenate([levels.ravel() for levels in files]), [0.5, 99.5])
    return scaled(files[0], low, high)


def _plain() -> Kind:
    cases = [
        Case(f"{ending} by pillow", by_pillow(f"a.{ending}", PHOTO), PHOTO)
        for ending in ("png", "bmp", "tiff", "tga", "ppm", "pcx", "sgi", "qoi")
    ]
    cases += [
        Case(f"{ending} by pillow", by_pillow(f"a.{ending}", PHOTO, quality=95), PHOTO, 14)
        for ending in ("jpg", "webp", "avif")
    ]
    cases += [
        Case("lossless webp", by_pillow("a.webp", PHOTO, lossless=True), PHOTO),
        Case("jp2", by_pillow("a.jp2", PHOTO), PHOTO),
        Case("tiff, LZW", by_pillow("a.tif", PHOTO, compression="tiff_lzw"), PHOTO),
        Case("grey png", by_pillow("a.png", NOISE), NOISE),
        Case("an upper-case ending", by_pillow("A.PNG", PHOTO), PHOTO),
        Case("grey levels of a palette", by_pillow("a.png", Image.fromarray(NOISE).convert("P")), NOISE),
        Case(
            "planes by tifffile",
            by_tifffile("a.tif", PHOTO.transpose(2, 0, 1).copy(), photometric="rgb"),
            PHOTO,
            needs=("tifffile",),
        ),
        Case(
            "unmarked fourth channel",
            by_tifffile("a.tif", np.dstack([PHOTO, NOISE]), photometric="rgb", extrasamples=[0]),
            PHOTO,
            needs=("tifffile",),
        ),
        Case("bytes by numpy", by_numpy("a.npy", PHOTO), PHOTO),
        Case("grey bytes by numpy", by_numpy("a.npy", NOISE), NOISE),
        Case("one channel by numpy", by_numpy("a.npy", NOISE[..., None]), NOISE),
        Case("columns first by numpy", by_numpy("a.npy", np.asfortranarray(NOISE)), NOISE),
    ]
    cases += [
        Case(f"{ending} by OpenCV", by_opencv(f"a.{ending}", PHOTO), PHOTO, needs=("cv2",))
        for ending in ("png", "bmp", "tiff", "ppm")
    ]
    return Kind("8-bit files of any format that pillow reads, .npy of bytes", "read as they are, 0 to 255", cases)


def _full_range() -> Kind:
    deep = np.round(RAMP * 65535).astype(np.uint16)
    colours = PHOTO.astype(np.uint16) * 257
    seen, said = scaled(deep, 0, 65535), "levels 0 to 65535 of the 1 deep files"
    return Kind(
        "16 bits, the whole range used",
        "0 to 65535 become 0 to 255, and that is said",
        [
            Case("png by pillow", by_pillow("a.png", deep), seen, says=said),
            Case("png by OpenCV", by_opencv("a.png", deep), seen, says=said, needs=("cv2",)),
            Case("tiff by OpenCV", by_opencv("a.tiff", deep), seen, says=said, needs=("cv2",)),
            Case("tiff by tifffile", by_tifffile("a.tif", deep), seen, says=said, needs=("tifffile",)),
            Case("big-endian tiff", by_tifffile("a.tif", deep, byteorder=">"), seen, needs=("tifffile",)),
            Case("pgm by OpenCV", by_opencv("a.pgm", deep), seen, needs=("cv2",)),
            Case("by numpy", by_numpy("a.npy", deep), seen, says=said),
            Case("colours, png by OpenCV", by_opencv("a.png", colours), PHOTO, says=said, needs=("cv2",)),
            Case(
                "colours, tiff by tifffile",
                by_tifffile("a.tif", colours, photometric="rgb"),
                PHOTO,
                needs=("tifffile",),
            ),
            Case("colours, ppm by OpenCV", by_opencv("a.ppm", colours), PHOTO, needs=("cv2",)),
            Case("colours by numpy", by_numpy("a.npy", colours), PHOTO),
        ],
    )


def _part_of_the_range() -> Kind:
    hounsfield = np.where(MASK, 1100, -1000) + 900 * RAMP
    marked = np.round(RAMP * 3900).astype(np.uint16)
    marked[0, 0] = 65535
    levels = {
        "depth in millimetres": np.round(600 + RAMP * 9000).astype(np.uint16),
        "CT, HU + 1024": np.round(hounsfield + 1024).astype(np.uint16),
        "CT, HU + 32768": np.round(hounsfield + 32768).astype(np.uint16),
        "12 bits with a marker": marked,
        "dim microscopy": np.round(100 + 300 * RAMP**3).astype(np.uint16),
    }
    cases = []
    for what, first in levels.items():
        second = np.roll(first, 5, 1)
        seen = scaled(first, 0, 4095) if what == "CT, HU + 1024" else by_percentiles(first, second)
        said = "of the 2 deep files in"
        cases += [
            Case(
                f"{what}, png",
                both(by_opencv("a.png", first), by_opencv("b.png", second)),
                seen,
                1,
                says=said,
                needs=("cv2",),
            ),
            Case(
                f"{what}, tiff",
                both(by_tifffile("a.tif", first), by_tifffile("b.tif", second)),
                seen,
                1,
                needs=("tifffile",),
            ),
            Case(f"{what}, npy", both(by_numpy("a.npy", first), by_numpy("b.npy", second)), seen, 1),
        ]
    twelve = np.round(RAMP * 4095).astype(np.uint16)
    fourteen = np.round(RAMP * 16383).astype(np.uint16)
    brighter = np.minimum(2 * twelve, 4095).astype(np.uint16)
    cases += [
        Case("12 bits, all used", by_pillow("a.png", twelve), scaled(twelve, 0, 4095), says="levels 0 to 4095"),
        Case("14 bits", by_pillow("a.png", fourteen), by_percentiles(fourteen), 1),
        Case("8 bits in 16", by_pillow("a.png", NOISE.astype(np.uint16)), NOISE, says="levels 0 to 255"),
        Case(
            "a brighter neighbour",
            both(by_pillow("a.png", twelve), by_pillow("b.png", brighter)),
            scaled(twelve, 0, 4095),
        ),
        Case(
            "beside 8-bit files",
            both(by_pillow("a.png", NOISE), by_pillow("b.png", twelve)),
            NOISE,
            says="of the 1 deep",
        ),
        Case(
            "levels asked for",
            by_pillow("a.png", fourteen),
            scaled(fourteen, 1000, 9000),
            options={"levels": (1000, 9000)},
            says="levels 1000 to 9000 of the 1 deep files",
        ),
    ]
    return Kind(
        "16 bits, a part of the range used: depth, CT, x-rays, microscopy",
        "one range for all files of the folder, their middle 99 %, or `--levels LO HI`; said, stored with "
        "the vectors, and "
        "used by `apply`",
        cases,
    )


def _deep_colours() -> Kind:
    twelve = PHOTO.astype(np.uint16) * 16
    seen, alpha = scaled(twelve, 0, 4095), np.full((SIDE, SIDE, 1), 65535, np.uint16)
    needs = ("tifffile",)
    options = {
        "tiff": {},
        "deflated tiff": {"compression": "zlib"},
        "tiff with a predictor": {"compression": "zlib", "predictor": 2},
        "big-endian tiff": {"byteorder": ">"},
        "tiff of tiles": {"tile": (16, 16)},
    }
    cases = [
        Case(f"12 bits, {what}", by_tifffile("a.tif", twelve, photometric="rgb", **given), seen, 1, needs=needs)
        for what, given in options.items()
    ]
    cases += [
        Case("12 bits, png by OpenCV", by_opencv("a.png", twelve), seen, 1, needs=("cv2",)),
        Case("12 bits, png with alpha", by_opencv("a.png", np.dstack([twelve, alpha])), seen, 1, needs=("cv2",)),
        Case("12 bits, ppm by OpenCV", by_opencv("a.ppm", twelve), seen, 1, needs=("cv2",)),
        Case("12 bits, tiff by OpenCV", by_opencv("a.tiff", twelve), seen, 1, needs=("cv2",)),
        Case("12 bits, numpy", by_numpy("a.npy", twelve), seen, 1),
        Case("grey and alpha, png", content("a.png", png(np.dstack([twelve[..., 0], alpha]), 4, 16)), seen[..., 0], 1),
        Case(
            "planes of 16 bits",
            by_tifffile("a.tif", twelve.transpose(2, 0, 1).copy(), photometric="rgb", planarconfig="separate"),
            refuses="planes of 16 bits one after the other, which pillow misreads",
            needs=needs,
        ),
    ]
    return Kind("12 bits in 16-bit colours", "the same rule, on both bytes; planes of 16 bits are refused", cases)


def _other_levels() -> Kind:
    signed = np.round(2000 * RAMP - 1000)
    needs = ("tifffile",)
    tiffs = {
        "int16": signed,
        "int32": 50 * signed,
        "uint32": 1e6 * (signed + 1000),
        "float32": signed / 7,
        "int8": signed / 10,
    }
    cases = []
    for kind, values in tiffs.items():
        levels = values.astype(kind)
        cases.append(Case(f"{kind} tiff", by_tifffile("a.tif", levels), by_percentiles(levels), 1, needs=needs))
    for kind in ("int16", "int64", "float16", "float32", "float64"):
        levels = signed.astype(kind)
        cases.append(Case(f"{kind} by numpy", by_numpy("a.npy", levels), by_percentiles(levels), 1))
    holes = (signed / 7).astype(np.float32)
    holes[3, 3] = np.nan
    filled = by_percentiles(np.where(np.isnan(holes), np.nanmedian(holes), holes))
    filled[3, 3] = 0
    unit = RAMP.astype(np.float32)
    cases += [
        Case(
            "0 to 1, float32 tiff", by_tifffile("a.tif", unit), scaled(unit, 0, 1), needs=needs, says="levels 0 to 1 "
        ),
        Case("0 to 255, float64 by numpy", by_numpy("a.npy", 255 * RAMP), np.round(255 * RAMP).astype(np.uint8)),
        Case("0 to 1, colours by numpy", by_numpy("a.npy", PHOTO / 255), PHOTO),
        Case("no number at a pixel", by_tifffile("a.tif", holes), filled, 1, needs=needs),
        Case("True and False by numpy", by_numpy("a.npy", MASK), np.where(MASK, np.uint8(255), np.uint8(0))),
    ]
    tiff = "its TIFF is of a kind that is not read (such as float64, or float in colour): save it as .npy"
    for what, levels in {"float64": RAMP, "float16": RAMP.astype(np.float16), "int64": signed.astype(np.int64)}.items():
        cases.append(Case(f"{what} tiff", by_tifffile("a.tif", levels), refuses=tiff, needs=needs))
    cases += [
        Case(
            "float colours, tiff",
            by_tifffile("a.tif", PHOTO.astype(np.float32), photometric="rgb"),
            refuses=tiff,
            needs=needs,
        ),
        Case(
            "channels first by numpy",
            by_numpy("a.npy", PHOTO.transpose(2, 0, 1)),
            refuses="its array has shape (3, 32, 32), expected",
        ),
        Case("complex numbers", by_numpy("a.npy", RAMP * 1j), refuses="its array is of complex128, expected numbers"),
        Case(
            "pickled objects",
            by_numpy("a.npy", np.array([[None]]), allow_pickle=True),
            refuses="a.npy cannot be read as an image: ",
        ),
    ]
    return Kind(
        "int16, int32, uint32, int8 and floating-point levels, .npy of any numbers",
        "the same rule; what pillow does not read of TIFF (float64, float16, int64, float in colour) is "
        "refused, and .npy named",
        cases,
    )


def _white_is_zero() -> Kind:
    deep = np.round(RAMP * 65535).astype(np.uint16)
    needs, white = ("tifffile",), {"photometric": "miniswhite"}
    mask = pairs(lambda name: by_tifffile(f"{name}.tif", MASK))
    return Kind(
        "TIFF in which 0 is white",
        "turned to positives, at any depth; masks of True and False, which tifffile marks so, are the "
        "brighter half as for "
        "any reader, and said",
        [
            Case("8 bits", by_tifffile("a.tif", NOISE, **white), 255 - NOISE, needs=needs),
            Case("16 bits", by_tifffile("a.tif", deep, **white), 255 - scaled(deep, 0, 65535), needs=needs),
            Case("True and False", mask, ~MASK, says="is a TIFF of one bit that says 1 is black", needs=needs),
            Case(
                "True and False, marked well",
                pairs(lambda name: by_tifffile(f"{name}.tif", MASK, photometric="minisblack")),
                MASK,
                needs=needs,
            ),
        ],
    )


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """As stored, so that ``orientation`` makes it upright."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # numbers of pillow's transpositions
    return np.asarray(Image.fromarray(pixels).transpose(Image.Transpose(undo[orientation])))


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _orientation() -> Kind:
    cases = []
    for orientation in range(2, 9):
        stored = _turned(PHOTO, orientation)
        ending = ("png", "tiff", "webp")[orientation % 3]
        options = {"lossless": True} if ending == "webp" else {}
        cases.append(
            Case(
                f"orientation {orientation}, {ending}",
                by_pillow(f"a.{ending}", stored, exif=_exif(orientation), **options),
                PHOTO,
            )
        )
    cases.append(
        Case(
            "as stored",
            by_pillow("a.png", _turned(PHOTO, 6), exif=_exif(6)),
            _turned(PHOTO, 6),
            options={"ignore_orientation": True},
        )
    )
    cases.append(
        Case(
            "a tiff as stored",
            by_pillow("a.tiff", _turned(PHOTO, 6), exif=_exif(6)),
            _turned(PHOTO, 6),
            options={"ignore_orientation": True},
        )
    )
    wide = np.asarray(Image.fromarray(PHOTO).resize((48, 32)))
    flat = np.asarray(Image.fromarray(MASK).resize((48, 32)))

    def turned_pair(orientation: int, mask: np.ndarray) -> Make:
        def make(root: Path) -> None:
            for name in ("input", "output"):
                (root / name).mkdir()
            Image.fromarray(_turned(wide, orientation)).save(root / "input" / "0.jpg", exif=_exif(orientation))
            Image.fromarray(mask).save(root / "output" / "0.png")

        return make

    for orientation in (5, 6, 7, 8):
        mask = _turned(flat, orientation)
        cases.append(
            Case(
                f"a mask on stored pixels, {orientation}",
                turned_pair(orientation, mask),
                refuses="the output seems drawn on the pixels as they are stored",
            )
        )
    for orientation in (2, 3, 4):
        mask = _turned(flat, orientation)
        cases.append(
            Case(
                f"a mask that fits both ways, {orientation}",
                turned_pair(orientation, mask),
                np.asarray(Image.fromarray(mask).resize((SIDE, SIDE))),
                says="1 inputs are turned upright as EXIF says; if their outputs were drawn",
            )
        )
    square = both(
        pairs(lambda name: by_pillow(f"{name}.png", MASK)), by_pillow("input/0.png", _turned(PHOTO, 6), exif=_exif(6))
    )
    cases.append(
        Case(
            "stored pixels asked for",
            square,
            MASK,
            says="1 inputs are taken as stored",
            options={"ignore_orientation": True},
        )
    )
    return Kind(
        "photographs that EXIF turns",
        "upright; with masks, their number is said and `--ignore-orientation` takes the pixels as stored; a mask whose "
        "shape shows that it was drawn on these is an error",
        cases,
    )


def _shapes() -> Kind:
    def mask_of(size: tuple[int, int]) -> Callable[[str], Make]:
        return lambda name: by_pillow(f"{name}.png", Image.fromarray(MASK).resize(size))

    halved = np.asarray(Image.fromarray(MASK).resize((16, 16)))
    seen = (
        np.asarray(Image.fromarray(halved.astype(np.uint8) * 255).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) > 127
    )
    stretched = "expected one aspect ratio, as otherwise one would be stretched"
    return Kind(
        "outputs of another size",
        "half or double the size is right; another aspect ratio, or a quarter turn, is an error",
        [
            Case("half", pairs(mask_of((16, 16))), seen),
            Case(
                "half, rounded",
                pairs(mask_of((50, 33)), size=(101, 67)),
                np.asarray(Image.fromarray(MASK).resize((50, 33)).resize((SIDE, SIDE))),
            ),
            Case("another ratio", pairs(mask_of((32, 24))), refuses=stretched),
            Case("a square of a wide image", pairs(mask_of((32, 32)), size=(64, 48)), refuses=stretched),
            Case(
                "upright of a wide image",
                pairs(mask_of((32, 48)), size=(48, 32)),
                refuses="they differ by a quarter turn",
            ),
        ],
    )


def _masks() -> Kind:
    share = f"{100 * MASK.mean():.0f} % of the outputs"
    said = f"metric IoU: the brighter of 2 levels, {share}"

    def levels(low: int, high: int, kind: Any = np.uint8) -> np.ndarray:
        return np.where(MASK, kind(high), kind(low))

    red = np.where(MASK[..., None], np.array([128, 0, 0], np.uint8), np.uint8(0))
    palette = Image.fromarray(MASK.astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    swapped = Image.fromarray((~MASK).astype(np.uint8)).convert("P")
    swapped.putpalette([255, 255, 255, 0, 0, 0])
    makes: dict[str, tuple[Callable[[str], Make], tuple[str, ...]]] = {
        "0 and 255": (lambda name: by_pillow(f"{name}.png", levels(0, 255)), ()),
        "0 and 1": (lambda name: by_pillow(f"{name}.png", levels(0, 1)), ()),
        "30 and 200": (lambda name: by_pillow(f"{name}.png", levels(30, 200)), ()),
        "one bit": (lambda name: by_pillow(f"{name}.png", MASK), ()),
        "one bit tiff, fax": (lambda name: by_pillow(f"{name}.tif", MASK, compression="group4"), ()),
        "0 and 65535 of 16 bits": (lambda name: by_pillow(f"{name}.png", levels(0, 65535, np.uint16)), ()),
        "0 and 1 of 16 bits": (lambda name: by_tifffile(f"{name}.tif", levels(0, 1, np.uint16)), ("tifffile",)),
        "0 and 1, float32 tiff": (lambda name: by_tifffile(f"{name}.tif", MASK.astype(np.float32)), ("tifffile",)),
        "black and red": (lambda name: by_pillow(f"{name}.png", red), ()),
        "black and red of a palette": (lambda name: by_pillow(f"{name}.png", palette), ()),
        "white first in the palette": (lambda name: by_pillow(f"{name}.png", swapped), ()),
        "gif": (lambda name: by_pillow(f"{name}.gif", levels(0, 255)), ()),
        "by OpenCV": (lambda name: by_opencv(f"{name}.png", levels(0, 255)), ("cv2",)),
        "colours by OpenCV": (
            lambda name: by_opencv(f"{name}.png", np.repeat(levels(0, 255)[..., None], 3, -1)),
            ("cv2",),
        ),
        "True and False by numpy": (lambda name: by_numpy(f"{name}.npy", MASK), ()),
        "0. and 1. by numpy": (lambda name: by_numpy(f"{name}.npy", MASK.astype(float)), ()),
        "of COCO by pycocotools": (_by_pycocotools, ("pycocotools",)),
    }
    cases = [Case(what, pairs(write), MASK, says=said, needs=needs) for what, (write, needs) in makes.items()]
    cases.append(
        Case(
            "all of one level",
            pairs(lambda name: by_pillow(f"{name}.png", np.full((SIDE, SIDE), 7, np.uint8))),
            refuses="is of one grey level, 7",
        )
    )
    return Kind(
        "masks of two levels or colours, at any depth",
        "scored by IoU; the brighter is the object, which is said with its share",
        cases,
    )


def _by_pycocotools(name: str) -> Make:
    def make(root: Path) -> None:
        from pycocotools import mask as coco  # noqa: PLC0415

        decoded = coco.decode(coco.encode(np.asfortranarray(MASK.astype(np.uint8))))
        Image.fromarray(decoded).save(root / f"{name}.png")

    return make


def _soft_masks() -> Kind:
    large = (
        Image.fromarray(MASK).convert("L").resize((224, 224), Image.Resampling.NEAREST)
    )  # edges within JPEG's blocks
    soft = large.resize((112, 112), Image.Resampling.BICUBIC)
    said = "of nearly 2 levels, with soft edges"

    def hard_but_one(name: str) -> Make:
        return by_pillow(f"{name}.png", soft if name == "3" else large.resize((112, 112), Image.Resampling.NEAREST))

    def picture_among(name: str) -> Make:
        level = np.round(RAMP * 255) if name == "3" else np.where(MASK, 255, 0)
        return by_pillow(f"{name}.png", level.astype(np.uint8))

    cases = [
        Case(
            f"jpeg, quality {quality}",
            pairs(lambda name, q=quality: by_pillow(f"{name}.jpg", large, quality=q), size=(224, 224)),
            MASK,
            says=said,
        )
        for quality in (50, 75, 90, 95)
    ]
    cases += [
        Case(
            "jpeg in colour",
            pairs(lambda name: by_pillow(f"{name}.jpg", large.convert("RGB"), quality=75), size=(224, 224)),
            MASK,
            says=said,
        ),
        Case("soft edges", pairs(lambda name: by_pillow(f"{name}.png", soft), size=(112, 112)), MASK, says=said),
        Case("one of five with soft edges", pairs(hard_but_one, 5, (112, 112)), MASK, says="(3.png has "),
        Case("one picture of five", pairs(picture_among, 5), refuses="4 of 5 outputs in"),
        Case("one picture, iou asked for", pairs(picture_among, 3), MASK, says="metric IoU", options={"metric": "iou"}),
    ]
    return Kind(
        "JPEG masks, soft edges",
        "told as masks where nearly all pixels are near two levels, and said; a picture among masks is named",
        cases,
    )


_BORDER = np.zeros_like(MASK)
for _dy in (-1, 0, 1):
    for _dx in (-1, 0, 1):
        _BORDER |= np.roll(MASK, (_dy, _dx), (0, 1))
_BORDER &= ~MASK
_VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + [0] * (3 * 251) + [224, 224, 192]


def _in_palette(labels: np.ndarray) -> Image.Image:
    image = Image.fromarray(labels).convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette(_VOC)
    return image


def _voids() -> Kind:
    labels = np.where(MASK, np.uint8(1), np.where(_BORDER, np.uint8(255), np.uint8(0)))
    three = labels.copy()
    three[26:30, 2:30] = 2
    said = "255 (void) is ignored"

    def mixed(name: str) -> Make:
        return by_pillow(f"{name}.png", np.where(MASK, np.uint8(1 if name == "0" else 255), np.uint8(0)))

    return Kind(
        "masks with a void border (0, 1 and 255), grey or in VOC's palette",
        "the border is never the object, and counts neither in scores nor in a search; Pascal-5i takes it as "
        "background, as "
        "the official code does",
        [
            Case("grey", pairs(lambda name: by_pillow(f"{name}.png", labels)), MASK, says=said, ignored=_BORDER),
            Case(
                "palette",
                pairs(lambda name: by_pillow(f"{name}.png", _in_palette(labels))),
                MASK,
                says=said,
                ignored=_BORDER,
            ),
            Case(
                "with --metric iou",
                pairs(lambda name: by_pillow(f"{name}.png", labels)),
                MASK,
                ignored=_BORDER,
                options={"metric": "iou"},
            ),
            Case(
                "several classes",
                pairs(lambda name: by_pillow(f"{name}.png", _in_palette(three))),
                refuses="levels 0..2 are classes: which is the object? --object N (0, 1, 2, 255 occur)",
            ),
            Case(
                "several classes, --object 1",
                pairs(lambda name: by_pillow(f"{name}.png", _in_palette(three))),
                MASK,
                says=said,
                ignored=_BORDER,
                options={"object_level": "1"},
            ),
            Case(
                "0 and 1 here, 0 and 255 there",
                pairs(mixed),
                refuses="0.png has level 1 where 1.png has 255: which is the object?",
            ),
        ],
    )


def _label_maps() -> Kind:
    classes = np.where(MASK, np.uint8(2), np.uint8(0))
    classes[26:30, 2:30] = 1
    classes[0:2, 0:30] = 3
    trimap = np.where(MASK, np.uint8(1), np.where(_BORDER, np.uint8(3), np.uint8(2)))
    colours = np.array([[0, 0, 0], [0, 128, 0], [128, 0, 0], [128, 128, 0]], np.uint8)[classes]

    def ids(name: str) -> Make:
        return by_pillow(f"{name}.png", np.where(MASK, np.uint8(5 + int(name)), np.uint8(0)))

    grey: Callable[[str], Make] = lambda name: by_pillow(f"{name}.png", classes)  # noqa: E731
    palette: Callable[[str], Make] = lambda name: by_pillow(f"{name}.png", _in_palette(classes))  # noqa: E731
    deep: Callable[[str], Make] = lambda name: by_tifffile(f"{name}.tif", classes.astype(np.uint16) * 1000)  # noqa: E731
    pets: Callable[[str], Make] = lambda name: by_pillow(f"{name}.png", trimap)  # noqa: E731
    coloured: Callable[[str], Make] = lambda name: by_pillow(f"{name}.png", colours)  # noqa: E731
    shades: Callable[[str], Make] = lambda name: by_pillow(f"{name}.png", classes * np.uint8(80))  # noqa: E731
    array: Callable[[str], Make] = lambda name: by_numpy(f"{name}.npy", classes.astype(np.int64))  # noqa: E731
    asked = "levels 0..3 are classes: which is the object? --object N (0, 1, 2, 3 occur)"
    few = "4 levels are classes: which is the object? --object N"
    return Kind(
        "maps of classes: levels 0..k, one class a file, trimaps, colours",
        "an error that asks which class is the object; `--object N` (or a colour, `--object '#800000'`) "
        "makes the masks, and "
        "`--void N` names what does not count",
        [
            Case("grey", pairs(grey), refuses=asked),
            Case("grey, --object", pairs(grey), MASK, options={"object_level": "2"}, says="level 2 of 0, 1, 2 and 3, "),
            Case("grey, no such class", pairs(grey), refuses="--object 9: no output in", options={"object_level": "9"}),
            Case("grey with --metric iou", pairs(grey), refuses=asked, options={"metric": "iou"}),
            Case("palette", pairs(palette), refuses=asked),
            Case("palette, --object", pairs(palette), MASK, options={"object_level": "2"}),
            Case("int64 by numpy", pairs(array), refuses=asked),
            Case("int64 by numpy, --object", pairs(array), MASK, options={"object_level": "2"}),
            Case("trimaps", pairs(pets), refuses="levels 1..3 are classes: which is the object? --object N"),
            Case("trimaps, --object", pairs(pets), MASK, options={"object_level": "1"}),
            Case(
                "trimaps, --object and --void",
                pairs(pets),
                MASK,
                ignored=_BORDER,
                options={"object_level": "1", "void": "3"},
                says="3 (void) is ignored",
            ),
            Case(
                "one class a file",
                pairs(ids),
                refuses="levels 0..6 are classes: which is the object? --object N (0, 5, 6",
            ),
            Case("colours", pairs(coloured), refuses=few),
            Case("colours, --object", pairs(coloured), MASK, options={"object_level": "#800000"}),
            Case("16 bits", pairs(deep), refuses=few, needs=("tifffile",)),
            Case("16 bits, --object", pairs(deep), MASK, options={"object_level": "2000"}, needs=("tifffile",)),
            Case("shades", pairs(shades), refuses=few),
            Case("shades, --object", pairs(shades), MASK, options={"object_level": "160"}),
        ],
    )


def _transparency() -> Kind:
    alpha = np.where(MASK, np.uint8(255), np.uint8(0))
    black = np.zeros((SIDE, SIDE, 3), np.uint8)
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    red = np.where(MASK[..., None], np.array([200, 0, 0], np.uint8), np.uint8(0))
    palette = Image.fromarray(MASK.astype(np.uint8)).convert("P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    said = "metric IoU: what is not transparent, "

    def masks(image: np.ndarray | Image.Image, **options: Any) -> Make:
        return pairs(lambda name: by_pillow(f"{name}.png", image, **options))

    cut = np.where(MASK[..., None], PHOTO, np.uint8(255))
    return Kind(
        "masks on a transparent background",
        "what is opaque is the object, whatever its colour; pictures are laid on white",
        [
            Case("white in RGBA", masks(np.dstack([white, alpha])), MASK, says=said),
            Case("black in RGBA", masks(np.dstack([black, alpha])), MASK, says=said),
            Case("red in RGBA", masks(np.dstack([red, alpha])), MASK, says=said),
            Case("grey and alpha", masks(np.dstack([alpha, alpha])), MASK, says=said),
            Case("palette", masks(palette, transparency=0), MASK, says=said),
            Case(
                "webp",
                pairs(lambda name: by_pillow(f"{name}.webp", np.dstack([white, alpha]), lossless=True)),
                MASK,
                says=said,
            ),
            Case("a photograph cut out", by_pillow("a.png", np.dstack([PHOTO, alpha])), cut),
        ],
    )


def _no_transparency() -> Kind:
    nothing = np.zeros((SIDE, SIDE, 1), np.uint8)
    bitmap = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54 + 4 * SIDE**2, 0, 54, 40, SIDE, SIDE, 1, 32, 0, 0, 0, 0, 0, 0)
    bitmap += np.dstack([PHOTO[::-1, :, ::-1], nothing]).tobytes()
    infrared = np.dstack([PHOTO, NOISE])
    told = "its fourth channel is marked as transparency and has"
    return Kind(
        "a fourth channel that is no transparency: 0 everywhere, or near infrared",
        "0 everywhere is no transparency; one with the levels of an image is refused",
        [
            Case("32-bit bmp", content("a.bmp", bitmap), PHOTO),
            Case("tga", by_pillow("a.tga", np.dstack([PHOTO, nothing])), PHOTO),
            Case("png", by_pillow("a.png", np.dstack([PHOTO, nothing])), PHOTO),
            Case(
                "infrared by tifffile",
                by_tifffile("a.tif", infrared, photometric="rgb"),
                refuses=told,
                needs=("tifffile",),
            ),
            Case(
                "infrared, 16 bits",
                by_tifffile("a.tif", infrared.astype(np.uint16) * 257, photometric="rgb"),
                refuses=told,
                needs=("tifffile",),
            ),
            Case("infrared by OpenCV", by_opencv("a.png", infrared), refuses=told, needs=("cv2",)),
            Case("infrared by numpy", by_numpy("a.npy", infrared), refuses=told),
        ],
    )


def _profiles() -> Kind:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    gamma = struct.pack(">I", 100000)
    return Kind(
        "colour profiles, and PNG's gamma",
        "converted to sRGB, which results are marked as; near sRGB, and where a profile cannot be read, as they are",
        [
            Case("linear", by_pillow("a.png", PHOTO, icc_profile=icc(1.0)), linear_as_srgb(PHOTO), 2),
            Case("gamma 1.8", by_pillow("a.tiff", PHOTO, icc_profile=icc(1.8)), linear_as_srgb(PHOTO, 1.8), 2),
            Case(
                "Display P3's primaries",
                by_pillow("a.png", PHOTO, icc_profile=icc(2.2, P3_PRIMARIES)),
                between_primaries(PHOTO, 2.2, P3_PRIMARIES),
                4,
            ),
            Case(
                "Adobe RGB's primaries",
                by_pillow("a.png", PHOTO, icc_profile=icc(2.2, ADOBE_PRIMARIES)),
                between_primaries(PHOTO, 2.2, ADOBE_PRIMARIES),
                4,
            ),
            Case("grey, linear", by_pillow("a.png", NOISE, icc_profile=icc(1.0, None)), linear_as_srgb(NOISE), 2),
            Case("sRGB", by_pillow("a.png", PHOTO, icc_profile=srgb), PHOTO),
            Case("no profile at all", by_pillow("a.png", PHOTO, icc_profile=b"a text"), PHOTO),
            Case("PNG's gamma 1", content("a.png", png(PHOTO, 2, chunks={b"gAMA": gamma})), linear_as_srgb(PHOTO), 1),
            Case(
                "PNG's gamma of sRGB",
                content("a.png", png(PHOTO, 2, chunks={b"gAMA": struct.pack(">I", 45455)})),
                PHOTO,
            ),
            Case(
                "PNG's gamma 1, said to be sRGB",
                content("a.png", png(PHOTO, 2, chunks={b"sRGB": b"\0", b"gAMA": gamma})),
                PHOTO,
            ),
            Case(
                "a mask with a profile",
                pairs(
                    lambda name: by_pillow(
                        f"{name}.png", np.where(MASK, np.uint8(200), np.uint8(30)), icc_profile=icc(1.0, None)
                    )
                ),
                MASK,
            ),
        ],
    )


def _misleading() -> Kind:
    inks = Image.fromarray(PHOTO).convert("CMYK")

    def unmarked(root: Path) -> None:
        file = BytesIO()
        inks.save(file, "JPEG")
        data = file.getvalue()
        at = data.index(b"\xff\xeeX"[:2])
        length = struct.unpack_from(">H", data, at + 2)[0]
        (root / "a.jpg").write_bytes(data[:at] + data[at + 2 + length :])

    def bright(transfer: int) -> Make:
        def make(root: Path) -> None:
            file = BytesIO()
            Image.fromarray(PHOTO).save(file, "AVIF", quality=95)
            data = bytearray(file.getvalue())
            data[data.index(b"colrnclx") + 11] = transfer
            (root / "a.avif").write_bytes(data)

        return make

    return Kind(
        "CMYK JPEG, high dynamic range",
        "CMYK with Adobe's marker is converted; without it, and PQ or HLG in AVIF, HEIC or PNG, it is refused",
        [
            Case("CMYK with Adobe's marker", by_pillow("a.jpg", inks, quality=95), np.asarray(inks.convert("RGB")), 12),
            Case("CMYK tiff", by_pillow("a.tif", inks), np.asarray(inks.convert("RGB"))),
            Case("CMYK without the marker", unmarked, refuses="a CMYK JPEG without Adobe's marker"),
            Case("PQ in avif", bright(16), refuses="it is of high dynamic range (PQ)"),
            Case("HLG in avif", bright(18), refuses="it is of high dynamic range (HLG)"),
            Case(
                "PQ in png",
                content("a.png", png(PHOTO, 2, chunks={b"cICP": bytes([9, 16, 0, 1])})),
                refuses="high dynamic range (PQ)",
            ),
        ],
    )


def _fits() -> Kind:
    counts = np.round(RAMP * 65535)
    stored = (counts - 32768).astype(np.int16)
    signed = np.round(2000 * RAMP - 1000).astype(np.int16)
    wide = np.round(200000 * RAMP - 100000).astype(np.int32)
    return Kind(
        "FITS",
        "read with its offset and factor, and as signed numbers",
        [
            Case("16 bits with an offset", content("a.fits", fits(stored, BZERO=32768)), scaled(counts, 0, 65535)),
            Case("signed", content("a.fits", fits(signed)), by_percentiles(signed), 1),
            Case(
                "with a factor",
                content("a.fits", fits(signed, BSCALE=0.5, BZERO=10)),
                by_percentiles(signed / 2 + 10),
                1,
            ),
            Case("float32", content("a.fits", fits(RAMP.astype(np.float32))), scaled(RAMP, 0, 1)),
            Case("32 bits in an extension", content("a.fits", fits(wide, extension=True)), by_percentiles(wide), 1),
        ],
    )


def _dicom() -> Kind:
    hounsfield = np.round(np.where(MASK, 300.0, -900.0) + 100 * RAMP)
    stored = (hounsfield + 1024).astype(np.uint16)
    rescale: dict[str, Any] = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    window: dict[str, Any] = {"WindowCenter": 40, "WindowWidth": 400}
    # PS3.3 C.11.2.1.2.1, linear
    windowed = np.round(255 * np.clip((hounsfield - 39.5) / 399 + 0.5, 0, 1)).astype(np.uint8)
    signed = hounsfield.astype(np.int16)
    eight = np.round(RAMP * 255).astype(np.uint8)
    needs = ("pydicom",)
    return Kind(
        "DICOM, with or without ending",
        "by pydicom (extra `medical`): rescaled, as the file's window shows it, MONOCHROME1 inverted; "
        "without a window by the "
        "folder's range; `--levels LO HI` are then rescaled units (HU) and go before windows; several frames "
        "are refused",
        [
            Case("CT, rescaled", dicom(stored, bits=12, **rescale), by_percentiles(hounsfield), 1, needs=needs),
            Case("CT, signed", dicom(signed), by_percentiles(hounsfield), 1, needs=needs),
            Case(
                "CT with a window",
                dicom(stored, bits=12, **rescale, **window),
                windowed,
                1,
                says="1 files are shown as their own windows say",
                needs=needs,
            ),
            Case(
                "CT with a window, levels asked for",
                dicom(stored, bits=12, **rescale, **window),
                scaled(hounsfield, -1000, 400),
                1,
                options={"levels": (-1000, 400)},
                needs=needs,
            ),
            Case(
                "without ending", dicom(stored, name="IM0001", bits=12, **rescale, **window), windowed, 1, needs=needs
            ),
            Case(
                "a number as name",
                dicom(stored, name="1.2.840.113", bits=12, **rescale, **window),
                windowed,
                1,
                needs=needs,
            ),
            Case(
                "MONOCHROME1, 8 bits",
                dicom(eight, bits=8, PhotometricInterpretation="MONOCHROME1"),
                255 - eight,
                needs=needs,
            ),
            Case(
                "MONOCHROME1 with a window",
                dicom(stored, bits=12, PhotometricInterpretation="MONOCHROME1", **rescale, **window),
                255 - windowed,
                1,
                needs=needs,
            ),
            Case(
                "MONOCHROME1, 12 bits",
                dicom(stored, bits=12, PhotometricInterpretation="MONOCHROME1"),
                255 - by_percentiles(stored),
                1,
                needs=needs,
            ),
            Case("colours", dicom(PHOTO, bits=8), PHOTO, needs=needs),
            Case(
                "several frames",
                dicom(np.stack([stored] * 3), bits=12, frames=3),
                refuses="it holds 3 frames, expected one",
                needs=needs,
            ),
            Case("no image", dicom(stored, pixels=False), refuses="it is DICOM without an image (CT)", needs=needs),
        ],
    )


def _heic() -> Kind:
    return Kind(
        "HEIC, a phone's photographs",
        "read where pillow-heif is installed, else refused with what to install or how to convert",
        [
            Case("by pillow-heif", by_heif("a.heic", PHOTO), PHOTO, 14, needs=("pillow_heif",)),
            Case("called heif", by_heif("a.heif", PHOTO), PHOTO, 14, needs=("pillow_heif",)),
        ],
    )


def _unread() -> Kind:
    told = {
        "a.nii": "it is NIfTI: save a slice of it as .npy",
        "a.nii.gz": "it is NIfTI: save a slice of it as .npy",
        "a.mat": "it is MATLAB's: save its array as .npy",
        "a.nrrd": "it is a volume: save a slice of it as .npy",
        "a.h5": "it is a file of arrays: save each as .npy",
        "a.CR2": "it is a camera's raw data: develop it",
        "a.nef": "it is a camera's raw data: develop it",
        "a.dng": "it is a camera's raw data: develop it",
        "a.svs": "it is a whole slide: save a level of it",
        "a.czi": "it is a microscope's: save its planes as .tiff",
        "a.exr": "it is OpenEXR: save it as .npy",
        "a.jxl": "it is JPEG XL: convert it",
        "a.pdf": "it is a drawing: export it as .png",
        "a.mp4": "it is a video: save its frames",
        "a.docx": "is not an image: expected an ending such as .png, .jpg or .tiff",
    }
    cases = [Case(name, content(name, b"0"), refuses=words) for name, words in told.items()]
    git = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    cases += [
        Case("a pointer of Git LFS", content("a.png", git), refuses="it is a pointer of Git LFS: git lfs pull"),
        Case("a web page", content("a.jpg", b"<html>"), refuses="its content is of no known format"),
        Case(
            "beside images",
            both(by_pillow("a.png", PHOTO), content("notes.txt", b"0")),
            PHOTO,
            says="left out, as they are no images: notes.txt",
        ),
        Case(
            "file managers' files",
            both(by_pillow("a.png", PHOTO), content("Thumbs.db", b"0"), content(".DS_Store", b"0")),
            PHOTO,
        ),
    ]
    return Kind(
        "NIfTI, .mat, camera raw, slides, videos, and what is no image",
        "refused with what converts it; beside images it is left out and listed, by `apply` too (`--strict` stops)",
        cases,
    )


def _pages() -> Kind:
    def pyramid(root: Path) -> None:
        import tifffile  # noqa: PLC0415

        with tifffile.TiffWriter(root / "a.tif") as file:
            file.write(PHOTO, photometric="rgb")
            file.write(PHOTO[::2, ::2].copy(), photometric="rgb", subfiletype=1)
            file.write(PHOTO[::4, ::4].copy(), photometric="rgb", subfiletype=1)

    def reduced_first(root: Path) -> None:
        import tifffile  # noqa: PLC0415

        with tifffile.TiffWriter(root / "a.tif") as file:
            file.write(PHOTO[::2, ::2].copy(), photometric="rgb", subfiletype=1)
            file.write(PHOTO, photometric="rgb")

    def deep(root: Path) -> None:
        import tifffile  # noqa: PLC0415

        with tifffile.TiffWriter(root / "a.tif") as file:
            for step in (2, 1):
                file.write(
                    (PHOTO[::step, ::step].astype(np.uint16) * 16).copy(), photometric="rgb", subfiletype=int(step > 1)
                )

    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue", "green")]
    needs = ("tifffile",)
    return Kind(
        "TIFF pyramids, stacks, moving pictures",
        "of a pyramid the whole page (tag 254); several pages or frames are refused",
        [
            Case("a pyramid", pyramid, PHOTO, needs=needs),
            Case("the reduced page first", reduced_first, PHOTO, needs=needs),
            Case("a pyramid of 12 bits in 16", deep, scaled(PHOTO.astype(np.uint16) * 16, 0, 4095), 1, needs=needs),
            Case(
                "a stack",
                by_tifffile("a.tif", np.stack([NOISE] * 5), photometric="minisblack"),
                refuses="it holds 5 images, expected one",
                needs=needs,
            ),
            Case(
                "a moving gif",
                by_pillow("a.gif", frames[0], save_all=True, append_images=frames[1:]),
                refuses="it holds 3 images, expected one",
            ),
            Case(
                "a moving png",
                by_pillow("a.png", frames[0], save_all=True, append_images=frames[1:]),
                refuses="it holds 3 images, expected one",
            ),
        ],
    )


def _layouts() -> Kind:
    def mask(name: str) -> Make:
        return by_pillow(f"{name}.png", MASK)

    cases = [
        Case(places.replace(" ", "/ and ") + "/", pairs(mask, places=places), MASK)
        for places in (
            "input output",
            "inputs outputs",
            "Input Output",
            "images masks",
            "imgs labels",
            "image annotations",
            "images targets",
        )
    ]

    def beside(root: Path) -> None:
        for index in range(2):
            Image.fromarray(PHOTO).save(root / f"{index}.jpg")
            Image.fromarray(MASK).save(root / f"{index}_segmentation.png")

    suffixed = pairs(lambda name: by_pillow(f"{name}_mask.png", MASK), places="images masks")
    cases += [
        Case("NAME_mask.png", suffixed, MASK, options={"suffix": "_mask"}),
        Case("NAME_mask.png without the option", suffixed, refuses="--suffix _mask pairs them"),
        Case("NAME_segmentation.png beside it", beside, MASK, options={"suffix": "_segmentation"}),
        Case("directories named", pairs(mask, places="x y"), MASK, options={"input": Path("x"), "output": Path("y")}),
        Case(
            "other directories",
            pairs(mask, places="x y"),
            refuses="has no images, but x/, y/: did you mean --input x --output y, or the other way round?",
        ),
        Case(
            "two of a kind",
            both(pairs(mask), lambda root: (root / "masks").mkdir()),
            refuses="has output/ and masks/: which of them is meant? --output DIR",
        ),
        Case("masks alone", content("masks/0.png", png(NOISE, 0)), refuses="has masks/, but no inputs beside it"),
    ]
    return Kind(
        "layouts: images/ and masks/, Input/ and Output/, NAME_mask.png",
        "found by the usual names, or `--input DIR --output DIR --suffix _mask`; the error says what was "
        "expected and found",
        cases,
    )


KINDS = [
    _plain(),
    _full_range(),
    _part_of_the_range(),
    _deep_colours(),
    _other_levels(),
    _white_is_zero(),
    _masks(),
    _soft_masks(),
    _voids(),
    _label_maps(),
    _transparency(),
    _no_transparency(),
    _orientation(),
    _shapes(),
    _layouts(),
    _profiles(),
    _misleading(),
    _dicom(),
    _heic(),
    _fits(),
    _pages(),
    _unread(),
]


def table() -> str:
    """Markdown, a row a kind."""
    rows = [f"| {kind.name} | {kind.happens} | {len(kind.cases)} |" for kind in KINDS]
    return "\n".join(["| what | what happens | cases tested |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(table())
