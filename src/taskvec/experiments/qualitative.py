"""Figures 3 to 5, 8 to 13 and 15 to 18: answers of the methods side by side."""

from collections.abc import Mapping, Sequence

import numpy as np

from taskvec.experiments.cells import Cell
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


# Figures 8 and 9 with more queries than 4 and 5, 10 to 12 of one task each, 13 of the ablations.
MORE = {
    "figure-8": ("segmentation", COMPARISONS["figure-4"][1]),
    "figure-9": ("segmentation", COMPARISONS["figure-5"][1]),
    "figure-10": ("segmentation", OF_ONE_TASK),
    "figure-11": ("low_light", OF_ONE_TASK),
    "figure-12": ("inpainting", OF_ONE_TASK),
    "figure-13": ("segmentation", ABLATIONS),
}
OF_GREEDY = {
    "figure-15": ("segmentation", GREEDY_BASELINES),
    "figure-16": ("low_light", GREEDY_BASELINES),
    "figure-17": ("inpainting", GREEDY_BASELINES),
    "figure-18": ("segmentation", GREEDY_ABLATIONS),
}
Figures = Mapping[str, tuple[str, Sequence[str]]]  # a task and methods, by the figure's name


def cells_3_to_5(study: Study) -> Sequence[Cell[Study]]:
    methods = dict.fromkeys(method for _, shown in COMPARISONS.values() for method in shown)
    return [cell for method in methods for task in tasks_in_order(study) for cell in study.answers_cells(method, task)]


def cells_8_to_13(study: Study) -> Sequence[Cell[Study]]:
    return _cells(study, MORE)


def cells_15_to_18(study: Study) -> Sequence[Cell[Study]]:
    return _cells(study, OF_GREEDY)


def _cells(study: Study, figures: Figures) -> Sequence[Cell[Study]]:
    shown = [(method, task) for task, methods in figures.values() if task in study.task_names for method in methods]
    return [cell for method, task in shown for cell in study.answers_cells(method, task)]


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
    return _pictures(study, MORE)


def figures_15_to_18(study: Study) -> list[Picture]:
    return _pictures(study, OF_GREEDY)


def _pictures(study: Study, figures: Figures) -> list[Picture]:
    pictures = []
    for name, (task, methods) in figures.items():
        if task in study.task_names:
            figure = answers_figure(_columns(study, task, methods, study.protocol.shown))
            pictures.append(Picture(name, f"Methods at {study.task(task).title.lower()}", NOTE, figure))
    return pictures


def _columns(study: Study, task: str, methods: Sequence[str], count: int) -> dict[str, np.ndarray]:
    prompts = study.prompts(task, study.protocol.groups[0])[:count]
    example = {"example input": prompts.support_input, "example output": prompts.support_output}
    answers = {METHOD_TITLES[method]: study.answers(method, task, count) for method in methods}
    shown = example if "one_shot" in methods else {}
    return {**shown, "query": prompts.query_input, **answers, "truth": prompts.query_output}
