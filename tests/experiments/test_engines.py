"""Where cells are computed: the same files whatever the engine, and what becomes of failures, kills and interrupts."""

import json
import os
import pickle
import re
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from taskvec.experiments import EXPERIMENTS
from taskvec.experiments.cells import Cell, Store
from taskvec.experiments.engines import Engine, Here, OnRay, Processes, Run, missing
from taskvec.experiments.journal import CELLS, Journal, status
from taskvec.experiments.protocol import Protocol
from taskvec.experiments.spec import StudySpec
from taskvec.experiments.study import Study
from taskvec.extras import install
from taskvec.models.mae_vqgan import MaeVqgan
from told import Told


@pytest.fixture(scope="module")
def spec(small_model: MaeVqgan, coarse: Protocol, tmp_path_factory: pytest.TempPathFactory) -> StudySpec:
    """One seed of the coarse study, of a model in a directory."""
    directory = tmp_path_factory.mktemp("spec")
    small_model.save_pretrained(directory / "model")
    protocol = replace(coarse, groups=coarse.groups[:1])
    return StudySpec.of(Study(small_model, protocol, Store(directory / CELLS)), str(directory / "model"))


def in_directory(spec: StudySpec, directory: Path) -> tuple[StudySpec, Study]:
    """The same with its cells elsewhere, and the study made again from it."""
    own = replace(spec, cells=directory)
    return own, pickle.loads(pickle.dumps(own)).study()  # noqa: S301


def wanted(study: Study) -> Sequence[Cell[Study]]:
    """Statistics, a search, decodings, scores, and some whose keys follow from what a search came to."""
    return EXPERIMENTS["figure-7"].cells(study)


def computed(study: Study, engine: Engine, told: Told) -> Run:
    run = Run(study, {"figure-7": wanted(study)}, engine, told)
    assert list(run) == ([] if run.failures else ["figure-7"])
    return run


def contents(directory: Path) -> dict[str, Any]:
    """What files hold, but for the seconds of cells."""
    found: dict[str, Any] = {}
    for path in sorted(directory.iterdir()):
        if path.suffix == ".json":
            found[path.name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("seconds", "digest")}
        else:
            found[path.name] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def here(spec: StudySpec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What this process computes."""
    _, study = in_directory(spec, tmp_path_factory.mktemp("here"))
    told = Told()
    computed(study, Here(study), told)
    assert told.of("running") == told.of("done")
    assert len(set(told.of("done"))) == told.cells == len(list(study.store.directory.glob("*.json")))
    assert missing(study, wanted(study)) == {}
    return contents(study.store.directory)


def test_processes_give_the_same_files_although_one_is_killed(
    spec: StudySpec, here: dict[str, Any], tmp_path: Path
) -> None:
    own, study = in_directory(spec, tmp_path)
    places: set[str] = set()

    def kill_once(where: str) -> None:
        """The second of the two, while it has its first cell."""
        if len(places) == 1 and where not in places:
            os.kill(process_of(where), signal.SIGKILL)
        places.add(where)

    told = Told(kill_once)
    computed(study, Processes(own, 2), told)
    assert contents(tmp_path) == here
    assert len(places) == 3
    assert len(told.of("running")) == len(told.of("done")) + 1  # the cell of the one that was killed
    assert not any(is_there(process_of(where)) for where in places)


def gone(process: int) -> bool:
    """Whether a process ends within some seconds."""
    for _ in range(100):
        if not is_there(process):
            return True
        time.sleep(0.1)
    return False


def process_of(where: str) -> int:
    return int(where.rpartition("(")[2].rstrip(")"))


def is_there(process: int) -> bool:
    """And is more than an entry in a table that nobody has asked about yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_interrupt_keeps_what_is_done_and_leaves_no_process(spec: StudySpec, tmp_path: Path) -> None:
    own, study = in_directory(spec, tmp_path)
    places: list[str] = []

    def interrupt(where: str) -> None:
        places.append(where)
        if len(places) == 3:
            raise KeyboardInterrupt

    told = Told(interrupt)
    with pytest.raises(KeyboardInterrupt):
        computed(study, Processes(own, 1), told)
    assert told.events[-1][0] == "over"
    assert not is_there(process_of(places[0]))
    kept = list(tmp_path.glob("*.json"))
    assert len(kept) == len(told.of("done")) == 2
    left = Told()
    computed(study, Here(study), left)
    assert left.cells == len(list(tmp_path.glob("*.json"))) - len(kept)


def test_ray_gives_the_same_files(spec: StudySpec, here: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    own, study = in_directory(spec, tmp_path)
    places: list[str] = []
    handler = signal.getsignal(signal.SIGTERM)

    def kill_first(where: str) -> None:
        places.append(where)
        if len(places) == 2:
            os.kill(process_of(where), signal.SIGKILL)

    computed(study, OnRay(own, 2), Told(kill_first))
    assert contents(tmp_path) == here
    assert signal.getsignal(signal.SIGTERM) is handler
    assert all(gone(process_of(where)) for where in places)


@dataclass(frozen=True)
class Number(Cell[Study]):
    """A cell that has its number, of another cell if it needs one; negative ones fail."""

    number: int
    needed: "Number | None" = None

    def title(self, study: Study) -> str:
        return f"number {self.number}"

    def needs(self, study: Study) -> Sequence[Cell[Study]]:
        return () if self.needed is None else (self.needed,)

    def key(self, study: Study) -> dict[str, Any]:
        return {"number": self.number, "needed": None if self.needed is None else self.needed.value(study)}

    def compute(self, study: Study) -> int:
        if self.number < 0:
            raise ValueError(f"{self.number} is negative")
        if self.number > 100:
            raise TypeError("too large")
        return self.number


def test_what_fails_takes_only_what_needs_it_with_it(study: Study, tmp_path: Path) -> None:
    own = Study(study.model, study.protocol, Store(tmp_path / CELLS))
    negative, large = Number(-1), Number(101)
    goals = {"good": [Number(1), Number(2, Number(1))], "bad": [Number(3, Number(4, negative))], "large": [large]}
    run = Run(own, goals, Here(own), (journal := Journal(tmp_path, "here")))
    assert list(run) == ["good"]
    assert run.failures == {"number -1": "-1 is negative", "number 101": "TypeError: too large"}
    assert run.not_tried == 2
    found = status(tmp_path)
    assert (found.done, found.running, found.to_come, found.alive) == (2, {}, 2, False)
    assert found.failed == run.failures
    assert "Traceback" in (tmp_path / "log.jsonl").read_text()

    again = Run(own, {"good": goals["good"]}, Here(own), journal)
    assert list(again) == ["good"]
    assert status(tmp_path).failed == run.failures  # nothing was to be computed, and nothing was


def test_a_cell_is_started_when_what_it_needs_is_there(study: Study, tmp_path: Path) -> None:
    """And what several need, once."""
    own, told = Study(study.model, study.protocol, Store(tmp_path)), Told()
    first = Number(1)
    run = Run(own, {"all": [Number(5, Number(4, first)), Number(2, first), Number(3, first)]}, Here(own), told)
    assert list(run) == ["all"]
    assert told.of("done") == [f"number {number}" for number in (1, 4, 5, 2, 3)]


def test_status_of_a_study(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path} holds no study: expected the --out of `taskvec experiment`"):
        status(tmp_path)
    (tmp_path / CELLS).mkdir()
    (tmp_path / CELLS / "0.json").touch()
    journal = Journal(tmp_path, "processes")
    journal.planned(5)
    for cell in "abc":
        journal.running(cell, f"process of {cell}")
    journal.done("a", 0.5)
    journal.failed("b", "no memory")
    found = status(tmp_path)
    assert (found.done, found.failed, found.to_come, found.alive) == (1, {"b": "no memory"}, 2, True)
    assert found.engine == "processes"
    assert [(cell, where) for cell, (where, _) in found.running.items()] == [("c", "process of c")]
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"cell": "c", "sta')  # by a process that was killed
    assert status(tmp_path) == found
    lines = (tmp_path / "log.jsonl").read_text().replace(f'"process": {os.getpid()}', '"process": 4194304')
    (tmp_path / "log.jsonl").write_text(lines)
    found = status(tmp_path)  # whoever ran it is gone
    assert (found.running, found.to_come, found.alive) == ({}, 3, False)
    journal.planned(3)
    journal.done("b", 0.5)
    journal.over()
    assert status(tmp_path).failed == {}


def test_a_study_is_of_the_model_that_it_began_with(spec: StudySpec, tmp_path: Path) -> None:
    other = replace(spec, fingerprint="0" * 16)
    with pytest.raises(ValueError, match="is another one than when the study began"):
        other.study()


def test_ray_is_an_extra(spec: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ValueError, match=re.escape(f"the engine ray needs Ray: {install('cluster')}")):
        OnRay(spec).open()
