from pathlib import Path

import pytest

import bad_inputs
from bad_inputs import CASES, OUT, Case
from taskvec import evaluation


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "workspace"
    bad_inputs.make_workspace(directory)
    return directory


@pytest.mark.parametrize("case", CASES, ids=[case.what.replace(" ", "_") for case in CASES])
def test_a_broken_input_gets_one_sentence(case: Case, workspace: Path, tmp_path: Path) -> None:
    status, lines = bad_inputs.run(case, workspace, tmp_path / "copy")
    assert status == case.status
    assert len(lines) == 1
    assert case.says in lines[0]
    left = [path for path in (tmp_path / "copy").rglob("*") if path.name.endswith(".tmp")]
    assert not left
    if not case.arguments.startswith("apply"):  # which does the images that are in order
        assert not list((tmp_path / "copy").glob(f"{OUT}*"))


def test_the_untouched_workspace_is_in_order(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise every case would pass for another reason than its own."""
    monkeypatch.setattr(evaluation, "TRAINING", 4)
    few = [bad_inputs.APPLY, *(f"{each} --pairs 12" for each in (bad_inputs.PASCAL, bad_inputs.FOLDER))]
    for index, arguments in enumerate(few):
        case = Case("nothing", lambda _: None, arguments, "", 0)
        status, lines = bad_inputs.run(case, workspace, tmp_path / str(index))
        assert (status, lines) == (0, [])
        assert (tmp_path / str(index) / OUT).is_dir()
