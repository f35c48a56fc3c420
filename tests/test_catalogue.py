import os
from dataclasses import replace
from pathlib import Path

import pytest

from taskvec.catalogue import entries
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.provenance import Measured, Score
from taskvec.vectors import TaskVectors


@pytest.fixture
def place(random_vectors: TaskVectors, small_model: MaeVqgan, tmp_path: Path) -> Path:
    """A model, task vectors with and without a score, damaged ones, and what is neither."""
    root = tmp_path / "place"
    small_model.write(root / "model")
    (root / "other.gguf").parent.mkdir(exist_ok=True)
    (root / "other.gguf").write_bytes(b"GGUF")
    for name in ("damaged", "lost", "demo/vectors/task", ".hidden/found"):
        random_vectors.save_pretrained(root / name)
    own, value = random_vectors.fingerprint(), Measured(0.25, None, None)
    scores = tuple(Score(own, None, metric, "folder", "test", 9, 9, 0, value) for metric in ("iou", "mse"))
    replace(random_vectors, config=replace(random_vectors.config, scores=scores)).save_pretrained(
        root / "vectors/found"
    )
    config = root / "damaged" / "config.json"
    config.write_text(config.read_text().replace('"task": "task"', '"task": "other"'))
    (root / "lost" / "vectors.safetensors").unlink()
    for name, text in (("else/config.json", "[]"), ("broken/config.json", "{"), ("tokenizer/config.json", "{}")):
        (root / name).parent.mkdir()
        (root / name).write_text(text)
    return root


def test_what_lies_in_a_place(place: Path, random_vectors: TaskVectors) -> None:
    found = {Path(entry.path).relative_to(place).as_posix(): entry for entry in entries(place)}
    assert list(found) == ["damaged", "demo/vectors/task", "lost", "model", "other.gguf", "vectors/found"]
    kinds = {name: (entry.kind, entry.model) for name, entry in found.items() if entry.kind == "model"}
    assert kinds == {"model": ("model", "mae_vqgan"), "other.gguf": ("model", "gguf")}
    one = found["vectors/found"]
    config = random_vectors.config
    assert (one.task, one.metric, one.score, one.sites, one.of) == ("task", "mse", 0.25, 3, config.of)
    assert one.model == config.model_fingerprint  # which has no name
    assert one.date is not None
    assert (found["demo/vectors/task"].metric, found["demo/vectors/task"].score) == ("mse", None)
    assert (found["damaged"].task, found["damaged"].score) == ("other", None)
    assert {name: entry.remark for name, entry in found.items() if entry.remark} == {
        "damaged": "config.json is damaged or was changed",
        "lost": "there is no vectors.safetensors",
    }


def test_links_are_followed_but_not_in_circles(place: Path, random_vectors: TaskVectors, tmp_path: Path) -> None:
    before = [entry.path for entry in entries(place)]
    random_vectors.save_pretrained(tmp_path / "elsewhere" / "found")
    for name, target in {
        "a-circle": ".",
        "above": "..",
        "again": "vectors/found",
        "itself": "itself",
        "linked": "../elsewhere",
        "linked-again": "../elsewhere/found",
        "nowhere": "nothing",
    }.items():
        (place / name).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(place)
    after = [entry.path for entry in entries(place)]
    assert sorted({*after} - {*before}) == [str(place / "linked" / "found")]
    assert len(after) == len(before) + 1


def test_what_cannot_be_read_is_an_entry(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refused(path: Path) -> object:
        if Path(path).name == "demo":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refused)
    found = list(entries(place))
    (unreadable,) = [entry for entry in found if entry.kind == "unreadable"]
    assert (unreadable.path, unreadable.remark) == (str(place / "demo"), "Permission denied")
    assert len(found) == 6


def test_a_place_is_looked_at_so_deep(place: Path) -> None:
    assert [Path(entry.path).name for entry in entries(place, depth=1)] == ["damaged", "lost", "model", "other.gguf"]
    assert [Path(entry.path).name for entry in entries(place / "model", depth=0)] == ["model"]
    with pytest.raises(ValueError, match="nothing is no directory"):
        list(entries(place / "nothing"))
