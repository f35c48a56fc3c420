"""The commands that run the paper's experiments, and tell how far they are."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import torch
import typer
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from taskvec import environment
from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.terminal import app, console, say, write_json
from taskvec.data import DataSet, load_data
from taskvec.experiments import EXPERIMENTS, experiments_named
from taskvec.experiments.cells import Store
from taskvec.experiments.engines import Engine, Here, OnRay, Processes
from taskvec.experiments.journal import CELLS, LOG, Journal, status
from taskvec.experiments.language import LanguageProtocol, LanguageStudy, Relation
from taskvec.experiments.methods import layers_of
from taskvec.experiments.protocol import GROUPS, Group, protocol
from taskvec.experiments.running import TABLE_8, Drawn, report, run, run_on_language
from taskvec.experiments.spec import AnyStudy, StudySpec
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
from taskvec.threads import cores

PAIRS, SEEDS, QUICK_SEEDS = 1000, 3, 1
LANGUAGE_DATA = ("relations", "pairs")
RELATIONS_OF_TABLE_8 = ("landmark-country", "present-past", "country-capital")  # the paper's
REINFORCE_STEPS = 100  # of Table 8; the paper's 600 are six times as long
EngineName = Literal["here", "processes", "ray"]
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
    engine: Annotated[
        str,
        typer.Option(help="Where numbers are computed: here, in processes of one thread each, or by Ray (ray)."),
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
    chosen_engine = _Engine.of(engine, workers, address, threads)
    if name != TABLE_8 and task:
        raise ValueError(f"--task {task[0]}: only {TABLE_8} is about one task or another")
    names = [name] if name == TABLE_8 else experiments_named(name)
    files = ("run.json", LOG, "report.html", "claims.json")
    options.check_destinations(out, files, (CELLS, "tables", "figures"))
    images = _xrays(xrays, names)
    network = load_model(model, options.working_on(device, threads if engine == "here" else 1))
    if network.takes_texts != (name == TABLE_8):
        wanted = f"a language model is studied by {TABLE_8} alone" if name != TABLE_8 else "it takes a language model"
        raise ValueError(f"{name} --model {model}: {wanted}")
    preset = preset or default_preset(network)
    started = time.monotonic()
    if name == TABLE_8:
        relations = _relations(data_options, task)
        count = seeds or (QUICK_SEEDS if quick else SEEDS)
        own = range(seed, seed + count)
        _language(
            network, relations, own, pairs, preset, out, model, chosen_engine, json_file, quick=quick, bfloat16=bfloat16
        )
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
    study = Study(network, chosen, Store(out / CELLS))
    with _shown(out, name, engine) as watcher:
        drawn = run(names, study, chosen_engine.on(study, model), watcher, out, console.print, evidence=name == "all")
        if name == "all" and not drawn.failure:
            title = f"Visual task vectors: {model} on {data}"
            seconds = {"time": {"seconds of this run": time.monotonic() - started}}
            report(drawn.results, study, out, title, {**facts, **seconds})
    _say_tables(drawn)
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
    engine: "_Engine",
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
    chosen = LanguageProtocol(relations, tuple(seeds), pairs, settings, reinforce)
    study = LanguageStudy(network, chosen, Store(out / CELLS))
    with _shown(out, TABLE_8, engine.name) as watcher:
        drawn = run_on_language(
            study, engine.on(study, model), watcher, out, f"Task vectors of {Path(model).name}", facts
        )
    _say_tables(drawn)
    write_json(json_file, facts)
    console.print(f"{time.monotonic() - started:.0f} seconds: {out / 'report.html'}")


@app.command("experiment status")
def status_command(
    directory: Annotated[Path, typer.Argument(help="The --out of `taskvec experiment`.")],
    json_file: options.Json = None,
) -> None:
    """How far the study in a directory is: what is done, what is running and where, what failed and why."""
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


@dataclass(frozen=True)
class _Engine:
    """What the options say of where cells are computed."""

    name: EngineName
    workers: int | None
    address: str | None

    @classmethod
    def of(cls, name: str, workers: int | None, address: str | None, threads: int | None) -> "_Engine":
        """ValueError for options that do not go together."""
        if name not in get_args(EngineName):
            raise ValueError(f"--engine {name}: expected {', '.join(get_args(EngineName))}")
        if address is not None and name != "ray":
            raise ValueError(f"--address {address}: only the engine ray has one, not {name}")
        if workers is not None and name == "here":
            raise ValueError(f"--workers {workers}: expected --engine processes or ray")
        if threads not in (None, 1) and name != "here":
            raise ValueError(f"--threads {threads}: by the engine {name} every cell is computed in one thread")
        return cls(name, workers, address)  # pyright: ignore[reportArgumentType]

    def on(self, study: AnyStudy, model: str) -> Engine:
        """The engine for a study whose model is loaded by this name."""
        if self.name == "here":
            return Here(study)
        spec = StudySpec.of(study, model)
        if self.name == "ray":
            return OnRay(spec, self.workers, self.address)
        room = torch.cuda.device_count() if study.model.device.type == "cuda" else cores()
        return Processes(spec, self.workers or room)


@dataclass
class _Watcher:
    """Shows what becomes of cells, and logs it."""

    progress: Progress
    name: str
    journal: Journal
    total: int = 0
    ended: int = 0
    failures: int = 0
    whole: TaskID | None = None
    shown: dict[str, TaskID] = field(default_factory=dict)

    def planned(self, cells: int) -> None:
        self.total, self.whole = cells, self.progress.add_task("")
        self._count()
        self.journal.planned(cells)

    def running(self, cell: str, where: str) -> None:
        self._over(cell)
        self.shown[cell] = self.progress.add_task(f"  {cell}: {where}")
        self.journal.running(cell, where)

    def done(self, cell: str, seconds: float | None) -> None:
        self.ended += 1
        self._over(cell)
        self._count()
        self.journal.done(cell, seconds)

    def failed(self, cell: str, reason: str, traceback: str | None) -> None:
        self.failures += 1
        self._over(cell)
        self._count()
        self.journal.failed(cell, reason, traceback)
        console.print(f"failed: {cell}: {reason}")

    def over(self) -> None:
        self.journal.over()

    def _over(self, cell: str) -> None:
        if cell in self.shown:
            self.progress.remove_task(self.shown.pop(cell))

    def _count(self) -> None:
        if self.whole is not None:
            failed = f", {self.failures} failed" if self.failures else ""
            self.progress.update(self.whole, description=f"{self.name}: {self.ended} of {self.total} cells{failed}")


@contextmanager
def _shown(out: Path, name: str, engine: str) -> Iterator[_Watcher]:
    """What shows cells as they are computed, and logs them."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Watcher(progress, name, Journal(out, engine))


def _say_tables(drawn: Drawn) -> None:
    """ValueError where some could not be drawn."""
    for each in (each for some in drawn.results.values() for each in some):
        if isinstance(each, Table):
            say(f"{each.title}\n\n{to_markdown(each)}")
    if drawn.failure:
        raise ValueError(drawn.failure)


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
