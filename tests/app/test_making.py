"""A task made in the page: what it comes to, and how it is stopped."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from taskvec import FindSettings, find
from taskvec.app.answers import ONE_SHOT, PATCHED, QUERY_ONLY
from taskvec.app.making import STOPPED, Making
from taskvec.app.pairs import stage
from taskvec.data.folder import Folder
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.search import RelaxedSettings

COARSE = FindSettings(
    prompts=4,
    items=4,
    validation=4,
    search=RelaxedSettings(steps=6, items=4, checkpoint_every=2, candidates=2),
)


@pytest.fixture
def folder(image_file: Callable[..., Path], tmp_path: Path) -> Callable[[str], Folder]:
    """A task of twelve pairs, staged as the page does it, by its split."""
    names = [f"{number:02}.png" for number in range(12)]
    inputs = [image_file(f"in/{name}", seed=seed) for seed, name in enumerate(names)]
    outputs = [image_file(f"out/{name}", seed=seed, mask=True) for seed, name in enumerate(names)]
    stage(tmp_path / "mine", inputs, outputs)
    return lambda split: Folder(tmp_path / "mine", split=split)


def making(model: MaeVqgan, folder: Callable[[str], Folder]) -> Making:
    train = folder("train")
    assert train.own_task is not None
    return Making(model, train, folder("test"), [train.own_task], COARSE)


def test_it_finds_what_find_finds_and_tells_how_far_it_is(
    small_model: MaeVqgan, folder: Callable[[str], Folder]
) -> None:
    told = list(making(small_model, folder))
    assert [(each.doing, each.done, each.of) for each in told if each.doing == "search"] == [
        ("search", step, 6) for step in range(1, 7)
    ]
    assert told[0].doing == "means of mine"
    last = told[-1]
    (vectors,), (judged,) = last.vectors, last.judged
    expected = find(small_model, folder("train"), settings=COARSE, progress=False)
    assert vectors.fingerprint() == expected.fingerprint()
    assert [record["loss"] for record in last.history] == [record["loss"] for record in expected.search.history]
    assert list(judged.scores) == [ONE_SHOT, QUERY_ONLY, PATCHED]
    assert all(0 <= score <= 1 for score in judged.scores.values())
    assert (judged.task.name, judged.queries) == ("mine", len(folder("test")))


def test_stopped_it_keeps_the_best_so_far(small_model: MaeVqgan, folder: Callable[[str], Folder]) -> None:
    search = making(small_model, folder)
    search.settings = replace(COARSE, search=replace(COARSE.search, steps=1000))
    last = None
    for last in search:
        if last.doing == "search" and last.done >= 2:  # once there is a checkpoint
            search.stop()
    assert last is not None
    assert last.vectors[0].search.interrupted
    assert 2 <= len(last.history) < 1000


def test_stopped_too_early_it_says_so(small_model: MaeVqgan, folder: Callable[[str], Folder]) -> None:
    search = making(small_model, folder)
    search.stop()
    with pytest.raises(ValueError, match=STOPPED):
        list(search)


def test_what_a_search_raises_is_raised_where_it_is_watched(
    small_model: MaeVqgan, folder: Callable[[str], Folder]
) -> None:
    search = making(small_model, folder)
    search.settings = replace(COARSE, stacks=("nowhere",))
    with pytest.raises(ValueError, match="there is no stack 'nowhere'"):
        list(search)
