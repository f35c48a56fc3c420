"""The gradient of mean losses by the shares of all sites, without the items whose loss is not finite."""

from jaxtyping import Float, Int
from torch import Tensor

from taskvec.search.finite import FiniteLosses
from taskvec.search.problem import Differentiate, Problem

COST_OF_A_GRADIENT = 3  # evaluations: one forward, and a backward of about two


def finite_gradient(
    differentiate: Differentiate,
    shares: Float[Tensor, " sites"],
    items: Int[Tensor, " n"],
    finite: FiniteLosses,
    what: str,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " sites"], int]:
    """Losses of items of one task, the gradient of their mean by the shares, and how many runs that took.

    Items whose loss is not finite go to ``finite``, which may leave them out. Raises ValueError, which calls the losses
    ``what``, where none is left.
    """
    losses, gradient = differentiate(shares, items)
    kept = finite.of(losses, f"losses of {what}", items)
    if not kept.any():
        raise ValueError(f"none of {len(items)} losses of {what} of one task is finite")
    if kept.all():
        return losses, gradient, len(items)
    again = differentiate(shares, items[kept])  # the mean's gradient, without those items
    return *again, len(items) + int(kept.sum())


def items_by_task(problem: Problem) -> list[Int[Tensor, " n"]]:
    """The items of each task."""
    tasks = problem.tasks
    return [problem.every_item] if tasks is None else [(tasks == task).nonzero()[:, 0] for task in tasks.unique()]
