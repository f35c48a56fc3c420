"""Answers side by side are those of the model itself; what cannot be used is a sentence."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from PIL import Image

from taskvec import evaluation
from taskvec.app.answers import ONE_SHOT, PATCHED, QUERY_ONLY, answer, answer_texts, drawn_example, weighted
from taskvec.data.templates import Wording
from taskvec.images import Raster, read_raster
from taskvec.metrics import METRICS
from taskvec.models.interface import PromptedModel, Queries
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import Batch
from taskvec.vectors import TaskVectors, input_pixels

Write = Callable[..., Path]


def test_answers_and_scores_are_those_of_the_model(
    small_model: MaeVqgan, mask_vectors: TaskVectors, image_file: Write
) -> None:
    query, truth = image_file("query.png"), image_file("truth.png", seed=1, mask=True)
    example = image_file("input.png", seed=2), image_file("output.png", seed=3, mask=True)
    found = answer(small_model, mask_vectors, query, example, truth)
    assert found.refused is None
    assert list(found.scores) == [ONE_SHOT, QUERY_ONLY, PATCHED]
    assert {picture.size for name, picture in found.pictures.items() if name in found.scores} == {(256, 192)}
    size = small_model.image_size

    def seen(path: Path, scale: int = 1) -> np.ndarray:
        return input_pixels(Raster(read_raster(path).levels * np.uint8(scale)), size)

    targets = torch.from_numpy(seen(truth, 255)[None].copy())
    batch = Batch(seen(example[0])[None], seen(example[1], 255)[None], seen(query)[None], targets.numpy(), None)
    for name, view, patch in (
        (ONE_SHOT, "one_shot", None),
        (QUERY_ONLY, "query_only", None),
        (PATCHED, "query_only", mask_vectors.patch),
    ):
        with torch.inference_mode():
            images = evaluation.run(mask_vectors.answering, view, patch)(batch)  # pyright: ignore[reportArgumentType]
        expected = float(METRICS["iou"].score(images, targets))
        assert found.scores[name] == pytest.approx(expected, abs=1e-6)
    assert set(np.unique(np.asarray(found.pictures[PATCHED]))) <= {0, 255}


def test_without_vectors_an_example_and_a_truth_the_model_answers_alone(
    small_model: MaeVqgan, image_file: Write
) -> None:
    found = answer(small_model, None, image_file("query.png"))
    assert list(found.pictures) == ["query", QUERY_ONLY]
    assert found.scores == {}


def test_what_cannot_be_used_is_a_sentence_with_its_name(
    small_model: MaeVqgan, mask_vectors: TaskVectors, image_file: Write, tmp_path: Path
) -> None:
    query, broken = image_file("query.png"), tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((9, 9), 900, np.uint16)).save(deep)
    wide = image_file("wide.png", size=(80, 20), mask=True)
    for refused, begins in (
        (answer(small_model, mask_vectors, broken), "broken.png cannot be read as an image: "),
        (answer(small_model, mask_vectors, query, truth=broken), "broken.png cannot be read as an image: "),
        (answer(small_model, mask_vectors, query, example=(query, broken)), "broken.png cannot be read as an image: "),
        (answer(small_model, mask_vectors, query, truth=wide), "wide.png"),
        (answer(small_model, mask_vectors, deep), "deep.png"),
        (answer(small_model, mask_vectors, tmp_path / "gone.png"), "gone.png"),
    ):
        assert refused.refused is not None
        assert refused.refused.startswith(begins), refused.refused
        assert str(tmp_path) not in refused.refused
        assert refused.pictures == {}


def test_weights_add_vectors_up(random_vectors: TaskVectors, mask_vectors: TaskVectors) -> None:
    both = weighted([(random_vectors, 0.5), (mask_vectors, -2)])
    assert both is not None
    assert both.fingerprint() == (0.5 * random_vectors - 2 * mask_vectors).fingerprint()
    assert weighted([(random_vectors, 1), (mask_vectors, 0)]) is random_vectors
    assert weighted([(random_vectors, 0)]) is None


def test_visitors_at_the_same_time_get_what_they_would_alone(
    small_model: MaeVqgan, random_vectors: TaskVectors, mask_vectors: TaskVectors, image_file: Write
) -> None:
    jobs = [
        (vectors, image_file(f"{seed}.png", seed=seed))
        for seed in range(4)
        for vectors in (random_vectors, mask_vectors, None)
    ]
    alone = [answer(small_model, *job).pictures for job in jobs]
    with ThreadPoolExecutor(6) as visitors:
        together = [each.pictures for each in visitors.map(lambda job: answer(small_model, *job), jobs * 3)]
    for found, expected in zip(together, alone * 3, strict=True):
        assert {name: picture.tobytes() for name, picture in found.items()} == {
            name: picture.tobytes() for name, picture in expected.items()
        }


def test_a_drawn_scene_is_of_the_tasks(tmp_path: Path) -> None:
    def drawn(*tasks: str) -> tuple[np.ndarray, np.ndarray]:
        files = drawn_example(tmp_path, tasks, 3)
        return np.asarray(Image.open(files["query"])), np.asarray(Image.open(files["truth"]))

    grey, colour = drawn("colorization")
    assert np.ptp(grey, -1).max() == 0
    assert np.ptp(colour, -1).max() > 0
    holed, mask = drawn("inpainting", "segmentation", "identity")
    assert (holed == 0).all(-1).mean() > 0.05
    whole, same = drawn("mine")
    assert np.array_equal(mask, same)
    assert set(np.unique(mask)) == {0, 255}
    assert not np.array_equal(holed, whole)
    assert np.array_equal(*drawn("identity"))


class Echo:
    """Stands in for a language model and for task vectors of it: says what it was asked, and how."""

    task = "plural"
    config = SimpleNamespace(wording=Wording("{input}:{output}\n", 3))

    def __init__(self, said: str) -> None:
        self.said = said

    def generate(self, texts: list[str], tokens: int) -> list[str]:
        return [f"{self.said} {text.strip()} {tokens}\nand more" for text in texts]


def test_texts_are_answered_with_and_without_vectors() -> None:
    model, vectors = cast(PromptedModel, Echo("bare")), cast(TaskVectors, Echo("patched"))
    assert answer_texts(model, vectors, [" bat ", "cow"], 4) == [
        {"input": "bat", QUERY_ONLY: "bare bat: 4", PATCHED: "patched bat 4\nand more"},
        {"input": "cow", QUERY_ONLY: "bare cow: 4", PATCHED: "patched cow 4\nand more"},
    ]


def test_texts_need_vectors_of_texts(small_model: MaeVqgan, random_vectors: TaskVectors) -> None:
    with pytest.raises(ValueError, match="are of images: texts are none"):
        answer_texts(small_model, random_vectors, ["bat"])


def test_queries_are_seen_as_vectors_alone_see_them(random_vectors: TaskVectors, image_file: Write) -> None:
    """The page's answer is that of ``vectors(image)``, at another size."""
    query = image_file("query.png", size=(15, 15))
    shown = answer(random_vectors.model, random_vectors, query).pictures[PATCHED]
    model, patch = random_vectors.answering, random_vectors.patch
    items = model.prepare(Queries(input_pixels(read_raster(query), 15)[None]), "query_only")
    with torch.inference_mode(), patch.applied(model, items.places):
        expected = Image.fromarray(model.answers(model.run(items), items)[0].numpy())
    assert shown.tobytes() == expected.resize(shown.size, Image.Resampling.BICUBIC).tobytes()
