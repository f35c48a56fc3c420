from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from taskvec import library as module
from taskvec.data.arrays import ArrayPairs, pairs
from taskvec.data.pairs import WordPairs
from taskvec.heads import Means
from taskvec.intervals import gain
from taskvec.library import Library, LibraryScores
from taskvec.metrics import METRICS
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.vectors import TaskVectors


@pytest.fixture
def root(small_model: MaeVqgan, small_means: Means, tmp_path: Path) -> Path:
    """Three task vectors of the small model, one of them deeper, beside what is none."""
    sites = small_model.sites("quadrant")
    for name, task, chosen in (("a", 0, (0, 5)), ("b/c", 1, (2, 7)), ("b/d", 1, (1, 9))):
        means = {stack: mean[task] for stack, mean in small_means.items()}
        found = TaskVectors.select(small_model, sites, sites.mask(chosen), means, task=name, metric="mse")
        found.save_pretrained(tmp_path / name)
    small_model.save_pretrained(tmp_path / "model")
    (tmp_path / "b" / "config.json").write_text("[")
    return tmp_path


@pytest.fixture
def data(random: np.random.Generator) -> ArrayPairs:
    images = random.integers(0, 256, (2, 12, 15, 15, 3), np.uint8)
    return pairs(images[0], images[1], metric="mse")


def test_a_library_has_what_is_in_a_directory(root: Path) -> None:
    library = Library(root)
    assert list(library) == ["a", "b/c", "b/d"]
    assert (len(library), "b" in library) == (3, False)
    assert library["b/c"].config.task == "b/c"
    assert repr(library) == f"Library({str(root)!r}: a, b/c, b/d)"
    assert repr(Library(root / "model")).endswith(": no task vectors)")
    with pytest.raises(ValueError, match=r"there is no directory .*nowhere: expected one that holds task vectors"):
        Library(root / "nowhere")


def test_all_are_scored_on_the_same_pairs_with_their_model_loaded_once(
    root: Path, data: ArrayPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = module.load_model
    monkeypatch.setattr(module, "load_model", lambda name, device: loaded.append(name) or load(root / name, device))
    monkeypatch.setattr(module, "base_model_of", lambda directory: "model")
    scores = Library(root).score(data, pairs=10)
    assert loaded == ["model"]
    assert sorted(scores.scores) == ["a", "b/c", "b/d"]
    assert {len(each) for each in scores.scores.values()} == {10}
    assert np.array_equal(scores.alone["a"], scores.alone["b/c"])
    means = [scores.scores[name].mean() for name in scores.ranking]
    assert means == sorted(means)
    assert scores.seen == {"a": 0, "b/c": 0, "b/d": 0}
    assert repr(scores).splitlines()[0] == (
        "pairs, MSE, lower is better: 10 pairs in 10 independent groups; gains are over the query alone"
    )
    assert [line.split()[0] for line in repr(scores).splitlines()[1:]] == scores.ranking


def test_what_cannot_be_scored_is_left_out_with_the_reason(
    root: Path, data: ArrayPairs, small_model: MaeVqgan, tmp_path: Path
) -> None:
    content = (root / "a" / "config.json").read_text()
    (root / "a" / "config.json").write_text(content.replace('"task": "a"', '"task": "e"'))
    (root / "b" / "c" / "vectors.safetensors").unlink()
    scores = Library(root).score(data, model=small_model)
    assert list(scores.scores) == ["b/d"]
    assert "its checksum is another" in scores.skipped["a"]
    assert "there is no vectors.safetensors in it" in scores.skipped["b/c"]
    with pytest.raises(ValueError, match=r"^none of the task vectors in .* can be scored: .*pass the directory of"):
        Library(root).score(data)
    (tmp_path / "words.csv").write_text("a,b\nc,d\ne,f\ng,h\n")
    with pytest.raises(ValueError, match=r"b/d: they are of images, and the pairs are texts"):
        Library(root).score(WordPairs(root=tmp_path / "words.csv", split="all"), model=small_model)
    with pytest.raises(ValueError, match=r"can be scored: there are none$"):
        Library(root / "model").score(data)


def _scores(**of: np.ndarray) -> LibraryScores:
    count = len(of["alone"])
    own = {name: scores for name, scores in of.items() if name != "alone"}
    names = [f"image {number}" for number in range(count)]
    return LibraryScores("t", METRICS["iou"], names, own, dict.fromkeys(own, of["alone"]), dict.fromkeys(own, 0), {})


def test_the_best_is_told_with_what_it_is_better_than(random: np.random.Generator) -> None:
    alone = random.uniform(0.2, 0.4, 20)
    best = _scores(good=alone + random.uniform(0.2, 0.4, 20), poor=alone - 0.1, alone=alone).best()
    assert (best.name, best.runner_up, best.beats_query_only) == ("good", "poor", True)
    assert repr(best).startswith("good is the best with IoU 0.")
    assert " over the query alone, and ahead of poor, +0." in repr(best)
    alike = _scores(good=alone + 0.3, poor=alone + 0.3 + np.tile([0.09, -0.1], 10), alone=alone).best()
    assert "and not shown to be ahead of poor" in repr(alike)
    single = _scores(good=alone + 0.3, alone=alone).best()
    assert repr(single).endswith("over the query alone; there is no other.")


def test_none_is_the_best_where_none_beats_the_query_alone(random: np.random.Generator) -> None:
    alone = random.uniform(0.2, 0.8, 20)
    best = _scores(first=alone - 0.1, second=alone + random.normal(0, 0.1, 20), alone=alone).best()
    assert not best.beats_query_only
    assert repr(best).startswith("None is shown to beat the query alone: second comes nearest with IoU")
    few = _scores(first=alone[:4] + 0.2, alone=alone[:4]).best()
    assert not few.beats_query_only
    assert repr(few).startswith(
        "Too few pairs to tell: 4 independent ones, it takes 5 or more. first has the best mean"
    )


def test_a_choice_among_many_is_not_flattered(random: np.random.Generator) -> None:
    """Of 200 libraries of 20 task vectors that are noise, few have a best one that seems to beat the query alone."""
    told = [0, 0]
    for _ in range(200):
        alone = random.normal(0.5, 0.05, 15)
        own = {f"v{number}": alone + random.normal(0, 0.1, 15) for number in range(20)}
        scores = _scores(**own, alone=alone)
        best = scores.best()
        told[0] += best.beats_query_only
        told[1] += gain(scores.metric, own[best.name], alone, scores.groups).low > 0
    assert told[0] <= 15 < told[1]  # 2.5 % are expected; alone, an interval of 95 % is fooled again and again


def test_a_given_model_serves_what_belongs_to_it(
    root: Path, data: ArrayPairs, small_model: MaeVqgan, random_vectors: TaskVectors
) -> None:
    replace(random_vectors).save_pretrained(root / "e")
    library = Library(root)
    assert library["e"].load(small_model).fingerprint() == random_vectors.fingerprint()
    best = library.best(data, model=small_model, pairs=8)
    assert best.name in library
    assert len(best.scores.groups) == 8
