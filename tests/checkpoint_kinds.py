"""Checkpoints as people bring them, made by the tools that make them, and what `taskvec convert` does with each.

    .venv/bin/python tests/checkpoint_kinds.py

prints the table of docs/checkpoints.md.
"""

import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

import recorded
from checkpoint_makers import MAKERS, Maker, Workspace
from taskvec.models.checkpoints import Converted, convert, from_official


@dataclass(frozen=True)
class Outcome:
    """What became of a case: the sentence that refused it, or what was converted."""

    directory: Path
    sentence: str = ""
    converted: Converted | None = None

    @property
    def words(self) -> str:
        """In one line, without what differs from machine to machine."""
        if self.converted is not None:
            said = [*self.converted.remarks, *(f"left out: {name}" for name in self.converted.ignored[:2])]
            return "; ".join(["read", *(_shortened(line, self.directory) for line in said)])
        return f"refused: {_shortened(self.sentence, self.directory)}"


def _shortened(text: str, directory: Path) -> str:
    text = text.replace(f"{directory}/", "").replace(str(directory), "DIRECTORY")
    return re.sub(r"[\d,]+ (bytes|of [\d,]+ bytes)", "N bytes", text).replace("|", "\\|")


def run(maker: Maker, directory: Path, official: Mapping[str, Tensor]) -> Outcome:
    """Make the files of a case and convert them."""
    place = directory / "in"
    place.mkdir()
    arguments = maker.makes(Workspace(place, {name: tensor.clone() for name, tensor in official.items()}))
    try:
        converted = convert(out=directory / "out", encoder_heads=4, decoder_heads=4, **arguments)
    except ValueError as error:
        return Outcome(place, str(error))
    return Outcome(place, converted=converted)


def expected(maker: Maker, official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that a readable case must give, to the last bit: the official ones in the precision of its files."""
    kept = {name: tensor.to(maker.precision(name)) for name, tensor in official.items()}
    return from_official(kept)


def weights(outcome: Outcome) -> dict[str, Tensor]:
    assert outcome.converted is not None
    return load_file(outcome.converted.directory / "model.safetensors")


def official_state() -> dict[str, Tensor]:
    """A model's weights by their published names: the recorded ones, changed a little."""
    prefix = "state_dict/"
    recording = recorded.load()[0]
    state = {name.removeprefix(prefix): t for name, t in recording.items() if name.startswith(prefix)}
    state = {name: tensor.float() * 1.0001 for name, tensor in state.items()}  # that no lower precision has them all
    return state | {"norm.bias": torch.full((64,), 0.25)}


def table(outcomes: Mapping[str, Outcome]) -> str:
    """Markdown: a row a case."""
    lines = []
    for group in dict.fromkeys(maker.group for maker in MAKERS):
        lines += [f"\n### {group}\n", "| what | what happens |", "|---|---|"]
        lines += [f"| {maker.what} | {outcomes[maker.what].words} |" for maker in MAKERS if maker.group == group]
    return "\n".join(lines).strip() + "\n"


def main() -> None:
    official = official_state()
    outcomes = {}
    for maker in MAKERS:
        with tempfile.TemporaryDirectory() as directory:
            outcomes[maker.what] = run(maker, Path(directory), official)
    sys.stdout.write(table(outcomes))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
