"""How well a task is done: a score for every prompt, by whatever way the query output came about."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from taskvec import heads, metrics, opponents
from taskvec.answering import BATCH, Answering, joined
from taskvec.data.examples import DataSet
from taskvec.heads import Patch
from taskvec.hub import located
from taskvec.intervals import FEWEST, Interval, bounded, interval, nested_interval
from taskvec.models.interface import VIEWS, Items, Pixels, PromptedModel, ViewName
from taskvec.names import choose_from
from taskvec.prompts import Prompts
from taskvec.provenance import images_of
from taskvec.tasks import Images
from taskvec.vectors import TaskVectors, VectorsConfig

Method = Callable[[Prompts], Pixels]

# before a directory, name the methods of the task vectors in it, by the view in which they are patched
VECTORS: dict[str, ViewName] = {"vectors:": "query_only", "one_shot+vectors:": "one_shot"}


@dataclass(frozen=True)
class Evaluation:
    """What a method answered on prompts, the task's metric of each, and the seconds that the method took.

    ``answers`` are images, or tokens, int64 [n, tokens that are scored], -1 where the truth has ended. Where whole
    answers are scored, each token is the likeliest behind the true ones before it.
    ``details`` are the errors of what the task is to change, where it names such an error, NaN where nothing changes.
    """

    prompts: Prompts
    answers: Images
    scores: Float[np.ndarray, " n"]
    seconds: float
    details: Float[np.ndarray, " n"] | None = None

    @property
    def interval(self) -> Interval:
        """The mean and its 95 % interval over groups of queries, within the range of the metric."""
        return bounded(interval(self.scores, self.prompts.query_groups), self.prompts.task.metric)

    @property
    def both_empty(self) -> int:
        """Pairs of masks, answer and truth, without a single white pixel, whose score is defined as 1."""
        if not self.prompts.task.metric.of_masks:
            return 0
        images = torch.from_numpy(np.concatenate([self.answers, self.prompts.query_output], 1))
        return int((~metrics.is_white(images).flatten(1).any(1)).sum())


@dataclass(frozen=True)
class Summary:
    """Several evaluations together, each of one fold.

    ``low`` and ``high`` are a 95 % interval over ``groups`` of queries, such as patients, that are independent of each
    other (`taskvec.intervals`), within the metric's range; of several folds, the spread between them is in it. ``std``
    is over pairs (ddof 1); ``std_of_folds`` over the means of the folds, None for a single one, with ddof 0, as in
    the paper. ``both_empty`` counts pairs of masks that score 1 as neither answer nor truth has a white pixel.
    ``detail`` is the task's second error, None for a task without.
    """

    mean: float
    low: float
    high: float
    std: float | None
    std_of_folds: float | None
    pairs: int
    images: int
    groups: int
    both_empty: int
    detail: Interval | None
    seconds: float
    pairs_per_second: float

    @property
    def too_few(self) -> bool:
        """Whether there are so few groups that no conclusion should be drawn."""
        return self.groups < FEWEST


def summarise(evaluations: Sequence[Evaluation]) -> Summary:
    """All pairs of these evaluations as one, in which every fold counts the same."""
    scores = [each.scores for each in evaluations]
    metric = evaluations[0].prompts.task.metric
    whole = bounded(nested_interval(scores, [each.prompts.query_groups for each in evaluations]), metric)
    every = np.concatenate(scores)
    seconds = sum(each.seconds for each in evaluations)
    return Summary(
        mean=whole.mean,
        low=whole.low,
        high=whole.high,
        std=float(every.std(ddof=1)) if len(every) > 1 else None,
        std_of_folds=float(np.std([fold.mean() for fold in scores])) if len(scores) > 1 else None,
        pairs=len(every),
        images=len({name for each in evaluations for name in each.prompts.query_images}),
        groups=whole.groups,
        both_empty=sum(each.both_empty for each in evaluations),
        detail=_detail(evaluations),
        seconds=seconds,
        pairs_per_second=len(every) / seconds,
    )


def _detail(evaluations: Sequence[Evaluation]) -> Interval | None:
    """The second error of the pairs that have one."""
    errors, groups = [], []
    for each in evaluations:
        known = np.isfinite(each.details) if each.details is not None else np.zeros(len(each.scores), bool)
        if each.details is not None and known.any():
            errors.append(each.details[known])
            groups.append([each.prompts.query_groups[row] for row in np.flatnonzero(known)])
    detail = evaluations[0].prompts.task.detail
    return bounded(nested_interval(errors, groups), detail) if errors and detail is not None else None


def run(model: PromptedModel, view: ViewName, patch: Patch | None = None) -> Answering:
    """The model's own answer in a view, patched or not (a patch of one row, the same for every prompt)."""

    def outputs(prompts: Prompts) -> tuple[Tensor, Items]:
        items = model.narrow(model.prepare(prompts, view), answers=True)
        return heads.run(model, items, patch), items

    return Answering(model, outputs)


def copy_input(model: PromptedModel) -> Method:
    """The query input as the answer; ValueError for a model that takes texts."""
    if model.takes_texts:
        raise ValueError("an input that is a text is no answer: copy_input is of images")
    return lambda prompts: torch.from_numpy(prompts.query_input)


def reconstruction(model: PromptedModel) -> Method:
    """The truth through the model's tokenizer and back: what the right code of every patch says.

    No bound for answers that are means of codes. ValueError for a model without a tokenizer.
    """
    _require_tokenizer(model)
    return model.reconstruction


def mixture(model: PromptedModel) -> Method:
    """The mean of codes in every patch that comes nearest to the truth, as far as a gradient finds it: about the best
    that the decoding ``expected`` could say. ValueError as above."""
    _require_tokenizer(model)
    return model.mixture


def _require_tokenizer(model: PromptedModel) -> None:
    if not model.has_tokenizer:
        raise ValueError(f"a model of the type {model.model_type} has no tokenizer: its answers can be any picture")


REFERENCES = {"copy_input": copy_input, "reconstruction": reconstruction, "mixture": mixture}  # which no model answers


@torch.no_grad()
def answers(
    model: PromptedModel, method: Method, prompts: Prompts, on_batch: Callable[[int], None] = lambda prompts: None
) -> Pixels:
    """The query outputs that a method gives, in batches; ``on_batch(prompts in it)`` is called after each."""
    outputs = []
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        outputs.append(method(batch).cpu())
        on_batch(len(batch))
    return joined(outputs)


def evaluate(
    model: PromptedModel, method: Method, prompts: Prompts, on_batch: Callable[[int], None] = lambda prompts: None
) -> Evaluation:
    """Run a method on prompts and score its answers by the task's metric; ValueError for a score that is not finite."""
    started = time.perf_counter()
    images = answers(model, method, prompts, on_batch)
    return judged(model, prompts, images, time.perf_counter() - started)


def judged(model: PromptedModel, prompts: Prompts, images: Pixels, seconds: float) -> Evaluation:
    """A model's answers that took these seconds with their scores; errors as above."""
    task, targets = prompts.task, model.truths(prompts).cpu()
    ignored = None if prompts.query_ignored is None else torch.from_numpy(prompts.query_ignored)
    scores = task.metric.score(images, targets, ignored).double().numpy()
    if task.metric.of_tokens:  # behind the end of a truth nothing was scored, and nothing there is an answer
        images = torch.where(targets < 0, targets, images)
    if not (finite := np.isfinite(scores)).all():
        raise ValueError(
            f"{task.metric.label} at {task.name} is not a finite number for {int((~finite).sum())} of {len(scores)} "
            "answers: a metric must be one for every answer"
        )
    details = None
    if task.detail is not None:
        inputs = torch.from_numpy(prompts.query_input)
        details = task.detail.score(images, targets, inputs=inputs).double().numpy()
    return Evaluation(prompts, images.numpy(), scores, seconds, details)


def scores(model: PromptedModel, method: Method, prompts: Prompts) -> Float[np.ndarray, " n"]:
    """The task's metric of every prompt."""
    return evaluate(model, method, prompts).scores


def seen(config: VectorsConfig, prompts: Prompts) -> int:
    """How many of the queries are in images that the vectors were found on, which makes their scores worth less.

    Images are the same by their content, wherever they lie and whatever they are called.
    """
    used = images_of(config.found)
    return sum(image in used for image in prompts.query_images)


def patched_by(name: str) -> tuple[ViewName, str] | None:
    """The view and the directory of the task vectors that the method of this name patches, if it does."""
    prefix = next((prefix for prefix in VECTORS if name.startswith(prefix)), None)
    return None if prefix is None else (VECTORS[prefix], name.removeprefix(prefix))


def method_named(model: PromptedModel, name: str, data: DataSet | None = None) -> Method:
    """``one_shot``, ``query_only``, ``vectors:DIRECTORY``, one of REFERENCES or one of ``taskvec.opponents``, some of
    which take other supports from ``data``, which the prompts were drawn from; ValueError for another.

    ``one_shot+vectors:DIRECTORY`` patches the same canvas tokens where the prompt has an example, too (Table 9). In
    place of a directory, ``hub:OWNER/NAME`` is downloaded. Task vectors answer with their own decoding, all
    else with the model's; what a model answers is an ``Answering``, which can be decoded otherwise.
    """
    if name in VIEWS:
        return run(model, name)
    if patched := patched_by(name):
        view, directory = patched
        vectors = TaskVectors.load(located(directory), model)
        return run(vectors.answering, view, vectors.patch)
    if model.takes_texts and (opponents.is_opponent(name) or name in REFERENCES):
        expected = ", ".join([*VIEWS, *(f"{prefix}DIRECTORY" for prefix in VECTORS)])
        raise ValueError(f"{name} is of images, and the model takes texts: expected one of {expected}")
    if opponents.is_opponent(name):
        return opponents.opponent_named(model, name, data)
    if name not in REFERENCES:
        choices = [*VIEWS, *opponents.NAMES, *REFERENCES, *(f"{prefix}DIRECTORY" for prefix in VECTORS)]
        raise ValueError(f"there is no method {name!r}: {choose_from(name, choices)}")
    return REFERENCES[name](model)
