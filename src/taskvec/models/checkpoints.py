"""Parameter names of the published MAE-VQGAN files, and ours."""

from collections.abc import Mapping

from torch import Tensor

# first match wins; names that no rule touches are the same in both
_RENAMED_PREFIXES = (
    ("vae.", "vqgan."),
    ("patch_embed.proj.", "patch_embed."),
    ("blocks.", "encoder.blocks."),
    ("norm.", "encoder.norm."),
    ("pos_embed", "encoder.pos_embed"),
    ("decoder_blocks.", "decoder.blocks."),
    ("decoder_norm.", "decoder.norm."),
    ("decoder_pos_embed", "decoder.pos_embed"),
)
_WITHOUT_BATCH_AXES = {"cls_token": 1, "mask_token": 1, "encoder.pos_embed": 2, "decoder.pos_embed": 2}


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in the published naming, in ours, as float32; load it with ``strict=True``."""
    converted = {}
    for official, tensor in state.items():
        name = official
        for old, new in _RENAMED_PREFIXES:
            if official.startswith(old):
                name = new + official.removeprefix(old)
                break
        axes = _WITHOUT_BATCH_AXES.get(name)
        converted[name] = (tensor.reshape(tensor.shape[-axes:]) if axes else tensor).float()
    return converted
