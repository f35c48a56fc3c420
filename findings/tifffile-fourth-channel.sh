#!/usr/bin/env bash
# tifffile calls a fourth channel transparency unless it is told otherwise.
# Versions: numpy 2.4.6, tifffile 2026.3.3, pillow 13.0.0
# Seen: imwrite of [height, width, 4] bytes writes RGB with an extra sample of kind 2, unassociated alpha; Pillow opens it as RGBA.
# It matters: four-band aerial and satellite pictures (near-infrared last) get dark or faded where they are laid on a ground.
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

bands = np.full((8, 9, 4), 200, np.uint8)
bands[..., 3] = 30  # near-infrared
tifffile.imwrite("bands.tif", bands)
with tifffile.TiffFile("bands.tif") as file:
    page = file.pages[0]
    photometric, extra = int(page.photometric), [int(kind) for kind in page.extrasamples]
image = Image.open("bands.tif")
shown = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).getpixel((0, 0))
print("photometric", photometric, "extra samples", extra, "pillow", image.mode, "on black", shown)
assert (photometric, extra) == (2, [2]), "the fourth channel is tagged otherwise now"
assert image.mode == "RGBA" and shown[0] < 30
tifffile.imwrite("bands.tif", bands, photometric="rgb", extrasamples=["unspecified"])
print("said to be unspecified:", Image.open("bands.tif").mode)
PYTHON
