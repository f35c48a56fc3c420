import re
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from taskvec.cli import main
from taskvec.extras import install
from taskvec.tracking import TensorBoard


def _written(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run."""
    events = EventAccumulator(str(directory)).Reload()
    names = events.Tags()["scalars"]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


def test_numbers_are_written_step_by_step_and_once_where_a_search_goes_on(tmp_path: Path) -> None:
    first = TensorBoard(tmp_path)
    for step in (1, 2, 3):
        first({"step": step, "loss": step / 2, "sites": 4, "method": "relaxed"})
    assert _written(tmp_path) == {
        "search/loss": [(1, 0.5), (2, 1.0), (3, 1.5)],
        "search/sites": [(1, 4.0), (2, 4.0), (3, 4.0)],
    }
    again = TensorBoard(tmp_path)
    for step in (2, 3):
        again({"step": step, "loss": 8.0})
    assert _written(tmp_path)["search/loss"] == [(1, 0.5), (2, 8.0), (3, 8.0)]


def test_a_search_is_watched(small_directory: Path, tmp_path: Path) -> None:
    few = ["--items", "2", "--validation", "2", "--prompts", "4", "--set", "search.candidates=1"]
    search = ["search", "--model", str(small_directory), "--task", "low_light", "--method", "relaxed", *few]
    assert main([*search, "--steps", "3", "--tensorboard", "--out", str(tmp_path)]) == 0
    assert [step for step, _ in _written(tmp_path / "tensorboard")["search/loss"]] == [1, 2, 3]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match=re.escape(install("tensorboard"))):
        TensorBoard(tmp_path)
