"""Where results go: into a directory, image by image, or into shards. What is there already is known and kept."""

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from taskvec.application.samples import Input, Making, Sample, encoded, state_of
from taskvec.application.shards import PARQUET, WRITERS, BrokenShardError, digest_of_file, require_pyarrow
from taskvec.application.sources import FOLDER, PORTION, Files, Portion, Source
from taskvec.choices import SHARD
from taskvec.files import (
    WriteError,
    check_destination,
    check_destination_directory,
    read_json,
    replacing,
    replacing_together,
    write_json,
)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of no image in particular

Result = bytes | str | None  # a PNG for a shard, why there is none, or nothing more to do
Add = Callable[[Sample, bytes], None]


@dataclass(frozen=True)
class Left:
    """Of a portion: which samples are ``left`` to do, one byte each, all where there are none; how many are ``done``;
    what is there in its place that is something ``else``, in a sentence; what failed before, with the reason.
    """

    left: bytes = b""
    done: int = 0
    elses: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    whole: bool = False  # nothing is left to do


class Sink(Protocol):
    """A place for results. All but ``open`` happens in any process."""

    @property
    def out(self) -> Path: ...

    @property
    def together(self) -> int:
        """Files in a portion."""
        ...

    def left(self, portion: Portion, making: Making) -> Left: ...

    def results(self, source: Source, failed: Mapping[str, str]) -> list[str]:
        """The files, or directories of a shard's files, that are there in the end."""
        ...

    def finish(
        self, directory: str, samples: Sequence[Sample], inputs: Sequence[Input | str], outputs: Any, making: Making
    ) -> list[Result]:
        """Make the results of some samples of a portion, which has this ``directory``; ``outputs`` are the model's, of
        those that could be read.

        Raises OSError where there is no space left or no writing at all.
        """
        ...

    def open(self, portion: Portion, making: Making, failed: dict[str, str]) -> AbstractContextManager[Add]:
        """A context in which results of a portion are added, at whose end they are there; ``failed`` is what failed,
        with the reason, which may grow until then.
        """
        ...


@dataclass(frozen=True)
class FolderSink:
    """A PNG of every image, by its key; those of a shard in a directory of its name."""

    out: Path
    together: int = PORTION

    def path(self, directory: str, key: str) -> Path:
        return self.out / directory / f"{key}.png"

    def results(self, source: Source, failed: Mapping[str, str]) -> list[str]:
        paths = []
        for portion in source.portions():
            if isinstance(portion, Files):
                paths += [self.path("", key) for path, key in portion.files if str(path) not in failed]
            else:
                paths.append(self.out / portion.directory)
        return [str(path) for path in paths]

    def left(self, portion: Portion, making: Making) -> Left:
        if not (self.out / portion.directory).is_dir():
            return Left()
        states, elses = bytearray(), []
        with suppress(BrokenShardError):  # which is told when its turn comes
            for sample in portion.samples():
                result = self.path(portion.directory, sample.key)
                state = "left" if sample.problem else state_of(result, sample, making)
                states.append(state != "done")
                if state == "other":
                    elses.append(f"{result} exists and is not what these vectors make of {sample.name} as it is now")
            return Left(bytes(states), states.count(0), tuple(elses), whole=not any(states))
        return Left(bytes(states) + b"\1", states.count(0), tuple(elses))

    def finish(
        self, directory: str, samples: Sequence[Sample], inputs: Sequence[Input | str], outputs: Any, making: Making
    ) -> list[Result]:
        results: list[Result] = []
        with replacing_together() as put:
            for sample, content in zip(samples, _encoded(samples, inputs, outputs, making), strict=True):
                reason = content if isinstance(content, str) else None
                if isinstance(content, bytes):
                    path = self.path(directory, sample.key)
                    try:
                        put(path, content)
                    except (ValueError, OSError) as error:
                        if isinstance(error, OSError) and error.errno in _NO_SPACE:
                            raise
                        reason = str(error) if isinstance(error, WriteError) else f"{path} cannot be written: {error}"
                results.append(reason)
        return results

    @contextmanager
    def open(self, portion: Portion, making: Making, failed: dict[str, str]) -> Iterator[Add]:
        yield lambda sample, result: None


@dataclass(frozen=True)
class ShardSink:
    """A shard of every portion, and beside it NAME.json, which says what it was made from and what failed.

    The shard is written whole and renamed, after its JSON: what has none, or another, is not done.
    """

    out: Path
    ending: str
    together: int = SHARD

    def path(self, portion: Portion) -> Path:
        return self.out / f"{portion.place}{self.ending}"

    def results(self, source: Source, failed: Mapping[str, str]) -> list[str]:
        return [str(self.path(one)) for one in source.portions(self.together) if one.name not in failed]

    def left(self, portion: Portion, making: Making) -> Left:
        path, record = self.path(portion), self._record(portion)
        if not path.exists():
            return Left()
        try:
            known = read_json(record) if record.exists() else {}
            origin, made = known["origin"], known["sha256"]
            done, failed = int(known["done"]), {str(name): str(why) for name, why in known["failed"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            origin, made, done, failed = None, "", 0, {}
        if origin != self._origin(portion, making):
            return Left(elses=(f"{path} exists and is not what these vectors make of {portion.name} as it is now",))
        return Left(b"", done, (), failed, whole=True) if digest_of_file(path) == made else Left()

    def finish(
        self, directory: str, samples: Sequence[Sample], inputs: Sequence[Input | str], outputs: Any, making: Making
    ) -> list[Result]:
        return list(_encoded(samples, inputs, outputs, making))

    @contextmanager
    def open(self, portion: Portion, making: Making, failed: dict[str, str]) -> Iterator[Add]:
        path, done = self.path(portion), 0
        with replacing(path) as temporary:
            with WRITERS[self.ending](temporary, portion) as writer:

                def add(sample: Sample, result: bytes) -> None:
                    nonlocal done
                    writer.add(sample, result)
                    done += 1

                yield add
            record = {"origin": self._origin(portion, making), "sha256": digest_of_file(temporary)}
            write_json(self._record(portion), {**record, "done": done, "failed": failed})

    def _record(self, portion: Portion) -> Path:
        path = self.path(portion)
        return path.with_name(f"{path.name}.json")

    def _origin(self, portion: Portion, making: Making) -> dict[str, object]:
        """What a shard is a function of."""
        levels = making.reading.levels
        return {
            "vectors": making.vectors,
            "images": portion.digest(),
            "levels": None if levels is None else [levels.low, levels.high],
            "orientation": "as stored" if making.reading.ignore_orientation else "upright",
        }


def sink_of(out: Path, format: str, shard_size: int = SHARD) -> Sink:
    """``format`` is folder, tar or parquet. Raises ValueError where results cannot go there."""
    check_destination_directory(out)
    if format == FOLDER:
        return FolderSink(out)
    ending = f".{format}"
    if ending == PARQUET:
        require_pyarrow(out)
    check_destination(out / f"results{ending}")
    return ShardSink(out, ending, shard_size)


def _encoded(
    samples: Sequence[Sample], inputs: Sequence[Input | str], outputs: Any, making: Making
) -> Iterator[bytes | str]:
    """A PNG of every sample, or why there is none."""
    answers: Iterator[Any] = iter(() if outputs is None else outputs)
    for sample, image in zip(samples, inputs, strict=True):
        if isinstance(image, str):
            yield image
            continue
        output = next(answers)
        try:
            yield encoded(output, image, making)
        except MemoryError:
            width, height = image.size
            yield f"the result of {sample.name} has no room in memory: {width} x {height} pixels"
        except ValueError as error:
            yield f"the result of {sample.name} cannot be written: {error}"
