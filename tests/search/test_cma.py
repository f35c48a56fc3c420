from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from problems import problem
from taskvec.search import CmaSettings, causal_effects


class Additive:
    """Each site lowers an item's loss by an amount of its own; counts what it is asked."""

    def __init__(self, sites: int, items: int, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.gains = torch.randn(sites, items, generator=generator, dtype=torch.float64)
        self.offsets = 10 * torch.rand(items, generator=generator, dtype=torch.float64)
        self.scale = torch.ones(items, dtype=torch.float64)
        self.rows = 0

    def __call__(self, masks: Tensor, items: Tensor) -> Tensor:
        self.rows += len(masks)
        gained = (masks.double() * self.gains[:, items].T).sum(1)
        return ((self.offsets[items] - gained) * self.scale[items]).float()


@given(st.integers(2, 40), st.integers(1, 5), st.integers(0, 100))
def test_the_effects_are_those_of_every_site_alone(sites: int, items: int, seed: int) -> None:
    toy = Additive(sites, items, seed)
    effects = causal_effects(problem(toy, sites, items))
    torch.testing.assert_close(effects, toy.gains.mean(1).float(), rtol=0, atol=1e-4)
    assert toy.rows == items * (sites + 1)


@given(st.integers(4, 60), st.floats(0.01, 1))
def test_the_best_share_of_sites_is_patched(sites: int, share: float) -> None:
    toy = Additive(sites, 3)
    found = CmaSettings(share).search(problem(toy, sites, 3))
    count = max(1, round(share * sites))
    means = toy.gains.mean(1)
    assert set(found.mask.nonzero()[:, 0].tolist()) == set(means.topk(count).indices.tolist())
    assert found.loss == pytest.approx(toy(found.mask.expand(3, -1), torch.arange(3)).mean().item(), abs=1e-5)
    assert found.evaluations == toy.rows - 3
    assert found.scores is not None
    torch.testing.assert_close(found.scores, means.float(), rtol=0, atol=1e-4)


def test_tasks_weigh_the_same_whatever_their_scale() -> None:
    tasks, toy = torch.tensor([0, 0, 1, 1, 1, 2]), Additive(30, 6)
    toy.offsets.zero_()
    expected = causal_effects(problem(toy, 30, 6, tasks=tasks))
    by_hand = []
    for task in range(3):
        means = toy.gains[:, tasks == task].mean(1).numpy()
        by_hand.append(torch.from_numpy(means / means.std(ddof=1)))
    torch.testing.assert_close(expected, torch.stack(by_hand).mean(0).float(), rtol=0, atol=1e-5)
    toy.scale[tasks == 1] = 1000
    torch.testing.assert_close(causal_effects(problem(toy, 30, 6, tasks=tasks)), expected, rtol=0, atol=1e-5)
    masks = [CmaSettings().search(problem(each, 30, 6, tasks=tasks)).mask for each in (toy, Additive(30, 6))]
    assert torch.equal(*masks)


def test_a_task_without_effects_changes_nothing() -> None:
    tasks, toy = torch.tensor([0, 0, 1]), Additive(30, 3)
    toy.gains[:, 2] = 0
    alone = causal_effects(problem(toy, 30, 2, tasks=tasks[:2]))
    torch.testing.assert_close(causal_effects(problem(toy, 30, 3, tasks=tasks)), alone / 2)


def test_calls_are_large_and_each_is_recorded() -> None:
    toy, seen = Additive(600, 2), []
    found = CmaSettings().search(problem(toy, 600, 2), seen.append)
    assert found.history == seen
    assert [record["sites"] for record in seen] == [256, 512, 600]
    assert [record["evaluations"] for record in seen] == [514, 1026, 1202]
    assert found.step == 3
    assert found.mask.sum() == 150


def test_ctrl_c_passes() -> None:
    def interrupt(record: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CmaSettings().search(problem(Additive(10, 2), 10, 2), interrupt)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match="expected above 0 and at most 1"):
        CmaSettings(share)
