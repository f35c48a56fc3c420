from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from taskvec.models.canvas import CanvasGeometry
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.sites import GRANULARITIES, Granularity, Place, Site, Sites, StackLayout


@pytest.mark.parametrize("granularity", ["head", "quadrant", "token"])
def test_recorded_masks_reach_the_recorded_positions(
    granularity: Granularity, golden: dict[str, Tensor], golden_model: MaeVqgan
) -> None:
    """The recording counts layers through both stacks and tokens along the shortened query-only sequences."""
    sites = golden_model.sites(granularity)
    mask = golden[f"zs/{granularity}/sample"].bool()
    view = golden_model.view("query_only")
    rows = []
    for stack, first in (("encoder", 0), ("decoder", 3)):
        index = sites.index[stack][:, :, view.tokens(stack)]
        positions = mask[index].nonzero()
        positions[:, 0] += first
        rows.append(positions)
    recorded = golden[f"zs/{granularity}/index_set"].long()
    assert {tuple(row.tolist()) for row in torch.cat(rows)} == {tuple(row.tolist()) for row in recorded}


@pytest.mark.parametrize(("granularity", "count"), [("token", 1392), ("quadrant", 48), ("head", 20), ("layer", 5)])
def test_counts(granularity: Granularity, count: int, golden_model: MaeVqgan) -> None:
    assert len(golden_model.sites(granularity)) == count


def test_the_published_model_has_as_many_sites_as_the_paper_says() -> None:
    geometry = CanvasGeometry(224, 111, 16)
    view, places = geometry.view("query_only"), geometry.places()
    layouts = {"encoder": StackLayout(24, 16, 64, places), "decoder": StackLayout(8, 16, 32, places)}
    searched = {stack: view.tokens(stack) for stack in layouts}
    assert len(Sites.group(layouts, searched, "quadrant", ["encoder"])) == 768
    assert len(Sites.group(layouts, searched, "quadrant", ["decoder"])) == 384
    assert len(Sites.group(layouts, searched, "head")) == 512
    assert len(Sites.group(layouts, searched, "layer", ["encoder", "decoder"])) == 32


@given(
    st.sampled_from(GRANULARITIES),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([("encoder",), ("decoder",), ("encoder", "decoder")]),
)
def test_sites_partition_the_searched_positions(
    granularity: Granularity, layers: int, heads: int, half: int, stacks: tuple[str, ...]
) -> None:
    geometry = CanvasGeometry(4 * half, 2 * half, 2)
    view, places = geometry.view("query_only"), geometry.places()
    layouts = {stack: StackLayout(layers, heads, 4, places) for stack in ("encoder", "decoder")}
    sites = Sites.group(layouts, {stack: view.tokens(stack) for stack in layouts}, granularity, stacks)
    seen = torch.cat([index.flatten() for index in sites.index.values()])
    assert torch.equal(seen[seen >= 0].unique(), torch.arange(len(sites)))
    for stack, index in sites.index.items():
        searched = torch.isin(torch.arange(geometry.tokens), view.tokens(stack))
        assert torch.equal((index >= 0).all(0).all(0), searched)
        for site in index[index >= 0].unique().tolist():
            layer, head, token = (index == site).nonzero().T
            name = sites.names[site]
            assert name.stack == stack
            assert layer.unique().tolist() == [name.layer]
            assert name.head is None or head.unique().tolist() == [name.head]
            assert name.token is None or token.tolist() == [name.token]


def test_a_mask_names_its_sites(golden_model: MaeVqgan) -> None:
    sites = golden_model.sites("layer")
    assert sites.mask([1, 4]).tolist() == [False, True, False, False, True]


def test_sampled_masks_have_their_share(golden_model: MaeVqgan) -> None:
    sites = golden_model.sites("token")
    masks = sites.sample(rows=50, share=0.3)
    assert masks.shape == (50, len(sites))
    assert masks.float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(masks, sites.sample(50, 0.3, seed=0))
    assert not torch.equal(masks, sites.sample(50, 0.3, seed=1))


def test_unknown_names_are_refused(small_model: MaeVqgan) -> None:
    with pytest.raises(ValueError, match="there is no granularity 'pixel': expected one of token, quadrant"):
        small_model.sites("pixel")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="there is no stack 'cortex': expected one of encoder, decoder"):
        small_model.sites("head", ["cortex"])
    with pytest.raises(ValueError, match="a stack was named twice among encoder, encoder"):
        small_model.sites("head", ["encoder", "encoder"])
    with pytest.raises(ValueError, match="no stack was named"):
        small_model.sites("head", [])


def test_only_numbers_of_sites_are_chosen(small_model: MaeVqgan) -> None:
    sites = small_model.sites("layer")
    expected = [True, False, False, True]
    for chosen in ([0, 3], (3, 0), torch.tensor([0, 3]), np.array([0, 3]), [np.int64(0), 3], range(0, 4, 3)):
        assert sites.mask(chosen).tolist() == expected
    assert not sites.mask([]).any()
    for number in (-1, 4, 10**9):
        with pytest.raises(ValueError, match=f"there is no site {number}: expected numbers from 0 to 3"):
            sites.mask([0, number])
    wrong: list[Any] = [[True, False], torch.tensor([True, False]), [0, np.True_], [0.0], [None], [[0, 1]]]
    for chosen in wrong:
        with pytest.raises(ValueError, match=r"is no site: expected numbers of sites, 0 to 3"):
            sites.mask(chosen)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_names_of_sites_are_read_back(granularity: Granularity, small_model: MaeVqgan) -> None:
    sites = small_model.sites(granularity)
    assert len({*map(repr, sites.names)}) == len(sites)
    assert [Site.parse(repr(site)) for site in sites.names] == list(sites.names)
    last = len(sites) - 1
    assert sites.mask([repr(sites.names[last]), sites.names[0], 1]).nonzero()[:, 0].tolist() == [0, 1, last]
    assert repr(sites).startswith(f"Sites({len(sites)} by {granularity}: encoder.0")


def test_names_are_those_of_the_field() -> None:
    assert repr(Site("encoder", 3, 5, "query_input", None)) == "encoder.3.head.5.query_input"
    assert repr(Site("text_4x16", 3, 5, None, None)) == "text_4x16.3.head.5"
    assert Site.parse("x.7.head.0.3") == Site("x", 7, 0, None, 3)
    assert (repr(Place("cls", 0)), repr(Place(None, None))) == ("cls.0", "last")


@pytest.mark.parametrize(
    "name", ["", "0", "encoder", "encoder.x", "encoder.3.head", "encoder.3.head.2.q.1.2", "a.1.b."]
)
def test_what_is_no_name_of_a_site_is_refused(name: str, small_model: MaeVqgan) -> None:
    message = rf"^'{name}' is no name of a site: expected one such as encoder.3.head.5.query_input$"
    if name == "encoder.3.head":  # as a region may be called anything
        message = "^there is no site encoder.3.head among these, by layer$"
    with pytest.raises(ValueError, match=message):
        small_model.sites("layer").mask([name])
