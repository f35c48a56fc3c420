"""How much faster a step of REINFORCE is on several processes of one thread each than on one.

    .venv/bin/python benchmarks/processes.py --models small --out processes.json

A step is the paper's, 32 masks on each of 10 queries: masks are drawn, evaluated, and the logits follow their gradient.
One process does it alone while the others wait, then all do it together, again and again, each time from the same
logits with the same draws, and nothing is remembered from one time to the next. The ratio is the median over repeats of
the seconds alone over those together; that both come to the same logits, to the last bit, is checked in every repeat.
Another program that keeps a core busy makes the processes wait for each other: measure on a quiet machine.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from taskvec import environment
from taskvec.objectives import OBJECTIVES, Objective, ObjectiveKind
from taskvec.processes import Processes
from taskvec.search import FiniteLosses, Problem, ReinforceSettings
from workload import model_of, objective_of

MASKS, ITEMS = 32, 10


def measured(model: str, kind: ObjectiveKind, count: int, repeats: int) -> dict[str, Any]:
    """A record of a model and an objective."""
    with tempfile.TemporaryDirectory() as directory:
        spawn(_process, (count, model, kind, repeats, directory), count)
        alone, together = json.loads((Path(directory) / "seconds").read_text())
    ratios = [one / all_ for one, all_ in zip(alone, together, strict=True)]
    return {
        "model": model,
        "objective": kind,
        "processes": count,
        "seconds_alone": statistics.median(alone),
        "seconds_together": statistics.median(together),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
    }


def _process(rank: int, count: int, model: str, kind: ObjectiveKind, repeats: int, directory: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{directory}/meeting", rank=rank, world_size=count)
    objective = objective_of(model_of(model), items=ITEMS, kind=kind)
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        logits = []
        for processes, own in zip((Processes(), Processes(rank, count)), seconds, strict=True):
            dist.barrier()
            started = time.perf_counter()
            if rank < processes.count:
                logits.append(_step(objective, processes, repeat))
            dist.barrier()
            if repeat:  # the first is for warming up
                own.append(time.perf_counter() - started)
        if rank == 0 and not torch.equal(*logits):
            raise RuntimeError("the processes came to other logits than one")
    if rank == 0:
        (Path(directory) / "seconds").write_text(json.dumps(seconds))
    dist.destroy_process_group()


def _step(objective: Objective, processes: Processes, seed: int) -> Tensor:
    """The logits after a first step."""
    objective.processes = processes
    objective._known.clear()  # an answer that is remembered would cost nothing
    problem = Problem(len(objective.sites), objective.items, objective, objective.evaluate_product)
    settings = ReinforceSettings(masks_per_item=MASKS)
    logits = torch.full((problem.sites,), settings.initial_logit, requires_grad=True)
    optimizer = torch.optim.Adam([logits], settings.learning_rate)
    step = settings.learning_step(problem, FiniteLosses())
    _, surrogate, _ = step(logits, torch.Generator().manual_seed(seed), 1)
    surrogate.backward()
    optimizer.step()
    return logits.detach()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["small"])
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=OBJECTIVES)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    records = []
    print("| model | objective | processes | s alone | s together | times as fast |\n|---|---|---|---|---|---|")
    for model in options.models:
        for kind in options.objectives:
            record = measured(model, kind, options.processes, options.repeats)
            records.append(record)
            numbers = f"{record['seconds_alone']:.2f} | {record['seconds_together']:.2f} | {record['ratio']:.2f}"
            print(f"| {model} | {kind} | {options.processes} | {numbers} |", flush=True)
    if options.out is not None:
        results = {"machine": environment.machine(), "versions": environment.versions(), "records": records}
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
