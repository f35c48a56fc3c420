import json
import re
from pathlib import Path
from typing import Any

import pytest

from taskvec import diagnosis
from taskvec.cli import main, options


def test_the_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(diagnosis, "SECONDS", 0.0)
    assert main(["doctor", "--threads", "1", "--json", str(tmp_path / "d.json")]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^speed: [\d.e+]+ images/s with tiny on cpu$", told, re.MULTILINE)
    assert re.search(r"^disk, here: [\d.]+ GiB free at ", told, re.MULTILINE)
    assert json.loads((tmp_path / "d.json").read_text())["problems"] == []

    def broken(*_: Any) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(diagnosis, "_speed", broken)
    assert main(["doctor", "--threads", "1"]) == 1
    said = capsys.readouterr()
    assert said.err == "taskvec: the model tiny cannot be run: RuntimeError: no kernel\n"
    assert "versions: taskvec " in said.out


def test_a_library_that_cannot_be_imported_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: Any) -> None:
        raise ImportError("libcudart.so: cannot open shared object file", name="torch")

    monkeypatch.setattr(options, "working_on", missing)
    assert main(["doctor"]) == 1
    said = capsys.readouterr()
    assert said.err == "taskvec: torch cannot be imported: libcudart.so: cannot open shared object file\n"
    assert "extra llm: " in said.out
    assert "speed" not in said.out
