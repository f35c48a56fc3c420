"""What models go on with: against the library's own generation, in both kinds of steps, patched and sampled."""

from copy import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")

from number_tokenizer import NumberTokenizer
from small_decoders import BUILDERS, as_texts, decoder, sequences
from taskvec.heads import Means, Patch
from taskvec.models.causal_lm import CausalLm
from taskvec.models.generation import _sampled

ROWS = sequences(6, 9, 3, 9, 2, 12)
TEXTS: list[str] = as_texts(ROWS).tolist()
TOKENS = 5


@pytest.fixture(scope="module", params=list(BUILDERS))
def model(request: pytest.FixtureRequest) -> CausalLm:
    return decoder(request.param)


@pytest.fixture(scope="module")
def llama() -> CausalLm:
    return decoder("llama")


def _in_whole_sequences(model: CausalLm) -> CausalLm:
    other = copy(model)
    other._ways = {False: replace(model.way, continues=False)}
    return other


def _patch(model: CausalLm, rows: int) -> Patch:
    generator, sites = torch.Generator().manual_seed(2), model.sites("head")
    means = {
        name: torch.randn(1, each.layers, each.heads, 1, each.head_dim, generator=generator)
        for name, each in model.stacks.items()
    }
    return Patch(sites, sites.sample(rows, 0.6, seed=1), Means(means, model.fingerprint()))


def test_greedy_texts_are_those_of_the_library(model: CausalLm) -> None:
    generated = model.generate(TEXTS, TOKENS)
    for row, text in zip(ROWS, generated, strict=True):
        tokens = list(row)
        for _ in range(TOKENS):
            with torch.no_grad():
                tokens.append(
                    int(model.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax())
                )
        assert [int(word) for word in text.split()] == tokens[len(row) :]


def test_patched_texts_are_those_of_whole_sequences_and_of_rows_alone(model: CausalLm) -> None:
    patch = _patch(model, len(TEXTS))
    generated = model.generate(TEXTS, TOKENS, patch=patch)
    assert generated != model.generate(TEXTS, TOKENS)
    assert _in_whole_sequences(model).generate(TEXTS, TOKENS, patch=patch) == generated
    for row in (0, 4):
        own = replace(patch, masks=patch.masks[row : row + 1])
        assert model.generate(TEXTS[row : row + 1], TOKENS, patch=own) == generated[row : row + 1]


def test_passes_do_not_change_texts(llama: CausalLm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few rows each, whose masks and tasks go with them; one row of a mask serves all."""
    patch = _patch(llama, len(TEXTS))
    means = patch.means.map(lambda mean: torch.cat([mean, -mean]))
    patch = replace(patch, means=means, tasks=torch.tensor([0, 1, 0, 1, 1, 0]))
    options: dict[str, Any] = {"temperature": 0.9, "top_p": 0.8, "seed": 3}
    together = [llama.generate(TEXTS, TOKENS, patch=each, **options) for each in (patch, _patch(llama, 1), None)]
    monkeypatch.setattr("taskvec.models.generation.rows_of_a_pass", lambda device, cost: 4)
    apart = [llama.generate(TEXTS, TOKENS, patch=each, **options) for each in (patch, _patch(llama, 1), None)]
    assert together == apart
    assert len(set(map(tuple, together))) == 3


def test_samples_hang_on_the_seed(llama: CausalLm) -> None:
    samples = [llama.generate(TEXTS, TOKENS, temperature=1.0, seed=seed) for seed in (0, 0, 1)]
    assert samples[0] == samples[1] != samples[2]
    greedy = llama.generate(TEXTS, TOKENS)
    assert (
        llama.generate(TEXTS, TOKENS, temperature=1.0, top_p=1e-6)
        == greedy
        == llama.generate(TEXTS, TOKENS, temperature=1e-6)
    )


def test_samples_have_the_models_probabilities() -> None:
    logits = torch.tensor([0.5, 2.0, -1.0, 1.0, 0.0])
    draws = (torch.arange(4000) + 0.5) / 4000

    def shares(top_p: float) -> Tensor:
        return _sampled(logits.expand(4000, -1), draws, top_p).bincount(minlength=5) / 4000

    probabilities = logits.softmax(-1)  # .13 .58 .03 .21 .08 or so
    torch.testing.assert_close(shares(1.0), probabilities, rtol=0, atol=1e-3)
    kept = probabilities * torch.tensor([0, 1, 0, 1, 0])
    torch.testing.assert_close(shares(0.7), kept / kept.sum(), rtol=0, atol=1e-3)
    assert shares(0.5).tolist() == [0, 1, 0, 0, 0]


def test_texts_end_where_the_model_ends_them(llama: CausalLm) -> None:
    plain = [[int(word) for word in text.split()] for text in llama.generate(TEXTS, TOKENS)]
    end = plain[0][2]
    ending = decoder("llama", NumberTokenizer(end=end))
    assert ending.ends == {end}
    for own, text in zip(plain, ending.generate(TEXTS, TOKENS), strict=True):
        wanted = own[: own.index(end)] if end in own else own
        assert [int(word) for word in text.split()] == wanted
    ending.model.generation_config.eos_token_id = [1, 2]
    assert ending.ends == {1, 2, end}


def test_bad_requests(llama: CausalLm) -> None:
    with pytest.raises(ValueError, match="0 tokens were asked for, expected at least 1"):
        llama.generate(TEXTS, 0)
    with pytest.raises(ValueError, match=r"temperature -1 and top_p 1\.0: expected at least 0, and above 0 up to 1"):
        llama.generate(TEXTS, 1, temperature=-1)
    with pytest.raises(ValueError, match=r"temperature 0\.0 and top_p 0: expected at least 0"):
        llama.generate(TEXTS, 1, top_p=0)
    with pytest.raises(ValueError, match="a patch of 2 rows does not fit 6 texts"):
        llama.generate(TEXTS, 1, patch=_patch(llama, 2))
    with pytest.raises(ValueError, match="has 131 tokens, more than the model's 128"):
        llama.generate(TEXTS, 120)
    assert llama.generate([], 3) == []


def test_a_text_of_one_token(llama: CausalLm) -> None:
    assert llama.generate([TEXTS[0], " 7"], 3)[1:] == llama.generate([" 7"], 3)
