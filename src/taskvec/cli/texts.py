"""What `taskvec apply` does with task vectors of a language model: texts in, texts out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from taskvec import environment
from taskvec.cli import options
from taskvec.cli.terminal import console, say, write_json
from taskvec.data import DataSet
from taskvec.data.pair_files import ENDINGS
from taskvec.files import check_regular, write_json_lines
from taskvec.progress import COLUMNS
from taskvec.prompts import shots_of
from taskvec.vectors import TaskVectors

ANSWERS = "answers.jsonl"
TOGETHER = 64  # inputs between two steps of the progress bar


@dataclass(frozen=True)
class TextsIn:
    """Inputs as they were given: a file with one in each line, or one by one. ValueError for both, neither or none."""

    file: Path | None
    texts: Sequence[str]

    def __post_init__(self) -> None:
        if (self.file is None) == (not self.texts):
            raise ValueError("these task vectors are of texts: expected a text file with an input a line, or --text")

    def read(self) -> list[str]:
        """Without white space around them.

        ValueError for an empty one, and, which names the file, for a table, what is no text in UTF-8 or has no inputs.
        """
        if self.file is None:
            inputs = [text.strip() for text in self.texts]
            if "" in inputs:
                raise ValueError(f"--text {self.texts[inputs.index('')]!r} is empty: expected an input")
            return inputs
        if self.file.suffix.lower() in ENDINGS:
            raise ValueError(f"{self.file} is a table by its name: expected a text file with an input in each line")
        check_regular(self.file)
        try:
            lines = self.file.read_text(encoding="utf-8-sig").split("\n")  # whose other ends of lines became this one
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.file} is no text in UTF-8: expected an input in each line") from error
        except OSError as error:
            raise ValueError(f"{self.file} cannot be read: {error.strerror}") from error
        inputs = [line.strip() for line in lines if line.strip()]
        if not inputs:
            raise ValueError(f"{self.file} has no inputs: expected one in each line")
        return inputs


def tell_shots(what: str, data: DataSet) -> None:
    """Say where prompts that are drawn from data have fewer examples than were asked for."""
    if data.wording is not None and (shots := shots_of(data)) < data.wording.shots:
        console.print(f"{what} have {shots} of the {data.wording.shots} examples of --shots: there are no more pairs")


def apply_to_texts(
    vectors: TaskVectors, given: TextsIn, tokens: int, out: Path | None, json_file: Path | None, *, overwrite: bool
) -> None:
    """Print every input and its answer; with ``out`` write them there as JSONL, too."""
    inputs = given.read()
    if out is not None:
        options.refuse_to_overwrite(out / ANSWERS, overwrite)
    answers: list[str] = []
    with Progress(*COLUMNS, console=console) as progress:
        bar = progress.add_task(vectors.task, total=len(inputs))
        for start in range(0, len(inputs), TOGETHER):
            some = inputs[start : start + TOGETHER]
            answers += vectors.generate(some, tokens)
            progress.advance(bar, len(some))
    records = [{"input": text, "answer": answer} for text, answer in zip(inputs, answers, strict=True)]
    if out is not None:
        write_json_lines(out / ANSWERS, records)
    write_json(json_file, {"task": vectors.task, "answers": records, "machine": environment.machine()})
    for record in records:
        say(f"{record['input']} -> {record['answer']}")
