"""As training scripts save."""

from collections import defaultdict

import torch

import published
from checkpoint_makers.common import Arguments, Workspace, case, module_of

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


@case(WRITERS, "no state dict: epoch and losses", "mae.pth", "no state dict", "its keys are epoch (int), losses (list)")
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
