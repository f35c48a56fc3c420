"""The command that serves the page."""

from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from taskvec.cli import options
from taskvec.cli.terminal import say
from taskvec.extras import install


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
    device: options.Device = "cpu",
    threads: options.Threads = None,
) -> None:
    """A page in the browser: drop images, compare answers, switch heads off, add task vectors up, make a task.

    Takes the extra `app` (gradio). Nothing is fetched from the network or sent to it, and what is dropped or made in
    the page is gone when the server ends.
    """
    try:
        from taskvec.app.page import serving
    except ImportError as error:
        raise ValueError(f"the page takes gradio: {install('app')}") from error
    from taskvec.app.offer import Offer
    from taskvec.models import SHIPPED

    for place in vectors or []:
        if not place.is_dir():
            raise ValueError(f"--vectors {place} is no directory: expected one with task vectors in it")
    names: list[str] = list(dict.fromkeys([*(model or ()), *SHIPPED]))
    offer = Offer(names, vectors or [], statistics or [], options.working_on(device, threads))
    offer.taskness(offer.model(names[0]))  # whatever is wrong is told before anyone visits
    with serving(offer, host, port) as url:
        say(f"the page is at {url} (Ctrl-C ends it)")
        Event().wait()
