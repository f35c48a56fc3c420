"""How tables of methods by tasks are laid out."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from taskvec.data.pascal import FOLDS
from taskvec.evaluation import REFERENCES
from taskvec.experiments.evidence import METHOD_TITLES
from taskvec.experiments.paper import TASKS
from taskvec.experiments.study import Study
from taskvec.experiments.study_cells import ScoresCell
from taskvec.models.interface import DecodingKind
from taskvec.results import Column, Row, Table, Value
from taskvec.tasks import Task

LIKELIEST: DecodingKind = "likeliest"
Paper = Mapping[str, tuple[str | None, ...]]  # by method: what the paper prints, in the order of its tables


def task_columns(study: Study) -> tuple[Column, ...]:
    """A column for every task that the data serve, in the paper's order."""
    return tuple(task_column(study.task(name)) for name in tasks_in_order(study))


def task_column(task: Task, of: str = "") -> Column:
    """The column of a task, ``of`` a group where there are several."""
    return Column(", ".join(filter(None, [task.title, task.metric.label, of])), task.metric.better)


def tasks_in_order(study: Study) -> list[str]:
    return [name for name in TASKS if name in study.task_names]


def method_cells(
    study: Study, methods: Sequence[str], tasks: Sequence[str] | None = None, likeliest: Sequence[str] = ()
) -> list[ScoresCell]:
    """What ``method_table`` and ``group_table`` ask for."""
    chosen = [task for task in tasks_in_order(study) if tasks is None or task in tasks]
    rows = [(*row, task) for row in _decoded(study, methods, likeliest) for task in chosen]
    return [cell for method, decoding, task in rows for cell in study.scores_cells(method, task, decoding)]


def _decoded(study: Study, methods: Sequence[str], likeliest: Sequence[str]) -> list[tuple[str, DecodingKind | None]]:
    """The rows: methods by the study's decoding, and some by the likeliest codes, where that is another."""
    again = likeliest if study.choices().adapted else ()
    return [*((method, None) for method in methods), *((method, LIKELIEST) for method in again)]


def method_table(
    study: Study,
    name: str,
    title: str,
    note: str,
    methods: Sequence[str],
    paper: Paper | None = None,
    likeliest: Sequence[str] = (),
) -> Table:
    """Methods by tasks: means over all groups, spread over groups. Those of ``likeliest`` have a row more, of their
    answers by the likeliest codes, where the study's decoding is another."""
    rows = []
    for method, decoding in _decoded(study, methods, likeliest):
        cells = tuple(study.scores(method, task, decoding).value() for task in tasks_in_order(study))
        printed = dict(zip(TASKS, (paper or {}).get(method, ()), strict=False))
        paper_cells = tuple(printed.get(task) for task in tasks_in_order(study)) if printed else ()
        title_of_row = METHOD_TITLES[method] + (", likeliest codes" if decoding else "")
        rows.append(Row(title_of_row, cells, paper_cells, reference=method in REFERENCES))
    decoded = f"Answers are decoded as {study.choices().kind}" + (
        ", with the temperature and the level of masks that suit each method on prompts that judge nothing."
        if study.choices().adapted
        else "."
    )
    return Table(name, title, f"{note} {decoded} {spread_note(study)}", task_columns(study), tuple(rows))


def group_table(
    study: Study,
    name: str,
    title: str,
    note: str,
    methods: Sequence[str],
    tasks: Sequence[str] | None = None,
    paper: Paper | None = None,
) -> Table:
    """Methods by tasks and groups, as the paper's supplement prints every split: beside its numbers on its splits."""
    chosen = [task for task in tasks_in_order(study) if tasks is None or task in tasks]
    groups = [group.name for group in study.protocol.groups]
    columns = tuple(task_column(study.task(task), group) for task in chosen for group in groups)
    known = paper if paper and groups == [f"split {fold}" for fold in range(FOLDS)] else {}
    rows = []
    for method in methods:
        every = [study.scores(method, task) for task in chosen]
        cells: list[Value] = [scores.only(group).value() for scores in every for group in groups]
        printed = [text for text, _ in zip_longest(known.get(method, ()), cells)] if method in known else []
        rows.append(Row(METHOD_TITLES[method], tuple(cells), tuple(printed), reference=method in REFERENCES))
    return Table(name, title, note, columns, tuple(rows))


def spread_note(study: Study) -> str:
    groups = study.protocol.groups
    pairs = study.protocol.pairs
    if len(groups) == 1:
        return f"One search of each method, up to {pairs} pairs; 95 % intervals over images."
    kind = "seeds" if groups[0].name.startswith("seed") else "splits and seeds" if "," in groups[0].name else "splits"
    return (
        f"Means ± standard deviation (ddof 0, as in the paper) over {len(groups)} {kind} of up to {pairs} pairs each."
    )
