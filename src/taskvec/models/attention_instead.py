"""Attention computed otherwise inside a block: what a model's file calls in place of the library's functions."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import nn

INTERFACE = "ALL_ATTENTION_FUNCTIONS"
_instead: ContextVar[Callable[..., Any] | None] = ContextVar("instead", default=None)


@contextmanager
def attending(function: Callable[..., Any]) -> Iterator[None]:
    token = _instead.set(function)
    try:
        yield
    finally:
        _instead.reset(token)


class _Open(Mapping[str, Callable[..., Any]]):
    def __init__(self, functions: Any):
        self._functions = functions

    def get_interface(self, name: str, default: Callable[..., Any]) -> Callable[..., Any]:
        return _instead.get() or self._functions.get_interface(name, default)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return _instead.get() or self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._functions, name)


def open_attention(model: nn.Module) -> None:
    kinds = {kind for module in model.modules() for kind in type(module).__mro__ if "forward" in vars(kind)}
    for kind in kinds:
        file = vars(sys.modules.get(kind.__module__, kind))
        if INTERFACE in file and not isinstance(file[INTERFACE], _Open):
            setattr(sys.modules[kind.__module__], INTERFACE, _Open(file[INTERFACE]))
