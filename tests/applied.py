"""Task vectors applied in a test, as the command does it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from taskvec.application import Engine, Here, Making, Reading, plan, sink_of, source_of
from taskvec.vectors import TaskVectors

AS_IT_IS = Reading()


def save(path: Path, level: int = 0) -> None:
    """A small grey image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (level, level, level)).save(path)


def applied(
    vectors: TaskVectors,
    inputs: Path,
    out: Path,
    form: str | None = None,
    *,
    reading: Reading = AS_IT_IS,
    processes: int = 0,
    engine: Engine | None = None,
    overwrite: bool = False,
    strict: bool = False,
    shard_size: int = 1000,
    on_done: Callable[[int], None] = lambda number: None,
    **given: Any,
) -> dict[str, str]:
    """What failed, with the reason; ``given`` are options of ``source_of``."""
    source = source_of(inputs, out, **given)
    sink, making = sink_of(out, form or source.format, shard_size), Making.of(vectors, reading)
    if engine is not None:
        planned = plan(source, sink, making, engine, overwrite=overwrite)
        return planned.failed | engine.apply(planned.work(source, sink), sink, making, on_done, strict=strict)
    with Here(vectors, processes) as here:
        planned = plan(source, sink, making, here, overwrite=overwrite)
        return planned.failed | here.apply(planned.work(source, sink), sink, making, on_done, strict=strict)


def left(vectors: TaskVectors, inputs: Path, out: Path, *, reading: Reading = AS_IT_IS, overwrite: bool = False) -> int:
    """How many images are left to do."""
    source, sink = source_of(inputs, out), sink_of(out, "folder")
    with Here(vectors, 0) as engine:
        planned = plan(source, sink, Making.of(vectors, reading), engine, overwrite=overwrite)
        return sum(
            sum(one.left) if one.left else len(list(portion.samples())) for portion, one in planned.work(source, sink)
        )
