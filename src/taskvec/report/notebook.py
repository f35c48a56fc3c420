"""What a notebook shows of results: a table and pictures, as HTML that holds all of it and runs nothing."""

from collections.abc import Iterable, Mapping, Sequence

from taskvec.evaluation import Evaluation
from taskvec.library import Best, LibraryScores
from taskvec.metrics import METRICS
from taskvec.report import figures
from taskvec.report.outcomes import Outcome, SearchedStack
from taskvec.report.rendering import data_uri, environment
from taskvec.report.style import ARROWS
from taskvec.report.table import method_label, number, span
from taskvec.vectors import TaskVectors


def vectors_html(vectors: TaskVectors) -> str:
    """What they are, and where their sites are."""
    config = vectors.config
    metric = METRICS[config.metric]
    rows = {
        "metric": f"{metric.label} {ARROWS[metric.better]}",
        "sites": f"{len(config.sites):,} of {config.of:,}, by {config.granularity}",
        "model": f"{config.model or 'not named'}, fingerprint {config.model_fingerprint}",
        "scores": "\n".join(map(str, config.scores)) or "not scored",
    }
    stacks = {stack: SearchedStack.of(vectors.model, stack) for stack in config.shapes}
    pictures = {"Where the sites are: layers down, heads across": data_uri(figures.site_map(vectors, stacks))}
    return _fragment(f"Task vectors: {config.task}", rows=rows.items(), pictures=pictures)


def evaluation_html(evaluation: Evaluation) -> str:
    """The score, and of images the best, middle and worst answers."""
    task, found = evaluation.prompts.task, evaluation.interval
    rows = {
        f"{task.metric.label} {ARROWS[task.metric.better]}": number(found.mean),
        "95 % interval": "too few to tell" if found.too_few else span(found),
        "pairs": f"{len(evaluation.scores):,}, in {found.groups:,} independent groups",
        "seconds": f"{evaluation.seconds:.1f}",
    }
    pictures = {} if task.metric.of_tokens else {"The best, middle and worst answers": data_uri(evaluation.picture())}
    return _fragment(f"Evaluation: {task.name}", rows=rows.items(), pictures=pictures)


def outcome_html(outcome: Outcome) -> str:
    """The report's table and verdicts, and of images its examples."""
    columns = ["task", *(method_label(method, outcome.tasks[0]) for method in outcome.methods), "sites"]
    rows, notes, pictures = [], [], {}
    for task in outcome.tasks:
        scores = [f"{number(task.intervals[name].mean)}\n{span(task.intervals[name])}" for name in task.methods]
        name = f"{task.task}\n{task.metric.label} {ARROWS[task.metric.better]}"
        rows.append([name, *scores, f"{len(task.sites):,} of {task.of:,}"])
        notes += [f"{task.task}: {task.judgement.headline}", *task.judgement.notes]
        if not outcome.of_texts:
            pictures[f"Examples of {task.task}"] = data_uri(figures.example_grid(task))
    notes.append(f"Means over {outcome.counted}; {outcome.explained}.")
    return _fragment("Task vectors", columns, rows, notes, pictures)


def library_html(scores: LibraryScores) -> str:
    """All of them, the best first."""
    columns = ("task vectors", f"{scores.metric.label} {ARROWS[scores.metric.better]}", "gain over the query alone", "")
    notes = [f"{scores.told}; the gains' intervals hold together at 95 %."]
    notes += [f"{name} was not scored: {reason}" for name, reason in scores.skipped.items()]
    return _fragment("Library", columns, scores.rows(), notes)


def best_html(best: Best) -> str:
    """What follows, above the table of all."""
    return _fragment(repr(best)) + library_html(best.scores)


def _fragment(
    title: str,
    columns: Sequence[str] = (),
    rows: Iterable[Sequence[str]] = (),
    notes: Sequence[str] = (),
    pictures: Mapping[str, str] | None = None,
) -> str:
    values = {"title": title, "columns": columns, "rows": list(rows), "notes": notes, "pictures": pictures or {}}
    return environment().get_template("notebook.html.j2").render(values)
