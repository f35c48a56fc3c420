import re
from dataclasses import replace
from pathlib import Path

import pytest

from taskvec.report import page
from taskvec.report.outcomes import METHODS, Outcome
from taskvec.report.page import write_report
from taskvec.sites import Site


@pytest.fixture(scope="module")
def html(outcome: Outcome, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "made" / "report.html"
    write_report(outcome, path)
    return path.read_text(encoding="utf-8")


def test_it_loads_nothing_from_outside(html: str):
    addresses = re.findall(r"""(?:src|href|srcset|data|poster)\s*=\s*["']?([^"'\s>]+)""", html)
    assert len(addresses) > 10
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert not re.search(r"@import|url\(|<script|<link|<iframe", html)


def test_links_lead_to_sections(html: str):
    targets = re.findall(r'href="#([^"]+)"', html)
    assert len(targets) == 4  # from the verdicts and from the table
    assert all(html.count(f'id="{target}"') == 1 for target in targets)


def test_it_has_every_number(html: str, outcome: Outcome):
    for task in outcome.tasks:
        for method in METHODS:
            score = task.intervals[method]
            assert f"{score.mean:.3f}" in html
            assert f"{score.low:.3f}\N{EN DASH}{score.high:.3f}" in html
    assert html.count("3<small>of 24</small>") == 2
    assert "123 queries" in html
    for fact in ("c0ffee", "1,234,567", "abacus", "3.11.0", "1 min 15 s"):
        assert fact in html
    assert "It took 3 min 20 s by the clock, 2 min 30 s of it for statistics and search." in html


def test_the_best_mean_is_bold_and_the_ceiling_never(html: str):
    assert re.findall(r"<strong>(0\.\d+)</strong>", html) == ["0.533", "0.311"]


def test_the_verdicts_are_those_of_the_terminal(html: str, outcome: Outcome):
    """Every task's sentence on top and in its section, with what it follows from."""
    assert "As well as" not in html
    assert html.count("task vectors:</small>") == len(outcome.tasks)  # what the line beside it says
    for task in outcome.tasks:
        assert html.count(task.judgement.headline) == 2
        for comparison in task.judgement.comparisons.values():
            gain = comparison.gain
            assert f"{gain.mean:+.3f}</td>" in html
            assert f"{gain.low:+.3f} to {gain.high:+.3f}" in html
        assert all(advice in html for advice in task.judgement.advice)
    assert "95 % intervals (Student&#39;s t over 123 images)" in html
    assert "bootstrap" not in html


@pytest.mark.usefixtures("undrawn")
def test_too_few_queries_are_no_comparison(outcome: Outcome, tmp_path: Path):
    task = replace(outcome.tasks[0], groups=["a"] * 60 + ["b"] * 63)
    write_report(replace(outcome, tasks=[task], pairs=123, queries=12), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count("Too few queries to tell: 2 independent queries were judged, it takes 5 or more.") == 2
    assert "123 prompts with 12 queries" in page
    assert "no intervals, for which 5 or more independent images are needed" in page
    assert page.count("<small>too few</small>") == len(METHODS)
    assert page.count("too few to tell</td>") == len(task.judgement.comparisons)


@pytest.mark.usefixtures("undrawn")
def test_the_model_is_named(html: str, outcome: Outcome, tmp_path: Path):
    assert "The model is" not in html
    for name, told in (("tiny", "tiny, which is for drawn scenes. "), ("seggpt", "seggpt. ")):
        write_report(replace(outcome, model={"name": name, **outcome.model}), tmp_path / "report.html")
        page = (tmp_path / "report.html").read_text()
        assert f"The model is {told}Every score" in page
        assert page.index(f"<td>{name}</td>") < page.index("c0ffee")


def test_names_are_escaped(html: str):
    assert "<b>" not in html
    assert html.count("&lt;b&gt;&amp; blur") >= 3


def test_every_task_has_its_pictures(html: str):
    assert html.count('src="data:image/png;base64,') == 1 + 2  # the idea, and a grid for each
    assert html.count('src="data:image/svg+xml;base64,') == 2 * 3
    assert html.count("<img ") == html.count(' alt="')


@pytest.mark.usefixtures("undrawn")
def test_task_vectors_without_a_history_have_no_curve(outcome: Outcome, tmp_path: Path):
    outcome = replace(outcome, tasks=[replace(task, history=[]) for task in outcome.tasks])
    write_report(outcome, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text().count('src="data:image/svg+xml;base64,') == 2 * 2


@pytest.mark.usefixtures("undrawn")
def test_numbers_of_sites_and_sites_that_harm_are_shown_where_they_were_asked_for(outcome: Outcome, tmp_path: Path):
    first, second = outcome.tasks
    first = replace(first, curve=((1, -0.2), (2, -0.5), (4, -0.51)), harmful=(first.sites[1], Site("x", 7, 0, None, 3)))
    write_report(replace(outcome, tasks=[first, second]), tmp_path / "report.html")
    text = " ".join((tmp_path / "report.html").read_text().split())
    assert text.count("How many sites it takes") == text.count("Sites that harm") == 1
    assert "The best 2 do as well as any number shown" in text
    assert "encoder layer 2 head 0, query input (kept); x layer 7 head 0, token 3." in text


@pytest.mark.usefixtures("undrawn")
def test_the_idea_is_shown_with_segmentation_or_else_the_first_task(outcome: Outcome, monkeypatch: pytest.MonkeyPatch):
    shown = []
    monkeypatch.setattr(page.figures, "idea", lambda task: shown.append(task.task) or b"")
    page._render(replace(outcome, tasks=outcome.tasks[::-1]))
    page._render(replace(outcome, tasks=outcome.tasks[1:]))
    assert shown == ["segmentation", "<b>&_blur"]


@pytest.mark.usefixtures("undrawn")
def test_a_failure_leaves_no_file(outcome: Outcome, tmp_path: Path):
    broken = replace(outcome.tasks[0], scores={"one_shot": outcome.tasks[0].scores["one_shot"]})
    with pytest.raises(KeyError):
        write_report(replace(outcome, tasks=[broken]), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []
