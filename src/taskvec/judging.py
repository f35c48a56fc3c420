"""From examples to task vectors that are judged: statistics, search, and scores on examples kept aside."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from taskvec import environment, evaluation, opponents
from taskvec.answering import BATCH, Answering, calibrate
from taskvec.choices import QUERIES
from taskvec.data.examples import DataSet, remembered
from taskvec.finding import FindSettings, SearchInterrupted, collect_for, find, validation_prompts
from taskvec.heads import Patch
from taskvec.models import public_name
from taskvec.models.interface import Decoding, PromptedModel
from taskvec.presets import PRESETS
from taskvec.prompts import PlannedPrompts, Prompts, pairs_of, plan_prompts
from taskvec.refining import RefineSettings, refine
from taskvec.report.outcomes import Outcome, SearchedStack, TaskOutcome
from taskvec.search import Checkpoint
from taskvec.statistics import Statistics
from taskvec.tasks import Images, Task
from taskvec.vectors import TaskVectors

RANDOM_DRAWS = 5
EXAMPLES_SHOWN = 6
RECORDED = ("query_only", "one_shot")  # what is kept beside the score of task vectors
SHOWN = ("one_shot", "query_only", "task_vectors")  # whose answers a report shows

Progress = Callable[[str, dict[str, Any]], None]


def find_and_judge(
    model: PromptedModel,
    train: DataSet,
    test: DataSet,
    tasks: Sequence[Task],
    settings: FindSettings = PRESETS["best"],
    queries: int = QUERIES,
    on_step: Progress = lambda task, record: None,
    on_found: Callable[[TaskVectors], None] = lambda vectors: None,
    refining: RefineSettings | None = None,
    on_refine: Progress = lambda task, record: None,
    checkpoint_of: Callable[[str], Checkpoint | None] = lambda task: None,
) -> tuple[Outcome, list[TaskVectors]]:
    """Find the task vectors of tasks on ``train`` and judge them on ``test``, which must share nothing.

    ``test`` gives ``queries`` prompts of each task, or as many as there are pairs. ``on_step(task, record)`` sees every
    step of every search. With ``refining`` the values that a search comes to are refined before they are judged, whose
    steps ``on_refine`` sees. Ctrl-C raises KeyboardInterrupt, but the best sites of a search reach ``on_found`` first,
    as does every search's result, and again with the record of its score. ``checkpoint_of(task)`` keeps the state of
    its search, also of one that is over: forget it when all is safe.
    """
    started = time.monotonic()
    settings = settings.of(model)
    test = remembered(test)  # whose prompts are read in blocks, and those of every task anew
    size, count = model.image_size, min(queries, pairs_of(test))
    judged = [plan_prompts(test, task, count, size, settings.seed) for task in tasks]
    for start in range(0, count, BATCH):  # first of all: a file that cannot be read shall not cost a search
        judged[0][start : start + BATCH]
    calibrating = [validation_prompts(model, train, task, settings) for task in tasks]
    statistics = collect_for(model, train, tasks, settings)
    shared = (time.monotonic() - started) / len(tasks)
    outcomes, vectors = [], []
    for task, prompts, calibrated_by in zip(tasks, judged, calibrating, strict=True):
        begun = time.monotonic()

        def each_step(record: dict[str, Any], task: Task = task) -> None:
            on_step(task.name, record)

        try:
            found = find(model, train, task, settings, statistics, each_step, checkpoint_of(task.name), progress=False)
        except SearchInterrupted as stop:
            on_found(stop.vectors[0])
            raise
        if refining is not None:
            on_found(found)
            found = refine(found, train, refining, partial(on_refine, task.name))
        on_found(found)
        seconds = shared + time.monotonic() - begun
        judged_task = _Judge(model, settings, statistics, calibrated_by, (prompts, test), train).judge(found, seconds)
        outcomes.append(judged_task)
        others = {name: judged_task.scores[name] for name in RECORDED}
        vectors.append(evaluation.with_score(found, prompts, judged_task.scores["task_vectors"], others))
        on_found(vectors[-1])
    outcome = Outcome(
        tasks=outcomes,
        pairs=count,
        queries=len(set(judged[0].query_images)),
        stacks={name: SearchedStack.of(model, name) for name in settings.stacks or ()},
        model={
            "name": public_name(model.name),
            "fingerprint": model.fingerprint(),
            "parameters": model.number_of_parameters,
        },
        data={"found on": train.describe(), "judged on": test.describe()},
        settings={"method": settings.search.name, **asdict(settings)},
        seconds=time.monotonic() - started,
        machine=environment.machine(),
        versions=environment.versions(),
    )
    return outcome, vectors


def _examples(model: PromptedModel, prompts: Prompts, answers: Mapping[str, np.ndarray]) -> dict[str, Images]:
    """What a report shows of some prompts: images, or texts, those of all supports of a prompt as one."""
    if not model.takes_texts:
        shown = {name: getattr(prompts, name) for name in ("support_input", "support_output", "query_input")}
        return {**shown, "truth": prompts.query_output, **answers}
    supports = np.char.add(prompts.support_input, prompts.support_output)
    return {
        "support_output": np.array(["".join(of_prompt) for of_prompt in supports.tolist()]),
        "query_input": prompts.query_input,
        "truth": prompts.query_output,
        **{name: np.array(model.texts(torch.from_numpy(each))) for name, each in answers.items()},
    }


@dataclass(frozen=True)
class _Judge:
    """Scores of task vectors and of all other ways of doing their task on the same prompts.

    Each way answers with the decoding that suits it best on the prompts of ``calibration``, as the vectors do with the
    one that suits them, and, to compare with the paper, with the likeliest code. Five examples have the decoding of
    one, which saves five hundred runs. ``judged`` are prompts, which are read a block at a time, and the data that they
    were drawn from; the constant answer is of ``learnt``, that of the vectors.
    """

    model: PromptedModel
    settings: FindSettings
    statistics: Statistics
    calibration: Prompts
    judged: tuple[PlannedPrompts, DataSet]
    learnt: DataSet

    def judge(self, vectors: TaskVectors, seconds: float) -> TaskOutcome:
        model, prompts = self.model, self.judged[0]
        task = prompts.task
        methods = {
            "one_shot": evaluation.run(model, "one_shot"),
            **({} if model.takes_texts else {"several": opponents.several(model, self.judged[1])}),
            "query_only": evaluation.run(model, "query_only"),
            "task_vectors": evaluation.run(model, "query_only", vectors.patch),
        }
        decodings = {name: self._decoding(methods[name]) for name in ("one_shot", "query_only")}
        decodings |= {"task_vectors": vectors.config.decoding}
        decodings |= {name: decodings["one_shot"] for name in methods if name not in decodings}
        ways = [
            evaluation.Way.decoded(method, self._decodings(name, decodings[name])) for name, method in methods.items()
        ]
        random = [evaluation.run(model, "query_only", patch) for patch in self._random(len(vectors.sites))]
        own = self._decoding(random[0])
        draws = {f"random {draw}": each.decoded(own) for draw, each in enumerate(random)}
        references = {} if model.takes_texts else {"copy_input": evaluation.copy_input(model)}
        if model.has_tokenizer:
            references["reconstruction"] = evaluation.reconstruction(model)
        outputs = evaluation.training_prompts(model, self.learnt, task, self.settings.seed)
        references[evaluation.CONSTANT] = evaluation.constant(model, outputs)
        ways += [evaluation.Way.of(method, name) for name, method in {**draws, **references}.items()]
        evaluated = evaluation.evaluate_each(model, ways, prompts)
        scores = {name: evaluated[name].scores for name in methods}
        scores["random"] = np.mean([evaluated[name].scores for name in draws], 0)
        scores |= {name: evaluated[name].scores for name in references}
        shown = np.arange(min(EXAMPLES_SHOWN, len(prompts)))
        answers = {name: evaluated[name].examples(shown)[1] for name in SHOWN}
        return TaskOutcome(
            task=task.name,
            metric=task.metric,
            scores=scores,
            groups=prompts.query_groups,
            supports=prompts.support_names,
            queries=prompts.query_names,
            sites=vectors.sites,
            of=vectors.config.of,
            examples=_examples(model, prompts.take(shown)[:], answers),
            history=list(vectors.search.history),
            seconds=seconds,
            decodings={} if model.takes_texts else decodings,
            likeliest={name: evaluated[_likeliest(name)].scores for name in methods if _likeliest(name) in evaluated},
            curve=vectors.search.curve,
            harmful=vectors.search.harmful,
            shots=prompts.shots,
        )

    def _decoding(self, method: Answering) -> Decoding:
        return calibrate(method, self.calibration, self.settings.choices)

    def _decodings(self, name: str, decoding: Decoding) -> dict[str, Decoding]:
        """That with which a method is judged and, where that is another, the likeliest codes, of the same runs."""
        if "likeliest" in self.model.decodings and decoding.kind != "likeliest":
            return {name: decoding, _likeliest(name): Decoding("likeliest")}
        return {name: decoding}

    def _random(self, count: int) -> Iterator[Patch]:
        """Patches of as many sites at random as were found."""
        sites = self.model.sites(self.settings.granularity, self.settings.stacks)
        means = self.statistics.means([self.judged[0].task.name])
        random = np.random.default_rng(self.settings.seed)
        for _ in range(RANDOM_DRAWS):
            mask = sites.mask(random.choice(len(sites), count, replace=False).tolist())
            yield Patch(sites, mask[None], means)


def _likeliest(name: str) -> str:
    """What a method is called where the likeliest codes answer for it."""
    return f"{name} by the likeliest codes"
