"""How a model answers: runs, and their decoding, whose temperature and level are chosen on prompts that judge nothing.

A model that is unsure spreads its belief, and the mean of what it believes is grey: where a mask should be cut is not
half way between black and white then, and not the same with an example as without. Whoever compares ways of doing a
task gives each its own choice, on the same prompts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from taskvec.memory import Passes, rows_of_a_pass
from taskvec.metrics import WHITE, Metric
from taskvec.models.interface import Decoding, DecodingKind, Pixels, PromptedModel, Variant
from taskvec.prompts import AnyPrompts, Prompts

BATCH = 64  # prompts of a block, which a pass has at most
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
        temperatures = self.temperatures if first.kind == "expected" else (first.temperature,)
        levels = self.levels if metric.of_masks and self.levels else (None,)
        return [replace(first, temperature=each, level=level) for each in temperatures for level in levels]


@dataclass(frozen=True)
class Answering:
    """A way in which a model answers prompts: ``outputs`` of its runs, decoded as ``model``, a variant, does.

    ``outputs`` gives a batch of prompts' outputs and the prepared runs that they belong to.
    """

    model: PromptedModel
    outputs: Callable[[Prompts], tuple[Tensor, Any]]

    def __call__(self, prompts: Prompts) -> Pixels:
        return self.model.answers(*self.outputs(prompts))

    def decoded(self, decoding: Decoding) -> "Answering":
        """The same with another decoding."""
        return replace(self, model=self.model.variant(Variant(decoding=decoding)))

    @torch.no_grad()
    def answers(self, prompts: Prompts, decodings: Iterable[Decoding]) -> dict[Decoding, Pixels]:
        """Answers to one batch with each of these decodings, all of the same runs, on the CPU."""
        variants = {each: self.model.variant(Variant(decoding=each)) for each in decodings}
        outputs, items = self.outputs(prompts)
        return {each: variant.answers(outputs, items).cpu() for each, variant in variants.items()}


def passes_of(model: PromptedModel) -> Passes:
    """The passes in which a block of prompts is answered."""
    cost = model.cost("one_shot", answers=True, gradient=False)
    return Passes(model.device, min(BATCH, rows_of_a_pass(model.device, cost)))


Name = TypeVar("Name")


def answered(answer: Callable[[Prompts], Mapping[Name, Tensor]], block: Prompts, passes: Passes) -> dict[Name, Tensor]:
    """What a function answers to a block of prompts, by whatever names, which it is given in passes; on the CPU."""

    def run(rows: int) -> dict[Name, Tensor]:
        parts = [answer(block[start : start + rows]) for start in range(0, len(block), rows)]
        return {name: joined([part[name].cpu() for part in parts]) for name in parts[0]}

    return passes(run)


def joined(batches: Sequence[Tensor]) -> Tensor:
    """Answers of several batches as one, those of fewer tokens with -1 behind them."""
    if batches[0].ndim > 2:
        return torch.cat(list(batches))
    widest = max(each.shape[1] for each in batches)
    return torch.cat([F.pad(each, (0, widest - each.shape[1]), value=-1) for each in batches])


def calibrate(method: Answering, prompts: AnyPrompts, choices: Choices) -> Decoding:
    """The decoding with which a way of doing a task scores best on prompts; of equals, the first."""
    metric = prompts.task.metric
    every = choices.of(method.model, metric)
    if len(every) == 1:
        return every[0]
    uncut, passes = dict.fromkeys(replace(each, level=None) for each in every), passes_of(method.model)
    scores: dict[Decoding, list[Tensor]] = {each: [] for each in every}
    for start in range(0, len(prompts), BATCH):
        block = prompts[start : start + BATCH]
        images = answered(lambda some: method.answers(some, uncut), block, passes)
        targets = method.model.truths(block).cpu()
        ignored = None if block.query_ignored is None else torch.from_numpy(block.query_ignored)
        for each, known in scores.items():
            answers = each.finish(images[replace(each, level=None)])
            known.append(metric.score(answers, targets, ignored).double())
    return min(every, key=lambda each: float(metric.loss(torch.cat(scores[each]).mean())))
