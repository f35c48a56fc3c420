import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taskvec.data import load_data
from taskvec.experiments import EXPERIMENTS, SECTIONS, experiments_named
from taskvec.experiments.clustering import clusterings
from taskvec.experiments.collecting import collect_evidence
from taskvec.experiments.evidence import COMPOSED
from taskvec.experiments.methods import layers_of
from taskvec.experiments.running import report, run
from taskvec.experiments.study import Study
from taskvec.results import Picture, Table, Value


def test_every_experiment_is_in_one_section_of_the_report() -> None:
    named = [name for names in SECTIONS.values() for name in names]
    assert sorted(named) == sorted(EXPERIMENTS)


@pytest.mark.parametrize(("name", "expected"), [("table-6", ["table-3"]), ("figure-12", ["figure-8"]), ("all", None)])
def test_the_papers_numbers_name_experiments(name: str, expected: list[str] | None) -> None:
    assert experiments_named(name) == (expected or list(EXPERIMENTS))


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no experiment 'table-8': expected all, curves, figure-10"):
        experiments_named("table-8")


def test_everything_of_a_study(study: Study, tmp_path: Path) -> None:
    """All experiments on a random model: what they are made of, not how well it does."""
    results = run(list(EXPERIMENTS), study, tmp_path)
    tables = {each.name: each for some in results.values() for each in some if isinstance(each, Table)}
    pictures = {each.name for some in results.values() for each in some if isinstance(each, Picture)}
    assert {"table-1", "table-2", "table-3", "table-4", "table-5", "table-6", "table-7", "table-9"} <= tables.keys()
    assert {"table-10", "table-11", "figure-7-scores"} <= tables.keys()
    assert {f"figure-{number}" for number in (2, 3, 4, 5, 7, *range(8, 19))} <= pictures
    assert {"curve-prompts", "curve-items"} <= pictures
    for name in tables:
        assert {path.suffix for path in (tmp_path / "tables").glob(f"{name}.*")} == {".md", ".csv", ".tex"}
    for name in pictures:
        assert Image.open(tmp_path / "figures" / f"{name}.png").size > (200, 100)
        assert (tmp_path / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    one_shot = tables["table-3"].rows[0].cells[0]
    assert isinstance(one_shot, Value)
    assert one_shot == study.scores("one_shot", "segmentation").value()
    report(results, study, tmp_path, "A random model", {"model": {"name": "random"}})
    page = (tmp_path / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    claims = json.loads((tmp_path / "claims.json").read_text())
    assert [claim["claim"] for claim in claims] == [f"C{number}" for number in range(1, 16)]


def test_what_claims_are_judged_by(study: Study) -> None:
    evidence = collect_evidence(study)
    assert evidence.gigaflops["published"]["one_shot"] == pytest.approx(102.69, abs=0.01)
    assert ("combined", COMPOSED) in evidence.scores
    grid = {layers_of(share, study.model) for share in study.protocol.grid_layers}
    assert set(evidence.starts) == {(layers, share) for layers in grid for share in study.protocol.grid_shares}
    assert evidence.xrays == {}


def test_heads_are_clustered_by_as_many_prompts_as_there_are(study: Study) -> None:
    """And with other prompts anew."""
    fewer = Study(study.model, replace(study.protocol, pairs=5, clustered=100), study.store)
    assert len(EXPERIMENTS["table-2"](fewer)) == 1
    assert clusterings(fewer) != clusterings(study)


def test_xrays(study: Study, tmp_path: Path, random: np.random.Generator) -> None:
    for index in range(4):
        Image.fromarray(random.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / f"{index}.png")
    outside = Study(study.model, replace(study.protocol, xrays=load_data("folder", "all", root=tmp_path)), study.store)
    results = EXPERIMENTS["figure-6"](outside)
    assert [each.name for each in results] == ["figure-6-scores", "figure-6-inpainting", "figure-6-low_light"]
    assert EXPERIMENTS["figure-6"](study) == []
