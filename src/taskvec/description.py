"""What ``taskvec info`` says of models and task vectors."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskvec.records import TENSORS

if TYPE_CHECKING:
    from taskvec.models.interface import PromptedModel
    from taskvec.provenance import Provenance


def describe_model(model: "PromptedModel") -> dict[str, Any]:
    """Architecture, parameters, operations, sites, fingerprint and licence."""
    from taskvec.sites import GRANULARITIES  # noqa: PLC0415 which imports PyTorch, as all below do

    return {
        **model.describe(),
        "parameters": model.number_of_parameters,
        "gflop": model.gigaflops(),
        "stacks": {name: f"{stack.layers} layers of {stack.heads} heads" for name, stack in model.stacks.items()},
        "sites": {granularity: len(model.sites(granularity)) for granularity in GRANULARITIES},
        "fingerprint": model.fingerprint(),
        "licence": model.licence or "not stated",
    }


def describe_vectors(directory: str | Path) -> dict[str, Any]:
    """Task, sites by stack and region, the model they belong to, and how they were found, without the model."""
    from taskvec.artefacts import read_config  # noqa: PLC0415

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
        "model_type": config.base_model_type or "not recorded",
        "model_fingerprint": config.model_fingerprint,
        "scores": [str(score) for score in config.scores] or "not scored",
        "format": config.format,
        "found": _found(config.found),
    }


def _found(found: "Provenance") -> dict[str, Any]:
    from taskvec.provenance import Combination, Drawn, Former, Search  # noqa: PLC0415

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
