"""What the commands share beside their options: the application, progress, loading with a word about it, writing."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import Progress, TaskID
from rich.segment import Segment
from typer.core import TyperGroup

from taskvec import environment, files
from taskvec.data import DataSet
from taskvec.data.examples import task_for
from taskvec.files import escaped
from taskvec.processes import is_first
from taskvec.progress import show_step
from taskvec.tasks import Task
from taskvec.vectors import TaskVectors


class _Commands(TyperGroup):
    """Commands may have names of two words."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = " ".join(args[:2])
        return (name, self.commands[name], args[2:]) if name in self.commands else super().resolve_command(ctx, args)


app = typer.Typer(
    name="taskvec",
    cls=_Commands,
    help="Find and use visual task vectors.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


class _Console(Console):
    """Shows control characters, of which names of files and tasks may have any, instead of letting them act."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(escaped(item) if isinstance(item, str) else item for item in objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(_escaped_lines(segment.text), segment.style)


def _escaped_lines(text: str) -> str:
    """Line by line: where a text of several lines is laid out, their ends are meant."""
    return "\n".join(escaped(line) for line in text.split("\n"))


# names of files are no markup, and never broken into lines; of several processes the first one tells
console = _Console(stderr=True, markup=False, highlight=False, soft_wrap=True, quiet=not is_first())


def say(text: str) -> None:
    """Print a result, line by line, on standard output; control characters are shown, not obeyed."""
    if not is_first():
        return
    try:
        print(_escaped_lines(text))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ValueError(f"standard output cannot be written: {error.strerror}") from error


def show(renderable: RenderableType, width: int) -> None:
    """Print a table on standard output, at least so wide."""
    _Console(width=max(width, console.width), quiet=not is_first()).print(renderable)


SEARCH_LOG, SEARCH_STATE = "search.jsonl", "search.safetensors"


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    traceback: Annotated[
        bool,
        typer.Option(
            "--traceback",
            help="Let an error through with its traceback, to report it, as TASKVEC_TRACEBACK=1 does.",
            envvar="TASKVEC_TRACEBACK",
        ),
    ] = False,
) -> None:
    """Find and use visual task vectors."""
    if version:
        say(environment.versions()["taskvec"])
        raise typer.Exit


def refuse_several(names: Sequence[str] | None) -> None:
    """ValueError where a command that is about one task is given several names."""
    if names and len(names) > 1:
        raise ValueError(
            f"--task {' --task '.join(names)}: expected one task; `taskvec search` finds several at the same sites"
        )


def choose_task(data: DataSet, names: Sequence[str] | None, metric: str | None) -> Task:
    """The task of this name or the data's own; ValueError for several names."""
    refuse_several(names)
    task = task_for(data, names[0] if names else None)
    if task is not data.own_task and metric is not None:
        raise ValueError(f"--metric {metric}: only a folder's own task is scored by choice, not {task.name}")
    return task


def write_json(path: Path | None, result: object) -> None:
    if path is not None:
        files.write_json(path, result)


def search_log(progress: Progress, bar: TaskID, log: Path, steps: int | None) -> Callable[[dict[str, Any]], None]:
    """Shows a search's records as ``show_step`` does, and writes them to LOG.partial.

    The name is for a search that is not over: an earlier log stays until ``keep`` replaces it.
    """
    show = show_step(progress, bar, steps)

    def on_step(record: dict[str, Any]) -> None:
        show(record)
        log.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(log).open("w" if record["step"] == 1 else "a") as lines:
            lines.write(files.json_text(record) + "\n")

    return on_step


def partial_file(path: Path) -> Path:
    """What is there beside a result as long as it is not done."""
    return path.with_name(f"{path.name}.partial")


def keep(vectors: TaskVectors, directory: Path, log: Path) -> None:
    """Save task vectors, and the whole log of their search, whose partial one may lack what was done before a stop."""
    vectors.save_pretrained(directory)
    files.write_json_lines(log, vectors.search.history)
    partial_file(log).unlink(missing_ok=True)
