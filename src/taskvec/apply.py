"""Task vectors on image files."""

from pathlib import Path

from PIL import Image, UnidentifiedImageError

from taskvec.files import replacing
from taskvec.vectors import TaskVectors


def image_files(source: Path) -> list[Path]:
    """The files of a directory, by name, or the one file; ValueError where there is nothing or something no image."""
    if not source.exists():
        raise ValueError(f"{source} does not exist: expected an image or a directory of images")
    if source.is_file():
        return [source]
    files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise ValueError(f"{source} has no files: expected images")
    known = Image.registered_extensions()
    for path in files:
        if path.suffix.lower() not in known:
            raise ValueError(f"{path} is not an image: its ending is not one that pillow knows")
    stems = [path.stem for path in files]
    for path in files:
        if stems.count(path.stem) > 1:
            raise ValueError(f"{path} shares its name with another file: both results would be {path.stem}.png")
    return files


def apply_file(vectors: TaskVectors, path: Path, out: Path) -> Path:
    """Do the task on one image and write OUT/NAME.png; ValueError where the file cannot be read as an image."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    result = out / f"{path.stem}.png"
    with replacing(result) as temporary:
        vectors(image).save(temporary, "PNG")
    return result
