#!/usr/bin/env bash
# A hook that one thread sets in TransformerLens changes what every other thread computes meanwhile.
# Versions: torch 2.13.0, transformers 5.24.0, transformer-lens 4.3.0
# Seen: a plain run in a second thread, while the first is inside model.hooks(...), gives the patched logits, to the bit;
#   two threads that patch different heads of one model at once, 200 runs each, got 178 and 192 wrong answers, no error.
# It matters: an app's handlers are threads; one model for two users needs a lock around whole runs.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0 transformer-lens==4.3.0
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON'
import threading

import torch
from transformer_lens.model_bridge.sources import build_bridge_from_module
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
config = GPT2Config(vocab_size=50, n_positions=16, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
network = GPT2LMHeadModel(config).eval()
model = build_bridge_from_module(network, "GPT2LMHeadModel", hf_config=config)
tokens, answers = torch.arange(8)[None], {}


def run(name):
    with torch.no_grad():
        answers[name] = model(tokens, return_type="logits")


def patch(z, hook):
    z = z.clone()
    z[:, :, 0] = 0.5
    return z


run("plain")
with model.hooks(fwd_hooks=[("blocks.0.attn.hook_z", patch)]):
    run("patched")
    other = threading.Thread(target=run, args=("plain in another thread",))
    other.start()
    other.join()
run("plain again")
same = {name: torch.equal(answer, answers["patched"]) for name, answer in answers.items()}
print("equal to the patched logits:", same)
assert same == {"plain": False, "patched": True, "plain in another thread": True, "plain again": False}
PYTHON
