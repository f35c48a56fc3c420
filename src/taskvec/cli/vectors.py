"""Commands about task vectors: the whole job, apply, the demonstration."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from taskvec import application, environment
from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.terminal import (
    SEARCH_LOG,
    app,
    choose_task,
    console,
    keep,
    say,
    search_log,
    show,
    write_json,
)
from taskvec.cli.texts import TextsIn, apply_to_texts, tell_shots
from taskvec.data import judging_split
from taskvec.data.examples import tasks_of
from taskvec.files import replacing, shortened, write_json_lines
from taskvec.finding import FindSettings, parts_of
from taskvec.hub import located
from taskvec.images import MAX_PIXELS
from taskvec.judging import QUERIES, find_and_judge
from taskvec.models import load_model
from taskvec.models.interface import Variant
from taskvec.objectives import OBJECTIVES
from taskvec.presets import DEFAULT, DEFAULT_OF_TEXTS, PRESETS, default_preset, settings_of
from taskvec.processes import current
from taskvec.progress import COLUMNS, SEARCH_COLUMNS, show_descent
from taskvec.prompts import draw_prompts
from taskvec.refining import RefineSettings, refine
from taskvec.report.contact_sheet import PAIRS, contact_sheet
from taskvec.report.figures import example_grid, overview
from taskvec.report.outcomes import Outcome
from taskvec.report.page import write_report
from taskvec.report.table import TABLE_WIDTH, results_json, results_table, verdicts_text
from taskvec.tasks import TASKS
from taskvec.vectors import ANSWER_TOKENS, TaskVectors
from taskvec.vectors import CONFIG as VECTORS_CONFIG
from taskvec.vectors import TENSORS as VECTORS_TENSORS

JUDGEMENT = ("report.html", "examples.png", "pairs.png", "results.json", "pairs.jsonl")  # beside the task vectors
VECTORS = (VECTORS_CONFIG, VECTORS_TENSORS, SEARCH_LOG, f"{SEARCH_LOG}.partial")
OVERVIEW = "overview.png"  # by which a demonstration is known


@app.command("find")
@options.together
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
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"How they are found: {', '.join(PRESETS)}; {DEFAULT}, of language models {DEFAULT_OF_TEXTS}, if not "
            "given, as by taskvec.find."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of the search; the preset's if not given.")] = None,
    at_most: options.AtMost = None,
    curve: options.Curve = False,
    refined: options.Refine = False,
    answers: options.Answers = None,
    settings_file: options.SettingsFile = None,
    assignments: options.Set = None,
    bfloat16: options.Bfloat16 = False,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.SearchSeed = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """The whole job for one task: statistics, a search, scores on examples kept aside, a verdict, pictures.

    The search is that of `--preset best`, some seconds with tiny. Ctrl-C keeps the best sites so far, once there are
    any. A directory with input/ and output/ is a task of its own, from ten pairs on; of a language model a table of
    inputs and outputs is (--data pairs). For every setting of a search see `taskvec search`.

    On several GPUs or processors, with the same result: torchrun --standalone --nproc-per-node N -m taskvec find ...
    """
    for name in (VECTORS_CONFIG, *JUDGEMENT):
        options.refuse_to_overwrite(out / name, overwrite)
    options.check_destinations(out, (*VECTORS, *JUDGEMENT))
    started = time.monotonic()
    network = load_model(model, options.working_on(device, threads))
    network = network.variant(Variant(answers=options.answer_scope(answers, network)))
    settings = _settings(
        preset or default_preset(network),
        settings_file,
        assignments,
        steps,
        seed,
        at_most,
        curve=curve,
        bfloat16=bfloat16,
    )
    examples = data_options.load_one("train", task)
    chosen = choose_task(examples, task, data_options.metric)
    judged_on = data_options.load_one(judging_split(data_options.data or "folder"), task)
    shown = draw_prompts(examples, chosen, PAIRS, network.image_size, settings.seed)
    sheet = None if network.takes_texts else contact_sheet(shown)
    for remark in network.remarks(shown):
        console.print(remark)
    if network.takes_texts:
        tell_shots("prompts behind the means", parts_of(examples)[0])
        tell_shots("prompts that judge", judged_on)
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        bar, total = progress.add_task(chosen.name, total=None, status=""), _steps_of(settings)
        on_step = search_log(progress, bar, out / SEARCH_LOG, total)
        outcome, _ = find_and_judge(
            network,
            examples,
            judged_on,
            [chosen],
            settings,
            queries,
            lambda _, record: on_step(record),
            lambda vectors: _keep_found(vectors, out),
            RefineSettings(seed=settings.seed) if refined else None,
            show_descent(progress, RefineSettings.steps),
        )
    if not current().first:
        return
    write_json_lines(out / "pairs.jsonl", outcome.tasks[0].pairs)
    if sheet is not None:
        with replacing(out / "examples.png") as temporary:
            temporary.write_bytes(example_grid(outcome.tasks[0]))
        with replacing(out / "pairs.png") as temporary:
            temporary.write_bytes(sheet)
    _write_outcome(outcome, out, json_file, time.monotonic() - started, sheet, examples.remarks())


def _keep_found(vectors: TaskVectors, out: Path) -> None:
    """Save what a search found; results of an earlier one in the same place no longer belong to it."""
    if not current().first:
        return
    for name in JUDGEMENT:
        (out / name).unlink(missing_ok=True)
    keep(vectors, out, out / SEARCH_LOG)
    if vectors.search.interrupted:
        console.print(f"{len(vectors.sites)} of {vectors.config.of} sites, interrupted: {out}")


@app.command("refine")
@takes_data("folder")
def refine_command(
    vectors: Annotated[Path, typer.Argument(help="Directory of task vectors that a search found.")],
    out: Annotated[Path, typer.Option(callback=options.directory, help="Directory for the refined task vectors.")],
    data_options: DataOptions = NONE_GIVEN,
    steps: Annotated[
        int, typer.Option(min=1, help="Steps of the descent, which may end before.")
    ] = RefineSettings.steps,
    objective: Annotated[
        str | None,
        typer.Option(
            help=f"What is minimised: {' or '.join(OBJECTIVES)}; pixel is the task's metric, of answers decoded as "
            "expected, and the default where the vectors are."
        ),
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Queries to learn from.")] = RefineSettings.prompts,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, on the values.")] = RefineSettings.learning_rate,
    model: options.ModelOfVectors = None,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Better values for task vectors at the same sites, by a gradient on the data of their search or on others.

    Validation queries choose the step: if none is better than the means, these stay, and the record says so. Ctrl-C
    keeps the best so far.
    """
    options.refuse_to_overwrite(out / VECTORS_CONFIG, overwrite)
    options.check_destinations(out, (VECTORS_CONFIG, VECTORS_TENSORS), ("",))
    settings = RefineSettings(
        steps=steps,
        objective=objective,  # pyright: ignore[reportArgumentType]
        prompts=prompts,
        learning_rate=learning_rate,
        seed=seed,
    )
    network = load_model(options.model_of([vectors], model), options.working_on(device, threads))
    found = TaskVectors.load(vectors, network)
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        examples = data_options.load_one("train", [found.task])
        better = refine(found, examples, settings, partial(show_descent(progress, steps), found.task))
    better.save_pretrained(out)
    write_json(json_file, asdict(better.config))
    told = better.search.refinement
    if told is not None:
        kept = f"step {told.step}" if told.step else "no step is better than the means"
        console.print(f"validation loss {told.loss:.4f}, {told.loss_before:.4f} before ({kept}): {out}")


@app.command("apply")
def apply_command(
    vectors: Annotated[Path, typer.Argument(help="Directory of task vectors, or hub:OWNER/NAME to download them.")],
    inputs: Annotated[
        Path | None,
        typer.Argument(help="An image, or a directory of images; of a language model a text file, an input a line."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            callback=options.directory,
            help="Directory for the results: PNG files of the same names, or answers.jsonl, which is not needed.",
        ),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="An input of a language model; repeat for more, in place of a file.")
    ] = None,
    generate: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens that a language model may answer with.")
    ] = ANSWER_TOKENS,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Also the images in its directories, to directories of the same names.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that is no image, or fails.")
    ] = False,
    levels: options.Levels = None,
    ignore_orientation: options.IgnoreOrientation = False,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    model: options.ModelOfVectors = None,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Do a task on images, or texts, through its task vectors. Interrupted, the same command goes on where it stopped.

    Answers to texts are printed, each behind its input. Results of images carry the names of the images and their
    sizes; those that are there already are kept, if they are whole.
    What is no image, and images that cannot be read, are listed at the end, all of them in the file of `--json`.
    """
    place = located(vectors)
    found = TaskVectors.load(place, load_model(options.model_of([place], model), options.working_on(device, threads)))
    if found.config.wording is not None:
        of_images = {
            "--recursive": recursive,
            "--strict": strict,
            "--levels": levels is not None,
            "--ignore-orientation": ignore_orientation,
            "--max-pixels": max_pixels != MAX_PIXELS,
        }
        if asked := [option for option, given in of_images.items() if given]:
            raise ValueError(f"{asked[0]} is about images: these task vectors are of texts")
        apply_to_texts(found, TextsIn(inputs, text or ()), generate, out, json_file, overwrite=overwrite)
        return
    if inputs is None or out is None or text:
        raise ValueError("these task vectors are of images: expected an image or a directory of images, and --out")
    planned = application.plan(inputs, out, recursive=recursive)
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
    write_json(json_file, {**told, "machine": environment.machine()})
    if skipped:
        console.print(f"skipped, as they are no images: {len(skipped)}: {_first(list(skipped.values()))}")
    if failures:
        raise ValueError(f"{len(failures)} of {len(jobs)} images failed: {_first(list(failures.values()))}")


def _first(sentences: Sequence[str], limit: int = 3) -> str:
    """A few of them in one line, and how many more there are, with where to find these."""
    return shortened(sentences, limit) + (" (--json FILE has all)" if len(sentences) > limit else "")


@app.command("demo")
@takes_data(None, without=("metric",))
def demo_command(
    out: Annotated[
        Path, typer.Option(callback=options.directory, help="For report.html, overview.png, results.json, vectors/.")
    ] = Path("demo"),
    model: options.Model = "tiny",
    data_options: DataOptions = NONE_GIVEN,
    queries: Annotated[int, typer.Option(min=2, help="Test queries of every task, or all that there are.")] = QUERIES,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of every search; 40 if not given.")] = None,
    at_most: options.AtMost = None,
    curve: options.Curve = False,
    refined: options.Refine = False,
    settings_file: options.SettingsFile = None,
    assignments: options.Set = None,
    bfloat16: options.Bfloat16 = False,
    json_file: options.Json = None,
    seed: options.SearchSeed = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Every task that the data serve: statistics, search (preset best), evaluation, report. Minutes with tiny.

    On scenes that no model was trained on; with `--root`, on your own photographs, ten or more, of which a fifth is
    kept aside to judge by (segmentation needs masks, as Pascal-5i has them). The data set pictures is six photographs
    that ship with the package; their task vectors are found on drawn scenes. Replaces an earlier demonstration in the
    same directory. Without --data it is on a folder where there is a --root, else on scenes with tiny and on pictures
    with other models.
    """
    _refuse_what_is_no_demo(out)
    options.check_destinations(out, (*JUDGEMENT, OVERVIEW), ("vectors",))
    started = time.monotonic()
    settings = _settings(DEFAULT, settings_file, assignments, steps, seed, at_most, curve=curve, bfloat16=bfloat16)
    network = load_model(model, options.working_on(device, threads))
    usual = "folder" if data_options.root or data_options.input else "scenes" if model == "tiny" else "pictures"
    name = data_options.data or usual
    chosen = replace(data_options, data=name)
    test = chosen.load(judging_split(name), seed=settings.seed if name == "scenes" else None)
    if name in ("scenes", "pictures"):  # scenes that no model was trained on either
        train = DataOptions(data="scenes", fold=data_options.fold).load("validation", seed=settings.seed)
    else:
        train = chosen.load("train")
    tasks = tasks_of(test)
    for task in tasks:
        options.check_destinations(out / "vectors" / task.name, VECTORS, ("",))
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        total = _steps_of(settings)
        bars = {task.name: progress.add_task(task.name, total=total, status="") for task in tasks}
        logs = {name: search_log(progress, bars[name], out / "vectors" / name / SEARCH_LOG, total) for name in bars}
        outcome, vectors = find_and_judge(
            network,
            train,
            test,
            tasks,
            settings,
            queries,
            lambda name, record: logs[name](record),
            refining=RefineSettings(seed=settings.seed) if refined else None,
            on_refine=show_descent(progress, RefineSettings.steps),
        )
    for found in vectors:
        keep(found, out / "vectors" / found.task, out / "vectors" / found.task / SEARCH_LOG)
    for name in TASKS.keys() - bars.keys():  # of an earlier demonstration, on other data
        place = out / "vectors" / name
        for file in VECTORS:
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


def _settings(
    preset: str,
    file: Path | None,
    assignments: Sequence[str] | None,
    steps: int | None,
    seed: int | None,
    at_most: int | None,
    *,
    curve: bool,
    bfloat16: bool,
) -> FindSettings:
    """A preset's with the settings that were given."""
    given = {"seed": seed, "bfloat16": bfloat16 or None, "at_most": at_most, "curve": curve or None}
    return settings_of(preset, None, file, assignments or (), steps, given)


def _steps_of(settings: FindSettings) -> int | None:
    """How many steps a search will take; None where it finds its own end."""
    return settings.search.number_of_steps


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
    show(results_table(outcome), TABLE_WIDTH)
    show(verdicts_text(outcome), TABLE_WIDTH)
    say(f"{seconds:.0f} seconds; look at {out / 'report.html'}")
