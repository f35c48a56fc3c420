import json
from pathlib import Path

import pytest

from taskvec.experiments.cells import Store, digest
from taskvec.search import ReinforceSettings, RelaxedSettings


def test_a_cell_is_computed_once(tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []
    store = Store(tmp_path, lambda what, seconds: told.append((what, seconds is None)))
    calls: list[int] = []

    def compute() -> list[float]:
        calls.append(1)
        return [0.1, 1 / 3]

    first = store.get("thirds", {"cell": "a", "settings": ReinforceSettings()}, compute)
    again = Store(tmp_path).get("thirds", {"cell": "a", "settings": ReinforceSettings()}, compute)
    assert first == again == [0.1, 1 / 3]
    assert len(calls) == 1
    assert told == [("thirds", True), ("thirds", False)]


def test_cells_differ_by_every_setting_and_by_the_kind_of_settings() -> None:
    keys = [
        {"settings": ReinforceSettings()},
        {"settings": ReinforceSettings(seed=1)},
        {"settings": RelaxedSettings()},
        {"settings": ReinforceSettings(), "task": "identity"},
    ]
    assert len({digest(key) for key in keys}) == len(keys)
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})


def test_a_cell_holds_its_key(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.get("two", {"cell": "b", "number": 2}, lambda: 4)
    cell = json.loads(store.path({"cell": "b", "number": 2}, ".json").read_text())
    assert (cell["what"], cell["key"], cell["value"]) == ("two", {"cell": "b", "number": 2}, 4)


def test_what_fails_or_is_interrupted_leaves_no_cell(tmp_path: Path) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).get("never", {"cell": "c"}, interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.path({"cell": "d"}, ".json")
    path.write_text('{"value"')
    with pytest.raises(ValueError, match=rf"{path.name} is damaged .* delete it to compute it anew"):
        store.get("damaged", {"cell": "d"}, lambda: 1)
