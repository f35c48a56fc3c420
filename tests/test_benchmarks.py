"""That the benchmarks compare with what they say they do."""

import numpy as np
import pytest
import torch
from torch import Tensor

import evaluation_speed
from taskvec.heads import Means
from taskvec.models.canvas import QUADRANTS
from taskvec.models.interface import Variant
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.objectives import Objective
from taskvec.prompts import Prompts
from taskvec.sites import Granularity
from taskvec.tasks import COLORIZATION, SEGMENTATION, Task


def _recorded_prompts(golden: dict[str, Tensor], model: MaeVqgan, task: Task) -> Prompts:
    """The two recorded canvases as prompts."""
    first, second, third, fourth = (model.geometry.crop(golden["canvas_u8"], each).numpy() for each in QUADRANTS)
    indices, names = np.arange(2), ["0", "1"]
    return Prompts(task, {}, first, second, third, fourth, indices, indices, names, names, names, names, names)


@pytest.mark.parametrize("granularity", ["head", "quadrant", "token"])
@pytest.mark.parametrize(("task", "metric", "sign"), [(SEGMENTATION, "iou", -1), (COLORIZATION, "mse", 1)])
def test_reference_and_exact_losses_are_the_recorded_ones(
    task: Task,
    metric: str,
    sign: int,
    granularity: Granularity,
    golden: dict[str, Tensor],
    golden_model: MaeVqgan,
    golden_means: Means,
) -> None:
    prompts = _recorded_prompts(golden, golden_model, task)
    assert torch.equal(golden_model.geometry.canvases(prompts), golden["canvas_u8"])
    sites = golden_model.sites(granularity)
    masks = golden[f"zs/{granularity}/sample"].bool().expand(2, -1)
    reference = evaluation_speed.reference(golden_model, sites, golden_means, prompts)
    objective = Objective(golden_model.variant(Variant(area="canvas")), sites, golden_means, [prompts])
    expected = sign * golden[f"zs/{granularity}/{metric}"].float()
    for losses in (reference(masks, torch.arange(2)), objective(masks, torch.arange(2))):
        torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-4)
