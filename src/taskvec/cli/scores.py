"""The command that scores one way of doing a task."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from taskvec import environment, evaluation
from taskvec.answering import Answering, Choices, calibrate, passes_of
from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.terminal import app, choose_task, console, partial_file, say
from taskvec.cli.texts import tell_shots
from taskvec.data.examples import DataSet
from taskvec.data.pascal import FOLDS
from taskvec.files import check_destination, digest, read_bytes
from taskvec.hub import located
from taskvec.models import load_model
from taskvec.models.interface import ANSWER_SCOPES, DECODINGS, Decoding, DecodingKind, PromptedModel, Variant
from taskvec.names import choose_from
from taskvec.processes import current
from taskvec.progress import COLUMNS
from taskvec.prompts import SAMPLINGS, PlannedPrompts, pairs_of, plan_prompts
from taskvec.report.evaluations import as_line, companions, gain_line, plain, write_evaluations
from taskvec.search.checkpoint import Checkpoint
from taskvec.tasks import Task
from taskvec.vectors import CONFIG as VECTORS_CONFIG
from taskvec.vectors import read_config

PAIRS = 1000
CALIBRATION = 100  # prompts by which a decoding is chosen
ALL = "all"


@app.command("evaluate")
@options.together
@options.one_writer("json_file", to_file=True)
@takes_data(without=("fold",))
def evaluate_command(
    method: Annotated[
        str,
        typer.Option(
            help="one_shot, query_only, copy_input, reconstruction, mixture, vectors:DIRECTORY or, with the example, "
            "one_shot+vectors:DIRECTORY; {fold} in it is the fold; hub:OWNER/NAME in place of a directory downloads. "
            "Stronger prompts than one_shot: nearest, nearest:K, several:K (the mean of K supports), arrangements."
        ),
    ],
    against: Annotated[
        str | None,
        typer.Option(help="Another way, named as --method is: tell the gain over it on the same prompts."),
    ] = None,
    task: options.Task = None,
    model: options.ModelOfVectors = None,
    fold: Annotated[
        str | None, typer.Option(help="A fold of scenes or Pascal-5i, 0 to 3, or all four; without, all classes.")
    ] = None,
    part: Annotated[
        str, typer.Option(help="test, train, or what else there is: validation and final of scenes, all.")
    ] = "test",
    data_options: DataOptions = NONE_GIVEN,
    sampling: Annotated[str, typer.Option(help=f"How pairs are drawn: {' or '.join(SAMPLINGS)}.")] = "balanced",
    pairs: Annotated[
        int | None, typer.Option(min=1, help=f"Prompts to score in each fold; {PAIRS}, or as many as there are.")
    ] = None,
    decoding: Annotated[
        str | None,
        typer.Option(
            help=f"How answers are made of what the model believes: {' or '.join(DECODINGS)}. By default that of the "
            "task vectors, else expected, whose temperature, and level of masks, each method chooses on the training "
            "part of the data."
        ),
    ] = None,
    answers: options.Answers = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            callback=options.file,
            help="Write the result to NAME.json, every pair to NAME.pairs.jsonl, a picture to NAME.examples.png.",
        ),
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Score one way of doing a task on data kept aside: mean, 95 % interval, spreads, speed.

    With --against, by how much it is better than another way, prompt by prompt, and whether that is more than chance.
    Interrupted with --json, the same command goes on where it stopped.

    On several GPUs or processors, with the same result: torchrun --standalone --nproc-per-node N -m taskvec evaluate
    """
    if json_file is not None:
        _check_companions(json_file)
    # as the placeholder was called before
    method, against = (
        method.replace("{split}", "{fold}"),
        None if against is None else against.replace("{split}", "{fold}"),
    )
    for option, name in (("method", method), ("against", against or "")):
        if "{fold}" in name and fold is None:
            raise ValueError(f"--{option} {name}: which fold {{fold}} stands for is not said, expected --fold")
    folds = _folds(fold)
    patched = [evaluation.patched_by(name.replace("{fold}", str(folds[0]))) for name in (method, against or "")]
    model = options.model_of([located(vectors[1]) for vectors in patched if vectors], model)
    processes, network = current(), load_model(model, options.working_on(device, threads))
    network = network.variant(Variant(answers=options.answer_scope(answers, network)))
    choices = Choices(_decoding(decoding, network, vectors=[located(each[1]) for each in patched if each]))
    passes = passes_of(network)
    judged: dict[str, _OfFold] = {}
    with Progress(*COLUMNS, console=console, transient=True, disable=not processes.first) as progress:
        for own in folds:
            examples = data_options.load_one(part, task, fold=own)
            chosen = choose_task(examples, task, data_options.metric)
            count = pairs or min(PAIRS, pairs_of(examples))
            prompts = plan_prompts(examples, chosen, count, network.image_size, seed, sampling=sampling)  # pyright: ignore[reportArgumentType]
            named = [each.replace("{fold}", str(own)) for each in (method, against) if each]
            name = ALL if own is None else str(own)
            if processes.first:
                _tell(network, named, prompts, examples)
            ways = [_Way(each, examples, redecoded=decoding is not None) for each in named]
            load = partial(data_options.load_one, "train", task, fold=own)
            methods = [way.chosen(network, choices, load, chosen, seed) for way in ways]
            of_fold = _OfFold(named, [used for _, used in methods], json_file, name, answers)
            if processes.first and not network.takes_texts:
                of_fold.tell_decodings()
            bar = progress.add_task(f"{chosen.name} {named[0]}", total=count)
            found = evaluation.evaluate_each(
                network,
                [evaluation.Way.of(each, str(number)) for number, (each, _) in enumerate(methods)],
                prompts,
                lambda done, bar=bar: progress.advance(bar, done),
                passes=passes,
                checkpoint=of_fold.checkpoint,
            )
            judged[name] = replace(of_fold, evaluations=list(found.values()))
    if processes.first:
        facts: dict[str, Any] = {"model": model, "seed": seed, "rows": passes.rows}
        facts |= {"answers": answers or ANSWER_SCOPES[0]} if network.takes_texts else {}
        _tell_and_write(network, method, against, judged, json_file, facts, of_folds=fold is not None)
    processes.wait()  # until the result is safe


@dataclass(frozen=True)
class _OfFold:
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


def _tell_and_write(
    model: PromptedModel,
    method: str,
    against: str | None,
    judged: Mapping[str, _OfFold],
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
class _Way:
    """A method by its name, judged on ``data``; ``redecoded`` task vectors do not answer with their own decoding."""

    name: str
    data: DataSet
    redecoded: bool

    def chosen(
        self, model: PromptedModel, choices: Choices, load: Callable[[], DataSet], task: Task, seed: int
    ) -> tuple[evaluation.Method, Decoding | None]:
        """The method with its decoding, None where there is none; ``load`` gives the data by which it is chosen."""
        method, vectors = evaluation.method_named(model, self.name, self.data), evaluation.patched_by(self.name)
        if not isinstance(method, Answering):
            return method, None
        if vectors and not self.redecoded:
            return method, read_config(located(vectors[1])).decoding
        decoding = choices.first(model)
        if choices.adapted and not model.takes_texts:
            try:
                training = load()
            except ValueError as error:
                raise ValueError(
                    f"a decoding is chosen on training data, but with --decoding likeliest: {error}"
                ) from error
            prompts = plan_prompts(training, task, min(CALIBRATION, pairs_of(training)), model.image_size, seed)
            own = evaluation.method_named(model, self.name, training)
            decoding = calibrate(own, prompts, choices) if isinstance(own, Answering) else decoding
        return method.decoded(decoding), decoding


def _decoding(given: str | None, model: PromptedModel, vectors: Sequence[Path]) -> DecodingKind:
    """The one that was given, or that of the task vectors that are named."""
    if given is None:
        kinds = {read_config(each).decoding.kind for each in vectors}
        return "likeliest" if kinds == {"likeliest"} else "expected"
    if model.takes_texts:
        raise ValueError(f"--decoding {given}: a language model answers with its likeliest tokens")
    if given not in DECODINGS:
        raise ValueError(f"--decoding {given}: {choose_from(given, DECODINGS)}")
    return given


def _check_companions(path: Path) -> None:
    """Refuse what the files beside NAME.json could not be written to."""
    if path.suffix != ".json":
        raise ValueError(f"--json {path}: expected a name that ends in .json, as two more files go beside it")
    for companion in companions(path):
        try:
            check_destination(companion)
        except ValueError as error:
            raise ValueError(f"--json {path}: beside it, {error}") from error


def _folds(fold: str | None) -> list[int] | list[None]:
    """The folds that were asked for; [None] stands for all classes together."""
    if fold is None:
        return [None]
    if fold == ALL:
        return list(range(FOLDS))
    if not fold.isdecimal():
        raise ValueError(f"--fold {fold}: expected a number from 0 to {FOLDS - 1}, or all")
    return [int(fold)]


def _tell(model: PromptedModel, methods: Sequence[str], prompts: PlannedPrompts, data: DataSet) -> None:
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
