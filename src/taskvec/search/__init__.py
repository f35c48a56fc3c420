"""Searches over sites. They know no model: each sees a ``Problem``, losses of masks on items, and nothing else.

A search is settings with a method ``search(problem) -> SearchResult``. A new one is a file with its settings and a
place in ``SEARCHES`` of taskvec.choices; Python, the command and the experiments take it from there.
"""

from taskvec.choices import NON_FINITE, SEARCHES, NonFinite
from taskvec.search.attribution import AttributionSettings, attributed_effects
from taskvec.search.baselines import random_sites, top_sites
from taskvec.search.checkpoint import Checkpoint
from taskvec.search.cma import CmaSettings, causal_effects
from taskvec.search.finite import FiniteLosses
from taskvec.search.greedy import GreedySettings
from taskvec.search.problem import Differentiate, Evaluate, EvaluateProduct, Problem, Validate
from taskvec.search.pruning import prune, with_curve
from taskvec.search.reinforce import ReinforceSettings
from taskvec.search.relaxed import Gate, RelaxedSettings
from taskvec.search.selection import FINALS, Final
from taskvec.search.settings import OnStep, SearchResult, SearchSettings

__all__ = [
    "FINALS",
    "NON_FINITE",
    "SEARCHES",
    "AttributionSettings",
    "Checkpoint",
    "CmaSettings",
    "Differentiate",
    "Evaluate",
    "EvaluateProduct",
    "Final",
    "FiniteLosses",
    "Gate",
    "GreedySettings",
    "NonFinite",
    "OnStep",
    "Problem",
    "ReinforceSettings",
    "RelaxedSettings",
    "SearchResult",
    "SearchSettings",
    "Validate",
    "attributed_effects",
    "causal_effects",
    "prune",
    "random_sites",
    "top_sites",
    "with_curve",
]
