"""Protocols by name. They differ in named options of ``FindSettings`` only, and a report says which was used."""

from taskvec.finding import FindSettings
from taskvec.names import choose_from
from taskvec.search import ReinforceSettings, RelaxedSettings

PRESETS = {
    # Sections 8.1 and 8.2: the final sites are a sample of the best checkpoint's distribution. The prompts behind the
    # means are said to have "reasonable one-shot performance", not how much: any are taken here.
    "paper": FindSettings(search=ReinforceSettings(final="sample")),
    # What the published code does where it differs from the text: 500 steps, prompts in the order of the lists, the 100
    # best of 3000 behind the means, one hole for both images, a canvas decoded whole, all tasks chosen for by one.
    "official-code": FindSettings(
        pool=3000,
        held_out=490,
        search=ReinforceSettings(steps=500, final="sample"),
        area="canvas",
        sampling="official",
        same_hole=True,
        judged_by=("segmentation",),
    ),
    # Losses are read from the codes without decoding, so that they have a gradient by the shares of all sites at once.
    # The final set is the best of some samples by the task's metric on held-out items, which matters more than more
    # steps; halving gives most of those items to the samples that do well on few.
    "best": FindSettings(prompts=200, items=40, objective="token", search=RelaxedSettings(halving=True)),
}


def preset_named(name: str) -> FindSettings:
    """ValueError names the choices."""
    if name not in PRESETS:
        raise ValueError(f"there is no preset {name!r}: {choose_from(name, PRESETS)}")
    return PRESETS[name]
