"""Seconds until the command has said something that needs no work: help, a typo, what a file is.

    git worktree add ../before e157d6f
    .venv/bin/python benchmarks/starting.py --before ../before --out starting.json

Each command line is run with the source of both, taking turns, bytecode cached by a first run that does not count.
Seconds by the clock and of the processor are medians; a ratio is of them.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import taskvec
from taskvec import environment, files

HERE = Path(taskvec.__file__).parents[1]
LINES = ("--help", "apply --owt x", "aply", "find --help", "--version", "info tiny")


def seconds_of(source: Path, line: str) -> tuple[float, float]:
    """By the clock and of the processor."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(  # noqa: S603 (our own command; of a typo the status is 2)
        [sys.executable, "-m", "taskvec", *line.split()],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(source)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--before", type=Path, required=True, help="another checkout")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sources = (options.before.absolute() / "src", HERE)
    results = []
    print("| | before, s | now, s | times | of the processor |\n|---|---|---|---|---|")
    for line in LINES:
        runs = [[seconds_of(source, line) for source in sources] for _ in range(options.repeats + 1)][1:]
        (before, busy_before), (now, busy_now) = (
            tuple(median(run[build][kind] for run in runs) for kind in (0, 1)) for build in (0, 1)
        )
        print(f"| `taskvec {line}` | {before:.2f} | {now:.2f} | {before / now:.1f} | {busy_before / busy_now:.1f} |")
        results.append({"line": line, "before": [before, busy_before], "now": [now, busy_now]})
    if options.out:
        facts = {"machine": environment.machine(), "versions": environment.versions(), "repeats": options.repeats}
        files.write_json(options.out, {**facts, "results": results})


if __name__ == "__main__":
    main()
