"""What the files of models and task vectors say of them without PyTorch, which takes a second to import.

Nothing is told here of a file that might be damaged: what does not fit its digest is for ``taskvec.artefacts`` and
``taskvec.models`` to read, and to say what is wrong with it.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from taskvec import digests
from taskvec.choices import SHIPPED
from taskvec.files import read_json

CONFIG, TENSORS = "config.json", "vectors.safetensors"  # of task vectors
SHIPPED_MODELS = Path(__file__).with_name("weights")
INFO = "info.json"  # beside a model that ships: what `taskvec info NAME --json` says of it
KNOWN_FORMATS = (3, 4, 5, 6)  # of task vectors, which are those with digests
RENAMED = 6  # the first format that calls the model by base_model_name_or_path
_OF_A_SEARCH = ("method", "settings", "tasks", "step", "loss", "evaluations", "interrupted", "versions")
_NOT_AS_WRITTEN = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


def model_told(name: str) -> dict[str, Any] | None:
    """What ``description.describe_model`` says of a model that ships, as long as its files are those that it was said
    of; None of any other model."""
    if name not in SHIPPED:
        return None
    directory = SHIPPED_MODELS / name
    try:
        facts, config = read_json(directory / INFO), read_json(directory / "config.json")
        fingerprint = digests.of_stored(directory / "model.safetensors", config)
    except _NOT_AS_WRITTEN:
        return None
    return _tuples(facts) if facts["fingerprint"] == fingerprint else None


def vectors_told(directory: Path) -> dict[str, Any] | None:
    """What ``description.describe_vectors`` says of task vectors; None where config.json is not as it was written, or
    is of no format that is known here."""
    try:
        record = read_json(directory / CONFIG)
        if record["format"] not in KNOWN_FORMATS or not is_whole(record) or not (directory / TENSORS).is_file():
            return None
        if record.get("scores") or (record["format"] < RENAMED and "expression" in (record.get("found") or {})):
            return None  # which take what a metric and a sum are called
        regions = (f"{site['stack']} {site['region'] or 'all'}" for site in record["sites"])
        return {
            "task": record["task"],
            "metric": record["metric"],
            "granularity": record["granularity"],
            "sites": f"{len(record['sites'])} of {record['of']}",
            "by_stack_and_region": dict(Counter(regions)),
            "model": model_named(record) or "not recorded",
            "model_type": record.get("base_model_type") or "not recorded",
            "model_fingerprint": record["model_fingerprint"],
            "scores": "not scored",
            "format": record["format"],
            "found": _found(record.get("found") or {}),
        }
    except _NOT_AS_WRITTEN:
        return None


def holds_vectors(directory: str | Path) -> bool:
    """Whether a directory's configuration is that of task vectors, whatever state they are in."""
    try:
        return is_vectors(read_json(Path(directory) / CONFIG))
    except (OSError, ValueError):
        return False


def check_there(directory: Path) -> None:
    """ValueError where a directory has no file by which it could hold task vectors."""
    if not (directory / CONFIG).is_file():
        from taskvec import hub  # noqa: PLC0415 (which takes long to import, and is needed for this sentence alone)

        raise ValueError(f"{directory} holds no task vectors: there is no {CONFIG} in it{hub.hint(directory)}")


def is_vectors(record: Any) -> bool:
    """Whether what a config.json holds is of task vectors, whatever state they are in."""
    return isinstance(record, dict) and "model_fingerprint" in record


def model_named(record: dict[str, Any]) -> str | None:
    """What ``load_model`` takes for the model of task vectors; None where it has no name."""
    if "base_model_name_or_path" not in record:
        return record.get("model")
    name, revision = record["base_model_name_or_path"], record.get("base_model_revision")
    return name if name is None or name in SHIPPED else f"hub:{name}" + (f"@{revision}" if revision else "")


def is_whole(record: dict[str, Any]) -> bool:
    """Whether the record of task vectors has the digest that it states."""
    return record.get("digest") == digests.of_json({name: value for name, value in record.items() if name != "digest"})


def _found(record: dict[str, Any]) -> dict[str, Any]:
    if "method" in record:
        statistics = record["statistics"] or {}
        told = {name: record[name] for name in _OF_A_SEARCH} | {"tasks": tuple(record["tasks"])}
        return {**told, "prompts": statistics.get("prompts", "not recorded")}
    if "expression" in record:
        return {"combined": record["expression"], "terms": len(record["terms"])}
    return {name: value for name, value in record.get("record", {}).items() if name != "history"}


def _tuples(value: Any) -> Any:
    """With tuples for lists, as what was written had them."""
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
