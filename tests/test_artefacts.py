import errno
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import records
from taskvec import artefacts as module
from taskvec import digests
from taskvec.files import digest
from taskvec.heads import Means
from taskvec.models.interface import Decoding
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.provenance import images_of
from taskvec.vectors import TaskVectors


@pytest.fixture
def vectors(small_model: MaeVqgan, small_means: Means) -> TaskVectors:
    return records.vectors_at(small_model, small_means)


def _rewrite(directory: Path, **changes: object) -> None:
    """config.json with other values, and the digest that belongs to them: as another program might write it."""
    values = {**json.loads((directory / "config.json").read_text()), **changes}
    del values["digest"]
    values["digest"] = digests.of_json(values)
    (directory / "config.json").write_text(json.dumps(values))


def test_what_is_no_task_vectors_is_refused(small_model: MaeVqgan, vectors: TaskVectors, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no task vectors: there is no config.json"):
        TaskVectors.load(tmp_path, small_model)
    vectors.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    other = [{**config["sites"][0], "layer": 77}]
    no_images = {**config["found"], "search": [{**config["found"]["search"][0], "images": []}]}
    for changes, message in (
        ({"format": 99}, "config.json has format 99, expected 6 or an earlier one"),
        ({"format": True}, "config.json has format True, expected 6"),
        ({"sites": "many"}, "config.json: sites: input should be a valid array"),
        ({"sites": other}, "config.json names a site that the model does not have"),
        ({"of": "12"}, "config.json: of: input should be a valid integer"),
        ({"surplus": 1}, "config.json: surplus: unexpected"),
        ({"found": {"step": 1}}, "config.json: found"),
        ({"found": no_images}, "config.json: found.*there are no images in the record of prompts that were drawn"),
    ):
        _rewrite(tmp_path, **changes)
        with pytest.raises(ValueError, match=message):
            TaskVectors.load(tmp_path, small_model)
        (tmp_path / "config.json").write_text(json.dumps(config))
    for content, message in (("[]", "is not of task vectors: it has no format"), ("{", "is not JSON")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=message):
            TaskVectors.load(tmp_path, small_model)
    (tmp_path / "config.json").write_text(json.dumps(config))
    whole = load_file(tmp_path / "vectors.safetensors")
    spoilt = {
        "nan": {**whole, "encoder.values": whole["encoder.values"] * torch.nan},
        "inf": {**whole, "encoder.values": whole["encoder.values"] + torch.inf},
        "double": {**whole, "encoder.values": whole["encoder.values"].double()},
        "fewer": {**whole, **{f"encoder.{part}": whole[f"encoder.{part}"][1:] for part in ("positions", "values")}},
        "narrow": {**whole, "encoder.values": whole["encoder.values"][:, :3].contiguous()},
        "moved": {**whole, "encoder.positions": whole["encoder.positions"] + 1},
    }
    for tensors in spoilt.values():
        save_file(tensors, tmp_path / "vectors.safetensors")
        with pytest.raises(
            ValueError, match=r"vectors.safetensors does not belong to config.json beside it, or is dam"
        ):
            TaskVectors.load(tmp_path, small_model)
        _rewrite(tmp_path, tensors=digest((tmp_path / "vectors.safetensors").read_bytes()))
        with pytest.raises(ValueError, match=r"vectors.safetensors (does not hold (finite|float32)|is damaged)"):
            TaskVectors.load(tmp_path, small_model)
    (tmp_path / "vectors.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no task vectors: there is no vectors.safetensors in it"):
        TaskVectors.load(tmp_path, small_model)


def _mutate_json(value: Any, random: np.random.Generator) -> Any:
    """Some value somewhere inside, replaced by one of another type or of another value."""
    if isinstance(value, dict | list) and value and random.random() < 0.9:
        copy = value.copy()
        key = list(value)[random.integers(len(value))] if isinstance(value, dict) else int(random.integers(len(value)))
        if random.random() < 0.1:
            del copy[key]
        else:
            copy[key] = _mutate_json(value[key], random)
        return copy
    others = [None, True, 0, -1, 2**70, 0.5, "x", [], {}, [value], str(value)]
    if isinstance(value, int | float):
        others += [value + 1, -value, float(value) * 2]
    return others[random.integers(len(others))]


def test_no_mutation_gives_other_numbers(
    small_model: MaeVqgan, small_means: Means, vectors: TaskVectors, random: np.random.Generator, tmp_path: Path
) -> None:
    """Flipped and lost bytes in either file, other values in config.json, files of other vectors of the same sites."""
    vectors.save_pretrained(tmp_path / "whole")
    records.vectors_at(small_model, small_means, task=1).save_pretrained(tmp_path / "other")
    accepted, messages = 0, []
    for number in range(240):
        place = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", place)
        path = place / ("config.json", "vectors.safetensors")[number % 2]
        content = bytearray(path.read_bytes())
        kind = number // 2 % 4
        if kind == 0:
            content[random.integers(len(content))] ^= 1 << int(random.integers(8))
        elif kind == 1:
            content = content[: random.integers(len(content))]
        elif kind == 2 and path.name == "config.json":
            content = bytearray(json.dumps(_mutate_json(json.loads(content), random)).encode())
        elif kind == 2:
            content += bytes(random.integers(256, size=3).tolist())
        else:
            content = bytearray((tmp_path / "other" / path.name).read_bytes())
        path.write_bytes(content)
        try:
            loaded = TaskVectors.load(place, small_model)
        except ValueError as error:
            messages.append((str(place), str(error)))
        else:
            accepted += 1
            assert records.same(loaded, vectors)
    assert all(place in message and "\n" not in message for place, message in messages)
    assert accepted < 12  # such as a value that was replaced by itself


class _KilledError(BaseException):
    pass


def test_whenever_writing_stops_what_was_there_is_there_or_what_is_new(
    small_model: MaeVqgan, small_means: Means, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Vectors of the same sites are replaced, and the process is killed before each change of the directory."""
    old, new = (records.vectors_at(small_model, small_means, task) for task in (0, 1))
    write, unlink = module._write, Path.unlink
    loaded = []
    for allowed in range(5):
        place, left = tmp_path / str(allowed), [allowed]
        old.save_pretrained(place)

        def count(left: list[int] = left) -> None:
            if not left[0]:
                raise _KilledError
            left[0] -= 1

        def counted_write(path: Path, content: bytes, count: Callable[[], None] = count) -> None:
            count()
            write(path, content)

        def counted_unlink(path: Path, missing_ok: bool = False, count: Callable[[], None] = count) -> None:
            if path.suffix != ".tmp":
                count()
            unlink(path, missing_ok=missing_ok)

        monkeypatch.setattr(module, "_write", counted_write)
        monkeypatch.setattr(Path, "unlink", counted_unlink)
        with pytest.raises(_KilledError):
            new.save_pretrained(place)
        monkeypatch.undo()
        loaded.append(TaskVectors.load(place, small_model))
        new.save_pretrained(place)
        assert records.same(TaskVectors.load(place, small_model), new)
    assert [records.same(each, old) for each in loaded] == [True, True, False, False, False]
    assert all(records.same(each, new) for each in loaded[2:])


def test_a_full_disk_leaves_what_was_there(
    small_model: MaeVqgan, small_means: Means, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old, new = (records.vectors_at(small_model, small_means, task) for task in (0, 1))
    write = Path.write_bytes
    for writes in range(4):
        place = tmp_path / str(writes)
        old.save_pretrained(place)
        left = [writes]

        def full(path: Path, content: bytes, left: list[int] = left) -> int:
            if not left[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            left[0] -= 1
            return write(path, content)

        monkeypatch.setattr(Path, "write_bytes", full)
        if writes < 3:
            with pytest.raises(OSError, match="No space left"):
                new.save_pretrained(place)
        else:
            new.save_pretrained(place)
        monkeypatch.undo()
        assert records.same(TaskVectors.load(place, small_model), old if writes < 2 else new)
        if writes < 2:
            assert sorted(path.name for path in place.iterdir()) == ["config.json", "vectors.safetensors"]


def test_two_that_write_at_once_never_mix(
    small_model: MaeVqgan, small_means: Means, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The other one saves all of its own before each of the first one's writes."""
    first, second = (records.vectors_at(small_model, small_means, task) for task in (0, 1))
    write = module._write
    refused = 0
    for turn in range(3):
        place, left = tmp_path / str(turn), [turn]

        def interrupted(path: Path, content: bytes, place: Path = place, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                second.save_pretrained(place)
            write(path, content)

        monkeypatch.setattr(module, "_write", interrupted)
        first.save_pretrained(place)
        monkeypatch.undo()
        try:
            loaded = TaskVectors.load(place, small_model)
        except ValueError as error:
            refused += "does not belong to config.json beside it" in str(error)
        else:
            assert records.same(loaded, first) or records.same(loaded, second)
    assert refused <= 1  # where the other one comes between the last look at config.json and the last write


def test_earlier_formats_load_with_a_hint_and_without_what_was_their_makers(
    small_model: MaeVqgan, vectors: TaskVectors, tmp_path: Path
) -> None:
    vectors.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    for name in ("base_model_name_or_path", "base_model_revision", "base_model_type", "scores", "tensors", "digest"):
        del values[name]
    drawn = {"data": "scenes", "split": "train", "images": ["train/0/1_disc"], "query": ["train/0/1_disc"]}
    found: dict[str, Any] = {"method": "relaxed", "search": drawn, "step": 3, "history": []}
    found["statistics"] = {
        "data": "folder",
        "root": "/home/anna/scans",
        "images": ["anna.png"],
        "support": ["anna.png"],
    }
    term = {"factor": 1, "task": "t", "metric": "mse", "fingerprint": "0" * 16, "found": found}
    combined = {"combined": "t", "terms": [term], "directories": {"t": "/home/anna/t"}}
    for number, record in ((1, {"step": 3}), (2, found), (2, combined), (2, {})):
        former = {**values, "format": number, "found": record, "model_fingerprint": small_model.former_fingerprint()}
        (tmp_path / "config.json").write_text(json.dumps(former))
        with pytest.warns(
            UserWarning, match=rf"of format {number}, without checksums: save them again, with TaskVectors"
        ):
            loaded = TaskVectors.load(tmp_path, small_model)
        assert all(torch.equal(mean.nan_to_num(), vectors.means[s].nan_to_num()) for s, mean in loaded.means.items())
        assert loaded.config.model_fingerprint == small_model.fingerprint()
        assert (loaded + vectors).sites == vectors.sites
        assert images_of(loaded.config.found) == ({"train/0/1_disc"} if "data" in str(record) else set())
        loaded.save_pretrained(tmp_path / "again")
        text = (tmp_path / "again" / "config.json").read_text()
        assert "anna" not in text
        assert records.same(TaskVectors.load(tmp_path / "again", small_model), loaded)
    (tmp_path / "config.json").write_text(json.dumps({**values, "format": 2, "model_fingerprint": "0" * 16}))
    with pytest.raises(ValueError, match="these task vectors are of another model with fingerprint 0000000000000000"):
        TaskVectors.load(tmp_path, small_model)


def test_vectors_of_a_shipped_model_say_which_to_pass(
    vectors: TaskVectors, tiny: MaeVqgan, small_model: MaeVqgan, tmp_path: Path
) -> None:
    sites = tiny.sites("quadrant")
    means = {"encoder": torch.zeros(6, 5, 65, 32), "decoder": torch.zeros(4, 5, 65, 32)}
    of_tiny = TaskVectors.select(tiny, sites, sites.mask([0, 3]), means, task="lungs", metric="iou")
    assert of_tiny.config.model == "tiny"
    of_tiny.save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"^these task vectors are of the model tiny, not of this one: pass --model tiny$"
    ):
        TaskVectors.load(tmp_path, small_model)


@pytest.mark.parametrize(("named", "model"), [("tiny", "tiny"), ("hub:o/n", "hub:o/n"), ("/home/anna/m", None)])
def test_format_5_called_the_model_by_a_name_alone(
    named: str, model: str | None, small_model: MaeVqgan, vectors: TaskVectors, tmp_path: Path
) -> None:
    vectors.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    for later in ("base_model_name_or_path", "base_model_revision", "base_model_type", "scores", "digest"):
        del values[later]
    values |= {"format": 5, "model": named}
    values["digest"] = digests.of_json(values)
    (tmp_path / "config.json").write_text(json.dumps(values))
    loaded = TaskVectors.load(tmp_path, small_model)
    assert loaded.fingerprint() == vectors.fingerprint()
    assert (loaded.config.model, loaded.config.base_model_type) == (model, "mae_vqgan")
    loaded.save_pretrained(tmp_path)
    assert "anna" not in (tmp_path / "config.json").read_text()


def test_format_3_had_no_decoding(small_model: MaeVqgan, vectors: TaskVectors, tmp_path: Path) -> None:
    """It loads as the likeliest codes, of which it is, without a word, and with its own fingerprint."""
    vectors.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["format"] == 6
    for later in ("refinement", "harmful", "curve"):
        del values["found"][later]
    del values["decoding"], values["wording"], values["digest"]
    values["format"] = 3
    values["digest"] = digests.of_json(values)
    (tmp_path / "config.json").write_text(json.dumps(values))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = TaskVectors.load(tmp_path, small_model)
    assert loaded.config.decoding == Decoding()
    assert records.same(loaded, vectors)
    assert loaded.fingerprint() == vectors.fingerprint()
    loaded.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["format"] == 6


@pytest.mark.parametrize("decoding", [Decoding("expected", 1.5, 3.0), Decoding("expected", 2.0), Decoding(level=96.0)])
def test_their_decoding_comes_back(
    decoding: Decoding, small_model: MaeVqgan, vectors: TaskVectors, tmp_path: Path
) -> None:
    sites = small_model.sites("quadrant")
    means = {stack: mean.nan_to_num() for stack, mean in vectors.means.items()}
    chosen = TaskVectors.select(
        small_model, sites, sites.mask([0, 5, 9]), means, task="a", metric="iou", decoding=decoding
    )
    chosen.save_pretrained(tmp_path)
    loaded = TaskVectors.load(tmp_path, small_model)
    assert loaded.config.decoding == loaded.answering.decoding == decoding
    assert json.loads((tmp_path / "config.json").read_text())["decoding"]["kind"] == decoding.kind
    assert loaded.fingerprint() == chosen.fingerprint()
    _rewrite(tmp_path, decoding={"kind": "expected", "temperature": 0, "level": None})
    with pytest.raises(ValueError, match=r"config.json: decoding.*the temperature of a decoding is 0"):
        TaskVectors.load(tmp_path, small_model)
