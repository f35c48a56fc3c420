"""What the commands share beside their options: the application, progress, loading with a word about it, writing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from taskvec import environment
from taskvec.data import DataSet
from taskvec.data.examples import task_for
from taskvec.files import replacing
from taskvec.tasks import Task
from taskvec.vectors import TaskVectors

app = typer.Typer(
    name="taskvec",
    help="Find and use visual task vectors.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
# names of files are no markup, and never broken into lines
console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)

INTERRUPTED = 130  # the exit status after Ctrl-C
SEARCH_LOG, SEARCH_STATE = "search.jsonl", "search.safetensors"
COLUMNS = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
SEARCH_COLUMNS = (*COLUMNS, TextColumn("{task.fields[status]}"))


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Find and use visual task vectors."""
    if version:
        print(environment.versions()["taskvec"])
        raise typer.Exit


def choose_task(data: DataSet, name: str | None, metric: str | None) -> Task:
    """The task of this name or the data's own."""
    task = task_for(data, name)
    if task is not data.own_task and metric is not None:
        raise ValueError(f"--metric {metric}: only a folder's own task is scored by choice, not {task.name}")
    return task


def write_json(path: Path | None, result: object) -> None:
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")


def search_log(progress: Progress, bar: TaskID, log: Path, steps: int | None) -> Callable[[dict[str, Any]], None]:
    """Shows a search's records as a bar with loss, number of sites and time left, and writes them to LOG.partial.

    The name is for a search that is not over: an earlier log stays until ``keep`` replaces it. ``steps`` is how many
    there will be, None where the search itself finds its end.
    """

    def on_step(record: dict[str, Any]) -> None:
        status = f"loss {record['loss']:.3f}  {record['sites']:.0f} sites"
        progress.update(bar, total=steps, completed=record["step"], status=status)
        log.parent.mkdir(parents=True, exist_ok=True)
        with _partial(log).open("w" if record["step"] == 1 else "a") as lines:
            lines.write(json.dumps(record) + "\n")

    return on_step


def _partial(log: Path) -> Path:
    return log.with_name(f"{log.name}.partial")


def keep(vectors: TaskVectors, directory: Path, log: Path) -> None:
    """Save task vectors, and the whole log of their search, whose partial one may lack what was done before a stop."""
    vectors.save_pretrained(directory)
    with replacing(log) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in vectors.config.found["history"]))
    _partial(log).unlink(missing_ok=True)
