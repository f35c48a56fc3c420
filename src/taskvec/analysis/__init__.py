"""How much of a task is in each head output, before any search (Sections 2.2 and 9.1).

Scores are here; ``clustering`` is a module to import by itself, as scikit-learn loads slowly.
"""

from taskvec.analysis.scores import head_taskness, layer_taskness, layers_by_taskness, site_taskness, taskness

__all__ = ["head_taskness", "layer_taskness", "layers_by_taskness", "site_taskness", "taskness"]
