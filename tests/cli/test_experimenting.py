import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from taskvec import evaluation
from taskvec.cli import main
from taskvec.data import DataSet, load_data
from taskvec.data.examples import tasks_of
from taskvec.experiments import protocol, read
from taskvec.models.interface import PromptedModel
from taskvec.prompts import Prompts


@pytest.fixture(scope="module", autouse=True)
def few_scenes_and_tasks() -> Iterator[None]:
    """How tens of thousands of scenes are parted takes longer than all else of a small search. Each task costs a search
    a seed, and there is nothing here that differs between them."""

    def load(name: str, split: str, **given: Any) -> DataSet:
        return load_data(name, split, **({"count": 480} if name == "scenes" else {}), **given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(protocol, "load_data", load)
        patched.setattr(protocol, "tasks_of", lambda data: tasks_of(data)[:2])
        yield


@pytest.fixture(scope="module")
def model(small_directory: Path) -> str:
    return str(small_directory)


def test_an_experiment_writes_its_table_and_its_cells(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails is named and does not stop the rest, and the next run computes that alone."""
    out = tmp_path / "out"
    run = ["experiment", "table-9", "--model", model, "--quick", "--pairs", "4", "--out", str(out)]

    def broken(model: PromptedModel, method: evaluation.Method, prompts: Prompts) -> Any:
        if prompts.task.name == "low_light":
            raise ValueError("the lamp is broken")
        return scores(model, method, prompts)

    scores = evaluation.scores
    monkeypatch.setattr(evaluation, "scores", broken)
    assert main(run) == 1
    said = capsys.readouterr()
    assert (
        "3 cells failed: one_shot at low_light, seed 0: the lamp is broken; vectors at low_light, seed 0:" in said.err
    )
    assert said.out == ""
    kept = cells_in(out)
    assert main(["experiment", "status", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"{len(kept)} cells done, 0 running, 3 failed\n" in told
    assert "failed   one_shot_vectors at low_light, seed 0: the lamp is broken" in told
    assert not (out / "tables").exists()

    monkeypatch.setattr(evaluation, "scores", scores)
    assert main(run) == 0
    assert "one-shot prompt + task vectors" in capsys.readouterr().out
    assert (out / "tables" / "table-9.md").is_file()
    whole = cells_in(out)
    assert len(whole) == len(kept) + 3
    assert {name: whole[name] for name in kept} == kept
    log = (out / "log.jsonl").read_text()
    assert [json.loads(line).get("state") for line in log.splitlines()].count("done") == len(whole)
    assert json.loads((out / "run.json").read_text())["protocol"]["preset"] == "best"
    assert main(run) == 0
    assert (out / "log.jsonl").read_text() == log  # nothing was computed again
    capsys.readouterr()
    assert main(["experiment", "status", str(out), "--json", str(tmp_path / "status.json")]) == 0
    assert capsys.readouterr().out == f"{out}: {len(whole)} cells done, 0 running, 0 failed\n"
    assert json.loads((tmp_path / "status.json").read_text())["done"] == len(whole)


def cells_in(out: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (out / "cells").glob("*.json")}


def test_a_study_as_a_data_frame(study: str) -> None:
    pytest.importorskip("pandas")
    frame = read(study)
    assert set(frame["cell"]) == {"statistics", "search", "decoding", "scores"}
    scores = frame[frame["cell"] == "scores"]
    assert set(scores["method"]) == {"one_shot", "vectors", "one_shot_vectors"}
    assert set(scores["task"]) == {"segmentation", "low_light"}
    assert scores["mean"].tolist() == [each.mean() for each in scores["scores"]]
    assert len(frame.explode("scores")) == len(frame) + 3 * len(scores)  # four prompts each
    assert set(scores["seed"]) == {0}
    assert all(len(sites) for sites in frame[frame["cell"] == "search"]["sites"])


def test_only_a_study_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "status", str(tmp_path)]) == 1
    assert f"{tmp_path} holds no study: expected the --out of `taskvec experiment`" in capsys.readouterr().err
    with pytest.raises(ValueError, match="holds no study"):
        read(tmp_path)
    assert main(["experiment", "status"]) == 2
    assert "missing argument 'directory'" in capsys.readouterr().err.lower()  # capitals in some versions of typer


def test_a_task_of_the_users_own_is_none_of_the_papers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("input", "output"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        for index in range(10):
            Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "pairs" / side / f"{index}.png")
    options = ["--data", "folder", "--root", str(tmp_path / "pairs"), "--out", str(tmp_path / "out")]
    assert main(["experiment", "table-1", *options]) == 1
    assert "pairs has an output/ and so is a task of its own" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def study(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of a study of Table 9."""
    out = str(tmp_path_factory.mktemp("study") / "out")
    assert main(["experiment", "table-9", "--model", model, "--quick", "--pairs", "4", "--out", out]) == 0
    return out


def test_a_directory_holds_one_study(model: str, study: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model", model, "--quick", "--pairs", "4", "--out", study]
    run = Path(study, "run.json")
    before = run.read_bytes()
    assert main(["experiment", "table-9", *options, "--preset", "paper"]) == 1
    assert "out holds another study, with preset best: expected paper; name another place" in capsys.readouterr().err
    assert run.read_bytes() == before
    run.write_text("[]")
    assert main(["experiment", "table-9", *options]) == 1
    assert "run.json does not say what study it is of" in capsys.readouterr().err
    run.write_bytes(before)


def test_of_more_pairs_it_is_the_same_study(model: str, study: str) -> None:
    cells = cells_in(Path(study))
    options = ["--model", model, "--quick", "--pairs", "5", "--out", study]
    assert main(["experiment", "table-9", *options]) == 0
    more = cells_in(Path(study))
    assert len(more) == len(cells) + 6  # the scores: three methods at two tasks
    assert {name: more[name] for name in cells} == cells


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
        (["table-1", "--engine", "slurm"], "--engine slurm: expected here, processes, ray"),
        (["table-1", "--engine", "processes", "--address", "auto"], "--address auto: only the engine ray has one"),
        (["table-1", "--workers", "2"], "--workers 2: expected --engine processes or ray"),
        (["table-1", "--engine", "ray", "--threads", "2"], "--threads 2: by the engine ray every cell is computed in"),
    ],
)
def test_what_does_not_fit_is_told(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", *options, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
