import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from taskvec import digests
from taskvec.data.scenes import Scenes
from taskvec.finding import FindSettings, find_all
from taskvec.models import check_model, load_model, shipped_model
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig
from taskvec.search import ReinforceSettings
from taskvec.vectors import TaskVectors


@pytest.fixture
def saved(small_model: MaeVqgan, tmp_path: Path) -> Path:
    small_model.write(tmp_path / "model")
    return tmp_path / "model"


def test_a_model_comes_back_as_it_was(small_model: MaeVqgan, saved: Path, canvases: torch.Tensor) -> None:
    loaded = load_model(saved)
    assert isinstance(loaded, MaeVqgan)
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


def test_half_precision_and_float32_of_the_same_numbers_are_the_same_model(
    small_model: MaeVqgan, tmp_path: Path
) -> None:
    small_model.write(tmp_path / "half", torch.float16)
    half = MaeVqgan.load(tmp_path / "half")
    half.write(tmp_path / "single")
    assert load_file(tmp_path / "single" / "model.safetensors")["cls_token"].dtype == torch.float32
    assert MaeVqgan.load(tmp_path / "single").fingerprint() == half.fingerprint()


def _count_hashing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of fingerprints that are computed from now on."""
    computed: list[str] = []
    of_tensors = digests.of_tensors

    def counting(tensors: dict[str, torch.Tensor], *facts: object, compact: bool = False) -> str:
        if compact:
            computed.append("fingerprint")
        return of_tensors(tensors, *facts, compact=compact)

    monkeypatch.setattr(digests, "of_tensors", counting)
    return computed


def test_the_weights_are_hashed_once(saved: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a search for several tasks, their vectors, arithmetic, saving and loading: once for a model."""
    computed = _count_hashing(monkeypatch)
    model = MaeVqgan.load(saved)
    assert not computed
    search = ReinforceSettings(steps=2, masks_per_item=2, checkpoint_every=1)
    settings = FindSettings(prompts=4, items=4, validation=4, objective="token", search=search)
    found = find_all(model, Scenes("train", count=200), ["segmentation", "low_light", "identity"], settings)
    sum(found[1:], found[0]).save_pretrained(tmp_path / "sum")
    TaskVectors.load(tmp_path / "sum", model)
    assert computed == ["fingerprint"]


def test_changed_weights_are_hashed_again(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = _count_hashing(monkeypatch)
    model = MaeVqgan.load(saved)
    seen = {model.fingerprint()}
    for change in (
        lambda: model.cls_token.add_(1),
        lambda: model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}),
        lambda: model.load_state_dict({n: v + 1 for n, v in model.state_dict().items()}, assign=True),
        lambda: setattr(model, "mask_token", torch.nn.Parameter(torch.ones(16), requires_grad=False)),
        lambda: setattr(model.mask_token, "data", torch.full((16,), 2.0)),
    ):
        change()
        assert model.fingerprint() == model.fingerprint()
        seen.add(model.fingerprint())
    assert len(seen) == len(computed) == 6
    with torch.inference_mode():
        model.decoder_pred.bias.mul_(2)
        assert model.fingerprint() not in seen
        inside = MaeVqgan.load(saved)  # which knows of changes, too
    assert inside.fingerprint() == inside.fingerprint() in seen
    assert len(computed) == 8


def test_a_model_in_training_is_hashed_anew(saved: Path) -> None:
    """The fused kernels of optimizers change weights without torch's count of it."""
    model = MaeVqgan.load(saved).requires_grad_(True)
    before = model.fingerprint()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert model.fingerprint() != before


def test_fingerprints_of_earlier_versions_are_known(tiny: MaeVqgan) -> None:
    """As task vectors of format 2 call the model that ships with the package."""
    assert tiny.former_fingerprint() == "c5215402806ecab1"
    check_model(tiny, "these task vectors", None, "c5215402806ecab1")
    assert tiny.fingerprint() != tiny.former_fingerprint()
    assert shipped_model("c5215402806ecab1") == tiny.name == "tiny"


def test_errors_name_the_model_to_pass(tiny: MaeVqgan, saved: Path) -> None:
    other = load_model(saved)
    assert other.name is None  # a directory of the user's
    with pytest.raises(ValueError, match=r"^the statistics are of the model tiny, not of this one: pass --model tiny$"):
        check_model(other, "the statistics", None, tiny.former_fingerprint())
    with pytest.raises(
        ValueError, match=r"are of the model large with fingerprint 0{16}, not of tiny with \w{16}: pass "
    ):
        check_model(tiny, "the statistics", "large", "0" * 16)
    with pytest.raises(ValueError, match="smal is no model: did you mean small"):
        load_model("smal")


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
        ('{"patch_size": "8"}', "config.json: patch_size: input should be a valid integer"),
        ('{"patch_size": true}', "config.json: patch_size: input should be a valid integer"),
        ('{"surplus": 1}', "config.json: surplus: unexpected keyword argument"),
    ],
)
def test_wrong_configurations_are_refused(config: str, message: str, saved: Path) -> None:
    (saved / "config.json").write_text(config)
    with pytest.raises(ValueError, match=message):
        MaeVqgan.load(saved)


@pytest.mark.parametrize(
    ("place", "name", "value", "message"),
    [
        ("encoder", "layers", 2**31, "a stack has 2147483648 layers, expected 1000 or fewer"),
        ("encoder", "layers", 900, "encoder.blocks.10.attn.proj.bias is missing"),
        ("encoder", "width", 2**31, "describes a model that cannot be made"),
        ("encoder", "width", 2**20, r"cls_token has shape \(32,\), expected \(1048576,\)"),
        ("encoder", "width", 2**80, "describes a model that cannot be made"),
        ("decoder", "mlp_ratio", 1e300, "describes a model that cannot be made"),
        ("vqgan", "codes", 2**40, "expected"),
        ("vqgan", "residual_blocks", 2**31, "a VQGAN has 4 levels of 2147483648 residual blocks, expected"),
        ("vqgan", "multipliers", [1] * 1000, "a VQGAN has 1000 levels"),
        ("", "canvas_size", 2**40, "expected|cannot be made|do not fill"),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_made(
    place: str, name: str, value: object, message: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((saved / "config.json").read_text())
    (config[place] if place else config)[name] = value
    (saved / "config.json").write_text(json.dumps(config))
    made = MaeVqgan.__init__

    def on_meta(model: MaeVqgan, config: MaeVqganConfig) -> None:
        assert torch.get_default_device().type == "meta"
        made(model, config)

    monkeypatch.setattr(MaeVqgan, "__init__", on_meta)
    with pytest.raises(ValueError, match=message):
        MaeVqgan.load(saved)


def test_weights_of_integers_are_refused(saved: Path) -> None:
    state = load_file(saved / "model.safetensors")
    save_file({**state, "cls_token": state["cls_token"].int()}, saved / "model.safetensors")
    with pytest.raises(ValueError, match=r"cls_token is of torch.int32, expected floating-point numbers"):
        MaeVqgan.load(saved)


def test_other_files_are_refused(saved: Path, tmp_path: Path) -> None:
    (saved / "model.safetensors").write_bytes(b"PK\x03\x04 a zip perhaps")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        MaeVqgan.load(saved)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty is not a model: there is no config.json"):
        load_model(tmp_path / "empty")
    with pytest.raises(
        ValueError, match="huge is no model: expected one of tiny, small, a directory that holds one, or hub:"
    ):
        load_model("huge")


def test_the_configuration_is_readable_json(saved: Path, small_model: MaeVqgan) -> None:
    assert json.loads((saved / "config.json").read_text())["encoder"]["heads"] == small_model.config.encoder.heads
