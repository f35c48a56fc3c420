import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taskvec import evaluate
from taskvec.data.scenes import Scenes
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts, draw_prompts
from taskvec.tasks import IDENTITY, SEGMENTATION


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50))
def test_an_interval_holds_its_mean(values: list[float]) -> None:
    result = evaluate.interval(np.array(values))
    assert result.low - 1e-9 <= result.mean <= result.high + 1e-9
    assert result.mean == pytest.approx(np.mean(values))


def test_an_interval_is_as_wide_as_the_normal_one_for_many_values(random: np.random.Generator) -> None:
    values = random.normal(size=1000)
    result = evaluate.interval(values)
    assert result.high - result.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(1000), rel=0.1)


def test_copying_is_perfect_at_identity(small_model: MaeVqgan) -> None:
    prompts = draw_prompts(Scenes("test"), IDENTITY, 4, 15, seed=0)
    assert (evaluate.scores(small_model, evaluate.copy_input(small_model), prompts) == 0).all()


def test_batches_make_no_difference(
    small_model: MaeVqgan, small_prompts: list[Prompts], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = evaluate.run(small_model, "one_shot")
    whole = evaluate.answers(small_model, method, small_prompts[0])
    monkeypatch.setattr(evaluate, "BATCH", 4)
    assert (whole.int() - evaluate.answers(small_model, method, small_prompts[0]).int()).abs().max() <= 1


def test_the_ceiling_is_the_reconstruction_of_the_truth(tiny: MaeVqgan) -> None:
    prompts = draw_prompts(Scenes("test"), SEGMENTATION, 3, 32, seed=0)
    truth = torch.from_numpy(prompts.query_output)
    codes = tiny.vqgan.encode(truth.permute(0, 3, 1, 2).float() / 127.5 - 1).flatten(1)
    answers = evaluate.answers(tiny, evaluate.ceiling(tiny), prompts)
    assert torch.equal(answers, tiny.decode_quadrant(codes))


def test_the_ceiling_of_a_canvas_tokenizer_is_decoded_as_a_canvas(
    golden: dict[str, torch.Tensor], golden_model: MaeVqgan
) -> None:
    canvases = golden["canvas_u8"]
    decoded = golden_model.decode_canvas(golden["vae_target_codes"].long(), "one_shot")
    expected = golden_model.geometry.crop(decoded, "query_output")
    assert torch.equal(evaluate.ceiling(golden_model)(canvases), expected)


def test_methods_by_name(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    by_name = evaluate.answers(small_model, evaluate.method_named(small_model, "query_only"), small_prompts[0])
    direct = evaluate.answers(small_model, evaluate.run(small_model, "query_only"), small_prompts[0])
    assert torch.equal(by_name, direct)
    with pytest.raises(ValueError, match="there is no method 'luck': expected one_shot, query_only, copy_input"):
        evaluate.method_named(small_model, "luck")
