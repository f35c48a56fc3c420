"""Word pairs: a user's table of inputs and outputs, as prompts of a language model have them."""

import unicodedata
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int

from taskvec.data.examples import Examples
from taskvec.data.groups import TEST_SHARE, kept_aside
from taskvec.data.pair_files import Pair, Table, read_pairs
from taskvec.data.templates import Template, Wording
from taskvec.digests import of_json
from taskvec.files import escaped, printable
from taskvec.metrics import TOP1
from taskvec.tasks import Task, image, own_output

SPLITS = ("train", "test", "all")
FEWEST = 4  # different inputs, of which one is kept aside; a search takes more, and says so
_LONGEST = 40  # letters of a side in a name


@dataclass(frozen=True)
class WordPairs:
    """The pairs of a file, each an input and an output, which are a task of their own, called as the file is.

    ``root`` is the file (see ``taskvec.data.pair_files.read_pairs`` for its formats). ``template`` is how a pair is
    written in a prompt: ``qa``, ``colon`` or a text with {input} and {output} (``taskvec.data.templates``), and
    ``shots`` how many pairs a prompt has before its query at most. An input that has several outputs is as many pairs.
    A fifth of the pairs, chosen by their inputs, is ``split`` ``test``, the rest ``train``; ``all`` is every pair. All
    pairs of an input are in one split. ``load`` gives ``images`` and ``outputs`` as arrays of str that are written out
    already: "Q: France\\nA:" and " Paris", whatever the size.

    Raises ValueError for a split, template or number of shots that there is not, fewer than four different inputs, and
    as ``read_pairs`` does.
    """

    root: Path
    split: str = "train"
    template: str = "qa"
    shots: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if self.split not in SPLITS:
            raise ValueError(f"word pairs have no split {self.split!r}: expected one of {', '.join(SPLITS)}")
        if self.shots < 1:
            raise ValueError(f"--shots {self.shots}: expected 1 or more pairs before the query of a prompt")
        _ = self._written
        inputs = len(set(self._groups))
        if inputs < FEWEST:
            raise ValueError(f"{printable(self.root)} has {inputs} different inputs, expected {FEWEST} or more")

    def __len__(self) -> int:
        return len(self._members)

    @property
    def own_task(self) -> Task:
        return self._task

    @cached_property
    def _task(self) -> Task:
        return Task(printable(self.root.stem), image, own_output, TOP1, needs=("outputs",))

    @property
    def wording(self) -> Wording:
        return Wording(self._written.text, self.shots)

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """All are of one class."""
        return np.zeros(len(indices), np.int64)

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        """Such as "France -> Paris"."""
        return [f"{_shortened(pair.input)} -> {_shortened(pair.output)}" for pair in self._at(indices)]

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        """Digests of the pairs."""
        return [of_json([pair.input, pair.output]) for pair in self._at(indices)]

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        """Digests of the inputs; those that Unicode has as the same text are one."""
        return [self._groups[self._members[index]] for index in indices]

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        """Inputs and outputs as the template has them, without the separator; the size is of no matter."""
        pairs, written = self._at(indices), self._written
        inputs = np.array([written.input(pair.input) for pair in pairs], np.str_)
        outputs = np.array([written.output(pair.output) for pair in pairs], np.str_)
        return Examples(inputs, None, self.class_of(indices), np.asarray(indices), outputs)

    def remarks(self) -> list[str]:
        """What was told from the file, or left out of it, a line each."""
        several = len(self._table.pairs) - len({pair.input for pair in self._table.pairs})
        name, end = printable(self.root.name), self.wording.end
        told = [f"{name}: {several} pairs have the input of another, which stays with it"] if several else []
        if cut := sum(end in pair.output for pair in self._table.pairs):
            outputs = "output has" if cut == 1 else "outputs have"
            told.append(f"{name}: {cut} {outputs} {end!r} within, where answers that are generated end")
        return [*self._table.remarks, *told]

    def describe(self) -> dict[str, object]:
        """What identifies the pairs and how prompts have them, in whatever file they are."""
        return {
            "data": "pairs",
            "split": self.split,
            "examples": len(self),
            "template": self._written.text,
            "shots": self.shots,
            "digest": of_json(sorted([pair.input, pair.output] for pair in self._at(np.arange(len(self))))),
        }

    def _at(self, indices: Int[np.ndarray, " n"]) -> list[Pair]:
        return [self._table.pairs[index] for index in self._members[np.asarray(indices)]]

    @cached_property
    def _written(self) -> Template:
        return Template.named(self.template)

    @cached_property
    def _table(self) -> Table:
        return read_pairs(self.root)

    @cached_property
    def _groups(self) -> list[str]:
        """Of every pair of the file."""
        return [of_json(unicodedata.normalize("NFC", pair.input)) for pair in self._table.pairs]

    @cached_property
    def _members(self) -> Int[np.ndarray, " n"]:
        if self.split == "all":
            return np.arange(len(self._groups))
        aside = kept_aside(self._groups, TEST_SHARE, f"pairs of {printable(self.root)}")
        return np.flatnonzero(aside == (self.split == "test"))


def _shortened(text: str) -> str:
    return escaped(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}...")
