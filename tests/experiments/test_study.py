import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from taskvec import evaluation
from taskvec.answering import Answering, calibrate
from taskvec.data.examples import DataSet
from taskvec.experiments.cells import Store
from taskvec.experiments.evidence import OPPONENTS
from taskvec.experiments.methods import PATCHINGS
from taskvec.experiments.protocol import Group
from taskvec.experiments.study import Study
from taskvec.finding import FindSettings, validation_prompts
from taskvec.heads import Patch
from taskvec.models.interface import PromptedModel
from taskvec.prompts import Prompts
from taskvec.tasks import Task


def _calibrated(
    study: Study, method: Answering, task: Task, group: Group, judging: Answering | None = None
) -> Answering:
    """A method with the decoding that is best on the prompts that judge nothing; ``judging`` has other supports."""
    prompts = validation_prompts(study.model, group.train, task, replace(study.protocol.settings, seed=group.seed))
    return (judging or method).decoded(calibrate(method, prompts, study.choices()))


def test_scores_are_those_of_the_method_on_the_groups_prompts(study: Study) -> None:
    """With its own decoding, and for the paper's sake with the likeliest codes."""
    scores = study.scores("one_shot", "segmentation")
    assert list(scores.groups) == ["seed 0", "seed 1"]
    group, task, method = study.protocol.groups[1], study.task("segmentation"), evaluation.run(study.judged, "one_shot")
    prompts = study.prompts(task.name, group)
    own = evaluation.scores(study.model, _calibrated(study, method, task, group), prompts)
    np.testing.assert_array_equal(scores.groups["seed 1"].scores, own)
    assert scores.groups["seed 1"].query_groups == prompts.query_groups
    likeliest = study.scores("one_shot", "segmentation", "likeliest").groups["seed 1"].scores
    np.testing.assert_array_equal(likeliest, evaluation.scores(study.model, method, prompts))
    assert not np.array_equal(likeliest, own)


@pytest.mark.parametrize("method", PATCHINGS)
def test_every_method_patches_sites_of_its_own(study: Study, method: str) -> None:
    patching, group = PATCHINGS[method], study.protocol.groups[0]
    sites, mask = study.mask(method, "segmentation", group)
    assert 0 < int(mask.sum()) <= len(sites)
    assert sites.granularity == patching.granularity
    assert {sites.names[index].stack for index in mask.nonzero()[:, 0].tolist()} <= set(patching.stacks)
    if patching.multi:
        assert torch.equal(mask, study.mask(method, "low_light", group)[1])


def test_random_and_top_quadrants_are_as_many_as_task_vectors(study: Study) -> None:
    group = study.protocol.groups[0]
    count = int(study.mask("vectors", "low_light", group)[1].sum())
    assert int(study.mask("random", "low_light", group)[1].sum()) == count
    assert int(study.mask("top", "low_light", group)[1].sum()) == count


def test_one_shot_vectors_are_the_same_vectors_with_an_example(study: Study) -> None:
    group, task = study.protocol.groups[0], study.task("low_light")
    sites, mask = study.mask("vectors", "low_light", group)
    patch = Patch(sites, mask[None], study.statistics(group).means(["low_light"]))
    prompts = study.prompts(task.name, group)
    method = _calibrated(study, evaluation.run(study.judged, "one_shot", patch), task, group)
    own = evaluation.scores(study.model, method, prompts)
    np.testing.assert_array_equal(study.scores("one_shot_vectors", "low_light").groups["seed 0"].scores, own)


def test_an_interrupted_study_goes_on_with_what_it_has(study: Study) -> None:
    study.scores("vectors", "low_light")
    computed: list[str] = []
    again = Study(study.model, study.protocol, Store(study.store.directory, lambda what, _: computed.append(what)))
    assert again.scores("vectors", "low_light").value() == study.scores("vectors", "low_light").value()
    assert computed == []
    other = replace(study.protocol, settings=replace(study.protocol.settings, prompts=5))
    Study(study.model, other, again.store).scores("vectors", "low_light")
    assert computed


def test_sums_of_means(study: Study) -> None:
    group = study.protocol.groups[0]
    whole = study.means(group, {"inpainting": 1.0, "segmentation": 2.0, "identity": -1.0})
    each = study.statistics(group).means(["inpainting", "segmentation", "identity"])
    for stack, mean in whole.items():
        expected = each[stack][0] + 2 * each[stack][1] - each[stack][2]
        torch.testing.assert_close(mean[0], expected, equal_nan=True)


def test_statistics_are_collected_once(study: Study, tmp_path: Path) -> None:
    computed: list[str] = []
    fresh = Study(study.model, study.protocol, Store(tmp_path, lambda what, _: computed.append(what)))
    group = study.protocol.groups[0]
    first, again = fresh.statistics(group), fresh.statistics(group)
    assert first.tasks.keys() == again.tasks.keys() == {task.name for task in study.protocol.tasks}
    assert len(computed) == 2  # told before and after


def test_statistics_are_collected_anew_where_cells_came_without_their_files(study: Study, tmp_path: Path) -> None:
    group = study.protocol.groups[0]
    there = study.statistics_cell(group)
    counts, whole = there.value(study), study.statistics(group)
    carried = Study(study.model, study.protocol, Store(tmp_path))
    shutil.copy(study.store.path(there.key(study), ".json"), tmp_path)
    assert there.value(carried) == counts
    again = carried.statistics(group)
    assert again.means(["segmentation"]).keys() == whole.means(["segmentation"]).keys()
    for stack, mean in whole.means(["segmentation"]).items():
        torch.testing.assert_close(again.means(["segmentation"])[stack], mean, rtol=0, atol=0, equal_nan=True)


def test_strong_prompts_take_their_supports_from_what_is_judged_on(study: Study) -> None:
    group, task = study.protocol.groups[0], study.task("inpainting")
    prompts = study.prompts(task.name, group)
    for method in OPPONENTS:
        of_train, of_test = (evaluation.method_named(study.judged, method, data) for data in (group.train, group.test))
        assert isinstance(of_train, Answering)
        assert isinstance(of_test, Answering)
        own = evaluation.scores(study.model, _calibrated(study, of_train, task, group, of_test), prompts)
        assert np.array_equal(study.scores(method, task.name).groups[group.name].scores, own)


def test_the_prompts_that_choose_a_decoding_are_drawn_once(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For all methods at a task in a group."""
    drawn: list[str] = []

    def watched(model: PromptedModel, data: DataSet, task: Task, settings: FindSettings) -> Prompts:
        drawn.append(f"{task.name}, {settings.seed}")
        return validation_prompts(model, data, task, settings)

    asked = [
        (method, task) for method in ("one_shot", "query_only", "copy_input") for task in ("low_light", "segmentation")
    ]
    expected = [study.scores(*each).value() for each in asked]
    monkeypatch.setattr("taskvec.experiments.study.validation_prompts", watched)
    fresh = Study(study.model, study.protocol, Store(tmp_path))
    assert [fresh.scores(*each).value() for each in asked] == expected
    assert sorted(drawn) == ["low_light, 0", "low_light, 1", "segmentation, 0", "segmentation, 1"]
