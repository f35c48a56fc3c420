"""Find and use visual task vectors.

model = taskvec.load_model("tiny")
data = taskvec.load_data("scenes", split="train")
vectors = taskvec.find(model, data, task="segmentation")
vectors.save_pretrained("vectors/segmentation")
mask = vectors(image)
"""

from taskvec.analysis import taskness
from taskvec.data import load_data
from taskvec.finding import FindSettings, SearchInterrupted, find, find_all
from taskvec.heads import Patch
from taskvec.models import load_model
from taskvec.presets import PRESETS
from taskvec.prompts import draw_prompts
from taskvec.search import ReinforceSettings, RelaxedSettings
from taskvec.statistics import Statistics, collect
from taskvec.tasks import TASKS
from taskvec.vectors import TaskVectors

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "TASKS",
    "FindSettings",
    "Patch",
    "ReinforceSettings",
    "RelaxedSettings",
    "SearchInterrupted",
    "Statistics",
    "TaskVectors",
    "collect",
    "draw_prompts",
    "find",
    "find_all",
    "load_data",
    "load_model",
    "taskness",
]
