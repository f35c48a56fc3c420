from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from labelled import labelled
from taskvec import evaluation
from taskvec.data.examples import partition
from taskvec.data.folder import Folder
from taskvec.data.scenes import Scenes
from taskvec.finding import (
    PARTITION_SEED,
    SHARES,
    FindSettings,
    SearchInterrupted,
    find,
    find_all,
    find_sites,
    parts_of,
    pose_search,
    statistics_prompts,
)
from taskvec.models.interface import Decoding, Items
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.objectives import Objective
from taskvec.prompts import draw_prompts
from taskvec.provenance import Drawn
from taskvec.search import (
    AttributionSettings,
    Checkpoint,
    CmaSettings,
    GreedySettings,
    ReinforceSettings,
    RelaxedSettings,
    SearchSettings,
    attributed_effects,
)
from taskvec.sites import Granularity
from taskvec.statistics import collect
from taskvec.tasks import IDENTITY, LOW_LIGHT, SEGMENTATION, Task, image, mask
from taskvec.vectors import TaskVectors

QUICK = FindSettings(
    prompts=16,
    items=4,
    validation=8,
    objective="token",
    search=ReinforceSettings(steps=6, masks_per_item=4, checkpoint_every=3, baseline="per_item", learning_rate=0.3),
)


def test_a_name_is_no_model() -> None:
    name: Any = "tiny"
    for call in (
        lambda: find(name, Scenes("train"), "segmentation"),
        lambda: evaluation.evaluate(name, "one_shot", Scenes("test"), task=SEGMENTATION),
    ):
        with pytest.raises(
            ValueError, match=r"the model is 'tiny', a name: expected what taskvec.load_model\('tiny'\)"
        ):
            call()


def test_one_seed_seeds_everything(small_model: MaeVqgan) -> None:
    data = Scenes("train", count=600)
    first, again, other = (
        find(small_model, data, "low_light", settings, progress=False).search
        for settings in (
            replace(QUICK, seed=7),
            replace(QUICK, seed=7),
            replace(QUICK, seed=8),
        )
    )
    assert [found.settings["seed"] for found in (first, other)] == [7, 8]
    assert first == again
    assert first.search[0].images != other.search[0].images
    assert first.history != other.history


@pytest.mark.parametrize("shown", [True, False])
def test_progress_is_shown_unless_it_is_not_wanted(
    small_model: MaeVqgan, capsys: pytest.CaptureFixture, shown: bool
) -> None:
    find(small_model, Scenes("train"), "low_light", QUICK, progress=shown)
    printed = capsys.readouterr()
    assert not printed.out
    assert ("low_light" in printed.err, "6/6" in printed.err) == (shown, shown)


def test_ctrl_c_raises_with_the_best_so_far(small_model: MaeVqgan, tmp_path: Path) -> None:
    data, checkpoint = Scenes("train", count=600), Checkpoint(tmp_path / "state")

    def interrupt(at: int, record: dict[str, Any]) -> None:
        if record["step"] == at:
            raise KeyboardInterrupt

    with pytest.raises(SearchInterrupted, match=r"after step 4: the best task vectors so far are \.vectors") as stopped:
        find(small_model, data, LOW_LIGHT, QUICK, on_step=partial(interrupt, 4), checkpoint=checkpoint)
    assert isinstance(stopped.value, KeyboardInterrupt)
    (vectors,) = stopped.value.vectors
    assert vectors.search.interrupted
    assert vectors.search.step == 3
    assert find(small_model, data, LOW_LIGHT, QUICK, checkpoint=checkpoint).search.interrupted is False
    with pytest.raises(KeyboardInterrupt) as early:  # before the first checkpoint there is no best
        find(small_model, data, LOW_LIGHT, QUICK, on_step=partial(interrupt, 2))
    assert not isinstance(early.value, SearchInterrupted)


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
    vectors = find(small_model, data, SEGMENTATION, replace(QUICK, temperatures=(1.5,)))
    validation = draw_prompts(partition(data, SHARES, PARTITION_SEED)[2], SEGMENTATION, 8, 15, QUICK.seed)
    assert tuple(sorted(validation.query_images)) == vectors.search.validation[0].images
    scores = evaluation.scores(small_model, evaluation.run(vectors.answering, "query_only", vectors.patch), validation)
    assert vectors.search.loss == pytest.approx(-scores.mean())


def test_a_search_by_gradient_needs_one(small_model: MaeVqgan) -> None:
    """Pixels have one where what is believed is decoded."""
    message = "the relaxed search needs a gradient: the objective is pixel and the decoding likeliest, expected the"
    with pytest.raises(ValueError, match=message):
        FindSettings(objective="pixel", decoding="likeliest")
    search = RelaxedSettings(steps=4, items=2, checkpoint_every=2)
    settings = replace(QUICK, objective="pixel", search=search)
    for task in (SEGMENTATION, LOW_LIGHT):
        vectors = find(small_model, Scenes("train", count=600), task, settings)
        assert len(vectors.search.history) == 4
        assert vectors.config.decoding.kind == "expected"


def test_prompts_items_and_validation_are_disjoint_whatever_the_seeds(small_model: MaeVqgan) -> None:
    data = Scenes("train", count=600)
    statistics = collect(small_model, [statistics_prompts(small_model, data, SEGMENTATION, replace(QUICK, seed=7))])
    found = find(small_model, data, SEGMENTATION, QUICK, statistics).search
    assert isinstance(found.statistics, Drawn)
    prompts, searched, validation = (
        set(drawn.images) for drawn in (found.statistics, found.search[0], found.validation[0])
    )
    assert (len(searched), len(validation), found.statistics.prompts) == (4, 8, 16)
    assert not prompts & searched
    assert not prompts & validation
    assert not searched & validation


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
    with pytest.raises(ValueError, match="no statistics of segmentation"):
        find(small_model, Scenes("train"), SEGMENTATION, QUICK, collect(small_model, prompts))


def test_found_vectors_do_the_task_without_an_example(tiny: MaeVqgan) -> None:
    settings = replace(QUICK, prompts=64, items=8, validation=16, search=replace(QUICK.search, steps=12))
    vectors = find(tiny, Scenes("train"), "segmentation", settings)
    prompts = draw_prompts(Scenes("test"), SEGMENTATION, 32, tiny.config.image_size, seed=0)
    with_vectors = evaluation.scores(tiny, evaluation.run(tiny, "query_only", vectors.patch), prompts).mean()
    without = evaluation.scores(tiny, evaluation.run(tiny, "query_only"), prompts).mean()
    assert with_vectors > without + 0.2


def test_statistics_of_another_task_of_the_same_name_are_refused(small_model: MaeVqgan) -> None:
    """A user's folder may be called as a built-in task is."""
    own = Task("low_light", image, mask)
    statistics = collect(small_model, [statistics_prompts(small_model, Scenes("train"), LOW_LIGHT, QUICK)])
    with pytest.raises(ValueError, match="the statistics of low_light are of dark to image, the search is of image"):
        find(small_model, Scenes("train"), own, QUICK, statistics)


def test_small_data_is_used_once_and_smaller_refused(small_model: MaeVqgan) -> None:
    found = find(small_model, Scenes("train", fold=0, count=30), SEGMENTATION, replace(QUICK, validation=99)).search
    assert found.validation[0].prompts == len(found.validation[0].images) == 9
    with pytest.raises(ValueError, match="of the 1 that fall to the statistics no two are of one class, expected a"):
        find(small_model, Scenes("train", fold=0, count=3), SEGMENTATION, QUICK)
    with pytest.raises(ValueError, match=r"2 examples in 2 groups are too few: .* one group for each"):
        parts_of(Scenes("train", fold=0, count=2))


def test_sixty_examples_of_twenty_classes_are_enough(small_model: MaeVqgan) -> None:
    data = labelled([example // 3 for example in range(60)])
    found = find(small_model, data, SEGMENTATION, replace(QUICK, items=12, validation=18)).search
    assert [len(part[0].images) for part in (found.search, found.validation)] == [12, 18]
    assert isinstance(found.statistics, Drawn)
    assert found.statistics.classes_of_one == 10


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


def _folder(root: Path, change: Callable[[np.ndarray], np.ndarray], first: int, count: int) -> Folder:
    """A task of its own on drawn scenes."""
    for index, picture in enumerate(Scenes("test").load(np.arange(first, first + count), 32).images):
        for name, pixels in (("input", picture), ("output", change(picture))):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / name / f"{index:02}.png")
    return Folder(root)


def test_one_search_for_two_folders(small_model: MaeVqgan, tmp_path: Path) -> None:
    """Each task's prompts are of its own folder, of unequal sizes, and none is searched on what its means are of."""
    data = [
        _folder(tmp_path / "darker", lambda pixels: pixels // 2, 0, 20),
        _folder(tmp_path / "negative", lambda pixels: 255 - pixels, 100, 30),
    ]
    vectors = find_all(small_model, data, [None, None], replace(QUICK, validation=100))
    assert [each.task for each in vectors] == ["darker", "negative"]
    assert (vectors[0] + vectors[1]).sites == vectors[0].sites
    for number, (each, own) in enumerate(zip(vectors, data, strict=True)):
        of_folder, found = set(own.images_of(np.arange(len(own)))), each.search
        assert isinstance(found.statistics, Drawn)
        for drawn in (found.statistics, found.search[number], found.validation[number]):
            assert drawn.data["digest"] == own.describe()["digest"]
            assert of_folder.issuperset(drawn.images)
        assert set(found.statistics.images).isdisjoint({*found.search[number].images, *found.validation[number].images})
    assert [drawn.prompts for drawn in vectors[0].search.validation] == [5, 7]  # three tenths of what is not kept aside
    with pytest.raises(ValueError, match="there are 2 data sets for 3 tasks: expected one for all, or one for each"):
        find_all(small_model, data, [None, None, None], QUICK)
    with pytest.raises(ValueError, match="a task is named twice: darker, darker"):
        find_all(small_model, [data[0], data[0]], [None, None], QUICK)


def test_means_of_one_folder_on_images_that_another_is_searched_on_are_refused(
    small_model: MaeVqgan, tmp_path: Path
) -> None:
    """The same photographs under other names and so in other parts."""
    data = [_folder(tmp_path / "darker", lambda pixels: pixels // 2, 0, 20)]
    data.append(_folder(tmp_path / "negative", lambda pixels: 255 - pixels, 5, 20))
    with pytest.raises(ValueError, match=r"were collected on \d+ images that the search needs for itself"):
        find_all(small_model, data, [None, None], QUICK)


def test_who_judges_a_search_for_several_tasks(small_model: MaeVqgan) -> None:
    """The official code chooses for several tasks by segmentation; a search for one task is judged by that task."""
    data, settings = Scenes("train", count=600), replace(QUICK, validation=4, judged_by=("segmentation",))
    both = [SEGMENTATION, LOW_LIGHT]
    found = find_all(small_model, data, both, settings)[0].search
    alone = find_all(small_model, data, both, replace(settings, judged_by=()))[0].search
    assert found.loss != alone.loss
    assert find(small_model, data, LOW_LIGHT, settings).task == "low_light"
    both = [LOW_LIGHT, IDENTITY]  # without segmentation, both choose
    found, alone = (
        find_all(small_model, data, both, replace(settings, judged_by=by)) for by in (("segmentation",), ())
    )
    assert found[0].search.loss == alone[0].search.loss


def test_a_search_goes_on_only_as_the_same_search(small_model: MaeVqgan, tmp_path: Path) -> None:
    data, checkpoint = Scenes("train", count=600), Checkpoint(tmp_path / "state")
    drawn = [statistics_prompts(small_model, data, task, QUICK) for task in (SEGMENTATION, LOW_LIGHT)]
    statistics = collect(small_model, drawn)
    others = collect(small_model, [statistics_prompts(small_model, data, LOW_LIGHT, replace(QUICK, prompts=17))])

    def interrupt(record: dict[str, Any]) -> None:
        if record["step"] == 4:
            raise KeyboardInterrupt

    assert find_sites(small_model, data, [LOW_LIGHT], QUICK, statistics, interrupt, checkpoint).result.interrupted
    for tasks, settings, means, message in (
        ([SEGMENTATION], QUICK, statistics, "with tasks"),
        ([LOW_LIGHT], replace(QUICK, validation=9), statistics, "with validation 8: expected 9"),
        ([LOW_LIGHT], QUICK, others, "with means"),
    ):
        with pytest.raises(ValueError, match=message):
            find_sites(small_model, data, tasks, settings, means, checkpoint=checkpoint)
    whole = find_sites(small_model, data, [LOW_LIGHT], QUICK, statistics)
    again = find_sites(small_model, data, [LOW_LIGHT], QUICK, statistics, checkpoint=checkpoint)
    assert torch.equal(again.result.mask, whole.result.mask)
    assert again.record.history == whole.record.history


@pytest.mark.parametrize("search", [CmaSettings(), GreedySettings(layers=2, trials=4, sweeps=1)])
def test_other_searches(small_model: MaeVqgan, search: CmaSettings | GreedySettings) -> None:
    data = Scenes("train", count=600)
    settings = replace(QUICK, objective="pixel", search=search)
    tasks = [SEGMENTATION, LOW_LIGHT]
    for vectors in (find_all(small_model, data, tasks, settings), find_all(small_model, data, tasks, settings)):
        assert 0 < len(vectors[0].sites) < vectors[0].config.of
        assert [drawn.prompts for drawn in vectors[0].search.validation] == [4, 4]  # which choose the decoding alone
    (paper,) = find_all(small_model, data, [LOW_LIGHT], replace(settings, decoding="likeliest"))
    assert paper.search.validation == ()  # there is nothing to choose
    assert paper.config.decoding == Decoding()


def test_greedy_ranks_layers_by_all_that_the_data_serve(small_model: MaeVqgan) -> None:
    data, search = Scenes("train", count=600), GreedySettings(trials=4, sweeps=1)
    settings = replace(QUICK, objective="pixel", search=search)
    found = find(small_model, data, SEGMENTATION, settings).search
    # two of the four layers, 17 of 32 of them; a sweep has a record of each beside that of the random sets
    assert len(found.history) == 1 + 2
    alone = collect(small_model, [statistics_prompts(small_model, data, SEGMENTATION, settings)])
    with pytest.raises(ValueError, match="ranks layers by taskness, which takes the statistics of several tasks"):
        find(small_model, data, SEGMENTATION, settings, alone)


def test_the_pool_keeps_the_prompts_that_prompting_does_best(small_model: MaeVqgan) -> None:
    data = Scenes("train", count=600)
    settings = replace(QUICK, prompts=5, pool=20)
    kept = statistics_prompts(small_model, data, LOW_LIGHT, settings)
    pool = statistics_prompts(small_model, data, LOW_LIGHT, replace(QUICK, prompts=20))
    scores = evaluation.scores(small_model, evaluation.run(small_model, "one_shot"), pool)
    assert kept.query_names == [pool.query_names[index] for index in scores.argsort(kind="stable")[:5]]


def test_losses_that_are_not_finite_are_refused_by_name_or_left_out(
    small_model: MaeVqgan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one item in two, under the patches with the first site."""
    data = Scenes("train", count=600)
    computed = Objective._losses

    def spoilt(
        objective: Objective, masks: Tensor, items: Tensor, prepared: Items, levels: Sequence[float] = ()
    ) -> Tensor:
        losses = computed(objective, masks, items, prepared, levels)
        return losses.masked_fill(((items % 2 == 1) & masks[:, 0])[:, None], torch.nan)

    monkeypatch.setattr(Objective, "_losses", spoilt)
    message = r"of 16 losses of step 1 are not finite \(\d NaN, 0 infinite\), on low_light of train/0/576_disk, "
    with pytest.raises(ValueError, match=message):
        find(small_model, data, LOW_LIGHT, QUICK)
    settings = replace(QUICK, non_finite="leave_out")
    vectors = find(small_model, data, LOW_LIGHT, settings)
    found = vectors.search
    assert found.non_finite == sum(record.get("non_finite") or 0 for record in found.history) > 0
    assert small_model.sites().names[0] not in vectors.sites
    assert found.loss is not None
    assert np.isfinite(found.loss)
    both = find_all(small_model, data, [SEGMENTATION, LOW_LIGHT], replace(settings, validation=8))
    assert small_model.sites().names[0] not in both[0].sites
    with pytest.raises(ValueError, match="non_finite is 'ignore': expected one of refuse, leave_out"):
        FindSettings(non_finite="ignore")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "search",
    [
        RelaxedSettings(steps=4, items=3, checkpoint_every=2, start="attribution", halving=True, screening=True),
        ReinforceSettings(steps=4, masks_per_item=4, checkpoint_every=2, start="attribution"),
        AttributionSettings(),
    ],
    ids=lambda search: search.name,
)
@pytest.mark.parametrize("granularity", ["token", "quadrant", "head", "layer"])
def test_searches_by_attribution_at_every_granularity(
    small_model: MaeVqgan, search: SearchSettings, granularity: Granularity
) -> None:
    data = Scenes("train", count=600)
    settings = replace(QUICK, validation=4, granularity=granularity, search=search, at_most=2)
    every = [find(small_model, data, LOW_LIGHT, settings, progress=False)]
    if granularity == "quadrant":  # several tasks weigh gradients and losses, whatever the sites
        every += find_all(small_model, data, [SEGMENTATION, LOW_LIGHT], settings, progress=False)
    for found in every:
        assert 1 <= len(found.sites) <= 2
        assert found.search.settings["at_most"] == 2
        assert found.search.evaluations >= 3 * 4  # the gradient of every item


def test_the_first_gradient_is_the_directional_derivative_of_the_losses(small_model: MaeVqgan) -> None:
    """Along the line to the patch of all sites, which is what the effects add up to."""
    data, settings = Scenes("train", count=600), replace(QUICK, search=AttributionSettings())
    statistics = collect(small_model, [statistics_prompts(small_model, data, LOW_LIGHT, settings)])
    posed = pose_search(small_model, data, [LOW_LIGHT], settings, statistics)
    effects, _ = attributed_effects(posed.problem)
    step = 1e-2
    ahead, _ = posed.objective.differentiate(torch.full((posed.problem.sites,), step), posed.problem.every_item)
    here, _ = posed.objective.differentiate(torch.zeros(posed.problem.sites), posed.problem.every_item)
    assert float(effects.sum()) == pytest.approx(float((here - ahead).mean()) / step, rel=0.1)


def test_what_comes_after_a_search_is_recorded(small_model: MaeVqgan, tmp_path: Path) -> None:
    data, settings = Scenes("train", count=600), replace(QUICK, search=AttributionSettings())
    plain = find(small_model, data, LOW_LIGHT, settings, progress=False)
    assert (plain.search.curve, plain.search.harmful) == ((), ())
    found = find(small_model, data, LOW_LIGHT, replace(settings, curve=True, prune=True), progress=False)
    counts = [count for count, _ in found.search.curve]
    assert counts[:3] == [1, 2, 4]
    assert counts[-1] == found.config.of
    assert set(found.sites) <= set(plain.sites)
    assert set(plain.sites) - set(found.sites) <= set(found.search.harmful) <= set(plain.sites)
    assert found.search.loss is not None
    assert plain.search.loss is not None
    assert found.search.loss <= plain.search.loss + 1e-6
    found.save_pretrained(tmp_path / "vectors")
    assert TaskVectors.load(tmp_path / "vectors", small_model).search == found.search


def test_a_baseline_is_pruned_on_validation_items(small_model: MaeVqgan) -> None:
    data = Scenes("train", count=600)
    settings = replace(QUICK, objective="pixel", search=CmaSettings(), prune=True, curve=True)
    found = find(small_model, data, LOW_LIGHT, settings, progress=False).search
    assert found.validation[0].prompts == 8
    assert found.curve
    with pytest.raises(ValueError, match="at_most is 0: at least 1 site is chosen"):
        FindSettings(at_most=0)
