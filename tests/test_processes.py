"""One search on several processes: forked ones, as torchrun would start them, and torchrun itself once."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
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
from taskvec.cli import main
from taskvec.data.scenes import Scenes
from taskvec.finding import FindSettings, Finding, find_sites
from taskvec.heads import Means
from taskvec.interrupts import must_stop, stop, stoppable
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.objectives import OBJECTIVES, Objective
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
    SearchSettings,
)
from taskvec.tasks import LOW_LIGHT, SEGMENTATION

DATA = Scenes("train", count=300)
REINFORCE = ReinforceSettings(steps=6, masks_per_item=5, checkpoint_every=3, candidates=3)
SEARCHES: tuple[SearchSettings, ...] = (
    replace(REINFORCE, steps=3, shared_masks=True),
    REINFORCE,
    RelaxedSettings(steps=4, items=7, checkpoint_every=2, halving=True, screening=True, candidates=3),
    AttributionSettings(),
    CmaSettings(),
    GreedySettings(trials=5, sweeps=1),
)


@pytest.fixture
def finely() -> Iterator[None]:
    """Passes as small as those of a large model's many rows, of which a small one's would be too few to share."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(memory, "LEAST_PROCESSOR_TOKENS", 60)
        yield


def _settings(search: SearchSettings) -> FindSettings:
    return FindSettings(prompts=8, items=5, validation=7, search=search, prune=True, curve=True)


def _facts(finding: Finding) -> tuple[Any, ...]:
    """All that tells whether two searches came to the same, to the last bit."""
    result = finding.result
    scores = None if result.scores is None else result.scores.numpy().tobytes()
    ended = (result.loss, result.step, result.evaluations, result.harmful, result.curve, finding.decodings)
    return result.mask.tolist(), scores, tuple(map(str, result.history)), ended


@pytest.mark.parametrize("count", [2, 3, 4])
def test_searches_are_the_same_on_however_many_processes(
    count: int, finely: None, small_model: MaeVqgan, alone: list[Any]
) -> None:
    """Every search, of one task and of two, with all that comes after it, and a refinement: to the last bit."""
    for rank, (facts, told) in enumerate(outcomes(count, lambda _: _search_all(small_model))):
        assert facts == alone[0]
        assert told == (alone[1] if rank == 0 else [])


@pytest.fixture(scope="module")
def alone(small_model: MaeVqgan) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(memory, "LEAST_PROCESSOR_TOKENS", 60)
        return _search_all(small_model)


def _search_all(model: MaeVqgan) -> tuple[list[Any], list[Any]]:
    """What all searches come to, and what they tell step by step."""
    facts, told = [], []
    for search in SEARCHES:
        tasks = [LOW_LIGHT, SEGMENTATION] if search in (SEARCHES[0], SEARCHES[2]) else [LOW_LIGHT]
        finding = find_sites(model, DATA, tasks, _settings(search), on_step=lambda record: told.append(str(record)))
        facts.append(_facts(finding))
    (vectors,) = find_sites(model, DATA, [LOW_LIGHT], _settings(RelaxedSettings(steps=2, items=3))).vectors()
    settings = RefineSettings(steps=3, batch=7, prompts=12, validation=6, validate_every=2)
    refined = refine(vectors, DATA, settings, lambda record: told.append(str(record)))
    facts.append((str(refined.config), {stack: mean.numpy().tobytes() for stack, mean in refined.means.items()}))
    return facts, told
