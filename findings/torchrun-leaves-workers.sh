#!/usr/bin/env bash
# Workers that torchrun started outlive it when it is killed, and go on computing and writing.
# Versions: torch 2.13.0, numpy 2.4.6
# Seen: eight seconds after SIGKILL of torchrun (what a scheduler or a machine short of memory sends) both of its workers run, go
# through collectives with one another and write. SIGTERM of torchrun ends them.
# It matters: a job that is started again beside them writes into the same directory as they do. A worker that notices that its
# parent changed, or a lock that the living hold, keeps them apart.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'kill $(cat "$place"/process-* 2>/dev/null) 2>/dev/null || true; rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$place"
export OMP_NUM_THREADS=1
cat > worker.py <<'PYTHON'
import os
import time
from pathlib import Path

import torch.distributed

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
for beat in range(240):
    torch.distributed.barrier()
    Path(f"beat-{rank}").write_text(f"{beat}\n")
    Path(f"process-{rank}").write_text(f"{os.getpid()}\n")
    time.sleep(0.25)
PYTHON

begin() {
    rm -f beat-* process-*
    venv/bin/torchrun --standalone --nproc-per-node 2 worker.py 2>log &
    agent=$!
    for _ in $(seq 120); do
        if [ -s process-0 ] && [ -s process-1 ]; then return; fi
        sleep 0.5
    done
    cat log
    exit 1
}

living() {
    local count=0 rank
    for rank in 0 1; do
        if kill -0 "$(cat process-$rank)" 2>/dev/null; then count=$((count + 1)); fi
    done
    echo $count
}

begin
kill -KILL $agent
wait $agent || true
at_once=$(cat beat-0)
sleep 8
later=$(cat beat-0)
echo "after SIGKILL: $(living) workers of 2 live, beat $at_once when torchrun ended and $later eight seconds later"
[ "$(living)" = 2 ] && [ "$later" -gt $((at_once + 5)) ]
kill $(cat process-0 process-1)

begin
kill -TERM $agent
wait $agent || true
sleep 2
echo "after SIGTERM: $(living) workers of 2 live"
[ "$(living)" = 0 ]
