#!/usr/bin/env bash
# Pillow reads TIFF levels of 32 unsigned and 8 signed bits as other numbers.
# Versions: numpy 2.4.6, tifffile 2026.3.3, pillow 13.0.0
# Seen: uint32 levels from 2^31 on come out negative (mode I is signed), int8 levels below 0 as 128 to 255 (mode L); int16 and int32 are right.
# It matters: neither is said: the range of a folder is then told from numbers that are in no file.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 tifffile==2026.3.3 pillow==13.0.0
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import numpy as np
import tifffile
from PIL import Image

cases = {
    "uint32": ([0, 1, 2**31, 2**32 - 1], "I", [0, 1, -(2**31), -1]),
    "int8": ([-1, -128, 0, 100], "L", [255, 128, 0, 100]),
    "int16": ([-1, -128, 0, 100], "I", [-1, -128, 0, 100]),
    "int32": ([-1, -128, 0, 100], "I", [-1, -128, 0, 100]),
}
for kind, (levels, mode, expected) in cases.items():
    tifffile.imwrite("levels.tif", np.array([levels] * 4, kind))
    image = Image.open("levels.tif")
    read = np.asarray(image)[0].tolist()
    print(kind, levels, "read as", image.mode, read)
    assert (image.mode, read) == (mode, expected), f"{kind} is read otherwise now"
PYTHON
