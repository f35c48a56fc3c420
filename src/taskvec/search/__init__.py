"""Searches over sites. Each sees ``evaluate(masks, items) -> losses`` only."""

from taskvec.search.reinforce import Evaluate, Found, ReinforceSettings, reinforce

__all__ = ["Evaluate", "Found", "ReinforceSettings", "reinforce"]
