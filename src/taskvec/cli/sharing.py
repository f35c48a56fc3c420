"""Commands about task vectors that are shared: to the Hugging Face hub, and many of them in one place."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskvec.cli import options
from taskvec.cli.data_options import NONE_GIVEN, DataOptions, takes_data
from taskvec.cli.terminal import as_lines, choose_task, console, say, write_json

if TYPE_CHECKING:
    from taskvec.library import LibraryScores
    from taskvec.vectors import TaskVectors

Place = Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where task vectors are, at any depth up to six.")]
Pairs = Annotated[int, typer.Option(min=1, help="Pairs to score on, or as many as there are.")]
OfSome = Annotated[
    str | None, typer.Option("--model", help="A model for the task vectors that are of it; others load theirs.")
]


@takes_data(None)
def push_command(
    source: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Of task vectors, or of a model.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="On the Hugging Face hub; it may be new.")],
    data_options: DataOptions = NONE_GIVEN,
    task: options.Task = None,
    part: Annotated[str, typer.Option(help="Of the data: test, or what else there is.")] = "test",
    pairs: Pairs = 200,
    licence: Annotated[str | None, typer.Option(help="What the card states, such as cc-by-4.0.")] = None,
    picture: Annotated[
        bool, typer.Option("--picture", help="Show answers on the card. Images of the data are in it.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="For nobody but you and your organisation.")] = False,
    revision: Annotated[
        str | None, typer.Option(help="The branch, made where there is none; main if not given.")
    ] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    model: options.ModelOfVectors = None,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Upload task vectors, or a model, to the Hugging Face hub, with a card that says what is recorded of them.

    With data (--root PAIRS) task vectors are scored on it first, beside the query alone, and the card has the score;
    those of `taskvec find` have theirs. Nothing goes up but the files of the vectors, the card and, if asked for, the
    picture. Log in with `hf auth login` before, or set HF_TOKEN.
    """
    from taskvec.hub import named
    from taskvec.models import load_model
    from taskvec.records import holds_vectors
    from taskvec.vectors import TaskVectors

    data = data_options.data or ("folder" if data_options.given() else None)
    common: dict[str, Any] = {"revision": revision, "commit_message": message, "private": private, "licence": licence}
    if holds_vectors(source):
        network = load_model(options.model_of([source], model), options.working_on(device, threads))
        vectors, shown = TaskVectors.load(source, network), None
        if data is not None:
            vectors, shown = _scored(
                vectors, replace(data_options, data=data), part, task, pairs, seed, picture=picture
            )
        elif picture:
            shown = _kept_picture(source)
        name = vectors.push_to_hub(repository, picture=shown, **common)
    elif data or picture or model:
        raise ValueError(f"{source} holds no task vectors, which alone have data, a picture and a model")
    else:
        name = load_model(source, options.working_on(device, threads)).push_to_hub(repository, **common)
    say(named(name, revision))
    write_json(json_file, {"repository": name, "revision": revision})


def _scored(
    vectors: "TaskVectors",
    data_options: DataOptions,
    part: str,
    task: list[str] | None,
    pairs: int,
    seed: int,
    *,
    picture: bool,
) -> tuple["TaskVectors", bytes | None]:
    """The task vectors with their score on data, and a picture of their answers if it was asked for."""
    from taskvec.evaluation import score_on

    data = data_options.load_one(part, task)
    vectors, found = score_on(vectors, data, choose_task(data, task, data_options.metric), pairs=pairs, seed=seed)
    console.print(str(vectors.config.scores[-1]))
    return vectors, found.picture() if picture else None


def _kept_picture(source: Path) -> bytes:
    """That of `taskvec find`."""
    from taskvec.files import read_bytes
    from taskvec.vectors import PICTURE

    if not (source / PICTURE).is_file():
        raise ValueError(f"--picture: there is no {PICTURE} in {source}: expected data to make one of (--root PAIRS)")
    return read_bytes(source / PICTURE)


def library_list_command(
    directory: Place, json_file: options.Json = None, seed: options.Seed = 0, device: options.Device = "cpu"
) -> None:
    """The task vectors in a directory: name, task, sites, model, and what they scored where that was measured."""
    from taskvec.library import Library

    told: dict[str, Any] = {}
    for name, entry in Library(directory).items():
        try:
            config = entry.config
        except ValueError as error:
            told[name] = {"error": str(error)}
            say(f"{name}: {error}")
            continue
        scores = [str(score) for score in config.scores]
        facts = {"task": config.task, "sites": len(config.sites), "of": config.of}
        told[name] = {**facts, "model": config.model, "fingerprint": config.model_fingerprint, "scores": scores}
        known = f"{config.task}, {len(config.sites)} of {config.of} sites, {config.model or config.model_fingerprint}"
        say(f"{name}: {known}, {'; '.join(scores) or 'not scored'}")
    write_json(json_file, told)


def library_show_command(
    directory: Place,
    name: Annotated[str, typer.Argument(help="As `taskvec library list` has it.")],
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """One of the task vectors in a directory, as `taskvec info` tells of it."""
    from taskvec.description import describe_vectors
    from taskvec.library import Library
    from taskvec.names import choose_from

    library = Library(directory)
    if name not in library:
        raise ValueError(f"there are no task vectors {name} in {directory}: {choose_from(name, library)}")
    facts = describe_vectors(library[name].directory)
    say(as_lines(facts))
    write_json(json_file, facts)


def _scores_a_library(tell: Callable[["LibraryScores"], dict[str, Any]]) -> Callable[..., None]:
    """A command that scores what is in a directory; ``tell`` says what came out, and what more JSON has than scores."""

    def command(
        directory: Place,
        data_options: DataOptions = NONE_GIVEN,
        task: options.Task = None,
        part: Annotated[str, typer.Option(help="Of the data: all, test or train.")] = "all",
        pairs: Pairs = 100,
        model: OfSome = None,
        json_file: options.Json = None,
        seed: options.Seed = 0,
        device: options.Device = "cpu",
        threads: options.Threads = None,
    ) -> None:
        from taskvec.library import Library
        from taskvec.models import load_model

        library, place = Library(directory), options.working_on(device, threads)
        data = data_options.load_one(part, task)
        chosen = choose_task(data, task, data_options.metric)
        given = None if model is None else load_model(model, place)
        scores = library.score(data, chosen, pairs=pairs, seed=seed, model=given, device=place, progress=True)
        for name, reason in scores.skipped.items():
            console.print(f"{name} is not scored: {reason}")
        write_json(json_file, {**tell(scores), **_as_json(scores)})

    command.__name__, command.__doc__ = tell.__name__, tell.__doc__
    return takes_data("folder")(command)


@_scores_a_library
def library_score_command(scores: "LibraryScores") -> dict[str, Any]:
    """Score every one of the task vectors in a directory on the same pairs, beside the query alone."""
    say(repr(scores))
    return {}


@_scores_a_library
def library_best_command(scores: "LibraryScores") -> dict[str, Any]:
    """Which of the task vectors in a directory do best on pairs, by how much, and whether that is more than chance."""
    best = scores.best()
    say(repr(best))
    return {"best": best.name, "beats_query_only": best.beats_query_only}


def _as_json(scores: "LibraryScores") -> dict[str, Any]:
    from taskvec.report.evaluations import plain

    found = {
        name: {**plain(scores.interval(name)), "gain": plain(scores.gain(name)), "seen": scores.seen[name]}
        for name in scores.ranking
    }
    facts = {"task": scores.task, "metric": scores.metric.name, "pairs": len(scores.groups)}
    return {**facts, "scores": found, "skipped": scores.skipped}
