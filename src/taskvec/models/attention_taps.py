"""Where the head outputs of a Hugging Face decoder are reached, found by running it.

Nearly all models of the library transformers send their attention through one function a call, which is told the module
and returns [rows, tokens, heads, width]: z, before any gate, norm or projection. That is where ``AttentionTap`` reads
and replaces it. Where a model does not use it, z is looked for as what some module is given, most often the output
projection. Names and configurations are not believed: ``find_taps`` runs a few tokens and compares every tap with the
results of the attention products themselves, and what replacing does at the one with what it does at the other.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from inspect import Parameter, signature
from itertools import permutations
from math import prod
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from taskvec.models.interface import Handle, HeadFunction, HeadOutput, ProjectionTap, Tap

INTERFACE = "ALL_ATTENTION_FUNCTIONS"  # what a model's file calls the library's attention functions
ROWS, TOKENS = 3, 11  # of the dry run, numbers that hardly are those of heads
AXES = 4  # rows, tokens, heads, width

# what is called with the head outputs of an attention module, in this order; a tuple is never changed, only replaced
_attached: WeakKeyDictionary[nn.Module, tuple[HeadFunction, ...]] = WeakKeyDictionary()
_attaching = Lock()
# what is called in place of a model's attention function: every thread and every asynchronous task has its own
_instead: ContextVar[Callable[..., Any] | None] = ContextVar("instead", default=None)


@dataclass(frozen=True)
class AttentionTap:
    """An attention module, whose attention function returns z. It is of a decoder that ``find_taps`` has seen."""

    module: nn.Module

    def attach(self, function: HeadFunction, heads: int) -> Handle:
        def checked(z: HeadOutput) -> HeadOutput | None:
            if z.shape[2] != heads:
                raise ValueError(f"the attention of {type(self.module).__name__} has {z.shape[2]} heads, not {heads}")
            return function(z)

        with _attaching:
            _attached[self.module] = (*_attached.get(self.module, ()), checked)
        return _Attachment(self.module, checked)

    def weights(self) -> Iterable[Tensor]:
        return self.module.parameters()


@dataclass(frozen=True)
class _Attachment:
    module: nn.Module
    function: HeadFunction

    def remove(self) -> None:
        with _attaching:
            others = tuple(each for each in _attached.pop(self.module) if each is not self.function)
            if others:
                _attached[self.module] = others


class _Watched(Mapping[str, Callable[..., Any]]):
    """The attention functions that one file of the library chooses among, made to call what is attached.

    It stands in the file in place of the library's own ``AttentionInterface``. The model keeps its choice of attention,
    and thereby its masks and all that else depends on it; without anything attached the functions are the same.
    """

    def __init__(self, functions: Any):
        self._functions = functions

    def get_interface(self, name: str, default: Callable[..., Any]) -> Callable[..., Any]:
        return _watched(self._functions.get_interface(name, default))

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return _watched(self._functions[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._functions, name)


def _watched(attention: Callable[..., Any]) -> Callable[..., Any]:
    def watched(module: nn.Module, query: Tensor, *args: Any, **kwargs: Any) -> Any:
        output = (_instead.get() or attention)(module, query, *args, **kwargs)
        functions = _attached.get(module)
        if not functions:
            return output
        z, *others = output
        rows, heads, tokens, _ = query.shape
        if z.ndim != AXES or z.shape[:3] != (rows, tokens, heads):  # another use of the function, not of heads
            return output
        for function in functions:
            replaced = function(z)
            z = z if replaced is None else replaced
        return (z, *others)

    return watched


@contextmanager
def attending_by(function: Callable[..., Any]) -> Iterator[None]:
    """In passes that this thread runs inside the block, ``function`` is in place of the attention function of decoders
    that ``find_taps`` has seen: it gets and returns what that does, and taps see what it returns."""
    token = _instead.set(function)
    try:
        yield
    finally:
        _instead.reset(token)


def _watch(model: nn.Module) -> None:
    """Have the files of all modules' classes call what is attached, from now on."""
    kinds = {kind for module in model.modules() for kind in type(module).__mro__ if "forward" in vars(kind)}
    with _attaching:
        for file in {sys.modules.get(kind.__module__) for kind in kinds}:
            functions = getattr(file, INTERFACE, None)
            if functions is not None and not isinstance(functions, _Watched):
                setattr(file, INTERFACE, _Watched(functions))


@dataclass(frozen=True)
class DecoderTaps:
    """The taps of a decoder, in the order in which they run, and what attention returned there.

    taps: of every layer in which attention ran. names: their modules'. heads, widths: of the head outputs of each.
    layers: the number of the model's layer that each is in; where a layer has several, they are numbered in their
    order. without: the numbers of layers in which no attention ran. causal: whether no token's logits depend on later
    tokens. remarks: what a user should know, one sentence each.
    """

    taps: tuple[Tap, ...] = field(repr=False)
    names: tuple[str, ...]
    heads: tuple[int, ...]
    widths: tuple[int, ...]
    layers: tuple[int, ...]
    without: tuple[int, ...]
    causal: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Product:
    """What probabilities times values gave, in the order of axes in which the model computes it."""

    result: Tensor
    keys: int  # that a row of probabilities is over
    module: str  # that was running

    def order(self, z: Tensor, *, scaled: bool) -> tuple[int, ...] | None:
        """The order of z's axes in which it is the result, None where it is not the result at all.

        With ``scaled`` up to a number for every row, token and head, by which some attention functions end.
        """
        if self.result.numel() != z.numel():
            return None
        for order in permutations(range(AXES)):
            shape = [z.shape[axis] for axis in order]
            if not _merges(shape, self.result.shape):
                continue
            result = self.result.reshape(shape).permute(*(order.index(axis) for axis in range(AXES)))
            if _same(result, z) or (scaled and _same(_directions(result), _directions(z))):
                return order
        return None


def _merges(shape: Iterable[int], merged: Iterable[int]) -> bool:
    """Whether ``merged`` is the shape with some neighbouring axes as one."""
    sizes = iter(shape)
    for size in merged:
        whole = 1
        while whole < size:
            whole *= next(sizes, size + 1)
        if whole != size:
            return False
    return prod(sizes) == 1


def _same(one: Tensor, other: Tensor, size: Tensor | None = None, dtype: torch.dtype | None = None) -> bool:
    """Whether two tensors are equal but for rounding, compared with ``size`` or their own; nothing equals 0.

    dtype: that in which they were computed, where it is not theirs.
    """
    rounding = 1e-3 if (dtype or one.dtype) in (torch.float32, torch.float64) else 0.05
    return bool((one - other).float().norm() < rounding * (other if size is None else size).float().norm())


def _directions(z: HeadOutput) -> HeadOutput:
    return nn.functional.normalize(z, dim=-1)


class _Witness(TorchFunctionMode):
    """Sees the head outputs where they are computed: attention in one kernel, and softmax times values.

    They are numbered in the order in which they come; ``change`` says by number what takes the place of which.
    """

    def __init__(self, running: list[str], change: Mapping[int, Callable[[Tensor], Tensor]] | None = None):
        super().__init__()
        self.products: list[_Product] = []
        self._running = running
        self._change = change or {}
        self._probabilities: dict[int, Tensor] = {}  # by id, kept so that no id is given twice

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if not isinstance(output, Tensor):
            return output
        if name == "scaled_dot_product_attention":
            return self._seen(output, args[1].shape[-2])
        if name in ("softmax", "_softmax"):
            self._probabilities[id(output)] = output
            return output
        tensors = [each for each in _flat((*args, *(kwargs or {}).values())) if isinstance(each, Tensor)]
        if name in ("matmul", "__matmul__", "bmm", "einsum", "baddbmm"):
            of = [each for each in tensors if id(each) in self._probabilities]
            return self._seen(output, of[0].shape[-1]) if of else output
        if tensors and id(tensors[0]) in self._probabilities:  # dropout, another type, a part, ...
            self._probabilities[id(output)] = output
        return output

    def _seen(self, output: Tensor, keys: int) -> Tensor:
        number = len(self.products)
        self.products.append(_Product(output.detach().clone(), keys, self._running[-1] if self._running else ""))
        return self._change[number](output) if number in self._change else output


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _flat(value)
        else:
            yield value


@dataclass(frozen=True)
class _Found:
    """A tap at which a product is reached: its module, z there, and the order of z's axes in the product."""

    tap: Tap
    module: str
    z: HeadOutput
    order: tuple[int, ...] = ()


@dataclass
class _Run:
    """What a dry run has shown."""

    logits: Tensor
    products: list[_Product]
    calls: list[tuple[str, Tensor]]  # modules and z, where the attention function returned it
    inputs: list[tuple[str, Tensor]]  # modules and what they were given, where it could be z of all heads


def find_taps(model: nn.Module) -> DecoderTaps:
    """Where the head outputs of this decoder are reached; of a composite model, where text runs.

    The model is run a few times on ``ROWS`` x ``TOKENS`` tokens. Raises ValueError with the reason where no taps can be
    right: the model cannot be run on tokens alone, has no attention, computes with its head outputs before any module
    is given them, uses them more than once, or runs attention several times in a module and pass.
    """
    name = type(model).__name__
    if model.training:
        raise ValueError(f"{name} is in training mode: call model.eval() first")
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(f"{name} has an encoder and a decoder: expected a decoder alone")
    _watch(model)
    tokens, remarks = _tokens(model), []
    plain = _run(model, tokens)
    modules = dict(model.named_modules())  # after a pass, as some models choose their attention in the first
    found: dict[int, _Found] = {}  # by the number of the product
    _match(plain.products, ((each, z, AttentionTap(modules[each])) for each, z in plain.calls), found)
    _require_once(name, [each for each, _ in plain.calls], found)
    if not plain.products:
        found = {number: _Found(AttentionTap(modules[each]), each, z) for number, (each, z) in enumerate(plain.calls)}
        _require_once(name, [each for each, _ in plain.calls], found)
        remarks.append("its attention runs in a kernel that cannot be looked into: the taps are not checked against it")
    if not found:
        inputs = _run(model, tokens, with_inputs=True).inputs
        _match(plain.products, ((each, x, ProjectionTap(modules[each])) for each, x in inputs), found)
        _require_once(name, [each for each, _ in inputs], found)
        remarks.append("head outputs are reached as inputs of modules, not through the library's attention function")
    # what mixes streams or experts, not tokens, has fewer keys
    missed = [each for number, each in enumerate(plain.products) if each.keys >= TOKENS and number not in found]
    if not found:
        raise ValueError(_unreached(name, missed))
    if missed:
        remarks.append(f"some attention is not reached and left alone: {_several([each.module for each in missed])}")
    found = dict(sorted(found.items()))
    if plain.products:
        _require_equivalent(model, tokens, plain.logits, found)
    names = tuple(each.module for each in found.values())
    layers, without = _layers(model, names)
    if len(set(layers)) < len(layers):
        layers = tuple(range(len(layers)))
        remarks.append("a layer has several attentions: they are numbered in the order in which they run")
    if without:
        remarks.append(f"no attention ran in layers {_several([str(each) for each in without])}")
    changed = tokens.clone()
    changed[:, -1] = tokens[:, 0]
    dtype = next(iter(found.values())).z.dtype
    causal = _same(_run(model, changed).logits[:, :-1], plain.logits[:, :-1], dtype=dtype)
    if not causal:
        remarks.append("logits of a token depend on later tokens")
    return DecoderTaps(
        tuple(each.tap for each in found.values()),
        names,
        tuple(each.z.shape[2] for each in found.values()),
        tuple(each.z.shape[3] for each in found.values()),
        layers,
        without,
        causal,
        tuple(remarks),
    )


def _unreached(name: str, missed: list[_Product]) -> str:
    """Why no head outputs are reached."""
    if not missed:
        return f"{name} has no attention: no product of softmax and values was seen in its pass"
    where = _several([each.module for each in missed])
    if all(each.result.numel() % (ROWS * TOKENS) for each in missed) or not any(
        TOKENS in each.result.shape or ROWS * TOKENS in each.result.shape for each in missed
    ):
        return f"{name} attends with other tokens than those that it is given, in {where}"
    return f"{name} computes with its head outputs before any module is given them, in {where}"


def _several(names: list[str], most: int = 4) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _tokens(model: Any) -> Tensor:
    """Different ordinary tokens: none that the configuration says is special, such as padding or an image's place."""
    special: set[int] = set()

    def gather(settings: Any, own: bool = False) -> None:
        if isinstance(settings, dict):
            for name, value in settings.items():
                gather(value, "token" in str(name) or "_id" in str(name))
        elif isinstance(settings, (list, tuple)):
            for value in settings:
                gather(value, own)
        elif own and isinstance(settings, int):
            special.add(settings)

    gather(model.config.to_dict())
    try:
        vocabulary = model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(f"{type(model).__name__} has no one table of embeddings for its tokens") from error
    ordinary = torch.tensor([token for token in range(vocabulary) if token not in special] or [0])
    chosen = torch.randint(len(ordinary), (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    return ordinary[chosen].to(model.device)


def _run(
    model: nn.Module,
    tokens: Tensor,
    *,
    with_inputs: bool = False,
    change: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
) -> _Run:
    """One pass, watched; ``change`` replaces products by their numbers."""
    running: list[str] = []
    run = _Run(torch.empty(0), [], [], [])
    witness = _Witness(running, change)

    def enters(name: str) -> Callable[..., None]:
        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            running.append(name)
            x = inputs[0] if inputs else None
            if with_inputs and isinstance(x, Tensor) and x.ndim > 2 and x.shape[0] == ROWS:
                run.inputs.append((name, x.detach().clone()))

        return enter

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        running.pop()

    def returned(name: str) -> HeadFunction:
        return lambda z: run.calls.append((name, z.detach().clone()))

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(enters(name)).remove)
            stack.callback(module.register_forward_hook(leave).remove)
            stack.enter_context(_attached_to(module, returned(name)))
        with torch.no_grad(), witness:
            run.logits = _logits(model, tokens)
    run.products = witness.products
    return run


@contextmanager
def _attached_to(module: nn.Module, function: HeadFunction) -> Iterator[None]:
    with _attaching:
        _attached[module] = (*_attached.get(module, ()), function)
    try:
        yield
    finally:
        _Attachment(module, function).remove()


def _logits(model: Any, tokens: Tensor) -> Tensor:
    known = signature(model.forward).parameters
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values())
    uncached = {"use_cache": False} if "use_cache" in known or takes_any else {}
    try:
        logits = model(input_ids=tokens, **uncached).logits
    except Exception as error:
        raise ValueError(f"{type(model).__name__} cannot be run on tokens alone: {error}") from error
    if logits.isnan().any():
        raise ValueError(f"{type(model).__name__} has logits that are not numbers")
    return torch.where(logits > torch.finfo(logits.dtype).min / 2, logits, 0)  # some say so that a token never comes


def _match(
    products: list[_Product],
    candidates: Iterable[tuple[str, Tensor, AttentionTap | ProjectionTap]],
    found: dict[int, _Found],
) -> None:
    """Add to ``found`` the first candidate that is the result of each product that is not found yet."""
    for name, x, tap in candidates:
        for number, product in enumerate(products):
            if number in found or x.numel() != product.result.numel():
                continue
            z = x
            if isinstance(tap, ProjectionTap):  # which knows nothing of heads: their width is the product's
                width = product.result.shape[-1]
                if x.shape[-1] % width or product.keys != TOKENS:
                    continue
                z = x.flatten(1, -2).unflatten(-1, (-1, width))
            if (
                z.shape[:2] == (ROWS, TOKENS)
                and (order := product.order(z, scaled=isinstance(tap, AttentionTap))) is not None
            ):
                found[number] = _Found(tap, name, z, order)
                break


def _require_once(name: str, calls: list[str], found: Mapping[int, _Found]) -> None:
    for each in found.values():
        if (times := calls.count(each.module)) > 1:
            raise ValueError(
                f"{name} runs {each.module} {times} times in a pass: its head outputs cannot be told apart"
            )


def _require_equivalent(model: nn.Module, tokens: Tensor, plain: Tensor, found: Mapping[int, _Found]) -> None:
    """ValueError unless head outputs changed at the taps do what they do changed at the products, and do something."""

    def factors(z: HeadOutput) -> Tensor:
        """Another number for every head and token."""
        _, tokens, heads, _ = z.shape
        by_head = torch.linspace(0.3, 1.4, heads, device=z.device)[:, None]
        by_token = torch.linspace(0.6, 1.2, tokens, device=z.device)[:, None, None]
        return (by_head * by_token)[None].to(z.dtype)

    def at_product(each: _Found) -> Callable[[Tensor], Tensor]:
        shape = [each.z.shape[axis] for axis in each.order]
        return lambda result: (result.reshape(shape) * factors(each.z).permute(each.order)).reshape(result.shape)

    expected = _run(model, tokens, change={number: at_product(each) for number, each in found.items()}).logits
    with ExitStack() as stack:
        for each in found.values():
            stack.callback(each.tap.attach(lambda z: z * factors(z), each.z.shape[2]).remove)
        with torch.no_grad():
            changed = _logits(model, tokens)
    name = type(model).__name__
    if torch.equal(expected, plain):
        raise ValueError(f"{name} does not depend on its head outputs")
    if not _same(changed, expected, expected - plain, next(iter(found.values())).z.dtype):
        raise ValueError(f"{name} uses its head outputs elsewhere than where they are reached")


def _layers(model: nn.Module, names: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The number of the layer that each module is in, and the numbers of the layers of which none is.

    ValueError where they are not of one list of layers.
    """
    split = [re.match(r"(?:(.*?)\.)?(\d+)(?:\.|$)", name) for name in names]
    lists = sorted({each[1] or "" if each else name for each, name in zip(split, names, strict=True)})
    if len(lists) > 1:
        raise ValueError(f"{type(model).__name__} has attention in several stacks of layers: {_several(lists)}")
    layers = tuple(int(each[2]) for each in split if each)
    every = [int(name) for name, _ in model.get_submodule(lists[0]).named_children() if name.isdigit()]
    return layers or (0,), tuple(layer for layer in every if layer not in layers)
