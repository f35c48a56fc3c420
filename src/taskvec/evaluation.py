"""How well a task is done: a score for every prompt, by whatever way the query output came about."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvec import heads, metrics, opponents
from taskvec.answering import BATCH, LEVELS, Answering, Choices, answered, calibrate, joined, passes_of
from taskvec.artefacts import VectorsConfig
from taskvec.data.examples import DataSet, task_for
from taskvec.heads import Patch
from taskvec.hub import located
from taskvec.intervals import FEWEST, Interval, bounded, interval, nested_interval
from taskvec.memory import Passes
from taskvec.metrics import Metric, cut
from taskvec.models.interface import VIEWS, Decoding, Items, Pixels, PromptedModel, ViewName, require_model
from taskvec.names import choose_from
from taskvec.processes import current
from taskvec.progress import counting
from taskvec.prompts import AnyPrompts, PlannedPrompts, Prompts, pairs_of, plan_prompts
from taskvec.provenance import Drawn, Measured, Score, images_of
from taskvec.rounds import in_rounds
from taskvec.search.checkpoint import Checkpoint
from taskvec.tasks import Images, Task, is_built_in
from taskvec.vectors import TaskVectors

Method = Callable[[Prompts], Pixels]
PAIRS = 1000  # prompts that are drawn of data at most, if no number is given
CHOICES = Choices()  # of a decoding, if no others are given
TRAINING = 100  # of training data, by which a decoding is chosen, and a constant answer

# before a directory, name the methods of the task vectors in it, by the view in which they are patched
VECTORS: dict[str, ViewName] = {"vectors:": "query_only", "one_shot+vectors:": "one_shot"}


@dataclass(frozen=True)
class Judged:
    """Answers to prompts as they are scored: the task's metric of each, float64.

    ``details`` are the errors of what the task is to change, where it names such an error, NaN where nothing changes.
    ``both_empty`` counts pairs of masks, answer and truth, without a single white pixel, whose score is defined as 1.
    ``tokens`` are answers to texts, int64 [n, tokens that are scored], -1 where the truth has ended. Where whole
    answers are scored, each token is the likeliest behind the true ones before it.
    """

    scores: Float[np.ndarray, " n"]
    details: Float[np.ndarray, " n"] | None = None
    both_empty: int = 0
    tokens: Int[np.ndarray, "n tokens"] | None = None

    @classmethod
    def together(cls, blocks: Sequence["Judged"]) -> "Judged":
        """Several blocks of prompts as one."""
        details = [each.details for each in blocks if each.details is not None]
        tokens = [torch.from_numpy(each.tokens) for each in blocks if each.tokens is not None]
        return cls(
            np.concatenate([each.scores for each in blocks]),
            np.concatenate(details) if details else None,
            sum(each.both_empty for each in blocks),
            joined(tokens).numpy() if tokens else None,
        )


@dataclass(frozen=True, repr=False)
class Evaluation(Judged):
    """What a method scored on ``prompts``, and the ``seconds`` that it took.

    Answers that are images are not kept: ``examples`` makes a few of them again. ``of`` is the fingerprint of the task
    vectors that answered, if it is known that some did, ``decoding`` how a model's outputs became images.
    """

    prompts: AnyPrompts = field(kw_only=True)
    seconds: float = field(kw_only=True)
    method: Method = field(kw_only=True)
    of: str | None = field(default=None, kw_only=True)
    decoding: Decoding | None = field(default=None, kw_only=True)

    def __repr__(self) -> str:
        metric, found = self.prompts.task.metric, self.interval
        between = "too few to tell" if found.too_few else f"[{found.low:.4f}, {found.high:.4f}]"
        told = f"{self.prompts.task.name}: {metric.label} {found.mean:.4f} {between}, {len(self.scores)} pairs"
        return f"Evaluation({told}{'' if self.decoding is None else f', decoded as {self.decoding}'})"

    def _repr_html_(self) -> str:
        from taskvec.report.notebook import evaluation_html  # noqa: PLC0415 which knows of evaluations

        return evaluation_html(self)

    def picture(self) -> bytes:
        """A PNG of the two best, the two middle and the two worst answers, with their scores, beside the truth.

        Images of the data are in it. ValueError for answers that are texts.
        """
        from taskvec.report.figures import ranked_grid  # noqa: PLC0415 which knows of evaluations

        if self.prompts.task.metric.of_tokens:
            raise ValueError("answers that are texts make no picture")
        return ranked_grid([self], with_example=False)

    @torch.no_grad()
    def examples(self, rows: Int[np.ndarray, " chosen"]) -> tuple[Prompts, Images]:
        """Some of the prompts, and the answers to them."""
        chosen = self.prompts.take(rows)[:]
        return chosen, self.method(chosen).cpu().numpy()

    @property
    def interval(self) -> Interval:
        """The mean and its 95 % interval over groups of queries, within the range of the metric."""
        return mean_of(self.scores, self.prompts.query_groups, self.prompts.task.metric)


def mean_of(scores: Float[np.ndarray, " n"], groups: Sequence[Hashable], metric: Metric) -> Interval:
    """The mean of scores and its 95 % interval over groups of queries, within the range of the metric."""
    return bounded(interval(scores, groups), metric)


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


CONSTANT = "constant"


def constant(model: PromptedModel, prompts: AnyPrompts) -> Method:
    """One answer to every query, from the true outputs of other ``prompts``: what outputs being alike is worth.

    It is the mean of these outputs; of masks, cut at the level that scores best on them; of texts the commonest output.
    """
    metric, blocks = prompts.task.metric, [prompts[start : start + BATCH] for start in range(0, len(prompts), BATCH)]
    truths = joined([model.truths(block).cpu() for block in blocks])
    if metric.of_tokens:
        outputs, counts = truths.unique(dim=0, return_counts=True)
        answer = outputs[counts.argmax()]
    else:
        answer = truths.float().mean(0).round().to(torch.uint8)
    if metric.of_masks:
        ignored = [each for block in blocks if (each := block.query_ignored) is not None]
        left_out = torch.from_numpy(np.concatenate(ignored)) if ignored else None

        def loss(level: float) -> float:
            same = cut(answer[None], level).expand_as(truths)
            return float(metric.loss(metric.score(same, truths, left_out).double().mean()))

        answer = cut(answer[None], min(LEVELS, key=loss))[0]
    return lambda queries: answer.expand(len(queries), *answer.shape)


REFERENCES = {"copy_input": copy_input, "reconstruction": reconstruction, "mixture": mixture}  # which no model answers


@torch.no_grad()
def answers(
    model: PromptedModel, method: Method, prompts: AnyPrompts, on_batch: Callable[[int], None] = lambda prompts: None
) -> Pixels:
    """The query outputs that a method gives, all of them; ``on_batch(prompts in it)`` is called after each block."""
    outputs, passes, way = [], passes_of(model), Way.of(method)
    for start in range(0, len(prompts), BATCH):
        block = prompts[start : start + BATCH]
        outputs += answered(way.answer, block, passes).values()
        on_batch(len(block))
    return joined(outputs)


def evaluate(
    model: PromptedModel,
    method: "Method | TaskVectors | str",
    prompts: "AnyPrompts | DataSet",
    on_batch: Callable[[int], None] = lambda prompts: None,
    *,
    task: Task | str | None = None,
    pairs: int = PAIRS,
    seed: int = 0,
    training: DataSet | None = None,
    progress: bool = False,
) -> Evaluation:
    """Run a method on prompts and score its answers by the task's metric; ValueError for a score that is not finite.

    ``method`` is also task vectors, which answer with their own decoding, or a name that ``method_named`` knows, such
    as ``one_shot``. ``prompts`` is also a data set, of which ``pairs`` prompts of a ``task``, or as many as there are,
    are drawn by ``seed``; by default of its own task, or else that of the task vectors. ``progress`` shows a bar on
    standard error, or in a notebook.

    Task vectors have a decoding that was chosen for them, and a named method has the same right on ``training``, data
    that judge nothing, as in `taskvec evaluate`; so have task vectors that are named by a directory, which choose anew
    there. Without it, it answers with the model's own decoding, the likeliest
    codes by default: scores of different decodings say little about methods.
    """
    require_model(model)
    data = None
    if not isinstance(prompts, Prompts | PlannedPrompts):
        data = prompts
        if task is None and data.own_task is None and isinstance(method, TaskVectors):
            task = method.task
        count = min(pairs, pairs_of(data))
        prompts = plan_prompts(data, task_for(data, task), max(1, count), model.image_size, seed)
    of = decoding = None
    if isinstance(method, TaskVectors):
        of = method.fingerprint()
        method = run(method.answering, "query_only", method.patch)
    elif isinstance(method, str) and training is not None:
        method, _ = chosen_method(model, method, data, lambda: training, prompts.task, seed=seed)
    elif isinstance(method, str):
        method = method_named(model, method, data)
    if isinstance(method, Answering) and not model.takes_texts:
        decoding = method.model.decoding
    with counting(prompts.task.name, len(prompts), shown=progress and current().first) as advance:

        def each_batch(done: int) -> None:
            advance(done)
            on_batch(done)

        (evaluation,) = evaluate_each(model, [Way.of(method)], prompts, each_batch).values()
    return replace(evaluation, of=of, decoding=decoding)


@dataclass(frozen=True)
class Way:
    """What answers prompts in one or several ways at once: ``answer`` gives, by these names, the answers of each."""

    names: Sequence[str]
    answer: Callable[[Prompts], Mapping[str, Pixels]]

    @classmethod
    def of(cls, method: Method, name: str = "answers") -> "Way":
        """A single one."""
        return cls([name], lambda prompts: {name: method(prompts)})

    @classmethod
    def decoded(cls, method: Answering, decodings: Mapping[str, Decoding]) -> "Way":
        """One with several decodings of the same runs."""

        def answer(prompts: Prompts) -> dict[str, Pixels]:
            images = method.answers(prompts, dict.fromkeys(decodings.values()))
            return {name: images[decoding] for name, decoding in decodings.items()}

        return cls(list(decodings), answer)

    def alone(self, name: str, passes: Passes) -> Method:
        """One of its ways, in passes."""
        return lambda prompts: answered(self.answer, prompts, passes)[name]


def evaluate_each(
    model: PromptedModel,
    ways: Sequence[Way],
    prompts: AnyPrompts,
    on_batch: Callable[[int], None] = lambda prompts: None,
    *,
    passes: Passes | None = None,
    checkpoint: Checkpoint | None = None,
) -> dict[str, Evaluation]:
    """The same for several ways, whose names differ: prompts are read once, a block at a time, for all of them.

    ``on_batch(prompts in it)`` is called after every block. ``passes`` are by default those of
    ``taskvec.answering.passes_of(model)``, and say afterwards whether memory sufficed for their rows. Several processes
    share the blocks, and all of them get the same evaluations. ``checkpoint`` lets an evaluation that was
    interrupted go on, and one that is over end at once: call ``checkpoint.forget()`` when its result is safe.
    Ctrl-C and SIGTERM take effect between blocks.

    Raises ValueError as above, and where the checkpoint belongs to another evaluation.
    """
    processes = current()
    names, together = [name for way in ways for name in way.names], passes or passes_of(model)
    judged: dict[str, list[Judged]] = {name: [] for name in names}
    seconds, first = [0.0] * len(ways), 0
    identity, kept = {}, None
    if checkpoint is not None:
        identity = {"model": model.fingerprint(), "block": BATCH, "ways": names, "prompts": Drawn.of(prompts).digest}
        kept = checkpoint.recall(identity)
    if kept is not None:
        tensors, facts = kept
        judged = {name: [_recalled(tensors, facts, name)] for name in names}
        seconds, first = facts["seconds"], facts["blocks"]
        on_batch(len(judged[names[0]][0].scores))

    def run(some: range) -> None:
        own = None
        if processes.rank < len(some):
            start = BATCH * some[processes.rank]
            own = _judge(model, ways, prompts[start : start + BATCH], together)
        every = [each for each in processes.each(own) if each is not None]
        for name in names:
            judged[name] += [each[name] for each, _ in every]
        for way in range(len(ways)):
            seconds[way] += max(took[way] for _, took in every)
        on_batch(sum(len(each[names[0]].scores) for each, _ in every))

    def keep(blocks: int) -> None:
        if checkpoint is not None:
            tensors, facts = {}, {"blocks": blocks, "seconds": seconds}
            for name in names:
                judged[name] = [Judged.together(judged[name])]
                facts[name] = {"both_empty": judged[name][0].both_empty}
                for part in ("scores", "details", "tokens"):
                    if (values := getattr(judged[name][0], part)) is not None:
                        tensors[f"{name}.{part}"] = torch.from_numpy(values)
            checkpoint.keep(identity, (tensors, facts))

    blocks = -(-len(prompts) // BATCH)
    in_rounds(range(first, blocks), run, None if checkpoint is None else keep)
    if processes.first and first < blocks:
        keep(blocks)  # until the result is safe
    evaluations = {}
    for way, took in zip(ways, seconds, strict=True):
        for name in way.names:
            whole = Judged.together(judged[name])
            _check_finite(prompts.task, whole.scores)
            evaluations[name] = Evaluation(
                **vars(whole), prompts=prompts, seconds=took, method=way.alone(name, together)
            )
    return evaluations


@torch.no_grad()
def _judge(
    model: PromptedModel, ways: Sequence[Way], block: Prompts, passes: Passes
) -> tuple[dict[str, Judged], list[float]]:
    """Each way's answers to a block, judged, and the seconds that each took to answer."""
    found, seconds = {}, []
    for way in ways:
        started = time.perf_counter()
        images = answered(way.answer, block, passes)
        seconds.append(time.perf_counter() - started)
        found |= {name: judged(model, block, each) for name, each in images.items()}
    return found, seconds


def _recalled(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], name: str) -> Judged:
    arrays = {part: tensors.get(f"{name}.{part}") for part in ("scores", "details", "tokens")}
    known: dict[str, Any] = {part: None if each is None else each.numpy() for part, each in arrays.items()}
    return Judged(**known, **facts[name])


def judged(model: PromptedModel, prompts: Prompts, images: Pixels) -> Judged:
    """A model's answers to prompts with their scores."""
    task, targets = prompts.task, model.truths(prompts).cpu()
    ignored = None if prompts.query_ignored is None else torch.from_numpy(prompts.query_ignored)
    scores = task.metric.score(images, targets, ignored).double().numpy()
    details = None
    if task.detail is not None:
        inputs = torch.from_numpy(prompts.query_input)
        details = task.detail.score(images, targets, inputs=inputs).double().numpy()
    empty = 0
    if task.metric.of_masks:
        empty = int((~metrics.is_white(torch.cat([images, targets], 1)).flatten(1).any(1)).sum())
    # behind the end of a truth nothing was scored, and nothing there is an answer
    tokens = torch.where(targets < 0, targets, images).numpy() if task.metric.of_tokens else None
    return Judged(scores, details, empty, tokens)


def _check_finite(task: Task, scores: Float[np.ndarray, " n"]) -> None:
    if not (finite := np.isfinite(scores)).all():
        raise ValueError(
            f"{task.metric.label} at {task.name} is not a finite number for {int((~finite).sum())} of {len(scores)} "
            "answers: a metric must be one for every answer"
        )


def scores(model: PromptedModel, method: Method, prompts: AnyPrompts) -> Float[np.ndarray, " n"]:
    """The task's metric of every prompt."""
    return evaluate(model, method, prompts).scores


def seen(config: VectorsConfig, prompts: AnyPrompts) -> int:
    """How many of the queries are in images that the vectors were found on, which makes their scores worth less.

    Images are the same by their content, wherever they lie and whatever they are called.
    """
    used = images_of(config.found)
    return sum(image in used for image in prompts.query_images)


def with_score(
    vectors: TaskVectors,
    prompts: AnyPrompts,
    scores: Float[np.ndarray, " n"],
    others: Mapping[str, Float[np.ndarray, " n"]] | None = None,
) -> TaskVectors:
    """The same task vectors with the record of what they scored on prompts, for ``taskvec info`` and their card.

    ``others`` are scores of other ways on the same prompts, such as ``query_only``. A record of the same data that they
    have is replaced. Nothing of the data is in it but the kind and numbers.
    """
    origin, task = prompts.origin, prompts.task

    def measured(some: Float[np.ndarray, " n"]) -> Measured:
        found = mean_of(some, prompts.query_groups, task.metric)
        return Measured(found.mean, *((None, None) if found.too_few else (found.low, found.high)))

    score = Score(
        of=vectors.fingerprint(),
        task=task.name if is_built_in(task.name) else None,
        metric=task.metric.name,
        data=str(origin.get("data")),
        split=str(origin.get("split")),
        pairs=len(prompts),
        groups=len(set(prompts.query_groups)),
        seen=seen(vectors.config, prompts),
        value=measured(scores),
        others={name: measured(each) for name, each in (others or {}).items()},
    )
    place = (score.task, score.metric, score.data, score.split)
    kept = [one for one in vectors.config.scores if (one.task, one.metric, one.data, one.split) != place]
    return replace(vectors, config=replace(vectors.config, scores=(*kept, score)))


def score_on(
    vectors: TaskVectors, data: DataSet, task: Task | str | None = None, *, pairs: int = PAIRS, seed: int = 0
) -> tuple[TaskVectors, Evaluation]:
    """The task vectors with the record of their score on data, beside the query alone, and the evaluation behind it.

    ``pairs`` of a task, by default of the data's own, or as many as there are. The query alone answers with the
    decoding that suits it best on these very pairs, which the vectors do not get.
    """
    model, chosen = vectors.model, task_for(data, task)
    size, count = model.image_size, min(pairs, len(data))
    prompts = plan_prompts(data, chosen, count, size, seed, query_only=not model.takes_texts)
    found = evaluate(model, vectors, prompts)
    return vectors.scored(found, query_only=evaluate(model, query_alone(model, prompts), prompts)), found


def query_alone(model: PromptedModel, prompts: AnyPrompts) -> Answering:
    """The query alone, with the decoding that suits it best on these prompts."""
    alone = run(model, "query_only")
    return alone.decoded(calibrate(alone, prompts, Choices()))


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
    if name == CONSTANT:
        raise ValueError(f"{name} takes other outputs than those that are judged: pass training data, training=DATA")
    if name not in REFERENCES:
        choices = [*VIEWS, *opponents.NAMES, *REFERENCES, CONSTANT, *(f"{prefix}DIRECTORY" for prefix in VECTORS)]
        raise ValueError(f"there is no method {name!r}: {choose_from(name, choices)}")
    return REFERENCES[name](model)


def training_prompts(model: PromptedModel, learnt: DataSet, task: Task, seed: int) -> PlannedPrompts:
    """TRAINING prompts of data that judge nothing, or as many as there are."""
    return plan_prompts(learnt, task, min(TRAINING, pairs_of(learnt)), model.image_size, seed)


def chosen_method(
    model: PromptedModel,
    name: str,
    data: DataSet | None,
    training: Callable[[], DataSet],
    task: Task,
    choices: Choices = CHOICES,
    seed: int = 0,
) -> tuple[Method, Decoding | None]:
    """``method_named`` with what it may take from training data, which are only loaded for that: the decoding with
    which it scores best on their ``training_prompts``, also returned, or the answer of ``constant``."""
    if name == CONSTANT:
        return constant(model, training_prompts(model, training(), task, seed)), None
    method = method_named(model, name, data)
    if not isinstance(method, Answering):
        return method, None
    decoding = choices.first(model)
    if choices.adapted and not model.takes_texts:
        learnt = training()
        own = method_named(model, name, learnt)  # which takes other supports from there
        if isinstance(own, Answering):
            decoding = calibrate(own, training_prompts(model, learnt, task, seed), choices)
    return method.decoded(decoding), decoding
