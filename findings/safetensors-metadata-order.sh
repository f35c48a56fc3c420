#!/usr/bin/env bash
# safetensors writes the metadata of a file in another random order each time, so that the same save gives other bytes.
# Versions: torch 2.13.0, numpy 2.4.6, safetensors 0.8.0
# Seen: forty saves of one tensor with eight entries of metadata, in one process, give about forty different files; with one entry,
# or none, they are equal. Reading gives the entries in a random order too.
# It matters: a digest of the file is no name for its content, and a resumed run cannot be compared with an undisturbed one by bytes.
# One entry that holds JSON with sorted keys makes the bytes reproducible.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 safetensors==0.8.0
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import json

import torch
from safetensors import safe_open
from safetensors.torch import save, save_file

tensors = {"weight": torch.zeros(2)}
entries = {f"entry {number}": "text" for number in range(8)}


def different(metadata: dict[str, str] | None) -> int:
    return len({save(tensors, metadata=metadata) for _ in range(40)})


orders = set()
save_file(tensors, "file.safetensors", metadata=entries)
for _ in range(40):
    with safe_open("file.safetensors", "pt") as file:
        orders.add(tuple(file.metadata()))
print(f"different files of 40: {different(entries)} with 8 entries, {different({'one': 'text'})} with 1, {different(None)} without")
print(f"different orders of 40 readings of one file: {len(orders)}")
assert different(entries) > 30, "the order is fixed now"
assert len(orders) > 30, "the order of reading is fixed now"
assert different({"one": "text"}) == different(None) == 1
assert different({"all": json.dumps(entries, sort_keys=True)}) == 1
PYTHON
