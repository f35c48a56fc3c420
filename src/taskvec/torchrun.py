"""What torchrun tells the processes that it starts."""

import os


def started() -> int:
    """How many processes torchrun started together, of which this is one; 1 where it did not."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def is_first() -> bool:
    """Whether this process is the first of those that torchrun started, or was not started by it."""
    return int(os.environ.get("RANK", "0")) == 0
