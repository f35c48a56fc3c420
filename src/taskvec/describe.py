"""What ``taskvec info`` says."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from taskvec.canvas import VIEWS
from taskvec.files import read_json
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.provenance import Combination, Drawn, Former, Provenance, Search
from taskvec.sites import GRANULARITIES
from taskvec.vectors import CONFIG, TENSORS, read_config


def describe_model(model: MaeVqgan) -> dict[str, Any]:
    """Architecture, parameters, operations per canvas in GFLOP as torch counts them, fingerprint and licence."""
    parameters = sum(p.numel() for p in model.parameters())
    tokenizer = sum(p.numel() for p in model.vqgan.parameters())
    return {
        "architecture": asdict(model.config),
        "parameters": parameters,
        "parameters_without_tokenizer": parameters - tokenizer,
        "sites": {granularity: len(model.sites(granularity)) for granularity in GRANULARITIES},
        "gflop": gigaflops(model),
        "fingerprint": model.fingerprint(),
        "licence": model.licence or "not stated",
    }


@torch.inference_mode()
def gigaflops(model: MaeVqgan) -> dict[str, float]:
    """GFLOP for one canvas: the transformer in each view, and the decoding of a whole canvas or of one quadrant."""
    size, grid = model.config.canvas_size, model.geometry.grid
    canvas = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=model.device)
    counted = {}
    for view in VIEWS:
        with FlopCounterMode(display=False) as counter:
            model(canvas, view)
        counted[view] = counter.get_total_flops() / 1e9
    for name, side in (("decode_canvas", grid), ("decode_quadrant", grid // 2)):
        with FlopCounterMode(display=False) as counter:
            model.vqgan.decode(torch.zeros(1, side, side, dtype=torch.int64, device=model.device))
        counted[name] = counter.get_total_flops() / 1e9
    return counted


def holds_vectors(directory: str | Path) -> bool:
    """Whether a directory's configuration is that of task vectors, whatever state they are in."""
    try:
        values = read_json(Path(directory) / CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "model_fingerprint" in values


def describe_vectors(directory: str | Path) -> dict[str, Any]:
    """Task, sites by stack and region, the model they belong to, and how they were found, without the model."""
    config = read_config(directory)
    if not (Path(directory) / TENSORS).is_file():
        raise ValueError(f"{directory} holds no task vectors: there is no {TENSORS} in it")
    return {
        "task": config.task,
        "metric": config.metric,
        "granularity": config.granularity,
        "sites": f"{len(config.sites)} of {config.of}",
        "by_stack_and_region": dict(Counter(f"{site.stack} {site.region or 'all'}" for site in config.sites)),
        "model": config.model or "not recorded",
        "model_fingerprint": config.model_fingerprint,
        "format": config.format,
        "found": _found(config.found),
    }


def _found(found: Provenance) -> dict[str, Any]:
    match found:
        case Search():
            told = ("method", "settings", "tasks", "step", "loss", "evaluations", "interrupted", "versions")
            behind = found.statistics.prompts if isinstance(found.statistics, Drawn) else "not recorded"
            return {**{name: getattr(found, name) for name in told}, "prompts": behind}
        case Combination():
            return {"combined": found.expression, "terms": len(found.terms)}
        case Former():
            return {name: value for name, value in found.record.items() if name != "history"}
    return {}
