"""`taskvec search` beyond one task and REINFORCE."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from taskvec.cli import main, searching
from taskvec.data.scenes import Scenes
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors

COARSE = ["--items", "4", "--validation", "4"]


@pytest.fixture(scope="module")
def start(small_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command on the small model, with statistics of all tasks."""
    path, model = str(tmp_path_factory.mktemp("statistics") / "all.safetensors"), ["--model", str(small_directory)]
    assert main(["collect", *model, "--prompts", "8", "--out", path]) == 0
    return ["search", *model, "--statistics", path]


def test_several_tasks_share_their_sites(start: list[str], tmp_path: Path, small_model: MaeVqgan) -> None:
    tasks = ["--task", "segmentation", "--task", "low_light"]
    search = ["--method", "relaxed", "--steps", "3", "--set", "search.candidates=1", *COARSE]
    assert main([*start, *tasks, *search, "--out", str(tmp_path / "multi")]) == 0
    first, second = (TaskVectors.load(tmp_path / "multi" / name, small_model) for name in ("segmentation", "low_light"))
    assert first.sites == second.sites
    assert len((tmp_path / "multi" / "search.jsonl").read_text().splitlines()) == 3


def test_task_vectors_beside_each_other_are_of_one_search(
    start: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search = [*start, "--method", "cma", "--items", "3", "--out", str(tmp_path)]
    tasks = ["--task", "low_light", "--task", "identity"]
    assert main([*search, *tasks, "--task", "inpainting"]) == 0
    before = (tmp_path / "low_light" / "config.json").read_bytes()
    capsys.readouterr()
    assert main([*search, *tasks]) == 1
    assert "low_light/config.json exists: results are never merged" in capsys.readouterr().err
    assert main([*search, *tasks, "--overwrite"]) == 1
    assert "inpainting holds task vectors of another search" in capsys.readouterr().err
    assert (tmp_path / "low_light" / "config.json").read_bytes() == before


def test_the_log_of_a_search_that_was_interrupted_is_whole(
    start: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = [*start, "--task", "low_light", "--out", str(tmp_path), "--overwrite", *COARSE]
    steps = ["--preset", "best", "--steps", "22", "--set", "search.candidates=1"]
    made = searching.search_log

    def interrupted(*arguments: Any, **options: Any) -> object:
        on_step = made(*arguments, **options)

        def stop(record: dict[str, Any]) -> None:
            on_step(record)
            if record["step"] == 21:
                raise KeyboardInterrupt

        return stop

    monkeypatch.setattr(searching, "search_log", interrupted)
    assert main([*search, *steps]) == 130
    assert len((tmp_path / "search.jsonl").read_text().splitlines()) == 21
    monkeypatch.setattr(searching, "search_log", made)
    assert main([*search, *steps]) == 0
    lines = [json.loads(line) for line in (tmp_path / "search.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 23))
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "vectors.safetensors", "search.jsonl"}


def test_greedy_ranks_layers_for_a_composed_task_too(small_directory: Path, tmp_path: Path) -> None:
    search = [
        "search",
        "--model",
        str(small_directory),
        "--method",
        "greedy",
        "--set",
        "search.trials=2",
        "--set",
        "search.layers=1",
        "--objective",
        "token",
        "--prompts",
        "8",
        *COARSE,
    ]
    assert main([*search, "--task", "inpainting+segmentation", "--out", str(tmp_path / "composed")]) == 0


def test_two_folders_in_one_search_add_up(small_directory: Path, tmp_path: Path, small_model: MaeVqgan) -> None:
    scenes = Scenes("test").load(np.arange(40), 32).images
    for task, images, outputs in (
        ("dark", scenes[:20], scenes[:20] // 2),
        ("grey", scenes[20:], scenes[20:] // 3 + 80),
    ):
        for name, pixels in (("input", images), ("output", outputs)):
            (tmp_path / task / name).mkdir(parents=True)
            for index, picture in enumerate(pixels):
                Image.fromarray(picture).save(tmp_path / task / name / f"{index}.png")
    roots = ["--data", "folder", "--root", str(tmp_path / "dark"), "--root", str(tmp_path / "grey")]
    quick = [
        "--metric",
        "mse",
        "--preset",
        "best",
        "--prompts",
        "4",
        "--items",
        "4",
        "--steps",
        "2",
        "--validation",
        "4",
    ]
    model = ["--model", str(small_directory)]
    assert main(["search", *model, *roots, *quick, "--out", str(tmp_path / "both")]) == 0
    dark, grey = (TaskVectors.load(tmp_path / "both" / name, small_model) for name in ("dark", "grey"))
    assert dark.sites == grey.sites
    combine = ["combine", "dark + grey", *model, "--vectors", str(tmp_path / "both"), "--out", str(tmp_path / "sum")]
    assert main(combine) == 0
    assert TaskVectors.load(tmp_path / "sum", small_model).task == "dark + grey"
    for path in (tmp_path / "sum" / "config.json", tmp_path / "both" / "dark" / "config.json"):
        assert str(tmp_path) not in path.read_text()


@pytest.mark.parametrize(
    ("method", "options"),
    [("cma", ["--set", "search.share=0.1"]), ("greedy", ["--set", "search.trials=3", "--set", "search.layers=2"])],
)
def test_the_papers_baselines(
    start: list[str], tmp_path: Path, method: str, options: list[str], small_model: MaeVqgan
) -> None:
    search = [*start, "--method", method, *options, "--task", "low_light"]
    assert main([*search, "--items", "1", "--objective", "token", "--out", str(tmp_path / method)]) == 0
    vectors = TaskVectors.load(tmp_path / method, small_model)
    assert vectors.search.method == method
    if method == "cma":
        assert len(vectors.sites) == round(0.1 * vectors.config.of)


@pytest.mark.parametrize("method", ["attribution", "relaxed", "cma"])
def test_at_most_as_many_sites_as_are_asked_for(
    start: list[str], tmp_path: Path, method: str, small_model: MaeVqgan
) -> None:
    quick = ["--steps", "2", "--set", "search.candidates=1"] if method == "relaxed" else []
    search = [*start, "--method", method, *quick, "--task", "low_light"]
    options = ["--items", "2", "--validation", "4", "--objective", "token", "--at-most", "3"]
    assert main([*search, *options, "--set", "curve=true", "--out", str(tmp_path / method)]) == 0
    vectors = TaskVectors.load(tmp_path / method, small_model)
    assert 1 <= len(vectors.sites) <= 3
    assert vectors.search.settings["at_most"] == 3
    assert [count for count, _ in vectors.search.curve] == [1, 2, 3]


def test_a_preset_is_where_settings_start(start: list[str], tmp_path: Path) -> None:
    search = [
        *start,
        "--preset",
        "official-code",
        "--steps",
        "2",
        "--set",
        "search.masks_per_item=2",
        "--items",
        "1",
        "--validation",
        "2",
    ]
    options = ["--task", "segmentation", "--out", str(tmp_path / "official")]
    assert main([*search, *options]) == 0
    settings = json.loads((tmp_path / "official" / "config.json").read_text())["found"]["settings"]
    assert (settings["area"], settings["sampling"], settings["search"]["final"]) == ("canvas", "official", "sample")
    assert (settings["search"]["steps"], settings["validation"]) == (2, 2)


def test_the_baselines_are_the_papers_whatever_the_preset(start: list[str], tmp_path: Path) -> None:
    """``--preset best --method cma`` is no CMA on tokens, and one seed seeds the search as well."""
    options = ["--task", "low_light", "--preset", "best"]
    methods = {"cma": [], "greedy": ["--set", "search.trials=2"]}
    for method, quick in methods.items():
        out = tmp_path / method
        assert main([*start, *options, "--method", method, *quick, "--seed", "7", "--out", str(out)]) == 0
        found = json.loads((out / "config.json").read_text())["found"]
        assert (found["settings"]["objective"], found["settings"]["items"]) == ("pixel", 10)
        assert found["settings"]["seed"] == 7
        if method == "greedy":  # 17 of 32 of the four layers, in every sweep
            assert (len(found["history"]) - 1) % 2 == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "magic"], "--method magic: there is no such search, expected one of reinforce"),
        (["--method", "cma", "--steps", "3"], "--steps 3: the search cma has no setting 'steps'"),
        (["--preset", "papers"], "there is no preset 'papers': did you mean paper"),
        (
            ["--method", "relaxed", "--objective", "pixel", "--set", "decoding=likeliest"],
            "the objective is pixel and the decoding likeliest, expected the objective token or the decoding expected",
        ),
    ],
)
def test_what_does_not_fit_is_told(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--task", "low_light", *options, "--out", str(tmp_path / "none")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_search_that_could_not_write_its_result_costs_no_step(
    start: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search = [*start, "--task", "low_light", "--preset", "best", "--steps", "3", *COARSE]
    assert main([*search, "--out", str(tmp_path / "whole")]) == 0
    kept = searching.keep

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(searching, "keep", full)
    out = tmp_path / "out"
    assert main([*search, "--out", str(out)]) == 1
    assert (out / "search.safetensors").exists()
    monkeypatch.setattr(searching, "keep", kept)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda *_: pytest.fail("a step was done again"))
    assert main([*search, "--out", str(out)]) == 0
    for name in ("vectors.safetensors", "search.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {path.name for path in out.iterdir()} == {"config.json", "vectors.safetensors", "search.jsonl"}
