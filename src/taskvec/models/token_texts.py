"""Prompts and answers of words as the tokens of a language model.

A prompt's tokens are what ``tokenizer(text)`` gives, with the special tokens that it begins with, if any, and without
those that it ends with: an end would keep the model from going on. An answer's tokens are what follows the prompt's in
the tokens of prompt and answer together. Where the two merge at their boundary, so that there the prompt's tokens are
others, the prompt's tokens stay, as they are all that a model has seen when it answers, and the answer is tokenized as
it is behind a line break, or alone where that merges too.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from taskvec.models.interface import Inputs, ViewName

NOTHING = -1  # where an answer has no more tokens


@dataclass(frozen=True)
class FirstTokens:
    """How far the first token of an answer tells which answer it is: counts of different answers.

    ``several`` are those of more than one token, ``shared`` those whose first token is also that of another answer.
    """

    answers: int
    several: int
    shared: int


class TokenTexts:
    """A tokenizer as prompts and answers need it.

    Raises ValueError for one whose special tokens are not at the ends of a text's.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        whole, bare = tokenizer("a").input_ids, tokenizer("a", add_special_tokens=False).input_ids
        starts = [start for start in range(len(whole)) if whole[start : start + len(bare)] == bare]
        if not starts:
            raise ValueError(f"{type(tokenizer).__name__} changes a text's own tokens where it adds special ones")
        self.before: list[int] = whole[: starts[0]]

    def of_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of every prompt; ValueError for one that has none."""
        found = [self.before + own for own in self._bare(texts)]
        if [] in found:
            raise ValueError("a prompt has no tokens: expected a text to go on from")
        return found

    def of_answers(self, prompts: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
        """The tokens of every answer behind its prompt; ValueError for one that has none."""
        found = self._behind(prompts, answers)
        if None in found:
            breaks = self._behind(["\n"] * len(answers), answers)
            alone = self._bare(answers)
            found = [own or other or last for own, other, last in zip(found, breaks, alone, strict=True)]
        tokens = [own or [] for own in found]
        if [] in tokens:
            raise ValueError(f"the answer {answers[tokens.index([])]!r} has no tokens: expected a text")
        return tokens

    def _behind(self, befores: Sequence[str], answers: Sequence[str]) -> list[list[int] | None]:
        """The tokens of every answer behind the text before it, None where they merge."""
        both = self._bare([before + answer for before, answer in zip(befores, answers, strict=True)])
        known = self._bare(befores)
        return [
            whole[len(own) :] if whole[: len(own)] == own and len(whole) > len(own) else None
            for own, whole in zip(known, both, strict=True)
        ]

    def _bare(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens without special ones around them."""
        return self.tokenizer(list(texts), add_special_tokens=False).input_ids if len(texts) else []

    def decode(self, tokens: Int[Tensor, "rows tokens"]) -> list[str]:
        """Texts of tokens, up to the first that is ``NOTHING``."""
        return [
            self.tokenizer.decode(
                row[: row.index(NOTHING)] if NOTHING in row else row, clean_up_tokenization_spaces=False
            )
            for row in tokens.tolist()
        ]

    def first_tokens(self, prompts: Sequence[str], answers: Sequence[str]) -> FirstTokens:
        """Of the different ones among these answers, each behind its prompt."""
        tokens = {tuple(own) for own in self.of_answers(prompts, answers)}
        with_first = Counter(own[0] for own in tokens)
        several = sum(len(own) > 1 for own in tokens)
        return FirstTokens(len(tokens), several, sum(count for count in with_first.values() if count > 1))


def texts_of(inputs: Inputs, view: ViewName) -> list[str]:
    """The text of every prompt: in the view ``one_shot`` its supports, inputs and outputs in turn, before the query.

    Supports are [n, shots] or, of one shot, [n]. Raises ValueError for anything but text, or ``one_shot`` without
    supports.
    """
    queries = _text(inputs.query_input, "query_input")
    if view == "query_only":
        return queries.tolist()
    sides = [_text(getattr(inputs, name), name) for name in ("support_input", "support_output")]
    if any(len(side) < len(queries) for side in sides):
        raise ValueError("the view one_shot shows examples, but only queries were drawn")
    shown = np.stack(sides, -1).reshape(len(queries), -1).tolist() if len(queries) else []
    return ["".join(own) + query for own, query in zip(shown, queries.tolist(), strict=True)]


def _text(values: np.ndarray, name: str) -> np.ndarray:
    if values.dtype.kind != "U" and not all(isinstance(value, str) for value in values.flat):
        raise ValueError(f"{name} is {values.dtype} of shape {values.shape}, expected text")
    return values


def padded(rows: Sequence[Sequence[int]], value: int, length: int | None = None) -> Int[Tensor, "rows length"]:
    """Rows of tokens as one tensor, filled up on the right to ``length`` or the longest."""
    length = max(map(len, rows), default=0) if length is None else length
    return torch.tensor([[*row, *[value] * (length - len(row))] for row in rows], dtype=torch.int64).view(
        len(rows), length
    )
