"""The commands that run the paper's experiments, and tell how far they are."""

import time
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from taskvec.choices import PRESETS
from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.terminal import console, say, write_json
from taskvec.experiments import EXPERIMENTS, TABLE_8, experiments_named

PAIRS, SEEDS, QUICK_SEEDS = 1000, 3, 1
RELATIONS_OF_TABLE_8 = ("landmark-country", "present-past", "country-capital")  # the paper's


@options.one_writer()
@takes_data(None, without=("fold", "metric"))
def experiment_command(
    name: Annotated[
        str,
        typer.Argument(
            autocompletion=options.among(("all", "status", *EXPERIMENTS, TABLE_8)),
            help=f"all, {', '.join((*EXPERIMENTS, TABLE_8))}, or another of the paper's numbers.",
        ),
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
        typer.Option(
            autocompletion=options.among(PRESETS),
            help=f"How task vectors are found: {', '.join(PRESETS)}; as by `taskvec find` if not given.",
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(min=2, help="Prompts that judge every method in a fold or seed.")] = PAIRS,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help=f"Seeds of scenes or a folder, {SEEDS} (1 with --quick); of each Pascal-5i fold, 1."),
    ] = None,
    xrays: Annotated[Path | None, typer.Option(help="A directory of x-rays, for figure-6.")] = None,
    bfloat16: options.Bfloat16 = False,
    quick: Annotated[bool, typer.Option("--quick", help="A coarse version of everything, in minutes.")] = False,
    engine: Annotated[
        str,
        typer.Option(
            autocompletion=options.among(("here", "processes", "ray")),
            help="Where numbers are computed: here, in processes of one thread each, or by Ray (ray).",
        ),
    ] = "here",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="How many processes, or tasks of Ray at a time; as many as there is room for."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster, such as auto or ray://HOST:10001; one of this machine if not given."),
    ] = None,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """The paper's tables and figures on a model and data; with all, the report on every claim.

    Table 8 is of a language model, on relations that ship with the package or on a file of pairs (--data pairs).

    Every number is computed once and kept in OUT/cells: an interrupted run goes on where it stopped, and another
    experiment takes what is there. What fails does not stop the rest: it is named in the end, and computed by the next
    run. `taskvec experiment status OUT` says how far it is.
    """
    from taskvec import environment
    from taskvec.cli import studies
    from taskvec.experiments.cells import Store
    from taskvec.experiments.journal import CELLS, LOG
    from taskvec.experiments.methods import layers_of
    from taskvec.experiments.protocol import protocol
    from taskvec.experiments.running import report, run
    from taskvec.experiments.study import Study
    from taskvec.models import load_model
    from taskvec.presets import default_preset
    from taskvec.search.greedy import PAPER_LAYERS

    chosen_engine = studies.ChosenEngine.of(engine, workers, address, threads)
    if name != TABLE_8 and task:
        raise ValueError(f"--task {task[0]}: only {TABLE_8} is about one task or another")
    names = [name] if name == TABLE_8 else experiments_named(name)
    files = ("run.json", LOG, "report.html", "claims.json")
    options.check_destinations(out, files, (CELLS, "tables", "figures"))
    images = studies.xrays_of(xrays, names)
    network = load_model(model, options.working_on(device, threads if engine == "here" else 1))
    if network.takes_texts != (name == TABLE_8):
        wanted = f"a language model is studied by {TABLE_8} alone" if name != TABLE_8 else "it takes a language model"
        raise ValueError(f"{name} --model {model}: {wanted}")
    preset = preset or default_preset(network)
    started = time.monotonic()
    if name == TABLE_8:
        relations = studies.relations_of(data_options, task)
        count = seeds or (QUICK_SEEDS if quick else SEEDS)
        own = range(seed, seed + count)
        studies.on_language(
            network, relations, own, pairs, preset, out, model, chosen_engine, json_file, quick=quick, bfloat16=bfloat16
        )
        return
    data = data_options.data or "scenes"
    groups = studies.groups_of(data, seeds, seed, quick=quick, **data_options.given())
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
    studies.refuse_to_mix(out / "run.json", facts)
    write_json(out / "run.json", facts)
    study = Study(network, chosen, Store(out / CELLS))
    with studies.shown(out, name, engine) as watcher:
        drawn = run(names, study, chosen_engine.on(study, model), watcher, out, console.print, evidence=name == "all")
        if name == "all" and not drawn.failure:
            title = f"Visual task vectors: {model} on {data}"
            seconds = {"time": {"seconds of this run": time.monotonic() - started}}
            report(drawn.results, study, out, title, {**facts, **seconds})
    studies.say_tables(drawn)
    write_json(json_file, facts)
    console.print(f"{time.monotonic() - started:.0f} seconds: {out / 'report.html' if name == 'all' else out}")


def status_command(
    directory: Annotated[Path, typer.Argument(help="The --out of `taskvec experiment`.")],
    json_file: options.Json = None,
) -> None:
    """How far the study in a directory is: what is done, what is running and where, what failed and why."""
    from taskvec.experiments.journal import status

    found = status(directory)
    write_json(json_file, asdict(found))
    counts = [f"{found.done} cells done", f"{len(found.running)} running", f"{len(found.failed)} failed"]
    if found.to_come:
        counts.append(f"{found.to_come} {'to come' if found.alive else 'were still to come when the last run ended'}")
    by = f"; engine {found.engine} on {found.machine}" if found.alive else ""
    say(f"{directory}: {', '.join(counts)}{by}")
    for cell, (where, since) in found.running.items():
        say(f"  running  {cell}: {where}, since {datetime.fromtimestamp(since):%H:%M:%S}")
    for cell, reason in found.failed.items():
        say(f"  failed   {cell}: {reason}")
