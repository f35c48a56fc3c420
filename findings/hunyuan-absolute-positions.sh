#!/usr/bin/env bash
# HunYuan's decoders have rotary positions and yet depend on where a text starts: left padding needs position_ids.
# Versions: torch 2.13.0, transformers 5.24.0
# Seen: with random weights, position_ids that start at 1 instead of 0 change the logits of both types, dense and mixture of experts,
#   by 3 and more, of a size of 1.9; those of Llama and Qwen3, which is normed by heads too, by rounding only. So does left padding with
#   attention_mask and no position_ids. HunYuan norms queries and keys after their rotation, with a weight for each channel, and a product
#   of two rotated and then weighted vectors is no function of their distance; where all weights of a norm are equal, nothing depends on it.
# It matters: "rotary, so a mask is enough for padded rows" holds for most decoders, and is wrong here without an error.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON'
import torch
from transformers import (
    HunYuanDenseV1Config, HunYuanDenseV1ForCausalLM, HunYuanMoEV1Config, HunYuanMoEV1ForCausalLM, LlamaConfig, LlamaForCausalLM,
    Qwen3Config, Qwen3ForCausalLM,
)

torch.manual_seed(0)
TOKENS, PADS = torch.arange(5, 29)[None], 5
size = dict(
    vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
    head_dim=8, max_position_embeddings=256, pad_token_id=2,
)
models = {
    "llama": LlamaForCausalLM(LlamaConfig(**size)),
    "qwen3": Qwen3ForCausalLM(Qwen3Config(**size)),
    "hunyuan_v1_dense": HunYuanDenseV1ForCausalLM(HunYuanDenseV1Config(**size)),
    "hunyuan_v1_moe": HunYuanMoEV1ForCausalLM(HunYuanMoEV1Config(num_experts=2, moe_topk=1, **size)),
}
padded = torch.cat([torch.full((1, PADS), 2), TOKENS], dim=1)
mask = (torch.arange(padded.shape[1]) >= PADS).long()[None]
counted = (mask.cumsum(1) - 1).clamp(min=0)


@torch.no_grad()
def changes(model):
    """Largest change of logits by positions from 1 on, by left padding, and by left padding with positions given."""
    logits = model(TOKENS).logits
    runs = {
        "positions from 1 on": model(TOKENS, position_ids=torch.arange(1, 25)[None]).logits,
        "left padding": model(padded, attention_mask=mask).logits[:, PADS:],
        "left padding and positions": model(padded, attention_mask=mask, position_ids=counted).logits[:, PADS:],
    }
    return {name: (each - logits).abs().max().item() for name, each in runs.items()}


for name, model in models.items():
    with torch.no_grad():
        for parameter in model.eval().parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        scale = model(TOKENS).logits.std().item()
    seen = changes(model)
    print(name, {run: f"{change:.2g}" for run, change in seen.items()}, f"logits are of size {scale:.2g}")
    assert seen["left padding and positions"] < 1e-4
    if name.startswith("hunyuan"):
        assert seen["positions from 1 on"] > 0.05 and seen["left padding"] > 0.05, "positions are relative now"
        with torch.no_grad():
            for parameter_name, parameter in model.named_parameters():
                if "query_layernorm" in parameter_name or "key_layernorm" in parameter_name:
                    parameter.fill_(1.3)
        print("  equal weights of the norms", {run: f"{change:.2g}" for run, change in changes(model).items()})
    assert name.startswith("hunyuan") or max(seen.values()) < 1e-4
    assert max(changes(model).values()) < 1e-4
PYTHON
