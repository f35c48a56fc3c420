"""Which files are images, by their names and, where these tell nothing, their first bytes."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from taskvec.images import dicom, heif

# what pillow lists but cannot read by itself, and what is no still image
_NO_STILL_IMAGES = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "MPEG", "WMF"}
FURNITURE = {".ds_store", "thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}  # left by file managers
ARRAYS = (".npy",)

# what holds images that are not read here, and how it is turned into what is
_BY_SLICE = "save a slice of it as .npy, {}"
_DEVELOP = "it is a camera's raw data: develop it into .tiff or .jpg, such as with darktable, RawTherapee or rawpy"
_OTHERS = {
    (".nii", ".nii.gz", ".img", ".hdr"): "it is NIfTI: "
    + _BY_SLICE.format("such as numpy.save(NAME, nibabel.load(FILE).get_fdata()[:, :, SLICE])"),
    (".mha", ".mhd", ".nrrd"): "it is a volume: "
    + _BY_SLICE.format("such as numpy.save(NAME, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(FILE))[SLICE])"),
    (".mat",): "it is MATLAB's: save its array as .npy, such as numpy.save(NAME, scipy.io.loadmat(FILE)[VARIABLE])",
    (".npz", ".h5", ".hdf5", ".zarr", ".pt", ".pth", ".pkl"): "it is a file of arrays: save each as .npy, "
    "such as numpy.save(NAME, ARRAY)",
    (".cr2", ".cr3", ".crw", ".nef", ".nrw", ".dng", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"): _DEVELOP,
    (".svs", ".ndpi", ".mrxs", ".scn", ".vsi"): "it is a whole slide: save a level of it as .png or .tiff, such as "
    "with OpenSlide",
    (".czi", ".lif", ".nd2", ".oib", ".oif"): "it is a microscope's: save its planes as .tiff, such as with Fiji",
    (".exr",): "it is OpenEXR: save it as .npy, such as numpy.save(NAME, cv2.imread(FILE, cv2.IMREAD_UNCHANGED))",
    (".jxl",): "it is JPEG XL: convert it, such as djxl FILE NAME.png",
    (".pdf", ".eps", ".ps", ".svg", ".ai"): "it is a drawing: export it as .png",
    (".mp4", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v"): "it is a video: save its frames, such as "
    "ffmpeg -i FILE %05d.png",
}
_HOW = {ending: how for endings, how in _OTHERS.items() for ending in endings}


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the still images that it reads."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _NO_STILL_IMAGES)


@dataclass(frozen=True)
class Listing:
    """The images of a directory, by name, and what else there is, with the reason why it is no image."""

    images: list[Path]
    others: dict[Path, str]


def listing(directory: Path, *, recursive: bool = False) -> Listing:
    """What a directory holds, and the directories in it if ``recursive``; hidden files are left out.

    Raises ValueError where there is no such directory.
    """
    if not directory.is_dir():
        raise ValueError(f"{directory} is not a directory, expected a directory of images")
    images, others = [], {}
    for path, reason in walk(directory, recursive=recursive):
        if reason is None:
            images.append(path)
        else:
            others[path] = reason
    return Listing(images, others)


def walk(directory: Path, *, recursive: bool = False) -> Iterator[tuple[Path, str | None]]:
    """As ``listing``, one after the other: what a directory holds, with None for an image, else why it is none."""
    for path in _walk(directory, recursive=recursive):
        yield path, why_no_image(path)


def image_files(directory: Path) -> list[Path]:
    """The images of a directory, by name; hidden files are left out.

    Raises ValueError where there is no such directory, nothing in it, or something that is no image.
    """
    found = listing(directory)
    for path, reason in found.others.items():
        if path.name.lower() not in FURNITURE:
            raise ValueError(reason)
    if not found.images:
        raise ValueError(f"{directory} has no files: expected images")
    return found.images


def check_is_image(path: Path) -> None:
    """ValueError where a path is no file or no image that can be read, by its ending or its first bytes."""
    reason = why_no_image(path)
    if reason is not None:
        raise ValueError(reason)


def why_no_image(path: Path) -> str | None:
    """None for what is an image by its name, or without a telling one by its first bytes; else a sentence."""
    if path.name.lower() in FURNITURE:
        return f"{path} is a file manager's"
    if path.exists() and not path.is_file():
        return f"{path} is a {'directory' if path.is_dir() else 'device or a pipe'}, expected an image"
    ending = path.suffix.lower()
    how = _HOW.get(".nii.gz" if path.name.lower().endswith(".nii.gz") else ending)
    if ending in heif.ENDINGS:
        how = None if heif.installed() else heif.HOW
    elif how is None and Image.registered_extensions().get(ending) not in formats() and ending not in ARRAYS:
        if ending not in dicom.ENDINGS and not dicom.is_dicom(_start(path)):
            return f"{path} is not an image: expected an ending such as .png, .jpg or .tiff"
        how = None if dicom.installed() else dicom.HOW
    return None if how is None else f"{path} is not read: {how}"


def _walk(directory: Path, *, recursive: bool) -> Iterator[Path]:
    for name in sorted(entry.name for entry in os.scandir(directory)):  # as names: there may be millions
        path = directory / name
        if path.name.startswith(".") and path.name.lower() not in FURNITURE:
            continue
        if recursive and path.is_dir() and path.name.lower() not in FURNITURE and not path.is_symlink():
            yield from _walk(path, recursive=True)
        else:
            yield path


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(dicom.SIGNED)
    except OSError:
        return b""
