"""What notebooks show holds all it needs, escapes what it is given and runs nothing."""

import re
from dataclasses import replace

import numpy as np
import pytest

from taskvec.evaluation import evaluate
from taskvec.library import LibraryScores
from taskvec.metrics import METRICS
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts
from taskvec.report.outcomes import Outcome
from taskvec.vectors import TaskVectors

HOSTILE = "<script>alert(1)</script> & \"'"


def _check(html: str) -> str:
    assert "<script" not in html
    assert HOSTILE not in html
    assert all(address.startswith("data:image/") for address in re.findall(r'(?:src|href)="([^"]*)"', html))
    assert html.count("<div>") == html.count("</div>")
    return html


def test_task_vectors_show_what_they_are_and_where(random_vectors: TaskVectors) -> None:
    vectors = replace(random_vectors, config=replace(random_vectors.config, task=HOSTILE))
    html = _check(vectors._repr_html_())
    assert f"3 of {vectors.config.of}, by quadrant" in html
    assert html.count("data:image/svg+xml;base64,") == 1


@pytest.mark.usefixtures("undrawn")
def test_evaluations_show_scores_and_answers(
    small_model: MaeVqgan, random_vectors: TaskVectors, small_prompts: list[Prompts]
) -> None:
    evaluation = evaluate(small_model, random_vectors, small_prompts[1])
    html = _check(evaluation._repr_html_())
    assert html.count("data:image/png;base64,") == 1
    assert repr(evaluation).startswith("Evaluation(colorization: MSE ")
    assert repr(evaluation).endswith("6 pairs, decoded as likeliest)")


@pytest.mark.usefixtures("undrawn")
def test_outcomes_show_the_reports_table(outcome: Outcome) -> None:
    named = replace(outcome, tasks=[replace(outcome.tasks[0], task=HOSTILE), *outcome.tasks[1:]])
    html = _check(named._repr_html_())
    for task in outcome.tasks:
        assert f"of {task.of:,}" in html
    assert len(repr(outcome).splitlines()) == len(outcome.tasks)


def test_libraries_show_the_best_first() -> None:
    groups = [str(number) for number in range(9)]
    own = {HOSTILE: np.linspace(0.2, 0.4, 9), "good": np.linspace(0.5, 0.8, 9)}
    alone = dict.fromkeys(own, np.full(9, 0.1))
    scores = LibraryScores("t", METRICS["iou"], groups, own, alone, dict.fromkeys(own, 0), {"other": HOSTILE})
    _check(scores.best()._repr_html_())
    html = _check(scores._repr_html_())
    assert html.index(">good<") < html.index("&lt;script&gt;alert(1)")
    assert "other was not scored: &lt;script&gt;" in html
