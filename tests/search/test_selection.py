from itertools import pairwise

import pytest
import torch
from torch import Tensor

from problems import problem
from taskvec.search import FINALS, Final, ReinforceSettings
from taskvec.search.selection import Selection

TARGET = torch.tensor([1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0], dtype=torch.bool)
LOGITS = torch.tensor([2.0, -1, -1, 0.5, 0.2, -1, 0.3, -1, 0.1, -1, -1, -1])


class Validation:
    """The number of sites that differ from the target, and what was asked."""

    def __init__(self, items: int = 64):
        self.items, self.seen, self.rows = items, [], 0

    def __call__(self, masks: Tensor, share: float = 1.0) -> Tensor:
        self.seen.append((masks.clone(), share))
        self.rows += round(len(masks) * share * self.items)
        return (masks != TARGET).float().sum(1)


def selection(validation: Validation, final: Final, sampled: int = 15, halving: bool = False) -> Selection:
    return Selection(validation, final, sampled, halving, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("final", "least", "most"), [("best", 8, 16), ("threshold", 1, 1), ("sample", 1, 1)])
def test_what_a_checkpoint_scores(final: Final, least: int, most: int) -> None:
    validation = Validation()
    record = selection(validation, final).checkpoint(LOGITS, 1)
    ((masks, _),) = validation.seen
    assert least <= len(masks) <= most
    probable = bool((masks == (LOGITS > 0)).all(1).any())
    assert probable == (final != "sample")
    best = int((masks != TARGET).sum(1).argmin())
    assert record == {
        "validation_loss": (masks[best] != TARGET).sum().item(),
        "chosen_sites": masks[best].sum().item(),
    }


@pytest.mark.parametrize("final", FINALS)
def test_the_final_set_is_of_the_best_checkpoint_and_its_loss_its_own(final: Final) -> None:
    validation = Validation()
    chosen = selection(validation, final)
    sure = torch.where(TARGET, 30.0, -30.0)  # a sample of it is the target
    for step, logits in enumerate((LOGITS, sure, -sure), 1):
        chosen.checkpoint(logits, step)
    asked = len(validation.seen)
    best = chosen.settle()
    assert (best.step, best.loss) == (2, 0)
    assert torch.equal(best.mask, TARGET)
    assert len(validation.seen) == asked + (final == "sample")  # a fresh sample is scored, as every set that is told


def test_a_final_sample_is_a_fresh_one() -> None:
    validation = Validation()
    chosen = selection(validation, "sample")
    chosen.checkpoint(torch.zeros(12), 1)
    (scored, _), best = validation.seen[0], chosen.settle()
    assert not torch.equal(best.mask, scored[0])
    assert best.loss == (best.mask != TARGET).sum()


@pytest.mark.parametrize("final", FINALS)
def test_a_search_with_each_final_set(final: Final) -> None:
    def evaluate(masks: Tensor, items: Tensor) -> Tensor:
        return (masks != TARGET).float().sum(1)

    settings = ReinforceSettings(steps=120, final=final)
    found = settings.search(problem(evaluate, 12, 10, validate=Validation()))
    assert found.loss == (found.mask != TARGET).sum()
    assert found.loss == 0 if final != "sample" else found.loss <= 3


@pytest.mark.parametrize("sampled", [0, 1, 2, 7, 15])
def test_halving_finds_the_best_candidate_for_less(sampled: int) -> None:
    plain, halved = Validation(), Validation()
    expected, chosen = selection(plain, "best", sampled), selection(halved, "best", sampled, halving=True)
    record = chosen.checkpoint(LOGITS, 1)
    assert record["validation_loss"] == expected.checkpoint(LOGITS, 1)["validation_loss"]
    sizes, shares = [len(masks) for masks, _ in halved.seen], [share for _, share in halved.seen]
    assert sizes[-1] == shares[-1] == 1  # the winner is scored on all items
    for before, after in pairwise(sizes):
        assert after == (before + 1) // 2
    for before, after in pairwise(shares):
        assert after == 2 * before
    if sampled == 15:
        assert halved.rows < plain.rows / 2
