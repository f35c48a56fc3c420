#!/usr/bin/env bash
# TransformerLens' boot_transformers rebuilds the model that it is given as hf_model, which cannot be saved afterwards.
# Versions: torch 2.13.0, transformers 5.24.0, transformer-lens 4.3.0
# Seen: the embedding, every layer, every attention and its projections are replaced within the caller's own model: 21 names of its
#   state_dict become 68, none of them as before; its attention is "eager" from then on. save_pretrained raises RuntimeError about shared
#   tensors, load_state_dict refuses what the model itself gave before. All that stays when the bridge is deleted. A plain run gives the
#   same logits. The documentation calls hf_model a model to use instead of loading one.
# It matters: "look into the model, then train on and save" needs a deep copy before the bridge is built.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0 transformer-lens==4.3.0
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON'
import copy
import gc

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformer_lens.model_bridge import TransformerBridge
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=32
)
model = LlamaForCausalLM(config).eval()
model.save_pretrained("before")
words = Tokenizer(WordLevel({f"w{i}": i for i in range(50)}, unk_token="w0"))
PreTrainedTokenizerFast(
    tokenizer_object=words, unk_token="w0", bos_token="w1", eos_token="w2", pad_token="w3"
).save_pretrained("before")
tokens, spare = torch.arange(8)[None], copy.deepcopy(model)
weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
attention = model.config._attn_implementation
with torch.no_grad():
    logits = model(tokens).logits

bridge = TransformerBridge.boot_transformers("before", hf_model=model, device="cpu")
del bridge
gc.collect()


def outcome(call):
    try:
        call()
    except RuntimeError as error:
        return f"RuntimeError: {str(error)[:60]}"
    return "fine"


names = set(model.state_dict())
print(f"{len(weights)} names became {len(names)}, {len(names & set(weights))} as before; attention {attention} became",
      model.config._attn_implementation)
assert outcome(lambda: spare.save_pretrained("spare")) == outcome(lambda: spare.load_state_dict(weights)) == "fine"
saved, loaded = outcome(lambda: model.save_pretrained("after")), outcome(lambda: model.load_state_dict(weights))
print("save_pretrained:", saved)
print("load_state_dict:", loaded)
assert (attention, model.config._attn_implementation) == ("sdpa", "eager")
assert not names & set(weights) and len(names) > len(weights), "names stay now"
assert saved.startswith("RuntimeError") and loaded.startswith("RuntimeError"), "the model can be saved now"
with torch.no_grad():
    torch.testing.assert_close(model(tokens).logits, logits, rtol=1e-4, atol=1e-5)
PYTHON
