"""Searches that learn a Bernoulli logit for every site by steps of Adam: their loop, and how it is taken up again."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvec.search.found import FINALS, Best, Choice, Final, Found, OnStep, Validate, bernoulli
from taskvec.search.memory import Memory, State

# (logits, generator) -> losses of the step, a scalar whose gradient Adam follows, evaluations that it took
Step = Callable[[Tensor, torch.Generator], tuple[Float[Tensor, " n"], Float[Tensor, ""], int]]


@dataclass(frozen=True)
class StepSettings:
    """``steps`` of Adam from ``initial_logit`` at every site, and the choice of a set at checkpoints.

    ``final`` and ``halving`` are as in ``found.Choice``; ``candidates`` is how many masks a checkpoint samples beside
    the most probable one where ``final`` is ``best``. ``seed`` None is that of ``FindSettings``, or 0 alone.
    """

    steps: int
    learning_rate: float
    initial_logit: float
    checkpoint_every: int
    final: Final
    candidates: int
    halving: bool
    seed: int | None

    def __post_init__(self) -> None:
        if self.final not in FINALS:
            raise ValueError(f"there is no final set {self.final!r}: expected one of {', '.join(FINALS)}")
        if self.steps < 1 or self.checkpoint_every < 1 or self.candidates < 0:
            raise ValueError(
                "a search needs at least 1 step, checkpoints at least 1 step apart, and no fewer than 0 "
                f"candidates, not {self.steps}, {self.checkpoint_every} and {self.candidates}"
            )


def search(
    method: str,
    step: Step,
    validate: Validate,
    sites: int,
    items: int,
    settings: StepSettings,
    tasks: Int[Tensor, " items"] | None,
    on_step: OnStep,
    memory: Memory | None,
) -> Found:
    """Follow the gradient that ``step`` gives; choose at checkpoints and at the end.

    ``on_step`` sees a record of every step: step, loss, expected number of sites, and at checkpoints the held-out loss
    and the number of sites of the set that has it. KeyboardInterrupt ends the search early with the best set so far,
    once there is a checkpoint.

    ``memory`` keeps the whole state at every checkpoint and on KeyboardInterrupt. A search that finds its state there
    goes on from it, and ends as it would have without a stop, to the last bit. Raises ValueError where the state
    belongs to another search. The file goes when the search is over.
    """
    generator = torch.Generator().manual_seed(settings.seed or 0)
    logits = torch.full((sites,), settings.initial_logit, requires_grad=True)
    optimizer = torch.optim.Adam([logits], settings.learning_rate)
    choice = Choice(validate, settings.final, settings.candidates, settings.halving, generator)
    history: list[dict[str, Any]] = []
    evaluations, interrupted = 0, False
    kept: State | None = None
    of = {"method": method, "settings": asdict(settings), "sites": sites, "items": items}
    of["tasks"] = None if tasks is None else tasks.tolist()
    if memory and (state := memory.recall(of)):
        choice.best = _restore(state, logits, optimizer, generator)
        history, evaluations = state[1]["history"], state[1]["evaluations"]
    try:
        for number in range(len(history) + 1, settings.steps + 1):
            losses, surrogate, cost = step(logits, generator)
            optimizer.zero_grad()
            surrogate.backward()
            optimizer.step()
            evaluations += cost
            expected = float(bernoulli(logits.detach()).sum())
            record: dict[str, Any] = {"step": number, "loss": float(losses.mean()), "sites": expected}
            if at_checkpoint := number % settings.checkpoint_every == 0 or number == settings.steps:
                record |= choice.checkpoint(logits.detach(), number)
            history.append(record)
            if memory:
                # a copy between steps: Ctrl-C may come in the middle of the next one
                kept = _state(logits, optimizer, generator, choice.best, evaluations, history)
                if at_checkpoint:
                    memory.keep(of, kept)
            on_step(record)
    except KeyboardInterrupt:
        if memory and kept:
            memory.keep(of, kept)
        if choice.best is None:
            raise
        interrupted = True
    best = choice.settle()
    if memory and not interrupted:
        memory.forget()
    return Found(best.mask, best.loss, best.step, logits.detach(), history, evaluations, interrupted)


def _state(
    logits: Tensor,
    optimizer: torch.optim.Adam,
    generator: torch.Generator,
    best: Best | None,
    evaluations: int,
    history: list[dict[str, Any]],
) -> State:
    """A copy of all that the next step and the end depend on."""
    tensors = {"logits": logits.detach().clone(), "generator": generator.get_state()}
    tensors |= {f"adam.{name}": value.clone() for name, value in optimizer.state[logits].items()}
    facts: dict[str, Any] = {"evaluations": evaluations, "history": history.copy(), "best": None}
    if best is not None:
        tensors |= {"best.mask": best.mask, "best.logits": best.logits}
        facts["best"] = {"loss": best.loss, "step": best.step}
    return tensors, facts


def _restore(state: State, logits: Tensor, optimizer: torch.optim.Adam, generator: torch.Generator) -> Best | None:
    """Put a kept state back; returns the best set so far."""
    tensors, facts = state
    with torch.no_grad():
        logits.copy_(tensors["logits"])
    generator.set_state(tensors["generator"])
    adam = {name.removeprefix("adam."): value for name, value in tensors.items() if name.startswith("adam.")}
    optimizer.load_state_dict({"state": {0: adam}, "param_groups": optimizer.state_dict()["param_groups"]})
    if facts["best"] is None:
        return None
    return Best(**facts["best"], mask=tensors["best.mask"], logits=tensors["best.logits"])
