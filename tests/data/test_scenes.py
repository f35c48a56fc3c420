import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskvec.data import DATA_SETS, judging_split
from taskvec.data.examples import Examples
from taskvec.data.scenes import CLASSES, FOLDS, SPLITS, Scenes


def _masks(examples: Examples) -> np.ndarray:
    assert examples.masks is not None
    return examples.masks


@settings(max_examples=15)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=5), st.sampled_from(SPLITS), st.integers(0, 9))
def test_a_scene_depends_on_its_own_index_alone(indices: list[int], split: str, seed: int) -> None:
    scenes = Scenes(split, seed=seed)
    together = scenes.load(np.array(indices), 16)
    for row, index in enumerate(indices):
        alone = scenes.load(np.array([index]), 16)
        assert np.array_equal(together.images[row], alone.images[0])
        assert np.array_equal(_masks(together)[row], _masks(alone)[0])
        assert together.classes[row] == scenes.class_of(np.array([index]))[0]


def test_splits_and_seeds_have_nothing_in_common() -> None:
    indices = np.arange(300)
    variants = [Scenes("train"), Scenes("validation"), Scenes("test"), Scenes("train", seed=1)]
    seen = {image.tobytes() for scenes in variants for image in scenes.load(indices, 16).images}
    assert len(seen) == len(indices) * len(variants)


def test_folds_divide_the_classes() -> None:
    folds = [np.unique(Scenes(fold=fold).load(np.arange(30), 8).classes) for fold in range(FOLDS)]
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(CLASSES)))
    assert len(CLASSES) >= 8


def test_every_scene_has_an_object_and_a_background() -> None:
    examples = Scenes("validation").load(np.arange(600), 32)
    assert set(np.unique(_masks(examples))) == {0, 255}
    share = (_masks(examples) == 255).mean((1, 2))
    assert share.min() > 0.03
    assert share.max() < 0.6


def test_the_object_stands_out_in_grey() -> None:
    """Segmentation from a grey image must be possible: the object's level differs from the background's."""
    examples = Scenes("validation").load(np.arange(200), 32)
    grey = examples.images.mean(-1)
    inside = _masks(examples) == 255
    difference = [abs(g[m].mean() - g[~m].mean()) for g, m in zip(grey, inside, strict=True)]
    assert np.median(difference) > 40


def test_colour_is_predictable_from_grey_texture_and_object() -> None:
    """Objects are warm, backgrounds cool: a good part of what colorization has to guess is told by the mask alone."""
    examples = Scenes("validation").load(np.arange(300), 32)
    red_over_blue = examples.images[..., 0].astype(int) - examples.images[..., 2]
    inside = _masks(examples) == 255
    assert red_over_blue[inside].mean() > 40
    assert red_over_blue[~inside].mean() < -30


@pytest.mark.parametrize("size", [1, 7, 32, 111])
def test_any_size(size: int) -> None:
    examples = Scenes().load(np.array([3]), size)
    assert examples.images.shape == (1, size, size, 3)
    assert _masks(examples).shape == (1, size, size)


def test_names_that_there_are_not_are_refused() -> None:
    with pytest.raises(ValueError, match="scenes have no split 'holdout': expected one of train, validation, test"):
        Scenes("holdout")
    with pytest.raises(ValueError, match="scenes have no fold 4: expected 0 to 3"):
        Scenes(fold=4)


def test_the_final_split_has_scenes_of_its_own_and_moved_no_other() -> None:
    assert SPLITS.index("test") == 2  # in the random stream of its scenes
    splits = [Scenes(split, seed=3).load(np.arange(3), 16).images for split in SPLITS]
    assert all((one != other).any() for one, other in itertools.combinations(splits, 2))
    assert judging_split("scenes") == "final"
    assert {judging_split(name) for name in DATA_SETS if name != "scenes"} == {"test"}
