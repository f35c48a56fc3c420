"""The whole job on texts: a search, task vectors as a file, answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from taskvec import FindSettings, TaskVectors, evaluation, find, find_all
from taskvec.card import card
from taskvec.data.pairs import WordPairs
from taskvec.data.templates import Wording
from taskvec.finding import find_sites, parts_of
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.prompts import draw_prompts, shots_of
from taskvec.provenance import Drawn
from taskvec.refining import RefineSettings, refine
from taskvec.search import CmaSettings, RelaxedSettings

pytest.importorskip("transformers")

from byte_decoder import byte_decoder
from taskvec.models.causal_lm import CausalLm
from taskvec.models.interface import Variant

COARSE = FindSettings(
    prompts=4, items=4, validation=4, search=RelaxedSettings(steps=4, items=4, checkpoint_every=2, candidates=2)
)


@pytest.fixture(scope="module")
def model() -> CausalLm:
    return byte_decoder()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "plural.csv"
    path.write_text("".join(f"{word},{word}s\n" for word in _words(24)))
    return path


def _words(count: int) -> list[str]:
    return [f"{first}{second}t" for first in "bcdfgh" for second in "aeio"][:count]


@pytest.fixture(scope="module")
def vectors(model: CausalLm, pairs: Path) -> TaskVectors:
    return find(model, WordPairs(pairs, template="colon", shots=3), settings=COARSE, progress=False)


def test_a_search_lowers_the_models_own_loss(vectors: TaskVectors) -> None:
    """Of a random model, whose means say nothing of a task, that of the items that are searched on."""
    losses = [record["loss"] or 0.0 for record in vectors.search.history]
    assert len(losses) == COARSE.search.number_of_steps
    assert sorted(losses, reverse=True) == losses
    assert (vectors.task, vectors.config.metric) == ("plural", "top1")
    assert isinstance(vectors.search.statistics, Drawn)
    assert vectors.search.statistics.data["shots"] == 3


def test_they_are_a_file_with_their_wording(model: CausalLm, vectors: TaskVectors, tmp_path: Path) -> None:
    vectors.save_pretrained(tmp_path)
    again = TaskVectors.load(tmp_path, model)
    assert again.config == vectors.config
    assert again.config.wording is not None
    assert (again.config.wording.template, again.config.wording.shots) == ("{input}:{output}\n", 3)
    assert again.fingerprint() == vectors.fingerprint()
    assert again.generate(["bat"], 4) == vectors.generate(["bat"], 4)


def test_they_record_how_many_examples_there_were(model: CausalLm, pairs: Path) -> None:
    data = WordPairs(pairs, template="colon", shots=50)
    found = find(model, data, settings=COARSE, progress=False)
    assert found.config.wording is not None
    assert found.config.wording.shots == len(parts_of(data)[0]) - 1 == shots_of(parts_of(data)[0])


def test_answers_are_what_the_model_says_under_the_patch(model: CausalLm, vectors: TaskVectors) -> None:
    asked = ["bat:", "hot:"]
    said = model.generate(asked, 5, patch=vectors.patch)
    assert vectors.generate(["bat", "hot"], 5) == [text.split("\n")[0].strip() for text in said]
    assert vectors(["bat", "hot"]) == vectors.generate(["bat", "hot"])
    assert vectors("bat") == vectors(["bat"])[0]
    assert said != model.generate(asked, 5)
    assert vectors.generate([" bat\n"], 5) == vectors.generate(["bat"], 5)
    with pytest.raises(ValueError, match="the input ' ' is empty: expected text"):
        vectors.generate(["bat", " "])
    with pytest.raises(ValueError, match="the inputs are one text, 'bat': expected a list of texts"):
        vectors.generate("bat")
    drawn = [vectors.generate(["bat"], 8, temperature=2.0, seed=seed)[0] for seed in range(4)]
    assert len(set(drawn)) > 1
    assert drawn[0] == vectors.generate(["bat"], 8, temperature=2.0, seed=0)[0]


def test_images_and_texts_are_told_apart(vectors: TaskVectors, random_vectors: TaskVectors) -> None:
    image = Image.new("RGB", (8, 8))
    with pytest.raises(ValueError, match="the task vectors of plural are of texts: images are none"):
        vectors([image])
    with pytest.raises(ValueError, match="are of images: texts are none"):
        random_vectors(["bat"])
    with pytest.raises(ValueError, match="'bat' is no image"):
        random_vectors([image, "bat"])  # pyright: ignore[reportCallIssue, reportArgumentType]


def test_several_relations_share_their_sites_and_add_up(model: CausalLm, pairs: Path, tmp_path: Path) -> None:
    other = tmp_path / "upper.csv"
    other.write_text("".join(f"{word},{word.upper()}\n" for word in _words(20)))
    data = [WordPairs(path, template="colon", shots=3) for path in (pairs, other)]
    first, second = find_all(model, data, [None, None], COARSE, progress=False)
    assert first.sites == second.sites
    both = 0.5 * first + 0.5 * second
    assert (both.config.wording, both.config.metric) == (first.config.wording, "top1")
    assert len(both.generate(["bat"], 3)) == 1


def test_vectors_of_one_template_are_not_used_as_those_of_another(vectors: TaskVectors, pairs: Path) -> None:
    asked = replace(vectors.config, wording=Wording("Q: {input}\nA: {output}\n\n", 3))
    with pytest.raises(ValueError, match=r"are for different templates, '\{input\}:\{output\}\\n' and 'Q: "):
        _ = vectors + replace(vectors, config=asked)
    with pytest.raises(ValueError, match="the task vectors of plural are for the template"):
        refine(vectors, WordPairs(pairs, shots=3), RefineSettings(steps=1))


def test_effects_may_be_looked_for_under_shuffled_labels(model: CausalLm, pairs: Path) -> None:
    """The prompts are those with examples, whose outputs are each other's; the choice stays with the query alone."""
    data = WordPairs(pairs, template="colon", shots=3)
    found = []
    for searched_in in ("query_only", "shuffled"):
        settings = FindSettings(prompts=4, items=3, validation=4, search=CmaSettings(), searched_in=searched_in)
        found.append(find_sites(model, data, [data.own_task], settings).result)
    assert found[0].scores is not None
    assert found[1].scores is not None
    assert not torch.equal(found[0].scores, found[1].scores)
    with pytest.raises(ValueError, match="sites cannot be searched in 'canvas': expected query_only or shuffled"):
        FindSettings(searched_in="canvas")  # pyright: ignore[reportArgumentType]


def test_whole_answers_are_right_only_where_every_token_is(model: CausalLm, pairs: Path) -> None:
    test = WordPairs(pairs, "test", template="colon", shots=3)
    prompts = draw_prompts(test, test.own_task, 5, 0, seed=0)
    whole = model.variant(Variant(answers="whole"))
    assert whole.truths(prompts).shape[1] == len("bats")
    for each in (model, whole):
        judged = evaluation.evaluate(each, evaluation.run(each, "one_shot"), prompts)
        right = (judged.tokens == each.truths(prompts).numpy()).all(1)
        assert np.array_equal(judged.scores, right.astype(float))


def test_answers_are_no_longer_than_what_is_scored(model: CausalLm, tmp_path: Path) -> None:
    """Truths of one prompt are shorter than those of another, behind which there is nothing that anybody asked for."""
    path = tmp_path / "again.csv"
    path.write_text("".join(f"{word},{word * (1 + row % 3)}\n" for row, word in enumerate(_words(24))))
    data = WordPairs(path, "all", template="colon", shots=2)
    prompts = draw_prompts(data, data.own_task, 6, 0, seed=0)
    whole = model.variant(Variant(answers="whole"))
    judged = evaluation.evaluate(whole, evaluation.run(whole, "one_shot"), prompts)
    assert judged.tokens is not None
    lengths = (judged.tokens >= 0).sum(1).tolist()
    assert lengths == [len(output) for output in prompts.query_output]
    assert len(set(lengths)) > 1
    for row in range(6):
        alone = evaluation.evaluate(whole, evaluation.run(whole, "one_shot"), prompts[row : row + 1]).tokens
        assert alone is not None
        assert judged.tokens[row][judged.tokens[row] >= 0].tolist() == alone[0].tolist()


def test_one_answer_to_every_text_is_the_commonest(model: CausalLm, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("".join(f"{word},{'no' if row % 3 else 'yes'}\n" for row, word in enumerate(_words(24))))
    data = WordPairs(path, "all", template="colon", shots=2)
    prompts = draw_prompts(data, data.own_task, 24, 0, seed=0)
    answers = evaluation.constant(model.variant(Variant(answers="whole")), prompts)(prompts[:2])
    assert model.texts(answers) == ["no", "no"]


def test_models_and_data_must_fit(model: CausalLm, pairs: Path, small_model: MaeVqgan) -> None:
    with pytest.raises(ValueError, match="pairs are texts, and the model takes images of"):
        find(small_model, WordPairs(pairs), settings=COARSE, progress=False)
    for method in ("copy_input", "reconstruction", "mixture", "nearest", "several:3", "arrangements"):
        with pytest.raises(
            ValueError, match=f"{method} is of images, and the model takes texts: expected one of one_s"
        ):
            evaluation.method_named(model, method, WordPairs(pairs))
    with pytest.raises(ValueError, match="an input that is a text is no answer: copy_input is of images"):
        evaluation.copy_input(model)


def test_their_card_is_of_texts(vectors: TaskVectors) -> None:
    told = card(vectors.config, "someone/plural")
    for part in (
        "- language-model",
        "| Outputs | texts, scored by top-1",
        "`{input}:{output}`",
        "with 3 examples",
        'answer = vectors("an input")',
        "texts that they were found on",
    ):
        assert part in told
    assert "visual-prompting" not in told
