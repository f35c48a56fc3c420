"""Other models than the one that is needed."""

import torch
from safetensors.torch import save_file
from torch import Tensor

import published
from checkpoint_makers.common import Arguments, Workspace, case

KINDS = "Other models"


@case(KINDS, "the VQGAN as `--mae`", "last.ckpt", "holds a VQGAN", "--mae takes the MAE-VQGAN")
def _(w: Workspace) -> Arguments:
    published.write_vqgan(w.last, w.tokenizer())
    return {"mae": w.last}


@case(KINDS, "MAE and VQGAN in each other's place", "last.ckpt", "holds a VQGAN, which is for --vqgan", "--mae takes")
def _(w: Workspace) -> Arguments:
    published.write_mae(w.mae, w.alone())
    published.write_vqgan(w.last, w.tokenizer())
    return {"mae": w.last, "vqgan": w.mae}


@case(KINDS, "an MAE-VQGAN as `--vqgan`", "other.pth", "holds an MAE-VQGAN, which is for --mae", "--vqgan takes")
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


@case(KINDS, "a VQGAN of another patch (f8)", "last.ckpt", "8 pixels", "mae.pth has patches of 16")
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
    averages = {"model_ema.encoderconv_inbias": torch.ones(3), "model_ema.encoderconv_inweight": torch.ones(3)}
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
