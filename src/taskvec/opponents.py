"""The strong ways to prompt that task vectors are to be judged by: one example at random is the weakest of them.

``nearest`` shows the example whose input is nearest to the query's by the model's own features (Zhang, Zhou and Liu,
2023), ``several`` takes the mean of what the model says with one example after another, and ``arrangements`` that of
every way to lay out the canvas (Sun et al., 2023). Supports are of the examples that random ones are drawn from.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from taskvec.answering import Answering
from taskvec.data.examples import DataSet
from taskvec.models.interface import Images, Items, PromptedModel
from taskvec.prompts import Prompts, choices_of, source_of, with_supports
from taskvec.tasks import Task

SEVERAL = 5  # supports, where no number is given
NEAREST_OF = 512  # examples of a class that are compared with a query, spread evenly over those that there are
TOGETHER = 64  # images that features are computed of
NAMES = ("nearest", "nearest:K", "several:K", "arrangements")

Indices = Int[np.ndarray, " n"]


def is_opponent(name: str) -> bool:
    """Whether a method of this name is one of these, if perhaps with a number that there cannot be."""
    return name.partition(":")[0] in ("nearest", "several") or name == "arrangements"


def opponent_named(model: PromptedModel, name: str, data: DataSet | None = None) -> Answering:
    """``nearest``, ``nearest:K`` and ``several:K`` of supports out of ``data``, or ``arrangements``.

    ``several`` alone is of 5 supports. Raises ValueError for another name, without the data where they are needed, and
    for a model with a single arrangement.
    """
    kind, colon, number = name.partition(":")
    if name == "arrangements":
        return every_arrangement(model)
    if kind not in ("nearest", "several"):
        raise ValueError(f"there is no opponent {name!r}: expected one of {', '.join(NAMES)}")
    if colon and not (number.isdecimal() and int(number) > 0):
        raise ValueError(f"{name}: expected a number of supports from 1 on after {kind}:")
    if data is None:
        raise ValueError(f"{name} chooses supports: the data that prompts are drawn from are needed")
    if kind == "nearest":
        return nearest(model, data, int(number or 1))
    return several(model, data, int(number or SEVERAL))


def several(model: PromptedModel, data: DataSet, count: int = SEVERAL) -> Answering:
    """One answer from the mean of runs with ``count`` supports each: the prompt's own, and others at random.

    What is drawn depends on query and support alone. Where there are fewer examples, they come again.
    """
    pool = Pool(data)

    def supports(prompts: Prompts) -> Int[np.ndarray, "n supports"]:
        rows = []
        for query, own in zip(pool.numbers(prompts), pool.numbers(prompts, "support"), strict=True):
            choices = pool.choices(int(query))
            others = np.random.default_rng([int(query), int(own)]).permutation(choices[choices != own])
            rows.append(np.resize([own, *others], count))
        return np.array(rows)

    def shown(prompts: Prompts) -> list[Prompts]:
        chosen = supports(prompts)
        return [prompts, *(pool.shown(prompts, own) for own in chosen.T[1:])]

    return _averaged(model, shown)


def nearest(model: PromptedModel, data: DataSet, count: int = 1) -> Answering:
    """One answer from the mean of runs with each of the ``count`` examples that are nearest to the query.

    Near are inputs whose features have the largest cosine, of the first ``NEAREST_OF`` of a class at most.
    """
    pool = Pool(data)
    near = Nearness(model, pool)
    return _averaged(model, lambda prompts: [pool.shown(prompts, own) for own in near.supports(prompts, count).T])


def every_arrangement(model: PromptedModel) -> Answering:
    """One answer from the mean of runs with the prompt's images in every arrangement that the model has.

    ValueError for a model with a single one.
    """
    if model.arrangements == 1:
        raise ValueError(f"a model of the type {model.model_type} has a single arrangement of a prompt's images")

    def outputs(prompts: Prompts) -> tuple[Tensor, Items]:
        return model.mean_outputs(model.arranged(prompts)), model.prepare(prompts, "one_shot")

    return Answering(model, outputs)


def _averaged(model: PromptedModel, shown: Callable[[Prompts], Sequence[Prompts]]) -> Answering:
    def outputs(prompts: Prompts) -> tuple[Tensor, Items]:
        items = [model.narrow(model.prepare(each, "one_shot"), answers=True) for each in shown(prompts)]
        return model.mean_outputs(model.run(each) for each in items), items[0]

    return Answering(model, outputs)


class Pool:
    """The examples of a data set as supports of prompts that were drawn from it.

    A hole is where it is in an example, whatever prompt shows it.
    """

    def __init__(self, data: DataSet):
        every = np.arange(len(data))
        self.data = data
        self.choices = choices_of(data)
        self.holes: Float[np.ndarray, "n 2"] = np.random.default_rng(0).random((len(data), 2))
        self._number = dict(zip(zip(data.names(every), data.images_of(every), strict=True), every, strict=True))

    def numbers(self, prompts: Prompts, side: str = "query") -> Indices:
        """Which examples the queries are, or the supports; ValueError where the prompts are not of these data."""
        names = zip(getattr(prompts, f"{side}_names"), getattr(prompts, f"{side}_images"), strict=True)
        try:
            return np.array([self._number[name] for name in names], np.int64)
        except KeyError as error:
            raise ValueError(
                f"the {side} {error.args[0][0]} is not in the data that supports are chosen from"
            ) from None

    def shown(self, prompts: Prompts, supports: Indices) -> Prompts:
        """The queries with these examples as their supports."""
        return with_supports(prompts, self.data, supports, self.holes[supports])


class Nearness:
    """Which examples of a pool are near to queries, by features of a model, each computed once a task."""

    def __init__(self, model: PromptedModel, pool: Pool):
        self._model, self._pool = model, pool
        self._features: dict[Task, Float[Tensor, "n width"]] = {}  # NaN where not computed yet
        classes = pool.data.class_of(np.arange(len(pool.data)))
        self._compared = np.zeros(len(classes), np.bool_)
        for one_class in np.unique(classes):
            members = np.flatnonzero(classes == one_class)
            self._compared[members[np.linspace(0, len(members) - 1, min(NEAREST_OF, len(members))).astype(int)]] = True

    def candidates(self, query: int) -> Indices:
        """What is compared with a query: of the supports that it may have, those that are compared with any."""
        choices = self._pool.choices(query)
        compared = choices[self._compared[choices]]
        return compared if len(compared) else choices[:NEAREST_OF]

    def supports(self, prompts: Prompts, count: int) -> Int[np.ndarray, "n supports"]:
        """The nearest of every query, the very nearest first; where there are fewer, they come again."""
        candidates = [self.candidates(int(query)) for query in self._pool.numbers(prompts)]
        own = self._of(prompts.query_input)
        known = self._features.setdefault(prompts.task, torch.full((len(self._pool.data), own.shape[1]), torch.nan))
        wanted = np.unique(np.concatenate(candidates))
        missing = torch.from_numpy(wanted[known[wanted, 0].isnan().numpy()])
        for some in missing.split(TOGETHER) if len(missing) else ():
            known[some] = self._of_examples(prompts, some.numpy())
        rows = []
        for feature, choices in zip(own, candidates, strict=True):
            order = (known[choices] @ feature).argsort(descending=True, stable=True)[:count]
            rows.append(np.resize(choices[order.numpy()], count))
        return np.array(rows)

    def _of_examples(self, prompts: Prompts, examples: Indices) -> Float[Tensor, "n width"]:
        loaded = self._pool.data.load(examples, prompts.query_input.shape[1])
        inputs = prompts.task.input(source_of(loaded, self._pool.holes[examples]))
        return self._of(np.ascontiguousarray(inputs))

    def _of(self, images: Images) -> Float[Tensor, "n width"]:
        """Of length 1, so that products are cosines."""
        return F.normalize(self._model.features(images).cpu(), dim=1)
