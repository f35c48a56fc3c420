"""A small random SegGPT against the class of transformers that it wraps and the arithmetic of the published code."""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from random_seggpt import CONFIG, PUBLISHED, network_of, published_state
from taskvec import evaluation
from taskvec.cli import main
from taskvec.data.scenes import Scenes
from taskvec.description import describe_model
from taskvec.extras import install
from taskvec.heads import Means, Patch, intercept, recording, run
from taskvec.models import load_model
from taskvec.models.interface import VIEWS, Images, Queries, Variant, ViewName
from taskvec.models.seggpt import SegGpt, normalise
from taskvec.prompts import draw_prompts
from taskvec.sites import GRANULARITIES, Granularity
from taskvec.tasks import SEGMENTATION

transformers: Any = pytest.importorskip("transformers")

SIDE, ROWS = 32, 3
SITES = [("image", 0), ("image", 1), ("mask", 0), ("mask", 1), ("merged", 0), ("merged", 1)]


@dataclass(frozen=True)
class Drawn:
    support_input: Images
    support_output: Images
    query_input: Images
    query_output: Images
    query_ignored: np.ndarray | None = None

    def __getitem__(self, rows: slice) -> "Drawn":
        images = (self.support_input, self.support_output, self.query_input, self.query_output)
        return Drawn(*(each[rows] for each in images))


@pytest.fixture(scope="module")
def model() -> SegGpt:
    return SegGpt(network_of())


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn(*np.random.default_rng(0).integers(0, 256, (4, ROWS, SIDE, SIDE, 3), dtype=np.uint8))


def _forward(model: SegGpt, drawn: Drawn, view: ViewName) -> Any:
    """What the class of transformers makes of the same prompts, with its own mask of what is not known."""
    pixels = {name: normalise(torch.from_numpy(getattr(drawn, name))) for name in IMAGES}
    hidden = torch.zeros(len(drawn.query_input), 8 * 4, dtype=torch.bool)
    hidden[:, 16:] = True
    if view == "query_only":
        hidden[:] = True
        pixels["support_input"] = torch.zeros_like(pixels["support_input"])
    with torch.no_grad():
        return model.model(
            pixels["query_input"],
            pixels["support_input"],
            pixels["support_output"],
            bool_masked_pos=hidden,
            labels=pixels["query_output"],
        )


IMAGES = ("support_input", "support_output", "query_input", "query_output")


def _record(model: SegGpt, drawn: Any, view: ViewName = "one_shot") -> dict[tuple[str, int], Tensor]:
    with recording(model) as recorded:
        model.run(model.prepare(drawn, view))
    return {(stack, layer): z for stack, layers in recorded.items() for layer, z in enumerate(layers)}


@pytest.mark.parametrize("view", VIEWS)
def test_outputs_and_losses_are_those_of_transformers(model: SegGpt, drawn: Drawn, view: ViewName) -> None:
    expected = _forward(model, drawn, view)
    items = model.prepare(drawn, view)
    outputs = model.run(items)
    torch.testing.assert_close(outputs, expected.pred_masks[:, :, SIDE:], rtol=1e-5, atol=1e-5)
    losses = model.losses(outputs, items, model.targets(drawn))
    assert losses.shape == (ROWS,)
    for row in range(ROWS):
        loss = _forward(model, drawn[row : row + 1], view).loss
        if view == "one_shot":  # with nothing known, transformers counts the upper half, too
            torch.testing.assert_close(losses[row], loss, rtol=1e-5, atol=1e-6)


def test_the_colours_of_the_support_change_a_one_shot_run_only(model: SegGpt, drawn: Drawn) -> None:
    other = replace(drawn, support_input=drawn.support_output, support_output=drawn.support_input)
    for view in VIEWS:
        first, second = (model.run(model.prepare(prompts, view)) for prompts in (drawn, other))
        assert torch.equal(first, second) == (view == "query_only")
    queries = model.run(model.prepare(Queries(drawn.query_input), "query_only"))
    assert torch.equal(queries, model.run(model.prepare(drawn, "query_only")))


def test_the_truth_is_never_seen(model: SegGpt, drawn: Drawn) -> None:
    other = replace(drawn, query_output=255 - drawn.query_output)
    for view in VIEWS:
        assert torch.equal(*(model.run(model.prepare(prompts, view)) for prompts in (drawn, other)))


@pytest.mark.filterwarnings("error")
def test_images_may_be_read_only_or_turned_around(model: SegGpt, drawn: Drawn) -> None:
    turned = np.ascontiguousarray(drawn.query_input[:, ::-1])
    turned.flags.writeable = False
    items = [model.prepare(Queries(images), "query_only") for images in (turned, drawn.query_input[:, ::-1])]
    assert torch.equal(*(each.halves["query_input"] for each in items))


def test_rows_are_what_they_are_alone_and_in_any_order(model: SegGpt, drawn: Drawn) -> None:
    for view in VIEWS:
        items, targets = model.prepare(drawn, view), model.targets(drawn)
        assert len(items) == ROWS
        outputs = model.run(items)
        losses = model.losses(outputs, items, targets)
        chosen = torch.tensor([2, 0, 0, 1])
        torch.testing.assert_close(model.run(items[chosen]), outputs[chosen], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            model.losses(outputs[chosen], items[chosen], targets[chosen]), losses[chosen], rtol=1e-5, atol=1e-6
        )
        assert len(items[1:]) == 2
        alone = model.prepare(drawn[1:2], view)
        torch.testing.assert_close(model.run(alone), outputs[1:2], rtol=1e-4, atol=1e-5)


def test_many_rows_are_prepared_as_few(model: SegGpt, drawn: Drawn) -> None:
    many = Drawn(*(np.concatenate([getattr(drawn, name)] * 4) for name in IMAGES))
    for view in VIEWS:
        few, all_ = model.prepare(drawn, view), model.prepare(many, view)
        for region, half in all_.halves.items():
            torch.testing.assert_close(half[9:], few.halves[region], rtol=1e-5, atol=1e-6)
    shared = model.prepare(many, "query_only").halves
    assert {region for region, half in shared.items() if half.untyped_storage().nbytes() < half.nbytes} == {
        "support_input",
        "support_output",
        "query_output",
    }


def test_stacks_taps_and_places_fit_what_runs(model: SegGpt, drawn: Drawn) -> None:
    assert {stack: layout.layers for stack, layout in model.stacks.items()} == {"image": 2, "mask": 2, "merged": 2}
    regions = {
        "image": ["support_input", "query_input"],
        "mask": ["support_output", "query_output"],
        "merged": ["support", "query"],
    }
    for view in VIEWS:
        recorded = _record(model, drawn, view)
        assert sorted(recorded) == sorted(SITES)
        items = model.prepare(drawn, view)
        for stack, layout in model.stacks.items():
            assert len(model.taps()[stack]) == layout.layers
            assert [place.token for place in layout.places] == list(range(32))
            assert [place.region for place in layout.places] == [r for r in regions[stack] for _ in range(16)]
            assert model.present(view)[stack].tolist() == list(range(32))
            assert items.places[stack].where.tolist() == [list(range(32))]
            assert items[:1].places[stack].tokens == 32
            for layer in range(layout.layers):
                assert recorded[stack, layer].shape == (ROWS, 32, layout.heads, layout.head_dim)


def test_the_streams_hold_what_their_regions_say(model: SegGpt, drawn: Drawn) -> None:
    """A change of one image changes its own region in the embeddings, and its own stream before the merge."""
    before, halves = _record(model, drawn), model.prepare(drawn, "one_shot").halves
    for name in IMAGES[:3]:
        changed = replace(drawn, **{name: 255 - getattr(drawn, name)})
        now = model.prepare(changed, "one_shot").halves
        assert [region for region in halves if not torch.equal(halves[region], now[region])] == [name]
        stream = "mask" if name == "support_output" else "image"
        after = _record(model, changed)
        same = {stack for stack in model.stacks if torch.equal(before[stack, 0], after[stack, 0])}
        assert same == {"image", "mask"} - {stream}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("site", SITES)
def test_every_head_output_matters_and_each_row_has_its_own(
    model: SegGpt, drawn: Drawn, view: ViewName, site: tuple[str, int]
) -> None:
    items = model.prepare(drawn, view)
    plain = model.run(items)

    def itself(stack: str, layer: int, z: Tensor) -> Tensor:
        return z.clone()

    def cleared(stack: str, layer: int, z: Tensor) -> Tensor | None:
        if (stack, layer) != site:
            return None
        z = z.clone()
        z[1, 20] = 0  # one token of the query, in one row
        return z

    with intercept(model, itself):
        assert torch.equal(model.run(items), plain)
    with intercept(model, cleared):
        changed = (model.run(items) - plain).abs().amax((1, 2, 3))
    assert changed[1] > 1e-5
    assert changed[[0, 2]].tolist() == [0, 0]
    assert torch.equal(model.run(items), plain)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_heads_replaced_by_themselves_change_nothing(granularity: Granularity, model: SegGpt, drawn: Drawn) -> None:
    """Through the engine, at every position of all three stacks, each row by its own recording."""
    items = model.prepare(drawn, "query_only")
    with recording(model) as recorded:
        plain = model.run(items)
    means = {stack: torch.stack(layers, 1).transpose(2, 3) for stack, layers in recorded.items()}
    sites = model.sites(granularity)
    every = torch.ones(ROWS, len(sites), dtype=torch.bool)
    patch = Patch(sites, every, Means(means, model.fingerprint()), torch.arange(ROWS))
    assert torch.equal(run(model, items, patch), plain)


def test_every_row_has_a_mask_of_its_own(model: SegGpt, drawn: Drawn) -> None:
    items, sites = model.prepare(drawn, "query_only"), model.sites("quadrant")
    zeros = {s: torch.zeros(1, each.layers, each.heads, 32, each.head_dim) for s, each in model.stacks.items()}
    means, masks = Means(zeros, model.fingerprint()), sites.sample(ROWS, 0.3)
    together = run(model, items, Patch(sites, masks, means))
    for row in range(ROWS):
        alone = run(model, items[row : row + 1], Patch(sites, masks[row : row + 1], means))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(alone, model.run(items[row : row + 1]), atol=1e-4)


def test_losses_have_a_gradient_by_head_outputs(model: SegGpt, drawn: Drawn) -> None:
    items, targets = model.prepare(drawn, "query_only"), model.targets(drawn)
    share = torch.tensor(0.3, requires_grad=True)
    for site in SITES:
        with intercept(model, lambda stack, layer, z, site=site: z * share if (stack, layer) == site else None):
            loss = model.losses(model.run(items), items, targets).sum()
        (gradient,) = torch.autograd.grad(loss, share)
        assert gradient.abs() > 0


def test_half_precision_is_for_the_run_alone(model: SegGpt, drawn: Drawn) -> None:
    items, targets = model.prepare(drawn, "query_only"), model.targets(drawn)
    outputs = model.run(items)
    half = model.variant(Variant(bfloat16=True))
    assert half.identity == model.identity
    assert half.model is model.model
    rough = half.run(items)
    assert not torch.equal(rough, outputs)
    losses, answers = half.losses(rough, items, targets), half.answers(rough, items)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, model.losses(outputs, items, targets), rtol=0.05, atol=0.01)
    assert (answers.float() - model.answers(outputs, items).float()).abs().mean() < 2


# Pictures


def test_pixels_are_normalised_as_the_published_processor_does(drawn: Drawn) -> None:
    processors = pytest.importorskip("transformers.models.seggpt.image_processing_pil_seggpt")
    processor = processors.SegGptImageProcessorPil(size={"height": SIDE, "width": SIDE})
    image, mask = drawn.query_input[0], np.where(drawn.query_output[0, :, :, :1] > 127, np.uint8(255), np.uint8(0))
    made = processor(images=image, prompt_masks=mask[..., 0], return_tensors="pt")
    torch.testing.assert_close(normalise(torch.from_numpy(image[None])), made["pixel_values"], rtol=0, atol=1e-6)
    white = np.repeat(mask[None], 3, -1)
    torch.testing.assert_close(normalise(torch.from_numpy(white)), made["prompt_masks"], rtol=0, atol=1e-6)
    labelled = processor(
        prompt_masks=(mask[..., 0] > 0).astype(np.uint8), images=image, num_labels=1, return_tensors="pt"
    )
    torch.testing.assert_close(labelled["prompt_masks"], made["prompt_masks"])


def test_answers_are_the_published_ones_to_rounding(model: SegGpt, drawn: Drawn) -> None:
    processors = pytest.importorskip("transformers.models.seggpt.image_processing_pil_seggpt")
    processor = processors.SegGptImageProcessorPil(size={"height": SIDE, "width": SIDE})
    items = model.prepare(drawn, "one_shot")
    answers = model.answers(model.run(items), items)
    assert answers.dtype == torch.uint8
    assert answers.shape == drawn.query_output.shape
    published = torch.stack(processor.post_process_semantic_segmentation(_forward(model, drawn, "one_shot")))
    assert (answers.float().mean(-1) - published).abs().max() <= 1.5  # the mean of three colours, which it truncates
    truth = torch.from_numpy(drawn.query_output)
    assert torch.equal(model.answers(normalise(truth), items), truth)
    far = torch.tensor([-1e4, 1e4]).view(2, 1, 1, 1).expand(2, 3, SIDE, SIDE)
    assert model.answers(far, items).flatten(1).unique(dim=1).tolist() == [[0], [255]]
    assert not model.has_tokenizer


def test_ignored_pixels_do_not_count(model: SegGpt, drawn: Drawn) -> None:
    ignored = np.zeros((ROWS, SIDE, SIDE), np.bool_)
    ignored[0, :20] = True
    ignored[1] = True  # nothing is left: all counts
    items = model.prepare(drawn, "one_shot")
    outputs = model.run(items)
    targets = model.targets(replace(drawn, query_ignored=ignored))
    wrong = replace(drawn, query_output=np.where(ignored[..., None], 255 - drawn.query_output, drawn.query_output))
    losses = model.losses(outputs, items, targets)
    plain = model.losses(outputs, items, model.targets(drawn))
    torch.testing.assert_close(losses[1:], plain[1:])
    other = model.losses(outputs, items, model.targets(replace(wrong, query_ignored=ignored)))
    assert losses[0] == other[0] != plain[0]
    beta = model.model.config.beta
    distance = F.smooth_l1_loss(
        outputs[0], normalise(torch.from_numpy(drawn.query_output))[0], beta=beta, reduction="none"
    )
    torch.testing.assert_close(losses[0], distance[:, 20:].mean())
    assert targets[torch.tensor([1])].counted is not None


@pytest.mark.parametrize("size", [(ROWS, 31, SIDE, 3), (ROWS, SIDE, SIDE), (ROWS + 1, SIDE, SIDE, 3)])
def test_images_of_another_size_are_refused(model: SegGpt, drawn: Drawn, size: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"support_input is uint8 of shape .*, expected uint8 of shape \(3, 32, 32, 3\)"
    ):
        model.prepare(replace(drawn, support_input=np.zeros(size, np.uint8)), "one_shot")


def test_supports_are_needed_where_they_are_shown(model: SegGpt, drawn: Drawn) -> None:
    with pytest.raises(ValueError, match="the view one_shot shows an example, but only queries were drawn"):
        model.prepare(Queries(drawn.query_input), "one_shot")
    with pytest.raises(ValueError, match="there is no view 'both': expected one of one_shot, query_only"):
        model.prepare(drawn, "both")  # pyright: ignore[reportArgumentType]


# What it is and costs


def test_a_description_says_what_a_run_costs(model: SegGpt) -> None:
    said = describe_model(model)
    assert said["architecture"]["merge_index"] == 1
    assert "mask tokens" in said["blank_prompt"]
    assert said["parameters"] == sum(parameter.numel() for parameter in model.model.parameters())
    assert said["sites"] == {"token": 6 * 4 * 32, "quadrant": 6 * 4 * 2, "head": 6 * 4, "layer": 6}
    assert said["fingerprint"] == model.fingerprint()
    width, tokens, runs = 32, 32, 6
    layers = runs * tokens * width * (4 * width + 2 * 48 + 2 * tokens + 2 * (8 + 4) // 2)
    embeddings, decoder = 2 * tokens * width * 192, 20 * 3 * width * 64 * 8 + 40 * 32 * 8 * (9 * 8 + 3)
    for gflop in said["gflop"].values():
        assert gflop * 1e9 == pytest.approx(2 * (layers + embeddings + decoder), rel=0.05)
    assert json.loads(json.dumps(said)) == said


PEAKS = r"""
import json, os, re, sys, torch
import numpy as np
from contextlib import nullcontext
from pathlib import Path
from transformers import SegGptConfig, SegGptForImageSegmentation
from taskvec.models.interface import Queries
from taskvec.models import load_model
from taskvec.models.seggpt import SegGpt, SegGptTargets

for config in sys.argv[1:]:
    if os.fork():  # each in a process of its own, which need not import anything again
        os.wait()
        continue
    model = SegGpt(SegGptForImageSegmentation(SegGptConfig(**json.loads(config))))
    size = model.image_size
    share = torch.tensor(0.5, requires_grad=True)
    for tap in model.taps()["image"][:1]:
        tap.module.register_forward_pre_hook(lambda module, inputs: (inputs[0] * share,))
    peaks = []
    for gradient, rows in ((False, 2), (False, 10), (True, 10), (True, 18)):  # of which each needs more than the last
        items = model.prepare(Queries(np.zeros((1, size, size, 3), np.uint8)), "query_only")[torch.zeros(rows).long()]
        truth = SegGptTargets(torch.zeros(rows, size, size, 3, dtype=torch.uint8), None)
        with nullcontext() if gradient else torch.no_grad():
            loss = model.losses(model.run(items), items, truth).sum()
        if gradient:
            torch.autograd.grad(loss, share)
        peaks.append(1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]))
    print(json.dumps(peaks), flush=True)
    os._exit(0)
"""
ATTENDS = {**CONFIG, "image_size": [192, 96], "hidden_size": 64, "mlp_dim": 256}  # 288 tokens
DECODES = {**CONFIG, "image_size": [256, 128], "patch_size": 32, "pretrain_image_size": 64, "decoder_hidden_size": 64}


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read as Linux tells them")
def test_a_row_needs_what_it_is_said_to() -> None:
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, "-c", PEAKS, *(json.dumps(config) for config in (ATTENDS, DECODES))]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    for config, line in zip((ATTENDS, DECODES), ran.stdout.splitlines(), strict=True):
        peaks = json.loads(line)
        model = SegGpt(transformers.SegGptForImageSegmentation(transformers.SegGptConfig(**config)))
        for gradient, measured in ((False, (peaks[1] - peaks[0]) / 8), (True, (peaks[3] - peaks[2]) / 8)):
            for view in VIEWS:
                said = model.cost(view, answers=False, gradient=gradient)
                assert said.tokens == 3 * len(model.stacks["merged"].places)
                assert 0.8 * measured < said.bytes < 2 * measured, config  # processors' kernels differ


def test_the_fingerprint_tells_the_weights_and_what_numbers_depend_on(model: SegGpt) -> None:
    same, digest = network_of(), model.fingerprint()
    assert re.fullmatch("[0-9a-f]{16}", digest)
    assert SegGpt(same).fingerprint() == digest
    assert SegGpt(network_of(drop_path_rate=0.4)).fingerprint() == digest  # which only training uses
    assert SegGpt(network_of(layer_norm_eps=1e-5)).fingerprint() != digest
    changed = network_of()
    with torch.no_grad():
        changed.decoder.decoder_pred.head.bias[0] += 1
    assert SegGpt(changed).fingerprint() != digest
    assert (model.identity.name, model.identity.type, model.identity.digest) == (None, "seggpt", digest)


# Files


def test_what_is_saved_is_read_again(model: SegGpt, drawn: Drawn, tmp_path: Path) -> None:
    model.model.save_pretrained(tmp_path / "theirs")
    model.write(tmp_path / "ours")
    (tmp_path / "ours" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    for name, licence in (("theirs", None), ("ours", "apache-2.0")):
        loaded = SegGpt.load(tmp_path / name)
        assert loaded.licence == licence
        assert loaded.fingerprint() == model.fingerprint()
        assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
        assert not loaded.model.training
        for view in VIEWS:
            assert torch.equal(*(each.run(each.prepare(drawn, view)) for each in (loaded, model)))


def test_half_precision_is_read_as_float32_and_is_the_same_model(drawn: Drawn, tmp_path: Path) -> None:
    network = network_of().half().float()
    network.half().save_pretrained(tmp_path)
    loaded = SegGpt.load(tmp_path)
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.fingerprint() == SegGpt(network.float()).fingerprint()
    with torch.inference_mode():
        assert SegGpt.load(tmp_path).fingerprint() == loaded.fingerprint()
        anywhere = SegGpt.load(tmp_path)
    test_losses_have_a_gradient_by_head_outputs(anywhere, drawn)


@pytest.fixture
def saved(model: SegGpt, tmp_path: Path) -> Path:
    model.write(tmp_path)
    return tmp_path


def _rewrite(directory: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(directory / "model.safetensors")
    change(state)
    save_file(state, directory / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("model.embeddings.mask_token"), "model.embeddings.mask_token is missing"),
        (lambda state: state.update(more=torch.zeros(2)), r"more of shape \(2,\) is not part of this architecture"),
        (
            lambda state: state.update({"model.encoder.layernorm.bias": torch.zeros(3)}),
            r"layernorm.bias has shape \(3,\), expected \(32,\)",
        ),
        (
            lambda state: state["model.encoder.layernorm.bias"].fill_(math.nan),
            "layernorm.bias holds values that are not finite",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(saved: Path, change: Callable[[Any], object], words: str) -> None:
    _rewrite(saved, change)
    with pytest.raises(ValueError, match=rf"model\.safetensors: .*{words}"):
        SegGpt.load(saved)


def test_other_files_are_refused(saved: Path) -> None:
    (saved / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        SegGpt.load(saved)
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"there is no model\.safetensors in it; files of torch\.save are not read"):
        SegGpt.load(saved)
    (saved / "config.json").unlink()
    with pytest.raises(ValueError, match=r"there is no config\.json in it"):
        SegGpt.load(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "sam"}, "expected the model_type 'seggpt'"),
        ({"image_size": [64, 64]}, r"image_size is \[64, 64\], expected a canvas twice as high as wide"),
        ({"image_size": 64}, "image_size is 64, expected a canvas twice as high as wide"),
        ({"patch_size": 7}, "patches of 7 pixels do not divide images of 32"),
        ({"patch_size": 0}, "patches of 0 pixels do not divide images of 32"),
        ({"patch_size": [8, 8]}, r"patch_size is \[8, 8\], expected one number of pixels"),
        ({"num_attention_heads": 5}, "a hidden_size of 32 does not divide among 5 heads"),
        ({"num_channels": 4}, "num_channels is 4, expected the 3 colours"),
        ({"merge_index": 3, "intermediate_hidden_state_indices": [3]}, "merge_index is 3 of 4 layers"),
        ({"merge_index": -1}, "merge_index is -1 of 4 layers"),
        ({"merge_index": 2}, "Merge index must be less"),
        ({"intermediate_hidden_state_indices": [1, 4]}, r"indices are \[1, 4\], expected different layers from 1"),
        ({"intermediate_hidden_state_indices": [2, 2, 3]}, r"indices are \[2, 2, 3\], expected different layers"),
        ({"num_hidden_layers": 10**9}, "1000 layers or fewer"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"hidden_act": "none such"}, "describes a model that cannot be made"),
        ({"use_relative_position_embeddings": False}, "rel_pos_h of shape .* is not part of this architecture"),
        ({"hidden_size": 4 * 10**12}, "cannot be made|has shape"),
    ],
)
def test_configurations_of_no_such_model_are_refused(saved: Path, change: dict[str, Any], words: str) -> None:
    values = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**values, **change}))
    with pytest.raises(ValueError, match=words) as error:
        SegGpt.load(saved)
    assert "\n" not in str(error.value)


def test_without_the_library_it_is_said_what_to_install(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=re.escape(install("seggpt"))):
        SegGpt.load(saved)


# The published files


def _published(state: dict[str, Tensor], canvas: Tensor, masks: Tensor, hidden: Tensor) -> Tensor:
    """The published model's arithmetic on normalised canvases; hidden [height, width] are the patches to paint."""

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def convolution(x: Tensor, name: str, **how: int) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **how)

    def distances(name: str, count: int) -> Tensor:
        return state[name][torch.arange(count)[:, None] - torch.arange(count) + count - 1]

    def attention(x: Tensor, name: str) -> Tensor:
        rows, height, width, channels = x.shape
        q, k, v = linear(x, f"{name}.qkv").view(rows, height * width, 3, 4, -1).permute(2, 0, 3, 1, 4)
        grid = q.unflatten(2, (height, width))
        vertical = torch.einsum("rhyxc,ykc->rhyxk", grid, distances(f"{name}.rel_pos_h", height))
        horizontal = torch.einsum("rhyxc,xkc->rhyxk", grid, distances(f"{name}.rel_pos_w", width))
        bias = (vertical[..., :, None] + horizontal[..., None, :]).flatten(4).flatten(2, 3)
        z = (q @ k.mT / q.shape[-1] ** 0.5 + bias).softmax(-1) @ v
        return linear(z.transpose(1, 2).reshape(rows, height, width, channels), f"{name}.proj")

    x, y = (convolution(each, "patch_embed.proj", stride=8).permute(0, 2, 3, 1) for each in (canvas, masks))
    y = torch.where(hidden[None, :, :, None], state["mask_token"], y)
    side = math.isqrt(state["pos_embed"].shape[1] - 1)
    positions = state["pos_embed"][:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    positions = F.interpolate(positions, hidden.shape, mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    of_type = state.get("type_token_ins", torch.zeros(1))
    x = torch.cat(
        [x + state["segment_token_x"] + positions + of_type, y + state["segment_token_y"] + positions + of_type]
    )
    features = []
    for layer in range(24):
        x = x + attention(norm(x, f"blocks.{layer}.norm1"), f"blocks.{layer}.attn")
        inner = linear(norm(x, f"blocks.{layer}.norm2"), f"blocks.{layer}.mlp.fc1")
        x = x + linear(F.gelu(inner), f"blocks.{layer}.mlp.fc2")
        if layer == 2:
            x = (x[: len(x) // 2] + x[len(x) // 2 :]) * 0.5
        if layer in (5, 11, 17, 23):
            features.append(norm(x, "norm"))
    pixels = linear(torch.cat(features, -1), "decoder_embed").unflatten(-1, (8, 8, -1))
    pixels = pixels.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
    pixels = convolution(pixels, "decoder_pred.0", padding=1)
    pixels = norm(pixels.permute(0, 2, 3, 1), "decoder_pred.1").permute(0, 3, 1, 2)
    return convolution(F.gelu(pixels), "decoder_pred.3")


@pytest.mark.parametrize("painter", [False, True], ids=["seggpt", "painter"])
def test_published_files_give_the_published_numbers(drawn: Drawn, tmp_path: Path, painter: bool) -> None:
    torch.manual_seed(0)
    network = transformers.SegGptForImageSegmentation(transformers.SegGptConfig(**PUBLISHED))
    for parameter in network.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    official = published_state(network, painter)
    torch.save({"model": official}, tmp_path / "seggpt_vit_large.pth")
    command = ["convert", "--checkpoint", str(tmp_path / "seggpt_vit_large.pth"), "--out", str(tmp_path / "out")]
    assert main([*command, "--licence", "mit"]) == 0
    converted = load_model(tmp_path / "out")
    assert isinstance(converted, SegGpt)
    assert converted.licence == "mit"
    if not painter:
        assert converted.fingerprint() == SegGpt(network).fingerprint()

    pixels = {name: normalise(torch.from_numpy(getattr(drawn, name))) for name in IMAGES}
    canvas = torch.cat([pixels["support_input"], pixels["query_input"]], 2)
    masks = torch.cat([pixels["support_output"], torch.zeros_like(pixels["query_input"])], 2)
    hidden = torch.arange(8)[:, None].expand(8, 4) >= 4
    with torch.no_grad():
        expected = _published(official, canvas, masks, hidden)[:, :, SIDE:]
    torch.testing.assert_close(converted.run(converted.prepare(drawn, "one_shot")), expected, rtol=1e-3, atol=1e-4)

    converted.write(tmp_path / "converted")
    assert SegGpt.load(tmp_path / "converted").fingerprint() == converted.fingerprint()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("segment_token_x"), "segment_token_x is missing"),
        (lambda state: state.pop("type_token_cls"), "type_token_cls is missing"),
        (lambda state: state.pop("pos_embed"), "pos_embed is missing, which SegGPT and Painter have"),
        (lambda state: state.pop("blocks.5.attn.proj.bias"), "blocks.5.attn.proj.bias is missing"),
        (lambda state: state.update(norm=torch.zeros(2)), r"norm of shape \(2,\) is not part of this architecture"),
        (lambda state: state.update({"decoder_pred.1.bias": torch.zeros(9)}), r"decoder_pred.1.bias has shape \(9,\)"),
        (lambda state: state.update(pos_embed=torch.zeros(3)), r"pos_embed has shape \(3,\), expected 2 axes at least"),
        (
            lambda state: [state.pop(name) for name in list(state) if name.startswith("blocks.2")],
            r"of \d+ layers|indices",
        ),
        (lambda state: state["norm.bias"].fill_(math.inf), "not finite"),
    ],
)
def test_published_files_that_do_not_fit_are_refused(change: Callable[[Any], object], words: str) -> None:
    network = transformers.SegGptForImageSegmentation(transformers.SegGptConfig(**PUBLISHED))
    state = published_state(network)
    change(state)
    with pytest.raises(ValueError, match=rf"^seggpt\.pth: .*{words}"):
        SegGpt.from_original(state, Path("seggpt.pth"))


def test_what_is_no_published_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": {"patch_embed.proj.weight": torch.ones(4, 3, 8, 8)}}, tmp_path / "mae.pth")
    for options, message in (
        ([], "expected the model's file either as --mae, with --vqgan, or as --checkpoint"),
        (["--checkpoint", str(tmp_path / "mae.pth")], "mae.pth is no published file of seggpt (segment_token_x)"),
    ):
        assert main(["convert", *options, "--out", str(tmp_path / "none")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_the_mean_of_outputs_is_the_mean_picture(model: SegGpt, drawn: Drawn) -> None:
    outputs = [model.run(model.prepare(drawn, view)) for view in VIEWS]
    torch.testing.assert_close(model.mean_outputs(iter(outputs)), (outputs[0] + outputs[1]) / 2)
    assert torch.equal(model.mean_outputs(outputs[:1]), outputs[0])


def test_features_are_those_of_the_query_below_a_blank_prompt(model: SegGpt, drawn: Drawn) -> None:
    features = model.features(drawn.query_input)
    assert features.shape == (ROWS, CONFIG["hidden_size"])
    streams = torch.cat(_streams(model, drawn))
    last = model.model.model.encoder(streams).intermediate_hidden_states[-1]
    torch.testing.assert_close(features, last[:, SIDE // 8 :].flatten(1, 2).mean(1))
    torch.testing.assert_close(model.features(drawn.query_input[1:2])[0], features[1], rtol=1e-4, atol=1e-5)


def _streams(model: SegGpt, drawn: Drawn) -> list[Tensor]:
    halves = model.prepare(Queries(drawn.query_input), "query_only").halves
    return [torch.cat([halves[f"support_{side}"], halves[f"query_{side}"]], 1) for side in ("input", "output")]


def test_strong_prompts_as_far_as_there_are(model: SegGpt) -> None:
    data = Scenes("test", count=36)
    prompts = draw_prompts(data, SEGMENTATION, 4, SIDE, seed=0)
    one_shot = evaluation.run(model, "one_shot")(prompts)
    assert torch.equal(evaluation.method_named(model, "several:1", data)(prompts), one_shot)
    for name in ("nearest", "several:2"):
        assert evaluation.method_named(model, name, data)(prompts).shape == one_shot.shape
    assert [torch.equal(each, model.run(model.prepare(prompts, "one_shot"))) for each in model.arranged(prompts)] == [
        True
    ]
    with pytest.raises(ValueError, match="a model of the type seggpt has a single arrangement of a prompt's images"):
        evaluation.method_named(model, "arrangements")
