"""Figures 3 to 5, 8 to 13 and 15 to 18: answers of the methods side by side."""

from collections.abc import Sequence

import numpy as np

from taskvec.experiments.evidence import METHOD_TITLES
from taskvec.experiments.layout import tasks_in_order
from taskvec.experiments.study import Study
from taskvec.report.panels import answers_figure
from taskvec.results import Picture

# The paper's figures differ in which methods they show and of which tasks.
COMPARISONS = {
    "figure-3": ("Task vectors and prompting", ("one_shot", "vectors", "vectors_multi")),
    "figure-4": ("Task-specific methods", ("one_shot", "cma", "greedy", "vectors")),
    "figure-5": (
        "Task-specific and multi-task methods",
        ("cma", "cma_multi", "greedy_multi", "vectors", "vectors_multi"),
    ),
}
OF_ONE_TASK = ("one_shot", "greedy", "greedy_multi", "vectors", "vectors_multi")  # Figures 10 to 12
ABLATIONS = ("one_shot", "vectors_encoder", "vectors_decoder", "vectors_token", "vectors", "vectors_head")  # Figure 13
GREEDY_BASELINES = ("one_shot", "random", "top", "greedy_random_layers", "greedy")  # Figures 15 to 17
GREEDY_ABLATIONS = ("greedy_encoder", "greedy_decoder", "greedy_layer", "greedy_head", "greedy")  # Figure 18
NOTE = "The first queries of the first group, not chosen by their results. On the right is the truth."


def figures_3_to_5(study: Study) -> list[Picture]:
    """Two queries of every task."""
    pictures = []
    for name, (title, methods) in COMPARISONS.items():
        tasks = tasks_in_order(study)
        rows = [_columns(study, task, methods, 2) for task in tasks]
        columns = {column: np.concatenate([row[column] for row in rows]) for column in rows[0]}
        titles = [study.task(task).title for task in tasks for _ in range(2)]
        pictures.append(Picture(name, title, NOTE, answers_figure(columns, titles)))
    return pictures


def figures_8_to_13(study: Study) -> list[Picture]:
    """Figures 8 and 9 with more queries than 4 and 5, 10 to 12 of one task each, 13 of the ablations."""
    pictures = [
        *_of_task(study, "figure-8", "segmentation", COMPARISONS["figure-4"][1]),
        *_of_task(study, "figure-9", "segmentation", COMPARISONS["figure-5"][1]),
    ]
    for name, task in (("figure-10", "segmentation"), ("figure-11", "low_light"), ("figure-12", "inpainting")):
        pictures += _of_task(study, name, task, OF_ONE_TASK)
    return [*pictures, *_of_task(study, "figure-13", "segmentation", ABLATIONS)]


def figures_15_to_18(study: Study) -> list[Picture]:
    pictures: list[Picture] = []
    for name, task in (("figure-15", "segmentation"), ("figure-16", "low_light"), ("figure-17", "inpainting")):
        pictures += _of_task(study, name, task, GREEDY_BASELINES)
    return [*pictures, *_of_task(study, "figure-18", "segmentation", GREEDY_ABLATIONS)]


def _of_task(study: Study, name: str, task: str, methods: Sequence[str]) -> list[Picture]:
    if task not in study.task_names:
        return []
    figure = answers_figure(_columns(study, task, methods, study.protocol.shown))
    return [Picture(name, f"Methods at {study.task(task).title.lower()}", NOTE, figure)]


def _columns(study: Study, task: str, methods: Sequence[str], count: int) -> dict[str, np.ndarray]:
    prompts = study.prompts(study.task(task), study.protocol.groups[0])[:count]
    example = {"example input": prompts.support_input, "example output": prompts.support_output}
    answers = {METHOD_TITLES[method]: study.answers(method, task, count) for method in methods}
    shown = example if "one_shot" in methods else {}
    return {**shown, "query": prompts.query_input, **answers, "truth": prompts.query_output}
