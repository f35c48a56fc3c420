"""Running experiments: their tables and figures as files, and one report of everything."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from taskvec.experiments import EXPERIMENTS, SECTIONS
from taskvec.experiments.claims import verdicts
from taskvec.experiments.collecting import collect_evidence
from taskvec.experiments.language import LanguageStudy, evidence, table_8
from taskvec.experiments.study import Study
from taskvec.files import write_json
from taskvec.metrics import TOP1
from taskvec.report.exports import write_picture, write_table
from taskvec.report.study import write_study
from taskvec.results import Picture, Table

TABLE_8, OF_LANGUAGE = "table-8", "C13"
Results = dict[str, Sequence[Table | Picture]]


def run(
    names: Sequence[str], study: Study, out: Path, on_experiment: Callable[[str], None] = lambda name: None
) -> Results:
    """Each experiment's tables (Markdown, CSV, LaTeX) and figures (PNG, PDF), written as soon as it is done."""
    results: Results = {}
    for name in names:
        on_experiment(name)
        results[name] = EXPERIMENTS[name](study)
        _write(results[name], out)
    return results


def run_on_language(study: LanguageStudy, out: Path, title: str, facts: dict[str, dict[str, Any]]) -> Results:
    """Table 8 as files, and the report with the one claim that is of language models."""
    results: Results = {TABLE_8: table_8(study)}
    _write(results[TABLE_8], out)
    judged = [verdict for verdict in verdicts(evidence(study)) if verdict.claim == OF_LANGUAGE]
    write_study(out / "report.html", title, facts, judged, [("Language", results[TABLE_8])], [TOP1])
    write_json(out / "claims.json", [vars(verdict) for verdict in judged])
    return results


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
