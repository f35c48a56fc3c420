"""Files: formats, archives, parts, damages."""

import bz2
import gzip
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint import format_utils
from torch.distributed.checkpoint.state_dict_saver import save as save_parts

from checkpoint_makers.common import (
    Arguments,
    Workspace,
    case,
)

CONTAINERS = "Files"


@case(CONTAINERS, "the old stream format (before torch 1.6)")
def _(w: Workspace) -> Arguments:
    return w.saved({"model": w.official}, _use_new_zipfile_serialization=False)


@case(CONTAINERS, "pickle protocols 3 and 5")
def _(w: Workspace) -> Arguments:
    mae = w.saved(w.alone(), pickle_protocol=5)
    return mae | {"vqgan": w.saved(w.tokenizer(), "last.ckpt", pickle_protocol=3)["mae"]}


@case(CONTAINERS, "the old format with pickle protocol 4")
def _(w: Workspace) -> Arguments:
    return w.saved(w.official, _use_new_zipfile_serialization=False, pickle_protocol=4)


@case(CONTAINERS, "checksums switched off (`set_crc32_options(False)`)")
def _(w: Workspace) -> Arguments:
    torch.serialization.set_crc32_options(False)
    try:
        return w.saved(w.official)
    finally:
        torch.serialization.set_crc32_options(True)


def _big_endian(path: Path) -> None:
    """Rewrite a file of torch.save as a big-endian machine writes it (float32 throughout)."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            part = name.split("/", 1)[1]
            if part == "byteorder":
                archive.writestr(name, b"big")
            elif part.startswith("data/"):
                archive.writestr(name, np.frombuffer(content, "<u4").astype(">u4").tobytes())
            else:
                archive.writestr(name, content)


@case(CONTAINERS, "written by a big-endian machine")
def _(w: Workspace) -> Arguments:
    arguments = w.saved(w.official)
    _big_endian(w.mae)
    return arguments


@case(CONTAINERS, "a byte order that there is not", "mae.pth", "byte order", "middle")
def _(w: Workspace) -> Arguments:
    arguments = w.saved(w.official)
    data = w.mae.read_bytes().replace(b"little", b"middle")
    w.mae.write_bytes(data)
    torch.serialization.set_crc32_options(False)
    try:
        w.saved(w.official)
    finally:
        torch.serialization.set_crc32_options(True)
    w.mae.write_bytes(w.mae.read_bytes().replace(b"little", b"middle"))
    return arguments


@case(CONTAINERS, "safetensors, one file")
def _(w: Workspace) -> Arguments:
    save_file(w.official, w.directory / "mae.safetensors", {"format": "pt"})
    return {"mae": w.directory / "mae.safetensors"}


@case(CONTAINERS, "safetensors, MAE and VQGAN, names `model.*`", remarks=("mae.safetensors: 'model.' is taken off",))
def _(w: Workspace) -> Arguments:
    save_file({f"model.{name}": t for name, t in w.alone().items()}, w.directory / "mae.safetensors")
    save_file(w.tokenizer(), w.directory / "vqgan.safetensors")
    return {"mae": w.directory / "mae.safetensors", "vqgan": w.directory / "vqgan.safetensors"}


@case(CONTAINERS, "a pickle and a safetensors file that hold one tokenizer")
def _(w: Workspace) -> Arguments:
    save_file(w.tokenizer(), w.directory / "vqgan.safetensors")
    return w.saved(w.official) | {"vqgan": w.directory / "vqgan.safetensors"}


def _sharded(w: Workspace, state: Mapping[str, Tensor], ending: str = "safetensors") -> Path:
    """Three files and their index, as Hugging Face libraries write them."""
    names = sorted(state)
    places = {}
    for number in range(3):
        name = f"model-{number + 1:05}-of-00003.{ending}"
        part = {key: state[key] for key in names[number::3]}
        if ending == "safetensors":
            save_file(part, w.directory / name, {"format": "pt"})
        else:
            torch.save(part, w.directory / name)
        places |= dict.fromkeys(part, name)
    index = w.directory / f"model.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@case(CONTAINERS, "safetensors in three files with their index")
def _(w: Workspace) -> Arguments:
    return {"mae": _sharded(w, w.official)}


@case(CONTAINERS, "the VQGAN in three safetensors files")
def _(w: Workspace) -> Arguments:
    return w.saved(w.alone()) | {"vqgan": _sharded(w, w.tokenizer())}


@case(CONTAINERS, "files of torch.save in three parts with their index (`pytorch_model.bin.index.json`)")
def _(w: Workspace) -> Arguments:
    return {"mae": _sharded(w, w.official, "bin")}


@case(CONTAINERS, "one of the three files is not there", "model.safetensors.index.json", "00002", "fetch that file too")
def _(w: Workspace) -> Arguments:
    index = _sharded(w, w.official)
    (w.directory / "model-00002-of-00003.safetensors").unlink()
    return {"mae": index}


@case(
    CONTAINERS, "one of the three files is cut short", "model-00002-of-00003.safetensors", "cut short", "fetch it again"
)
def _(w: Workspace) -> Arguments:
    index = _sharded(w, w.official)
    path = w.directory / "model-00002-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    return {"mae": index}


@case(
    CONTAINERS,
    "one of the three files without the others",
    "model-00001-of-00003.safetensors",
    "model.safetensors.index.json",
)
def _(w: Workspace) -> Arguments:
    _sharded(w, w.official)
    return {"mae": w.directory / "model-00001-of-00003.safetensors"}


@case(CONTAINERS, "an index of other files", "model-00001-of-00003.safetensors", "do not belong together")
def _(w: Workspace) -> Arguments:
    index = _sharded(w, w.official)
    index.write_text(index.read_text().replace('"cls_token"', '"other_token"'))
    return {"mae": index}


@case(CONTAINERS, "an index that leads out of its directory", "model.safetensors.index.json", "its own directory")
def _(w: Workspace) -> Arguments:
    index = _sharded(w, w.official)
    index.write_text(index.read_text().replace("model-00001", "../model-00001"))
    return {"mae": index}


@case(CONTAINERS, "an index that is none", "model.safetensors.index.json", "not the index", "weight_map")
def _(w: Workspace) -> Arguments:
    return w.written("model.safetensors.index.json", b'{"weights": []}')


@case(CONTAINERS, "safetensors cut short", "mae.safetensors", "cut short", "fetch it again")
def _(w: Workspace) -> Arguments:
    return w.written("mae.safetensors", save(w.official)[:-100])


@case(CONTAINERS, "safetensors with more bytes than it says", "mae.safetensors", "more than its header says")
def _(w: Workspace) -> Arguments:
    return w.written("mae.safetensors", save(w.official) + b"more")


@case(CONTAINERS, "safetensors that name a tensor twice", "mae.safetensors", "names something twice")
def _(w: Workspace) -> Arguments:
    entry = b'"cls_token":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = b"{" + entry + b"," + entry + b"}"
    return w.written("mae.safetensors", struct.pack("<Q", len(header)) + header + bytes(4))


@case(CONTAINERS, "a file of torch.save cut short", "mae.pth", "cut short", "fetch it again")
def _(w: Workspace) -> Arguments:
    arguments = w.saved(w.official)
    w.mae.write_bytes(w.mae.read_bytes()[:-50000])
    return arguments


@case(CONTAINERS, "the old format cut short", "mae.pth", "cut short", "fetch it again")
def _(w: Workspace) -> Arguments:
    arguments = w.saved(w.official, _use_new_zipfile_serialization=False)
    w.mae.write_bytes(w.mae.read_bytes()[:-50000])
    return arguments


@case(CONTAINERS, "one bit of a weight turned over", "mae.pth", "damaged", "checksum")
def _(w: Workspace) -> Arguments:
    arguments = w.saved(w.official)
    data = bytearray(w.mae.read_bytes())
    data[data.index(w.official["pos_embed"].numpy().tobytes()) + 402] ^= 1
    w.mae.write_bytes(data)
    return arguments


@case(CONTAINERS, "saved under `torch.serialization.skip_data`, without numbers", "mae.pth", "never written", "again")
def _(w: Workspace) -> Arguments:
    with torch.serialization.skip_data():
        return w.saved(w.official)


@case(CONTAINERS, "nothing but zeros where the numbers belong", "mae.pth", "nothing but zeros", "again")
def _(w: Workspace) -> Arguments:
    return w.saved({name: torch.zeros_like(tensor) for name, tensor in w.official.items()})


@case(CONTAINERS, "an empty file", "mae.pth", "is empty", "fetch it again")
def _(w: Workspace) -> Arguments:
    return w.written("mae.pth", b"")


@case(CONTAINERS, "a file that a download has only reserved", "mae.pth", "zeros", "fetch it again")
def _(w: Workspace) -> Arguments:
    return w.written("mae.pth", bytes(4096))


@case(CONTAINERS, "a web page in place of the file", "mae.pth", "web page", "Quota exceeded", "download")
def _(w: Workspace) -> Arguments:
    return w.written(
        "mae.pth", b"\n<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"
    )


@case(CONTAINERS, "a git-lfs pointer", "mae.pth", "git-lfs pointer", "git lfs pull")
def _(w: Workspace) -> Arguments:
    return w.written("mae.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 1629337213\n")


@case(CONTAINERS, "an error message in place of the file", "mae.pth", "is text that begins", "Access denied")
def _(w: Workspace) -> Arguments:
    return w.written("mae.pth", b'{"error": "Access denied"}')


@case(CONTAINERS, "compressed by gzip", "mae.pth.gz", "gzip", "gunzip")
def _(w: Workspace) -> Arguments:
    w.saved(w.official)
    return w.written("mae.pth.gz", gzip.compress(w.mae.read_bytes()))


@case(CONTAINERS, "compressed by bzip2", "mae.pth", "bzip2", "bunzip2")
def _(w: Workspace) -> Arguments:
    return w.written("mae.pth", bz2.compress(b"a checkpoint"))


@case(CONTAINERS, "a tar archive of checkpoints", "models.tar", "tar archive", "mae.pth", "tar -xf")
def _(w: Workspace) -> Arguments:
    w.saved(w.official)
    with tarfile.open(w.directory / "models.tar", "w") as archive:
        archive.add(w.mae, "models/mae.pth")
    return {"mae": w.directory / "models.tar"}


@case(CONTAINERS, "a zip archive of checkpoints", "models.zip", "zip archive", "mae.pth", "unzip")
def _(w: Workspace) -> Arguments:
    w.saved(w.official)
    with zipfile.ZipFile(w.directory / "models.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(w.mae, "models/mae.pth")
    return {"mae": w.directory / "models.zip"}


@case(CONTAINERS, "an unpacked checkpoint, packed again with compression", "mae.pth", "is compressed")
def _(w: Workspace) -> Arguments:
    w.saved(w.official)
    with (
        zipfile.ZipFile(w.mae) as archive,
        zipfile.ZipFile(w.directory / "mae.zip", "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    (w.directory / "mae.zip").replace(w.mae)
    return {"mae": w.mae}


@case(CONTAINERS, "a TorchScript program", "mae.pt", "TorchScript", "torch.jit.load")
def _(w: Workspace) -> Arguments:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), w.directory / "mae.pt")
    return {"mae": w.directory / "mae.pt"}


@case(CONTAINERS, "a program of torch.export", "mae.pt2", "torch.export", "state_dict()")
def _(w: Workspace) -> Arguments:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), w.directory / "mae.pt2")
    return {"mae": w.directory / "mae.pt2"}


@case(CONTAINERS, "NumPy arrays (.npz)", "mae.npz", "NumPy archive", "safetensors")
def _(w: Workspace) -> Arguments:
    np.savez(w.directory / "mae.npz", **{name: t.numpy() for name, t in w.alone().items()})  # pyright: ignore
    return {"mae": w.directory / "mae.npz"}


@case(CONTAINERS, "NumPy arrays in a file of torch.save", "mae.pth", "no state dict", "NumPy array")
def _(w: Workspace) -> Arguments:
    return w.saved({name: tensor.numpy() for name, tensor in w.alone().items()})


@case(CONTAINERS, "a state dict by pickle.dump", "mae.pkl", "not one of torch.save", "torch.save")
def _(w: Workspace) -> Arguments:
    return w.written("mae.pkl", pickle.dumps(w.official))


@case(CONTAINERS, "a Keras file (HDF5)", "mae.h5", "HDF5")
def _(w: Workspace) -> Arguments:
    return w.written("mae.h5", b"\x89HDF\r\n\x1a\n" + bytes(100))


@case(
    CONTAINERS, "a directory of torch.distributed.checkpoint", "parts", "torch.distributed.checkpoint", "dcp_to_torch"
)
def _(w: Workspace) -> Arguments:
    save_parts(w.alone(), checkpoint_id=w.directory / "parts", no_dist=True)
    return {"mae": w.directory / "parts"}


@case(CONTAINERS, "a file of such a directory", "__0_0.distcp", "torch.distributed.checkpoint", "dcp_to_torch")
def _(w: Workspace) -> Arguments:
    save_parts(w.alone(), checkpoint_id=w.directory / "parts", no_dist=True)
    return {"mae": w.directory / "parts" / "__0_0.distcp"}


@case(CONTAINERS, "what `dcp_to_torch` makes of it")
def _(w: Workspace) -> Arguments:
    save_parts(w.official, checkpoint_id=w.directory / "parts", no_dist=True)
    format_utils.dcp_to_torch_save(w.directory / "parts", w.mae)
    return {"mae": w.mae}


@case(CONTAINERS, "a directory of DeepSpeed", "global", "DeepSpeed", "zero_to_fp32.py")
def _(w: Workspace) -> Arguments:
    (w.directory / "global").mkdir()
    (w.directory / "global" / "zero_to_fp32.py").write_text("")
    return {"mae": w.directory / "global"}


@case(CONTAINERS, "a directory with an index in it", "model is a directory", "model.safetensors.index.json")
def _(w: Workspace) -> Arguments:
    (w.directory / "model").mkdir()
    _sharded(Workspace(w.directory / "model", w.official), w.official)
    return {"mae": w.directory / "model"}


@case(CONTAINERS, "a pipe", "mae.pth", "pipe")
def _(w: Workspace) -> Arguments:
    os.mkfifo(w.mae)
    return {"mae": w.mae}


@case(CONTAINERS, "no file", "mae.pth", "does not exist")
def _(w: Workspace) -> Arguments:
    return {"mae": w.mae}
