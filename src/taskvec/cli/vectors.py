"""Commands about task vectors: the whole job, apply, the demonstration."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from taskvec import apply as application
from taskvec.cli import options
from taskvec.cli.terminal import (
    COLUMNS,
    SEARCH_COLUMNS,
    SEARCH_LOG,
    app,
    choose_task,
    console,
    keep,
    load,
    search_log,
    write_json,
)
from taskvec.data import DATA_SETS
from taskvec.data.examples import tasks_of
from taskvec.files import replacing
from taskvec.finding import FindSettings
from taskvec.hub import located
from taskvec.judging import QUERIES, find_and_judge
from taskvec.models import load_model
from taskvec.presets import PRESETS
from taskvec.report.figures import example_grid, overview
from taskvec.report.outcomes import Outcome
from taskvec.report.page import write_report
from taskvec.report.table import TABLE_WIDTH, results_json, results_table
from taskvec.search import RelaxedSettings
from taskvec.tasks import TASKS
from taskvec.vectors import CONFIG as VECTORS_CONFIG
from taskvec.vectors import TENSORS as VECTORS_TENSORS
from taskvec.vectors import TaskVectors

STEPS = RelaxedSettings().steps
JUDGEMENT = ("report.html", "examples.png", "results.json", "pairs.jsonl")  # beside the task vectors
OVERVIEW = "overview.png"  # by which a demonstration is known


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
    steps: Annotated[int, typer.Option(min=1, help="Steps of the search.")] = STEPS,
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
    for name in (VECTORS_CONFIG, *JUDGEMENT):
        options.refuse_to_overwrite(out / name, overwrite)
    started = time.monotonic()
    network = load_model(model, options.device_named(device))
    given = {"root": root, "fold": split, "layout": layout, "skip_missing": skip_missing, "metric": metric}
    examples = load(data, "train", **given)
    chosen = choose_task(examples, task, metric)
    settings = _quick(steps, seed)
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        on_step = search_log(progress, progress.add_task(chosen.name, total=steps, status=""), out / SEARCH_LOG, steps)
        outcome, _ = find_and_judge(
            network,
            examples,
            load(data, "test", **given),
            [chosen],
            settings,
            queries,
            lambda _, record: on_step(record),
            lambda vectors: _keep_found(vectors, out),
        )
    with replacing(out / "pairs.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(pair) + "\n" for pair in outcome.tasks[0].pairs))
    with replacing(out / "examples.png") as temporary:
        temporary.write_bytes(example_grid(outcome.tasks[0]))
    _write_outcome(outcome, out, json_file, time.monotonic() - started)


def _keep_found(vectors: TaskVectors, out: Path) -> None:
    """Save what a search found; results of an earlier one in the same place no longer belong to it."""
    for name in JUDGEMENT:
        (out / name).unlink(missing_ok=True)
    keep(vectors, out, out / SEARCH_LOG)
    if vectors.search.interrupted:
        console.print(f"{len(vectors.sites)} of {vectors.config.of} sites, interrupted: {out}")


@app.command("apply")
def apply_command(
    vectors: Annotated[Path, typer.Argument(help="Directory of task vectors, or hub:OWNER/NAME to download them.")],
    images: Annotated[Path, typer.Argument(help="An image, or a directory of images.")],
    out: Annotated[
        Path, typer.Option(callback=options.directory, help="Directory for the results: PNG files of the same names.")
    ],
    model: options.ModelOfVectors = None,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """Do a task on images through its task vectors. Interrupted, the same command goes on where it stopped.

    Results carry the names of the images and their sizes; those that are there already are kept.
    """
    place = located(vectors)
    found = TaskVectors.load(place, load_model(options.model_of([place], model), options.device_named(device)))
    jobs = application.plan(images, out)
    left = application.left_to_do(found, jobs, overwrite=overwrite)
    if len(left) < len(jobs):
        console.print(f"{len(jobs) - len(left)} of {len(jobs)} results are there already")
    with Progress(*COLUMNS, console=console) as progress:
        bar = progress.add_task(found.task, total=len(left))
        failures = application.apply_files(found, left, lambda _: progress.advance(bar))
    written = [str(job.result) for job in jobs if job.image not in failures]
    write_json(json_file, {"task": found.task, "files": written, "failed": [str(image) for image in failures]})
    if failures:
        raise ValueError(f"{len(failures)} of {len(jobs)} images failed: {'; '.join(failures.values())}")


@app.command("demo")
def demo_command(
    out: Annotated[
        Path, typer.Option(callback=options.directory, help="For report.html, overview.png, results.json, vectors/.")
    ] = Path("demo"),
    model: options.Model = "tiny",
    data: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(DATA_SETS)}. If not given: folder where there is a --root, else scenes for tiny and "
            "pictures for other models."
        ),
    ] = None,
    root: options.Root = None,
    split: options.Split = None,
    layout: options.Layout = None,
    skip_missing: options.SkipMissing = False,
    queries: Annotated[int, typer.Option(min=2, help="Test queries of every task, or all that there are.")] = QUERIES,
    steps: Annotated[int, typer.Option(min=1, help="Steps of every search.")] = STEPS,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """Every task that the data serve: statistics, search, evaluation, report. A minute or two on two cores with tiny.

    On scenes that no model was trained on; with `--root`, on your own photographs, ten or more, of which a fifth is
    kept aside to judge by (segmentation needs masks, as Pascal-5i has them). The data set pictures is six photographs
    that ship with the package; their task vectors are found on drawn scenes. Replaces an earlier demonstration in the
    same directory.
    """
    _refuse_what_is_no_demo(out)
    started = time.monotonic()
    settings = _quick(steps, seed)
    network = load_model(model, options.device_named(device))
    chosen = data or ("folder" if root else "scenes" if model == "tiny" else "pictures")
    given = {"root": root, "fold": split, "layout": layout, "skip_missing": skip_missing}
    test = load(chosen, "test", **given, seed=seed if chosen == "scenes" else None)
    if chosen in ("scenes", "pictures"):
        train = load("scenes", "validation", fold=split, seed=seed)  # which no model was trained on either
    else:
        train = load(chosen, "train", **given)
    tasks = tasks_of(test)
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        bars = {task.name: progress.add_task(task.name, total=steps, status="") for task in tasks}
        logs = {name: search_log(progress, bars[name], out / "vectors" / name / SEARCH_LOG, steps) for name in bars}
        outcome, vectors = find_and_judge(
            network, train, test, tasks, settings, queries, lambda name, record: logs[name](record)
        )
    for found in vectors:
        keep(found, out / "vectors" / found.task, out / "vectors" / found.task / SEARCH_LOG)
    for name in TASKS.keys() - bars.keys():  # of an earlier demonstration, on other data
        place = out / "vectors" / name
        for file in (VECTORS_CONFIG, VECTORS_TENSORS, SEARCH_LOG):
            (place / file).unlink(missing_ok=True)
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    with replacing(out / OVERVIEW) as temporary:
        temporary.write_bytes(overview(outcome))
    _write_outcome(outcome, out, json_file, time.monotonic() - started)


def _refuse_what_is_no_demo(out: Path) -> None:
    """ValueError where results are that no demonstration left there: it replaces its own alone."""
    if (out / OVERVIEW).exists():
        return
    for path in (*(out / name for name in JUDGEMENT), *out.glob(f"vectors/*/{VECTORS_CONFIG}")):
        if path.exists():
            raise ValueError(f"{path} is not of an earlier demonstration: name another place")


def _quick(steps: int, seed: int) -> FindSettings:
    return replace(PRESETS["best"], seed=seed, search=RelaxedSettings(seed=seed, steps=steps, halving=True))


def _write_outcome(outcome: Outcome, out: Path, json_file: Path | None, seconds: float) -> None:
    """Report and results of a whole job, and its table on the terminal."""
    write_report(outcome, out / "report.html")
    results = {**results_json(outcome), "seconds": seconds}
    write_json(out / "results.json", results)
    write_json(json_file, results)
    Console(width=max(TABLE_WIDTH, console.width)).print(results_table(outcome))
    print(f"{seconds:.0f} seconds; look at {out / 'report.html'}")
