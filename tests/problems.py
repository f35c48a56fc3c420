"""Problems for searches, of toy losses."""

from typing import Any

from torch import Tensor

from taskvec.search import Evaluate, EvaluateProduct, Problem


def product_of(evaluate: Evaluate) -> EvaluateProduct:
    """Every mask on every item, one pair after another."""

    def evaluate_product(masks: Tensor, items: Tensor) -> Tensor:
        losses = evaluate(masks.repeat_interleave(len(items), 0), items.repeat(len(masks)))
        return losses.view(len(masks), len(items))

    return evaluate_product


def problem(evaluate: Evaluate, sites: int, items: int, **parts: Any) -> Problem:
    return Problem(sites, items, evaluate, product_of(evaluate), **parts)
