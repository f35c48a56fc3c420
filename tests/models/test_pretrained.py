import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from taskvec.models import load_model
from taskvec.models.mae_vqgan import MaeVqgan


@pytest.fixture
def saved(small_model: MaeVqgan, tmp_path: Path) -> Path:
    small_model.write(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was(small_model: MaeVqgan, saved: Path, canvases: torch.Tensor) -> None:
    loaded = load_model(saved)
    assert loaded.fingerprint() == small_model.fingerprint()
    assert loaded.config == small_model.config
    assert torch.equal(loaded(canvases), small_model(canvases))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_the_hub_interface_reads_directories_without_a_network(small_model: MaeVqgan, tmp_path: Path) -> None:
    small_model.save_pretrained(tmp_path)
    assert MaeVqgan.from_pretrained(tmp_path).fingerprint() == small_model.fingerprint()


def test_half_precision_is_stored_as_such_and_loads_as_float32(small_model: MaeVqgan, tmp_path: Path) -> None:
    small_model.write(tmp_path, torch.float16)
    assert load_file(tmp_path / "model.safetensors")["cls_token"].dtype == torch.float16
    loaded = MaeVqgan.load(tmp_path)
    assert loaded.cls_token.dtype == torch.float32
    assert loaded.fingerprint() != small_model.fingerprint()


def test_any_changed_weight_changes_the_fingerprint(small_model: MaeVqgan, saved: Path) -> None:
    loaded = MaeVqgan.load(saved)
    loaded.decoder.blocks[1].mlp.fc2.bias[3] += 1e-6  # pyright: ignore
    assert loaded.fingerprint() != small_model.fingerprint()


def _drop(state: dict[str, torch.Tensor]) -> None:
    del state["cls_token"]


def _add(state: dict[str, torch.Tensor]) -> None:
    state["surplus"] = torch.zeros(2)


def _reshape(state: dict[str, torch.Tensor]) -> None:
    state["mask_token"] = torch.zeros(5)


def _poison(state: dict[str, torch.Tensor]) -> None:
    state["decoder_pred.bias"][0] = torch.nan


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop, r"model.safetensors: cls_token is missing, expected shape \(32,\)"),
        (_add, r"surplus of shape \(2,\) is not part of this architecture"),
        (_reshape, r"mask_token has shape \(5,\), expected \(16,\)"),
        (_poison, "decoder_pred.bias holds values that are not finite"),
    ],
)
def test_wrong_weights_are_refused(damage, message: str, saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    damage(state)
    save_file(state, saved / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        MaeVqgan.load(saved)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json is not JSON"),
        ('{"patch_size": "eight"}', "config.json: patch_size: input should be a valid integer"),
        ('{"surplus": 1}', "config.json: surplus: unexpected keyword argument"),
    ],
)
def test_wrong_configurations_are_refused(config: str, message: str, saved: Path) -> None:
    (saved / "config.json").write_text(config)
    with pytest.raises(ValueError, match=message):
        MaeVqgan.load(saved)


def test_other_files_are_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "model.safetensors").write_bytes(b"PK\x03\x04 a zip perhaps")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        MaeVqgan.load(saved)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty is not a model: there is no config.json"):
        load_model(tmp_path / "empty")
    with pytest.raises(
        ValueError, match="huge is no model: expected one of tiny, small, a directory that holds one, or hub:OWNER/NAME"
    ):
        load_model("huge")


def test_the_configuration_is_readable_json(saved: Path, small_model: MaeVqgan) -> None:
    assert json.loads((saved / "config.json").read_text())["encoder"]["heads"] == small_model.config.encoder.heads
