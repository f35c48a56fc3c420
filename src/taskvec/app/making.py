"""Task vectors made in the page: a search in a thread of its own, which tells how far it is and can be stopped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import numpy as np

from taskvec import evaluation
from taskvec.answering import calibrate
from taskvec.app.answers import ONE_SHOT, PATCHED, QUERY_ONLY
from taskvec.data.examples import DataSet
from taskvec.finding import FindSettings, find_sites, parts_of, validation_prompts
from taskvec.heads import Patch
from taskvec.models.interface import PromptedModel
from taskvec.prompts import pairs_of, plan_prompts
from taskvec.tasks import Task
from taskvec.vectors import TaskVectors

QUERIES = 40  # that judge, at most
STOPPED = "the search was stopped before it had found anything"


@dataclass(frozen=True)
class Judged:
    """Mean scores of a task on ``queries`` images that were kept aside, by how the answers came about."""

    task: Task
    queries: int
    scores: dict[str, float]


@dataclass(frozen=True)
class Progress:
    """How far a search is: ``doing`` it now, ``done`` of ``of``, and a record of every step so far.

    In the end ``vectors`` are what was found, one a task, and ``judged`` what they score.
    """

    doing: str
    done: int
    of: int
    history: tuple[dict[str, Any], ...] = ()
    vectors: tuple[TaskVectors, ...] = ()
    judged: tuple[Judged, ...] = ()


@dataclass
class Making:
    """One search for the sites of some tasks, on ``train``, judged on ``test``, which share nothing.

    Iterated over, it runs, and tells of its progress; whoever ends the iteration early stops it. Raises what the
    search raises, and ValueError where it was stopped too early.
    """

    model: PromptedModel
    train: DataSet
    test: DataSet
    tasks: Sequence[Task]
    settings: FindSettings = field(default_factory=FindSettings)
    _stopped: Event = field(default_factory=Event, init=False, repr=False)

    def stop(self) -> None:
        """End the search with the best so far."""
        self._stopped.set()

    def __iter__(self) -> Iterator[Progress]:
        updates: SimpleQueue[Progress | BaseException | None] = SimpleQueue()
        Thread(target=self._work, args=[updates], daemon=True).start()
        try:
            while (update := updates.get()) is not None:
                if isinstance(update, KeyboardInterrupt):
                    raise ValueError(STOPPED) from update
                if isinstance(update, BaseException):
                    raise update
                yield update
        finally:
            self.stop()

    def _work(self, updates: "SimpleQueue[Progress | BaseException | None]") -> None:
        history: list[dict[str, Any]] = []
        steps = self.settings.search.number_of_steps or 0

        def each_batch(task: str, done: int) -> None:
            self._check()
            updates.put(Progress(f"means of {task}", done, prompts))

        def each_step(record: dict[str, Any]) -> None:
            history.append(record)
            updates.put(Progress("search", record["step"], steps, tuple(history)))
            self._check()

        try:
            prompts = min(self.settings.prompts, pairs_of(parts_of(self.train)[0]))
            finding = find_sites(
                self.model, self.train, self.tasks, self.settings, on_step=each_step, on_batch=each_batch
            )
            vectors = tuple(finding.vectors())
            updates.put(Progress("scores", 0, len(vectors), tuple(history)))
            judged = tuple(self._judge(task, each) for task, each in zip(self.tasks, vectors, strict=True))
            updates.put(Progress("done", len(vectors), len(vectors), tuple(history), vectors, judged))
            updates.put(None)
        except BaseException as error:
            updates.put(error)

    def _check(self) -> None:
        """A search takes KeyboardInterrupt as the wish to end with what it has."""
        if self._stopped.is_set():
            raise KeyboardInterrupt

    def _judge(self, task: Task, vectors: TaskVectors) -> Judged:
        """What the ways of doing a task score, each decoded as suits it on the pairs that chose the sites."""
        count = min(QUERIES, pairs_of(self.test))
        prompts = plan_prompts(self.test, task, count, self.model.image_size, self.settings.seed)
        settings = self.settings.of(self.model)
        chosen_by = validation_prompts(self.model, self.train, task, settings)
        ways: dict[str, tuple[Any, Patch | None]] = {
            ONE_SHOT: ("one_shot", None),
            QUERY_ONLY: ("query_only", None),
            PATCHED: ("query_only", vectors.patch),
        }
        scores = {}
        for name, (view, patch) in ways.items():
            way = evaluation.run(self.model, view, patch)
            decoding = calibrate(way, chosen_by, settings.choices) if patch is None else vectors.config.decoding
            judged = evaluation.evaluate(self.model, way.decoded(decoding), prompts)
            scores[name] = float(np.mean(judged.scores))
        return Judged(task, len(set(prompts.query_groups)), scores)
