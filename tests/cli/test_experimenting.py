import json
from pathlib import Path

import pytest
from PIL import Image

from taskvec.cli import main
from taskvec.data.examples import tasks_of
from taskvec.experiments import protocol


@pytest.fixture(autouse=True)
def two_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a search a seed, and there is nothing here that differs between them."""
    monkeypatch.setattr(protocol, "tasks_of", lambda data: tasks_of(data)[:2])


@pytest.fixture
def model(small_directory: Path) -> str:
    return str(small_directory)


def test_an_experiment_writes_its_table_and_its_cells(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", model, "--quick", "--pairs", "4", "--seeds", "2", "--out", str(tmp_path / "out")]
    assert main(["experiment", "table-9", *options]) == 0
    assert "one-shot prompt + task vectors" in capsys.readouterr().out
    assert (tmp_path / "out" / "tables" / "table-9.md").is_file()
    cells = list((tmp_path / "out" / "cells").glob("*.json"))
    log = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    assert len(cells) == len(log)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["protocol"]["preset"] == "best"
    assert main(["experiment", "table-9", *options]) == 0
    assert (tmp_path / "out" / "log.jsonl").read_text().splitlines() == log  # nothing was computed again


def test_a_task_of_the_users_own_is_none_of_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("input", "output"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "pairs" / side / f"{index}.png")
    options = ["--data", "folder", "--root", str(tmp_path / "pairs"), "--out", str(tmp_path / "out")]
    assert main(["experiment", "table-1", *options]) == 1
    assert "pairs has an output/ and so is a task of its own" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_directory_holds_one_study(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", model, "--quick", "--pairs", "4", "--out", str(tmp_path / "out")]
    assert main(["experiment", "table-9", *options]) == 0
    before = (tmp_path / "out" / "run.json").read_bytes()
    capsys.readouterr()
    assert main(["experiment", "table-9", *options, "--preset", "paper"]) == 1
    assert "out holds another study, with preset best: expected paper; name another place" in capsys.readouterr().err
    assert (tmp_path / "out" / "run.json").read_bytes() == before
    assert main(["experiment", "table-9", *options, "--pairs", "5"]) == 0  # of more pairs it is the same one
    (tmp_path / "out" / "run.json").write_text("[]")
    assert main(["experiment", "table-9", *options]) == 1
    assert "run.json does not say what study it is of" in capsys.readouterr().err


def test_xrays_are_looked_at_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert main(["experiment", "all", "--xrays", str(tmp_path / "none"), *out]) == 1
    assert "none is not a directory" in capsys.readouterr().err
    assert main(["experiment", "table-9", "--xrays", str(tmp_path), *out]) == 1
    assert "only figure-6 and all are about x-rays" in capsys.readouterr().err
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    assert main(["experiment", "figure-6", "--xrays", str(tmp_path), *out]) == 1
    assert "there is 1 image, expected two or more" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["table-12"], "there is no experiment 'table-12': expected all, curves"),
        (["table-1", "--data", "pictures"], "--data pictures: expected scenes, pascal, folder"),
        (["table-1", "--preset", "fast"], "there is no preset 'fast': expected one of paper, official-code, best"),
        (["table-1", "--data", "scenes", "--root", "there"], "scenes take no root: they are drawn"),
    ],
)
def test_what_does_not_fit_is_told(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", *options, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
