"""Examples with classes and groups as a test needs them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from taskvec.data.examples import Examples
from taskvec.data.scenes import Scenes


@dataclass(frozen=True)
class Labelled(Scenes):
    """Scenes with classes and groups of our own."""

    labels: tuple[int, ...] = ()
    patients: tuple[str, ...] = ()

    def class_of(self, indices: np.ndarray) -> np.ndarray:
        return np.array(self.labels)[indices]

    def names(self, indices: np.ndarray) -> list[str]:
        return [f"{index}" for index in indices]

    def load(self, indices: np.ndarray, size: int) -> Examples:
        return replace(Scenes(self.split).load(indices, size), classes=self.class_of(indices))

    def groups_of(self, indices: np.ndarray) -> list[str]:
        return [self.patients[index] for index in indices]


def labelled(labels: Sequence[int], patients: Sequence[object] | None = None) -> Labelled:
    names = tuple(str(name) for name in (range(len(labels)) if patients is None else patients))
    return Labelled("test", count=len(labels), labels=tuple(labels), patients=names)
