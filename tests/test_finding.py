from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taskvec import evaluate
from taskvec.data.examples import partition
from taskvec.data.scenes import Scenes
from taskvec.finding import PARTITION_SEED, SHARES, FindSettings, find, find_all, find_sites, statistics_prompts
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import draw_prompts
from taskvec.provenance import Drawn
from taskvec.search import CmaSettings, GreedySettings, Memory, ReinforceSettings, RelaxedSettings
from taskvec.statistics import collect
from taskvec.tasks import IDENTITY, LOW_LIGHT, SEGMENTATION, Task, image, mask

QUICK = FindSettings(
    prompts=16,
    items=4,
    held_out=8,
    objective="token",
    search=ReinforceSettings(steps=6, masks_per_item=4, checkpoint_every=3, baseline="per_item", learning_rate=0.3),
)


def test_the_defaults_are_the_papers() -> None:
    settings = FindSettings()
    assert (settings.prompts, settings.items, settings.objective, settings.granularity) == (
        100,
        10,
        "pixel",
        "quadrant",
    )
    search = settings.search
    assert isinstance(search, ReinforceSettings)
    assert (search.steps, search.masks_per_item, search.learning_rate, search.initial_logit) == (600, 32, 0.1, -1)
    assert (search.checkpoint_every, search.baseline) == (50, "batch")


def test_the_same_settings_find_the_same_vectors(small_model: MaeVqgan) -> None:
    first, again = (find(small_model, Scenes("train"), "low_light", QUICK) for _ in range(2))
    assert first.config == again.config
    assert len(first.sites) > 0
    assert len(first.search.history) == 6


def test_a_search_by_gradient(small_model: MaeVqgan) -> None:
    settings = replace(QUICK, search=RelaxedSettings(steps=6, items=3, checkpoint_every=3))
    found = find(small_model, Scenes("train"), "low_light", settings).search
    assert found.method == "relaxed"
    assert len(found.history) == 6
    assert found.evaluations == 6 * 3 * 3


def test_the_tasks_own_metric_chooses_whatever_the_objective(small_model: MaeVqgan) -> None:
    data = Scenes("train", count=600)
    vectors = find(small_model, data, SEGMENTATION, QUICK)
    held_out = draw_prompts(partition(data, SHARES, PARTITION_SEED)[2], SEGMENTATION, 8, 15, QUICK.seed)
    assert tuple(sorted(held_out.query_images)) == vectors.search.held_out[0].images
    scores = evaluate.scores(small_model, evaluate.run(small_model, "query_only", vectors.patch), held_out)
    assert vectors.search.loss == pytest.approx(-scores.mean())


def test_a_search_by_gradient_needs_one() -> None:
    with pytest.raises(ValueError, match="the relaxed search needs a gradient: the objective is pixel, expected token"):
        FindSettings(search=RelaxedSettings())


def test_prompts_items_and_held_out_are_disjoint_whatever_the_seeds(small_model: MaeVqgan) -> None:
    data = Scenes("train", count=600)
    statistics = collect(small_model, [statistics_prompts(small_model, data, SEGMENTATION, replace(QUICK, seed=7))])
    found = find(small_model, data, SEGMENTATION, QUICK, statistics).search
    assert isinstance(found.statistics, Drawn)
    prompts, searched, held_out = (
        set(drawn.images) for drawn in (found.statistics, found.search[0], found.held_out[0])
    )
    assert (len(searched), len(held_out), found.statistics.prompts) == (4, 8, 16)
    assert not prompts & searched
    assert not prompts & held_out
    assert not searched & held_out


def test_statistics_of_other_data_are_refused(small_model: MaeVqgan) -> None:
    prompts = [statistics_prompts(small_model, Scenes("train", fold=1), LOW_LIGHT, QUICK)]
    with pytest.raises(ValueError, match="the statistics are of data with fold 1, the search is on fold None"):
        find(small_model, Scenes("train"), LOW_LIGHT, QUICK, collect(small_model, prompts))


def test_statistics_on_the_searchs_own_examples_are_refused(small_model: MaeVqgan) -> None:
    data = Scenes("train", count=60)
    everything = collect(small_model, [draw_prompts(data, LOW_LIGHT, 40, 15, seed=0)])
    with pytest.raises(ValueError, match=r"collected on \d+ images that the search needs for itself, such as train/0/"):
        find(small_model, data, LOW_LIGHT, QUICK, everything)


def test_steps_are_reported(small_model: MaeVqgan) -> None:
    seen: list[dict[str, Any]] = []
    find(small_model, Scenes("train"), LOW_LIGHT, QUICK, on_step=seen.append)
    assert [record["step"] for record in seen] == list(range(1, 7))


def test_statistics_of_another_model_are_refused(small_model: MaeVqgan) -> None:
    prompts = [statistics_prompts(small_model, Scenes("train"), LOW_LIGHT, QUICK)]
    statistics = replace(collect(small_model, prompts), model_fingerprint="0" * 16)
    with pytest.raises(ValueError, match="the statistics are of another model with fingerprint 0000000000000000, not"):
        find(small_model, Scenes("train"), LOW_LIGHT, QUICK, statistics)
    with pytest.raises(KeyError, match="no statistics of segmentation"):
        find(small_model, Scenes("train"), SEGMENTATION, QUICK, collect(small_model, prompts))


def test_found_vectors_do_the_task_without_an_example(tiny: MaeVqgan) -> None:
    settings = replace(QUICK, prompts=64, items=8, held_out=16, search=replace(QUICK.search, steps=12))
    vectors = find(tiny, Scenes("train"), "segmentation", settings)
    prompts = draw_prompts(Scenes("test"), SEGMENTATION, 32, tiny.config.image_size, seed=0)
    with_vectors = evaluate.scores(tiny, evaluate.run(tiny, "query_only", vectors.patch), prompts).mean()
    without = evaluate.scores(tiny, evaluate.run(tiny, "query_only"), prompts).mean()
    assert with_vectors > without + 0.2


def test_statistics_of_another_task_of_the_same_name_are_refused(small_model: MaeVqgan) -> None:
    """A user's folder may be called as a built-in task is."""
    own = Task("low_light", image, mask)
    statistics = collect(small_model, [statistics_prompts(small_model, Scenes("train"), LOW_LIGHT, QUICK)])
    with pytest.raises(ValueError, match="the statistics of low_light are of dark to image, the search is of image"):
        find(small_model, Scenes("train"), own, QUICK, statistics)


def test_small_data_is_used_once_and_smaller_refused(small_model: MaeVqgan) -> None:
    found = find(small_model, Scenes("train", fold=0, count=30), SEGMENTATION, replace(QUICK, held_out=99)).search
    assert found.held_out[0].prompts == len(found.held_out[0].images) == 9
    with pytest.raises(ValueError, match="3 examples are too few: 0 fall to the statistics, 3 to the search and 0 to"):
        find(small_model, Scenes("train", fold=0, count=3), SEGMENTATION, QUICK)


def test_one_search_for_the_sites_of_several_tasks(small_model: MaeVqgan) -> None:
    data = Scenes("train", count=600)
    first, second = find_all(small_model, data, [SEGMENTATION, LOW_LIGHT], QUICK)
    assert first.sites == second.sites
    assert (first.task, first.config.metric, second.task, second.config.metric) == (
        "segmentation",
        "iou",
        "low_light",
        "mse",
    )
    assert [drawn.prompts for drawn in first.search.search] == [2, 2]
    assert (first + second).sites == first.sites


def test_who_judges_a_search_for_several_tasks(tiny: MaeVqgan) -> None:
    """The official code chooses for several tasks by segmentation; a search for one task is judged by that task."""
    data, settings = Scenes("train", count=600), replace(QUICK, held_out=4, judged_by=("segmentation",))
    both = [SEGMENTATION, LOW_LIGHT]
    found = find_all(tiny, data, both, settings)[0].search
    alone = find_all(tiny, data, both, replace(settings, judged_by=()))[0].search
    assert found.loss != alone.loss
    assert find(tiny, data, LOW_LIGHT, settings).task == "low_light"
    both = [LOW_LIGHT, IDENTITY]  # without segmentation, both choose
    found, alone = (find_all(tiny, data, both, replace(settings, judged_by=by)) for by in (("segmentation",), ()))
    assert found[0].search.loss == alone[0].search.loss


def test_a_search_goes_on_only_as_the_same_search(small_model: MaeVqgan, tmp_path: Path) -> None:
    data, memory = Scenes("train", count=600), Memory(tmp_path / "state")
    drawn = [statistics_prompts(small_model, data, task, QUICK) for task in (SEGMENTATION, LOW_LIGHT)]
    statistics = collect(small_model, drawn)
    others = collect(small_model, [statistics_prompts(small_model, data, LOW_LIGHT, replace(QUICK, prompts=17))])

    def interrupt(record: dict[str, Any]) -> None:
        if record["step"] == 4:
            raise KeyboardInterrupt

    assert find_sites(small_model, data, [LOW_LIGHT], QUICK, statistics, interrupt, memory).found.interrupted
    for tasks, settings, means, message in (
        ([SEGMENTATION], QUICK, statistics, "with tasks"),
        ([LOW_LIGHT], replace(QUICK, held_out=9), statistics, "with held_out 8: expected 9"),
        ([LOW_LIGHT], QUICK, others, "with means"),
    ):
        with pytest.raises(ValueError, match=message):
            find_sites(small_model, data, tasks, settings, means, memory=memory)
    whole = find_sites(small_model, data, [LOW_LIGHT], QUICK, statistics)
    again = find_sites(small_model, data, [LOW_LIGHT], QUICK, statistics, memory=memory)
    assert torch.equal(again.found.mask, whole.found.mask)
    assert again.record.history == whole.record.history


@pytest.mark.parametrize("search", [CmaSettings(), GreedySettings(layers=2, trials=4, sweeps=1)])
def test_other_searches(small_model: MaeVqgan, search: CmaSettings | GreedySettings) -> None:
    data = Scenes("train", count=600)
    settings = replace(QUICK, objective="pixel", search=search)
    tasks = [SEGMENTATION, LOW_LIGHT]
    for vectors in (find_all(small_model, data, tasks, settings), find_all(small_model, data, tasks, settings)):
        assert 0 < len(vectors[0].sites) < vectors[0].config.of
        assert vectors[0].search.held_out == ()  # they have nothing to choose
    if isinstance(search, GreedySettings):
        with pytest.raises(ValueError, match="ranks layers by taskness, which takes the statistics of several tasks"):
            find(small_model, data, SEGMENTATION, settings)


def test_the_pool_keeps_the_prompts_that_prompting_does_best(small_model: MaeVqgan) -> None:
    data = Scenes("train", count=600)
    settings = replace(QUICK, prompts=5, pool=20)
    kept = statistics_prompts(small_model, data, LOW_LIGHT, settings)
    pool = statistics_prompts(small_model, data, LOW_LIGHT, replace(QUICK, prompts=20))
    scores = evaluate.scores(small_model, evaluate.run(small_model, "one_shot"), pool)
    assert kept.query_names == [pool.query_names[index] for index in scores.argsort(kind="stable")[:5]]
