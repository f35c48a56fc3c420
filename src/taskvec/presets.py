"""Protocols by name. They differ in named options of ``FindSettings`` only, and a report says which was used."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from taskvec.choices import DEFAULT, DEFAULT_OF_TEXTS, PRESETS, SEARCHES
from taskvec.files import read_toml
from taskvec.finding import TEXT_PROMPTS, FindSettings
from taskvec.models.interface import PromptedModel
from taskvec.models.pretrained import parse
from taskvec.names import choose_from
from taskvec.search import ReinforceSettings

# Sections 8.1 and 8.2: the final sites are a sample of the best checkpoint's distribution. The prompts behind the
# means are said to have "reasonable one-shot performance", not how much: any are taken here.
PAPER = FindSettings(
    prompts=100, items=10, objective="pixel", decoding="likeliest", search=ReinforceSettings(final="sample")
)
# What the published code does where it differs from the text: 500 steps, prompts in the order of the lists, the 100
# best of 3000 behind the means, one hole for both images, a canvas decoded whole, all tasks chosen for by one.
OFFICIAL_CODE = FindSettings(
    prompts=100,
    pool=3000,
    items=10,
    validation=490,
    objective="pixel",
    decoding="likeliest",
    search=ReinforceSettings(steps=500, final="sample"),
    area="canvas",
    sampling="official",
    same_hole=True,
    judged_by=("segmentation",),
)
# The defaults. Losses are read from the codes without decoding, so that they have a gradient by the shares of all
# sites at once. The final set is the best of some samples by the task's metric on validation items, which matters
# more than more steps; halving gives most of those items to the samples that do well on few. Answers are
# the mean of what the model believes.
BEST = FindSettings()
# The same for language models, whose prompts with examples are long: the mean over 50 of them is as good.
LANGUAGE = FindSettings(prompts=TEXT_PROMPTS)


def preset_named(name: str) -> FindSettings:
    """ValueError names the choices."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}: {choose_from(name, PRESETS)}")
    return PRESETS[name]


def default_preset(model: PromptedModel) -> str:
    """That of ``find`` for a model, where none is named."""
    return DEFAULT_OF_TEXTS if model.takes_texts else DEFAULT


def with_method(settings: FindSettings, method: str) -> FindSettings:
    """The same by another search, of SEARCHES, with the objective and the number of items of the preset that it is at
    home with: ``best`` of ``relaxed`` and the paper of the others, that is the task's own metric on 10 items.

    How the means come about stays. ValueError names the choices.
    """
    if method not in SEARCHES:
        raise ValueError(f"there is no search {method!r}: expected one of {', '.join(SEARCHES)}")
    if settings.search.name == method:
        return settings
    home = PRESETS[SEARCHES[method].preset]
    search = home.search if home.search.name == method else SEARCHES[method]()
    return replace(settings, objective=home.objective, items=home.items, search=search)


def settings_of(
    preset: str | None = None,
    method: str | None = None,
    file: Path | None = None,
    assignments: Sequence[str] = (),
    steps: int | None = None,
    given: Mapping[str, Any] | None = None,
) -> FindSettings:
    """Settings from all that a user may give; what comes later goes before what came earlier.

    * a preset, by default the one that the search ``method`` is at home with, or the paper's;
    * a TOML ``file`` with names of ``FindSettings`` and a table ``[search]`` of those of its search, which may name
      ``preset`` and ``method``, too, where these are not given;
    * ``assignments`` such as ``items=20`` or ``search.gate=hard_concrete``, with values as in TOML, or words;
    * ``steps`` of the search;
    * ``given``, by names of ``FindSettings``, but for those that are None.

    Raises ValueError, which says where, for a name or value that there is not.
    """
    of_file = read_toml(file) if file is not None else {}
    named = {name: of_file.pop(name, None) for name in ("preset", "method")}
    preset, method = preset or named["preset"], method or named["method"]
    if method is not None and method not in SEARCHES:
        raise ValueError(f"--method {method}: there is no such search, {choose_from(method, SEARCHES)}")
    settings = preset_named(preset or ("paper" if method is None else SEARCHES[method].preset))
    settings = settings if method is None else with_method(settings, method)
    if file is not None:
        settings = adjusted(settings, of_file, str(file))
    for assignment in assignments:
        settings = adjusted(settings, _assigned(assignment), f"--set {assignment}")
    if steps is not None:
        settings = adjusted(settings, {"search": {"steps": steps}}, f"--steps {steps}")
    return replace(settings, **{name: value for name, value in (given or {}).items() if value is not None})


def adjusted(settings: FindSettings, changes: Mapping[str, Any], source: str) -> FindSettings:
    """Settings with these changes, by names of ``FindSettings``, and under ``search`` of those of its search.

    Raises ValueError, which begins with ``source``, for a name that there is not, or a value of another type.
    """
    rest = {name: value for name, value in changes.items() if name != "search"}
    search = changes.get("search", {})
    if not isinstance(search, Mapping):
        raise ValueError(f"{source}: search is {search!r}, expected its settings by name (--method has another search)")
    own = _typed(type(settings.search), search, source, f"the search {settings.search.name}")
    whole = _typed(FindSettings, rest, source, "a search for task vectors")
    return replace(settings, **whole, search=replace(settings.search, **own))


def _typed(kind: type, values: Mapping[str, Any], source: str, what: str) -> dict[str, Any]:
    """Values of the types that a dataclass's fields have."""
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.name != "search"]
    for name in values:
        if name not in known:
            more = ", or search.NAME of the search" if kind is FindSettings else ""
            raise ValueError(f"{source}: {what} has no setting {name!r}: {choose_from(name, known, more)}")
    typed = {name: parse(dict[str, hints[name]], {name: value}, source)[name] for name, value in values.items()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in typed.items()}


def _assigned(assignment: str) -> dict[str, Any]:
    """``search.gate=share`` as {"search": {"gate": "share"}}."""
    name, equals, text = assignment.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"--set {assignment}: expected NAME=VALUE, such as search.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a word
    *tables, last = name.strip().split(".")
    values: dict[str, Any] = {last: value}
    for table in reversed(tables):
        values = {table: values}
    return values
