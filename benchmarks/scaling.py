"""How evaluations a second change with rows, sites, models and processes.

    .venv/bin/python benchmarks/scaling.py --models tiny small --out scaling.json

`--models` takes shipped models, directories, and `full`: the published architecture with random weights. `rows` is how
many masks share a forward pass, at the granularity `quadrant`; `sites` are those of each granularity, 32 rows a pass;
both by the token objective in float32. `processes` is an iteration of a search: all draw the same masks, each
evaluates its part of them on as many threads as said, and the losses are gathered (gloo), so that each has them all.
All settings of a table take turns in every repeat, and the ratio is the median over repeats of the evaluations a second
over those of the table's first line.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from taskvec import environment
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.objectives import Objective
from taskvec.sites import GRANULARITIES
from workload import masks_and_items, model_of, objective_of

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
PROCESSES = ((1, 1), (2, 1), (1, 2))  # processes and threads of each

Record = dict[str, Any]


def rows_and_sites(model: MaeVqgan, masks: int, repeats: int) -> dict[str, list[Record]]:
    """A record of each number of rows and of each granularity."""

    def work(objective: Objective) -> Callable[[], Tensor]:
        drawn = masks_and_items(objective, masks)
        return lambda: objective(*drawn)

    by_rows = {str(rows): work(objective_of(model, kind="token", rows=rows)) for rows in ROWS if rows <= masks}
    by_sites = {
        f"{len(model.sites(granularity))} ({granularity})": work(
            objective_of(model, granularity, kind="token", rows=32)
        )
        for granularity in reversed(GRANULARITIES)
    }
    return {name: _measure(works, masks, repeats) for name, works in (("rows", by_rows), ("sites", by_sites))}


def _measure(works: dict[str, Callable[[], Tensor]], masks: int, repeats: int) -> list[Record]:
    seconds: dict[str, list[float]] = {setting: [] for setting in works}
    for repeat in range(repeats + 1):
        for setting, work in works.items():
            started = time.perf_counter()
            work()
            if repeat:  # the first is for warming up
                seconds[setting].append(time.perf_counter() - started)
    return _records(seconds, masks)


def _records(seconds: dict[str, list[float]], masks: int) -> list[Record]:
    first = next(iter(seconds.values()))
    return [
        {
            "setting": setting,
            "seconds": statistics.median(own),
            "evaluations_per_second": masks / statistics.median(own),
            "ratio": statistics.median(a / b for a, b in zip(first, own, strict=True)),
        }
        for setting, own in seconds.items()
    ]


def processes(model: str, masks: int, repeats: int) -> list[Record]:
    """A record of each number of processes and threads."""
    with tempfile.TemporaryDirectory() as directory:
        most = max(count for count, _ in PROCESSES)
        spawn(_process, (most, model, masks, repeats, directory), most)
        seconds = json.loads((Path(directory) / "seconds").read_text())
    return _records(seconds, masks)


def _process(rank: int, most: int, name: str, masks: int, repeats: int, directory: str) -> None:
    dist.init_process_group("gloo", f"file://{directory}/meeting", rank=rank, world_size=most)
    objective = objective_of(model_of(name), kind="token", rows=32)
    drawn, items = masks_and_items(objective, masks)
    groups = {count: dist.new_group(list(range(count))) for count, _ in PROCESSES}
    seconds: dict[str, list[float]] = {f"{count} x {threads} threads": [] for count, threads in PROCESSES}
    for repeat in range(repeats + 1):
        for (count, threads), own in zip(PROCESSES, seconds.values(), strict=True):
            torch.set_num_threads(threads)
            dist.barrier()
            started = time.perf_counter()
            if rank < count:
                part = slice(rank * masks // count, (rank + 1) * masks // count)
                losses = [torch.empty(masks // count) for _ in range(count)]
                dist.all_gather(losses, objective(drawn[part], items[part]), groups[count])
            if repeat:
                own.append(time.perf_counter() - started)
    if rank == 0:
        (Path(directory) / "seconds").write_text(json.dumps(seconds))
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["tiny", "small"])
    parser.add_argument("--masks", type=int, default=128, help="evaluated in a repeat; an even number")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.masks % 2:
        parser.error(f"{options.masks} masks do not divide between two processes: expected an even number")
    results: dict[str, Any] = {"machine": environment.machine(), "versions": environment.versions(), "models": {}}
    print("| model | by | setting | evaluations/s | times the first |\n|---|---|---|---|---|")
    for name in options.models:
        tables = rows_and_sites(model_of(name), options.masks, options.repeats)
        tables["processes"] = processes(name, options.masks, options.repeats)
        results["models"][name] = {"masks": options.masks, **tables}
        for table, records in tables.items():
            for record in records:
                numbers = f"{record['evaluations_per_second']:.1f} | {record['ratio']:.2f}"
                print(f"| {name} | {table} | {record['setting']} | {numbers} |", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
