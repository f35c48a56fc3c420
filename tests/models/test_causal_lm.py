"""Small decoders as models that learn from examples in their prompt."""

import os
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

import transformers

from number_tokenizer import NumberTokenizer
from small_decoders import BUILDERS, HEADS, LAYERS, LAYOUTS, VOCABULARY, as_texts, decoder, logits_alone, sequences
from taskvec.heads import Means, Patch, recording, run
from taskvec.models.causal_lm import LAST, CausalLm
from taskvec.models.interface import Decoding, PromptedModel, Queries, Variant
from taskvec.models.key_values import Way
from taskvec.models.token_texts import FirstTokens

ROWS = sequences(6, 9, 3, 9, 1, 12)
ANSWERS = sequences(1, 3, 2, 1, 4, 2, seed=1)
WHOLE = Variant(answers="whole")


@dataclass(frozen=True)
class WordPrompts:
    query_input: np.ndarray
    query_output: np.ndarray
    support_input: np.ndarray
    support_output: np.ndarray
    query_ignored: None = None


def _prompts(rows: list[list[int]] = ROWS, answers: list[list[int]] = ANSWERS, shots: int = 2) -> WordPrompts:
    shown = np.array([as_texts(sequences(*range(1, shots + 1), seed=number)) for number in range(len(rows))])
    return WordPrompts(as_texts(rows), as_texts(answers), shown, np.roll(shown, 1, 0))


def _one_shot_rows(prompts: WordPrompts) -> list[list[int]]:
    pairs = zip(prompts.support_input, prompts.support_output, prompts.query_input, strict=True)
    texts = ["".join(a + b for a, b in zip(inputs, outputs, strict=True)) + query for inputs, outputs, query in pairs]
    return [[int(word) for word in text.split()] for text in texts]


def _whole_sequences(model: CausalLm) -> CausalLm:
    """The same model, in whose passes nothing is kept."""
    other = model.variant(Variant(answers="first"))
    other._ways, other._prepared = {False: Way(None, "asked for")}, {}
    return other


@pytest.fixture(scope="module", params=list(BUILDERS))
def model(request: pytest.FixtureRequest) -> CausalLm:
    return decoder(request.param)


@pytest.fixture(scope="module")
def llama() -> CausalLm:
    return decoder("llama")


def _means(model: CausalLm, value: float = 0.3) -> Means:
    shapes = {name: (1, each.layers, each.heads, 1, each.head_dim) for name, each in model.stacks.items()}
    generator = torch.Generator().manual_seed(2)
    return Means({k: value * torch.randn(v, generator=generator) for k, v in shapes.items()}, model.fingerprint())


def test_it_is_a_prompted_model(llama: CausalLm) -> None:
    assert isinstance(llama, PromptedModel)
    assert (llama.model_type, llama.image_size, llama.has_tokenizer, llama.decoding) == (
        "causal_lm",
        0,
        False,
        Decoding(),
    )
    assert not any(parameter.requires_grad for parameter in llama.model.parameters())
    with pytest.raises(ValueError, match="no features of images"):
        llama.features(np.zeros((1, 8, 8, 3), np.uint8))


def test_stacks(model: CausalLm) -> None:
    kind = model.model.config.model_type
    sizes = {"llama": (2, 16), "jamba": (1, 8), "gemma4_text": (0, 0)}
    layers, width = sizes.get(kind, (LAYERS, 8))
    if kind == "gemma4_text":
        found = {name: (each.layers, each.heads, each.head_dim) for name, each in model.stacks.items()}
        assert found == {"decoder_4x8": (1, HEADS, 8), "decoder_4x16": (2, HEADS, 16)}
    else:
        (layout,) = [model.stacks["decoder"]]
        assert (layout.layers, layout.heads, layout.head_dim, layout.places) == (layers, HEADS, width, (LAST,))
    assert {name: len(taps) for name, taps in model.taps().items()} == {n: e.layers for n, e in model.stacks.items()}
    assert all(torch.equal(numbers, torch.tensor([0])) for numbers in model.present("query_only").values())
    assert len(model.sites("head")) == sum(each.layers * each.heads for each in model.stacks.values())


@pytest.mark.parametrize("view", ["query_only", "one_shot"])
def test_rows_of_a_batch_are_what_each_is_alone(model: CausalLm, view: Any) -> None:
    prompts = _prompts()
    rows = ROWS if view == "query_only" else _one_shot_rows(prompts)
    alone = torch.stack([logits_alone(model, row)[-1] for row in rows])
    for way in (model, _whole_sequences(model)):
        outputs = way.run(way.prepare(prompts, view))
        assert outputs.shape == (len(rows), 1, VOCABULARY)
        assert outputs.dtype == torch.float32
        torch.testing.assert_close(outputs[:, 0], alone, rtol=1e-4, atol=1e-4)
        assert torch.equal(way.answers(outputs, None)[:, 0], alone.argmax(-1))


def test_ways(model: CausalLm) -> None:
    kind = _name_of(model)
    assert model.way.layout == LAYOUTS[kind]
    assert model.way.continues == (LAYOUTS[kind] is not None)
    assert (model.way.reason is None) == (LAYOUTS[kind] == "shared")
    prepared = model.prepare(Queries(as_texts(ROWS)), "query_only")
    assert prepared.tokens.shape[1] == (12 if LAYOUTS[kind] is None else 1)


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_prompts_beyond_a_window_are_run_whole(name: str) -> None:
    model = decoder(name)
    assert model.way.window == 16
    for length, kept in ((15, True), (16, False), (25, False)):
        rows = sequences(length, 5)
        items = model.prepare(Queries(as_texts(rows)), "query_only")
        assert (items.prefixes is not None) == kept
        alone = torch.stack([logits_alone(model, row)[-1] for row in rows])
        torch.testing.assert_close(model.run(items)[:, 0], alone, rtol=1e-4, atol=1e-4)


def test_keys_and_values_that_memory_does_not_hold_are_not_kept(
    llama: CausalLm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskvec.models.causal_lm.free_bytes", lambda device: 10_000)
    assert llama.prepare(Queries(as_texts(ROWS)), "query_only").prefixes is None


def test_rows_are_taken_in_any_order(model: CausalLm) -> None:
    items = model.prepare(Queries(as_texts(ROWS)), "query_only")
    every = model.run(items)
    for rows in (torch.tensor([4, 1, 1, 0, 1, 4, 1, 1, 1, 1]), torch.tensor([2]), torch.arange(6).repeat_interleave(3)):
        chosen = items[rows]
        assert len(chosen) == len(rows)
        torch.testing.assert_close(model.run(chosen), every[rows], rtol=1e-4, atol=1e-4)
    assert len(items[torch.tensor([2, 4])][torch.tensor([1])]) == 1
    torch.testing.assert_close(model.run(items[2:5]), every[2:5], rtol=1e-4, atol=1e-4)


def test_equal_prompts_share_what_is_kept(llama: CausalLm) -> None:
    items = llama.prepare(Queries(as_texts([ROWS[0], ROWS[1], ROWS[0], [*ROWS[0][:-1], 5]])), "query_only")
    assert items.prefixes is not None
    assert len(items.prefixes.lengths) == 2
    assert items.prompt is not None
    assert items.prompt.tolist() == [0, 1, 0, 0]
    assert items[torch.tensor([3, 3])].prefixes is items.prefixes


def test_patched_runs_are_those_of_whole_sequences(model: CausalLm) -> None:
    """Other heads in every row, at its last token alone."""
    prompts, sites = _prompts(), model.sites("head")
    patch = Patch(sites, sites.sample(len(ROWS), 0.4, seed=3), _means(model))
    whole = _whole_sequences(model)
    items = whole.prepare(prompts, "one_shot")
    expected = run(whole, items, patch)
    torch.testing.assert_close(run(model, model.prepare(prompts, "one_shot"), patch), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, whole.run(items), atol=1e-2)
    for row, masks in enumerate(patch.masks):
        if masks.any():
            own = run(whole, items[torch.tensor([row])], replace(patch, masks=masks[None]))
            torch.testing.assert_close(own[0], expected[row], rtol=1e-4, atol=1e-4)


def _recorded(model: CausalLm, items: Any) -> Means:
    """By row, of its last token."""
    with recording(model) as recorded:
        model.run(items)
    rows = torch.arange(len(items))
    tensors = {}
    for stack, layers in recorded.items():
        where = items.places[stack].where[:, 0].expand(len(rows))
        tensors[stack] = torch.stack([z[rows, where] for z in layers], 1)[:, :, :, None]
    return Means(tensors, model.fingerprint())


def test_heads_replaced_by_their_own_recording_change_nothing_and_by_nothing_a_lot(model: CausalLm) -> None:
    items, sites = model.prepare(_prompts(), "query_only"), model.sites("head")
    own, whole = _recorded(model, items), _whole_sequences(model)
    of_whole = _recorded(whole, whole.prepare(_prompts(), "query_only"))
    for stack, means in own.items():
        torch.testing.assert_close(means, of_whole[stack], rtol=1e-4, atol=1e-4)
    every, tasks = torch.ones(len(ROWS), len(sites), dtype=torch.bool), torch.arange(len(ROWS))
    plain = model.run(items)
    torch.testing.assert_close(run(model, items, Patch(sites, every, own, tasks)), plain, rtol=1e-4, atol=1e-4)
    nothing = own.map(torch.zeros_like)
    for site in range(len(sites)):
        changed = run(model, items, Patch(sites, sites.mask([site])[None], nothing, tasks))
        assert not torch.allclose(changed, plain, atol=1e-4)


def test_what_is_prepared_inside_a_block_is_not_part_of_it(model: CausalLm) -> None:
    prompts, sites = _prompts(), model.sites("head")
    patch = Patch(sites, sites.sample(len(ROWS), 0.4, seed=3), _means(model))
    items = model.prepare(prompts, "query_only")
    expected, fresh = run(model, items, patch), decoder(_name_of(model))
    with patch.applied(fresh, items.places):
        torch.testing.assert_close(fresh.run(fresh.prepare(prompts, "query_only")), expected)
    with recording(fresh) as recorded:
        fresh.run(fresh.prepare(prompts, "query_only"))
    assert {stack: len(layers) for stack, layers in recorded.items()} == {n: e.layers for n, e in model.stacks.items()}


def _name_of(model: CausalLm) -> str:
    return model.model.config.model_type.removesuffix("_text")


def test_gradients_of_shares_and_means_are_those_of_whole_sequences(model: CausalLm) -> None:
    prompts, sites = _prompts(), model.sites("head")
    gradients = []
    for way in (model, _whole_sequences(model)):
        shares = torch.full((len(sites),), 0.4, requires_grad=True)
        leaves = {stack: mean.clone().requires_grad_() for stack, mean in _means(model).items()}
        patch = Patch(sites, shares.expand(len(ROWS), -1), Means(leaves, model.fingerprint()))
        items = way.prepare(prompts, "query_only")
        losses = way.losses(run(way, items, patch), items, way.targets(prompts))
        gradients.append(torch.autograd.grad(losses.mean(), [shares, *leaves.values()]))
    assert gradients[0][0].abs().min() > 0
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("view", ["query_only", "one_shot"])
def test_whole_answers_are_scored_behind_their_true_tokens(model: CausalLm, view: Any) -> None:
    prompts = _prompts()
    rows = ROWS if view == "query_only" else _one_shot_rows(prompts)
    truths = model.variant(WHOLE).truths(prompts)
    assert truths.tolist() == [[*answer, *[-1] * (4 - len(answer))] for answer in ANSWERS]
    for way in (model.variant(WHOLE), _whole_sequences(model).variant(WHOLE)):
        items = way.prepare(prompts, view)
        outputs = way.run(items)
        assert outputs.shape == (len(rows), 4, VOCABULARY)
        losses = way.losses(outputs, items, way.targets(prompts))
        for number, (row, answer) in enumerate(zip(rows, ANSWERS, strict=True)):
            own = logits_alone(model, row + answer)[len(row) - 1 : -1]
            torch.testing.assert_close(outputs[number, : len(answer)], own, rtol=1e-4, atol=1e-4)
            expected = torch.nn.functional.cross_entropy(own, torch.tensor(answer))
            torch.testing.assert_close(losses[number], expected, rtol=1e-4, atol=1e-4)


def test_whole_answers_that_are_all_right_are_what_is_generated(llama: CausalLm) -> None:
    texts = as_texts(ROWS).tolist()
    generated = llama.generate(texts, 3)
    model = llama.variant(WHOLE)
    prompts = replace(_prompts(), query_output=np.array(generated))
    items = model.prepare(prompts, "query_only")
    assert torch.equal(model.answers(model.run(items), items), model.truths(prompts))
    assert model.texts(model.truths(prompts)) == generated


def test_a_patch_of_whole_answers_acts_on_the_prompts_last_token_alone(model: CausalLm) -> None:
    prompts, sites = _prompts(), model.sites("head")
    patch = Patch(sites, sites.sample(len(ROWS), 0.4, seed=3), _means(model))
    ways = [model.variant(WHOLE), _whole_sequences(model).variant(WHOLE)]
    outputs = [run(way, way.prepare(prompts, "query_only"), patch) for way in ways]
    there = ways[0].truths(prompts) >= 0
    torch.testing.assert_close(outputs[0][there], outputs[1][there], rtol=1e-4, atol=1e-4)
    first = run(model, model.prepare(prompts, "query_only"), patch)
    torch.testing.assert_close(outputs[0][:, :1], first, rtol=1e-4, atol=1e-4)


def test_losses_are_of_the_true_tokens(llama: CausalLm) -> None:
    outputs = torch.randn(2, 2, VOCABULARY, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[3, 5, -1], [7, -1, -1]])
    chosen = outputs.log_softmax(-1)
    expected = torch.stack([-(chosen[0, 0, 3] + chosen[0, 1, 5]) / 2, -chosen[1, 0, 7]])
    torch.testing.assert_close(llama.losses(outputs, None, targets), expected)
    with pytest.raises(ValueError, match="targets of 3 tokens do not fit outputs of 1"):
        llama.losses(outputs[:, :1], None, targets)


def test_mean_outputs_are_of_probabilities(llama: CausalLm) -> None:
    outputs = torch.randn(3, 2, 1, VOCABULARY, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(llama.mean_outputs(outputs).exp(), outputs.softmax(-1).mean(0))
    assert torch.equal(llama.mean_outputs(iter(outputs[:1])), outputs[0])


def test_bfloat16_shares_nothing_but_the_tokens(llama: CausalLm) -> None:
    fast = llama.variant(Variant(bfloat16=True))
    assert (fast.fingerprint(), fast.device) == (llama.fingerprint(), llama.device)
    assert {parameter.dtype for parameter in fast.model.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in llama.model.parameters()} == {torch.float32}
    prompts, sites = _prompts(), llama.sites("head")
    patch = Patch(sites, sites.sample(len(ROWS), 0.5, seed=1), _means(llama))
    outputs = [run(each, each.prepare(prompts, "one_shot"), patch) for each in (llama, fast)]
    assert outputs[1].dtype == torch.float32
    assert 0 < (outputs[0] - outputs[1]).abs().max() < 0.05 * outputs[0].abs().max()
    assert not torch.allclose(outputs[1], fast.run(fast.prepare(prompts, "one_shot")), atol=0.1)
    assert llama.variant(Variant(bfloat16=True)).model is fast.model  # one copy for all
    assert fast.variant(WHOLE)._variant == Variant(bfloat16=True, answers="whole")
    assert llama.variant(Variant()) is llama


def test_variants_that_it_does_not_have(llama: CausalLm) -> None:
    with pytest.raises(ValueError, match="a language model has no canvas: expected no area, not 'quadrant'"):
        llama.variant(Variant(area="quadrant"))
    with pytest.raises(ValueError, match="has no decoding expected, temperature 1"):
        llama.variant(Variant(decoding=Decoding("expected")))
    assert llama.variant(Variant(fused=True)).run(llama.prepare(_prompts(), "query_only")).shape == (6, 1, VOCABULARY)


def test_the_fingerprint_is_of_weights_and_architecture(llama: CausalLm) -> None:
    assert decoder("llama").fingerprint() == llama.fingerprint() == llama.identity.digest
    other: Any = deepcopy(llama.model)
    other.config._name_or_path = "elsewhere"
    assert CausalLm(other, NumberTokenizer()).fingerprint() == llama.fingerprint()
    other.config.rms_norm_eps = 0.1
    assert CausalLm(other, NumberTokenizer()).fingerprint() != llama.fingerprint()
    other = deepcopy(llama.model)
    next(other.parameters()).data[0, 0] += 1
    assert CausalLm(other, NumberTokenizer()).fingerprint() != llama.fingerprint()
    stored_in_half, half = decoder("llama").model.bfloat16(), decoder("llama").model.bfloat16()
    fingerprints = {CausalLm(each, NumberTokenizer()).fingerprint() for each in (stored_in_half.float(), half)}
    assert len(fingerprints) == 1


def test_means_of_another_decoder_are_refused(llama: CausalLm) -> None:
    other, sites = decoder("mistral"), llama.sites("head")
    patch = Patch(sites, sites.mask([0])[None], _means(llama))
    with pytest.raises(ValueError, match="the means of the patch are of the model with fingerprint"):
        run(other, other.prepare(Queries(as_texts(ROWS)), "query_only"), patch)


def test_bad_prompts(llama: CausalLm) -> None:
    with pytest.raises(ValueError, match=r"query_input is uint8 of shape \(1, 2, 2, 3\), expected text"):
        llama.prepare(Queries(np.zeros((1, 2, 2, 3), np.uint8)), "query_only")
    with pytest.raises(ValueError, match="the view one_shot shows examples, but only queries were drawn"):
        llama.prepare(Queries(as_texts(ROWS)), "one_shot")
    with pytest.raises(ValueError, match="there is no view 'none'"):
        llama.prepare(Queries(as_texts(ROWS)), "none")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a prompt has no tokens"):
        llama.prepare(Queries(np.array([" "])), "query_only")
    with pytest.raises(ValueError, match="a prompt with its answer has 130 tokens, more than the model's 128"):
        llama.prepare(Queries(as_texts(sequences(130))), "query_only")
    assert len(llama.prepare(Queries(as_texts(ROWS)[:0]), "query_only")) == 0


def test_queries_without_answers_are_run_to_the_first_token(llama: CausalLm) -> None:
    model = llama.variant(WHOLE)
    outputs = model.run(model.prepare(Queries(as_texts(ROWS)), "query_only"))
    torch.testing.assert_close(outputs, llama.run(llama.prepare(Queries(as_texts(ROWS)), "query_only")))


def test_first_tokens(llama: CausalLm) -> None:
    answers = [[5], [5, 6], [7], [7], [8, 9]]
    assert llama.first_tokens(_prompts(ROWS[:5], answers)) == FirstTokens(answers=4, several=2, shared=2)


def test_the_language_model_of_one_that_takes_pictures() -> None:
    model = decoder("llava")
    assert {name: (each.layers, each.heads) for name, each in model.stacks.items()} == {"decoder": (LAYERS, HEADS)}
    alone = torch.stack([logits_alone(model, row)[-1] for row in ROWS])
    outputs = model.run(model.prepare(Queries(as_texts(ROWS)), "query_only"))
    torch.testing.assert_close(outputs[:, 0], alone, rtol=1e-4, atol=1e-4)
    assert model.describe()["layers"] == LAYERS


def test_models_that_cannot_be_taken() -> None:
    bert: Any = transformers.BertLMHeadModel(
        transformers.BertConfig(
            vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
        )
    )
    for weight in bert.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    with pytest.raises(ValueError, match="BertLMHeadModel sees later tokens from earlier ones"):
        CausalLm(bert.eval(), NumberTokenizer())


def test_cost_is_more_than_a_pass_takes(model: CausalLm) -> None:
    """Of tensors that a pass with a gradient keeps, each counted once."""
    prompts, sites = _prompts(), model.sites("head")
    items = model.prepare(prompts, "one_shot")
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    known = [*model.model.parameters(), *(items.prefixes.keys + items.prefixes.values if items.prefixes else ())]
    weights = {weight.untyped_storage().data_ptr() for weight in known if weight is not None}
    shares = torch.rand(len(sites), requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        outputs = run(model, items, Patch(sites, shares.expand(len(ROWS), -1), _means(model)))
        model.losses(outputs, items, model.targets(prompts)).sum().backward()
    of_rows = sum(size for place, size in kept.items() if place not in weights)
    assert of_rows < len(ROWS) * model.cost("one_shot", answers=False, gradient=True).bytes
    tokens = model.cost("one_shot", answers=True, gradient=False).tokens
    assert tokens == (1 if items.prefixes is not None else items.tokens.shape[1])


def test_description(model: CausalLm) -> None:
    told = model.describe()
    assert told["layers"] == model.model.config.num_hidden_layers
    assert told["way"] == str(model.way)
    assert told["layers_without_attention"] == ([0] if told["architecture"] == "JambaForCausalLM" else [])
    flops = model.gigaflops()
    assert flops["last_token"] > flops["earlier_token"] > 0
    weights = sum(weight.numel() for weight in model.model.parameters())
    assert model.number_of_parameters == weights


@pytest.mark.skipif("TASKVEC_LANGUAGE_MODEL" not in os.environ, reason="needs TASKVEC_LANGUAGE_MODEL, a directory")
def test_a_real_model_runs_as_whole_sequences_do() -> None:
    model = CausalLm.load(Path(os.environ["TASKVEC_LANGUAGE_MODEL"]))
    words = ["go", "understand", "make"]
    shown = np.array([["Q: see\nA:", "Q: run\nA:"]] * 3), np.array([[" saw\n\n", " ran\n\n"]] * 3)
    prompts = WordPrompts(
        np.array([f"Q: {word}\nA:" for word in words]), np.array([" went", " understood", " made"]), *shown
    )
    outputs = [way.run(way.prepare(prompts, "one_shot")) for way in (model, _whole_sequences(model))]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    assert model.texts(model.answers(outputs[0], None)) == model.texts(model.truths(prompts))
