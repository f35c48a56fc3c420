"""The claim about language models, by made-up scores, and the tables of a study."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from taskvec.data.relations import named_relation
from taskvec.experiments.cells import Store
from taskvec.experiments.claims import verdicts
from taskvec.experiments.evidence import LANGUAGE_METHODS, Evidence, LanguageEvidence
from taskvec.experiments.language import LanguageProtocol, LanguageStudy, Relation, rows_of, title_of, together
from taskvec.finding import FindSettings
from taskvec.metrics import TOP1
from taskvec.results import GroupScores, Scores, Verdict
from taskvec.search import ReinforceSettings

RELATIONS = ("present-past", "country-capital", "nonsense")
PAPER = {"query_only": 0.05, "few": 0.9, "one_shot": 0.95, "cma": 0.8, "reinforce": 0.95, "vectors": 0.95}


def made(means: Mapping[str, float], saved: float = 0.925) -> Verdict:
    """C13 by these means at two relations, of a third of which examples do nothing."""
    scores = {}
    for method in LANGUAGE_METHODS:
        for relation in RELATIONS:
            mean = 0.1 if relation == "nonsense" else means[method]
            right = np.arange(200) < round(200 * mean)
            groups = {f"seed {seed}": GroupScores(right.astype(float), [str(n) for n in range(200)]) for seed in (0, 1)}
            scores[method, relation] = Scores(TOP1, groups)
    evidence = Evidence({}, language=LanguageEvidence(scores, saved, "made up"))
    return next(verdict for verdict in verdicts(evidence) if verdict.claim == "C13")


def test_the_papers_case_holds() -> None:
    verdict = made(PAPER)
    assert verdict.judgement == "holds"
    assert "made up: present-past, country-capital (top-1)" in verdict.ours
    assert "operations saved: 92.5%" in verdict.ours
    assert "nonsense" in verdict.explanation


@pytest.mark.parametrize(
    ("changes", "saved"),
    [({"vectors": 0.85}, 0.925), ({"cma": 0.95}, 0.925), ({}, 0.5)],
)
def test_one_change_breaks_it(changes: dict[str, float], saved: float) -> None:
    assert made({**PAPER, **changes}, saved).judgement == "does not hold"


def test_a_model_that_does_nothing_says_nothing() -> None:
    verdict = made({**PAPER, "one_shot": 0.2})
    assert verdict.judgement == "cannot be tested here"
    assert "made up does none of these relations with examples" in verdict.explanation


def test_relations_together_count_the_same() -> None:
    groups = [{"seed 0": GroupScores(np.full(count, mean), ["a"] * count)} for count, mean in ((10, 1.0), (1000, 0.0))]
    assert together([Scores(TOP1, each) for each in groups]).mean == 0.5


def test_rows_are_called_by_the_examples_that_there_are(tmp_path: Path) -> None:
    """Those that judge are of the part that is kept aside, which may have fewer than were asked for."""

    def study(*shots: tuple[str, int]) -> LanguageStudy:
        relations = []
        for name, count in shots:
            parts = [named_relation(part, name, shots=count) for part in ("train", "test")]
            relations.append(Relation(parts[0], parts[1]))
        settings = FindSettings(), ReinforceSettings(steps=1)
        protocol = LanguageProtocol(tuple(relations), (0,), 4, *settings)
        return LanguageStudy(LanguageStudy, protocol, Store(tmp_path))  # pyright: ignore[reportArgumentType]

    few, both = study(("state-capital", 10)), study(("state-capital", 10), ("present-past", 10))
    assert (title_of("one_shot", few), title_of("few", few)) == ("9-shot", "2-shot")
    assert title_of("one_shot", both) == "9 to 10-shot"
    assert title_of("cma", both) == "0-shot + CMA"
    assert "few" in rows_of(both)
    assert "few" not in rows_of(study(("present-past", 2)))
