"""The demonstration: all five tasks on scenes never trained on, from statistics to a report."""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from taskvec import environment, evaluate
from taskvec.data.examples import DataSet
from taskvec.evaluate import Interval, Method, interval
from taskvec.finding import FindSettings, find, statistics_prompts
from taskvec.heads import Patch
from taskvec.metrics import score
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts, draw_prompts
from taskvec.report.outcomes import Outcome, TaskOutcome
from taskvec.search.reinforce import ReinforceSettings
from taskvec.statistics import Statistics, collect
from taskvec.tasks import TASKS
from taskvec.vectors import TaskVectors

# The paper's search, made quick: losses are read from the codes without decoding, masks are compared on the same item
# only, more items are seen with fewer masks each, and steps are fewer and larger. The final set is the best of many
# samples on held-out items, which matters more than further steps.
SETTINGS = FindSettings(
    prompts=200,
    items=40,
    held_out=100,
    objective="token",
    search=ReinforceSettings(
        steps=60, masks_per_item=8, learning_rate=0.3, baseline="per_item", checkpoint_every=30, candidates=31
    ),
)
QUERIES = 200
RANDOM_DRAWS = 5
EXAMPLES_SHOWN = 6

Progress = Callable[[str, dict[str, Any]], None]


def demo(
    model: MaeVqgan,
    train: DataSet,
    test: DataSet,
    settings: FindSettings = SETTINGS,
    queries: int = QUERIES,
    on_step: Progress = lambda task, record: None,
) -> tuple[Outcome, list[TaskVectors]]:
    """Find the task vectors of the five tasks on ``train`` and judge them on ``test``, which must share nothing.

    ``on_step(task, record)`` sees every step of every search.
    """
    started = time.monotonic()
    tasks = list(TASKS.values())
    settings = replace(settings, bfloat16=settings.bfloat16 or environment.bfloat16_is_fast(model.device))
    statistics = collect(model, [statistics_prompts(model, train, task, settings) for task in tasks])
    shared = (time.monotonic() - started) / len(tasks)
    outcomes, vectors = [], []
    for task in tasks:
        begun = time.monotonic()
        found = find(model, train, task, settings, statistics, lambda record, task=task: on_step(task.name, record))
        if found.config.found["interrupted"]:
            raise KeyboardInterrupt
        seconds = shared + time.monotonic() - begun
        prompts = draw_prompts(test, task, queries, model.config.image_size, settings.seed)
        outcomes.append(_judge(model, found, prompts, statistics, settings, seconds))
        vectors.append(found)
    config = model.config
    outcome = Outcome(
        tasks=outcomes,
        queries=queries,
        layers={"encoder": config.encoder.layers, "decoder": config.decoder.layers},
        heads={"encoder": config.encoder.heads, "decoder": config.decoder.heads},
        model={"fingerprint": model.fingerprint(), "parameters": sum(p.numel() for p in model.parameters())},
        settings=asdict(settings),
        seconds=time.monotonic() - started,
        machine=environment.machine(),
        versions=environment.versions(),
    )
    return outcome, vectors


def _judge(
    model: MaeVqgan,
    vectors: TaskVectors,
    prompts: Prompts,
    statistics: Statistics,
    settings: FindSettings,
    seconds: float,
) -> TaskOutcome:
    methods: dict[str, Method] = {
        "one_shot": evaluate.run(model, "one_shot"),
        "query_only": evaluate.run(model, "query_only"),
        "task_vectors": evaluate.run(model, "query_only", vectors.patch),
        "copy_input": evaluate.copy_input(model),
        "ceiling": evaluate.ceiling(model),
    }
    task = prompts.task
    targets = torch.from_numpy(prompts.query_output)
    answers = {name: evaluate.answers(model, method, prompts) for name, method in methods.items()}
    scores = {name: interval(score(task.metric, images, targets).numpy()) for name, images in answers.items()}
    scores["random"] = _random_sites(model, len(vectors.sites), prompts, statistics, settings)
    shown = slice(EXAMPLES_SHOWN)
    return TaskOutcome(
        task=task.name,
        metric=task.metric,
        scores=scores,
        sites=vectors.sites,
        of=vectors.config.of,
        examples={
            "support_input": prompts.support_input[shown],
            "support_output": prompts.support_output[shown],
            "query_input": prompts.query_input[shown],
            "truth": prompts.query_output[shown],
            **{name: answers[name][shown].numpy() for name in ("one_shot", "query_only", "task_vectors")},
        },
        history=vectors.config.found["history"],
        seconds=seconds,
    )


def _random_sites(
    model: MaeVqgan, count: int, prompts: Prompts, statistics: Statistics, settings: FindSettings
) -> Interval:
    """As many sites at random as were found. A query's score is its mean over draws: the interval is over queries."""
    sites = model.sites(settings.granularity, settings.stacks)
    means = statistics.means([prompts.task.name])
    random = np.random.default_rng(settings.seed)
    draws = []
    for _ in range(RANDOM_DRAWS):
        mask = sites.mask(random.choice(len(sites), count, replace=False).tolist())
        method = evaluate.run(model, "query_only", Patch(sites, mask[None], means))
        draws.append(evaluate.scores(model, method, prompts))
    return interval(np.mean(draws, 0))
