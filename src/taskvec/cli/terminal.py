"""What the commands share beside their options: what is said where, and how much; writing results."""

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from taskvec.torchrun import is_first

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from taskvec.data import DataSet
    from taskvec.tasks import Task
    from taskvec.vectors import TaskVectors

JUDGEMENT = ("report.html", "examples.png", "pairs.png", "results.json", "pairs.jsonl")  # beside task vectors
SEARCH_LOG, SEARCH_STATE = "search.jsonl", "search.safetensors"
STANDARD_OUTPUT = Path("-")  # as the file of --json


class _Console(Console):
    """Shows control characters, of which names of files and tasks may have any, instead of letting them act."""

    def print(self, *objects: Any, **options: Any) -> None:
        from taskvec.files import escaped

        super().print(*(escaped(item) if isinstance(item, str) else item for item in objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_escaped_lines(segment.text), segment.style)


def _escaped_lines(text: str) -> str:
    """Line by line: where a text of several lines is laid out, their ends are meant."""
    from taskvec.files import escaped

    return "\n".join(escaped(line) for line in text.split("\n"))


# names of files are no markup, and never broken into lines; of several processes the first one tells
console = _Console(stderr=True, markup=False, highlight=False, soft_wrap=True, quiet=not is_first())


class _Told(logging.Handler):
    """What the library logs, each with the seconds since the command began."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(f"{so_far():7.2f} s  {record.getMessage()}")


_began = [time.monotonic()]


def so_far() -> float:
    """Seconds by the clock since the command began, its imports among them."""
    return time.monotonic() - _began[0]


@contextmanager
def as_told() -> Iterator[None]:
    """In the block a command may say how much it tells, and to whom; behind it all is as before."""
    _began[0] = time.monotonic()
    quiet, log = console.quiet, logging.getLogger("taskvec")
    handlers, level = list(log.handlers), log.level
    with warnings.catch_warnings():
        try:
            yield
        finally:
            console.quiet, log.handlers = quiet, handlers
            log.setLevel(level)
            _only_json.clear()


def set_volume(*, quiet: bool, verbose: bool) -> None:
    """``quiet``: say nothing but results and errors; ``verbose``: also what the library logs. ValueError for both."""
    if quiet and verbose:
        raise ValueError("--quiet and --verbose: expected one of them")
    if quiet:
        console.quiet = True
        warnings.simplefilter("ignore")
    if verbose:
        log = logging.getLogger("taskvec")
        log.addHandler(_Told(logging.INFO))
        log.setLevel(logging.INFO)


_only_json: list[bool] = []  # not empty where standard output is for a result as JSON


def only_json() -> None:
    """Keep standard output for a result as JSON."""
    _only_json.append(True)


def say(text: str) -> None:
    """Print a result, line by line, on standard output; control characters are shown, not obeyed."""
    if _only_json or not is_first():
        return
    _print(_escaped_lines(text))


def as_lines(facts: Mapping[str, Any]) -> str:
    """Facts for people, a line each: what has parts has a line for each of these, and parts of parts share one.

    What is None is left out.
    """
    lines = []
    for name, value in facts.items():
        if isinstance(value, Mapping) and value:
            told = {part: _words(each) for part, each in value.items() if each is not None}
            lines += [f"{_label(name)}:", *(f"  {_label(part)}: {words}" for part, words in told.items())]
        elif value is not None:
            lines.append(f"{_label(name)}: {_words(value)}")
    return "\n".join(lines)


def _label(name: str) -> str:
    return name.replace("_", " ")


def _words(value: object) -> str:
    """A value as people write it: a comma between two parts, and brackets around parts of parts."""
    if isinstance(value, Mapping):
        return ", ".join(f"{_label(name)} {_inner(each)}" for name, each in value.items() if each is not None)
    if isinstance(value, list | tuple):
        return ", ".join(map(_inner, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def _inner(value: object) -> str:
    several = isinstance(value, Mapping | list | tuple) and len(value) > 1
    return f"({_words(value)})" if several else _words(value)


def say_row(values: Sequence[str]) -> None:
    """Print a result as a line of values with a tab between two, as ``say`` does."""
    from taskvec.files import escaped

    if not _only_json and is_first():
        _print("\t".join(escaped(value) for value in values))


def _print(text: str) -> None:
    try:
        print(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ValueError(f"standard output cannot be written: {error.strerror}") from error


def show(renderable: RenderableType, width: int) -> None:
    """Print a table on standard output, at least so wide."""
    _Console(width=max(width, console.width), quiet=bool(_only_json) or not is_first()).print(renderable)


def write_json(path: Path | None, result: object) -> None:
    """A result as JSON in a file or, where that is a dash, on standard output; nowhere for None."""
    from taskvec import files

    if path == STANDARD_OUTPUT:
        if is_first():
            _print(files.json_text(result, indent=1))
    elif path is not None:
        files.write_json(path, result)


def refuse_several(names: Sequence[str] | None) -> None:
    """ValueError where a command that is about one task is given several names."""
    if names and len(names) > 1:
        raise ValueError(
            f"--task {' --task '.join(names)}: expected one task; `taskvec search` finds several at the same sites"
        )


def choose_task(data: "DataSet", names: Sequence[str] | None, metric: str | None) -> "Task":
    """The task of this name or the data's own; ValueError for several names."""
    from taskvec.data.examples import task_for

    refuse_several(names)
    task = task_for(data, names[0] if names else None)
    if task is not data.own_task and metric is not None:
        raise ValueError(f"--metric {metric}: only a folder's own task is scored by choice, not {task.name}")
    return task


def search_log(
    progress: "Progress", bar: "TaskID", log: Path, steps: int | None, *, tensorboard: bool = False
) -> Callable[[dict[str, Any]], None]:
    """Shows a search's records as ``show_step`` does, and writes them to LOG.partial, or for TensorBoard as well.

    The name is for a search that is not over: an earlier log stays until ``keep`` replaces it.
    """
    from taskvec import files
    from taskvec.progress import show_step
    from taskvec.tracking import TensorBoard

    show = show_step(progress, bar, steps)
    watch = TensorBoard(log.parent / "tensorboard") if tensorboard else None

    def on_step(record: dict[str, Any]) -> None:
        show(record)
        log.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(log).open("w" if record["step"] == 1 else "a") as lines:
            lines.write(files.json_text(record) + "\n")
        if watch is not None:
            watch(record)

    return on_step


def partial_file(path: Path) -> Path:
    """What is there beside a result as long as it is not done."""
    return path.with_name(f"{path.name}.partial")


def keep(vectors: "TaskVectors", directory: Path, log: Path) -> None:
    """Save task vectors, and the whole log of their search, whose partial one may lack what was done before a stop."""
    from taskvec import files

    vectors.save_pretrained(directory)
    files.write_json_lines(log, vectors.search.history)
    partial_file(log).unlink(missing_ok=True)
