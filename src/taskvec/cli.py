"""The command: parses, calls, prints. Everything it does is one call of the Python API away."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from taskvec import apply as application
from taskvec import demo as demonstration
from taskvec import environment
from taskvec import evaluate as evaluation
from taskvec.data import DATA_SETS, load_data
from taskvec.describe import describe_model, describe_vectors, holds_vectors
from taskvec.files import replacing
from taskvec.finding import FindSettings, find, statistics_prompts
from taskvec.models import load_model
from taskvec.models.checkpoints import convert
from taskvec.objectives import OBJECTIVES
from taskvec.prompts import draw_prompts
from taskvec.report.figures import overview
from taskvec.report.page import write_report
from taskvec.report.table import TABLE_WIDTH, results_json, results_table
from taskvec.search.reinforce import BASELINES, ReinforceSettings
from taskvec.sites import GRANULARITIES
from taskvec.statistics import Statistics, collect
from taskvec.tasks import TASKS, task_named
from taskvec.training.recipe import read_recipe, train
from taskvec.vectors import CONFIG as VECTORS_CONFIG
from taskvec.vectors import TaskVectors

app = typer.Typer(
    name="taskvec",
    help="Find and use visual task vectors.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)

INTERRUPTED = 130
SEARCH_LOG = "search.jsonl"
SEARCH_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeRemainingColumn(),
    TextColumn("{task.fields[status]}"),
)


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    """Find and use visual task vectors."""
    if version:
        print(environment.versions()["taskvec"])
        raise typer.Exit


def _file(option: typer.CallbackParam, path: Path | None) -> Path | None:
    """Refuse a destination before hours are spent on what goes there."""
    if path is not None and path.is_dir():
        raise ValueError(f"{option.opts[0]} {path} is a directory, expected a file")
    return _under_a_directory(option, path)


def _directory(option: typer.CallbackParam, path: Path | None) -> Path | None:
    if path is not None and path.exists() and not path.is_dir():
        raise ValueError(f"{option.opts[0]} {path} is a file, expected a directory")
    return _under_a_directory(option, path)


def _under_a_directory(option: typer.CallbackParam, path: Path | None) -> Path | None:
    if path is not None:
        nearest = next(parent for parent in path.absolute().parents if parent.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            raise ValueError(f"{option.opts[0]} {path} cannot be written: {nearest} is no directory to write to")
    return path


def _device(name: str) -> torch.device:
    try:
        if name.split(":", maxsplit=1)[0] not in ("cpu", "cuda"):
            raise ValueError
        device = torch.device(name)
        torch.empty(0, device=device)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: there is no such device here, expected cpu, cuda or cuda:N") from error
    return device


def _refuse_to_overwrite(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists: results are never merged; name another place or pass --overwrite")


ModelOption = Annotated[str, typer.Option("--model", help="A model that ships with the package (tiny) or a directory.")]
DataOption = Annotated[str, typer.Option("--data", help=f"Data set: {', '.join(DATA_SETS)}.")]
FoldOption = Annotated[int | None, typer.Option("--fold", help="Only the classes of this fold, 0 to 3.")]
TaskOption = Annotated[str, typer.Option("--task", help=f"One of {', '.join(TASKS)}.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**63 - 1, help="The same seed gives the same result.")]
DeviceOption = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
JsonOption = Annotated[
    Path | None, typer.Option("--json", callback=_file, help="Also write the result as JSON to this file.")
]


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
        Path, typer.Option(callback=_directory, help="Logs, checkpoints, in the end model/. A run found here goes on.")
    ],
    photographs: Annotated[
        Path | None, typer.Option(help="Folders of photographs and masks, for a recipe that trains on them.")
    ] = None,
    json_file: JsonOption = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**63 - 1, help="Overrides the recipe's seed.")] = None,
    device: DeviceOption = "cpu",
) -> None:
    """Train a model from a recipe; Ctrl-C keeps a checkpoint, and the same command goes on from it."""
    chosen = read_recipe(recipe)
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    directory = train(chosen, out, console, _device(device), photographs)
    _write_json(json_file, {"model": str(directory), "recipe": asdict(chosen), "versions": environment.versions()})
    console.print(f"the model is in {directory}")


@app.command("collect")
def collect_command(
    out: Annotated[Path, typer.Option(callback=_file, help="The file of statistics to write (safetensors).")],
    model: ModelOption = "tiny",
    data: DataOption = "scenes",
    fold: FoldOption = None,
    task: Annotated[list[str] | None, typer.Option(help="Repeat for several; all five by default.")] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts behind each mean.")] = 100,
    overwrite: OverwriteOption = False,
    json_file: JsonOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Mean and variance of every head output over one-shot prompts of each task."""
    _refuse_to_overwrite(out, overwrite)
    tasks = [task_named(name) for name in task or TASKS]
    network = load_model(model, _device(device))
    examples = load_data(data, "train", fold)
    settings = FindSettings(prompts=prompts, seed=seed)
    with Progress(console=console) as progress:
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
    task: TaskOption,
    out: Annotated[
        Path, typer.Option(callback=_directory, help="Directory for the task vectors and the log of the search.")
    ],
    model: ModelOption = "tiny",
    data: DataOption = "scenes",
    fold: FoldOption = None,
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
    overwrite: OverwriteOption = False,
    json_file: JsonOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Find the task vectors of one task by REINFORCE; the defaults are the paper's. Ctrl-C keeps the best so far."""
    chosen = task_named(task)
    _refuse_to_overwrite(out / VECTORS_CONFIG, overwrite)
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
    network = load_model(model, _device(device))
    collected = None if statistics is None else Statistics.load(statistics)
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        on_step = _search_log(progress, progress.add_task(task, total=steps, status=""), out / SEARCH_LOG)
        vectors = find(network, load_data(data, "train", fold), chosen, settings, collected, on_step)
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


@app.command("evaluate")
def evaluate_command(
    task: TaskOption,
    method: Annotated[str, typer.Option(help="one_shot, query_only, copy_input, ceiling or vectors:DIRECTORY.")],
    model: ModelOption = "tiny",
    data: DataOption = "scenes",
    fold: FoldOption = None,
    pairs: Annotated[int, typer.Option(min=1, help="Prompts to score.")] = 1000,
    json_file: JsonOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Score one way of doing a task on test data: the mean and its 95 % bootstrap interval."""
    chosen = task_named(task)
    network = load_model(model, _device(device))
    run = evaluation.method_named(network, method)
    examples = load_data(data, "test", fold)
    prompts = draw_prompts(examples, chosen, pairs, network.config.image_size, seed)
    result = evaluation.interval(evaluation.scores(network, run, prompts))
    name = chosen.metric
    print(f"{task} {method}: {name} {result.mean:.4f} [{result.low:.4f}, {result.high:.4f}] over {pairs} pairs")
    settings = {"model": model, "data": examples.describe(), "pairs": pairs, "seed": seed}
    settings |= {"model_fingerprint": network.fingerprint(), "versions": environment.versions()}
    _write_json(json_file, {"task": task, "method": method, "metric": name, **asdict(result), **settings})


@app.command("apply")
def apply_command(
    vectors: Annotated[Path, typer.Argument(help="Directory of task vectors.")],
    images: Annotated[Path, typer.Argument(help="An image, or a directory of images.")],
    out: Annotated[
        Path, typer.Option(callback=_directory, help="Directory for the results: PNG files of the same names.")
    ],
    model: ModelOption = "tiny",
    json_file: JsonOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Do a task on images through its task vectors."""
    found = TaskVectors.load(vectors, load_model(model, _device(device)))
    jobs = application.plan(images, out)
    with Progress(console=console) as progress:
        failures = application.apply_files(found, progress.track(jobs, description=found.task))
    written = [str(result) for image, result in jobs if image not in failures]
    _write_json(json_file, {"task": found.task, "files": written, "failed": [str(image) for image in failures]})
    if failures:
        raise ValueError(f"{len(failures)} of {len(jobs)} images failed: {'; '.join(failures.values())}")


@app.command("demo")
def demo_command(
    out: Annotated[
        Path, typer.Option(callback=_directory, help="For report.html, overview.png, results.json, vectors/.")
    ] = Path("demo"),
    model: ModelOption = "tiny",
    queries: Annotated[int, typer.Option(min=2, help="Test queries of every task.")] = demonstration.QUERIES,
    steps: Annotated[int, typer.Option(min=1, help="Steps of every search.")] = demonstration.SETTINGS.search.steps,
    json_file: JsonOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
) -> None:
    """All five tasks on scenes never trained on: statistics, search, evaluation, report. Two minutes on two cores.

    Replaces an earlier demonstration in the same directory.
    """
    started = time.monotonic()
    settings = demonstration.SETTINGS
    settings = replace(settings, seed=seed, search=replace(settings.search, seed=seed, steps=steps))
    network = load_model(model, _device(device))
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        bars = {name: progress.add_task(name, total=steps, status="") for name in TASKS}
        logs = {name: _search_log(progress, bars[name], out / "vectors" / name / SEARCH_LOG) for name in TASKS}
        # two splits that no model was trained on: one to find the vectors on, one to judge them on
        splits = load_data("scenes", "validation", seed=seed), load_data("scenes", "test", seed=seed)
        outcome, vectors = demonstration.demo(network, *splits, settings, queries, lambda name, r: logs[name](r))
    for found in vectors:
        _keep(found, out / "vectors" / found.task)
    write_report(outcome, out / "report.html")
    with replacing(out / "overview.png") as temporary:
        temporary.write_bytes(overview(outcome))
    results = {**results_json(outcome), "seconds": time.monotonic() - started}
    _write_json(out / "results.json", results)
    _write_json(json_file, results)
    Console(width=max(TABLE_WIDTH, console.width)).print(results_table(outcome))
    print(f"{results['seconds']:.0f} seconds; look at {out / 'report.html'}")


@app.command("convert")
def convert_command(
    mae: Annotated[Path, typer.Option(help="The published MAE-VQGAN file, such as checkpoint-3400.pth.")],
    out: Annotated[Path, typer.Option(callback=_directory, help="The model directory to write.")],
    vqgan: Annotated[Path | None, typer.Option(help="The VQGAN's file, such as last.ckpt.")] = None,
    vqgan_config: Annotated[Path | None, typer.Option(help="The VQGAN's model.yaml, to be checked.")] = None,
    encoder_heads: Annotated[int | None, typer.Option(min=1, help="Where the width does not tell.")] = None,
    decoder_heads: Annotated[int | None, typer.Option(min=1, help="Where the width does not tell.")] = None,
    overwrite: OverwriteOption = False,
    json_file: JsonOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Turn the published files into a model directory for --model. The files are read as data; nothing in them runs."""
    _refuse_to_overwrite(out, overwrite)
    converted = convert(mae, out, vqgan, vqgan_config, encoder_heads, decoder_heads)
    for name in converted.ignored:
        console.print(f"ignored {name}", highlight=False)
    console.print(f"the model is in {out}")
    _write_json(json_file, {"model": str(out), "config": asdict(converted.config), "ignored": converted.ignored})


@app.command("info")
def info_command(
    target: Annotated[str, typer.Argument(help="A model (tiny, or a directory) or a directory of task vectors.")],
    json_file: JsonOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
) -> None:
    """What a model or task vectors are: architecture, parameters, operations, fingerprint; or task, sites, origin."""
    facts = describe_vectors(target) if holds_vectors(target) else describe_model(load_model(target, _device(device)))
    for name, value in facts.items():
        print(f"{name}: {value}")
    _write_json(json_file, facts)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; bad input is one sentence on standard error and a non-zero status, never a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
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
