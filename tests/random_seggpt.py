"""A SegGPT that is small enough for tests, with random weights."""

from typing import Any

import torch
from torch import Tensor

CONFIG: dict[str, Any] = {
    "image_size": [64, 32],
    "patch_size": 8,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "merge_index": 1,
    "intermediate_hidden_state_indices": [1, 2, 3],
    "mlp_dim": 48,
    "decoder_hidden_size": 8,
    "pretrain_image_size": 24,
}
LAYERS = {"num_hidden_layers": 24, "merge_index": 2, "intermediate_hidden_state_indices": [5, 11, 17, 23]}
PUBLISHED = {**CONFIG, **LAYERS}  # published files have these
TOKENS = {"segment_token_x": "segment_token_input", "segment_token_y": "segment_token_prompt"}
TYPES = {"type_token_cls": "type_token_semantic", "type_token_ins": "type_token_instance"}
IN_BLOCKS = {"attn": "attention", "mlp.fc1": "mlp.lin1", "mlp.fc2": "mlp.lin2", "norm1": "layernorm_before"}
IN_BLOCKS["norm2"] = "layernorm_after"


def network_of(**changes: Any) -> Any:
    """A small one, with tokens, biases, scales and relative positions away from their trivial start."""
    import transformers  # noqa: PLC0415 (an extra, without which tests skip)

    torch.manual_seed(0)
    network = transformers.SegGptForImageSegmentation(transformers.SegGptConfig(**{**CONFIG, **changes}))
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            parameter.add_(0.2 * torch.randn_like(parameter) if "decoder" not in name else 0)
    return network


def published_state(network: Any, painter: bool = False) -> dict[str, Tensor]:
    """The state dict under the names that models_seggpt.py and models_painter.py give it."""
    ours = network.state_dict()
    state = {
        "mask_token": ours["model.embeddings.mask_token"],
        "pos_embed": ours["model.embeddings.position_embeddings"],
    }
    state |= {name: ours[f"model.embeddings.{own}"] for name, own in (TOKENS if painter else TOKENS | TYPES).items()}
    modules = {"patch_embed.proj": "model.embeddings.patch_embeddings.projection", "norm": "model.encoder.layernorm"}
    modules |= {"decoder_embed": "decoder.decoder_embed", "decoder_pred.0": "decoder.decoder_pred.conv"}
    modules |= {"decoder_pred.1": "decoder.decoder_pred.layernorm", "decoder_pred.3": "decoder.decoder_pred.head"}
    for layer in range(network.config.num_hidden_layers):
        modules |= {f"blocks.{layer}.{name}": f"model.encoder.layers.{layer}.{own}" for name, own in IN_BLOCKS.items()}
    for name, own in modules.items():
        state |= {name + key.removeprefix(own): tensor for key, tensor in ours.items() if key.startswith(f"{own}.")}
    return state
