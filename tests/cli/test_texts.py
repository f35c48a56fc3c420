"""The commands on a language model: find, evaluate, search, apply, info, experiment table-8."""

import json
from pathlib import Path

import pytest

from taskvec.cli import main

pytest.importorskip("transformers")

from byte_decoder import byte_decoder

COARSE = ["--set", "prompts=4", "--set", "items=3", "--set", "validation=4", "--set", "search.candidates=1"]
SEARCH = [*COARSE, "--set", "search.items=3", "--steps", "2"]
WORDS = [f"{first}{second}t" for first in "bcdfgh" for second in "aeio"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("model") / "bytes"
    byte_decoder().write(directory)
    return str(directory)


@pytest.fixture(scope="module")
def plural(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("pairs") / "plural.csv"
    path.write_text("".join(f"{word},{word}s\n" for word in WORDS))
    return ["--data", "pairs", "--root", str(path), "--template", "colon", "--shots", "2"]


@pytest.fixture(scope="module")
def found(model: str, plural: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("found") / "plural"
    assert main(["find", "--model", model, *plural, *SEARCH, "--out", str(out), "--queries", "5"]) == 0
    return out


def test_find_judges_and_reports(found: Path) -> None:
    """The answers stand in the report as texts; pictures there are none."""
    results = json.loads((found / "results.json").read_text())
    assert results["tasks"]["plural"].keys() >= {"one_shot", "query_only", "task_vectors", "random"}
    assert "copy_input" not in results["tasks"]["plural"]
    assert results["data"]["found on"]["shots"] == 2
    page = (found / "report.html").read_text()
    for told in ("Task vectors of a language model", "2-shot", "<pre", "bot:"):
        assert told in page
    assert "canvas" not in page
    assert not (found / "examples.png").exists()
    assert not (found / "pairs.png").exists()
    lines = [json.loads(line) for line in (found / "pairs.jsonl").read_text().splitlines()]
    assert len(lines) == 5
    assert " -> " in lines[0]["query"]


def test_prompts_with_fewer_examples_than_asked_for_are_told(
    model: str, plural: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shots = ["--shots", "8"]
    assert main(["find", "--model", model, *plural, *shots, *SEARCH, "--out", str(tmp_path / "v")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "prompts behind the means" not in said
    assert "prompts that judge have 4 of the 8 examples of --shots: there are no more pairs" in said
    assert main(["evaluate", "--model", model, *plural, *shots, "--method", "one_shot"]) == 0
    assert "prompts have 4 of the 8 examples of --shots" in " ".join(capsys.readouterr().err.split())


def test_evaluate_tells_answers_and_truths(
    model: str, plural: list[str], found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ["evaluate", "--model", model, *plural, "--pairs", "4", "--json", str(tmp_path / "e.json")]
    assert main([*evaluate, "--method", f"vectors:{found}", "--against", "one_shot", "--answers", "whole"]) == 0
    said = capsys.readouterr()
    assert "4 prompts over 4 texts" in said.out
    assert "is decoded as" not in said.err
    lines = [json.loads(line) for line in (tmp_path / "e.pairs.jsonl").read_text().splitlines()]
    assert [line["truth"] for line in lines] == [f"{line['query'].split(' -> ')[1]}" for line in lines]
    assert all(len(line["answer"]) > 0 for line in lines)
    assert not (tmp_path / "e.examples.png").exists()
    assert json.loads((tmp_path / "e.json").read_text())["answers"] == "whole"
    assert main([*evaluate, "--method", "one_shot", "--decoding", "expected"]) == 1
    assert "--decoding expected: a language model answers with its likeliest tokens" in " ".join(
        capsys.readouterr().err.split()
    )
    assert main([*evaluate, "--method", "one_shot"]) == 0
    assert "scored is the first token of an answer: of 4 different answers, 4 have several tokens" in " ".join(
        capsys.readouterr().err.split()
    )


def test_another_template_than_that_of_the_vectors_is_told(
    model: str, plural: list[str], found: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ["evaluate", "--model", model, *plural, "--pairs", "4", "--method", f"vectors:{found}"]
    assert main(evaluate) == 0
    assert "is for the template" not in capsys.readouterr().err
    assert main([*evaluate, "--template", "{input} -> {output}"]) == 0
    assert r"is for the template '{input}:{output}\n', prompts have '{input} -> {output}\n'" in " ".join(
        capsys.readouterr().err.replace("\n", " ").split()
    )


def test_apply_answers_texts(model: str, found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apply = ["apply", str(found), "--model", model]
    assert main([*apply, "--text", "bat", "--text", "hot", "--generate", "3"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" -> ")[0] for line in said] == ["bat", "hot"]
    file = tmp_path / "inputs.txt"
    file.write_text("bat\n\n hot \n", encoding="utf-8-sig")
    assert main([*apply, str(file), "--out", str(tmp_path / "answers"), "--generate", "3"]) == 0
    assert capsys.readouterr().out.splitlines() == said
    lines = [json.loads(line) for line in (tmp_path / "answers" / "answers.jsonl").read_text().splitlines()]
    assert [f"{line['input']} -> {line['answer']}" for line in lines] == said
    assert main([*apply, str(file), "--out", str(tmp_path / "answers")]) == 1
    assert "answers.jsonl exists" in capsys.readouterr().err


def test_inputs_are_no_tables_and_not_empty(
    model: str, plural: list[str], found: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    apply = ["apply", str(found), "--model", model]
    assert main([*apply, "--text", "bat", "--text", " "]) == 1
    assert "--text ' ' is empty: expected an input" in " ".join(capsys.readouterr().err.split())
    table = plural[plural.index("--root") + 1]
    assert main([*apply, table]) == 1
    assert "is a table by its name: expected a text file" in " ".join(capsys.readouterr().err.split())
    assert main([*apply, "--text", "bat", "--recursive"]) == 1
    assert "--recursive is about images: these task vectors are of texts" in " ".join(capsys.readouterr().err.split())
    assert main([*apply, "--text", "bat", "--generate", "3"]) == 0
    said = capsys.readouterr().out
    assert main([*apply, "--text", " bat ", "--generate", "3"]) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"\n \n", "has no inputs: expected one in each line"), (b"caf\xe9\n", "is no text in UTF-8")],
)
def test_a_file_without_inputs_is_refused(
    content: bytes, told: str, model: str, found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "inputs.txt"
    file.write_bytes(content)
    assert main(["apply", str(found), str(file), "--model", model]) == 1
    said = capsys.readouterr().err
    assert str(file) in said.replace("\n", "")
    assert told in " ".join(said.split())


def test_values_at_the_heads_are_refined(
    model: str, plural: list[str], found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the model's own loss: whether an answer is right has no gradient."""
    refine = ["refine", str(found), "--model", model, *plural, "--steps", "3", "--out", str(tmp_path / "refined")]
    assert main(refine) == 0
    record = json.loads((tmp_path / "refined" / "config.json").read_text())["found"]["refinement"]
    assert record["settings"]["objective"] == "token"
    assert len(record["history"]) == 3
    assert main([*refine, "--overwrite", "--objective", "pixel"]) == 1
    assert "top-1 has no soft form that a gradient could follow" in " ".join(capsys.readouterr().err.split())


def test_one_search_finds_several_relations(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each task is data of its own."""
    tasks = ["--data", "relations", "--task", "word-first-letter", "--task", "word-uppercase", "--template", "colon"]
    search = ["search", "--model", model, *tasks, "--shots", "2", "--method", "relaxed", *SEARCH]
    assert main([*search, "--out", str(tmp_path / "both")]) == 0
    assert main(["info", str(tmp_path / "both" / "word-uppercase")]) == 0
    assert "sites" in capsys.readouterr().out
    terms = "0.5 * 'word-first-letter' + 0.5 * 'word-uppercase'"
    combine = ["combine", terms, "--vectors", str(tmp_path / "both"), "--out", str(tmp_path / "sum"), "--model", model]
    assert main(combine) == 0
    assert main(["apply", str(tmp_path / "sum"), "--model", model, "--text", "bat", "--generate", "2"]) == 0
    assert main(["collect", "--model", model, *tasks, "--prompts", "3", "--out", str(tmp_path / "s.safetensors")]) == 0


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["find", "--task", "segmentation", "--data", "scenes"], "scenes are images, and the model takes texts"),
        (["experiment", "table-3"], "a language model is studied by table-8 alone"),
        (
            ["experiment", "table-8", "--data", "pascal", "--root", "."],
            "--data pascal: table-8 is on relations or pairs",
        ),
        (["experiment", "table-8", "--data", "scenes"], "--data scenes: table-8 is on relations or pairs"),
        (["experiment", "table-8", "--shots", "1"], "--shots 1: table-8 exchanges the outputs of a prompt's examples"),
        (["experiment", "table-8", "--task", "antonym", "--task", "antonym"], "--task antonym is there twice"),
        (["find", "--data", "relations", "--task", "country-capitol"], "there is no relation 'country-capitol'"),
        (
            ["find", "--data", "relations", "--task", "present-past", "--task", "antonym"],
            "--task present-past --task antonym: expected one task; `taskvec search` finds several at the same sites",
        ),
    ],
)
def test_what_does_not_fit_a_language_model(
    command: list[str], told: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *rest = command
    assert main([name, *rest, "--model", model, "--out", str(tmp_path / "out")]) == 1
    assert told in " ".join(capsys.readouterr().err.split())


def test_texts_do_not_fit_a_model_for_images(
    plural: list[str], found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["find", *plural, "--out", str(tmp_path / "out")]) == 1
    assert "pairs are texts, and the model takes images of 32 pixels" in " ".join(capsys.readouterr().err.split())
    assert main(["evaluate", *plural, "--method", "one_shot", "--answers", "whole"]) == 1
    assert "--answers whole: the model answers with images" in " ".join(capsys.readouterr().err.split())
    assert main(["experiment", "table-8", "--out", str(tmp_path / "out")]) == 1
    assert "table-8 --model tiny: it takes a language model" in " ".join(capsys.readouterr().err.split())


def test_table_8_goes_on_where_it_stopped(
    model: str, plural: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = ["experiment", "table-8", "--quick", "--model", model, *plural, "--pairs", "4"]
    assert main([*experiment, "--out", str(tmp_path / "study")]) == 0
    said = capsys.readouterr().out
    run = json.loads((tmp_path / "study" / "run.json").read_text())
    assert run["protocol"]["settings"]["bfloat16"] is False
    assert main([*experiment, "--bfloat16", "--out", str(tmp_path / "study")]) == 1
    assert "bfloat16" in capsys.readouterr().err
    for row in ("0-shot", "2-shot", "0-shot + CMA", "0-shot + REINFORCE", "0-shot + best"):
        assert f"| {row} |" in said
    assert said.count("| over 2-shot |") == 1  # there are no fewer examples to compare with
    (claim,) = json.loads((tmp_path / "study" / "claims.json").read_text())
    assert (claim["claim"], claim["judgement"]) == ("C13", "cannot be tested here")  # a random model does nothing
    assert {path.name for path in (tmp_path / "study" / "tables").iterdir()} >= {"table-8.md", "table-8-gains.csv"}
    assert (tmp_path / "study" / "figures" / "table-8-layers.png").exists()
    cells = sorted(path.name for path in (tmp_path / "study" / "cells").iterdir())
    assert main([*experiment, "--out", str(tmp_path / "study")]) == 0
    assert sorted(path.name for path in (tmp_path / "study" / "cells").iterdir()) == cells
    assert capsys.readouterr().out == said
