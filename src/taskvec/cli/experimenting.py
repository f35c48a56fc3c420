"""The command that runs the paper's experiments."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from taskvec import environment
from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.terminal import app, console, say, write_json
from taskvec.data import DataSet, load_data
from taskvec.experiments import EXPERIMENTS, experiments_named
from taskvec.experiments.cells import OnCell, Store
from taskvec.experiments.language import LanguageStudy, Relation
from taskvec.experiments.methods import layers_of
from taskvec.experiments.protocol import GROUPS, Group, protocol
from taskvec.experiments.running import TABLE_8, Results, report, run, run_on_language
from taskvec.experiments.study import Study
from taskvec.files import difference, json_text, read_json
from taskvec.models import load_model
from taskvec.models.interface import PromptedModel
from taskvec.presets import PRESETS, default_preset, preset_named
from taskvec.prompts import pairs_of
from taskvec.report.exports import to_markdown
from taskvec.results import Table
from taskvec.search import ReinforceSettings
from taskvec.search.greedy import PAPER_LAYERS

PAIRS, SEEDS, QUICK_SEEDS = 1000, 3, 1
LANGUAGE_DATA = ("relations", "pairs")
RELATIONS_OF_TABLE_8 = ("landmark-country", "present-past", "country-capital")  # the paper's
REINFORCE_STEPS = 100  # of Table 8; the paper's 600 are six times as long
QUICK_SEARCH = {"steps": 15, "checkpoint_every": 5, "candidates": 7}


@app.command("experiment")
@options.one_writer()
@takes_data(None, without=("fold", "metric"))
def experiment_command(
    name: Annotated[
        str, typer.Argument(help=f"all, {', '.join((*EXPERIMENTS, TABLE_8))}, or another of the paper's numbers.")
    ],
    out: Annotated[
        Path,
        typer.Option(callback=options.directory, help="For tables/, figures/, report.html and cells/."),
    ],
    model: options.Model = "tiny",
    data_options: DataOptions = NONE_GIVEN,
    task: Annotated[
        list[str] | None,
        typer.Option(help=f"A relation of {TABLE_8}; repeat for more; {', '.join(RELATIONS_OF_TABLE_8)} if not given."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help=f"How task vectors are found: {', '.join(PRESETS)}; as by `taskvec find` if not given."),
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="Prompts that judge every method in a fold or seed.")] = PAIRS,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help=f"Seeds of scenes or a folder, {SEEDS} (1 with --quick); of each Pascal-5i fold, 1."),
    ] = None,
    xrays: Annotated[Path | None, typer.Option(help="A directory of x-rays, for figure-6.")] = None,
    bfloat16: options.Bfloat16 = False,
    quick: Annotated[bool, typer.Option("--quick", help="A coarse version of everything, in minutes.")] = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """The paper's tables and figures on a model and data; with all, the report on every claim.

    Table 8 is of a language model, on relations that ship with the package or on a file of pairs (--data pairs).

    Every number is computed once and kept in OUT/cells: an interrupted run goes on where it stopped, and another
    experiment takes what is there.
    """
    if name != TABLE_8 and task:
        raise ValueError(f"--task {task[0]}: only {TABLE_8} is about one task or another")
    names = [name] if name == TABLE_8 else experiments_named(name)
    files = ("run.json", "log.jsonl", "report.html", "claims.json")
    options.check_destinations(out, files, ("cells", "tables", "figures"))
    images = _xrays(xrays, names)
    network = load_model(model, options.working_on(device, threads))
    if network.takes_texts != (name == TABLE_8):
        wanted = f"a language model is studied by {TABLE_8} alone" if name != TABLE_8 else "it takes a language model"
        raise ValueError(f"{name} --model {model}: {wanted}")
    preset = preset or default_preset(network)
    started = time.monotonic()
    if name == TABLE_8:
        relations = _relations(data_options, task)
        count = seeds or (QUICK_SEEDS if quick else SEEDS)
        own = range(seed, seed + count)
        _language(network, relations, own, pairs, preset, out, model, json_file, quick=quick, bfloat16=bfloat16)
        return
    data = data_options.data or "scenes"
    groups = _groups(data, seeds, seed, quick=quick, **data_options.given())
    chosen = protocol(preset, groups, pairs, bfloat16=bfloat16, quick=quick, xrays=images)
    greedy = replace(chosen.greedy, layers=layers_of(PAPER_LAYERS, network))
    facts: dict[str, Any] = {
        "model": {"name": model, "fingerprint": network.fingerprint()},
        "data": {
            group.name: {"found on": group.train.describe(), "judged on": group.test.describe()} for group in groups
        },
        "judged by": {"pairs": chosen.pairs, "x-rays": images.describe() if images else None},
        "protocol": {
            "preset": preset,
            "quick": quick,
            "settings": asdict(chosen.settings),
            "baselines": {"items": chosen.baseline_items, "greedy": asdict(greedy)},
        },
        "machine": environment.machine(),
        "versions": environment.versions(),
    }
    _refuse_to_mix(out / "run.json", facts)
    write_json(out / "run.json", facts)
    with _progress(out, name) as on_cell:
        study = Study(network, chosen, Store(out / "cells", on_cell))
        results = run(names, study, out, console.print)
        if name == "all":
            title = f"Visual task vectors: {model} on {data}"
            report(results, study, out, title, {**facts, "time": {"seconds of this run": time.monotonic() - started}})
    _say_tables(results)
    write_json(json_file, facts)
    console.print(f"{time.monotonic() - started:.0f} seconds: {out / 'report.html' if name == 'all' else out}")


def _relations(data_options: DataOptions, tasks: list[str] | None) -> tuple[Relation, ...]:
    """Relations that ship, by their names, or the one in a user's file."""
    chosen = data_options if data_options.data in LANGUAGE_DATA else replace(data_options, data="relations")
    if data_options.data not in (*LANGUAGE_DATA, None):
        raise ValueError(f"--data {data_options.data}: {TABLE_8} is on {' or '.join(LANGUAGE_DATA)}")
    if data_options.shots == 1:
        raise ValueError(f"--shots 1: {TABLE_8} exchanges the outputs of a prompt's examples, expected 2 or more")
    if tasks and (again := [name for name in tasks if tasks.count(name) > 1]):
        raise ValueError(f"--task {again[0]} is there twice: expected different relations")
    names = tasks or (list(RELATIONS_OF_TABLE_8) if chosen.data == "relations" else None)
    parts = [chosen.load_each(part, names) for part in ("train", "test")]
    return tuple(Relation(train, test) for train, test in zip(*parts, strict=True))  # pyright: ignore[reportArgumentType]


def _language(
    network: PromptedModel,
    relations: tuple[Relation, ...],
    seeds: Sequence[int],
    pairs: int,
    preset: str,
    out: Path,
    model: str,
    json_file: Path | None,
    *,
    quick: bool,
    bfloat16: bool,
) -> None:
    """Table 8, its report and its claim."""
    started = time.monotonic()
    settings = replace(preset_named(preset), bfloat16=bfloat16)
    reinforce = ReinforceSettings(steps=REINFORCE_STEPS)
    if quick:
        search = replace(settings.search, **QUICK_SEARCH)
        settings = replace(settings, prompts=20, items=20, validation=20, search=search)
        pairs, reinforce = min(pairs, 40), replace(reinforce, steps=10, checkpoint_every=10)
    facts: dict[str, Any] = {
        "model": {"name": model, "fingerprint": network.fingerprint()},
        "data": {
            each.task.name: {"found on": each.train.describe(), "judged on": each.test.describe()} for each in relations
        },
        "judged by": {"pairs": pairs, "seeds": list(seeds)},
        "protocol": {"preset": preset, "quick": quick, "settings": asdict(settings), "reinforce": asdict(reinforce)},
        "machine": environment.machine(),
        "versions": environment.versions(),
    }
    _refuse_to_mix(out / "run.json", facts)
    write_json(out / "run.json", facts)
    with _progress(out, TABLE_8) as on_cell:
        store = Store(out / "cells", on_cell)
        study = LanguageStudy(network, relations, tuple(seeds), pairs, settings, reinforce, store)
        results = run_on_language(study, out, f"Task vectors of {Path(model).name}", facts)
    _say_tables(results)
    write_json(json_file, facts)
    console.print(f"{time.monotonic() - started:.0f} seconds: {out / 'report.html'}")


@contextmanager
def _progress(out: Path, name: str) -> Iterator[OnCell]:
    """What shows cells as they are computed, and logs them."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(name)
        log = out / "log.jsonl"

        def on_cell(what: str, seconds: float | None) -> None:
            progress.update(bar, description=what)
            if seconds is not None:
                with log.open("a") as lines:
                    lines.write(json_text({"cell": what, "seconds": round(seconds, 3)}) + "\n")

        yield on_cell


def _say_tables(results: Results) -> None:
    for each in (each for some in results.values() for each in some):
        if isinstance(each, Table):
            say(f"{each.title}\n\n{to_markdown(each)}")


def _xrays(root: Path | None, names: Sequence[str]) -> DataSet | None:
    """The x-rays, which have to be readable before hours are spent; ValueError where there are none to be judged on."""
    if root is None:
        return None
    if "figure-6" not in names:
        raise ValueError(f"--xrays {root}: only figure-6 and all are about x-rays")
    images = load_data("folder", "all", root=root)
    if not pairs_of(images):
        raise ValueError(f"--xrays {root}: there is {len(images)} image, expected two or more")
    return images


def _refuse_to_mix(path: Path, facts: dict[str, Any]) -> None:
    """ValueError where a directory holds the results of another model, protocol or kind of data.

    More pairs or seeds are the same study: what is there is taken, and tables say how many they are of.
    """
    if not path.exists():
        return
    try:
        kept, wanted = (
            {"model": each["model"], "data": _kind(each["data"]), "protocol": each["protocol"]}
            for each in (read_json(path), json.loads(json_text(facts)))
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not say what study it is of: name another place") from error
    if kept != wanted:
        raise ValueError(f"{path.parent} holds another study, with {difference(kept, wanted)}; name another place")


def _kind(groups: dict[str, Any]) -> dict[str, Any]:
    """What all groups have in common: the data set, and what the first is judged on."""
    first = next(iter(groups.values()))["judged on"]
    return {name: first[name] for name in ("data", "digest", "layout") if name in first}


def _groups(data: str, seeds: int | None, first: int, *, quick: bool, **given: object) -> tuple[Group, ...]:
    """The folds or seeds of a data set; ValueError for one that cannot be studied."""
    if data not in GROUPS:
        raise ValueError(f"--data {data}: expected {', '.join(GROUPS)}, on which task vectors can be found")
    count = seeds or (1 if data == "pascal" else QUICK_SEEDS if quick else SEEDS)
    if data == "scenes" and given:
        raise ValueError(f"scenes take no {', '.join(given)}: they are drawn")
    return GROUPS[data](range(first, first + count), **given)  # pyright: ignore[reportCallIssue]
