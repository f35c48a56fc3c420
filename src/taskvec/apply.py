"""Task vectors on image files. Every result says what it was made from, so that a run can be taken up again."""

import errno
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from taskvec.files import WriteError, check_regular, digest, json_text, read_bytes, replacing
from taskvec.images import check_is_image, image_files, read_rgb
from taskvec.vectors import BATCH, TaskVectors

_KEY = "taskvec"  # of the text in a result's PNG
_END_OF_PNG = bytes.fromhex("0000000049454e44ae426082")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of no image in particular


@dataclass(frozen=True)
class Job:
    """An image and where its result goes."""

    image: Path
    result: Path


@dataclass(frozen=True)
class _Input:
    """What is kept of an image between reading and writing: pixels at the model's size, its own size, its digest."""

    pixels: UInt8[np.ndarray, "side side 3"]
    size: tuple[int, int]
    digest: str


def plan(source: Path, out: Path) -> list[Job]:
    """A job for every image of a directory, by name, or for the one file; results are OUT/NAME.png.

    Raises ValueError where there is nothing, something that is no image, or a result that would replace an input or
    another result, or would be among the images the next time.
    """
    if not source.exists():
        raise ValueError(f"{source} does not exist: expected an image or a directory of images")
    if source.is_dir():
        if Path(realpath(out)).is_relative_to(realpath(source)):
            raise ValueError(f"{out} is in the directory of the images, {source}: name another directory")
        images = image_files(source)
    else:
        check_is_image(source)
        images = [source]
    inputs = {realpath(path) for path in images}
    jobs: dict[Path, Job] = {}
    for image in images:
        result = out / f"{image.stem}.png"
        if result in jobs:
            raise ValueError(f"{jobs[result].image} and {image} share a name: both results would be {result}")
        if realpath(result) in inputs:
            raise ValueError(f"the result of {image} would replace the image {result}: name another directory")
        jobs[result] = Job(image, result)
    return list(jobs.values())


def left_to_do(vectors: TaskVectors, jobs: list[Job], *, overwrite: bool = False) -> list[Job]:
    """The jobs whose results are not there yet, all of them with ``overwrite``.

    Raises ValueError where results' names are taken by anything else than these images' results with these vectors.
    """
    if overwrite:
        return jobs
    done, others = set(), []
    for job in jobs:
        if job.result.exists():
            try:
                content = read_bytes(job.image)
            except OSError:
                continue  # left to do, which tells why it cannot be done
            if _origin_of(job.result) == _origin(vectors, digest(content)):
                done.add(job)
            else:
                others.append(job)
    if others:
        raise ValueError(
            f"{others[0].result} exists and is not what these vectors make of {others[0].image} as it is now "
            f"({len(others)} such files in all): name another directory or pass --overwrite"
        )
    return [job for job in jobs if job not in done]


def apply_files(
    vectors: TaskVectors, jobs: Sequence[Job], on_done: Callable[[Job], None] = lambda job: None
) -> dict[Path, str]:
    """Do the task on every image, many in a pass; in the end the images that could not be done, with the reason.

    ``on_done`` is called after every image. Raises OSError where there is no space left or no writing at all.
    """
    failures: dict[Path, str] = {}
    with ThreadPoolExecutor() as threads:
        for start in range(0, len(jobs), BATCH):
            batch = jobs[start : start + BATCH]
            inputs = list(threads.map(lambda job: _read(vectors, job.image), batch))
            readable = [each.pixels for each in inputs if isinstance(each, _Input)]
            outputs = iter(vectors.predict(np.stack(readable)) if readable else ())
            for job, each in zip(batch, inputs, strict=True):
                done = isinstance(each, _Input)
                reason = _write(vectors, next(outputs), each, job.result) if done else each
                if reason:
                    failures[job.image] = reason
                on_done(job)
    return failures


def _read(vectors: TaskVectors, path: Path) -> _Input | str:
    """The image, or why it could not be read."""
    try:
        content = read_bytes(path)
        image = read_rgb(path, content)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    except ValueError as error:
        return str(error)
    return _Input(vectors.to_input(image), image.size, digest(content))


def _write(vectors: TaskVectors, output: UInt8[np.ndarray, "side side 3"], image: _Input, result: Path) -> str | None:
    """Write the result; says why where it could not be written."""
    origin = PngInfo()
    origin.add_text(_KEY, json_text(_origin(vectors, image.digest)))
    try:
        with replacing(result) as temporary:
            vectors.to_result(output, image.size).save(temporary, "PNG", pnginfo=origin)
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            raise
        return str(error) if isinstance(error, WriteError) else f"{result} cannot be written: {error}"
    return None


def _origin(vectors: TaskVectors, image: str) -> dict[str, str]:
    """What a result is a function of."""
    return {"vectors": vectors.fingerprint(), "image": image}


def _origin_of(result: Path) -> object:
    """What an existing file says that it was made from; None where it is no whole result of ours."""
    try:
        check_regular(result)
        with result.open("rb") as file:
            file.seek(-len(_END_OF_PNG), 2)
            if file.read() != _END_OF_PNG:
                return None
        with Image.open(result, formats=["PNG"]) as image:
            return json.loads(image.info.get(_KEY, "null"))
    except Exception:  # whatever it is, it is not ours
        return None
