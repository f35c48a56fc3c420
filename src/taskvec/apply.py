"""Task vectors on image files."""

import struct
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps

from taskvec.canvas import to_rgb
from taskvec.files import replacing
from taskvec.vectors import TaskVectors


def plan(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """Every image of a directory, by name, or the one file, with where its result goes: OUT/NAME.png.

    Raises ValueError where there is nothing, something that is no image, or a result that would replace an input or
    another result.
    """
    if not source.exists():
        raise ValueError(f"{source} does not exist: expected an image or a directory of images")
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    else:
        files = [source]
    if not files:
        raise ValueError(f"{source} has no files: expected images")
    known = Image.registered_extensions()
    inputs = {path.resolve() for path in files}
    results: dict[Path, Path] = {}
    for path in files:
        result = out / f"{path.stem}.png"
        if path.suffix.lower() not in known:
            raise ValueError(f"{path} is not an image: its ending is not one that pillow knows")
        if result in results:
            raise ValueError(f"{results[result]} and {path} share a name: both results would be {result}")
        if result.resolve() in inputs:
            raise ValueError(f"the result of {path} would replace the image {result}: name another directory")
        results[result] = path
    return [(path, result) for result, path in results.items()]


def apply_files(vectors: TaskVectors, jobs: Iterable[tuple[Path, Path]]) -> dict[Path, str]:
    """Do the task on every image; the images that could not be read, with the reason, in the end."""
    failures = {}
    for path, result in jobs:
        try:
            apply_file(vectors, path, result)
        except ValueError as error:
            failures[path] = str(error)
    return failures


def apply_file(vectors: TaskVectors, path: Path, result: Path) -> None:
    """Do the task on one image, upright as its EXIF data say; ValueError where the file cannot be read as an image."""
    try:
        with Image.open(path) as opened:
            image = to_rgb(ImageOps.exif_transpose(opened))
    # pillow raises all of these for damaged files
    except (ValueError, OSError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    with replacing(result) as temporary:
        vectors(image).save(temporary, "PNG")
