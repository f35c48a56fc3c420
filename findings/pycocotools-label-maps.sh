#!/usr/bin/env bash
# pycocotools encodes where a value changes, not where it is above zero.
# Versions: numpy 2.4.6, pycocotools 2.0.11
# Seen: mask.encode takes uint8 arrays of any values; a run ends at every change of value, so that labels 1 2 3 0 decode as 1 0 1 0. A mask of 0 and 255 is right.
# It matters: a label map that is encoded without comparing it with one class loses every other object, and nothing is said.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 pycocotools==2.0.11
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import numpy as np
from pycocotools import mask

labels = np.array([[1, 2, 3, 0], [0, 255, 255, 0]], np.uint8)
for row, expected in zip(labels, ([1, 0, 1, 0], [0, 1, 1, 0]), strict=True):
    encoded = mask.encode(np.asfortranarray(row[None]))
    decoded = mask.decode(encoded)[0].tolist()
    print(row.tolist(), "decoded", decoded, "area", int(mask.area(encoded)))
    assert decoded == expected, "labels are encoded otherwise now"
PYTHON
