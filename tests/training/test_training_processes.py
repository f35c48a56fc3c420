import json
from pathlib import Path

import pytest
from rich.console import Console

from forked import forked, outcomes
from taskvec.cli import main
from taskvec.training.recipe import read_recipe, train


def test_batches_that_cannot_be_divided_are_refused_at_once(recipe: Path, tmp_path: Path) -> None:
    refused = forked(3, lambda _: train(read_recipe(recipe), tmp_path / "run", Console(quiet=True)))
    assert [type(each) for each in refused] == [ValueError] * 3
    assert all("cannot be divided evenly among 3 processes" in str(each) for each in refused)
    assert not (tmp_path / "run").exists()


def test_two_processes_train_as_one(
    finished: Path, recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The transformer's losses agree closely, where both begin with the same tokenizer."""
    (tmp_path / "two").mkdir()
    for name in ("run.json", "tokenizer.jsonl", "tokenizer.checkpoint.pt"):
        (tmp_path / "two" / name).write_bytes((finished / name).read_bytes())
    assert outcomes(2, lambda _: main(["train", str(recipe), "--out", str(tmp_path / "two")])) == [0, 0]
    assert capfd.readouterr().err.count("the model is in") == 1
    one, two = (_lines(run / "mae.jsonl") for run in (finished, tmp_path / "two"))
    assert [line["step"] for line in one] == [line["step"] for line in two]
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-3)
    assert (tmp_path / "two" / "model" / "model.safetensors").is_file()
    assert not list((tmp_path / "two").rglob("*.tmp"))


def test_two_processes_train_a_tokenizer(recipe: Path, tmp_path: Path) -> None:
    outcomes(2, lambda _: train(read_recipe(recipe), tmp_path / "run", Console(quiet=True)))
    assert [line["step"] for line in _lines(tmp_path / "run" / "tokenizer.jsonl")] == [6, 6]


def _lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
