"""Texts as tokens: special tokens, answers behind prompts, and what merges where they meet."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from number_tokenizer import NumberTokenizer
from taskvec.models.interface import Queries
from taskvec.models.token_texts import FirstTokens, TokenTexts, padded, texts_of


class LongestPieces:
    """Takes the longest piece that it knows, again and again, from the left, as a tokenizer that merges does."""

    def __init__(self, *pieces: str):
        self.pieces = sorted(pieces, key=len, reverse=True)

    def __call__(self, text: str | list[str], add_special_tokens: bool = True) -> Any:
        if isinstance(text, list):
            return SimpleNamespace(input_ids=[self(each).input_ids for each in text])
        tokens = []
        while text:
            piece = next((each for each in self.pieces if text.startswith(each)), text[0])
            tokens.append(self.number(piece))
            text = text[len(piece) :]
        return SimpleNamespace(input_ids=tokens)

    def number(self, piece: str) -> int:
        return 1000 + self.pieces.index(piece) if piece in self.pieces else ord(piece)


@dataclass(frozen=True)
class Shown:
    query_input: np.ndarray
    support_input: np.ndarray
    support_output: np.ndarray


def test_texts_have_the_special_tokens_that_they_begin_with_and_not_those_that_they_end_with() -> None:
    for before in ((), (1,), (1, 2)):
        for after in ((), (3,), (4, 4)):
            texts = TokenTexts(NumberTokenizer(before, after))
            assert texts.of_texts([" 7 8", " 9"]) == [[*before, 7, 8], [*before, 9]]
            assert texts.of_answers([" 7 8", " 9"], [" 5 6", " 6"]) == [[5, 6], [6]]
    assert TokenTexts(NumberTokenizer((1,))).of_texts([""]) == [[1]]
    with pytest.raises(ValueError, match="a prompt has no tokens: expected a text to go on from"):
        TokenTexts(NumberTokenizer()).of_texts(["7", ""])
    assert TokenTexts(NumberTokenizer()).of_texts([]) == []


def test_a_tokenizer_that_changes_a_texts_own_tokens_is_refused() -> None:
    class Changing(NumberTokenizer):
        def __call__(self, text: Any, add_special_tokens: bool = True) -> Any:
            return SimpleNamespace(input_ids=[5] if add_special_tokens else [6])

    with pytest.raises(ValueError, match="Changing changes a text's own tokens where it adds special ones"):
        TokenTexts(Changing())


def test_answers_are_what_follows_the_prompts_tokens() -> None:
    tokenizer = LongestPieces("A:", " Par", "is")
    texts = TokenTexts(tokenizer)
    assert texts.of_answers(["Q\nA:"], [" Paris"]) == [[tokenizer.number(" Par"), tokenizer.number("is")]]


def test_answers_that_merge_with_the_prompt_leave_it_its_tokens() -> None:
    tokenizer = LongestPieces("A:", ": P", "A: P", " Par", "\n\n", "ar")
    texts = TokenTexts(tokenizer)
    assert tokenizer("A: Par").input_ids[0] != tokenizer("A:").input_ids[0]
    par, first, ar = (tokenizer.number(each) for each in (" Par", "\n", "ar"))
    assert texts.of_answers(["A:", "x"], [" Par", " Par"]) == [[par], [par]]
    # behind a line break this one merges, too: alone it is what it is
    assert texts.of_answers(["\n"], ["\nar"]) == [[first, ar]]


def test_answers_without_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="the answer '' has no tokens: expected a text"):
        TokenTexts(NumberTokenizer()).of_answers([" 7", " 8"], [" 5", ""])


def test_first_tokens_are_counted_of_different_answers() -> None:
    texts = TokenTexts(NumberTokenizer((1,)))
    answers = [" 5", " 5 6", " 5 7", " 8", " 8", " 9 9"]
    assert texts.first_tokens([" 4"] * 6, answers) == FirstTokens(answers=5, several=3, shared=3)
    assert texts.first_tokens([], []) == FirstTokens(0, 0, 0)


def test_texts_of_views() -> None:
    shown = Shown(np.array(["q1", "q2"]), np.array([["a", "b"], ["c", "d"]]), np.array([["A", "B"], ["C", "D"]]))
    assert texts_of(shown, "one_shot") == ["aAbBq1", "cCdDq2"]
    assert texts_of(shown, "query_only") == ["q1", "q2"]
    single = Shown(shown.query_input, np.array(["a", "c"]), np.array(["A", "C"]))
    assert texts_of(single, "one_shot") == ["aAq1", "cCq2"]
    words = np.array(["x", "yy"], dtype=object)
    assert texts_of(Queries(words), "query_only") == ["x", "yy"]
    with pytest.raises(ValueError, match="the view one_shot shows examples, but only queries were drawn"):
        texts_of(Queries(shown.query_input), "one_shot")
    with pytest.raises(ValueError, match=r"query_input is int64 of shape \(2,\), expected text"):
        texts_of(Queries(np.array([1, 2])), "query_only")


def test_decoded_texts_end_where_there_is_nothing() -> None:
    texts = TokenTexts(NumberTokenizer())
    assert texts.decode(torch.tensor([[5, 6, -1], [7, -1, -1], [8, 9, 5], [-1, -1, -1]])) == [
        " 5 6",
        " 7",
        " 8 9 5",
        "",
    ]


def test_padded() -> None:
    assert padded([[1, 2], [3]], 0).tolist() == [[1, 2], [3, 0]]
    assert padded([[1]], 9, 3).tolist() == [[1, 9, 9]]
    for rows in ([], [[]]):
        assert padded(rows, 0).shape == (len(rows), 0)
        assert padded(rows, 0).dtype == torch.int64
