"""The makers of checkpoints as people bring them: one function a kind, written with the tool that writes that kind."""

import bz2
import contextlib
import gzip
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed.checkpoint as distributed_checkpoint
from safetensors.torch import save, save_file
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.checkpoint import format_utils
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.testing._internal.distributed.fake_pg import FakeStore

import published

Arguments = dict[str, Any]


def exactly(_: str) -> torch.dtype:
    return torch.float32


@dataclass(frozen=True)
class Maker:
    """A kind of checkpoint: what it is, how it is made, and what must come of it.

    ``says`` is empty where it is read, and then every weight must be the official one in the ``precision`` of its name;
    otherwise the sentence must hold all of these words. ``remarks`` are words of what is said of one that is read.
    """

    group: str
    what: str
    makes: Callable[["Workspace"], Arguments]
    says: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    precision: Callable[[str], torch.dtype] = field(default=exactly)


@dataclass
class Workspace:
    """A directory and the official weights to make files of."""

    directory: Path
    official: dict[str, Tensor]

    @property
    def mae(self) -> Path:
        return self.directory / "mae.pth"

    @property
    def last(self) -> Path:
        return self.directory / "last.ckpt"

    def alone(self) -> dict[str, Tensor]:
        """The MAE without its tokenizer."""
        return {name: tensor for name, tensor in self.official.items() if not name.startswith("vae.")}

    def tokenizer(self) -> dict[str, Tensor]:
        return {name.removeprefix("vae."): t for name, t in self.official.items() if name.startswith("vae.")}

    def saved(self, content: Any, name: str = "mae.pth", **options: Any) -> Arguments:
        torch.save(content, self.directory / name, **options)
        return {"mae": self.directory / name}

    def pair(self, mae: Any, vqgan: Any) -> Arguments:
        return {"mae": self.saved(mae)["mae"], "vqgan": self.saved(vqgan, "last.ckpt")["mae"]}

    def written(self, name: str, content: bytes) -> Arguments:
        (self.directory / name).write_bytes(content)
        return {"mae": self.directory / name}


MAKERS: list[Maker] = []


def case(
    group: str,
    what: str,
    *says: str,
    remarks: tuple[str, ...] = (),
    precision: Callable[[str], torch.dtype] = exactly,
) -> Callable[[Callable[[Workspace], Arguments]], Callable[[Workspace], Arguments]]:
    def add(makes: Callable[[Workspace], Arguments]) -> Callable[[Workspace], Arguments]:
        MAKERS.append(Maker(group, what, makes, says, remarks, precision))
        return makes

    return add


def module_of(state: Mapping[str, Tensor]) -> nn.Module:
    """A module that has this state dict."""
    root = nn.Module()
    for name, tensor in state.items():
        *parts, last = name.split(".")
        inner = root
        for part in parts:
            if part not in inner._modules:
                inner.add_module(part, nn.Module())
            inner = inner.get_submodule(part)
        inner.register_parameter(last, nn.Parameter(tensor.clone()))
    return root


@contextlib.contextmanager
def one_process(workspace: Workspace) -> Iterator[None]:
    init_process_group("gloo", init_method=f"file://{workspace.directory}/rendezvous", rank=0, world_size=1)
    try:
        yield
    finally:
        destroy_process_group()


@contextlib.contextmanager
def first_of_two() -> Iterator[None]:
    """The first of two processes, as far as what it saves is concerned; the other is not there."""
    init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        yield
    finally:
        destroy_process_group()


# As published, and how training scripts save

WRITERS = "As training scripts save"


@case(WRITERS, "the published MAE file, with its tokenizer", remarks=("mae.pth: optimizer",))
def _(w: Workspace) -> Arguments:
    published.write_mae(w.mae, w.official)
    return {"mae": w.mae}


@case(WRITERS, "the published pair", remarks=("last.ckpt: 2 keys loss.*",))
def _(w: Workspace) -> Arguments:
    published.write_mae(w.mae, w.official)
    published.write_vqgan(w.last, w.tokenizer())
    return {"mae": w.mae, "vqgan": w.last}


@case(WRITERS, "the published pair, the MAE without its tokenizer")
def _(w: Workspace) -> Arguments:
    published.write_mae(w.mae, w.alone())
    published.write_vqgan(w.last, w.tokenizer())
    return {"mae": w.mae, "vqgan": w.last}


@case(WRITERS, "a bare state dict")
def _(w: Workspace) -> Arguments:
    return w.saved(w.official)


@case(WRITERS, "bare state dicts, MAE and VQGAN")
def _(w: Workspace) -> Arguments:
    return w.pair(w.alone(), w.tokenizer())


@case(WRITERS, "`module.state_dict()`, an OrderedDict with metadata")
def _(w: Workspace) -> Arguments:
    return w.saved(module_of(w.official).state_dict())


@case(WRITERS, "a defaultdict")
def _(w: Workspace) -> Arguments:
    return w.saved(defaultdict(float, w.official))


def _under(key: str) -> None:
    @case(WRITERS, f"a state dict under `{key}`", remarks=("mae.pth: epoch",))
    def _(w: Workspace) -> Arguments:
        return w.saved({"epoch": 3, key: w.official})


for _key in ("state_dict", "model_state_dict", "net", "module", "model_ema"):
    _under(_key)


@case(WRITERS, "Lightning: names `model.*` under `state_dict`", remarks=("'model.' is taken off",))
def _(w: Workspace) -> Arguments:
    state = {f"model.{name}": tensor for name, tensor in w.official.items()}
    return w.saved({"state_dict": state, "pytorch-lightning_version": "2.6.6", "hyper_parameters": {}, "loops": {}})


@case(WRITERS, "DeepSpeed `mp_rank_00_model_states.pt` (ZeRO 1, 2)", remarks=("mae.pth: ds_version",))
def _(w: Workspace) -> Arguments:
    return w.saved({"module": w.official, "optimizer": None, "ds_config": {"zero": 1}, "ds_version": "0.18"})


@case(WRITERS, "DeepSpeed ZeRO-3, whose file has empty weights", "mae.pth", "ZeRO-3", "zero_to_fp32.py")
def _(w: Workspace) -> Arguments:
    return w.saved({"module": {name: torch.empty(0) for name in w.official}})


@case(WRITERS, "a state dict two keys down (`checkpoint`, `model`)", remarks=("mae.pth: checkpoint.step",))
def _(w: Workspace) -> Arguments:
    return w.saved({"checkpoint": {"model": w.official, "step": 1}, "config": {}})


@case(WRITERS, "two models, no key", "mae.pth", "several models: model, model_ema", "--mae-key")
def _(w: Workspace) -> Arguments:
    return w.saved({"model": w.official, "model_ema": {name: tensor + 1 for name, tensor in w.official.items()}})


@case(WRITERS, "two models and `--mae-key model_ema`", remarks=("mae.pth: model",))
def _(w: Workspace) -> Arguments:
    other = {name: tensor + 1 for name, tensor in w.official.items()}
    return w.saved({"model": other, "model_ema": w.official}) | {"mae_key": "model_ema"}


@case(WRITERS, "a key that is not there", "mae.pth", "'ema'", "expected one of: model")
def _(w: Workspace) -> Arguments:
    return w.saved({"model": w.official}) | {"mae_key": "ema"}


@case(WRITERS, "one state dict under two keys (shared)", remarks=("mae.pth: network",))
def _(w: Workspace) -> Arguments:
    return w.saved({"model": w.official, "network": w.official})


@case(WRITERS, "no state dict: epoch and losses", "mae.pth", "no state dict", "its keys are epoch, losses")
def _(w: Workspace) -> Arguments:
    return w.saved({"epoch": 3, "losses": [1.0, 0.5]})


@case(WRITERS, "an optimizer's state alone", "mae.pth", "no model of a known kind", "--mae takes")
def _(w: Workspace) -> Arguments:
    module = module_of(w.official)
    optimizer = torch.optim.AdamW(module.parameters())
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return w.saved({"optimizer": optimizer.state_dict()})


@case(WRITERS, "a whole pickled module (`torch.save(model)`)", "mae.pth", "whole pickled module", "state_dict()")
def _(w: Workspace) -> Arguments:
    return w.saved(module_of(w.official))


@case(WRITERS, "a whole module in the old format", "mae.pth", "whole pickled module", "state_dict()")
def _(w: Workspace) -> Arguments:
    return w.saved(module_of(w.official), _use_new_zipfile_serialization=False)


# Names

NAMES = "Prefixes and wrappers"


@case(NAMES, "DDP", remarks=("'module.' is taken off 313 names",))
def _(w: Workspace) -> Arguments:
    with one_process(w):
        return w.saved({"model": DistributedDataParallel(module_of(w.official)).state_dict()})


@case(NAMES, "torch.compile", remarks=("'_orig_mod.' is taken off 313 names",))
def _(w: Workspace) -> Arguments:
    return w.saved(torch.compile(module_of(w.official)).state_dict())  # pyright: ignore[reportFunctionMemberAccess]


@case(NAMES, "DDP, then torch.compile", remarks=("'module.' is taken off", "'_orig_mod.' is taken off"))
def _(w: Workspace) -> Arguments:
    with one_process(w):
        return w.saved(torch.compile(DistributedDataParallel(module_of(w.official))).state_dict())  # pyright: ignore


@case(NAMES, "torch.compile, then DDP", remarks=("'module.' is taken off", "'_orig_mod.' is taken off"))
def _(w: Workspace) -> Arguments:
    with one_process(w):
        return w.saved(DistributedDataParallel(torch.compile(module_of(w.official))).state_dict())  # pyright: ignore


@case(NAMES, "torch.compile of every block", remarks=("'_orig_mod.' is taken off 36 names",))
def _(w: Workspace) -> Arguments:
    module = module_of(w.official)
    blocks = module.get_submodule("blocks")
    for name, block in list(blocks.named_children()):
        blocks.add_module(name, torch.compile(block))  # pyright: ignore[reportArgumentType]
    return w.saved(module.state_dict())


@case(NAMES, "activation checkpointing, by `named_parameters`", remarks=("'_checkpoint_wrapped_module.' is taken off",))
def _(w: Workspace) -> Arguments:
    module = module_of(w.official)
    blocks = module.get_submodule("blocks")
    for name, block in list(blocks.named_children()):
        blocks.add_module(name, checkpoint_wrapper(block))
    return w.saved(dict(module.named_parameters()))


@case(NAMES, "EMA by torch's AveragedModel", remarks=("'module.' is taken off 313 names", "mae.pth: n_averaged"))
def _(w: Workspace) -> Arguments:
    averaged = AveragedModel(module_of(w.official), multi_avg_fn=get_ema_multi_avg_fn(0.999))
    return w.saved({"model": averaged.state_dict()})


@case(
    NAMES, "an EMA wrapper's names `ema_model.*`, with its counters", remarks=("'ema_model.' is taken off 313 names",)
)
def _(w: Workspace) -> Arguments:
    state = {f"ema_model.{name}": tensor for name, tensor in w.official.items()}
    return w.saved({**state, "initted": torch.tensor(True), "step": torch.tensor(7)})


@case(NAMES, "both models of an EMA wrapper", "mae.pth", "several models: online_model, ema_model", "--mae-key")
def _(w: Workspace) -> Arguments:
    online = {f"online_model.{name}": tensor + 1 for name, tensor in w.official.items()}
    return w.saved({**online, **{f"ema_model.{name}": tensor for name, tensor in w.official.items()}})


@case(
    NAMES, "both models of an EMA wrapper and `--mae-key ema_model`", remarks=("'ema_model.' is taken off 313 names",)
)
def _(w: Workspace) -> Arguments:
    online = {f"online_model.{name}": tensor + 1 for name, tensor in w.official.items()}
    state = {**online, **{f"ema_model.{name}": tensor for name, tensor in w.official.items()}}
    return w.saved(state) | {"mae_key": "ema_model"}


@case(NAMES, "an EMA dictionary `shadow`, with `module.` names", remarks=("'module.' is taken off 313 names",))
def _(w: Workspace) -> Arguments:
    shadow = {f"module.{name}": tensor for name, tensor in w.official.items()}
    return w.saved({"shadow": shadow, "decay": 0.999})


@case(NAMES, "averages as a list without names (torch_ema)", "mae.pth", "no state dict", "shadow_params")
def _(w: Workspace) -> Arguments:
    return w.saved({"decay": 0.9, "num_updates": 3, "shadow_params": list(w.official.values())})


@case(NAMES, "a weight with and without `module.`", "mae.pth", "cls_token and module.cls_token are the same weight")
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "module.cls_token": w.official["cls_token"] + 1})


@case(NAMES, "names that are bytes", "mae.pth", "no state dict")
def _(w: Workspace) -> Arguments:
    return w.saved({name.encode(): tensor for name, tensor in w.official.items()})


@case(NAMES, "names that are numbers", "mae.pth", "no state dict", "its keys are 0, 1")
def _(w: Workspace) -> Arguments:
    return w.saved(dict(enumerate(w.official.values())))


@case(NAMES, "extra state of a module beside the weights")
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "blocks.0._extra_state": {"amax": 1.0}})


# Containers

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


@case(CONTAINERS, "safetensors with more bytes than it says", "mae.safetensors", "cannot be read as a safetensors file")
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


@case(CONTAINERS, "NumPy arrays in a file of torch.save", "mae.pth", "no state dict", "its keys are")
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
    distributed_checkpoint.save(w.alone(), checkpoint_id=w.directory / "parts", no_dist=True)
    return {"mae": w.directory / "parts"}


@case(CONTAINERS, "a file of such a directory", "__0_0.distcp", "torch.distributed.checkpoint", "dcp_to_torch")
def _(w: Workspace) -> Arguments:
    distributed_checkpoint.save(w.alone(), checkpoint_id=w.directory / "parts", no_dist=True)
    return {"mae": w.directory / "parts" / "__0_0.distcp"}


@case(CONTAINERS, "what `dcp_to_torch` makes of it")
def _(w: Workspace) -> Arguments:
    distributed_checkpoint.save(w.official, checkpoint_id=w.directory / "parts", no_dist=True)
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


# Kinds of models

KINDS = "Other models"


@case(KINDS, "the VQGAN as `--mae`", "last.ckpt", "holds a VQGAN", "--mae takes the MAE-VQGAN")
def _(w: Workspace) -> Arguments:
    published.write_vqgan(w.last, w.tokenizer())
    return {"mae": w.last}


@case(KINDS, "MAE and VQGAN in each other's place", "last.ckpt", "holds a VQGAN", "--mae takes")
def _(w: Workspace) -> Arguments:
    published.write_mae(w.mae, w.alone())
    published.write_vqgan(w.last, w.tokenizer())
    return {"mae": w.last, "vqgan": w.mae}


@case(KINDS, "an MAE-VQGAN as `--vqgan`", "other.pth", "holds an MAE-VQGAN", "--vqgan takes")
def _(w: Workspace) -> Arguments:
    published.write_mae(w.directory / "other.pth", w.official)
    return w.saved(w.alone()) | {"vqgan": w.directory / "other.pth"}


@case(KINDS, "an MAE without a tokenizer, and no `--vqgan`", "mae.pth", "no tokenizer", "pass the VQGAN's file too")
def _(w: Workspace) -> Arguments:
    return w.saved({"model": w.alone()})


@case(KINDS, "an MAE's encoder alone (mae_pretrain_vit_large.pth)", "mae.pth", "an encoder alone", "--mae takes")
def _(w: Workspace) -> Arguments:
    return w.saved(
        {"model": {name: t for name, t in w.alone().items() if "decoder" not in name and name != "mask_token"}}
    )


@case(KINDS, "a fine-tuned classifier", "mae.pth", "an encoder alone", "--mae takes")
def _(w: Workspace) -> Arguments:
    state = {name: t for name, t in w.alone().items() if "decoder" not in name and name != "mask_token"}
    return w.saved({"model": {**state, "head.weight": torch.ones(1000, 64), "head.bias": torch.ones(1000)}})


def _pixel(w: Workspace) -> dict[str, Tensor]:
    return w.alone() | {"decoder_pred.weight": torch.ones(768, 32), "decoder_pred.bias": torch.ones(768)}


@case(KINDS, "an MAE of pixels (mae_visualize_vit_large.pth)", "mae.pth", "MAE of pixels", "--mae takes")
def _(w: Workspace) -> Arguments:
    return w.saved({"model": _pixel(w)})


@case(KINDS, "an MAE of pixels beside a VQGAN", "mae.pth", "last.ckpt", "MAE of pixels", "do not belong together")
def _(w: Workspace) -> Arguments:
    return w.pair({"model": _pixel(w)}, {"state_dict": w.tokenizer()})


@case(
    KINDS, "a VQGAN of other codes (16384)", "last.ckpt", "16384 codes", "predicts one of 64", "do not belong together"
)
def _(w: Workspace) -> Arguments:
    other = w.tokenizer() | {"quantize.embedding.weight": torch.ones(16384, 16)}
    return w.pair(w.alone(), {"state_dict": other})


@case(KINDS, "a VQGAN of another patch (f8)", "mae.pth", "8 pixels", "16")
def _(w: Workspace) -> Arguments:
    other = {name: t for name, t in w.tokenizer().items() if not name.startswith(("encoder.down.4", "decoder.up.4"))}
    return w.pair(w.alone(), {"state_dict": other})


@case(
    KINDS,
    "latent diffusion's `first_stage_model.*`",
    remarks=("'first_stage_model.' is taken off", "last.ckpt: 2 keys model.*"),
)
def _(w: Workspace) -> Arguments:
    state = {f"first_stage_model.{name}": tensor for name, tensor in w.tokenizer().items()}
    more = {"model.diffusion_model.out.weight": torch.ones(2), "model.diffusion_model.out.bias": torch.ones(2)}
    return w.pair(w.alone(), {"state_dict": {**more, **state}})


@case(KINDS, "a VQGAN with LitEma's averages beside it", remarks=("last.ckpt: 2 keys model_ema.*",))
def _(w: Workspace) -> Arguments:
    averages = {"model_ema.decay": torch.tensor(0.999), "model_ema.encoderconv_inweight": torch.ones(3)}
    return w.pair(w.alone(), {"state_dict": {**w.tokenizer(), **averages}})


@case(KINDS, "a Gumbel VQGAN", "last.ckpt", "a Gumbel VQGAN", "--vqgan takes")
def _(w: Workspace) -> Arguments:
    other = {name: t for name, t in w.tokenizer().items() if not name.startswith("quantize.")}
    more = {"quantize.embed.weight": torch.ones(64, 16), "quantize.proj.weight": torch.ones(64, 16, 1, 1)}
    return w.pair(w.alone(), {"state_dict": {**other, **more}})


@case(KINDS, "an autoencoder without codes (KL)", "last.ckpt", "without codes", "--vqgan takes")
def _(w: Workspace) -> Arguments:
    return w.pair(w.alone(), {"state_dict": {n: t for n, t in w.tokenizer().items() if not n.startswith("quantize.")}})


@case(KINDS, "a VQModel with the names of diffusers", "last.ckpt", "diffusers", "--vqgan takes")
def _(w: Workspace) -> Arguments:
    state = {"encoder.conv_in.weight": torch.ones(3), "encoder.down_blocks.0.resnets.0.conv1.weight": torch.ones(3)}
    return w.pair(w.alone(), state)


@case(KINDS, "an MAE with the names of transformers", "mae.pth", "Hugging Face transformers", "--mae takes")
def _(w: Workspace) -> Arguments:
    name = "vit.embeddings.patch_embeddings.projection.weight"
    return w.saved({name: torch.ones(3), "decoder.decoder_pred.weight": torch.ones(3)})


@case(KINDS, "a model that is converted already", "model.safetensors", "converted already", "--model")
def _(w: Workspace) -> Arguments:
    save_file(
        {"vqgan.quantize.embedding.weight": torch.ones(3), "cls_token": torch.ones(3)},
        w.directory / "model.safetensors",
    )
    return {"mae": w.directory / "model.safetensors"}


@case(KINDS, "an adapter (LoRA)", "mae.pth", "adapter", "--mae takes")
def _(w: Workspace) -> Arguments:
    return w.saved({"base_model.blocks.0.attn.qkv.lora_A.weight": torch.ones(3)})


@case(KINDS, "flattened parts of FSDP", "mae.pth", "FSDP", "FULL_STATE_DICT")
def _(w: Workspace) -> Arguments:
    return w.saved({"model": {"_flat_param": torch.ones(300), "blocks.0._flat_param": torch.ones(300)}})


@case(KINDS, "another model altogether", "mae.pth", "no model of a known kind", "conv1.weight", "--mae takes")
def _(w: Workspace) -> Arguments:
    return w.saved({"conv1.weight": torch.ones(3), "bn1.weight": torch.ones(3)})


@case(KINDS, "two tokenizers that differ", "last.ckpt", "mae.pth", "disagree about quantize.embedding.weight")
def _(w: Workspace) -> Arguments:
    other = w.tokenizer()
    other["quantize.embedding.weight"] = other["quantize.embedding.weight"] * 1.01
    return w.pair(w.official, other)


@case(KINDS, "a tokenizer without a weight", "last.ckpt", "quant_conv.bias is missing")
def _(w: Workspace) -> Arguments:
    return w.pair(w.alone(), {name: t for name, t in w.tokenizer().items() if name != "quant_conv.bias"})


# Tensors

TENSORS = "Tensors"


@case(TENSORS, "`nn.Parameter` and `nn.Buffer`")
def _(w: Workspace) -> Arguments:
    kinds = (nn.Parameter, nn.Buffer)
    return w.saved({name: kinds[i % 2](tensor) for i, (name, tensor) in enumerate(w.official.items())})


@case(TENSORS, "`nn.Parameter` with attributes")
def _(w: Workspace) -> Arguments:
    state = {name: nn.Parameter(tensor) for name, tensor in w.official.items()}
    for parameter in state.values():
        parameter.no_weight_decay, parameter.group = True, ["a", 1]  # pyright: ignore[reportAttributeAccessIssue]
    return w.saved(state)


@case(TENSORS, "tensors with attributes")
def _(w: Workspace) -> Arguments:
    for tensor in w.official.values():
        tensor.tied = "no"  # pyright: ignore[reportAttributeAccessIssue]
    return w.saved(w.official)


class Plain(Tensor):
    """A subclass that adds nothing to the numbers."""


class Scaled(Tensor):
    """A subclass whose numbers are to be multiplied by another tensor."""


@case(TENSORS, "a plain subclass of Tensor")
def _(w: Workspace) -> Arguments:
    return w.saved({name: tensor.as_subclass(Plain) for name, tensor in w.official.items()})


@case(TENSORS, "a subclass with a scale beside its numbers", "mae.pth", "Scaled", "save it as a plain tensor")
def _(w: Workspace) -> Arguments:
    scaled = w.official["norm.weight"].as_subclass(Scaled)
    scaled.scale = torch.tensor(2.0)  # pyright: ignore[reportAttributeAccessIssue]
    return w.saved({**w.official, "norm.weight": scaled})


@case(TENSORS, "DTensor, replicated or whole on one process")
def _(w: Workspace) -> Arguments:
    with one_process(w):
        mesh = init_device_mesh("cpu", (1,))
        places = (Replicate(), Shard(0))
        return w.saved({n: distribute_tensor(t, mesh, [places[i % 2]]) for i, (n, t) in enumerate(w.official.items())})


@case(TENSORS, "DTensor, one process's shard", "mae.pth", "one process's part", "full_tensor()")
def _(w: Workspace) -> Arguments:
    with first_of_two():
        mesh = init_device_mesh("cpu", (2,))
        half = w.official["norm.weight"][:32]
        return w.saved({**w.official, "norm.weight": DTensor.from_local(half, mesh, [Shard(0)], run_check=False)})


@case(TENSORS, "DTensor, a summand of a sum to come", "mae.pth", "one process's part", "full_tensor()")
def _(w: Workspace) -> Arguments:
    with first_of_two():
        mesh = init_device_mesh("cpu", (2,))
        part = DTensor.from_local(w.official["norm.weight"] / 2, mesh, [Partial()], run_check=False)
        return w.saved({**w.official, "norm.weight": part})


@case(TENSORS, "the lazy negative bit")
def _(w: Workspace) -> Arguments:
    return w.saved({name: torch._neg_view(-tensor) for name, tensor in w.official.items()})


@case(TENSORS, "the negative bit of a conjugate's imaginary part")
def _(w: Workspace) -> Arguments:
    return w.saved({n: torch.complex(torch.zeros_like(t), -t).conj().imag for n, t in w.official.items()})


@case(TENSORS, "the lazy negative bit in the old format")
def _(w: Workspace) -> Arguments:
    state = {name: torch._neg_view(-tensor) for name, tensor in w.official.items()}
    return w.saved(state, _use_new_zipfile_serialization=False)


@case(TENSORS, "complex numbers", "mae.pth", "norm.bias", "complex")
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "norm.bias": torch.complex(w.official["norm.bias"], w.official["norm.bias"]).conj()})


@case(TENSORS, "views of one storage, at offsets")
def _(w: Workspace) -> Arguments:
    flat = torch.cat([tensor.flatten() for tensor in w.official.values()])
    parts = flat.split([tensor.numel() for tensor in w.official.values()])
    state = {n: part.view(t.shape) for part, (n, t) in zip(parts, w.official.items(), strict=True)}
    return w.saved(state)


@case(TENSORS, "views of one storage in the old format")
def _(w: Workspace) -> Arguments:
    flat = torch.cat([tensor.flatten() for tensor in w.official.values()])
    parts = flat.split([tensor.numel() for tensor in w.official.values()])
    state = {n: part.view(t.shape) for part, (n, t) in zip(parts, w.official.items(), strict=True)}
    return w.saved(state, _use_new_zipfile_serialization=False)


@case(TENSORS, "transposed, strided and channels-last tensors")
def _(w: Workspace) -> Arguments:
    def other(tensor: Tensor) -> Tensor:
        if tensor.ndim == 4:
            return tensor.to(memory_format=torch.channels_last)
        if tensor.ndim == 2:
            return tensor.T.contiguous().T
        return torch.stack([tensor, tensor + 1], -1)[..., 0]

    return w.saved({name: other(tensor) for name, tensor in w.official.items()})


@case(TENSORS, "small expanded tensors (stride 0)")
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "norm.bias": w.official["norm.bias"][:1].clone().expand(64)})


def _rounding(dtype: torch.dtype) -> Callable[[str], torch.dtype]:
    return lambda name: torch.float32 if name.startswith("vae.") else dtype


for _dtype in (torch.bfloat16, torch.float16):

    def _stored(dtype: torch.dtype) -> None:
        name = str(dtype).removeprefix("torch.")

        @case(TENSORS, f"{name} throughout", precision=lambda _: dtype)
        def _(w: Workspace) -> Arguments:
            return w.saved({name: tensor.to(dtype) for name, tensor in w.official.items()})

        @case(
            TENSORS,
            f"a {name} MAE with its tokenizer beside the float32 VQGAN",
            remarks=("agree but for rounding", f"{name} and float32"),
            precision=_rounding(dtype),
        )
        def _(w: Workspace) -> Arguments:
            return w.pair({name: tensor.to(dtype) for name, tensor in w.official.items()}, w.tokenizer())

    _stored(_dtype)


@case(TENSORS, "a float32 MAE with its tokenizer beside a bfloat16 VQGAN", remarks=("agree but for rounding",))
def _(w: Workspace) -> Arguments:
    return w.pair(w.official, {name: tensor.bfloat16() for name, tensor in w.tokenizer().items()})


@case(TENSORS, "bfloat16 in safetensors", precision=lambda _: torch.bfloat16)
def _(w: Workspace) -> Arguments:
    return w.written("mae.safetensors", save({name: tensor.bfloat16() for name, tensor in w.official.items()}))


@case(TENSORS, "float64", remarks=("313 tensors of float64 are rounded",))
def _(w: Workspace) -> Arguments:
    return w.saved({name: tensor.double() for name, tensor in w.official.items()})


@case(TENSORS, "float8", "mae.pth", "float8_e4m3fn", "scales", "bfloat16")
def _(w: Workspace) -> Arguments:
    return w.saved({name: tensor.to(torch.float8_e4m3fn) for name, tensor in w.official.items()})


@case(TENSORS, "float8 in safetensors", "mae.safetensors", "float8_e5m2", "scales", "bfloat16")
def _(w: Workspace) -> Arguments:
    return w.written("mae.safetensors", save({name: t.to(torch.float8_e5m2) for name, t in w.official.items()}))


@case(TENSORS, "8-bit whole numbers", "mae.pth", "int8", "quantised")
def _(w: Workspace) -> Arguments:
    return w.saved({name: (tensor * 100).to(torch.int8) for name, tensor in w.official.items()})


@case(TENSORS, "a quantised tensor", "mae.pth", "norm.weight", "quantised", "dequantize()")
def _(w: Workspace) -> Arguments:
    quantised = torch.quantize_per_tensor(w.official["norm.weight"], 0.1, 0, torch.qint8)
    return w.saved({**w.official, "norm.weight": quantised})


@case(TENSORS, "a sparse tensor", "mae.pth", "norm.weight", "sparse", "to_dense()")
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "norm.weight": w.official["norm.weight"].to_sparse()})


@case(TENSORS, "a tensor on the meta device", "mae.pth", "norm.weight", "meta")
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "norm.weight": w.official["norm.weight"].to("meta")})


@case(TENSORS, "a weight that is text", "mae.pth", "norm.weight", "no tensor but str")
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "norm.weight": "weights/norm.bin"})


@case(TENSORS, "a weight that is not a number", "mae.pth", "decoder_pred.bias", "not finite")
def _(w: Workspace) -> Arguments:
    w.official["decoder_pred.bias"][0] = torch.nan
    return w.saved(w.official)


# Hostile files

HOSTILE = "Sizes and streams that no tool writes"


@case(HOSTILE, "one number expanded to a matrix of 2^62 elements", "mae.pth", "fewer stored numbers", "contiguous()")
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "patch_embed.proj.weight": torch.ones(1).expand(2**31, 3, 2**14, 2**14)})


@case(HOSTILE, "safetensors that claim 2^62 elements", "mae.safetensors", "cut short")
def _(w: Workspace) -> Arguments:
    header = json.dumps({"cls_token": {"dtype": "F32", "shape": [2**31, 2**31], "data_offsets": [0, 2**63]}}).encode()
    return w.written("mae.safetensors", struct.pack("<Q", len(header)) + header)


@case(HOSTILE, "a stack of 3,000 layers", "mae.pth", "3000 parts blocks.*", "1000")
def _(w: Workspace) -> Arguments:
    more = {f"blocks.{number}.norm1.bias": torch.zeros(1) for number in range(3, 3000)}
    return w.saved({**w.official, **more})


@case(HOSTILE, "channels that do not divide", "mae.pth", "sizes must all be positive")
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "vae.encoder.conv_in.weight": torch.ones(33, 3, 3, 3)})


@case(HOSTILE, "a position embedding of no square", "mae.pth", "pos_embed has shape (1, 198, 64)")
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "pos_embed": torch.ones(1, 198, 64)})


def _stream(w: Workspace, pickled: bytes) -> Arguments:
    """A zip file as torch.save writes it, with this pickle."""
    with zipfile.ZipFile(w.mae, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    return {"mae": w.mae}


@case(HOSTILE, "a pickle that calls os.system", "mae.pth", "no state dict")
def _(w: Workspace) -> Arguments:
    return _stream(w, b"cos\nsystem\n(S'touch " + str(w.directory / "canary").encode() + b"'\ntR.")


@case(HOSTILE, "a pickle that contains itself", "mae.pth", "no state dict", "its keys are model")
def _(w: Workspace) -> Arguments:
    content: dict[str, Any] = {}
    content["model"] = content
    return w.saved(content)


@case(HOSTILE, "a state dict in a cycle")
def _(w: Workspace) -> Arguments:
    content: dict[str, Any] = {"model": w.official}
    content["parent"] = [content]
    return w.saved(content)


@case(HOSTILE, "a tuple nested a million deep, as a key", "mae.pth", "nests objects", "deep")
def _(w: Workspace) -> Arguments:
    return _stream(w, b"\x80\x02})" + b"\x85" * 10**6 + b"Ns.")


@case(HOSTILE, "lists nested a million deep", "mae.pth", "nests objects", "deep")
def _(w: Workspace) -> Arguments:
    return _stream(w, b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b".")


@case(HOSTILE, "an object numbered 2^31 (32 GB in Python's own reader)", "mae.pth", "numbers an object 2147483647")
def _(w: Workspace) -> Arguments:
    return _stream(w, b"\x80\x02Nr\xff\xff\xff\x7f.")


@case(HOSTILE, "a pickle of six million objects", "mae.pth", "more than 5,000,000 instructions")
def _(w: Workspace) -> Arguments:
    return _stream(w, b"\x80\x02(" + b"]" * 6 * 10**6 + b"l.")


@case(HOSTILE, "one storage described as two types", "mae.pth", "described twice")
def _(w: Workspace) -> Arguments:
    w.saved({"a": torch.ones(4), "b": torch.ones(4, dtype=torch.float64)})
    with zipfile.ZipFile(w.mae) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pickled = entries["mae/data.pkl"].replace(b"X\x01\x00\x00\x001", b"X\x01\x00\x00\x000")
    with zipfile.ZipFile(w.mae, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, pickled if name == "mae/data.pkl" else content)
    return {"mae": w.mae}


@case(HOSTILE, "an archive with two entries of one name", "mae.pth", "two of its entries have one name")
def _(w: Workspace) -> Arguments:
    w.saved(w.official)
    with zipfile.ZipFile(w.mae, "a") as archive, contextlib.suppress(UserWarning):
        archive.writestr("mae/data/0", bytes(4))
    return {"mae": w.mae}
