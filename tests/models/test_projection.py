import torch
from torch import nn

from taskvec.heads import recording
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.models.projection import in_projected_space


def test_head_outputs_lie_as_their_projections_and_the_model_computes_the_same(
    small_model: MaeVqgan, canvases: torch.Tensor
) -> None:
    view = small_model.view("one_shot")
    before = small_model.fingerprint()
    projected = in_projected_space(small_model)
    with recording(small_model) as recorded:
        logits = small_model(canvases, view)
    with recording(projected) as rotated:
        torch.testing.assert_close(projected(canvases, view), logits, rtol=1e-4, atol=1e-4)
    for stack, taps in small_model.taps().items():
        for layer, module in enumerate(tap.module for tap in taps):
            assert isinstance(module, nn.Linear)
            z, moved = recorded[stack][layer].double(), rotated[stack][layer].double()
            slices = module.weight.double().unflatten(
                1, (small_model.stacks[stack].heads, -1)
            )  # [width, heads, head_dim]
            vectors = torch.einsum("bthd,whd->thbw", z, slices)
            expected = torch.cdist(vectors, vectors)
            moved = moved.permute(1, 2, 0, 3)
            torch.testing.assert_close(torch.cdist(moved, moved), expected, rtol=1e-4, atol=1e-4)
            plain = z.permute(1, 2, 0, 3)
            assert not torch.allclose(torch.cdist(plain, plain), expected, rtol=0.05)  # it does make a difference
    assert small_model.fingerprint() == before
