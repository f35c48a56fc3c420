"""Mean and variance of every head output over the prompts of a task, in one pass and in constant memory.

Batches are merged by Chan, Golub and LeVeque's formula, so that neither batch size nor the number of processes matters.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from taskvec.files import check_regular, replacing
from taskvec.heads import HeadOutput, Means, intercept
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Prompts

BATCH = 32

HeadField = Float[Tensor, "layers heads tokens head_dim"]


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
    """Statistics of one task: by stack float32 [layers, heads, canvas tokens, head_dim], NaN at tokens not seen.

    ``variance`` is that over the prompts (divided by their number). ``prompts`` says which prompts they were.
    """

    count: int
    mean: dict[str, HeadField]
    variance: dict[str, HeadField]
    prompts: dict[str, object]


@dataclass(frozen=True)
class Statistics:
    """Statistics of several tasks with one model."""

    tasks: dict[str, TaskStatistics]
    model_fingerprint: str

    def means(self, names: Sequence[str]) -> Means:
        """The means of these tasks, stacked in this order, as a patch takes them; ValueError for one not collected."""
        missing = [name for name in names if name not in self.tasks]
        if missing:
            raise ValueError(f"no statistics of {', '.join(missing)}: there are {', '.join(self.tasks)}")
        chosen = [self.tasks[name].mean for name in names]
        return {stack: torch.stack([mean[stack] for mean in chosen]) for stack in chosen[0]}

    def save(self, path: Path) -> None:
        """Write one safetensors file, replacing what was there."""
        tensors, records = {}, {}
        for name, task in self.tasks.items():
            records[name] = {"count": task.count, "prompts": task.prompts}
            for stack in task.mean:
                tensors[f"{name}.{stack}.mean"] = task.mean[stack].contiguous()
                tensors[f"{name}.{stack}.variance"] = task.variance[stack].contiguous()
        metadata = {"model_fingerprint": self.model_fingerprint, "tasks": json.dumps(records)}
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata)

    @classmethod
    def load(cls, path: Path) -> "Statistics":
        """Read what ``save`` wrote; ValueError where the file is something else."""
        check_regular(path)
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            tasks = {}
            for name, record in json.loads(metadata["tasks"]).items():
                own = [(*key.rsplit(".", 2), tensor) for key, tensor in tensors.items()]  # a name may have dots in it
                fields = {
                    kind: {stack: tensor for task, stack, of, tensor in own if (task, of) == (name, kind)}
                    for kind in ("mean", "variance")
                }
                tasks[name] = TaskStatistics(record["count"], fields["mean"], fields["variance"], record["prompts"])
            return cls(tasks, metadata["model_fingerprint"])
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a file of statistics: {error}") from error


@torch.inference_mode()
def collect(
    model: MaeVqgan, prompts: Iterable[Prompts], on_batch: Callable[[str, int], None] = lambda task, count: None
) -> Statistics:
    """Mean and variance of every head output in one-shot runs (Section 2.1, equation 3), one entry a task.

    ``on_batch(task, prompts done)`` is called after every batch.
    """
    view = model.view("one_shot")
    tasks = {}
    for batch_of_task in prompts:
        name = batch_of_task.task.name
        if name in tasks:
            raise ValueError(f"there are two sets of prompts of {name}: statistics of one task come from one set")
        moments: dict[tuple[str, int], Moments] = {}

        def add(stack: str, layer: int, z: HeadOutput, moments: dict[tuple[str, int], Moments] = moments) -> None:
            batch = Moments.of(z)
            moments[stack, layer] = moments[stack, layer] + batch if (stack, layer) in moments else batch

        canvases = batch_of_task.canvases(model.geometry)
        done = 0
        for chunk in canvases.split(BATCH):
            with intercept(model, add):
                model(chunk.to(model.device), view)
            done += len(chunk)
            on_batch(name, done)
        fields: dict[str, dict[str, HeadField]] = {"mean": {}, "variance": {}}
        for stack, projections in model.projections().items():
            layers = [moments[stack, layer] for layer in range(len(projections.modules))]
            for kind, field in fields.items():
                values = torch.stack([getattr(layer, kind) for layer in layers])
                field[stack] = _on_canvas(values, view.tokens(stack), model.geometry.tokens)
        record = {
            **batch_of_task.origin,
            "support": batch_of_task.support_names,
            "query": batch_of_task.query_names,
            "images": sorted({*batch_of_task.support_images, *batch_of_task.query_images}),
        }
        tasks[name] = TaskStatistics(done, fields["mean"], fields["variance"], record)
    return Statistics(tasks, model.fingerprint())


def _on_canvas(values: Float[Tensor, "layers seen heads head_dim"], tokens: Tensor, size: int) -> HeadField:
    """Values of the seen tokens at their canvas places, NaN elsewhere."""
    layers, _, heads, width = values.shape
    field = torch.full((layers, heads, size, width), torch.nan)
    field[:, :, tokens.cpu()] = values.transpose(1, 2).float().cpu()
    return field
