from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from papers import HEADS, PUBLISHED, made_scores, made_starts, papers_evidence
from taskvec.experiments.claims import PAPER, TASKS, _of_ranks, verdicts
from taskvec.experiments.evidence import COMPOSED, METHOD_TITLES, Evidence
from taskvec.experiments.gains import compare, compared
from taskvec.metrics import IOU, MSE
from taskvec.results import GroupScores, Scores, Verdict
from taskvec.tasks import TASKS as BUILT_IN

IDS = [f"C{number}" for number in range(1, 16)]


def judged(evidence: Evidence) -> dict[str, Verdict]:
    return {verdict.claim: verdict for verdict in verdicts(evidence)}


@pytest.fixture(scope="module")
def papers() -> dict[str, Verdict]:
    return judged(papers_evidence())


def test_every_claim_has_its_verdict_in_order():
    assert [verdict.claim for verdict in verdicts(papers_evidence())] == IDS


@pytest.mark.parametrize("claim", [name for name in IDS if name != "C13"])
def test_the_papers_own_numbers_hold(papers: dict[str, Verdict], claim: str):
    assert papers[claim].judgement == "holds"
    assert papers[claim].ours
    assert papers[claim].explanation


def test_verdicts_are_complete_sentences(papers: dict[str, Verdict]):
    for verdict in papers.values():
        assert all(getattr(verdict, field.name) for field in fields(verdict) if field.name != "ours"), verdict.claim
        assert verdict.statement.endswith(".")
        assert verdict.rule.endswith(".")
        assert verdict.explanation.endswith(".")
        assert ".." not in verdict.explanation


@pytest.mark.parametrize("claim", IDS)
def test_without_evidence_nothing_is_judged(claim: str):
    verdict = judged(Evidence({}))[claim]
    assert verdict.judgement == "cannot be tested here"
    assert verdict.ours == ""
    assert len(verdict.explanation) > 20


# One changed mean breaks a claim: just a little worse, or a little better where that contradicts it.
@pytest.mark.parametrize(
    ("claim", "method", "task", "mean"),
    [
        ("C1", "vectors", "segmentation", 0.338),  # equal is not better
        ("C1", "vectors", "inpainting", 0.56),
        ("C2", "vectors_multi", "colorization", 0.68),
        ("C3", "cma", "low_light", 0.458),
        ("C3", "cma_multi", "inpainting", 0.5),
        ("C4", "greedy", "segmentation", 0.22),
        ("C4", "greedy", "segmentation", 0.39),
        ("C4", "greedy_multi", "low_light", 1.5),
        ("C4", "greedy_multi", "low_light", 0.44),
        ("C5", "random", "segmentation", 0.345),
        ("C5", "top", "colorization", 0.618),
        ("C5", "greedy_random_layers", "inpainting", 0.54),
        ("C6", "vectors_head", "colorization", 0.453),
        ("C6", "vectors_multi_head", "segmentation", 0.33),
        ("C6", "vectors_token", "segmentation", 0.43),
        ("C6", "vectors_token", "segmentation", 0.29),
        ("C7", "vectors_encoder", "segmentation", 0.31),
        ("C7", "vectors_decoder", "segmentation", 0.39),
        ("C9", "one_shot_vectors", "segmentation", 0.4),
        ("C9", "one_shot_vectors", "segmentation", 0.3),
        ("C10", "combined", COMPOSED, 0.25),
        ("C15", "nearest", "segmentation", 0.353),
        ("C15", "arrangements", "inpainting", 0.44),
    ],
)
def test_one_number_decides(claim: str, method: str, task: str, mean: float):
    verdict = judged(papers_evidence({(method, task): mean}))[claim]
    assert verdict.judgement == "does not hold"
    assert f"{mean:.3f}" in verdict.ours


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("C2", {("vectors_multi", "segmentation"): 0.338}),  # equal is a match
        ("C4", {("greedy", "segmentation"): 0.353}),
        ("C5", {("greedy_random_layers", "colorization"): 0.5}),  # as in the paper, better than one-shot
        ("C9", {("one_shot_vectors", "low_light"): 0.458}),
    ],
)
def test_some_numbers_need_not_be_better(claim: str, changes: dict[tuple[str, str], float]):
    assert judged(papers_evidence(changes))[claim].judgement == "holds"


@pytest.mark.parametrize(
    ("claim", "key"),
    [
        ("C1", ("one_shot", "low_light")),
        ("C2", ("vectors_multi", "segmentation")),
        ("C3", ("cma_multi", "inpainting")),
        ("C4", ("greedy", "segmentation")),
        ("C5", ("top", "colorization")),
        ("C6", ("vectors_multi_token", "colorization")),
        ("C7", ("vectors_encoder", "segmentation")),
        ("C9", ("one_shot_vectors", "segmentation")),
        ("C10", ("inpainting_multi", COMPOSED)),
    ],
)
def test_what_is_missing_is_named(claim: str, key: tuple[str, str]):
    evidence = papers_evidence()
    scores = {name: each for name, each in evidence.scores.items() if name != key}
    verdict = judged(replace(evidence, scores=scores))[claim]
    assert verdict.judgement == "cannot be tested here"
    assert METHOD_TITLES[key[0]] in verdict.explanation


# What is neither shown nor refuted is open: a claim must not hold, or fall, by a lack of evidence.
@pytest.mark.parametrize(
    ("claim", "method", "task", "mean", "noise"),
    [
        ("C1", "vectors", "segmentation", 0.338, 0.2),
        ("C2", "vectors_multi", "colorization", 0.7, 0.3),
        ("C4", "greedy", "segmentation", 0.3, 0.6),
        ("C6", "vectors_token", "segmentation", 0.35, 0.3),
        ("C9", "one_shot_vectors", "segmentation", 0.353, 0.3),
        ("C9", "one_shot_vectors", "segmentation", 0.388, 0.01),  # on the limit of 10 %
    ],
)
def test_a_lack_of_evidence_leaves_a_claim_open(claim: str, method: str, task: str, mean: float, noise: float):
    evidence = papers_evidence()
    scores = {**evidence.scores, (method, task): made_scores(BUILT_IN[task].metric, mean, 99, noise)}
    verdict = judged(replace(evidence, scores=scores))[claim]
    assert verdict.judgement == "cannot be told"
    assert verdict.explanation.endswith(".")


@pytest.mark.parametrize("pairs", [2, 4, 5, 10, 50])
def test_a_true_deficit_does_not_match(pairs: int):
    """A search .05 IoU worse, differences spread by .1 between images and .01 between the searches of three seeds."""
    random = np.random.default_rng(pairs)
    judgements = []
    for _ in range(400):
        scores = {}
        for method in ("vectors_multi", "one_shot"):
            scores[method, "segmentation"] = Scores(IOU, {})
        for seed in range(3):
            names = [f"{seed}-{pair}" for pair in range(pairs)]
            prompt = random.random(pairs)
            worse = prompt - 0.05 + random.normal(0, 0.01) + random.normal(0, 0.1, pairs)
            scores["one_shot", "segmentation"].groups[f"seed {seed}"] = GroupScores(prompt, names)
            scores["vectors_multi", "segmentation"].groups[f"seed {seed}"] = GroupScores(worse, names)
        comparison = compare(Evidence(scores), "vectors_multi", "one_shot", ["segmentation"], needs_better=False)
        judgements.append(compared(Evidence(scores), [comparison]).judgement)
    assert np.mean([judgement == "holds" for judgement in judgements]) <= 0.025
    if pairs == 50:
        assert judgements.count("does not hold") > judgements.count("cannot be told") / 4


def test_one_search_is_said_to_be_one():
    evidence = papers_evidence()
    single = {place: scores.only("split 0") for place, scores in evidence.scores.items()}
    explanations = [judged(replace(evidence, scores=single))["C1"].explanation, judged(evidence)["C1"].explanation]
    assert ["one search of each method" in explanation for explanation in explanations] == [True, False]


def test_gains_are_in_ours_with_their_sign():
    ours = judged(papers_evidence({("vectors", "low_light"): 0.7}))["C1"].ours
    means, gains = ours.split("\n\n")
    assert means.splitlines()[1] == "task vectors (task-specific): 0.353, 0.700, 0.453, 0.480"
    lines = gains.splitlines()
    assert lines[1].startswith("segmentation +0.0150 [+0.0")
    assert lines[2].startswith("low light -0.0150 [-0.0")  # an error that grows is a loss
    assert len(lines) == 1 + len(TASKS)


def test_the_ceiling_explains_a_tie():
    changes = {(method, "low_light"): 0.3 for method in ("vectors", "one_shot", "reconstruction")}
    explanation = judged(papers_evidence(changes))["C1"].explanation
    assert "as good as one-shot prompt at low light" in explanation
    assert "no room at low light" in explanation
    assert "colorization" not in explanation


def test_a_prompt_that_is_nearly_perfect_is_named():
    changes = {("query_only", "low_light"): 1.0, ("one_shot", "low_light"): 0.125, ("reconstruction", "low_light"): 0.1}
    explanation = judged(papers_evidence(changes))["C1"].explanation
    assert "worse than one-shot prompt at low light" in explanation
    assert "little room at low light: in the mean, one-shot prompt goes 97% of the way" in explanation
    assert "no room" not in explanation


def test_a_model_that_ignores_the_example_is_named():
    changes = {("one_shot", "segmentation"): 0.4, ("query_only", "segmentation"): 0.5}
    explanation = judged(papers_evidence(changes))["C1"].explanation
    assert "worse than one-shot prompt at segmentation" in explanation
    assert "takes nothing from the example at segmentation" in explanation
    assert "No sites that do the task were found at segmentation by task vectors (task-specific)" in explanation
    assert "no room" not in explanation


def test_without_a_reason_it_says_so():
    explanation = judged(papers_evidence({("vectors", "segmentation"): 0.3}))["C1"].explanation
    assert explanation.endswith("Nothing that was measured of the data or the model explains it away.")


@pytest.mark.parametrize(
    ("clustering", "judgement", "word"),
    [
        ((0.6, -0.6), "holds", "Both correlations"),
        ((0.6, -0.1), "holds", "not both"),
        ((0.1, 0.1), "does not hold", "rank"),
        ((-0.1, -0.9), "does not hold", "rank"),
        ((0.0, -0.9), "cannot be told", "with silhouette is open"),
        ((0.73, -0.06), "cannot be told", "with Davies-Bouldin is open"),
    ],
)
def test_clustering_needs_both_signs(clustering: tuple[float, float], judgement: str, word: str):
    verdict = judged(replace(papers_evidence(), clustering=clustering, heads=HEADS))["C8"]
    assert verdict.judgement == judgement
    assert word in verdict.explanation
    assert f"{clustering[0]:+.3f} [" in verdict.ours


def test_the_interval_of_a_rank_correlation_covers_it():
    random = np.random.default_rng(0)
    true, heads = 0.6, 50
    covered = []
    for _ in range(500):
        pairs = random.multivariate_normal([0, 0], [[1, true], [true, 1]], heads)
        found = _of_ranks(float(np.corrcoef(stats.rankdata(pairs, axis=0), rowvar=False)[0, 1]), heads)
        covered.append(found.low <= 6 / np.pi * np.arcsin(true / 2) <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_c9_says_whether_the_example_helps_or_harms():
    changes = {("one_shot_vectors", "segmentation"): 0.5, ("one_shot_vectors", "low_light"): 0.6}
    explanation = judged(papers_evidence(changes))["C9"].explanation
    assert "helps at segmentation:" in explanation
    assert "harm at low light:" in explanation


def test_operations_are_counted_by_hand():
    ours = judged(papers_evidence())["C11"].ours.splitlines()
    assert ours[0].startswith("small: 9.5%; 66.7%")  # 60 - 36.05 of 253.4; 36.05 + 48.3 of 253.4
    assert ours[1].startswith("published architecture: 22.5%; 71.5%")


@pytest.mark.parametrize(
    ("one_shot", "judgement"), [(104.5, "holds"), (105.0, "does not hold"), (100, "does not hold")]
)
def test_operations_saved_are_within_half_a_point(one_shot: float, judgement: str):
    gigaflops = {"published": {**PUBLISHED, "one_shot": one_shot}}
    assert judged(replace(papers_evidence(), gigaflops=gigaflops))["C11"].judgement == judgement


def test_xrays_need_both_tasks():
    evidence = papers_evidence()
    xrays = {**evidence.xrays, ("vectors", "inpainting"): made_scores(MSE, 2.0)}
    verdict = judged(replace(evidence, xrays=xrays))["C12"]
    assert verdict.judgement == "does not hold"
    assert "0.100 at low light and 1.600 at in-painting" in verdict.explanation
    del xrays["query_only", "low_light"]
    assert judged(replace(evidence, xrays=xrays))["C12"].judgement == "cannot be tested here"


@pytest.mark.parametrize(
    ("starts", "layers", "judgement"),
    [
        ({(17, 0.1): 0.4}, 32, "does not hold"),
        ({(14, 0.3): 0.4}, 32, "does not hold"),
        ({(14, 0.3): 0.3}, 32, "holds"),  # as good is not better
        ({(14, 0.3): 0.32}, 32, "cannot be told"),  # better, but perhaps within the margin
        ({}, 26, "does not hold"),  # 17/32 of 26 is 13.8: the paper's k is the 14
        ({(14, 0.3): 0.31}, 26, "holds"),
        ({}, None, "cannot be tested here"),
    ],
)
def test_the_papers_start_must_not_be_worse(starts: dict[tuple[int, float], float], layers: int | None, judgement: str):
    evidence = papers_evidence()
    verdict = judged(replace(evidence, starts=evidence.starts | made_starts(starts), layers=layers))["C14"]
    assert verdict.judgement == judgement


def test_four_items_say_nothing_of_starts():
    few = {
        place: Scores(IOU, {"split 0": GroupScores(group.scores[:4], group.query_groups[:4])})
        for place, scores in papers_evidence().starts.items()
        for group in scores.groups.values()
    }
    verdict = judged(replace(papers_evidence(), starts=few))["C14"]
    assert verdict.judgement == "cannot be told"
    assert "4 independent images are too few to tell anything" in verdict.explanation


def test_a_grid_without_the_papers_share_decides_nothing():
    verdict = judged(replace(papers_evidence(), starts=made_starts({(17, 0.2): 0.3})))["C14"]
    assert verdict.judgement == "cannot be tested here"
    assert "no k = 17 with p = 0.3" in verdict.explanation


def test_the_methods_of_the_paper_are_those_of_the_evidence():
    assert set(PAPER) <= set(METHOD_TITLES)
    assert all(len(means) in (1, len(TASKS)) for means in PAPER.values())
