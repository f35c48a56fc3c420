"""What the commands' options share: their types and help, and checks before any work is done."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskvec.choices import ANSWER_SCOPES, SHIPPED, TASKS, AnswerScope
from taskvec.cli import terminal

if TYPE_CHECKING:
    import torch

    from taskvec.models.interface import PromptedModel


def with_parameters(command: Callable[..., Any], parameters: Iterable[Parameter]) -> Callable[..., Any]:
    """The command, for typer to read that it has these parameters."""
    every = list(parameters)
    command.__signature__ = inspect.Signature(every, return_annotation=None)  # pyright: ignore[reportFunctionMemberAccess]
    command.__annotations__ = {one.name: one.annotation for one in every}
    return command


def among(names: Iterable[str]) -> Callable[[str], list[str]]:
    """What completes an option in a shell that takes one of these names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def file(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Refuse a destination before hours are spent on what goes there."""
    from taskvec.files import check_destination

    return _checked(option, path, check_destination)


def json_file(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """The same, but for a dash, which keeps standard output for the result."""
    if path != terminal.STANDARD_OUTPUT:
        return file(option, path)
    terminal.only_json()
    return path


def directory(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """As ``file``, for a directory."""
    from taskvec.files import check_destination_directory

    return _checked(option, path, check_destination_directory)


def _checked(option: typer.CallbackParam, path: Path | None, check: Callable[[Path], None]) -> Path | None:
    if path is not None:
        try:
            check(path)
        except ValueError as error:
            raise ValueError(f"{option.opts[0]} {error}") from error
    return path


def check_destinations(out: Path, files: Iterable[str], directories: Iterable[str] = ()) -> None:
    """ValueError where something stands in the way of what will be written in a directory, before hours are spent."""
    from taskvec.files import check_destination, check_destination_directory

    for name in directories:
        check_destination_directory(out / name)
    for name in files:
        check_destination(out / name)


def one_writer(parameter: str = "out", *, to_file: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Lets a command run only while no other one writes to the directory, or file, that this parameter of it names."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def alone(**given: Any) -> Any:
            from taskvec.locks import locked

            places = [] if given[parameter] is None else [given[parameter]]
            with locked(files=places) if to_file else locked(*places):
                return command(**given)

        return alone

    return decorate


def answer_scope(given: str | None, model: "PromptedModel") -> AnswerScope | None:
    """What was asked for; ValueError for anything else, or of a model that answers with images."""
    if given is None:
        return None
    if given not in ANSWER_SCOPES:
        raise ValueError(f"--answers {given}: expected {' or '.join(ANSWER_SCOPES)}")
    if not model.takes_texts:
        raise ValueError(f"--answers {given}: the model answers with images, expected a language model")
    return given


def device_named(name: str) -> "torch.device":
    """The device, if it is there."""
    import torch

    try:
        if name.split(":", maxsplit=1)[0] not in ("cpu", "cuda"):
            raise ValueError
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # float32 is to be float32, in convolutions too
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: there is no such device here, expected cpu, cuda or cuda:N") from error
    return device


def together(command: Callable[..., Any]) -> Callable[..., Any]:
    """Lets several processes that torchrun started run a command together (``processes.current()``)."""

    @wraps(command)
    def with_others(**given: Any) -> Any:
        from taskvec.processes import joined

        with joined(device_named(given["device"])):
            return command(**given)

    return with_others


def working_on(name: str, threads: int | None) -> "torch.device":
    """The device, of several processes this one's, with as many threads as long work is to take: those that were given,
    or the fastest."""
    from taskvec.memory import reserve_for_numpy
    from taskvec.processes import current, own_device
    from taskvec.threads import settle
    from taskvec.torchrun import started

    if current().count != started():
        raise ValueError(f"this command is not for {started()} processes together: start it without torchrun")
    device = own_device(device_named(name))
    reserve_for_numpy()
    settle(device, threads)
    return device


def model_of(vectors: Iterable[Path], given: str | None) -> str:
    """The name of the model that was given, else that of the first task vectors, else tiny."""
    from taskvec.artefacts import base_model_of

    return given or next(map(base_model_of, vectors), SHIPPED[0])


def refuse_to_overwrite(path: Path, overwrite: bool) -> None:
    """ValueError where there are results already and nothing says that they may go."""
    if path.exists() and not overwrite and not _is_empty(path):
        raise ValueError(f"{path} exists: results are never merged; name another place or pass --overwrite")


def _is_empty(path: Path) -> bool:
    """Whether it is a directory with nothing in it but a lock."""
    from taskvec.locks import LOCK

    return path.is_dir() and all(one.name == LOCK for one in path.iterdir())


_MODELS = f"A model that ships with the package ({', '.join(SHIPPED)}), a directory, or hub:OWNER/NAME to download"
Model = Annotated[str, typer.Option("--model", autocompletion=among(SHIPPED), help=f"{_MODELS}.")]
ModelOfVectors = Annotated[
    str | None,
    typer.Option(
        "--model",
        autocompletion=among(SHIPPED),
        help=f"{_MODELS}; if not given, that of the task vectors, or tiny.",
    ),
]
Task = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        autocompletion=among(TASKS),
        help=f"One of {', '.join(TASKS)}, two, such as inpainting+segmentation (the mask of an image with a hole), or "
        "nothing for a folder's own task.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="The same seed gives the same result.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        max=1024,
        help="Of the processor; those of OMP_NUM_THREADS, or the fastest by a short measurement, if not given.",
        show_default=False,
    ),
]
Bfloat16 = Annotated[
    bool,
    typer.Option("--bfloat16", help="Search in this precision: faster on processors and GPUs that have it; recorded."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Json = Annotated[
    Path | None,
    typer.Option(
        "--json",
        callback=json_file,
        help="Also write the result as JSON to this file; - prints it in place of anything else.",
    ),
]

LEVELS = (
    "The levels of 16-bit and floating-point files that become black and white, in all of them; told from all together "
    "if not given."
)
IGNORE_ORIENTATION = "Take pixels as they are stored, however EXIF turns them."
MAX_PIXELS, MOST_PIXELS = "An image of more pixels than that is not decoded.", 178_956_970
Levels = Annotated[tuple[float, float] | None, typer.Option("--levels", metavar="LO HI", help=LEVELS)]
IgnoreOrientation = Annotated[bool, typer.Option("--ignore-orientation", help=IGNORE_ORIENTATION)]
MaxPixels = Annotated[int, typer.Option("--max-pixels", min=1, max=MOST_PIXELS, help=MAX_PIXELS)]

SearchSeed = Annotated[
    int | None, typer.Option("--seed", min=0, max=2**63 - 1, help="Of everything that is drawn; 0.", show_default=False)
]
SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        help="A TOML file of settings, by the names of taskvec.FindSettings and, in its table `search`, of its search; "
        "`preset` and `method` too.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any setting by its name in Python, such as search.learning_rate=0.1, same_hole=true or "
        'judged_by=["segmentation"]; repeat for more.',
    ),
]
AtMost = Annotated[
    int | None,
    typer.Option("--at-most", min=1, metavar="K", help="The best set of no more sites; any number if not given."),
]
Answers = Annotated[
    str | None,
    typer.Option(
        "--answers",
        autocompletion=among(ANSWER_SCOPES),
        help=f"Of a language model, how much of an answer is to be right: {' or '.join(ANSWER_SCOPES)}, its first "
        "token or all of them; first if not given.",
    ),
]
Refine = Annotated[
    bool,
    typer.Option(
        "--refine",
        help="Also follow the gradient of the loss by the values at the sites that were found, from the means.",
    ),
]
WriteTensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Also write each step's numbers to OUT/tensorboard, for TensorBoard.")
]
Curve = Annotated[bool, typer.Option("--curve", help="Also the validation score by the number of sites.")]
