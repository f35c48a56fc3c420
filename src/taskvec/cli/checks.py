"""What commands refuse before they import what they work with, which takes seconds: places and names that there are
not, and results that are there already.

All that is told here is told again, by the same functions, where the work is done.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from taskvec.cli import options
from taskvec.cli.data_options import DataOptions
from taskvec.names import HUB, check_model


def check(
    given: Mapping[str, Any],
    results: Collection[str] = (),
    unfinished: Callable[[Path], Path] | None = None,
    *,
    of_vectors: bool = False,
    each_root: bool = False,
) -> None:
    """ValueError for what no work could be done with, of a command's options by their names.

    ``results`` are the files of OUT that are never replaced unasked, "" OUT itself; where what is ``unfinished`` of OUT
    is there, the command goes on with it. ``of_vectors``: VECTORS is a directory of task vectors.
    ``each_root``: several directories of data are tasks of their own.
    """
    repeated = [given[name] for name in ("task", "root") if isinstance(given.get(name), list)]
    several = any(len(each) > 1 for each in repeated)  # whose results have places of their own
    if results and not several:
        overwrite = given["overwrite"] or (unfinished is not None and unfinished(given["out"]).exists())
        for name in results:
            options.refuse_to_overwrite(given["out"] / name, overwrite)
    if isinstance(given.get("model"), str):
        check_model(given["model"])
    if of_vectors and not str(given["vectors"]).startswith(HUB):
        from taskvec.records import check_there

        check_there(given["vectors"])
    if "root" in given:
        chosen = DataOptions.among(given)
        for one in chosen.of_each_root() if each_root else [chosen]:
            _check_data(one, given.get("part"))


def _check_data(chosen: DataOptions, part: str | None) -> None:
    """ValueError where the data are not where they are said to be, or too few."""
    name = chosen.data or ("folder" if chosen.root or chosen.input else None)
    if name is None:
        return
    from taskvec.data import check_named

    asked = chosen.given()
    root = asked.get("root")
    if name != "relations":  # whose name is that of the task
        check_named(name, asked)
    if name == "folder" and isinstance(root, Path):
        from taskvec.data.layouts import check_enough, find_pairs

        check_enough(find_pairs(root, chosen.input, chosen.output, chosen.suffix), part or "train")
    if name == "pairs" and isinstance(root, Path):
        from taskvec.data.pair_files import read_pairs

        read_pairs(root)
