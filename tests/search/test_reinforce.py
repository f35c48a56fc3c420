from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from problems import problem, product_of
from taskvec.search import Problem
from taskvec.search.reinforce import ReinforceSettings, advantages, surrogate

CASES = ["seg_init", "mse_init", "multi_init", "seg_generic", "multi_generic"]


@pytest.mark.parametrize("case", CASES)
def test_recorded_steps(case: str, golden: dict[str, Tensor]) -> None:
    def recorded(name: str) -> Tensor:
        return golden[f"reinforce/{case}/{name}"]

    generic = case.endswith("generic")
    start = golden["reinforce/theta_generic"] if generic else torch.full((48,), -1.0)
    logits = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    tasks = torch.arange(320) % 5 if case.startswith("multi") else None
    losses = recorded("losses").float()
    weights = advantages(losses, tasks=tasks)
    torch.testing.assert_close(weights, recorded("advantages").float(), rtol=0, atol=1e-5)
    value = surrogate(logits, golden["reinforce/masks"].bool(), weights)
    torch.testing.assert_close(value, recorded("surrogate").float().squeeze(), rtol=0, atol=1e-7)
    value.backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, recorded("grad").float(), rtol=0, atol=1e-7)
    optimizer.step()
    # where the gradient is as small as Adam's epsilon, the step depends on its last bits
    sure = recorded("grad").abs() > 1e-7
    torch.testing.assert_close(logits.detach()[sure], recorded("theta_after_adam").float()[sure], rtol=0, atol=1e-4)
    torch.testing.assert_close(losses.mean(), recorded("avg_loss").float().squeeze(), rtol=0, atol=1e-5)


def test_per_item_advantages_do_not_see_the_difference_between_items() -> None:
    generator = torch.Generator().manual_seed(0)
    items = torch.arange(40) % 4
    losses = torch.randn(40, generator=generator)
    shifted = losses + 100 * items
    torch.testing.assert_close(
        advantages(losses, "per_item", items), advantages(shifted, "per_item", items), rtol=0, atol=1e-4
    )
    assert not torch.allclose(advantages(losses), advantages(shifted), atol=0.1)


def test_tasks_weigh_the_same_whatever_their_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    tasks = torch.arange(40) % 2
    losses = torch.randn(40, generator=generator)
    scaled = torch.where(tasks == 0, losses * 1000, losses)
    torch.testing.assert_close(advantages(losses, tasks=tasks), advantages(scaled, tasks=tasks), rtol=0, atol=1e-3)


def test_a_baseline_per_item_needs_items() -> None:
    with pytest.raises(ValueError, match="needs to know the item"):
        advantages(torch.zeros(3), "per_item")


class Toy:
    """A loss that is the number of sites that differ from a target, plus a large offset of the item."""

    def __init__(self, target: Tensor, offset: float = 0.0):
        self.target, self.offset = target, offset

    def __call__(self, masks: Tensor, items: Tensor) -> Tensor:
        return (masks != self.target).float().sum(1) + self.offset * items

    def validate(self, masks: Tensor, share: float = 1.0) -> Tensor:
        return self(masks, torch.zeros(len(masks)))

    def problem(self, items: int) -> Problem:
        return problem(self, 12, items, validate=self.validate)


TARGET = torch.tensor([1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0], dtype=torch.bool)


@pytest.mark.parametrize(("baseline", "offset"), [("batch", 0.0), ("per_item", 50.0)])
def test_the_best_sites_are_found(baseline: Any, offset: float) -> None:
    toy = Toy(TARGET, offset)
    settings = ReinforceSettings(steps=150, baseline=baseline)
    found = settings.search(toy.problem(10))
    assert torch.equal(found.mask, TARGET)
    assert found.loss == 0
    assert found.evaluations == 150 * 320
    assert not found.interrupted


def test_shared_masks_are_each_evaluated_on_every_item() -> None:
    toy, seen = Toy(TARGET, 50.0), []

    def evaluate_product(masks: Tensor, items: Tensor) -> Tensor:
        seen.append((masks.clone(), items))
        return product_of(toy)(masks, items)

    settings = ReinforceSettings(steps=150, masks_per_item=16, shared_masks=True)
    found = settings.search(replace(toy.problem(5), evaluate_product=evaluate_product))
    assert torch.equal(found.mask, TARGET)  # in spite of the difference between items, without a baseline for each
    assert found.evaluations == 150 * 16 * 5
    for masks, items in seen[:3]:
        assert len(masks) == 16
        assert items.tolist() == list(range(5))
        assert len(masks.unique(dim=0)) > 8


def test_the_same_seed_gives_the_same_search() -> None:
    toy = Toy(TARGET)
    results = [ReinforceSettings(steps=7).search(replace(toy.problem(3), seed=seed)) for seed in (1, 1, 2)]
    assert results[0].history == results[1].history
    assert results[0].history != results[2].history


def test_every_step_is_recorded_and_checkpoints_are_scored() -> None:
    toy, seen = Toy(TARGET), []
    settings = ReinforceSettings(steps=12, checkpoint_every=5)
    found = settings.search(toy.problem(3), seen.append)
    assert found.history == seen
    assert [record["step"] for record in seen] == list(range(1, 13))
    assert [record["step"] for record in seen if "validation_loss" in record] == [5, 10, 12]
    assert found.loss == min(record["validation_loss"] for record in seen if "validation_loss" in record)


def test_an_interrupted_search_keeps_the_best_so_far() -> None:
    toy = Toy(TARGET)

    def interrupt(record: dict[str, Any]) -> None:
        if record["step"] == 9:
            raise KeyboardInterrupt

    found = ReinforceSettings(steps=50, checkpoint_every=4).search(toy.problem(3), interrupt)
    assert found.step in (4, 8)
    assert len(found.history) == 9
    assert found.interrupted
    with pytest.raises(KeyboardInterrupt):  # before the first checkpoint there is nothing to keep
        ReinforceSettings(steps=50, checkpoint_every=20).search(toy.problem(3), interrupt)


def test_the_empty_mask_is_never_chosen() -> None:
    toy = Toy(torch.zeros(12, dtype=torch.bool))
    found = ReinforceSettings(steps=100).search(toy.problem(3))
    assert found.mask.sum() == 1


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"masks_per_item": 1}, {"checkpoint_every": 0}, {"baseline": "mean"}, {"final": "last"}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected one of|needs at least"):
        ReinforceSettings(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": float("nan")}, {"learning_rate": -1}, {"initial_logit": -float("inf")}]
)
def test_settings_that_nothing_is_learnt_with_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"a search learns from finite numbers: learning_rate is .*, initial_logit"):
        ReinforceSettings(**wrong)
