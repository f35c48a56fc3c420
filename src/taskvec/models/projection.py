"""Head outputs as the paper has them: after the head's slice of the output projection."""

import copy

import torch

from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.models.transformer import Attention


@torch.no_grad()
def in_projected_space(model: MaeVqgan) -> MaeVqgan:
    """A copy that computes the same, but whose head outputs lie to each other as their projections do in ``model``.

    A head adds W z to its token, where W is [width, head_dim]. With W = Q R and orthonormal columns of Q, R z has the
    lengths, distances and variances of W z in as few dimensions as z: the copy's values are R times the model's and its
    projections are Q. Statistics, scores, samples and clusters of the copy are those of the projected vectors.
    """
    model = copy.deepcopy(model)
    for attention in model.modules():
        if isinstance(attention, Attention):
            width, heads = attention.proj.out_features, attention.heads
            slices = attention.proj.weight.double().unflatten(1, (heads, -1)).transpose(0, 1)
            q, r = torch.linalg.qr(slices)  # [heads, width, head_dim] and [heads, head_dim, head_dim]
            attention.proj.weight.copy_(q.transpose(0, 1).flatten(1))
            for parameter in (attention.qkv.weight.data, attention.qkv.bias.data):
                values = parameter[-width:].view(heads, width // heads, -1)
                values.copy_(r @ values.double())
    return model
