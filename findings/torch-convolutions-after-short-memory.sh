#!/usr/bin/env bash
# A convolution for which memory was short spoils its thread: every new one in it fails from then on, however much memory is free.
# Versions: torch 2.13.0 (with oneDNN), numpy 2.4.6, on an x86-64 processor
# Seen: under a limit on the process's addresses a convolution ends with RuntimeError "could not create a primitive", which is neither
# MemoryError nor torch.OutOfMemoryError and speaks of no memory. With the limit lifted it fails again in the same thread, as do
# smaller batches and other layers, while another thread computes it; after that the first thread does, too, but still nothing new.
# It matters: going on with smaller batches after a shortage, as many programs do, fails for ever. A new thread, or
# torch.backends.mkldnn.flags(enabled=False), which is slower, gets on.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$place"
OMP_NUM_THREADS=1 "$place/venv/bin/python" -W ignore - <<'PYTHON'
import re
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

PRIMITIVE = "could not create a primitive"
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
layer, other = torch.nn.Conv2d(70, 64, 3, padding=1), torch.nn.Conv2d(48, 32, 3, padding=1)
images, few, narrow = torch.zeros(16, 70, 56, 56), torch.zeros(8, 70, 56, 56), torch.zeros(4, 48, 40, 40)


@torch.no_grad()
def tried(convolution: torch.nn.Conv2d, pictures: torch.Tensor) -> str:
    try:
        convolution(pictures)
    except Exception as error:
        assert type(error) is RuntimeError, type(error)
        return str(error).splitlines()[0]
    return "done"


for megabytes in range(3, 60):
    used = 1024 * int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), resource.RLIM_INFINITY))
    said = tried(layer, images)
    resource.setrlimit(resource.RLIMIT_AS, UNLIMITED)
    if said in (PRIMITIVE, "done"):
        break
print(f"with {megabytes} MiB more than before: {said}")
assert said == PRIMITIVE, "it is told in other words, or memory suffices"

told = {"the same": tried(layer, images), "a smaller batch": tried(layer, few), "another layer": tried(other, narrow)}
with torch.backends.mkldnn.flags(enabled=False):
    told["the same without oneDNN"] = tried(layer, images)
with ThreadPoolExecutor(1) as threads:
    told["the same in another thread"] = threads.submit(tried, layer, images).result()
told["the same once more"] = tried(layer, images)
told["another layer once more"] = tried(other, narrow)
for what, said in told.items():
    print(f"without a limit, {what}: {said}")
failed = {what for what, said in told.items() if said == PRIMITIVE}
assert failed == {"the same", "a smaller batch", "another layer", "another layer once more"}, "it recovers now"
assert set(told.values()) == {PRIMITIVE, "done"}
PYTHON
