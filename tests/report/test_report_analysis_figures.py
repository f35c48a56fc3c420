import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import LogNorm, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from torch import Tensor

from taskvec.analysis import head_taskness
from taskvec.analysis.clustering import HeadOutputs
from taskvec.models.canvas import CanvasGeometry
from taskvec.report.analysis_figures import analysis_figure, taskness_map, token_map
from taskvec.report.style import BLUE, VERMILLION

GEOMETRY = CanvasGeometry(32, 15, 8)
ABSENT = GEOMETRY.region_tokens("query_output")


@pytest.fixture
def scores() -> dict[str, Tensor]:
    """Token scores of two stacks: encoder layer 2, head 1 is highest, then decoder 0, 0; encoder 0, 0 is lowest."""
    generator = torch.Generator().manual_seed(0)
    scores = {
        stack: 1 + torch.rand(layers, 2, GEOMETRY.tokens, generator=generator)
        for stack, layers in (("encoder", 3), ("decoder", 2))
    }
    scores["encoder"][2, 1] *= 100
    scores["decoder"][0, 0] *= 10
    scores["encoder"][0, 0] /= 10
    scores["encoder"][..., ABSENT] = torch.nan
    return scores


@pytest.fixture
def outputs() -> HeadOutputs:
    generator = torch.Generator().manual_seed(0)
    vectors = {
        stack: torch.randn(layers, 2, 8, 3, generator=generator) for stack, layers in (("encoder", 3), ("decoder", 2))
    }
    return HeadOutputs(vectors, torch.arange(2).repeat_interleave(4), ("low_light", "identity"))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text)]  # pyright: ignore[reportAttributeAccessIssue]


def meshes(axes: Axes) -> list[QuadMesh]:
    return [each for each in axes.collections if isinstance(each, QuadMesh)]


def test_the_map_of_heads_has_the_scores_at_layer_and_head(scores: dict[str, Tensor]) -> None:
    heads = head_taskness(scores)
    figure = taskness_map(heads)
    encoder, decoder = figure.axes[:2]
    for axes, stack in ((encoder, "encoder"), (decoder, "decoder")):
        (mesh,) = meshes(axes)
        np.testing.assert_allclose(np.asarray(mesh.get_array()), heads[stack].numpy())
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("head", f"{stack} layer")
        assert axes.yaxis_inverted()  # the first layer on top
    assert meshes(encoder)[0].norm is meshes(decoder)[0].norm
    assert isinstance(meshes(encoder)[0].norm, LogNorm)
    assert "taskness (between- over within-task variance)" in texts(figure)


def test_scores_of_one_magnitude_are_shaded_from_0() -> None:
    figure = taskness_map({"encoder": torch.tensor([[1.0, 2.0], [4.0, 0.0]])})
    (mesh,) = meshes(figure.axes[0])
    assert not isinstance(mesh.norm, LogNorm)
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0, 4)


@pytest.mark.parametrize("odd", [0.0, torch.inf])
def test_scores_beyond_the_scale_have_the_colour_of_its_end(odd: float) -> None:
    figure = taskness_map({"encoder": torch.tensor([[1.0, 200.0, odd]])})
    (mesh,) = meshes(figure.axes[0])
    colours = mesh.to_rgba(np.ma.asarray(mesh.get_array()))[0]
    np.testing.assert_array_equal(colours[2], colours[0 if odd == 0 else 1])
    assert not np.array_equal(colours[0], colours[1])


def test_tokens_are_where_they_are_on_the_canvas_and_absent_ones_crossed_out() -> None:
    values = torch.arange(1.0, GEOMETRY.tokens + 1)
    values[ABSENT] = torch.nan
    figure = token_map(values, GEOMETRY.places())
    axes = figure.axes[0]
    (mesh,) = meshes(axes)
    table = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan)
    table = table[~np.isnan(table).all(1)][:, ~np.isnan(table).all(0)]  # without the gaps
    assert table[0, 0] == 1  # CLS
    assert np.isnan(table[0, 1:]).all()
    assert np.isnan(table[1:, 0]).all()
    np.testing.assert_array_equal(table[1:, 1:], values[1:].reshape(4, 4).numpy())
    (crosses,) = [each for each in axes.collections if isinstance(each, PathCollection)]
    assert crosses.get_label() == "absent"
    places = np.asarray(crosses.get_offsets())
    assert len(places) == len(ABSENT) == 4
    assert (places > 2).all()  # lower right, rows downwards
    assert axes.yaxis_inverted()
    named = texts(figure)
    assert {"CLS", "support input", "support output", "query input", "query output", "taskness"} <= set(named)


def test_nothing_is_crossed_out_where_all_is_seen() -> None:
    figure = token_map(torch.rand(GEOMETRY.tokens), GEOMETRY.places())
    (crosses,) = [each for each in figure.axes[0].collections if isinstance(each, PathCollection)]
    assert len(np.asarray(crosses.get_offsets())) == 0


def test_the_figure_shows_the_two_highest_heads_and_the_lowest(scores: dict[str, Tensor], outputs: HeadOutputs) -> None:
    figure = analysis_figure(scores, outputs, GEOMETRY.places())
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert [title.partition("\n")[0] for title in titles] == [
        "a   encoder layer 2, head 1",
        "b   decoder layer 0, head 0",
        "c   encoder layer 0, head 0",
    ]
    highest = head_taskness(scores)["encoder"][2, 1].item()
    assert titles[0].endswith(f"taskness {highest:.3g}")
    marked = [patch for axes in figure.axes for patch in axes.patches if isinstance(patch, Rectangle)]
    frames = [patch.get_xy() for patch in marked if matches(patch)]
    assert frames == [(0.5, 1.5), (-0.5, -0.5), (-0.5, -0.5)]
    planes = [axes for axes in figure.axes if axes.get_xlabel().startswith("t-SNE 1")]
    assert len(planes) == 3
    for plane in planes:
        assert [len(np.asarray(points.get_offsets())) for points in plane.collections] == [4, 4]
        colours = {to_hex(np.asarray(points.get_facecolor())[0]) for points in plane.collections}
        assert colours == {BLUE, VERMILLION}
    legend = [text.get_text() for legend in figure.subfigs[1].legends for text in legend.get_texts()]
    assert legend == ["Low light", "Identity"]


def matches(patch: Rectangle) -> bool:
    """Whether it is the frame of a head in the map."""
    return to_hex(patch.get_edgecolor()) == VERMILLION
