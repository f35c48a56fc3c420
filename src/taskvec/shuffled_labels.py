"""Prompts whose examples are answered wrongly, with which causal mediation begins (Todd et al., 2024)."""

from dataclasses import replace

import numpy as np
from jaxtyping import Int

from taskvec.prompts import Prompts


def with_shuffled_labels(prompts: Prompts, seed: int) -> Prompts:
    """The same prompts in which every example has the output of another example of its prompt, drawn at random.

    No example keeps its output, nor gets an equal one of another example, as long as no output is that of more than
    half of a prompt's examples; where one is, as few as possible get an equal one. Inputs, queries, and what the
    examples are called stay as they are; ``origin`` says by which seed labels are shuffled. Raises ValueError where
    prompts do not have two examples or more.
    """
    outputs = prompts.support_output
    shots = outputs.shape[1] if outputs.ndim > 1 else min(1, len(outputs))
    if shots < 2:
        raise ValueError(f"labels are shuffled among the examples of a prompt, which has {shots}: expected 2 or more")
    sources = _sources(outputs, np.random.default_rng(seed))
    return replace(
        prompts,
        origin={**prompts.origin, "shuffled_labels": seed},
        support_output=np.take_along_axis(outputs, sources, 1),
    )


def _sources(outputs: np.ndarray, random: np.random.Generator) -> Int[np.ndarray, "n shots"]:
    """Of each example [n, shots] the one of its row whose output it gets.

    Examples in an order in which equal outputs stand side by side, moved on by as many as the most frequent output has:
    then none meets its own as long as these are at most half.
    """
    labels = np.unique(outputs, return_inverse=True)[1].reshape(outputs.shape)
    equal = labels[:, :, None] == labels[:, None, :]
    first = equal.argmax(2)  # the first example of the same output stands for it
    of_labels, of_examples = random.random((2, *outputs.shape))
    order = np.lexsort((of_examples, np.take_along_axis(of_labels, first, 1)), axis=1)
    shots = outputs.shape[1]
    moved = (np.arange(shots) + equal.sum(2).max(1, keepdims=True)) % shots
    sources = np.empty_like(order)
    np.put_along_axis(sources, order, np.take_along_axis(order, moved, 1), 1)
    return sources
