"""Names that users type."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from taskvec.choices import SHIPPED

HUB = "hub:"  # before OWNER/NAME
GGUF = ".gguf"


def choose_from(name: str, choices: Iterable[str], more: str = "") -> str:
    """What to expect in place of a name that there is not: "did you mean a? expected one of a, b"."""
    known = list(choices)
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}expected one of {', '.join(known)}{more}"


def check_model(name: str | Path) -> None:
    """ValueError for what is no model by its name: neither one that ships, nor a directory, a GGUF file or one of the
    hub."""
    if str(name) in SHIPPED or str(name).startswith(HUB) or Path(name).is_dir():
        return
    if not (str(name).endswith(GGUF) and Path(name).is_file()):
        more = f", a directory that holds one, or {HUB}OWNER/NAME"
        raise ValueError(f"{name} is no model: {choose_from(str(name), SHIPPED, more)}")
