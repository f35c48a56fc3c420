"""Tables as Markdown, CSV and LaTeX, pictures as PNG and PDF: what a paper, a page or a spreadsheet takes."""

import csv
import re
from collections.abc import Sequence
from io import BytesIO, StringIO
from pathlib import Path
from weakref import WeakKeyDictionary

from matplotlib import rc_context
from matplotlib.figure import Figure

from taskvec.files import replacing
from taskvec.report.style import ARROWS
from taskvec.results import Column, Picture, Row, Table, Value

DOTS_PER_INCH = 200
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\N{EN DASH}": "--",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MINUS SIGN}": "$-$",
    "\N{UPWARDS ARROW}": r"$\uparrow$",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$",
    "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{GREEK SMALL LETTER RHO}": r"$\rho$",
}


def heading(column: Column) -> str:
    """A column's label, with an arrow to its better end."""
    return f"{column.label} {ARROWS[column.better]}" if column.better else column.label


def is_numeric(table: Table, index: int) -> bool:
    """Whether a column has values, and not texts alone."""
    return any(isinstance(row.cells[index], Value) for row in table.rows)


def to_markdown(table: Table) -> str:
    """Title, table and note; the best of a column bold, the paper's number of a cell below ours."""
    best = table.best()
    lines = [
        ["", *(_markdown(heading(column)) for column in table.columns)],
        [":--", *("--:" if is_numeric(table, index) else ":--" for index in range(len(table.columns)))],
    ]
    for number, row in enumerate(table.rows):
        cells = [_markdown(_text(cell)) for cell in row.cells]
        cells = [f"**{cell}**" if (number, index) in best else cell for index, cell in enumerate(cells)]
        papers = [f"(paper {_markdown(paper)})" if paper else "" for paper in _papers(row)]
        both = ["<br>".join(filter(None, pair)) for pair in zip(cells, papers, strict=True)]
        lines.append([_markdown(row.label), *both])
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(filter(None, [f"**{_markdown(table.title)}**", rows, _markdown(table.note)])) + "\n"


def to_csv(table: Table) -> str:
    """A line a row, numbers in full: a column of values is five, and one more where the paper has a number of it.

    A text in such a column stands in place of the mean.
    """
    parts = ("mean", "low", "high", "spread", "count")
    header, columns = ["row"], []
    for index, column in enumerate(table.columns):
        cells = [row.cells[index] for row in table.rows]
        papers = [_papers(row)[index] for row in table.rows]
        if any(isinstance(cell, Value) for cell in cells):
            header += [f"{column.label} {part}" for part in parts]
            columns.append([_numbers(cell) for cell in cells])
        else:
            header.append(column.label)
            columns.append([[cell] for cell in cells])
        if any(papers):
            header.append(f"{column.label} paper")
            columns.append([[paper] for paper in papers])
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for number, row in enumerate(table.rows):
        writer.writerow([row.label, *(part for column in columns for part in column[number])])
    return file.getvalue()


def to_latex(table: Table) -> str:
    r"""A table environment that needs ``\usepackage{booktabs}``; the paper's numbers are a row below ours."""
    best = table.best()
    alignment = "".join("r" if is_numeric(table, index) else "l" for index in range(len(table.columns)))
    lines = [_latex_row("", [_latex(heading(column)) for column in table.columns]), r"\midrule"]
    for number, row in enumerate(table.rows):
        cells = [_latex(_text(cell)) for cell in row.cells]
        cells = [rf"\textbf{{{cell}}}" if (number, index) in best else cell for index, cell in enumerate(cells)]
        lines.append(_latex_row(_latex(row.label), cells))
        if any(row.paper):
            papers = [rf"{{\footnotesize {_latex(paper)}}}" if paper else "" for paper in row.paper]
            lines.append(_latex_row(r"\quad {\footnotesize (paper)}", papers))
    caption = " ".join(filter(None, [f"{table.title.rstrip('.')}.", table.note]))
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(caption)}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{l{alignment}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def write_table(table: Table, directory: Path) -> None:
    """Write NAME.md, NAME.csv and NAME.tex."""
    for suffix, text in ((".md", to_markdown(table)), (".csv", to_csv(table)), (".tex", to_latex(table))):
        with replacing(directory / f"{table.name}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8", newline="")


_drawn: WeakKeyDictionary[Figure, bytes] = WeakKeyDictionary()  # which takes about a second each


def to_png(picture: Picture) -> bytes:
    """The bytes of a PNG with DOTS_PER_INCH, drawn once for its file and the report."""
    if picture.figure not in _drawn:
        file = BytesIO()
        picture.figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
        _drawn[picture.figure] = file.getvalue()
    return _drawn[picture.figure]


def to_pdf(picture: Picture) -> bytes:
    """The bytes of a PDF, whose text is text; the same figure gives the same bytes, as there is no date in them."""
    file = BytesIO()
    with rc_context({"pdf.fonttype": 42}):  # TrueType, as publishers ask for
        picture.figure.savefig(file, format="pdf", dpi=DOTS_PER_INCH, metadata={"CreationDate": None})
    return file.getvalue()


def write_picture(picture: Picture, directory: Path) -> None:
    """Write NAME.png and NAME.pdf."""
    for suffix, data in ((".png", to_png(picture)), (".pdf", to_pdf(picture))):
        with replacing(directory / f"{picture.name}{suffix}") as temporary:
            temporary.write_bytes(data)


def _text(cell: Value | str | None) -> str:
    return "" if cell is None else str(cell)


def _papers(row: Row) -> Sequence[str | None]:
    return row.paper or [None] * len(row.cells)


def _numbers(cell: Value | str | None) -> list[float | str | None]:
    if isinstance(cell, Value):
        return [cell.mean, cell.low, cell.high, cell.spread, cell.count]
    return [cell, None, None, None, None]


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is; line breaks are those of a cell."""
    return re.sub(r"([\\`*_|<>~$#])", r"\\\1", text).replace("\n", "<br>")


def _latex(text: str) -> str:
    r"""Text that LaTeX sets as it is; several lines become a ``\shortstack``."""
    lines = ["".join(LATEX.get(character, character) for character in line) for line in text.split("\n")]
    lines = [f"{{[}}{line[1:]}" if line.startswith("[") else line for line in lines]  # else an option of the \\ before
    return lines[0] if len(lines) == 1 else r"\shortstack[l]{" + r" \\ ".join(lines) + "}"


def _latex_row(label: str, cells: Sequence[str]) -> str:
    return rf"{' & '.join([label, *cells])} \\"
