"""Commands that find the sites of task vectors: collect statistics, search."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from taskvec.choices import GRANULARITIES, NON_FINITE, OBJECTIVES, PRESETS, SEARCHES, TASKS
from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.options import among
from taskvec.cli.signals import INTERRUPTED
from taskvec.cli.terminal import (
    SEARCH_LOG,
    SEARCH_STATE,
    choose_task,
    console,
    keep,
    partial_file,
    search_log,
    write_json,
)

if TYPE_CHECKING:
    from taskvec.finding import Finding, FindSettings


@options.together
@options.one_writer(to_file=True)
@takes_data()
def collect_command(
    out: Annotated[Path, typer.Option(callback=options.file, help="The file of statistics to write (safetensors).")],
    model: options.Model = "tiny",
    data_options: DataOptions = NONE_GIVEN,
    task: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=among(TASKS), help="Repeat for several; a folder's own or all that it serves if not given."
        ),
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts behind each mean.")] = 100,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Mean and variance of every head output over one-shot prompts of each task.

    Interrupted, the same command goes on where it stopped.

    On several GPUs or processors, with the same result: torchrun --standalone --nproc-per-node N -m taskvec collect ...
    """
    from rich.progress import Progress

    from taskvec import environment
    from taskvec.data.examples import tasks_of
    from taskvec.finding import FindSettings, statistics_prompts
    from taskvec.models import load_model
    from taskvec.processes import current
    from taskvec.progress import COLUMNS
    from taskvec.prompts import sides
    from taskvec.search.checkpoint import Checkpoint
    from taskvec.statistics import collect, passes_of

    options.refuse_to_overwrite(out, overwrite or partial_file(out).exists())
    processes, network = current(), load_model(model, options.working_on(device, threads))
    examples = data_options.load_each("train", task)
    if task:
        named = zip(examples, task, strict=True)
        tasks = [choose_task(one, [name], data_options.metric) for one, name in named]
    else:
        (one,) = examples
        tasks = tasks_of(one) if one.own_task is None else [choose_task(one, None, data_options.metric)]
        examples *= len(tasks)
    settings = FindSettings(prompts=prompts, seed=seed)
    described = list({id(one): one.describe() for one in examples}.values())
    asked = {"data": described, "tasks": [[each.name, sides(each)] for each in tasks]}
    checkpoint = Checkpoint(partial_file(out), {**asked, "prompts": prompts, "seed": seed}, "collection")
    passes = passes_of(network)
    with Progress(*COLUMNS, console=console, disable=not processes.first) as progress:
        bars = {each.name: progress.add_task(each.name, total=prompts) for each in tasks}
        result = collect(
            network,
            (statistics_prompts(network, *each, settings) for each in zip(examples, tasks, strict=True)),
            lambda name, done: progress.update(bars[name], completed=done),
            passes=passes,
            checkpoint=checkpoint,
        )
    if processes.first:
        result.save(out)
        summary = {
            "file": str(out),
            "model_fingerprint": result.model_fingerprint,
            "data": described[0] if len(described) == 1 else described,
            "seed": seed,
            "machine": environment.machine(),
            "rows": passes.rows,
        }
        write_json(json_file, {**summary, "prompts": {name: each.count for name, each in result.tasks.items()}})
        checkpoint.forget()
    processes.wait()  # until that is safe


@options.together
@options.one_writer()
@takes_data()
def search_command(
    out: Annotated[
        Path, typer.Option(callback=options.directory, help="Directory for the task vectors and the log of the search.")
    ],
    task: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=among(TASKS),
            help="Repeat for a multi-task search, whose task vectors go to OUT/TASK; a folder has its own.",
        ),
    ] = None,
    model: options.Model = "tiny",
    data_options: DataOptions = NONE_GIVEN,
    statistics: Annotated[
        Path | None, typer.Option(help="From `taskvec collect`; collected anew if not given.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            autocompletion=among(PRESETS),
            help=f"Settings to start from: {', '.join(PRESETS)}. If not given: paper, or best of a method by gradient.",
        ),
    ] = None,
    prompts: Annotated[
        int | None, typer.Option(min=1, help="Prompts behind the means, where they are collected.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            autocompletion=among(SEARCHES),
            help=f"One of {', '.join(SEARCHES)}; the preset's if not given. Any other brings its own objective and "
            "number of items: relaxed and attribution, which are by gradient, those of best, the others the paper's.",
        ),
    ] = None,
    items: Annotated[int | None, typer.Option(min=1, help="Queries to search on, of all tasks together.")] = None,
    validation: Annotated[
        int | None,
        typer.Option(min=1, help="Validation queries, which choose the sites, of all tasks together."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="600 in the paper, or 40 of relaxed.")] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            autocompletion=among(OBJECTIVES),
            help=f"What is minimised: {' or '.join(OBJECTIVES)}; pixel, or token where a gradient needs it.",
        ),
    ] = None,
    granularity: Annotated[
        str | None,
        typer.Option(autocompletion=among(GRANULARITIES), help=f"One of {', '.join(GRANULARITIES)}; quadrant."),
    ] = None,
    stack: Annotated[
        list[str] | None,
        typer.Option(help="A stack of the model, which `taskvec info` lists, such as encoder; all by default."),
    ] = None,
    at_most: options.AtMost = None,
    answers: options.Answers = None,
    settings_file: options.SettingsFile = None,
    assignments: options.Set = None,
    bfloat16: options.Bfloat16 = False,
    non_finite: Annotated[
        str | None,
        typer.Option(
            autocompletion=among(NON_FINITE),
            help=f"Losses that are NaN or infinite: {' or '.join(NON_FINITE)}; refuse.",
        ),
    ] = None,
    tensorboard: options.WriteTensorBoard = False,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.SearchSeed = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Find the task vectors of a task, or of several at the same sites: by default the paper's search, of some minutes.

    `--preset best` is that of `find`, of seconds. Ctrl-C keeps the best so far. The same command goes on with a search
    that was stopped, to the same end.

    On several GPUs or processors, with the same result: torchrun --standalone --nproc-per-node N -m taskvec search ...
    """
    from rich.progress import Progress

    from taskvec.finding import find_sites
    from taskvec.models import load_model
    from taskvec.presets import settings_of
    from taskvec.processes import current
    from taskvec.progress import SEARCH_COLUMNS
    from taskvec.records import CONFIG, TENSORS
    from taskvec.search.checkpoint import Checkpoint
    from taskvec.statistics import Statistics

    given = {
        "prompts": prompts,
        "items": items,
        "validation": validation,
        "objective": objective,
        "granularity": granularity,
        "stacks": tuple(stack) if stack else None,
        "seed": seed,
        "bfloat16": bfloat16 or None,
        "non_finite": non_finite,
        "at_most": at_most,
        "answers": answers,
    }
    settings = settings_of(preset, method, settings_file, assignments or (), steps, given)
    if statistics is not None and prompts is not None:
        raise ValueError(f"--prompts {prompts}: --statistics has been collected over as many as it was")
    network = load_model(model, options.working_on(device, threads))
    options.answer_scope(answers, network)  # which only a language model has
    first, *others = data_options.of_each_root()
    examples = first.load_each("train", task)
    named = zip(examples, task or [None], strict=True)
    tasks = [choose_task(one, name and [name], data_options.metric) for one, name in named]
    for other in others:
        folder = other.load("train")
        examples.append(folder)
        tasks.append(choose_task(folder, None, data_options.metric))
    places = {each.name: out if len(tasks) == 1 else out / each.name for each in tasks}
    checkpoint = Checkpoint(out / SEARCH_STATE)
    _refuse_to_mix(out, places, overwrite=overwrite or checkpoint.exists())
    options.check_destinations(out, (SEARCH_LOG, SEARCH_STATE))
    for place in places.values():
        options.check_destinations(place, (CONFIG, TENSORS), ("",))
    collected = None
    if statistics is not None:
        collected = Statistics.load(statistics)  # which says itself how its prompts were drawn
        settings = replace(settings, prompts=next(iter(collected.tasks.values())).count, pool=0)
    with Progress(*SEARCH_COLUMNS, console=console) as progress:
        bar = progress.add_task(" + ".join(each.name for each in tasks), total=None, status="")
        on_step = search_log(progress, bar, out / SEARCH_LOG, settings.search.number_of_steps, tensorboard=tensorboard)
        finding = find_sites(network, examples, tasks, settings, collected, on_step, checkpoint)
    if current().first:
        _keep(finding, places, out, json_file)
        if not finding.result.interrupted:
            checkpoint.forget()  # only now that the result is there: whatever ended this command before cost no step
        _tell(finding, settings, out)
    if finding.result.interrupted:
        raise typer.Exit(INTERRUPTED)


def _keep(finding: "Finding", places: dict[str, Path], out: Path, json_file: Path | None) -> None:
    """Save what a search came to."""
    vectors = finding.vectors()
    for each in vectors:
        keep(each, places[each.task], out / SEARCH_LOG)
    write_json(json_file, [asdict(each.config) for each in vectors] if len(vectors) > 1 else asdict(vectors[0].config))


def _tell(finding: "Finding", settings: "FindSettings", out: Path) -> None:
    """Say what a search came to."""
    result = finding.result
    if result.non_finite:
        console.print(f"{result.non_finite} losses were NaN or infinite and are left out")
    cut = ", interrupted" if result.interrupted else ""
    validated = "validate" in settings.search.needs or settings.prune
    loss = f"{'validation loss' if validated else 'loss'} {result.loss:.4f}"
    console.print(f"{int(result.mask.sum())} of {len(finding.sites)} sites{cut}, {loss} at step {result.step}: {out}")


def _refuse_to_mix(out: Path, places: dict[str, Path], *, overwrite: bool) -> None:
    """ValueError where there are task vectors already: in a place to write to, or of another search beside it."""
    from taskvec.records import CONFIG, holds_vectors

    for place in places.values():
        options.refuse_to_overwrite(place / CONFIG, overwrite)
    for other in [out, *(sorted(out.iterdir()) if out.is_dir() else [])]:
        if other not in places.values() and holds_vectors(other):
            raise ValueError(
                f"{other} holds task vectors of another search, whose sites are others: name another place or remove it"
            )
