"""The page's HTML: names of files and tasks act as text alone, and everything that is shown has a name."""

from PIL import Image

from taskvec.app.answers import ONE_SHOT, PATCHED, Answers
from taskvec.app.making import Judged
from taskvec.app.maps import Head, head_map, token_map
from taskvec.app.markup import answers_markup, error, judged_markup, map_markup, texts_markup, tokens_markup
from taskvec.metrics import IOU
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.tasks import SEGMENTATION
from taskvec.vectors import TaskVectors

EVIL = "<img src=x onerror=alert(1)>"


def test_names_are_text() -> None:
    picture = Image.new("RGB", (2, 2))
    shown = [Answers(EVIL, {PATCHED: picture}, {PATCHED: 0.5}, IOU), Answers("x", refused=EVIL)]
    for text in (answers_markup(shown), error(EVIL), texts_markup([{"input": EVIL}])):
        assert EVIL not in text
        assert "&lt;img src=x" in text


def test_an_answer_has_its_score_and_a_text_for_those_who_do_not_see_it() -> None:
    picture = Image.new("RGB", (2, 2))
    text = answers_markup([Answers("a.png", {ONE_SHOT: picture, "truth": picture}, {ONE_SHOT: 0.25}, IOU)])
    assert "IoU 0.250" in text
    assert 'alt="one example of a.png"' in text
    assert text.count("data:image/png;base64,") == 2


def test_a_head_can_be_clicked_wherever_it_is(small_model: MaeVqgan, random_vectors: TaskVectors) -> None:
    off = Head("encoder", 0, 0)
    text = map_markup(head_map(small_model, random_vectors, [off]), off)
    assert text.count("data-head=") == 2 * 4 + 2 * 2
    assert 'data-head="encoder L0 H0" class="tv-off tv-here"' in text
    tokens = tokens_markup(token_map(small_model, random_vectors, off), off=[off])
    assert "encoder L0 H0 switched off" in tokens
    assert tokens.count("<span") == 16


def test_few_images_are_said_to_be_few() -> None:
    for queries, few in ((4, True), (5, False)):
        text = judged_markup([Judged(SEGMENTATION, queries, {ONE_SHOT: 0.5})])
        assert ("too few" in text) == few
