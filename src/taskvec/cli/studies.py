"""What `taskvec experiment` does: studies, the engines that compute their cells, and how they are shown."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from taskvec import environment
from taskvec.cli.data_options import DataOptions
from taskvec.cli.experimenting import QUICK_SEEDS, RELATIONS_OF_TABLE_8, SEEDS
from taskvec.cli.terminal import console, say, write_json
from taskvec.data import DataSet, load_data
from taskvec.experiments import TABLE_8
from taskvec.experiments.cells import Store
from taskvec.experiments.engines import Engine, Here, OnRay, Processes
from taskvec.experiments.journal import CELLS, Journal
from taskvec.experiments.language import LanguageProtocol, LanguageStudy, Relation
from taskvec.experiments.protocol import GROUPS, Group
from taskvec.experiments.running import Drawn, run_on_language
from taskvec.experiments.spec import AnyStudy, StudySpec
from taskvec.files import difference, json_text, read_json
from taskvec.models.interface import PromptedModel
from taskvec.presets import preset_named
from taskvec.prompts import pairs_of
from taskvec.report.exports import to_markdown
from taskvec.results import Table
from taskvec.search import ReinforceSettings
from taskvec.threads import cores

LANGUAGE_DATA = ("relations", "pairs")
REINFORCE_STEPS = 100  # of Table 8; the paper's 600 are six times as long
EngineName = Literal["here", "processes", "ray"]
QUICK_SEARCH = {"steps": 15, "checkpoint_every": 5, "candidates": 7}


def relations_of(data_options: DataOptions, tasks: list[str] | None) -> tuple[Relation, ...]:
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


def on_language(
    network: PromptedModel,
    relations: tuple[Relation, ...],
    seeds: Sequence[int],
    pairs: int,
    preset: str,
    out: Path,
    model: str,
    engine: "ChosenEngine",
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
    refuse_to_mix(out / "run.json", facts)
    write_json(out / "run.json", facts)
    chosen = LanguageProtocol(relations, tuple(seeds), pairs, settings, reinforce)
    study = LanguageStudy(network, chosen, Store(out / CELLS))
    with shown(out, TABLE_8, engine.name) as watcher:
        drawn = run_on_language(
            study, engine.on(study, model), watcher, out, f"Task vectors of {Path(model).name}", facts
        )
    say_tables(drawn)
    write_json(json_file, facts)
    console.print(f"{time.monotonic() - started:.0f} seconds: {out / 'report.html'}")


@dataclass(frozen=True)
class ChosenEngine:
    """What the options say of where cells are computed."""

    name: EngineName
    workers: int | None
    address: str | None

    @classmethod
    def of(cls, name: str, workers: int | None, address: str | None, threads: int | None) -> "ChosenEngine":
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
def shown(out: Path, name: str, engine: str) -> Iterator[_Watcher]:
    """What shows cells as they are computed, and logs them."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Watcher(progress, name, Journal(out, engine))


def say_tables(drawn: Drawn) -> None:
    """ValueError where some could not be drawn."""
    for each in (each for some in drawn.results.values() for each in some):
        if isinstance(each, Table):
            say(f"{each.title}\n\n{to_markdown(each)}")
    if drawn.failure:
        raise ValueError(drawn.failure)


def xrays_of(root: Path | None, names: Sequence[str]) -> DataSet | None:
    """The x-rays, which have to be readable before hours are spent; ValueError where there are none to be judged on."""
    if root is None:
        return None
    if "figure-6" not in names:
        raise ValueError(f"--xrays {root}: only figure-6 and all are about x-rays")
    images = load_data("folder", "all", root=root)
    if not pairs_of(images):
        raise ValueError(f"--xrays {root}: there is {len(images)} image, expected two or more")
    return images


def refuse_to_mix(path: Path, facts: dict[str, Any]) -> None:
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


def groups_of(data: str, seeds: int | None, first: int, *, quick: bool, **given: object) -> tuple[Group, ...]:
    """The folds or seeds of a data set; ValueError for one that cannot be studied."""
    if data not in GROUPS:
        raise ValueError(f"--data {data}: expected {', '.join(GROUPS)}, on which task vectors can be found")
    count = seeds or (1 if data == "pascal" else QUICK_SEEDS if quick else SEEDS)
    if data == "scenes" and given:
        raise ValueError(f"scenes take no {', '.join(given)}: they are drawn")
    return GROUPS[data](range(first, first + count), **given)  # pyright: ignore[reportCallIssue]
