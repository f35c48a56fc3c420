import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from taskvec.canvas import QUADRANTS, REGIONS, CanvasGeometry, Region, resize, to_rgb

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


def test_images_of_any_kind_become_rgb_bytes() -> None:
    levels = np.array([[0, 32768, 65535]], np.uint16)
    assert np.asarray(to_rgb(Image.fromarray(levels)))[0, :, 0].tolist() == [0, 127, 255]
    assert np.asarray(to_rgb(Image.fromarray(levels.astype(np.int32))))[0, :, 2].tolist() == [0, 127, 255]
    for mode in ("1", "L", "P", "CMYK", "YCbCr", "LAB", "HSV"):
        assert to_rgb(Image.new(mode, (2, 3))).mode == "RGB"
    for mode in ("RGBA", "LA", "PA"):
        assert to_rgb(Image.new(mode, (1, 1), 0)).getpixel((0, 0)) == (255, 255, 255), mode  # nothing, on white
    half = Image.new("RGBA", (1, 1), (255, 0, 0, 128))
    assert to_rgb(half).getpixel((0, 0)) == (255, 127, 127)
    with pytest.raises(ValueError, match="floating-point levels"):
        to_rgb(Image.new("F", (1, 1)))
    with pytest.raises(ValueError, match="levels from 0 to 70000, expected 0 to 65535 at most"):
        to_rgb(Image.fromarray(np.array([[0, 70000]], np.int32)))


def test_resize_keeps_what_has_the_size() -> None:
    image = np.zeros((7, 7, 3), np.uint8)
    assert resize(image, 7) is image
    assert resize(np.zeros((9, 4), np.uint8), 7).shape == (7, 7)
