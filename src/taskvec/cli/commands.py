"""The commands, and the one place where an error becomes a sentence."""

import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from taskvec import apply as application
from taskvec import environment
from taskvec import evaluate as evaluation
from taskvec.cli import options
from taskvec.data import DataSet, load_data
from taskvec.data.examples import task_for
from taskvec.data.pascal import FOLDS
from taskvec.describe import describe_model, describe_vectors, holds_vectors
from taskvec.evaluate import VECTORS
from taskvec.files import replacing
from taskvec.finding import QUICK, FindSettings, find, statistics_prompts
from taskvec.judging import QUERIES, find_and_judge
from taskvec.models import load_model
from taskvec.models.checkpoints import convert
from taskvec.objectives import OBJECTIVES
from taskvec.prompts import SAMPLINGS, Prompts, draw_prompts, pairs_of
from taskvec.report.evaluations import as_line, companions, write_evaluations
from taskvec.report.figures import example_grid, overview
from taskvec.report.outcomes import Outcome
from taskvec.report.page import write_report
from taskvec.report.table import TABLE_WIDTH, results_json, results_table
from taskvec.search.reinforce import BASELINES, ReinforceSettings
from taskvec.sites import GRANULARITIES
from taskvec.statistics import Statistics, collect
from taskvec.tasks import TASKS, Task
from taskvec.training.recipe import read_recipe, train
from taskvec.vectors import CONFIG as VECTORS_CONFIG
from taskvec.vectors import TaskVectors, read_config

app = typer.Typer(
    name="taskvec",
    help="Find and use visual task vectors.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True, markup=False, highlight=False)  # names of files are no markup

INTERRUPTED = 130
PAIRS = 1000
ALL = "all"
SEARCH_LOG = "search.jsonl"
COLUMNS = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
SEARCH_COLUMNS = (*COLUMNS, TextColumn("{task.fields[status]}"))


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Find and use visual task vectors."""
    if version:
        print(environment.versions()["taskvec"])
        raise typer.Exit


def _load(name: str, part: str, **given: object) -> DataSet:
    """The data set with the options that were given; says what was left out of it."""
    chosen = {key: value for key, value in given.items() if value is not None and value is not False}  # fold 0 is given
    data = load_data(name, part, **chosen)
    if missing := data.describe().get("missing"):
        console.print(f"{missing} examples of {part} are left out, as their files are missing")
    return data


def _choose_task(data: DataSet, name: str | None, metric: str | None) -> Task:
    """The task of this name or the data's own; says how the metric of an own task came about."""
    task = task_for(data, name)
    if task.name in TASKS and TASKS[task.name] is task:
        if metric is not None:
            raise ValueError(f"--metric {metric}: only a folder's own task is scored by choice, not {task.name}")
    elif metric is None:
        console.print(f"metric {task.metric}, told from the outputs of {task.name}")
    return task


def _write_json(path: Path | None, result: object) -> None:
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")


def _search_log(progress: Progress, bar: TaskID, log: Path) -> Callable[[dict[str, Any]], None]:
    """Shows a search's records as a bar with loss, number of sites and time left, and writes them to LOG.partial.

    The name is for a search that is not over: an earlier log stays until ``_keep`` replaces it.
    """

    def on_step(record: dict[str, Any]) -> None:
        status = f"loss {record['loss']:.3f}  {record['sites']:.0f} sites"
        progress.update(bar, completed=record["step"], status=status)
        log.parent.mkdir(parents=True, exist_ok=True)
        with _partial(log).open("w" if record["step"] == 1 else "a") as lines:
            lines.write(json.dumps(record) + "\n")

    return on_step


def _partial(log: Path) -> Path:
    return log.with_name(f"{log.name}.partial")


def _keep(vectors: TaskVectors, directory: Path) -> None:
    """Save task vectors and, beside them, the log of their search."""
    vectors.save_pretrained(directory)
    _partial(directory / SEARCH_LOG).replace(directory / SEARCH_LOG)


@app.command("train")
def train_command(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/tiny.toml.")],
    out: Annotated[
        Path,
        typer.Option(
            callback=options.directory, help="Logs, checkpoints, in the end model/. A run found here goes on."
        ),
    ],
    json_file: options.Json = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Overrides the recipe's seed.")] = None,
    device: options.Device = "cpu",
) -> None:
    """Train a model from a recipe; Ctrl-C keeps a checkpoint, and the same command goes on from it."""
    chosen = read_recipe(recipe)
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    directory = train(chosen, out, console, options.device_named(device))
    _write_json(json_file, {"model": str(directory), "recipe": asdict(chosen), "versions": environment.versions()})
    console.print(f"the model is in {directory}")


@app.command("collect")
def collect_command(
    out: Annotated[Path, typer.Option(callback=options.file, help="The file of statistics to write (safetensors).")],
    model: options.Model = "tiny",
    data: options.Data = "scenes",
    root: options.Root = None,
    split: options.Split = None,
    layout: options.Layout = None,
    skip_missing: options.SkipMissing = False,
    metric: options.Metric = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Repeat for several; a folder's own or all five if not given.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts behind each mean.")] = 100,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """Mean and variance of every head output over one-shot prompts of each task."""
    options.refuse_to_overwrite(out, overwrite)
    network = load_model(model, options.device_named(device))
    examples = _load(data, "train", root=root, fold=split, layout=layout, skip_missing=skip_missing, metric=metric)
    if task:
        tasks = [_choose_task(examples, name, metric) for name in task]
    else:
        tasks = list(TASKS.values()) if examples.own_task is None else [_choose_task(examples, None, metric)]
    settings = FindSettings(prompts=prompts, seed=seed)
    with Progress(*COLUMNS, console=console) as progress:
        bars = {each.name: progress.add_task(each.name, total=prompts) for each in tasks}
        batches = (statistics_prompts(network, examples, each, settings) for each in tasks)
        result = collect(network, batches, lambda name, done: progress.update(bars[name], completed=done))
    result.save(out)
    summary = {
        "file": str(out),
        "model_fingerprint": result.model_fingerprint,
        "data": examples.describe(),
        "seed": seed,
    }
    _write_json(json_file, {**summary, "prompts": {name: each.count for name, each in result.tasks.items()}})


@app.command("search")
def search_command(
    out: Annotated[
        Path, typer.Option(callback=options.directory, help="Directory for the task vectors and the log of the search.")
    ],
    task: options.Task = None,
    model: options.Model = "tiny",
    data: options.Data = "scenes",
    root: options.Root = None,
    split: options.Split = None,
    layout: options.Layout = None,
    skip_missing: options.SkipMissing = False,
    metric: options.Metric = None,
    statistics: Annotated[
        Path | None, typer.Option(help="From `taskvec collect`; collected anew if not given.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts behind the means, where they are collected.")] = 100,
    items: Annotated[int, typer.Option(min=1, help="Queries that the search evaluates its masks on.")] = 10,
    held_out: Annotated[int, typer.Option(min=1, help="Queries that choose among checkpoints.")] = 100,
    steps: Annotated[int, typer.Option(min=1)] = 600,
    masks: Annotated[int, typer.Option(min=2, help="Masks sampled for every item in a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(min=0)] = 0.1,
    objective: Annotated[str, typer.Option(help=f"What is minimised: {' or '.join(OBJECTIVES)}.")] = "pixel",
    baseline: Annotated[str, typer.Option(help=f"What losses are compared with: {' or '.join(BASELINES)}.")] = "batch",
    granularity: Annotated[str, typer.Option(help=f"One of {', '.join(GRANULARITIES)}.")] = "quadrant",
    stack: Annotated[list[str] | None, typer.Option(help="encoder or decoder; both by default.")] = None,
    candidates: Annotated[int, typer.Option(min=0, help="Sampled masks scored at a checkpoint.")] = 1,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Faster on processors that have it.")] = False,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """Find the task vectors of one task by REINFORCE; the defaults are the paper's. Ctrl-C keeps the best so far."""
    options.refuse_to_overwrite(out / VECTORS_CONFIG, overwrite)
    settings = FindSettings(
        prompts=prompts,
        items=items,
        held_out=held_out,
        objective=objective,  # pyright: ignore[reportArgumentType]
        granularity=granularity,  # pyright: ignore[reportArgumentType]
        stacks=tuple(stack or ("encoder", "decoder")),
        search=ReinforceSettings(
            steps=steps,
            masks_per_item=masks,
            learning_rate=learning_rate,
            baseline=baseline,  # pyright: ignore[reportArgumentType]
            candidates=candidates,
            seed=seed,
        ),
        seed=seed,
        bfloat16=bfloat16,
    )
    network = load_model(model, options.device_named(device))
    examples = _load(data, "train", root=root, fold=split, layout=layout, skip_missing=skip_missing, metric=metric)
    chosen = _choose_task(examples, task, metric)
    collected = None if statistics is None else Statistics.load(statistics)
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        on_step = _search_log(progress, progress.add_task(chosen.name, total=steps, status=""), out / SEARCH_LOG)
        vectors = find(network, examples, chosen, settings, collected, on_step)
    _keep(vectors, out)
    _write_json(json_file, asdict(vectors.config))
    found = vectors.config.found
    cut = ", interrupted" if found["interrupted"] else ""
    console.print(
        f"{len(vectors.sites)} of {vectors.config.of} sites{cut}, held-out loss {found['held_out_loss']:.4f} "
        f"at step {found['step']}: {out}"
    )
    if found["interrupted"]:
        raise typer.Exit(INTERRUPTED)


@app.command("find")
def find_command(
    out: Annotated[
        Path,
        typer.Option(callback=options.directory, help="For the task vectors, report, pictures, results and pairs."),
    ],
    data: options.Data = "folder",
    root: options.Root = None,
    split: options.Split = None,
    layout: options.Layout = None,
    skip_missing: options.SkipMissing = False,
    metric: options.Metric = None,
    task: options.Task = None,
    model: options.Model = "tiny",
    queries: Annotated[
        int, typer.Option(min=2, help="Pairs to judge by, of examples kept aside, or all that there are.")
    ] = QUERIES,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the search.")] = QUICK.search.steps,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """The whole job for one task: statistics, a quick search, scores on examples kept aside, pictures.

    Ctrl-C keeps the best sites so far, once there are any.

    A directory with input/ and output/ is a task of its own, from ten pairs on. For every setting of a search, and the
    paper's own, see `taskvec search`.
    """
    options.refuse_to_overwrite(out / VECTORS_CONFIG, overwrite)
    started = time.monotonic()
    network = load_model(model, options.device_named(device))
    given = {"root": root, "fold": split, "layout": layout, "skip_missing": skip_missing, "metric": metric}
    examples = _load(data, "train", **given)
    chosen = _choose_task(examples, task, metric)
    settings = _quick(steps, seed)
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        on_step = _search_log(progress, progress.add_task(chosen.name, total=steps, status=""), out / SEARCH_LOG)
        outcome, _ = find_and_judge(
            network,
            examples,
            _load(data, "test", **given),
            [chosen],
            settings,
            queries,
            lambda _, record: on_step(record),
            lambda vectors: _keep(vectors, out),
        )
    with replacing(out / "pairs.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(pair) + "\n" for pair in outcome.tasks[0].pairs))
    with replacing(out / "examples.png") as temporary:
        temporary.write_bytes(example_grid(outcome.tasks[0]))
    _write_outcome(outcome, out, json_file, time.monotonic() - started)


@app.command("evaluate")
def evaluate_command(
    method: Annotated[
        str,
        typer.Option(
            help="one_shot, query_only, copy_input, ceiling or vectors:DIRECTORY, in which {split} is the split."
        ),
    ],
    task: options.Task = None,
    model: options.Model = "tiny",
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
    network = load_model(model, options.device_named(device))
    evaluations: dict[str, evaluation.Evaluation] = {}
    with Progress(*COLUMNS, console=console, transient=True) as progress:
        for fold in _folds(split):
            method_of_split = method.replace("{split}", str(fold))
            run = evaluation.method_named(network, method_of_split)
            examples = _load(data, part, root=root, fold=fold, layout=layout, skip_missing=skip_missing, metric=metric)
            chosen = _choose_task(examples, task, metric)
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
            print(f"{chosen.name} {method}, split {name}: {as_line(each, chosen.metric)}")
    if len(evaluations) > 1 or split is None:
        print(f"{chosen.name} {method}: {as_line(whole, chosen.metric)}")
    if json_file is not None:
        facts = {"task": chosen.name, "method": method, "metric": chosen.metric, "model": model, "seed": seed}
        facts |= {"model_fingerprint": network.fingerprint(), "machine": environment.machine()}
        facts |= {"versions": environment.versions()}
        write_evaluations(json_file, evaluations, whole, summaries, facts, with_example=method == "one_shot")


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
        console.print(f"{alone} classes are left out, as they have one example each and no pair")
    if method.startswith(VECTORS):
        config = read_config(method.removeprefix(VECTORS))
        if count := evaluation.seen(config, prompts):
            console.print(f"{count} of {len(prompts)} queries are images that the task vectors were found on")
        if config.task != prompts.task.name:
            console.print(f"these task vectors are of {config.task}, judged by {prompts.task.name}")


@app.command("apply")
def apply_command(
    vectors: Annotated[Path, typer.Argument(help="Directory of task vectors.")],
    images: Annotated[Path, typer.Argument(help="An image, or a directory of images.")],
    out: Annotated[
        Path, typer.Option(callback=options.directory, help="Directory for the results: PNG files of the same names.")
    ],
    model: options.Model = "tiny",
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """Do a task on images through its task vectors. Interrupted, the same command goes on where it stopped.

    Results carry the names of the images and their sizes; those that are there already are kept.
    """
    found = TaskVectors.load(vectors, load_model(model, options.device_named(device)))
    jobs = application.plan(images, out)
    left = application.left_to_do(found, jobs, overwrite=overwrite)
    if len(left) < len(jobs):
        console.print(f"{len(jobs) - len(left)} of {len(jobs)} results are there already")
    with Progress(*COLUMNS, console=console) as progress:
        bar = progress.add_task(found.task, total=len(left))
        failures = application.apply_files(found, left, lambda _: progress.advance(bar))
    written = [str(job.result) for job in jobs if job.image not in failures]
    _write_json(json_file, {"task": found.task, "files": written, "failed": [str(image) for image in failures]})
    if failures:
        raise ValueError(f"{len(failures)} of {len(jobs)} images failed: {'; '.join(failures.values())}")


@app.command("demo")
def demo_command(
    out: Annotated[
        Path, typer.Option(callback=options.directory, help="For report.html, overview.png, results.json, vectors/.")
    ] = Path("demo"),
    model: options.Model = "tiny",
    queries: Annotated[int, typer.Option(min=2, help="Test queries of every task.")] = QUERIES,
    steps: Annotated[int, typer.Option(min=1, help="Steps of every search.")] = QUICK.search.steps,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """All five tasks on scenes never trained on: statistics, search, evaluation, report. Two minutes on two cores.

    Replaces an earlier demonstration in the same directory.
    """
    started = time.monotonic()
    settings = _quick(steps, seed)
    network = load_model(model, options.device_named(device))
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        bars = {name: progress.add_task(name, total=steps, status="") for name in TASKS}
        logs = {name: _search_log(progress, bars[name], out / "vectors" / name / SEARCH_LOG) for name in TASKS}
        # two splits that no model was trained on: one to find the vectors on, one to judge them on
        splits = load_data("scenes", "validation", seed=seed), load_data("scenes", "test", seed=seed)
        outcome, vectors = find_and_judge(
            network, *splits, list(TASKS.values()), settings, queries, lambda name, record: logs[name](record)
        )
    for found in vectors:
        _keep(found, out / "vectors" / found.task)
    with replacing(out / "overview.png") as temporary:
        temporary.write_bytes(overview(outcome))
    _write_outcome(outcome, out, json_file, time.monotonic() - started)


def _quick(steps: int, seed: int) -> FindSettings:
    return replace(QUICK, seed=seed, search=replace(QUICK.search, seed=seed, steps=steps))


def _write_outcome(outcome: Outcome, out: Path, json_file: Path | None, seconds: float) -> None:
    """Report and results of a whole job, and its table on the terminal."""
    write_report(outcome, out / "report.html")
    results = {**results_json(outcome), "seconds": seconds}
    _write_json(out / "results.json", results)
    _write_json(json_file, results)
    Console(width=max(TABLE_WIDTH, console.width)).print(results_table(outcome))
    print(f"{seconds:.0f} seconds; look at {out / 'report.html'}")


@app.command("convert")
def convert_command(
    mae: Annotated[Path, typer.Option(help="The published MAE-VQGAN file, such as checkpoint-3400.pth.")],
    out: Annotated[Path, typer.Option(callback=options.directory, help="The model directory to write.")],
    vqgan: Annotated[Path | None, typer.Option(help="The VQGAN's file, such as last.ckpt.")] = None,
    vqgan_config: Annotated[Path | None, typer.Option(help="The VQGAN's model.yaml, to be checked.")] = None,
    encoder_heads: Annotated[int | None, typer.Option(min=1, help="Where the width does not tell.")] = None,
    decoder_heads: Annotated[int | None, typer.Option(min=1, help="Where the width does not tell.")] = None,
    licence: Annotated[
        str | None, typer.Option(help="What the model card shall state, such as mit; the files do not say.")
    ] = None,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """Turn the published files into a model directory for --model. The files are read as data; nothing in them runs."""
    options.refuse_to_overwrite(out, overwrite)
    converted = convert(mae, out, vqgan, vqgan_config, encoder_heads, decoder_heads, licence)
    for name in converted.ignored:
        console.print(f"ignored {name}")
    console.print(f"the model is in {out}")
    _write_json(json_file, {"model": str(out), "config": asdict(converted.config), "ignored": converted.ignored})


@app.command("info")
def info_command(
    target: Annotated[str, typer.Argument(help="A model (tiny, or a directory) or a directory of task vectors.")],
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """What a model or task vectors are: architecture, parameters, operations, fingerprint; or task, sites, origin."""
    facts = (
        describe_vectors(target)
        if holds_vectors(target)
        else describe_model(load_model(target, options.device_named(device)))
    )
    for name, value in facts.items():
        print(f"{name}: {value}")
    _write_json(json_file, facts)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; bad input is one sentence on standard error and a non-zero status, never a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    warnings.filterwarnings("ignore", module="PIL")  # of damage that it reads past; what it cannot read is an error
    try:
        status = app(arguments or ["--help"], standalone_mode=False) or 0
    except KeyboardInterrupt:
        status = INTERRUPTED
    except KeyError as error:
        return _complain(str(error.args[0]) if error.args else "something is missing", 1)
    except (ValueError, OSError, MemoryError, torch.OutOfMemoryError) as error:
        return _complain(str(error) or type(error).__name__, 1)
    except Exception as error:
        # typer's errors of usage have no public class that all its versions share
        if not hasattr(error, "format_message"):
            raise
        return _complain(error.format_message(), 2)  # pyright: ignore[reportAttributeAccessIssue]
    return _complain("interrupted", INTERRUPTED) if status == INTERRUPTED else status


def _complain(message: str, status: int) -> int:
    print(f"taskvec: {' '.join(message.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
