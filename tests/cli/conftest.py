from pathlib import Path

import pytest

from taskvec.cli import scores
from taskvec.models.mae_vqgan import MaeVqgan


@pytest.fixture(autouse=True)
def few_prompts_choose_a_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where users have a hundred, whose runs would be most of the work of these tests."""
    monkeypatch.setattr(scores, "CALIBRATION", 12)


@pytest.fixture(autouse=True)
def drawn_where_a_test_looks(request: pytest.FixtureRequest) -> None:
    """Figures are drawn for tests that are marked ``drawn`` alone."""
    if "drawn" not in request.keywords:
        request.getfixturevalue("undrawn")


@pytest.fixture(scope="session")
def small_directory(small_model: MaeVqgan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small random model, for commands whose numbers are no matter."""
    directory = tmp_path_factory.mktemp("small")
    small_model.save_pretrained(directory)
    return directory
