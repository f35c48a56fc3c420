"""Names that users type."""

from collections.abc import Iterable
from difflib import get_close_matches


def choose_from(name: str, choices: Iterable[str], more: str = "") -> str:
    """What to expect in place of a name that there is not: "did you mean a? expected one of a, b"."""
    known = list(choices)
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}expected one of {', '.join(known)}{more}"
