"""Language models from directories and GGUF files; nothing is fetched, run or unpickled."""

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers")

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

import hub_server
from small_decoders import decoder
from taskvec.extras import install
from taskvec.models import causal_lm_loading, load_model
from taskvec.models.causal_lm import CausalLm
from taskvec.models.interface import Queries

TEXTS = np.array(["the capital of France is", "the river"])
WORDS = ["?", "the", "capital", "of", "France", "is", "river", "end"]


def _tokenizer() -> Any:
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))  # noqa: S106 (a word, no password)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="end", unk_token="?")  # noqa: S106


@pytest.fixture(scope="module")
def model() -> CausalLm:
    return decoder("llama", _tokenizer())


@pytest.fixture(scope="module")
def saved(model: CausalLm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "model"
    model.write(directory)
    return directory


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return shutil.copytree(saved, tmp_path / "model")


def _logits(model: Any) -> torch.Tensor:
    return model.run(model.prepare(Queries(TEXTS), "query_only"))


def _rewritten(directory: Path, **values: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma", "gemma4", "llava"])
def test_what_was_saved_is_loaded(name: str, tmp_path: Path) -> None:
    """Also where the weights that make logits are those of the embeddings, which are stored once."""
    model = decoder(name, _tokenizer())
    model.write(tmp_path / "made" / "anew")
    (tmp_path / "made" / "anew" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    again = load_model(tmp_path / "made" / "anew")
    assert isinstance(again, CausalLm)
    assert torch.equal(_logits(again), _logits(model))
    assert again.identity == model.identity
    assert (again.name, again.licence, again.identity.type) == (None, "apache-2.0", "causal_lm")
    assert again.ends == model.ends
    stored = load_file(tmp_path / "made" / "anew" / "model.safetensors")
    different = {weight.data_ptr(): weight.numel() for weight in model.model.state_dict().values()}
    assert sum(weight.numel() for weight in stored.values()) == sum(different.values())


def test_a_licence_that_is_known_is_stated(tmp_path: Path) -> None:
    model = decoder("llama", _tokenizer())
    model.licence = "mit"
    model.write(tmp_path / "stated")
    assert load_model(tmp_path / "stated").licence == "mit"


def test_weights_in_half_the_memory(model: CausalLm, saved: Path) -> None:
    half = load_model(saved, dtype=torch.bfloat16)
    assert isinstance(half, CausalLm)
    assert {weight.dtype for weight in half.model.parameters()} == {torch.bfloat16}
    assert _logits(half).dtype == torch.float32
    assert 0 < (_logits(half) - _logits(model)).abs().max() < 0.1 * _logits(model).abs().max()
    with pytest.raises(ValueError, match="is a model of the type mae_vqgan, whose weights are of float32 alone"):
        load_model("tiny", dtype=torch.bfloat16)  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_a_repository_of_the_hub_is_downloaded_by_the_hubs_module(
    model: CausalLm, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("taskvec.hub.download", lambda name, **_: asked.append(name) or saved)
    found = load_model("hub:someone/decoder")
    assert (asked, found.name, found.fingerprint()) == (
        ["hub:someone/decoder"],
        "hub:someone/decoder",
        model.fingerprint(),
    )


def test_nothing_is_asked_of_the_network(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    for name in ("socket.socket.connect", "socket.create_connection", "socket.getaddrinfo"):
        monkeypatch.setattr(name, refuse)
    _rewritten(directory, _name_or_path="someone/decoder")
    (directory / "generation_config.json").unlink()
    load_model(directory)
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="cannot be read as a language model"):
        load_model(directory)


def test_code_in_a_directory_is_not_run(model: CausalLm, directory: Path) -> None:
    (directory / "modeling_own.py").write_text("from pathlib import Path\nPath('run').touch()\nraise SystemExit\n")
    classes = {"AutoConfig": "modeling_own.Config", "AutoModelForCausalLM": "modeling_own.Model"}
    _rewritten(directory, auto_map=classes)
    assert torch.equal(_logits(load_model(directory)), _logits(model))
    _rewritten(directory, model_type="own")
    with pytest.raises(ValueError, match=r"config.json: model_type is 'own'"):
        load_model(directory)
    assert not Path("run").exists()


def test_pickles_are_refused(directory: Path) -> None:
    state = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    torch.save(state, directory / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model.bin is a pickle, which could run code: expected weights as"):
        load_model(directory)
    (directory / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"model is not a model: there is no .safetensors file in it"):
        load_model(directory)


def _spoil_shape(state: dict[str, torch.Tensor]) -> None:
    state["model.norm.weight"] = torch.ones(5)


def _spoil_presence(state: dict[str, torch.Tensor]) -> None:
    del state["model.layers.1.self_attn.o_proj.weight"]


def _spoil_values(state: dict[str, torch.Tensor]) -> None:
    state["model.layers.0.mlp.up_proj.weight"][3, 4] = torch.nan


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_spoil_shape, r"the weight model.norm.weight has shape \(5,\), expected \(32,\)$"),
        (_spoil_presence, r"the weight model.layers.1.self_attn.o_proj.weight is missing$"),
        (_spoil_values, r"model.layers.0.mlp.up_proj.weight holds values that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_named(directory: Path, spoil: Any, said: str) -> None:
    state = load_file(directory / "model.safetensors")
    spoil(state)
    save_file(state, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=said) as error:
        load_model(directory)
    assert str(directory) in str(error.value)


def test_weights_that_are_no_part_of_the_model_are_told(model: CausalLm, directory: Path) -> None:
    state = {**load_file(directory / "model.safetensors"), "another.weight": torch.ones(3)}
    save_file(state, directory / "model.safetensors", {"format": "pt"})
    with pytest.warns(UserWarning, match=r"1 of the weights is no part of LlamaForCausalLM: another.weight"):
        found = load_model(directory)
    assert torch.equal(_logits(found), _logits(model))


def test_damaged_files_are_named(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as a language model"):
        load_model(directory)
    (directory / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json"):
        load_model(directory)
    with pytest.raises(ValueError, match=r"is not a model: there is no config.json in it"):
        CausalLm.load(directory.parent)


def test_without_the_library(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(causal_lm_loading, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=re.escape(f"needs the library transformers: {install('llm')}")):
        load_model(saved)
    with pytest.raises(ValueError, match="needs the library transformers"):
        CausalLm.load(saved)


def test_types_of_decoders() -> None:
    assert all(map(causal_lm_loading.is_decoder, ("llama", "gpt2", "gemma3", "llava", "mamba")))
    assert not any(map(causal_lm_loading.is_decoder, ("vit", "mae_vqgan", "", "causal_lm")))


def _write_gguf(path: Path, model: Any) -> None:
    """A Llama in the format's own names, whose queries and keys have the halves of every head interleaved."""
    import gguf  # noqa: PLC0415 (an extra)

    config = model.config
    writer: Any = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    letters = [*"abcdefghijklmnopqrstuvwxyz", "Ġ"]
    writer.add_token_list([*letters, "th", *(f"<{number}>" for number in range(config.vocab_size - len(letters) - 1))])
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(config.vocab_size - 1)
    writer.add_bos_token_id(config.vocab_size - 2)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        if "q_proj" in name or "k_proj" in name:
            heads = len(values) // config.head_dim
            values = values.reshape(heads, 2, -1, values.shape[1]).swapaxes(1, 2).reshape(values.shape)
        own = name.replace("model.layers.", "blk.")
        for theirs, short in names.items():
            own = own.replace(f".{theirs}.", f".{short}.")
        whole = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
        stem = own.removesuffix(".weight")
        writer.add_tensor(f"{whole.get(stem, stem)}.weight", np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


READERS = all(importlib.util.find_spec(library) for library in causal_lm_loading.READERS)


@pytest.mark.skipif(not READERS, reason="needs gguf and accelerate")
def test_gguf(tmp_path: Path) -> None:
    """Named, or alone in a directory; saved, it is a directory that is the same model."""
    source = decoder("llama").model
    (tmp_path / "only").mkdir()
    path = tmp_path / "only" / "small.gguf"
    _write_gguf(path, source)
    tokens = torch.tensor([[3, 7, 27, 19]])
    with torch.no_grad():
        expected = source(input_ids=tokens).logits
        for place in (path, path.parent):
            model = load_model(place)
            assert isinstance(model, CausalLm)
            torch.testing.assert_close(model.model(input_ids=tokens).logits, expected)
    assert model.generate(["the"], 3) == CausalLm(source, model.tokenizer).generate(["the"], 3)
    model.write(tmp_path / "plain")
    again = load_model(tmp_path / "plain")
    assert isinstance(again, CausalLm)
    assert again.fingerprint() == model.fingerprint()
    assert again.generate(["the", "a b"], 3) == model.generate(["the", "a b"], 3)
    shutil.copy(path, path.with_name("other.gguf"))
    with pytest.raises(ValueError, match=r"only holds 2 files of GGUF, other.gguf first: expected one"):
        load_model(path.parent)


def test_gguf_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.gguf"
    with pytest.raises(ValueError, match=r"small.gguf is no model"):
        load_model(path)
    path.write_bytes(b"GGUF and nothing else")
    with pytest.raises(ValueError, match=r"small.gguf"):
        load_model(path)
    monkeypatch.setattr(causal_lm_loading, "find_spec", lambda name: None if name == "accelerate" else object())
    with pytest.raises(ValueError, match=r"small.gguf: reading GGUF needs gguf and accelerate: pip install"):
        load_model(path)


def test_a_pushed_model_has_nothing_of_its_makers_places(saved: Path, served: hub_server.Hub, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "o dd zebra7")
    assert load_model(tmp_path / "o dd zebra7").push_to_hub("decoder", token=hub_server.ANNA) == "anna/decoder"
    files = served.repositories["anna/decoder"].files
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= files.keys()
    assert not [name for name, content in files.items() if b"zebra7" in content or str(tmp_path).encode() in content]
    assert isinstance(load_model("hub:anna/decoder"), CausalLm)
