import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from taskvec.heads import Means, Patch, intercept, recording
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.sites import GRANULARITIES, Granularity


def _hooks(model: MaeVqgan) -> int:
    return sum(len(module._forward_pre_hooks) for module in model.modules())


def _own(model: MaeVqgan, canvases: Tensor) -> Means:
    """What each canvas's own query-only run puts out, as means of one task per canvas."""
    view = model.view("query_only")
    with recording(model) as recorded:
        model(canvases, view)
    means = {}
    for stack, layers in recorded.items():
        z = torch.stack(layers, 1).transpose(2, 3)  # [batch, layers, heads, tokens, head_dim]
        means[stack] = torch.full((*z.shape[:3], model.geometry.tokens, z.shape[4]), torch.nan)
        means[stack][:, :, :, view.tokens(stack)] = z
    return means


def test_recorded_contributions(golden: dict[str, Tensor], golden_model: MaeVqgan) -> None:
    with recording(golden_model) as recorded:
        golden_model(golden["canvas_u8"], "one_shot")
    for stack, projections in golden_model.projections().items():
        for layer, module in enumerate(projections.modules):
            assert isinstance(module, nn.Linear)
            weight = module.weight.unflatten(1, (projections.heads, -1))
            contribution = torch.einsum("bthd,ohd->btho", recorded[stack][layer], weight) + module.bias
            expected = golden[f"acts/{stack}.{layer}"]
            torch.testing.assert_close(contribution[0], expected, rtol=0, atol=1e-5)
            mean = golden[f"injection/{stack}"][layer]
            torch.testing.assert_close(contribution.mean(0), mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_heads_replaced_by_themselves_change_nothing(
    granularity: Granularity, small_model: MaeVqgan, canvases: Tensor
) -> None:
    sites = small_model.sites(granularity)
    every = torch.ones(len(canvases), len(sites), dtype=torch.bool)
    patch = Patch(sites, every, _own(small_model, canvases), torch.arange(len(canvases)))
    torch.testing.assert_close(small_model(canvases, "query_only", patch), small_model(canvases, "query_only"))


def test_every_site_matters(small_model: MaeVqgan, small_means: Means, canvases: Tensor) -> None:
    """A patch of any one site changes the prediction, except where its stack puts out nothing that is read later."""
    sites = small_model.sites("quadrant")
    plain = small_model(canvases[:1], "query_only")
    read_later = [s for s in range(len(sites)) if sites.names[s].stack == "encoder" or sites.names[s].region != "cls"]
    for site in read_later:
        patch = Patch(sites, sites.mask([site])[None], {k: v[:1] for k, v in small_means.items()})
        assert not torch.equal(small_model(canvases[:1], "query_only", patch), plain), sites.names[site]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), granularity=st.sampled_from(GRANULARITIES), share=st.floats(0.05, 0.9))
def test_rows_are_independent(
    seed: int, granularity: Granularity, share: float, small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    """A batch of different patches of different images and tasks is the same as one row at a time."""
    generator = torch.Generator().manual_seed(seed)
    sites = small_model.sites(granularity)
    masks = torch.rand(5, len(sites), generator=generator) < share
    masks[:, 0] = True
    tasks = torch.randint(2, (5,), generator=generator)
    rows = torch.randint(len(canvases), (5,), generator=generator)
    together = small_model(canvases[rows], "query_only", Patch(sites, masks, small_means, tasks))
    for row in range(5):
        one = slice(row, row + 1)
        patch = Patch(sites, masks[one], small_means, tasks[one])
        alone = small_model(canvases[rows[one]], "query_only", patch)
        torch.testing.assert_close(together[one], alone)


def test_a_patch_sets_the_head_output_itself(small_model: MaeVqgan, small_means: Means, canvases: Tensor) -> None:
    sites = small_model.sites("head")
    mask = sites.mask([5])  # encoder, layer 1, head 1
    patch = Patch(sites, mask[None], {stack: mean[:1] for stack, mean in small_means.items()})
    view = small_model.view("query_only")
    with patch.applied(small_model, view), recording(small_model) as recorded:
        small_model(canvases, view)
    patched = recorded["encoder"][1][:, :, 1]
    expected = small_means["encoder"][0, 1, 1, view.encoder_tokens]
    assert torch.equal(patched, expected.expand_as(patched))


def test_query_only_sites_apply_in_a_one_shot_run_at_the_same_canvas_tokens(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    sites = small_model.sites("head", ["encoder"])
    patch = Patch(sites, sites.mask([0])[None], {stack: mean[:1] for stack, mean in small_means.items()})
    view = small_model.view("one_shot")
    with patch.applied(small_model, view), recording(small_model) as recorded:
        small_model(canvases, view)
    with recording(small_model) as plain:
        small_model(canvases, view)
    changed = (recorded["encoder"][0][:, :, 0] != plain["encoder"][0][:, :, 0]).any(-1).all(0)
    assert torch.equal(view.encoder_tokens[changed], small_model.view("query_only").encoder_tokens)


def test_a_patch_that_touches_nothing_is_refused(small_model: MaeVqgan, small_means: Means) -> None:
    sites = small_model.sites("head")
    with pytest.raises(ValueError, match="touches nothing"):
        Patch(sites, torch.zeros(3, len(sites), dtype=torch.bool), small_means, torch.zeros(3, dtype=torch.int64))


def test_a_patch_that_is_never_reached_is_refused(small_model: MaeVqgan, small_means: Means) -> None:
    sites = small_model.sites("head")
    patch = Patch(sites, sites.mask([0])[None], {stack: mean[:1] for stack, mean in small_means.items()})
    with (
        pytest.raises(RuntimeError, match="did not reach"),
        patch.applied(small_model, small_model.view("query_only")),
    ):
        pass


def test_a_patch_in_the_wrong_view_is_refused(small_model: MaeVqgan, small_means: Means, canvases: Tensor) -> None:
    sites = small_model.sites("head")
    patch = Patch(sites, sites.mask([0])[None], {stack: mean[:1] for stack, mean in small_means.items()})
    with (
        pytest.raises(ValueError, match="the encoder ran on 13 tokens, but the view of the patch has 5"),
        patch.applied(small_model, small_model.view("query_only")),
    ):
        small_model(canvases, "one_shot")


def test_patches_that_do_not_fit_are_refused(small_model: MaeVqgan, small_means: Means, canvases: Tensor) -> None:
    sites = small_model.sites("head")
    one_task = {stack: mean[:1] for stack, mean in small_means.items()}
    with pytest.raises(ValueError, match=r"masks of shape \(1, 3\) do not fit 12 sites"):
        Patch(sites, torch.ones(1, 3, dtype=torch.bool), one_task)
    with pytest.raises(ValueError, match="say which task each row takes"):
        Patch(sites, sites.mask([0])[None], small_means)
    with pytest.raises(ValueError, match="there are no means for the encoder"):
        Patch(sites, sites.mask([0])[None], {"decoder": one_task["decoder"]})
    with pytest.raises(ValueError, match="do not fit the encoder"):
        Patch(sites, sites.mask([0])[None], {**one_task, "encoder": one_task["encoder"][:, :1]})
    unrecorded = {**one_task, "encoder": one_task["encoder"] * torch.nan}
    with pytest.raises(ValueError, match="a selected position of the encoder has no mean"):
        Patch(sites, sites.mask([0])[None], unrecorded)
    with pytest.raises(ValueError, match="a patch of 2 rows does not fit a batch of 12"):
        small_model(canvases, "query_only", Patch(sites, sites.mask([0])[None].repeat(2, 1), one_task))


def test_the_model_is_restored_even_after_an_exception(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    sites = small_model.sites("head")
    patch = Patch(sites, sites.mask([0, 7])[None], {stack: mean[:1] for stack, mean in small_means.items()})
    before = small_model(canvases, "query_only")

    def interrupted() -> None:
        with patch.applied(small_model, small_model.view("query_only")):
            small_model(canvases, "query_only")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert _hooks(small_model) == 0
    assert torch.equal(small_model(canvases, "query_only"), before)


def test_intercept_restores_after_a_failing_function(small_model: MaeVqgan, canvases: Tensor) -> None:
    def fail(stack: str, layer: int, z: Tensor) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), intercept(small_model, fail):
        small_model(canvases)
    assert _hooks(small_model) == 0
