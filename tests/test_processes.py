"""One search on several processes: forked ones, as torchrun would start them, and torchrun itself once."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from forked import forked, outcomes
from taskvec import memory
from taskvec.cli import main, options
from taskvec.data.scenes import Scenes
from taskvec.finding import Finding, FindSettings, collect_for, find_sites
from taskvec.heads import Means
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.objectives import Objective
from taskvec.processes import Processes, ProcessLostError, current
from taskvec.prompts import Prompts
from taskvec.refining import RefineSettings, refine
from taskvec.search import (
    AttributionSettings,
    Checkpoint,
    CmaSettings,
    GreedySettings,
    ReinforceSettings,
    RelaxedSettings,
)
from taskvec.statistics import Statistics
from taskvec.tasks import LOW_LIGHT, SEGMENTATION

DATA = Scenes("train", count=300)
QUICK = FindSettings(prompts=8, items=5, validation=5, temperatures=(1.5,), levels=(96.0, 104.0))
REINFORCE = replace(QUICK, search=ReinforceSettings(steps=6, masks_per_item=5, checkpoint_every=3, candidates=2))
RELAXED = RelaxedSettings(steps=4, items=5, checkpoint_every=2, halving=True, screening=True, candidates=3)
SETTINGS = (
    replace(REINFORCE, objective="pixel", curve=True),
    replace(QUICK, search=RELAXED, prune=True),
    replace(QUICK, search=AttributionSettings(), objective="pixel"),
    replace(QUICK, search=CmaSettings()),
    replace(QUICK, search=GreedySettings(trials=5, sweeps=1)),
)
OF_TWO_TASKS = replace(QUICK, search=replace(REINFORCE.search, steps=2, shared_masks=True, candidates=0))


@pytest.fixture(autouse=True)
def finely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes of few rows: of as many as usual, these tests would have too few passes to share."""
    monkeypatch.setattr(memory, "LEAST_PROCESSOR_TOKENS", 60)


KNOWN = pytest.StashKey[list[Any]]()


def _facts(finding: Finding) -> tuple[Any, ...]:
    """All that tells whether two searches came to the same, to the last bit."""
    result = finding.result
    scores = None if result.scores is None else result.scores.numpy().tobytes()
    ended = (result.loss, result.step, result.evaluations, result.harmful, result.curve, finding.decodings)
    return result.mask.tolist(), scores, tuple(map(str, result.history)), ended


@pytest.fixture(scope="module")
def statistics(small_model: MaeVqgan) -> Statistics:
    return collect_for(small_model, DATA, [LOW_LIGHT, SEGMENTATION], QUICK)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_searches_are_the_same_on_however_many_processes(
    count: int, small_model: MaeVqgan, statistics: Statistics, of_one: tuple[list[Any], list[Any]]
) -> None:
    """Every search, with all that comes after it, and a refinement: to the last bit. The first process tells."""
    for rank, (facts, told) in enumerate(outcomes(count, lambda _: _search_all(small_model, statistics))):
        assert facts == of_one[0]
        assert told == (of_one[1] if rank == 0 else [])


@pytest.fixture
def of_one(small_model: MaeVqgan, statistics: Statistics, request: pytest.FixtureRequest) -> Any:
    """What one process comes to, of which there is need once."""
    known = request.config.stash.setdefault(KNOWN, [])
    if not known:
        known.append(_search_all(small_model, statistics))
    return known[0]


def _search_all(model: MaeVqgan, statistics: Statistics) -> tuple[list[Any], list[Any]]:
    """What all searches come to, and what they tell step by step."""
    told: list[Any] = []
    findings = [find_sites(model, DATA, [LOW_LIGHT], settings, statistics, told.append) for settings in SETTINGS]
    findings.append(find_sites(model, DATA, [LOW_LIGHT, SEGMENTATION], OF_TWO_TASKS, statistics, told.append))
    (vectors,) = findings[1].vectors()
    settings = RefineSettings(steps=3, batch=5, prompts=8, validation=5, validate_every=2, patience=1)
    refined = refine(vectors, DATA, settings, told.append)
    values = {stack: mean.numpy().tobytes() for stack, mean in refined.means.items()}
    return [*map(_facts, findings), (str(refined.config), values)], told


def test_uneven_shares_and_gradients_are_gathered(
    small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]
) -> None:
    """320 masks on 3 processes."""
    sites = small_model.sites("head")
    masks, items = sites.sample(320, 0.3), torch.arange(320) % 12
    shares = torch.rand(len(sites), generator=torch.Generator().manual_seed(0))

    def losses(_: Processes) -> list[bytes]:
        objective = Objective(small_model, sites, small_means, small_prompts, "token")
        found = (objective(masks, items), *objective.differentiate(shares, torch.arange(11)))
        return [each.numpy().tobytes() for each in found]

    assert outcomes(3, losses) == [losses(Processes())] * 3


def test_shares_are_the_whole_batch() -> None:
    batch = np.arange(12)
    assert sorted(row for rank in range(3) for row in Processes(rank, 3).share(batch).tolist()) == batch.tolist()
    assert np.array_equal(Processes().share(batch), batch)
    with pytest.raises(ValueError, match="a batch of 12 cannot be divided evenly among 5 processes"):
        Processes(0, 5).share(batch)


def test_alone_nothing_changes() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    (2 * parameter).sum().backward()
    Processes().average_gradients([parameter])
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [2, 2, 2]
    rows = torch.arange(6).view(3, 2)
    assert Processes().gather(rows) is rows
    assert [Processes().any(flag) for flag in (True, False)] == [True, False]


def test_what_two_processes_do_together() -> None:
    def together(processes: Processes) -> bool:
        rank = processes.rank
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (5,))]
        for number, parameter in enumerate(parameters):
            parameter.grad = torch.full_like(parameter, 1.0 + 10 * number + 2 * rank)
        processes.average_gradients([*parameters, torch.nn.Parameter(torch.ones(1))])
        assert [parameter.grad.unique().tolist() for parameter in parameters if parameter.grad is not None] == [
            [2],
            [12],
        ]
        batch = torch.arange(24).view(6, 2, 2).transpose(1, 2)  # not contiguous
        assert torch.equal(processes.gather(processes.share(batch)), batch)
        own = torch.full((3,), float(rank))
        processes.agree([own])
        assert own.tolist() == [0, 0, 0]
        assert processes.firsts({"step": rank}) == {"step": 0}
        assert processes.mean({"loss": 1.0 + rank}) == {"loss": 1.5}
        assert processes.any(rank == 1)
        assert not processes.any(False)
        processes.wait()
        return True

    assert outcomes(2, together) == [True, True]


def test_parts_are_divided_by_what_there_is_to_do_and_each_is_ones() -> None:
    sizes = [27] * 11 + [23, 5, 1, 1]
    shares = [Processes(rank, 3).divide(sizes) for rank in range(3)]
    assert sorted(number for share in shares for number in share) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in shares)
    work = [sum(sizes[number] for number in share) for share in shares]
    assert max(work) - min(work) <= 5
    assert Processes().divide(sizes) == list(range(len(sizes)))
    assert [Processes(rank, 3).divide([4]) for rank in range(3)] == [[0], [], []]


def test_a_tensor_is_put_together_to_the_last_bit() -> None:
    """Also what is not finite, and the sign of zero."""
    every = torch.tensor([0.1, -0.0, float("nan"), float("-inf"), 1e-45, 3.0])

    def put_together(processes: Processes) -> list[bytes]:
        own = torch.arange(6) % 2 == processes.rank
        whole = [every.where(own, 0.0), every.double().where(own, 0.0), torch.arange(6).where(own, 0).view(2, 3)]
        return [processes.together(each).numpy().tobytes() for each in whole]

    expected = [each.numpy().tobytes() for each in (every, every.double(), torch.arange(6))]
    assert outcomes(2, put_together) == [expected] * 2


@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGINT), (1, signal.SIGTERM)])
def test_a_signal_to_one_stops_all_and_a_restart_goes_on(
    rank: int,
    number: signal.Signals,
    small_model: MaeVqgan,
    statistics: Statistics,
    of_one: tuple[list[Any], list[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the middle of the fifth step: with the best of the third, the state of the fourth, and on other numbers of
    processes as on one that was never stopped."""
    checkpoint = Checkpoint(tmp_path / "state")
    evaluate, calls = Objective.__call__, []

    def watched(objective: Objective, masks: Tensor, items: Tensor) -> Tensor:
        calls.append(len(masks))
        if len(calls) == 5 and current().rank == rank:
            os.kill(os.getpid(), number)
        return evaluate(objective, masks, items)

    def search(_: Processes) -> tuple[Any, ...]:
        heard = []
        before = signal.signal(number, lambda *_: heard.append(number))
        finding = find_sites(small_model, DATA, [LOW_LIGHT], SETTINGS[0], statistics, checkpoint=checkpoint)
        signal.signal(number, before)
        result = finding.result
        return result.interrupted, len(result.history), result.step, heard, _facts(finding)

    monkeypatch.setattr(Objective, "__call__", watched)
    stopped = outcomes(2, search)
    assert [each[:3] for each in stopped] == [(True, 4, 3)] * 2
    assert [each[3] for each in stopped] == [[number] if each == rank else [] for each in range(2)]
    assert checkpoint.path.exists()
    calls.extend(range(5))
    for resumed in outcomes(3, search):
        assert resumed[4] == of_one[0][0]


def test_the_error_of_one_ends_all(small_model: MaeVqgan, small_means: Means, small_prompts: list[Prompts]) -> None:
    sites = small_model.sites("head")
    masks, items = sites.sample(24, 0.3), torch.arange(24) % 12

    def failing(processes: Processes, fail: Callable[[], None]) -> Tensor:
        objective = Objective(small_model, sites, small_means, small_prompts, "token")
        objective(masks, items)
        if processes.rank == 1:
            fail()
        return objective(masks, items)

    def refuse() -> None:
        raise ValueError("there is no more to do")

    outcomes = forked(3, lambda processes: failing(processes, refuse))
    assert str(outcomes[1]) == "there is no more to do"
    assert all(isinstance(outcomes[rank], ProcessLostError) for rank in (0, 2))
    outcomes = forked(3, lambda processes: failing(processes, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert outcomes[1] is None
    assert all(isinstance(outcomes[rank], ProcessLostError) for rank in (0, 2))


def test_processes_that_do_not_do_the_same_are_refused() -> None:
    outcomes = forked(2, lambda processes: processes.begin(torch.tensor([1, processes.rank])))
    assert [type(each) for each in outcomes] == [ValueError] * 2
    assert str(outcomes[0]).startswith("the processes do not do the same, as they must")


def test_commands_of_one_process_refuse_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="this command is not for 3 processes together: start it without torchrun"):
        options.working_on("cpu", None)


def _namespaces() -> bool:
    """Whether two network namespaces can be made here, which are two hosts to those inside."""
    return os.geteuid() == 0 and shutil.which("ip") is not None and sys.platform == "linux"


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces that are joined by a wire."""
    names = [f"taskvec-{os.getpid()}-{number}" for number in range(2)]
    commands = [f"netns add {name}" for name in names]
    commands += [f"link add wire netns {names[0]} type veth peer name wire netns {names[1]}"]
    for number, name in enumerate(names, 1):
        commands += [f"-n {name} address add 10.77.0.{number}/24 dev wire"]
        commands += [f"-n {name} link set {device} up" for device in ("wire", "lo")]
    try:
        for command in commands:
            done = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"ip {command}: {done.stderr.strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@pytest.mark.skipif(not _namespaces(), reason="network namespaces take root, and the command ip, of Linux")
def test_two_hosts(
    hosts: list[str], small_model: MaeVqgan, statistics: Statistics, of_one: tuple[list[Any], list[Any]]
) -> None:
    """Each of two processes with a network of its own, and an address in it by which the other reaches it."""

    def enter(rank: int) -> None:
        with Path("/var/run/netns", hosts[rank]).open() as host:
            assert ctypes.CDLL(None).setns(host.fileno(), 0) == 0
        os.environ["GLOO_SOCKET_IFNAME"] = "wire"

    def search(_: Processes) -> tuple[Any, ...]:
        assert [name for _, name in socket.if_nameindex()] == ["lo", "wire"]
        return _facts(find_sites(small_model, DATA, [LOW_LIGHT], SETTINGS[3], statistics))

    assert outcomes(2, search, address="10.77.0.1", before=enter) == [of_one[0][3]] * 2


def test_a_search_by_torchrun(small_model: MaeVqgan, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """Task vectors, and the log of the search, of two processes are those of one, and only the first one speaks."""
    small_model.write(tmp_path / "model", torch.float32)
    chosen = ["--model", str(tmp_path / "model"), "--data", "scenes", "--task", "low_light", "--steps", "3"]
    chosen += ["--prompts", "8", "--items", "4", "--validation", "4", "--set", "search.masks_per_item=8"]
    assert main(["search", *chosen, "--out", str(tmp_path / "one")]) == 0
    told = capfd.readouterr().err
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "taskvec", "search", *chosen, "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(" sites, validation loss ") == 1
    assert told.splitlines()[-1].split(": ")[0] in done.stderr
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert "search.jsonl" in one
