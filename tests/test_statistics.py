from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taskvec import statistics as module
from taskvec.heads import recording
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts
from taskvec.provenance import Drawn
from taskvec.statistics import Moments, Statistics, collect


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(0, 999), st.floats(-1e4, 1e4))
def test_moments_of_batches_add_up_to_those_of_all(sizes: list[int], seed: int, offset: float) -> None:
    samples = torch.from_numpy(np.random.default_rng(seed).normal(offset, 1, (sum(sizes), 2, 3)))
    parts = [Moments.of(part) for part in samples.split(sizes)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged + part
    assert merged.count == len(samples)
    torch.testing.assert_close(merged.mean, samples.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.variance, samples.var(0, correction=0), rtol=1e-8, atol=1e-8)


def test_collected_statistics_are_those_of_the_head_outputs(
    small_model: MaeVqgan, small_prompts: list[Prompts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)  # six prompts in unequal batches
    statistics = collect(small_model, small_prompts)
    view = small_model.view("one_shot")
    for prompts in small_prompts:
        with recording(small_model) as recorded:
            small_model(prompts.canvases(small_model.geometry), view)
        own = statistics.tasks[prompts.task.name]
        assert own.count == 6
        assert isinstance(own.prompts, Drawn)
        assert own.prompts.images == tuple(sorted({*prompts.support_images, *prompts.query_images}))
        assert own.prompts.data.items() >= {"data": "scenes", "split": "test"}.items()
        assert (own.prompts.draw_seed, own.prompts.prompts) == (0, 6)
        for stack, layers in recorded.items():
            z = torch.stack(layers, 1).transpose(2, 3)
            seen = view.tokens(stack)
            torch.testing.assert_close(own.mean[stack][:, :, seen], z.mean(0))
            torch.testing.assert_close(own.variance[stack][:, :, seen], z.var(0, correction=0), rtol=1e-4, atol=1e-6)
            unseen = ~torch.isin(torch.arange(small_model.geometry.tokens), seen)
            assert own.mean[stack][:, :, unseen].isnan().all()
    assert statistics.model_fingerprint == small_model.fingerprint()


def test_two_sets_of_prompts_of_one_task_are_not_merged(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    with pytest.raises(ValueError, match="two sets of prompts of segmentation"):
        collect(small_model, [small_prompts[0], small_prompts[0]])


def test_statistics_come_back_as_they_were(small_model: MaeVqgan, small_prompts: list[Prompts], tmp_path: Path) -> None:
    statistics = collect(small_model, small_prompts)
    statistics.save(tmp_path / "statistics.safetensors")
    loaded = Statistics.load(tmp_path / "statistics.safetensors")
    assert loaded.model_fingerprint == statistics.model_fingerprint
    assert loaded.tasks.keys() == statistics.tasks.keys()
    for name, task in statistics.tasks.items():
        assert loaded.tasks[name].count == task.count
        assert loaded.tasks[name].prompts == task.prompts
        for stack in task.mean:
            torch.testing.assert_close(loaded.tasks[name].mean[stack], task.mean[stack], rtol=0, atol=0, equal_nan=True)
            torch.testing.assert_close(
                loaded.tasks[name].variance[stack], task.variance[stack], rtol=0, atol=0, equal_nan=True
            )


def test_a_name_may_have_dots(small_model: MaeVqgan, small_prompts: list[Prompts], tmp_path: Path) -> None:
    """A folder may be called v1.0, and another v1."""
    first, second, *_ = collect(small_model, small_prompts).tasks.values()
    Statistics({"v1.0": first, "v1": second}, "0" * 16).save(tmp_path / "statistics.safetensors")
    loaded = Statistics.load(tmp_path / "statistics.safetensors").tasks
    for name, kept in (("v1.0", first), ("v1", second)):
        assert loaded[name].mean.keys() == loaded[name].variance.keys() == kept.mean.keys()
        assert all(torch.equal(loaded[name].mean[s].nan_to_num(), kept.mean[s].nan_to_num()) for s in kept.mean)


def test_means_are_stacked_in_the_order_asked_for(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    statistics = collect(small_model, small_prompts)
    means = statistics.means(["colorization", "segmentation"])["encoder"].nan_to_num()
    assert torch.equal(means[0], statistics.tasks["colorization"].mean["encoder"].nan_to_num())
    with pytest.raises(ValueError, match="no statistics of juggling: there are segmentation, colorization"):
        statistics.means(["juggling"])


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    path.write_text("no tensors here")
    with pytest.raises(ValueError, match=r"statistics.safetensors is not a file of statistics"):
        Statistics.load(path)
    with pytest.raises(FileNotFoundError):
        Statistics.load(tmp_path / "absent")


@pytest.mark.parametrize("offset", [0.0, 3.0, -1e3])
def test_moments_of_floats_are_as_good_as_those_of_doubles(offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(640, 3, 5, generator=generator) + offset
    samples[..., 0] = 0.1 + offset  # always the same
    merged = Moments.of(samples[:32])
    for part in samples[32:].split(32):
        merged = merged + Moments.of(part)
    exact = samples.double()
    mean, variance = exact.mean(0), exact.var(0, correction=0)
    torch.testing.assert_close(merged.mean, mean, rtol=1e-12, atol=1e-7)  # of a standard deviation of 1
    torch.testing.assert_close(merged.variance, variance, rtol=1e-6, atol=1e-12)
    assert (merged.variance >= 0).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_means_that_are_not_finite_are_refused(
    value: float, small_model: MaeVqgan, small_prompts: list[Prompts]
) -> None:
    """As of a weight that training left behind."""
    model = deepcopy(small_model)
    model.decoder.blocks[1].get_submodule("attn.qkv").bias.data[-1] = value  # of the last head's values  # pyright: ignore
    message = "the mean of colorization's head outputs in layer 1 of the decoder is not finite: the model gives NaN or"
    with pytest.raises(ValueError, match=message):
        collect(model, small_prompts[1:])


def test_statistics_are_ordinary_tensors(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    statistics = collect(small_model, small_prompts)
    for task in statistics.tasks.values():
        for values in (*task.mean.values(), *task.variance.values()):
            values.add_(1)
            factor = torch.ones((), requires_grad=True)
            (factor * values.nan_to_num()).sum().backward()
            assert factor.grad is not None


def test_means_know_their_model(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    means = collect(small_model, small_prompts).means(["segmentation"])
    assert means.model == small_model.fingerprint()
    assert list(means) == ["encoder", "decoder"]
    half = means.map(lambda mean: mean / 2)
    assert half.model == means.model
    assert torch.equal(half["encoder"].nan_to_num(), means["encoder"].nan_to_num() / 2)
