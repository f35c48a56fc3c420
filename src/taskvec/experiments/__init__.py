"""The paper's tables and figures, and what becomes of its claims: experiments by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskvec.experiments.cells import Cell
    from taskvec.experiments.frames import read
    from taskvec.experiments.study import Study
    from taskvec.results import Picture, Table

__all__ = ["ALIASES", "EXPERIMENTS", "SECTIONS", "TABLE_8", "Experiment", "experiments_named", "read"]


@dataclass(frozen=True)
class Experiment:
    """What it shows of a study, and the cells that have to be there for that, so that an engine can compute them.

    Both are functions, by their names, of a module of this package, which is imported when one is called: the names of
    the experiments cost nothing.
    """

    module: str
    cells_by: str
    drawn_by: str

    def cells(self, study: "Study") -> "Sequence[Cell[Study]]":
        return self._of_module(self.cells_by)(study)

    def draw(self, study: "Study") -> "Sequence[Table | Picture]":
        return self._of_module(self.drawn_by)(study)

    def _of_module(self, name: str) -> Any:
        return getattr(import_module(f"{__name__}.{self.module}"), name)


# In the order in which the paper, and the report, tell them.
EXPERIMENTS = {
    "figure-2": Experiment("clustering", "cells_of_figure_2", "figure_2"),
    "table-2": Experiment("clustering", "cells_2", "table_2"),
    "table-1": Experiment("comparison", "cells_1", "table_1"),
    "table-3": Experiment("comparison", "cells_3", "table_3"),
    "figure-3": Experiment("qualitative", "cells_3_to_5", "figures_3_to_5"),
    "table-4": Experiment("granularity", "cells_4", "table_4"),
    "table-5": Experiment("location", "cells_5", "table_5"),
    "figure-6": Experiment("xrays", "cells_6", "figure_6"),
    "figure-7": Experiment("composition", "cells_7", "figure_7"),
    "table-9": Experiment("one_shot_vectors", "cells_9", "table_9"),
    "figure-8": Experiment("qualitative", "cells_8_to_13", "figures_8_to_13"),
    "figure-14": Experiment("greedy_ablations", "cells_14", "figure_14"),
    "table-10": Experiment("greedy_ablations", "cells_10", "table_10"),
    "table-11": Experiment("greedy_ablations", "cells_11", "table_11"),
    "figure-15": Experiment("qualitative", "cells_15_to_18", "figures_15_to_18"),
    "curves": Experiment("curves", "cells_of_curves", "curves"),
}
TABLE_8 = "table-8"  # of language models, and so of another study
# Other names of the paper for what comes out together.
ALIASES = {
    "table-6": "table-3",
    "table-7": "table-4",
    **{f"figure-{number}": "figure-3" for number in (4, 5)},
    **{f"figure-{number}": "figure-8" for number in range(9, 14)},
    **{f"figure-{number}": "figure-15" for number in range(16, 19)},
}
SECTIONS = {
    "What heads know of the task": ("figure-2", "table-2"),
    "Task vectors against prompting and other ways to find them": ("table-1", "table-3", "figure-3", "figure-8"),
    "What is patched: granularity and place": ("table-4", "table-5"),
    "Other images": ("figure-6",),
    "Arithmetic": ("figure-7",),
    "With an example as well": ("table-9",),
    "Greedy random search": ("figure-14", "table-10", "table-11", "figure-15"),
    "How much data it takes": ("curves",),
}


def experiments_named(name: str) -> list[str]:
    """``all``, or one experiment by any of its names; ValueError names the choices."""
    if name == "all":
        return list(EXPERIMENTS)
    chosen = ALIASES.get(name, name)
    if chosen not in EXPERIMENTS:
        raise ValueError(f"there is no experiment {name!r}: expected all, {', '.join(sorted(EXPERIMENTS | ALIASES))}")
    return [chosen]


def __getattr__(name: str) -> Any:
    if name != "read":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.frames").read
