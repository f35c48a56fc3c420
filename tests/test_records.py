"""What files say without PyTorch is what the things themselves say."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from records import search
from taskvec import digests, records
from taskvec.artefacts import FORMAT
from taskvec.choices import SHIPPED
from taskvec.description import describe_model, describe_vectors
from taskvec.models import load_model
from taskvec.provenance import Combination, Former, Provenance, Term
from taskvec.vectors import TaskVectors


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_told_of_as_it_tells_of_itself(name: str) -> None:
    told, model = records.model_told(name), load_model(name)
    assert told is not None
    facts = describe_model(model)
    assert (list(told), list(map(repr, told.values()))) == (list(facts), list(map(repr, facts.values())))


def test_nothing_is_told_of_other_models_or_damaged_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert records.model_told("large") is None
    shutil.copytree(records.SHIPPED_MODELS / "tiny", tmp_path / "tiny")
    monkeypatch.setattr(records, "SHIPPED_MODELS", tmp_path)
    assert records.model_told("tiny") is not None
    weights = tmp_path / "tiny" / "model.safetensors"
    content = weights.read_bytes()
    for damaged in (content[:-1] + bytes([content[-1] ^ 1]), content[: len(content) // 2], b""):
        weights.write_bytes(damaged)
        assert records.model_told("tiny") is None
    weights.write_bytes(content)
    (tmp_path / "tiny" / "info.json").unlink()
    assert records.model_told("tiny") is None


@pytest.mark.parametrize(
    "found",
    [
        None,
        search(loss=None, tasks=("task", "other")),
        search(statistics=None),
        search(statistics=Former({"prompts": 3})),
        Combination("a + b", (Term(1.0, "a", "mse", "0", None), Term(1.0, "b", "iou", "0", search()))),
        Former({"method": "cma", "history": [1], "more": [1, 2]}),
    ],
)
def test_task_vectors_are_told_of_as_they_tell_of_themselves(
    found: Provenance, random_vectors: TaskVectors, tmp_path: Path
) -> None:
    config = replace(random_vectors.config, found=found)
    TaskVectors(random_vectors.model, config, random_vectors.means).save_pretrained(tmp_path)
    told, facts = records.vectors_told(tmp_path), describe_vectors(tmp_path)
    assert told is not None
    assert (list(told), list(map(repr, told.values()))) == (list(facts), list(map(repr, facts.values())))
    assert FORMAT in records.KNOWN_FORMATS


def _nothing(record: dict[str, Any]) -> None:
    record.clear()


def _another_task(record: dict[str, Any]) -> None:
    record["task"] = "another"


def _later(record: dict[str, Any]) -> None:
    record["format"] = 99
    record["digest"] = digests.of_json({name: value for name, value in record.items() if name != "digest"})


@pytest.mark.parametrize("change", [_nothing, _another_task, _later])
def test_what_is_not_as_it_was_written_is_left_to_who_says_why(
    change: Any, random_vectors: TaskVectors, tmp_path: Path
) -> None:
    random_vectors.save_pretrained(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    change(record)
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert records.vectors_told(tmp_path) is None
    assert records.vectors_told(tmp_path / "nowhere") is None


def test_task_vectors_without_values_are_none(random_vectors: TaskVectors, tmp_path: Path) -> None:
    random_vectors.save_pretrained(tmp_path)
    (tmp_path / "vectors.safetensors").unlink()
    assert records.vectors_told(tmp_path) is None


def test_a_stored_digest_is_that_of_the_tensors() -> None:
    directory = records.SHIPPED_MODELS / "tiny"
    config = json.loads((directory / "config.json").read_text())
    assert digests.of_stored(directory / "model.safetensors", config) == load_model("tiny").fingerprint()
