"""The decoding that answers are made with, temperature and level of masks, chosen on prompts that judge nothing.

A model that is unsure spreads its belief, and the mean of what it believes is grey: where a mask should be cut is not
half way between black and white then, and not the same with an example as without. Whoever compares ways of doing a
task gives each its own choice, on the same prompts.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from taskvec import evaluation
from taskvec.metrics import WHITE, Metric
from taskvec.models.interface import Decoding, DecodingKind, PromptedModel, Variant
from taskvec.prompts import Prompts

Way = Callable[[PromptedModel], evaluation.Method]  # of doing a task: its method with a variant of the model
TEMPERATURES = (1.5, 1.0, 2.0)
LEVELS = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, WHITE / 2, 160.0, 192.0)


@dataclass(frozen=True)
class Choices:
    """The decodings that may be chosen. Of a model without codes, ``kind`` and ``temperatures`` are of no matter.

    ``levels`` are those of masks; ``likeliest`` has none but one half, as in the paper. A search is at the first of the
    ``temperatures``. Raises ValueError where there is none, or a value that no decoding has.
    """

    kind: DecodingKind = "expected"
    temperatures: tuple[float, ...] = TEMPERATURES
    levels: tuple[float, ...] = LEVELS

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise ValueError("no temperature was named: expected one at least")
        for temperature in self.temperatures:
            Decoding(self.kind, temperature)
        for level in self.levels:
            Decoding(self.kind, level=level)

    @property
    def adapted(self) -> bool:
        """Whether there is a choice."""
        return self.kind != "likeliest"

    def first(self, model: PromptedModel) -> Decoding:
        """The decoding of a search, whose masks are not cut yet."""
        kind = self.kind if self.kind in model.decodings else model.decodings[0]
        return Decoding(kind, self.temperatures[0]) if kind == "expected" else Decoding(kind)

    def of(self, model: PromptedModel, metric: Metric) -> list[Decoding]:
        """All, for answers that this metric scores."""
        first = self.first(model)
        if not self.adapted:
            return [first]
        temperatures = self.temperatures if len(model.decodings) > 1 else self.temperatures[:1]
        levels = self.levels if metric.of_masks and self.levels else (None,)
        return [replace(first, temperature=each, level=level) for each in temperatures for level in levels]


def calibrate(model: PromptedModel, way: Way, prompts: Prompts, choices: Choices) -> Decoding:
    """The decoding by which a way of doing a task scores best on prompts; of equals, the first.

    ``partial(evaluation.run, view="one_shot")`` is such a way, which needs prompts with supports.
    """
    metric = prompts.task.metric
    every = choices.of(model, metric)
    if len(every) == 1:
        return every[0]
    targets = torch.from_numpy(prompts.query_output)
    ignored = None if prompts.query_ignored is None else torch.from_numpy(prompts.query_ignored)
    losses: dict[Decoding, float] = {}
    for uncut in dict.fromkeys(replace(each, level=None) for each in every):
        images = evaluation.answers(model, way(model.variant(Variant(decoding=uncut))), prompts)
        for decoding in every:
            if replace(decoding, level=None) == uncut:
                scores = metric.score(decoding.finish(images), targets, ignored)
                losses[decoding] = float(metric.loss(scores.double().mean()))
    return min(every, key=losses.__getitem__)


def calibrated(model: PromptedModel, way: Way, prompts: Prompts, choices: Choices) -> evaluation.Method:
    """The way with the decoding that is chosen so."""
    return way(model.variant(Variant(decoding=calibrate(model, way, prompts, choices))))
