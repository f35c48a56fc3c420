import csv
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from taskvec.report.exports import (
    DOTS_PER_INCH,
    LATEX,
    to_csv,
    to_latex,
    to_markdown,
    to_pdf,
    write_picture,
    write_table,
)
from taskvec.results import Column, Picture, Row, Table, Value

TABLE = Table(
    "table-3",
    "Scores & 50 % of_it",
    "Means over two splits.",
    (Column("Segmentation", "higher"), Column("Low_light", "lower"), Column("sites")),
    (
        Row("one-shot", (Value(0.338, 0.3, 0.37, 0.033, 80), Value(0.685, 0.6, 0.7, 0.032, 80), None)),
        Row("a|b <c>", (Value(0.3531, 0.32, 0.38, 0.028, 80), Value(0.458, 0.4, 0.5, None, 80), "12\nof 96")),
        Row(
            "reconstruction", (Value(0.9, 0.89, 0.91, 0.01, 80), "n/a", None), ("0.9 ± 0.1", None, None), reference=True
        ),
    ),
)


@pytest.fixture
def picture() -> Picture:
    figure = Figure((2, 1))
    figure.subplots().plot([0, 1], [1, 0])
    return Picture("figure-2", "A line", "", figure)


def test_markdown_is_exactly_this():
    assert to_markdown(TABLE) == (
        "**Scores & 50 % of\\_it**\n\n"
        "|  | Segmentation ↑ | Low\\_light ↓ | sites |\n"
        "| :-- | --: | --: | :-- |\n"
        "| one-shot | 0.338 ± 0.033 | 0.685 ± 0.032 |  |\n"
        "| a\\|b \\<c\\> | **0.353 ± 0.028** | **0.458 [0.400, 0.500]** | 12<br>of 96 |\n"
        "| reconstruction | 0.900 ± 0.010<br>(paper 0.9 ± 0.1) | n/a |  |\n\n"
        "Means over two splits.\n"
    )


def test_csv_has_every_number_in_full():
    header, *rows = csv.reader(to_csv(TABLE).splitlines(keepends=True))
    parts = ("mean", "low", "high", "spread", "count")
    assert header == [
        "row",
        *(f"Segmentation {part}" for part in parts),
        "Segmentation paper",
        *(f"Low_light {part}" for part in parts),
        "sites",
    ]
    assert all(len(row) == len(header) for row in rows)
    assert rows[1] == [
        "a|b <c>",
        *("0.3531", "0.32", "0.38", "0.028", "80"),
        "",
        *("0.458", "0.4", "0.5", "", "80"),
        "12\nof 96",
    ]
    assert rows[2][6:8] == ["0.9 ± 0.1", "n/a"]


def test_latex_is_a_booktabs_table():
    lines = to_latex(TABLE).splitlines()
    body = lines[lines.index(r"\toprule") + 1 : lines.index(r"\bottomrule")]
    assert r"\begin{tabular}{lrrl}" in lines
    assert r"\caption{Scores \& 50 \% of\_it. Means over two splits.}" in lines
    assert body == [
        r" & Segmentation $\uparrow$ & Low\_light $\downarrow$ & sites \\",
        r"\midrule",
        r"one-shot & 0.338 $\pm$ 0.033 & 0.685 $\pm$ 0.032 &  \\",
        r"a\textbar{}b \textless{}c\textgreater{} & \textbf{0.353 $\pm$ 0.028} & \textbf{0.458 [0.400, 0.500]} & "
        r"\shortstack[l]{12 \\ of 96} \\",
        r"reconstruction & 0.900 $\pm$ 0.010 & n/a &  \\",
        r"\quad {\footnotesize (paper)} & {\footnotesize 0.9 $\pm$ 0.1} &  &  \\",
    ]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_as_a_fragment(tmp_path: Path):
    difficult = "[ ] { } $ & # ^ _ ~ % < > | é" + "".join(LATEX)
    table = Table("odd", difficult, difficult, (Column(difficult),), (Row(difficult, (f"{difficult}\nx",)),))
    write_table(table, tmp_path)
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{odd.tex}\end{document}"
    (tmp_path / "page.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]


def test_a_bracket_at_the_start_of_a_row_is_no_argument():
    r"""After ``\\`` LaTeX takes [ as the start of an option, so that no row may begin with one."""
    lines = to_latex(Table("t", "t", "", (Column("c"),), (Row("a", ("1",)), Row("[b]", ("2",))))).splitlines()
    assert "{[}b] & 2 \\\\" in lines


def test_a_table_is_three_files(tmp_path: Path):
    write_table(TABLE, tmp_path / "made")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["table-3.csv", "table-3.md", "table-3.tex"]
    assert (tmp_path / "made" / "table-3.csv").read_text(encoding="utf-8") == to_csv(TABLE)


def test_a_picture_is_a_png_and_a_pdf(picture: Picture, tmp_path: Path):
    write_picture(picture, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure-2.pdf", "figure-2.png"]
    image = Image.open(BytesIO((tmp_path / "figure-2.png").read_bytes()))
    assert image.size == (2 * DOTS_PER_INCH, DOTS_PER_INCH)
    assert len(np.unique(np.asarray(image))) > 10
    pdf = (tmp_path / "figure-2.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    assert b"/Type3" not in pdf


def test_the_same_figure_gives_the_same_pdf(picture: Picture):
    again = Figure((2, 1))
    again.subplots().plot([0, 1], [1, 0])
    assert to_pdf(picture) == to_pdf(Picture("figure-2", "A line", "", again))
