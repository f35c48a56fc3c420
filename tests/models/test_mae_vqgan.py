import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from taskvec import heads
from taskvec.data.scenes import Scenes
from taskvec.heads import Means, Patch
from taskvec.metrics import cut
from taskvec.models.canvas import ARRANGEMENTS, View
from taskvec.models.checkpoints import from_official
from taskvec.models.interface import VIEWS, Area, Decoding, Queries, Variant, ViewName
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig, normalise
from taskvec.models.transformer import sinusoidal_positions
from taskvec.models.vqgan import VqganConfig, to_pixels, to_unit
from taskvec.prompts import Batch, Prompts, draw_prompts
from taskvec.sites import Granularity
from taskvec.tasks import LOW_LIGHT, SEGMENTATION


def test_one_shot_matches_the_official_code(golden: dict[str, Tensor], golden_model: MaeVqgan) -> None:
    logits = golden_model(golden["canvas_u8"], "one_shot")
    torch.testing.assert_close(logits, golden["oneshot/logits"], rtol=0, atol=1e-5)
    codes = logits.argmax(-1)
    assert torch.equal(codes, golden["oneshot/codes"].long())
    decoded = golden_model.decode_canvas(codes, "one_shot")
    assert (decoded.int() - golden["oneshot/decoded_u8"].int()).abs().max() <= 1
    pasted = golden_model.geometry.paste(golden["canvas_u8"], decoded)
    assert (pasted.int() - golden["oneshot/pasted_u8"].int()).abs().max() <= 1


def test_normalised_canvas_matches(golden: dict[str, Tensor]) -> None:
    normalised = normalise(golden["canvas_u8"]).permute(0, 3, 1, 2)[:, :, ::37, ::41]
    assert torch.equal(normalised, golden["canvas_norm_check"])


def test_target_codes_match(golden: dict[str, Tensor], golden_model: MaeVqgan) -> None:
    codes = golden_model.vqgan.encode(to_unit(golden["canvas_u8"]))
    recorded = golden["vae_target_codes"].long().view_as(codes)
    assert torch.equal(codes, recorded)
    assert torch.equal(golden_model.target_codes(golden["canvas_u8"]), recorded[:, 7:, 7:].flatten(1))


def test_query_only_matches(golden: dict[str, Tensor], golden_model: MaeVqgan) -> None:
    logits = golden_model(golden["canvas_u8"], "query_only")
    torch.testing.assert_close(logits, golden["zs/none/logits"], rtol=0, atol=1e-5)
    assert torch.equal(logits.argmax(-1), golden["zs/none/codes"].long())


@pytest.mark.parametrize("granularity", ["head", "quadrant", "token"])
def test_patched_runs_match(
    granularity: Granularity, golden: dict[str, Tensor], golden_model: MaeVqgan, golden_means: Means
) -> None:
    sites = golden_model.sites(granularity)
    patch = Patch(sites, golden[f"zs/{granularity}/sample"].bool()[None], golden_means)
    logits = golden_model(golden["canvas_u8"], "query_only", patch)
    torch.testing.assert_close(logits, golden[f"zs/{granularity}/logits"], rtol=0, atol=1e-5)
    codes = logits.argmax(-1)
    assert torch.equal(codes, golden[f"zs/{granularity}/codes"].long())
    decoded = golden_model.decode_canvas(codes, "query_only")[0]
    assert (decoded.int() - golden[f"zs/{granularity}/decoded_u8"].int()).abs().max() <= 1
    crop = golden_model.decode(codes, "query_only")[1]
    assert (crop.int() - golden[f"zs/{granularity}/decoded_crop113_canvas1_u8"].int()).abs().max() <= 1


def test_the_default_is_the_published_architecture() -> None:
    keys = json.loads((Path(__file__).parents[1] / "golden" / "official_keys.json").read_text())
    published = {name: torch.empty(shape, device="meta") for name, shape in keys["mae_vit_large_patch16.model"].items()}
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in MaeVqgan(MaeVqganConfig()).state_dict().items()}
    assert {name: tensor.shape for name, tensor in from_official(published).items()} == expected


def test_position_embedding_is_the_recorded_one(golden: dict[str, Tensor]) -> None:
    for name, width in (("pos_embed", 64), ("decoder_pos_embed", 32)):
        recorded = golden[f"state_dict/{name}"][0]
        torch.testing.assert_close(sinusoidal_positions(width, 197), recorded, rtol=0, atol=1e-6)


def test_pixels_outside_a_view_make_no_difference(small_model: MaeVqgan, canvases: Tensor) -> None:
    changed = canvases.clone()
    changed[:, :16] = 0  # the example
    changed[:, 16:, 16:] = 77  # the truth
    assert torch.equal(small_model(canvases, "query_only"), small_model(changed, "query_only"))
    hidden = canvases.clone()
    hidden[:, 16:, 16:] = 77
    assert torch.equal(small_model(canvases, "one_shot"), small_model(hidden, "one_shot"))
    assert not torch.equal(small_model(canvases, "one_shot"), small_model(changed, "one_shot"))


def test_decoding_a_quadrant_alone_has_the_canvas_size_of_an_image(small_model: MaeVqgan, canvases: Tensor) -> None:
    codes = small_model(canvases, "query_only").argmax(-1)
    for area in ("canvas", "quadrant"):
        decoded = small_model.variant(Variant(area=area)).decode(codes, "query_only")
        assert decoded.shape == (len(canvases), 15, 15, 3)


def test_a_local_tokenizer_is_for_single_quadrants(tiny: MaeVqgan, golden_model: MaeVqgan) -> None:
    assert tiny.area == "quadrant"
    assert golden_model.area == "canvas"
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(tiny.config.vqgan.codes, (2, tiny.geometry.grid**2), generator=generator)
    changed = codes.clone()
    changed[:, : len(changed[0]) // 2] = 0  # the example's half
    assert torch.equal(tiny.decode(codes, "one_shot"), tiny.decode(changed, "one_shot"))
    whole = tiny.variant(Variant(area="canvas"))
    assert not torch.equal(whole.decode(codes, "one_shot"), whole.decode(changed, "one_shot"))


@pytest.mark.parametrize("view", VIEWS)
def test_a_run_can_start_from_what_was_embedded(view: ViewName, small_model: MaeVqgan, canvases: Tensor) -> None:
    embedded = torch.cat([small_model.embed(canvas[None], view) for canvas in canvases])
    torch.testing.assert_close(
        small_model.run(small_model._items(embedded, small_model.view(view))),
        small_model(canvases, view),
        rtol=1e-5,
        atol=1e-5,
    )
    # the convolution of whole canvases, of which the view's tokens are taken
    pixels = normalise(canvases).permute(0, 3, 1, 2)
    tokens = small_model.view(view).encoder_tokens[1:]
    whole = small_model.patch_embed(pixels).flatten(2).transpose(1, 2)[:, tokens - 1]
    torch.testing.assert_close(embedded[:, 1:], whole + small_model.encoder.pos_embed[tokens])


def test_equal_codes_are_decoded_once(small_model: MaeVqgan, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = torch.randint(small_model.config.vqgan.codes, (3, 8), generator=torch.Generator().manual_seed(0))
    expected = torch.cat([small_model.decode(own[None], "query_only") for own in codes])
    decode, decoded = small_model.vqgan.decode, []

    def counting(grids: Tensor) -> Tensor:
        decoded.append(len(grids))
        return decode(grids)

    monkeypatch.setattr(small_model.vqgan, "decode", counting)
    order = torch.tensor([2, 0, 1, 1, 2, 0, 2])
    images = small_model.decode(codes[order], "query_only")
    assert (images.int() - expected[order].int()).abs().max() <= 1
    assert sum(decoded) == len(codes)


def test_the_accelerated_copy_is_what_autocast_computes(small_model: MaeVqgan, canvases: Tensor) -> None:
    fingerprint = small_model.fingerprint()
    quick, fused = (small_model.variant(variant) for variant in (Variant(bfloat16=True), Variant(fused=True)))
    items = small_model._items(small_model.embed(canvases, "query_only"), small_model.view("query_only"))
    with torch.no_grad():
        logits = quick.run(items)
        with torch.autocast("cpu", torch.bfloat16):
            expected = fused.run(items)
            decoded = small_model.decode(expected.argmax(-1), "query_only")
    assert torch.equal(logits, expected)
    assert torch.equal(quick.answers(logits, items), decoded)
    assert quick.encoder.blocks[0].get_parameter("attn.qkv.weight").dtype == torch.bfloat16
    assert quick.encoder.blocks[0].get_parameter("norm1.weight") is small_model.encoder.blocks[0].get_parameter(
        "norm1.weight"
    )
    assert fused.fingerprint() == small_model.fingerprint() == fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 8}, "one code stands for 16 pixels and a patch for 8"),
        ({"canvas_size": 240}, "240 pixels has no even grid"),
        ({"image_size": 90}, "images of 90 pixels do not fill"),
        ({"vqgan": VqganConfig(multipliers=(1, 1))}, "one code stands for 2 pixels"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message), torch.device("meta"):
        MaeVqgan(MaeVqganConfig(**change))  # pyright: ignore[reportArgumentType]


def test_only_a_canvas_or_its_bottom_half_is_decoded_as_one(small_model: MaeVqgan) -> None:
    region = small_model.geometry.region_tokens("query_output")
    codes = torch.zeros(1, len(region), dtype=torch.int64)
    with pytest.raises(ValueError, match="the whole canvas or its bottom half"):
        small_model.decode_canvas(codes, View(torch.arange(1), torch.cat([torch.arange(1), region])))


def test_views_of_ones_own_predict_what_they_say_or_are_refused(small_model: MaeVqgan, canvases: Tensor) -> None:
    geometry = small_model.geometry
    region = geometry.region_tokens("query_output")
    view = View(geometry.view("query_only").encoder_tokens, geometry.region_tokens("cls", "query_output"), "alone")
    assert torch.equal(view.predicted, region)
    logits = small_model(canvases, view)
    assert torch.equal(small_model.query_output_logits(logits, view), logits)
    quadrant = small_model.variant(Variant(area="quadrant"))
    assert quadrant.decode(logits.argmax(-1), view).shape == (len(canvases), 15, 15, 3)
    half = View(view.encoder_tokens, view.decoder_tokens[:-1], "half")
    with pytest.raises(ValueError, match="the view half predicts 3 of the 4 patches of the query output"):
        quadrant.decode(small_model(canvases, half).argmax(-1), half)
    with pytest.raises(ValueError, match="the view given has token 17: the model's canvas has tokens 0 to 16"):
        small_model(canvases, View(view.encoder_tokens, torch.tensor([0, 17])))
    with pytest.raises(ValueError, match="the view given has no encoder tokens"):
        small_model(canvases, View(torch.arange(0), view.decoder_tokens))


def test_accelerated_variants_keep_the_models_identity(small_model: MaeVqgan) -> None:
    assert small_model.variant(Variant()) is small_model
    for chosen in (Variant(fused=True), Variant(bfloat16=True), Variant(area="canvas")):
        variant = small_model.variant(chosen)
        assert variant.identity == small_model.identity
        both = variant.variant(Variant(fused=True, area="quadrant"))
        assert both.identity == small_model.identity
        assert (both.area, both._variant.bfloat16) == ("quadrant", chosen.bfloat16)
        assert both.vqgan.get_parameter("quantize.embedding.weight") is small_model.vqgan.get_parameter(
            "quantize.embedding.weight"
        )


@given(runs=st.integers(1, 6), scale=st.floats(0.1, 80), seed=st.integers(0, 99))
def test_the_mean_of_outputs_is_that_of_probabilities(
    small_model: MaeVqgan, runs: int, scale: float, seed: int
) -> None:
    logits = scale * torch.randn(runs, 2, 3, 32, generator=torch.Generator().manual_seed(seed))
    mean = small_model.mean_outputs(iter(logits))
    torch.testing.assert_close(mean.softmax(-1), logits.double().softmax(-1).mean(0).float(), rtol=1e-4, atol=1e-6)
    assert torch.equal(small_model.mean_outputs([logits[0]]), logits[0])  # to the last bit


def test_the_usual_arrangement_is_one_shot(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    prompts = small_prompts[0]
    arranged = list(small_model.arranged(prompts))
    assert len(arranged) == small_model.arrangements == len(ARRANGEMENTS)
    assert torch.equal(arranged[0], small_model.run(small_model.prepare(prompts, "one_shot")))
    assert not any(torch.equal(arranged[0], other) for other in arranged[1:])
    with pytest.raises(ValueError, match="an arranged prompt shows an example, but only queries were drawn"):
        next(small_model.arranged(Queries(prompts.query_input)))


def test_arrangements_differ_by_where_tokens_are_alone(small_model: MaeVqgan) -> None:
    """Without positions a transformer does not see them, so that every arrangement gives the same, patch by patch."""
    model = MaeVqgan(replace(small_model.config, image_size=16))  # without a gap, which would move pixels
    model.load_state_dict(small_model.state_dict())
    for stack in (model.encoder, model.decoder):
        torch.nn.init.zeros_(stack.pos_embed)
    sides = np.random.default_rng(0).integers(0, 256, (4, 2, 16, 16, 3), np.uint8)
    prompts = Batch(*sides, query_ignored=None)
    with torch.no_grad():
        usual, *others = model.arranged(prompts)
    for other in others:
        torch.testing.assert_close(other, usual, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(usual[:, 0], usual[:, -1], atol=1e-2)  # patches of images differ


def test_features_are_of_images_alone(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    images = small_prompts[0].query_input
    features = small_model.features(images)
    assert features.shape == (len(images), small_model.config.encoder.width)
    canvases = small_model.geometry.canvases(Queries(images))
    encoded = small_model.embed(canvases, "query_only")
    for layer in small_model.encoder.layers():
        encoded = layer(encoded)
    encoded = small_model.encoder.norm(encoded)
    torch.testing.assert_close(features, encoded[:, 1:].mean(1))
    torch.testing.assert_close(small_model.features(images[2:3])[0], features[2], rtol=1e-4, atol=1e-5)
    assert small_model.variant(Variant(bfloat16=True)).features(images).dtype == torch.float32


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_runs_go_on_from_any_layer_to_the_same_outputs(
    view: ViewName, bfloat16: bool, small_model: MaeVqgan, small_prompts: list[Prompts]
) -> None:
    """To the last bit, whether the layers before it ran in one go or one by one."""
    model = small_model.variant(Variant(bfloat16=bfloat16))
    items = model.prepare(small_prompts[0], view)
    outputs, stepwise = model.run(items), items
    depths = [model.depth(stack, layer) for stack, own in model.stacks.items() for layer in range(own.layers)]
    assert depths == list(range(4))
    for depth in depths:
        stepwise = model.advance(stepwise, depth)
        assert len(stepwise) == 6
        for advanced in (stepwise, model.advance(items, depth)):
            assert torch.equal(model.run(advanced), outputs)
        alone = model.run(model.advance(items[4:5], depth))
        torch.testing.assert_close(
            model.run(stepwise[torch.tensor([4])]), alone, rtol=0, atol=0.1 if bfloat16 else 1e-5
        )
    with pytest.raises(ValueError, match="the items start from layer 3 of both stacks, which is beyond 1"):
        model.advance(stepwise, 1)


def test_a_patch_of_a_layer_that_ran_before_is_refused(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    """One of the layer that runs go on from is not."""
    sites = small_model.sites("layer")
    items = small_model.advance(small_model.prepare(small_prompts[0], "query_only"), 1)
    first, second = (Patch(sites, sites.mask([n])[None], small_means.map(lambda mean: mean[:1])) for n in (0, 1))
    with pytest.raises(
        RuntimeError, match=r"did not reach \[\('encoder', 0\)\]: the model was not run .* a later layer"
    ):
        heads.run(small_model, items, first)
    whole = small_model.prepare(small_prompts[0], "query_only")
    assert torch.equal(heads.run(small_model, items, second), heads.run(small_model, whole, second))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("area", ["canvas", "quadrant"])
def test_narrow_runs_end_in_what_is_needed(
    view: ViewName, area: Area, small_model: MaeVqgan, small_prompts: list[Prompts]
) -> None:
    model, prompts = small_model.variant(Variant(area=area)), small_prompts[0]
    items = model.prepare(prompts, view)
    outputs, targets = model.run(items), model.targets(prompts)
    narrow = model.narrow(items, answers=False)
    logits = model.run(narrow)
    assert torch.equal(narrow.view.predicted, model.geometry.region_tokens("query_output"))
    torch.testing.assert_close(logits, model.query_output_logits(outputs, view), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.losses(logits, narrow, targets), model.losses(outputs, items, targets))
    shown = model.narrow(items, answers=True)
    assert (shown is items) == (area == "canvas")
    assert torch.equal(model.answers(model.run(shown), shown), model.answers(outputs, items))


def _expecting(model: MaeVqgan, area: Area = "canvas", temperature: float = 1.0) -> MaeVqgan:
    return model.variant(Variant(area=area, decoding=Decoding("expected", temperature)))


def _logits(model: MaeVqgan, seed: int = 0, scale: float = 3.0, rows: int = 3) -> Tensor:
    """Of runs that predict the bottom half of the canvas."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, 8, model.config.vqgan.codes, generator=generator)


@pytest.mark.parametrize("area", ["canvas", "quadrant"])
def test_what_is_expected_is_the_decoded_mean_of_the_codebook(
    area: Area, small_model: MaeVqgan, small_prompts: list[Prompts]
) -> None:
    """Of the query output alone, or of a canvas with the bottom half in both places, patch by patch."""
    items = small_model.prepare(small_prompts[0][:3], "query_only")
    logits, temperature = _logits(small_model), 1.7
    codebook = small_model.vqgan.get_parameter("quantize.embedding.weight")
    half = torch.empty(3, 2, 4, codebook.shape[1])
    for row, patch in np.ndindex(3, 8):
        weights = (logits[row, patch].double() / temperature).exp()
        half[row, patch // 4, patch % 4] = (weights[:, None] * codebook).sum(0) / weights.sum()
    grid = torch.cat([half, half], 1) if area == "canvas" else half[:, :, 2:]
    decoded = to_pixels(small_model.vqgan.decode_latents(grid.permute(0, 3, 1, 2)))
    answers = _expecting(small_model, area, temperature).answers(logits, items)
    assert (answers.dtype, answers.shape) == (torch.uint8, (3, 15, 15, 3))
    assert (answers.int() - decoded[:, -15:, -15:].int()).abs().max() <= 1
    other = _expecting(small_model, "quadrant" if area == "canvas" else "canvas", temperature)
    assert not torch.equal(other.answers(logits, items), answers)


@pytest.mark.parametrize("area", ["canvas", "quadrant"])
def test_the_colder_a_belief_is_the_nearer_it_is_to_the_likeliest_code(
    area: Area, small_model: MaeVqgan, small_prompts: list[Prompts]
) -> None:
    items = small_model.prepare(small_prompts[0][:3], "query_only")
    logits = _logits(small_model)
    likeliest = small_model.variant(Variant(area=area)).answers(logits, items).int()
    far = [
        (_expecting(small_model, area, temperature).answers(logits, items).int() - likeliest).abs()
        for temperature in (3.0, 0.5, 1e-4)
    ]
    means = [float(each.float().mean()) for each in far]
    assert means[0] > means[1] > means[2]
    assert far[1].max() > 1
    assert far[2].max() <= 1  # where a batch rounds otherwise


@given(seed=st.integers(0, 99), temperature=st.floats(0.01, 50))
@settings(max_examples=10)
def test_a_belief_in_one_code_is_that_code(
    small_model: MaeVqgan, small_prompts: list[Prompts], seed: int, temperature: float
) -> None:
    items = small_model.prepare(small_prompts[0][:2], "query_only")
    sure = torch.nn.functional.one_hot(_logits(small_model, seed, rows=2).argmax(-1), 32) * 1e4
    likeliest = small_model.answers(sure, items)
    assert (
        _expecting(small_model, "canvas", temperature).answers(sure, items).int() - likeliest.int()
    ).abs().max() <= 1


@pytest.mark.parametrize("area", ["canvas", "quadrant"])
def test_pictures_are_what_answers_truncate(area: Area, small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    model = _expecting(small_model, area, 0.8)
    items = model.prepare(small_prompts[0][:3], "query_only")
    logits = _logits(model)
    pictures, answers = model.pictures(logits, items), model.answers(logits, items)
    assert (pictures.dtype, pictures.shape) == (torch.float32, answers.shape)
    assert (pictures - answers >= -1e-3).all()
    assert (pictures - answers < 1 + 1e-3).all()
    assert (pictures != answers).any()
    quick = model.variant(Variant(bfloat16=True)).pictures(logits, items)
    assert quick.dtype == torch.float32
    torch.testing.assert_close(quick, pictures, rtol=0, atol=8)


@pytest.mark.parametrize("area", ["canvas", "quadrant"])
def test_pictures_have_the_gradient_of_their_slope(
    area: Area, small_model: MaeVqgan, small_prompts: list[Prompts]
) -> None:
    model = _expecting(small_model, area, 1.5)
    items = model.prepare(small_prompts[0][:2], "query_only")
    logits = _logits(model, rows=2).requires_grad_()
    generator = torch.Generator().manual_seed(1)
    direction, weights = torch.randn(logits.shape, generator=generator), torch.rand(2, 15, 15, 3, generator=generator)

    def slope_of(step: float) -> Tensor:
        with torch.no_grad():
            return (weights * model.pictures(logits + step * direction, items)).double().sum()

    (weights * model.pictures(logits, items)).sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).any(-1)[:, [2, 3, 6, 7]].all()  # of every patch of the query output
    expected = (slope_of(0.05) - slope_of(-0.05)) / 0.1
    torch.testing.assert_close((logits.grad * direction).sum().double(), expected, rtol=3e-2, atol=1e-2)
    with pytest.raises(ValueError, match="the decoding likeliest has no gradient: expected `expected`, or the obj"):
        small_model.pictures(logits, items)


@given(level=st.floats(85, 125))
@settings(max_examples=10)
def test_a_level_makes_answers_masks(small_model: MaeVqgan, small_prompts: list[Prompts], level: float) -> None:
    items, logits = small_model.prepare(small_prompts[0][:3], "query_only"), _logits(small_model)
    for kind in small_model.decodings:
        grey, masks = (
            small_model.variant(Variant(decoding=Decoding(kind, level=each))).answers(logits, items)
            for each in (None, level)
        )
        assert torch.equal(masks, cut(grey, level))


def test_drafts_tell_answers_apart(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    """Beliefs whose likeliest codes are the same differ in what is expected."""
    items, logits = small_model.prepare(small_prompts[0][:3], "query_only"), _logits(small_model)
    drafts = small_model.drafts(logits)
    assert drafts is not None
    assert torch.equal(drafts, logits.argmax(-1))
    assert torch.equal(small_model.drafts(3 * logits), drafts)  # pyright: ignore[reportArgumentType]
    model = _expecting(small_model)
    assert not torch.equal(model.answers(3 * logits, items), model.answers(logits, items))
    assert model.drafts(logits) is None


def test_variants_that_differ_in_their_answers_alone_are_made_of_the_same_modules(
    small_model: MaeVqgan, small_prompts: list[Prompts], small_means: Means
) -> None:
    model = _expecting(small_model, "quadrant")
    assert model.identity == small_model.identity
    assert list(model.modules())[1:] == list(small_model.modules())[1:]
    assert (small_model.decoding, small_model.area) == (Decoding(), "canvas")
    assert model.variant(Variant(decoding=Decoding("expected"))) is model
    fused = model.variant(Variant(fused=True))
    assert (fused.decoding, fused.area) == (model.decoding, "quadrant")
    assert not any(layer.attn.fused for layer in small_model.encoder.layers())
    sites, items = small_model.sites("layer"), small_model.prepare(small_prompts[0], "query_only")
    patch = Patch(sites, sites.mask([0])[None], small_means.map(lambda mean: mean[:1]))
    assert torch.equal(heads.run(model, items, patch), heads.run(small_model, items, patch))


def _squared_errors(answers: Tensor, prompts: Prompts) -> Tensor:
    return (answers.double() - torch.from_numpy(prompts.query_output).double()).square().flatten(1).mean(1)


@pytest.mark.parametrize(("area", "seed"), [("canvas", 0), ("quadrant", 0), ("quadrant", 1)])
def test_mixtures_of_codes_are_nearer_to_the_truth_than_codes(
    area: Area, seed: int, small_model: MaeVqgan, small_prompts: list[Prompts]
) -> None:
    """Of random tokenizers, for masks and for pictures."""
    model = small_model
    if seed:
        torch.manual_seed(seed)
        model = MaeVqgan(small_model.config).requires_grad_(False).eval()
    model = model.variant(Variant(area=area))
    for prompts in small_prompts:
        one = prompts[:1]
        mixed = model.mixture(one)
        assert (mixed.dtype, mixed.shape) == (torch.uint8, (1, 15, 15, 3))
        assert _squared_errors(mixed, one) < _squared_errors(model.reconstruction(one), one)


def test_mixtures_of_the_shipped_models_codes_are_nearer_to_the_truth(tiny: MaeVqgan) -> None:
    for task in (SEGMENTATION, LOW_LIGHT):
        prompts = draw_prompts(Scenes("test"), task, 1, tiny.image_size, seed=0)
        with torch.no_grad():  # as where methods are evaluated
            mixed = tiny.mixture(prompts)
        assert _squared_errors(mixed, prompts) < _squared_errors(tiny.reconstruction(prompts), prompts)
    assert all(parameter.grad is None for parameter in tiny.parameters())
