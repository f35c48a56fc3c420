"""What was recorded of the paper's official code, and how far ours is from it.

    .venv/bin/python tests/recorded.py

prints the largest differences as Markdown tables; the tests hold the same comparison to its tolerances.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from taskvec import metrics
from taskvec.heads import Means, Patch, recording
from taskvec.models.checkpoints import from_official
from taskvec.models.interface import ViewName
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig, negative_log_likelihood
from taskvec.models.pretrained import parse
from taskvec.search.reinforce import advantages, surrogate
from taskvec.sites import Granularity

FIXTURE = Path(__file__).parent / "golden"
GRANULARITIES: tuple[Granularity, ...] = ("head", "quadrant", "token")


def difference(ours: Tensor, recorded: Tensor) -> float:
    """Largest absolute difference."""
    return float((ours.detach().double() - recorded.double()).abs().max())


def load() -> tuple[dict[str, Tensor], MaeVqgan]:
    """The fixture and the model whose weights are in it."""
    golden = load_file(FIXTURE / "golden.safetensors")
    config = parse(MaeVqganConfig, json.loads((FIXTURE / "config.json").read_text()), FIXTURE / "config.json")
    model = MaeVqgan(config)
    prefix = "state_dict/"
    state = {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}
    model.load_state_dict(from_official(state), strict=True)
    return golden, model.eval().requires_grad_(False)


def means(golden: dict[str, Tensor], model: MaeVqgan) -> Means:
    """Means of z over the two recorded canvases in one-shot runs, as a patch takes them."""
    view = model.view("one_shot")
    with recording(model) as recorded:
        model(golden["canvas_u8"], view)
    result: dict[str, Tensor] = {}
    for stack, layers in recorded.items():
        z = torch.stack([layer.mean(0) for layer in layers]).transpose(1, 2)
        result[stack] = torch.full((1, *z.shape[:2], model.geometry.tokens, z.shape[3]), torch.nan)
        result[stack][0][:, :, view.tokens(stack)] = z
    return Means(result, model.fingerprint())


def runs(golden: dict[str, Tensor], model: MaeVqgan) -> dict[str, tuple[Tensor, ViewName]]:
    """Logits of every recorded run, and its view."""
    canvases, own_means = golden["canvas_u8"], means(golden, model)
    logits: dict[str, tuple[Tensor, ViewName]] = {
        "oneshot": (model(canvases, "one_shot"), "one_shot"),
        "zs/none": (model(canvases, "query_only"), "query_only"),
    }
    for granularity in GRANULARITIES:
        mask = golden[f"zs/{granularity}/sample"].bool()[None]
        patch = Patch(model.sites(granularity), mask, own_means)
        logits[f"zs/{granularity}"] = (model(canvases, "query_only", patch), "query_only")
    return logits


def main() -> None:
    golden, model = load()
    truth = model.geometry.crop(golden["canvas_u8"], "query_output")
    print("| run | logits | codes that differ | decoded levels | IoU | MSE | NLL |\n|---|---|---|---|---|---|---|")
    for name, (logits, view) in runs(golden, model).items():
        codes = logits.argmax(-1)
        decoded = model.decode_canvas(codes, view)
        recorded = golden[f"{name}/decoded_u8"]
        images = model.geometry.crop(decoded, "query_output")
        own = model.query_output_logits(logits, view)
        nll = negative_log_likelihood(own, model.target_codes(golden["canvas_u8"]))
        cells = [
            f"{difference(logits, golden[f'{name}/logits']):.1e}",
            str(int((codes != golden[f"{name}/codes"]).sum())),
            f"{difference(decoded if recorded.ndim == 4 else decoded[0], recorded):.0f}",
            f"{difference(metrics.intersection_over_union(images, truth), golden[f'{name}/iou']):.1e}",
            f"{difference(metrics.mean_squared_error(images, truth), golden[f'{name}/mse']):.1e}",
            f"{difference(nll, golden[f'{name}/nll']):.1e}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print("\n| REINFORCE step | surrogate | gradient |\n|---|---|---|")
    for case in ("seg_init", "mse_init", "multi_init", "seg_generic", "multi_generic"):
        start = golden["reinforce/theta_generic"] if case.endswith("generic") else torch.full((48,), -1.0)
        logits = start.clone().requires_grad_()
        tasks = torch.arange(320) % 5 if case.startswith("multi") else None
        weights = advantages(golden[f"reinforce/{case}/losses"], tasks=tasks)
        value = surrogate(logits, golden["reinforce/masks"].bool(), weights)
        (gradient,) = torch.autograd.grad(value, logits)
        differences = (
            difference(v, golden[f"reinforce/{case}/{n}"]) for v, n in ((value, "surrogate"), (gradient, "grad"))
        )
        print(f"| {case} | {' | '.join(f'{each:.1e}' for each in differences)} |")


if __name__ == "__main__":
    main()
