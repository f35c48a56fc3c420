"""The command that scores one way of doing a task."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from taskvec import environment, evaluation
from taskvec.answering import Answering, Choices, calibrate
from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.terminal import app, choose_task, console, say
from taskvec.cli.texts import tell_shots
from taskvec.data.examples import DataSet
from taskvec.data.pascal import FOLDS
from taskvec.files import check_destination
from taskvec.hub import located
from taskvec.models import load_model
from taskvec.models.interface import ANSWER_SCOPES, DECODINGS, Decoding, DecodingKind, PromptedModel, Variant
from taskvec.names import choose_from
from taskvec.progress import COLUMNS
from taskvec.prompts import SAMPLINGS, Prompts, draw_prompts, pairs_of
from taskvec.report.evaluations import as_line, companions, gain_line, plain, write_evaluations
from taskvec.tasks import Task
from taskvec.vectors import read_config

PAIRS = 1000
CALIBRATION = 100  # prompts by which a decoding is chosen
ALL = "all"


@app.command("evaluate")
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
    network = load_model(model, options.working_on(device, threads))
    network = network.variant(Variant(answers=options.answer_scope(answers, network)))
    choices = Choices(_decoding(decoding, network, vectors=[located(each[1]) for each in patched if each]))
    decodings: dict[str, dict[str, Any]] = {}
    evaluations: dict[str, evaluation.Evaluation] = {}
    others: list[evaluation.Evaluation] = []
    with Progress(*COLUMNS, console=console, transient=True) as progress:
        for own in folds:
            named = [each.replace("{fold}", str(own)) for each in (method, against) if each]
            examples = data_options.load_one(part, task, fold=own)
            chosen = choose_task(examples, task, data_options.metric)
            count = pairs or min(PAIRS, pairs_of(examples))
            size = network.image_size
            prompts = draw_prompts(examples, chosen, count, size, seed, sampling=sampling)  # pyright: ignore[reportArgumentType]
            place = ALL if own is None else str(own)
            _tell(network, named, prompts, examples)

            ways = [_Way(name, examples, redecoded=decoding is not None) for name in named]
            load = partial(data_options.load_one, "train", task, fold=own)
            methods = [way.chosen(network, choices, load, chosen, seed) for way in ways]
            for name, (_, used) in zip((method, against), methods, strict=False):
                decodings.setdefault(str(name), {})[place] = None if used is None else asdict(used)
                if used is not None and not network.takes_texts:
                    console.print(f"{str(name).replace('{fold}', str(own))} is decoded as {used}")
            bar = progress.add_task(f"{chosen.name} {named[0]}", total=count)
            evaluations[place] = evaluation.evaluate(
                network, methods[0][0], prompts, lambda done, bar=bar: progress.advance(bar, done)
            )
            others += [evaluation.evaluate(network, other, prompts) for other, _ in methods[1:]]
    chosen = next(iter(evaluations.values())).prompts.task
    summaries = {name: evaluation.summarise([each]) for name, each in evaluations.items()}
    whole = evaluation.summarise(list(evaluations.values())) if len(evaluations) > 1 else next(iter(summaries.values()))
    if fold is not None:
        for name, each in summaries.items():
            say(f"{chosen.name} {method}, fold {name}: {as_line(each, chosen)}")
    if len(evaluations) > 1 or fold is None:
        say(f"{chosen.name} {method}: {as_line(whole, chosen)}")
    compared: dict[str, Any] = {}
    if against is not None:
        told, gain = gain_line(chosen.metric, list(evaluations.values()), others)
        say(f"{chosen.name} {method} against {against}: {told}")
        compared = {"against": {"method": against, **plain(gain), "told": told}}
    if json_file is not None:
        facts: dict[str, Any] = {
            "task": chosen.name,
            "method": method,
            "metric": chosen.metric.name,
            "detail_of": None if chosen.detail is None else chosen.detail.name,
            "model": model,
            "seed": seed,
            "decodings": decodings,
            **({"answers": answers or ANSWER_SCOPES[0]} if network.takes_texts else {}),
        }
        facts |= {"model_fingerprint": network.fingerprint(), "machine": environment.machine()}
        facts |= {"versions": environment.versions(), **compared}
        write_evaluations(
            json_file,
            evaluations,
            whole,
            summaries,
            facts,
            with_example=method.startswith("one_shot"),
            texts=network.texts,
        )


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
            prompts = draw_prompts(training, task, min(CALIBRATION, pairs_of(training)), model.image_size, seed)
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


def _tell(model: PromptedModel, methods: Sequence[str], prompts: Prompts, data: DataSet) -> None:
    """What a reader of the scores should know: what was left out, what the first method's task vectors have seen or are
    for, and whether any are given texts in another template than theirs."""
    for remark in model.remarks(prompts):
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
