"""Examples with classes and groups as a test needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from taskvec.data.scenes import Scenes


@dataclass(frozen=True)
class Labelled(Scenes):
    """Scenes with classes and groups of our own."""

    labels: tuple[int, ...] = ()
    patients: tuple[str, ...] = ()

    def class_of(self, indices: np.ndarray) -> np.ndarray:
        return np.array(self.labels)[indices]

    def groups_of(self, indices: np.ndarray) -> list[str]:
        return [self.patients[index] for index in indices]


def labelled(labels: Sequence[int], patients: Sequence[object] | None = None) -> Labelled:
    names = tuple(str(name) for name in (range(len(labels)) if patients is None else patients))
    return Labelled("test", count=len(labels), labels=tuple(labels), patients=names)
