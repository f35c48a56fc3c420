"""A user's own images as a directory, or task: inputs, and outputs that say what they should become."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

from taskvec.data.examples import digests
from taskvec.data.groups import groups_of
from taskvec.data.image_pairs import ImagePairs, named
from taskvec.data.layouts import Pairs, find_pairs
from taskvec.data.masks import Census, census
from taskvec.files import printable
from taskvec.images import MAX_PIXELS, Header, Raster, peek, read_raster


@dataclass(frozen=True)
class Folder(ImagePairs):
    """The pairs of a directory's inputs and outputs, or its images alone where there are no outputs.

    ``input`` and ``output`` are directories in ``root``, by default those called so, or images/ and masks/ and the
    like; the output of NAME.* is NAME``suffix``.*. Files may be of any size and of any format that is read. The
    directory is a task of its own, called as it is. A fifth of the pairs, chosen by the images' content, is ``split``
    ``test``, the rest ``train``; ``all`` is every pair. What ``groups`` (see ``taskvec.data.groups``) puts together is
    in one split, as are images that are the same.

    ``metric`` is ``iou`` where outputs are masks, which is told from their levels, else ``mse``. Of two levels the
    brighter is the object; in maps of classes it is ``object_level``, a level or a colour such as #800000, and pixels
    of ``void`` (255 where levels are classes) count nowhere. ``levels`` are those of deep files (16 bits, floating
    point) that become black and white; where they are not given, one range is told from all files.
    ``ignore_orientation`` takes pixels as they are stored, whatever EXIF says. ``remarks`` says what was chosen.

    Raises ValueError for a split or metric that there is not, a directory that is missing, names without a partner or
    twice, fewer than ten pairs, unless all are asked for, and, when they are first needed, for outputs of another shape
    than their inputs, or from which it cannot be told what the object is.
    """

    kind: ClassVar[str] = "folder"

    root: Path
    split: str = "train"
    metric: str | None = None
    input: Path | None = None
    output: Path | None = None
    suffix: str = ""
    levels: tuple[float, float] | None = None
    object_level: str | None = None
    void: str | None = None
    ignore_orientation: bool = False
    groups: str | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        self.check()

    @cached_property
    def pairs(self) -> Pairs:
        return find_pairs(self.root, self.input, self.output, self.suffix)

    @property
    def called(self) -> str:
        """As the directory is."""
        return printable(self.root.resolve().name)

    def read(self, path: Path) -> Raster:
        return read_raster(path, max_pixels=self.max_pixels)

    def header(self, path: Path) -> Header:
        return peek(path)

    def census_of(self, path: Path) -> Census:
        return _census(path, path.stat().st_mtime_ns, self.max_pixels)

    def digests_of(self, paths: Sequence[Path]) -> list[str]:
        return digests(paths)

    def group_names(self) -> list[str] | None:
        return None if self.groups is None else groups_of(self.pairs.inputs, self.groups)


@lru_cache(maxsize=20_000)
def _census(path: Path, modified: int, max_pixels: int) -> Census:
    """The levels of a file as it was at this time: several splits ask for the same."""
    return named(path, census, read_raster(path, max_pixels=max_pixels))
