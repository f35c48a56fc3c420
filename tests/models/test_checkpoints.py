import torch

from taskvec.models.checkpoints import from_official


def test_names_and_shapes_are_ours() -> None:
    official = {
        "cls_token": torch.zeros(1, 1, 8, dtype=torch.float16),
        "pos_embed": torch.zeros(1, 5, 8),
        "decoder_pos_embed": torch.zeros(1, 5, 4),
        "blocks.3.attn.qkv.weight": torch.zeros(24, 8),
        "norm.bias": torch.zeros(8),
        "decoder_blocks.0.norm1.bias": torch.zeros(4),
        "decoder_norm.weight": torch.zeros(4),
        "patch_embed.proj.bias": torch.zeros(8),
        "decoder_embed.bias": torch.zeros(4),
        "vae.quant_conv.bias": torch.zeros(2),
    }
    converted = from_official(official)
    assert {name: tuple(tensor.shape) for name, tensor in converted.items()} == {
        "cls_token": (8,),
        "encoder.pos_embed": (5, 8),
        "decoder.pos_embed": (5, 4),
        "encoder.blocks.3.attn.qkv.weight": (24, 8),
        "encoder.norm.bias": (8,),
        "decoder.blocks.0.norm1.bias": (4,),
        "decoder.norm.weight": (4,),
        "patch_embed.bias": (8,),
        "decoder_embed.bias": (4,),
        "vqgan.quant_conv.bias": (2,),
    }
    assert {tensor.dtype for tensor in converted.values()} == {torch.float32}
