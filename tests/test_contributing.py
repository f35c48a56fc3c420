"""What CONTRIBUTING.md shows is what works: its task, its metric and its search, pasted as they stand."""

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from taskvec import metrics, tasks
from taskvec.choices import Registry
from taskvec.data.scenes import Scenes
from taskvec.finding import FindSettings, find
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import draw_prompts
from taskvec.search import SearchSettings

SNIPPETS = re.findall(r"```python\n(.*?)```", Path("CONTRIBUTING.md").read_text(), re.S)


def _pasted(module: ModuleType, snippet: str) -> dict[str, object]:
    names = dict(vars(module))
    exec(snippet, names)  # noqa: S102 (our own text)
    return names


def test_the_task_is_one_of_the_tasks_then(monkeypatch: pytest.MonkeyPatch) -> None:
    names = _pasted(tasks, SNIPPETS[0])
    monkeypatch.setattr(tasks, "NEGATIVE", names["NEGATIVE"], raising=False)
    entry = re.findall(r'`("negative": "[\w.:]+")`', Path("CONTRIBUTING.md").read_text())
    task = Registry(json.loads(f"{{{entry[0]}}}"))["negative"]
    assert isinstance(task, tasks.Task)
    prompts = draw_prompts(Scenes("test"), task, 3, 16, seed=0)
    assert (prompts.query_output == 255 - prompts.query_input).all()
    assert task.title == "Negative"


def test_the_metric_scores_and_is_refused_until_it_is_listed(
    small_model: MaeVqgan, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = _pasted(metrics, SNIPPETS[1])["MAE"]
    assert isinstance(metric, metrics.Metric)
    black, grey = torch.zeros(2, 4, 4, 3, dtype=torch.uint8), torch.full((2, 4, 4, 3), 7, dtype=torch.uint8)
    assert metric.score(black, grey).tolist() == [7, 7]
    task = tasks.Task("dimmed", tasks.image, tasks.dark, metric=metric)
    settings = FindSettings(prompts=4, items=4, validation=4, search=_search())
    with pytest.raises(ValueError, match=r"the metric 'mae' of dimmed is not one of taskvec\.metrics\.METRICS"):
        find(small_model, Scenes("train"), task, settings, progress=False)
    monkeypatch.setitem(metrics.METRICS, "mae", metric)
    vectors = find(small_model, Scenes("train"), task, settings, progress=False)
    assert (vectors.config.metric, vectors.search.method) == ("mae", "random")
    assert repr(vectors).startswith("TaskVectors(task='dimmed', metric='mae', sites=")


def _search() -> SearchSettings:
    names: dict[str, object] = {"__name__": "random_search"}
    exec(SNIPPETS[2], names)  # noqa: S102 (our own text)
    kind = names["RandomSettings"]
    assert isinstance(kind, type)
    return kind(trials=6)


def test_ctrl_c_keeps_the_best_of_the_search(small_model: MaeVqgan) -> None:
    def stop(record: dict[str, object]) -> None:
        if record["step"] == 4:
            raise KeyboardInterrupt

    settings = FindSettings(prompts=4, items=4, validation=4, search=_search())
    with pytest.raises(KeyboardInterrupt) as caught:
        find(small_model, Scenes("train"), "low_light", settings, on_step=stop, progress=False)
    assert len(caught.value.vectors[0].search.history) == 4  # pyright: ignore[reportAttributeAccessIssue]
