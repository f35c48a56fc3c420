"""An evaluation as files: the result as JSON, every pair as a line of JSONL, and a picture of examples."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taskvec.evaluation import Evaluation, Summary
from taskvec.files import json_text, replacing, write_json
from taskvec.intervals import FEWEST, Interval, Verdict, improvements, nested_interval, verdict
from taskvec.metrics import Metric
from taskvec.report.figures import ranked_grid
from taskvec.tasks import Task


def as_line(summary: Summary, task: Task) -> str:
    """A summary in a line: mean, 95 % interval, spreads, second error, numbers, speed."""
    spreads = [f"std {summary.std:.4f} over pairs"] if summary.std is not None else []
    if summary.std_of_folds is not None:
        spreads.append(f"{summary.std_of_folds:.4f} over folds")
    mean = f"{task.metric.label} {summary.mean:.4f}"
    of_groups = f", {summary.groups} independent groups" if summary.groups != summary.images else ""
    parts = [
        f"{mean} (too few to tell)" if summary.too_few else f"{mean} [{summary.low:.4f}, {summary.high:.4f}]",
        *spreads,
        f"{summary.pairs} prompts over {summary.images} {'texts' if task.metric.of_tokens else 'images'}{of_groups}",
        f"{summary.pairs_per_second:.3g} pairs/s",
    ]
    if summary.detail is not None and task.detail is not None:
        found = summary.detail
        between = "(too few to tell)" if found.too_few else f"[{found.low:.4f}, {found.high:.4f}]"
        parts.insert(-2, f"{task.detail.label} {found.mean:.4f} {between}")
    if summary.both_empty:
        parts.append(f"{summary.both_empty} with nothing in answer and truth, which count as 1")
    return ", ".join(parts)


VERDICTS: dict[Verdict, str] = {
    "better": "better",
    "not worse": "not worse, within the margin",
    "worse": "worse",
    "undecided": "cannot be told: neither better nor worse by evidence",
    "too few": f"too few to tell: at least {FEWEST} independent images are needed",
}


def gain_line(metric: Metric, evaluations: Sequence[Evaluation], others: Sequence[Evaluation]) -> tuple[str, Interval]:
    """The gain of evaluations over others of the same prompts, fold by fold, with its verdict: as a line, and itself.

    A gain is positive where the first are better; between several folds, their spread is in its interval.
    """
    pairs = list(zip(evaluations, others, strict=True))
    found = nested_interval(
        [improvements(metric, ours.scores, theirs.scores) for ours, theirs in pairs],
        [ours.prompts.query_groups for ours, _ in pairs],
    )
    allowed = metric.allowed(float(np.mean([theirs.scores.mean() for theirs in others])))
    between = "" if found.too_few else f" [{found.low:+.4f}, {found.high:+.4f}]"
    told = f"gain {found.mean:+.4f}{between}, margin {allowed:.4f}: {VERDICTS[verdict(found, allowed)]}"
    return told, found


def companions(path: Path) -> tuple[Path, Path]:
    """What is written beside NAME.json: NAME.pairs.jsonl and, of images, NAME.examples.png."""
    return path.with_suffix(".pairs.jsonl"), path.with_suffix(".examples.png")


def write_evaluations(
    path: Path,
    evaluations: Mapping[str, Evaluation],
    whole: Summary,
    summaries: Mapping[str, Summary],
    facts: Mapping[str, Any],
    *,
    with_example: bool,
    texts: Callable[[Tensor], list[str]] | None = None,
) -> None:
    """Write evaluations by fold, with their summaries, to ``path`` and the ``companions`` beside it.

    ``facts`` are added to the JSON. ``with_example`` says whether the method saw the prompt's example, which is then
    shown. ``texts`` makes texts of answers that are tokens, needed for these alone.
    """
    results = {
        **facts,
        **plain(whole),
        "folds": {
            fold: {**plain(summaries[fold]), "prompts": each.prompts.origin} for fold, each in evaluations.items()
        },
    }
    of_tokens = next(iter(evaluations.values())).prompts.task.metric.of_tokens
    pairs_path, picture_path = companions(path)
    with replacing(pairs_path) as temporary, temporary.open("w") as lines:
        for fold, each in evaluations.items():
            names = list(zip(each.prompts.support_names, each.prompts.query_names, strict=True))
            answers, truths = [], []
            if texts is not None and each.tokens is not None:
                answers, truths = texts(torch.from_numpy(each.tokens)), each.prompts[:].query_output.tolist()
            for row, score in enumerate(each.scores.tolist()):
                support, query = names[row]
                record: dict[str, Any] = {"fold": fold, "support": support, "query": query, "score": score}
                if answers:
                    record |= {"answer": answers[row], "truth": truths[row]}
                if each.details is not None:
                    record["detail"] = float(each.details[row]) if np.isfinite(each.details[row]) else None
                lines.write(json_text(record) + "\n")
    write_json(path, results)
    if not of_tokens:  # last, as it takes the most memory
        picture = ranked_grid(list(evaluations.values()), with_example=with_example)
        with replacing(picture_path) as temporary:
            temporary.write_bytes(picture)


def plain(summary: Summary | Interval) -> dict[str, Any]:
    """As JSON takes it, which has no infinite numbers: a bound that there is not is null."""
    return json.loads(json_text(asdict(summary)))
