import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from forked import commands, together
from taskvec.processes import Processes, joined

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def test_shares_are_the_whole_batch() -> None:
    batch = np.arange(12)
    assert sorted(row for rank in range(3) for row in Processes(rank, 3).share(batch).tolist()) == batch.tolist()
    assert np.array_equal(Processes().share(batch), batch)
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


def _of_two() -> None:
    """What each of two processes checks of what they do together."""
    with joined(torch.device("cpu")) as (processes, _):
        _work(processes)


def _work(processes: Processes) -> None:
    rank = processes.rank
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (5,))]
    for number, parameter in enumerate(parameters):
        parameter.grad = torch.full_like(parameter, 1.0 + 10 * number + 2 * rank)
    processes.average_gradients([*parameters, torch.nn.Parameter(torch.ones(1))])
    assert [parameter.grad.unique().tolist() for parameter in parameters if parameter.grad is not None] == [[2], [12]]
    batch = torch.arange(24).view(6, 2, 2).transpose(1, 2)  # not contiguous
    assert torch.equal(processes.gather(processes.share(batch)), batch)
    own = torch.full((3,), float(rank))
    processes.agree([own])
    assert own.tolist() == [0, 0, 0]
    assert processes.firsts({"step": rank}) == {"step": 0}
    assert processes.mean({"loss": 1.0 + rank}) == {"loss": 1.5}
    assert processes.any(rank == 1)
    assert not processes.any(False)
    processes.wait()


def test_what_two_processes_do_together() -> None:
    assert together(2, _of_two) == [0, 0]


def test_batches_that_cannot_be_divided_are_refused_at_once(
    recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert commands(3, "train", str(recipe), "--out", str(tmp_path / "run")) == [1, 1, 1]
    assert "cannot be divided evenly among 3 processes" in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_processes_train_as_one(finished: Path, recipe: Path, tmp_path: Path) -> None:
    """Started by torchrun. The transformer's losses agree closely, where both begin with the same tokenizer."""
    (tmp_path / "two").mkdir()
    for name in ("run.json", "tokenizer.jsonl", "tokenizer.checkpoint.pt"):
        (tmp_path / "two" / name).write_bytes((finished / name).read_bytes())
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "taskvec", "train", str(recipe), "--out", str(tmp_path / "two")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the model is in") == 1
    one, two = (_lines(run / "mae.jsonl") for run in (finished, tmp_path / "two"))
    assert [line["step"] for line in one] == [line["step"] for line in two]
    assert two[0]["loss"] == pytest.approx(one[0]["loss"], rel=1e-3)
    assert (tmp_path / "two" / "model" / "model.safetensors").is_file()
    assert not list((tmp_path / "two").rglob("*.tmp"))


def test_two_processes_train_a_tokenizer(recipe: Path, tmp_path: Path) -> None:
    assert commands(2, "train", str(recipe), "--out", str(tmp_path / "run")) == [0, 0]
    assert [line["step"] for line in _lines(tmp_path / "run" / "tokenizer.jsonl")] == [6, 6]


def _lines(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
