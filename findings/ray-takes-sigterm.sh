#!/usr/bin/env bash
# ray.init takes over SIGTERM in the program that calls it.
# Versions: ray 2.56.1
# Seen: a handler that the program had set is gone after ray.init: SIGTERM raises SystemExit(15), an exit status of 15, where the
# program would have saved its state. SIGINT is left alone.
# It matters: what clusters send before they kill does not reach the program's own handler from ray.init on.
# Setting the handler again after ray.init keeps it.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.56.1
cd "$place"
"$place/venv/bin/python" -W ignore - <<'PYTHON'
import signal

import ray


def saves(number: int, frame: object) -> None:
    print("state saved")


def told(when: str) -> str:
    try:
        signal.raise_signal(signal.SIGTERM)
        result = "the program's handler"
    except SystemExit as end:
        result = f"SystemExit({end.code})"
    print(f"SIGTERM {when}: {result}; SIGINT's handler is still the default: {signal.getsignal(signal.SIGINT) is before}")
    return result


before = signal.getsignal(signal.SIGINT)
signal.signal(signal.SIGTERM, saves)
assert told("before") == "the program's handler"
ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
during = told("after ray.init")
signal.signal(signal.SIGTERM, saves)
again = told("after ray.init, set again")
ray.shutdown()
assert during == "SystemExit(15)", "the handler is kept now"
assert again == "the program's handler"
PYTHON
