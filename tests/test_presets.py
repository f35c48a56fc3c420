import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest

from taskvec.finding import FindSettings
from taskvec.presets import PRESETS, preset_named, settings_of, with_method
from taskvec.search import SEARCHES, CmaSettings, GreedySettings, ReinforceSettings, RelaxedSettings, SearchSettings


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
    assert (paper.validation, paper.granularity) == (100, "quadrant")
    assert (paper.prompts, paper.objective, paper.sampling, paper.same_hole) == (100, "pixel", "balanced", False)


def test_the_official_code_differs_from_the_paper_in_named_options() -> None:
    paper, official = PRESETS["paper"], PRESETS["official-code"]
    different = {f.name for f in fields(FindSettings) if getattr(paper, f.name) != getattr(official, f.name)}
    assert different == {"pool", "validation", "search", "area", "sampling", "same_hole", "judged_by"}
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
    with pytest.raises(
        ValueError, match="there is no search 'luck': expected one of reinforce, relaxed, attribution, cma, greedy"
    ):
        with_method(best, "luck")


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no preset 'papers': did you mean paper"):
        preset_named("papers")


@pytest.mark.parametrize("method", SEARCHES)
def test_every_setting_can_be_assigned(method: str) -> None:
    """As it is already: what ``--set`` takes for each field of the settings and of the search, as TOML."""
    settings = with_method(PRESETS["best"], method)
    for prefix, owner in (("", settings), ("search.", settings.search)):
        for field in fields(owner):
            value = getattr(owner, field.name)
            if field.name != "search" and value is not None:
                assignment = f"{prefix}{field.name}={json.dumps(value)}"
                assert settings_of("best", method, assignments=[assignment]) == settings


def test_what_is_given_later_goes_first(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'preset = "official-code"\nmethod = "relaxed"\nitems = 7\nseed = 3\n'
        '[search]\ngate = "hard_concrete"\nsteps = 9\n'
    )
    settings = settings_of(file=file)
    assert (settings.items, settings.seed, settings.sampling, settings.objective) == (7, 3, "official", "token")
    assert isinstance(settings.search, RelaxedSettings)
    assert (settings.search.gate, settings.search.steps) == ("hard_concrete", 9)
    words = ["search.gate=straight_through", 'judged_by=["identity"]', "same_hole=false", "search.steps=8"]
    settings = settings_of("best", None, file, words, 5, {"seed": 4, "prompts": None})
    assert (settings.sampling, settings.same_hole, settings.judged_by) == ("balanced", False, ("identity",))
    assert isinstance(settings.search, RelaxedSettings)
    assert (settings.search.gate, settings.search.steps, settings.seed) == ("straight_through", 5, 4)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("items", "--set items: expected NAME=VALUE, such as search.steps=100"),
        ("item=3", "--set item=3: a search for task vectors has no setting 'item': did you mean items"),
        ("search.stepps=3", "--set search.stepps=3: the search relaxed has no setting 'stepps': did you mean steps"),
        ("items=many", "--set items=many: items: input should be a valid integer"),
        ("search=3", "--set search=3: search is 3, expected its settings by name"),
        (
            "search.gate=open",
            "--set search.gate=open: gate: input should be 'share', 'straight_through' or 'hard_concrete'",
        ),
        ("stacks=encoder", "--set stacks=encoder: stacks: input should be a valid"),
    ],
)
def test_assignments_that_do_not_fit_are_refused(assignment: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        settings_of("best", assignments=[assignment])


def test_a_file_of_settings_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    for text, message in (
        ("items = = 3", "settings.toml is not TOML: "),
        ("[search]\nitms = 3", "settings.toml: the search reinforce has no setting 'itms': expected one of steps"),
        ("items = 0", "prompts, items and validation must each be at least 1"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=re.escape(message)):
            settings_of(file=file)
