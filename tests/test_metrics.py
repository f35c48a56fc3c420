import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from taskvec import metrics
from taskvec.choices import IMAGE_METRICS, METRICS
from taskvec.metrics import CHANGED, CHROMA, IOU, MSE, TOP1, WHITE, cut, is_white, metric_named
from taskvec.models.mae_vqgan import MaeVqgan, negative_log_likelihood


@pytest.mark.parametrize("run", ["oneshot", "zs/none", "zs/head", "zs/quadrant", "zs/token"])
def test_recorded_scores(run: str, golden: dict[str, Tensor], golden_model: MaeVqgan) -> None:
    view = "one_shot" if run == "oneshot" else "query_only"
    codes = golden[f"{run}/codes"].long()
    images = golden_model.decode(codes, view)
    targets = golden_model.geometry.crop(golden["canvas_u8"], "query_output")
    iou, mse = metrics.intersection_over_union(images, targets), metrics.mean_squared_error(images, targets)
    torch.testing.assert_close(iou, golden[f"{run}/iou"].float(), rtol=0, atol=5e-4)  # a few of 12,321 pixels
    torch.testing.assert_close(mse, golden[f"{run}/mse"].float(), rtol=0, atol=5e-4)
    logits = golden_model.query_output_logits(golden[f"{run}/logits"], view)
    nll = negative_log_likelihood(logits, golden_model.target_codes(golden["canvas_u8"]))
    torch.testing.assert_close(nll, golden[f"{run}/nll"].float(), rtol=0, atol=1e-5)


def test_recorded_images_score_exactly(golden: dict[str, Tensor]) -> None:
    images, targets = (golden[name][:, 113:, 113:] for name in ("oneshot/decoded_u8", "canvas_u8"))
    iou, mse = metrics.intersection_over_union(images, targets), metrics.mean_squared_error(images, targets)
    torch.testing.assert_close(iou, golden["oneshot/iou"].float(), rtol=0, atol=1e-7)
    torch.testing.assert_close(mse, golden["oneshot/mse"].float(), rtol=0, atol=1e-6)


def _images(seed: int, count: int = 3) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, 6, 7, 3), np.uint8))


@given(st.integers(0, 999), st.integers(0, 999))
def test_iou_is_symmetric_bounded_and_perfect_on_itself(a: int, b: int) -> None:
    first, second = _images(a), _images(b)
    forward = metrics.intersection_over_union(first, second)
    assert torch.equal(forward, metrics.intersection_over_union(second, first))
    assert ((forward >= 0) & (forward <= 1)).all()
    assert (metrics.intersection_over_union(first, first) == 1).all()


@given(st.integers(0, 999))
def test_scores_of_a_batch_are_those_of_its_rows(seed: int) -> None:
    first, second = _images(seed), _images(seed + 1)
    for metric in (IOU, MSE):
        rows = [metric.score(first[i : i + 1], second[i : i + 1]) for i in range(3)]
        torch.testing.assert_close(metric.score(first, second), torch.cat(rows))


def test_empty_masks() -> None:
    black, white = torch.zeros(1, 4, 4, 3, dtype=torch.uint8), torch.full((1, 4, 4, 3), 255, dtype=torch.uint8)
    assert metrics.intersection_over_union(black, black) == 1
    assert metrics.intersection_over_union(white, black) == 0
    assert metrics.intersection_over_union(black, white) == 0


def test_white_is_what_is_nearer_to_white() -> None:
    levels = torch.tensor([[127, 128, 127], [127, 128, 128], [0, 255, 127], [0, 255, 128]], dtype=torch.uint8)
    distances = [((levels.double() - target) ** 2).sum(-1) for target in (255, 0)]
    assert torch.equal(metrics.is_white(levels[None, None])[0, 0], distances[0] <= distances[1])


@given(st.integers(0, 99), st.floats(0.5, 255))
def test_white_is_what_the_mean_of_channels_makes_at_least_a_level(seed: int, level: float) -> None:
    images = _images(seed)
    expected = [[[sum(pixel) / 3 >= level for pixel in row] for row in image] for image in images.tolist()]
    assert is_white(images, level).tolist() == expected
    assert torch.equal(is_white(images), is_white(images, WHITE / 2))
    for whole in (128, 1, 255):  # levels at which a pixel may be just as bright
        even = torch.full((1, 1, 1, 3), whole, dtype=torch.uint8)
        assert (bool(is_white(even, whole)), bool(is_white(even, whole + 0.01))) == (True, False)


@given(st.integers(0, 99), st.floats(0.5, 255), st.floats(0.5, 255))
def test_a_cut_is_a_mask_that_stays_as_it_is(seed: int, level: float, other: float) -> None:
    images = _images(seed)
    masks = cut(images, level)
    assert (masks.dtype, masks.shape) == (torch.uint8, images.shape)
    white = is_white(images, level)
    assert torch.equal(masks, torch.where(white, 255, 0).to(torch.uint8)[..., None].expand(-1, -1, -1, 3))
    assert torch.equal(cut(masks, other), masks)
    assert torch.equal(is_white(masks), white)
    assert (is_white(images, max(level, other)) <= is_white(images, min(level, other))).all()


@given(st.integers(0, 99), st.sampled_from([20.0, WHITE / 2, 200.0]), st.booleans())
def test_the_softer_a_mask_the_farther_is_its_overlap(seed: int, level: float, ignoring: bool) -> None:
    """Of steep edges it is the overlap of the mask that is cut, without what is ignored."""
    random = np.random.default_rng(seed)
    images, targets = _images(seed), cut(_images(seed + 1), WHITE / 2)
    ignored = torch.from_numpy(random.random(images.shape[:3]) < 0.3) if ignoring else None
    expected = metrics.intersection_over_union(cut(images, level), targets, ignored)
    pictures = images.double()
    pictures[(pictures.mean(-1) - level).abs() < 0.1] += 1  # not at the level itself
    with pytest.MonkeyPatch.context() as patched:
        far = []
        for steepness in (metrics.STEEPNESS, 1e6):
            patched.setattr(metrics, "STEEPNESS", steepness)
            soft = metrics.soft_intersection_over_union(pictures, targets, ignored, level)
            assert ((soft >= 0) & (soft <= 1)).all()
            far.append((soft - expected).abs().max())
    assert far[0] > far[1]
    assert far[1] < 1e-6


@given(st.integers(0, 99))
def test_soft_scores_have_the_gradient_of_their_slope(seed: int) -> None:
    targets = cut(_images(seed), WHITE / 2)
    generator = torch.Generator().manual_seed(seed)
    pictures = (255 * torch.rand(targets.shape, generator=generator)).requires_grad_()
    direction = torch.randn(targets.shape, generator=generator)
    for metric in IMAGE_METRICS.values():
        assert metric.soft is not None
        ahead, behind = (metric.soft(pictures + step * direction, targets, None, 100.0) for step in (1, -1))
        (gradient,) = torch.autograd.grad(metric.soft(pictures, targets, None, 100.0).sum(), pictures)
        torch.testing.assert_close((gradient * direction).sum(), (ahead - behind).sum() / 2, rtol=1e-2, atol=1e-4)
        assert (gradient != 0).any()


@given(st.integers(0, 99), st.floats(1, 255))
def test_the_soft_error_of_bytes_is_their_error(seed: int, level: float) -> None:
    images, targets = _images(seed), _images(seed + 1)
    soft = metrics.soft_mean_squared_error(images.float(), targets, None, level)
    assert torch.equal(soft, metrics.mean_squared_error(images, targets))


def test_one_level_of_one_channel_is_its_share_of_the_error() -> None:
    black = torch.zeros(1, 1, 1, 3, dtype=torch.uint8)
    changed = black.clone()
    changed[..., 0] = 255
    assert metrics.mean_squared_error(changed, black).item() == pytest.approx(1 / 0.229**2 / 3)


def test_a_loss_is_always_better_when_lower() -> None:
    scores = torch.tensor([0.2, 0.9])
    assert IOU.loss(scores)[1] < IOU.loss(scores)[0]
    assert MSE.loss(scores)[0] < MSE.loss(scores)[1]


@given(st.integers(0, 99))
def test_chroma_ignores_luminance_and_sees_colour(seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = torch.from_numpy(random.integers(40, 200, (2, 4, 4, 3), np.uint8))
    shift = torch.tensor([[[[25]]], [[[0]]]], dtype=torch.uint8)
    assert metrics.chroma_error(targets + shift, targets).max() < 1e-9
    redder = targets + torch.tensor([30, 0, 0], dtype=torch.uint8)
    expected = ((30 / 255) ** 2) * (0.168736**2 + 0.5**2)
    assert metrics.chroma_error(redder, targets).tolist() == pytest.approx([expected] * 2, rel=1e-4)


def test_the_changed_part_alone_counts() -> None:
    truth = torch.full((2, 4, 4, 3), 100, dtype=torch.uint8)
    given_input, answer = truth.clone(), truth.clone()
    given_input[0, :2, :2] = 0
    answer[0, 0, 0] = 151
    answer[0, 3, 3] = 255  # outside of the hole
    errors = metrics.changed_error(answer, truth, inputs=given_input)
    one = metrics.mean_squared_error(answer[:1, :1, :1], truth[:1, :1, :1])
    assert errors.tolist() == pytest.approx([float(one[0]) / 4, float("nan")], nan_ok=True)


def test_an_answer_is_right_if_every_token_of_the_truth_is() -> None:
    truths = torch.tensor([[5, 6, 7], [5, 6, -1], [5, -1, -1]])
    answers = torch.tensor([[[5, 6, 7], [5, 6, 9], [5, 0, 0]], [[5, 6, 8], [5, 7, -1], [4, -1, -1]]])
    assert TOP1.score(answers[0], truths).tolist() == [1.0, 1.0, 1.0]
    assert TOP1.score(answers[1], truths).tolist() == [0.0, 0.0, 0.0]
    assert TOP1.score(answers[1, :, :1], truths[:, :1]).tolist() == [1.0, 1.0, 0.0]


def test_what_follows_from_a_metric() -> None:
    for metric in METRICS.values():
        low, high = 0.25, 0.5
        best = metric.best([low, high])
        assert best == (high if metric.better == "higher" else low)
        assert metric.gain(best, low + high - best) == 0.25
        assert metric.loss(metric.loss(low)) == low
        assert metric_named(metric.name) is metric
    assert (IOU.allowed(0.4), MSE.allowed(0.4)) == (0.02, pytest.approx(0.02))


def test_no_other_module_decides_by_the_name_of_a_metric() -> None:
    root = Path(metrics.__file__).parent
    names = METRICS.keys() | {CHROMA.name, CHANGED.name}
    for path in root.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for node in (node for node in nodes if isinstance(node, ast.Compare)):
            sides = (side for side in (node.left, *node.comparators) if isinstance(side, ast.Constant))
            assert not any(side.value in names for side in sides), f"{path}:{node.lineno}"
