"""Relations that ship with the package, such as a country and its capital, as word pairs."""

from importlib.resources import as_file, files

from taskvec.data.pairs import WordPairs
from taskvec.names import choose_from

_FILES = files("taskvec") / "relations"  # its README.md says how they were made
RELATIONS = tuple(sorted(file.name.removesuffix(".tsv") for file in _FILES.iterdir() if file.name.endswith(".tsv")))


def named_relation(split: str = "train", relation: str = "", template: str = "qa", shots: int = 10) -> WordPairs:
    """The pairs of a relation by its name, which is also that of the task; see ``WordPairs``.

    Raises ValueError, which names the choices, where there is none of this name, and as ``WordPairs`` does.
    """
    if relation not in RELATIONS:
        raise ValueError(f"there is no relation {relation!r} (--task): {choose_from(relation, RELATIONS)}")
    with as_file(_FILES / f"{relation}.tsv") as path:
        return WordPairs(path, split, template, shots)
