"""The command that does a task on images or texts."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from taskvec.choices import ANSWER_TOKENS, MAX_PIXELS, SHARD
from taskvec.cli import options
from taskvec.cli.terminal import console, write_json
from taskvec.files import shortened

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

    from taskvec.application import Engine
    from taskvec.vectors import TaskVectors


@options.one_writer()
def apply_command(
    vectors: Annotated[Path, typer.Argument(help="Directory of task vectors, or hub:OWNER/NAME to download them.")],
    inputs: Annotated[
        Path | None,
        typer.Argument(
            help="An image, a directory of images, a list of them (.txt, a path a line), or shards: a .tar or "
            ".parquet, a directory of such, or a pattern like train-{000..012}.tar. Of a language model a text file, "
            "an input a line."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            callback=options.directory,
            help="Directory for the results: PNG files of the same names, shards, or answers.jsonl, which is not "
            "needed.",
        ),
    ] = None,
    form: Annotated[
        Literal["folder", "tar", "parquet"] | None,
        typer.Option(
            "--format",
            help="Of the results: PNG files, or shards, one for each that comes in; as the images if not given.",
        ),
    ] = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Images in a shard, where files become shards.")] = SHARD,
    column: Annotated[
        str | None,
        typer.Option(
            help="The ending of the member of a tar, or the column of a table, that is the image.", show_default="told"
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="The column of a table that names its rows; __key__, key, or rows' numbers.")
    ] = None,
    engine: Annotated[
        Literal["here", "ray"], typer.Option(help="Where the work is done: on this machine, or on a cluster by Ray.")
    ] = "here",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; one of this machine alone is started if not given.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="An input of a language model; repeat for more, in place of a file.")
    ] = None,
    generate: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens that a language model may answer with.")
    ] = ANSWER_TOKENS,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Also the images in its directories, to directories of the same names.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that is no image, or fails.")
    ] = False,
    levels: options.Levels = None,
    ignore_orientation: options.IgnoreOrientation = False,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    model: options.ModelOfVectors = None,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """Do a task on images, or texts, through its task vectors. Interrupted, the same command goes on where it stopped.

    Answers to texts are printed, each behind its input. Results of images carry the names of the images and their
    sizes; those that are there already are kept, if they are whole. Shards are tar files as WebDataset has them, whose
    other members go along, or parquet, whose other columns do.
    What is no image, and images that cannot be read, are listed at the end, all of them in the file of `--json`.
    """
    from rich.progress import Progress

    from taskvec import environment
    from taskvec.application import Here, Making, plan, reading_of, sink_of, source_of
    from taskvec.cli.texts import TextsIn, apply_to_texts
    from taskvec.hub import located
    from taskvec.models import load_model
    from taskvec.progress import COLUMNS
    from taskvec.vectors import BATCH, TaskVectors

    place = located(vectors)
    name = options.model_of([place], model)
    found = TaskVectors.load(place, load_model(name, options.working_on(device, threads)))
    if found.config.wording is not None:
        of_images = {
            "--recursive": recursive,
            "--strict": strict,
            "--levels": levels is not None,
            "--ignore-orientation": ignore_orientation,
            "--max-pixels": max_pixels != MAX_PIXELS,
            "--format": form is not None,
            "--column": column is not None,
            "--key": key is not None,
            "--engine": engine != "here",
        }
        if asked := [option for option, given in of_images.items() if given]:
            raise ValueError(f"{asked[0]} is about images: these task vectors are of texts")
        apply_to_texts(found, TextsIn(inputs, text or ()), generate, out, json_file, overwrite=overwrite)
        return
    if inputs is None or out is None or text:
        raise ValueError("these task vectors are of images: expected an image or a directory of images, and --out")
    if address and engine != "ray":
        raise ValueError(f"--address {address} is of a Ray cluster: expected --engine ray")
    source = source_of(
        inputs.absolute() if engine == "ray" else inputs, out, recursive=recursive, column=column, key=key
    )
    if strict and source.skipped:
        raise ValueError(f"--strict: {next(iter(source.skipped.values()))} ({len(source.skipped)} such files in all)")
    sink = sink_of(out.absolute() if engine == "ray" else out, form or source.format, shard_size)
    few = source.count is not None and source.count <= BATCH  # for which no process is worth while
    with _on_ray(place, name, device, address) if engine == "ray" else Here(found, 0 if few else None) as running:
        reading, remark = reading_of(
            found, source, running, levels, ignore_orientation=ignore_orientation, max_pixels=max_pixels
        )
        if remark:
            console.print(remark)
        making = Making.of(found, reading)
        planned = plan(source, sink, making, running, overwrite=overwrite)
        if planned.done:
            every = "" if source.count is None else f" of {source.count}"
            console.print(f"{planned.done}{every} results are there already")
        with Progress(*COLUMNS, console=console) as progress:
            bar = progress.add_task(found.task, total=None if source.count is None else source.count - planned.done)
            advance = partial(progress.advance, bar)
            failures = planned.failed | running.apply(planned.work(source, sink), sink, making, advance, strict=strict)
            number = planned.done + len(planned.failed) + int(progress.tasks[bar].completed)
    told = {
        "task": found.task,
        "files": sink.results(source, failures) if json_file else [],
        "failed": failures,
        "skipped": source.skipped,
        "levels": remark,
    }
    write_json(json_file, {**told, "machine": environment.machine()})
    if source.skipped and source.count is not None:
        console.print(f"skipped, as they are no images: {len(source.skipped)}: {_first(list(source.skipped.values()))}")
    if failures:
        raise ValueError(f"{len(failures)} of {number} images failed: {_first(list(failures.values()))}")


def _on_ray(place: Path, model: str, device: str, address: str | None) -> "AbstractContextManager[Engine]":
    from taskvec.application.on_ray import OnRay

    found = Path(model).absolute()  # other machines have other working directories
    return OnRay(partial(_loaded, place.absolute(), str(found) if found.is_dir() else model), device, address)


def _loaded(place: Path, model: str, device: "torch.device") -> "TaskVectors":
    from taskvec.models import load_model
    from taskvec.vectors import TaskVectors

    return TaskVectors.load(place, load_model(model, device))


def _first(sentences: Sequence[str], limit: int = 3) -> str:
    """A few of them in one line, and how many more there are, with where to find these."""
    return shortened(sentences, limit) + (" (--json FILE has all)" if len(sentences) > limit else "")
