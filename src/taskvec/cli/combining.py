"""The command that adds and subtracts task vectors."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from taskvec.choices import METRICS
from taskvec.cli import options
from taskvec.cli.terminal import JUDGEMENT, SEARCH_LOG, console, write_json


@options.one_writer()
def combine_command(
    expression: Annotated[
        str,
        typer.Argument(
            help="Such as 'inpainting + segmentation - identity': names, numbers, +, -, *, / and parentheses. Quotes "
            "are for names that hold anything but letters, digits and _."
        ),
    ],
    out: Annotated[Path, typer.Option(callback=options.directory, help="Directory for the combined task vectors.")],
    vectors: Annotated[Path, typer.Option(help="The directory with those of every name in the expression.")] = Path(),
    metric: Annotated[
        str | None,
        typer.Option(
            autocompletion=options.among(METRICS),
            help=f"Of the outputs: {' or '.join(METRICS)}; if not given, that of masks where any has it and is not "
            "subtracted.",
        ),
    ] = None,
    model: options.ModelOfVectors = None,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
) -> None:
    """Add, subtract and scale task vectors of the same sites into those of a new task.

    `taskvec evaluate --task inpainting+segmentation --method vectors:OUT` scores such a combination.
    """
    from taskvec.arithmetic import combine, names_in
    from taskvec.models import load_model
    from taskvec.records import CONFIG

    for name in (CONFIG, SEARCH_LOG, *JUDGEMENT):
        options.refuse_to_overwrite(out / name, overwrite)
    chosen = options.model_of((vectors / name for name in names_in(expression)), model)
    combined = combine(expression, load_model(chosen, options.device_named(device)), vectors, metric)
    for name in (SEARCH_LOG, *JUDGEMENT):  # of what was there before
        (out / name).unlink(missing_ok=True)
    combined.save_pretrained(out)
    write_json(json_file, asdict(combined.config))
    config = combined.config
    console.print(f"{config.task}: {len(config.sites)} of {config.of} sites, metric {config.metric}: {out}")
