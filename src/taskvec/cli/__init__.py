"""The command: parses, calls, prints. Everything it does is one call of the Python API away."""

import sys
import warnings
from io import TextIOWrapper

import torch

from taskvec.cli import arithmetic, experimenting, models, scores, searching, vectors  # noqa: F401 which adds commands
from taskvec.cli.terminal import INTERRUPTED, app

__all__ = ["app", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; bad input is one sentence on standard error and a non-zero status, never a traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal may know fewer characters than the tables have
    warnings.filterwarnings("ignore", module="PIL")  # of damage that it reads past; what it cannot read is an error
    try:
        status = app(arguments or ["--help"], standalone_mode=False) or 0
    except KeyboardInterrupt:
        status = INTERRUPTED
    except KeyError as error:
        return _complain(str(error.args[0]) if error.args else "something is missing", 1)
    except RecursionError:
        return _complain("what was given is nested too deeply", 1)
    except (ValueError, OSError, OverflowError, NotImplementedError, MemoryError, torch.OutOfMemoryError) as error:
        return _complain(str(error) or type(error).__name__, 1)
    except Exception as error:
        if type(error) is RuntimeError and "allocate" in str(error):  # as torch says it of a processor's memory
            return _complain("there is not enough memory for that", 1)
        # typer's errors of usage have no public class that all its versions share
        if not hasattr(error, "format_message"):
            raise
        return _complain(error.format_message(), 2)  # pyright: ignore[reportAttributeAccessIssue]
    return _complain("interrupted", INTERRUPTED) if status == INTERRUPTED else status


def _complain(message: str, status: int) -> int:
    print(f"taskvec: {' '.join(message.split())}", file=sys.stderr)
    return status
