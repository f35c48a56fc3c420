"""Task vectors on image files. Every result says what it was made from, so that a run can be taken up again."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from taskvec.files import replacing
from taskvec.images import check_is_image, image_files, read_rgb
from taskvec.vectors import TaskVectors

_KEY = "taskvec"  # of the text in a result's PNG


@dataclass(frozen=True)
class Job:
    """An image and where its result goes."""

    image: Path
    result: Path


def plan(source: Path, out: Path) -> list[Job]:
    """A job for every image of a directory, by name, or for the one file; results are OUT/NAME.png.

    Raises ValueError where there is nothing, something that is no image, or a result that would replace an input or
    another result.
    """
    if not source.exists():
        raise ValueError(f"{source} does not exist: expected an image or a directory of images")
    if source.is_dir():
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

    Raises ValueError where a result's name is taken by anything else than this image's result with these vectors.
    """
    if overwrite:
        return jobs
    left = []
    for job in jobs:
        if not job.result.exists():
            left.append(job)
        elif _origin_of(job.result) != _origin(vectors, job.image):
            raise ValueError(
                f"{job.result} exists and is not what these vectors make of {job.image} as it is now: "
                "name another directory or pass --overwrite"
            )
    return left


def apply_files(vectors: TaskVectors, jobs: Iterable[Job]) -> dict[Path, str]:
    """Do the task on every image; the images that could not be read, with the reason, in the end."""
    failures = {}
    for job in jobs:
        try:
            apply_file(vectors, job)
        except ValueError as error:
            failures[job.image] = str(error)
    return failures


def apply_file(vectors: TaskVectors, job: Job) -> None:
    """Do the task on one image; ValueError where the file cannot be read as one, and nothing is written then."""
    answer = vectors(read_rgb(job.image))
    origin = PngInfo()
    origin.add_text(_KEY, json.dumps(_origin(vectors, job.image)))
    with replacing(job.result) as temporary:
        answer.save(temporary, "PNG", pnginfo=origin)


def _origin(vectors: TaskVectors, image: Path) -> dict[str, str]:
    """What a result is a function of."""
    return {"vectors": vectors.fingerprint(), "image": hashlib.sha256(image.read_bytes()).hexdigest()[:16]}


def _origin_of(result: Path) -> object:
    """What an existing file says that it was made from; None where it is no result of ours."""
    try:
        with Image.open(result, formats=["PNG"]) as opened:
            opened.load()  # half a file has a whole header
            return json.loads(opened.info.get(_KEY, "null"))
    except (OSError, ValueError, SyntaxError):
        return None
