"""Causal mediation analysis (Todd et al. 2023; Section 8.4): every site is patched alone, the most helpful are chosen.

effect(site) = mean over items of [loss(no patch, item) - loss(only this site patched, item)].
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from taskvec.search.baselines import top_sites
from taskvec.search.checkpoint import Checkpoint, State, check_like, check_steps, damaged, facts_of
from taskvec.search.finite import FiniteLosses, NonFinite
from taskvec.search.problem import Problem, one_site_masks
from taskvec.search.settings import OnStep, SearchResult, SearchSettings

SITES_PER_CALL = 256  # evaluated between two records, which is also where Ctrl-C is heard at the latest


@dataclass(frozen=True)
class CmaSettings(SearchSettings):
    """``share`` of all sites is patched, 0.25 in the paper. Nothing is drawn."""

    name: ClassVar[str] = "cma"

    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of sites is {self.share}: expected above 0 and at most 1")

    def search(
        self,
        problem: Problem,
        on_step: OnStep = lambda record: None,
        checkpoint: Checkpoint | None = None,
        non_finite: NonFinite = "refuse",
    ) -> SearchResult:
        """The ``share`` of sites, at least one and no more than ``problem.at_most``, with the highest
        ``causal_effects``; its loss is the mean over items.

        An interrupted search has nothing to end with: KeyboardInterrupt passes. ``checkpoint`` keeps what is measured
        with every record, from where the same search goes on to the same end. A site with a loss that is not finite
        is not chosen. Raises ValueError where that leaves too few, or where the loss of the set is not finite.
        """
        finite = FiniteLosses(non_finite, problem.names)
        of = self.identity(problem, non_finite)
        measured = _Measured.recalled(problem, finite, checkpoint, of) or _Measured.begun(problem, finite)
        for record in measured.steps(problem, finite):
            if checkpoint is not None:
                checkpoint.keep(of, measured.state(finite))
            on_step(record)
        effects = measured.effects(problem)
        mask = top_sites(effects, min(max(1, round(self.share * problem.sites)), problem.most))
        (losses,) = problem.evaluate_product(mask[None], problem.every_item)
        kept = finite.of(losses, "losses of the chosen sites", problem.every_item)
        if not kept.any():
            raise ValueError("the loss of the chosen sites is finite on no item")
        loss, evaluations = float(losses[kept].mean()), problem.items * (problem.sites + 2)
        history = measured.history
        return SearchResult(mask, loss, len(history), effects, history, evaluations, False, finite.count)


def causal_effects(
    problem: Problem, on_step: OnStep = lambda record: None, finite: FiniteLosses | None = None
) -> Float[Tensor, " sites"]:
    """By how much patching each site alone lowers the loss, mean over items.

    Of several tasks, a task's effects are divided by their standard deviation over sites (ddof 1) before the mean over
    tasks, so that no task dominates. ``on_step`` sees a record of every ``SITES_PER_CALL`` sites: step, mean loss,
    sites measured and evaluations so far. Losses that are not finite go to ``finite``; where they are left out, the
    effect of their site is NaN, and items whose loss without a patch is not finite do not count.
    """
    finite = finite or FiniteLosses(names=problem.names)
    measured = _Measured.begun(problem, finite)
    for record in measured.steps(problem, finite):
        on_step(record)
    return measured.effects(problem)


@dataclass(frozen=True)
class _Facts:
    """What a kept state says beside its tensors."""

    history: list[dict[str, Any]]
    non_finite: int


@dataclass
class _Measured:
    """Losses without a patch [items], and by how much each site alone lowers them [sites, items], 0 before its turn.

    ``history`` has a record of every ``SITES_PER_CALL`` sites that have had their turn.
    """

    unpatched: Float[Tensor, " items"]
    lowered: Float[Tensor, "sites items"]
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def begun(cls, problem: Problem, finite: FiniteLosses) -> "_Measured":
        none = torch.zeros(1, problem.sites, dtype=torch.bool)
        (unpatched,) = problem.evaluate_product(none, problem.every_item)
        if not finite.of(unpatched, "losses without a patch", problem.every_item).any():
            raise ValueError("no item has a finite loss without a patch")
        return cls(unpatched, torch.zeros(problem.sites, problem.items))

    @classmethod
    def recalled(
        cls, problem: Problem, finite: FiniteLosses, checkpoint: Checkpoint | None, of: dict[str, Any]
    ) -> "_Measured | None":
        """What a checkpoint kept; None where there is nothing. ValueError where it is damaged."""
        if checkpoint is None or (state := checkpoint.recall(of)) is None:
            return None
        tensors, facts = state
        expected = {"unpatched": torch.empty(problem.items), "lowered": torch.empty(problem.sites, problem.items)}
        try:
            check_like(tensors, expected)
            kept = facts_of(_Facts, facts)
            check_steps(kept.history)
        except ValueError as error:
            raise damaged(checkpoint.path, str(error)) from error
        finite.count = kept.non_finite
        return cls(tensors["unpatched"], tensors["lowered"], kept.history)

    def state(self, finite: FiniteLosses) -> State:
        tensors = {"unpatched": self.unpatched, "lowered": self.lowered}
        return tensors, asdict(_Facts(self.history, finite.count))

    def steps(self, problem: Problem, finite: FiniteLosses) -> Iterator[dict[str, Any]]:
        """Measure the sites that are left; the record of every step."""
        sites, items, each = problem.sites, problem.items, problem.every_item
        left = torch.arange(sites).split(SITES_PER_CALL)[len(self.history) :]
        for step, some in enumerate(left, len(self.history) + 1):
            before, first, last = finite.count, int(some[0]), int(some[-1])
            losses = problem.evaluate_product(one_site_masks(some, sites), each).flatten()
            kept = finite.of(losses, f"losses of sites {first} to {last} alone", each.repeat(len(some)))
            if not kept.any():
                raise ValueError(f"none of {len(losses)} losses of sites {first} to {last} alone is finite")
            self.lowered[some] = self.unpatched - losses.where(kept, torch.nan).view(len(some), items)
            record = {"step": step, "loss": float(losses[kept].mean()), "sites": last + 1}
            self.history.append(record | {"evaluations": items * (2 + last)} | finite.since(before))
            yield self.history[-1]

    def effects(self, problem: Problem) -> Float[Tensor, " sites"]:
        counted, tasks = self.unpatched.isfinite(), problem.tasks
        if tasks is None:
            return self.lowered[:, counted].mean(1)
        by_task = [self.lowered[:, counted & (tasks == task)].mean(1) for task in tasks[counted].unique()]
        return mean_over_tasks(torch.stack(by_task))


def mean_over_tasks(effects: Float[Tensor, "tasks sites"]) -> Float[Tensor, " sites"]:
    """Each task's effects divided by their standard deviation over sites (ddof 1), the mean over tasks; NaN stays."""
    known = effects[:, effects.isfinite().all(0)]
    spread = known.std(1, correction=1, keepdim=True)
    return (effects / torch.where(spread > 0, spread, 1.0)).mean(0)
