"""What `taskvec app` refuses before it serves anything."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from taskvec.cli import main
from taskvec.extras import install


def test_places_and_libraries_that_are_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "taskvec.app.page", raising=False)
    assert main(["app"]) == 1
    assert capsys.readouterr().err == f"taskvec: the page takes gradio: {install('app')}\n"
    monkeypatch.setitem(sys.modules, "taskvec.app.page", SimpleNamespace(serving=None))
    missing = tmp_path / "nowhere"
    assert main(["app", "--vectors", str(missing)]) == 1
    assert f"--vectors {missing} is no directory: expected one with task vectors in it" in capsys.readouterr().err
