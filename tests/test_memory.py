import json
import os
import re
import subprocess
import sys
import threading
import weakref
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from taskvec import memory
from taskvec.cli import main
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig
from taskvec.search import RelaxedSettings

# Peaks of a process for each case, whose passes grow: rows in between two of them cost the difference.
PEAKS = r"""
import json, os, re, sys, torch
from pathlib import Path
from taskvec import Means, draw_prompts, load_data, load_model
from taskvec.objectives import Objective
from taskvec.tasks import IDENTITY

model = load_model("tiny")
sites = model.sites("quadrant")
zeros = {stack: torch.zeros(1, *index.shape, model.stacks[stack].head_dim) for stack, index in sites.index.items()}
means = Means(zeros, model.fingerprint())
prompts = draw_prompts(load_data("scenes", "validation"), IDENTITY, 1, model.config.image_size, 0)
for kind, gradient, counts in json.loads(sys.argv[1]):
    if os.fork():  # which need not import anything again
        os.wait()
        continue
    peaks = []
    for rows in counts:
        objective = Objective(model, sites, means, [prompts], kind, rows=rows)
        items = torch.zeros(rows, dtype=torch.int64)
        if gradient:
            objective.differentiate(torch.full((len(sites),), 0.3), items)
        else:
            objective(sites.sample(rows, 0.3), items)
        # not ru_maxrss, which begins at what the parent had when it started this process
        peaks.append(1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]))
    print(json.dumps(peaks), flush=True)
    os._exit(0)
"""
CASES = [("token", False, (128, 512)), ("pixel", False, (128, 512)), ("token", True, (16, 64))]


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read as Linux tells them")
def test_a_row_needs_what_it_is_said_to(tiny: MaeVqgan) -> None:
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # each thread has buffers of its own
    command = [sys.executable, "-c", PEAKS, json.dumps(CASES)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    for (kind, gradient, counts), line in zip(CASES, ran.stdout.splitlines(), strict=True):
        first, second = json.loads(line)
        measured = (second - first) / (counts[1] - counts[0])
        said = tiny.cost("query_only", answers=kind == "pixel", gradient=gradient).bytes
        assert 0.8 * measured < said < 2 * measured, (kind, gradient)  # allocators round as they like


def test_rows_are_as_many_as_fit(tiny: MaeVqgan, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = tiny.cost("query_only", answers=True, gradient=False)
    for free, rows in ((0, 1), (cost.bytes, 1), (10 * cost.bytes, 5)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert memory.rows_of_a_pass(torch.device("cpu"), cost) == rows
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**50)
    most = memory.rows_of_a_pass(torch.device("cpu"), cost)
    assert most == memory.PROCESSOR_TOKENS // (17 + 33)
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    assert memory.rows_of_a_pass(torch.device("cpu"), cost) == most
    large = replace(cost, bytes=memory.PROCESSOR_BYTES // 3)
    assert memory.rows_of_a_pass(torch.device("cpu"), large) == 3


def test_a_gradient_of_the_published_model_takes_a_quarter_of_what_all_items_of_a_step_would() -> None:
    with torch.device("meta"):
        published = MaeVqgan(MaeVqganConfig())
    cost = published.cost("query_only", answers=False, gradient=True)
    assert memory.rows_of_a_pass(torch.device("cpu"), cost) <= RelaxedSettings().items / 4


def test_a_gradient_needs_more_and_so_do_more_tokens(tiny: MaeVqgan) -> None:
    plain = tiny.cost("query_only", answers=False, gradient=False).bytes
    assert tiny.cost("query_only", answers=False, gradient=True).bytes > 2 * plain
    assert tiny.cost("one_shot", answers=False, gradient=False).bytes > plain


def _group(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_text(content)


def test_free_memory_is_at_most_what_control_groups_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, memberships = tmp_path / "cgroup", tmp_path / "memberships"
    left = lambda: sorted(memory._left_by_groups(root, memberships))  # noqa: E731
    assert left() == []
    _group(root, {"memory.max": "max\n", "memory.current": "300\n"})
    assert left() == []
    _group(root, {"memory.max": "1000\n"})
    assert left() == [700]
    _group(root, {"memory.stat": "anon 100\ninactive_file 150\nactive_file 50\n"})
    assert left() == [850]
    # of the group that the process is in, and of those around it
    memberships.write_text("0::/job/step\n9:cpu,cpuacct:/elsewhere\n")
    _group(root / "job", {"memory.max": "600\n", "memory.current": "500\n"})
    _group(root / "job" / "step", {"memory.max": "max\n", "memory.current": "400\n"})
    _group(root / "elsewhere", {"memory.max": "9\n", "memory.current": "1\n"})
    assert left() == [100, 850]
    monkeypatch.setattr(memory, "_left_by_groups", lambda: iter([700]))
    assert memory.free_bytes(torch.device("cpu")) == 700


def test_control_groups_of_version_1_are_seen(tmp_path: Path) -> None:
    (tmp_path / "memberships").write_text("7:memory:/job\n3:cpu:/other\n")
    unlimited = {"memory.limit_in_bytes": f"{2**63 - 4096}\n", "memory.usage_in_bytes": "50\n"}
    _group(tmp_path / "memory", unlimited)
    stat = {"memory.stat": "inactive_file 1\ntotal_inactive_file 20\n"}
    _group(tmp_path / "memory" / "job", {"memory.limit_in_bytes": "500\n", "memory.usage_in_bytes": "100\n", **stat})
    assert sorted(memory._left_by_groups(tmp_path, tmp_path / "memberships")) == [420, 2**63 - 4096 - 50]


def test_limits_of_the_process_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    limits = {resource.RLIMIT_AS: 5000 * 1024, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits[which], resource.RLIM_INFINITY))
    (tmp_path / "status").write_text("Name:\ta b: c\nVmSize:\t  3000 kB\nVmData:\t  900 kB\n")
    left = lambda: list(memory._left_by_limits(tmp_path / "status"))  # noqa: E731
    assert left() == [2000 * 1024]
    limits[resource.RLIMIT_DATA] = 1000 * 1024
    assert left() == [2000 * 1024, 100 * 1024]
    limits[resource.RLIMIT_AS] = 1024
    assert left()[0] == 0


ALLOCATOR = (
    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 3221225472 bytes. Error 12"
)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError(ALLOCATOR)])
def test_rows_are_halved_until_memory_suffices(error: Exception) -> None:
    """From then on there are no more, and what was begun is begun again."""
    passes, tried = memory.Passes(torch.device("cpu"), 12), []

    def run(rows: int) -> list[int]:
        tried.append(rows)
        if rows > 3:
            raise error
        return [rows] * 4

    with pytest.warns(UserWarning, match=r"does not suffice for 12 rows in a pass: 3 share one \(\d") as told:
        assert passes(run) == [3] * 4
    assert len(told) == 1
    assert (tried, passes.rows) == ([12, 6, 3], 3)
    assert passes(run) == [3] * 4
    assert tried == [12, 6, 3, 3]


def test_a_thread_that_a_shortage_spoilt_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed in oneDNN for want of memory fails in its thread for ever, and in no other."""
    spoilt, tried = threading.get_ident(), []
    is_open: ContextVar[bool] = ContextVar("is_open", default=False)
    monkeypatch.setattr(memory, "_spoilt", threading.local())
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**20)

    def run(rows: int) -> int:
        tried.append(rows)
        if threading.get_ident() == spoilt:
            raise RuntimeError("could not create a primitive")
        assert is_open.get()
        assert not torch.is_grad_enabled()
        return rows

    is_open.set(True)
    with torch.no_grad():
        with pytest.warns(UserWarning, match="does not suffice for 12 rows in a pass: 6 share one"):
            assert memory.Passes(memory.PROCESSOR, 12)(run) == 6
        assert memory.Passes(memory.PROCESSOR, 5)(run) == 5  # others' passes as well
    assert tried == [12, 6, 5]


def test_a_row_that_does_not_fit_is_one_sentence() -> None:
    def run(rows: int) -> None:
        raise RuntimeError(ALLOCATOR)

    told = r"not enough memory: 3\.0 GiB more were wanted, .* are free, in a pass of a single row"
    with pytest.raises(MemoryError, match=told):
        memory.Passes(torch.device("cpu"), 4)(run)


def test_other_errors_are_no_shortage() -> None:
    def run(rows: int) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    passes = memory.Passes(torch.device("cpu"), 4)
    with pytest.raises(RuntimeError, match="mat1"):
        passes(run)
    assert passes.rows == 4


def test_what_a_pass_that_failed_had_is_let_go() -> None:
    """Before the next one, which else would have less than there was for it."""
    seen: list[weakref.ref[torch.Tensor]] = []

    def run(rows: int) -> None:
        assert all(each() is None for each in seen)
        made = torch.zeros(rows)
        seen.append(weakref.ref(made))
        if rows > 1:
            raise MemoryError

    with pytest.warns(UserWarning, match="1 share one"):
        memory.Passes(torch.device("cpu"), 4)(run)
    assert len(seen) == 3


def test_the_command_says_how_much_was_wanted_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def load(path: Path) -> None:
        raise RuntimeError(ALLOCATOR)

    monkeypatch.setattr("taskvec.models.pretrained.load_file", load)
    assert main(["evaluate", "--task", "low_light", "--method", "one_shot", "--threads", "1"]) == 1
    told = (
        r"taskvec: there is not enough memory: 3\.0 GiB more were wanted, .*iB are free: end other programs, raise .*\n"
    )
    assert re.fullmatch(told, capsys.readouterr().err)


def test_what_onednn_says_is_a_shortage_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("could not create a primitive")
    for free, short in ((2**27, True), (0, True), (2**30, False), (None, False)):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        assert memory.is_shortage(error) == short
