"""Small random models of three architectures, whose attention and projections differ in names, layers and shapes."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from taskvec.heads import Means, Patch, recording
from taskvec.models.causal_lm import CausalLm, locations
from taskvec.sites import Granularity

transformers: Any = pytest.importorskip("transformers")

LAYERS, HEADS, WIDTH, LENGTH, VOCABULARY = 2, 4, 32, 7, 50


def _llama() -> nn.Module:
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            intermediate_size=48,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=2,
        )
    )


def _gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=16,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def _gpt_neox() -> nn.Module:
    config = transformers.GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
    )
    return transformers.GPTNeoXForCausalLM(config)


@pytest.fixture(scope="module", params=[_llama, _gpt2, _gpt_neox], ids=["llama", "gpt2", "gpt_neox"])
def model(request: pytest.FixtureRequest) -> CausalLm:
    build: Callable[[], nn.Module] = request.param
    torch.manual_seed(0)
    built = build().eval().requires_grad_(False)
    for parameter in built.parameters():
        nn.init.normal_(parameter, std=0.3)
    return CausalLm(built)


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(VOCABULARY, (3, LENGTH), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def means(model: CausalLm) -> Means:
    """Random means of one task."""
    shape = (1, LAYERS, HEADS, LENGTH, WIDTH // HEADS)
    tensors = {"decoder": torch.randn(shape, generator=torch.Generator().manual_seed(2))}
    return Means(tensors, model.fingerprint())


def _recorded(model: CausalLm, tokens: Tensor) -> Tensor:
    """Head outputs [batch, layers, heads, tokens, head_dim]."""
    with recording(model) as recorded:
        model(tokens)
    return torch.stack(recorded["decoder"], 1).transpose(2, 3)


def test_recorded_head_outputs_are_attention_weights_times_values(tokens: Tensor) -> None:
    """In the first layer of GPT-2, where everything that the heads see can be computed by hand."""
    torch.manual_seed(0)
    gpt2: Any = _gpt2().eval()
    block = gpt2.transformer.h[0]
    x = block.ln_1(gpt2.transformer.wte(tokens) + gpt2.transformer.wpe.weight[:LENGTH])
    qkv = x @ block.attn.c_attn.weight + block.attn.c_attn.bias
    q, k, v = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    scores = (q @ k.transpose(-2, -1) / (WIDTH // HEADS) ** 0.5).masked_fill(hidden, -torch.inf)
    torch.testing.assert_close(_recorded(CausalLm(gpt2), tokens)[:, 0], scores.softmax(-1) @ v)


def test_head_outputs_by_their_weights_are_what_attention_puts_out(model: CausalLm, tokens: Tensor) -> None:
    outputs: list[Tensor] = []
    names = dict(model.model.named_modules())
    handles = []
    for module in (tap.module for tap in model.taps()["decoder"]):
        name = next(name for name, other in names.items() if other is module)
        attention = names[name.rpartition(".")[0]]
        handles.append(attention.register_forward_hook(lambda _, __, output: outputs.append(output[0])))
    recorded = _recorded(model, tokens)
    for handle in handles:
        handle.remove()
    for layer, module in enumerate(tap.module for tap in model.taps()["decoder"]):
        weight: Any = module.weight
        matrix = weight.T if isinstance(module, nn.Linear) else weight  # GPT-2's Conv1D holds [inputs, outputs]
        contributions = torch.einsum("bhtd,hdo->bto", recorded[:, layer], matrix.unflatten(0, (HEADS, -1)))
        bias: Any = getattr(module, "bias", None)
        expected = contributions if bias is None else contributions + bias
        torch.testing.assert_close(outputs[layer], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("granularity", ["token", "head", "layer"])
def test_heads_replaced_by_their_own_recording_change_nothing(
    granularity: Granularity, model: CausalLm, tokens: Tensor
) -> None:
    sites = model.sites(granularity, LENGTH)
    every = torch.ones(len(tokens), len(sites), dtype=torch.bool)
    means = Means({"decoder": _recorded(model, tokens)}, model.fingerprint())
    patch = Patch(sites, every, means, torch.arange(len(tokens)))
    torch.testing.assert_close(model(tokens, patch), model(tokens))


def test_patched_logits_equal_those_of_a_hook_written_by_hand(model: CausalLm, tokens: Tensor, means: Means) -> None:
    """A different set of heads and tokens in each row, against one row and one hook at a time."""
    sites = model.sites("token", LENGTH)
    masks = sites.sample(len(tokens), 0.3)
    together = model(tokens, Patch(sites, masks, means))
    modules = [tap.module for tap in model.taps()["decoder"]]
    for row in range(len(tokens)):
        chosen = masks[row].view(LAYERS, HEADS, LENGTH)
        handles = []
        for layer, module in enumerate(modules):

            def replace(
                _: nn.Module, inputs: tuple[Tensor, ...], layer: int = layer, chosen: Tensor = chosen
            ) -> Tensor:
                z = inputs[0].clone()
                for head, token in chosen[layer].nonzero().tolist():
                    width = WIDTH // HEADS
                    z[0, token, head * width : (head + 1) * width] = means["decoder"][0, layer, head, token]
                return z

            handles.append(module.register_forward_pre_hook(replace))
        alone = model.model(tokens[row : row + 1]).logits
        for handle in handles:
            handle.remove()
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(alone, model(tokens[row : row + 1]))


def test_sites_of_a_sequence(model: CausalLm) -> None:
    assert [len(model.sites(granularity, LENGTH)) for granularity in ("token", "head", "layer")] == [56, 8, 2]
    site = model.sites("token", LENGTH).names[LENGTH + 2]
    assert (site.stack, site.layer, site.head, site.region, site.token) == ("decoder", 0, 1, None, 2)
    with pytest.raises(ValueError, match="a sequence has no quadrants"):
        model.sites("quadrant", LENGTH)


def test_a_sequence_of_another_length_is_refused(model: CausalLm, tokens: Tensor, means: Means) -> None:
    first, head = model.sites("token", LENGTH), model.sites("head", LENGTH)
    patch = Patch(first, first.mask([0])[None], means)
    with (
        pytest.raises(ValueError, match="the run has 5 places in the decoder, the patch's sites are of 7"),
        patch.applied(model, locations(5)),
    ):
        model(tokens)
    with pytest.raises(ValueError, match="the run has 5 places in the decoder, the patch's sites are of 7"):
        model(tokens[:, :5], Patch(head, head.mask([6])[None], means))
    with pytest.raises(ValueError, match="the run has 9 places in the decoder, the patch's sites are of 7"):
        model(tokens.repeat(1, 2)[:, :9], patch)


def test_means_of_another_decoder_are_refused(model: CausalLm, tokens: Tensor, means: Means) -> None:
    sites = model.sites("head", LENGTH)
    other: Any = deepcopy(model.model)
    patch = Patch(sites, sites.mask([0])[None], means)
    other.config._name_or_path = "elsewhere"
    assert torch.equal(CausalLm(other)(tokens, patch), model(tokens, patch))
    next(other.parameters()).data[0, 0] += 1
    with pytest.raises(
        ValueError, match=rf"are of the model with fingerprint {means.model}, not of this one with \w{{16}}"
    ):
        CausalLm(other)(tokens, patch)


def test_a_model_without_a_projection_in_every_layer_is_refused() -> None:
    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=WIDTH, d_kv=8, d_ff=48, num_layers=LAYERS, num_heads=HEADS
    )
    with pytest.raises(ValueError, match="T5ForConditionalGeneration has 0 attention output projections in 2 layers"):
        CausalLm(transformers.T5ForConditionalGeneration(config))


def test_heads_that_are_not_the_attentions_own_are_refused() -> None:
    model: Any = _llama()
    model.config.num_attention_heads = 2  # as where the configuration tells of another part
    for module in model.modules():
        if type(module).__name__ == "LlamaAttention":
            module.num_heads = HEADS
    with pytest.raises(ValueError, match="has attention of 4 heads, its configuration says 2"):
        CausalLm(model)
    nothing: Any = nn.Linear(1, 1)
    nothing.config = object()
    with pytest.raises(ValueError, match="Linear does not tell its numbers of layers and heads: it is no decoder"):
        CausalLm(nothing)
