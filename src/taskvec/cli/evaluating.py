"""The command that scores one way of doing a task."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from taskvec.choices import ANSWER_SCOPES, DECODINGS, FOLDS, SAMPLINGS
from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.terminal import choose_task, console
from taskvec.files import check_destination

PAIRS = 1000
ALL = "all"


@options.together
@options.one_writer("json_file", to_file=True)
@takes_data(without=("fold",))
def evaluate_command(
    method: Annotated[
        str,
        typer.Option(
            help="one_shot, query_only, copy_input, constant (the mean of the training outputs), reconstruction, "
            "mixture, vectors:DIRECTORY or, with the example, one_shot+vectors:DIRECTORY; "
            "{fold} in it is the fold; hub:OWNER/NAME in place of a directory downloads. "
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
    sampling: Annotated[
        str,
        typer.Option(autocompletion=options.among(SAMPLINGS), help=f"How pairs are drawn: {' or '.join(SAMPLINGS)}."),
    ] = "balanced",
    pairs: Annotated[
        int | None, typer.Option(min=1, help=f"Prompts to score in each fold; {PAIRS}, or as many as there are.")
    ] = None,
    decoding: Annotated[
        str | None,
        typer.Option(
            autocompletion=options.among(DECODINGS),
            help=f"How answers are made of what the model believes: {' or '.join(DECODINGS)}. By default that of the "
            "task vectors, else expected, whose temperature, and level of masks, each method chooses on the training "
            "part of the data.",
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
    from rich.progress import Progress

    from taskvec import evaluation
    from taskvec.answering import Choices, passes_of
    from taskvec.cli import scores
    from taskvec.hub import located
    from taskvec.models import load_model
    from taskvec.models.interface import Variant
    from taskvec.processes import current
    from taskvec.progress import COLUMNS
    from taskvec.prompts import pairs_of, plan_prompts

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
    choices = Choices(scores.decoding_kind(decoding, network, vectors=[located(each[1]) for each in patched if each]))
    passes = passes_of(network)
    judged: dict[str, scores.OfFold] = {}
    with Progress(*COLUMNS, console=console, transient=True, disable=not processes.first) as progress:
        for own in folds:
            examples = data_options.load_one(part, task, fold=own)
            chosen = choose_task(examples, task, data_options.metric)
            count = pairs or min(PAIRS, pairs_of(examples))
            prompts = plan_prompts(examples, chosen, count, network.image_size, seed, sampling=sampling)  # pyright: ignore[reportArgumentType]
            named = [each.replace("{fold}", str(own)) for each in (method, against) if each]
            name = ALL if own is None else str(own)
            if processes.first:
                scores.tell(network, named, prompts, examples)
            ways = [scores.Way(each, examples, redecoded=decoding is not None) for each in named]
            load = partial(data_options.load_one, "train", task, fold=own)
            methods = [way.chosen(network, choices, load, chosen, seed) for way in ways]
            of_fold = scores.OfFold(named, [used for _, used in methods], json_file, name, answers)
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
        scores.tell_and_write(network, method, against, judged, json_file, facts, of_folds=fold is not None)
    processes.wait()  # until the result is safe


def _check_companions(path: Path) -> None:
    """Refuse what the files beside NAME.json could not be written to."""
    from taskvec.report.evaluations import companions

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
