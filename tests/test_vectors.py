import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from taskvec.heads import Means, Patch
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors, read_config


def _vectors(model: MaeVqgan, means: Means, task: int = 0, chosen: tuple[int, ...] = (0, 5, 9)) -> TaskVectors:
    sites = model.sites("quadrant")
    one = {stack: mean[task] for stack, mean in means.items()}
    found = {"step": 1}
    return TaskVectors.select(model, sites, sites.mask(chosen), one, task=f"task {task}", metric="mse", found=found)


@pytest.fixture
def vectors(small_model: MaeVqgan, small_means: Means) -> TaskVectors:
    return _vectors(small_model, small_means)


def test_they_patch_as_the_searched_mask_does(
    small_model: MaeVqgan, small_means: Means, vectors: TaskVectors, canvases: Tensor
) -> None:
    sites = small_model.sites("quadrant")
    patch = Patch(sites, sites.mask([0, 5, 9])[None], {stack: mean[:1] for stack, mean in small_means.items()})
    expected = small_model(canvases, "query_only", patch)
    assert torch.equal(small_model(canvases, "query_only", vectors.patch), expected)
    with vectors.applied() as model:
        assert torch.equal(model(canvases, "query_only"), expected)
    assert not torch.equal(small_model(canvases, "query_only"), expected)
    assert vectors.sites == tuple(sites.names[i] for i in (0, 5, 9))


def test_they_come_back_as_they_were(
    small_model: MaeVqgan, vectors: TaskVectors, canvases: Tensor, tmp_path: Path
) -> None:
    vectors.save_pretrained(tmp_path)
    loaded = TaskVectors.from_pretrained(tmp_path, small_model)
    assert loaded.config == vectors.config
    assert read_config(tmp_path) == vectors.config
    before, after = (small_model(canvases, "query_only", v.patch) for v in (vectors, loaded))
    assert torch.equal(before, after)


def test_another_model_is_refused(vectors: TaskVectors, golden_model: MaeVqgan, tmp_path: Path) -> None:
    vectors.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"belong to the model with fingerprint \w{16}, not to this one with \w{16}"):
        TaskVectors.load(tmp_path, golden_model)


def test_images_go_in_and_come_out_at_their_size(vectors: TaskVectors, random: np.random.Generator) -> None:
    images = [Image.fromarray(random.integers(0, 256, (h, w, 3), np.uint8)) for h, w in ((40, 23), (15, 15))]
    outputs = vectors(images)
    assert [output.size for output in outputs] == [(23, 40), (15, 15)]
    assert np.array_equal(np.asarray(vectors(images[1])), vectors.predict(np.asarray(images[1])[None])[0])
    assert vectors(Image.new("RGBA", (9, 9))).mode == "RGB"


def test_vectors_of_the_same_sites_add_up(
    small_model: MaeVqgan, small_means: Means, vectors: TaskVectors, canvases: Tensor
) -> None:
    other = _vectors(small_model, small_means, task=1)
    combined = vectors + other - vectors
    assert combined.task == "task 0 + task 1 - task 0"
    for stack, mean in other.means.items():
        torch.testing.assert_close(combined.means[stack], mean, equal_nan=True)
    torch.testing.assert_close(
        small_model(canvases, "query_only", combined.patch), small_model(canvases, "query_only", other.patch)
    )
    with pytest.raises(ValueError, match="task 0 and task 0 have different sites"):
        _ = vectors + _vectors(small_model, small_means, chosen=(0, 5))


def test_no_sites_are_no_vectors(small_model: MaeVqgan, small_means: Means) -> None:
    with pytest.raises(ValueError, match="touches nothing"):
        _vectors(small_model, small_means, chosen=())


def test_damaged_files_are_refused(small_model: MaeVqgan, vectors: TaskVectors, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no task vectors: there is no config.json"):
        TaskVectors.load(tmp_path, small_model)
    vectors.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(ValueError, match="has format 99, expected 2"):
        TaskVectors.load(tmp_path, small_model)
    (tmp_path / "config.json").write_text(json.dumps({**config, "sites": "many"}))
    with pytest.raises(ValueError, match=r"config.json: sites: input should be a valid tuple"):
        TaskVectors.load(tmp_path, small_model)
    (tmp_path / "config.json").write_text(json.dumps(config))
    whole = load_file(tmp_path / "vectors.safetensors")
    spoilt = {
        "nan": {**whole, "encoder.values": whole["encoder.values"] * torch.nan},
        "inf": {**whole, "encoder.values": whole["encoder.values"] + torch.inf},
        "fewer": {**whole, **{f"encoder.{part}": whole[f"encoder.{part}"][1:] for part in ("positions", "values")}},
        "narrow": {**whole, "encoder.values": whole["encoder.values"][:, :3].contiguous()},
        "moved": {**whole, "encoder.positions": whole["encoder.positions"] + 1},
    }
    for tensors in spoilt.values():
        save_file(tensors, tmp_path / "vectors.safetensors")
        with pytest.raises(ValueError, match=r"vectors.safetensors (does not hold finite|is missing or damaged)"):
            TaskVectors.load(tmp_path, small_model)
    other = [{**config["sites"][0], "layer": 77}]
    (tmp_path / "config.json").write_text(json.dumps({**config, "sites": other}))
    with pytest.raises(ValueError, match="names a site that the model does not have"):
        TaskVectors.load(tmp_path, small_model)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "vectors.safetensors").write_bytes((tmp_path / "vectors.safetensors").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"vectors.safetensors is missing or damaged"):
        TaskVectors.load(tmp_path, small_model)
