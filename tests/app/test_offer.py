"""What the page offers: models by name alone, and the directories of task vectors that are of them."""

from pathlib import Path

import pytest

from taskvec.app.offer import MADE, Offer
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.statistics import collect
from taskvec.vectors import TaskVectors


def test_only_what_was_named_is_offered(small_directory: Path) -> None:
    offer = Offer([str(small_directory)])
    assert offer.model(str(small_directory)) is offer.model(str(small_directory))
    with pytest.raises(ValueError, match=f"the model /etc is not offered here: expected one of {small_directory}"):
        offer.model("/etc")


def test_vectors_of_the_model_are_found_in_places_below_and_in_what_was_made(
    small_model: MaeVqgan, tiny: MaeVqgan, random_vectors: TaskVectors, tmp_path: Path
) -> None:
    places, made = [tmp_path / "first", tmp_path / "second"], tmp_path / "made"
    for place in (places[0] / "deeper" / "one", places[1] / "deeper" / "one", made / "one"):
        random_vectors.save_pretrained(place)
    (places[0] / "two").mkdir()
    (places[0] / "two" / "config.json").write_text('{"model_fingerprint": "damaged"}')
    offer = Offer(["tiny"], places)
    assert offer.vectors(small_model, made) == {
        "deeper/one": places[0] / "deeper" / "one",
        str(places[1] / "deeper" / "one"): places[1] / "deeper" / "one",
        f"one {MADE}": made / "one",
    }
    assert offer.vectors(tiny, made) == {}
    assert Offer(["tiny"], [made / "one"]).vectors(small_model) == {"one": made / "one"}


def test_taskness_is_that_of_statistics_of_several_tasks(
    small_model: MaeVqgan, tiny: MaeVqgan, small_prompts: list, tmp_path: Path
) -> None:
    for name, prompts in (("alone", small_prompts[:1]), ("both", small_prompts)):
        collect(small_model, prompts).save(tmp_path / name)
    offer = Offer(["tiny"], statistics=[tmp_path / "alone", tmp_path / "both"])
    known = offer.taskness(small_model)
    assert known is not None
    assert {stack: tuple(scores.shape) for stack, scores in known.heads.items()} == {
        "encoder": (2, 4),
        "decoder": (2, 2),
    }
    assert offer.taskness(tiny) is None
    assert Offer(["tiny"], statistics=[tmp_path / "alone"]).taskness(small_model) is None
