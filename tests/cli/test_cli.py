"""The command as a user runs it; ``main`` is called in this process, and once as an installed command."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

import taskvec
from taskvec import evaluation
from taskvec.answering import Choices, calibrate
from taskvec.artefacts import read_config
from taskvec.cli import main, terminal, vectors
from taskvec.data.scenes import Scenes
from taskvec.models import load_model
from taskvec.models.interface import Decoding
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.presets import PRESETS
from taskvec.progress import COLUMNS
from taskvec.prompts import draw_prompts
from taskvec.report.rendering import duration
from taskvec.statistics import Statistics
from taskvec.tasks import task_named
from taskvec.vectors import TaskVectors

QUICK_SEARCH = [
    "--objective",
    "token",
    "--steps",
    "4",
    "--set",
    "search.masks_per_item=4",
    "--items",
    "4",
    "--validation",
    "8",
]

FEW_OF_ALL = ["prompts=8", "items=4", "validation=8", "temperatures=[1.5]"]
FEW_STEPS = ["search.items=4", "search.candidates=1", "search.checkpoint_every=2"]
FEW = [word for each in (*FEW_OF_ALL, *FEW_STEPS) for word in ("--set", each)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics and task vectors made by the command itself."""
    directory = tmp_path_factory.mktemp("workspace")
    assert main(["collect", "--task", "low_light", "--prompts", "16", "--out", str(directory / "s.safetensors")]) == 0
    search = ["search", "--task", "low_light", "--statistics", str(directory / "s.safetensors"), *QUICK_SEARCH]
    assert main([*search, "--out", str(directory / "vectors"), "--json", str(directory / "search.json")]) == 0
    (directory / "deep").mkdir()
    (directory / "deep" / "config.json").write_text(200_000 * "[")
    return directory


def test_collected_statistics_name_their_model(workspace: Path) -> None:
    statistics = Statistics.load(workspace / "s.safetensors")
    assert statistics.model_fingerprint == load_model("tiny").fingerprint()
    assert {name: task.count for name, task in statistics.tasks.items()} == {"low_light": 16}


def test_statistics_are_never_merged_or_overwritten_silently(workspace: Path, capsys: pytest.CaptureFixture) -> None:
    again = ["collect", "--task", "identity", "--prompts", "2", "--out", str(workspace / "s.safetensors")]
    assert main(again) == 1
    assert "exists: results are never merged; name another place or pass --overwrite" in capsys.readouterr().err
    assert "low_light" in Statistics.load(workspace / "s.safetensors").tasks
    copy = workspace / "copy.safetensors"
    copy.write_bytes((workspace / "s.safetensors").read_bytes())
    assert main([*again[:-1], str(copy), "--overwrite"]) == 0
    assert list(Statistics.load(copy).tasks) == ["identity"]


def test_a_search_leaves_vectors_a_log_and_json(workspace: Path, tiny: MaeVqgan) -> None:
    vectors = TaskVectors.load(workspace / "vectors", tiny)
    log = [json.loads(line) for line in (workspace / "vectors" / "search.jsonl").read_text().splitlines()]
    assert log == list(vectors.search.history)
    assert len(log) == 4
    written = json.loads((workspace / "search.json").read_text())
    assert written["task"] == "low_light"
    assert len(written["sites"]) == len(vectors.sites)


def test_search_by_gradient(workspace: Path, tmp_path: Path) -> None:
    options = ["--task", "low_light", "--statistics", str(workspace / "s.safetensors"), "--validation", "8"]
    assert main(["search", *options, "--method", "relaxed", "--steps", "5", "--out", str(tmp_path / "found")]) == 0
    found = json.loads((tmp_path / "found" / "config.json").read_text())["found"]
    assert (found["method"], found["evaluations"]) == ("relaxed", 5 * 16 * 3)
    assert found["settings"]["objective"] == "token"
    assert len((tmp_path / "found" / "search.jsonl").read_text().splitlines()) == 5


def test_evaluate_prints_and_writes_the_same(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    scores = {}
    for method in ("query_only", "copy_input", f"vectors:{workspace / 'vectors'}"):
        options = ["--task", "low_light", "--pairs", "24", "--json", str(tmp_path / "e.json"), "--seed", "1"]
        assert main(["evaluate", "--method", method, *options]) == 0
        result = json.loads((tmp_path / "e.json").read_text())
        assert f"low_light {method}: MSE {result['mean']:.4f} [" in capsys.readouterr().out
        assert result["low"] <= result["mean"] <= result["high"]
        scores[method.split(":")[0]] = result["mean"]
    assert scores["vectors"] < scores["copy_input"]


def test_a_way_is_compared_with_another_prompt_by_prompt(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["--task", "low_light", "--pairs", "24", "--json", str(tmp_path / "e.json")]
    for method, against, verdict in (
        ("copy_input", "reconstruction", "worse"),
        ("reconstruction", "copy_input", "better"),
    ):
        assert main(["evaluate", "--method", method, "--against", against, *options]) == 0
        told = capsys.readouterr().out.splitlines()[-1]
        assert told.startswith(f"low_light {method} against {against}: gain ")
        assert told.endswith(f": {verdict}")
        compared = json.loads((tmp_path / "e.json").read_text())["against"]
        assert (compared["method"], compared["groups"]) == (against, 24)
        assert compared["low"] < compared["mean"] < compared["high"]
    assert main(["evaluate", "--method", "reconstruction", "--against", "luck", *options]) == 1
    assert "there is no method 'luck'" in capsys.readouterr().err


def test_a_way_is_evaluated_with_the_decoding_that_is_chosen_for_it(
    workspace: Path, tiny: MaeVqgan, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """On training data, as is said; beside task vectors of the likeliest codes, by these; references have none."""
    named, vectors = f"vectors:{workspace / 'vectors'}", TaskVectors.load(workspace / "vectors", tiny)
    options = ["--task", "low_light", "--pairs", "4", "--json", str(tmp_path / "e.json")]
    training = draw_prompts(Scenes("train"), task_named("low_light"), evaluation.TRAINING, tiny.image_size, seed=0)
    judged = draw_prompts(Scenes("test"), task_named("low_light"), 4, tiny.image_size, seed=0)
    ways = {
        "query_only": evaluation.run(tiny, "query_only"),
        named: evaluation.run(tiny, "query_only", vectors.patch),
    }
    chosen = {name: calibrate(way, training, Choices()) for name, way in ways.items()}
    likeliest = dict.fromkeys(ways, Decoding())
    assert vectors.config.decoding == Decoding()
    means = []
    for arguments, expected in (
        (["--against", named], likeliest),
        (["--against", named, "--decoding", "expected"], chosen),
        ([], {"query_only": chosen["query_only"]}),
        (["--decoding", "likeliest"], {"query_only": Decoding()}),
    ):
        assert main(["evaluate", "--method", "query_only", *arguments, *options]) == 0
        told = " ".join(capsys.readouterr().err.split())
        result = json.loads((tmp_path / "e.json").read_text())
        assert result["decodings"] == {name: {"all": asdict(each)} for name, each in expected.items()}
        assert f"query_only is decoded as {expected['query_only']}" in told
        way = ways["query_only"].decoded(expected["query_only"])
        assert result["mean"] == pytest.approx(evaluation.scores(tiny, way, judged).mean())
        means.append(result["mean"])
    assert means[0] == means[3] != means[1] == means[2]
    assert main(["evaluate", "--method", "copy_input", *options]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["decodings"] == {"copy_input": {"all": None}}
    assert main(["evaluate", "--method", "query_only", "--decoding", "likely", *options]) == 1
    assert "--decoding likely: " in capsys.readouterr().err


def test_vectors_are_refined_by_the_command(
    workspace: Path, tiny: MaeVqgan, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    refine = ["refine", str(workspace / "vectors"), "--out", str(tmp_path / "better"), "--steps", "2", "--prompts", "8"]
    assert main([*refine, "--data", "scenes", "--json", str(tmp_path / "r.json"), "--seed", "3"]) == 0
    before, better = (TaskVectors.load(place, tiny) for place in (workspace / "vectors", tmp_path / "better"))
    record = better.search.refinement
    assert record is not None
    assert (record.learnt.prompts, record.learnt.draw_seed, len(record.history)) == (8, 3, 2)
    assert record.settings["objective"] == "token"  # of vectors whose likeliest codes are decoded
    assert better.sites == before.sites
    told = capsys.readouterr().err
    assert f"validation loss {record.loss:.4f}, {record.loss_before:.4f} before" in told
    assert json.loads((tmp_path / "r.json").read_text())["found"]["refinement"]["step"] == record.step
    assert main([*refine, "--data", "scenes"]) == 1
    assert "exists: results are never merged" in capsys.readouterr().err
    assert main([*refine, "--data", "scenes", "--overwrite", "--objective", "beauty"]) == 1
    assert "there is no objective 'beauty': expected one of pixel, token" in capsys.readouterr().err


def test_strong_prompts_are_ways_by_name(capsys: pytest.CaptureFixture) -> None:
    options = ["--data", "pictures", "--task", "low_light", "--pairs", "6"]
    assert main(["evaluate", "--method", "one_shot", *options]) == 1
    told = capsys.readouterr().err
    assert (
        "a decoding is chosen on training data, but with --decoding likeliest: pictures have no split 'train'" in told
    )
    options += ["--decoding", "likeliest"]
    for method, against in (("nearest", "one_shot"), ("several:2", "nearest:2"), ("arrangements", "several")):
        assert main(["evaluate", "--method", method, "--against", against, *options]) == 0
        assert f"low_light {method} against {against}: gain " in capsys.readouterr().out
    assert main(["evaluate", "--method", "nearest:0", *options]) == 1
    assert "nearest:0: expected a number of supports from 1 on after nearest:" in capsys.readouterr().err


@pytest.mark.drawn
def test_all_folds_are_evaluated_each_and_together(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for fold in range(4):
        (tmp_path / f"v{fold}").symlink_to(workspace / "vectors")
    options = ["--task", "low_light", "--pairs", "6", "--fold", "all", "--json", str(tmp_path / "e.json")]
    assert main(["evaluate", "--method", f"vectors:{tmp_path}/v{{fold}}", *options]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1].split(", ")[-1] for line in told[:4]] == [f"fold {fold}" for fold in range(4)]
    assert "over pairs, 0." in told[4]
    result = json.loads((tmp_path / "e.json").read_text())
    means = [result["folds"][str(fold)]["mean"] for fold in range(4)]
    assert result["mean"] == pytest.approx(np.mean(means))
    assert result["std_of_folds"] == pytest.approx(np.std(means))
    assert [result["folds"][str(fold)]["prompts"]["fold"] for fold in range(4)] == [0, 1, 2, 3]
    assert len((tmp_path / "e.pairs.jsonl").read_text().splitlines()) == 24
    with Image.open(tmp_path / "e.examples.png") as picture:
        assert picture.height > 6 * 192


def test_a_users_own_task_from_ten_pairs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Brightening, in files of several formats and sizes: find, judge, apply, apply again."""
    scenes = Scenes("test").load(np.arange(10), 48).images
    for name, images in (("input", scenes // 2), ("output", scenes)):
        (tmp_path / "brighten" / name).mkdir(parents=True)
        for index, image in enumerate(images):
            ending = "bmp" if index % 2 and name == "input" else "png"
            Image.fromarray(image).resize((40 + index, 48)).save(tmp_path / "brighten" / name / f"{index}.{ending}")
    root, out = str(tmp_path / "brighten"), tmp_path / "found"
    assert main(["find", "--root", root, "--out", str(out), "--steps", "20"]) == 0
    said = capsys.readouterr()
    assert "metric MSE: the outputs are pictures of many levels" in said.err
    assert said.err.startswith("model tiny, which is for drawn scenes (--model small for photographs)\n")
    assert "The model is tiny, which is for drawn scenes." in (out / "report.html").read_text()
    results = json.loads((out / "results.json").read_text())
    scores = results["tasks"]["brighten"]
    assert (results["pairs"], results["queries"]) == (2, 2)
    took = re.search(r"(.* by the clock, .* of it for statistics and search); look at ", said.out)
    assert took is not None
    assert f"It took {took[1]}." in (out / "report.html").read_text()
    assert took[1].startswith(duration(results["seconds"]))
    assert len((out / "pairs.jsonl").read_text().splitlines()) == 2
    assert scores["task_vectors"]["mean"] < 0.5 * scores["query_only"]["mean"]
    assert "brighten: Too few queries to tell: 2 independent queries were judged, it takes 5 or more." in said.out
    assert scores["judgement"]["headline"] in (out / "report.html").read_text()
    assert sorted(path.name for path in out.iterdir()) == sorted(FOUND)
    config = json.loads((out / "config.json").read_text())
    found = config["found"]
    parts = [set(drawn["images"]) for drawn in (found["statistics"], *found["search"], *found["validation"])]
    assert [len(part) for part in parts] == [4, 2, 2]
    assert len(set.union(*parts)) == 8

    method = ["--method", f"vectors:{out}", "--json", str(tmp_path / "e.json")]
    assert main(["evaluate", "--data", "folder", "--root", root, *method]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["mean"] == pytest.approx(scores["task_vectors"]["mean"])
    assert "that the task vectors were found on" not in capsys.readouterr().err
    assert main(["evaluate", "--data", "folder", "--root", root, "--part", "train", *method]) == 0
    assert "56 of 56 queries are images that the task vectors were found on" in capsys.readouterr().err

    apply = ["apply", str(out), f"{root}/input", "--out", str(tmp_path / "applied")]
    assert main(apply) == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "applied").iterdir()}
    assert sorted(first) == [f"{index}.png" for index in range(10)]
    (tmp_path / "applied" / "3.png").unlink()
    capsys.readouterr()
    assert main(apply) == 0
    assert "9 of 10 results are there already" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (tmp_path / "applied").iterdir()} == first
    assert main(["find", "--root", root, "--out", str(out)]) == 1
    assert "exists: results are never merged" in capsys.readouterr().err


FOUND = (
    "config.json",
    "vectors.safetensors",
    "search.jsonl",
    "report.html",
    "examples.png",
    "results.json",
    "pairs.jsonl",
    "pairs.png",
)


def test_combined_vectors_are_scored_on_a_composed_task(
    workspace: Path, tiny: MaeVqgan, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Means of three tasks at the same sites: added up, scored without and with an example, refused, replaced."""
    found = TaskVectors.load(workspace / "vectors", tiny)
    for task, metric, factor in (("inpainting", "mse", 1), ("segmentation", "iou", 0.5), ("identity", "mse", 1)):
        part = factor * found
        replace(part, config=replace(part.config, task=task, metric=metric, found=None)).save_pretrained(
            tmp_path / task
        )
    expression, out = "inpainting + 2*segmentation - identity", tmp_path / "combined"
    combine = ["combine", expression, "--vectors", str(tmp_path), "--out", str(out), "--json", str(tmp_path / "c.json")]
    assert main(combine) == 0
    said = f"inpainting + 2 * segmentation - identity: {len(found.sites)} of {found.config.of} sites, metric iou: {out}"
    assert capsys.readouterr().err.strip() == said
    combined = TaskVectors.load(out, tiny)
    for stack, mean in found.means.items():
        torch.testing.assert_close(combined.means[stack], mean, equal_nan=True)
    assert json.loads((tmp_path / "c.json").read_text())["found"]["expression"] == expression

    composed = ["--task", "inpainting+segmentation", "--pairs", "6", "--json", str(tmp_path / "e.json")]
    for method in ("one_shot", f"vectors:{out}", f"one_shot+vectors:{out}"):
        assert main(["evaluate", "--method", method, *composed]) == 0
        result = json.loads((tmp_path / "e.json").read_text())
        told = capsys.readouterr()
        assert told.out.startswith(f"inpainting+segmentation {method}: IoU {result['mean']:.4f} [")
        assert "metric" not in told.err
        assert result["folds"]["all"]["prompts"]["sides"] == "hole to mask"
    assert "these task vectors are of inpainting + 2 * segmentation - identity, judged by inpainting+seg" in told.err

    assert main(combine) == 1
    assert "exists: results are never merged" in capsys.readouterr().err
    (out / "report.html").write_text("of the vectors before")
    again = ["-segmentation + identity", "--vectors", str(tmp_path), "--out", str(out), "--overwrite"]
    assert main(["combine", *again, "--metric", "iou"]) == 0
    assert (read_config(out).task, read_config(out).metric) == ("-segmentation + identity", "iou")
    assert not (out / "report.html").exists()


def test_apply_works_on_a_directory_and_on_a_file(workspace: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    scenes = Scenes("test").load(np.arange(3), 40).images
    for name, image in zip(("a.png", "b.jpg", "c.bmp"), scenes, strict=True):
        Image.fromarray(image // 2).save(images / name)
    options = ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "apply.json")]
    assert main(["apply", str(workspace / "vectors"), str(images), *options]) == 0
    results = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in results] == ["a.png", "b.png", "c.png"]
    assert [Image.open(path).size for path in results] == [(40, 40)] * 3
    assert json.loads((tmp_path / "apply.json").read_text())["files"] == [str(path) for path in results]
    assert main(["apply", str(workspace / "vectors"), str(images / "a.png"), "--out", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one" / "a.png").read_bytes() == results[0].read_bytes()


def test_info_of_a_model_and_of_vectors(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["info", "tiny", "--json", str(tmp_path / "info.json")]) == 0
    facts = json.loads((tmp_path / "info.json").read_text())
    assert facts["fingerprint"] == load_model("tiny").fingerprint()
    assert facts["gflop"]["query_only"] < facts["gflop"]["one_shot"]
    assert facts["gflop"]["decode_quadrant"] == pytest.approx(facts["gflop"]["decode_canvas"] / 4)
    capsys.readouterr()
    assert main(["info", str(workspace / "vectors")]) == 0
    assert "task: low_light" in capsys.readouterr().out


def test_info_is_for_people(capsys: pytest.CaptureFixture) -> None:
    assert main(["info", "tiny"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "parameters: 5,093,139" in told
    assert "  encoder: layers 6, width 160, heads 5, mlp ratio 4" in told
    assert not any(character in line for line in told for character in "{}'_")
    facts = {"versions": {"python": "3"}, "shares": [0.5, 2.0], "fast": True, "seed": None, "of": {"a": {"b": [1, 2]}}}
    assert terminal.as_lines(facts).splitlines() == [
        *("versions:", "  python: 3", "shares: 0.5, 2", "fast: yes", "of:", "  a: b (1, 2)"),
    ]


def test_train_follows_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        """
        scenes = 48
        tasks = ["segmentation", "low_light"]
        model = { canvas_size = 16, image_size = 8, patch_size = 4, encoder = { layers = 1, width = 16, heads = 2 },
          decoder = { layers = 1, width = 16, heads = 2 }, vqgan = { codes = 8, code_channels = 4, latent_channels = 8,
          channels = 32, multipliers = [1, 1, 1], residual_blocks = 1, local = true } }
        tokenizer = { steps = 4, autoencoder_steps = 2, batch = 8 }
        mae = { steps = 3, batch = 4 }
        """.replace("\n          ", " ")
    )
    assert main(["train", str(recipe), "--out", str(tmp_path / "run"), "--json", str(tmp_path / "train.json")]) == 0
    assert json.loads((tmp_path / "train.json").read_text())["model"] == str(tmp_path / "run" / "model")
    assert main(["info", str(tmp_path / "run" / "model")]) == 0


# (arguments, exit status, what the one sentence says); W stands for the workspace
BAD_INPUT = [
    (["evaluate", "--task", "juggling", "--method", "one_shot"], 1, "there is no task 'juggling': expected one of"),
    (["evaluate", "--task", "identity", "--method", "luck"], 1, "there is no method 'luck': expected one of one_shot"),
    (["evaluate", "--task", "identity", "--method", "vectors:W"], 1, "holds no task vectors: there is no config.json"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--model", "huge"], 1, "huge is no model: expected"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--model", "W"], 1, "is not a model: there is no"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--data", "imagenet"], 1, "no data set 'imagenet'"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--fold", "9"], 1, "scenes have no fold 9"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--fold", "none"], 1, "--fold none: expected a num"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--part", "dev"], 1, "scenes have no split 'dev'"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--sampling", "odd"], 1, "there is no sampling 'odd'"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--metric", "mse"], 1, "scenes has no metric"),
    (
        ["evaluate", "--task", "identity", "--method", "one_shot", "--json", "W/r"],
        1,
        "expected a name that ends in .json",
    ),
    (["evaluate", "--task", "identity+juggling", "--method", "one_shot"], 1, "there is no task 'identity+juggling'"),
    (
        ["evaluate", "--task", "identity", "--method", "one_shot+vectors:W"],
        1,
        "holds no task vectors: there is no conf",
    ),
    (["combine", "vectors ** 2", "--vectors", "W", "--out", "W/x"], 1, "'vectors ** 2' in the expression is not unde"),
    (["combine", "vectors + absent", "--vectors", "W", "--out", "W/x"], 1, "W/absent holds no task vectors: there is"),
    (["combine", "vectors", "--vectors", "W", "--out", "W/x", "--metric", "ssim"], 1, "there is no metric 'ssim'"),
    (["combine", "vectors", "--vectors", "W"], 2, "Missing option '--out'"),
    (["evaluate", "--method", "one_shot"], 1, "a task is needed (--task): only a folder"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--device", "tpu9"], 1, "--device tpu9: there is no"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--pairs", "0"], 2, "'--pairs'"),
    (["evaluate", "--task", "identity"], 2, "Missing option '--method'"),
    (["search", "--task", "identity", "--out", "W/x", "--objective", "beauty"], 1, "there is no objective 'beauty'"),
    (
        ["search", "--task", "identity", "--out", "W/x", "--set", "search.baseline=mean"],
        1,
        "--set search.baseline=mean: baseline: input should be 'batch' or 'per_item'",
    ),
    (["search", "--task", "identity", "--out", "W/x", "--method", "luck"], 1, "--method luck: there is no such search"),
    (
        ["search", "--task", "identity", "--out", "W/x", "--method", "relaxed", "--set", "search.masks_per_item=4"],
        1,
        "--set search.masks_per_item=4: the search relaxed has no setting 'masks_per_item'",
    ),
    (
        [
            "search",
            "--task",
            "identity",
            "--out",
            "W/x",
            "--method",
            "relaxed",
            "--objective",
            "pixel",
            "--set",
            "decoding=likeliest",
        ],
        1,
        "the relaxed search needs a gradient: the objective is pixel and the decoding likeliest, expected the",
    ),
    (["search", "--task", "identity", "--out", "W/x", "--granularity", "atom"], 1, "there is no granularity 'atom'"),
    (["search", "--task", "identity", "--out", "W/x", "--stack", "cortex"], 1, "there is no stack 'cortex'"),
    (["search", "--task", "identity", "--out", "W/x", "--statistics", "W/absent"], 1, "absent"),
    (["search", "--task", "identity", "--out", "W/x", "--statistics", "W/search.json"], 1, "not a file of statistics"),
    (
        ["search", "--task", "identity", "--out", "W/x", "--statistics", "W/s.safetensors"],
        1,
        "no statistics of identity",
    ),
    (["apply", "W/vectors", "W/absent", "--out", "W/x"], 1, "absent does not exist: expected an image or a directory"),
    (["apply", "W/vectors", "W/search.json", "--out", "W/x"], 1, "search.json is not an image"),
    (["apply", "W/vectors", "W/vectors", "--out", "W/x"], 1, "config.json is not an image: expected an ending"),
    (["apply", "W/absent", "W/search.json", "--out", "W/x"], 1, "absent holds no task vectors"),
    (["train", "W/absent.toml", "--out", "W/x"], 1, "absent.toml is not a readable recipe"),
    (["train", "W/search.json", "--out", "W/x"], 1, "search.json is not a readable recipe"),
    (["search", "--task", "low_light", "--out", "W/vectors"], 1, "exists: results are never merged"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--seed", "-1"], 2, "'--seed'"),
    (["evaluate", "--task", "identity", "--method", "one_shot", "--device", "meta"], 1, "--device meta: there is no"),
    (["search", "--task", "identity", "--out", "W/x", "--stack", "encoder", "--stack", "encoder"], 1, "named twice"),
    (["search", "--task", "identity", "--out", "W/search.json"], 1, "--out W/search.json is a file, expected a dir"),
    (["collect", "--out", "W"], 1, "--out W is a directory, expected a file"),
    (["info", "tiny", "--json", "W"], 1, "--json W is a directory, expected a file"),
    (["info", "tiny", "--json", "/dev/null"], 1, "--json /dev/null is a device, expected a file"),
    (["info", "W/deep"], 1, "W/deep/config.json is nested too deeply"),
    (
        ["search", "--task", "identity", "--out", "W/x", "--statistics", "W/s.safetensors", "--prompts", "9"],
        1,
        "--prompts 9: --statistics has been collected over as many as it was",
    ),
    (["info", "tiny", "--json", "W/search.json/x"], 1, "cannot be written: W/search.json is no directory"),
    (["convert", "--mae", "W/absent", "--out", "W/x"], 1, "absent does not exist"),
    (["convert", "--mae", "W/search.json", "--out", "W/x"], 1, "search.json is text that begins"),
    (["dance"], 2, "No such command 'dance'"),
]


@pytest.mark.parametrize(("arguments", "status", "message"), BAD_INPUT)
def test_bad_input_is_one_sentence(
    arguments: list[str], status: int, message: str, workspace: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = [argument.replace("W", str(workspace)) if "W" in argument else argument for argument in arguments]
    assert main(arguments) == status
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("taskvec: ")
    assert message.replace("W", str(workspace)) in error
    assert "Traceback" not in error
    assert not (workspace / "x").exists() or not any((workspace / "x").iterdir())


def test_vectors_without_their_values_are_no_model(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "config.json").write_bytes((workspace / "vectors" / "config.json").read_bytes())
    assert main(["info", str(tmp_path)]) == 1
    assert "holds no task vectors: there is no vectors.safetensors in it" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == taskvec.__version__


def test_no_arguments_are_a_question(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 0
    usage = capsys.readouterr().out
    assert "Find and use visual task vectors" in usage
    for name in ("train", "collect", "search", "find", "evaluate", "combine", "apply", "demo", "convert", "info"):
        assert name in usage


@pytest.mark.parametrize("command", [["demo"], ["combine", "vectors", "--vectors", "W"]])
def test_results_of_something_else_stay(
    command: list[str], workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "report.html").write_text("of something else")
    arguments = [argument.replace("W", str(workspace)) for argument in command]
    assert main([*arguments, "--out", str(tmp_path)]) == 1
    assert "report.html" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of something else"]


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (TypeError("strange"), 70, "unexpected: TypeError: strange; run it again with --traceback and report it"),
        (KeyError("step"), 70, "unexpected: KeyError: 'step'; run it again with --traceback and report it"),
        (RuntimeError("two\nlines"), 70, "unexpected: RuntimeError: two lines; run it again with --traceback and"),
        (EOFError("ends early"), 70, "unexpected: EOFError: ends early; run it again"),
        (FileNotFoundError(2, "No such file", "there"), 1, "there: No such file"),
        (ValueError("a\x1b[2Jb"), 1, "a\\x1b[2Jb"),
    ],
)
def test_whatever_goes_wrong_is_one_sentence(
    error: Exception, status: int, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("taskvec.records.model_told", fail)
    assert main(["info", "tiny"]) == status
    told = capsys.readouterr().err.strip()  # typer puts an empty line before an EOFError
    assert told.startswith(f"taskvec: {sentence}")
    assert "\n" not in told
    for arguments, variable in (
        (["--traceback", "info", "tiny"], ""),
        (["info", "tiny", "--traceback"], ""),
        (["info", "tiny"], "1"),
    ):
        monkeypatch.setenv("TASKVEC_TRACEBACK", variable)
        with pytest.raises((type(error), typer.Abort)) as raised:
            main(arguments)
        assert error in (raised.value, raised.value.__cause__)  # typer puts an EOFError into one of its own


def test_bad_usage_is_no_traceback(capsys: pytest.CaptureFixture) -> None:
    assert main(["dance", "--traceback"]) == 2
    assert capsys.readouterr().err == "taskvec: No such command 'dance'.\n"


def _start(*arguments: str, **options: Any) -> subprocess.Popen:
    """The command in a process of its own, from when it listens to signals on, at which PyTorch is not imported yet."""
    process = subprocess.Popen(
        [sys.executable, "-m", "taskvec", *arguments], stderr=subprocess.PIPE, text=True, **options
    )
    status = Path(f"/proc/{process.pid}/status")
    if not status.is_file():
        process.kill()
        pytest.skip("this system does not tell who listens to signals")
    while process.poll() is None:
        caught = int(re.findall(r"SigCgt:\s*(\w+)", status.read_text())[0], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            break
        time.sleep(0.001)
    return process


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Commands that are started hear Ctrl-C, also where these tests were started in the background and do not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.3, 0.9])
@pytest.mark.usefixtures("interruptible")
def test_a_signal_at_the_start_is_one_line(seconds: float, number: int, status: int, word: str, tmp_path: Path) -> None:
    """While Python imports, and in the first of the work."""
    with _start("collect", "--prompts", "100000", "--out", str(tmp_path / "s.safetensors")) as process:
        time.sleep(seconds)
        process.send_signal(number)
        _, told = process.communicate()
    assert process.returncode == status
    assert told.splitlines()[-1] == f"taskvec: {word}"
    assert "Traceback" not in told


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As of a command that a shell starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with _start("--version", stdout=subprocess.PIPE) as process:
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (process.returncode, told) == (0, f"{taskvec.__version__}\n")


def test_nobody_reads_what_it_prints() -> None:
    """As with ``| head``: quietly."""
    with _start("info", "tiny", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read()
    assert (process.returncode, told) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_what_it_prints_cannot_be_written() -> None:
    with Path("/dev/full").open("w") as full, _start("--version", stdout=full) as process:
        _, told = process.communicate()
    assert process.returncode == 1
    assert told == "taskvec: standard output cannot be written: No space left on device\n"


def test_control_characters_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """In a name, and in what a table says of a task."""
    assert main(["info", f"{tmp_path}/red\x1b[31m\x07\nline"]) == 1
    assert capsys.readouterr().err.startswith(f"taskvec: {tmp_path}/red\\x1b[31m\\x07 line is no model")
    terminal.say("a\x1b[2J\nb\r")
    assert capsys.readouterr().out == "a\\x1b[2J\nb\\r\n"
    table = Table("task\x1b]0;title\x07")
    table.add_row("a\x9b2J")
    table.add_row(Text.assemble(("0.925\n", "bold"), "0.9\n", "as good"))
    terminal.show(table, 60)
    printed = capsys.readouterr().out
    assert [line.strip("\N{BOX DRAWINGS LIGHT VERTICAL} ") for line in printed.splitlines()][4:7] == [
        "0.925",
        "0.9",
        "as good",
    ]
    assert "task\\x1b]0;" in printed
    assert "a\\x9b2J" in printed
    terminal.console.print("a\x1b[2J\nb")
    with Progress(*COLUMNS, console=terminal.console) as progress:
        progress.add_task("folder\x1b[31m", total=1)
    printed = capsys.readouterr().err
    assert printed.startswith("a\\x1b[2J\\nb\n")
    assert "folder\\x1b" in printed


def test_a_link_to_itself_is_no_place_for_results(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert main(["info", "tiny", "--json", str(tmp_path / "loop")]) == 1
    told = capsys.readouterr()
    assert told.err == f"taskvec: --json {tmp_path}/loop is a link that leads to itself, expected a file\n"
    assert told.out == ""


def test_a_terminated_find_keeps_the_best_sites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """SIGTERM is as Ctrl-C, but for the status."""
    module = importlib.import_module("taskvec.search.selection")
    original, steps = module._candidates, []

    def terminate_after(*arguments: object) -> object:
        steps.append(1)
        if len(steps) == 2:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(module, "_candidates", terminate_after)
    options = ["--data", "scenes", "--task", "identity", "--queries", "2", "--steps", "4", *FEW]
    assert main(["find", *options, "--out", str(tmp_path / "found")]) == 143
    told = capsys.readouterr().err
    assert f"sites, interrupted: {tmp_path / 'found'}" in told
    assert told.splitlines()[-1] == "taskvec: terminated"
    assert json.loads((tmp_path / "found" / "config.json").read_text())["found"]["interrupted"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_interrupted_command_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("taskvec.records.model_told", interrupt)
    assert main(["info", "tiny"]) == 130
    assert capsys.readouterr().err == "taskvec: interrupted\n"


@pytest.fixture
def interrupted_after_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of the second checkpoint of a search."""
    module = importlib.import_module("taskvec.search.selection")
    original, steps = module._candidates, []

    def interrupt_after(*arguments: object) -> object:
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(module, "_candidates", interrupt_after)


@pytest.mark.usefixtures("interrupted_after_a_checkpoint")
def test_an_interrupted_demo_leaves_no_results(tmp_path: Path) -> None:
    """Ctrl-C after a checkpoint keeps a search's best, but a demonstration of half the tasks would mislead."""
    assert main(["demo", "--out", str(tmp_path), "--queries", "2", "--steps", "4", *FEW]) == 130
    assert not (tmp_path / "results.json").exists()
    assert not (tmp_path / "report.html").exists()


def test_the_demo_on_the_pictures_that_ship(tmp_path: Path) -> None:
    """Then on one's own, a directory of images alone: every task but segmentation, which needs masks."""
    options = ["--out", str(tmp_path / "demo"), "--steps", "1", *FEW]
    assert main(["demo", "--data", "pictures", "--queries", "6", *options]) == 0
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert (results["pairs"], results["queries"], len(results["tasks"])) == (6, 6, 5)
    assert results["data"]["found on"]["data"] == "scenes"
    assert results["data"]["judged on"] == {"data": "pictures", "split": "test"}
    assert (tmp_path / "demo" / "vectors" / "segmentation").is_dir()
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for index, image in enumerate(Scenes(count=10).load(np.arange(10), 48).images):
        Image.fromarray(image).save(photographs / f"{index}.png")
    assert main(["demo", "--root", str(photographs), *options]) == 0
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert list(results["tasks"]) == ["low_light", "inpainting", "colorization", "identity"]
    assert (results["pairs"], results["queries"]) == (2, 2)
    assert "folder" in (tmp_path / "demo" / "report.html").read_text()
    assert sorted(path.name for path in (tmp_path / "demo" / "vectors").iterdir()) == sorted(results["tasks"])


def test_find_takes_the_presets_and_a_precision(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["find", "--data", "scenes", "--task", "low_light", "--queries", "5", "--out", str(tmp_path / "found")]
    options += [word for each in FEW_OF_ALL for word in ("--set", each)]
    assert main([*options, "--preset", "papers"]) == 1
    assert "there is no preset 'papers': did you mean paper" in capsys.readouterr().err
    assert main([*options, "--preset", "paper", "--steps", "1", "--seed", "7"]) == 0
    settings = json.loads((tmp_path / "found" / "config.json").read_text())["found"]["settings"]
    assert (settings["objective"], settings["search"]["masks_per_item"], settings["search"]["steps"]) == (
        "pixel",
        32,
        1,
    )
    assert (settings["bfloat16"], settings["seed"]) == (False, 7)
    page = (tmp_path / "found" / "report.html").read_text()
    assert re.search(r"<th scope=\"row\">bfloat16</th><td>no</td>", page)
    # processors that only emulate it take minutes
    asked = vectors._settings("best", None, None, None, 7, None, curve=False, bfloat16=True)
    assert asked == replace(PRESETS["best"], seed=7, bfloat16=True)


@pytest.mark.usefixtures("interrupted_after_a_checkpoint")
def test_an_interrupted_find_keeps_the_best_sites(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["--data", "scenes", "--task", "identity", "--queries", "2", "--steps", "4", *FEW]
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "results.json").write_text("of an earlier run")
    assert main(["find", *options, "--out", str(tmp_path / "found")]) == 1
    assert "results.json exists: results are never merged" in capsys.readouterr().err
    assert main(["find", *options, "--out", str(tmp_path / "found"), "--overwrite"]) == 130
    assert f"sites, interrupted: {tmp_path / 'found'}" in capsys.readouterr().err
    assert json.loads((tmp_path / "found" / "config.json").read_text())["found"]["interrupted"]
    assert not (tmp_path / "found" / "results.json").exists()


def test_names_of_files_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = tmp_path / "a[red]b"
    for name in ("input", "output"):
        (root / name).mkdir(parents=True)
        for index in range(10):
            noise = np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(noise).save(root / name / f"{index}.png")
    (root / "input" / "notes[blue].txt").write_text("nothing")
    assert main(["evaluate", "--data", "folder", "--root", str(root), "--method", "copy_input"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("a[red]b copy_input: MSE 0.0000 (too few to tell)")
    assert "left out, as they are no images: notes[blue].txt" in printed.err


def test_the_installed_command(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("taskvec")
    done = subprocess.run([command, "info", "nowhere"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "taskvec: nowhere is no model: expected one of tiny, small, a directory that holds one, or hub:OWNER/NAME\n"
    )


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["find", "--data", "scenes", "--task", "identity", "--overwrite"], "examples.png/"),
        (["find", "--data", "scenes", "--task", "identity", "--overwrite"], "vectors.safetensors/"),
        (["demo"], "vectors"),
        (["demo"], "overview.png/"),
        (["demo"], "vectors/identity"),
        (["experiment", "table-3"], "cells"),
        (["experiment", "table-3"], "figures"),
        (["experiment", "table-3"], "tables"),
        (["search", "--task", "identity"], "search.safetensors/"),
        (["search", "--task", "identity", "--task", "low_light"], "low_light"),
        (["train", "RECIPE"], "model"),
    ],
)
def test_what_stands_in_the_way_is_told_before_the_work(
    command: list[str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    """A file where a directory will be, or the other way round (with a slash)."""
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    if name.endswith("/"):
        path.mkdir()
    else:
        path.touch()
    work = lambda *_, **__: pytest.fail("work was done")  # noqa: E731
    for place in ("finding.collect", "judging.collect", "statistics.collect", "experiments.running.run"):
        monkeypatch.setattr(f"taskvec.{place}", work, raising=False)
    monkeypatch.setattr("taskvec.training.recipe._read_data", work)
    recipe = str(Path(__file__).parents[2] / "recipes" / "tiny.toml")
    arguments = [recipe if word == "RECIPE" else word for word in command]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    kinds = ("directory", "file") if name.endswith("/") else ("file", "directory")
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"taskvec: {tmp_path}/out/{name.rstrip('/')} is a {kinds[0]}, expected a {kinds[1]}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "PIPE", "--out", "out"],
        ["apply", "VECTORS", "PIPE.png", "--out", "out"],
        ["search", "--task", "low_light", "--statistics", "PIPE", "--out", "out"],
        ["convert", "--mae", "PIPE", "--out", "out"],
    ],
)
def test_pipes_are_not_waited_for(
    arguments: list[str],
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PIPE", "PIPE.png"):
        os.mkfifo(name)
    assert main([str(workspace / "vectors") if word == "VECTORS" else word for word in arguments]) == 1
    assert re.search(r"PIPE(\.png)? is a (pipe or a device|device or a pipe|pipe), expected", capsys.readouterr().err)
