from typing import Any

import pytest
import torch
from torch import Tensor

from taskvec.search.relaxed import COST_OF_A_GRADIENT, RelaxedSettings, relaxed

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

    def validate(self, masks: Tensor) -> Tensor:
        return (masks.float() - self.target).square().sum(1)


def test_the_best_sites_are_found() -> None:
    toy = Toy(TARGET)
    found = relaxed(toy, toy.validate, 12, 10)
    assert torch.equal(found.mask, TARGET)
    assert found.loss == 0
    assert found.evaluations == 40 * 10 * COST_OF_A_GRADIENT  # there are fewer items than a step would take
    assert not found.interrupted


def test_a_step_sees_different_items_of_those_there_are() -> None:
    toy = Toy(TARGET)
    relaxed(toy, toy.validate, 12, 30, RelaxedSettings(steps=30, items=7))
    assert all(len(set(drawn)) == 7 for drawn in toy.drawn)
    assert {item for drawn in toy.drawn for item in drawn} == set(range(30))


def test_the_same_seed_gives_the_same_search() -> None:
    results = [relaxed(Toy(TARGET), Toy(TARGET).validate, 12, 30, RelaxedSettings(steps=5, seed=s)) for s in (1, 1, 2)]
    assert torch.equal(results[0].logits, results[1].logits)
    assert results[0].history == results[1].history
    assert results[0].history != results[2].history


def test_every_step_is_recorded_and_checkpoints_are_scored() -> None:
    toy, seen = Toy(TARGET), []
    found = relaxed(toy, toy.validate, 12, 3, RelaxedSettings(steps=12, checkpoint_every=5), on_step=seen.append)
    assert found.history == seen
    assert [record["step"] for record in seen if "held_out_loss" in record] == [5, 10, 12]
    assert found.loss == min(record["held_out_loss"] for record in seen if "held_out_loss" in record)
    assert seen[-1]["sites"] == pytest.approx(torch.sigmoid(found.logits).sum().item())


def test_an_interrupted_search_keeps_the_best_so_far() -> None:
    toy = Toy(TARGET)

    def interrupt(record: dict[str, Any]) -> None:
        if record["step"] == 9:
            raise KeyboardInterrupt

    found = relaxed(toy, toy.validate, 12, 3, RelaxedSettings(checkpoint_every=4), on_step=interrupt)
    assert found.step in (4, 8)
    assert found.interrupted
    with pytest.raises(KeyboardInterrupt):
        relaxed(toy, toy.validate, 12, 3, RelaxedSettings(checkpoint_every=20), on_step=interrupt)


def test_the_empty_mask_is_never_chosen() -> None:
    assert relaxed(Toy(EMPTY), Toy(EMPTY).validate, 12, 3).mask.sum() >= 1


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"items": 0}, {"checkpoint_every": 0}, {"candidates": -1}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="needs at least"):
        RelaxedSettings(**wrong)
