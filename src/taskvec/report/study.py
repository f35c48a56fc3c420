"""The report of a whole study: what was run, the verdict on every claim, then each table and figure in turn."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from taskvec.choices import IMAGE_METRICS
from taskvec.files import replacing
from taskvec.intervals import FEWEST
from taskvec.metrics import Metric
from taskvec.report.exports import heading, is_numeric, to_png
from taskvec.report.rendering import data_uri, environment, facts
from taskvec.results import Judgement, Picture, Table, Verdict

MARKS: dict[Judgement, str] = {
    "holds": "\N{CHECK MARK}",
    "does not hold": "\N{MULTIPLICATION X}",
    "cannot be told": "?",
    "cannot be tested here": "\N{EN DASH}",
}


def write_study(
    path: Path,
    title: str,
    told: Mapping[str, Mapping[str, Any]],
    verdicts: Sequence[Verdict],
    sections: Sequence[tuple[str, Sequence[Table | Picture]]],
    metrics: Iterable[Metric] = IMAGE_METRICS.values(),
) -> None:
    """Write one self-contained HTML file; an error leaves ``path`` as it was.

    ``told`` is what was run, settings by group, such as {"Data": {"splits": 4}}. ``sections`` have a title and what is
    shown under it, in order. ``metrics`` are those that scores may be of.
    """
    counts = Counter(verdict.judgement for verdict in verdicts)
    templates = environment()
    templates.filters.update(heading=heading, picture=_picture)
    page = templates.get_template("study.html.j2").render(
        title=title,
        facts={group: facts(values) for group, values in told.items()},
        verdicts=[(verdict, *verdict.ours.partition("\n\n")[::2]) for verdict in verdicts],
        counts={judgement: counts[judgement] for judgement in MARKS if counts[judgement]},
        marks=MARKS,
        margins=", or ".join(metric.margin_told for metric in metrics),
        fewest=FEWEST,
        sections=sections,
        is_numeric=is_numeric,
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _picture(item: Table | Picture) -> dict[str, Any] | None:
    """What the template shows of a picture: its address, its width on paper and the least it can be read at.

    Widths are in the browser's pixels, 96 an inch.
    """
    if isinstance(item, Table):
        return None
    width = item.figure.get_figwidth() * 96
    return {"address": data_uri(to_png(item)), "width": round(width), "least": round(0.7 * width)}
