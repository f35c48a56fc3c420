import math

import pytest
import torch
from torch import Tensor

from taskvec.analysis import head_taskness, layer_taskness, layers_by_taskness, site_taskness, taskness
from taskvec.heads import recording
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts
from taskvec.provenance import Former
from taskvec.sites import GRANULARITIES, Granularity
from taskvec.statistics import Statistics, TaskStatistics, collect


def statistics_of(*tasks: tuple[float, float]) -> Statistics:
    """Of tasks with these means and variances in each of the four dimensions of one position."""

    def one(mean: float, variance: float) -> TaskStatistics:
        shape = (1, 1, 1, 4)
        return TaskStatistics(
            9, {"encoder": torch.full(shape, mean)}, {"encoder": torch.full(shape, variance)}, Former({})
        )

    return Statistics({str(index): one(*task) for index, task in enumerate(tasks)}, "")


@pytest.fixture
def scores(small_model: MaeVqgan) -> dict[str, Tensor]:
    """Random scores of what the small model sees in one-shot runs."""
    generator = torch.Generator().manual_seed(0)
    tokens = small_model.geometry.tokens
    scores = {
        stack: torch.rand(2, heads, tokens, generator=generator) for stack, heads in (("encoder", 4), ("decoder", 2))
    }
    scores["encoder"][..., small_model.geometry.region_tokens("query_output")] = torch.nan
    return scores


def test_taskness_is_between_over_within_variance() -> None:
    statistics = statistics_of((1.0, 2.0), (5.0, 6.0))
    assert taskness(statistics)["encoder"].item() == pytest.approx(4.0 / 4.0)
    # equation 4, the total over the mean within-task variance, is that plus one
    total = (2.0 + 6.0) / 2 + 4.0
    assert total / 4.0 == pytest.approx(1 + taskness(statistics)["encoder"].item())


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ([(0.1, 0.0), (0.1, 0.0), (0.1, 0.0)], 0.0),  # a head that never varies
        ([(0.1, 3.0), (0.1, 3.0), (0.1, 3.0)], 0.0),
        ([(0.1, 0.0), (0.2, 0.0), (0.1, 0.0)], math.inf),  # nothing but the task
        ([(0.1, 3.0), (torch.nan, torch.nan), (0.1, 3.0)], math.nan),
    ],
)
def test_taskness_where_a_variance_is_zero_or_missing(tasks: list[tuple[float, float]], expected: float) -> None:
    assert taskness(statistics_of(*tasks))["encoder"].item() == pytest.approx(expected, nan_ok=True, abs=0)


def test_taskness_of_a_model_follows_equation_4(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    scores = taskness(collect(small_model, small_prompts))
    recorded = []
    for prompts in small_prompts:
        with recording(small_model) as layers:
            small_model(small_model.geometry.canvases(prompts), small_model.view("one_shot"))
        recorded.append(torch.stack(layers["decoder"]).double())  # [layers, prompts, tokens, heads, head_dim]
    total = torch.cat(recorded, 1).var(1, correction=0).sum(-1)
    within = torch.stack([z.var(1, correction=0).sum(-1) for z in recorded]).mean(0)
    torch.testing.assert_close(1 + scores["decoder"].double(), (total / within).mT, rtol=1e-4, atol=1e-5)
    assert scores["encoder"][..., small_model.geometry.region_tokens("query_output")].isnan().all()


def test_heads_are_means_and_layers_sums_of_seen_tokens(scores: dict[str, Tensor]) -> None:
    heads, layers = head_taskness(scores), layer_taskness(scores)
    for stack, of_stack in scores.items():
        for layer in range(2):
            every = [[score for score in head if not math.isnan(score)] for head in of_stack[layer].tolist()]
            assert heads[stack][layer].tolist() == pytest.approx([sum(head) / len(head) for head in every])
            assert layers[stack][layer].item() == pytest.approx(sum(map(sum, every)))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_site_has_the_mean_of_its_seen_positions(
    granularity: Granularity, small_model: MaeVqgan, scores: dict[str, Tensor]
) -> None:
    sites = small_model.sites(granularity)
    scores["encoder"][0, 0, :5] = torch.nan
    of_sites = site_taskness(sites, scores)
    assert of_sites.shape == (len(sites),)
    for site, score in enumerate(of_sites):
        positions = torch.cat([scores[stack][index == site] for stack, index in sites.index.items()])
        torch.testing.assert_close(score, positions.nanmean(), equal_nan=True)


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("stacks", [("encoder",), ("decoder",), ("encoder", "decoder")])
def test_layers_have_every_site_once_from_high_to_low(
    granularity: Granularity, stacks: tuple[str, ...], small_model: MaeVqgan, scores: dict[str, Tensor]
) -> None:
    sites = small_model.sites(granularity, stacks)
    scores["decoder"][1] += 9  # first of all
    scores["encoder"][0] *= 0.5
    layers = layers_by_taskness(sites, scores)
    assert sorted(torch.cat(layers).tolist()) == list(range(len(sites)))
    places = [{(sites.names[site].stack, sites.names[site].layer) for site in members.tolist()} for members in layers]
    assert all(len(place) == 1 for place in places)
    order = [place.pop() for place in places]
    rho = layer_taskness(scores)
    expected = sorted(((stack, layer) for stack in stacks for layer in range(2)), key=lambda p: -rho[p[0]][p[1]].item())
    assert order == expected
    assert "decoder" not in stacks or order[0] == ("decoder", 1)


def test_layers_are_ranked_by_all_that_they_see_not_by_their_sites(
    small_model: MaeVqgan, scores: dict[str, Tensor]
) -> None:
    sites = small_model.sites("quadrant", ["encoder"])  # of CLS and the query input
    scores["encoder"][0, :, small_model.geometry.region_tokens("support_output")] += 9
    scores["encoder"][1, :, small_model.geometry.region_tokens("cls", "query_input")] += 1
    assert sites.names[int(layers_by_taskness(sites, scores)[0][0])].layer == 0


def test_scores_of_another_model_are_refused(small_model: MaeVqgan, scores: dict[str, Tensor]) -> None:
    sites = small_model.sites("quadrant")
    with pytest.raises(ValueError, match=r"the scores of the decoder are missing, but its sites need \(2, 2, 17\)"):
        site_taskness(sites, {"encoder": scores["encoder"]})
    with pytest.raises(
        ValueError, match=r"the scores of the encoder are \(1, 4, 17\), but its sites need \(2, 4, 17\)"
    ):
        layers_by_taskness(sites, {**scores, "encoder": scores["encoder"][:1]})
