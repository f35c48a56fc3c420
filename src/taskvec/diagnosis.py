"""What ``taskvec doctor`` says: whether all that is needed is there, and what can be expected of this machine."""

import platform
import re
import shlex
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from taskvec import __version__

SECONDS = 0.5  # that the speed is measured for
ROWS = 32  # images that are run together
DEVELOPMENT = "dev"  # an extra that no user needs
_EXTRA = re.compile(r"extra == ['\"]([\w-]+)['\"]")


@dataclass
class Diagnosis:
    """What was found, by group and name, and what is wrong with what is needed, a sentence each."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def diagnose() -> Diagnosis:
    """What is installed, and the room on disks: all that is told without PyTorch, which may be what is broken."""
    found = Diagnosis()
    needed, extras = _requirements()
    found.facts["versions"] = {"taskvec": __version__, "python": platform.python_version(), **_versions(needed)}
    missing = [str(one) for one in needed if not _is_met(one)]
    if missing:
        found.problems.append(f"packages are missing or too old: {_install(missing)}")
    told: dict[str, Any] = {}
    for name, requirements in extras.items():
        lacking = [f"{one.name}{one.specifier}" for one in requirements if not _is_met(one)]
        told[name] = {"missing": lacking, "install": _install(lacking) if lacking else None}
    found.facts["extras"] = told
    found.facts["disk"] = {"here": _room(Path())}
    with suppress(ImportError):  # of which it has been told
        from huggingface_hub.constants import HF_HUB_CACHE  # noqa: PLC0415

        found.facts["disk"]["hub"] = _room(Path(HF_HUB_CACHE))
    return found


def diagnose_machine(found: Diagnosis, device: Any) -> None:
    """Add devices, memory and what bounds it, and images a second of ``tiny`` without an example on a device, with as
    many threads as torch has now."""
    import torch  # noqa: PLC0415 whose absence is one of the problems

    from taskvec import environment, memory  # noqa: PLC0415

    devices: dict[str, Any] = {"cpu": environment.machine()}
    if torch.cuda.is_available():
        devices["cuda"] = [_gpu(number) for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices["mps"] = "there, and not used by taskvec"
    found.facts["devices"] = devices
    bounds = memory.left()
    found.facts["memory"] = {"free_bytes": min(bounds.values(), default=None), "left_by": bounds}
    try:
        found.facts["speed"] = {"model": "tiny", "device": str(device), "images_per_second": _speed(device)}
    except Exception as error:  # whatever it is, that is what is to be told
        found.problems.append(f"the model tiny cannot be run: {type(error).__name__}: {error}")


def _gpu(number: int) -> dict[str, Any]:
    import torch  # noqa: PLC0415

    free, total = torch.cuda.mem_get_info(number)
    return {"name": torch.cuda.get_device_name(number), "free_bytes": free, "total_bytes": total}


def _speed(device: Any) -> float:
    """Images a second through the model without an example, decoded."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from taskvec.models import load_model  # noqa: PLC0415
    from taskvec.models.interface import Queries  # noqa: PLC0415

    model = load_model("tiny", device)
    shape = (ROWS, model.image_size, model.image_size, 3)
    queries = Queries(np.random.default_rng(0).integers(0, 256, shape, np.uint8))

    @torch.inference_mode()
    def run() -> None:
        items = model.prepare(queries, "query_only")
        model.answers(model.run(items), items).cpu()  # which waits for a GPU

    run()
    started, runs = time.perf_counter(), 0
    while (seconds := time.perf_counter() - started) < SECONDS or not runs:
        run()
        runs += 1
    return round(ROWS * runs / seconds, 1)


def _requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """What the package cannot do without, and what its extras bring."""
    try:
        stated = requires("taskvec") or []
    except PackageNotFoundError:  # it is run from a copy of its files
        stated = []
    needed: list[Requirement] = []
    extras: dict[str, list[Requirement]] = {}
    for text in stated:
        requirement = Requirement(text)
        extra = _EXTRA.search(str(requirement.marker or ""))
        if extra is None:
            if requirement.marker is None or requirement.marker.evaluate():
                needed.append(requirement)
        elif extra[1] != DEVELOPMENT:
            extras.setdefault(extra[1], []).append(requirement)
    return needed, extras


def _is_met(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _versions(requirements: list[Requirement]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for requirement in requirements:
        try:
            found[requirement.name] = version(requirement.name)
        except PackageNotFoundError:
            found[requirement.name] = None
    return found


def _install(requirements: list[str]) -> str:
    """The command that installs them for this Python."""
    return shlex.join([sys.executable, "-m", "pip", "install", *requirements])


def _room(place: Path) -> dict[str, Any]:
    """What is free where a directory is, or would be made."""
    path = place.absolute()
    there = next(each for each in (path, *path.parents) if each.exists())
    return {"path": str(path), "free_bytes": shutil.disk_usage(there).free}
