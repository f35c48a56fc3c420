"""The table of commands: what help, errors of usage and completion need, and that they need no more."""

import contextlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from taskvec.cli import main, terminal
from taskvec.cli.commands import COMMANDS, STATUSES, command_named
from taskvec.models import load_model
from taskvec.vectors import TaskVectors

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "pandas", "transformers", "matplotlib", "safetensors", "scipy", "sklearn", "PIL")
# of every command what it says, which modules it has imported, and the status it ends with
ASKED = """
import contextlib, io, json, sys
from taskvec.cli import main
for line in sys.stdin:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        status = main(json.loads(line))
    heavy = [name for name in sys.argv[1:] if name in sys.modules]
    print(json.dumps([status, heavy, errors.getvalue()]), flush=True)
"""


def test_help_and_errors_of_usage_import_nothing_that_takes_long(random_vectors: TaskVectors, tmp_path: Path) -> None:
    random_vectors.save_pretrained(tmp_path / "vectors")
    asked = {
        ("--help",): 0,
        ("--version",): 0,
        ("info", "--help", "--verbose"): 0,
        **{(*name.split(), "--help"): 0 for name in COMMANDS},
        ("apply", "--owt", "x"): 2,
        ("aply",): 2,
        ("find", "--seed", "many"): 2,
        ("search",): 2,
        ("find", "--out", "config.json/under/a/file"): 2,
        ("info", "tiny"): 0,
        ("info", "vectors"): 0,
        ("list",): 0,
    }
    (tmp_path / "config.json").write_text("")
    told = _told(asked, HEAVY, tmp_path)
    wanted = [[status, []] for status in asked.values()]
    wanted[list(asked).index(("find", "--out", "config.json/under/a/file"))][0] = 1
    assert [each[:2] for each in told] == wanted
    assert _names_no_option(told[list(asked).index(("apply", "--owt", "x"))][2], "--owt")


def test_places_and_names_that_there_are_not_are_told_without_pytorch(
    random_vectors: TaskVectors, tmp_path: Path
) -> None:
    random_vectors.save_pretrained(tmp_path / "vectors")
    for place in ("pairs/input", "few/input", "pairs/output", "few/output"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(9 if "few" in place else 12):
            (tmp_path / place / f"{number}.png").touch()
    (tmp_path / "collected").write_text("statistics")
    asked = {
        "find --root nothere --out out": "nothere is not a directory",
        "find --root few --out out": "few/input has 9 images, expected 10 or more",
        "find --root pairs --suffix _mask --out out": "has no partner of the same name",
        "find --root pairs --out vectors": "vectors/config.json exists",
        "find --root pairs --out out --model tinny": "tinny is no model: did you mean tiny?",
        "find --out out": "folder needs root (--root)",
        "find --data pairs --root pairs.csv --out out": "pairs.csv is not there: expected a file of pairs",
        "find --data fodler --root pairs --out out": "there is no data set 'fodler': did you mean folder?",
        "demo --root nothere --out out": "nothere is not a directory",
        "search --data folder --root pairs --out vectors": "vectors/config.json exists",
        "search --data folder --root pairs --root nothere --out out": "nothere is not a directory",
        "collect --out collected": "collected exists",
        "evaluate --data folder --root nothere --method one_shot": "nothere is not a directory",
        "apply nothere pairs/input --out out": "nothere holds no task vectors: there is no config.json in it",
        "apply vectors pairs/input --out out --model tinny": "tinny is no model",
        "refine nothere --root pairs --out out": "nothere holds no task vectors",
        "combine a+b --out vectors": "vectors/config.json exists",
        "library best vectors --root nothere": "nothere is not a directory",
        "convert --out vectors": "vectors exists",
        "example vectors": "vectors exists",
    }
    told = _told([tuple(line.split()) for line in asked], ("torch", "matplotlib", "safetensors"), tmp_path)
    assert [each[:2] for each in told] == [[1, []]] * len(asked)
    for (_, _, sentence), expected in zip(told, asked.values(), strict=True):
        assert expected in sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == ["collected", "few", "pairs", "vectors"]


def _told(asked: Iterable[tuple[str, ...]], heavy: Sequence[str], place: Path) -> list[Any]:
    """Of each command its status, which of the heavy modules were there by then, and what it said."""
    lines = "".join(json.dumps(arguments) + "\n" for arguments in asked)
    command = [sys.executable, "-c", ASKED, *heavy]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, cwd=place, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_a_command_says_of_itself(name: str) -> None:
    command = COMMANDS[name]
    module, _, function = command.place.partition(":")
    documented = inspect.getdoc(getattr(import_module(f"taskvec.cli.{module}"), function))
    assert documented is not None
    assert " ".join(documented.split("\n\n")[0].split()) == command.summary
    for needed in command.loads:
        import_module(f"taskvec.{needed}")


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_command_lines(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options are there, values are of their types, and nothing that is needed is missing."""
    monkeypatch.chdir(tmp_path)
    examples = COMMANDS[name].examples
    assert 1 <= len(examples) <= 3
    parsed = command_named(name)
    for example in examples:
        words = shlex.split(example)
        assert words[: 1 + len(name.split())] == ["taskvec", *name.split()]
        given = words[1 + len(name.split()) :]
        context = parsed.make_context(name, given)
        assert context.args == []
        options = {option for parameter in parsed.params for option in parameter.opts}
        assert {word for word in given if word.startswith("--")} <= options


def test_help_shows_commands_examples_and_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    """In plain characters where no terminal shows it."""
    assert main([]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for name, command in COMMANDS.items():
        assert f" {name} {command.summary.split()[0]}" in told
    for status, meaning in STATUSES.items():
        assert f" {status} {meaning}" in told
    assert "--install-completion" in told
    assert main(["info", "--help"]) == 0
    told = capsys.readouterr().out
    assert "taskvec info vectors/segmentation" in told
    assert "--quiet" in told
    assert "\x1b" not in told


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_colours_are_for_terminals_that_want_them() -> None:
    coloured = []
    for wanted in ({}, {"NO_COLOR": "1"}):
        ours, theirs = os.openpty()
        environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        command = [sys.executable, "-m", "taskvec", "--help"]
        with subprocess.Popen(command, stdout=theirs, env={**environment, "TERM": "xterm", **wanted}) as process:
            os.close(theirs)
            told = b""
            with contextlib.suppress(OSError):  # as a pseudo-terminal ends
                while piece := os.read(ours, 1 << 16):
                    told += piece
        os.close(ours)
        assert process.returncode == 0
        coloured.append(re.search(rb"\x1b\[[0-9;]*3\dm", told) is not None)
    assert coloured == [True, False]


def test_flags_have_no_type_in_help_and_options_for_folders_come_before_rare_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("", *COMMANDS):
        assert main([*name.split(), "--help"]) == 0
        assert "bool" not in capsys.readouterr().out.casefold()
    for name in ("find", "search", "evaluate"):
        assert main([name, "--help"]) == 0
        told = capsys.readouterr().out
        places = [told.index(option) for option in ("--root ", "--input ", "--suffix ", "--levels ", "--device ")]
        assert places == sorted(places)


def test_half_of_a_name_is_told_with_the_commands_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    libraries = "library list, library show, library score, library best"
    of_experiments = "experiment status, or experiment with a name that `taskvec experiment --help` lists"
    for words, told in {
        "library": f"library alone is no command: expected one of {libraries}",
        "library lst": f"there is no command 'library lst': did you mean library list? expected one of {libraries}",
        "experiment": f"experiment alone is no command: expected one of {of_experiments}",
        "experiment stauts --out x": "there is no command 'experiment stauts': did you mean experiment status?",
    }.items():
        assert main(words.split()) == 2
        assert told in capsys.readouterr().err
    assert main(["library", "--help"]) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()] == libraries.split(", ")


def test_a_typo_is_told_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serch"]) == 2
    assert "taskvec: No such command 'serch'. Did you mean 'search'" in capsys.readouterr().err
    assert main(["experiment", "status", "--stts"]) == 2
    assert _names_no_option(capsys.readouterr().err, "--stts")


def _names_no_option(told: str, option: str) -> bool:
    """Some versions of typer and click put a colon before it, others quotes around it."""
    return re.match(rf"taskvec: No such option:? '?{option}\b", told) is not None


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("taskvec ", ["find", "apply", "experiment", "train"]),
        ("taskvec do", ["doctor"]),
        ("taskvec info ", ["tiny", "small"]),
        ("taskvec find --model s", ["small"]),
        ("taskvec search --task in", ["inpainting"]),
        ("taskvec search --preset ", ["paper", "official-code", "best", "language"]),
        ("taskvec search --method re", ["reinforce", "relaxed"]),
        ("taskvec experiment s", ["status"]),
        ("taskvec evaluate --data p", ["pictures", "pascal", "pairs"]),
        ("taskvec apply --form", ["--format"]),
    ],
)
def test_a_shell_completes(
    line: str, completed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TASKVEC_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    assert main(["--help"]) == 0
    words = capsys.readouterr().out.split()
    assert set(completed) <= set(words)
    if line != "taskvec ":
        assert words == completed


def test_bash_gets_a_script_for_its_completion() -> None:
    script = f"""
        taskvec() {{ {shlex.quote(sys.executable)} -m taskvec "$@"; }}
        eval "$(_TASKVEC_COMPLETE=source_bash taskvec)"; complete -p taskvec
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert "-F _taskvec_completion taskvec" in done.stdout


def test_quiet_and_verbose(
    random_vectors: TaskVectors, small_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random_vectors.save_pretrained(tmp_path / "a")
    combine = ["combine", "a + a", "--vectors", str(tmp_path), "--model", str(small_directory)]
    assert main([*combine, "--out", str(tmp_path / "usual")]) == 0
    usual = capsys.readouterr().err
    assert "sites, metric mse" in usual
    assert main([*combine, "--out", str(tmp_path / "quiet"), "--quiet"]) == 0
    assert main(["--quiet", *combine, "--out", str(tmp_path / "quiet too")]) == 0
    assert capsys.readouterr().err == ""
    assert main([*combine, "--out", str(tmp_path / "verbose"), "--verbose"]) == 0
    told = capsys.readouterr().err
    model = rf"^ +\d+\.\d\d s  model {small_directory}, of the type mae_vqgan, from {small_directory}$"
    assert re.search(model, told, re.MULTILINE)
    assert re.search(rf"^ +\d+\.\d\d s  task vectors of task from {tmp_path / 'a'}$", told, re.MULTILINE)
    assert not terminal.console.quiet
    assert main([*combine, "--out", str(tmp_path / "usual"), "--overwrite"]) == 0
    assert len(capsys.readouterr().err.splitlines()) == len(usual.splitlines())  # nothing is left of --verbose
    assert main([*combine, "--out", str(tmp_path / "usual"), "--quiet"]) == 1
    assert "exists: results are never merged" in capsys.readouterr().err
    assert main(["info", "tiny", "--quiet", "--verbose"]) == 1
    assert "--quiet and --verbose: expected one of them" in capsys.readouterr().err


def test_json_on_standard_output_is_all_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "tiny", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["fingerprint"] == load_model("tiny").fingerprint()
    assert main(["list", str(tmp_path), "--json", "-", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["info", "tiny", "--json", str(tmp_path / "tiny.json")]) == 0
    assert "fingerprint: " in capsys.readouterr().out
    assert json.loads((tmp_path / "tiny.json").read_text())["licence"] == "apache-2.0"


def test_two_folders_are_for_search_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    roots = ["--root", "a", "--root", "b"]
    assert main(["find", *roots, "--out", str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "--root a --root b: expected one; `taskvec search` finds the same sites for several folders" in told
    assert main(["search", "--data", "folder", "--root", "a", "--and-root", "b", "--out", str(tmp_path / "out")]) == 1
    assert "taskvec: --and-root is called --root now\n" in capsys.readouterr().err


def test_the_page_of_the_command_line_is_whole() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    table = page.partition("\n## ")[0]
    assert re.findall(r"^\| `taskvec ([a-z ]+)` \|", table, re.MULTILINE) == list(COMMANDS)
    assert re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE) == [
        (str(status), meaning) for status, meaning in STATUSES.items()
    ]
