"""Commands about task vectors: the whole job, better values, the demonstration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskvec.choices import DEFAULT, DEFAULT_OF_TEXTS, MADE_FOR, OBJECTIVES, PRESETS, QUERIES, TASKS
from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.terminal import (
    JUDGEMENT,
    SEARCH_LOG,
    SEARCH_STATE,
    choose_task,
    console,
    keep,
    say,
    search_log,
    show,
    so_far,
    write_json,
)
from taskvec.files import replacing
from taskvec.names import HUB
from taskvec.records import CONFIG, TENSORS
from taskvec.refine_settings import RefineSettings

if TYPE_CHECKING:
    from taskvec.finding import FindSettings
    from taskvec.report.outcomes import Outcome
    from taskvec.vectors import TaskVectors

VECTORS = (CONFIG, TENSORS, SEARCH_LOG, f"{SEARCH_LOG}.partial")
OVERVIEW = "overview.png"  # by which a demonstration is known


@options.together
@options.one_writer()
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
            autocompletion=options.among(PRESETS),
            help=f"How they are found: {', '.join(PRESETS)}; {DEFAULT}, of language models {DEFAULT_OF_TEXTS}, if not "
            "given, as by taskvec.find.",
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
    tensorboard: options.WriteTensorBoard = False,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.SearchSeed = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """The whole job for one task: statistics, a search, scores on examples kept aside, a verdict, pictures.

    The search is that of `--preset best`, some seconds with tiny. Ctrl-C keeps the best sites so far, once there are
    any. A directory with input/ and output/ is a task of its own, from ten pairs on; of a language model a table of
    inputs and outputs is (--data pairs). For every setting of a search see `taskvec search`. The same command goes on
    where it was stopped.

    On several GPUs or processors, with the same result: torchrun --standalone --nproc-per-node N -m taskvec find ...
    """
    from rich.progress import Progress

    from taskvec.cli.texts import tell_shots
    from taskvec.data import judging_split
    from taskvec.files import write_json_lines
    from taskvec.finding import parts_of
    from taskvec.judging import find_and_judge
    from taskvec.models import load_model
    from taskvec.models.interface import Variant
    from taskvec.presets import default_preset
    from taskvec.processes import current
    from taskvec.progress import SEARCH_COLUMNS, show_descent
    from taskvec.prompts import draw_prompts
    from taskvec.report.contact_sheet import PAIRS, contact_sheet
    from taskvec.report.figures import example_grid
    from taskvec.search.checkpoint import Checkpoint

    state = Checkpoint(out / SEARCH_STATE)
    for name in (CONFIG, *JUDGEMENT):
        options.refuse_to_overwrite(out / name, overwrite or state.exists())
    options.check_destinations(out, (*VECTORS, *JUDGEMENT, SEARCH_STATE))
    network = load_model(model, options.working_on(device, threads))
    _tell_model(model)
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
        on_step = search_log(progress, bar, out / SEARCH_LOG, total, tensorboard=tensorboard)
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
            lambda _: state,
        )
    if not current().first:
        return
    write_json_lines(out / "pairs.jsonl", outcome.tasks[0].pairs)
    pictures: dict[str, Callable[[], bytes]] = {}
    if sheet is not None:
        pictures = {"examples.png": lambda: example_grid(outcome.tasks[0]), "pairs.png": lambda: sheet}
    _write_outcome(_of_model(outcome, model), out, json_file, pictures, sheet, examples.remarks())
    state.forget()


def _keep_found(vectors: "TaskVectors", out: Path) -> None:
    """Save what a search found; results of an earlier one in the same place no longer belong to it."""
    from taskvec.processes import current

    if not current().first:
        return
    for name in JUDGEMENT:
        (out / name).unlink(missing_ok=True)
    keep(vectors, out, out / SEARCH_LOG)
    if vectors.search.interrupted:
        console.print(f"{len(vectors.sites)} of {vectors.config.of} sites, interrupted: {out}")


@options.one_writer()
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
            autocompletion=options.among(OBJECTIVES),
            help=f"What is minimised: {' or '.join(OBJECTIVES)}; pixel is the task's metric, of answers decoded as "
            "expected, and the default where the vectors are.",
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
    from rich.progress import Progress

    from taskvec.models import load_model
    from taskvec.progress import SEARCH_COLUMNS, show_descent
    from taskvec.refining import refine
    from taskvec.vectors import TaskVectors

    options.refuse_to_overwrite(out / CONFIG, overwrite)
    options.check_destinations(out, (CONFIG, TENSORS), ("",))
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


@options.one_writer()
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
    same directory, or goes on with the searches of one that was stopped. Without --data it is on a folder where there
    is a --root, else on scenes with tiny and on pictures with other models.
    """
    from rich.progress import Progress

    from taskvec.data import judging_split
    from taskvec.data.examples import tasks_of
    from taskvec.judging import find_and_judge
    from taskvec.models import load_model
    from taskvec.progress import SEARCH_COLUMNS, show_descent
    from taskvec.report.figures import overview
    from taskvec.search.checkpoint import Checkpoint

    _refuse_what_is_no_demo(out)
    options.check_destinations(out, (*JUDGEMENT, OVERVIEW), ("vectors",))
    settings = _settings(DEFAULT, settings_file, assignments, steps, seed, at_most, curve=curve, bfloat16=bfloat16)
    network = load_model(model, options.working_on(device, threads))
    _tell_model(model)
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
        options.check_destinations(out / "vectors" / task.name, (*VECTORS, SEARCH_STATE), ("",))
    states = {task.name: Checkpoint(out / "vectors" / task.name / SEARCH_STATE) for task in tasks}
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
            checkpoint_of=lambda name: states[name],
        )
    for found in vectors:
        keep(found, out / "vectors" / found.task, out / "vectors" / found.task / SEARCH_LOG)
    for name in TASKS.keys() - bars.keys():  # of an earlier demonstration, on other data
        place = out / "vectors" / name
        for file in VECTORS:
            (place / file).unlink(missing_ok=True)
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
    _write_outcome(_of_model(outcome, model), out, json_file, {OVERVIEW: lambda: overview(outcome)})
    for state in states.values():
        state.forget()


def _refuse_what_is_no_demo(out: Path) -> None:
    """ValueError where results are that no demonstration left there: it replaces its own alone, whole or half-made."""
    if (out / OVERVIEW).exists() or any(out.glob(f"vectors/*/{SEARCH_STATE}")):
        return
    for path in (*(out / name for name in JUDGEMENT), *out.glob(f"vectors/*/{CONFIG}")):
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
) -> "FindSettings":
    """A preset's with the settings that were given."""
    from taskvec.presets import settings_of

    given = {"seed": seed, "bfloat16": bfloat16 or None, "at_most": at_most, "curve": curve or None}
    return settings_of(preset, None, file, assignments or (), steps, given)


def _steps_of(settings: "FindSettings") -> int | None:
    """How many steps a search will take; None where it finds its own end."""
    return settings.search.number_of_steps


def _tell_model(name: str) -> None:
    """Which model it is, what it was made for, and which other one there is."""
    made_for = f", which is for {MADE_FOR[name]}" if name in MADE_FOR else ""
    others = [f"--model {other} for {what}" for other, what in MADE_FOR.items() if made_for and other != name]
    console.print(f"model {name}{made_for}{f' ({others[0]})' if others else ''}")


def _of_model(outcome: "Outcome", name: str) -> "Outcome":
    """The outcome with the name of its model, of a directory its own name, not where that is."""
    known = name in MADE_FOR or name.startswith(HUB)
    return replace(outcome, model={**outcome.model, "name": name if known else Path(name).resolve().name})


def _write_outcome(
    outcome: "Outcome",
    out: Path,
    json_file: Path | None,
    pictures: Mapping[str, Callable[[], bytes]],
    pairs: bytes | None = None,
    remarks: Sequence[str] = (),
) -> None:
    """Results of a whole job, its table on the terminal, pictures and report: what takes most memory comes last.

    All of them say the same of how long it took, which is told when the last picture is drawn.
    """
    from taskvec.report.page import write_report
    from taskvec.report.table import TABLE_WIDTH, results_json, results_table, time_told, verdicts_text

    results, seconds = results_json(outcome), cache(so_far)
    write_json(out / "results.json", results)  # whatever becomes of the pictures
    show(results_table(outcome), TABLE_WIDTH)
    show(verdicts_text(outcome), TABLE_WIDTH)
    for name, draw in pictures.items():
        with replacing(out / name) as temporary:
            temporary.write_bytes(draw())
    write_report(outcome, out / "report.html", pairs, remarks, seconds)
    results["seconds"] = seconds()
    write_json(out / "results.json", results)
    write_json(json_file, results)
    say(f"{time_told(outcome, seconds())}; look at {out / 'report.html'}")
