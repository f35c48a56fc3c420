#!/usr/bin/env bash
# A boolean array that tifffile writes is a negative for every other reader of TIFF.
# Versions: numpy 2.4.6, tifffile 2026.3.3, pillow 13.0.0, opencv-python-headless 5.0.0.93
# Seen: tifffile.imwrite of a bool array tags it WhiteIsZero (0) without changing the bits; tifffile reads True back as True, Pillow and OpenCV as black.
# It matters: a mask saved in one program has object and background exchanged in the next.
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

mask = np.zeros((8, 8), bool)
mask[2:5, 2:5] = True
tifffile.imwrite("mask.tif", mask)
with tifffile.TiffFile("mask.tif") as file:
    tag = int(file.pages[0].photometric)
pillow, opencv = np.asarray(Image.open("mask.tif")), cv2.imread("mask.tif", cv2.IMREAD_UNCHANGED)
print("photometric", tag, "pillow", pillow[3, 3], pillow[0, 0], "opencv", opencv[3, 3], opencv[0, 0])
assert tag == 0, "no longer tagged WhiteIsZero"
assert np.array_equal(tifffile.imread("mask.tif"), mask)
assert np.array_equal(pillow, ~mask), "Pillow agrees with tifffile now"
assert np.array_equal(opencv > 0, ~mask), "OpenCV agrees with tifffile now"
PYTHON
