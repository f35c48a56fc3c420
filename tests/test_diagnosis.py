from typing import Any

import pytest
import torch

from taskvec import diagnosis
from taskvec.diagnosis import Diagnosis, diagnose, diagnose_machine


def test_what_is_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "SECONDS", 0.0)
    monkeypatch.setattr(diagnosis, "ROWS", 2)
    found = diagnose()
    diagnose_machine(found, torch.device("cpu"))
    assert found.problems == []
    assert {"taskvec", "python", "torch", "numpy", "safetensors"} <= found.facts["versions"].keys()
    assert {"llm", "seggpt", "cluster"} <= found.facts["extras"].keys()
    assert "dev" not in found.facts["extras"]
    assert found.facts["disk"]["here"]["free_bytes"] > 0
    assert found.facts["disk"]["hub"]["path"].endswith("hub")
    assert found.facts["speed"]["images_per_second"] > 0
    assert found.facts["devices"]["cpu"]["threads"] == torch.get_num_threads()
    bounds = found.facts["memory"]["left_by"]
    assert found.facts["memory"]["free_bytes"] == min(bounds.values(), default=None)


def test_what_is_missing_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = [
        "torch>=2.9",
        "numpy>=9999",
        "no-such-package>=1.0",
        "of-another-system; sys_platform == 'amiga'",
        'pillow>=1; extra == "llm"',
        'no-such-model>=2; extra == "llm"',
        'pydicom; extra == "dev"',
    ]
    monkeypatch.setattr(diagnosis, "requires", lambda name: stated)
    monkeypatch.setattr(diagnosis.sys, "executable", "/a python")
    found = diagnose()
    assert found.problems == [
        "packages are missing or too old: '/a python' -m pip install 'numpy>=9999' 'no-such-package>=1.0'"
    ]
    assert found.facts["versions"]["no-such-package"] is None
    assert found.facts["extras"] == {
        "llm": {"missing": ["no-such-model>=2"], "install": "'/a python' -m pip install 'no-such-model>=2'"}
    }


def test_a_model_that_does_not_run_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr("taskvec.models.load_model", broken)
    found = Diagnosis()
    diagnose_machine(found, torch.device("cpu"))
    assert found.problems == ["the model tiny cannot be run: RuntimeError: no kernel"]
    assert "speed" not in found.facts
