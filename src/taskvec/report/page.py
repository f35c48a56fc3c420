"""The report: one HTML file that holds everything it shows, so that it can be kept, mailed and read offline."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from taskvec.files import replacing
from taskvec.report import figures
from taskvec.report.outcomes import Outcome, TaskOutcome
from taskvec.report.rendering import data_uri, duration, environment, facts, place
from taskvec.report.table import RELATION_LABELS, method_label, number, span, time_told, winners
from taskvec.tasks import title_of


def write_report(
    outcome: Outcome,
    path: Path,
    pairs: bytes | None = None,
    remarks: Sequence[str] = (),
    seconds: Callable[[], float] | None = None,
) -> None:
    """Write the report as one self-contained HTML file; an error leaves ``path`` as it was.

    ``pairs`` is a picture (PNG) of the first pairs as the model is given them, ``remarks`` what was told from their
    files. ``seconds`` is asked how long the whole job took when all is drawn; without, that is what the outcome took.
    """
    page = _render(outcome, pairs, remarks, seconds)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _render(
    outcome: Outcome,
    pairs: bytes | None = None,
    remarks: Sequence[str] = (),
    seconds: Callable[[], float] | None = None,
) -> str:
    templates = environment()
    templates.filters.update(
        number=number, span=span, signed="{:+.3f}".format, duration=duration, thousands="{:,}".format, place=place
    )
    # masks are understood at a glance
    illustrated = next((task for task in outcome.tasks if task.metric.of_masks), outcome.tasks[0])
    return templates.get_template("report.html.j2").render(
        outcome=outcome,
        pairs=data_uri(pairs) if pairs else None,
        remarks=remarks,
        methods=outcome.described,
        labels={method: method_label(method, outcome.tasks[0]) for method in outcome.methods},
        margins=", or ".join(dict.fromkeys(task.metric.margin_told for task in outcome.tasks)),
        metrics=dict.fromkeys(task.metric for task in outcome.tasks),
        relations=RELATION_LABELS,
        idea=None if outcome.of_texts else data_uri(figures.idea(illustrated)),
        illustrated=illustrated,
        took=lambda: time_told(outcome, outcome.seconds if seconds is None else seconds()),
        sections=[_section(outcome, task) for task in outcome.tasks],
        facts={
            "Model": facts(outcome.model),
            "Data": facts(outcome.data),
            "Settings": facts(outcome.settings),
            "Machine": facts(outcome.machine),
            "Versions": facts(outcome.versions),
        },
    )


def _section(outcome: Outcome, task: TaskOutcome) -> dict[str, Any]:
    """What the template shows of one task."""
    curve = figures.search_curve(task, outcome.settings.get("objective", "pixel")) if task.history else None
    return {
        "outcome": task,
        "title": title_of(task.task),
        "winners": winners(task),
        "score_chart": data_uri(figures.score_chart(task)),
        "examples": None if outcome.of_texts else data_uri(figures.example_grid(task)),
        "search": data_uri(curve) if curve else None,
        "curve": data_uri(figures.sites_curve(task)) if task.curve else None,
        "sites": data_uri(figures.site_map(task, outcome.stacks)),
    }
