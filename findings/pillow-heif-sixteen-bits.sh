#!/usr/bin/env bash
# pillow-heif keeps ten of sixteen bits, and says so in the file only.
# Versions: numpy 2.4.6, pillow 13.0.0, pillow-heif 1.8.1
# Seen: a 16-bit grey or colour picture saved at "lossless" quality (-1) is stored with 10 bits: 4095 comes back as 4032.
# It matters: a round trip through HEIC moves levels of depth maps and x-rays by up to 63 without a warning.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 pillow==13.0.0 pillow-heif==1.8.1
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import numpy as np
import pillow_heif
from PIL import Image

pillow_heif.register_heif_opener()
levels = np.full((64, 64), 4095, np.uint16)
pillow_heif.from_bytes("L;16", (64, 64), levels.tobytes()).save("levels.heic", quality=-1)
image = Image.open("levels.heic")
read = np.asarray(image)
print("saved 4095, read", int(read[0, 0]), "mode", image.mode, "bit_depth", image.info["bit_depth"])
assert image.info["bit_depth"] == 10, "another depth is stored now"
assert (read == 4032).all(), "levels come back otherwise now"
PYTHON
