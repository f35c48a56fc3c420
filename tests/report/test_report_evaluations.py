import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from taskvec.data.scenes import Scenes
from taskvec.evaluation import Evaluation, summarise
from taskvec.metrics import IOU
from taskvec.prompts import Prompts, draw_prompts
from taskvec.report.evaluations import as_line, gain_line, write_evaluations
from taskvec.report.figures import ranked_grid
from taskvec.tasks import COLORIZATION, IDENTITY, SEGMENTATION, Task


def _evaluation(task: Task, scores: list[float], fold: int | None = None) -> Evaluation:
    """Answers of flat colour: 10 times the score's index."""
    prompts = draw_prompts(Scenes("test", fold), task, len(scores), 8, seed=0)
    colours = {name: np.full((8, 8, 3), 10 * index, np.uint8) for index, name in enumerate(prompts.query_names)}

    def method(shown: Prompts) -> torch.Tensor:
        return torch.from_numpy(np.stack([colours[name] for name in shown.query_names]))

    return Evaluation(np.array(scores), prompts=prompts, seconds=2.0, method=method)


def test_a_summary_is_told_in_a_line() -> None:
    folds = [_evaluation(SEGMENTATION, [0.25, 0.75], fold) for fold in (0, 1)]
    line = as_line(summarise(folds), SEGMENTATION)
    assert line.startswith("IoU 0.5000 (too few to tell), std")
    assert "std 0.2887 over pairs, 0.0000 over folds, 4 prompts over 4 images, 1 pairs/s" in line
    assert "over folds" not in as_line(summarise(folds[:1]), SEGMENTATION)
    many = _evaluation(SEGMENTATION, [0.25, 0.75, 0.5, 0.5, 0.5])
    assert as_line(summarise([many]), SEGMENTATION).startswith("IoU 0.5000 [0.2805, 0.7195], std")
    patients = replace(many, prompts=replace(many.prompts, query_groups=list("aabbc")))
    line = as_line(summarise([patients]), SEGMENTATION)
    assert line.startswith("IoU 0.5000 (too few to tell)")
    assert "5 prompts over 5 images, 3 independent groups," in line


def test_what_cannot_be_bounded_is_null_in_json(tmp_path: Path) -> None:
    evaluation = _evaluation(IDENTITY, [0.5])
    summary = summarise([evaluation])
    write_evaluations(tmp_path / "r.json", {"all": evaluation}, summary, {"all": summary}, {}, with_example=False)
    result = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert (result["mean"], result["low"], result["high"], result["groups"]) == (0.5, 0, None, 1)


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ([0.3, 0.4, 0.5, 0.61, 0.7], "gain +0.1020 [+0.0964, +0.1076], margin 0.0200: better"),
        ([0.2, 0.29, 0.4, 0.5, 0.6], "gain -0.0020 [-0.0076, +0.0036], margin 0.0200: not worse"),
        ([0.1, 0.2, 0.3, 0.4, 0.51], "gain -0.0980 [-0.1036, -0.0924], margin 0.0200: worse"),
        ([0.1, 0.4, 0.3, 0.6, 0.6], "gain -0.0000 [-0.1242, +0.1242], margin 0.0200: cannot be told"),
        ([0.9, 0.9, 0.9, 0.9], "gain +0.5500, margin 0.0200: too few to tell"),
    ],
)
def test_a_gain_is_told_with_its_verdict(scores: list[float], told: str) -> None:
    other = _evaluation(SEGMENTATION, [0.2, 0.3, 0.4, 0.5, 0.6][: len(scores)])
    ours = replace(other, scores=np.array(scores))
    line, gain = gain_line(IOU, [ours], [other])
    assert line.startswith(told)
    assert gain.groups == len(scores)


def test_the_second_error_is_told_and_kept(tmp_path: Path) -> None:
    evaluation = replace(_evaluation(COLORIZATION, [0.1, 0.3]), details=np.array([0.02, 0.04]))
    summary = summarise([evaluation])
    assert "over pairs, chroma error 0.0300 (too few to tell)" in as_line(summary, COLORIZATION)
    write_evaluations(tmp_path / "r.json", {"all": evaluation}, summary, {"all": summary}, {}, with_example=False)
    pairs = [json.loads(line) for line in (tmp_path / "r.pairs.jsonl").read_text().splitlines()]
    assert [pair["detail"] for pair in pairs] == [0.02, 0.04]
    assert json.loads((tmp_path / "r.json").read_text())["detail"]["mean"] == pytest.approx(0.03)


def test_three_files_are_written(tmp_path: Path) -> None:
    folds = {str(fold): _evaluation(IDENTITY, [0.1, 0.2, 0.3], fold) for fold in (0, 1)}
    summaries = {name: summarise([each]) for name, each in folds.items()}
    whole = summarise(list(folds.values()))
    write_evaluations(tmp_path / "r.json", folds, whole, summaries, {"task": "identity"}, with_example=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.examples.png", "r.json", "r.pairs.jsonl"]
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["mean"] == pytest.approx(0.2)
    assert result["task"] == "identity"
    assert result["folds"]["1"]["prompts"]["fold"] == 1
    pairs = [json.loads(line) for line in (tmp_path / "r.pairs.jsonl").read_text().splitlines()]
    assert [pair["score"] for pair in pairs] == [0.1, 0.2, 0.3] * 2
    assert [pair["query"] for pair in pairs[3:]] == folds["1"].prompts.query_names
    assert [pair["support"] for pair in pairs[3:]] == folds["1"].prompts.support_names
    assert [pair["fold"] for pair in pairs] == ["0"] * 3 + ["1"] * 3


@pytest.mark.parametrize(("task", "order"), [(SEGMENTATION, [5, 4, 3, 2, 1, 0]), (IDENTITY, [0, 1, 2, 3, 4, 5])])
def test_examples_are_ranked_from_best_to_worst(task: Task, order: list[int], tmp_path: Path) -> None:
    (tmp_path / "grid.png").write_bytes(
        ranked_grid([_evaluation(task, [0, 0.1, 0.2, 0.3, 0.4, 0.5])], with_example=False)
    )
    picture = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    seen = []
    for row in range(6):
        top, left = 88 + row * 202 + 96, 120 + 192 + 44 + 96  # the middle of the answer's tile
        seen.append(int(picture[top, left, 0]) // 10)
    assert seen == order


def test_the_prompts_example_is_shown_to_those_who_saw_it(tmp_path: Path) -> None:
    widths = []
    for with_example in (False, True):
        (tmp_path / "grid.png").write_bytes(ranked_grid([_evaluation(IDENTITY, [0.5])], with_example=with_example))
        widths.append(Image.open(tmp_path / "grid.png").width)
    assert widths[1] - widths[0] == 2 * 192 + 10 + 44
