"""Find and use visual task vectors.

model = taskvec.load_model("tiny")
data = taskvec.load_data("scenes", split="train")
vectors = taskvec.find(model, data, task="segmentation")
vectors.save_pretrained("vectors/segmentation")
mask = vectors(image)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskvec.analysis import taskness
    from taskvec.arithmetic import combine
    from taskvec.data import load_data
    from taskvec.data.arrays import pairs
    from taskvec.evaluation import Evaluation, evaluate
    from taskvec.finding import FindSettings, SearchInterrupted, find, find_all
    from taskvec.heads import Means, Patch, recording, run
    from taskvec.library import Library
    from taskvec.metrics import Metric
    from taskvec.models import load_model
    from taskvec.presets import PRESETS
    from taskvec.prompts import draw_prompts, plan_prompts
    from taskvec.refining import RefineSettings, refine
    from taskvec.search import ReinforceSettings, RelaxedSettings
    from taskvec.sites import Site
    from taskvec.statistics import Statistics, collect
    from taskvec.tasks import TASKS, Task
    from taskvec.vectors import TaskVectors

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "TASKS",
    "Evaluation",
    "FindSettings",
    "Library",
    "Means",
    "Metric",
    "Patch",
    "RefineSettings",
    "ReinforceSettings",
    "RelaxedSettings",
    "SearchInterrupted",
    "Site",
    "Statistics",
    "Task",
    "TaskVectors",
    "collect",
    "combine",
    "draw_prompts",
    "evaluate",
    "find",
    "find_all",
    "load_data",
    "load_model",
    "pairs",
    "plan_prompts",
    "recording",
    "refine",
    "run",
    "taskness",
]

# Imported when they are first asked for: importing PyTorch takes a second or more, and the command listens to Ctrl-C
# before that.
_HOMES = {
    "PRESETS": "presets",
    "TASKS": "tasks",
    "Evaluation": "evaluation",
    "FindSettings": "finding",
    "Library": "library",
    "Means": "heads",
    "Metric": "metrics",
    "Patch": "heads",
    "RefineSettings": "refining",
    "ReinforceSettings": "search",
    "RelaxedSettings": "search",
    "SearchInterrupted": "finding",
    "Site": "sites",
    "Statistics": "statistics",
    "Task": "tasks",
    "TaskVectors": "vectors",
    "collect": "statistics",
    "combine": "arithmetic",
    "draw_prompts": "prompts",
    "evaluate": "evaluation",
    "find": "finding",
    "find_all": "finding",
    "load_data": "data",
    "load_model": "models",
    "pairs": "data.arrays",
    "plan_prompts": "prompts",
    "recording": "heads",
    "refine": "refining",
    "run": "heads",
    "taskness": "analysis",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
