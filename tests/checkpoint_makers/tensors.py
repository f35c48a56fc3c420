"""Tensors: classes, layouts, precisions."""

from collections.abc import Callable

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from checkpoint_makers.common import Arguments, Workspace, case, first_of_two, one_process

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


@case(TENSORS, "a plain subclass of Tensor", remarks=("of the class checkpoint_makers.tensors.Plain",))
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
    return w.saved({name: torch._neg_view(-tensor) for name, tensor in w.official.items()})  # pyright: ignore[reportPrivateImportUsage]


@case(TENSORS, "the negative bit of a conjugate's imaginary part")
def _(w: Workspace) -> Arguments:
    return w.saved({n: torch.complex(torch.zeros_like(t), -t).conj().imag for n, t in w.official.items()})


@case(TENSORS, "the lazy negative bit in the old format")
def _(w: Workspace) -> Arguments:
    state = {name: torch._neg_view(-tensor) for name, tensor in w.official.items()}  # pyright: ignore[reportPrivateImportUsage]
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
