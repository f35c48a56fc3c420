"""Checkpoint files are data: whatever a file names, nothing of it runs, and what is broken is one clear error."""

import argparse
import builtins
import contextlib
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from taskvec.models import checkpoint_files
from taskvec.models.stored import StoredTensor

CANARY = "canary"  # what hostile files try to create in the current directory


def read_checkpoint(path: Path) -> Any:
    return checkpoint_files.read_checkpoint(path).content


class Callback:
    """Stands for a Lightning callback object."""

    def __init__(self) -> None:
        self.best = torch.ones(2)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_out_as_they_went_in(zipped: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = (torch.randn(4, 3, generator=torch.Generator().manual_seed(0)) * 9).to(dtype)
    views = {"whole": tensor, "turned": tensor.T, "part": tensor[1:3, ::2], "empty": tensor[:0], "one": tensor[2, 1]}
    torch.save(views, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(tmp_path / "file.pth")
    for name, view in views.items():
        assert isinstance(read[name], StoredTensor)
        assert torch.equal(read[name].read(), view), name


@pytest.mark.parametrize("zipped", [True, False])
def test_everything_else_is_inert(zipped: bool, tmp_path: Path) -> None:
    linear = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(linear.parameters())
    linear(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    checkpoint = {
        "model": linear.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(lr=0.1),
        "callbacks": {Callback: Callback()},
        "parameter": linear.weight,
    }
    torch.save(checkpoint, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(tmp_path / "file.pth")
    assert torch.equal(read["model"]["weight"].read(), linear.weight)
    assert torch.equal(read["parameter"].read(), linear.weight)
    assert read["epoch"] == 3
    assert read["args"].stands_for == "argparse.Namespace"
    assert not hasattr(read["args"], "lr")
    assert [type(value).__name__ for value in read["callbacks"].values()] == ["Placeholder"]


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None):
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


def _zip(path: Path, data: bytes, **storages: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key.removeprefix('s')}", content)


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


HARMLESS = {
    "os.system": pickle.dumps({"model": Calls(os.system, f"touch {CANARY}")}),
    "eval": pickle.dumps({"model": Calls(builtins.eval, f"open('{CANARY}', 'w')")}),
    "exec": pickle.dumps({"model": Calls(builtins.exec, f"open('{CANARY}', 'w')")}),
    "nested reduce": pickle.dumps({"model": Calls(map, Calls(eval, "print"), [Calls(os.system, f"touch {CANARY}")])}),
    "getattr": pickle.dumps({"model": Calls(getattr, Calls(__import__, "os"), "system")}),
    "setstate": pickle.dumps({"model": Calls(io.BytesIO, state=(b"", 0, {"close": Calls(os.system, "touch canary")}))}),
    "inst": b"(S'touch " + CANARY.encode() + b"'\niposix\nsystem\n.",
    "newobj": b"\x80\x02" + _global("subprocess", "Popen") + b"(X\x0c\x00\x00\x00touch canaryt\x81.",
    "build on a class": b"\x80\x02" + _global("collections", "OrderedDict") + b"}X\x03\x00\x00\x00getNsb.",
    "build on a function": b"\x80\x02" + _global("torch._utils", "_rebuild_parameter") + b"}X\x01\x00\x00\x00xNsb.",
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_pickles_run_nothing(name: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if zipped:
        _zip(tmp_path / "file.pth", HARMLESS[name])
    else:
        start = b"".join(pickle.dumps(part) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
        (tmp_path / "file.pth").write_bytes(start + HARMLESS[name] + pickle.dumps([]))
    before = dict(vars(OrderedDict))
    with contextlib.suppress(ValueError):  # some are refused, some read as placeholders; none may run
        read_checkpoint(tmp_path / "file.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["file.pth"]
    assert dict(vars(OrderedDict)) == before
    assert OrderedDict(a=1).get("a") == 1


def _tensor(offset: int = 0, shape: str = "K\x04\x85", count: int = 4, more: bytes = b"") -> bytes:
    """A pickle of one float tensor of storage 0."""
    reference = b"(X\x07\x00\x00\x00storage" + _global("torch", "FloatStorage")
    reference += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK" + bytes([count]) + b"tQ" + more
    return (
        b"\x80\x02"
        + _global("torch._utils", "_rebuild_tensor_v2")
        + b"("
        + reference
        + b"K"
        + bytes([offset])
        + shape.encode("latin1")
        + b"K\x01\x85\x89Nt"
        + b"R."
    )


def test_the_handmade_tensor_is_one(tmp_path: Path) -> None:
    _zip(tmp_path / "file.pth", _tensor(), s0=struct.pack("<4f", 1, 2, 3, 4))
    assert read_checkpoint(tmp_path / "file.pth").read().tolist() == [1, 2, 3, 4]


FOUR = struct.pack("<4f", 1, 2, 3, 4)


def _deflated(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02X" + struct.pack("<I", 10**8) + b"a" * 10**8 + b".")


def _declared_size(path: Path) -> None:
    """The central directory claims terabytes that are not there."""
    _zip(path, _tensor(count=4), s0=FOUR)
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 20 : entry + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
    path.write_bytes(data)


def _truncated(path: Path) -> None:
    torch.save({"model": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


def _truncated_stream(path: Path) -> None:
    torch.save({"model": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:2000])


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "deflated": (_deflated, "is compressed, which checkpoints are not"),
    "declared size": (_declared_size, "claims to be larger than the file"),
    "truncated": (_truncated, "whose end is missing: it was cut short at 2,000 bytes"),
    "truncated stream": (_truncated_stream, "ends before its numbers do"),
    "tar": (_tar, "tar format of torch before 0.2"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "text": (lambda path: path.write_text("hello, this is no pickle"), "is text that begins"),
    "other pickle": (lambda path: path.write_bytes(pickle.dumps([1])), "is a pickle, but not one of torch.save"),
    "other zip": (lambda path: zipfile.ZipFile(path, "w").writestr("a", "b"), "is a zip archive with 'a': unpack it"),
    "no storage": (lambda path: _zip(path, _tensor()), "the storage 0 is missing or too short"),
    "short storage": (lambda path: _zip(path, _tensor(), s0=b"1234"), "the storage 0 is missing or too short"),
    "beyond": (lambda path: _zip(path, _tensor(offset=1), s0=FOUR), "reaches beyond its storage of 4 elements"),
    "negative": (lambda path: _zip(path, _tensor(shape="J\xff\xff\xff\xff\x85"), s0=FOUR), "impossible shape"),
    "written storage": (
        lambda path: _zip(path, _tensor(more=b"}X\x04\x00\x00\x00pathX\x0b\x00\x00\x00/etc/passwdsb"), s0=FOUR),
        "it writes to the description of a storage",
    ),
    "other reference": (lambda path: _zip(path, b"\x80\x02K\x01Q."), "cannot be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_one_clear_error(name: str, tmp_path: Path) -> None:
    make, message = BROKEN[name]
    path = tmp_path / "file.pth"
    make(path)
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)


def test_places_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absent does not exist"):
        read_checkpoint(tmp_path / "absent")
    with pytest.raises(ValueError, match="is a directory"):
        read_checkpoint(tmp_path)


@given(data=st.data())
@settings(max_examples=200)
def test_a_changed_byte_of_a_zip_is_told_or_makes_no_difference(data: st.DataObject, tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(8, dtype=torch.bfloat16)[::2]}
    torch.save({"model": state, "epoch": 3}, tmp_path / "file.pth")
    content = bytearray((tmp_path / "file.pth").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (tmp_path / "file.pth").write_bytes(content)
    try:
        read = {name: tensor.read() for name, tensor in read_checkpoint(tmp_path / "file.pth")["model"].items()}
    except ValueError as error:
        assert "file.pth" in str(error)  # noqa: PT017 it may also be read
    else:
        assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


@given(data=st.data())
@settings(max_examples=200)
@pytest.mark.parametrize("kind", ["stream", "safetensors"])
def test_a_changed_byte_is_never_another_error(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(8, dtype=torch.bfloat16)}
    path = tmp_path / kind
    if kind == "stream":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        save_file(state, path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        read = read_checkpoint(path)
        for tensor in read.values() if isinstance(read, dict) else ():
            if isinstance(tensor, StoredTensor):
                tensor.read()
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 it may also be read


def test_limits_are_those_of_the_deepest_that_tools_write(tmp_path: Path) -> None:
    """Whole modules with optimizers and nested configurations are far from the limits."""
    nested: Any = {}
    for _ in range(100):
        nested = {"more": [nested, (1, 2)]}
    linear = torch.nn.Linear(2, 2)
    many = {f"{number}": linear.weight for number in range(20_000)}
    torch.save({"config": nested, "many": many, "module": torch.nn.Sequential(linear)}, tmp_path / "file.pth")
    assert len(read_checkpoint(tmp_path / "file.pth")["many"]) == 20_000
