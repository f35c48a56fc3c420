import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from taskvec.training.processes import Processes
from taskvec.training.recipe import read_recipe, train


def test_shares_are_the_whole_batch() -> None:
    batch = list(range(12))
    assert sorted(row for rank in range(3) for row in Processes(rank, 3).share(batch)) == batch
    assert Processes().share(batch) == batch
    with pytest.raises(ValueError, match="a batch of 12 cannot be divided evenly among 5 processes"):
        Processes(0, 5).share(batch)


def test_alone_nothing_changes() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    (2 * parameter).sum().backward()
    Processes().average_gradients([parameter])
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [2, 2, 2]
    rows = torch.arange(6).view(3, 2)
    assert Processes().gather(rows) is rows
    assert [Processes().any(flag) for flag in (True, False)] == [True, False]


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
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "taskvec", "train", str(recipe), "--out", str(directory)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


def _lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
