"""Losses that are NaN or infinite in every search: refused with a sentence, or left out and counted."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from problems import problem
from taskvec.search import (
    NON_FINITE,
    AttributionSettings,
    CmaSettings,
    FiniteLosses,
    GreedySettings,
    Problem,
    ReinforceSettings,
    RelaxedSettings,
    SearchSettings,
    causal_effects,
)
from taskvec.search.selection import Selection

SITES, ITEMS = 12, 4
WANTED = (torch.arange(SITES) % 3 == 0).float()
LAYERS = list(torch.arange(SITES).split(4))
BAD_SITE, BAD_ITEM = 5, 2
WRONG = [math.nan, math.inf, -math.inf]


def losses(masks: Tensor, items: Tensor) -> Tensor:
    return (masks.float() - WANTED).square().sum(1) * (1 + items)


def validate(masks: Tensor, share: float = 1.0) -> Tensor:
    return losses(masks, torch.zeros(len(masks)))


class Spoilt:
    """Losses that are ``value`` where a set with the bad site runs on the bad item, and how many those were."""

    def __init__(self, value: float):
        self.value, self.count = value, 0

    def __call__(self, masks: Tensor, items: Tensor) -> Tensor:
        bad = masks[:, BAD_SITE] & (items == BAD_ITEM)
        self.count += int(bad.sum())
        return losses(masks, items).masked_fill(bad, self.value)

    def validate(self, masks: Tensor, share: float = 1.0) -> Tensor:
        self.count += int(masks[:, BAD_SITE].sum())
        return validate(masks).masked_fill(masks[:, BAD_SITE], self.value)

    def differentiate(self, shares: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """As autograd does: one loss that is not finite spoils the gradient of the mean."""
        bad = items == BAD_ITEM
        self.count += int(bad.sum())
        own = ((shares - WANTED).square().sum() * (1.0 + items)).masked_fill(bad, self.value)
        gradient = 2 * (shares - WANTED) * (1.0 + items).mean()
        return own, gradient * torch.nan if bad.any() else gradient

    def problem(self, tasks: Tensor | None = None, names: Sequence[str] = ()) -> Problem:
        return problem(
            self,
            SITES,
            ITEMS,
            tasks=tasks,
            differentiate=self.differentiate,
            validate=self.validate,
            layers=lambda: LAYERS,
            names=names,
        )


SETTINGS = [
    ReinforceSettings(steps=60, masks_per_item=8, checkpoint_every=10, candidates=8),
    RelaxedSettings(steps=40, items=4, checkpoint_every=10),
    AttributionSettings(),
    CmaSettings(4 / 12),
    GreedySettings(layers=len(LAYERS), trials=20),
]
TASKS = [None, torch.tensor([0, 0, 1, 1])]


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.name)
def test_a_loss_that_is_not_finite_ends_a_search_with_a_sentence(settings: SearchSettings, value: float) -> None:
    kind = "1 NaN, 0 infinite" if math.isnan(value) else "0 NaN, 1 infinite"
    if settings.name in ("reinforce", "greedy"):
        kind = kind.replace("1", r"\d+")
    message = rf"\d+ of \d+ losses of .* are not finite \({kind}\), on tree 7: look at .*non_finite='leave_out'"
    names = ["car 1", "car 2", "tree 7", "tree 9"]
    with pytest.raises(ValueError, match=message):
        settings.search(Spoilt(value).problem(names=names))
    with pytest.raises(ValueError, match=r"on item 2: look"):
        settings.search(Spoilt(value).problem())


@pytest.mark.parametrize("tasks", TASKS)
@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.name)
def test_what_is_left_out_is_counted_and_spoils_nothing(
    settings: SearchSettings, value: float, tasks: Tensor | None
) -> None:
    """The set that is best where the losses are finite is found, whatever the others are."""
    spoilt = Spoilt(value)
    found = settings.search(spoilt.problem(tasks), non_finite="leave_out")
    assert torch.equal(found.mask, WANTED.bool())
    assert math.isfinite(found.loss)
    assert found.non_finite == spoilt.count > 0
    of_steps = sum(record.get("non_finite", 0) for record in found.history)
    assert of_steps == found.non_finite
    assert all(math.isfinite(record["loss"]) for record in found.history)
    if found.scores is not None:
        finite = found.scores.isfinite()
        finite[BAD_SITE] |= settings.name == "cma"  # whose effect is not known
        assert finite.all()


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.name)
def test_finite_losses_are_neither_counted_nor_changed(settings: SearchSettings) -> None:
    class Sound(Spoilt):
        def __call__(self, masks: Tensor, items: Tensor) -> Tensor:
            return losses(masks, items)

        def validate(self, masks: Tensor, share: float = 1.0) -> Tensor:
            return validate(masks)

        def differentiate(self, shares: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
            own = (shares - WANTED).square().sum() * (1.0 + items)
            return own, 2 * (shares - WANTED) * (1.0 + items).mean()

    refused, left_out = (settings.search(Sound(0).problem(), non_finite=each) for each in NON_FINITE)
    for other in (refused, left_out):
        assert torch.equal(refused.mask, other.mask)
        assert refused.history == other.history
        assert other.non_finite == 0
        assert not any("non_finite" in record for record in other.history)


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.name)
def test_where_nothing_is_finite_there_is_nothing_to_leave_out(settings: SearchSettings) -> None:
    class Hopeless(Spoilt):
        def __call__(self, masks: Tensor, items: Tensor) -> Tensor:
            return torch.full((len(masks),), torch.nan)

        def differentiate(self, shares: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
            return torch.full((len(items),), torch.nan), shares

    with pytest.raises(ValueError, match="finite"):
        settings.search(Hopeless(0).problem(), non_finite="leave_out")


def test_a_validation_loss_that_is_nan_is_never_the_best() -> None:
    """Not as the first checkpoint, not as a later one, not in a round of halving."""
    values = iter([torch.nan, 3.0, torch.nan, 2.0, -torch.inf])

    def from_values(masks: Tensor, share: float = 1.0) -> Tensor:
        return torch.full((len(masks),), next(values))

    finite = FiniteLosses("leave_out")
    selection = Selection(from_values, "threshold", 0, halving=False, generator=torch.Generator(), finite=finite)
    records = [selection.checkpoint(torch.ones(3), step) for step in range(1, 6)]
    assert [record.get("validation_loss") for record in records] == [None, 3.0, None, 2.0, None]
    assert (selection.settle().loss, selection.settle().step, finite.count) == (2.0, 4, 3)

    def hopeless(masks: Tensor, share: float = 1.0) -> Tensor:
        return torch.full((len(masks),), torch.nan)

    halved = Selection(Spoilt(-math.inf).validate, "best", 30, True, torch.Generator().manual_seed(0), finite)
    halved.checkpoint(torch.zeros(SITES), 1)
    assert not halved.settle().mask[BAD_SITE]
    with pytest.raises(ValueError, match=r"1 of 1 validation losses of sets of sites are not finite \(1 NaN"):
        Selection(hopeless, "threshold", 0, False, torch.Generator()).checkpoint(torch.ones(3), 1)
    nothing = Selection(hopeless, "threshold", 0, False, torch.Generator(), finite)
    assert nothing.checkpoint(torch.ones(3), 1) == {}
    with pytest.raises(ValueError, match="none had a finite validation loss"):
        nothing.settle()


def test_a_gradient_that_is_not_finite_is_not_learnt_from() -> None:
    """Though the losses are: as of an infinite slope."""

    def differentiate(shares: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones(len(items)), torch.where(torch.arange(SITES) < 2, torch.inf, 1.0)

    with pytest.raises(ValueError, match="the gradient of step 1 is not finite at 2 of 12 sites"):
        RelaxedSettings().search(replace(Spoilt(0).problem(), differentiate=differentiate), non_finite="leave_out")


def test_an_item_without_a_finite_loss_does_not_count_in_causal_effects() -> None:
    def evaluate(masks: Tensor, items: Tensor) -> Tensor:
        return losses(masks, items).masked_fill(items == BAD_ITEM, torch.nan)

    finite = FiniteLosses("leave_out")
    effects = causal_effects(problem(evaluate, SITES, ITEMS), finite=finite)
    torch.testing.assert_close(effects, (2 * WANTED - 1) * (1.0 + torch.tensor([0, 1, 3])).mean())
    assert finite.count == 1 + SITES


@given(st.lists(st.sampled_from([0.0, 1.5, *WRONG]), min_size=1, max_size=9))
def test_what_is_finite(values: list[float]) -> None:
    finite = FiniteLosses("leave_out")
    assert finite.of(torch.tensor(values), "losses").tolist() == list(map(math.isfinite, values))
    wrong = sum(not math.isfinite(value) for value in values)
    assert finite.count == wrong
    assert finite.since(0) == ({"non_finite": wrong} if wrong else {})


def test_items_are_named_up_to_three() -> None:
    items, nan = torch.tensor([4, 1, 1, 3, 0]), torch.full((5,), torch.nan)
    with pytest.raises(
        ValueError, match=r"5 of 5 losses are not finite .*, on item 0, item 1, item 3 and 1 more: look"
    ):
        FiniteLosses().of(nan, "losses", items)
    wrong: Any = "ignore"
    with pytest.raises(ValueError, match="non_finite is 'ignore': expected one of refuse, leave_out"):
        FiniteLosses(wrong)
