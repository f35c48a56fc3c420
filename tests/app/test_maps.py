"""The map of heads counts what the vectors patch, and a head that is switched off is not patched."""

import numpy as np
import pytest
import torch

from taskvec.app import offer
from taskvec.app.maps import Head, chosen_places, head_map, heads_of, task_points, token_map, without
from taskvec.app.markup import points_markup
from taskvec.app.offer import Taskness
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.tasks import TASKS
from taskvec.vectors import TaskVectors


def test_a_map_has_every_head_and_counts_its_places(small_model: MaeVqgan, random_vectors: TaskVectors) -> None:
    rows = head_map(small_model, random_vectors)
    assert {stack: (len(each), len(each[0])) for stack, each in rows.items()} == {"encoder": (2, 4), "decoder": (2, 2)}
    counted = {cell.head: cell.places for each in rows.values() for row in each for cell in row if cell.places}
    expected = {Head(stack, layer, head) for stack, layer, head, _ in _positions(random_vectors)}
    assert set(counted) == expected
    assert sum(counted.values()) == len(_positions(random_vectors))
    assert all(cell.taskness is None for each in rows.values() for row in each for cell in row)
    assert all(cell.places == 0 for each in head_map(small_model, None).values() for row in each for cell in row)


def _positions(vectors: TaskVectors) -> list[tuple[str, int, int, int]]:
    return [
        (stack, *position) for stack, chosen in chosen_places(vectors).items() for position in chosen.nonzero().tolist()
    ]


def test_heads_that_are_off_are_not_patched(random_vectors: TaskVectors) -> None:
    heads = heads_of(random_vectors)
    assert heads == {Head(stack, layer, head) for stack, layer, head, _ in _positions(random_vectors)}
    first = min(heads)
    left = without(random_vectors, [first])
    assert left is not None
    assert heads_of(left) == heads - {first}
    assert left.fingerprint() != random_vectors.fingerprint()
    again = without(random_vectors, [])
    assert again is not None
    assert again.fingerprint() == random_vectors.fingerprint()
    assert without(random_vectors, heads) is None


def test_taskness_is_a_share_of_the_highest(small_model: MaeVqgan) -> None:
    places = {
        stack: torch.rand(layout.layers, layout.heads, len(layout.places))
        for stack, layout in small_model.stacks.items()
    }
    places["encoder"][0, 0] = torch.nan  # nothing was recorded
    heads = {stack: scores.nanmean(-1) for stack, scores in places.items()}
    heads["decoder"][1, 1] = torch.inf  # nothing varies but the task
    rows = head_map(small_model, None, taskness=Taskness(heads, places))
    assert rows["encoder"][0][0].taskness == 0
    assert rows["decoder"][1][1].taskness == 1
    shares = [cell.taskness or 0 for each in rows.values() for row in each for cell in row]
    assert sorted(shares)[-2:] == [1, 1]
    assert min(shares) >= 0


def test_tokens_of_a_head_lie_on_the_canvas(small_model: MaeVqgan, random_vectors: TaskVectors) -> None:
    stack, layer, number, _ = _positions(random_vectors)[0]
    tokens = token_map(small_model, random_vectors, Head(stack, layer, number))
    assert (len(tokens.cells), tokens.columns, len(tokens.rest)) == (16, 4, 1)
    found = {cell.place.token for cell in (*tokens.cells, *tokens.rest) if cell.chosen}
    assert found == {place for *head, place in _positions(random_vectors) if head == [stack, layer, number]}
    with pytest.raises(ValueError, match="the model has no head encoder L7 H0"):
        token_map(small_model, None, Head("encoder", 7, 0))


def test_points_are_of_the_tasks(small_model: MaeVqgan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer, "SAMPLES", 2)
    offered = offer.Offer([])
    samples = offered.samples(small_model)
    assert offered.samples(small_model) is samples
    points = task_points(samples, Head("decoder", 1, 1))
    assert {task: of_task.shape for task, of_task in points.items()} == dict.fromkeys(TASKS, (2, 2))
    every = np.concatenate(list(points.values()))
    assert (every.min(0).tolist(), every.max(0).tolist()) == ([0, 0], [1, 1])
    assert points_markup(Head("decoder", 1, 1), points).count("<circle") == 2 * len(TASKS)
    with pytest.raises(ValueError, match="the model has no head decoder L9 H1"):
        task_points(samples, Head("decoder", 9, 1))


def test_a_head_is_known_by_its_name() -> None:
    head = Head("decoder", 12, 3)
    assert Head.named(str(head)) == head
    for text in ("", "decoder", "decoder L1", "decoder Lx H1", " L1 H2"):
        with pytest.raises(ValueError, match="is no head"):
            Head.named(text)
