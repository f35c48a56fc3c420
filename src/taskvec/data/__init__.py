"""Data sets by name."""

from taskvec.data.examples import DataSet
from taskvec.data.scenes import Scenes

DATA_SETS = ("scenes",)


def load_data(name: str = "scenes", split: str = "train", fold: int | None = None, seed: int = 0) -> DataSet:
    """A data set by name: ``scenes`` are drawn by this package.

    Raises ValueError for a name, split or fold that there is not.
    """
    if name not in DATA_SETS:
        raise ValueError(f"there is no data set {name!r}: expected one of {', '.join(DATA_SETS)}")
    return Scenes(split, fold, seed)


__all__ = ["DATA_SETS", "DataSet", "Scenes", "load_data"]
