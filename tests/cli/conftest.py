import pytest

from taskvec import evaluation


@pytest.fixture(autouse=True)
def few_prompts_choose_a_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where users have a hundred, whose runs would be most of the work of these tests."""
    monkeypatch.setattr(evaluation, "TRAINING", 12)


@pytest.fixture(autouse=True)
def drawn_where_a_test_looks(request: pytest.FixtureRequest) -> None:
    """Figures are drawn for tests that are marked ``drawn`` alone."""
    if "drawn" not in request.keywords:
        request.getfixturevalue("undrawn")
