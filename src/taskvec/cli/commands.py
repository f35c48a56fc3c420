"""All commands together. They import PyTorch, so the process listens to signals before it imports this."""

from taskvec.cli import applying, combining, experimenting, models, scores, searching, serving, vectors  # noqa: F401 which adds commands
from taskvec.cli.terminal import app

__all__ = ["app"]
