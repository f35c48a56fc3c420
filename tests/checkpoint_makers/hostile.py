"""Sizes and streams that no tool writes."""

import contextlib
import json
import struct
import zipfile
from typing import Any

import torch

from checkpoint_makers.common import Arguments, Workspace, case

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


@case(HOSTILE, "a pickle of three million objects", "mae.pth", "more than 2,000,000 instructions")
def _(w: Workspace) -> Arguments:
    return _stream(w, b"\x80\x02(" + b"]" * 3 * 10**6 + b"l.")


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
