"""What is measured and shown: scores that can be compared pair by pair, tables, pictures, and verdicts on claims."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from io import BytesIO
from typing import Literal

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from taskvec.intervals import Interval, bounded, nested_interval
from taskvec.metrics import Better, Metric


@dataclass(frozen=True)
class Value:
    """A mean with its 95 % interval, in which is what the groups, which are splits or seeds, and images add to it.

    ``spread`` is the standard deviation of the groups' means as the paper's is, over those that there are (ddof 0);
    None for one. The interval is about others, too, and therefore wider.
    """

    mean: float
    low: float
    high: float
    spread: float | None
    count: int

    def __str__(self) -> str:
        """As the paper prints it, 0.353 ± 0.028; the interval, 0.353 [0.340, 0.366], where there is no spread."""
        if self.spread is None:
            return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.mean:.3f} \N{PLUS-MINUS SIGN} {self.spread:.3f}"


@dataclass(frozen=True)
class GroupScores:
    """One split or seed: the score of every prompt, and what its query hangs together with (``query_groups``)."""

    scores: Float[np.ndarray, " n"]
    query_groups: Sequence[str]


@dataclass(frozen=True, repr=False)
class Scores:
    """What one method scored at one task, group by group. The same groups of two methods hold the same prompts."""

    metric: Metric
    groups: dict[str, GroupScores]

    def __repr__(self) -> str:
        return f"Scores({self.metric.label} {self.value()}, {len(self.every)} pairs in {len(self.groups)} groups)"

    def only(self, group: str) -> "Scores":
        """Those of one group."""
        return Scores(self.metric, {group: self.groups[group]})

    @property
    def every(self) -> Float[np.ndarray, " n"]:
        """The scores of all groups."""
        return np.concatenate([group.scores for group in self.groups.values()])

    @property
    def mean(self) -> float:
        """Of the groups' means."""
        return float(np.mean([group.scores.mean() for group in self.groups.values()]))

    def value(self) -> Value:
        """All pairs of all groups as one number, its interval within the metric's range."""
        means = [group.scores.mean() for group in self.groups.values()]
        spread = float(np.std(means)) if len(means) > 1 else None
        whole = bounded(contrast((1.0, self)), self.metric)
        return Value(whole.mean, whole.low, whole.high, spread, len(self.every))

    def gain_over(self, other: "Scores") -> Interval:
        """How much better these scores are than the other's, positive where they are, with its 95 % interval.

        Pairs of a prompt are compared, so that what makes a prompt hard for both cancels; what one search and another
        differ in does not. Raises ValueError where the two do not have the same groups of the same prompts.
        """
        sign = 1.0 if self.metric.better == "higher" else -1.0
        return contrast((sign, self), (-sign, other))


def contrast(*terms: tuple[float, Scores]) -> Interval:
    """A weighted sum of scores of the same prompts, prompt by prompt: its mean and 95 % interval, over groups and
    images.

    Raises ValueError where scores are not of the same metric and groups, or of other prompts.
    """
    first = terms[0][1]
    sums = {name: np.zeros(len(group.scores)) for name, group in first.groups.items()}
    for weight, scores in terms:
        if scores.metric != first.metric or scores.groups.keys() != first.groups.keys():
            raise ValueError("only scores of the same metric and groups can be compared")
        for name, group in scores.groups.items():
            if list(group.query_groups) != list(first.groups[name].query_groups):
                raise ValueError(f"the scores of {name} are of different prompts")
            sums[name] += weight * group.scores
    return nested_interval(list(sums.values()), [group.query_groups for group in first.groups.values()])


@dataclass(frozen=True)
class Column:
    """``better`` says which of its values is the best, None where there is none."""

    label: str
    better: Better | None = None


@dataclass(frozen=True)
class Row:
    """``label`` stands before the cells; a cell is a value, a text, or None where there is nothing.

    ``paper`` is what the paper prints in the same cells, empty where it has no such row. A ``reference``, such as the
    tokenizer's reconstruction, is no candidate for the best of a column.
    """

    label: str
    cells: tuple[Value | str | None, ...]
    paper: tuple[str | None, ...] = ()
    reference: bool = False


@dataclass(frozen=True, repr=False)
class Table:
    """``name`` is that of its files, such as table-3; ``note`` says what a reader must know to read it.

    Raises ValueError where a row does not have a cell, or the paper's, for every column.
    """

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns) or len(row.paper) not in (0, len(self.columns)):
                counts = f"{len(row.cells)} cells and {len(row.paper)} of the paper"
                raise ValueError(f"{self.name}: row {row.label!r} has {counts}, expected {len(self.columns)} each")

    def __repr__(self) -> str:
        """Title, rows and note as text."""
        lines = [["", *(column.label for column in self.columns)], *map(_texts, self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        return "\n".join([self.title, *rows, *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        """The same for a notebook, the best of a column bold."""
        best = self.best()
        lines = [
            "<tr>" + "".join(f"<th>{escape(label)}</th>" for label in ("", *(c.label for c in self.columns))) + "</tr>"
        ]
        for number, row in enumerate(self.rows):
            cells = [escape(text) for text in _texts(row)]
            bold = [f"<b>{cell}</b>" if (number, index - 1) in best else cell for index, cell in enumerate(cells)]
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in bold) + "</tr>")
        return _titled(self.title, f"<table>{''.join(lines)}</table>", self.note)

    def best(self) -> set[tuple[int, int]]:
        """(row, column) of the best value of each column that has one; values that print alike are equally good."""
        found = set()
        for index, column in enumerate(self.columns):
            cells = {row: each.cells[index] for row, each in enumerate(self.rows) if not each.reference}
            means = {row: round(cell.mean, 3) for row, cell in cells.items() if isinstance(cell, Value)}
            if column.better and means:
                best = max(means.values()) if column.better == "higher" else min(means.values())
                found |= {(row, index) for row, mean in means.items() if mean == best}
        return found


def _texts(row: Row) -> list[str]:
    """Label and cells as they are shown."""
    return [row.label, *("" if cell is None else str(cell) for cell in row.cells)]


def _titled(title: str, shown: str, note: str) -> str:
    """HTML between its title and its note, which are escaped."""
    return f"<div><p><strong>{escape(title)}</strong></p>{shown}<p>{escape(note)}</p></div>"


@dataclass(frozen=True)
class Picture:
    """A figure, saved as PNG (200 dots an inch, whatever the figure's own) and PDF under its name."""

    name: str
    title: str
    note: str
    figure: Figure = field(repr=False, compare=False)

    def _repr_html_(self) -> str:
        """For a notebook."""
        file = BytesIO()
        self.figure.savefig(file, format="png")
        source = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
        return _titled(self.title, f'<img src="{source}" alt="" style="max-width: 100%">', self.note)


Judgement = Literal["holds", "does not hold", "cannot be told", "cannot be tested here"]


@dataclass(frozen=True)
class Verdict:
    """Whether a claim of the paper holds: its numbers, ours, and the rule by which the judgement follows from ours.

    What was measured may decide nothing ("cannot be told"), or nothing was measured ("cannot be tested here").
    ``paper`` and ``ours`` may have several lines; what follows an empty line is detail.
    """

    claim: str
    statement: str
    paper: str
    ours: str
    rule: str
    judgement: Judgement
    explanation: str
