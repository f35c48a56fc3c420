"""What the commands' options share: their types and help, and checks before any work is done."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
import typer

from taskvec.data import DATA_SETS
from taskvec.data.pascal import LAYOUTS
from taskvec.models import SHIPPED, shipped_model
from taskvec.tasks import METRICS, TASKS
from taskvec.vectors import read_config


def file(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Refuse a destination before hours are spent on what goes there."""
    if path is not None and path.is_dir():
        raise ValueError(f"{option.opts[0]} {path} is a directory, expected a file")
    if path is not None and path.exists() and not path.is_file():
        raise ValueError(f"{option.opts[0]} {path} is a device or a pipe, expected a file")
    return _under_a_directory(option, path)


def directory(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """As ``file``, for a directory."""
    if path is not None and path.exists() and not path.is_dir():
        raise ValueError(f"{option.opts[0]} {path} is a file, expected a directory")
    if path is not None and path.is_dir() and not os.access(path, os.W_OK):
        raise ValueError(f"{option.opts[0]} {path} cannot be written to")
    return _under_a_directory(option, path)


def _under_a_directory(option: typer.CallbackParam, path: Path | None) -> Path | None:
    if path is not None:
        nearest = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise ValueError(f"{option.opts[0]} {path} cannot be written: {nearest} is no directory to write to")
    return path


def device_named(name: str) -> torch.device:
    """The device, if it is there."""
    try:
        if name.split(":", maxsplit=1)[0] not in ("cpu", "cuda"):
            raise ValueError
        device = torch.device(name)
        torch.empty(0, device=device)
        torch.backends.cudnn.allow_tf32 = False  # float32 is to be float32, in convolutions too
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: there is no such device here, expected cpu, cuda or cuda:N") from error
    return device


def model_of(vectors: Iterable[Path], given: str | None) -> str:
    """The name of the model that was given, else the shipped one that task vectors belong to, else tiny."""
    if given is not None:
        return given
    for directory in vectors:
        config = read_config(directory)
        if (name := config.model if config.model in SHIPPED else shipped_model(config.model_fingerprint)) is not None:
            return name
    return SHIPPED[0]


def refuse_to_overwrite(path: Path, overwrite: bool) -> None:
    """ValueError where there are results already and nothing says that they may go."""
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists: results are never merged; name another place or pass --overwrite")


_MODELS = f"A model that ships with the package ({', '.join(SHIPPED)}), a directory, or hub:OWNER/NAME to download"
Model = Annotated[str, typer.Option("--model", help=f"{_MODELS}.")]
ModelOfVectors = Annotated[
    str | None,
    typer.Option("--model", help=f"{_MODELS}; if not given, that of the task vectors where it ships, or tiny."),
]
Task = Annotated[
    str | None,
    typer.Option(
        "--task",
        help=f"One of {', '.join(TASKS)}, two, such as inpainting+segmentation (the mask of an image with a hole), or "
        "nothing for a folder's own task.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="The same seed gives the same result.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Json = Annotated[Path | None, typer.Option("--json", callback=file, help="Also write the result as JSON to this file.")]

# Which data; what a data set has no use for must not be given.
Data = Annotated[str, typer.Option("--data", help=f"Data set: {', '.join(DATA_SETS)} (pictures only to judge by).")]
Root = Annotated[
    Path | None, typer.Option("--root", help="The directory of Pascal-5i, of images, or of input/ and output/.")
]
Split = Annotated[
    int | None, typer.Option("--split", help="Only the classes of this fold of scenes or Pascal-5i, 0 to 3.")
]
Layout = Annotated[
    str | None,
    typer.Option("--layout", help=f"What Pascal-5i trains on in a split: {' or '.join(LAYOUTS)} (few_shot)."),
]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out what Pascal-5i's lists name and its directory lacks.")
]
Metric = Annotated[
    str | None,
    typer.Option("--metric", help=f"A folder's metric: {' or '.join(METRICS)}; told from its outputs if not given."),
]
