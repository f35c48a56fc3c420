import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import Tensor

import published
from taskvec.description import describe_model
from taskvec.heads import Means, Patch
from taskvec.models import load_model
from taskvec.models.checkpoints import Converted, convert, from_official, infer_config
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig


def _convert(mae: Path, out: Path, vqgan: Path | None = None, vqgan_config: Path | None = None) -> Converted:
    """Shapes do not tell the heads of the recorded model."""
    return convert(mae, out, vqgan, vqgan_config, encoder_heads=4, decoder_heads=4)


@pytest.fixture
def official(golden: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "state_dict/"
    return {name.removeprefix(prefix): t.clone() for name, t in golden.items() if name.startswith(prefix)}


def _generator(official: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("vae."): t for name, t in official.items() if name.startswith("vae.")}


@pytest.fixture
def files(official: dict[str, Tensor], tmp_path: Path) -> dict[str, Path]:
    """The recorded model as the three published files."""
    published.write_mae(tmp_path / "mae.pth", official)
    published.write_vqgan(tmp_path / "last.ckpt", _generator(official))
    (tmp_path / "model.yaml").write_text(published.YAML)
    return {"mae": tmp_path / "mae.pth", "vqgan": tmp_path / "last.ckpt", "vqgan_config": tmp_path / "model.yaml"}


@pytest.mark.parametrize("given", [("mae",), ("mae", "vqgan", "vqgan_config")])
def test_a_converted_model_computes_what_the_official_code_does(
    given: tuple[str, ...],
    files: dict[str, Path],
    golden: dict[str, Tensor],
    golden_model: MaeVqgan,
    golden_means: Means,
    tmp_path: Path,
) -> None:
    _convert(out=tmp_path / "out", **{name: files[name] for name in given})
    model = load_model(tmp_path / "out")
    assert isinstance(model, MaeVqgan)
    assert model.config == golden_model.config
    assert model.fingerprint() == golden_model.fingerprint()
    logits = model(golden["canvas_u8"], "one_shot")
    torch.testing.assert_close(logits, golden["oneshot/logits"], rtol=0, atol=1e-5)
    for granularity in ("head", "quadrant", "token"):
        patch = Patch(model.sites(granularity), golden[f"zs/{granularity}/sample"].bool()[None], golden_means)
        patched = model(golden["canvas_u8"], "query_only", patch)
        torch.testing.assert_close(patched, golden[f"zs/{granularity}/logits"], rtol=0, atol=1e-5)


def test_a_tokenizer_in_a_file_of_its_own(files: dict[str, Path], official: dict[str, Tensor], tmp_path: Path) -> None:
    alone = {name: tensor for name, tensor in official.items() if not name.startswith("vae.")}
    published.write_mae(files["mae"], alone)
    _convert(files["mae"], tmp_path / "out", files["vqgan"])
    model = load_model(tmp_path / "out")
    assert isinstance(model, MaeVqgan)
    assert torch.equal(model.vqgan.quantize.embedding.weight, official["vae.quantize.embedding.weight"])
    with pytest.raises(ValueError, match=r"mae.pth holds no tokenizer \(no keys vae\.\*\): pass the VQGAN's file too"):
        _convert(files["mae"], tmp_path / "other")


def test_what_is_ignored_is_listed(files: dict[str, Path], tmp_path: Path) -> None:
    ignored = _convert(files["mae"], tmp_path / "out", files["vqgan"]).ignored
    assert ignored[:4] == [f"mae.pth: {name}" for name in ("optimizer", "epoch", "scaler", "args")]
    assert "last.ckpt: 2 keys loss.*" in ignored
    assert "last.ckpt: callbacks" in ignored


def _drop(state: dict[str, Tensor]) -> None:
    del state["decoder_norm.bias"]


def _surplus(state: dict[str, Tensor]) -> None:
    state["head.weight"] = torch.zeros(2, 3)


def _twice(state: dict[str, Tensor]) -> None:
    state["encoder.norm.weight"] = state["norm.weight"] + 1


def _reshape(state: dict[str, Tensor]) -> None:
    state["blocks.1.mlp.fc1.bias"] = torch.zeros(5)


def _poison(state: dict[str, Tensor]) -> None:
    state["decoder_pred.bias"][1] = torch.inf


def _other_tokenizer(state: dict[str, Tensor]) -> None:
    state["vae.quant_conv.bias"][0] += 1


def _less_tokenizer(state: dict[str, Tensor]) -> None:
    del state["vae.quant_conv.bias"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop, r"mae.pth: decoder_norm.bias is missing, expected shape \(32,\)"),
        (_surplus, r"mae.pth: head.weight of shape \(2, 3\) is not part of this architecture"),
        (_twice, r"mae.pth: norm.weight and encoder.norm.weight are the same weight"),
        (_reshape, r"mae.pth: blocks.1.mlp.fc1.bias has shape \(5,\), expected \(256,\)"),
        (_poison, r"mae.pth: decoder_pred.bias holds values that are not finite"),
        (_other_tokenizer, r"last.ckpt and .*mae.pth disagree about quant_conv.bias"),
        (_less_tokenizer, r"mae.pth: quant_conv.bias is missing, but the other file has it"),
    ],
)
def test_wrong_files_are_refused(
    damage: Callable[[dict[str, Tensor]], None],
    message: str,
    files: dict[str, Path],
    official: dict[str, Tensor],
    tmp_path: Path,
) -> None:
    damage(official)
    published.write_mae(files["mae"], official)
    with pytest.raises(ValueError, match=message):
        _convert(files["mae"], tmp_path / "out", files["vqgan"])
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_heads_that_shapes_do_not_tell_are_asked_for(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="how many heads a width of 64 has; pass --encoder-heads"):
        convert(files["mae"], tmp_path / "out")


def test_a_configuration_of_another_tokenizer_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    files["vqgan_config"].write_text(published.YAML.replace("n_embed: 64", "n_embed: 128"))
    with pytest.raises(ValueError, match=r"model.yaml: n_embed is 128, but the weights have 64"):
        _convert(files["mae"], tmp_path / "out", files["vqgan"], files["vqgan_config"])
    files["vqgan_config"].write_text(published.YAML.replace("attn_resolutions: [16]", "attn_resolutions: [32]"))
    with pytest.raises(ValueError, match=r"levels with attention is \[3\], but the weights have \[4\]"):
        _convert(files["mae"], tmp_path / "out", files["vqgan"], files["vqgan_config"])
    files["vqgan_config"].write_text("- nothing")
    with pytest.raises(ValueError, match=r"model.yaml is not the configuration of a VQGAN"):
        _convert(files["mae"], tmp_path / "out", files["vqgan"], files["vqgan_config"])


def test_files_without_a_state_dict_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"last.ckpt holds a VQGAN, which is for --vqgan; --mae takes the MAE-VQGAN"):
        convert(files["vqgan"], tmp_path / "out")
    torch.save({"model": {"cls_token": "text"}, "epoch": 3}, files["mae"])
    with pytest.raises(ValueError, match=r"mae.pth holds no state dict, .* its keys are model \(dict\), epoch \(int\)"):
        convert(files["mae"], tmp_path / "out")


def test_the_published_shapes_are_the_default_architecture() -> None:
    shapes = json.loads(published.KEYS.read_text())["mae_vit_large_patch16.model"]
    assert infer_config(shapes, Path("mae.pth")) == MaeVqganConfig()


def test_names_and_shapes_are_ours() -> None:
    official = {
        "cls_token": torch.zeros(1, 1, 8, dtype=torch.float16),
        "pos_embed": torch.zeros(1, 5, 8),
        "decoder_pos_embed": torch.zeros(1, 5, 4),
        "blocks.3.attn.qkv.weight": torch.zeros(24, 8),
        "norm.bias": torch.zeros(8),
        "decoder_blocks.0.norm1.bias": torch.zeros(4),
        "decoder_norm.weight": torch.zeros(4),
        "patch_embed.proj.bias": torch.zeros(8),
        "decoder_embed.bias": torch.zeros(4),
        "vae.quant_conv.bias": torch.zeros(2),
    }
    converted = from_official(official)
    assert {name: tuple(tensor.shape) for name, tensor in converted.items()} == {
        "cls_token": (8,),
        "encoder.pos_embed": (5, 8),
        "decoder.pos_embed": (5, 4),
        "encoder.blocks.3.attn.qkv.weight": (24, 8),
        "encoder.norm.bias": (8,),
        "decoder.blocks.0.norm1.bias": (4,),
        "decoder.norm.weight": (4,),
        "patch_embed.bias": (8,),
        "decoder_embed.bias": (4,),
        "vqgan.quant_conv.bias": (2,),
    }
    assert {tensor.dtype for tensor in converted.values()} == {torch.float32}


def test_a_card_says_where_a_model_comes_from(files: dict[str, Path], tmp_path: Path) -> None:
    _convert(files["mae"], tmp_path / "out", files["vqgan"])
    card = (tmp_path / "out" / "README.md").read_text()
    for path in (files["mae"], files["vqgan"]):
        digest = sha256(path.read_bytes()).hexdigest()
        assert f"`{path.name}`, {path.stat().st_size:,} bytes, SHA-256 `{digest}`" in card
    assert "Encoder 3 layers, 64 wide, 4 heads; decoder 2 layers, 32 wide, 4 heads; VQGAN of 64 codes" in card
    assert "* mae.pth: optimizer" in card
    assert "The files do not state a licence" in card
    assert load_model(tmp_path / "out").licence is None


def test_a_licence_is_stated_and_read(files: dict[str, Path], tmp_path: Path) -> None:
    convert(files["mae"], tmp_path / "out", encoder_heads=4, decoder_heads=4, licence="cc-by-nc-4.0")
    assert describe_model(load_model(tmp_path / "out"))["licence"] == "cc-by-nc-4.0"
    assert "do not state a licence" not in (tmp_path / "out" / "README.md").read_text()
    (tmp_path / "out" / "README.md").write_text("---\nlicense: [\n---\n")
    assert describe_model(load_model(tmp_path / "out"))["licence"] == "not stated"
