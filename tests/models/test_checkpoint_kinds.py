"""Every kind of checkpoint that people bring is read to the last bit or refused in a sentence, and docs say which."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import checkpoint_kinds
from checkpoint_makers import MAKERS, Maker

PAGE = Path(__file__).parents[2] / "docs" / "checkpoints.md"


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return checkpoint_kinds.official_state()


@pytest.fixture(scope="module")
def outcomes() -> dict[str, checkpoint_kinds.Outcome]:
    """What became of the cases that have run."""
    return {}


def test_kinds_are_many_and_distinct() -> None:
    assert len({maker.what for maker in MAKERS}) == len(MAKERS) > 60
    assert any(maker.says for maker in MAKERS)
    assert any(not maker.says for maker in MAKERS)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.what)
@pytest.mark.filterwarnings("ignore")  # what torch says about what it is asked to save
def test_it_is_read_to_the_last_bit_or_refused_in_a_sentence(
    maker: Maker,
    official: dict[str, Tensor],
    outcomes: dict[str, checkpoint_kinds.Outcome],
    tmp_path: Path,
) -> None:
    outcome = outcomes[maker.what] = checkpoint_kinds.run(maker, tmp_path, official)
    if maker.says:
        assert outcome.converted is None, "it was read"
        assert all(word in outcome.sentence for word in maker.says), outcome.sentence
        assert "\n" not in outcome.sentence
        assert not (tmp_path / "out").exists()
    else:
        assert outcome.converted is not None, outcome.sentence
        read, wanted = checkpoint_kinds.weights(outcome), checkpoint_kinds.expected(maker, official)
        assert read.keys() == wanted.keys()
        assert [name for name in wanted if not torch.equal(read[name], wanted[name])] == []
        said = "\n".join([*outcome.converted.remarks, *outcome.converted.ignored])
        assert all(word in said for word in maker.remarks), said
    assert not (tmp_path / "in" / "canary").exists()


def test_the_page_has_the_table_of_these_outcomes(outcomes: dict[str, checkpoint_kinds.Outcome]) -> None:
    if len(outcomes) < len(MAKERS):
        pytest.skip("not all kinds have run")
    assert checkpoint_kinds.table(outcomes) in PAGE.read_text()
