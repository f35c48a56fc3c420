from dataclasses import replace

import pytest
import torch
from torch import Tensor

from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.models.vqgan import Vqgan, VqganConfig, to_pixels, to_unit


def test_bytes_survive_the_way_to_the_unit_range_and_back() -> None:
    values = torch.arange(256, dtype=torch.uint8).repeat(3, 1).T[None, None]
    assert (to_pixels(to_unit(values)).int() - values.int()).abs().max() <= 1  # decoding truncates
    assert to_unit(values).min() == -1
    assert to_unit(values).max() == 1


def test_each_code_is_nearest_to_itself(golden_model: MaeVqgan) -> None:
    quantizer = golden_model.vqgan.quantize
    codes = torch.arange(64).view(1, 8, 8)
    assert torch.equal(quantizer(quantizer.embedding(codes).permute(0, 3, 1, 2)), codes)


def test_the_nearest_code_is_found(golden_model: MaeVqgan) -> None:
    latents = torch.randn(2, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    quantizer = golden_model.vqgan.quantize
    distances = torch.cdist(latents.permute(0, 2, 3, 1).flatten(0, 2), quantizer.embedding.weight)
    assert torch.equal(quantizer(latents).flatten(), distances.argmin(1))


@pytest.mark.parametrize("local", [True, False])
def test_a_code_stands_for_a_patch(local: bool) -> None:
    config = VqganConfig(
        16, 8, 8, 32, (1, 1, 2), residual_blocks=1, attention_resolutions=(8,), resolution=32, local=local
    )
    vqgan = Vqgan(config).requires_grad_(False)
    assert config.patch_size == 4
    images = torch.rand(2, 3, 24, 16) * 2 - 1
    codes = vqgan.encode(images)
    assert codes.shape == (2, 6, 4)
    assert vqgan.decode(codes).shape == images.shape


def _reaches_far(vqgan: Vqgan) -> bool:
    """Whether a changed corner changes the opposite corner of the decoded image."""
    codes = torch.zeros(1, 16, 16, dtype=torch.int64)
    changed = codes.clone()
    changed[0, 0, 0] = 1
    before, after = vqgan.decode(codes), vqgan.decode(changed)
    return not torch.equal(before[..., -4:, -4:], after[..., -4:, -4:])


def test_only_a_local_tokenizer_is_local() -> None:
    torch.manual_seed(0)
    everywhere = VqganConfig(4, 8, 8, 32, (1, 1, 1), 1)
    assert not _reaches_far(Vqgan(replace(everywhere, local=True)).requires_grad_(False))
    assert _reaches_far(Vqgan(everywhere).requires_grad_(False))


def test_recorded_reconstruction(golden: dict[str, Tensor], golden_model: MaeVqgan) -> None:
    codes = golden["oneshot/codes"].long().view(2, 14, 14)
    decoded = to_pixels(golden_model.vqgan.decode(codes))
    assert (decoded.int() - golden["oneshot/decoded_u8"].int()).abs().max() <= 1
