"""The demonstration with fewer steps, prompts and queries than `taskvec demo` takes, on the shipped model."""

import json
from pathlib import Path

import pytest
from PIL import Image

from taskvec.cli import main
from taskvec.report import figures
from taskvec.tasks import TASKS

QUERIES = 20
METHODS = ("one_shot", "several", "query_only", "task_vectors", "random", "copy_input", "constant", "reconstruction")


EVERY_ANSWER = ("one_shot", "several", "query_only", "task_vectors")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo")
    few = ["prompts=32", "items=16", "validation=16", "temperatures=[1.5]", "search.items=8", "search.candidates=5"]
    options = [word for each in few for word in ("--set", each)]
    with pytest.MonkeyPatch.context() as patched:  # pictures are drawn, the fifteen diagrams are not
        patched.setattr(figures, "_svg", lambda figure: '<svg xmlns="http://www.w3.org/2000/svg"/>')
        assert main(["demo", "--out", str(directory), "--queries", str(QUERIES), "--steps", "12", *options]) == 0
    return directory


def test_results(out: Path) -> None:
    results = json.loads((out / "results.json").read_text())
    assert results["tasks"].keys() == TASKS.keys()
    for name, task in results["tasks"].items():
        chosen = {"sites", "of", "harmful_sites", "enough_sites", "curve"}
        told = {"judgement", "task_vectors_against", "decodings", "likeliest"}
        assert task.keys() == {"metric", *METHODS, *chosen, *told}
        assert task["likeliest"].keys() == task["decodings"].keys() == {*EVERY_ANSWER}
        for method, decoding in task["decodings"].items():
            assert (decoding["kind"], decoding["level"] is not None) == ("expected", name == "segmentation")
            worse = task["likeliest"][method]["mean"] < task[method]["mean"]
            assert method == "query_only" or worse == (name == "segmentation")  # than with expected codes
        assert task["metric"] == ("iou" if name == "segmentation" else "mse")
        assert 0 < task["sites"] < task["of"] == 120
        for method in METHODS:
            assert task[method]["low"] <= task[method]["mean"] <= task[method]["high"]
    assert {"seconds", "machine", "versions"} <= results.keys()


@pytest.mark.parametrize("task", [name for name in TASKS if name != "identity"])
def test_task_vectors_beat_no_vectors_and_random_sites(task: str, out: Path) -> None:
    against = json.loads((out / "results.json").read_text())["tasks"][task]["task_vectors_against"]
    assert [against[other]["relation"] for other in ("query_only", "random", "copy_input")] == ["better"] * 3
    assert against["query_only"]["gain"]["groups"] == QUERIES


def test_identity_is_better_copied(out: Path) -> None:
    judgement = json.loads((out / "results.json").read_text())["tasks"]["identity"]["judgement"]
    assert judgement["kind"] == "copying"
    assert judgement["headline"].startswith("Copying the input (0.000) does better than task vectors (MSE 0.")
    assert any(note.startswith("Even the right codes (0.") for note in judgement["notes"])


def test_one_shot_needs_its_example_and_comes_near_the_tokenizer(out: Path) -> None:
    result = json.loads((out / "results.json").read_text())["tasks"]
    assert result["segmentation"]["one_shot"]["mean"] > 0.8
    assert result["low_light"]["one_shot"]["mean"] < 2 * result["low_light"]["reconstruction"]["mean"]
    assert result["low_light"]["query_only"]["mean"] > 2 * result["low_light"]["one_shot"]["mean"]


def test_the_report_is_self_contained(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert all(task.title in page for task in TASKS.values())
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_the_overview_has_a_row_for_every_task(out: Path) -> None:
    with Image.open(out / "overview.png") as picture:
        assert picture.height > 5 * 192
        assert picture.width > 7 * 192


def test_the_vectors_and_logs_are_kept(out: Path) -> None:
    for name in TASKS:
        assert main(["info", str(out / "vectors" / name)]) == 0
        assert len((out / "vectors" / name / "search.jsonl").read_text().splitlines()) == 12
