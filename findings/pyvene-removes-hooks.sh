#!/usr/bin/env bash
# A run of pyvene's IntervenableModel removes every forward hook of the model, also those that others have set.
# Versions: torch 2.13.0, transformers 5.24.0, pyvene 0.1.8
# Seen: a hook and a pre-hook of one's own on other modules fire in a plain run; after one intervention that does not touch their modules
#   they are gone for good, and see neither of its passes. No warning; removing them by their handles raises nothing.
# It matters: a recording beside pyvene is empty or stale, and a patch that was set by hand no longer works, without a word.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0 pyvene==0.1.8
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON'
import pyvene
import torch
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=32
)
model = LlamaForCausalLM(config).eval()
tokens, source, seen = torch.arange(8)[None], torch.arange(20, 28)[None], []
handles = [
    model.model.norm.register_forward_hook(lambda module, inputs, output: seen.append(("hook", inputs[0].clone()))),
    model.lm_head.register_forward_pre_hook(lambda module, inputs: seen.append(("pre-hook", inputs[0].clone()))),
]


def fired(run):
    seen.clear()
    with torch.no_grad():
        run()
    return [name for name, _ in seen]


place = {"layer": 0, "component": "block_output", "unit": "pos", "max_number_of_units": 1}
place["intervention_type"] = pyvene.VanillaIntervention
intervenable = pyvene.IntervenableModel(pyvene.IntervenableConfig([place], model_type=type(model)), model)
before = fired(lambda: model(tokens))
during = fired(
    lambda: intervenable({"input_ids": tokens}, [{"input_ids": source}], unit_locations={"sources->base": (3, 3)})
)
after = fired(lambda: model(tokens))
print(f"a plain run: {before}; two passes with an intervention: {during}; a plain run after it: {after}")
assert before == ["hook", "pre-hook"]
assert during == after == [], "hooks of others stay now"
for handle in handles:
    handle.remove()
PYTHON
