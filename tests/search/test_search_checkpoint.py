import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from problems import problem, product_of
from taskvec.search import (
    FINALS,
    Checkpoint,
    CmaSettings,
    Evaluate,
    Final,
    GreedySettings,
    Problem,
    ReinforceSettings,
    RelaxedSettings,
    SearchResult,
    cma,
)
from taskvec.search.checkpoint import State
from taskvec.search.relaxed import GATES, Gate

WANTED = torch.rand(20, generator=torch.Generator().manual_seed(1))


def evaluate(masks: Tensor, items: Tensor) -> Tensor:
    return (masks.float() - WANTED).square().sum(1) * (1 + items)


def validate(masks: Tensor, share: float = 1.0) -> Tensor:
    return evaluate(masks, torch.zeros(len(masks)))


def differentiate(shares: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    difference, factor = shares - WANTED, 1.0 + items
    return difference.square().sum() * factor, 2 * difference * factor.mean()


def of(items: int, sites: int = 20, evaluate: Evaluate = evaluate, tasks: Tensor | None = None) -> Problem:
    return problem(evaluate, sites, items, tasks=tasks, differentiate=differentiate, validate=validate)


class KilledError(Exception):
    pass


def stop_at(step: int, how: type[BaseException]) -> Callable[[dict[str, Any]], None]:
    def on_step(record: dict[str, Any]) -> None:
        if record["step"] == step:
            raise how

    return on_step


def assert_same(first: SearchResult, second: SearchResult) -> None:
    assert first.scores is not None
    assert second.scores is not None
    assert torch.equal(first.scores, second.scores)
    assert torch.equal(first.mask, second.mask)
    assert (first.loss, first.step, first.evaluations) == (second.loss, second.step, second.evaluations)
    assert first.history == second.history
    assert not second.interrupted


@pytest.mark.parametrize("step", [3, 8, 10, 24, 29])  # before, at and after checkpoints, and before the last step
@pytest.mark.parametrize("final", FINALS)
def test_reinforce_goes_on_after_ctrl_c(tmp_path: Path, final: Final, step: int) -> None:
    settings = ReinforceSettings(steps=30, checkpoint_every=8, candidates=3, final=final)
    tasks = torch.tensor([0, 0, 1, 1])
    checkpoint = Checkpoint(tmp_path / "state")
    whole = settings.search(of(4, tasks=tasks))
    try:
        found = settings.search(of(4, tasks=tasks), stop_at(step, KeyboardInterrupt), checkpoint)
        assert found.interrupted
        assert len(found.history) == step
    except KeyboardInterrupt:
        assert step < 8
    assert checkpoint.path.exists()
    seen = []
    assert_same(whole, settings.search(of(4, tasks=tasks), seen.append, checkpoint))
    assert [record["step"] for record in seen] == list(range(step + 1, 31))
    again = settings.search(of(4, tasks=tasks), seen.append, checkpoint)  # one that is over ends at once
    assert_same(whole, again)
    assert len(seen) == 30 - step
    checkpoint.forget()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize(("how", "last"), [(KeyboardInterrupt, 13), (KilledError, 10)])
def test_relaxed_goes_on_after_ctrl_c_or_from_its_last_checkpoint(
    tmp_path: Path, gate: Gate, how: type[BaseException], last: int
) -> None:
    settings, checkpoint = RelaxedSettings(steps=25, checkpoint_every=5, gate=gate), Checkpoint(tmp_path / "state")
    whole = settings.search(of(30))
    if how is KilledError:
        with pytest.raises(KilledError):
            settings.search(of(30), stop_at(13, how), checkpoint)
    else:
        assert settings.search(of(30), stop_at(13, how), checkpoint).interrupted
    seen = []
    assert_same(whole, settings.search(of(30), seen.append, checkpoint))
    assert seen[0]["step"] == last + 1
    assert_same(whole, settings.search(of(30), checkpoint=checkpoint))


def test_ctrl_c_in_the_middle_of_a_step(tmp_path: Path) -> None:
    """When masks are drawn and nothing is learnt from them yet: the step is done again from its start."""
    settings, checkpoint, calls = ReinforceSettings(steps=12, checkpoint_every=5), Checkpoint(tmp_path / "state"), []

    def interrupted(masks: Tensor, items: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return evaluate(masks, items)

    first = settings.search(of(4, evaluate=interrupted), checkpoint=checkpoint)
    assert first.interrupted
    assert len(first.history) == 7
    assert_same(settings.search(of(4)), settings.search(of(4), checkpoint=checkpoint))


LAYERS = [torch.arange(first, first + 5) for first in (10, 0, 15, 5)]
TASKS = torch.tensor([0, 0, 1, 1])
IN_STEPS = {
    "cma": (CmaSettings(), of(4, sites=20)),
    "cma of tasks": (CmaSettings(), of(4, tasks=TASKS)),
    "greedy": (GreedySettings(layers=3, trials=4), replace(of(4), layers=lambda: LAYERS)),
    "greedy of tasks": (GreedySettings(layers=3, trials=4), replace(of(4, tasks=TASKS), layers=lambda: LAYERS)),
    "greedy of a random order": (
        GreedySettings(trials=4, sweeps=2, order="random"),
        replace(of(4), layers=lambda: LAYERS),
    ),
}


@pytest.mark.parametrize("name", IN_STEPS)
@pytest.mark.parametrize("how", [KeyboardInterrupt, KilledError])
def test_a_search_without_a_gradient_goes_on_from_its_last_record(
    name: str, how: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cma, "SITES_PER_CALL", 3)
    settings, given = IN_STEPS[name]
    checkpoint = Checkpoint(tmp_path / "state")
    whole = settings.search(given)
    assert len(whole.history) >= 5
    for step in range(1, len(whole.history) + 1):
        seen: list[int] = []

        def stop(record: dict[str, Any], step: int = step, seen: list[int] = seen) -> None:
            seen.append(record["step"])
            if record["step"] == step:
                raise how

        with suppress(KilledError, KeyboardInterrupt):
            settings.search(given, stop, checkpoint)
        assert seen == [step]
    again = settings.search(given, stop_at(1, AssertionError), checkpoint)
    assert torch.equal(again.mask, whole.mask)
    assert (again.scores is None) == (whole.scores is None)
    assert again.scores is None or torch.equal(again.scores, cast(Tensor, whole.scores))
    told = ("loss", "step", "evaluations", "history", "interrupted", "non_finite")
    assert [getattr(again, each) for each in told] == [getattr(whole, each) for each in told]
    with pytest.raises(ValueError, match="with seed 0: expected 1"):
        settings.search(replace(given, seed=1), checkpoint=checkpoint)


@pytest.mark.parametrize("name", IN_STEPS)
def test_losses_that_are_left_out_are_so_after_a_stop(name: str, tmp_path: Path) -> None:
    def some(masks: Tensor, items: Tensor) -> Tensor:
        return evaluate(masks, items).where(~masks[:, 3] | (items < 2), torch.nan)

    settings, given = IN_STEPS[name]
    given = replace(given, evaluate_product=product_of(some))
    whole, checkpoint = settings.search(given, non_finite="leave_out"), Checkpoint(tmp_path / "state")
    with pytest.raises(KilledError):
        settings.search(given, stop_at(1, KilledError), checkpoint, "leave_out")
    again = settings.search(given, checkpoint=checkpoint, non_finite="leave_out")
    assert again.non_finite == whole.non_finite > 0
    assert torch.equal(again.mask, whole.mask)
    assert again.history == whole.history


def test_a_search_may_be_stopped_more_than_once(tmp_path: Path) -> None:
    settings, checkpoint = RelaxedSettings(steps=25, checkpoint_every=5), Checkpoint(tmp_path / "state")
    for step in (7, 8, 21):
        settings.search(of(30), stop_at(step, KeyboardInterrupt), checkpoint)
    again = settings.search(of(30), checkpoint=checkpoint)
    assert_same(settings.search(of(30)), again)


def test_the_state_of_another_search_is_refused(tmp_path: Path) -> None:
    settings = ReinforceSettings(steps=30, checkpoint_every=5)
    checkpoint = Checkpoint(tmp_path / "state", {"model": "a"})
    interrupted = stop_at(12, KeyboardInterrupt)
    settings.search(of(4), interrupted, checkpoint)
    before = checkpoint.path.read_bytes()
    with pytest.raises(ValueError, match="with seed 0: expected 1"):
        settings.search(replace(of(4), seed=1), checkpoint=checkpoint)
    with pytest.raises(ValueError, match="with sites 20: expected 21"):
        settings.search(of(4, sites=21), checkpoint=checkpoint)
    with pytest.raises(ValueError, match="with tasks None: expected"):
        settings.search(of(4, tasks=torch.zeros(4, dtype=torch.int64)), checkpoint=checkpoint)
    with pytest.raises(ValueError, match="with model a: expected b"):
        settings.search(of(4), checkpoint=replace(checkpoint, of={"model": "b"}))
    with pytest.raises(ValueError, match="with method reinforce: expected relaxed"):
        RelaxedSettings().search(of(4), checkpoint=checkpoint)
    assert checkpoint.path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"text, no tensors", None])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes | None) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    if content is None:
        save_file({"weights": torch.zeros(2)}, checkpoint.path)
    else:
        checkpoint.path.write_bytes(content)
    with pytest.raises(ValueError, match="does not hold the state of a search"):
        ReinforceSettings().search(of(4), checkpoint=checkpoint)


SETTINGS = ReinforceSettings(steps=12, checkpoint_every=4)


def kept(path: Path) -> bytes:
    """The state of a search that was stopped."""
    stop = stop_at(9, KeyboardInterrupt)
    assert SETTINGS.search(of(4), stop, Checkpoint(path)).interrupted
    return path.read_bytes()


@given(st.data())
def test_a_changed_byte_is_never_another_result(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("state") / "state"
    content = bytearray(kept(path))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found, error = None, ""
    try:
        found = SETTINGS.search(of(4), checkpoint=Checkpoint(path))
    except ValueError as refusal:
        error = str(refusal)
    if found is None:
        assert error.startswith(str(path))
        assert error.endswith("remove it to begin anew")
        assert "\n" not in error
    else:  # padding, say
        assert_same(SETTINGS.search(of(4)), found)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_state_cut_short_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "state"
    path.write_bytes(kept(path)[:length])
    with pytest.raises(ValueError, match=r"state does not hold the state of a search, or is damaged: .*; remove it"):
        SETTINGS.search(of(4), checkpoint=Checkpoint(path))


def _state(path: Path) -> tuple[dict[str, Any], State]:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    search = json.loads(metadata["search"])
    search.pop("of")
    return search, (tensors, json.loads(metadata["facts"]))


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("logits", torch.zeros(19), r"logits is torch.float32 \(19,\), expected torch.float32 \(20,\)"),
        ("logits", torch.zeros(20, dtype=torch.float64), "logits is torch.float64"),
        ("logits", torch.full((20,), torch.nan), "logits has values that are not finite"),
        ("best.mask", torch.zeros(20), "best.mask is torch.float32"),
        ("generator", torch.zeros(3, dtype=torch.uint8), "generator is torch.uint8"),
        ("adam.step", None, "it holds adam.exp_avg, .* expected"),
        ("adam.momentum", torch.zeros(20), "it holds adam.exp_avg, .* expected"),
        ("evaluations", "many", "evaluations Input should be a valid integer"),
        ("history", [{"step": 2}], r"its history has steps \[2\], expected 1 to 1"),
        ("history", [3], "history.0 Input should be an object"),
        ("best", {"loss": "low", "step": 4}, "best.loss Input should be a valid number"),
        ("best", None, "expected adam.exp_avg"),
        ("surplus", 1, "surplus Unexpected keyword"),
    ],
)
def test_a_state_of_other_parts_is_refused(tmp_path: Path, part: str, value: object, message: str) -> None:
    """Whatever its digest says."""
    checkpoint = Checkpoint(tmp_path / "state")
    kept(checkpoint.path)
    search, (tensors, facts) = _state(checkpoint.path)
    changed: dict[str, Any] = tensors if "." in part or part in tensors else facts
    changed[part] = value
    if value is None and changed is tensors:
        del changed[part]
    checkpoint.keep(search, (tensors, facts))
    with pytest.raises(ValueError, match=message) as caught:
        SETTINGS.search(of(4), checkpoint=checkpoint)
    assert "\n" not in str(caught.value)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ValueError, match=r"is a (pipe|directory), expected a file"):
            SETTINGS.search(of(4), checkpoint=Checkpoint(path))
