"""Protocols by name. They differ in named options of ``FindSettings`` only, and a report says which was used."""

from dataclasses import replace

from taskvec.finding import FindSettings
from taskvec.names import choose_from
from taskvec.search import SEARCHES, ReinforceSettings

PRESETS = {
    # Sections 8.1 and 8.2: the final sites are a sample of the best checkpoint's distribution. The prompts behind the
    # means are said to have "reasonable one-shot performance", not how much: any are taken here.
    "paper": FindSettings(prompts=100, items=10, objective="pixel", search=ReinforceSettings(final="sample")),
    # What the published code does where it differs from the text: 500 steps, prompts in the order of the lists, the 100
    # best of 3000 behind the means, one hole for both images, a canvas decoded whole, all tasks chosen for by one.
    "official-code": FindSettings(
        prompts=100,
        pool=3000,
        items=10,
        held_out=490,
        objective="pixel",
        search=ReinforceSettings(steps=500, final="sample"),
        area="canvas",
        sampling="official",
        same_hole=True,
        judged_by=("segmentation",),
    ),
    # The defaults. Losses are read from the codes without decoding, so that they have a gradient by the shares of all
    # sites at once. The final set is the best of some samples by the task's metric on validation items, which matters
    # more than more steps; halving gives most of those items to the samples that do well on few.
    "best": FindSettings(),
}


def preset_named(name: str) -> FindSettings:
    """ValueError names the choices."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}: {choose_from(name, PRESETS)}")
    return PRESETS[name]


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
