"""Searches over sites. Each sees ``evaluate(masks, items) -> losses`` only."""

from taskvec.search.found import Found
from taskvec.search.reinforce import Evaluate, ReinforceSettings, reinforce
from taskvec.search.relaxed import RelaxedSettings, relaxed

__all__ = ["Evaluate", "Found", "ReinforceSettings", "RelaxedSettings", "reinforce", "relaxed"]
