"""The report: one HTML file that holds everything it shows, so that it can be kept, mailed and read offline."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from taskvec.files import replacing
from taskvec.report import figures
from taskvec.report.outcomes import METHODS, Outcome, TaskOutcome
from taskvec.report.table import BETTER, METHOD_LABELS, METRIC_LABELS, matches_one_shot, number, span, winners

ILLUSTRATED = "segmentation"  # the task whose outputs are understood at a glance


def write_report(outcome: Outcome, path: Path) -> None:
    """Write the report as one self-contained HTML file; an error leaves ``path`` as it was."""
    page = _render(outcome)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _render(outcome: Outcome) -> str:
    loader = PackageLoader("taskvec.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, span=span, duration=duration, thousands="{:,}".format)
    illustrated = next((task for task in outcome.tasks if task.task == ILLUSTRATED), outcome.tasks[0])
    return environment.get_template("report.html.j2").render(
        outcome=outcome,
        methods=METHODS,
        labels=METHOD_LABELS,
        metric_labels=METRIC_LABELS,
        better=BETTER,
        matched=sum(matches_one_shot(task) for task in outcome.tasks),
        idea=_data_uri(figures.idea(illustrated)),
        illustrated=illustrated,
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
    stacks = outcome.settings.get("stacks", tuple(outcome.layers))
    layers, heads = ({stack: sizes[stack] for stack in stacks} for sizes in (outcome.layers, outcome.heads))
    curve = figures.search_curve(task, outcome.settings.get("objective", "pixel")) if task.history else None
    return {
        "outcome": task,
        "title": task.task.replace("_", " "),
        "winners": winners(task),
        "score_chart": _data_uri(figures.score_chart(task)),
        "examples": _data_uri(figures.example_grid(task)),
        "search": _data_uri(curve) if curve else None,
        "sites": _data_uri(figures.site_map(task, layers, heads)),
    }


def _data_uri(picture: bytes | str) -> str:
    """A PNG (bytes) or an SVG (text) as an address that holds it; an SVG's names thus stay its own."""
    kind, data = ("png", picture) if isinstance(picture, bytes) else ("svg+xml", picture.encode())
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def facts(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as flat rows of text: {"search": {"steps": 80}} becomes {"search · steps": "80"}."""
    rows: dict[str, str] = {}
    for name, value in values.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows |= facts(value, f"{label} \N{MIDDLE DOT} ")
        else:
            rows[label] = _text(value)
    return rows


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
