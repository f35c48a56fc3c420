import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from problems import problem
from taskvec.search import Problem
from taskvec.search.relaxed import COST_OF_A_GRADIENT, GATES, Gate, RelaxedSettings, open_gates

TARGET = torch.tensor([1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0], dtype=torch.bool)
EMPTY = torch.zeros(12, dtype=torch.bool)


class Toy:
    """The squared distance from a target, plus a large offset of the item; at masks the number of sites that differ."""

    def __init__(self, target: Tensor):
        self.target, self.drawn = target.float(), []

    def __call__(self, shares: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        self.drawn.append(items.tolist())
        difference = shares - self.target
        return difference.square().sum() + 50.0 * items, 2 * difference

    def validate(self, masks: Tensor, share: float = 1.0) -> Tensor:
        return (masks.float() - self.target).square().sum(1)

    def problem(self, items: int, tasks: Tensor | None = None) -> Problem:
        """With a gradient alone: nothing else is to be asked for."""

        def never(masks: Tensor, items: Tensor) -> Tensor:
            raise AssertionError

        return problem(never, 12, items, tasks=tasks, differentiate=self, validate=self.validate)


@pytest.mark.parametrize("gate", GATES)
def test_the_best_sites_are_found(gate: Gate) -> None:
    toy = Toy(TARGET)
    found = RelaxedSettings(gate=gate).search(toy.problem(10))
    assert torch.equal(found.mask, TARGET)
    assert found.loss == 0
    assert found.evaluations == 40 * 10 * COST_OF_A_GRADIENT  # there are fewer items than a step would take
    assert not found.interrupted


def test_a_step_sees_different_items_of_those_there_are() -> None:
    toy = Toy(TARGET)
    RelaxedSettings(steps=30, items=7).search(toy.problem(30))
    assert all(len(set(drawn)) == 7 for drawn in toy.drawn)
    assert {item for drawn in toy.drawn for item in drawn} == set(range(30))


def test_the_same_seed_gives_the_same_search() -> None:
    results = [RelaxedSettings(steps=5).search(replace(Toy(TARGET).problem(30), seed=s)) for s in (1, 1, 2)]
    assert results[0].history == results[1].history
    assert results[0].history != results[2].history


def test_every_step_is_recorded_and_checkpoints_are_scored() -> None:
    toy, seen = Toy(TARGET), []
    found = RelaxedSettings(steps=12, checkpoint_every=5).search(toy.problem(3), seen.append)
    assert found.history == seen
    assert [record["step"] for record in seen if "validation_loss" in record] == [5, 10, 12]
    assert found.loss == min(record["validation_loss"] for record in seen if "validation_loss" in record)
    assert found.scores is not None
    assert seen[-1]["sites"] == pytest.approx(torch.sigmoid(found.scores).sum().item())


def test_an_interrupted_search_keeps_the_best_so_far() -> None:
    toy = Toy(TARGET)

    def interrupt(record: dict[str, Any]) -> None:
        if record["step"] == 9:
            raise KeyboardInterrupt

    found = RelaxedSettings(checkpoint_every=4).search(toy.problem(3), interrupt)
    assert found.step in (4, 8)
    assert found.interrupted
    with pytest.raises(KeyboardInterrupt):
        RelaxedSettings(checkpoint_every=20).search(toy.problem(3), interrupt)


def test_the_empty_mask_is_never_chosen() -> None:
    assert RelaxedSettings().search(Toy(EMPTY).problem(3)).mask.sum() >= 1


@pytest.mark.parametrize("gate", ["straight_through", "hard_concrete"])
def test_gates_are_open_as_often_as_their_logits_say(gate: Gate) -> None:
    logits = torch.tensor([-30.0, -2.0, 0.0, 1.0, 30.0])
    generator = torch.Generator().manual_seed(0)
    opened = torch.stack([open_gates(logits, gate, generator) for _ in range(4000)])
    assert opened.min() == 0
    assert opened.max() == 1
    torch.testing.assert_close((opened > 0.5).float().mean(0), torch.sigmoid(logits), rtol=0, atol=0.03)
    if gate == "straight_through":
        assert ((opened == 0) | (opened == 1)).all()
    else:  # equation 12 of Louizos et al. 2018
        closed = torch.sigmoid(2 / 3 * math.log(0.1 / 1.1) - logits)
        torch.testing.assert_close((opened == 0).float().mean(0), closed, rtol=0, atol=0.03)


def test_the_gradient_of_a_gate() -> None:
    logits = torch.linspace(-3, 3, 50, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        open_gates(logits, "straight_through", torch.Generator().manual_seed(0)).sum(), logits
    )
    chances = torch.sigmoid(logits.detach())
    torch.testing.assert_close(gradient, chances * (1 - chances))

    def concrete(values: Tensor) -> Tensor:
        return open_gates(values, "hard_concrete", torch.Generator().manual_seed(0))

    double = logits.detach().double().requires_grad_()
    assert torch.autograd.gradcheck(concrete, double)


class TwoTasks(Toy):
    """Two tasks of ten items that want opposite shares at every other site, the loss of the second times a scale."""

    def __init__(self, scale: float):
        super().__init__(TARGET)
        self.scale = scale

    def __call__(self, shares: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        second = items >= 10
        assert second.all() or not second.any()
        self.drawn.append(items.tolist())
        target = 1 - self.target if second.any() else self.target
        difference = (shares - target) * torch.tensor([1.0, 0.5]).repeat(6)
        factor = self.scale if second.any() else 1.0
        losses = (difference.square().sum() + 0.1) * factor * torch.ones(len(items))
        return losses, 2 * factor * difference * torch.tensor([1.0, 0.5]).repeat(6)


def test_tasks_weigh_the_same_whatever_their_scale() -> None:
    tasks = torch.arange(20) // 10
    found = []
    for scale in (1.0, 1000.0):
        toy = TwoTasks(scale)
        found.append(RelaxedSettings(items=6).search(toy.problem(20, tasks)))
        assert all(len(drawn) == 3 for drawn in toy.drawn)
    assert found[0].scores is not None
    assert found[1].scores is not None
    torch.testing.assert_close(found[0].scores, found[1].scores, rtol=0, atol=1e-3)
    assert found[0].evaluations == 40 * 6 * COST_OF_A_GRADIENT


def test_the_first_step_over_tasks_follows_the_gradient_of_the_mean_logarithm() -> None:
    """Adam's first step is the learning rate against the sign of the gradient."""
    logits = torch.full((12,), -1.0, requires_grad=True)
    shares, weight = torch.sigmoid(logits), torch.tensor([1.0, 0.5]).repeat(6)
    losses = [((shares - target) * weight).square().sum() + 0.1 for target in (TARGET.float(), 1 - TARGET.float())]
    torch.stack(losses).log().mean().backward()
    toy = TwoTasks(1000)
    found = RelaxedSettings(steps=1).search(toy.problem(20, torch.arange(20) // 10))
    assert found.scores is not None
    assert logits.grad is not None
    torch.testing.assert_close(found.scores, -1 - 0.3 * logits.grad.sign(), rtol=0, atol=1e-4)


def test_a_loss_without_logarithm_is_refused() -> None:
    toy = TwoTasks(-1)
    with pytest.raises(ValueError, match="by the logarithm of their loss: one has -"):
        RelaxedSettings().search(toy.problem(20, torch.arange(20) // 10))


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"items": 0}, {"checkpoint_every": 0}, {"candidates": -1}, {"gate": "open"}]
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs at least|expected one of"):
        RelaxedSettings(**wrong)
