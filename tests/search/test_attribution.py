import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from problems import problem
from taskvec.search import AttributionSettings, Problem, attributed_effects, causal_effects
from taskvec.search.attribution import prefixes, sizes
from taskvec.search.gradient import COST_OF_A_GRADIENT

SITES = 20


class Quadratic:
    """|target - shares|^2 in a metric of each item's own, whose gradient is known; masks are shares of 0 and 1."""

    def __init__(self, items: int, curvature: float = 1.0, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.gains = torch.randn(items, SITES, generator=generator, dtype=torch.float64)
        self.curvature, self.scale = curvature, torch.ones(items, dtype=torch.float64)
        self.gradients = 0

    def __call__(self, masks: Tensor, items: Tensor) -> Tensor:
        shares = masks.double()
        own = 10 - (shares * self.gains[items]).sum(1) + self.curvature * shares.sum(1).square()
        return (own * self.scale[items]).float()

    def differentiate(self, shares: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        self.gradients += len(items)
        followed = shares.clone().requires_grad_()
        losses = self(followed.expand(len(items), -1), items)
        return losses.detach(), torch.autograd.grad(losses.mean(), followed)[0]

    def validate(self, masks: Tensor, share: float = 1.0) -> Tensor:
        return torch.stack(
            [self(mask.expand(len(self.gains), -1), torch.arange(len(self.gains))) for mask in masks]
        ).mean(1)

    def problem(self, tasks: Tensor | None = None) -> Problem:
        parts = {"differentiate": self.differentiate, "validate": self.validate}
        return problem(self, SITES, len(self.gains), tasks=tasks, **parts)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 50))
def test_of_a_linear_loss_effects_are_those_of_every_site_alone(items: int, points: int, seed: int) -> None:
    toy = Quadratic(items, 0.0, seed)
    effects, evaluations = attributed_effects(toy.problem(), points)
    torch.testing.assert_close(effects, causal_effects(toy.problem()), rtol=0, atol=1e-5)
    assert evaluations == COST_OF_A_GRADIENT * toy.gradients == COST_OF_A_GRADIENT * points * items


def test_integrated_gradients_add_up_to_what_all_sites_do() -> None:
    """Sundararajan et al. 2017, proposition 1; a left sum is wrong by the order of 1 / points."""
    toy = Quadratic(4)
    everything, nothing = toy.validate(torch.stack([torch.ones(SITES), torch.zeros(SITES)]))
    errors = [abs(float(attributed_effects(toy.problem(), n)[0].sum() - (nothing - everything))) for n in (1, 10, 100)]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


def test_the_first_point_is_the_gradient_without_a_patch() -> None:
    toy = Quadratic(4, curvature=3.0)
    _, gradient = toy.differentiate(torch.zeros(SITES), torch.arange(4))
    torch.testing.assert_close(attributed_effects(toy.problem())[0], -gradient)


def test_tasks_weigh_the_same_whatever_their_scale() -> None:
    tasks, toy = torch.tensor([0, 0, 1, 1, 1]), Quadratic(5, 0.0)
    expected = causal_effects(toy.problem(tasks))
    torch.testing.assert_close(attributed_effects(toy.problem(tasks))[0], expected, rtol=0, atol=1e-4)
    toy.scale[tasks == 1] = 100
    torch.testing.assert_close(attributed_effects(toy.problem(tasks))[0], expected, rtol=0, atol=1e-4)


def test_the_search_ends_with_the_best_prefix() -> None:
    toy, seen = Quadratic(6, curvature=0.05), []
    found = AttributionSettings().search(toy.problem(), seen.append)
    assert found.scores is not None
    tried = prefixes(found.scores, sizes(SITES, math.sqrt(2)))
    assert found.loss == pytest.approx(float(toy.validate(tried).min()))
    assert found.loss == pytest.approx(float(toy.validate(found.mask[None])))
    assert (len(seen), found.step, found.evaluations) == (1, 1, 6 * COST_OF_A_GRADIENT)
    budget = AttributionSettings().search(replace(toy.problem(), at_most=2))
    assert 1 <= int(budget.mask.sum()) <= 2 < int(found.mask.sum())


def test_a_problem_without_a_gradient_or_points_is_refused() -> None:
    with pytest.raises(ValueError, match="attribution needs a gradient, which this problem lacks"):
        attributed_effects(replace(Quadratic(2).problem(), differentiate=None))
    with pytest.raises(ValueError, match="attribution needs at least 1 point, not 0"):
        AttributionSettings(points=0)


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    toy = Quadratic(2)
    spoilt = replace(toy.problem(), differentiate=lambda shares, items: (torch.ones(len(items)), shares * torch.nan))
    with pytest.raises(ValueError, match="the gradient of point 1 is not finite"):
        attributed_effects(spoilt)


@given(st.integers(1, 5000), st.sampled_from([math.sqrt(2), 2.0]))
def test_numbers_of_sites_grow_by_a_ratio_and_end_with_all(most: int, ratio: float) -> None:
    counts = sizes(most, ratio)
    assert (counts[0], counts[-1]) == (1, most)
    assert all(a < b <= max(a + 1, ratio * a + 1) for a, b in pairwise(counts))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20))
def test_prefixes_are_nested_and_hold_the_highest_scores(scores: list[int]) -> None:
    values = torch.tensor(scores, dtype=torch.float32)
    masks = prefixes(values, range(1, len(scores) + 1))
    assert masks.sum(1).tolist() == list(range(1, len(scores) + 1))
    assert (masks[1:] | ~masks[:-1]).all()
    assert all(values[mask].min() >= values[~mask].max() for mask in masks[:-1])
