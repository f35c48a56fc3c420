"""Prefixes and wrappers of names."""

import torch
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from checkpoint_makers.common import Arguments, Workspace, case, module_of, one_process

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


@case(NAMES, "names that are bytes", "mae.pth", "names are not text")
def _(w: Workspace) -> Arguments:
    return w.saved({name.encode(): tensor for name, tensor in w.official.items()})


@case(NAMES, "names that are numbers", "mae.pth", "names are not text")
def _(w: Workspace) -> Arguments:
    return w.saved(dict(enumerate(w.official.values())))


@case(NAMES, "extra state of a module beside the weights", remarks=("blocks.0._extra_state",))
def _(w: Workspace) -> Arguments:
    return w.saved({**w.official, "blocks.0._extra_state": {"amax": 1.0}})
