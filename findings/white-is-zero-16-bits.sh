#!/usr/bin/env bash
# WhiteIsZero is honoured for 8 bits and ignored for 16.
# Versions: numpy 2.4.6, tifffile 2026.3.3, pillow 13.0.0, opencv-python-headless 5.0.0.93
# Seen: Pillow and OpenCV invert an 8-bit TIFF of photometric interpretation 0 and hand out a 16-bit one as it is stored, a negative.
# It matters: x-rays of 16 bits are written so; mixed with 8-bit ones half of a folder is inverted.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 tifffile==2026.3.3 pillow==13.0.0 opencv-python-headless==5.0.0.93
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np
import tifffile
from PIL import Image

for kind, top in ((np.uint8, 255), (np.uint16, 65535)):
    stored = (np.arange(64).reshape(8, 8) * (top // 64)).astype(kind)
    tifffile.imwrite("scan.tif", stored, photometric="miniswhite")
    meant = top - stored
    pillow = np.asarray(Image.open("scan.tif"))
    opencv = cv2.imread("scan.tif", cv2.IMREAD_UNCHANGED)
    print(kind.__name__, "stored", stored[0, 1], "meant", meant[0, 1], "pillow", pillow[0, 1], "opencv", opencv[0, 1])
    expected = meant if kind is np.uint8 else stored
    assert np.array_equal(pillow, expected), f"Pillow treats {kind.__name__} otherwise now"
    assert np.array_equal(opencv, expected), f"OpenCV treats {kind.__name__} otherwise now"
PYTHON
