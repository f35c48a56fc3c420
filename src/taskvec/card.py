"""Cards on the Hugging Face hub, of task vectors and of models: what is recorded of them, and nothing that was not
measured."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from taskvec.artefacts import VectorsConfig
from taskvec.metrics import METRICS
from taskvec.models import SHIPPED
from taskvec.models.interface import PromptedModel
from taskvec.provenance import Combination, Drawn, Former, Refinement, Score, Search

DATA = {
    "scenes": "drawn scenes",
    "pictures": "photographs that ship with taskvec",
    "pascal": "photographs of Pascal-5i",
    "folder": "pairs of images of the maker's own",
    "arrays": "pairs of images of the maker's own",
    "pairs": "pairs of texts of the maker's own",
    "relations": "word pairs that ship with taskvec",
}
WAYS = {"query_only": "the query alone, without them", "one_shot": "with an example in the prompt"}
_KNOWN_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # as the hub calls those that it knows


def card(config: VectorsConfig, name: str, licence: str | None = None, picture: str | None = None) -> str:
    """README.md of task vectors, with metadata at its head; ``name`` is what they are loaded by, ``picture`` a file
    beside it."""
    of_texts = config.wording is not None
    refined = isinstance(config.found, Search) and config.found.refinement is not None and config.found.refinement.step
    rows = {
        "Task": _line(config.task),
        "Outputs": f"{_outputs(config)}, scored by {METRICS[config.metric].label}",
        "Base model": _base(config),
        "Sites": f"{len(config.sites)} of {config.of}, by {config.granularity}",
        **_answers(config),
        **_found(config),
        "Licence": _line(licence or "not stated"),
    }
    base = config.base_model_name_or_path
    facts: dict[str, Any] = {
        "library_name": "taskvec",
        **({} if base is None else {"base_model": base}),
        **_licence(licence),
        "tags": ["language-model" if of_texts else "visual-prompting", "task-vectors"],
    }
    applied = 'answer = vectors("an input")' if of_texts else 'answer = vectors(Image.open("image.png"))'
    imports = "import taskvec" if of_texts else "import taskvec\nfrom PIL import Image"
    loaded = f'"{name}"' if config.model is not None else f'"{name}", taskvec.load_model("DIRECTORY")'
    examples = "texts" if of_texts else "images"
    shown = "" if picture is None else f"\n![Answers beside the truth]({picture})\n"
    return f"""---
{yaml.safe_dump(facts, sort_keys=False)}---
# Task vectors: {_line(config.task)}

Mean attention-head outputs at chosen sites{", refined by a gradient," if refined else ","} which make their base model
do this task without an example in its prompt (*Finding Visual Task Vectors*, Hojel et al., ECCV 2024).

{_table(rows)}

## Scores

{_scores(config.scores)}
{shown}
## Use

```python
{imports}

vectors = taskvec.TaskVectors.from_pretrained({loaded})
{applied}
```

## Limits

They fit no other model than theirs. How well they do on other {examples} than those that scores are of is not known:
`taskvec evaluate` scores them on pairs of your own. config.json has the record of the search, with digests of the
{examples} that they were found on, without names and paths.
"""


def model_card(model: PromptedModel, name: str, licence: str | None = None) -> str:
    """README.md of a model."""
    facts = {
        "library_name": "taskvec",
        **_licence(licence),
        "tags": ["language-model" if model.takes_texts else "visual-prompting"],
    }
    rows = {
        "Type": model.model_type,
        "Parameters": f"{model.number_of_parameters:,}",
        **{name: f"{stack.layers} layers of {stack.heads} heads" for name, stack in model.stacks.items()},
        "Fingerprint": model.fingerprint(),
        "Licence": _line(licence or "not stated"),
    }
    what = "A language model" if model.takes_texts else "A model for visual prompting"
    return f"""---
{yaml.safe_dump(facts, sort_keys=False)}---
# {what}

{_table(rows)}

```python
import taskvec

model = taskvec.load_model("{name}")
```

What it was trained on and what it can do is not recorded.
"""


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _licence(given: str | None) -> dict[str, str]:
    """As metadata of the hub, which knows some by a short name and any other by one that its owner gives it."""
    if given is None or _KNOWN_LICENCE.fullmatch(given):
        return {} if given is None else {"license": given}
    name = re.sub(r"[^a-z0-9.]+", "-", given.lower()).strip("-.")
    return {"license": "other", **({"license_name": name} if name else {})}


def _outputs(config: VectorsConfig) -> str:
    if config.wording is not None:
        return "texts"
    return "masks" if METRICS[config.metric].of_masks else "images"


def _base(config: VectorsConfig) -> str:
    kind = f"type {config.base_model_type}, " if config.base_model_type else ""
    told = f"{kind}fingerprint {config.model_fingerprint}"
    name, revision = config.base_model_name_or_path, config.base_model_revision
    if name is None:
        return f"not named: {told}; bring it yourself"
    if name in SHIPPED:
        return f"{name}, which ships with taskvec, {told}"
    return f"{name}{f' at {revision}' if revision else ''}, {told}"


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
                "Data": _data(search),
                "Prompts behind the means": str(_prompts(search.statistics)),
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


def _data(search: Search) -> str:
    """What kind of data they were found on, and how much of it."""
    drawn = search.statistics
    if not isinstance(drawn, Drawn):
        return "not recorded"
    examples = drawn.data.get("examples")
    count = f"{examples:,} " if isinstance(examples, int) else ""
    return f"{count}{_kind(str(drawn.data.get('data')))}, split {_line(str(drawn.data.get('split')))}"


def _kind(data: str) -> str:
    return DATA.get(data, _line(data))


def _refined(refinement: Refinement) -> str:
    if not refinement.step:
        return f"the means: a gradient on {refinement.learnt.prompts} queries gave none better"
    return (
        f"refined from the means by {refinement.step} steps of a gradient on {refinement.learnt.prompts} queries: loss "
        f"{refinement.loss:.4f} on {refinement.validation.prompts} others, {refinement.loss_before:.4f} before"
    )


def _prompts(drawn: Drawn | Former | None) -> int | str:
    return drawn.prompts if isinstance(drawn, Drawn) else "not recorded"


def _scores(scores: tuple[Score, ...]) -> str:
    """What was measured, a table for each data set, or that nothing was."""
    if not scores:
        return "None is claimed: they were not scored, or were changed since."
    return "\n\n".join(map(_score, scores))


def _score(score: Score) -> str:
    metric = METRICS[score.metric]
    rows = {"**task vectors**": str(score.value)}
    rows |= {WAYS.get(name, _line(name)): str(value) for name, value in score.others.items()}
    task = "" if score.task is None else f"{_line(score.task)}, "
    seen = f" Of the queries, {score.seen} are of what they were found on." if score.seen else ""
    few = "" if score.value.low is not None else " That is too few to tell how well they do."
    return (
        f"{metric.label}, {metric.described}, {metric.better} is better: means over {score.pairs} pairs, {task}"
        f"{_kind(score.data)}, split {_line(score.split)}, with 95 % intervals over {score.groups} independent groups."
        f"{seen}{few}\n\n{_table(rows)}"
    )


def _line(text: str) -> str:
    """As one line of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
