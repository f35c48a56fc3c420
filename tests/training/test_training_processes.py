import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from taskvec.training.recipe import read_recipe, train

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_batches_that_cannot_be_divided_are_refused_at_once(recipe: Path, tmp_path: Path) -> None:
    command = _torchrun(3, recipe, tmp_path / "run")
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode != 0
    assert "cannot be divided evenly among 3 processes" in done.stderr
    assert not (tmp_path / "run").exists()


def test_two_processes_train_as_one(recipe: Path, tmp_path: Path) -> None:
    """The transformer's losses agree closely, where both begin with the same tokenizer."""
    train(read_recipe(recipe), tmp_path / "one", Console(quiet=True))
    (tmp_path / "two").mkdir()
    for name in ("run.json", "tokenizer.jsonl", "tokenizer.checkpoint.pt"):
        (tmp_path / "two" / name).write_bytes((tmp_path / "one" / name).read_bytes())
    _train_with_two(recipe, tmp_path / "two")
    one, two = (_lines(tmp_path / name / "mae.jsonl") for name in ("one", "two"))
    assert [line["step"] for line in one] == [line["step"] for line in two]
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-3)
    assert (tmp_path / "two" / "model" / "model.safetensors").is_file()
    assert not list((tmp_path / "two").rglob("*.tmp"))


def test_two_processes_train_a_tokenizer(recipe: Path, tmp_path: Path) -> None:
    _train_with_two(recipe, tmp_path / "run")
    assert [line["step"] for line in _lines(tmp_path / "run" / "tokenizer.jsonl")] == [6, 6]


def _train_with_two(recipe: Path, directory: Path) -> None:
    command = _torchrun(2, recipe, directory)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the model is in") == 1


def _torchrun(count: int, recipe: Path, directory: Path) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return [*torchrun, "-m", "taskvec", "train", str(recipe), "--out", str(directory)]


def _lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
