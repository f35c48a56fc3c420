"""A SegGPT that is small enough for tests, with random weights."""

from typing import Any

import torch

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


def network_of(**changes: Any) -> Any:
    """A small one, with tokens, biases, scales and relative positions away from their trivial start."""
    import transformers  # noqa: PLC0415 (an extra, without which tests skip)

    torch.manual_seed(0)
    network = transformers.SegGptForImageSegmentation(transformers.SegGptConfig(**{**CONFIG, **changes}))
    for name, parameter in network.named_parameters():
        with torch.no_grad():
            parameter.add_(0.2 * torch.randn_like(parameter) if "decoder" not in name else 0)
    return network
