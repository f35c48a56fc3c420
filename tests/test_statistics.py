import json
import os
import weakref
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from forked import outcomes
from taskvec import digests, rounds
from taskvec import statistics as module
from taskvec.data.folder import Folder
from taskvec.data.scenes import Scenes
from taskvec.finding import find
from taskvec.heads import recording
from taskvec.memory import Passes
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import PlannedPrompts, Prompts, draw_prompts, plan_prompts
from taskvec.provenance import Drawn, Former
from taskvec.search.checkpoint import Checkpoint
from taskvec.statistics import Moments, Statistics, collect
from taskvec.tasks import IDENTITY, SEGMENTATION


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


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(0, 999))
def test_moments_are_the_same_to_the_bit_however_samples_come(sizes: list[int], seed: int) -> None:
    samples = torch.from_numpy(np.random.default_rng(seed).normal(1, 1, (sum(sizes), 2, 3))).float()
    first, *others = samples.split(sizes)
    moments = Moments.of(first)
    for other in others:
        moments = moments.updated(other)
    whole = Moments.of(samples)
    assert (moments.count, moments.mean.dtype) == (len(samples), torch.float64)
    assert torch.equal(moments.mean, whole.mean)
    assert torch.equal(moments.squares, whole.squares)


def _bits(statistics: Statistics) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{kind}.{stack}": field.view(torch.int32)
        for name, task in statistics.tasks.items()
        for kind in ("mean", "variance")
        for stack, field in getattr(task, kind).items()
    }


def _assert_same(statistics: Statistics, other: Statistics) -> None:
    ours, theirs = _bits(statistics), _bits(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [task.prompts for task in statistics.tasks.values()] == [task.prompts for task in other.tasks.values()]
    assert [task.count for task in statistics.tasks.values()] == [task.count for task in other.tasks.values()]


@pytest.fixture
def blocks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which six prompts have three, each with a state."""
    monkeypatch.setattr(module, "BATCH", 2)
    monkeypatch.setattr(rounds, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(rounds, "KEEP_SHARE", float("inf"))


def test_fewer_rows_give_the_same_statistics(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    whole = collect(small_model, small_prompts)
    for rows in (4, 1):
        parts = collect(small_model, small_prompts, passes=Passes(small_model.device, rows))
        for ours, theirs in zip(parts.tasks.values(), whole.tasks.values(), strict=True):
            for stack in theirs.mean:  # but for what a model's own products may depend on rows
                torch.testing.assert_close(ours.mean[stack], theirs.mean[stack], equal_nan=True)


def test_a_collection_goes_on_with_fewer_rows_when_memory_is_short(
    small_model: MaeVqgan, small_prompts: list[Prompts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a pass of which half of the layers had run."""
    expected = collect(small_model, small_prompts, passes=Passes(small_model.device, 3))
    computed, rows_run = module.Moments.updated, []

    def short(moments: Moments, samples: torch.Tensor) -> Moments:
        rows_run.append(len(samples))
        if len(samples) > 3 and len(rows_run) > 2:
            raise MemoryError
        return computed(moments, samples)

    monkeypatch.setattr(module.Moments, "updated", short)
    passes = Passes(small_model.device, 6)
    with pytest.warns(UserWarning, match="6 rows in a pass: 3 share one"):
        found = collect(small_model, small_prompts, passes=passes)
    assert passes.rows == 3
    assert set(rows_run) == {6, 3}
    _assert_same(found, expected)


def test_no_more_than_a_block_of_prompts_is_in_memory(small_model: MaeVqgan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 4)
    alive: set[int] = set()
    most, read = [], PlannedPrompts._read

    def watched(planned: PlannedPrompts) -> Prompts:
        prompts = read(planned)
        number = len(most)
        alive.add(number)
        weakref.finalize(prompts.query_input, alive.discard, number)
        most.append(len(alive))
        return prompts

    monkeypatch.setattr(PlannedPrompts, "_read", watched)
    collect(small_model, [plan_prompts(Scenes("test"), IDENTITY, 19, 15, seed=0)])
    assert len(most) == 5
    assert max(most) <= 2  # that which is run, and the one that is read to follow it


@pytest.mark.usefixtures("blocks_of_two")
@pytest.mark.parametrize("at", range(1, 6))
def test_a_collection_that_was_killed_goes_on_to_the_same_bits(
    at: int, small_model: MaeVqgan, small_prompts: list[Prompts], tmp_path: Path
) -> None:
    """Before the state of its last block is kept."""
    whole, done = collect(small_model, small_prompts), []
    checkpoint = Checkpoint(tmp_path / "state", {"data": "scenes"}, "collection")

    def killed(task: str, count: int) -> None:
        done.append(count)
        if len(done) == at + 1:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        collect(small_model, small_prompts, killed, checkpoint=checkpoint)
    again: list[int] = []
    found = collect(small_model, small_prompts, lambda task, count: again.append(count), checkpoint=checkpoint)
    assert again == ([2 * at, *range(2 * at + 2, 7, 2), 2, 4, 6] if at < 4 else [6, *range(2 * at - 6, 7, 2)])
    _assert_same(found, whole)
    others = draw_prompts(Scenes("test"), SEGMENTATION, 6, 15, seed=1)
    with pytest.raises(ValueError, match="state belongs to another collection, of other prompts of segmentation"):
        collect(small_model, [others], checkpoint=checkpoint)
    with pytest.raises(ValueError, match="belongs to another collection, with data scenes: expected folder; remove"):
        collect(small_model, small_prompts, checkpoint=replace(checkpoint, of={"data": "folder"}))


@pytest.mark.usefixtures("blocks_of_two")
@pytest.mark.parametrize("count", [2, 3, 4])
def test_several_processes_collect_the_same_bits(
    count: int, small_model: MaeVqgan, small_prompts: list[Prompts]
) -> None:
    alone = collect(small_model, small_prompts)
    for statistics in outcomes(count, lambda _: collect(small_model, small_prompts)):
        _assert_same(statistics, alone)


def test_collected_statistics_are_those_of_the_head_outputs(
    small_model: MaeVqgan, small_prompts: list[Prompts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 4)  # six prompts in unequal batches
    statistics = collect(small_model, small_prompts)
    view = small_model.view("one_shot")
    for prompts in small_prompts:
        with recording(small_model) as recorded:
            small_model(small_model.geometry.canvases(prompts), view)
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


def _small(small_model: MaeVqgan, small_prompts: list[Prompts], path: Path) -> Statistics:
    statistics = collect(small_model, small_prompts)
    statistics.save(path)
    return statistics


def _rewrite(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    """Other content, with the digest that belongs to it: as another program might write it."""
    with safe_open(path, "pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata())  # noqa: SIM118
    del metadata["digest"]
    change(tensors, metadata)
    save_file(tensors, path, {**metadata, "digest": digests.of_tensors(tensors, metadata)})


def test_nothing_of_the_makers_is_in_the_file(small_model: MaeVqgan, tmp_path: Path) -> None:
    """Neither the directory nor a file's name; a copy under other names is the same data."""
    scenes = Scenes("test").load(np.arange(12), 32).images
    for place, prefix in (("anna", "bertha"), ("moved", "clara")):
        (tmp_path / place).mkdir()
        for index, image in enumerate(scenes):
            Image.fromarray(image).save(tmp_path / place / f"{prefix}{index:02}.png")
    data, moved = (Folder(tmp_path / place, "all") for place in ("anna", "moved"))
    assert data.describe() == moved.describe()
    prompts = draw_prompts(data, IDENTITY, 4, 15, seed=0)
    collect(small_model, [prompts]).save(tmp_path / "s.safetensors")
    content = (tmp_path / "s.safetensors").read_bytes()
    for name in (b"anna", b"bertha", str(tmp_path).encode()):
        assert name not in content
    for image in prompts.query_images:
        assert image.encode() in content


def test_no_mutation_gives_other_numbers(
    small_model: MaeVqgan, small_prompts: list[Prompts], random: np.random.Generator, tmp_path: Path
) -> None:
    path = tmp_path / "statistics.safetensors"
    statistics = _small(small_model, small_prompts, path)
    whole = path.read_bytes()
    accepted, messages = 0, []
    for number in range(120):
        content = bytearray(whole)
        if number % 3 == 0:
            content[random.integers(len(content))] ^= 1 << int(random.integers(8))
        elif number % 3 == 1:
            content[8 + random.integers(int.from_bytes(whole[:8], "little"))] = random.integers(32, 127)  # the header
        else:
            content = content[: random.integers(len(content))]
        path.write_bytes(content)
        try:
            loaded = Statistics.load(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            accepted += 1
            for name, task in statistics.tasks.items():
                again = loaded.tasks[name]
                assert again.prompts == task.prompts
                for kind in ("mean", "variance"):
                    for stack, field in getattr(task, kind).items():
                        assert torch.equal(field.view(torch.int32), getattr(again, kind)[stack].view(torch.int32))
    assert all("statistics.safetensors is not a file of statistics: " in m and "\n" not in m for m in messages)
    assert accepted < 6  # such as a character that was replaced by itself


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.update(format="7"), "it has format 7, expected 2"),
        (lambda t, m: m.update(tasks="[]"), "it is not|its tensors|no attribute"),
        (lambda t, m: m.update(tasks='{"low_light": 3}'), "low_light"),
        (lambda t, m: m.pop("model_fingerprint"), "model_fingerprint' is missing"),
        (lambda t, m: m.update(tasks=m["tasks"].replace('"count": 6', '"count": "6"')), "is of 6 prompts, expected 1"),
        (
            lambda t, m: m.update(tasks=m["tasks"].replace('"count": 6', '"count": 0')),
            "is of 0 prompts, expected 1 or mo",
        ),
        (
            lambda t, m: m.update(tasks=m["tasks"].replace('"draw_seed": 0', '"draw_seed": null')),
            "draw_seed: input sho",
        ),
        (lambda t, m: t.pop("colorization.encoder.mean"), "means of decoder and variances of"),
        (lambda t, m: t.update({"x.encoder.mean": torch.zeros(1)}), "not a mean and a variance for every task"),
        (lambda t, m: _set(t, lambda v: v[:, :, 1:]), r"shape \(2, 4, 16, 8\), expected float32"),
        (lambda t, m: _set(t, lambda v: v.double()), "is of torch.float64 and shape"),
        (lambda t, m: _set(t, lambda v: v + torch.inf), "holds values that are not finite"),
        (lambda t, m: _set(t, lambda v: v * torch.nan), "variances that do not belong to its means"),
        (lambda t, m: _set(t, lambda v: -v - 1), "variances that do not belong to its means"),
    ],
)
def test_what_is_not_as_it_is_written_is_one_sentence(
    change: Any, message: str, small_model: MaeVqgan, small_prompts: list[Prompts], tmp_path: Path
) -> None:
    path = tmp_path / "statistics.safetensors"
    _small(small_model, small_prompts, path)
    _rewrite(path, change)
    with pytest.raises(ValueError, match=message) as caught:
        Statistics.load(path)
    assert str(caught.value).startswith(f"{path} is not a file of statistics: ")
    assert "\n" not in str(caught.value)


def _set(tensors: dict[str, torch.Tensor], function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    name = "segmentation.encoder.variance"
    tensors[name] = function(tensors[name]).contiguous()


def test_earlier_files_load_with_a_hint(small_model: MaeVqgan, small_prompts: list[Prompts], tmp_path: Path) -> None:
    """They have no format and no digest, the fingerprint of their time, and what was their maker's."""
    path = tmp_path / "statistics.safetensors"
    statistics = _small(small_model, small_prompts, path)
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    scenes = {**small_prompts[0].origin, "support": ["x"], "query": ["y"], "images": small_prompts[0].query_images}
    folder = {"data": "folder", "root": "/home/anna", "images": ["anna.png"], "query": ["anna.png"], "split": "train"}
    records = {"segmentation": {"count": 6, "prompts": scenes}, "colorization": {"count": 6, "prompts": folder}}
    metadata = {"model_fingerprint": small_model.former_fingerprint(), "tasks": json.dumps(records)}
    save_file(tensors, path, metadata)
    with pytest.warns(UserWarning, match="holds statistics of format 1, without checksums and with images by name"):
        loaded = Statistics.load(path)
    assert loaded.of(small_model).model_fingerprint == small_model.fingerprint()
    own = loaded.tasks["segmentation"]
    assert torch.equal(own.mean["encoder"].nan_to_num(), statistics.tasks["segmentation"].mean["encoder"].nan_to_num())
    assert isinstance(own.prompts, Drawn)
    assert own.prompts.images == tuple(sorted(set(small_prompts[0].query_images)))
    assert isinstance(loaded.tasks["colorization"].prompts, Former)
    loaded.save(path)
    assert b"anna" not in path.read_bytes()
    assert Statistics.load(path).tasks["colorization"].prompts == loaded.tasks["colorization"].prompts
    with pytest.raises(ValueError, match="collected by an earlier version, which knew images by their names"):
        find(small_model, Scenes("test"), "colorization", statistics=loaded)


def test_statistics_of_other_shapes_are_refused(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    statistics = collect(small_model, small_prompts)
    task = statistics.tasks["segmentation"]
    narrow = replace(task, mean={stack: mean[..., 1:] for stack, mean in task.mean.items()})
    with pytest.raises(ValueError, match=r"the statistics of segmentation have shapes .* expected"):
        replace(statistics, tasks={"segmentation": narrow}).of(small_model)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    path.write_text("no tensors here")
    with pytest.raises(ValueError, match=r"statistics.safetensors is not a file of statistics"):
        Statistics.load(path)
    with pytest.raises(FileNotFoundError):
        Statistics.load(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is a pipe, expected a file"):
        Statistics.load(tmp_path / "pipe")


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


def test_statistics_and_prompts_print_what_they_are(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    statistics = collect(small_model, small_prompts)
    told = "Statistics(segmentation of 6 prompts, colorization of 6 prompts; model="
    assert repr(statistics) == f"{told}{small_model.fingerprint()!r})"
    assert repr(statistics.tasks["segmentation"]).startswith("TaskStatistics(6 prompts: encoder [2, 4, ")
    assert repr(small_prompts[0]) == "Prompts(6 of segmentation)"
