#!/usr/bin/env bash
# SegGPT of transformers: feature_ensemble=True changes the answer to a single prompt, where there is nothing to average.
# Versions: torch 2.13.0, transformers 5.24.0
# Seen: with one prompt the outputs of a small random model differ by up to 0.02, of a size of 0.03; the documentation says that at least
#   two prompts are needed. With two equal prompts for one image, too, each gets another answer than alone. The rows that
#   layer merge_index averages are those of both streams, images and masks: its condition takes that layer as merged.
# It matters: the option is for several prompts of one image; results with it are not those of the published code.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 transformers==5.24.0
cd "$place"
HF_HUB_OFFLINE=1 "$place/venv/bin/python" - <<'PYTHON'
import torch
from transformers import SegGptConfig, SegGptForImageSegmentation

torch.manual_seed(0)
config = SegGptConfig(
    image_size=[64, 32], patch_size=8, hidden_size=32, num_attention_heads=4, num_hidden_layers=4, merge_index=1,
    intermediate_hidden_state_indices=[1, 2, 3], mlp_dim=48, decoder_hidden_size=8, pretrain_image_size=24,
)
model = SegGptForImageSegmentation(config).eval()
for name, parameter in model.named_parameters():
    with torch.no_grad():
        parameter.add_(0.2 * torch.randn_like(parameter) if "decoder" not in name else 0)
image, prompt, mask = torch.randn(3, 1, 3, 32, 32)


def answer(count, ensemble):
    with torch.no_grad():
        inputs = (each.repeat(count, 1, 1, 1) for each in (image, prompt, mask))
        return model(*inputs, feature_ensemble=ensemble).pred_masks


plain = answer(1, False)
difference = (answer(1, True) - plain).abs().max().item()
print(f"one prompt: outputs differ by up to {difference:.2g}; of size {plain.std().item():.2g}")
assert difference > 1e-5
twice = (answer(2, True) - answer(2, False)).abs().amax((1, 2, 3))
print(f"the same prompt twice: outputs differ by up to {[f'{each:.2g}' for each in twice.tolist()]}")
assert twice.max() > 1e-5
torch.testing.assert_close(answer(2, False)[:1], plain, rtol=1e-4, atol=1e-5)  # without it, rows are independent
PYTHON
