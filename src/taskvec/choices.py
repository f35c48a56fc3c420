"""What users can choose from by name, and what is taken where they choose nothing.

All that the command's help and completion need: this imports neither PyTorch nor what the names stand for.
"""

from collections import UserDict
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from taskvec.data.examples import DataSet
    from taskvec.finding import FindSettings
    from taskvec.metrics import Metric
    from taskvec.search.settings import SearchSettings
    from taskvec.tasks import Task

T = TypeVar("T")


class Registry(UserDict[str, T]):
    """Objects by their names, of which each is imported when it is first asked for.

    It is made of places, such as ``taskvec.tasks:SEGMENTATION``.
    """

    def __init__(self, places: Mapping[str, str]):
        super().__init__()
        self.data: dict[str, Any] = {name: _Place(place) for name, place in places.items()}

    def __getitem__(self, name: str) -> T:
        found = self.data[name]
        if isinstance(found, _Place):
            module, _, attribute = found.partition(":")
            found = self.data[name] = getattr(import_module(module), attribute)
        return found


class _Place(str):
    """Where an object is that was not asked for yet."""

    __slots__ = ()


SHIPPED = ("tiny", "small")  # models
MADE_FOR = {"tiny": "drawn scenes", "small": "photographs"}  # what they were trained on

TASKS: Registry["Task"] = Registry(
    {
        "segmentation": "taskvec.tasks:SEGMENTATION",
        "low_light": "taskvec.tasks:LOW_LIGHT",
        "inpainting": "taskvec.tasks:INPAINTING",
        "colorization": "taskvec.tasks:COLORIZATION",
        "identity": "taskvec.tasks:IDENTITY",
    }
)

# those that a task can be scored by
_OF_IMAGES = {"iou": "taskvec.metrics:IOU", "mse": "taskvec.metrics:MSE"}
IMAGE_METRICS: Registry["Metric"] = Registry(_OF_IMAGES)
METRICS: Registry["Metric"] = Registry({**_OF_IMAGES, "top1": "taskvec.metrics:TOP1"})

DATA_SETS: Registry[Callable[..., "DataSet"]] = Registry(
    {
        "scenes": "taskvec.data.scenes:Scenes",
        "pictures": "taskvec.data.pictures:Pictures",
        "pascal": "taskvec.data.pascal:Pascal",
        "folder": "taskvec.data.folder:Folder",
        "pairs": "taskvec.data.pairs:WordPairs",
        "relations": "taskvec.data.relations:named_relation",
    }
)

SEARCHES: Registry[type["SearchSettings"]] = Registry(
    {
        "reinforce": "taskvec.search.reinforce:ReinforceSettings",
        "relaxed": "taskvec.search.relaxed:RelaxedSettings",
        "attribution": "taskvec.search.attribution:AttributionSettings",
        "cma": "taskvec.search.cma:CmaSettings",
        "greedy": "taskvec.search.greedy:GreedySettings",
    }
)

PRESETS: Registry["FindSettings"] = Registry(
    {
        "paper": "taskvec.presets:PAPER",
        "official-code": "taskvec.presets:OFFICIAL_CODE",
        "best": "taskvec.presets:BEST",
        "language": "taskvec.presets:LANGUAGE",
    }
)
DEFAULT, DEFAULT_OF_TEXTS = "best", "language"  # presets of ``find``

Granularity = Literal["token", "quadrant", "head", "layer"]
GRANULARITIES: tuple[Granularity, ...] = ("token", "quadrant", "head", "layer")

ObjectiveKind = Literal["pixel", "token"]
OBJECTIVES: tuple[ObjectiveKind, ...] = ("pixel", "token")

NonFinite = Literal["refuse", "leave_out"]
NON_FINITE: tuple[NonFinite, ...] = ("refuse", "leave_out")

Sampling = Literal["balanced", "official"]
SAMPLINGS: tuple[Sampling, ...] = ("balanced", "official")

AnswerScope = Literal["first", "whole"]
ANSWER_SCOPES: tuple[AnswerScope, ...] = ("first", "whole")

DecodingKind = Literal["likeliest", "expected"]
DECODINGS: tuple[DecodingKind, ...] = ("likeliest", "expected")

Layout = Literal["few_shot", "official"]  # of Pascal-5i's lists
LAYOUTS: tuple[Layout, ...] = ("few_shot", "official")
FOLDS = 4  # of Pascal-5i, and of scenes

TEMPLATES = {"qa": "Q: {input}\nA: {output}", "colon": "{input}:{output}"}  # of word pairs

MAX_PIXELS = 100_000_000  # of an image that is decoded
QUERIES = 200  # that ``find`` judges by
ANSWER_TOKENS = 16  # of a text, at most
SHARD = 1000  # files whose results are in one shard
