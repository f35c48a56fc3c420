import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from taskvec.search import random_sites, top_sites


@given(st.integers(1, 40), st.data(), st.integers(0, 5))
def test_random_sites_are_as_many_as_asked(sites: int, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(1, sites))
    mask = random_sites(sites, count, seed)
    assert mask.shape == (sites,)
    assert mask.sum() == count
    assert torch.equal(mask, random_sites(sites, count, seed))


def test_random_sites_are_everywhere_equally_often() -> None:
    share = torch.stack([random_sites(10, 3, seed) for seed in range(2000)]).float().mean(0)
    torch.testing.assert_close(share, torch.full((10,), 0.3), rtol=0, atol=0.04)


@given(st.lists(st.one_of(st.floats(-9, 9, width=32), st.just(float("nan"))), min_size=1, max_size=30), st.data())
def test_no_site_that_was_left_out_is_better(scores: list[float], data: st.DataObject) -> None:
    numbers = [score for score in scores if score == score]  # noqa: PLR0124 (NaN is not itself)
    count = data.draw(st.integers(0, len(scores)))
    if not 0 < count <= len(numbers):
        with pytest.raises(ValueError, match=f"{count} sites cannot be chosen: expected 1 to {len(numbers)}"):
            top_sites(torch.tensor(scores), count)
        return
    mask = top_sites(torch.tensor(scores), count)
    assert mask.sum() == count
    chosen = [score for score, kept in zip(scores, mask, strict=True) if kept]
    assert sorted(chosen, reverse=True) == sorted(numbers, reverse=True)[:count]


def test_the_earlier_of_equal_sites() -> None:
    assert top_sites(torch.tensor([0.0, 1, 1, 1]), 2).tolist() == [False, True, True, False]
