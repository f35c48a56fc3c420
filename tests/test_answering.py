from copy import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from taskvec import evaluation, opponents
from taskvec.answering import LEVELS, TEMPERATURES, Answering, Choices, answered, calibrate
from taskvec.data.scenes import Scenes
from taskvec.memory import Passes
from taskvec.metrics import IOU, MSE, cut
from taskvec.models.interface import Decoding, DecodingKind, Variant
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts
from taskvec.vectors import TaskVectors

CHOICES = Choices(temperatures=(1.0, 0.05), levels=(96.0, 100.0, 104.0, 110.0))


class WithoutCodes(MaeVqgan):
    decodings: tuple[DecodingKind, ...] = ("likeliest",)


@pytest.fixture(scope="module")
def codeless(small_model: MaeVqgan) -> MaeVqgan:
    model = copy(small_model)
    model.__class__ = WithoutCodes
    return model


@pytest.fixture(scope="module")
def methods(small_model: MaeVqgan, random_vectors: TaskVectors) -> dict[str, Answering]:
    return {
        "one_shot": evaluation.run(small_model, "one_shot"),
        "task_vectors": evaluation.run(small_model, "query_only", random_vectors.patch),
        "several": opponents.several(small_model, Scenes("test"), 2),
    }


def test_choices_are_every_temperature_at_every_level_of_masks(small_model: MaeVqgan) -> None:
    assert CHOICES.of(small_model, IOU) == [
        Decoding("expected", temperature, level) for temperature in (1.0, 0.05) for level in CHOICES.levels
    ]
    assert CHOICES.of(small_model, MSE) == [Decoding("expected", 1.0), Decoding("expected", 0.05)]
    assert CHOICES.first(small_model) == Decoding("expected", 1.0)
    assert replace(CHOICES, levels=()).of(small_model, IOU) == CHOICES.of(small_model, MSE)
    default = Choices()
    assert (len(default.of(small_model, IOU)), default.adapted) == (len(TEMPERATURES) * len(LEVELS), True)


def test_the_papers_decoding_is_no_choice(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    choices = Choices("likeliest")
    assert not choices.adapted
    assert choices.of(small_model, IOU) == choices.of(small_model, MSE) == [Decoding()]
    nothing = Answering(small_model, lambda prompts: pytest.fail("it was run"))
    assert calibrate(nothing, small_prompts[0], choices) == Decoding()


def test_a_model_without_codes_has_levels_alone(codeless: MaeVqgan) -> None:
    """Whatever the temperatures: what comes of the same choice is the same decoding."""
    assert CHOICES.first(codeless) == Decoding()
    assert CHOICES.of(codeless, MSE) == [Decoding()]
    assert CHOICES.of(codeless, IOU) == [Decoding(level=level) for level in CHOICES.levels]
    assert replace(CHOICES, temperatures=(3.0,)).of(codeless, IOU) == CHOICES.of(codeless, IOU)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"temperatures": ()}, "no temperature was named"),
        ({"temperatures": (1.0, 0.0)}, "temperature of a decoding is 0.0, expected a number above 0"),
        ({"temperatures": (float("nan"),)}, "temperature of a decoding is nan"),
        ({"levels": (1.0, 256.0)}, "level of a decoding is 256.0, expected a number above 0, at most 255"),
        ({"kind": "luckiest"}, "there is no decoding 'luckiest': expected one of likeliest, expected"),
    ],
)
def test_what_no_decoding_has_is_no_choice(wrong: dict[str, tuple[float, ...]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Choices(**wrong)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("task", [0, 1])
@pytest.mark.parametrize("name", ["one_shot", "task_vectors", "several"])
@pytest.mark.parametrize("ignored", [False, True])
def test_the_best_of_all_is_chosen(
    name: str, ignored: bool, task: int, methods: dict[str, Answering], small_prompts: list[Prompts]
) -> None:
    """By scoring the answers of every decoding alone; where pixels are ignored, without these."""
    method, prompts = methods[name], small_prompts[task]
    if ignored:
        shape = prompts.query_output.shape[:3]
        prompts = replace(prompts, query_ignored=np.random.default_rng(0).random(shape) < 0.5)
    metric = prompts.task.metric
    losses = {
        each: float(metric.loss(evaluation.scores(method.model, method.decoded(each), prompts).mean()))
        for each in CHOICES.of(method.model, metric)
    }
    assert len(set(losses.values())) > 1
    assert losses[calibrate(method, prompts, CHOICES)] == min(losses.values())


@pytest.mark.parametrize(("ignored", "level"), [(slice(None, 7), 110.0), (slice(7, None), 100.0)])
def test_ignored_pixels_do_not_choose(
    ignored: slice, level: float, methods: dict[str, Answering], small_prompts: list[Prompts]
) -> None:
    """The truth is the answer itself, cut at one level on the left and at another on the right."""
    method, choices = methods["one_shot"], replace(CHOICES, temperatures=(1.0,))
    grey = evaluation.answers(method.model, method.decoded(Decoding("expected")), small_prompts[0])
    truth = torch.cat([cut(grey[:, :, :7], 100.0), cut(grey[:, :, 7:], 110.0)], 2)
    hidden = np.zeros(truth.shape[:3], np.bool_)
    hidden[:, :, ignored] = True
    prompts = replace(small_prompts[0], query_output=truth.numpy(), query_ignored=hidden)
    assert calibrate(method, prompts, choices) == Decoding("expected", 1.0, level)


def test_of_equals_the_first_is_chosen(methods: dict[str, Answering], small_prompts: list[Prompts]) -> None:
    """No answer has a pixel so dark that these levels differ."""
    equal = Choices(temperatures=(2.0,), levels=(0.2, 0.1, 0.3))
    assert calibrate(methods["one_shot"], small_prompts[0], equal) == Decoding("expected", 2.0, 0.2)


@pytest.mark.parametrize("name", ["one_shot", "task_vectors", "several"])
def test_several_decodings_of_the_same_runs_are_those_of_each_alone(
    name: str, methods: dict[str, Answering], small_prompts: list[Prompts]
) -> None:
    method, prompts, runs = methods[name], small_prompts[1], []
    watched = Answering(method.model, lambda batch: runs.append(len(batch)) or method.outputs(batch))
    decodings = [Decoding(), Decoding("expected", 0.5), Decoding("expected", 0.5, 104.0), Decoding(level=100.0)]
    answers = watched.answers(prompts, decodings)
    assert runs == [6]
    assert list(answers) == decodings
    for each, images in answers.items():
        assert torch.equal(images, evaluation.answers(method.model, method.decoded(each), prompts))
    assert torch.equal(answers[decodings[2]], cut(answers[decodings[1]], 104.0))
    assert not torch.equal(answers[decodings[0]], answers[decodings[1]])
    halves = Passes(method.model.device, 4)
    apart = answered(lambda some: watched.answers(some, decodings[:2]), prompts, halves)
    assert runs == [6, 4, 2]
    for each, images in apart.items():
        assert (images.int() - answers[each].int()).abs().max() <= 1  # where a batch rounds otherwise


def test_a_decoding_takes_the_place_of_another(
    small_model: MaeVqgan, methods: dict[str, Answering], small_prompts: list[Prompts]
) -> None:
    method, decoding = methods["one_shot"], Decoding("expected", 2.0, 104.0)
    decoded = method.decoded(Decoding("likeliest", level=3.0)).decoded(decoding)
    assert decoded.model.decoding == decoding
    assert decoded.model.identity == small_model.identity
    assert method.model.decoding == Decoding()
    outputs, items = method.outputs(small_prompts[0])
    expected = small_model.variant(Variant(decoding=decoding)).answers(outputs, items)
    assert torch.equal(decoded(small_prompts[0]), expected)
    assert set(expected.unique().tolist()) == {0, 255}


def test_calibration_is_the_same_whatever_decodes_now(
    small_model: MaeVqgan, small_prompts: list[Prompts], random_vectors: TaskVectors
) -> None:
    now = small_model.variant(Variant(decoding=Decoding("likeliest", level=7.0)))
    chosen = [
        calibrate(evaluation.run(model, "query_only", random_vectors.patch), small_prompts[0], CHOICES)
        for model in (small_model, now)
    ]
    assert chosen[0] == chosen[1]
