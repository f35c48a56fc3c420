"""The command that serves the page."""

from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from taskvec.cli.terminal import app, say


@app.command("app")
def app_command(
    vectors: Annotated[
        list[Path] | None,
        typer.Option(help="A directory in which task vectors are looked for; repeat for more."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model to offer beside those that ship (tiny, small): a directory, or hub:OWNER/NAME to download. "
            "Repeat for more; the first one is chosen at the start."
        ),
    ] = None,
    statistics: Annotated[
        list[Path] | None,
        typer.Option(help="From `taskvec collect`, of several tasks: their taskness colours the map of heads."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to serve at; 0.0.0.0 lets other machines in, without a password.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The first free one from 7860 on if not given.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Of the processor; those of OMP_NUM_THREADS, or the fastest by a short measurement, if not given.",
        ),
    ] = None,
) -> None:
    """A page in the browser: drop images, compare answers, switch heads off, add task vectors up, make a task.

    Takes the extra `app` (gradio). Nothing is fetched from the network or sent to it, and what is dropped or made in
    the page is gone when the server ends.
    """
    from taskvec.cli.options import working_on  # noqa: PLC0415 (which imports PyTorch, as all below does)
    from taskvec.models import SHIPPED  # noqa: PLC0415

    for place in vectors or []:
        if not place.is_dir():
            raise ValueError(f"--vectors {place} is no directory: expected one with task vectors in it")
    try:
        from taskvec.app.page import serving  # noqa: PLC0415 (which imports an extra)
    except ImportError as error:
        raise ValueError("the page takes gradio: pip install 'taskvec[app]'") from error
    from taskvec.app.library import Library  # noqa: PLC0415

    names: list[str] = list(dict.fromkeys([*(model or ()), *SHIPPED]))
    library = Library(names, vectors or [], statistics or [], working_on(device, threads))
    library.taskness(library.model(names[0]))  # whatever is wrong is told before anyone visits
    with serving(library, host, port) as url:
        say(f"the page is at {url} (Ctrl-C ends it)")
        Event().wait()
