"""Decoders of many kinds as tiny random models; benchmarks/families.py examines all there are in the same way."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor, nn

transformers: Any = pytest.importorskip("transformers")

from families import LENGTH, ROWS, VOCABULARY, Tapped, examine, lively, logits  # noqa: E402 (needs transformers)
from taskvec.heads import HeadOutput  # noqa: E402
from taskvec.models import attention_taps  # noqa: E402
from taskvec.models.attention_taps import AttentionTap, find_taps  # noqa: E402
from taskvec.models.interface import ProjectionTap  # noqa: E402

LAYERS, HEADS, WIDTH = 2, 4, 6
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}


def _llama(**settings: Any) -> nn.Module:
    """With heads that are not the hidden size's share, and two for each of the keys."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES, num_key_value_heads=2, head_dim=WIDTH, **settings)
    return lively(transformers.LlamaForCausalLM(config))


def _bloom() -> Any:
    torch.manual_seed(0)
    config = transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=LAYERS, n_head=HEADS)
    return lively(transformers.BloomForCausalLM(config))


@pytest.fixture(scope="module")
def llama() -> nn.Module:
    return _llama()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(8, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _nothing_stays_attached() -> Iterator[None]:
    yield
    assert not len(attention_taps._attached)


FUNCTION = "attention function"
REFUSED_TWICE = "2 times in a pass: its head outputs cannot be told apart"


@pytest.mark.parametrize(
    ("kind", "outcome", "heads", "reached", "why"),
    [
        ("llama", "right", "4 x 4 of 8", FUNCTION, ""),
        ("qwen3", "right", "4 x 4 of 8", FUNCTION, ""),
        ("gemma2", "right", "4 x 4 of 8", FUNCTION, ""),
        ("gemma3_text", "right", "4 x 4 of 8", FUNCTION, ""),
        ("gpt2", "right", "4 x 4 of 8", FUNCTION, ""),
        ("gpt_bigcode", "right", "4 x 4 of 8", FUNCTION, ""),
        ("gpt_neox", "right", "4 x 4 of 8", FUNCTION, ""),
        ("mistral", "right", "4 x 4 of 8", FUNCTION, ""),
        ("phi", "right", "4 x 4 of 8", FUNCTION, ""),
        ("bloom", "right", "2 x 4 of 8", "input of dense", ""),
        ("falcon", "right", "4 x 4 of 8", "input of dense", ""),
        ("mixtral", "right", "4 x 4 of 8", FUNCTION, ""),
        ("gpt_oss", "right", "4 x 4 of 8", FUNCTION, ""),
        ("deepseek_v3", "right", "4 x 4 of 8", FUNCTION, ""),
        ("deepseek_v32", "right", "4 x 4 of 8", FUNCTION, ""),  # chooses keys where its configuration says sdpa
        ("granite_swa", "right", "4 x 4 of 8", FUNCTION, ""),  # scales what it has summed
        ("laguna", "right", "4 x 4 of 8 or 8 of 8", FUNCTION, ""),
        ("jamba", "right with a remark", "2 x 4 of 8", FUNCTION, "no attention ran in layers 0, 2"),
        ("lfm2", "right with a remark", "2 x 4 of 8", FUNCTION, "no attention ran in layers 0, 2"),
        ("minimax", "right with a remark", "2 x 4 of 8", FUNCTION, "no attention ran in layers 1, 3"),
        ("diffllama", "refused", "", "", f"DiffLlamaForCausalLM runs model.layers.0.self_attn {REFUSED_TWICE}"),
        ("dory", "refused", "", "", f"DoryForCausalLM runs model.layers.0.self_attn {REFUSED_TWICE}"),
        ("mamba", "refused", "", "", "MambaForCausalLM has no attention: no product of softmax and values was seen"),
        ("xlnet", "refused", "", "", "XLNetLMHeadModel computes with its head outputs before any module is given them"),
        ("cpmant", "refused", "", "", "CpmAntForCausalLM attends with other tokens than those that it is given"),
        ("blt", "refused", "", "", "BltForCausalLM has attention in several stacks of layers"),
    ],
)
def test_head_outputs_are_reached_or_refused(kind: str, outcome: str, heads: str, reached: str, why: str) -> None:
    """Judged by causes: replaced by themselves, by zero, by rows of their own, and with the other way to attend."""
    examined = examine(kind)
    assert (examined.outcome, examined.heads, examined.reached) == (outcome, heads, reached), examined.why
    assert examined.why.startswith(why)
    assert bool(examined.why) == bool(why)


def test_head_outputs_are_attention_weights_times_values(tokens: Tensor) -> None:
    model: Any = _llama(attn_implementation="eager")
    found = find_taps(model)
    own = Tapped(model, found).recorded(tokens)
    assert (found.heads, found.widths, found.layers, found.without) == ((HEADS,) * 2, (WIDTH,) * 2, (0, 1), ())
    shown = model(tokens, output_attentions=True, output_hidden_states=True)
    for layer, z in zip(model.model.layers, own, strict=True):
        number = layer.self_attn.layer_idx
        x = layer.input_layernorm(shown.hidden_states[number])
        values = layer.self_attn.v_proj(x).unflatten(-1, (2, WIDTH)).repeat_interleave(2, 2)
        torch.testing.assert_close(z, torch.einsum("bhts,bshd->bthd", shown.attentions[number], values))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_unpatched_pass_is_the_same_to_the_bit(attention: str, tokens: Tensor) -> None:
    model: Any = _llama(attn_implementation=attention)
    before = logits(model, tokens)
    tapped = Tapped(model, find_taps(model))
    assert model.config._attn_implementation == attention
    assert torch.equal(logits(model, tokens), before)
    assert torch.equal(tapped.logits(tokens, lambda number, z: None), before)
    assert torch.equal(tapped.logits(tokens, lambda number, z: z), before)


def test_padding_and_windows_hold_under_a_patch() -> None:
    """A row with padding on its left, patched at its last token, gives the logits of the row alone."""
    torch.manual_seed(0)
    config = transformers.MistralConfig(**SIZES, num_key_value_heads=2, head_dim=WIDTH, sliding_window=4)
    model: Any = lively(transformers.MistralForCausalLM(config))
    tapped = Tapped(model, find_taps(model))
    alone = torch.randint(8, VOCABULARY, (1, 5), generator=torch.Generator().manual_seed(1))
    padded = nn.functional.pad(alone, (4, 0), value=3)
    mask = (torch.arange(9) >= 4).long()[None]

    def patched(inputs: Tensor, **settings: Tensor) -> Tensor:
        def replace(number: int, z: HeadOutput) -> HeadOutput:
            changed = z.clone()
            changed[:, -1, number] = 1.0
            return changed

        with ExitStack() as stack:
            for number, tap in enumerate(tapped.found.taps):
                stack.callback(tap.attach(lambda z, number=number: replace(number, z), HEADS).remove)
            return model(inputs, **settings).logits[:, -1]

    whole = patched(alone)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    torch.testing.assert_close(patched(padded, attention_mask=mask, position_ids=positions), whole)
    assert not torch.allclose(patched(padded), whole, atol=1e-3)  # without the mask


def test_only_the_thread_that_patches_sees_its_patch(llama: nn.Module, tokens: Tensor) -> None:
    tapped = Tapped(llama, find_taps(llama))
    plain, zero = logits(llama, tokens), tapped.logits(tokens, lambda number, z: torch.zeros_like(z))
    together = Barrier(3)

    def run(factor: float | None) -> Tensor:
        together.wait()
        change = None if factor is None else (lambda number, z: z * factor)
        return [tapped.logits(tokens, change) for _ in range(20)][-1]

    with ThreadPoolExecutor(3) as pool:
        nothing, zeroed, same = pool.map(run, [None, 0.0, 1.0])
    assert torch.equal(nothing, plain)
    assert torch.equal(zeroed, zero)
    assert torch.equal(same, plain)
    assert not torch.allclose(zero, plain)


def test_functions_see_what_those_before_made(llama: nn.Module, tokens: Tensor) -> None:
    tap = find_taps(llama).taps[1]
    seen = []
    first = tap.attach(lambda z: torch.full_like(z, 2.0), HEADS)
    second = tap.attach(lambda z: seen.append(z.clone()), HEADS)
    logits(llama, tokens)
    first.remove()
    logits(llama, tokens)
    second.remove()
    logits(llama, tokens)
    twos, own = seen
    assert torch.equal(twos, torch.full((ROWS, LENGTH, HEADS, WIDTH), 2.0))
    assert not torch.equal(own, twos)


def test_an_error_in_a_function_leaves_nothing_behind(llama: nn.Module, tokens: Tensor) -> None:
    tapped = Tapped(llama, find_taps(llama))
    before = logits(llama, tokens)

    def fail(number: int, z: HeadOutput) -> HeadOutput:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        tapped.logits(tokens, fail)
    assert torch.equal(logits(llama, tokens), before)


def test_other_numbers_of_heads_than_attention_returns_are_refused(llama: nn.Module, tokens: Tensor) -> None:
    handle = find_taps(llama).taps[0].attach(lambda z: None, HEADS + 1)
    try:
        with pytest.raises(ValueError, match="the attention of LlamaAttention has 4 heads, not 5"):
            logits(llama, tokens)
    finally:
        handle.remove()


def test_a_gradient_reaches_what_replaces_a_head(llama: nn.Module, tokens: Tensor) -> None:
    mean = torch.zeros(HEADS, WIDTH, requires_grad=True)
    handle = find_taps(llama).taps[0].attach(lambda z: z + mean, HEADS)
    llama(tokens).logits.square().mean().backward()  # type: ignore[reportCallIssue]
    handle.remove()
    assert mean.grad is not None
    assert bool((mean.grad.abs().sum(1) > 0).all())


def test_a_composite_model_is_searched_where_text_runs(tokens: Tensor) -> None:
    torch.manual_seed(0)
    vision = transformers.SiglipVisionConfig(
        **{**SIZES, "vocab_size": None}, image_size=16, patch_size=8, vision_use_head=False
    )
    text = transformers.Gemma3TextConfig(**SIZES, num_key_value_heads=2, head_dim=WIDTH, sliding_window=4)
    config = transformers.Gemma3Config(
        text_config=text.to_dict(), vision_config=vision.to_dict(), mm_tokens_per_image=4, image_token_index=5
    )
    model = lively(transformers.Gemma3ForConditionalGeneration(config))
    before = logits(model, tokens)
    found = find_taps(model)
    assert found.names == tuple(f"model.language_model.layers.{layer}.self_attn" for layer in range(LAYERS))
    assert (found.heads, found.widths) == ((HEADS,) * LAYERS, (WIDTH,) * LAYERS)
    assert torch.equal(logits(model, tokens), before)
    changed = Tapped(model, found).logits(tokens, lambda number, z: z * 0)
    assert not torch.allclose(changed, before)


def test_text_that_sees_later_text_is_told(tokens: Tensor) -> None:
    sizes = {**SIZES, "vocab_size": VOCABULARY}
    causal, both = (
        find_taps(lively(transformers.BertLMHeadModel(transformers.BertConfig(**sizes, is_decoder=is_decoder))))
        for is_decoder in (True, False)
    )
    assert (causal.causal, causal.remarks) == (True, ())
    assert (both.causal, both.remarks) == (False, ("logits of a token depend on later tokens",))


def test_projections_are_reached_where_attention_is_not(tokens: Tensor) -> None:
    found = find_taps(_bloom())
    assert all(isinstance(tap, ProjectionTap) for tap in found.taps)
    assert found.names == tuple(f"transformer.h.{layer}.self_attention.dense" for layer in range(LAYERS))
    assert found.remarks == (
        "head outputs are reached as inputs of modules, not through the library's attention function",
    )


def test_a_norm_over_all_heads_is_left_behind_the_tap(tokens: Tensor) -> None:
    """What normalises all heads together is given the head outputs themselves: there they are reached."""
    model = _bloom()
    for block in model.transformer.h:
        block.self_attention.dense = nn.Sequential(nn.LayerNorm(32), block.self_attention.dense)
    lively(model)
    tapped = Tapped(model, find_taps(model))
    own = tapped.recorded(tokens)
    assert torch.equal(tapped.logits(tokens, lambda number, z: own[number]), logits(model, tokens))


def test_head_outputs_that_are_used_elsewhere_are_refused() -> None:
    model = _bloom()
    attention = model.transformer.h[0].self_attention
    seen = []
    attention.dense.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    attention.register_forward_hook(lambda module, inputs, output: (output[0] + seen.pop(), *output[1:]))
    with pytest.raises(ValueError, match="BloomForCausalLM uses its head outputs elsewhere than where they are reach"):
        find_taps(model)


def test_head_outputs_that_nothing_depends_on_are_refused() -> None:
    model: Any = _llama()
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
    with pytest.raises(ValueError, match="LlamaForCausalLM does not depend on its head outputs"):
        find_taps(model)


def test_models_that_are_no_decoders_to_be_read_are_refused() -> None:
    with pytest.raises(ValueError, match=r"LlamaForCausalLM is in training mode: call model\.eval"):
        find_taps(_llama().train())
    config = transformers.T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=HEADS)
    with pytest.raises(ValueError, match="T5ForConditionalGeneration has an encoder and a decoder: expected a decoder"):
        find_taps(transformers.T5ForConditionalGeneration(config).eval())


def test_attention_functions_can_be_read_as_before(llama: nn.Module) -> None:
    find_taps(llama)
    functions = transformers.models.llama.modeling_llama.ALL_ATTENTION_FUNCTIONS
    known = transformers.AttentionInterface()
    assert set(functions) == set(known)
    assert len(functions) == len(known)
    assert "sdpa" in functions
    assert functions.valid_keys() == known.valid_keys()
    assert callable(functions["sdpa"])
    with pytest.raises(KeyError):
        functions["nothing"]
    assert isinstance(find_taps(llama).taps[0], AttentionTap)  # a second time, on the same file


def test_weights_next_to_the_heads_are_those_of_attention(llama: Any) -> None:
    tap = find_taps(llama).taps[1]
    own = llama.model.layers[1].self_attn.parameters()
    assert [id(weight) for weight in tap.weights()] == [id(weight) for weight in own]
