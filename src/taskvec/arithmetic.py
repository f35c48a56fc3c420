"""Arithmetic of task vectors as text, such as ``inpainting + segmentation - identity`` (Section 11, Figure 7)."""

import ast
import operator
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from taskvec.metrics import METRICS, metric_named
from taskvec.models.interface import PromptedModel
from taskvec.provenance import Combination
from taskvec.vectors import TaskVectors

T = TypeVar("T")

OPERATORS: dict[type[ast.operator | ast.unaryop], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
}


def combine(expression: str, model: PromptedModel, root: Path = Path(), metric: str | None = None) -> TaskVectors:
    """The task vectors that an expression makes of those in the directories of ``root`` that it names.

    ``metric`` names that of the outputs: where it is not given, that of masks if any vectors that are not subtracted
    have it. The result records the expression, by the names of tasks, and every term with how it was found. Raises
    ValueError as ``calculate`` does, and where a name holds no task vectors of this model or their sites differ.
    """
    if metric is not None:
        metric_named(metric)

    @cache
    def load(name: str) -> TaskVectors:
        return TaskVectors.load(root / name, model)

    vectors = calculate(expression, load)
    if not isinstance(vectors, TaskVectors):
        raise ValueError(f"{expression!r} is a number: expected names of task vectors in it")
    if metric is not None and METRICS[metric].of_tokens != METRICS[vectors.config.metric].of_tokens:
        kind = "images" if vectors.config.wording is None else "texts"
        raise ValueError(f"the metric {metric} does not score {kind}, which {expression!r} is of")
    combined = 1 * vectors  # a name alone is a combination of one term
    called = all(name == load(name).task for name in names_in(expression))  # else they are places of the maker's
    found = Combination(expression if called else combined.task, combined.terms, metric)
    config = replace(combined.config, metric=metric or combined.config.metric, found=found)
    if not METRICS[config.metric].of_masks:  # which alone are cut
        config = replace(config, decoding=replace(config.decoding, level=None))
    return replace(combined, config=config)


def names_in(expression: str) -> list[str]:
    """The names in an expression, quoted or not; ValueError where it cannot be read."""
    nodes = ast.walk(_parse(expression.strip()))
    found = (node.id if isinstance(node, ast.Name) else getattr(node, "value", None) for node in nodes)
    return [name for name in found if isinstance(name, str)]


def calculate(expression: str, value_of: Callable[[str], T]) -> T | float:
    """What +, -, *, / and parentheses make of numbers and of the values of names.

    What Python would not read as a name stands in quotes. Raises ValueError, which quotes the place, where the
    expression holds anything else or its values cannot be calculated with.
    """
    text = expression.strip()

    def value(node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name) | ast.Constant(value=str(name)):
                return value_of(name)
            case ast.Constant(value=number) if type(number) in (int, float):
                return apply(node, float, number)
            case ast.BinOp(op=op) if type(op) in OPERATORS:
                return apply(node, OPERATORS[type(op)], value(node.left), value(node.right))
            case ast.UnaryOp(op=op) if type(op) in OPERATORS:
                return apply(node, OPERATORS[type(op)], value(node.operand))
        raise ValueError(f"{place(node)} is not understood: expected +, -, *, /, parentheses, numbers and names")

    def apply(node: ast.expr, function: Callable[..., Any], *values: Any) -> Any:
        try:
            return function(*values)
        except TypeError as error:
            raise ValueError(
                f"{place(node)} cannot be calculated: task vectors are added to and subtracted from each other, and "
                "multiplied and divided by numbers"
            ) from error
        except ArithmeticError as error:
            raise ValueError(f"{place(node)} cannot be calculated: {error}") from error

    def place(node: ast.expr) -> str:
        return f"{ast.get_source_segment(text, node)!r} in the expression"

    try:
        return value(_parse(text))
    except RecursionError as error:
        raise _too_deep(text) from error


def _too_deep(text: str) -> ValueError:
    return ValueError(f"the expression {text[:20]!r}... is nested too deeply")


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (RecursionError, MemoryError) as error:
        raise _too_deep(text) from error
    except (SyntaxError, ValueError) as error:
        offset = getattr(error, "offset", None)
        place = f" from {text[offset - 1 :]!r} on" if offset and text[offset - 1 :] else ""
        raise ValueError(f"the expression {text!r} cannot be read{place}") from error
