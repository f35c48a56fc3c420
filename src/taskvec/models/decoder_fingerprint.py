"""What identifies a decoder by its content, quickly even where it has billions of weights.

The digest is of the model's class, of what its configuration says under ``FACTS``, and of every weight's name, shape
and up to ``SAMPLES`` numbers, the first and evenly spaced others. Numbers count as float32: stored in less, the same
ones have the same digest. It tells apart models that were trained apart, or one from what it was trained on to. It does
not tell a change of few numbers, nor one in the configuration under other names, nor the tokenizer.
"""

import hashlib
import json
from typing import Any

import torch
from torch import nn

from taskvec import digests
from taskvec.models.passes import setting

SAMPLES = 4096  # numbers of a weight that the fingerprint is made of
# what of a configuration numbers depend on and no weight's shape tells, by the names that architectures have for it
FACTS = (
    "model_type",
    "hidden_act",
    "activation_function",
    "hidden_activation",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "layer_norm_eps",
    "layer_norm_epsilon",
    "norm_eps",
    "norm_epsilon",
    "rope_parameters",
    "rope_theta",
    "partial_rotary_factor",
    "sliding_window",
    "layer_types",
    "attention_chunk_size",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "logits_scaling",
    "attention_multiplier",
    "residual_multiplier",
    "embedding_multiplier",
    "num_experts_per_tok",
)


def fingerprint_of(model: nn.Module, config: Any) -> str:
    """16 hexadecimal digits of a SHA-256; ``config`` is that of the language model."""
    facts = {name: digests.plain(setting(config, name)) for name in FACTS}
    digest = hashlib.sha256(json.dumps([type(model).__name__, facts], sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        step = -(-tensor.numel() // SAMPLES) | 1  # odd, so that they are not all of one column
        sample = tensor.detach().flatten()[::step]
        sample = sample.float() if sample.is_floating_point() else sample
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(sample.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[: digests.LENGTH]
