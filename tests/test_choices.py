"""What users choose from is what the rest of the package knows by these names."""

from importlib.util import find_spec

import pytest

from taskvec.choices import DATA_SETS, IMAGE_METRICS, METRICS, PRESETS, SEARCHES, SHIPPED, TASKS, Registry
from taskvec.experiments import EXPERIMENTS
from taskvec.finding import FindSettings
from taskvec.records import SHIPPED_MODELS
from taskvec.search import SearchSettings


@pytest.mark.parametrize("registry", [TASKS, METRICS, IMAGE_METRICS, SEARCHES])
def test_names_are_those_that_objects_have(registry: Registry) -> None:
    assert len(registry) > 1
    assert all(found.name == name for name, found in registry.items())


def test_what_is_chosen_is_what_it_is_taken_for() -> None:
    assert IMAGE_METRICS.keys() == {name for name, metric in METRICS.items() if not metric.of_tokens}
    assert all(isinstance(settings, FindSettings) for settings in PRESETS.values())
    assert all(issubclass(kind, SearchSettings) for kind in SEARCHES.values())
    assert all(map(callable, DATA_SETS.values()))
    assert all((SHIPPED_MODELS / name / "config.json").is_file() for name in SHIPPED)


def test_every_experiment_is_there() -> None:
    for experiment in EXPERIMENTS.values():
        assert callable(experiment._of_module(experiment.cells_by))
        assert callable(experiment._of_module(experiment.drawn_by))


def test_an_object_is_imported_when_it_is_asked_for() -> None:
    lazy: Registry = Registry({"here": "taskvec.choices:SHIPPED", "nowhere": "taskvec.no_such_module:NAME"})
    assert find_spec("taskvec.no_such_module") is None
    assert list(lazy) == ["here", "nowhere"]
    assert "nowhere" in lazy
    assert lazy["here"] is SHIPPED
    with pytest.raises(ModuleNotFoundError):
        lazy["nowhere"]
    lazy["nowhere"] = "added"
    assert lazy["nowhere"] == "added"
