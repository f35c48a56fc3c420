import asyncio
import pickle
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from threading import Barrier, Event

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from taskvec.heads import Means, Patch, intercept, recording, run
from taskvec.models.canvas import View
from taskvec.models.interface import VIEWS, ViewName
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.sites import GRANULARITIES, Granularity


def _hooks(model: MaeVqgan) -> int:
    return sum(len(module._forward_pre_hooks) for module in model.modules())


def _own(model: MaeVqgan, canvases: Tensor) -> Means:
    """What each canvas's own query-only run puts out, as means of one task per canvas."""
    view = model.view("query_only")
    with recording(model) as recorded:
        model(canvases, view)
    means: dict[str, Tensor] = {}
    for stack, layers in recorded.items():
        z = torch.stack(layers, 1).transpose(2, 3)  # [batch, layers, heads, tokens, head_dim]
        means[stack] = torch.full((*z.shape[:3], model.geometry.tokens, z.shape[4]), torch.nan)
        means[stack][:, :, :, view.tokens(stack)] = z
    return Means(means, model.fingerprint())


def test_recorded_contributions(golden: dict[str, Tensor], golden_model: MaeVqgan) -> None:
    with recording(golden_model) as recorded:
        golden_model(golden["canvas_u8"], "one_shot")
    for stack, taps in golden_model.taps().items():
        for layer, module in enumerate(tap.module for tap in taps):
            assert isinstance(module, nn.Linear)
            weight = module.weight.unflatten(1, (golden_model.stacks[stack].heads, -1))
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
        patch = Patch(sites, sites.mask([site])[None], small_means.map(lambda mean: mean[:1]))
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
    patch = Patch(sites, mask[None], small_means.map(lambda mean: mean[:1]))
    view = small_model.view("query_only")
    with patch.applied(small_model, small_model.locations(view)), recording(small_model) as recorded:
        small_model(canvases, view)
    patched = recorded["encoder"][1][:, :, 1]
    expected = small_means["encoder"][0, 1, 1, view.encoder_tokens]
    assert torch.equal(patched, expected.expand_as(patched))


def test_query_only_sites_apply_in_a_one_shot_run_at_the_same_canvas_tokens(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    sites = small_model.sites("head", ["encoder"])
    patch = Patch(sites, sites.mask([0])[None], small_means.map(lambda mean: mean[:1]))
    view = small_model.view("one_shot")
    with patch.applied(small_model, small_model.locations(view)), recording(small_model) as recorded:
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
    patch = Patch(sites, sites.mask([0])[None], small_means.map(lambda mean: mean[:1]))
    with (
        pytest.raises(RuntimeError, match="did not reach"),
        patch.applied(small_model, small_model.locations("query_only")),
    ):
        pass


def test_a_recording_that_is_never_reached_is_refused(small_model: MaeVqgan) -> None:
    reason = r"the recording did not reach \[\('decoder', 0\), .*: the model was not run inside the block"
    with pytest.raises(RuntimeError, match=reason), recording(small_model):
        pass
    with pytest.raises(KeyError, match="own"), recording(small_model):  # what went wrong in the block comes first
        raise KeyError("own")


def test_a_patch_in_the_wrong_view_is_refused(small_model: MaeVqgan, small_means: Means, canvases: Tensor) -> None:
    sites = small_model.sites("head")
    patch = Patch(sites, sites.mask([0])[None], small_means.map(lambda mean: mean[:1]))
    with (
        pytest.raises(ValueError, match="the encoder ran on 13 tokens, but the items of the patch have 5"),
        patch.applied(small_model, small_model.locations("query_only")),
    ):
        small_model(canvases, "one_shot")


def test_patches_that_do_not_fit_are_refused(small_model: MaeVqgan, small_means: Means, canvases: Tensor) -> None:
    sites = small_model.sites("head")
    one_task = small_means.map(lambda mean: mean[:1])
    with pytest.raises(ValueError, match=r"masks of shape \(1, 3\) do not fit 12 sites"):
        Patch(sites, torch.ones(1, 3, dtype=torch.bool), one_task)
    with pytest.raises(ValueError, match="say which task each row takes"):
        Patch(sites, sites.mask([0])[None], small_means)
    with pytest.raises(ValueError, match="there are no means for the encoder"):
        Patch(sites, sites.mask([0])[None], Means({"decoder": one_task["decoder"]}, one_task.model))
    with pytest.raises(ValueError, match="do not fit the encoder"):
        Patch(sites, sites.mask([0])[None], one_task.map(lambda mean: mean[:, :1]))
    with pytest.raises(ValueError, match="a selected position of the encoder has no mean: it was not recorded"):
        Patch(sites, sites.mask([0])[None], one_task.map(lambda mean: mean * torch.nan))
    with pytest.raises(ValueError, match="a selected position of the encoder has a mean that is not finite"):
        Patch(sites, sites.mask([0])[None], one_task.map(lambda mean: mean / 0))
    large = one_task.map(lambda mean: mean.sign() * 3e38)  # whose sums overflow
    assert small_model(canvases, "query_only", Patch(sites, sites.mask([0])[None], large)).shape[0] == len(canvases)
    with pytest.raises(ValueError, match=r"the means are a dict, .* expected Means\(tensors, model.fingerprint\(\)\)"):
        Patch(sites, sites.mask([0])[None], dict(one_task))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a patch of 2 rows does not fit a batch of 12"):
        small_model(canvases, "query_only", Patch(sites, sites.mask([0])[None].repeat(2, 1), one_task))


def test_the_model_is_restored_even_after_an_exception(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    sites = small_model.sites("head")
    patch = Patch(sites, sites.mask([0, 7])[None], small_means.map(lambda mean: mean[:1]))
    before = small_model(canvases, "query_only")

    def interrupted() -> None:
        with patch.applied(small_model, small_model.locations("query_only")):
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


def _single_patches(model: MaeVqgan, means: Means) -> list[Patch]:
    """Different sites, and means of different tasks."""
    sites = model.sites("quadrant")
    return [
        Patch(sites, mask[None], means.map(lambda mean, task=task: mean[task : task + 1]))
        for task in range(2)
        for mask in sites.sample(2, 0.5, seed=task)
    ]


def test_threads_with_patches_recordings_and_neither_do_not_see_each_other(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    """Each of many runs in eight threads on one model is, to the last bit, what it is alone."""
    patches: list[Patch | None] = [*_single_patches(small_model, small_means), None, None]

    def run(patch: Patch | None, view: ViewName) -> tuple[Tensor, list[Tensor]]:
        with recording(small_model) as recorded:
            logits = small_model(canvases, view, patch)
        return logits, [z for layers in recorded.values() for z in layers]

    jobs: list[tuple[Patch | None, ViewName]] = [(patch, view) for patch in patches for view in VIEWS]
    alone = [run(*job) for job in jobs]
    plain = [small_model(canvases, view, patch) for patch, view in jobs]
    assert len({tuple(logits.flatten()[:50].tolist()) for logits in plain}) == 10  # of 12: the two without are the same
    start = Barrier(8)

    def thread(number: int) -> int:
        random = torch.Generator().manual_seed(number)
        start.wait()
        wrong = 0
        for choice in torch.randint(len(jobs), (12,), generator=random).tolist():
            logits, recorded = run(*jobs[choice])
            wrong += not torch.equal(logits, alone[choice][0])
            wrong += len(recorded) != len(alone[choice][1])
            wrong += not all(map(torch.equal, recorded, alone[choice][1]))
            wrong += not torch.equal(small_model(canvases, jobs[choice][1], jobs[choice][0]), plain[choice])
        return wrong

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(thread, range(8))) == [0] * 8
    assert _hooks(small_model) == 0


def test_a_block_that_is_open_in_one_thread_is_none_in_another(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    patch, view = _single_patches(small_model, small_means)[0], small_model.view("query_only")
    plain, patched = small_model(canvases, view), small_model(canvases, view, patch)
    with (
        ThreadPoolExecutor(1) as pool,
        patch.applied(small_model, small_model.locations(view)),
        recording(small_model) as recorded,
    ):
        assert torch.equal(pool.submit(small_model, canvases, view).result(), plain)
        assert recorded == {"encoder": [], "decoder": []}
        assert torch.equal(small_model(canvases, view), patched)
    opened, closed = Event(), Event()

    def other() -> Tensor:
        with patch.applied(small_model, small_model.locations(view)):
            opened.set()
            closed.wait()
            return small_model(canvases, view)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(other)
        opened.wait()
        assert torch.equal(small_model(canvases, view), plain)
        with pytest.raises(ZeroDivisionError), patch.applied(small_model, small_model.locations(view)):
            raise ZeroDivisionError  # which takes away nobody else's
        closed.set()
        assert torch.equal(answer.result(), patched)
    assert _hooks(small_model) == 0


def test_a_patch_that_only_another_thread_would_reach_is_refused(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    patch, view = _single_patches(small_model, small_means)[0], small_model.view("query_only")
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(RuntimeError, match=r"did not reach .* in another thread, where a patch has no effect"),
        patch.applied(small_model, small_model.locations(view)),
    ):
        pool.submit(small_model, canvases, view).result()


def test_asynchronous_tasks_of_one_thread_do_not_see_each_other(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    """Blocks that are open at the same time; a run that a task hands to a thread is that task's own."""
    patches, view = _single_patches(small_model, small_means), small_model.view("query_only")

    async def answer(patch: Patch) -> list[Tensor]:
        with patch.applied(small_model, small_model.locations(view)):
            await asyncio.sleep(0.01)
            here = small_model(canvases, view)
            return [here, await asyncio.to_thread(small_model, canvases, view)]

    async def everything() -> list[list[Tensor]]:
        return await asyncio.gather(*map(answer, patches))

    for patch, answers in zip(patches, asyncio.run(everything()), strict=True):
        expected = small_model(canvases, view, patch)
        assert all(torch.equal(each, expected) for each in answers)


def test_patches_nest(small_model: MaeVqgan, small_means: Means, canvases: Tensor) -> None:
    """The inner one comes last, and the outer one stays when it has ended."""
    outer, inner = _single_patches(small_model, small_means)[1:3]
    view = small_model.view("query_only")
    with outer.applied(small_model, small_model.locations(view)):
        with inner.applied(small_model, small_model.locations(view)), recording(small_model) as recorded:
            small_model(canvases, view)
        assert torch.equal(small_model(canvases, view), small_model(canvases, view, outer))
    for stack in recorded:
        tokens = view.tokens(stack)
        for layer, z in enumerate(recorded[stack]):
            for patch in (outer, inner):
                chosen = patch.masks[0][patch.sites.index[stack][layer][:, tokens]].T
                if patch is outer:
                    chosen &= ~inner.masks[0][inner.sites.index[stack][layer][:, tokens]].T
                mean = patch.means[stack][0, layer][:, tokens].transpose(0, 1)
                assert torch.equal(z[:, chosen], mean[chosen].expand(len(z), -1, -1))


def test_a_pass_that_backward_repeats_is_patched_as_it_was(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    """Gradient checkpointing runs the model again in the backward pass, which opens its own block."""
    sites, view = small_model.sites("quadrant"), small_model.view("query_only")
    items = small_model._items(small_model.embed(canvases, view), view)
    gradients = []
    for checkpointed in (False, True):
        shares = torch.full((1, len(sites)), 0.3, requires_grad=True)
        patch = Patch(sites, shares, small_means.map(lambda mean: mean[:1]))
        way = partial(checkpoint, run, use_reentrant=False) if checkpointed else run
        gradients.append(torch.autograd.grad(way(small_model, items, patch).square().mean(), shares)[0])
    assert gradients[0].count_nonzero() > 20
    assert torch.equal(*gradients)


@pytest.mark.parametrize(
    ("granularity", "place"),
    [
        ("token", r"token 1 \(support_input\)"),
        ("quadrant", r"token 1 \(support_input\)"),
        ("head", "token 1"),
        ("layer", "token 1"),
    ],
)
def test_a_selected_position_that_the_run_does_not_have_is_refused(
    granularity: Granularity, place: str, small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    sites, one_task = small_model.sites(granularity, view="one_shot"), small_means.map(lambda mean: mean[:1])
    site = next(
        index for index, name in enumerate(sites.names)
        if name.layer == 1 and name.head in (None, 2) and name.region in (None, "support_input")
    )  # fmt: skip
    message = rf"a position that the run does not have: encoder, layer 1, head [02], {place}: choose sites of the view"
    for mask in (sites.mask([site])[None], sites.mask([site])[None].float()):
        patch = Patch(sites, mask, one_task)
        expected = message if mask.dtype == torch.bool else "that the run does not have: encoder, layer 0"
        with pytest.raises(ValueError, match=expected):
            small_model(canvases, "query_only", patch)
        assert not torch.equal(small_model(canvases, "one_shot", patch), small_model(canvases, "one_shot"))
    rows = torch.zeros(len(canvases), len(sites), dtype=torch.bool)
    rows[3, site] = True  # in one row of many
    with pytest.raises(ValueError, match=message):
        small_model(canvases, "query_only", Patch(sites, rows, one_task))
    assert _hooks(small_model) == 0


def test_a_view_without_some_of_the_selected_positions_is_refused(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    sites, geometry = small_model.sites("quadrant"), small_model.geometry
    whole = small_model.view("query_only")
    fewer = View(whole.encoder_tokens[:-1], whole.decoder_tokens, "cut")
    patch = Patch(sites, sites.mask(range(len(sites)))[None], small_means.map(lambda mean: mean[:1]))
    last = int(geometry.region_tokens("query_input")[-1])
    with pytest.raises(ValueError, match=rf"head 0, token {last} \(query_input\): choose sites"):
        small_model(canvases, fewer, patch)


def test_means_of_another_model_are_refused(small_model: MaeVqgan, small_means: Means, canvases: Tensor) -> None:
    sites, other = small_model.sites("head"), deepcopy(small_model)
    patch = Patch(sites, sites.mask([0])[None], small_means.map(lambda mean: mean[:1]))
    assert torch.equal(other(canvases, "query_only", patch), small_model(canvases, "query_only", patch))
    other = MaeVqgan(small_model.config)
    of_both = f"of the model with fingerprint {small_means.model}, not of this one with {other.fingerprint()}"
    with pytest.raises(ValueError, match=of_both):
        other(canvases, "query_only", patch)
    other.load_state_dict(small_model.state_dict())  # the same object is the same model now
    assert torch.equal(other(canvases, "query_only", patch), small_model(canvases, "query_only", patch))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    with pytest.raises(ValueError, match="the means of the patch are of the model with fingerprint"):
        other(canvases, "query_only", patch)


def test_the_fingerprint_is_asked_for_once(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may take as long as many passes do."""
    model, asked = deepcopy(small_model).requires_grad_(), []
    sites, fingerprint = model.sites("head"), MaeVqgan.fingerprint
    monkeypatch.setattr(MaeVqgan, "fingerprint", lambda self: asked.append(1) or fingerprint(self))
    for site in range(3):
        model(canvases, "query_only", Patch(sites, sites.mask([site])[None], small_means.map(lambda mean: mean[:1])))
    assert len(asked) == 1


def test_means_and_patches_can_be_sent_to_other_processes(
    small_model: MaeVqgan, small_means: Means, canvases: Tensor
) -> None:
    patch = _single_patches(small_model, small_means)[0]
    expected = small_model(canvases, "query_only", patch)
    for other in (deepcopy(patch), pickle.loads(pickle.dumps(patch))):  # noqa: S301 (our own)
        assert torch.equal(small_model(canvases, "query_only", other), expected)


@pytest.mark.parametrize("inference", [True, False])
def test_what_is_recorded_is_an_ordinary_tensor(inference: bool, small_model: MaeVqgan, canvases: Tensor) -> None:
    with torch.inference_mode(inference), recording(small_model) as recorded:
        small_model(canvases)
    for z in (z for layers in recorded.values() for z in layers):
        assert not z.is_inference()
        z[0] += 1
        shares = torch.ones((), requires_grad=True)
        (shares * z).square().sum().backward()
        assert shares.grad is not None
