"""What every HTML report shares: templates, pictures inside the page, settings as rows of text."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from taskvec.sites import Site


def environment() -> Environment:
    """The templates of this package: everything that is put into them is escaped, a name without a value an error."""
    loader = PackageLoader("taskvec.report", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def data_uri(picture: bytes | str) -> str:
    """A PNG (bytes) or an SVG (text) as an address that holds it; an SVG's names thus stay its own."""
    kind, data = ("png", picture) if isinstance(picture, bytes) else ("svg+xml", picture.encode())
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def place(site: Site) -> str:
    """A site in words: encoder layer 3 head 2, query input, token 17; layers, heads and tokens count from 0."""
    head = "" if site.head is None else f" head {site.head}"
    region = "" if site.region is None else f", {site.region.replace('_', ' ')}"
    return f"{site.stack} layer {site.layer}{head}{region}" + ("" if site.token is None else f", token {site.token}")


def facts(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as flat rows of text: {"search": {"steps": 80}} becomes {"search · steps": "80"}; what is None,
    such as a metric that nobody asked for, is left out."""
    rows: dict[str, str] = {}
    for name, value in values.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows |= facts(value, f"{label} \N{MIDDLE DOT} ")
        elif value is not None:
            rows[label] = _text(value)
    return rows


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
