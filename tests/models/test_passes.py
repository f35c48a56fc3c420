"""Logits of chosen tokens, and what models are given by the names that they have for it."""

import threading
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from small_decoders import VOCABULARY, decoder, logits_alone, sequences
from taskvec.models.passes import cached, numbered, run_whole, selected_logits, setting
from taskvec.models.token_texts import padded

ROWS = sequences(7, 4, 9)
LENGTHS = torch.tensor([len(row) for row in ROWS])
CHOSEN = torch.tensor([[6, 2], [3, 3], [0, 8]])


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_chosen_logits_are_those_of_all(name: str) -> None:
    """Gemma 2 bends its logits behind the module that makes them."""
    model = decoder(name)
    head = model.model.get_output_embeddings()
    seen: list[tuple[int, ...]] = []
    handle = head.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    logits = run_whole(model.model, padded(ROWS, 0), LENGTHS, CHOSEN)
    handle.remove()
    assert seen == [(3, 2, VOCABULARY)]
    for row, tokens, chosen in zip(ROWS, CHOSEN, logits, strict=True):
        torch.testing.assert_close(chosen, logits_alone(model, row)[tokens], rtol=1e-4, atol=1e-4)
    assert not head._forward_pre_hooks


def test_a_model_that_does_not_tell_its_head_gives_all_logits() -> None:
    model: Any = decoder("llama").model
    model.get_output_embeddings = lambda: None
    logits = run_whole(model, padded(ROWS, 0), LENGTHS, CHOSEN)
    assert logits.shape == (3, 2, VOCABULARY)
    torch.testing.assert_close(logits[1, 0], logits_alone(decoder("llama"), ROWS[1])[3], rtol=1e-4, atol=1e-4)


def test_another_thread_that_runs_the_model_meanwhile_gets_all_logits() -> None:
    model: Any = decoder("llama").model
    tokens = torch.tensor([ROWS[0]])
    shapes: list[torch.Size] = []

    def meanwhile(*_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=lambda: shapes.append(model(input_ids=tokens).logits.shape))
            thread.start()
            thread.join()

    handle = model.get_input_embeddings().register_forward_hook(meanwhile)
    shapes.append(selected_logits(model, torch.tensor([[1]]), input_ids=tokens).shape)
    handle.remove()
    assert shapes == [(1, 7, VOCABULARY), (1, 1, VOCABULARY)]


def test_hooks_are_removed_where_a_pass_fails() -> None:
    model: Any = decoder("llama").model
    with pytest.raises(IndexError):
        selected_logits(model, torch.tensor([[99]]), input_ids=torch.tensor([ROWS[0]]))
    assert not model.get_output_embeddings()._forward_pre_hooks
    assert model(input_ids=torch.tensor([ROWS[0]])).logits.shape == (1, 7, VOCABULARY)


def test_names() -> None:
    class Old:
        def forward(self, input_ids: Any, past_key_values: Any = None, use_cache: Any = None) -> None: ...

    class New:
        def forward(self, input_ids: Any, position_ids: Any = None, cache: Any = None) -> None: ...

    class Without:
        def forward(self, input_ids: Any) -> None: ...

    positions = torch.zeros(1, 1)
    assert cached(Old(), "kept") == {"past_key_values": "kept", "use_cache": True}
    assert cached(New(), "kept") == {"cache": "kept", "use_cache": True}
    assert (numbered(Old(), positions), list(numbered(New(), positions))) == ({}, ["position_ids"])
    with pytest.raises(ValueError, match="Without takes no earlier tokens"):
        cached(Without(), "kept")


def test_settings_in_which_layers_differ_are_not_told() -> None:
    config = decoder("gemma4").model.config
    assert setting(config, "head_dim") is None
    assert setting(config, "hidden_size") == 32
    assert setting(config, "no_such_thing") is None
