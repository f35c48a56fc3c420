from importlib.resources import files

import pytest

from taskvec import evaluation
from taskvec.data.pictures import Pictures
from taskvec.models import SHIPPED, load_model
from taskvec.prompts import draw_prompts
from taskvec.tasks import COLORIZATION, INPAINTING, LOW_LIGHT, Task


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_are_small_and_have_a_card(name: str) -> None:
    directory = files("taskvec") / "weights" / name
    assert len((directory / "model.safetensors").read_bytes()) < 40e6
    assert (directory / "README.md").read_text().startswith("---\nlicense: apache-2.0\n")


@pytest.mark.parametrize("task", [LOW_LIGHT, INPAINTING, COLORIZATION])
def test_small_needs_and_uses_the_example_on_photographs(task: Task) -> None:
    model = load_model("small")
    prompts = draw_prompts(Pictures(), task, 10, model.config.image_size, seed=0)
    one_shot, query_only = (
        evaluation.scores(model, evaluation.run(model, view), prompts).mean() for view in ("one_shot", "query_only")
    )
    assert one_shot < 0.8 * query_only
