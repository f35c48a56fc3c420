import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taskvec.data import load_data
from taskvec.experiments import EXPERIMENTS, SECTIONS, experiments_named
from taskvec.experiments.cells import Cell, Store, digest
from taskvec.experiments.clustering import clusterings
from taskvec.experiments.collecting import collect_evidence, evidence_cells
from taskvec.experiments.engines import Here, Run
from taskvec.experiments.evidence import COMPOSED
from taskvec.experiments.methods import layers_of
from taskvec.experiments.protocol import X_RAYS
from taskvec.experiments.running import report, run
from taskvec.experiments.study import Study
from taskvec.report import exports
from taskvec.results import Picture, Table, Value
from told import Told


def test_every_experiment_is_in_one_section_of_the_report() -> None:
    named = [name for names in SECTIONS.values() for name in names]
    assert sorted(named) == sorted(EXPERIMENTS)


@pytest.mark.parametrize(("name", "expected"), [("table-6", ["table-3"]), ("figure-12", ["figure-8"]), ("all", None)])
def test_the_papers_numbers_name_experiments(name: str, expected: list[str] | None) -> None:
    assert experiments_named(name) == (expected or list(EXPERIMENTS))


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no experiment 'table-8': expected all, curves, figure-10"):
        experiments_named("table-8")


# Of all keys of the study below, as they were before engines: hours of work are found by them. Whoever means to change
# them counts ``cells.FORMAT`` up, too.
KEYS = "5597d7cde8c10e81"


@dataclass(frozen=True)
class Asked(Store):
    """Remembers which cells each experiment asks for, since it began."""

    paths: dict[str, set[Path]] = field(default_factory=dict)

    def begin(self, name: str) -> None:
        self.paths[name] = set()

    def get(self, what: str, key: dict[str, Any], compute: Callable[[], Any]) -> Any:
        list(self.paths.values())[-1].add(self.path(key, ".json"))
        return super().get(what, key, compute)


def with_needs(cells: Sequence[Cell[Study]], study: Study) -> set[Cell[Study]]:
    return {*cells, *(need for cell in cells for need in with_needs(cell.needs(study), study))}


def paths_of(cells: Iterable[Cell[Study]], study: Study) -> set[Path]:
    return {study.store.path(cell.key(study), ".json") for cell in cells}


def keys_of(cells: Iterable[Cell[Study]], study: Study) -> str:
    """A digest of the keys, but for what depends on the model's weights to the bit."""
    digests = sorted(digest({**cell.key(study), "model": None, "sites": None}) for cell in cells)
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


def test_everything_of_a_study(one_seed: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All experiments on a random model: what they are made of, not how well it does. And that each asks for the cells
    that it said it wants and for what these need, no others, so that an engine computes all of them."""
    monkeypatch.setattr(exports, "to_pdf", lambda picture: b"%PDF")  # which takes longer than the study
    monkeypatch.setattr(exports, "DOTS_PER_INCH", 40)
    wanted = {name: experiment.cells(one_seed) for name, experiment in EXPERIMENTS.items()}
    wanted["evidence"] = evidence_cells(one_seed)
    told = Told()
    assert set(Run(one_seed, wanted, Here(one_seed), told)) == set(wanted)
    assert len(set(told.of("done"))) == told.cells > 300  # no two cells are called the same

    every = with_needs([cell for cells in wanted.values() for cell in cells], one_seed)
    assert keys_of(every, one_seed) == KEYS

    asked = Asked(one_seed.store.directory)
    asked.begin("which cells are there")
    whole = Study(one_seed.model, one_seed.protocol, asked)
    drawn = run(list(EXPERIMENTS), whole, Here(whole), told, tmp_path, asked.begin, evidence=True)
    assert told.of("over") == [""]  # nothing was left to be computed
    assert drawn.failure is None
    results = drawn.results
    tables = {each.name: each for some in results.values() for each in some if isinstance(each, Table)}
    pictures = {each.name for some in results.values() for each in some if isinstance(each, Picture)}
    assert {"table-1", "table-2", "table-3", "table-4", "table-5", "table-6", "table-7", "table-9"} <= tables.keys()
    assert {"table-10", "table-11", "figure-7-scores"} <= tables.keys()
    assert {f"figure-{number}" for number in (2, 3, 4, 5, 7, *range(8, 19))} <= pictures
    assert {"curve-prompts", "curve-items"} <= pictures
    for name in tables:
        assert {path.suffix for path in (tmp_path / "tables").glob(f"{name}.*")} == {".md", ".csv", ".tex"}
    for name in pictures:
        assert Image.open(tmp_path / "figures" / f"{name}.png").size > (100, 50)
        assert (tmp_path / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    one_shot = tables["table-3"].rows[0].cells[0]
    assert isinstance(one_shot, Value)
    assert one_shot == one_seed.scores("one_shot", "segmentation").value()
    asked.begin("evidence")
    report(results, whole, tmp_path, "A random model", {"model": {"name": "random"}})
    for name, cells in wanted.items():
        assert paths_of(cells, one_seed) <= asked.paths[name] <= paths_of(with_needs(cells, one_seed), one_seed), name
    page = (tmp_path / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    claims = json.loads((tmp_path / "claims.json").read_text())
    assert [claim["claim"] for claim in claims] == [f"C{number}" for number in range(1, 16)]


def test_what_claims_are_judged_by(one_seed: Study) -> None:
    evidence = collect_evidence(one_seed)
    assert evidence.gigaflops["published"]["one_shot"] == pytest.approx(102.69, abs=0.01)
    assert ("combined", COMPOSED) in evidence.scores
    grid = {layers_of(share, one_seed.model) for share in one_seed.protocol.grid_layers}
    assert set(evidence.starts) == {(layers, share) for layers in grid for share in one_seed.protocol.grid_shares}
    assert evidence.xrays == {}


def test_heads_are_clustered_by_as_many_prompts_as_there_are(one_seed: Study) -> None:
    """And with other prompts anew."""
    fewer = Study(one_seed.model, replace(one_seed.protocol, pairs=5, clustered=100), one_seed.store)
    assert len(EXPERIMENTS["table-2"].draw(fewer)) == 1
    assert clusterings(fewer) != clusterings(one_seed)


def test_xrays(one_seed: Study, tmp_path: Path, random: np.random.Generator) -> None:
    for index in range(4):
        Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / f"{index}.png")
    xrays = {X_RAYS: load_data("folder", "all", root=tmp_path)}
    outside = Study(one_seed.model, replace(one_seed.protocol, others=xrays), one_seed.store)
    experiment = EXPERIMENTS["figure-6"]
    assert list(Run(outside, {"figure-6": experiment.cells(outside)}, Here(outside), Told())) == ["figure-6"]
    there = sorted(one_seed.store.directory.iterdir())
    results = experiment.draw(outside)
    assert sorted(one_seed.store.directory.iterdir()) == there
    assert [each.name for each in results] == ["figure-6-scores", "figure-6-inpainting", "figure-6-low_light"]
    assert (experiment.cells(one_seed), experiment.draw(one_seed)) == ([], [])


def test_a_table_of_several_seeds_has_their_spread(study: Study) -> None:
    (table,) = EXPERIMENTS["table-9"].draw(study)
    assert isinstance(table, Table)
    assert "over 2 seeds" in table.note
    assert all(isinstance(cell, Value) and cell.spread is not None for row in table.rows for cell in row.cells)
