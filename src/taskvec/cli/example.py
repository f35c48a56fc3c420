"""The command that writes pairs to try the others on."""

from pathlib import Path
from typing import Annotated

import typer

from taskvec.choices import TASKS
from taskvec.cli import options
from taskvec.cli.terminal import console, write_json

NEW = 10  # inputs without an output


@options.one_writer()
def example_command(
    out: Annotated[
        Path, typer.Argument(callback=options.directory, help="The directory to make, with input/, output/ and new/.")
    ],
    task: Annotated[
        str, typer.Option(help=f"What the pairs show: {', '.join(TASKS)}.", autocompletion=options.among(TASKS))
    ] = "segmentation",
    pairs: Annotated[int, typer.Option(min=1, max=1000, help="How many, beside ten more inputs.")] = 30,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Side of the images, in pixels.")] = 128,
    overwrite: options.Overwrite = False,
    json_file: options.Json = None,
    seed: options.Seed = 0,
) -> None:
    """Write a task of your own to try the others on: drawn pairs in the directories that `taskvec find --root` reads.

    `input/` and `output/` hold the pairs by name, `new/` ten more inputs, for `taskvec apply`.
    """
    import numpy as np
    from PIL import Image

    from taskvec.data.scenes import Scenes
    from taskvec.files import replacing
    from taskvec.prompts import source_of
    from taskvec.tasks import task_named

    options.refuse_to_overwrite(out, overwrite)
    chosen = task_named(task)
    numbers = np.arange(pairs + NEW)
    scenes = Scenes("test", seed=seed, count=len(numbers)).load(numbers, size)
    holes = np.random.default_rng(seed).random((len(numbers), 2))
    source = source_of(scenes, holes)
    inputs, outputs = chosen.input(source), chosen.output(source)
    for place, images in (("input", inputs[:pairs]), ("output", outputs[:pairs]), ("new", inputs[pairs:])):
        for number, image in enumerate(images):
            with replacing(out / place / f"{number:03}.png") as path:
                Image.fromarray(image).save(path, "PNG")
    console.print(f"{pairs} pairs are in {out}/input and {out}/output, ten inputs without an output in {out}/new")
    write_json(json_file, {"root": str(out), "new": str(out / "new"), "pairs": pairs, "task": task})
