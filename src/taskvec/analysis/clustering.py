"""Do head outputs cluster by task? Samples of them, cluster scores, a picture in the plane (Section 9.1, Table 2)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from taskvec.analysis.scores import HeadScores
from taskvec.heads import HeadOutput, intercept
from taskvec.models.interface import PromptedModel
from taskvec.prompts import Prompts, joined
from taskvec.statistics import BATCH

TABLE_RANKS = 2  # heads of each kind in the table


@dataclass(frozen=True)
class HeadOutputs:
    """One vector of every head for every prompt: by stack float32 [layers, heads, prompts, dim].

    ``labels`` are the prompts' tasks as indices into ``tasks``.
    """

    vectors: dict[str, Float[Tensor, "layers heads prompts dim"]]
    labels: Int[Tensor, " prompts"]
    tasks: tuple[str, ...]


@torch.no_grad()
def head_outputs(
    model: PromptedModel, prompts_of_tasks: Sequence[Prompts], count: int, tokens: Literal["mean", "all"] = "mean"
) -> HeadOutputs:
    """Head outputs of one-shot runs on the first ``count`` prompts of each task.

    The paper clusters "head activations" without saying what of a head's tokens: ``mean`` is their mean over the tokens
    seen, CLS included, of head_dim numbers; ``all`` strings them together, in the view's order. Memory is that of the
    result and one batch. Raises ValueError where a task has fewer prompts.
    """
    for prompts in prompts_of_tasks:
        if len(prompts) < count:
            raise ValueError(f"there are {len(prompts)} prompts of {prompts.task.name}, expected at least {count}")
    every, total = joined([prompts[:count] for prompts in prompts_of_tasks]), count * len(prompts_of_tasks)
    vectors: dict[str, Tensor] = {}
    rows = slice(0)

    def keep(stack: str, layer: int, z: HeadOutput) -> None:
        samples = z.mean(1) if tokens == "mean" else z.transpose(1, 2).flatten(2)
        if stack not in vectors:
            layers = model.stacks[stack].layers
            vectors[stack] = torch.empty(layers, samples.shape[1], total, samples.shape[2])
        vectors[stack][layer, :, rows] = samples.transpose(0, 1).float().cpu()

    with intercept(model, keep):
        for start in range(0, total, BATCH):
            rows = slice(start, start + BATCH)
            model.run(model.prepare(every[rows], "one_shot"))
    labels = torch.arange(len(prompts_of_tasks)).repeat_interleave(count)
    return HeadOutputs(vectors, labels, tuple(prompts.task.name for prompts in prompts_of_tasks))


@dataclass(frozen=True)
class HeadClustering:
    """How well the vectors of one head cluster by task: silhouette -1..1, higher is better; Davies-Bouldin from 0 on,
    lower is better, infinite for a head to which two tasks are the same in the mean.
    """

    stack: str
    layer: int
    head: int
    taskness: float
    silhouette: float
    davies_bouldin: float


def cluster_heads(outputs: HeadOutputs, scores: HeadScores) -> list[HeadClustering]:
    """Silhouette and Davies-Bouldin scores of all heads, with their taskness, from the highest taskness to the lowest.

    Raises ValueError where there are fewer than two tasks or fewer than two prompts of each, or outputs that are not
    finite.
    """
    from sklearn.metrics import silhouette_score  # noqa: PLC0415 slow to import, and every command imports this file

    counts = outputs.labels.bincount()
    if len(counts) < 2 or counts.min() < 2:
        raise ValueError(f"prompts of the tasks are {counts.tolist()}, expected two tasks with two prompts at least")
    labels = outputs.labels.numpy()
    clusterings = []
    for stack, vectors in outputs.vectors.items():
        for layer, head in np.ndindex(*vectors.shape[:2]):
            samples = vectors[layer, head].numpy()
            if not np.isfinite(samples).all():
                raise ValueError(f"outputs of {stack} layer {layer}, head {head} are not finite numbers")
            clustering = HeadClustering(
                stack,
                layer,
                head,
                taskness=float(scores[stack][layer, head]),
                silhouette=float(silhouette_score(samples, labels)),
                davies_bouldin=davies_bouldin(samples, labels),
            )
            clusterings.append(clustering)
    return sorted(clusterings, key=_from_high_to_low)


def davies_bouldin(samples: Float[np.ndarray, "prompts dim"], labels: Int[np.ndarray, " prompts"]) -> float:
    """Davies and Bouldin's score (1979, q = 1, p = 2): of each cluster the worst ratio of spreads to distance.

    Infinite, the worst, where two centres coincide; scikit-learn leaves such pairs out, which scores them as the best.
    """
    centred = samples.astype(np.float64) - samples[0]  # exactly 0 for a head that never varies
    clusters = [centred[labels == label] for label in np.unique(labels)]
    centres = np.array([cluster.mean(0) for cluster in clusters])
    spreads = np.array(
        [np.linalg.norm(cluster - centre, axis=1).mean() for cluster, centre in zip(clusters, centres, strict=True)]
    )
    distances = np.linalg.norm(centres[:, None] - centres, axis=-1)
    apart = distances > 1e-12 * np.abs(centred).max()  # else they differ by rounding alone
    ratios = np.full_like(distances, np.inf)
    np.divide(spreads[:, None] + spreads, distances, out=ratios, where=apart)
    np.fill_diagonal(ratios, 0)
    return float(ratios.max(1).mean())


def _from_high_to_low(clustering: HeadClustering) -> float:
    """A key by taskness; a head that sees no token, and so has none, comes last."""
    return math.inf if math.isnan(clustering.taskness) else -clustering.taskness


def clustering_table(clusterings: Sequence[HeadClustering], seed: int = 0) -> dict[str, HeadClustering]:
    """The rows of Table 2 by their names: the two heads of highest taskness, two drawn at random, the two of lowest.

    Raises ValueError where there are fewer heads than rows.
    """
    if len(clusterings) < 3 * TABLE_RANKS:
        raise ValueError(f"there are {len(clusterings)} heads, expected at least the {3 * TABLE_RANKS} of the table")
    ranked = sorted(clusterings, key=_from_high_to_low)
    drawn = np.random.default_rng(seed).choice(len(ranked) - 2 * TABLE_RANKS, TABLE_RANKS, replace=False)
    rows = {
        "High": ranked[:TABLE_RANKS],
        "Random": [ranked[TABLE_RANKS + index] for index in drawn],
        "Low": ranked[: -TABLE_RANKS - 1 : -1],
    }
    return {f"{kind} {rank}": head for kind, heads in rows.items() for rank, head in enumerate(heads, 1)}


def rank_correlations(clusterings: Sequence[HeadClustering]) -> tuple[float, float]:
    """Spearman's correlation of taskness with silhouette and with Davies-Bouldin; the paper's claim is high and low.

    NaN where all heads are equal.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 slow to import

    values = [[-_from_high_to_low(each), each.silhouette, each.davies_bouldin] for each in clusterings]
    of_taskness = np.corrcoef(rankdata(values, axis=0), rowvar=False)[0]
    return float(of_taskness[1]), float(of_taskness[2])


def embed(vectors: Float[Tensor, "prompts dim"], seed: int = 0) -> Float[np.ndarray, "prompts 2"]:
    """The vectors in the plane by t-SNE (van der Maaten and Hinton, 2008); coordinates have no unit.

    The same vectors and seed give the same picture: gradients are exact, not the approximation that threads sum in any
    order. Raises ValueError for fewer than four vectors, which have no neighbourhoods.
    """
    from sklearn.manifold import TSNE  # noqa: PLC0415 slow to import

    count = len(vectors)
    if count < 4:
        raise ValueError(f"there are {count} vectors to embed, expected at least 4")
    perplexity = min(30.0, (count - 1) / 3)
    # a random start, as that by principal components divides by zero where vectors do not vary
    return TSNE(perplexity=perplexity, init="random", method="exact", random_state=seed).fit_transform(vectors.numpy())
