"""A gradient search over sites: shares between a head's own output and the mean, learnt through the token objective.

REINFORCE learns from one number a run which of a hundred sites did well. With a share of 0..1 for every site instead of
a yes or no, the loss of a run has a gradient for all of them at once. The shares end near 0 and 1 by themselves, so the
set of sites above a half does nearly what they did.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from taskvec.search.finite import FiniteLosses
from taskvec.search.gradient import COST_OF_A_GRADIENT, finite_gradient, items_by_task
from taskvec.search.problem import Problem
from taskvec.search.selection import Final
from taskvec.search.settings import Need
from taskvec.search.steps import Start, Step, StepSettings

Gate = Literal["share", "straight_through", "hard_concrete"]
GATES: tuple[Gate, ...] = ("share", "straight_through", "hard_concrete")
TEMPERATURE, STRETCH = 2 / 3, (-0.1, 1.1)  # of the hard concrete gate, as its authors have them


@dataclass(frozen=True)
class RelaxedSettings(StepSettings):
    """Search for the sites whose patch has the lowest loss, by the gradient of their shares: min over logits of
    E[loss(shares(logits), item)].

    Of several tasks, it is the mean over tasks of the logarithm of a task's mean loss that is minimised: every task's
    gradient is divided by its mean loss in this step, so that no task dominates. Raises ValueError where that loss is
    not positive. A record's ``sites`` is the sum of all sigmoids of logits.

    ``items`` are drawn for every step of those searched on, of several tasks as many each. ``gate`` says how shares
    come from logits: see ``open_gates``. ``candidates`` masks are sampled at every checkpoint, each site with the
    sigmoid of its logit as probability.
    """

    name: ClassVar[str] = "relaxed"
    needs: ClassVar[frozenset[Need]] = frozenset({"differentiate", "validate"})
    preset: ClassVar[str] = "best"

    steps: int = 40
    items: int = 16
    learning_rate: float = 0.3
    initial_logit: float = -1.0
    gate: Gate = "share"
    checkpoint_every: int = 20
    final: Final = "best"
    candidates: int = 15
    halving: bool = False
    screening: bool = False
    start: Start = "even"
    patience: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate not in GATES:
            raise ValueError(f"there is no gate {self.gate!r}: expected one of {', '.join(GATES)}")
        if self.items < 1:
            raise ValueError(f"a step needs at least 1 item, not {self.items}")

    def coarse(self) -> Self:
        return replace(self, steps=12, items=8, checkpoint_every=12, candidates=7)

    def learning_step(self, problem: Problem, finite: FiniteLosses) -> Step:
        differentiate, groups = self.required(problem.differentiate, "differentiate"), items_by_task(problem)
        each = max(1, self.items // len(groups))

        def step(logits: Tensor, generator: torch.Generator, number: int) -> tuple[Tensor, Tensor, int]:
            drawn = [group[torch.randperm(len(group), generator=generator)[:each]] for group in groups]
            shares = open_gates(logits, self.gate, generator)
            results = [finite_gradient(differentiate, shares.detach(), own, finite, f"step {number}") for own in drawn]
            losses = torch.cat([own for own, _, _ in results])
            gradients = torch.stack([gradient for _, gradient, _ in results])
            if problem.tasks is not None:
                gradients = gradients / _positive(torch.stack([own.mean() for own, _, _ in results]))[:, None]
            return losses, shares @ gradients.mean(0), COST_OF_A_GRADIENT * sum(runs for _, _, runs in results)

        return step


def open_gates(logits: Float[Tensor, " sites"], gate: Gate, generator: torch.Generator) -> Float[Tensor, " sites"]:
    """Shares 0..1 of one step, with a gradient by the logits.

    ``share``: s = sigmoid(logit), the same at every step. ``straight_through``: b ~ Bernoulli(s), with the gradient of
    s (Bengio et al. 2013), so that shares are the 0 and 1 of a mask. ``hard_concrete`` (Louizos et al. 2018, equations
    10 and 11): u ~ Uniform(0, 1), c = sigmoid((log u - log(1 - u) + logit) / (2/3)), min(1, max(0, 1.2 c - 0.1)), which
    is above one half with probability s, often exactly 0 or 1, and has the true gradient of its value.
    """
    if gate == "share":
        return torch.sigmoid(logits)
    uniform = torch.rand(len(logits), generator=generator)
    if gate == "straight_through":
        chances = torch.sigmoid(logits)
        return (uniform < chances.detach()) + (chances - chances.detach())
    concrete = torch.sigmoid((torch.logit(uniform) + logits) / TEMPERATURE)
    low, high = STRETCH
    return (concrete * (high - low) + low).clamp(0, 1)


def _positive(means: Float[Tensor, " tasks"]) -> Float[Tensor, " tasks"]:
    if not (means > 0).all():
        raise ValueError(f"several tasks weigh the same by the logarithm of their loss: one has {float(means.min())}")
    return means
