"""What a terminal or a notebook shows of work that takes a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

COLUMNS = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
SEARCH_COLUMNS = (*COLUMNS, TextColumn("{task.fields[status]}"))


@contextmanager
def counting(what: str, total: int | None, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar for work that counts, such as prompts: what comes out is called with how many more are done.

    ``with counting("pairs", 100) as advance: evaluate(model, method, prompts, advance)``.
    """
    with Progress(*COLUMNS, console=Console(stderr=True, highlight=False), disable=not shown) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda done: bars.advance(bar, done)


def search_progress(*, shown: bool = True) -> Progress:
    """Bars for statistics and searches on standard error, or none at all."""
    return Progress(*SEARCH_COLUMNS, console=Console(stderr=True, highlight=False), disable=not shown)


def show_step(progress: Progress, bar: TaskID, steps: int | None) -> Callable[[dict[str, Any]], None]:
    """What shows a search's records on a bar: loss, number of sites and time left.

    ``steps`` is how many there will be, None where the search itself finds its end.
    """

    def on_step(record: dict[str, Any]) -> None:
        status = f"loss {record['loss']:.3f}  {record['sites']:.0f} sites"
        progress.update(bar, total=steps, completed=record["step"], status=status)

    return on_step


def show_descent(progress: Progress, steps: int) -> Callable[[str, dict[str, Any]], None]:
    """What shows the records of a refinement of a task's values, on a bar of its own, of ``steps`` at most."""
    bars: dict[str, TaskID] = {}

    def on_step(task: str, record: dict[str, Any]) -> None:
        if task not in bars:
            bars[task] = progress.add_task(f"refining {task}", total=steps, status="")
        progress.update(bars[task], completed=record["step"], status=f"loss {record['loss']:.3f}")

    return on_step
