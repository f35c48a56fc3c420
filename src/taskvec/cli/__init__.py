"""The command: parses, calls, prints. Everything it does is one call of the Python API away."""

from taskvec.cli.commands import app, main

__all__ = ["app", "main"]
