"""Several processes that work together, forked from this one: they need not import PyTorch again, as torchrun's do."""

import multiprocessing
import os
import socket
from collections.abc import Callable

from taskvec.cli import main


def together(count: int, work: Callable[..., object], *arguments: object) -> list[int | None]:
    """Run ``work`` in ``count`` processes that find each other as torchrun's do; their exit statuses, in order.

    What they write to file descriptors, pytest's ``capfd`` has.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ranks = [
        context.Process(target=_work, args=(rank, count, port, work, arguments), daemon=True) for rank in range(count)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(300)
    return [process.exitcode for process in ranks]


def commands(count: int, *arguments: str) -> list[int | None]:
    """The command in ``count`` processes that work together; their exit statuses."""
    return together(count, _command, list(arguments))


def _work(rank: int, count: int, port: int, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    os.environ |= {name: str(number) for name, number in numbers.items()}
    work(*arguments)


def _command(arguments: list[str]) -> None:
    raise SystemExit(main(arguments))
