"""The command that lists what lies in a place."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskvec.cli import options
from taskvec.cli.terminal import console, say_row, show, write_json

if TYPE_CHECKING:
    from taskvec.catalogue import Listed

COLUMNS = ("kind", "path", "task", "model", "score", "sites", "date")


def list_command(
    directory: Annotated[Path, typer.Argument(help="Where to look; here if not given.", show_default=False)] = Path(),
    json_file: options.Json = None,
) -> None:
    """Task vectors and models in a directory, and in those that are in it.

    A table on a terminal; elsewhere lines of values with a tab between two: kind, path, task, model, score, sites, date
    and remark. The score is the last that is recorded in them. A directory that cannot be read gets a line, too.
    """
    from taskvec.catalogue import entries

    found = list(entries(directory))
    if sys.stdout.isatty():
        _show(found)
    else:
        for entry in found:
            say_row(_told(entry))
    write_json(json_file, [asdict(entry) for entry in found])
    if not found:
        console.print(f"there are no task vectors and no models in {directory}")


def _told(entry: "Listed") -> list[str]:
    """The columns of an entry, and a remark."""
    score = "" if entry.score is None else f"{entry.metric} {entry.score:.3f}"
    sites = "" if entry.sites is None else f"{entry.sites} of {entry.of}"
    told = (entry.kind, entry.path, entry.task, entry.model, score, sites, entry.date, entry.remark)
    return [" ".join((each or "").split()) for each in told]


def _show(found: "list[Listed]") -> None:
    from rich.table import Table
    from rich.text import Text

    remarks = any(entry.remark for entry in found)
    table = Table(box=None, pad_edge=False)
    for column in (*COLUMNS, *(["remark"] if remarks else [])):
        table.add_column(column, overflow="fold")
    for entry in found:
        cells = _told(entry)
        table.add_row(*(Text(cell) for cell in (cells if remarks else cells[:-1])))
    if found:
        show(table, 0)
