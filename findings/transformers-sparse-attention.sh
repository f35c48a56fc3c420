#!/usr/bin/env bash
# In transformers an attention function of one's own that only forwards to sdpa turns sparse attention off in some models.
# Versions: torch 2.13.0, transformers 5.24.0
# Seen: with the function registered in AttentionInterface and sdpa's mask in AttentionMaskInterface, Llama's logits stay equal to the
#   bit. Those of DeepSeek V3.2 and of GLM's sparse type (tiny, random, 24 tokens, 4 keys chosen for each query) are off by 7 and more,
#   of a size of 1.7: the choice of keys enters the mask for the names "eager" and "sdpa" alone; under any other name it comes as the
#   argument `indices`, which sdpa's function takes and ignores. No error. Where all keys are chosen nothing differs.
# It matters: a function that only records or changes attention's output makes another model, as soon as a text is longer than the choice.
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
    AttentionInterface, AttentionMaskInterface, DeepseekV32Config, DeepseekV32ForCausalLM, GlmMoeDsaConfig,
    GlmMoeDsaForCausalLM, LlamaConfig, LlamaForCausalLM,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

TOKENS, calls = torch.arange(5, 29)[None], []


def forwarding(*arguments, **settings):
    calls.append(settings.get("indices"))
    return sdpa_attention_forward(*arguments, **settings)


AttentionInterface.register("forwarding", forwarding)
AttentionMaskInterface.register("forwarding", sdpa_mask)

plain = dict(
    vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64,
)
sparse = dict(
    **plain, num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
    index_head_dim=16, index_n_heads=2, mlp_layer_types=["dense", "dense"],
)


def difference(kind, config):
    """Largest difference of logits: eager and sdpa, sdpa and the function that forwards to it; the logits' size."""
    torch.manual_seed(0)
    model, logits = kind(config).eval(), {}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name in ("eager", "sdpa", "forwarding"):
            model.set_attn_implementation(name)
            calls.clear()
            logits[name] = model(TOKENS).logits
    assert len(calls) == config.num_hidden_layers
    between = (logits["eager"] - logits["sdpa"]).abs().max().item()
    forwarded = (logits["forwarding"] - logits["sdpa"]).abs().max().item()
    print(f"{config.model_type}, {getattr(config, 'index_topk', 'all')} keys a query: eager and sdpa differ by {between:.1g},",
          f"sdpa and forwarding by {forwarded:.2g}; logits are of size {logits['sdpa'].std().item():.2g}")
    assert between < 1e-4
    return forwarded


assert difference(LlamaForCausalLM, LlamaConfig(**plain)) == 0
for kind, config in ((DeepseekV32ForCausalLM, DeepseekV32Config), (GlmMoeDsaForCausalLM, GlmMoeDsaConfig)):
    assert difference(kind, config(index_topk=64, **sparse)) < 1e-4
    assert difference(kind, config(index_topk=4, **sparse)) > 0.5, "the choice of keys is kept now"
    assert all(each.shape == (1, 24, 4) for each in calls)
PYTHON
