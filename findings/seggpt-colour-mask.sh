#!/usr/bin/env bash
# The image processor of SegGPT takes one mask in colours for as many masks as it has rows of pixels, without a word.
# Versions: torch 2.13.0, transformers 5.24.0, pillow 13.0.0
# Seen: prompt_masks given as one array [448, 448, 3] (a mask as a picture, which is how the model sees it) comes back as
#   [448, 3, 448, 448]: 448 masks. The prompt image of the same call is one. A mask of 0 and 1 without num_labels comes
#   back almost black: its ones are 1/255 before normalisation.
# It matters: a user's mask is a picture; what follows is an error about batches far away, or a prompt that says nothing.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0 pillow==13.0.0
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON'
import numpy as np
from transformers.models.seggpt.image_processing_pil_seggpt import SegGptImageProcessorPil

processor = SegGptImageProcessorPil()
image = np.random.default_rng(0).integers(0, 256, (448, 448, 3), dtype=np.uint8)
levels = np.zeros((448, 448), np.uint8)
levels[100:300, 100:300] = 255
colours = np.repeat(levels[..., None], 3, -1)
made = processor(images=image, prompt_images=image, prompt_masks=colours, return_tensors="pt")
shapes = {name: tuple(values.shape) for name, values in made.items()}
print("a mask in colours:", shapes)
assert shapes["prompt_masks"] == (448, 3, 448, 448)
assert shapes["prompt_pixel_values"] == (1, 3, 448, 448)
made = processor(images=image, prompt_images=image, prompt_masks=levels, return_tensors="pt")
assert tuple(made["prompt_masks"].shape) == (1, 3, 448, 448)
white = made["prompt_masks"][0, 0].max().item()
ones = processor(images=image, prompt_images=image, prompt_masks=levels // 255, return_tensors="pt")
one = ones["prompt_masks"][0, 0].max().item()
black = made["prompt_masks"][0, 0].min().item()
print(f"red of black {black:.3f}, of 255 {white:.3f}, of 1 {one:.3f}")
assert abs(one - black) < 0.02 < white - black
PYTHON
