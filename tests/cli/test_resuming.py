"""Commands that are stopped in the middle, and given again."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from taskvec.cli import main


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with a state."""
    for module in ("statistics", "evaluation"):
        monkeypatch.setattr(f"taskvec.{module}.BATCH", 2)
    monkeypatch.setattr("taskvec.rounds.KEEP_EVERY", 0.0)
    monkeypatch.setattr("taskvec.rounds.KEEP_SHARE", float("inf"))


def _stopping(monkeypatch: pytest.MonkeyPatch, name: str, calls: int, stop: Callable[[], None]) -> list[int]:
    """``stop`` after so many calls of a function, once; the list gets longer with each."""
    owner, _, attribute = name.rpartition(".")
    module, _, of = owner.partition(":")
    place = __import__(module, fromlist=["_"])
    place = getattr(place, of) if of else place
    whole, counted, stops = getattr(place, attribute), [], [stop]

    def watched(*arguments: Any, **options: Any) -> Any:
        found = whole(*arguments, **options)
        counted.append(1)
        if len(counted) == calls and stops:
            stops.pop()()
        return found

    monkeypatch.setattr(place, attribute, watched)
    return counted


def _content(path: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    with safe_open(path, "np") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def _killed() -> None:
    raise RuntimeError("killed")


@pytest.mark.parametrize(("stop", "status"), [(_killed, 70), (lambda: signal.raise_signal(signal.SIGTERM), 143)])
def test_collecting_goes_on_to_the_same_file(
    stop: Callable[[], None],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    collect = ["collect", "--task", "low_light", "--task", "identity", "--prompts", "5", "--threads", "1"]
    whole, out = tmp_path / "whole.safetensors", tmp_path / "s.safetensors"
    assert main([*collect, "--out", str(whole)]) == 0
    counted = _stopping(monkeypatch, "taskvec.statistics:_Collection._moments", 5, stop)
    assert main([*collect, "--out", str(out)]) == status
    state = tmp_path / "s.safetensors.partial"
    assert state.exists()
    assert not out.exists()
    capsys.readouterr()
    assert main([*collect, "--out", str(out), "--seed", "1"]) == 1
    told = capsys.readouterr().err
    assert f"{state} belongs to another collection, with seed 0: expected 1; remove it to begin anew" in told
    counted.clear()
    assert main([*collect, "--out", str(out), "--json", str(tmp_path / "s.json")]) == 0
    assert len(counted) == (2 if status == 70 else 1)
    assert _content(out) == _content(whole)  # whose metadata are in another order every time
    assert not state.exists()
    assert json.loads((tmp_path / "s.json").read_text())["rows"] == 2


def test_evaluating_goes_on_to_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    evaluate = ["evaluate", "--task", "low_light", "--fold", "all", "--pairs", "3", "--decoding", "likeliest"]
    evaluate += ["--threads", "1", "--method", "one_shot", "--against", "copy_input"]
    (tmp_path / "whole").mkdir()
    assert main([*evaluate, "--json", str(tmp_path / "whole" / "e.json")]) == 0
    counted = _stopping(monkeypatch, "taskvec.evaluation._judge", 4, _killed)
    assert main([*evaluate, "--json", str(tmp_path / "e.json")]) == 70
    states = [tmp_path / f"e.{fold}.json.partial" for fold in range(2)]
    assert sorted(tmp_path.glob("e*")) == states
    capsys.readouterr()
    assert main([*evaluate[:-1], "query_only", "--json", str(tmp_path / "e.json")]) == 1
    assert f"{states[0]} belongs to another evaluation, with " in capsys.readouterr().err
    counted.clear()
    assert main([*evaluate, "--json", str(tmp_path / "e.json")]) == 0
    assert len(counted) == 5  # of eight blocks
    found, expected = (json.loads((place / "e.json").read_text()) for place in (tmp_path, tmp_path / "whole"))
    timed = ("seconds", "pairs_per_second", "machine", "folds")
    assert {name: found[name] for name in found.keys() - timed} == {
        name: expected[name] for name in expected.keys() - timed
    }
    for name in ("e.pairs.jsonl", "e.examples.png"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not any(state.exists() for state in states)
