from dataclasses import fields

import pytest

from taskvec.finding import FindSettings
from taskvec.presets import PRESETS, preset_named
from taskvec.search import ReinforceSettings, RelaxedSettings


def test_the_papers_protocol() -> None:
    paper = PRESETS["paper"]
    search = paper.search
    assert isinstance(search, ReinforceSettings)
    assert (search.steps, search.masks_per_item, paper.items, search.final) == (600, 32, 10, "sample")
    assert (paper.prompts, paper.objective, paper.sampling, paper.same_hole) == (100, "pixel", "balanced", False)


def test_the_official_code_differs_from_the_paper_in_named_options() -> None:
    paper, official = PRESETS["paper"], PRESETS["official-code"]
    different = {f.name for f in fields(FindSettings) if getattr(paper, f.name) != getattr(official, f.name)}
    assert different == {"pool", "held_out", "search", "area", "sampling", "same_hole", "judged_by"}
    assert isinstance(official.search, ReinforceSettings)
    assert official.search.steps == 500


def test_the_best_searches_by_gradient() -> None:
    assert isinstance(PRESETS["best"].search, RelaxedSettings)
    assert PRESETS["best"].objective == "token"


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no preset 'papers': expected one of paper, official-code, best"):
        preset_named("papers")
