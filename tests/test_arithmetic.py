from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import records
from taskvec.arithmetic import calculate, combine
from taskvec.heads import Means
from taskvec.models.interface import Decoding
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.provenance import Combination
from taskvec.vectors import TaskVectors

VALUES = {"a": 2.0, "low-light": -3.5, "_c1": 0.25}
LEAVES = st.sampled_from(["a", "'low-light'", "_c1", "1", "0.5", "1e-3"])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", "-", "*", " / "]), inner).map("".join),
        inner.map("({})".format),
        inner.map("-{}".format),
    ),
    max_leaves=12,
)


@given(EXPRESSIONS)
def test_expressions_are_calculated_as_python_does(expression: str) -> None:
    names = {"a": "2.0", "'low-light'": "(-3.5)", "_c1": "0.25"}
    plain = expression
    for name, value in names.items():
        plain = plain.replace(name, value)
    try:
        expected = float(eval(plain))  # noqa: S307 the test's own text
    except ZeroDivisionError:
        with pytest.raises(ValueError, match=r"cannot be calculated: .*division"):
            calculate(expression, VALUES.__getitem__)
        return
    assert calculate(expression, VALUES.__getitem__) == expected


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("a ** 2", r"^'a \*\* 2' in the expression is not understood: expected \+, -, \*, /, parentheses, numbers and"),
        ("1 + __import__('os').getcwd()", r"^\"__import__\('os'\).getcwd\(\)\" in the expression is not understood"),
        ("a[0] + a", r"^'a\[0\]' in the expression is not understood"),
        ("a + True", "^'True' in the expression is not understood"),
        ("2j * a", "^'2j' in the expression is not understood"),
        ("a a", "^the expression 'a a' cannot be read from 'a' on$"),
        ("(a + a", r"^the expression '\(a \+ a' cannot be read"),
        ("", "^the expression '' cannot be read$"),
        ("a + \udce9", "^the expression .* cannot be read$"),
        ("3 + a / (1 - 1)", r"^'a / \(1 - 1\)' in the expression cannot be calculated: .*division"),
        (f"{'9' * 400} * a", "in the expression cannot be calculated: int too large"),
        ("-" * 100_000 + "a", "^the expression '-{20}'... is nested too deeply$"),
        ("+".join("a" * 10_000), "is nested too deeply$"),
    ],
)
def test_what_is_no_sum_is_one_sentence_that_quotes_it(expression: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        calculate(expression, VALUES.__getitem__)


@pytest.fixture
def root(small_model: MaeVqgan, small_means: Means, tmp_path: Path) -> Path:
    """Vectors of two tasks at the same sites, of one at others, in a directory each."""
    sites = small_model.sites("quadrant")
    of_each: list[tuple[str, str, int, tuple[int, ...]]] = [
        ("inpainting", "mse", 0, (0, 5, 9)),
        ("segmentation", "iou", 1, (0, 5, 9)),
        ("elsewhere", "mse", 0, (0, 5)),
    ]
    for task, metric, row, chosen in of_each:
        means = {stack: mean[row] for stack, mean in small_means.items()}
        vectors = TaskVectors.select(
            small_model,
            sites,
            sites.mask(chosen),
            means,
            task=task,
            metric=metric,
            found=records.search(task),
        )
        vectors.save_pretrained(tmp_path / task)
    return tmp_path


def test_combined_vectors_know_where_they_come_from(
    small_model: MaeVqgan, small_means: Means, root: Path, tmp_path: Path
) -> None:
    expression = "(inpainting + 3*segmentation)/2 - inpainting"
    combined = combine(expression, small_model, root)
    for stack, (inpainting, segmentation) in small_means.items():
        chosen = combined.means[stack].isfinite()
        expected = (inpainting + 3 * segmentation) / 2 - inpainting
        torch.testing.assert_close(combined.means[stack][chosen], expected[chosen])
    combined.save_pretrained(tmp_path / "combined")
    loaded = TaskVectors.load(tmp_path / "combined", small_model)
    assert loaded.config == combined.config
    assert loaded.fingerprint() == combined.fingerprint()
    assert (loaded.task, loaded.config.metric) == ("0.5 * inpainting + 1.5 * segmentation - inpainting", "iou")
    found = loaded.config.found
    assert isinstance(found, Combination)
    assert found.expression == expression
    assert [(term.factor, term.task, term.found) for term in found.terms] == [
        (factor, task, records.search(task))
        for factor, task in ((0.5, "inpainting"), (1.5, "segmentation"), (-1, "inpainting"))
    ]
    assert str(root) not in (tmp_path / "combined" / "config.json").read_text()


def test_a_metric_that_was_asked_for_stays_in_combinations_of_combinations(small_model: MaeVqgan, root: Path) -> None:
    combine("inpainting", small_model, root, "iou").save_pretrained(root / "masks")
    combine("segmentation", small_model, root, "mse").save_pretrained(root / "pictures")
    for expression, metric in (
        ("masks", "iou"),
        ("2 * masks + inpainting", "iou"),
        ("inpainting - masks", "mse"),
        ("pictures", "mse"),
        ("pictures + inpainting", "mse"),
        ("pictures + segmentation", "iou"),
    ):
        combine(expression, small_model, root).save_pretrained(root / "again")
        assert TaskVectors.load(root / "again", small_model).config.metric == metric, expression


@pytest.mark.parametrize(
    ("expression", "metric"),
    [
        ("segmentation", "iou"),
        ("inpainting + segmentation - inpainting", "iou"),
        ("inpainting - segmentation", "mse"),
        ("inpainting + -2 * segmentation", "mse"),
        ("inpainting - (inpainting - segmentation)", "iou"),
    ],
)
def test_the_metric_is_that_of_the_masks_that_are_not_subtracted(
    expression: str, metric: str, small_model: MaeVqgan, root: Path
) -> None:
    assert combine(expression, small_model, root).config.metric == metric
    assert combine(expression, small_model, root, "mse").config.metric == "mse"


def test_a_metric_of_images_that_is_asked_for_leaves_masks_uncut(small_model: MaeVqgan, root: Path) -> None:
    masks = TaskVectors.load(root / "segmentation", small_model)
    decoding = Decoding("expected", 1.5, 3.0)
    replace(masks, config=replace(masks.config, decoding=decoding)).save_pretrained(root / "masks")
    assert combine("masks", small_model, root).config.decoding == decoding
    assert combine("masks + inpainting", small_model, root, "iou").config.decoding == decoding
    for expression in ("masks", "inpainting + masks"):
        combined = combine(expression, small_model, root, "mse")
        assert combined.config.decoding == Decoding("expected", 1.5)
        images = np.random.default_rng(0).integers(0, 256, (2, 15, 15, 3), np.uint8)
        assert np.array_equal(combined.predict(images), combined.uncut(images))


def test_a_path_stands_for_itself(small_model: MaeVqgan, root: Path) -> None:
    assert combine(f"'{root}/inpainting'", small_model).task == "inpainting"
    assert combine("'../inpainting'", small_model, root / "segmentation").task == "inpainting"


@pytest.mark.parametrize(
    ("expression", "metric", "says"),
    [
        ("inpainting + nothing", None, "nothing holds no task vectors: there is no config.json in it"),
        ("inpainting - elsewhere", None, "inpainting and elsewhere have different sites: only vectors of the same sit"),
        (
            "inpainting * segmentation",
            None,
            "^'inpainting . segmentation' in the expression cannot be calculated: task",
        ),
        ("inpainting + 1", None, r"^'inpainting \+ 1' in the expression cannot be calculated: task vectors are added"),
        ("2 / inpainting", None, "^'2 / inpainting' in the expression cannot be calculated: task vectors are added"),
        ("1e300 * inpainting", None, r"^the values of 1e\+300 \* inpainting are not finite in float32$"),
        ("0 * 1e999 * inpainting", None, "are not finite in float32$"),
        ("2 * 3", None, r"^'2 \* 3' is a number: expected names of task vectors in it$"),
        ("inpainting", "top1", "^the metric top1 does not score images, which 'inpainting' is of$"),
        ("inpainting", "psnr", "^there is no metric 'psnr': expected one of iou, mse, top1$"),
    ],
)
def test_what_does_not_add_up_is_one_sentence(
    expression: str, metric: str | None, says: str, small_model: MaeVqgan, root: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        combine(expression, small_model, root, metric)


def test_vectors_of_another_model_are_refused(golden_model: MaeVqgan, root: Path) -> None:
    with pytest.raises(ValueError, match="these task vectors are of another model with fingerprint"):
        combine("inpainting + segmentation", golden_model, root)
