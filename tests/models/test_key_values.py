"""Keys and values that are kept, and attention to them, in both layouts and against a model's own attention."""

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("transformers")

from small_decoders import LAYOUTS, decoder, logits_alone, sequences
from taskvec.models import key_values
from taskvec.models.key_values import (
    Blocks,
    ContinuedCache,
    Layout,
    Prefixes,
    UnfitError,
    Way,
    compute_prefixes,
    find_way,
    run_continued,
)
from taskvec.models.token_texts import padded

PREFIXES = sequences(6, 9, 1, 4)
BEHIND = sequences(2, 1, 3, 2, 3, 1, seed=1)
PROMPT = torch.tensor([1, 0, 1, 3, 2, 2])


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "bloom", "gemma4"])
@pytest.mark.parametrize("together", [1, 3, 8])
def test_tokens_behind_prefixes_have_the_logits_of_whole_sequences(name: str, together: int) -> None:
    model = decoder(name)
    prefixes = compute_prefixes(model.model, PREFIXES, 0, together)
    lengths = torch.tensor([len(row) for row in BEHIND])
    layouts: list[Layout] = ["shared", "gathered"] if LAYOUTS[name] == "shared" else ["gathered"]
    for layout in layouts:
        chosen = torch.arange(3).expand(6, -1)
        logits = run_continued(model.model, padded(BEHIND, 0), lengths, chosen, prefixes, PROMPT, layout)
        for own, number, row in zip(logits, PROMPT.tolist(), BEHIND, strict=True):
            alone = logits_alone(model, PREFIXES[number] + row)[-len(row) :]
            torch.testing.assert_close(own[: len(row)], alone, rtol=1e-4, atol=1e-4)


def test_prefixes_hold_what_the_library_keeps() -> None:
    model = decoder("llama").model
    prefixes = compute_prefixes(model, PREFIXES, 0, 2)
    assert prefixes.lengths.tolist() == [6, 9, 1, 4]
    assert prefixes.valid.sum(1).tolist() == [6, 9, 1, 4]
    assert prefixes.uneven
    for number, row in enumerate(PREFIXES):
        kept: Any = model(input_ids=torch.tensor([row]), use_cache=True)
        kept = kept.cache if hasattr(kept, "cache") else kept.past_key_values
        for layer, (keys, values) in enumerate(zip(prefixes.keys, prefixes.values, strict=True)):
            assert keys is not None
            assert values is not None
            torch.testing.assert_close(keys[number, :, : len(row)], kept.layers[layer].keys[0])
            torch.testing.assert_close(values[number, :, : len(row)], kept.layers[layer].values[0])
    assert not compute_prefixes(model, [PREFIXES[0], PREFIXES[0]], 0, 2).uneven


def test_a_prompt_of_one_token_has_an_empty_prefix() -> None:
    model = decoder("llama")
    prefixes = compute_prefixes(model.model, [[], PREFIXES[0]], 0, 2)
    ones = torch.ones(2, dtype=torch.int64)
    for layout in key_values.LAYOUTS:
        tokens, chosen = torch.tensor([[5], [6]]), torch.zeros(2, 1, dtype=torch.int64)
        logits = run_continued(model.model, tokens, ones, chosen, prefixes, torch.arange(2), layout)[:, 0]
        torch.testing.assert_close(logits[0], logits_alone(model, [5])[-1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits[1], logits_alone(model, [*PREFIXES[0], 6])[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("prompts", "size", "blocks", "copied"),
    [
        ([0, 0, 0, 1, 1, 1], 3, 2, False),
        ([2, 2, 3, 3], 2, 2, False),
        ([0, 1, 2], 1, 3, False),
        ([3, 0, 3, 0], 2, 2, True),
        ([0] * 9 + [1, 2, 3], 3, 6, True),
        ([5], 1, 1, False),
    ],
)
def test_blocks_are_of_one_prompt_each(prompts: list[int], size: int, blocks: int, copied: bool) -> None:
    rows = torch.tensor(prompts)
    found = Blocks.of(rows)
    of_block = torch.arange(8)[found.prompt]
    assert (found.size, len(of_block), isinstance(found.prompt, torch.Tensor)) == (size, blocks, copied)
    values = torch.randn(len(rows), 2, generator=torch.Generator().manual_seed(0))
    spread = found.spread(values)
    assert spread.shape == (blocks, size, 2)
    assert torch.equal(found.collect(spread), values)
    assert torch.equal(found.collect(of_block[:, None].expand(-1, size)), rows)


def test_shared_attention_is_attention_to_a_prompts_tokens_and_the_rows_own() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, heads, key_heads, width, before, tokens = 5, 6, 2, 4, 7, 3
    keys, values = (torch.randn(3, key_heads, before, width, generator=generator) for _ in range(2))
    query = torch.randn(rows, heads, tokens, width, generator=generator)
    key, value = (torch.randn(rows, key_heads, tokens, width, generator=generator) for _ in range(2))
    prompt, lengths = torch.tensor([2, 0, 2, 2, 1]), torch.tensor([7, 3, 5])
    cache = ContinuedCache(Prefixes((keys,), (values,), lengths, before), prompt, "shared")
    cache.update(key, value, 0)
    z, weights = cache.attend(torch.nn.Identity(), query, key, value, scaling=0.7)
    assert weights is None
    assert z.shape == (rows, tokens, heads, width)
    for row in range(rows):
        number = int(prompt[row])
        seen = [
            torch.cat([side[number, :, : lengths[number]], own[row]], 1) for side, own in ((keys, key), (values, value))
        ]
        all_keys, all_values = (side.repeat_interleave(heads // key_heads, 0) for side in seen)
        hidden = torch.ones(tokens, all_keys.shape[1]).triu(1 + all_keys.shape[1] - tokens).bool()
        expected = F.scaled_dot_product_attention(query[row], all_keys, all_values, ~hidden, scale=0.7)
        torch.testing.assert_close(z[row].transpose(0, 1), expected)


def test_what_shared_attention_does_not_compute_is_refused() -> None:
    empty = torch.zeros(1, 2, 1, 4)
    cache = ContinuedCache(Prefixes((empty, None), (empty, None), torch.tensor([1]), 1), torch.tensor([0]), "shared")
    cache.update(empty, empty, 0)
    for option in key_values.UNKNOWN:
        with pytest.raises(UnfitError, match=f"attention with {option}"):
            cache.attend(torch.nn.Identity(), empty, empty, empty, **{option: 1.0})
    with pytest.raises(UnfitError, match="attention on other keys than those of the tokens"):
        cache.attend(torch.nn.Identity(), empty, empty[:, :1], empty)
    cache.update(empty, empty, 1)
    with pytest.raises(UnfitError, match="layer 1 kept no keys and values"):
        cache.attend(torch.nn.Identity(), empty, empty, empty)


def test_another_thread_runs_the_models_own_attention_meanwhile() -> None:
    model = decoder("llama")
    prefixes = compute_prefixes(model.model, PREFIXES[:1], 0, 1)
    tokens, one = torch.tensor([[5]]), torch.ones(1, dtype=torch.int64)
    found: list[torch.Tensor] = []

    def meanwhile(*_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: found.append(logits_alone(model, PREFIXES[1])))
            thread.start()
            thread.join()

    handle = model.model.get_input_embeddings().register_forward_hook(meanwhile)
    logits = run_continued(model.model, tokens, one, tokens * 0, prefixes, torch.tensor([0]), "shared")
    handle.remove()
    assert torch.equal(found[0], logits_alone(model, PREFIXES[1]))
    torch.testing.assert_close(logits[0], logits_alone(model, [*PREFIXES[0], 5])[-1:], rtol=1e-4, atol=1e-4)


def test_a_way_that_gives_other_logits_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions that are off by one in a pass of one token, and attention that leaves out the prefix."""
    model = decoder("llama").model
    original = key_values.numbered
    monkeypatch.setattr(key_values, "numbered", lambda of, positions: original(of, positions + 1))
    way = find_way(model, 0)
    assert (way.layout, way.continues) == (None, False)
    assert way.reason is not None
    assert "logits would differ by" in way.reason
    monkeypatch.undo()
    attend = ContinuedCache.attend
    monkeypatch.setattr(
        ContinuedCache, "attend", lambda self, *args, **options: (0.999 * attend(self, *args, **options)[0], None)
    )
    assert find_way(model, 0).layout == "gathered"
    monkeypatch.undo()
    assert find_way(model, 0) == Way("shared", None, True, None, 2 * 2 * 2 * 16 * 4)


def test_ways_say_why() -> None:
    reasons = {name: str(decoder(name).way) for name in ("llama", "gemma2", "bloom", "jamba")}
    assert reasons["llama"] == "keys and values of a prompt kept once"
    assert reasons["gemma2"] == "keys and values of a prompt kept: attention with softcap"
    assert reasons["bloom"].startswith("keys and values of a prompt kept: its attention is not that of the library (")
    assert reasons["jamba"].startswith("whole sequences: its cache is not of keys and values alone (")
