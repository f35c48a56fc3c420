#!/usr/bin/env bash
# transformers dequantizes a GGUF file as it loads it, and the model of plain float32 weights still counts as quantized.
# Versions: torch 2.13.0, transformers 5.24.0, gguf 0.19.0
# Seen: even from a file in which every tensor is float32, save_pretrained, half() and float() raise ValueError, float() although nothing
#   would change; bfloat16(), double() and to(torch.float16) do what they say. With quantization_config=GgufConfig(dequantize=True)
#   all of them work, although layers, types and weights are the same to the bit. The message does not name that option.
# It matters: "load once, save as safetensors" fails after a long load, and a program that calls float() to be safe stops there.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0 gguf==0.19.0 accelerate==1.15.0
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON'
import gguf
import numpy
import torch
from transformers import AutoModelForCausalLM, GgufConfig

HIDDEN, INNER, VOCABULARY, HEADS = 64, 96, 40, 4
SHAPES = {
    "token_embd.weight": (VOCABULARY, HIDDEN),
    "output.weight": (VOCABULARY, HIDDEN),
    "output_norm.weight": (HIDDEN,),
    "blk.0.attn_norm.weight": (HIDDEN,),
    "blk.0.ffn_norm.weight": (HIDDEN,),
    "blk.0.ffn_gate.weight": (INNER, HIDDEN),
    "blk.0.ffn_up.weight": (INNER, HIDDEN),
    "blk.0.ffn_down.weight": (HIDDEN, INNER),
    **{f"blk.0.attn_{name}.weight": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "output")},
}


def write(kind):
    """A Llama of one layer with random weights; norms are float32 as in every such file."""
    writer, random = gguf.GGUFWriter(f"{kind.name}.gguf", "llama"), numpy.random.default_rng(0)
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{i}" for i in range(VOCABULARY)])
    for name, shape in SHAPES.items():
        weight = random.standard_normal(shape).astype(numpy.float32)
        if kind is gguf.GGMLQuantizationType.F32 or len(shape) == 1:
            writer.add_tensor(name, weight)
        else:
            writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def outcome(call):
    try:
        call()
    except ValueError as error:
        return f"ValueError: {error}"
    return "fine"


def load(kind, **options):
    model = AutoModelForCausalLM.from_pretrained(".", gguf_file=f"{kind.name}.gguf", dtype=torch.float32, **options)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    return model


for kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q8_0):
    write(kind)
    models = {"default": load(kind), "dequantize": load(kind, quantization_config=GgufConfig(dequantize=True))}
    default, asked = ({name: type(module) for name, module in model.named_modules()} for model in models.values())
    assert default == asked
    default, asked = (model.state_dict() for model in models.values())
    assert default.keys() == asked.keys() and all(torch.equal(default[name], asked[name]) for name in default)
    for name, model in models.items():
        calls = {
            "save_pretrained": lambda: model.save_pretrained("saved"), "float": model.float, "half": model.half,
            "bfloat16": model.bfloat16, "double": model.double, "to": lambda: model.to(torch.float16),
        }
        outcomes = {call: outcome(run) for call, run in calls.items()}
        print(kind.name, name, {call: text[:60] for call, text in outcomes.items()})
        refused = {call for call, text in outcomes.items() if text != "fine"}
        expected = {"save_pretrained", "float", "half"} if name == "default" else set()
        assert refused == expected, f"{name} refuses {sorted(refused)} now"
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float16}
PYTHON
