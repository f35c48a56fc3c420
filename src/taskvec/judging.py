"""From examples to task vectors that are judged: statistics, search, and scores on examples kept aside."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float

from taskvec import environment, evaluation
from taskvec.data.examples import DataSet
from taskvec.evaluation import Method
from taskvec.finding import FindSettings, SearchInterrupted, collect_for, find
from taskvec.heads import Patch
from taskvec.models.interface import PromptedModel
from taskvec.presets import PRESETS
from taskvec.prompts import Prompts, draw_prompts, pairs_of
from taskvec.report.outcomes import Outcome, SearchedStack, TaskOutcome
from taskvec.statistics import Statistics
from taskvec.tasks import Task
from taskvec.vectors import TaskVectors

QUERIES = 200
RANDOM_DRAWS = 5
EXAMPLES_SHOWN = 6

Progress = Callable[[str, dict[str, Any]], None]


def find_and_judge(
    model: PromptedModel,
    train: DataSet,
    test: DataSet,
    tasks: Sequence[Task],
    settings: FindSettings = PRESETS["best"],
    queries: int = QUERIES,
    on_step: Progress = lambda task, record: None,
    on_found: Callable[[TaskVectors], None] = lambda vectors: None,
) -> tuple[Outcome, list[TaskVectors]]:
    """Find the task vectors of tasks on ``train`` and judge them on ``test``, which must share nothing.

    ``test`` gives ``queries`` prompts of each task, or as many as there are pairs. ``on_step(task, record)`` sees every
    step of every search. Ctrl-C raises KeyboardInterrupt, but the best sites of a search reach ``on_found`` first, as
    does every search's result.
    """
    started = time.monotonic()
    settings = settings.of(model)
    # first of all: a file that cannot be read shall not cost a search
    size, count = model.image_size, min(queries, pairs_of(test))
    judged = [draw_prompts(test, task, count, size, settings.seed) for task in tasks]
    statistics = collect_for(model, train, tasks, settings)
    shared = (time.monotonic() - started) / len(tasks)
    outcomes, vectors = [], []
    for task, prompts in zip(tasks, judged, strict=True):
        begun = time.monotonic()

        def each_step(record: dict[str, Any], task: Task = task) -> None:
            on_step(task.name, record)

        try:
            found = find(model, train, task, settings, statistics, each_step, progress=False)
        except SearchInterrupted as stop:
            on_found(stop.vectors[0])
            raise
        on_found(found)
        seconds = shared + time.monotonic() - begun
        outcomes.append(_judge(model, found, prompts, statistics, settings, seconds))
        vectors.append(found)
    outcome = Outcome(
        tasks=outcomes,
        pairs=count,
        queries=len(set(judged[0].query_images)),
        stacks={name: _searched(model, name) for name in settings.stacks or ()},
        model={"fingerprint": model.fingerprint(), "parameters": model.number_of_parameters},
        data={"found on": train.describe(), "judged on": test.describe()},
        settings={"method": settings.search.name, **asdict(settings)},
        seconds=time.monotonic() - started,
        machine=environment.machine(),
        versions=environment.versions(),
    )
    return outcome, vectors


def _searched(model: PromptedModel, stack: str) -> SearchedStack:
    layout = model.stacks[stack]
    regions = Counter(layout.places[place].region or "all" for place in model.present("query_only")[stack].tolist())
    return SearchedStack(layout.layers, layout.heads, dict(regions))


def _judge(
    model: PromptedModel,
    vectors: TaskVectors,
    prompts: Prompts,
    statistics: Statistics,
    settings: FindSettings,
    seconds: float,
) -> TaskOutcome:
    methods: dict[str, Method] = {
        "one_shot": evaluation.run(model, "one_shot"),
        "query_only": evaluation.run(model, "query_only"),
        "task_vectors": evaluation.run(model, "query_only", vectors.patch),
        "copy_input": evaluation.copy_input(model),
    }
    if model.has_ceiling:
        methods["ceiling"] = evaluation.ceiling(model)
    task = prompts.task
    evaluated = {name: evaluation.evaluate(model, method, prompts) for name, method in methods.items()}
    scores = {name: each.scores for name, each in evaluated.items()}
    scores["random"] = _random_sites(model, len(vectors.sites), prompts, statistics, settings)
    shown = slice(EXAMPLES_SHOWN)
    return TaskOutcome(
        task=task.name,
        metric=task.metric,
        scores=scores,
        groups=prompts.query_groups,
        supports=prompts.support_names,
        queries=prompts.query_names,
        sites=vectors.sites,
        of=vectors.config.of,
        examples={
            "support_input": prompts.support_input[shown],
            "support_output": prompts.support_output[shown],
            "query_input": prompts.query_input[shown],
            "truth": prompts.query_output[shown],
            **{name: evaluated[name].answers[shown] for name in ("one_shot", "query_only", "task_vectors")},
        },
        history=list(vectors.search.history),
        seconds=seconds,
        curve=vectors.search.curve,
        harmful=vectors.search.harmful,
    )


def _random_sites(
    model: PromptedModel, count: int, prompts: Prompts, statistics: Statistics, settings: FindSettings
) -> Float[np.ndarray, " pairs"]:
    """Scores of as many sites at random as were found, the mean over draws."""
    sites = model.sites(settings.granularity, settings.stacks)
    means = statistics.means([prompts.task.name])
    random = np.random.default_rng(settings.seed)
    draws = []
    for _ in range(RANDOM_DRAWS):
        mask = sites.mask(random.choice(len(sites), count, replace=False).tolist())
        method = evaluation.run(model, "query_only", Patch(sites, mask[None], means))
        draws.append(evaluation.scores(model, method, prompts))
    return np.mean(draws, 0)
