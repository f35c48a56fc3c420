"""Data sets by name."""

from dataclasses import fields

from taskvec.data.examples import DataSet
from taskvec.data.folder import Folder
from taskvec.data.pascal import Pascal
from taskvec.data.pictures import Pictures
from taskvec.data.scenes import Scenes
from taskvec.names import choose_from

DATA_SETS = {"scenes": Scenes, "pictures": Pictures, "pascal": Pascal, "folder": Folder}


def load_data(name: str = "scenes", split: str = "train", **options: object) -> DataSet:
    """A data set by name: ``scenes`` are drawn by this package, ``pictures`` six photographs that ship with it,
    ``pascal`` is Pascal-5i, ``folder`` a user's own task or images.

    ``options`` are those of the classes: ``fold`` and ``seed`` of scenes; ``root``, ``fold``, ``layout`` and
    ``skip_missing`` of pascal; those of ``Folder`` of a folder; pictures have none. Raises ValueError for a name,
    split or option that there is not, and as the classes do.
    """
    if name not in DATA_SETS:
        raise ValueError(f"there is no data set {name!r}: {choose_from(name, DATA_SETS)}")
    kind = DATA_SETS[name]
    known = [field.name for field in fields(kind)]
    for option in options:
        if option not in known:
            named = "folds (--fold)" if option == "fold" else _as_option(option)
            others = ", ".join(_as_option(field) for field in known if field not in ("split", "fold"))
            raise ValueError(f"{name} has no {named}: it takes {others or 'no options'}")
    if "root" in known and "root" not in options:
        raise ValueError(f"{name} needs root (--root), the directory that holds it")
    return kind(split=split, **options)  # pyright: ignore[reportArgumentType]


def judging_split(name: str) -> str:
    """The split of a data set on which results are judged: of scenes the one that nothing is ever chosen on."""
    return "final" if name == "scenes" else "test"


def _as_option(name: str) -> str:
    """As the commands call it."""
    return name.removesuffix("_level").replace("_", "-")


__all__ = ["DATA_SETS", "DataSet", "Folder", "Pascal", "Pictures", "Scenes", "judging_split", "load_data"]
