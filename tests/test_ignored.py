"""Pixels whose truth is not known count neither in a score nor in what a search minimises."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from taskvec import evaluation
from taskvec.data.folder import Folder
from taskvec.data.scenes import Scenes
from taskvec.metrics import IOU
from taskvec.models.mae_vqgan import CodeTargets, MaeVqgan, negative_log_likelihood
from taskvec.objectives import Objective
from taskvec.prompts import Prompts, draw_prompts
from taskvec.statistics import collect


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes whose label maps have a void border around the object, as VOC's have."""
    root = tmp_path_factory.mktemp("void") / "borders"
    scenes = Scenes("test").load(np.arange(12), 64)
    assert scenes.masks is not None
    for name in ("input", "output"):
        (root / name).mkdir(parents=True)
    for index, (image, mask) in enumerate(zip(scenes.images, scenes.masks, strict=True)):
        inside = mask > 0
        grown = np.zeros_like(inside)
        for dy in range(-3, 4):
            for dx in range(-3, 4):
                grown |= np.roll(inside, (dy, dx), (0, 1))
        labels = np.where(inside, np.uint8(1), np.where(grown, np.uint8(255), np.uint8(0)))
        Image.fromarray(image).save(root / "input" / f"{index}.png")
        Image.fromarray(labels).save(root / "output" / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def prompts(root: Path) -> Prompts:
    data = Folder(root, "all")
    assert data.own_task is not None
    return draw_prompts(data, data.own_task, 6, 32, seed=0)


def test_the_border_is_neither_object_nor_background(prompts: Prompts) -> None:
    assert prompts.task.metric is IOU
    assert prompts.query_ignored is not None
    assert 0.05 < prompts.query_ignored.mean() < 0.5
    truth = torch.from_numpy(prompts.query_output)
    ignored = torch.from_numpy(prompts.query_ignored)
    whole = torch.where(ignored[..., None], torch.tensor(255, dtype=torch.uint8), truth)  # the border as object
    assert (IOU.score(whole, truth) < 0.95).all()
    torch.testing.assert_close(IOU.score(whole, truth, ignored), torch.ones(6))


def test_an_evaluation_does_not_count_it(tiny: MaeVqgan, prompts: Prompts) -> None:
    assert prompts.query_ignored is not None
    answer = torch.from_numpy(np.where(prompts.query_ignored[..., None], np.uint8(255), prompts.query_output))
    result = evaluation.evaluate(tiny, lambda batch: answer[: len(batch)], prompts)
    assert result.scores.tolist() == [1.0] * 6
    rows = prompts.take(np.array([2, 0]))
    assert rows.query_ignored is not None
    assert np.array_equal(rows.query_ignored, prompts.query_ignored[[2, 0]])
    assert prompts[:2].query_ignored is not None


@pytest.mark.parametrize("kind", ["pixel", "token"])
def test_a_search_does_not_count_it(tiny: MaeVqgan, prompts: Prompts, kind: str) -> None:
    """What the truth says where it is ignored changes no loss."""
    assert prompts.query_ignored is not None
    sites = tiny.sites("quadrant")
    means = collect(tiny, [prompts]).means(["borders"])
    losses = Objective(tiny, sites, means, [prompts], kind)  # pyright: ignore[reportArgumentType]
    masks, items = sites.sample(rows=6, share=0.2), torch.arange(6)
    first = losses(masks, items)
    counted = tiny.targets(prompts).counted
    assert counted is not None
    assert counted.shape == (6, 16)
    assert ((counted > 0) & (counted < 1)).any()
    rest = 1 - torch.from_numpy(prompts.query_ignored).float().mean((1, 2))
    torch.testing.assert_close(counted.mean(1), rest)
    if kind == "pixel":
        everywhere = torch.from_numpy(prompts.query_ignored)[..., None]
        losses._targets = torch.where(everywhere, 255 - losses._targets, losses._targets)
        torch.testing.assert_close(losses(masks, items), first)
    else:
        codes = losses._targets.codes
        losses._targets = CodeTargets(torch.where(counted > 0, codes, (codes + 1) % 1024), counted)
        torch.testing.assert_close(losses(masks, items), first)


def test_without_anything_ignored_nothing_changes(tiny: MaeVqgan) -> None:
    logits, codes = torch.randn(2, 16, 9, generator=torch.Generator().manual_seed(0)), torch.arange(32).view(2, 16) % 9
    torch.testing.assert_close(
        negative_log_likelihood(logits, codes, torch.ones(2, 16)),
        negative_log_likelihood(logits, codes),
    )
