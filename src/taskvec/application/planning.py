"""Before the work: how images are read, and what is left to do of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from taskvec.application.running import Engine
from taskvec.application.samples import Making, Reading
from taskvec.application.sinks import Left, Sink
from taskvec.application.sources import Files, Portion, Source
from taskvec.data.levels import range_of
from taskvec.images import MAX_PIXELS, Range, Raster, is_deep, peek, read_raster
from taskvec.vectors import TaskVectors


@dataclass(frozen=True)
class Plan:
    """What is ``left`` of every portion, and how many results are there already."""

    left: list[Left]
    done: int

    @property
    def failed(self) -> dict[str, str]:
        """Of what is done, what failed, with the reason."""
        return {name: why for left in self.left for name, why in left.failed.items()}

    def work(self, source: Source, sink: Sink) -> Iterator[tuple[Portion, Left]]:
        portions = source.portions(sink.together)
        if not self.left:
            return ((portion, Left()) for portion in portions)
        return ((portion, left) for portion, left in zip(portions, self.left, strict=False) if not left.whole)


def reading_of(
    vectors: TaskVectors,
    source: Source,
    engine: Engine,
    levels: tuple[float, float] | None = None,
    *,
    ignore_orientation: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> tuple[Reading, str | None]:
    """How these images are read, and in words which range of levels and why, None where no image is known to be deep.

    Deep ones have the range that was asked for, or that the vectors were found with, or one that all of them tell
    together; of shards, whose images would all have to be read for that, none tells.
    """
    chosen, why = Range(*levels) if levels else None, "as asked for"
    if source.count is None:
        return Reading(chosen or vectors.levels, ignore_orientation, max_pixels), None
    deep: list[Path] = []
    windowed = 0
    for found in engine.map(_deep, (portion for portion in source.portions() if isinstance(portion, Files))):
        deep += [path for path, _ in found]
        windowed += sum(shown for _, shown in found)
    if chosen is None and deep:
        chosen, why = vectors.levels, "as the task vectors were found with"
    if chosen is None and deep:
        chosen = range_of([partial(_raster, path, max_pixels) for path in deep])
        why = "told from all of them; --levels LO HI sets others"
    told = f"levels {chosen} of the {len(deep)} deep images become 0 to 255 ({why})" if deep and chosen else None
    if windowed and chosen is None:
        told = f"{windowed} images are shown as their own windows say; --levels LO HI sets one range for all"
    return Reading(chosen, ignore_orientation, max_pixels), told


def plan(source: Source, sink: Sink, making: Making, engine: Engine, *, overwrite: bool = False) -> Plan:
    """What is not there yet, or damaged; all of it with ``overwrite``.

    Raises ValueError where results' names are taken by anything else than these images' results with these vectors.
    """
    if overwrite or _is_empty(sink.out):
        return Plan([], 0)
    left: list[Left] = []
    others, first = 0, ""
    for one in engine.map(partial(_left, sink, making), source.portions(sink.together)):
        left.append(one)
        others += len(one.elses)
        first = first or next(iter(one.elses), "")
    if others:
        raise ValueError(f"{first} ({others} such files in all): name another directory or pass --overwrite")
    return Plan(left, sum(one.done for one in left))


def _is_empty(directory: Path) -> bool:
    """But for hidden files, such as a lock."""
    return not directory.is_dir() or all(path.name.startswith(".") for path in directory.iterdir())


def _left(sink: Sink, making: Making, portion: Portion) -> Left:
    return sink.left(portion, making)


def _deep(portion: Files) -> list[tuple[Path, bool]]:
    """The files whose levels are deep, and whether they say themselves how they are to be shown."""
    return [(path, peek(path).windowed) for path, _ in portion.files if is_deep(path)]


def _raster(path: Path, max_pixels: int) -> Raster | None:
    """None for what cannot be read, which is told when its turn comes."""
    try:
        return read_raster(path, max_pixels=max_pixels, reduce=True)
    except (ValueError, OSError):
        return None
