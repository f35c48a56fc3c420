"""Searches over sites. They know no model: each sees losses of masks on items, or their gradient, and nothing else."""

from taskvec.search.baselines import random_sites, top_sites
from taskvec.search.cma import CmaSettings, causal_effects, cma
from taskvec.search.finite import NON_FINITE, FiniteLosses, NonFinite
from taskvec.search.found import FINALS, Evaluate, Final, Found, Validate
from taskvec.search.greedy import GreedySettings, greedy, starts
from taskvec.search.memory import Memory
from taskvec.search.reinforce import ReinforceSettings, reinforce
from taskvec.search.relaxed import Differentiate, Gate, RelaxedSettings, relaxed

__all__ = [
    "FINALS",
    "NON_FINITE",
    "CmaSettings",
    "Differentiate",
    "Evaluate",
    "Final",
    "FiniteLosses",
    "Found",
    "Gate",
    "GreedySettings",
    "Memory",
    "NonFinite",
    "ReinforceSettings",
    "RelaxedSettings",
    "Validate",
    "causal_effects",
    "cma",
    "greedy",
    "random_sites",
    "reinforce",
    "relaxed",
    "starts",
    "top_sites",
]
