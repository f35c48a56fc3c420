"""Data sets by name."""

import logging
from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING

from taskvec.choices import DATA_SETS
from taskvec.data.pair_files import ENDINGS
from taskvec.files import printable
from taskvec.names import choose_from

if TYPE_CHECKING:
    from taskvec.data.examples import DataSet
    from taskvec.data.folder import Folder
    from taskvec.data.pairs import WordPairs
    from taskvec.data.pascal import Pascal
    from taskvec.data.pictures import Pictures
    from taskvec.data.relations import named_relation
    from taskvec.data.scenes import Scenes

_log = logging.getLogger(__name__)

# what cannot be left out, and what it is
_NEEDED = {
    "pascal": ("root", "root (--root), the directory that holds it"),
    "folder": ("root", "root (--root), the directory that holds it"),
    "pairs": ("root", "root (--root), the file that holds them"),
    "relations": ("relation", "the name of one (--task), such as country-capital"),
}


# imported when they are first asked for: they need PyTorch, and what is said of names and places does not
_HOMES = {
    "DataSet": "examples",
    "Folder": "folder",
    "Pascal": "pascal",
    "Pictures": "pictures",
    "Scenes": "scenes",
    "WordPairs": "pairs",
    "named_relation": "relations",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def load_data(name: str = "scenes", split: str = "train", **options: object) -> "DataSet":
    """A data set by name: ``scenes`` are drawn by this package, ``pictures`` six photographs that ship with it,
    ``pascal`` is Pascal-5i, ``folder`` a user's own task or images, ``pairs`` a user's file of word pairs, and
    ``relations`` word pairs that ship with the package.

    ``options`` are those of the classes: ``fold`` and ``seed`` of scenes; ``root``, ``fold``, ``layout`` and
    ``skip_missing`` of pascal; those of ``Folder`` of a folder; ``root``, ``template`` and ``shots`` of pairs;
    ``relation``, its name, ``template`` and ``shots`` of relations; pictures have none. Raises ValueError for a name,
    split or option that there is not, and as the classes do.
    """
    check_named(name, options)
    kind = DATA_SETS[name]
    known = list(signature(kind).parameters)
    for option in options:
        if option not in known:
            named = "folds (--fold)" if option == "fold" else _as_option(option)
            others = ", ".join(_as_option(field) for field in known if field not in ("split", "fold"))
            raise ValueError(f"{name} has no {named}: it takes {others or 'no options'}")
    root = options.get("root")
    data = kind(split=split, **options)
    _log.info("data %s, %s%s", name, split, "" if root is None else f", from {root}")
    return data


def check_named(name: str, options: Mapping[str, object]) -> None:
    """ValueError for a data set that there is not, one without what it needs, and a file where a directory is meant."""
    if name not in DATA_SETS:
        raise ValueError(f"there is no data set {name!r}: {choose_from(name, DATA_SETS)}")
    if name in _NEEDED and _NEEDED[name][0] not in options:
        raise ValueError(f"{name} needs {_NEEDED[name][1]}")
    root = options.get("root")
    if (
        name == "folder"
        and isinstance(root, str | Path)
        and Path(root).suffix.lower() in ENDINGS
        and Path(root).is_file()
    ):
        raise ValueError(
            f"{printable(root)} is a file: `--data pairs` reads files of word pairs, folders are directories"
        )


def judging_split(name: str) -> str:
    """The split of a data set on which results are judged: of scenes the one that nothing is ever chosen on."""
    return "final" if name == "scenes" else "test"


def _as_option(name: str) -> str:
    """As the commands call it."""
    return name.removesuffix("_level").replace("_", "-")


__all__ = [
    "DATA_SETS",
    "DataSet",
    "Folder",
    "Pascal",
    "Pictures",
    "Scenes",
    "WordPairs",
    "judging_split",
    "load_data",
    "named_relation",
]
