import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import records
from forked import outcomes
from taskvec import evaluation, rounds
from taskvec.data.scenes import Scenes
from taskvec.heads import Means
from taskvec.metrics import cut
from taskvec.models.interface import Decoding, ViewName
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.processes import Processes
from taskvec.prompts import PlannedPrompts, Prompts, draw_prompts, plan_prompts
from taskvec.provenance import Combination, Former, Term
from taskvec.search.checkpoint import Checkpoint
from taskvec.tasks import IDENTITY, SEGMENTATION, task_named
from taskvec.vectors import TaskVectors


def test_a_summary_of_several_splits(small_model: MaeVqgan) -> None:
    method = evaluation.run(small_model, "query_only")
    splits = [draw_prompts(Scenes("test", fold), IDENTITY, 5, 15, seed=fold) for fold in (0, 1)]
    done: list[int] = []
    each = [evaluation.evaluate(small_model, method, prompts, done.append) for prompts in splits]
    assert done == [5, 5]
    summary = evaluation.summarise(each)
    scores = np.concatenate([one.scores for one in each])
    assert summary.mean == pytest.approx(scores.mean())
    assert summary.std == pytest.approx(scores.std(ddof=1))
    assert summary.std_of_folds == pytest.approx(abs(each[0].scores.mean() - each[1].scores.mean()) / 2)
    assert (summary.pairs, summary.images, summary.groups) == (10, 10, 10)
    assert summary.pairs_per_second == pytest.approx(10 / sum(one.seconds for one in each))
    single = evaluation.summarise(each[:1])
    assert single.std_of_folds is None
    assert single.low <= single.mean <= single.high
    assert summary.high - summary.low > single.high - single.low  # a second search says how far searches are apart
    patient = [replace(evaluation, prompts=replace(evaluation.prompts, query_groups=["a"] * 5)) for evaluation in each]
    assert (evaluation.summarise(patient).groups, evaluation.summarise(patient).too_few) == (1, True)
    assert (patient[0].interval.low, patient[0].interval.high) == (0, np.inf)  # all that an error can be


def test_pairs_without_any_white_are_counted(small_model: MaeVqgan) -> None:
    prompts = draw_prompts(Scenes("test"), SEGMENTATION, 3, 15, seed=0)
    black = replace(prompts, query_input=0 * prompts.query_input, query_output=0 * prompts.query_output)
    black.query_output[0] = 255
    result = evaluation.evaluate(small_model, evaluation.copy_input(small_model), black)
    assert result.both_empty == 2
    assert result.scores.tolist() == [0, 1, 1]
    black = replace(black, task=IDENTITY)
    assert evaluation.evaluate(small_model, evaluation.copy_input(small_model), black).both_empty == 0


def test_queries_that_vectors_were_found_on_are_counted(random_vectors: TaskVectors) -> None:
    prompts = draw_prompts(Scenes("test"), IDENTITY, 6, 15, seed=0)
    first, second, third = prompts.query_images[:3]
    search = records.search(first, validation=(records.drawn(second, third),))
    for found, count in (
        (search, 3),
        (records.search(statistics=records.drawn(first)), 1),
        (Combination("a + b", (Term(1, "a", "mse", "", None), Term(-1, "b", "iou", "", search))), 3),
        (Former({"step": 1}, (second,)), 1),
        (records.search(), 0),
        (None, 0),
    ):
        assert evaluation.seen(replace(random_vectors.config, found=found), prompts) == count


def test_copying_is_perfect_at_identity(small_model: MaeVqgan) -> None:
    prompts = draw_prompts(Scenes("test"), IDENTITY, 4, 15, seed=0)
    assert (evaluation.scores(small_model, evaluation.copy_input(small_model), prompts) == 0).all()


def test_named_methods_choose_their_decoding_on_training_data(tiny: MaeVqgan) -> None:
    """As the command has it, and as task vectors have theirs; without, the likeliest codes."""
    test, training, some = Scenes("test"), Scenes("train"), {"task": SEGMENTATION, "pairs": 8}
    chosen = evaluation.evaluate(tiny, "one_shot", test, training=training, **some)
    assert chosen.decoding is not None
    assert chosen.decoding.kind == "expected"
    assert repr(chosen).endswith(f"8 pairs, decoded as {chosen.decoding})")
    method, decoding = evaluation.chosen_method(tiny, "one_shot", test, lambda: training, SEGMENTATION)
    assert decoding == chosen.decoding
    assert np.array_equal(evaluation.evaluate(tiny, method, chosen.prompts).scores, chosen.scores)
    paper = evaluation.evaluate(tiny, "one_shot", test, **some)
    assert paper.decoding == Decoding()
    assert not np.array_equal(paper.scores, chosen.scores)


def test_one_answer_to_every_query(small_model: MaeVqgan) -> None:
    """The mean of training outputs; of masks cut where that scores best on them."""
    learnt = draw_prompts(Scenes("train"), IDENTITY, 70, small_model.image_size, seed=0)
    queries = draw_prompts(Scenes("test"), IDENTITY, 3, small_model.image_size, seed=0)
    answers = evaluation.constant(small_model, learnt)(queries)
    expected = torch.from_numpy(learnt.query_output).double().mean(0).round().to(torch.uint8)
    assert torch.equal(answers, expected.expand(3, *expected.shape))
    masks = draw_prompts(Scenes("train"), SEGMENTATION, 70, small_model.image_size, seed=0)
    (answer,) = evaluation.constant(small_model, masks)(queries[:1])
    assert set(answer.unique().tolist()) <= {0, 255}
    truths = torch.from_numpy(masks.query_output)
    mean = truths.double().mean(0).round().to(torch.uint8)
    own = SEGMENTATION.metric.score(answer.expand_as(truths), truths).mean()
    for level in (8.0, 64.0, 127.5):
        other = cut(mean[None], level).expand_as(truths)
        assert own >= SEGMENTATION.metric.score(other, truths).mean()
    with pytest.raises(ValueError, match="constant takes other outputs than those that are judged: pass training"):
        evaluation.evaluate(small_model, "constant", queries)
    found = evaluation.evaluate(
        small_model, "constant", Scenes("test"), task=IDENTITY, pairs=3, training=Scenes("train")
    )
    assert found.decoding is None


def test_batches_make_no_difference(
    small_model: MaeVqgan, small_prompts: list[Prompts], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = evaluation.run(small_model, "one_shot")
    whole = evaluation.answers(small_model, method, small_prompts[0])
    monkeypatch.setattr(evaluation, "BATCH", 4)
    assert (whole.int() - evaluation.answers(small_model, method, small_prompts[0]).int()).abs().max() <= 1


def test_the_ceiling_is_the_reconstruction_of_the_truth(tiny: MaeVqgan) -> None:
    prompts = draw_prompts(Scenes("test"), SEGMENTATION, 3, 32, seed=0)
    truth = torch.from_numpy(prompts.query_output)
    codes = tiny.vqgan.encode(truth.permute(0, 3, 1, 2).float() / 127.5 - 1).flatten(1)
    answers = evaluation.answers(tiny, evaluation.reconstruction(tiny), prompts)
    assert torch.equal(answers, tiny.decode_quadrant(codes))


def test_the_ceiling_of_a_canvas_tokenizer_is_decoded_as_a_canvas(
    golden: dict[str, torch.Tensor], golden_model: MaeVqgan
) -> None:
    canvases = golden["canvas_u8"]
    decoded = golden_model.decode_canvas(golden["vae_target_codes"].long(), "one_shot")
    expected = golden_model.geometry.crop(decoded, "query_output")
    assert torch.equal(golden_model.reconstruct(canvases), expected)


def test_methods_by_name(small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    by_name = evaluation.answers(small_model, evaluation.method_named(small_model, "query_only"), small_prompts[0])
    direct = evaluation.answers(small_model, evaluation.run(small_model, "query_only"), small_prompts[0])
    assert torch.equal(by_name, direct)
    with pytest.raises(
        ValueError, match=r"no method 'luck': expected one of one_shot, .*, one_shot\+vectors:DIRECTORY"
    ):
        evaluation.method_named(small_model, "luck")


def test_vectors_are_patched_with_or_without_the_example(tiny: MaeVqgan, tmp_path: Path) -> None:
    prompts = draw_prompts(Scenes("test"), SEGMENTATION, 4, tiny.config.image_size, seed=0)
    sites = tiny.sites("layer")
    zeros = {stack: torch.zeros(*index.shape, tiny.stacks[stack].head_dim) for stack, index in sites.index.items()}
    vectors = TaskVectors.select(tiny, sites, sites.mask([0]), zeros, task="t", metric="mse", found=None)
    vectors.save_pretrained(tmp_path)
    views: dict[str, ViewName] = {"vectors:": "query_only", "one_shot+vectors:": "one_shot"}
    for prefix, view in views.items():
        method = f"{prefix}{tmp_path}"
        assert evaluation.patched_by(method) == (view, str(tmp_path))
        named = evaluation.answers(tiny, evaluation.method_named(tiny, method), prompts)
        assert torch.equal(named, evaluation.answers(tiny, evaluation.run(tiny, view, vectors.patch), prompts))
        assert not torch.equal(named, evaluation.answers(tiny, evaluation.run(tiny, view), prompts))
    assert evaluation.patched_by("one_shot") is None


def test_a_composed_task_is_scored_as_its_output_is(small_model: MaeVqgan) -> None:
    """The mask of a holed image: the same truth as segmentation's, and an input with a hole."""
    task = task_named("inpainting+segmentation")
    composed, plain = (draw_prompts(Scenes("test"), each, 6, 15, seed=0) for each in (task, SEGMENTATION))
    assert composed.origin["sides"] == "hole to mask"
    assert np.array_equal(composed.query_output, plain.query_output)
    changed = (composed.query_input != plain.query_input).any(-1)
    assert not composed.query_input[changed].any()
    assert changed.any((1, 2)).all()
    truth = evaluation.evaluate(small_model, lambda batch: torch.from_numpy(batch.query_output), composed)
    assert truth.scores.tolist() == [1.0] * 6


@pytest.fixture
def blocks_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which six prompts have three, each with a state."""
    monkeypatch.setattr(evaluation, "BATCH", 2)
    monkeypatch.setattr(rounds, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(rounds, "KEEP_SHARE", float("inf"))


def _ways(model: MaeVqgan) -> list[evaluation.Way]:
    decodings = {"likeliest": Decoding(), "expected": Decoding("expected")}
    copied = evaluation.Way.of(evaluation.copy_input(model), "copied")
    return [evaluation.Way.decoded(evaluation.run(model, "one_shot"), decodings), copied]


def _assert_same(found: dict[str, evaluation.Evaluation], expected: dict[str, evaluation.Evaluation]) -> None:
    assert list(found) == list(expected) == ["likeliest", "expected", "copied"]
    for name, each in expected.items():
        assert np.array_equal(found[name].scores, each.scores)
        details = found[name].details
        assert (details is None) == (each.details is None)
        if each.details is not None and details is not None:
            assert np.array_equal(details, each.details, equal_nan=True)
        assert found[name].both_empty == each.both_empty


@pytest.mark.parametrize("task", [0, 1])
def test_several_ways_at_once_score_as_each_alone(
    task: int, small_model: MaeVqgan, small_prompts: list[Prompts]
) -> None:
    prompts, method = small_prompts[task], evaluation.run(small_model, "one_shot")
    found = evaluation.evaluate_each(small_model, _ways(small_model), prompts)
    alone = {
        "likeliest": evaluation.evaluate(small_model, method, prompts),
        "expected": evaluation.evaluate(small_model, method.decoded(Decoding("expected")), prompts),
        "copied": evaluation.evaluate(small_model, evaluation.copy_input(small_model), prompts),
    }
    _assert_same(found, alone)
    shown, answers = found["expected"].examples(np.array([4, 1]))
    assert shown.query_names == [prompts.query_names[4], prompts.query_names[1]]
    expected = evaluation.answers(small_model, method.decoded(Decoding("expected")), prompts).numpy()[[4, 1]]
    assert np.abs(answers.astype(int) - expected).max() <= 1


@pytest.mark.usefixtures("blocks_of_two")
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_evaluation_that_was_killed_goes_on_to_the_same_scores(
    at: int, small_model: MaeVqgan, small_prompts: list[Prompts], tmp_path: Path
) -> None:
    prompts, ways = small_prompts[1], _ways(small_model)
    whole, done = evaluation.evaluate_each(small_model, ways, prompts), []
    checkpoint = Checkpoint(tmp_path / "state", {"methods": ["a"]}, "evaluation")

    def killed(count: int) -> None:
        done.append(count)
        if len(done) == at:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        evaluation.evaluate_each(small_model, ways, prompts, killed, checkpoint=checkpoint)
    done.clear()
    found = evaluation.evaluate_each(small_model, ways, prompts, done.append, checkpoint=checkpoint)
    assert done == [2 * (at - 1)] * (at > 1) + [2] * (4 - at)
    _assert_same(found, whole)
    done.clear()
    _assert_same(evaluation.evaluate_each(small_model, ways, prompts, done.append, checkpoint=checkpoint), whole)
    assert done == [6]
    message = "state belongs to another evaluation, with ways .*: expected"
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate_each(small_model, ways[:1], prompts, checkpoint=checkpoint)


@pytest.mark.usefixtures("blocks_of_two")
@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_score_the_same(count: int, small_model: MaeVqgan, small_prompts: list[Prompts]) -> None:
    ways, seen = _ways(small_model), []
    alone = evaluation.evaluate_each(small_model, ways, small_prompts[1], seen.append)
    assert seen == [2, 2, 2]

    def together(processes: Processes) -> dict[str, evaluation.Evaluation]:
        found = evaluation.evaluate_each(small_model, ways, small_prompts[1])
        return {name: replace(each, method=None) for name, each in found.items()}  # which cannot be pickled

    for found in outcomes(count, together):
        _assert_same(found, alone)


def test_prompts_are_read_a_block_at_a_time(small_model: MaeVqgan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all ways, and no pixels of any are left."""
    monkeypatch.setattr(evaluation, "BATCH", 4)
    planned = plan_prompts(Scenes("test"), SEGMENTATION, 19, 15, seed=0)
    alive: set[int] = set()
    most, read = [], PlannedPrompts._read

    def watched(prompts: PlannedPrompts) -> Prompts:
        found, number = read(prompts), len(most)
        alive.add(number)
        weakref.finalize(found.query_input, alive.discard, number)
        most.append(len(alive))
        return found

    monkeypatch.setattr(PlannedPrompts, "_read", watched)
    found = evaluation.evaluate_each(small_model, _ways(small_model), planned)
    assert len(most) == 5
    assert max(most) <= 2
    assert not alive
    _assert_same(found, evaluation.evaluate_each(small_model, _ways(small_model), planned[:]))


def test_task_vectors_are_judged_by_their_own_task(small_model: MaeVqgan, small_means: Means) -> None:
    """Of data that serves several."""
    sites, means = small_model.sites("quadrant"), {stack: mean[0] for stack, mean in small_means.items()}
    chosen = (small_model, sites, sites.mask([0, 5]), means)
    vectors = TaskVectors.select(*chosen, task="segmentation", metric="iou")
    assert evaluation.evaluate(small_model, vectors, Scenes("test"), pairs=4).prompts.task == SEGMENTATION
    with pytest.raises(ValueError, match="a task is needed"):
        evaluation.evaluate(small_model, "one_shot", Scenes("test"), pairs=4)
