"""The command that says whether all that is needed is there."""

from collections.abc import Iterator, Mapping
from typing import Any

from taskvec.cli import options
from taskvec.cli.terminal import say, write_json


def doctor_command(
    json_file: options.Json = None, device: options.Device = "cpu", threads: options.Threads = None
) -> None:
    """Whether all that taskvec needs is there: versions, devices, memory, disk, extras, and how fast it runs.

    The speed is that of tiny without an example, measured for half a second on `--device`. Extras that are missing come
    with the command that installs them; they are no error. The status is 1 where something is broken that every command
    needs.
    """
    from taskvec.diagnosis import diagnose, diagnose_machine

    found = diagnose()
    try:
        diagnose_machine(found, options.working_on(device, threads))
    except ImportError as error:
        found.problems.append(f"{error.name or 'PyTorch'} cannot be imported: {error}")
    for name, value in _lines(found.facts):
        say(f"{name}: {value}")
    write_json(json_file, {**found.facts, "problems": found.problems})
    if found.problems:
        raise ValueError("; ".join(found.problems))


def _lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values to be read, of one level."""
    for group, values in facts.items():
        if group == "extras":
            yield from (
                (f"extra {name}", f"missing, install it with: {told['install']}" if told["missing"] else "installed")
                for name, told in values.items()
            )
        elif group == "disk":
            for name, room in values.items():
                yield f"disk, {name}", f"{_size(room['free_bytes'])} free at {room['path']}"
        elif group == "memory":
            yield "memory", "not known" if values["free_bytes"] is None else f"{_size(values['free_bytes'])} free"
            yield from ((f"memory, left by {name}", _size(size)) for name, size in values["left_by"].items())
        elif group == "devices":
            yield from _devices(values)
        elif group == "speed":
            yield group, f"{values['images_per_second']:g} images/s with {values['model']} on {values['device']}"
        else:
            yield group, ", ".join(f"{name} {value or 'missing'}" for name, value in values.items())


def _devices(devices: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    machine = devices["cpu"]
    yield "system", machine["system"]
    yield "processor", f"{machine['processor']}, {machine['cores']} cores"
    yield "threads", f"{machine['threads']}, chosen by {machine['threads_chosen_by']}"
    gpus = devices.get("cuda", [])
    for number, gpu in enumerate(gpus):
        yield f"cuda:{number}", f"{gpu['name']}, {_size(gpu['free_bytes'])} free of {_size(gpu['total_bytes'])}"
    if not gpus:
        yield "cuda", "there is none"
    if "mps" in devices:
        yield "mps", devices["mps"]


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"
