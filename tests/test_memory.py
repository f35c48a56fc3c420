import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from taskvec import memory
from taskvec.models.mae_vqgan import MaeVqgan, MaeVqganConfig
from taskvec.search import RelaxedSettings

# Peaks of one process, whose passes grow: rows in between two of them cost the difference.
PEAKS = r"""
import json, re, sys, torch
from pathlib import Path
from taskvec import Means, draw_prompts, load_data, load_model
from taskvec.objectives import Objective
from taskvec.tasks import IDENTITY

kind, gradient, counts = sys.argv[1], sys.argv[2] == "gradient", [int(count) for count in sys.argv[3:]]
model = load_model("tiny")
sites = model.sites("quadrant")
zeros = {stack: torch.zeros(1, *index.shape, model.stacks[stack].head_dim) for stack, index in sites.index.items()}
means = Means(zeros, model.fingerprint())
prompts = draw_prompts(load_data("scenes", "validation"), IDENTITY, 1, model.config.image_size, 0)
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
print(json.dumps(peaks))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read as Linux tells them")
@pytest.mark.parametrize(
    ("kind", "gradient", "counts"),
    [("token", False, (256, 1024)), ("pixel", False, (256, 1024)), ("token", True, (32, 128))],
)
def test_a_row_needs_what_it_is_said_to(kind: str, gradient: bool, counts: tuple[int, int], tiny: MaeVqgan) -> None:
    arguments = [kind, "gradient" if gradient else "none", *map(str, counts)]
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # each thread has buffers of its own
    command = [sys.executable, "-c", PEAKS, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    first, second = json.loads(ran.stdout)
    measured = (second - first) / (counts[1] - counts[0])
    said = tiny.cost("query_only", answers=kind == "pixel", gradient=gradient).bytes
    assert 0.8 * measured < said < 2 * measured  # allocators round as they like


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


def test_free_memory_is_at_most_what_the_control_group_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory._available_in_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("300\n")
    assert memory._available_in_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory._available_in_group(tmp_path) == 700
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 150\nactive_file 50\n")
    assert memory._available_in_group(tmp_path) == 850
    monkeypatch.setattr(memory, "_available_in_group", lambda: 700)
    assert memory.free_bytes(torch.device("cpu")) == 700
