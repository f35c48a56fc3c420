from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from taskvec import evaluation
from taskvec.heads import Means, Patch, intercept, run
from taskvec.metrics import MSE, cut
from taskvec.models.interface import Area, Decoding, Items, Variant
from taskvec.models.mae_vqgan import CanvasItems, MaeVqgan, negative_log_likelihood
from taskvec.objectives import OBJECTIVES, Objective, ObjectiveKind
from taskvec.prompts import Prompts
from taskvec.sites import Granularity
from taskvec.vectors import TaskVectors


def _masks(sites: int, rows: int) -> Tensor:
    return torch.rand(rows, sites, generator=torch.Generator().manual_seed(3)) < 0.3


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_losses_are_those_of_the_runs_one_by_one(
    kind: ObjectiveKind, small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    sites = small_model.sites("quadrant")
    objective = Objective(small_model, sites, small_means, small_prompts, kind)
    masks, items = _masks(len(sites), 12), torch.tensor([0, 11, 3, 7, 7, 2, 5, 6, 10, 1, 4, 8])
    losses = objective(masks, items)
    for row, item in enumerate(items.tolist()):
        task, place = divmod(item, 6)
        prompts = small_prompts[task][place : place + 1]
        canvas = small_model.geometry.canvases(prompts)
        patch = Patch(sites, masks[row : row + 1], small_means, torch.tensor([task]))
        logits = small_model(canvas, "query_only", patch)
        if kind == "token":
            own = small_model.query_output_logits(logits, "query_only")
            expected = negative_log_likelihood(own, small_model.target_codes(canvas))
        else:
            images = small_model.decode(logits.argmax(-1), "query_only")
            metric = prompts.task.metric
            expected = metric.loss(metric.score(images, torch.from_numpy(prompts.query_output)))
        torch.testing.assert_close(losses[row], expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_chunks_make_no_difference(
    kind: ObjectiveKind, small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    sites = small_model.sites("head")
    masks, items = _masks(len(sites), 17), torch.arange(17) % 12
    masks[5:10] = False  # a chunk without any patch is the plain query-only run
    results = [
        Objective(small_model, sites, small_means, small_prompts, kind, rows=rows)(masks, items) for rows in (1, 5, 17)
    ]
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[0], results[2], rtol=1e-4, atol=1e-4)


def test_mean_losses_are_over_all_items(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    sites = small_model.sites("layer")
    objective = Objective(small_model, sites, small_means, small_prompts, "token")
    masks = _masks(len(sites), 3)
    means = objective.mean_losses(masks)
    assert objective.items == 12
    assert objective.tasks.tolist() == [0] * 6 + [1] * 6
    for row in range(3):
        expected = objective(masks[row].expand(12, -1), torch.arange(12)).mean()
        torch.testing.assert_close(means[row], expected)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_product_is_its_pairs_without_their_masks(
    kind: ObjectiveKind,
    small_model: MaeVqgan,
    small_means: Means,
    small_prompts: list[Prompts],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the last bit, and with the masks of one pass at a time."""
    objective = Objective(small_model, small_model.sites("head"), small_means, small_prompts, kind, rows=5)
    masks, items = _masks(len(objective.sites), 4), torch.tensor([0, 7, 3])
    masks[:, 0] = True  # of the first layer, so that all run together
    pairs = objective(masks.repeat_interleave(3, 0), items.repeat(4)).view(4, 3)
    computed, seen = Objective._losses, []

    def watched(
        objective: Objective, masks: Tensor, items: Tensor, prepared: Items, levels: Sequence[float] = ()
    ) -> Tensor:
        seen.append(len(masks))
        return computed(objective, masks, items, prepared, levels)

    monkeypatch.setattr(Objective, "_losses", watched)
    assert torch.equal(objective.evaluate_product(masks, items), pairs)
    assert seen == [5, 5, 2]


class Plain(MaeVqgan):
    """Every layer in every run, with all that it predicts and every answer made."""

    def depth(self, stack: str, layer: int) -> int:
        return 0

    def advance(self, items: CanvasItems, depth: int) -> CanvasItems:
        return items

    def narrow(self, items: CanvasItems, *, answers: bool) -> CanvasItems:
        return items

    def drafts(self, outputs: Tensor) -> None:
        return None


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("area", ["canvas", "quadrant"])
@pytest.mark.parametrize("stacks", [None, ("decoder",), ("decoder", "encoder")])
def test_what_a_mask_does_not_change_is_left_out_and_the_losses_stay(
    kind: ObjectiveKind,
    area: Area,
    stacks: tuple[str, ...] | None,
    small_model: MaeVqgan,
    small_means: Means,
    small_prompts: list[Prompts],
) -> None:
    """Of masks of every depth, of none at all, and of one that comes twice."""
    plain = deepcopy(small_model)
    plain.__class__ = Plain
    sites, items = small_model.sites("quadrant", stacks), torch.tensor([3, 0, 7, 11])
    masks = torch.cat([torch.eye(len(sites)).bool(), _masks(len(sites), 3), torch.zeros(1, len(sites)).bool()])
    masks = torch.cat([masks, masks[5:7]])
    expected, shared = (
        Objective(model.variant(Variant(area=area)), sites, small_means, small_prompts, kind, rows=6)
        for model in (plain, small_model)
    )
    product = shared.evaluate_product(masks, items)
    within = 2e-4 if kind == "pixel" else 1e-5  # a colour that is between two bytes may become either
    torch.testing.assert_close(product, expected.evaluate_product(masks, items), rtol=1e-5, atol=within)
    pairs = torch.randperm(product.numel(), generator=torch.Generator().manual_seed(0))[:30]
    own = shared(masks[pairs // 4], items[pairs % 4])
    torch.testing.assert_close(own, product.flatten()[pairs], rtol=1e-5, atol=within)
    if kind == "token":
        shares = torch.rand(len(sites), generator=torch.Generator().manual_seed(1))
        for ours, theirs in zip(
            shared.differentiate(shares, items), expected.differentiate(shares, items), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_layers_before_the_first_patched_one_run_once_an_item(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    rows = {stack: [0] * len(taps) for stack, taps in small_model.taps().items()}

    def count(stack: str, layer: int, z: Tensor) -> None:
        rows[stack][layer] += len(z)

    with intercept(small_model, count):
        objective = Objective(small_model, small_model.sites("head", ("decoder",)), small_means, small_prompts, "token")
        assert rows["encoder"] == [12] * len(rows["encoder"])
        objective.evaluate_product(_masks(len(objective.sites), 5), torch.arange(12))
        objective.differentiate(torch.full((len(objective.sites),), 0.5), torch.arange(12))
        assert rows["encoder"] == [12] * len(rows["encoder"])
    layers = len(rows["decoder"])
    sites = small_model.sites("layer")
    objective = Objective(small_model, sites, small_means, small_prompts, "token")
    rows["decoder"] = [0] * layers
    with intercept(small_model, count):
        objective.evaluate_product(torch.eye(len(sites)).bool(), torch.arange(12))
    before = len(rows["encoder"])  # the masks of the encoder's layers; then once to advance, and those of the decoder's
    assert rows["decoder"] == [12 * (before + (layer < layers - 1) + layer + 1) for layer in range(layers)]


def test_an_answer_is_decoded_once_an_item(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where what is remembered is forgotten in between."""
    objective = Objective(small_model, small_model.sites("head"), small_means, small_prompts, "pixel")
    masks = _masks(len(objective.sites), 3)
    losses = objective.mean_losses(masks)
    with monkeypatch.context() as patched:
        patched.setattr(MaeVqgan, "answers", lambda *_: pytest.fail("decoded again"))
        assert torch.equal(objective.mean_losses(masks), losses)
    monkeypatch.setattr("taskvec.objectives.REMEMBERED", 7)
    torch.testing.assert_close(objective.mean_losses(masks), losses)


def test_bfloat16_is_close(small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]) -> None:
    sites = small_model.sites("head")
    masks, items = _masks(len(sites), 12), torch.arange(12)
    exact, quick = (
        Objective(small_model.variant(Variant(bfloat16=fast)), sites, small_means, small_prompts, "token")(masks, items)
        for fast in (False, True)
    )
    assert not torch.equal(exact, quick)
    torch.testing.assert_close(exact, quick, rtol=0.05, atol=0.1)


def test_fused_attention_is_equal_but_for_rounding(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    sites = small_model.sites("head")
    masks, items = _masks(len(sites), 12), torch.arange(12)
    exact, fused = (
        Objective(small_model.variant(Variant(fused=fused)), sites, small_means, small_prompts, "token")
        for fused in (False, True)
    )
    torch.testing.assert_close(fused(masks, items), exact(masks, items), rtol=1e-5, atol=1e-5)
    gradients = [each.differentiate(torch.full((len(sites),), 0.4), items)[1] for each in (exact, fused)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-6)


def test_an_item_is_embedded_once(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts], monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = Objective(small_model, small_model.sites("head"), small_means, small_prompts, "token")
    monkeypatch.setattr(MaeVqgan, "embed", lambda *_: pytest.fail("embedded again"))
    objective.mean_losses(_masks(len(objective.sites), 3))


def test_wrong_settings_are_refused(small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]) -> None:
    sites = small_model.sites("head")
    with pytest.raises(ValueError, match="there is no objective 'beauty': expected one of pixel, token"):
        Objective(small_model, sites, small_means, small_prompts, "beauty")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="1 tasks of items do not fit the means"):
        Objective(small_model, sites, small_means, small_prompts[:1])
    with pytest.raises(ValueError, match="rows is 0, expected at least 1, or None"):
        Objective(small_model, sites, small_means, small_prompts, rows=0)


def test_whole_shares_are_a_mask(small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]) -> None:
    sites = small_model.sites("quadrant")
    objective = Objective(small_model, sites, small_means, small_prompts, "token", rows=5)
    mask, items = _masks(len(sites), 1)[0], torch.arange(12)
    losses, _ = objective.differentiate(mask.float(), items)
    torch.testing.assert_close(losses, objective(mask.expand(12, -1), items), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("granularity", ["quadrant", "token", "layer"])
def test_the_gradient_is_the_slope_of_the_mean_loss(
    granularity: Granularity, small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    """Of the shares alone, also where a share is 0, and where nothing was recorded outside the sites."""
    model = deepcopy(small_model).requires_grad_()
    means = Means({stack: mean.clone() for stack, mean in small_means.items()}, model.fingerprint())
    means["encoder"][:, :, :, model.geometry.region_tokens("query_output")] = torch.nan
    sites = model.sites(granularity)
    objective = Objective(model, sites, means, small_prompts, "token", rows=5)
    generator = torch.Generator().manual_seed(2)
    shares, direction = (torch.rand(len(sites), generator=generator) for _ in range(2))
    shares[:2] = 0
    items, step = torch.arange(12), 1e-2
    ahead, behind = (objective.differentiate(shares + sign * step * direction, items)[0].mean() for sign in (1, -1))
    _, gradient = objective.differentiate(shares, items)
    torch.testing.assert_close(gradient @ direction, (ahead - behind) / (2 * step), rtol=2e-2, atol=1e-4)
    assert (gradient[:2] != 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_pixels_have_no_gradient(small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]) -> None:
    sites = small_model.sites("head")
    objective = Objective(small_model, sites, small_means, small_prompts, "pixel")
    with pytest.raises(
        ValueError, match="the decoding likeliest has no gradient: expected `expected`, or the objective"
    ):
        objective.differentiate(torch.full((len(sites),), 0.5), torch.arange(2))


def test_losses_by_task_are_means_over_its_own_items(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    sites = small_model.sites("quadrant")
    objective = Objective(small_model, sites, small_means, small_prompts)
    masks = sites.sample(3, 0.4)
    by_task = objective.task_losses(masks)
    assert by_task.shape == (3, 2)
    for row, mask in enumerate(masks):
        losses = objective(mask.expand(objective.items, -1), torch.arange(objective.items))
        torch.testing.assert_close(by_task[row], losses.view(2, -1).mean(1))
    torch.testing.assert_close(by_task.mean(1), objective.mean_losses(masks))


def test_a_share_of_the_items_are_the_first_of_each_task(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    sites = small_model.sites("quadrant")
    objective = Objective(small_model, sites, small_means, small_prompts)
    masks = sites.sample(2, 0.4)
    items = torch.tensor([0, 1, 2, 6, 7, 8])
    expected = torch.stack([objective(mask.expand(6, -1), items).view(2, 3).mean(1) for mask in masks])
    torch.testing.assert_close(objective.task_losses(masks, 0.5), expected)
    torch.testing.assert_close(objective.mean_losses(masks, 0.5), expected.mean(1))


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_losses_are_ordinary_tensors(
    kind: ObjectiveKind, small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    objective = Objective(small_model, small_model.sites("head"), small_means, small_prompts, kind)
    masks = _masks(len(objective.sites), 12)
    results = [objective(masks, torch.arange(12)), objective.mean_losses(masks), objective.task_losses(masks)]
    if kind == "token":
        results += objective.differentiate(torch.full((len(objective.sites),), 0.5), torch.arange(12))
    for losses in results:
        losses.sub_(1)
        factor = torch.ones((), requires_grad=True)
        (factor * losses).sum().backward()
        assert factor.grad is not None


def test_means_of_another_model_or_of_none_are_refused(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    sites, items = small_model.sites("head"), torch.arange(2)
    other = Means(small_means.tensors, "0" * 16)
    with pytest.raises(ValueError, match="of the model with fingerprint 0000000000000000, not of this one with"):
        Objective(small_model, sites, other, small_prompts)(_masks(len(sites), 2), items)
    plain = dict(small_means)
    with pytest.raises(ValueError, match="the means are a dict, which does not say what model they are of"):
        Objective(small_model, sites, plain, small_prompts)  # pyright: ignore[reportArgumentType]


def _expecting(model: MaeVqgan, level: float | None = None, temperature: float = 1.0) -> MaeVqgan:
    return model.variant(Variant(decoding=Decoding("expected", temperature, level)))


@pytest.mark.parametrize("level", [None, 104.0])
def test_losses_of_what_is_believed_are_those_of_the_answers_one_by_one(
    level: float | None, small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    """Also of masks whose runs have the same likeliest codes."""
    model, sites = _expecting(small_model, level), small_model.sites("head")
    objective = Objective(model, sites, small_means, small_prompts)
    masks, items = torch.eye(len(sites)).bool()[-8:], torch.tensor([0, 7])  # of the last layers
    product = objective.evaluate_product(masks, items)
    codes = set()
    for column, item in enumerate(items.tolist()):
        task, place = divmod(item, 6)
        prompts = small_prompts[task][place : place + 1]
        metric, prepared = prompts.task.metric, model.prepare(prompts, "query_only")
        for row in range(len(masks)):
            patch = Patch(sites, masks[row : row + 1], small_means, torch.tensor([task]))
            with patch.applied(model, prepared.places):
                logits = model.run(prepared)
            codes.add((item, *model.query_output_logits(logits.argmax(-1), "query_only").flatten().tolist()))
            scores = metric.score(model.answers(logits, prepared), torch.from_numpy(prompts.query_output))
            torch.testing.assert_close(product[row, column], metric.loss(scores)[0], rtol=1e-4, atol=2e-4)
    assert len(codes) < product.numel()  # some share all
    if level is None:
        assert len(product[:, 1].unique()) == len(masks)


LEVELS = (96.0, 100.0, 104.0, 108.0)


@pytest.mark.parametrize("expected", [False, True])
def test_masks_are_cut_at_the_level_that_is_best_for_a_set_of_sites(
    expected: bool, small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    """Of all items of a task together, by the losses at every level alone; pictures are not cut."""
    sites = small_model.sites("quadrant")
    model = _expecting(small_model) if expected else small_model
    masks = _masks(len(sites), 5)
    answers = evaluation.answers(model, evaluation.run(model, "query_only"), small_prompts[0])
    truths = torch.cat([cut(answers[:2], 100.0), cut(answers[2:], 104.0)])  # at different levels, and none at the first
    prompts = [replace(small_prompts[0], query_output=truths.numpy()), small_prompts[1]]
    objective = Objective(model, sites, small_means, prompts, levels=LEVELS)
    each = []
    for level in LEVELS:
        own = model.variant(Variant(decoding=replace(model.decoding, level=level)))
        each.append(Objective(own, sites, small_means, prompts).evaluate_product(masks, torch.arange(12)))
    at_levels = torch.stack(each, -1)
    by_task = objective.task_losses(masks)
    of_masks = at_levels[:, :6].mean(1)
    close = partial(torch.testing.assert_close, rtol=0, atol=4e-3)  # rounding may move a pixel or two over a level
    close(by_task[:, 0], of_masks.amin(-1))
    assert (of_masks.argmin(-1) > 0).any()
    each = at_levels[:, :6].amin(-1).mean(1)  # as a level for each item would have it
    assert (each <= of_masks.amin(-1)).all()
    assert (each < of_masks.amin(-1)).any()
    plain = Objective(model, sites, small_means, prompts)
    torch.testing.assert_close(by_task[:, 1], plain.task_losses(masks)[:, 1])
    alone = Objective(model, sites, small_means.map(lambda mean: mean[:1]), prompts[:1], levels=LEVELS)
    close(alone.mean_losses(masks), of_masks.amin(-1))
    close(alone.mean_losses(masks, 0.5), at_levels[:, :3].mean(1).amin(-1))
    close(alone.mean_losses(masks), of_masks.amin(-1))  # with what is remembered of them
    # all else is at the level of the decoding
    items = torch.arange(6)
    torch.testing.assert_close(alone.evaluate_product(masks, items), plain.evaluate_product(masks, items))


@pytest.mark.parametrize("task", [0, 1])
def test_the_gradient_through_pixels_is_the_slope_of_the_mean_loss(
    task: int, small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    """Of the soft metric, with ignored pixels where there are any, whatever runs together."""
    model, sites = _expecting(small_model, 104.0), small_model.sites("quadrant")
    prompts = small_prompts[task]
    if task == 0:
        ignored = torch.rand(prompts.query_output.shape[:3], generator=torch.Generator().manual_seed(0)) < 0.3
        prompts = replace(prompts, query_ignored=ignored.numpy())
    means = small_means.map(lambda mean: mean[task : task + 1])
    objective = Objective(model, sites, means, [prompts], "pixel", rows=4)
    generator, items, step = torch.Generator().manual_seed(2), torch.arange(6), 0.05
    shares, direction = (torch.rand(len(sites), generator=generator) for _ in range(2))
    losses, gradient = objective.differentiate(shares, items)
    ahead, behind = (
        objective.differentiate(shares + sign * step * direction, items)[0].double().mean() for sign in (1, -1)
    )
    slope = (ahead - behind) / (2 * step)
    torch.testing.assert_close((gradient @ direction).double(), slope, rtol=5e-2, atol=1e-5)
    prepared, metric = model.prepare(prompts, "query_only"), prompts.task.metric
    pictures = model.pictures(run(model, prepared, Patch(sites, shares[None], means)), prepared)
    assert metric.soft is not None
    hidden = None if prompts.query_ignored is None else torch.from_numpy(prompts.query_ignored)
    soft = metric.soft(pictures, torch.from_numpy(prompts.query_output), hidden, 104.0)
    torch.testing.assert_close(losses, metric.loss(soft), rtol=1e-4, atol=1e-5)
    whole = Objective(model, sites, means, [prompts], "pixel").differentiate(shares, items)
    torch.testing.assert_close(whole[0], losses, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole[1], gradient, rtol=1e-3, atol=1e-6)


def test_a_metric_that_is_not_soft_has_no_gradient(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    hard = replace(small_prompts[1].task, metric=replace(MSE, soft=None))
    prompts = [small_prompts[0], replace(small_prompts[1], task=hard)]
    objective = Objective(_expecting(small_model), small_model.sites("head"), small_means, prompts)
    shares = torch.full((len(objective.sites),), 0.5)
    with pytest.raises(ValueError, match="MSE has no soft form that a gradient could follow: expected the objective"):
        objective.differentiate(shares, torch.arange(2))
    token = Objective(_expecting(small_model), objective.sites, small_means, prompts, "token")
    assert (token.differentiate(shares, torch.arange(2))[1] != 0).any()


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_gradient_by_means_is_the_slope_of_the_mean_loss(
    kind: ObjectiveKind, small_model: MaeVqgan, random_vectors: TaskVectors, small_prompts: list[Prompts]
) -> None:
    """Of the patched positions alone, in a stack that has some and in one that has none."""
    model, patch = _expecting(small_model, 104.0), random_vectors.patch
    objective = Objective(model, patch.sites, patch.means, small_prompts[:1], kind, rows=4)
    items, step = torch.arange(6), 5e-2
    other = patch.means.map(lambda mean: mean + 0.1)
    losses, gradients = objective.differentiate_means(other, items)
    direction = {stack: gradient.sign() for stack, gradient in gradients.items()}  # along which it is largest

    def mean_loss(step: float) -> Tensor:
        moved = Means({stack: mean + step * direction[stack] for stack, mean in other.items()}, other.model)
        return objective.differentiate_means(moved, items)[0].double().mean()

    for stack, mean in other.items():
        assert gradients[stack].shape == mean.shape
        assert torch.equal(gradients[stack] != 0, mean.isfinite())
    assert other["decoder"].isnan().all()  # the sites are of the encoder
    along = sum(float(gradient.double().abs().sum()) for gradient in gradients.values())
    assert float(mean_loss(step) - mean_loss(-step)) / (2 * step) == pytest.approx(along, rel=5e-2)
    if kind == "token":
        patched = Objective(model, patch.sites, other, small_prompts[:1], kind)
        torch.testing.assert_close(patched(torch.ones(6, 1).bool(), items), losses, rtol=1e-5, atol=1e-5)
