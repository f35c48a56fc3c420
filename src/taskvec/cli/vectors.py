"""Commands about task vectors: the whole job, apply, the demonstration."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from taskvec import apply as application
from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.terminal import (
    COLUMNS,
    SEARCH_COLUMNS,
    SEARCH_LOG,
    app,
    choose_task,
    console,
    keep,
    search_log,
    write_json,
)
from taskvec.data.examples import tasks_of
from taskvec.files import replacing
from taskvec.finding import FindSettings
from taskvec.images import MAX_PIXELS
from taskvec.judging import QUERIES, find_and_judge
from taskvec.models import load_model
from taskvec.presets import PRESETS
from taskvec.prompts import draw_prompts
from taskvec.report.contact_sheet import PAIRS, contact_sheet
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
JUDGEMENT = ("report.html", "examples.png", "pairs.png", "results.json", "pairs.jsonl")  # beside the task vectors
OVERVIEW = "overview.png"  # by which a demonstration is known


@app.command("find")
@takes_data("folder")
def find_command(
    out: Annotated[
        Path,
        typer.Option(callback=options.directory, help="For the task vectors, report, pictures, results and pairs."),
    ],
    data_options: DataOptions = NONE_GIVEN,
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
    examples = data_options.load("train")
    chosen = choose_task(examples, task, data_options.metric)
    sheet = contact_sheet(draw_prompts(examples, chosen, PAIRS, network.config.image_size, seed))
    settings = _quick(steps, seed)
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        on_step = search_log(progress, progress.add_task(chosen.name, total=steps, status=""), out / SEARCH_LOG, steps)
        outcome, _ = find_and_judge(
            network,
            examples,
            data_options.load("test"),
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
    with replacing(out / "pairs.png") as temporary:
        temporary.write_bytes(sheet)
    _write_outcome(outcome, out, json_file, time.monotonic() - started, sheet, examples.remarks())


def _keep_found(vectors: TaskVectors, out: Path) -> None:
    """Save what a search found; results of an earlier one in the same place no longer belong to it."""
    for name in JUDGEMENT:
        (out / name).unlink(missing_ok=True)
    keep(vectors, out, out / SEARCH_LOG)
    if vectors.config.found["interrupted"]:
        console.print(f"{len(vectors.sites)} of {vectors.config.of} sites, interrupted: {out}")


@app.command("apply")
def apply_command(
    vectors: Annotated[Path, typer.Argument(help="Directory of task vectors.")],
    images: Annotated[Path, typer.Argument(help="An image, or a directory of images.")],
    out: Annotated[
        Path, typer.Option(callback=options.directory, help="Directory for the results: PNG files of the same names.")
    ],
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Also the images in its directories, to directories of the same names.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that is no image, or fails.")
    ] = False,
    levels: options.Levels = None,
    ignore_orientation: options.IgnoreOrientation = False,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    model: options.Model = "tiny",
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """Do a task on images through its task vectors. Interrupted, the same command goes on where it stopped.

    Results carry the names of the images and their sizes; those that are there already are kept, if they are whole.
    What is no image, and images that cannot be read, are listed at the end, all of them in the file of `--json`.
    """
    found = TaskVectors.load(vectors, load_model(model, options.device_named(device)))
    planned = application.plan(images, out, recursive=recursive)
    if strict and planned.skipped:
        raise ValueError(f"--strict: {next(iter(planned.skipped.values()))} ({len(planned.skipped)} such files in all)")
    jobs = planned.jobs
    reading = application.reading_of(found, jobs, levels, ignore_orientation=ignore_orientation, max_pixels=max_pixels)
    if reading.remark:
        console.print(reading.remark)
    left = application.left_to_do(found, jobs, reading, overwrite=overwrite)
    if len(left) < len(jobs):
        console.print(f"{len(jobs) - len(left)} of {len(jobs)} results are there already")
    with Progress(*COLUMNS, console=console) as progress:
        bar = progress.add_task(found.task, total=len(left))
        failures = application.apply_files(found, left, lambda _: progress.advance(bar), reading, strict=strict)
    written = [str(job.result) for job in jobs if job.image not in failures]
    failed, skipped = ({str(path): why for path, why in some.items()} for some in (failures, planned.skipped))
    told = {"task": found.task, "files": written, "failed": failed, "skipped": skipped, "levels": reading.remark}
    write_json(json_file, told)
    if skipped:
        console.print(f"skipped, as they are no images: {len(skipped)}: {_first(list(skipped.values()))}")
    if failures:
        raise ValueError(f"{len(failures)} of {len(jobs)} images failed: {_first(list(failures.values()))}")


def _first(sentences: Sequence[str], limit: int = 3) -> str:
    """A few of them in one line, and how many more there are."""
    more = [f"... and {len(sentences) - limit} more (--json FILE has all)"] if len(sentences) > limit else []
    return "; ".join([*sentences[:limit], *more])


@app.command("demo")
@takes_data(None, without=("metric",))
def demo_command(
    out: Annotated[
        Path, typer.Option(callback=options.directory, help="For report.html, overview.png, results.json, vectors/.")
    ] = Path("demo"),
    model: options.Model = "tiny",
    data_options: DataOptions = NONE_GIVEN,
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
    same directory. Without --data it is on a folder where there is a --root, else on scenes with tiny and on pictures
    with other models.
    """
    _refuse_what_is_no_demo(out)
    started = time.monotonic()
    settings = _quick(steps, seed)
    network = load_model(model, options.device_named(device))
    usual = "folder" if data_options.root or data_options.input else "scenes" if model == "tiny" else "pictures"
    chosen = replace(data_options, data=data_options.data or usual)
    test = chosen.load("test", seed=seed if chosen.data == "scenes" else None)
    if chosen.data in ("scenes", "pictures"):  # scenes that no model was trained on either
        train = DataOptions(data="scenes", split=data_options.split).load("validation", seed=seed)
    else:
        train = chosen.load("train")
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


def _write_outcome(
    outcome: Outcome,
    out: Path,
    json_file: Path | None,
    seconds: float,
    pairs: bytes | None = None,
    remarks: Sequence[str] = (),
) -> None:
    """Report and results of a whole job, and its table on the terminal."""
    write_report(outcome, out / "report.html", pairs, remarks)
    results = {**results_json(outcome), "seconds": seconds}
    write_json(out / "results.json", results)
    write_json(json_file, results)
    Console(width=max(TABLE_WIDTH, console.width)).print(results_table(outcome))
    print(f"{seconds:.0f} seconds; look at {out / 'report.html'}")
