from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from taskvec.models.canvas import (
    ARRANGEMENTS,
    QUADRANTS,
    REGIONS,
    USUAL,
    Arrangement,
    CanvasGeometry,
    Region,
    View,
)
from taskvec.models.interface import VIEWS


@dataclass(frozen=True)
class Images:
    """One of each on every canvas."""

    support_input: np.ndarray
    support_output: np.ndarray
    query_input: np.ndarray
    query_output: np.ndarray


OFFICIAL = CanvasGeometry(224, 111, 16)


@st.composite
def geometries(draw: st.DrawFn) -> CanvasGeometry:
    patch, half = draw(st.integers(1, 9)), draw(st.integers(1, 8))
    canvas = 2 * half * patch
    return CanvasGeometry(canvas, draw(st.integers(canvas // 2 - patch + 1, canvas // 2)), patch)


def test_recorded_token_order(golden: dict[str, Tensor]) -> None:
    order = 1 + golden["ids_shuffle"].long()
    assert torch.equal(OFFICIAL.view("one_shot").encoder_tokens, torch.cat([torch.tensor([0]), order[:147]]))
    assert torch.equal(OFFICIAL.region_tokens("query_output"), order[147:])


def test_query_only_sees_the_bottom_half() -> None:
    view = OFFICIAL.view("query_only")
    assert view.encoder_tokens[:9].tolist() == [0, *range(99, 106), 113]
    assert view.decoder_tokens.tolist() == [0, *range(99, 197)]
    assert view.predicted.tolist() == list(range(99, 197))


def test_there_is_no_other_view() -> None:
    with pytest.raises(ValueError, match="there is no view 'two_shot': expected one of one_shot, query_only"):
        OFFICIAL.view("two_shot")  # pyright: ignore[reportArgumentType]


@given(geometries())
def test_regions_partition_the_tokens(geometry: CanvasGeometry) -> None:
    regions = [geometry.region_tokens(region) for region in REGIONS]
    assert torch.equal(torch.cat(regions).sort()[0], torch.arange(geometry.tokens))
    assert {len(tokens) for tokens in regions[1:]} == {(geometry.grid // 2) ** 2}


@given(geometries())
def test_what_is_composed_can_be_cropped(geometry: CanvasGeometry) -> None:
    shape = (2, geometry.image_size, geometry.image_size, 3)
    random = np.random.default_rng(0)
    images: dict[Region, np.ndarray] = {name: random.integers(0, 256, shape, np.uint8) for name in QUADRANTS}
    canvases = torch.from_numpy(geometry.compose(images))
    for name, pixels in images.items():
        assert np.array_equal(geometry.crop(canvases, name), pixels)
    white = (canvases == 255).all(-1).sum()
    assert white >= 2 * (geometry.canvas_size**2 - 4 * geometry.image_size**2)


def test_pasting_changes_the_query_output_alone() -> None:
    geometry = CanvasGeometry(32, 15, 8)
    canvases, decoded = torch.zeros(1, 32, 32, 3, dtype=torch.uint8), torch.ones(1, 32, 32, 3, dtype=torch.uint8)
    pasted = geometry.paste(canvases, decoded)
    assert pasted.sum() == 16 * 16 * 3
    assert (pasted[:, 16:, 16:] == 1).all()
    assert canvases.sum() == 0


@pytest.mark.parametrize("sizes", [(30, 15, 4), (32, 20, 8), (32, 8, 8)])
def test_sizes_that_do_not_fit_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="pixels"):
        CanvasGeometry(*sizes)


@pytest.mark.parametrize(
    "tokens", [[1, 2, 3], [], [0, 3, 2], [0, 2, 2], [-1, 0, 1], [[0, 1]], [0.0, 1.0], [False, True]]
)
def test_views_without_cls_or_in_disorder_are_refused(tokens: list[object]) -> None:
    with pytest.raises(ValueError, match=r"the decoder tokens of a view are .*: expected"):
        View(torch.arange(3), torch.tensor(tokens))
    if tokens:  # a model may have no encoder
        with pytest.raises(ValueError, match=r"the encoder tokens of a view are .*: expected"):
            View(torch.tensor(tokens), torch.arange(3))


@given(geometries())
def test_the_paper_s_views_are_as_a_users_own(geometry: CanvasGeometry) -> None:
    for name in VIEWS:
        view = geometry.view(name)
        again = View(view.encoder_tokens, view.decoder_tokens)
        assert torch.equal(again.predicted, view.decoder_tokens[1:])
        assert (str(view), str(again)) == (f"view {name}", "view given")


def test_arrangements_are_the_ways_to_lay_out_a_square() -> None:
    """Every corner for the query output, beside and above; an output always on the same side of its input."""
    assert len(set(ARRANGEMENTS)) == 8
    steps = []
    for arrangement in ARRANGEMENTS:
        place = {region: np.array(divmod(corner, 2)) for corner, region in enumerate(arrangement)}
        assert set(place) == set(QUADRANTS)
        step = place["query_output"] - place["query_input"]
        assert np.abs(step).sum() == 1
        assert np.array_equal(place["support_output"] - place["support_input"], step)
        steps.append((arrangement.index("query_output"), tuple(np.abs(step).tolist())))
    assert len(set(steps)) == 8
    assert ARRANGEMENTS[0] == USUAL == QUADRANTS


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@given(geometry=geometries())
def test_every_image_is_where_its_arrangement_says(arrangement: Arrangement, geometry: CanvasGeometry) -> None:
    shape = (4, 2, geometry.image_size, geometry.image_size, 3)
    images = dict(zip(QUADRANTS, np.random.default_rng(0).integers(0, 256, shape, np.uint8), strict=True))
    canvases = geometry.canvases(Images(**images), arrangement)
    for corner, region in zip(QUADRANTS, arrangement, strict=True):
        assert np.array_equal(geometry.crop(canvases, corner), images[region])
    hidden = np.setdiff1d(np.arange(geometry.tokens), geometry.one_shot_view(arrangement).encoder_tokens)
    assert hidden.tolist() == geometry.region_tokens(QUADRANTS[arrangement.index("query_output")]).tolist()


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@given(half=st.integers(1, 4), patch=st.integers(1, 5))
def test_patches_are_those_of_the_same_image(arrangement: Arrangement, half: int, patch: int) -> None:
    geometry = CanvasGeometry(2 * half * patch, half * patch, patch)
    shape = (4, 1, half * patch, half * patch, 3)
    images = Images(*np.random.default_rng(0).integers(0, 256, shape, np.uint8))

    def patches(canvases: Tensor) -> Tensor:
        return canvases.unflatten(2, (-1, patch)).unflatten(1, (-1, patch)).transpose(2, 3).flatten(1, 2)

    order = geometry.patches_in(arrangement)
    assert torch.equal(patches(geometry.canvases(images, arrangement))[:, order], patches(geometry.canvases(images)))
