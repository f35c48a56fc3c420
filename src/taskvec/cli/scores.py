"""What `taskvec evaluate` does with one way of doing a task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskvec import environment, evaluation
from taskvec.answering import Choices
from taskvec.artefacts import read_config
from taskvec.cli.terminal import console, partial_file, say
from taskvec.cli.texts import tell_shots
from taskvec.data.examples import DataSet
from taskvec.files import digest, read_bytes
from taskvec.hub import located
from taskvec.models.interface import DECODINGS, Decoding, DecodingKind, PromptedModel
from taskvec.names import choose_from
from taskvec.prompts import PlannedPrompts
from taskvec.records import CONFIG as VECTORS_CONFIG
from taskvec.report.evaluations import as_line, gain_line, plain, write_evaluations
from taskvec.search.checkpoint import Checkpoint
from taskvec.tasks import Task


@dataclass(frozen=True)
class OfFold:
    """What is judged in one fold: the methods, by their names there, with their decodings, and what they come to.

    ``file`` is the one of the result, if it is to be written, and ``fold`` the name that it has for the fold.
    """

    methods: Sequence[str]
    decodings: Sequence[Decoding | None]
    file: Path | None
    fold: str
    answers: str | None
    evaluations: Sequence[evaluation.Evaluation] = ()

    def tell_decodings(self) -> None:
        for name, used in zip(self.methods, self.decodings, strict=True):
            if used is not None:
                console.print(f"{name} is decoded as {used}")

    @property
    def checkpoint(self) -> Checkpoint | None:
        """Scores of an evaluation that is not over, beside its result, if that is a file."""
        if self.file is None:
            return None
        of = {"methods": list(self.methods), "answers": self.answers}
        of["decodings"] = [None if each is None else asdict(each) for each in self.decodings]
        patched = [evaluation.patched_by(name) for name in self.methods]
        configs = [None if each is None else located(each[1]) / VECTORS_CONFIG for each in patched]
        of["vectors"] = [None if each is None else digest(read_bytes(each)) for each in configs]
        return Checkpoint(partial_file(self.file.with_suffix(f".{self.fold}.json")), of, "evaluation")


def tell_and_write(
    model: PromptedModel,
    method: str,
    against: str | None,
    judged: Mapping[str, OfFold],
    file: Path | None,
    facts: dict[str, Any],
    *,
    of_folds: bool,
) -> None:
    """Print what all folds came to, and with a file write it; their checkpoints are of no use then."""
    evaluations = {name: each.evaluations[0] for name, each in judged.items()}
    chosen = next(iter(evaluations.values())).prompts.task
    summaries = {name: evaluation.summarise([each]) for name, each in evaluations.items()}
    several = len(evaluations) > 1
    whole = evaluation.summarise(list(evaluations.values())) if several else next(iter(summaries.values()))
    if of_folds:
        for name, each in summaries.items():
            say(f"{chosen.name} {method}, fold {name}: {as_line(each, chosen)}")
    if several or not of_folds:
        say(f"{chosen.name} {method}: {as_line(whole, chosen)}")
    compared: dict[str, Any] = {}
    if against is not None:
        others = [each.evaluations[1] for each in judged.values()]
        told, gain = gain_line(chosen.metric, list(evaluations.values()), others)
        say(f"{chosen.name} {method} against {against}: {told}")
        compared = {"against": {"method": against, **plain(gain), "told": told}}
    if file is None:
        return
    used = {
        name: {fold: None if (own := each.decodings[number]) is None else asdict(own) for fold, each in judged.items()}
        for number, name in enumerate(each for each in (method, against) if each)
    }
    told_of = {
        "task": chosen.name,
        "method": method,
        "metric": chosen.metric.name,
        "detail_of": None if chosen.detail is None else chosen.detail.name,
        **facts,
        "decodings": used,
        "model_fingerprint": model.fingerprint(),
        "machine": environment.machine(),
        "versions": environment.versions(),
        **compared,
    }
    with_example = method.startswith("one_shot")
    write_evaluations(file, evaluations, whole, summaries, told_of, with_example=with_example, texts=model.texts)
    for each in judged.values():
        if each.checkpoint is not None:
            each.checkpoint.forget()


@dataclass(frozen=True)
class Way:
    """A method by its name, judged on ``data``; ``redecoded`` task vectors do not answer with their own decoding."""

    name: str
    data: DataSet
    redecoded: bool

    def chosen(
        self, model: PromptedModel, choices: Choices, load: Callable[[], DataSet], task: Task, seed: int
    ) -> tuple[evaluation.Method, Decoding | None]:
        """The method with its decoding, None where there is none; ``load`` gives the data by which it is chosen."""
        vectors = evaluation.patched_by(self.name)
        if vectors and not self.redecoded:
            method = evaluation.method_named(model, self.name, self.data)
            return method, read_config(located(vectors[1])).decoding

        def training() -> DataSet:
            try:
                return load()
            except ValueError as error:
                if self.name == evaluation.CONSTANT:
                    raise ValueError(f"{self.name} is the mean of outputs of training data: {error}") from error
                raise ValueError(
                    f"a decoding is chosen on training data, but with --decoding likeliest: {error}"
                ) from error

        return evaluation.chosen_method(model, self.name, self.data, training, task, choices, seed)


def decoding_kind(given: str | None, model: PromptedModel, vectors: Sequence[Path]) -> DecodingKind:
    """The one that was given, or that of the task vectors that are named."""
    if given is None:
        kinds = {read_config(each).decoding.kind for each in vectors}
        return "likeliest" if kinds == {"likeliest"} else "expected"
    if model.takes_texts:
        raise ValueError(f"--decoding {given}: a language model answers with its likeliest tokens")
    if given not in DECODINGS:
        raise ValueError(f"--decoding {given}: {choose_from(given, DECODINGS)}")
    return given


def tell(model: PromptedModel, methods: Sequence[str], prompts: PlannedPrompts, data: DataSet) -> None:
    """What a reader of the scores should know: what was left out, what the first method's task vectors have seen or are
    for, and whether any are given texts in another template than theirs."""
    for remark in model.remarks(prompts[:]) if model.takes_texts else ():
        console.print(remark)
    if alone := prompts.origin["classes_of_one"]:
        console.print(f"classes left out, as they have a single example and no pair: {alone}")
    tell_shots("prompts", data)
    for number, method in enumerate(methods):
        if not (patched := evaluation.patched_by(method)):
            continue
        config = read_config(located(patched[1]))
        own, given = config.wording, data.wording
        if own is not None and given is not None and own.template != given.template:
            told = f"{method} is for the template {own.template!r}, prompts have {given.template!r}"
            console.print(told, markup=False)
        if number == 0 and (count := evaluation.seen(config, prompts)):
            what = "texts" if model.takes_texts else "images"
            console.print(f"{count} of {len(prompts)} queries are {what} that the task vectors were found on")
        if number == 0 and config.task != prompts.task.name:
            console.print(f"these task vectors are of {config.task}, judged by {prompts.task.name}")
