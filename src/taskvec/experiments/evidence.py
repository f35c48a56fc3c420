"""Everything measured that the claims of the paper are judged by."""

from dataclasses import dataclass, field

from taskvec.results import Scores

# Methods, as tables and claims call them. `_multi` methods have one set of sites for all tasks.
METHOD_TITLES = {
    "one_shot": "one-shot prompt",
    "nearest": "nearest support",
    "nearest:5": "five nearest supports, their mean",
    "several:5": "five supports, their mean",
    "arrangements": "eight arrangements, their mean",
    "query_only": "query only",
    "random": "random quadrants",
    "random_multi": "random quadrants (multi-task number)",
    "top": "top quadrants",
    "cma": "CMA (task-specific)",
    "cma_multi": "CMA (multi-task)",
    "greedy": "GRS (task-specific)",
    "greedy_multi": "GRS (multi-task)",
    "greedy_random_layers": "GRS, random layers",
    "vectors": "task vectors (task-specific)",
    "vectors_multi": "task vectors (multi-task)",
    "vectors_token": "task vectors, tokens",
    "vectors_head": "task vectors, heads",
    "vectors_layer": "task vectors, layers",
    "vectors_multi_token": "task vectors, tokens (multi-task)",
    "vectors_multi_head": "task vectors, heads (multi-task)",
    "vectors_encoder": "task vectors, encoder only",
    "vectors_decoder": "task vectors, decoder only",
    "greedy_encoder": "GRS, encoder only",
    "greedy_decoder": "GRS, decoder only",
    "greedy_head": "GRS, heads",
    "greedy_layer": "GRS, layers",
    "one_shot_vectors": "one-shot prompt + task vectors",
    "combined": "in-painting + segmentation - identity",  # sums of means at multi-task sites
    "inpainting_multi": "in-painting's vectors alone",  # at COMPOSED, where vectors_multi are segmentation's
    "copy_input": "copy of the input",
    "reconstruction": "tokenizer's reconstruction",
}
OPPONENTS = ("nearest", "nearest:5", "several:5", "arrangements")  # not in the paper: stronger than a support at random
COMPOSED = "inpainting+segmentation"  # the task of Figure 7: an image with a hole in, the object's mask out
XRAYS = {"low_light": "x-rays, low light", "inpainting": "x-rays, in-painting"}

# The rows of Table 8: a language model's prompts, and the query alone with heads patched at its last token.
LANGUAGE_METHODS = {
    "query_only": "0-shot",
    "few": "few-shot",
    "one_shot": "with examples",
    "cma": "0-shot + CMA",
    "reinforce": "0-shot + REINFORCE",
    "vectors": "0-shot + best",
}


@dataclass(frozen=True)
class LanguageEvidence:
    """``scores`` by method of LANGUAGE_METHODS and relation, of the language model called ``model``; ``saved`` is the
    share of the operations of a prompt with examples that a query alone saves."""

    scores: dict[tuple[str, str], Scores]
    saved: float
    model: str

    @property
    def relations(self) -> list[str]:
        return list(dict.fromkeys(relation for _, relation in self.scores))


@dataclass(frozen=True)
class Evidence:
    """``scores`` by method and task (of METHOD_TITLES; tasks of `taskvec.tasks.TASKS` and COMPOSED).

    ``xrays`` likewise, on x-rays, empty where there are none. ``clustering`` are the rank correlations of heads'
    taskness with silhouette and Davies-Bouldin scores, over ``heads`` heads. ``gigaflops`` is what ``taskvec info``
    counts of the model and, under ``published``, of the published architecture. ``starts`` are the scores of greedy
    random search's best random start by (layers k, share p) at segmentation, on the items that are searched on.
    ``layers`` are those of both stacks that k of them are chosen from. ``language`` is of a language model, None where
    there was none.
    """

    scores: dict[tuple[str, str], Scores]
    xrays: dict[tuple[str, str], Scores] = field(default_factory=dict)
    clustering: tuple[float, float] | None = None
    gigaflops: dict[str, dict[str, float]] = field(default_factory=dict)
    starts: dict[tuple[int, float], Scores] = field(default_factory=dict)
    layers: int | None = None
    heads: int | None = None
    language: LanguageEvidence | None = None
