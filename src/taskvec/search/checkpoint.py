"""The state of an unfinished search in a file, so that the search goes on where it was stopped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from taskvec import digests
from taskvec.files import check_regular, difference, replacing
from taskvec.processes import current

Facts = TypeVar("Facts")
State = tuple[dict[str, Tensor], dict[str, Any]]  # tensors, and facts that JSON can hold


@dataclass(frozen=True)
class Checkpoint:
    """One safetensors file, with facts as JSON in its metadata, that is there while a search is not over.

    ``of`` tells searches apart beyond what they know of themselves (method, settings, numbers of sites and items):
    ``find_sites`` adds model, data, tasks, means and its own settings. It holds what JSON can hold. Of several
    ``processes`` the first one keeps the file.
    """

    path: Path
    of: dict[str, Any] = field(default_factory=dict)
    work: str = "search"  # what is not over

    def exists(self) -> bool:
        """Whether a search that is not over, or whose result is not safe yet, has left its state."""
        return self.path.exists()

    def keep(self, search: dict[str, Any], state: State) -> None:
        """Write the state of the search that ``search`` describes."""
        if not current().first:
            return
        tensors, facts = state
        metadata = {"search": json.dumps({"of": self.of, **search}), "facts": json.dumps(facts)}
        with replacing(self.path) as path:
            save_file(tensors, path, {**metadata, "digest": digests.of_tensors(tensors, metadata)})

    def recall(self, search: dict[str, Any]) -> State | None:
        """The state that was kept, None where there is no file.

        Raises ValueError where the file is damaged, is something else or belongs to another search.
        """
        processes = current()
        return processes.firsts(self._read(search) if processes.first else None)

    def _read(self, search: dict[str, Any]) -> State | None:
        if not self.path.exists():
            return None
        check_regular(self.path)
        try:
            with safe_open(self.path, "pt") as file:
                metadata = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
            digest = metadata.pop("digest")
            kept, facts = json.loads(metadata["search"]), json.loads(metadata["facts"])
        except Exception as error:  # of the file's reader, or of JSON: whatever a damaged file brings about
            raise damaged(self.path, str(error)) from error
        if digest != digests.of_tensors(tensors, metadata):
            raise damaged(self.path, "its numbers are not those that were written")
        wanted = json.loads(json.dumps({"of": self.of, **search}))  # as it would come back: tuples are lists
        if kept != wanted:
            raise ValueError(
                f"{self.path} belongs to another {self.work}, with {difference(kept, wanted)}; remove it to begin anew"
            )
        return tensors, facts

    def forget(self) -> None:
        """Remove the state: for when the result of the search is safe."""
        if current().first:
            self.path.unlink(missing_ok=True)


def check_like(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """ValueError where tensors of a state do not have exactly these names, shapes and dtypes."""
    if tensors.keys() != expected.keys():
        raise ValueError(f"it holds {', '.join(sorted(tensors))}, expected {', '.join(sorted(expected))}")
    for name, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != (expected[name].shape, expected[name].dtype):
            kinds = (f"{each.dtype} {tuple(each.shape)}" for each in (tensor, expected[name]))
            raise ValueError(f"{name} is {', expected '.join(kinds)}")


def check_steps(history: Sequence[Mapping[str, Any]]) -> None:
    """ValueError where the records of a state are not those of steps 1, 2, 3, ..."""
    steps = [record.get("step") for record in history]
    if steps != list(range(1, len(steps) + 1)):
        raise ValueError(f"its history has steps {steps[:5]}, expected 1 to {len(steps)}")


def facts_of(kind: type[Facts], facts: dict[str, Any]) -> Facts:
    """The facts of a state as this dataclass; ValueError where one is missing, surplus or of another type."""
    return TypeAdapter(kind).validate_json(json.dumps(facts), strict=True, extra="forbid")


def damaged(path: Path, problem: str) -> ValueError:
    """The error of a file that is not, or not only, what ``Checkpoint.keep`` wrote."""
    problem = " ".join(problem.split())
    return ValueError(f"{path} does not hold the state of a search, or is damaged: {problem}; remove it to begin anew")
