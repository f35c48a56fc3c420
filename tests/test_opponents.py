from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from jaxtyping import Int

from taskvec import evaluation, opponents
from taskvec.data.examples import Part
from taskvec.data.scenes import Scenes
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.opponents import Nearness, Pool
from taskvec.prompts import Prompts, choices_of, draw_prompts, source_of
from taskvec.tasks import INPAINTING, SEGMENTATION, Task

EXAMPLES = 72  # six of a class, in three groups


@dataclass(frozen=True)
class Patients(Scenes):
    """Scenes of which every class is of three groups."""

    count: int = EXAMPLES

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return [f"{index % 36}" for index in np.asarray(indices).tolist()]


DATA = Patients("test")


def drawn(task: Task = SEGMENTATION, data: Scenes = DATA, count: int = 10) -> Prompts:
    return draw_prompts(data, task, count, 15, seed=0)


def allowed(query: int, data: Scenes = DATA) -> list[int]:
    """By the words of ``draw_prompts``."""
    every = np.arange(len(data))
    classes, groups = data.class_of(every), np.array(data.groups_of(every))
    return [int(other) for other in every if classes[other] == classes[query] and groups[other] != groups[query]]


@pytest.mark.parametrize("data", [DATA, Scenes("test", count=30)])
def test_choices_are_those_of_random_supports(data: Scenes) -> None:
    choices = choices_of(data)
    for query in range(len(data)):
        assert sorted(choices(query).tolist()) == allowed(query, data)


@pytest.mark.parametrize("task", [SEGMENTATION, INPAINTING])
def test_the_nearest_is_the_nearest_by_brute_force(small_model: MaeVqgan, task: Task) -> None:
    pool, prompts = Pool(DATA), drawn(task)
    found = Nearness(small_model, pool).supports(prompts, 3)
    inputs = task.input(source_of(DATA.load(np.arange(EXAMPLES), 15), pool.holes))
    features = [small_model.features(inputs[row : row + 1])[0] for row in range(EXAMPLES)]
    for row, query in enumerate(prompts.query_indices.tolist()):
        own = small_model.features(prompts.query_input[row : row + 1])[0]
        cosine = {other: float(torch.cosine_similarity(own, features[other], dim=0)) for other in allowed(query)}
        best = sorted(cosine.values(), reverse=True)[:3]
        assert set(found[row].tolist()) <= cosine.keys()
        assert [cosine[other] for other in found[row].tolist()] == pytest.approx(best, abs=1e-6)


def test_features_are_computed_once_and_whatever_the_batch(
    small_model: MaeVqgan, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, prompts, given = Pool(DATA), drawn(), []
    near = Nearness(small_model, pool)
    whole = near.supports(prompts, 2)
    original = MaeVqgan.features
    monkeypatch.setattr(
        MaeVqgan, "features", lambda model, images: given.append(len(images)) or original(model, images)
    )
    parts = [near.supports(prompts[start : start + 4], 2) for start in (0, 4, 8)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert given == [4, 4, 2]  # of the queries alone


def test_of_a_large_class_examples_all_over_it_are_compared(
    small_model: MaeVqgan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opponents, "NEAREST_OF", 2)
    near = Nearness(small_model, Pool(DATA))
    assert near.candidates(12).tolist() == [0, 60]  # of 0, 12, ..., 60 the first and the last
    assert near.candidates(36).tolist() == [60]  # which is of one group with 0
    monkeypatch.setattr(opponents, "NEAREST_OF", 1)
    assert Nearness(small_model, Pool(DATA)).candidates(36).tolist() == [12]  # where none of those, another


def test_the_nearest_support_is_shown(small_model: MaeVqgan) -> None:
    pool, prompts = Pool(DATA), drawn(INPAINTING)
    supports = Nearness(small_model, pool).supports(prompts, 1)[:, 0]
    shown = pool.shown(prompts, supports)
    assert shown.support_names == DATA.names(supports)
    assert shown.support_indices.tolist() == supports.tolist()
    assert np.array_equal(shown.support_output, DATA.load(supports, 15).images)
    assert np.array_equal(shown.query_input, prompts.query_input)
    answers = evaluation.method_named(small_model, "nearest", DATA)(prompts)
    assert torch.equal(answers, evaluation.run(small_model, "one_shot")(shown))


def test_one_support_at_random_is_one_shot(small_model: MaeVqgan) -> None:
    prompts = drawn()
    one_shot = evaluation.run(small_model, "one_shot")(prompts)
    assert torch.equal(evaluation.method_named(small_model, "several:1", DATA)(prompts), one_shot)
    assert not torch.equal(evaluation.method_named(small_model, "several", DATA)(prompts), one_shot)


def test_several_supports_are_the_own_one_and_others(small_model: MaeVqgan, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, seen = drawn(), []
    original = MaeVqgan.prepare

    def prepare(model: MaeVqgan, inputs: Prompts, view: str) -> object:
        seen.append(inputs.support_indices.tolist())
        return original(model, inputs, view)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(MaeVqgan, "prepare", prepare)
    method = evaluation.method_named(small_model, "several:6", DATA)
    method(prompts)
    assert seen[0] == prompts.support_indices.tolist()
    for query, supports in zip(prompts.query_indices.tolist(), np.array(seen).T.tolist(), strict=True):
        assert sorted(set(supports)) == allowed(query)  # four there are, so that some come again
        assert supports[4:] == supports[:2]
    whole, seen[:] = list(seen), []
    method(prompts[3:5])
    assert seen == [rank[3:5] for rank in whole]  # whatever the batch


def test_arrangements_differ_from_one_shot(small_model: MaeVqgan) -> None:
    prompts = drawn()
    answers = evaluation.method_named(small_model, "arrangements")(prompts)
    assert answers.shape == prompts.query_output.shape
    assert not torch.equal(answers, evaluation.run(small_model, "one_shot")(prompts))


def test_methods_that_there_cannot_be_are_refused(small_model: MaeVqgan) -> None:
    for name in ("several:0", "nearest:", "nearest:-1", "several:two"):
        with pytest.raises(ValueError, match=rf"{name}: expected a number of supports from 1 on after "):
            evaluation.method_named(small_model, name, DATA)
    with pytest.raises(ValueError, match="nearest:2 chooses supports: the data that prompts are drawn from are needed"):
        evaluation.method_named(small_model, "nearest:2")
    with pytest.raises(ValueError, match="there is no opponent 'luck': expected one of nearest, nearest:K"):
        opponents.opponent_named(small_model, "luck", DATA)
    with pytest.raises(ValueError, match=r"there is no method 'arrangement': .*, arrangements, "):
        evaluation.method_named(small_model, "arrangement", DATA)


def test_prompts_of_other_data_are_refused(small_model: MaeVqgan) -> None:
    others = drawn(data=Scenes("final", count=30))
    with pytest.raises(ValueError, match=r"the query final/0/.* is not in the data that supports are chosen from"):
        evaluation.method_named(small_model, "nearest", DATA)(others)
    strange = replace(drawn(), support_names=others.support_names)
    with pytest.raises(ValueError, match=r"the support final/0/.* is not in the data that supports are chosen from"):
        evaluation.method_named(small_model, "several", DATA)(strange)


def test_a_part_of_data_is_its_own_pool(small_model: MaeVqgan) -> None:
    part = Part(DATA, np.arange(12, EXAMPLES))
    prompts = draw_prompts(part, SEGMENTATION, 6, 15, seed=0)
    pool = Pool(part)
    found = Nearness(small_model, pool).supports(prompts, 1)[:, 0]
    assert pool.shown(prompts, found).support_indices.tolist() == (found + 12).tolist()
    assert (DATA.class_of(found + 12) == DATA.class_of(prompts.query_indices)).all()
