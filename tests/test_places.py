"""Places that lie elsewhere in every row, or nowhere, and streams that run as one batch, with a layer made for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from taskvec.heads import Means, Patch, intercept, recording
from taskvec.models.interface import Locations, ProjectionTap
from taskvec.sites import Place, Sites, StackLayout
from taskvec.statistics import _at_places, _present

HEADS, DIM, TOKENS = 2, 3, 5
WIDTH = HEADS * DIM


@dataclass(eq=False)
class Layer:
    """One projection that gives back what it gets; ``streams`` of them lie one after the other in a batch."""

    streams: tuple[str, ...] = ("decoder",)
    places: tuple[Place, ...] = (Place("first", None), Place("last", None))
    projection: nn.Linear = field(default_factory=lambda: nn.Linear(WIDTH, WIDTH, bias=False))

    def __post_init__(self) -> None:
        nn.init.eye_(self.projection.weight)

    @property
    def stacks(self) -> Mapping[str, StackLayout]:
        return dict.fromkeys(self.streams, StackLayout(1, HEADS, DIM, self.places))

    def taps(self) -> dict[str, list[ProjectionTap]]:
        count = len(self.streams)
        return {stream: [ProjectionTap(self.projection, part, count)] for part, stream in enumerate(self.streams)}

    def fingerprint(self) -> str:
        return "layer"

    def sites(self, *stacks: str) -> Sites:
        every = dict.fromkeys(self.streams, torch.arange(len(self.places)))
        return Sites.group(self.stacks, every, "quadrant", stacks or None)


@pytest.fixture
def z() -> Tensor:
    return torch.randn(4, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def means() -> Means:
    return Means({"decoder": torch.arange(2.0 * WIDTH).view(1, 1, HEADS, 2, DIM) + 100}, "layer")


LAST = torch.tensor([4, 2, 1, 3])  # of prompts of unequal length
EACH = {"decoder": Locations(torch.stack([torch.zeros(4, dtype=torch.int64), LAST], 1), TOKENS)}


def test_the_mean_comes_to_where_the_place_is_in_each_row(z: Tensor, means: Means) -> None:
    layer = Layer()
    masks = torch.rand(4, 4, generator=torch.Generator().manual_seed(1)) < 0.6  # heads by places: another in each row
    with torch.no_grad(), Patch(layer.sites(), masks, means).applied(layer, EACH):
        patched = layer.projection(z)
    expected = z.clone().view(4, TOKENS, HEADS, DIM)
    for row in range(4):
        for head in range(HEADS):
            for place, token in enumerate((0, int(LAST[row]))):
                if masks[row, 2 * head + place]:
                    expected[row, token, head] = means["decoder"][0, 0, head, place]
    assert torch.equal(patched, expected.flatten(2))
    assert (patched == z).all(-1).sum() >= 4 * (TOKENS - 2)


def test_one_location_for_all_rows_is_the_same_as_one_for_each(z: Tensor, means: Means) -> None:
    layer, answers = Layer(), []
    masks = torch.rand(4, 4, generator=torch.Generator().manual_seed(2)) < 0.5
    for where in (torch.tensor([[0, 3]]), torch.tensor([[0, 3]] * 4)):
        with torch.no_grad(), Patch(layer.sites(), masks, means).applied(layer, {"decoder": Locations(where, TOKENS)}):
            answers.append(layer.projection(z))
    assert torch.equal(*answers)


def test_shares_have_a_gradient_at_places_of_their_own(z: Tensor, means: Means) -> None:
    layer, shares = Layer(), torch.full((1, 4), 0.25, requires_grad=True)
    with Patch(layer.sites(), shares, means).applied(layer, EACH):
        patched = layer.projection(z)
    (gradient,) = torch.autograd.grad(patched.sum(), shares)
    parts, mean = z.view(4, TOKENS, HEADS, DIM), means["decoder"][0, 0]
    at = torch.stack([parts[:, 0], parts[torch.arange(4), LAST]], 2)  # [rows, heads, places, head_dim]
    torch.testing.assert_close(gradient[0], (mean - at).sum((0, 3)).flatten())


def test_a_place_that_is_nowhere_may_not_be_selected_in_its_row(z: Tensor, means: Means) -> None:
    layer, where = Layer(), EACH["decoder"].where.clone()
    where[2, 1] = -1
    located = {"decoder": Locations(where, TOKENS)}
    masks = torch.ones(4, 4, dtype=torch.bool)
    masks[2, [1, 3]] = False  # of both heads, the place that row 2 does not have
    with torch.no_grad(), Patch(layer.sites(), masks, means).applied(layer, located):
        patched = layer.projection(z)
    assert torch.equal(patched[2, 1:], z[2, 1:])
    assert (patched[:, 0] >= 100).all()
    masks[2, 3] = True
    with (
        pytest.raises(ValueError, match="the run 2 does not have: decoder, layer 0, head 1"),
        Patch(layer.sites(), masks, means).applied(layer, located),
    ):
        layer.projection(z)
    with (
        pytest.raises(ValueError, match="the run does not have: decoder"),
        Patch(layer.sites(), masks[:1], means).applied(layer, {"decoder": Locations(where[2:3], TOKENS)}),
    ):
        layer.projection(z)


def test_streams_of_one_batch_are_stacks_of_their_own(z: Tensor) -> None:
    layer = Layer(("image", "mask"), tuple(Place("all", token) for token in range(TOKENS)))
    everywhere = dict.fromkeys(layer.streams, Locations(torch.arange(TOKENS)[None], TOKENS))
    with recording(layer) as recorded, torch.no_grad():
        layer.projection(z.view(4, 1, TOKENS, WIDTH))  # [rows, height, width, channels]
    assert torch.equal(recorded["image"][0].flatten(2), z[:2])
    assert torch.equal(recorded["mask"][0].flatten(2), z[2:])
    zeros = Means({stream: torch.zeros(1, 1, HEADS, TOKENS, DIM) for stream in layer.streams}, "layer")
    for stream, rows in (("image", slice(2)), ("mask", slice(2, 4))):
        sites = layer.sites(stream)
        patch = Patch(sites, torch.ones(1, len(sites), dtype=torch.bool), zeros)
        with torch.no_grad(), patch.applied(layer, everywhere):
            patched = layer.projection(z)
        expected = z.clone()
        expected[rows] = 0
        assert torch.equal(patched, expected)
    with intercept(layer, lambda stack, index, part: part if stack == "mask" else None), torch.no_grad():
        assert torch.equal(layer.projection(z), z)


def test_statistics_are_of_the_places_wherever_they_are(z: Tensor) -> None:
    parts = z.view(4, TOKENS, HEADS, DIM)
    found = _at_places(parts, EACH["decoder"])
    assert torch.equal(found[:, 0], parts[:, 0])
    assert torch.equal(found[:, 1], parts[torch.arange(4), LAST])
    assert _present(EACH["decoder"], "decoder", "low_light", None).tolist() == [0, 1]
    one = Locations(torch.tensor([[-1, 3]]), TOKENS)
    assert torch.equal(_at_places(parts, one), parts[:, 3:4])
    some = Locations(torch.tensor([[0, 3], [0, -1]]), TOKENS)
    with pytest.raises(ValueError, match="some prompts of low_light have places in the decoder that others have not"):
        _present(some, "decoder", "low_light", None)
    with pytest.raises(ValueError, match="some prompts of low_light have places"):
        _present(one, "decoder", "low_light", torch.tensor([0, 1]))
