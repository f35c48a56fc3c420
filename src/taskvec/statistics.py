"""Mean and variance of every head output over the prompts of a task, in one pass and in constant memory.

Prompts are added one by one to the moments of their block (Welford, 1962), and blocks, which are the same everywhere,
one by one to those of all (Chan, Golub and LeVeque, 1979): neither the rows of a pass nor processes change a bit.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from torch import Tensor

from taskvec import digests
from taskvec.files import check_regular, replacing
from taskvec.heads import HeadOutput, Means, intercept
from taskvec.memory import Passes, rows_of_a_pass
from taskvec.models import check_model
from taskvec.models.interface import Items, Locations, PromptedModel
from taskvec.models.pretrained import parse
from taskvec.processes import Processes, current
from taskvec.progress import search_progress
from taskvec.prompts import AnyPrompts, Prompts
from taskvec.provenance import Drawn, Former, former_drawn
from taskvec.rounds import in_rounds
from taskvec.search.checkpoint import Checkpoint, State

_log = logging.getLogger(__name__)

BATCH = 32  # prompts of a block, which is what processes share and a pass has at most
FIELDS = ("mean", "variance")
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
        nothing = torch.zeros(samples.shape[1:], dtype=torch.float64, device=samples.device)
        return cls(0, nothing, nothing.clone()).updated(samples)

    def updated(self, samples: Float[Tensor, "n *shape"]) -> "Moments":
        """Moments of these samples too, in the memory of the former ones, which are lost.

        They are added one by one: any other sum would depend on how many come together.
        """
        count, mean, squares = self.count, self.mean, self.squares
        deviation = torch.empty_like(mean)
        for count, sample in enumerate(samples.unbind(), self.count + 1):
            torch.sub(sample, mean, out=deviation)  # in double precision, as means are
            mean.add_(deviation, alpha=1 / count)
            squares.addcmul_(deviation, deviation, value=(count - 1) / count)
        return Moments(count, mean, squares)

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of both sets of samples together, as of two batches or two processes."""
        count = self.count + other.count
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + shift.square() * (self.count * other.count / count))

    def cpu(self) -> "Moments":
        """The same on the CPU, where sums are the same whatever the device."""
        return replace(self, mean=self.mean.cpu(), squares=self.squares.cpu())

    @property
    def variance(self) -> Float[Tensor, "*shape"]:
        """Divided by the number of samples."""
        return self.squares / self.count


@dataclass(frozen=True, repr=False)
class TaskStatistics:
    """Statistics of one task: by stack float32 [layers, heads, places, head_dim], NaN at places not seen.

    ``variance`` is that over the prompts (divided by their number). ``prompts`` says which prompts they were, as far as
    a file of format 1 does.
    """

    count: int
    mean: dict[str, HeadField]
    variance: dict[str, HeadField]
    prompts: Drawn | Former

    def __repr__(self) -> str:
        shapes = ", ".join(f"{stack} {list(mean.shape)}" for stack, mean in self.mean.items())
        return f"TaskStatistics({self.count} prompts: {shapes})"


@dataclass(frozen=True, repr=False)
class Statistics:
    """Statistics of several tasks with one model, of which ``model`` is the name, if it has one."""

    tasks: dict[str, TaskStatistics]
    model_fingerprint: str
    model: str | None = None

    def __repr__(self) -> str:
        tasks = ", ".join(f"{name} of {own.count} prompts" for name, own in self.tasks.items())
        return f"Statistics({tasks}; model={self.model or self.model_fingerprint!r})"

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
        _log.info("statistics of %s from %s", ", ".join(tasks), path)
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


def passes_of(model: PromptedModel) -> Passes:
    """The passes in which the prompts of a block are run."""
    cost = model.cost("one_shot", answers=False, gradient=False)
    return Passes(model.device, min(BATCH, rows_of_a_pass(model.device, cost)))


@torch.no_grad()
def collect(
    model: PromptedModel,
    prompts: Iterable[AnyPrompts],
    on_batch: Callable[[str, int], None] = lambda task, count: None,
    *,
    passes: Passes | None = None,
    checkpoint: Checkpoint | None = None,
    progress: bool = False,
) -> Statistics:
    """Mean and variance of every head output in one-shot runs (Section 2.1, equation 3), one entry a task.

    ``on_batch(task, prompts done)`` is called after every block of prompts. ``passes`` are by default those of
    ``passes_of(model)``, and say afterwards whether memory sufficed for their rows; results do not depend on them.
    Several processes share the blocks, and all of them get the same statistics. ``checkpoint`` lets an interrupted
    collection go on, after the prompts that were done, which are taken to be the same: call ``checkpoint.forget()``
    when the statistics are safe. ``progress`` shows a bar on standard error, or in a notebook.

    Raises ValueError where a task comes twice, where a mean or a variance is not finite, or where the checkpoint
    belongs to another collection; MemoryError where memory does not suffice for a single prompt. Ctrl-C and SIGTERM
    take effect between blocks.
    """
    collection = _Collection(model, passes or passes_of(model), checkpoint)
    with search_progress(shown=progress and current().first) as shown:
        bar = shown.add_task("statistics", total=None, status="")

        def each_batch(task: str, done: int) -> None:
            shown.update(bar, completed=done, status=task)
            on_batch(task, done)

        for of_task in prompts:
            name = of_task.task.name
            if name in collection.tasks:
                raise ValueError(f"there are two sets of prompts of {name}: statistics of one task come from one set")
            shown.update(bar, total=len(of_task))
            collection.add(of_task, each_batch)
    return Statistics(collection.tasks, model.fingerprint(), model.name)


class _Collection:
    """Statistics that are being collected, beginning with those that a checkpoint has."""

    def __init__(self, model: PromptedModel, passes: Passes, checkpoint: Checkpoint | None) -> None:
        self.model, self.passes, self.processes, self.checkpoint = model, passes, current(), checkpoint
        self.tasks: dict[str, TaskStatistics] = {}
        self.facts: dict[str, Any] = {}  # of the tasks that are done
        self.identity = {"model": model.fingerprint(), "block": BATCH}
        kept = None if checkpoint is None else checkpoint.recall(self.identity)
        self.kept: State = kept or ({}, {})

    def add(self, prompts: AnyPrompts, on_batch: Callable[[str, int], None]) -> None:
        """Statistics of a task, or what is left of them."""
        record, blocks = Drawn.of(prompts), -(-len(prompts) // BATCH)
        gathered = self._begun(prompts.task.name, record)
        self.facts[prompts.task.name] = {"prompts": record.digest, "count": len(prompts)}
        if isinstance(gathered, TaskStatistics):
            self.tasks[prompts.task.name] = gathered
            on_batch(prompts.task.name, len(prompts))
            return
        if gathered.blocks:
            on_batch(gathered.task, min(BATCH * gathered.blocks, len(prompts)))

        def run(some: range) -> None:
            own = _Gathered(prompts.task.name)
            if self.processes.rank < len(some):
                start = BATCH * some[self.processes.rank]
                block = prompts[start : start + BATCH]
                own = self.passes(lambda rows: self._moments(block, rows))
            for rank in range(len(some)):
                gathered.merge(own, self.processes, rank)
            on_batch(gathered.task, min(BATCH * some.stop, len(prompts)))

        def keep(done: int) -> None:
            if self.checkpoint is not None:
                self.checkpoint.keep(self.identity, self._state(gathered, record, done))

        in_rounds(range(gathered.blocks, blocks), run, None if self.checkpoint is None else keep)
        fields = gathered.fields(self.model)
        self.tasks[gathered.task] = TaskStatistics(len(prompts), fields["mean"], fields["variance"], record)

    def _moments(self, block: Prompts, rows: int) -> "_Gathered":
        """Those of one block, in passes of so many rows."""
        own = _Gathered(block.task.name)
        for start in range(0, len(block), rows):
            items = self.model.prepare(block[start : start + rows], "one_shot")
            for stack, places in items.places.items():
                own.present[stack] = _present(places, stack, own.task, own.present.get(stack))

            def add(stack: str, layer: int, z: HeadOutput, items: Items = items) -> None:
                seen = _at_places(z, items.places[stack])
                before = own.moments.get((stack, layer))
                own.moments[stack, layer] = Moments.of(seen) if before is None else before.updated(seen)

            with intercept(self.model, add):
                self.model.run(items)
        return replace(own, moments={key: moments.cpu() for key, moments in own.moments.items()})

    def _state(self, gathered: "_Gathered", record: Drawn, blocks: int) -> State:
        """What is there: statistics of tasks that are done, and moments of one that is not."""
        tensors, facts = {}, {**self.facts}
        for name, task in self.tasks.items():
            for stack in task.mean:
                tensors[f"{name}.{stack}.mean"] = task.mean[stack]
                tensors[f"{name}.{stack}.variance"] = task.variance[stack]
        count = next(iter(gathered.moments.values())).count
        facts[gathered.task] = {"prompts": record.digest, "count": count, "blocks": blocks}
        for (stack, layer), moments in gathered.moments.items():
            tensors[f"{gathered.task}.{stack}.{layer}.mean"] = moments.mean
            tensors[f"{gathered.task}.{stack}.{layer}.squares"] = moments.squares
        for stack, present in gathered.present.items():
            tensors[f"{gathered.task}.{stack}.present"] = present
        return tensors, facts

    def _begun(self, task: str, record: Drawn) -> "TaskStatistics | _Gathered":
        """What the checkpoint has of a task; ValueError where it is of other prompts."""
        tensors, facts = self.kept
        known = facts.get(task)
        if known is None or self.checkpoint is None:
            return _Gathered(task)
        if known["prompts"] != record.digest:
            raise ValueError(
                f"{self.checkpoint.path} belongs to another {self.checkpoint.work}, of other prompts of {task}: remove "
                "it to begin anew"
            )
        stacks = self.model.stacks
        if "blocks" not in known:
            mean, variance = ({stack: tensors[f"{task}.{stack}.{kind}"] for stack in stacks} for kind in FIELDS)
            return TaskStatistics(known["count"], mean, variance, record)
        begun = _Gathered(task, known["blocks"])
        for stack, layout in stacks.items():
            begun.present[stack] = tensors[f"{task}.{stack}.present"]
            for layer in range(layout.layers):
                mean, squares = (tensors[f"{task}.{stack}.{layer}.{kind}"] for kind in ("mean", "squares"))
                begun.moments[stack, layer] = Moments(known["count"], mean, squares)
        return begun


@dataclass
class _Gathered:
    """Moments of every layer of a task's runs, with the places of each stack that they are of, after some blocks."""

    task: str
    blocks: int = 0
    moments: dict[tuple[str, int], Moments] = field(default_factory=dict)
    present: dict[str, Tensor] = field(default_factory=dict)

    def merge(self, own: "_Gathered", processes: Processes, rank: int) -> None:
        """Add the next block, which the process of this number has as its ``own``, layer by layer."""
        for stack, present in processes.told(own.present, rank).items():
            if not torch.equal(self.present.setdefault(stack, present), present):
                raise _other_places(stack, self.task)
        for key in processes.told(list(own.moments), rank):
            block = processes.told(own.moments.get(key), rank)
            self.moments[key] = self.moments[key] + block if key in self.moments else block

    def fields(self, model: PromptedModel) -> dict[str, dict[str, HeadField]]:
        """Mean and variance by stack; ValueError where one is not finite."""
        fields: dict[str, dict[str, HeadField]] = {kind: {} for kind in FIELDS}
        for stack, layout in model.stacks.items():
            layers = [self.moments[stack, layer] for layer in range(layout.layers)]
            for kind, of_stack in fields.items():
                values = torch.stack([getattr(layer, kind).float() for layer in layers])
                if not (finite := values.isfinite().flatten(1).all(1)).all():
                    layer = int((~finite).nonzero()[0])
                    raise ValueError(
                        f"the {kind} of {self.task}'s head outputs in layer {layer} of the {stack} is not finite: the "
                        "model gives NaN or infinite values there; look at its weights"
                    )
                of_stack[stack] = _at_all_places(values, self.present[stack], len(layout.places))
        return fields


def _other_places(stack: str, task: str) -> ValueError:
    return ValueError(f"some prompts of {task} have places in the {stack} that others have not: no mean is of all")


def _present(own: Locations, stack: str, task: str, before: Tensor | None) -> Int[Tensor, " present"]:
    """The places that the runs of a task have; ValueError where some runs have one and others do not."""
    there = own.where >= 0
    places = there[0].nonzero()[:, 0]
    if not (there == there[0]).all() or (before is not None and not torch.equal(before, places)):
        raise _other_places(stack, task)
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
