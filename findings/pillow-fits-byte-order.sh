#!/usr/bin/env bash
# Before version 13, Pillow reads FITS files of more than 8 bits in the wrong byte order, and says nothing.
# Versions: Pillow 12.3.0, and 13.0.0 after it; files by astropy 7.1.1
# Seen: FITS stores numbers with the highest byte first. Of a ramp 0, 300, 600 ... in 16 bits Pillow 12.3.0 makes 0, 11265, 22530 ...; 32
# bits come out as other numbers of either sign, and floats between 0 and 1 as ones around 1e-41. Modes and sizes are right, no warning is
# given. 8 bits are read well. 13.0.0 reads all of them.
# It matters: microscopy and astronomy come as FITS, and what needs Pillow below 13, such as gradio 6.31, has the older one installed.
# What reads the bytes itself as big-endian numbers, or astropy, is right with either.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
cat > ramp.py <<'PYTHON'
import numpy as np
from astropy.io import fits
from PIL import Image

told = []
for kind, step in (("uint8", 1), ("int16", 300), ("int32", 70000), ("float32", 0.25)):
    values = (np.arange(6) * step).astype(kind).reshape(2, 3)
    fits.PrimaryHDU(values).writeto(f"{kind}.fits", overwrite=True)
    read = np.array(Image.open(f"{kind}.fits"))
    told.append(f"{kind} {'right' if np.array_equal(read, values[::-1]) else 'wrong'}")  # FITS begins at the bottom
print(", ".join(told))
PYTHON
reads() {
    venv/bin/pip install --quiet --disable-pip-version-check numpy==2.3.5 astropy==7.1.1 "pillow==$1" 2> /dev/null
    venv/bin/python ramp.py
}
before=$(reads 12.3.0)
now=$(reads 13.0.0)
echo "Pillow 12.3.0: $before; 13.0.0: $now"
[ "$before" = "uint8 right, int16 wrong, int32 wrong, float32 wrong" ]
[ "$now" = "uint8 right, int16 right, int32 right, float32 right" ]
