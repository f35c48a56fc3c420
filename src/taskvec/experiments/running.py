"""Running experiments: their tables and figures as files, and one report of everything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskvec.experiments import EXPERIMENTS, SECTIONS, TABLE_8
from taskvec.experiments.claims import verdicts
from taskvec.experiments.collecting import collect_evidence, evidence_cells
from taskvec.experiments.engines import Engine, Run, Watcher
from taskvec.experiments.language import LanguageStudy, evidence, table_8
from taskvec.experiments.study import Study
from taskvec.files import shortened, write_json
from taskvec.metrics import TOP1
from taskvec.report.exports import write_picture, write_table
from taskvec.report.study import write_study
from taskvec.results import Picture, Table

OF_LANGUAGE = "C13"
OnExperiment = Callable[[str], None]
Results = dict[str, Sequence[Table | Picture]]


@dataclass
class Drawn:
    """The tables and figures of the experiments whose cells are all there, in the order that they were asked for."""

    results: Results
    run: Run

    @property
    def failure(self) -> str | None:
        """One sentence that names what failed, and why."""
        if not self.run.failures:
            return None
        reasons = shortened([f"{cell}: {reason}" for cell, reason in self.run.failures.items()])
        needed = f"; {self.run.not_tried} cells that need them were not tried" if self.run.not_tried else ""
        return f"{len(self.run.failures)} cells failed: {reasons}{needed}; run it again to compute what is missing"


def run(
    names: Sequence[str],
    study: Study,
    engine: Engine,
    watcher: Watcher,
    out: Path,
    on_experiment: OnExperiment = lambda name: None,
    *,
    evidence: bool = False,
) -> Drawn:
    """Have an engine compute the cells of experiments, and write the tables (Markdown, CSV, LaTeX) and figures (PNG,
    PDF) of each as soon as its own are there. With ``evidence`` those that claims are judged by are computed, too."""
    goals = {name: EXPERIMENTS[name].cells(study) for name in names}
    goals |= {"evidence": evidence_cells(study)} if evidence else {}
    computed = Run(study, goals, engine, watcher)
    results: Results = {}
    for name in computed:
        if name in EXPERIMENTS:
            on_experiment(name)
            results[name] = EXPERIMENTS[name].draw(study)
            _write(results[name], out)
    return Drawn({name: results[name] for name in names if name in results}, computed)


def run_on_language(
    study: LanguageStudy, engine: Engine, watcher: Watcher, out: Path, title: str, facts: dict[str, dict[str, Any]]
) -> Drawn:
    """Table 8 as files, and the report with the one claim that is of language models."""
    computed = Run(study, {TABLE_8: study.cells()}, engine, watcher)
    results: Results = {}
    for name in computed:
        results[name] = table_8(study)
        _write(results[name], out)
        judged = [verdict for verdict in verdicts(evidence(study)) if verdict.claim == OF_LANGUAGE]
        write_study(out / "report.html", title, facts, judged, [("Language", results[name])], [TOP1])
        write_json(out / "claims.json", [vars(verdict) for verdict in judged])
    return Drawn(results, computed)


def _write(results: Sequence[Table | Picture], out: Path) -> None:
    for each in results:
        if isinstance(each, Table):
            write_table(each, out / "tables")
        else:
            write_picture(each, out / "figures")


def report(results: Results, study: Study, out: Path, title: str, facts: dict[str, dict[str, Any]]) -> None:
    """``report.html`` and ``claims.json``: what becomes of every claim, and everything that experiments gave."""
    judged = verdicts(collect_evidence(study))
    sections = [
        (title, [each for name in names for each in results.get(name, ())]) for title, names in SECTIONS.items()
    ]
    write_study(out / "report.html", title, facts, judged, [section for section in sections if section[1]])
    write_json(out / "claims.json", [vars(verdict) for verdict in judged])
