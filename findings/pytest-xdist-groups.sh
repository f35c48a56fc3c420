#!/usr/bin/env bash
# With pytest 9.2, pytest-xdist's groups do nothing: tests that are marked for one worker run on all of them.
# Versions: pytest-xdist 3.8.0 with pytest 9.2.0, and with 9.1.1 before
# Seen: six tests of one xdist_group under --dist loadgroup run on one worker with pytest 9.1.1, on both with 9.2.0. No warning: the
# mark is there, its name does not reach the id of the test, which pytest keeps otherwise since 9.2.
# It matters: fixtures of a session or module are made once for each worker, tests that must not meet do, and a suite takes longer.
# --dist loadfile still keeps the tests of a file together.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
cd "$place"
cat > test_group.py <<'PYTHON'
import time

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(6))
def test_of_the_group(number: int) -> None:
    time.sleep(0.2)
PYTHON

workers() {
    venv/bin/pip install --quiet --disable-pip-version-check pytest-xdist==3.8.0 "pytest==$1"
    venv/bin/python -m pytest -n 2 --dist "$2" -vv test_group.py >log
    grep -q "6 passed" log
    grep -o '^\[gw[01]\]' log | sort -u | wc -l
}

before=$(workers 9.1.1 loadgroup)
now=$(workers 9.2.0 loadgroup)
by_file=$(workers 9.2.0 loadfile)
echo "workers that a group of six tests runs on: $before with pytest 9.1.1, $now with 9.2.0; by file $by_file"
[ "$before" = 1 ] && [ "$now" = 2 ] && [ "$by_file" = 1 ]
