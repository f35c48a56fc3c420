"""Task vectors on image files. Every result says what it was made from, so that a run can be taken up again."""

import errno
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from os.path import realpath
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from taskvec.data.levels import range_of
from taskvec.files import WriteError, check_regular, digest, json_text, read_bytes, replacing
from taskvec.images import MAX_PIXELS, Header, Range, Raster, check_is_image, listing, peek, read_raster
from taskvec.vectors import BATCH, TaskVectors

_KEY = "taskvec"  # of the text in a result's PNG
_PIXELS = "pixels"  # in that text, the digest of the result itself
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of no image in particular


@dataclass(frozen=True)
class Job:
    """An image and where its result goes."""

    image: Path
    result: Path


@dataclass(frozen=True)
class Plan:
    """A job for every image, and what is skipped, as it is no image, with the reason."""

    jobs: list[Job]
    skipped: dict[Path, str]


@dataclass(frozen=True)
class Reading:
    """How images are read: the range of deep ones (those of ``deep``), as EXIF turns them or as they are stored, and up
    to how many pixels. ``remark`` says which range and why, None where no image is deep.
    """

    levels: Range | None = None
    deep: frozenset[Path] = frozenset()
    ignore_orientation: bool = False
    max_pixels: int = MAX_PIXELS
    remark: str | None = None


@dataclass(frozen=True)
class _Input:
    """What is kept of an image between reading and writing: pixels at the model's size, its own size, its digest."""

    pixels: UInt8[np.ndarray, "side side 3"]
    size: tuple[int, int]
    digest: str


def plan(source: Path, out: Path, *, recursive: bool = False) -> Plan:
    """A job for every image of a directory, by name, or for the one file; results are OUT/NAME.png.

    ``recursive`` takes the images of directories within too, whose results are in directories of the same names. Raises
    ValueError where there is nothing, or a result would replace an input or another result, or would be among the
    images the next time.
    """
    if not source.exists():
        raise ValueError(f"{source} does not exist: expected an image or a directory of images")
    if source.is_dir():
        if Path(realpath(out)).is_relative_to(realpath(source)):
            raise ValueError(f"{out} is in the directory of the images, {source}: name another directory")
        found = listing(source, recursive=recursive)
        images, skipped, top = found.images, found.others, source
        if not images:
            raise ValueError(_nothing_in(source, skipped))
    else:
        check_is_image(source)
        images, skipped, top = [source], {}, source.parent
    inputs = {realpath(path) for path in images}
    jobs: dict[Path, Job] = {}
    for image in images:
        result = out / image.relative_to(top).with_suffix(".png") if _has_ending(image) else out / f"{image.name}.png"
        if result in jobs:
            raise ValueError(f"{jobs[result].image} and {image} share a name: both results would be {result}")
        if realpath(result) in inputs:
            raise ValueError(f"the result of {image} would replace the image {result}: name another directory")
        jobs[result] = Job(image, result)
    return Plan(list(jobs.values()), skipped)


def reading_of(
    vectors: TaskVectors,
    jobs: Sequence[Job],
    levels: tuple[float, float] | None = None,
    *,
    ignore_orientation: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Reading:
    """How these images are read. Deep ones have the range that was asked for, or that the vectors were found with, or
    one that all of them tell together.
    """
    with ThreadPoolExecutor() as threads:
        headers = list(threads.map(lambda job: _header(job.image), jobs))
    deep = [job.image for job, header in zip(jobs, headers, strict=True) if header is not None and header.deep]
    chosen, why = Range(*levels) if levels else None, "as asked for"
    if chosen is None and deep:
        chosen, why = vectors.levels, "as the task vectors were found with"
    if chosen is None and deep:
        chosen = range_of([partial(_raster, path, max_pixels) for path in deep])
        why = "told from all of them; --levels LO HI sets others"
    windowed = sum(header is not None and header.windowed for header in headers)
    told = f"levels {chosen} of the {len(deep)} deep images become 0 to 255 ({why})" if deep and chosen else None
    if windowed and chosen is None:
        told = f"{windowed} images are shown as their own windows say; --levels LO HI sets one range for all"
    return Reading(chosen, frozenset(deep), ignore_orientation, max_pixels, told)


def left_to_do(
    vectors: TaskVectors, jobs: list[Job], reading: Reading = Reading(), *, overwrite: bool = False
) -> list[Job]:
    """The jobs whose results are not there yet, or are damaged; all of them with ``overwrite``.

    Raises ValueError where results' names are taken by anything else than these images' results with these vectors.
    """
    if overwrite:
        return jobs
    with ThreadPoolExecutor() as threads:
        states = list(threads.map(lambda job: _state(vectors, job, reading), jobs))
    others = [job for job, state in zip(jobs, states, strict=True) if state == "other"]
    if others:
        raise ValueError(
            f"{others[0].result} exists and is not what these vectors make of {others[0].image} as it is now "
            f"({len(others)} such files in all): name another directory or pass --overwrite"
        )
    return [job for job, state in zip(jobs, states, strict=True) if state == "left"]


def apply_files(
    vectors: TaskVectors,
    jobs: Sequence[Job],
    on_done: Callable[[Job], None] = lambda job: None,
    reading: Reading = Reading(),
    *,
    strict: bool = False,
) -> dict[Path, str]:
    """Do the task on every image, many in a pass; in the end the images that could not be done, with the reason.

    ``on_done`` is called after every image. Raises OSError where there is no space left or no writing at all, and, if
    ``strict``, ValueError at the first image that cannot be done.
    """
    failures: dict[Path, str] = {}
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(jobs), BATCH):
            batch = jobs[start : start + BATCH]
            inputs = list(threads.map(lambda job: _read(vectors, job.image, reading), batch))
            readable = [one.pixels for one in inputs if isinstance(one, _Input)]
            outputs = iter(vectors.uncut(np.stack(readable)) if readable else ())
            for job, one in zip(batch, inputs, strict=True):
                done = isinstance(one, _Input)
                reason = _write(vectors, next(outputs), one, job, reading) if done else one
                if reason and strict:
                    raise ValueError(reason)
                if reason:
                    failures[job.image] = reason
                on_done(job)
    return failures


def _nothing_in(source: Path, skipped: dict[Path, str]) -> str:
    """Why a directory has no image to do."""
    if not skipped:
        return f"{source} has no files: expected images"
    path, reason = next(iter(skipped.items()))
    directories = " (--recursive takes those of the directories in it)" if path.is_dir() else ""
    return f"{source} has no images{directories}: {reason}"


def _has_ending(path: Path) -> bool:
    """Whether what follows the last point is a kind of file, not a part of a number, as in names of DICOM files."""
    return bool(path.suffix) and not path.suffix[1:].isdecimal()


def _header(path: Path) -> Header | None:
    """None for what cannot be read, which is told when its turn comes."""
    try:
        return peek(path)
    except (ValueError, OSError):
        return None


def _raster(path: Path, max_pixels: int) -> Raster | None:
    """None for what cannot be read, as above."""
    try:
        return read_raster(path, max_pixels=max_pixels, reduce=True)
    except (ValueError, OSError):
        return None


def _read(vectors: TaskVectors, path: Path, reading: Reading) -> _Input | str:
    """The image, or why it could not be read."""
    try:
        content = read_bytes(path)
        raster = read_raster(path, content, max_pixels=reading.max_pixels, reduce=True)
        raster = raster.as_stored() if reading.ignore_orientation else raster
        try:
            pixels = vectors.to_input(raster, reading.levels)
        except ValueError as error:
            return f"{path} cannot be read as an image: {error}"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    except MemoryError:
        return f"{path} cannot be read as an image: there is not enough memory for it"
    except ValueError as error:
        return str(error)
    return _Input(pixels, raster.size, digest(content))


def _write(
    vectors: TaskVectors, output: UInt8[np.ndarray, "side side 3"], image: _Input, job: Job, reading: Reading
) -> str | None:
    """Write the result; says why where it could not be written."""
    try:
        result = vectors.to_result(output, image.size)
        text = PngInfo()
        text.add_text(_KEY, json_text({**_origin(vectors, image.digest, job, reading), _PIXELS: _digest_of(result)}))
        text.add(b"sRGB", b"\0")  # as all levels here are; its one byte says that colours are perceived
        with replacing(job.result) as temporary:
            result.save(temporary, "PNG", pnginfo=text)
    except MemoryError:
        return (
            f"{job.result} cannot be written: there is not enough memory for {image.size[0]} x {image.size[1]} pixels"
        )
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            raise
        return str(error) if isinstance(error, WriteError) else f"{job.result} cannot be written: {error}"
    return None


def _origin(vectors: TaskVectors, image: str, job: Job, reading: Reading) -> dict[str, object]:
    """What a result is a function of."""
    origin: dict[str, object] = {"vectors": vectors.fingerprint(), "image": image}
    if job.image in reading.deep and reading.levels is not None:
        origin["levels"] = [reading.levels.low, reading.levels.high]
    if reading.ignore_orientation:
        origin["orientation"] = "as stored"
    return origin


def _state(vectors: TaskVectors, job: Job, reading: Reading) -> str:
    """Of a result: ``done``, ``left`` to do, also where it is damaged, or ``other``, made of something else."""
    if not job.result.exists():
        return "left"
    try:
        content = read_bytes(job.image)
    except OSError:
        return "left"  # which tells why it cannot be done
    origin, whole = _origin_of(job.result)
    if origin != _origin(vectors, digest(content), job, reading):
        return "other"
    return "done" if whole else "left"


def _origin_of(result: Path) -> tuple[object, bool]:
    """What an existing file says that it was made from, None where it is none of ours, and whether its pixels are as
    they were written.
    """
    origin = pixels = None
    try:
        check_regular(result)
        with Image.open(result, formats=["PNG"]) as image:
            origin = json.loads(image.info.get(_KEY, "null"))
            pixels = origin.pop(_PIXELS)
            return origin, pixels == _digest_of(image)
    except Exception:  # pillow's plugins raise anything for damaged data
        return None if pixels is None else origin, False


def _digest_of(result: Image.Image) -> str:
    return digest(f"{result.mode} {result.size}".encode() + result.tobytes())
