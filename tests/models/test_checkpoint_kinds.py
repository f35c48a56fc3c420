"""Every kind of checkpoint that people bring is read to the last bit or refused in a sentence, and docs say which."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

import checkpoint_kinds
from checkpoint_makers import MAKERS, Maker
from taskvec.cli import main

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
    assert f"each of {len(MAKERS)} kinds" in " ".join((PAGE.parents[1] / "README.md").read_text().split())


def test_the_command_prints_what_was_taken_off(
    official: dict[str, Tensor], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {f"module.{name}": tensor for name, tensor in official.items()}
    torch.save({"model": state, "model_ema": official}, tmp_path / "mae.pth")
    arguments = ["convert", "--mae", str(tmp_path / "mae.pth"), "--out", str(tmp_path / "out")]
    arguments += ["--encoder-heads", "4", "--decoder-heads", "4", "--json", str(tmp_path / "facts.json")]
    assert main(arguments) == 1
    assert "mae.pth holds several models: model, model_ema; choose with --mae-key KEY" in capsys.readouterr().err
    assert main([*arguments, "--mae-key", "model"]) == 0
    said = capsys.readouterr().err
    assert "mae.pth: 'module.' is taken off 313 names" in said
    assert "ignored mae.pth: model_ema" in said
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["remarks"] == ["mae.pth: 'module.' is taken off 313 names"]
    assert "* mae.pth: 'module.' is taken off 313 names" in (tmp_path / "out" / "README.md").read_text()
