from importlib.resources import files

import numpy as np

from taskvec.data.pictures import Pictures
from taskvec.prompts import draw_prompts, pairs_of
from taskvec.tasks import SEGMENTATION


def test_six_photographs_with_masks_of_two_levels() -> None:
    data = Pictures()
    examples = data.load(np.arange(len(data)), 224)
    assert data.names(np.arange(6)) == ["astronaut", "cat", "coffee", "flower", "rocket", "temple"]
    assert examples.images.shape == (6, 224, 224, 3)
    assert examples.masks is not None
    assert set(np.unique(examples.masks)) == {0, 255}
    shares = (examples.masks > 0).mean((1, 2))
    assert all((shares > 0.02) & (shares < 0.95))


def test_each_is_an_example_for_each_other() -> None:
    prompts = draw_prompts(Pictures(), SEGMENTATION, pairs_of(Pictures()), 32, seed=0)
    assert len({*zip(prompts.support_names, prompts.query_names, strict=True)}) == 30


def test_each_has_its_terms() -> None:
    terms = (files("taskvec") / "pictures" / "README.md").read_text()
    assert all(f"| {name} |" in terms for name in Pictures().names(np.arange(6)))
