#!/usr/bin/env bash
# Whether OpenCV turns a photograph hangs on the flag and on the format, and turned TIFFs cannot be read.
# Versions: numpy 2.4.6, pillow 13.0.0, opencv-python-headless 5.0.0.93
# Seen: imread turns JPEG, PNG and WebP by their EXIF orientation, with IMREAD_UNCHANGED it does not; a TIFF with orientation 6 that is not square cannot be read at all (None).
# It matters: a photograph read by default and its mask read unchanged no longer lie upon each other.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 opencv-python-headless==5.0.0.93
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np
from PIL import Image

exif = Image.Exif()
exif[0x112] = 6  # to be turned by 90 degrees
for ending in ("jpg", "png", "webp", "tif"):
    name = f"photograph.{ending}"
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(name, exif=exif)
    default, unchanged = cv2.imread(name), cv2.imread(name, cv2.IMREAD_UNCHANGED)
    shapes = [None if image is None else image.shape[:2] for image in (default, unchanged)]
    print(ending, "stored (10, 20), imread", shapes[0], "unchanged", shapes[1])
    expected = [None, None] if ending == "tif" else [(20, 10), (10, 20)]
    assert shapes == expected, f"{ending} is read otherwise now"
PYTHON
