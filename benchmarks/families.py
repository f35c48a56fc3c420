"""Whether head outputs of every type of decoder in the installed transformers are reached, judged by causes.

    .venv/bin/python benchmarks/families.py --out docs/language-families.md
    .venv/bin/python benchmarks/families.py llama gemma3 mamba

Every type is built as a tiny random model. What ``find_taps`` says of it is compared with what it cannot know: products
seen by torch's dispatcher, one head at a time by zero, rows with other masks alone, and the other way to compute
attention. Nothing is fetched from the network.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from taskvec.heads import HeadOutput, intercept, recording
from taskvec.models.attention_taps import AttentionTap, DecoderTaps, find_taps
from taskvec.models.interface import Place, StackLayout, Tap

LAYERS, HEADS, WIDTH = 4, 4, 8
HIDDEN, VOCABULARY, EXPERTS = HEADS * WIDTH, 64, 4
ROWS, LENGTH = 3, 9
MOST_PARAMETERS = 20_000_000

# What sizes are called in configurations, by how large they are here.
NAMES: dict[int, str] = {
    VOCABULARY: """vocab_size decoder_vocab_size unpadded_vocab_size vocab_size_per_layer_input ngram_vocab_size_base
        pronunciation_vocab_size shape_vocab_size max_position_embeddings n_positions n_ctx max_seq_len model_max_length
        context_length original_max_position_embeddings max_target_positions max_source_positions""",
    48: """intermediate_size moe_intermediate_size shared_expert_intermediate_size ffn_dim decoder_ffn_dim dff
        encoder_ffn_dim ffn_hidden_size dim_ff d_inner feed_forward_size intermediate_size_mlp shared_intermediate_size
        shared_experts_intermediate_size expert_ffn_hidden_size dense_intermediate_size
        moe_shared_expert_intermediate_size mlp_dim""",
    HIDDEN: """hidden_size d_model n_embd emb_dim embedding_dim word_embed_proj_dim embedding_size lru_width
        input_embedding_size output_embedding_size backbone_hidden_size dim_model_base out_hidden_size
        hidden_size_global attention_hidden_size pronunciation_embed_dim shape_embed_dim output_channels
        vision_output_dim projector_input_dim projector_output_dim router_hidden_size adapter_out_dim""",
    2 * WIDTH: """qk_head_dim global_head_dim q_lora_rank kv_lora_rank o_lora_rank hidden_size_per_layer_input
        laurel_rank image_size mamba_dt_rank time_step_rank ple_embed_dim hc_lowrank""",
    WIDTH: """head_dim v_head_dim swa_head_dim kv_channels attention_head_dim linear_key_head_dim dim_head
        linear_value_head_dim linear_head_dim d_head attention_head_size rotary_dim qk_nope_head_dim qk_rope_head_dim
        index_head_dim query_pre_attn_scalar mamba_d_state state_size ssm_state_size mamba_chunk_size chunk_size
        patch_size""",
    LAYERS: """num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers depth num_encoder_layers
        num_decoder_layers num_blocks num_attention_heads n_head n_heads num_heads decoder_attention_heads
        encoder_attention_heads num_encoder_attention_heads num_decoder_attention_heads attention_heads
        swa_num_attention_heads linear_num_value_heads linear_num_heads index_n_heads n_routed_experts num_experts
        num_local_experts moe_num_experts index_topk sliding_window sliding_window_size local_attention
        attention_window_size window_size""",
    2: """num_key_value_heads swa_num_key_value_heads num_kv_heads linear_num_key_heads num_query_groups
        num_experts_per_tok moe_topk num_experts_per_token attn_layer_period""",
    1: "n_group topk_group n_shared_experts num_shared_experts attn_layer_offset",
}
SIZES = {name: size for size, names in NAMES.items() for name in names.split()}

# What a type needs beside, so that its smallest form has all that it is made of.
SPECIAL: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"num_expert_group": 1},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 50, "encoder_hash_byte_group_size": [3]},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {
            layer: {"rope_type": "default", "rope_theta": 1e4} for layer in ("sliding_attention", "full_attention")
        },
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"hidden_size": HIDDEN, "ffn_hidden_size": 48, "moe_num_experts": EXPERTS, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": EXPERTS, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dots3_note_text": {
        "swa_num_attention_heads": HEADS,
        "swa_num_key_value_heads": HEADS,
        "swa_q_lora_rank": 16,
        "swa_kv_lora_rank": 16,
        "swa_head_dim": 16,
        "swa_qk_nope_head_dim": WIDTH,
        "swa_v_head_dim": WIDTH,
    },
    "ernie4_5_moe": {"moe_k": 2},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["mamba", "attention"] * 2},
    "inkling2_loop_text": {"loop_layer_index_start": 1, "loop_layer_index_end": 3, "n_layers_per_attn_res_block": 1},
    "laguna": {"num_attention_heads_per_layer": [HEADS, 2 * HEADS] * 2},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "reformer": {"axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8)},
    "xlm": {"causal": True},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 6,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zamba2": {
        "num_hidden_layers": 6,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid"] * 2,
        "mamba_headdim": 8,
        "n_mamba_heads": 8,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "qwen4_exp_text": {
        "indexer_n_heads": HEADS,
        "indexer_kv_heads": 1,
        "indexer_head_dim": WIDTH,
        "indexer_budget": 4,
        "indexer_compress_ratio": 2,
        "output_gate_type": "sigmoid",
        "split_ngram_parts": 1,
    },
}
SPECIAL["qwen4_exp"] = {"text_config": SPECIAL["qwen4_exp_text"]}
SPECIAL["dots3_note"] = {
    "text_config": SPECIAL["dots3_note_text"],
    "vision_config": {"adapter_in_dim": HIDDEN},
    "audio_config": {"adapter_input_size": HIDDEN},
}

Outcome = Literal["right", "right with a remark", "refused", "wrong", "not built"]
OUTCOMES: tuple[Outcome, ...] = ("right", "right with a remark", "refused", "wrong", "not built")


@dataclass(frozen=True)
class Examined:
    """What came of one type; ``why`` is the remarks, the reason or what failed."""

    kind: str
    outcome: Outcome
    reached: str = ""
    heads: str = ""
    why: str = ""


class CheckError(Exception):
    """A check did not hold; the message says which."""


def small(kind: str, with_lists: bool) -> Any:
    """A tiny configuration of a type; lists that have an entry for every layer are cut, or left to the class."""
    config = CONFIG_MAPPING[kind]
    try:
        default = config()
    except Exception:
        default = None
    return config(**_merged(_small(config, default, with_lists), SPECIAL.get(kind, {})))


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    inner = {name: _merged(one[name], value) for name, value in other.items() if isinstance(one.get(name), dict)}
    return {**one, **other, **inner}


def _small(kind: Any, default: Any, with_lists: bool) -> dict[str, Any]:
    known = {} if default is None else default.to_dict()
    layers = next(
        (known[name] for name in ("num_hidden_layers", "n_layer", "num_layers", "n_layers") if known.get(name)), 0
    )
    changed: dict[str, Any] = {}
    for name, value in known.items():
        if name in kind.sub_configs:
            own = kind.sub_configs[name]
            part = getattr(default, name)
            if part is not None and own.__name__ != "AutoConfig":
                changed[name] = _small(own, part, with_lists)
            elif part is not None:
                changed[name] = {**_small(type(part), part, with_lists), "model_type": part.model_type}
        elif name in SIZES and isinstance(value, int) and not isinstance(value, bool):
            changed[name] = min(SIZES[name], value) if value > 0 else value
        elif name == "head_dim" and value is None:
            changed[name] = WIDTH
        elif with_lists and isinstance(value, list) and layers > LAYERS and len(value) == layers:
            changed[name] = _mixed(value)
        elif name.endswith("token_id") and isinstance(value, int) and value >= VOCABULARY:
            changed[name] = VOCABULARY - 1 - len(changed) % 8
    if changed.get("kv_lora_rank") and "num_key_value_heads" in changed:
        changed["num_key_value_heads"] = HEADS
    if hasattr(default, "is_decoder"):
        changed["is_decoder"] = True
    return changed


def _mixed(of_layers: list[Any]) -> list[Any]:
    """As many as there are layers here, with all kinds there are among them."""
    kinds = list(dict.fromkeys(map(str, of_layers)))
    chosen = [next(each for each in of_layers if str(each) == kind) for kind in kinds][:LAYERS]
    return chosen + of_layers[: LAYERS - len(chosen)]


def built(kind: str, **choices: Any) -> nn.Module:
    """A tiny model of this type with random weights; the first error where no configuration can be built."""
    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[kind]]
    errors = []
    for with_lists in (True, False):
        try:
            config = small(kind, with_lists)
            if not isinstance(config, model.config_class):  # a class for the text of a composite configuration
                config = config.get_text_config(decoder=True)
            with torch.device("meta"):
                parameters = sum(p.numel() for p in model._from_config(config).parameters())
            if parameters > MOST_PARAMETERS:
                raise ValueError(f"its smallest form here has {parameters:,} parameters")
            torch.manual_seed(0)
            return lively(model._from_config(config, **choices))
        except Exception as error:
            errors.append(error)
    raise errors[0]


def lively(model: nn.Module) -> nn.Module:
    """The model with weights in which everything says something: large ones, and none that start as 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        with torch.no_grad():
            weight.copy_(noise * 0.2 if weight.ndim > 1 else weight + noise * 0.1)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Tapped:
    """A model as ``taskvec.heads`` takes it: every tap is a stack of its own."""

    model: nn.Module
    found: DecoderTaps

    @property
    def stacks(self) -> Mapping[str, StackLayout]:
        sizes = zip(self.found.heads, self.found.widths, strict=True)
        last = (Place(None, None),)
        return {str(number): StackLayout(1, *size, last) for number, size in enumerate(sizes)}

    def taps(self) -> Mapping[str, list[Tap]]:
        return {str(number): [tap] for number, tap in enumerate(self.found.taps)}

    def logits(self, tokens: Tensor, change: Callable[[int, HeadOutput], HeadOutput | None] | None = None) -> Tensor:
        """Of a pass in which ``change`` gets the number of every tap and z."""
        if change is None:
            return logits(self.model, tokens)
        with intercept(self, lambda stack, layer, z: change(int(stack), z)):
            return logits(self.model, tokens)

    def recorded(self, tokens: Tensor) -> list[HeadOutput]:
        with recording(self) as layers:
            logits(self.model, tokens)
        return [z for (z,) in layers.values()]


def logits(model: Any, tokens: Tensor) -> Tensor:
    known = signature(model.forward).parameters
    with torch.no_grad():
        return model(input_ids=tokens, **({"use_cache": False} if "use_cache" in known else {})).logits


class Products(TorchDispatchMode):
    """What the dispatcher computes as attention: fused, or as a product whose left rows are probabilities."""

    def __init__(self) -> None:
        super().__init__()
        self.results: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = str(func)
        if "scaled_dot_product" in name:
            self.results.append((output[0] if isinstance(output, tuple) else output).clone())
        elif name.startswith(("aten.bmm", "aten.baddbmm", "aten.mm")):
            left = args[-2]
            if bool((left >= 0).all()) and bool((left.sum(-1) <= 1 + 1e-3).all()) and bool((left > 0).any()):
                self.results.append(output.clone())
        return output


def difference(one: Tensor, other: Tensor) -> float:
    """The largest, as a share of the largest number of the first."""
    return float((one - other).abs().max() / one.abs().max())


def demand(holds: bool, what: str) -> None:
    if not holds:
        raise CheckError(what)


def check(kind: str, model: nn.Module) -> tuple[DecoderTaps, list[str]]:
    """The taps and further remarks. Raises CheckError where a check does not hold, ValueError for what is refused."""
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(8, VOCABULARY - 12, (ROWS, LENGTH), generator=generator)
    try:
        logits(model, tokens)  # some choose how to attend in their first pass
        before = logits(model, tokens)
    except Exception as error:
        find_taps(model)
        raise CheckError(f"it runs in find_taps alone: {error}") from error
    if not bool(before.isfinite().all()):
        raise CheckError("its logits are not finite with these random weights")
    tapped = Tapped(model, find_taps(model))
    demand(torch.equal(before, logits(model, tokens)), "a pass without a patch is not the same after taps are found")
    own = tapped.recorded(tokens)
    demand(torch.equal(before, tapped.logits(tokens, lambda _, z: None)), "an empty tap changes something")
    replaced = tapped.logits(tokens, lambda number, z: own[number].clone())
    demand(difference(before, replaced) < 1e-5, "heads replaced by themselves change something")
    are_attention(tapped, tokens, own)
    every_head_matters(tapped, tokens, before, own)
    remarks = rows_are_alone(tapped, tokens, own, before, generator)
    remarks += same_in_eager(kind, tapped, tokens, own, generator)
    return tapped.found, remarks


def are_attention(tapped: Tapped, tokens: Tensor, own: list[HeadOutput]) -> None:
    """Every recorded z is what the dispatcher computed as attention, up to a number for row, token and head."""
    with Products() as products:
        logits(tapped.model, tokens)
    for name, z in zip(tapped.found.names, own, strict=True):
        vectors = sorted_directions(z)
        same = (each for each in products.results if each.numel() == z.numel() and each.shape[-1] == z.shape[-1])
        demand(
            any(torch.allclose(sorted_directions(each), vectors, atol=1e-3) for each in same),
            f"what is recorded at {name} is not a product of probabilities and values",
        )


def sorted_directions(z: Tensor) -> Tensor:
    """The vectors of all heads, of length 1, in an order that does not depend on their places."""
    vectors = nn.functional.normalize(z.float().reshape(-1, z.shape[-1]), dim=-1)
    return vectors[vectors[:, 0].argsort()]


def every_head_matters(tapped: Tapped, tokens: Tensor, before: Tensor, own: list[HeadOutput]) -> None:
    for number, z in enumerate(own):
        for head in range(z.shape[2]):

            def without(at: int, z: HeadOutput, number: int = number, head: int = head) -> HeadOutput | None:
                if at != number:
                    return None
                kept = torch.ones(z.shape[2])
                kept[head] = 0
                return z * kept[:, None]

            changed = difference(before, tapped.logits(tokens, without))
            demand(changed > 1e-7, f"head {head} of {tapped.found.names[number]} by zero changes nothing")


def mixed(masks: list[Tensor], means: list[Tensor]) -> Callable[[int, HeadOutput], HeadOutput]:
    """Heads that each row's own mask [rows, tokens, heads] selects, by means [tokens, heads, width]."""
    return lambda number, z: torch.where(masks[number][..., None], means[number], z)


def rows_are_alone(
    tapped: Tapped, tokens: Tensor, own: list[HeadOutput], before: Tensor, generator: torch.Generator
) -> list[str]:
    masks = [torch.rand(z.shape[:3], generator=generator) < 0.3 for z in own]
    means = [torch.randn(z.shape[1:], generator=generator) * z.std() for z in own]
    together = tapped.logits(tokens, mixed(masks, means))
    demand(difference(before, together) > 1e-4, "replaced heads change nothing")
    apart = plain = 0.0
    for row in range(ROWS):
        one = slice(row, row + 1)
        alone = tapped.logits(tokens[one], mixed([mask[one] for mask in masks], means))
        apart = max(apart, difference(together[one], alone))
        plain = max(plain, difference(before[one], logits(tapped.model, tokens[one])))
    if plain > 1e-3:
        return ["rows of a batch know of each other without a patch, too"]
    demand(apart < 1e-3, f"a row under its own mask differs by {apart:.0e} from the row alone")
    return []


def same_in_eager(
    kind: str, tapped: Tapped, tokens: Tensor, own: list[HeadOutput], generator: torch.Generator
) -> list[str]:
    config: Any = tapped.model.config
    if config._attn_implementation == "eager":
        return []
    eager = built(kind, attn_implementation="eager")
    eager.load_state_dict(tapped.model.state_dict())
    other = Tapped(eager, find_taps(eager))
    demand(other.found.names == tapped.found.names, "computed without a fused kernel, it has other taps")
    masks = [torch.rand(z.shape[:3], generator=generator) < 0.3 for z in own]
    means = [torch.randn(z.shape[1:], generator=generator) * z.std() for z in own]
    apart = difference(tapped.logits(tokens, mixed(masks, means)), other.logits(tokens, mixed(masks, means)))
    unpatched = difference(logits(tapped.model, tokens), logits(eager, tokens))
    if unpatched > 1e-3:
        return [f"without a fused kernel its logits differ by {unpatched:.0e} without a patch, too"]
    demand(apart < 1e-3, f"under a patch, a fused kernel and none differ by {apart:.0e}")
    return []


def examine(kind: str) -> Examined:
    try:
        model = built(kind)
    except Exception as error:
        return Examined(kind, "not built", why=first_sentence(error))
    try:
        found, further = check(kind, model)
    except CheckError as failure:
        return Examined(kind, "wrong", why=str(failure))
    except ValueError as refusal:
        return Examined(kind, "refused", why=first_sentence(refusal))
    through = isinstance(found.taps[0], AttentionTap)
    reached = "attention function" if through else "input of " + found.names[0].rpartition(".")[2]
    sizes = sorted(set(zip(found.heads, found.widths, strict=True)))
    heads = f"{len(found.taps)} x " + " or ".join(f"{heads} of {width}" for heads, width in sizes)
    remarks = [*found.remarks[0 if through else 1 :], *further]
    return Examined(kind, "right with a remark" if remarks else "right", reached, heads, "; ".join(remarks))


def first_sentence(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = lines[0] if len(lines) == 1 or not lines[0].startswith("Class validation") else lines[1]
    return said[:200].replace("|", "/")


def table(examined: list[Examined]) -> str:
    lines = ["| type | outcome | layers x heads of width | reached at | remark or reason |", "|---|---|---|---|---|"]
    for each in examined:
        lines.append(f"| {each.kind} | {each.outcome} | {each.heads} | {each.reached} | {each.why} |")
    return "\n".join(lines)


def counts(examined: list[Examined]) -> str:
    number = {outcome: sum(each.outcome == outcome for each in examined) for outcome in OUTCOMES}
    return ", ".join(f"{count} {outcome}" for outcome, count in number.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", help="all by default")
    parser.add_argument("--out", type=Path, help="a file whose table, from its first line with | on, is written anew")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    examined = []
    for kind in arguments.types or list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        examined.append(examine(kind))
        print(f"{kind}: {examined[-1].outcome}  {examined[-1].why}", file=sys.stderr, flush=True)
        gc.collect()
    said = f"transformers {transformers.__version__}, {len(examined)} types: {counts(examined)}.\n\n{table(examined)}\n"
    print(said)
    if arguments.out is not None:
        text = arguments.out.read_text()
        arguments.out.write_text(text[: text.index("transformers ")] + said)


if __name__ == "__main__":
    main()
