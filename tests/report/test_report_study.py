import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from taskvec.report.study import write_study
from taskvec.results import Column, Picture, Row, Table, Value, Verdict

VERDICTS = [
    Verdict("C1", "One <b> holds.", "0.1", "0.123\n\nsegmentation +0.5", "Rule one.", "holds", "Why one."),
    Verdict("C2", "Two.", "0.2", "0.234", "Rule two.", "does not hold", "Why two."),
    Verdict("C3", "Three.", "0.3", "0.345\n\n" + "gain\n" * 9, "Rule three.", "does not hold", "Why three."),
    Verdict("C5", "Five.", "0.5", "0.5", "Rule five.", "cannot be told", "Why five."),
    Verdict("C4", "Four.", "0.4", "", "Rule four.", "cannot be tested here", "Why four."),
]


@pytest.fixture
def html(tmp_path: Path) -> str:
    table = Table(
        "table-1",
        "The scores",
        "A note & more.",
        (Column("IoU", "higher"), Column("what")),
        (
            Row("ours", (Value(0.5111, 0.4, 0.6, 0.028, 9), "text"), ("0.353 ± 0.028", None)),
            Row("theirs", (Value(0.4, 0.3, 0.5, None, 9), None)),
        ),
    )
    figure = Figure((5, 2))
    figure.subplots().plot([0, 1])
    sections = [("Tables", [table]), ("Figures", [Picture("figure-1", 'A "line"', "", figure)])]
    told = {"Model": {"name": "small", "parameters": 1234567}, "Data": {"splits": [0, 1]}}
    write_study(tmp_path / "made" / "report.html", "The study", told, VERDICTS, sections)
    return (tmp_path / "made" / "report.html").read_text(encoding="utf-8")


def test_it_loads_nothing_from_outside(html: str):
    addresses = re.findall(r"""(?:src|href|srcset|data|poster)\s*=\s*["']?([^"'\s>]+)""", html)
    assert len(addresses) == 1 + 4 + len(VERDICTS)
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert not re.search(r"@import|url\(|<script|<link|<iframe", html)


def test_the_contents_lead_to_every_section_in_order(html: str):
    targets = re.findall(r'<a href="#([^"]+)"', html)
    assert targets == ["C1", "C2", "C3", "C5", "C4", "run", "claims", "section-1", "section-2"]
    places = [html.index(f'id="{target}"') for target in targets[5:]]
    assert places == sorted(places)
    assert all(html.count(f'id="{target}"') == 1 for target in targets)


def test_every_verdict_is_told_in_words(html: str):
    badges = re.findall(r'<span class="badge ([\w-]+)"><span aria-hidden="true">(.)</span> ([^<]+)</span>', html)
    assert badges == [
        ("holds", "✓", "1 holds"),
        ("does-not-hold", "✕", "2 do not hold"),
        ("cannot-be-told", "?", "1 cannot be told"),
        ("cannot-be-tested-here", "\N{EN DASH}", "1 cannot be tested here"),
        *2
        * [
            ("holds", "✓", "holds"),
            ("does-not-hold", "✕", "does not hold"),
            ("does-not-hold", "✕", "does not hold"),
            ("cannot-be-told", "?", "cannot be told"),
            ("cannot-be-tested-here", "\N{EN DASH}", "cannot be tested here"),
        ],
    ]
    for verdict in VERDICTS:
        assert f'id="{verdict.claim}"' in html
        assert verdict.rule in html
        assert verdict.explanation in html
    assert html.count("One &lt;b&gt; holds.") == 2
    assert html.count("<h4>Here</h4>") == 4  # nothing of what was not tested


def test_only_long_details_are_folded(html: str):
    assert html.count("<details>") == 1
    assert html.index("segmentation +0.5") < html.index("<details>")


def test_tables_have_their_numbers_and_the_papers(html: str):
    assert html.count("<strong>0.511 ± 0.028</strong><small>paper 0.353 ± 0.028</small></td>") == 1
    assert "0.400 [0.300, 0.500]</td>" in html
    assert "<td>text</td>" in html
    assert "None" not in html
    assert "IoU ↑</th>" in html
    assert "A note &amp; more." in html
    assert html.count("<small>paper ") == 1


def test_pictures_are_in_the_page_with_their_title(html: str):
    assert html.count('src="data:image/png;base64,') == 1
    assert 'alt="A &#34;line&#34;" style="width: 480px;' in html


def test_facts_are_told(html: str):
    for fact in ("<h3>Model</h3>", "1,234,567", "0, 1"):
        assert fact in html


def test_a_failure_leaves_no_file(tmp_path: Path):
    with pytest.raises(AttributeError):
        write_study(tmp_path / "report.html", "The study", {}, VERDICTS, [("Broken", [None])])  # pyright: ignore
    assert list(tmp_path.iterdir()) == []
