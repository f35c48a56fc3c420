"""The card of task vectors on the Hugging Face hub: what is recorded of them, and nothing that was not measured."""

from taskvec.hub import PREFIX
from taskvec.metrics import METRICS
from taskvec.models import SHIPPED
from taskvec.provenance import Combination, Drawn, Former, Refinement, Search
from taskvec.vectors import VectorsConfig


def card(config: VectorsConfig, repository: str) -> str:
    """README.md, with metadata at its head."""
    metric = METRICS[config.metric]
    refined = isinstance(config.found, Search) and config.found.refinement is not None and config.found.refinement.step
    examples = "Images" if config.wording is None else "Pairs"
    outputs = "masks" if metric.of_masks else "images" if config.wording is None else "texts"
    rows = {
        "Task": _line(config.task),
        "Outputs": f"{outputs}, scored by {metric.label}, {metric.described}",
        "Base model": f"{_line(config.model or 'not recorded')}, fingerprint {config.model_fingerprint}",
        "Sites": f"{len(config.sites)} of {config.of}, by {config.granularity}",
        **_answers(config),
        **_found(config),
        "Score": "none is claimed: `taskvec evaluate` scores them on data of your own",
        "Licence": "none stated",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    model = config.model if config.model in SHIPPED or str(config.model).startswith(PREFIX) else "DIRECTORY"
    return f"""---
library_name: taskvec
tags:
- {"visual-prompting" if config.wording is None else "language-model"}
- task-vectors
---
# Task vectors: {_line(config.task)}

Mean attention-head outputs at chosen sites{", refined by a gradient," if refined else ","} which make their base model
do this task without an example in its prompt (*Finding Visual Task Vectors*, Hojel et al., ECCV 2024).
They fit no other model.

| | |
|---|---|
{table}

```python
import taskvec

model = taskvec.load_model("{_line(str(model))}")
vectors = taskvec.TaskVectors.from_pretrained("{PREFIX}{repository}", model)
```

config.json has the record of the search. {examples} are in it as digests of their content, without names and paths.
"""


def _answers(config: VectorsConfig) -> dict[str, str]:
    """How outputs become answers, or inputs a prompt."""
    if config.wording is None:
        return {"Answers": str(config.decoding)}
    return {
        "Template": f"`{_line(config.wording.template)}`, the means are of prompts with {config.wording.shots} examples"
    }


def _found(config: VectorsConfig) -> dict[str, str]:
    match config.found:
        case Search() as search:
            budget = search.settings.get("at_most")
            chosen = sum(drawn.prompts for drawn in search.validation)
            rows = {
                "Prompts behind the means": _behind(search.statistics),
                "Search": f"{search.method}, for the sites of {len(search.tasks)} task(s), on "
                f"{sum(drawn.prompts for drawn in search.search)} queries, {search.evaluations} evaluations"
                + (", interrupted" if search.interrupted else ""),
            }
            rows |= {} if budget is None else {"Budget": f"at most {budget} sites"}
            if search.refinement is not None:
                rows["Values"] = _refined(search.refinement)
            return rows | ({"Choice of the sites": f"on {chosen} other queries"} if chosen else {})
        case Combination() as combination:
            return {"Combined": f"{_line(combination.expression)}, of {len(combination.terms)} terms"}
    return {"Search": "not recorded"}


def _refined(refinement: Refinement) -> str:
    if not refinement.step:
        return f"the means: a gradient on {refinement.learnt.prompts} queries gave none better"
    return (
        f"refined from the means by {refinement.step} steps of a gradient on {refinement.learnt.prompts} queries: loss "
        f"{refinement.loss:.4f} on {refinement.validation.prompts} others, {refinement.loss_before:.4f} before"
    )


def _behind(drawn: Drawn | Former | None) -> str:
    if not isinstance(drawn, Drawn):
        return "not recorded"
    kind, split = (_line(str(drawn.data.get(name))) for name in ("data", "split"))
    return f"{drawn.prompts}, data set {kind}, split {split}"


def _line(text: str) -> str:
    """As one line of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
