"""Tiny random decoders of the library transformers that differ in what runs of them must get right."""

from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from number_tokenizer import NumberTokenizer
from taskvec.models.causal_lm import CausalLm

LAYERS, HEADS, WIDTH, VOCABULARY = 2, 4, 32, 60
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GROUPED: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}


def _llama() -> Any:
    """Two heads share their keys, and heads are wider than the hidden size would have them."""
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2, head_dim=16))


def _bytes() -> Any:
    """A token for every byte."""
    sizes = {**SIZES, "vocab_size": 256, "max_position_embeddings": 512}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **GROUPED))


def _gpt2() -> Any:
    """Learned positions, one projection of queries, keys and values."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=128,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def _gpt_neox() -> Any:
    """Attention and the rest of a layer side by side."""
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**SIZES))


def _gemma() -> Any:
    """One head of keys for all."""
    config = transformers.GemmaConfig(**SIZES, num_key_value_heads=1, head_dim=8)
    return transformers.GemmaForCausalLM(config)


def _gemma2() -> Any:
    """Scores of attention and logits are bent, and every other layer has a window."""
    return transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**SIZES, **GROUPED, sliding_window=16))


def _mistral() -> Any:
    """A window in every layer."""
    return transformers.MistralForCausalLM(transformers.MistralConfig(**SIZES, **GROUPED, sliding_window=16))


def _bloom() -> Any:
    """Distances are added to the scores, and attention is not the library's function."""
    config = transformers.BloomConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, n_layer=LAYERS, n_head=HEADS, bos_token_id=None, eos_token_id=None
    )
    return transformers.BloomForCausalLM(config)


def _jamba() -> Any:
    """Layers without attention, whose state is no keys and values."""
    config = transformers.JambaConfig(
        **SIZES,
        num_key_value_heads=2,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        num_experts=2,
        mamba_dt_rank=4,
        use_mamba_kernels=False,
    )
    return transformers.JambaForCausalLM(config)


def _gemma4() -> Any:
    """Layers differ in the width of their heads."""
    sizes: dict[str, Any] = {
        **SIZES,
        **GROUPED,
        "pad_token_id": 0,
        "num_hidden_layers": 3,
        "global_head_dim": 16,
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    }
    config = transformers.Gemma4TextConfig(**sizes)
    return transformers.Gemma4ForCausalLM(config)


def llava() -> Any:
    """A language model that is part of one which takes pictures, too."""
    picture: dict[str, Any] = {"image_size": 8, "patch_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2}
    tower = transformers.CLIPVisionConfig(hidden_size=16, intermediate_size=16, **picture)
    text = transformers.LlamaConfig(**SIZES, num_key_value_heads=2)
    config = transformers.LlavaConfig(vision_config=tower, text_config=text, image_token_index=VOCABULARY - 1)
    return transformers.LlavaForConditionalGeneration(config)


BUILDERS = {
    "llama": _llama,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "mistral": _mistral,
    "bloom": _bloom,
    "jamba": _jamba,
    "gemma4": _gemma4,
}
LAYOUTS = dict.fromkeys(BUILDERS, "shared") | {"gemma2": "gathered", "bloom": "gathered", "jamba": None}


def decoder(name: str, tokenizer: Any = None) -> CausalLm:
    """With weights that all say something."""
    torch.manual_seed(0)
    model = (BUILDERS | {"llava": llava, "bytes": _bytes})[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(noise * 0.2 if weight.ndim > 1 else weight + 0.1 * noise)
    return CausalLm(model.eval(), NumberTokenizer() if tokenizer is None else tokenizer)


def sequences(*lengths: int, seed: int = 0) -> list[list[int]]:
    """Random tokens of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(4, VOCABULARY, (length,), generator=generator).tolist() for length in lengths]


def as_texts(rows: list[list[int]]) -> np.ndarray:
    """The texts that a ``NumberTokenizer`` makes these tokens of."""
    return np.array(["".join(f" {token}" for token in row) for row in rows])


def logits_alone(model: CausalLm, row: list[int]) -> Tensor:
    """[tokens, vocabulary] of one sequence, run as the library runs it."""
    with torch.no_grad():
        return model.model(input_ids=torch.tensor([row]), use_cache=False).logits[0].float()
