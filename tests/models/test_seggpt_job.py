"""The whole job with a small random SegGPT: from pairs of images to task vectors that are saved, loaded and applied."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from random_seggpt import network_of
from taskvec import load_data, load_model
from taskvec.cli import main
from taskvec.data.scenes import Scenes
from taskvec.finding import find
from taskvec.models.seggpt import SegGpt
from taskvec.vectors import TaskVectors

pytest.importorskip("transformers")

QUICK = ["--preset", "best", "--items", "4", "--steps", "2", "--validation", "4"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory, and a folder of ten photographs with darker copies."""
    directory = tmp_path_factory.mktemp("seggpt")
    SegGpt(network_of()).write(directory / "model")
    for name, pixels in (("input", lambda image: image), ("output", lambda image: image // 2)):
        (directory / "pairs" / name).mkdir(parents=True)
        for index, image in enumerate(Scenes("test").load(np.arange(10), 40).images):
            Image.fromarray(pixels(image)).save(directory / "pairs" / name / f"{index}.png")
    return directory


def test_ten_pairs_become_vectors_that_do_the_task_to_images(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = str(place / "model"), place / "vectors"
    assert main(["find", "--model", model, "--root", str(place / "pairs"), "--out", str(out), "--steps", "2"]) == 0
    results = json.loads((out / "results.json").read_text())
    scores = results["tasks"]["pairs"]
    assert "reconstruction" not in scores
    assert scores["copy_input"]["mean"] > 0
    assert scores["of"] == 48  # two regions of 24 heads
    assert (out / "report.html").stat().st_size > 10_000
    images = str(place / "pairs" / "input")
    assert main(["apply", str(out), images, "--model", model, "--out", str(place / "done")]) == 0
    vectors = TaskVectors.load(out, load_model(model))
    (score,) = vectors.config.scores  # which the card will say
    assert score.value.mean == pytest.approx(scores["task_vectors"]["mean"])
    assert list(score.others) == ["query_only", "one_shot"]
    image = Image.open(place / "pairs" / "input" / "3.png")
    assert np.array_equal(np.asarray(vectors(image)), np.asarray(Image.open(place / "done" / "3.png")))
    assert vectors(image).size == image.size
    assert main(["apply", str(out), images, "--out", str(place / "other")]) == 1
    assert "pass the directory of this model as --model" in capsys.readouterr().err


def test_every_command_takes_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", str(place / "model")]
    folder = ["--data", "folder", "--root", str(place / "pairs")]
    assert main(["info", str(place / "model")]) == 0
    assert "blank prompt: an image of ImageNet's mean colour" in capsys.readouterr().out
    statistics = str(place / "statistics.safetensors")
    assert main(["collect", *model, *folder, "--prompts", "4", "--out", statistics]) == 0
    out = str(place / "searched")
    assert main(["search", *model, *folder, *QUICK, "--statistics", statistics, "--out", out]) == 0
    for granularity, method in (("token", "relaxed"), ("head", "cma"), ("layer", "reinforce")):
        steps = [] if method == "cma" else ["--steps", "1"]
        options = ["--granularity", granularity, "--method", method, "--prompts", "2", "--items", "2", *steps]
        assert main(["search", *model, *folder, *options, "--out", f"{out}-{method}"]) == 0
    assert main(["combine", "searched * 0.5", "--vectors", str(place), *model, "--out", f"{out}-half"]) == 0
    for method in ("one_shot", "query_only", "copy_input", f"vectors:{out}-half", f"one_shot+vectors:{out}"):
        assert main(["evaluate", *model, *folder, "--method", method]) == 0
    capsys.readouterr()
    assert main(["evaluate", *model, *folder, "--method", "reconstruction"]) == 1
    assert "a model of the type seggpt has no tokenizer: its answers can be any picture" in capsys.readouterr().err
    assert main(["info", out]) == 0
    assert "by stack and region" in capsys.readouterr().out


def test_a_blank_prompt_is_part_of_what_vectors_belong_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(place / "model")
    data = load_data("folder", "train", root=place / "pairs")
    vectors = find(model, data, progress=False)
    vectors.save_pretrained(place / "kept")
    assert torch.equal(
        TaskVectors.load(place / "kept", load_model(place / "model")).means["image"].isnan(),
        vectors.means["image"].isnan(),
    )
    monkeypatch.setattr("taskvec.models.seggpt.BLANK_PROMPT", "a black image")
    with pytest.raises(ValueError, match="these task vectors are of another model"):
        TaskVectors.load(place / "kept", load_model(place / "model"))
