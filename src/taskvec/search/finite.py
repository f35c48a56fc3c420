"""Losses that are NaN or infinite: the one place that counts them, and refuses them or leaves them out of a search."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Bool, Float, Int
from torch import Tensor

from taskvec.choices import NON_FINITE, NonFinite

NAMED = 3  # items that an error names


@dataclass
class FiniteLosses:
    """What becomes of a search's losses that are not finite, and how many there were.

    ``refuse`` ends the search with a ValueError that says how many of how many losses they are and on which items.
    ``leave_out`` goes on without them: REINFORCE and the relaxed search learn from the rest of a step, and a set of
    sites with such a loss is never chosen. ``names`` are those of the items, their numbers where none are given.
    """

    policy: NonFinite = "refuse"
    names: Sequence[str] = ()
    count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.policy not in NON_FINITE:
            raise ValueError(f"non_finite is {self.policy!r}: expected one of {', '.join(NON_FINITE)}")

    def of(self, losses: Float[Tensor, " n"], what: str, items: Int[Tensor, " n"] | None = None) -> Bool[Tensor, " n"]:
        """Which of these losses, called ``what`` in an error, are finite; the others are counted or refused."""
        finite = losses.isfinite()
        bad = int((~finite).sum())
        self.count += bad
        if bad and self.policy == "refuse":
            kinds = f"{int(losses.isnan().sum())} NaN, {int(losses.isinf().sum())} infinite"
            place = "" if items is None else f", on {self._named(items[~finite].unique().tolist())}"
            raise ValueError(
                f"{bad} of {len(losses)} {what} are not finite ({kinds}){place}: look at the means and the precision, "
                "or go on without them (non_finite='leave_out', --non-finite leave_out)"
            )
        return finite

    def since(self, before: int) -> dict[str, int]:
        """What the record of a step says of the losses that were left out in it: nothing where there were none."""
        return {"non_finite": self.count - before} if self.count > before else {}

    def _named(self, items: list[int]) -> str:
        shown = ", ".join(self.names[item] if self.names else f"item {item}" for item in items[:NAMED])
        return shown if len(items) <= NAMED else f"{shown} and {len(items) - NAMED} more"
