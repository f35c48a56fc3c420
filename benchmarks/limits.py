"""What a model can and cannot do by prompting: one-shot on tasks it was trained on and, on scenes, on others.

    .venv/bin/python benchmarks/limits.py --model tiny --pairs 500
    .venv/bin/python benchmarks/limits.py --model small --pairs 500 --data pascal --root VOCdevkit

Prints a Markdown table. `wrong example` is one-shot with the example of another task: it shows whether the example is
used. `on canvas` is one-shot decoded as a whole canvas instead of the query output alone.
`tokenizer` is its reconstruction of the truth. Answers are of the likeliest codes.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from taskvec import evaluation, load_data, load_model
from taskvec.data import DataSet
from taskvec.models.interface import PromptedModel, Variant
from taskvec.prompts import Prompts, draw_prompts
from taskvec.tasks import LOW_LIGHT, SEGMENTATION, TASKS, Task
from taskvec.training.prompt_pool import UNSEEN_TASKS


def with_example_of(prompts: Prompts, other: Prompts) -> Prompts:
    """The same queries after an example of another task."""
    return replace(prompts, support_input=other.support_input, support_output=other.support_output)


def row(model: PromptedModel, data: DataSet, task: Task, pairs: int, seed: int) -> list[str]:
    """Mean scores of one task."""
    size = model.image_size
    prompts = draw_prompts(data, task, pairs, size, seed)
    other = draw_prompts(data, LOW_LIGHT if task.metric.of_masks else SEGMENTATION, pairs, size, seed)
    one_shot, query_only = evaluation.run(model, "one_shot"), evaluation.run(model, "query_only")
    columns = [
        (one_shot, prompts),
        (one_shot, with_example_of(prompts, other)),
        (query_only, prompts),
        (evaluation.run(model.variant(Variant(area="canvas")), "one_shot"), prompts),
        (evaluation.copy_input(model), prompts),
        (evaluation.reconstruction(model), prompts),
    ]
    means = [evaluation.scores(model, method, each).mean() for method, each in columns]
    return [f"{task.name.replace('_', ' ')}, {task.metric.label}", *(f"{mean:.3f}" for mean in means)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load_model(options.model)
    root = {} if options.root is None else {"root": options.root}
    data = load_data(options.data, "test", **root)
    tasks = [*TASKS.values(), *(UNSEEN_TASKS if options.data == "scenes" else [])]
    print(
        "| task | one-shot | wrong example | query-only | on canvas | copy | tokenizer |\n|---|---|---|---|---|---|---|"
    )
    for task in tasks:
        print("| " + " | ".join(row(model, data, task, options.pairs, options.seed)) + " |", flush=True)


if __name__ == "__main__":
    main()
