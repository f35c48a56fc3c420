#!/usr/bin/env bash
# A checkpoint that torch writes without checksums is a zip file that only torch reads.
# Versions: torch 2.13.0, numpy 2.4.6, Python's zipfile of 3.11
# Seen: after set_crc32_options(False) every entry's CRC-32 is written as 0, also where the data's is not; torch.load
#   reads it, zipfile refuses every entry with BadZipFile "Bad CRC-32", and so does what reads checkpoints through it.
# It matters: whoever opens checkpoints as data, without unpickling, has to know of it.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import zipfile

import torch

refused = {}
for checksums in (True, False):
    torch.serialization.set_crc32_options(checksums)
    torch.save({"weight": torch.arange(5.0)}, "checkpoint.pt")
    assert torch.equal(torch.load("checkpoint.pt")["weight"], torch.arange(5.0))
    with zipfile.ZipFile("checkpoint.pt") as file:
        refused[checksums] = []
        for entry in file.infolist():
            try:
                file.read(entry)
            except zipfile.BadZipFile:
                refused[checksums].append(entry.filename)
        print("checksums", checksums, "entries", len(file.infolist()), "refused", len(refused[checksums]))
assert not refused[True]
assert "checkpoint/data/0" in refused[False], "zipfile reads it now"
PYTHON
