"""The makers of checkpoints as people bring them: one function a kind, written with the tool that writes that kind."""

from checkpoint_makers import writers, names, files, kinds, tensors, hostile  # noqa: F401, I001 each adds its own, in this order
from checkpoint_makers.common import MAKERS, Maker, Workspace

__all__ = ["MAKERS", "Maker", "Workspace"]
