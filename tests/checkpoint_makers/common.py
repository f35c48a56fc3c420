"""What the makers share: the weights and the directory that they make files of, and the list that they are in."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.testing._internal.distributed.fake_pg import FakeStore

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
