"""Six photographs with masks that ship with the package, to look at what a model makes of them."""

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from jaxtyping import Int

from taskvec.data.examples import Examples, digests
from taskvec.images import image_files, read_image, read_rgb, resize

_FILES = files("taskvec") / "pictures"  # its README.md has their sources and terms


@dataclass(frozen=True)
class Pictures:
    """The photographs, all of one class, so that each is an example for each other; no model was trained on them.

    Six are too few to find anything on: ``test`` is the only split. Raises ValueError for another.
    """

    split: str = "test"

    def __post_init__(self) -> None:
        if self.split != "test":
            raise ValueError(f"pictures have no split {self.split!r}: expected test, as they are too few to find on")

    def __len__(self) -> int:
        return len(self._paths())

    @property
    def own_task(self) -> None:
        return None

    @property
    def wording(self) -> None:
        return None

    def class_of(self, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        return np.zeros(len(indices), np.int64)

    def names(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        paths = self._paths()
        return [paths[index].stem for index in indices]

    def images_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        paths = self._paths()
        return digests([paths[index] for index in indices])

    def groups_of(self, indices: Int[np.ndarray, " n"]) -> list[str]:
        return self.images_of(indices)

    def remarks(self) -> list[str]:
        return []

    def describe(self) -> dict[str, object]:
        return {"data": "pictures", "split": self.split}

    def load(self, indices: Int[np.ndarray, " n"], size: int) -> Examples:
        with as_file(_FILES) as root:
            names = self.names(indices)
            images = [resize(np.asarray(read_rgb(root / "images" / f"{name}.jpg")), size) for name in names]
            masks = [resize(np.asarray(read_image(root / "masks" / f"{name}.png")), size) for name in names]
        return Examples(np.stack(images), np.stack(masks), self.class_of(indices), np.asarray(indices))

    def _paths(self) -> list[Path]:
        with as_file(_FILES) as root:
            return image_files(root / "images")
