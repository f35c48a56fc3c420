#!/usr/bin/env bash
# safetensors writes tensors that carry torch's lazy negative or conjugate bit with the wrong sign.
# Versions: torch 2.13.0, numpy 2.4.6, safetensors 0.8.0
# Seen: save_file stores the memory beneath the tensor: the imaginary part of a conjugate, -x, comes back as x. No error, no warning.
# It matters: such a tensor is what .conj().imag gives; resolve_neg() and resolve_conj() before saving make it right.
# Fails when that is no longer so.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 safetensors==0.8.0
cd "$place"
"$place/venv/bin/python" - <<'PYTHON'
import torch
from safetensors.torch import load_file, save_file

complex_numbers = torch.tensor([1 + 2j, 3 - 4j])
imaginary = torch.view_as_real(complex_numbers.conj().resolve_conj())[:, 1].clone()  # plain: -2, 4
lazy = torch._neg_view(torch.tensor([2.0, -4.0]))  # contiguous, equal to the plain one, with the bit
conjugate = complex_numbers.conj()
assert lazy.is_neg() and conjugate.is_conj() and torch.equal(lazy, imaginary)
save_file({"lazy": lazy, "plain": imaginary, "conjugate": conjugate}, "file.safetensors")
read = load_file("file.safetensors")
print("saved", lazy.tolist(), "read", read["lazy"].tolist())
print("saved", conjugate.tolist(), "read", read["conjugate"].tolist())
assert torch.equal(read["plain"], imaginary)
assert torch.equal(read["lazy"], -imaginary), "the negative bit is honoured now"
assert torch.equal(read["conjugate"], complex_numbers), "the conjugate bit is honoured now"
save_file({"lazy": lazy.resolve_neg()}, "file.safetensors")
assert torch.equal(load_file("file.safetensors")["lazy"], imaginary)
PYTHON
