"""Mean and variance of every head output over the prompts of a task, in one pass and in constant memory.

Batches are merged by Chan, Golub and LeVeque's formula, so that neither batch size nor the number of processes matters.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from taskvec import digests
from taskvec.files import check_regular, replacing
from taskvec.heads import HeadOutput, Means, intercept
from taskvec.models import check_model
from taskvec.models.interface import Items, Locations, PromptedModel
from taskvec.models.pretrained import parse
from taskvec.prompts import Prompts
from taskvec.provenance import Drawn, Former, former_drawn

BATCH = 32
FORMAT = 2  # 1, which had no number, had no digest and named images

HeadField = Float[Tensor, "layers heads places head_dim"]


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations of samples of one shape, in float64."""

    count: int
    mean: Float[Tensor, "*shape"]
    squares: Float[Tensor, "*shape"]

    @classmethod
    def of(cls, samples: Float[Tensor, "n *shape"]) -> "Moments":
        """Moments along the first axis, which must not be empty."""
        # The passes over the samples are in their own precision, which deviations from a near mean lose nothing in;
        # what rounding left in that mean is then taken off, so that the moments are as those of doubles.
        near = samples.mean(0)
        deviations = samples - near
        error = deviations.mean(0).double()
        squares = deviations.square_().sum(0).double() - len(samples) * error.square()
        return cls(len(samples), near.double() + error, squares.clamp_(min=0))

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of both sets of samples together, as of two batches or two processes."""
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + shift.square() * (self.count * other.count / count))

    @property
    def variance(self) -> Float[Tensor, "*shape"]:
        """Divided by the number of samples."""
        return self.squares / self.count


@dataclass(frozen=True)
class TaskStatistics:
    """Statistics of one task: by stack float32 [layers, heads, places, head_dim], NaN at places not seen.

    ``variance`` is that over the prompts (divided by their number). ``prompts`` says which prompts they were, as far as
    a file of format 1 does.
    """

    count: int
    mean: dict[str, HeadField]
    variance: dict[str, HeadField]
    prompts: Drawn | Former


@dataclass(frozen=True)
class Statistics:
    """Statistics of several tasks with one model, of which ``model`` is the name, if it has one."""

    tasks: dict[str, TaskStatistics]
    model_fingerprint: str
    model: str | None = None

    def means(self, names: Sequence[str]) -> Means:
        """The means of these tasks, stacked in this order, as a patch takes them; ValueError for one not collected."""
        missing = [name for name in names if name not in self.tasks]
        if missing:
            raise ValueError(f"no statistics of {', '.join(missing)}: there are {', '.join(self.tasks)}")
        chosen = [self.tasks[name].mean for name in names]
        return Means(
            {stack: torch.stack([mean[stack] for mean in chosen]) for stack in chosen[0]}, self.model_fingerprint
        )

    def of(self, model: PromptedModel) -> "Statistics":
        """These statistics, which know the model by its present fingerprint.

        Raises ValueError where they are of another model, or not of the shapes of its head outputs.
        """
        check_model(model, "the statistics", self.model, self.model_fingerprint)
        shapes = {
            stack: (layout.layers, layout.heads, len(layout.places), layout.head_dim)
            for stack, layout in model.stacks.items()
        }
        for name, task in self.tasks.items():
            found = {stack: tuple(mean.shape) for stack, mean in task.mean.items()}
            if found != shapes:
                raise ValueError(f"the statistics of {name} have shapes {found}, expected {shapes} as the model has")
        return replace(self, model_fingerprint=model.fingerprint(), model=self.model or model.name)

    def save(self, path: Path) -> None:
        """Write one safetensors file, replacing what was there."""
        tensors, records = {}, {}
        for name, task in self.tasks.items():
            records[name] = {"count": task.count, "prompts": digests.plain(asdict(task.prompts))}
            for stack in task.mean:
                tensors[f"{name}.{stack}.mean"] = task.mean[stack].contiguous()
                tensors[f"{name}.{stack}.variance"] = task.variance[stack].contiguous()
        metadata = {"format": str(FORMAT), "model_fingerprint": self.model_fingerprint, "tasks": json.dumps(records)}
        if self.model is not None:
            metadata["model"] = self.model
        with replacing(path) as temporary:
            digests.save_tensors(tensors, temporary, {**metadata, "digest": digests.of_tensors(tensors, metadata)})

    @classmethod
    def load(cls, path: Path) -> "Statistics":
        """Read what ``save`` wrote; ValueError where the file is something else or damaged.

        Warns where it is of the format that had no digest which could tell damage.
        """
        path = Path(path)
        check_regular(path)
        try:
            with safe_open(path, "pt") as file:
                metadata = dict(file.metadata() or {})
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            version = metadata.get("format")
            if version not in (None, str(FORMAT)):
                raise ValueError(f"it has format {version}, expected {FORMAT}")
            if version is not None and metadata.pop("digest", None) != digests.of_tensors(tensors, metadata):
                raise ValueError("it is damaged or was changed, as its checksum is another")
            records = json.loads(metadata["tasks"])
            tasks = {name: _read_task(name, record, tensors, version, path) for name, record in records.items()}
            if not tasks or len(tensors) != sum(2 * len(task.mean) for task in tasks.values()):
                raise ValueError("its tensors are not a mean and a variance for every task and stack")
            fingerprint = metadata["model_fingerprint"]
        except FileNotFoundError:
            raise
        except Exception as error:  # of the file's reader, or of JSON: whatever a damaged file brings about
            problem = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise ValueError(f"{path} is not a file of statistics: {problem.removeprefix(f'{path}: ')}") from error
        if version is None:
            warnings.warn(
                f"{path} holds statistics of format 1, without checksums and with images by name: collect them again "
                "to search on a folder or on Pascal-5i, or save them again, with Statistics.load(path).save(path)",
                stacklevel=2,
            )
        return cls(tasks, fingerprint, metadata.get("model"))


def _read_task(
    name: str, record: Any, tensors: Mapping[str, Tensor], version: str | None, path: Path
) -> TaskStatistics:
    """One task of a file; ValueError where a tensor or the record is not as ``Statistics.save`` writes it."""
    owned = [(*key.rsplit(".", 2), tensor) for key, tensor in tensors.items()]  # a name may have dots in it
    mean, variance = (
        {stack: tensor for task, stack, of, tensor in owned if (task, of) == (name, kind)}
        for kind in ("mean", "variance")
    )
    if not mean or mean.keys() != variance.keys():
        raise ValueError(f"{name} has means of {', '.join(mean)} and variances of {', '.join(variance)}")
    for stack in mean:
        for tensor in (mean[stack], variance[stack]):
            shape = tuple(tensor.shape)
            if tensor.dtype != torch.float32 or len(shape) != 4 or shape != tuple(mean[stack].shape):
                raise ValueError(
                    f"{name}.{stack} is of {tensor.dtype} and shape {shape}, expected float32 "
                    "[layers, heads, tokens, head_dim], mean and variance alike"
                )
            unseen = tensor.isnan()
            if tensor.isinf().any() or not torch.equal(unseen.any(-1), unseen.all(-1)):
                raise ValueError(f"{name}.{stack} holds values that are not finite")
        if not torch.equal(mean[stack].isnan(), variance[stack].isnan()) or (variance[stack] < 0).any():
            raise ValueError(f"{name}.{stack} holds variances that do not belong to its means")
    count = record["count"]
    if type(count) is not int or count < 1:
        raise ValueError(f"{name} is of {count} prompts, expected 1 or more")
    if version is not None:
        kind: Any = Drawn | Former
        return TaskStatistics(count, mean, variance, parse(kind, record["prompts"], path))
    return TaskStatistics(count, mean, variance, former_drawn(record["prompts"], count))


@torch.no_grad()
def collect(
    model: PromptedModel, prompts: Iterable[Prompts], on_batch: Callable[[str, int], None] = lambda task, count: None
) -> Statistics:
    """Mean and variance of every head output in one-shot runs (Section 2.1, equation 3), one entry a task.

    ``on_batch(task, prompts done)`` is called after every batch. Raises ValueError where a task comes twice, or where a
    mean or a variance is not finite.
    """
    tasks = {}
    for batch_of_task in prompts:
        name = batch_of_task.task.name
        if name in tasks:
            raise ValueError(f"there are two sets of prompts of {name}: statistics of one task come from one set")
        moments: dict[tuple[str, int], Moments] = {}

        present: dict[str, Tensor] = {}
        done = 0
        for start in range(0, len(batch_of_task), BATCH):
            items = model.prepare(batch_of_task[start : start + BATCH], "one_shot")
            for stack, own in items.places.items():
                present[stack] = _present(own, stack, name, present.get(stack))

            def add(stack: str, layer: int, z: HeadOutput, items: Items = items) -> None:
                batch = Moments.of(_at_places(z, items.places[stack]))
                moments[stack, layer] = moments[stack, layer] + batch if (stack, layer) in moments else batch  # noqa: B023

            with intercept(model, add):
                model.run(items)
            done += len(items)
            on_batch(name, done)
        fields: dict[str, dict[str, HeadField]] = {"mean": {}, "variance": {}}
        for stack, layout in model.stacks.items():
            layers = [moments[stack, layer] for layer in range(layout.layers)]
            for kind, field in fields.items():
                values = torch.stack([getattr(layer, kind) for layer in layers]).float()
                if not (finite := values.isfinite().flatten(1).all(1)).all():
                    layer = int((~finite).nonzero()[0])
                    raise ValueError(
                        f"the {kind} of {name}'s head outputs in layer {layer} of the {stack} is not finite: the model "
                        "gives NaN or infinite values there; look at its weights"
                    )
                field[stack] = _at_all_places(values, present[stack], len(layout.places))
        record = Drawn.of(batch_of_task)
        tasks[name] = TaskStatistics(done, fields["mean"], fields["variance"], record)
    return Statistics(tasks, model.fingerprint(), model.name)


def _present(own: Locations, stack: str, task: str, before: Tensor | None) -> Int[Tensor, " present"]:
    """The places that the runs of a task have; ValueError where some runs have one and others do not."""
    there = own.where >= 0
    places = there[0].nonzero()[:, 0]
    if not (there == there[0]).all() or (before is not None and not torch.equal(before, places)):
        raise ValueError(f"some prompts of {task} have places in the {stack} that others have not: no mean is of all")
    return places


def _at_places(z: HeadOutput, own: Locations) -> HeadOutput:
    """Head outputs of the places that there are, ascending."""
    there = own.where[0] >= 0
    if len(own.where) == 1:
        tokens = own.where[0, there]
        return z if torch.equal(tokens, torch.arange(z.shape[1])) else z[:, tokens.to(z.device)]
    return z[torch.arange(len(z), device=z.device)[:, None], own.where[:, there].to(z.device)]


def _at_all_places(
    values: Float[Tensor, "layers present heads head_dim"], present: Int[Tensor, " present"], places: int
) -> HeadField:
    """Values of the places that there are, NaN elsewhere."""
    layers, _, heads, width = values.shape
    field = torch.full((layers, heads, places, width), torch.nan)
    field[:, :, present] = values.transpose(1, 2).cpu()
    return field
