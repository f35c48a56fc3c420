from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor

from problems import problem
from taskvec.search import GreedySettings, Problem

LAYERS = [torch.tensor([3, 4, 5]), torch.tensor([0, 1, 2]), torch.tensor([9, 10, 11]), torch.tensor([6, 7, 8])]


def layered(evaluate: Any, items: int, tasks: Tensor | None = None) -> Problem:
    return problem(evaluate, 12, items, tasks=tasks, layers=lambda: LAYERS)


class Pairwise:
    """Losses with a part of every site and one of every pair of sites, different on every item."""

    def __init__(self, items: int, seed: int, pairs: float = 1.0):
        generator = torch.Generator().manual_seed(seed)
        self.single = torch.randn(items, 12, generator=generator)
        self.double = pairs * torch.randn(items, 12, 12, generator=generator)
        self.scale = torch.ones(items)
        self.rows, self.seen = 0, []

    def __call__(self, masks: Tensor, items: Tensor) -> Tensor:
        self.rows += len(masks)
        self.seen.append(masks)
        on = masks.float()
        losses = (on * self.single[items]).sum(1) + torch.einsum("ni,nij,nj->n", on, self.double[items], on)
        return losses * self.scale[items]

    def mean(self, masks: Tensor) -> Tensor:
        items = len(self.scale)
        return self(masks.repeat_interleave(items, 0), torch.arange(items).repeat(len(masks))).view(-1, items).mean(1)


@pytest.mark.parametrize("seed", range(8))
def test_where_sites_do_not_interact_the_optimum_is_found(seed: int) -> None:
    toy = Pairwise(3, seed, pairs=0.0)
    found = GreedySettings(layers=4, trials=2).search(replace(layered(toy, 3), seed=seed))
    everything = torch.tensor(list(product([False, True], repeat=12)))[1:]
    best = everything[toy.mean(everything).argmin()]
    assert torch.equal(found.mask, best)
    assert found.scores is None
    assert not found.interrupted


@pytest.mark.parametrize(("seed", "layers"), list(product(range(5), range(1, 5))))
def test_it_never_gets_worse_and_ends_where_no_flip_of_its_layers_helps(seed: int, layers: int) -> None:
    toy = Pairwise(4, seed)
    found = GreedySettings(layers=layers, trials=5, sweeps=50).search(replace(layered(toy, 4), seed=seed))
    losses = [record["loss"] for record in found.history]
    assert all(after <= before for before, after in pairwise(losses))
    assert found.loss == losses[-1]
    assert losses.index(found.loss) + 1 == found.step
    assert found.evaluations == toy.rows == found.history[-1]["evaluations"]
    searched = torch.cat(LAYERS[:layers])
    outside = torch.ones(12, dtype=torch.bool)
    outside[searched] = False
    assert not any(masks[:, outside].any() for masks in toy.seen)
    flips = found.mask.repeat(len(searched), 1)
    flips[torch.arange(len(searched)), searched] ^= True
    assert toy.mean(flips[flips.any(1)]).min() >= found.loss - 1e-5


def test_each_step_is_the_best_flip_of_its_layer() -> None:
    """The same search by plain loops."""
    toy, settings = Pairwise(3, 7), GreedySettings(layers=3, trials=6, sweeps=2)
    found = settings.search(layered(toy, 3))
    mask, loss, evaluations = settings.start(layered(toy, 3))
    expected = [(1, pytest.approx(loss), int(mask.sum()), evaluations)]
    for _ in range(2):
        before = loss
        for layer in LAYERS[:3]:
            best = mask
            for site in layer.tolist():
                flipped = mask.clone()
                flipped[site] = not flipped[site]
                value = float(toy.mean(flipped[None]))
                if flipped.any() and value < loss - 1e-6:
                    best, loss = flipped, value
            mask = best
            evaluations += 9
            expected.append((len(expected) + 1, pytest.approx(loss), int(mask.sum()), evaluations))
        if loss == before:
            break
    assert torch.equal(found.mask, mask)
    assert [tuple(record.values()) for record in found.history] == expected


def test_the_start_is_the_best_of_the_trials() -> None:
    toy = Pairwise(3, 0)
    mask, loss, evaluations = GreedySettings(layers=2, trials=40, share=0.5).start(layered(toy, 3))
    trials = toy.seen[0].view(40, 3, 12)
    assert (trials == trials[:, :1]).all()
    means = toy.mean(trials[:, 0]).where(trials[:, 0].any(1), torch.inf)
    assert loss == pytest.approx(float(means.min()))
    assert torch.equal(mask, trials[means.argmin(), 0])
    assert evaluations == 120
    assert trials[..., 6:].sum() == 0
    assert 0.4 < trials[..., :6].float().mean() < 0.6


def test_tasks_weigh_the_same_whatever_their_scale() -> None:
    tasks, toy = torch.tensor([0, 0, 1, 1, 1]), Pairwise(5, 3)
    settings = GreedySettings(layers=4, trials=20)
    plain = settings.search(layered(toy, 5, tasks))
    toy.scale[tasks == 1] = 1000
    scaled = settings.search(layered(toy, 5, tasks))
    assert torch.equal(plain.mask, scaled.mask)
    assert [r["loss"] for r in plain.history] == pytest.approx([r["loss"] for r in scaled.history], abs=1e-4)
    assert not torch.equal(scaled.mask, settings.search(layered(toy, 5)).mask)


def test_losses_are_standardised_by_the_trials() -> None:
    tasks, toy = torch.tensor([0, 0, 1, 1, 1]), Pairwise(5, 3)
    found = GreedySettings(layers=4, trials=20).search(layered(toy, 5, tasks))
    trials = torch.stack([toy(mask.expand(5, -1), torch.arange(5)) for mask in toy.seen[0].view(20, 5, 12)[:, 0]])
    final = toy(found.mask.expand(5, -1), torch.arange(5))
    expected = []
    for task in range(2):
        own = trials[:, tasks == task].mean(1).numpy()
        expected.append((float(final[tasks == task].mean()) - own.mean()) / own.std(ddof=1))
    assert found.loss == pytest.approx(sum(expected) / 2, abs=1e-4)


def test_the_empty_set_is_never_the_best() -> None:
    def evaluate(masks: Tensor, items: Tensor) -> Tensor:
        return masks.float().sum(1)

    for share in (0.0, 0.3):
        assert GreedySettings(share=share).search(layered(evaluate, 2)).mask.sum() == 1


def test_an_interrupted_search_keeps_what_it_has() -> None:
    def interrupt(record: dict[str, Any]) -> None:
        if record["step"] == 3:
            raise KeyboardInterrupt

    toy = Pairwise(3, 0)
    found = GreedySettings(trials=3).search(layered(toy, 3), interrupt)
    assert found.interrupted
    assert len(found.history) == 3
    assert found.loss == pytest.approx(float(toy.mean(found.mask[None])))


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"trials": 1}, {"sweeps": -1}, {"share": 1.1}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"needs at least|expected 0 to 1"):
        GreedySettings(**wrong)


@pytest.mark.parametrize(("there", "searched"), [(32, 17), (10, 5), (4, 2), (1, 1)])
def test_the_paper_searches_as_large_a_share_of_any_models_layers(there: int, searched: int) -> None:
    there_are = replace(layered(Pairwise(1, 0), 1), layers=lambda: list(torch.arange(there).split(1)))
    assert [int(layer) for layer in GreedySettings().searched(there_are)] == list(range(searched))
    assert len(GreedySettings(layers=3).searched(there_are)) == min(3, there)


def test_layers_at_random_are_all_layers_in_another_order() -> None:
    there_are = replace(layered(Pairwise(1, 0), 1), layers=lambda: list(torch.arange(20).split(1)))
    first, again, other = (
        [int(layer) for layer in GreedySettings(20, order="random").searched(replace(there_are, seed=seed))]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert sorted(first) == sorted(other) == list(range(20)) != first
