import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import davies_bouldin_score
from torch import Tensor

from taskvec.analysis import clustering as module
from taskvec.analysis.clustering import (
    HeadClustering,
    HeadOutputs,
    cluster_heads,
    clustering_table,
    davies_bouldin,
    embed,
    head_outputs,
    rank_correlations,
)
from taskvec.heads import recording
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts

APART, MIXED, CONSTANT = range(3)  # heads


@pytest.fixture
def outputs() -> HeadOutputs:
    """Three heads on ten prompts each of three tasks: far apart by task, not apart at all, always the same."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(10)
    noise = torch.randn(1, 3, 30, 4, generator=generator)
    vectors = noise.clone()
    vectors[0, APART] += 100 * torch.eye(4)[labels]
    vectors[0, CONSTANT] = 0.1
    return HeadOutputs({"encoder": vectors}, labels, ("a", "b", "c"))


@pytest.fixture
def scores() -> dict[str, Tensor]:
    return {"encoder": torch.tensor([[9.0, 0.5, 0.0]])}


@pytest.mark.parametrize("tokens", ["mean", "all"])
def test_vectors_are_those_of_the_first_prompts_of_each_task(
    tokens: str, small_model: MaeVqgan, small_prompts: list[Prompts], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 3)  # batches that hold prompts of both tasks
    outputs = head_outputs(small_model, small_prompts, 4, tokens)  # pyright: ignore[reportArgumentType]
    assert outputs.labels.tolist() == [0] * 4 + [1] * 4
    assert outputs.tasks == ("segmentation", "colorization")
    canvases = torch.cat([small_model.geometry.canvases(prompts[:4]) for prompts in small_prompts])
    with recording(small_model) as recorded:
        small_model(canvases, small_model.view("one_shot"))
    for stack, layers in recorded.items():
        vectors = outputs.vectors[stack]
        for layer, z in enumerate(layers):
            for head in range(z.shape[2]):
                expected = z[:, :, head].mean(1) if tokens == "mean" else z[:, :, head].reshape(8, -1)
                torch.testing.assert_close(vectors[layer, head], expected, rtol=1e-4, atol=1e-5)
    assert outputs.vectors["encoder"].dtype == torch.float32


def test_too_few_prompts_are_refused(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    with pytest.raises(ValueError, match="there are 6 prompts of segmentation, expected at least 7"):
        head_outputs(small_model, small_prompts, 7)


def test_heads_that_tell_tasks_apart_cluster(outputs: HeadOutputs, scores: dict[str, Tensor]) -> None:
    apart, mixed, constant = cluster_heads(outputs, scores)
    assert [each.head for each in (apart, mixed, constant)] == [APART, MIXED, CONSTANT]  # from high to low
    assert (apart.stack, apart.layer, apart.taskness) == ("encoder", 0, 9.0)
    assert apart.silhouette > 0.95
    assert apart.davies_bouldin < 0.1
    assert abs(mixed.silhouette) < 0.1
    assert mixed.davies_bouldin > 2
    assert constant.silhouette == 0
    assert constant.davies_bouldin == math.inf


def test_scores_of_two_clusters_on_a_line_by_hand() -> None:
    vectors = torch.tensor([0.0, 2.0, 10.0, 12.0]).reshape(1, 1, 4, 1)
    outputs = HeadOutputs({"decoder": vectors}, torch.tensor([0, 0, 1, 1]), ("a", "b"))
    (head,) = cluster_heads(outputs, {"decoder": torch.tensor([[1.0]])})
    # inside a cluster 2; to the other 11 from its far member, 9 from its near one
    assert head.silhouette == pytest.approx((9 / 11 + 7 / 9) / 2)
    assert head.davies_bouldin == pytest.approx((1 + 1) / 10)


def test_a_head_to_which_two_tasks_are_the_same_ranks_last() -> None:
    """Centres of two tasks coincide, a pair that scikit-learn leaves out: it scores such a head as the best."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    same = torch.tensor([[-0.1], [0.1], [-7.3], [7.3], [50.0], [51.0]]).reshape(1, 1, 6, 1)
    varied = torch.randn(1, 1, 6, 1, generator=generator)
    of_one_value = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.3, 0.3]).reshape(1, 1, 6, 1)
    outputs = HeadOutputs({"encoder": torch.cat([same, varied, of_one_value], 1)}, labels, ("a", "b", "c"))
    scores = {"encoder": torch.tensor([[math.nan, 2.0, 1.0]])}
    clusterings = cluster_heads(outputs, scores)
    assert [each.head for each in clusterings] == [1, 2, 0]  # no taskness is the lowest
    assert [math.isinf(each.davies_bouldin) for each in clusterings] == [False, True, True]
    assert np.isfinite(rank_correlations(clusterings)).all()


@given(st.integers(0, 999), st.integers(2, 5), st.integers(1, 8))
def test_davies_bouldin_is_scikit_learns_where_centres_are_apart(seed: int, tasks: int, dim: int) -> None:
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(tasks), 6)
    samples = random.normal(random.normal(0, 2, (tasks, dim))[labels], 1).astype(np.float32)
    assert davies_bouldin(samples, labels) == pytest.approx(davies_bouldin_score(samples, labels), rel=1e-4)


def test_outputs_that_are_no_numbers_are_refused(outputs: HeadOutputs, scores: dict[str, Tensor]) -> None:
    outputs.vectors["encoder"][0, MIXED, 3, 2] = math.nan
    with pytest.raises(ValueError, match="outputs of encoder layer 0, head 1 are not finite"):
        cluster_heads(outputs, scores)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 0, 0, 1]])
def test_clusters_of_too_little_are_refused(labels: list[int]) -> None:
    outputs = HeadOutputs({"decoder": torch.rand(1, 1, 4, 2)}, torch.tensor(labels), ("a", "b"))
    with pytest.raises(ValueError, match="expected two tasks with two prompts at least"):
        cluster_heads(outputs, {"decoder": torch.ones(1, 1)})


def heads_of(*values: tuple[float, float, float]) -> list[HeadClustering]:
    return [HeadClustering("encoder", 0, head, *value) for head, value in enumerate(values)]


def test_the_table_has_the_two_highest_two_random_and_two_lowest() -> None:
    clusterings = heads_of(*[(taskness, 0.0, 1.0) for taskness in (4, 9, 1, 7, 5, 2, 8, 3, 6)])
    table = clustering_table(clusterings, seed=3)
    assert list(table) == ["High 1", "High 2", "Random 1", "Random 2", "Low 1", "Low 2"]
    assert [table[name].taskness for name in ("High 1", "High 2", "Low 1", "Low 2")] == [9, 8, 1, 2]
    seen = set()
    for seed in range(50):
        pair = [clustering_table(clusterings, seed)[f"Random {rank}"].taskness for rank in (1, 2)]
        assert pair[0] != pair[1]
        seen.update(pair)
    assert seen == {3, 4, 5, 6, 7}
    assert clustering_table(clusterings, 3) == table
    with pytest.raises(ValueError, match="there are 5 heads, expected at least the 6"):
        clustering_table(clusterings[:5])


def test_rank_correlations_see_the_order_alone() -> None:
    silhouette, davies_bouldin = rank_correlations(
        heads_of((0.1, -0.2, math.inf), (5.0, 0.3, 4.0), (0.5, 0.0, 21.0), (99.0, 0.31, 1.2))
    )
    assert silhouette == pytest.approx(1)
    assert davies_bouldin == pytest.approx(-1)
    # 1 - 6 * (sum of squared differences of ranks) / (n^3 - n): ranks 1 2 3 against 1 3 2, and against 2 1 3
    some = rank_correlations(heads_of((1, 1, 2), (2, 3, 1), (3, 2, 3)))
    assert some == pytest.approx((0.5, 0.5))


def test_what_clusters_is_apart_in_the_plane_and_every_time_the_same(outputs: HeadOutputs) -> None:
    vectors = outputs.vectors["encoder"][0, APART]
    points = embed(vectors)
    assert points.shape == (30, 2)
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    same = (outputs.labels[:, None] == outputs.labels[None]).numpy()
    assert distances[same].max() < distances[~same].min()
    np.testing.assert_array_equal(points, embed(vectors))
    assert not np.array_equal(points, embed(vectors, seed=1))


@pytest.mark.parametrize("count", [4, 5])
def test_few_or_constant_vectors_embed(count: int) -> None:
    assert np.isfinite(embed(torch.rand(count, 3, generator=torch.Generator().manual_seed(0)))).all()
    assert np.isfinite(embed(torch.ones(count, 3))).all()


def test_too_few_vectors_do_not_embed() -> None:
    with pytest.raises(ValueError, match="there are 3 vectors to embed, expected at least 4"):
        embed(torch.rand(3, 2))
