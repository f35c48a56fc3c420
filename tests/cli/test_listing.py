import re
import sys
from pathlib import Path

import pytest

from taskvec.cli import main
from taskvec.vectors import TaskVectors


def test_a_list_is_lines_for_programs_and_a_table_for_people(
    random_vectors: TaskVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    random_vectors.save_pretrained(tmp_path / "a\tb")
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    cells = line.split("\t")
    config = random_vectors.config
    assert cells[:4] == ["task vectors", "a b", "task", config.model_fingerprint]
    assert cells[4:6] == ["", f"3 of {config.of}"]
    assert len(cells) == 8
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["list", "."]) == 0
    header, row = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines()
    assert header.split() == ["kind", "path", "task", "model", "score", "sites", "date"]
    assert f"3 of {config.of}" in row
    assert main(["list", "nowhere"]) == 1
    assert "nowhere is no directory" in capsys.readouterr().err
