"""What searches that learn step by step have in common: a start, an early end, a limit of sites."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from problems import problem
from taskvec.search import (
    AttributionSettings,
    Checkpoint,
    CmaSettings,
    GreedySettings,
    Problem,
    ReinforceSettings,
    RelaxedSettings,
    SearchSettings,
)
from taskvec.search.steps import BOUND, StepSettings, logits_of_effects

TARGET = torch.tensor([1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0], dtype=torch.bool)
WEIGHTS = torch.tensor([4.0, 1, 1, 3, 2, 1, 1, 1, 1, 1, 1, 1])
ITEMS = 4


def losses(masks: Tensor, items: Tensor) -> Tensor:
    return ((masks.float() - TARGET.float()).square() @ WEIGHTS) + items


def differentiate(shares: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    return losses(shares.expand(len(items), -1), items), 2 * (shares - TARGET.float()) * WEIGHTS


def validate(masks: Tensor, share: float = 1.0) -> Tensor:
    return losses(masks, torch.zeros(len(masks)))


def posed(**parts: Any) -> Problem:
    given = {"differentiate": differentiate, "validate": validate, "layers": lambda: list(torch.arange(12).split(4))}
    return problem(losses, 12, ITEMS, **{**given, **parts})


EVERY = [
    ReinforceSettings(steps=80, checkpoint_every=40),
    ReinforceSettings(steps=80, checkpoint_every=40, final="sample"),
    RelaxedSettings(halving=True),
    AttributionSettings(),
    CmaSettings(),
    GreedySettings(layers=3, trials=20),
]


@pytest.mark.parametrize("at_most", [1, 2, 3, 12, 99])
@pytest.mark.parametrize("settings", EVERY, ids=lambda settings: f"{settings.name}-{getattr(settings, 'final', '')}")
def test_no_search_ends_with_more_sites_than_may_be(settings: SearchSettings, at_most: int) -> None:
    found = settings.search(posed(at_most=at_most))
    assert 1 <= int(found.mask.sum()) <= at_most
    if settings.name in ("relaxed", "attribution") and at_most < 4:  # the best set of that many
        assert found.mask.nonzero()[:, 0].tolist() == [0, 3, 4][:at_most]
    if at_most >= 12:
        free = settings.search(posed())
        assert torch.equal(found.mask, free.mask)
        assert found.history == free.history


def test_no_site_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at_most is 0: a set of sites has at least 1"):
        posed(at_most=0)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), st.floats(0.01, 100))
def test_a_start_is_bounded_keeps_signs_and_has_no_scale(effects: list[float], scale: float) -> None:
    values = torch.tensor(effects, dtype=torch.float64)
    logits = logits_of_effects(values)
    assert logits.abs().max() <= BOUND
    assert (logits * values >= 0).all()
    torch.testing.assert_close(logits_of_effects(values * scale), logits)


STEPWISE = [RelaxedSettings(items=ITEMS), ReinforceSettings(masks_per_item=8)]


@pytest.mark.parametrize("settings", STEPWISE, ids=lambda settings: settings.name)
def test_a_start_by_attribution_is_nearer_to_the_end(settings: StepSettings) -> None:
    even, started = (
        replace(settings, start=start, steps=1, learning_rate=0.0).search(posed()) for start in ("even", "attribution")
    )
    assert even.scores is not None
    assert started.scores is not None
    assert started.scores[TARGET].min() > started.scores[~TARGET].max()
    assert (even.scores == -1).all()
    assert started.evaluations == even.evaluations + 3 * ITEMS
    with pytest.raises(ValueError, match="attribution needs a gradient, which this problem lacks"):
        ReinforceSettings(start="attribution").search(posed(differentiate=None))


@pytest.mark.parametrize("settings", STEPWISE, ids=lambda settings: settings.name)
def test_patience_ends_a_search_whose_set_no_longer_moves(settings: StepSettings) -> None:
    whole = replace(settings, steps=400).search(posed())
    found = replace(settings, steps=400, patience=40).search(posed())
    assert found.history[:-1] == whole.history[: len(found.history) - 1]  # until the last, which is a checkpoint
    assert 40 < len(found.history) < 300
    assert "validation_loss" in found.history[-1]
    assert torch.equal(found.mask, TARGET)


def test_a_search_that_patience_ended_is_over_when_it_is_taken_up_again(tmp_path: Path) -> None:
    settings, checkpoint = RelaxedSettings(items=ITEMS, patience=5, start="attribution"), Checkpoint(tmp_path / "state")
    found = settings.search(posed(), checkpoint=checkpoint)
    again = settings.search(posed(), lambda record: pytest.fail("a step was done again"), checkpoint)
    assert again.history == found.history
    assert len(found.history) < settings.steps

    def interrupt(record: dict[str, Any]) -> None:
        if record["step"] == 4:
            raise KeyboardInterrupt

    checkpoint.forget()
    with pytest.raises(KeyboardInterrupt):
        settings.search(posed(), interrupt, checkpoint)
    resumed = settings.search(posed(), checkpoint=checkpoint)
    assert resumed.history == found.history
    assert resumed.evaluations == found.evaluations


def test_cheap_losses_screen_and_the_tasks_own_metric_decides() -> None:
    seen: dict[str, list[int]] = {"screen": [], "validate": []}

    def counted(name: str) -> Any:
        def judge(masks: Tensor, share: float = 1.0) -> Tensor:
            seen[name].append(len(masks))
            return validate(masks)

        return judge

    settings = RelaxedSettings(steps=4, items=ITEMS, halving=True, checkpoint_every=4)
    parts = {name: counted(name) for name in seen}
    plain = settings.search(posed(**parts))
    assert seen["screen"] == []
    assert max(seen.pop("validate")) > 4
    seen |= {"screen": [], "validate": []}
    found = replace(settings, screening=True).search(posed(**parts))
    assert min(seen["screen"]) > 4 >= max(seen["validate"])
    assert torch.equal(found.mask, plain.mask)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"start": "middle"}, "there is no start 'middle': expected one of even"), ({"patience": -1}, "patience is -1")],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RelaxedSettings(**wrong)
