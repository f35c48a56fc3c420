import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
        {"settings": ReinforceSettings(steps=1)},
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
    store.get("whole", {"cell": "d"}, lambda: [0.25, 3])
    whole = path.read_text()
    other = store.path({"cell": "e"}, ".json")
    store.get("other", {"cell": "e"}, lambda: 1)
    for damaged in (
        "",
        '{"value"',
        "[]",
        "7",
        '{"value": 1}',
        whole.replace("0.25", "0.26"),
        whole.replace("3]", "null]"),
        whole.replace('"value"', '"valve"'),
        whole.replace('"digest"', '"digets"'),
        other.read_text(),
        200_000 * "[",
    ):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=rf"{path.name} is damaged .* delete it to compute it anew") as raised:
            store.get("damaged", {"cell": "d"}, lambda: 1)
        assert len(str(raised.value)) < 400
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=rf"{path.name} is damaged .*is a pipe"):
        store.get("damaged", {"cell": "d"}, lambda: 1)
    path.unlink()
    assert store.get("whole", {"cell": "d"}, lambda: [0.25, 3]) == [0.25, 3]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_no_changed_byte_of_a_cell_gives_another_value(tmp_path: Path, place: float, bits: int) -> None:
    value = {"sites": [3, 17], "loss": 0.123456789, "names": ["a", None]}
    store = Store(tmp_path)
    path = store.path({"cell": "f"}, ".json")
    path.unlink(missing_ok=True)
    store.get("whole", {"cell": "f"}, lambda: value)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= bits
    path.write_bytes(content)
    try:
        assert store.get("again", {"cell": "f"}, lambda: value) == value
    except ValueError as error:
        assert path.name in str(error)  # noqa: PT017 either is right


def test_numbers_that_are_not_finite_make_no_cell(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match=r"the loss of a search: a number that came out is not finite"):
        store.get("the loss of a search", {"cell": "g"}, lambda: {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []
