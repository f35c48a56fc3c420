#!/usr/bin/env bash
# pyvene's unit "h" swaps and collects only a part of a head where heads are wider than hidden_size / heads.
# Versions: torch 2.13.0, transformers 5.24.0, pyvene 0.1.8
# Seen: in a Llama with 4 heads of 16 and a hidden size of 32, an interchange of head 2's attention output changes 8 of its 16 columns,
#   so logits are off by 0.8 of 1.5, and CollectIntervention gives 8 values of 16. No error, no warning. The same with unit "h.pos" is
#   exact, as is "h" where heads are 8 wide. The width is taken as hidden_size / num_attention_heads, head_dim is not read.
# It matters: an effect that is measured head by head is that of half a head here, and of another share in another model.
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

HEAD, LAYER = 2, 1
tokens, source = torch.arange(8)[None], torch.arange(20, 28)[None]


def random_llama(width):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, head_dim=width, max_position_embeddings=32,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def by_hand(model, width):
    """Logits without and with head 2 of layer 1 from the source."""
    projection = model.model.layers[LAYER].self_attn.o_proj
    columns, seen = slice(HEAD * width, (HEAD + 1) * width), {}

    def swap(module, arguments):
        z = arguments[0].clone()
        z[..., columns] = seen["z"][..., columns]
        return (z,)

    with torch.no_grad():
        plain = model(tokens).logits
        hook = projection.register_forward_pre_hook(lambda module, arguments: seen.update(z=arguments[0].clone()))
        model(source)
        hook.remove()
        hook = projection.register_forward_pre_hook(swap)
        swapped = model(tokens).logits
        hook.remove()
    return plain, swapped


def with_pyvene(model, unit, kind):
    place = {"layer": LAYER, "component": "head_attention_value_output", "unit": unit, "intervention_type": kind}
    positions = list(range(8))
    units = [[[HEAD]]] if unit == "h" else [[[[HEAD]], [positions]]]
    place["max_number_of_units"] = 1 if unit == "h" else 8
    intervenable = pyvene.IntervenableModel(pyvene.IntervenableConfig([place], model_type=type(model)), model)
    with torch.no_grad():
        if kind is pyvene.CollectIntervention:
            (_, collected), _ = intervenable({"input_ids": tokens}, unit_locations={"base": units})
            return collected[0].shape[-1]
        locations = {"sources->base": (units, units)}
        return intervenable({"input_ids": tokens}, [{"input_ids": source}], unit_locations=locations)[1].logits


off, collected = {}, {}
for width in (8, 16):
    plain, swapped = by_hand(random_llama(width), width)
    for unit in ("h", "h.pos"):
        logits = with_pyvene(random_llama(width), unit, pyvene.VanillaIntervention)
        off[width, unit] = ((logits - swapped).abs().max() / (plain - swapped).abs().max()).item()
    collected[width] = with_pyvene(random_llama(width), "h", pyvene.CollectIntervention)
    print(f"heads of {width}: off by {off[width, 'h']:.2g} (h), {off[width, 'h.pos']:.2g} (h.pos) of the effect;",
          f"h collects {collected[width]} values")
assert off[8, "h"] < 1e-4 and off[8, "h.pos"] < 1e-4 and off[16, "h.pos"] < 1e-4, "the control is not exact"
assert collected[8] == 8
assert off[16, "h"] > 0.1 and collected[16] == 8, "unit h takes whole heads now"
PYTHON
