"""Seconds of a study by engine, and whether its files are the same: `taskvec experiment` as a user runs it.

    .venv/bin/python benchmarks/engines.py --out engines.json
    .venv/bin/python benchmarks/engines.py --name table-9 --repeats 3 --workers 2 4

Each engine begins with an empty directory, in turn: here with one thread, local processes, and a Ray of this machine
alone where it is installed. A ratio is of runs of one repeat; numbers are medians. Seconds are those of the whole
command, its start and the drawing of tables and figures with it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from taskvec import environment, files

HERE = ("here",)


def seconds_of(name: str, engine: tuple[str, ...], out: Path, model: str) -> float:
    """Of the quick version of an experiment in a directory of its own."""
    options = ["--quick", "--model", model, "--out", str(out), "--engine", *engine]
    threads = ["--threads", "1"] if engine == HERE else []
    started = time.perf_counter()
    subprocess.run(  # noqa: S603 (our own command)
        [sys.executable, "-m", "taskvec", "experiment", name, *options, *threads],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return time.perf_counter() - started


def values(out: Path) -> dict[str, Any]:
    """What the cells of a study hold, by their names."""
    return {path.name: json.loads(path.read_text())["value"] for path in (out / "cells").glob("*.json")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--name", default="all", help="The experiment.")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    kinds = ["processes", *(["ray"] if find_spec("ray") else [])]
    engines = [HERE, *((kind, "--workers", str(count)) for kind in kinds for count in options.workers)]
    seconds: dict[str, list[float]] = {" ".join(engine): [] for engine in engines}
    found: list[dict[str, Any]] = []
    for _ in range(options.repeats):
        found = []
        for engine in engines:
            with tempfile.TemporaryDirectory() as directory:
                seconds[" ".join(engine)].append(seconds_of(options.name, engine, Path(directory), options.model))
                found.append(values(Path(directory)))
        if any(each != found[0] for each in found):
            raise RuntimeError("the engines' cells differ")
    ratios = {
        name: median(first / each for first, each in zip(seconds[HERE[0]], every, strict=True))
        for name, every in seconds.items()
    }
    print("| engine | seconds | times as fast |\n|---|---|---|")
    for name, every in seconds.items():
        print(f"| {name} | {median(every):.0f} | {ratios[name]:.2f} |")
    print(f"\n{len(found[0])} cells, the same by every engine")
    if options.out:
        record = {"machine": environment.machine(), "versions": environment.versions(), "experiment": options.name}
        files.write_json(options.out, {**record, "seconds": seconds, "ratios": ratios})


if __name__ == "__main__":
    main()
