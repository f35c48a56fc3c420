from dataclasses import fields, replace

import pytest

from taskvec.finding import FindSettings
from taskvec.presets import PRESETS, preset_named, with_method
from taskvec.search import CmaSettings, GreedySettings, ReinforceSettings, RelaxedSettings, SearchSettings


def test_the_papers_protocol() -> None:
    paper = PRESETS["paper"]
    search = paper.search
    assert isinstance(search, ReinforceSettings)
    assert (search.steps, search.masks_per_item, paper.items, search.final) == (600, 32, 10, "sample")
    assert (search.learning_rate, search.initial_logit, search.checkpoint_every, search.baseline) == (
        0.1,
        -1,
        50,
        "batch",
    )
    assert (paper.held_out, paper.granularity) == (100, "quadrant")
    assert (paper.prompts, paper.objective, paper.sampling, paper.same_hole) == (100, "pixel", "balanced", False)


def test_the_official_code_differs_from_the_paper_in_named_options() -> None:
    paper, official = PRESETS["paper"], PRESETS["official-code"]
    different = {f.name for f in fields(FindSettings) if getattr(paper, f.name) != getattr(official, f.name)}
    assert different == {"pool", "held_out", "search", "area", "sampling", "same_hole", "judged_by"}
    assert isinstance(official.search, ReinforceSettings)
    assert official.search.steps == 500


def test_the_best_is_the_default_and_searches_by_gradient() -> None:
    assert PRESETS["best"] == FindSettings()
    assert FindSettings().search == RelaxedSettings(halving=True)
    assert (FindSettings().objective, FindSettings().items, FindSettings().bfloat16) == ("token", 40, False)


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize(
    ("method", "search"),
    [("cma", CmaSettings()), ("greedy", GreedySettings()), ("reinforce", ReinforceSettings(final="sample"))],
)
def test_the_papers_searches_are_the_papers_whatever_the_preset(
    preset: str, method: str, search: SearchSettings
) -> None:
    start = PRESETS[preset]
    settings = with_method(start, method)
    if type(start.search) is type(search):
        assert settings == start
    else:
        assert settings == replace(start, objective="pixel", items=10, search=search)


def test_the_search_by_gradient_brings_its_objective() -> None:
    settings = with_method(PRESETS["paper"], "relaxed")
    best = PRESETS["best"]
    assert settings == replace(PRESETS["paper"], objective="token", items=40, search=best.search)
    with pytest.raises(ValueError, match="there is no search 'luck': expected one of reinforce, relaxed, cma, greedy"):
        with_method(best, "luck")


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no preset 'papers': did you mean paper"):
        preset_named("papers")
