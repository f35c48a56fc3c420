from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from problems import problem
from taskvec.search import Problem, SearchResult, prune, with_curve

SITES, ITEMS = 12, 3
GAINS = torch.tensor([3.0, 2, 1, 0.5, 0.25, 0.1, -0.1, -0.5, -1, -2, -3, -4])  # of each site, whatever the others
WHOLE = torch.ones(SITES, dtype=torch.bool)


def losses(masks: Tensor, items: Tensor) -> Tensor:
    return 20 - masks.float() @ GAINS + items


def differentiate(shares: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    return losses(shares.expand(len(items), -1), items), -GAINS


def validate(masks: Tensor, share: float = 1.0) -> Tensor:
    return losses(masks, torch.zeros(len(masks)))


def posed(**parts: Any) -> Problem:
    return problem(losses, SITES, ITEMS, **{"differentiate": differentiate, "validate": validate, **parts})


def result(mask: Tensor, scores: Tensor | None = GAINS) -> SearchResult:
    return SearchResult(mask, float(validate(mask[None])), 1, scores, [], 100, False)


@pytest.mark.parametrize("gradient", [differentiate, None])
@pytest.mark.parametrize("tasks", [None, torch.tensor([0, 0, 1])])
def test_the_sites_that_harm_are_named_and_dropped(gradient: Any, tasks: Tensor | None) -> None:
    pruned = prune(posed(differentiate=gradient, tasks=tasks), result(WHOLE))
    assert pruned.harmful == (11, 10, 9, 8, 7, 6)
    assert torch.equal(pruned.mask, GAINS > 0)
    assert pruned.loss == pytest.approx(float(validate((GAINS > 0)[None])))
    assert pruned.evaluations > 100


def test_a_set_without_harm_stays() -> None:
    found = result(GAINS > 0)
    pruned = prune(posed(), found)
    assert pruned.harmful == ()
    assert torch.equal(pruned.mask, found.mask)
    assert pruned.loss == pytest.approx(found.loss)


def test_a_site_is_left_whatever_it_does() -> None:
    pruned = prune(posed(), result(GAINS < -3))
    assert (pruned.harmful, int(pruned.mask.sum())) == ((), 1)


def test_what_harms_alone_stays_where_validation_items_say_that_together_it_helps() -> None:
    def pairs(masks: Tensor, share: float = 1.0) -> Tensor:
        """Without the sites 10 and 11 all is lost, without one of them a little is won."""
        return validate(masks) + 100 * (~masks[:, 10] & ~masks[:, 11])

    pruned = prune(posed(validate=pairs), result(GAINS.abs() >= 3))
    assert pruned.harmful == (11, 10)
    assert pruned.mask.nonzero()[:, 0].tolist() == [0, 10]


def test_the_curve_is_of_the_highest_scores() -> None:
    curve = with_curve(posed(), result(WHOLE)).curve
    assert [count for count, _ in curve] == [1, 2, 4, 8, 12]
    assert [loss for _, loss in curve] == pytest.approx([20 - float(GAINS[:count].sum()) for count, _ in curve])
    assert [count for count, _ in with_curve(posed(at_most=5), result(WHOLE)).curve] == [1, 2, 4, 5]
    assert with_curve(posed(), result(WHOLE, None)).curve == ()
    unknown = with_curve(posed(), result(WHOLE, GAINS.masked_fill(GAINS == 3, torch.nan))).curve
    assert unknown[0] == (1, 18)  # a site of which nothing is known comes last


def test_losses_that_are_not_finite_are_refused_or_left_out() -> None:
    def spoilt(masks: Tensor, share: float = 1.0) -> Tensor:
        return validate(masks).masked_fill(masks.sum(1) == 4, torch.nan)

    bad = posed(validate=spoilt)
    with pytest.raises(ValueError, match="1 of 5 validation losses of sets of sites are not finite"):
        with_curve(bad, result(WHOLE))
    found = with_curve(bad, result(WHOLE), "leave_out")
    assert [count for count, _ in found.curve] == [1, 2, 8, 12]
    assert found.non_finite == 1
    for step in (prune, with_curve):
        with pytest.raises(ValueError, match="compared on validation items, which this problem lacks"):
            step(replace(bad, validate=None), result(WHOLE))
