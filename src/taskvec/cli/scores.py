"""The command that scores one way of doing a task."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from taskvec import environment
from taskvec import evaluate as evaluation
from taskvec.cli import options
from taskvec.cli.terminal import COLUMNS, app, choose_task, console, load
from taskvec.data.pascal import FOLDS
from taskvec.hub import located
from taskvec.models import load_model
from taskvec.prompts import SAMPLINGS, Prompts, draw_prompts, pairs_of
from taskvec.report.evaluations import as_line, companions, write_evaluations
from taskvec.vectors import read_config

PAIRS = 1000
ALL = "all"


@app.command("evaluate")
def evaluate_command(
    method: Annotated[
        str,
        typer.Option(
            help="one_shot, query_only, copy_input, ceiling, vectors:DIRECTORY or, with the example, "
            "one_shot+vectors:DIRECTORY; {split} in it is the split; hub:OWNER/NAME in place of a directory downloads."
        ),
    ],
    task: options.Task = None,
    model: options.ModelOfVectors = None,
    data: options.Data = "scenes",
    root: options.Root = None,
    split: Annotated[
        str | None, typer.Option(help="A fold of scenes or Pascal-5i, 0 to 3, or all four; without, all classes.")
    ] = None,
    part: Annotated[str, typer.Option(help="test, train, or what else there is: validation of scenes, all.")] = "test",
    layout: options.Layout = None,
    skip_missing: options.SkipMissing = False,
    metric: options.Metric = None,
    sampling: Annotated[str, typer.Option(help=f"How pairs are drawn: {' or '.join(SAMPLINGS)}.")] = "balanced",
    pairs: Annotated[
        int | None, typer.Option(min=1, help=f"Prompts to score in each split; {PAIRS}, or as many as there are.")
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            callback=options.file,
            help="Write the result to NAME.json, every pair to NAME.pairs.jsonl, a picture to NAME.examples.png.",
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """Score one way of doing a task on data kept aside: mean, 95 % bootstrap interval, spreads, speed."""
    if json_file is not None:
        _check_companions(json_file)
    if "{split}" in method and split is None:
        raise ValueError(f"--method {method}: which split {{split}} stands for is not said, expected --split")
    folds = _folds(split)
    patched = evaluation.patched_by(method.replace("{split}", str(folds[0])))
    model = options.model_of([located(patched[1])] if patched else [], model)
    network = load_model(model, options.device_named(device))
    evaluations: dict[str, evaluation.Evaluation] = {}
    with Progress(*COLUMNS, console=console, transient=True) as progress:
        for fold in folds:
            method_of_split = method.replace("{split}", str(fold))
            run = evaluation.method_named(network, method_of_split)
            examples = load(data, part, root=root, fold=fold, layout=layout, skip_missing=skip_missing, metric=metric)
            chosen = choose_task(examples, task, metric)
            count = pairs or min(PAIRS, pairs_of(examples))
            size = network.config.image_size
            prompts = draw_prompts(examples, chosen, count, size, seed, sampling=sampling)  # pyright: ignore[reportArgumentType]
            _tell(method_of_split, prompts)
            bar = progress.add_task(f"{chosen.name} {method_of_split}", total=count)
            evaluations[ALL if fold is None else str(fold)] = evaluation.evaluate(
                network, run, prompts, lambda done, bar=bar: progress.advance(bar, done)
            )
    chosen = next(iter(evaluations.values())).prompts.task
    summaries = {name: evaluation.summarise([each]) for name, each in evaluations.items()}
    whole = evaluation.summarise(list(evaluations.values())) if len(evaluations) > 1 else next(iter(summaries.values()))
    if split is not None:
        for name, each in summaries.items():
            print(f"{chosen.name} {method}, split {name}: {as_line(each, chosen)}")
    if len(evaluations) > 1 or split is None:
        print(f"{chosen.name} {method}: {as_line(whole, chosen)}")
    if json_file is not None:
        facts = {
            "task": chosen.name,
            "method": method,
            "metric": chosen.metric,
            "detail_of": chosen.detail,
            "model": model,
            "seed": seed,
        }
        facts |= {"model_fingerprint": network.fingerprint(), "machine": environment.machine()}
        facts |= {"versions": environment.versions()}
        write_evaluations(json_file, evaluations, whole, summaries, facts, with_example=method.startswith("one_shot"))


def _check_companions(path: Path) -> None:
    """Refuse what the files beside NAME.json could not be written to."""
    if path.suffix != ".json":
        raise ValueError(f"--json {path}: expected a name that ends in .json, as two more files go beside it")
    for companion in companions(path):
        if companion.is_dir():
            raise ValueError(f"--json {path}: {companion}, which would be written beside it, is a directory")


def _folds(split: str | None) -> list[int] | list[None]:
    """The splits that were asked for; [None] stands for all classes together."""
    if split is None:
        return [None]
    if split == ALL:
        return list(range(FOLDS))
    if not split.isdecimal():
        raise ValueError(f"--split {split}: expected a number from 0 to {FOLDS - 1}, or all")
    return [int(split)]


def _tell(method: str, prompts: Prompts) -> None:
    """What a reader of the scores should know: what was left out, and what the task vectors have seen or are for."""
    if alone := prompts.origin["classes_of_one"]:
        console.print(f"classes left out, as they have a single example and no pair: {alone}")
    if patched := evaluation.patched_by(method):
        config = read_config(located(patched[1]))
        if count := evaluation.seen(config, prompts):
            console.print(f"{count} of {len(prompts)} queries are images that the task vectors were found on")
        if config.task != prompts.task.name:
            console.print(f"these task vectors are of {config.task}, judged by {prompts.task.name}")
