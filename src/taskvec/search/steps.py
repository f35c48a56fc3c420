"""Searches that learn a Bernoulli logit for every site by steps of Adam: their loop, and how it is taken up again."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from taskvec.search.attribution import attributed_effects
from taskvec.search.checkpoint import Checkpoint, State, check_like, check_steps, damaged, facts_of
from taskvec.search.finite import FiniteLosses, NonFinite
from taskvec.search.problem import Problem
from taskvec.search.selection import FINALS, Best, Final, Selection, bernoulli
from taskvec.search.settings import Need, OnStep, SearchResult, SearchSettings

Start = Literal["even", "attribution"]
STARTS: tuple[Start, ...] = ("even", "attribution")
BOUND = 2.0  # of a start's distance from the initial logit

# (logits, generator, its number) -> finite losses of a step, a scalar whose gradient Adam follows, evaluations it took
Step = Callable[[Tensor, torch.Generator, int], tuple[Float[Tensor, " n"], Float[Tensor, ""], int]]


@dataclass(frozen=True)
class StepSettings(SearchSettings):
    """``steps`` of Adam from ``initial_logit`` at every site, and the selection of a set at checkpoints.

    ``final`` and ``halving`` are as in ``Selection``; ``candidates`` is how many masks a checkpoint samples beside the
    most probable one where ``final`` is ``best``. With ``screening`` the problem's cheaper losses halve them first.
    ``start`` ``attribution`` adds each site's effect to first order to its logit, as ``logits_of_effects`` scales it;
    it takes a gradient. ``patience`` ends a search, with a checkpoint, once the most probable set has been the same,
    and not empty, for as many steps; 0 never does.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"validate"})

    steps: int
    learning_rate: float
    initial_logit: float
    checkpoint_every: int
    final: Final
    candidates: int
    halving: bool
    screening: bool
    start: Start
    patience: int

    def __post_init__(self) -> None:
        if self.final not in FINALS:
            raise ValueError(f"there is no final set {self.final!r}: expected one of {', '.join(FINALS)}")
        if self.start not in STARTS:
            raise ValueError(f"there is no start {self.start!r}: expected one of {', '.join(STARTS)}")
        if self.patience < 0:
            raise ValueError(
                f"the patience is {self.patience} steps: expected at least 1, or 0 for no end before the last"
            )
        if self.steps < 1 or self.checkpoint_every < 1 or self.candidates < 0:
            raise ValueError(
                "a search needs at least 1 step, checkpoints at least 1 step apart, and no fewer than 0 "
                f"candidates, not {self.steps}, {self.checkpoint_every} and {self.candidates}"
            )
        if not (0 <= self.learning_rate < math.inf and math.isfinite(self.initial_logit)):
            raise ValueError(
                f"a search learns from finite numbers: learning_rate is {self.learning_rate}, initial_logit "
                f"{self.initial_logit}"
            )

    @property
    def number_of_steps(self) -> int:
        return self.steps

    @abstractmethod
    def learning_step(self, problem: Problem, finite: FiniteLosses) -> Step:
        """What a step of this search does. Losses that are not finite go to ``finite``."""

    def search(
        self,
        problem: Problem,
        on_step: OnStep = lambda record: None,
        checkpoint: Checkpoint | None = None,
        non_finite: NonFinite = "refuse",
    ) -> SearchResult:
        """Follow the gradient that ``learning_step`` gives; select at checkpoints and at the end.

        ``on_step`` sees a record of every step: step, loss, expected number of sites, and at checkpoints the validation
        loss and the number of sites of the set that has it. KeyboardInterrupt ends the search early with the best set
        so far, once there is a checkpoint.

        ``checkpoint`` keeps the whole state at every checkpoint and on KeyboardInterrupt. A search that finds its state
        there goes on from it, and ends as it would have without a stop, to the last bit; one that was over ends at
        once. Raises ValueError where the state is damaged or belongs to another search. It stays until the caller,
        whose result is safe then, calls ``checkpoint.forget()``.

        A step whose gradient is not finite raises ValueError, so that what was learnt stays as it was.
        """
        validate, finite = self.required(problem.validate, "validate"), FiniteLosses(non_finite, problem.names)
        step = self.learning_step(problem, finite)
        generator = torch.Generator().manual_seed(problem.seed)
        logits = torch.full((problem.sites,), self.initial_logit, requires_grad=True)
        still, before, interrupted = 0, 0, False
        optimizer = torch.optim.Adam([logits], self.learning_rate)
        selection = Selection(
            validate,
            self.final,
            self.candidates,
            self.halving,
            generator,
            finite,
            problem.screen if self.screening else None,
            problem.at_most,
        )
        history: list[dict[str, Any]] = []
        kept: State | None = None
        of = self.identity(problem, non_finite)
        if checkpoint and (state := checkpoint.recall(of)):
            try:
                progress, selection.best = _restore(state, logits, optimizer, generator)
            except (KeyError, TypeError, ValueError, RuntimeError) as error:
                raise damaged(checkpoint.path, str(error)) from error
            history, evaluations, still = progress.history, progress.evaluations, progress.still
            finite.count = before = progress.non_finite
        else:
            evaluations = self._start(logits, problem, finite)
        try:
            while (number := len(history) + 1) <= self.steps and not 0 < self.patience <= still:
                probable = logits.detach() > 0
                losses, surrogate, cost = step(logits, generator, number)
                optimizer.zero_grad()
                surrogate.backward()
                _require_finite(logits.grad, number)
                optimizer.step()
                evaluations += cost
                expected = float(bernoulli(logits.detach()).sum())
                record: dict[str, Any] = {"step": number, "loss": float(losses.mean()), "sites": expected}
                still = still + 1 if probable.any() and torch.equal(logits > 0, probable) else 0
                last = number == self.steps or 0 < self.patience <= still
                if at_checkpoint := number % self.checkpoint_every == 0 or last:
                    record |= selection.checkpoint(logits.detach(), number)
                history.append(record | finite.since(before))
                before = finite.count
                if checkpoint:
                    # a copy between steps: Ctrl-C may come in the middle of the next one
                    progress = Progress(evaluations, history.copy(), _best_facts(selection.best), finite.count, still)
                    kept = _state(logits, optimizer, generator, selection.best, progress)
                    if at_checkpoint:
                        checkpoint.keep(of, kept)
                on_step(history[-1])
        except KeyboardInterrupt:
            if checkpoint and kept:
                checkpoint.keep(of, kept)
            if selection.best is None:
                raise
            interrupted = True
        best, scores = selection.settle(), logits.detach()
        return SearchResult(best.mask, best.loss, best.step, scores, history, evaluations, interrupted, finite.count)

    def _start(self, logits: Tensor, problem: Problem, finite: FiniteLosses) -> int:
        """Move the logits to where the search starts; returns how many evaluations that took."""
        if self.start == "even":
            return 0
        effects, evaluations = attributed_effects(problem, finite=finite)
        logits.data += logits_of_effects(effects)
        return evaluations


def logits_of_effects(effects: Float[Tensor, " sites"]) -> Float[Tensor, " sites"]:
    """Effects in units of their root mean square, no further than BOUND from 0: what a start adds to the logits."""
    scale = effects.square().mean().sqrt()
    return (effects / scale).clamp(-BOUND, BOUND) if scale > 0 else effects


def _require_finite(gradient: Tensor | None, step: int) -> None:
    if gradient is not None and (wrong := int((~gradient.isfinite()).sum())):
        raise ValueError(f"the gradient of step {step} is not finite at {wrong} of {len(gradient)} sites")


@dataclass(frozen=True)
class BestFacts:
    """What the best set of sites so far is known by, beside its tensors."""

    loss: float
    step: int


@dataclass(frozen=True)
class Progress:
    """What a kept state says beside its tensors."""

    evaluations: int
    history: list[dict[str, Any]]
    best: BestFacts | None
    non_finite: int
    still: int  # steps for which the most probable set has been the same


def _best_facts(best: Best | None) -> BestFacts | None:
    return None if best is None else BestFacts(best.loss, best.step)


def _state(
    logits: Tensor, optimizer: torch.optim.Adam, generator: torch.Generator, best: Best | None, progress: Progress
) -> State:
    """A copy of all that the next step and the end depend on."""
    tensors = {"logits": logits.detach().clone(), "generator": generator.get_state()}
    tensors |= {f"adam.{name}": value.clone() for name, value in optimizer.state[logits].items()}
    if best is not None:
        tensors |= {"best.mask": best.mask, "best.logits": best.logits}
    return tensors, asdict(progress)


def _restore(
    state: State, logits: Tensor, optimizer: torch.optim.Adam, generator: torch.Generator
) -> tuple[Progress, Best | None]:
    """Put a kept state back; ValueError where a part of it is missing, or of another type or shape."""
    tensors, facts = state
    progress = facts_of(Progress, facts)
    check_steps(progress.history)
    like = logits.detach()
    expected = {"logits": like, "generator": generator.get_state(), "adam.step": torch.zeros(())}
    expected |= {"adam.exp_avg": like, "adam.exp_avg_sq": like}
    if progress.best is not None:
        expected |= {"best.mask": like > 0, "best.logits": like}
    check_like(tensors, expected)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} has values that are not finite")
    with torch.no_grad():
        logits.copy_(tensors["logits"])
    generator.set_state(tensors["generator"])
    adam = {name.removeprefix("adam."): value for name, value in tensors.items() if name.startswith("adam.")}
    optimizer.load_state_dict({"state": {0: adam}, "param_groups": optimizer.state_dict()["param_groups"]})
    if progress.best is None:
        return progress, None
    return progress, Best(**asdict(progress.best), mask=tensors["best.mask"], logits=tensors["best.logits"])
