"""Intervals and verdicts: formulas, coverage in simulation, and what a lack of evidence must not prove."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from taskvec.intervals import Interval, bounded, gain, interval, nested_interval, verdict
from taskvec.metrics import IOU, MSE

REPEATS = 4000


def _iou(random: np.random.Generator, *shape: int) -> np.ndarray:
    """As segmentation has it: many good masks, some that miss the object."""
    missed = random.random(shape) < 0.2
    return np.where(missed, random.beta(1, 8, shape), random.beta(8, 2, shape))


def _mse(random: np.random.Generator, *shape: int) -> np.ndarray:
    """As an error of pictures has it: with a tail to the right."""
    return random.gamma(3.0, 0.05, shape)


TRUE_MEANS = {_iou: 0.2 / 9 + 0.8 * 0.8, _mse: 0.15}


def test_an_interval_is_students_t_where_groups_are_of_one_score() -> None:
    scores = np.array([0.1, 0.4, 0.35, 0.8, 0.9, 0.2])
    expected = stats.t.interval(0.95, 5, scores.mean(), stats.sem(scores))
    found = interval(scores)
    np.testing.assert_allclose([found.low, found.high], expected)
    assert (found.mean, found.groups) == (scores.mean(), 6)


def test_scores_of_one_image_count_as_one() -> None:
    scores = np.array([0.1, 0.4, 0.35, 0.8, 0.9])
    once, thrice = interval(scores), interval(np.repeat(scores, 3), np.repeat(np.arange(5), 3).tolist())
    assert (thrice.low, thrice.high, thrice.groups) == pytest.approx((once.low, once.high, 5))


def test_a_single_group_has_no_interval_and_nothing_none_at_all() -> None:
    assert interval(np.array([0.5, 0.7]), ["a", "a"]) == Interval(0.6, -np.inf, np.inf, 1)
    with pytest.raises(ValueError, match="no scores"):
        interval(np.array([]))
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        interval(np.array([0.1, np.nan]))


@pytest.mark.parametrize("images", [5, 10, 20, 50, 200])
@pytest.mark.parametrize("draw", [_iou, _mse])
def test_intervals_cover_what_they_say(draw, images: int) -> None:
    """Scores of several pairs an image, which share what the image adds; few images know little of tails."""
    random = np.random.default_rng(images)
    pairs = 3
    scores = np.repeat(draw(random, REPEATS, images), pairs, 1) + random.normal(0, 0.02, (REPEATS, images * pairs))
    names = np.repeat(np.arange(images), pairs).tolist()
    found = [interval(row, names) for row in scores]
    covered = np.mean([each.low <= TRUE_MEANS[draw] <= each.high for each in found])
    assert covered >= {5: 0.82, 10: 0.89}.get(images, 0.925)
    assert covered <= 0.97


@pytest.mark.parametrize("sizes", [[1] * 5 + [5, 5, 10, 10, 20], [1] * 30 + [20] * 3, [2, 3, 4, 5, 6], [1, 1, 1, 1, 8]])
def test_a_patient_of_many_images_does_not_make_them_more_patients(sizes: list[int]) -> None:
    random = np.random.default_rng(0)
    names = np.repeat(np.arange(len(sizes)), sizes)
    found = [interval(random.normal(0, 1, len(sizes))[names], names.tolist()) for _ in range(REPEATS)]
    assert np.mean([each.low <= 0 <= each.high for each in found]) >= 0.92


@pytest.mark.parametrize("runs", [2, 3, 4, 10])
@pytest.mark.parametrize("between", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("shared", [False, True])
def test_an_interval_over_runs_covers_the_mean_of_new_searches(runs: int, between: float, shared: bool) -> None:
    """Folds of other images each, or seeds judged on the same ones, with and without anything between searches."""
    random = np.random.default_rng(runs)
    images = 50
    names = [list(range(images)) if shared else list(range(run * images, (run + 1) * images)) for run in range(runs)]
    covered, found = [], Interval(0, 0, 0, 0)
    for _ in range(1000):
        of_image = random.normal(0.5, 0.1, (1 if shared else runs, images))
        of_run = random.normal(0, between, (runs, 1)) if between else np.zeros((runs, 1))
        scores = of_image + of_run + random.normal(0, 0.05, (runs, images))
        found = nested_interval(list(scores), names)
        covered.append(found.low <= 0.5 <= found.high)
    assert np.mean(covered) >= 0.93
    assert (found.groups, found.runs) == (images if shared else runs * images, runs)


def test_runs_have_equal_weights_and_differ_by_students_t() -> None:
    runs = [np.array([0.2, 0.21, 0.19]), np.full(9, 0.4) + np.arange(-4, 5) / 100, np.full(5, 0.9)]
    expected = stats.t.interval(0.95, 2, 0.5, stats.sem([0.2, 0.4, 0.9]))
    found = nested_interval(runs)
    np.testing.assert_allclose([found.mean, found.low, found.high], [0.5, *expected])


def test_nothing_shown_is_outside_of_the_metrics_range() -> None:
    wide = Interval(0.5, -0.1, 1.2, 5)
    assert bounded(wide, IOU) == Interval(0.5, 0, 1, 5)
    assert bounded(wide, MSE) == Interval(0.5, 0, 1.2, 5)


@pytest.mark.parametrize("pairs", [2, 4, 5, 20, 100])
def test_a_true_deficit_is_not_called_as_good(pairs: int) -> None:
    """.05 IoU worse, .1 spread of the differences: at most the 2.5 % that the test allows."""
    random = np.random.default_rng(pairs)
    reference = random.random((2000, pairs))
    answers = reference - 0.05 + random.normal(0, 0.1, reference.shape)
    verdicts = [
        verdict(gain(IOU, row, other), IOU.allowed(other.mean())) for row, other in zip(answers, reference, strict=True)
    ]
    assert np.mean([each in ("better", "not worse") for each in verdicts]) <= 0.03
    if pairs < 5:
        assert set(verdicts) == {"too few"}
    if pairs == 100:
        assert np.mean([each == "worse" for each in verdicts]) > 0.9


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.03, "better"),
        (-0.01, 0.03, "not worse"),
        (-0.01, -0.005, "not worse"),
        (-0.03, -0.01, "worse"),
        (-0.03, 0.01, "undecided"),
        (0.0, 0.0, "not worse"),
    ],
)
def test_verdicts(low: float, high: float, expected: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high, 50), 0.02) == expected
    assert verdict(Interval((low + high) / 2, low, high, 4), 0.02) == "too few"


def test_an_error_is_better_when_it_is_lower_and_its_margin_a_share() -> None:
    better, worse = np.full(6, 0.1) + np.arange(6) * 1e-3, np.full(6, 0.2)
    assert verdict(gain(MSE, better, worse), MSE.allowed(0.2)) == "better"
    assert verdict(gain(MSE, worse, better), MSE.allowed(0.1)) == "worse"
    assert MSE.allowed(0.4) == pytest.approx(0.02)
    with pytest.raises(ValueError, match="not of the same queries"):
        gain(MSE, better, worse[:3])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30), st.floats(0.1, 10), st.floats(-5, 5))
def test_intervals_move_and_stretch_with_their_scores(scores: list[float], factor: float, shift: float) -> None:
    plain, moved = interval(np.array(scores)), interval(np.array(scores) * factor + shift)
    assert moved.low == pytest.approx(plain.low * factor + shift, abs=1e-9)
    assert moved.high == pytest.approx(plain.high * factor + shift, abs=1e-9)
