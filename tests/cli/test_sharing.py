"""Uploads to a hub on this machine, and libraries."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hub_server
from taskvec.cli import main
from taskvec.data.scenes import Scenes
from taskvec.heads import Means
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors


@pytest.fixture(scope="module")
def place(small_model: MaeVqgan, small_means: Means, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, two task vectors of it, and twelve pairs."""
    directory = tmp_path_factory.mktemp("shared")
    small_model.save_pretrained(directory / "model")
    sites = small_model.sites("quadrant")
    means = {stack: mean[0] for stack, mean in small_means.items()}
    for name, chosen in (("first", (0, 5)), ("second", (2, 7))):
        found = TaskVectors.select(small_model, sites, sites.mask(chosen), means, task=name, metric="iou")
        found.save_pretrained(directory / "vectors" / name)
    scenes = Scenes("test").load(np.arange(12), 15)
    for side, images in (("input", scenes.images), ("output", scenes.masks)):
        assert images is not None
        (directory / "pairs" / side).mkdir(parents=True)
        for number, pixels in enumerate(images):
            Image.fromarray(pixels).save(directory / "pairs" / side / f"{number}.png")
    return directory


@pytest.fixture
def logged_in(served: hub_server.Hub, tmp_path: Path) -> hub_server.Hub:
    (tmp_path / "token").write_text(hub_server.ANNA)
    return served


def test_vectors_are_scored_and_pushed(
    place: Path, logged_in: hub_server.Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, model = str(place / "vectors" / "first"), ["--model", str(place / "model")]
    data = ["--root", str(place / "pairs"), "--part", "all"]
    told = ["--json", str(tmp_path / "told.json"), "--licence", "mit", "--revision", "b", "--message", "Hello"]
    assert main(["push", source, "lungs", *model, *data, "--picture", *told]) == 0
    assert capsys.readouterr().out == "hub:anna/lungs@b\n"
    assert json.loads((tmp_path / "told.json").read_text()) == {"repository": "anna/lungs", "revision": "b"}
    pushed = logged_in.repositories["anna/lungs"]
    files = pushed.commits[pushed.branches["b"]]
    assert sorted(files) == ["README.md", "config.json", "examples.png", "vectors.safetensors"]
    assert (pushed.messages, pushed.files) == (["Hello"], {})
    (score,) = json.loads(files["config.json"])["scores"]
    assert (score["data"], score["split"], score["pairs"], list(score["others"])) == (
        "folder",
        "all",
        12,
        ["query_only"],
    )
    assert b"12 pairs, pairs of images of the maker's own, split all" in files["README.md"]
    assert main(["push", source, "plain", *model, "--private"]) == 0
    assert "examples.png" not in logged_in.repositories["anna/plain"].files
    assert logged_in.repositories["anna/plain"].private


def test_a_model_is_pushed(place: Path, logged_in: hub_server.Hub) -> None:
    assert main(["push", str(place / "model"), "anna/model"]) == 0
    assert sorted(logged_in.repositories["anna/model"].files) == ["README.md", "config.json", "model.safetensors"]


def test_what_cannot_be_pushed_is_one_sentence_before_anything_is(
    place: Path, logged_in: hub_server.Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    source, model = str(place / "vectors" / "first"), ["--model", str(place / "model")]
    for given, says in (
        ([source, "x", *model, "--picture"], f"--picture: there is no examples.png in {source}: expected data to make"),
        (
            [str(place / "model"), "x", "--picture"],
            "holds no task vectors, which alone have data, a picture and a model",
        ),
        ([str(place / "nowhere"), "x"], "nowhere is no model: expected one of tiny, small"),
        ([source, "x"], "pass the directory of this model as --model"),
    ):
        assert main(["push", *given]) == 1
        error = capsys.readouterr().err
        assert says in error
        assert len(error.splitlines()) == 1
    assert logged_in.asked == []


def test_libraries_are_listed_and_shown(place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    library, told = str(place / "vectors"), tmp_path / "told.json"
    assert main(["library", "list", library, "--json", str(told)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["first: first", "second: second"]
    assert all(line.endswith(", not scored") for line in lines)
    assert json.loads(told.read_text())["second"]["sites"] == 2
    assert main(["library", "show", library, "second"]) == 0
    assert capsys.readouterr().out.startswith("task: second\n")
    assert main(["library", "show", library, "secnd"]) == 1
    assert "did you mean second? expected one of first, second" in capsys.readouterr().err


def test_the_best_of_a_library_is_told(place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = [str(place / "vectors"), "--root", str(place / "pairs"), "--model", str(place / "model")]
    assert main(["library", "score", *given, "--json", str(tmp_path / "scores.json")]) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("pairs, IoU, higher is better: 12 pairs in 12 independent groups")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [row.split()[0] for row in rows] == list(scores["scores"])
    assert main(["library", "best", *given, "--json", str(tmp_path / "best.json")]) == 0
    best = json.loads((tmp_path / "best.json").read_text())
    assert capsys.readouterr().out.count(str(best["best"])) == 1
    assert best["scores"] == scores["scores"]
    assert main(["library", "best", *given[:3], "--pairs", "5"]) == 1
    assert "none of the task vectors in" in capsys.readouterr().err
