import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import records
from taskvec import evaluation
from taskvec.answering import Choices, calibrate
from taskvec.data.scenes import Scenes
from taskvec.finding import FindSettings, find, parts_of
from taskvec.models.interface import Decoding, DecodingKind
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.objectives import OBJECTIVES, ObjectiveKind
from taskvec.prompts import Prompts, draw_prompts
from taskvec.provenance import Refinement, images_of
from taskvec.refining import RefineSettings, refine
from taskvec.search import AttributionSettings
from taskvec.tasks import TASKS
from taskvec.vectors import TaskVectors

DATA = Scenes("train", count=240)
QUICK = RefineSettings(steps=6, prompts=12, batch=6, validation=8, validate_every=2, learning_rate=0.1)


def _found(model: MaeVqgan, task: str, decoding: DecodingKind = "expected") -> TaskVectors:
    search = AttributionSettings()
    settings = FindSettings(prompts=16, items=4, validation=8, search=search, decoding=decoding, at_most=6)
    return find(model, DATA, task, settings, progress=False)


@pytest.fixture(scope="module")
def low_light(small_model: MaeVqgan) -> TaskVectors:
    return _found(small_model, "low_light")


@pytest.fixture(scope="module")
def masks(small_model: MaeVqgan) -> TaskVectors:
    return _found(small_model, "segmentation")


def _refinement(vectors: TaskVectors) -> Refinement:
    assert vectors.search.refinement is not None
    return vectors.search.refinement


def _validation(vectors: TaskVectors) -> Prompts:
    part, task = parts_of(DATA)[2], TASKS[vectors.task]
    return draw_prompts(part, task, QUICK.validation, 15, QUICK.seed, query_only=True)


def _loss(vectors: TaskVectors, decoding: Decoding | None = None) -> float:
    """On validation queries, with this decoding or the vectors' own."""
    prompts = _validation(vectors)
    method = evaluation.run(vectors.answering, "query_only", vectors.patch)
    method = method if decoding is None else method.decoded(decoding)
    return float(prompts.task.metric.loss(evaluation.scores(vectors.model, method, prompts).mean()))


@pytest.mark.parametrize("task", ["low_light", "masks"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_refined_values_are_no_worse_on_validation_queries_at_the_same_sites(
    task: str, objective: ObjectiveKind, request: pytest.FixtureRequest
) -> None:
    """By the values alone, and with a decoding that is chosen anew."""
    vectors: TaskVectors = request.getfixturevalue(task)
    refined = refine(vectors, DATA, replace(QUICK, objective=objective, learning_rate=0.3))
    record = _refinement(refined)
    assert refined.sites == vectors.sites
    assert all(torch.equal(mean.isnan(), vectors.means[stack].isnan()) for stack, mean in refined.means.items())
    assert record.loss_before == pytest.approx(_loss(vectors))
    assert record.loss == pytest.approx(_loss(refined, vectors.config.decoding))
    assert record.loss <= record.loss_before
    assert (record.step > 0) == (record.loss < record.loss_before) == (refined.fingerprint() != vectors.fingerprint())
    assert _loss(refined) <= record.loss
    if record.step:
        best = calibrate(evaluation.run(refined.model, "query_only", refined.patch), _validation(refined), Choices())
        assert _loss(refined) == pytest.approx(min(_loss(refined, best), record.loss))
    assert record.settings["objective"] == objective
    if objective == "pixel":
        assert record.step > 0


def test_values_that_do_not_help_are_not_kept(low_light: TaskVectors) -> None:
    """Steps away from the gradient: the loss on the queries that are learnt from is turned around."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim, "Adam", lambda values, rate: torch.optim.SGD(values, 1e6 * rate, maximize=True))
        refined = refine(low_light, DATA, replace(QUICK, steps=20, patience=2, objective="pixel"))
    record = _refinement(refined)
    assert (record.step, record.loss) == (0, record.loss_before)
    assert len(record.history) == 4  # two scores without a better one
    assert refined.config.decoding == low_light.config.decoding
    assert refined.fingerprint() == low_light.fingerprint()


def test_what_was_done_is_recorded(low_light: TaskVectors, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    settings = replace(QUICK, patience=100)
    refined = refine(low_light, DATA, settings, seen.append)
    record = _refinement(refined)
    assert list(record.history) == seen
    assert [step["step"] for step in seen] == list(range(1, 7))
    assert [step["step"] for step in seen if "validation_loss" in step] == [2, 4, 6]
    assert record.loss == min([record.loss_before, *(s["validation_loss"] for s in seen if "validation_loss" in s)])
    assert (record.settings["learning_rate"], record.settings["objective"]) == (0.1, "pixel")
    assert replace(refined.search, refinement=None) == low_light.search
    behind, searched, kept_aside = ({*part.images_of(np.arange(len(part)))} for part in parts_of(DATA))
    assert (record.learnt.prompts, record.validation.prompts) == (12, 8)
    assert set(record.learnt.images) <= behind | searched
    assert set(record.validation.images) <= kept_aside
    assert images_of(refined.search) >= {*record.learnt.images, *record.validation.images}
    refined.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = TaskVectors.load(tmp_path, low_light.model)
    assert loaded.config == refined.config
    assert loaded.fingerprint() == refined.fingerprint() != low_light.fingerprint()
    again = refine(low_light, DATA, settings)
    assert (again.config, again.fingerprint()) == (refined.config, refined.fingerprint())
    other = refine(low_light, DATA, replace(settings, seed=1))
    assert _refinement(other).learnt.images != record.learnt.images


def test_ctrl_c_ends_with_the_best_so_far(low_light: TaskVectors) -> None:
    def interrupt(record: dict[str, Any]) -> None:
        if record["step"] == 5:
            raise KeyboardInterrupt

    settings = replace(QUICK, objective="pixel")
    whole, stopped = (refine(low_light, DATA, settings, each) for each in (lambda _: None, interrupt))
    record = _refinement(stopped)
    assert record.history == _refinement(whole).history[:5]
    assert record.step in (2, 4)
    assert record.loss < record.loss_before
    assert record.loss == pytest.approx(_loss(stopped, low_light.config.decoding))


def test_likeliest_codes_stay_what_is_decoded(small_model: MaeVqgan) -> None:
    """Values learn from the true codes there: pixels have no gradient."""
    vectors = _found(small_model, "low_light", "likeliest")
    refined = refine(vectors, DATA, QUICK)
    assert refined.config.decoding == vectors.config.decoding == Decoding()
    assert _refinement(refined).settings["objective"] == "token"
    assert _refinement(refined).loss <= _refinement(refined).loss_before
    with pytest.raises(ValueError, match="the decoding likeliest has no gradient: expected `expected`, or the objec"):
        refine(vectors, DATA, replace(QUICK, objective="pixel"))


def test_a_decoding_of_ones_own_is_left_only_for_a_better_one(masks: TaskVectors) -> None:
    own = Decoding("expected", 0.7, 95.5)
    vectors = replace(masks, config=replace(masks.config, decoding=own))
    refined = refine(vectors, DATA, replace(QUICK, objective="pixel", learning_rate=0.3))
    assert _loss(refined) <= _refinement(refined).loss <= _loss(vectors)


def test_what_cannot_be_refined_is_one_sentence(
    low_light: TaskVectors, masks: TaskVectors, random_vectors: TaskVectors
) -> None:
    with pytest.raises(ValueError, match="the task vectors of task have no record of a search"):
        refine(random_vectors, DATA, QUICK)
    wrong = replace(masks, config=replace(masks.config, task="low_light"))
    with pytest.raises(ValueError, match="the task vectors are scored by iou, the data by mse"):
        refine(wrong, DATA, QUICK)
    with pytest.raises(ValueError, match="the task vectors of low_light are refined already: refine those that the"):
        refine(refine(low_light, DATA, replace(QUICK, steps=1)), DATA, QUICK)
    seen = _validation(low_light).query_images[3]
    for found in (
        replace(low_light.search, search=(records.drawn(seen),)),
        replace(low_light.search, statistics=records.drawn(seen)),
    ):
        vectors = replace(low_light, config=replace(low_light.config, found=found))
        message = f"1 of the images that would validate are among those .* such as {seen}: refine them on"
        with pytest.raises(ValueError, match=message):
            refine(vectors, DATA, QUICK)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"steps": 0}, "must each be at least 1"),
        ({"batch": 0}, "must each be at least 1"),
        ({"validation": -1}, "must each be at least 1"),
        ({"learning_rate": 0.0}, "the learning rate is 0.0, expected a number above 0"),
        ({"learning_rate": float("nan")}, "the learning rate is nan, expected a number above 0"),
        ({"objective": "beauty"}, "there is no objective 'beauty': expected one of pixel, token"),
    ],
)
def test_settings_that_make_no_descent_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        RefineSettings(**wrong)
