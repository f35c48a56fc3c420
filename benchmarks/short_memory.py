"""How commands end where memory is short: with so many MB of addresses beyond what their imports take.

    .venv/bin/python benchmarks/short_memory.py --model small

Prints a Markdown table: the status, and the last line that was said.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# imports all that a command may, then bounds what it may have beyond that
BOUNDED = r"""
import re, resource, sys
from importlib import import_module
from pathlib import Path
import matplotlib.pyplot
from taskvec.cli import main
from taskvec.cli.commands import COMMANDS
for command in COMMANDS.values():
    if command.place.split(":")[0] not in ("serving",):
        for module in command.loads:
            import_module(f"taskvec.{module}")
used = 1024 * int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1])
limit = used + (int(sys.argv[1]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main(sys.argv[2:]))
"""
FEW = ["prompts=16", "items=4", "validation=4", "search.items=4", "search.candidates=2"]
COMMANDS = {
    "collect": ["--prompts", "16", "--out", "statistics.safetensors"],
    "evaluate": ["--method", "one_shot", "--pairs", "16", "--json", "scores.json"],
    "find": [
        *["--data", "scenes", "--queries", "8", "--steps", "3", "--out", "found"],
        *(word for each in FEW for word in ("--set", each)),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="small")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 200, 300, 400])
    options = parser.parse_args()
    print("| command | MB | status | last line |\n|---|---|---|---|")
    for name, own in COMMANDS.items():
        for megabytes in options.megabytes:
            with tempfile.TemporaryDirectory() as place:
                line = [name, "--model", options.model, "--task", "segmentation", *own]
                done = subprocess.run(  # noqa: S603 (our own command)
                    [sys.executable, "-c", BOUNDED, str(megabytes), *line],
                    cwd=place,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                kept = ", ".join(sorted(path.name for path in Path(place).rglob("*") if path.is_file()))
            said = (done.stderr.strip().splitlines() or [""])[-1]
            print(f"| {name} | {megabytes} | {done.returncode} | {said} (kept: {kept or 'nothing'}) |", flush=True)


if __name__ == "__main__":
    main()
