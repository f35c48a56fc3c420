"""Digests of decoders by samples of their weights."""

from copy import deepcopy
from typing import Any

import pytest

pytest.importorskip("transformers")

from small_decoders import BUILDERS, decoder
from taskvec.models import decoder_fingerprint
from taskvec.models.decoder_fingerprint import FACTS, fingerprint_of


@pytest.fixture(scope="module")
def llama() -> Any:
    return decoder("llama").model


def _of(model: Any) -> str:
    return fingerprint_of(model, model.config)


def test_architectures_differ() -> None:
    every = {_of(decoder(name).model) for name in BUILDERS}
    assert len(every) == len(BUILDERS)
    assert all(len(each) == 16 for each in every)


def test_every_weight_counts(llama: Any) -> None:
    known = _of(llama)
    other = deepcopy(llama)
    for weight in other.parameters():
        before = weight.clone()
        weight.copy_(weight * 1.001)
        assert _of(other) != known
        weight.copy_(before)
    assert _of(other) == known


def test_samples_are_of_all_columns(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a matrix as wide as it would be natural to step."""
    monkeypatch.setattr(decoder_fingerprint, "SAMPLES", 64)
    known, other = _of(llama), deepcopy(llama)
    weight = other.model.layers[0].self_attn.o_proj.weight
    assert weight.shape == (32, 64)  # 2048 numbers, every 33rd
    for column in range(64):
        before = weight.clone()
        weight[:, column] += 1
        assert (_of(other) != known) == any(33 * n % 64 == column for n in range(63))
        weight.copy_(before)


def test_where_a_model_lies_and_how_it_is_stored_do_not_count(llama: Any) -> None:
    other = deepcopy(llama)
    other.config._name_or_path, other.config.transformers_version, other.config.use_cache = "elsewhere", "9", False
    assert _of(other) == _of(llama)
    half = deepcopy(llama).bfloat16()
    assert _of(half) == _of(deepcopy(half).float()) != _of(llama)


def test_what_the_configuration_says_counts(llama: Any) -> None:
    other = deepcopy(llama)
    for name, value in {"rms_norm_eps": 0.1, "hidden_act": "gelu", "rope_parameters": {"rope_theta": 7.0}}.items():
        assert name in FACTS
        before = getattr(other.config, name)
        setattr(other.config, name, value)
        assert _of(other) != _of(llama)
        setattr(other.config, name, before)
    assert _of(other) == _of(llama)
