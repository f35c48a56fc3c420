"""The most memory that collecting statistics and evaluating take, by the number of prompts.

    .venv/bin/python benchmarks/memory.py --models small full --prompts 10 100 1000 --out memory.json

Every number is of a process of its own with one thread: its largest resident memory, less what it had with the model
loaded (`growth`), and the seconds of processor time that the work took. `full` is the published architecture with
random weights. With `--source DIRECTORY` the package is another one, such as that of an earlier commit.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WORK = ("collect", "evaluate")


def largest() -> float:
    """MiB; not ru_maxrss, which begins at what the parent had when it started this process."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # pyright: ignore[reportOptionalSubscript]


def measure(name: str, work: str, count: int) -> dict[str, Any]:
    """Low light on drawn scenes, prompts with an example."""
    from taskvec import collect, evaluation, load_data, prompts  # noqa: PLC0415
    from taskvec.tasks import LOW_LIGHT  # noqa: PLC0415
    from workload import model_of  # noqa: PLC0415

    model = model_of(name)
    model.fingerprint()
    loaded, started = largest(), time.process_time()
    draw = getattr(prompts, "plan_prompts", prompts.draw_prompts)  # which earlier versions have alone
    drawn = draw(load_data("scenes", "validation"), LOW_LIGHT, count, model.image_size, 0)
    if work == "collect":
        collect(model, [drawn])
    else:
        evaluation.evaluate(model, evaluation.run(model, "one_shot"), drawn)
    peak = largest()
    seconds = time.process_time() - started
    return {"peak_mib": round(peak), "growth_mib": round(peak - loaded), "seconds": round(seconds, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", default=["small"])
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--prompts", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--source", type=Path, help="another src directory")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        model, work, count = options.one
        print(json.dumps(measure(model, work, int(count))))
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if options.source is not None:
        environment["PYTHONPATH"] = str(options.source)
    results = []
    print("| model | work | prompts | peak, MiB | growth, MiB | seconds |\n|---|---|---|---|---|---|")
    for model in options.models:
        for work in options.work:
            for count in options.prompts:
                command = [sys.executable, __file__, "--one", model, work, str(count)]
                ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)  # noqa: S603
                record = {"model": model, "work": work, "prompts": count, **json.loads(ran.stdout.splitlines()[-1])}
                results.append(record)
                print(f"| {' | '.join(str(value) for value in record.values())} |", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
