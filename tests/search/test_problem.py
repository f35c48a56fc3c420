"""What searches ask of a problem, and that they refuse one that lacks it."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from problems import problem, product_of
from taskvec.search import (
    SEARCHES,
    CmaSettings,
    GreedySettings,
    Problem,
    ReinforceSettings,
    RelaxedSettings,
    SearchSettings,
)
from taskvec.search.problem import one_site_masks
from taskvec.search.settings import NEEDS, Need

SITES, ITEMS = 12, 4


def losses(masks: Tensor, items: Tensor) -> Tensor:
    return masks.float().sum(1) * (1 + items)


def whole() -> Problem:
    return problem(
        losses,
        SITES,
        ITEMS,
        differentiate=lambda shares, items: (shares.sum() * (1.0 + items), torch.ones(SITES)),
        validate=lambda masks, share=1.0: masks.float().sum(1),
        layers=lambda: list(torch.arange(SITES).split(4)),
    )


def test_a_search_has_one_name_everywhere() -> None:
    assert SEARCHES.keys() >= {"reinforce", "relaxed", "cma", "greedy"}
    assert all(kind.name == name for name, kind in SEARCHES.items())


@pytest.mark.parametrize(
    ("name", "need"), [(name, need) for name, kind in SEARCHES.items() for need in sorted(kind.needs)]
)
def test_a_problem_that_lacks_what_a_search_needs_is_refused(name: str, need: Need) -> None:
    settings = SEARCHES[name]().coarse()
    assert settings.search(whole()).mask.any()
    with pytest.raises(ValueError, match=f"the {name} search needs {NEEDS[need]}, which this problem lacks"):
        settings.search(replace(whole(), **{need: None}))


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_asks_for_nothing_that_it_does_not_need(name: str) -> None:
    kind = SEARCHES[name]
    assert kind().coarse().search(replace(whole(), **{need: None for need in NEEDS if need not in kind.needs})).history


@pytest.mark.parametrize(
    "settings", [CmaSettings(), GreedySettings(trials=5), ReinforceSettings(steps=4, shared_masks=True)]
)
def test_no_mask_is_copied_for_each_item(settings: SearchSettings) -> None:
    """Where masks meet every item, pairs are never asked for."""
    seen = []

    def evaluate_product(masks: Tensor, items: Tensor) -> Tensor:
        seen.append((len(masks), len(items)))
        return product_of(losses)(masks, items)

    def never(masks: Tensor, items: Tensor) -> Tensor:
        raise AssertionError

    found = settings.search(replace(whole(), evaluate=never, evaluate_product=evaluate_product))
    assert sum(masks * items for masks, items in seen) == found.evaluations
    assert all(items == ITEMS for _, items in seen)


def test_what_is_said_of_a_kind_of_search_is_no_setting() -> None:
    assert all(
        not {"name", "needs", "preset", "seed"} & {field.name for field in fields(kind)} for kind in SEARCHES.values()
    )


def test_the_number_of_steps_is_told_where_it_is_known() -> None:
    kinds = (ReinforceSettings, RelaxedSettings, CmaSettings, GreedySettings)
    assert [kind().number_of_steps for kind in kinds] == [600, 40, None, None]


def test_masks_of_one_site() -> None:
    assert torch.equal(one_site_masks(torch.tensor([2, 0]), 3), torch.tensor([[0, 0, 1], [1, 0, 0]]).bool())
