#!/usr/bin/env bash
# PaliGemma without token_type_ids: with sdpa a text's answer depends on whether its neighbour in the batch is padded.
# Versions: torch 2.13.0, transformers 5.24.0
# Seen: in a small random model eager attention is then causal, and sdpa, the default, is not: early logits change with the last token.
#   Logits of the two differ by 7, of a size of 1.8. In a batch with a shorter row, whose mask has zeros, sdpa is causal too, so
#   the full row's logits change by as much beside it. With token_type_ids, all 0 or all 1, the two agree to 1e-5. No error, no warning.
# It matters: the forward pass of a text alone, as one has for the language part, means something else with each batch and setting.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON'
import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

torch.manual_seed(0)
text = dict(
    model_type="gemma", vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, head_dim=8, max_position_embeddings=64,
)
vision = dict(
    model_type="siglip_vision_model", hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
    image_size=28, patch_size=14, projection_dim=32,
)
config = PaliGemmaConfig(text_config=text, vision_config=vision, image_token_index=59, projection_dim=32, hidden_size=32)
model = PaliGemmaForConditionalGeneration(config).eval()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
assert model.config._attn_implementation == "sdpa"
tokens, everything = torch.arange(4, 16)[None], torch.ones(1, 12, dtype=torch.long)
other_end = tokens.clone()
other_end[0, -1] = 30
two, padded = torch.cat([tokens, tokens]), torch.ones(2, 12, dtype=torch.long)
padded[1, -4:] = 0


def run(name, tokens, mask, **settings):
    model.set_attn_implementation(name)
    with torch.no_grad():
        return model(tokens, attention_mask=mask, **settings).logits[0]


def apart(one, other):
    return (one - other).abs().max().item()


alone = {name: run(name, tokens, everything) for name in ("eager", "sdpa")}
size = alone["eager"].std().item()
for name, logits in alone.items():
    ahead = apart(logits[:-1], run(name, other_end, everything)[:-1])
    beside = apart(logits, run(name, two, padded))
    print(f"{name}: another last token changes logits before it by {ahead:.2g}, a padded row beside it by {beside:.2g}")
    if name == "eager":
        assert ahead < 1e-4 and beside < 1e-4
    else:
        assert ahead > 0.5 and beside > 0.5, "sdpa is causal now, or never"
print(f"eager and sdpa differ by {apart(*alone.values()):.2g}; logits are of size {size:.2g}")
assert apart(*alone.values()) > 0.5
for kind in (torch.zeros_like(tokens), torch.ones_like(tokens)):
    typed = {name: run(name, tokens, everything, token_type_ids=kind) for name in ("eager", "sdpa")}
    assert apart(*typed.values()) < 1e-4
    same = {name for name, logits in alone.items() if apart(logits, typed["eager"]) < 1e-4}
    assert same == {"sdpa" if kind[0, 0] == 0 else "eager"}, "without token_type_ids it is another case now"
PYTHON
