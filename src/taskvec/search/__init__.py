"""Searches over sites. They know no model: each sees losses of masks on items, or their gradient, and nothing else."""

from taskvec.search.found import Found
from taskvec.search.reinforce import Evaluate, ReinforceSettings, reinforce
from taskvec.search.relaxed import RelaxedSettings, relaxed

__all__ = ["Evaluate", "Found", "ReinforceSettings", "RelaxedSettings", "reinforce", "relaxed"]
