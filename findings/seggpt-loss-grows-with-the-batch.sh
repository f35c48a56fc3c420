#!/usr/bin/env bash
# SegGPT of transformers: the loss is a sum over the batch that is called a mean: twice the rows, twice the loss.
# Versions: torch 2.13.0, transformers 5.24.0
# Seen: with labels and no bool_masked_pos, a batch of the same row four times has four times the loss of one.
#   The default mask of hidden patches has one row, and the sum over all rows is divided by that row's pixels. With a mask
#   that has a row for each, the loss does not depend on the batch.
# It matters: a learning rate found with one batch size is another one with the next; losses of papers do not compare.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON' 2>/dev/null
import torch
from transformers import SegGptConfig, SegGptForImageSegmentation

torch.manual_seed(0)
config = SegGptConfig(
    image_size=[64, 32], patch_size=8, hidden_size=32, num_attention_heads=4, num_hidden_layers=4, merge_index=1,
    intermediate_hidden_state_indices=[1, 2, 3], mlp_dim=48, decoder_hidden_size=8, pretrain_image_size=24,
)
model = SegGptForImageSegmentation(config).eval()
image, prompt, mask, truth = torch.randn(4, 1, 3, 32, 32)


def loss(count, hidden=None):
    rows = [each.repeat(count, 1, 1, 1) for each in (image, prompt, mask, truth)]
    with torch.no_grad():
        return model(*rows[:3], labels=rows[3], bool_masked_pos=hidden).loss.item()


ratios = [round(loss(count) / loss(1), 3) for count in (1, 2, 4)]
print("loss beside that of one row, 1, 2 and 4 equal rows:", ratios)
assert ratios == [1, 2, 4]
hidden = torch.cat([torch.zeros(4, 16), torch.ones(4, 16)], 1).bool()
ratio = loss(4, hidden) / loss(1, hidden[:1])
print(f"with a mask of hidden patches for every row: {ratio:.3f}")
assert abs(ratio - 1) < 1e-3
PYTHON
