from collections.abc import Generator
from dataclasses import replace
from functools import partial

import pytest

from taskvec import opponents
from taskvec.data.scenes import Scenes
from taskvec.experiments.cells import Store
from taskvec.experiments.protocol import Group, Protocol, protocol
from taskvec.experiments.study import Study
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.search import GreedySettings, RelaxedSettings

FEW = 240  # scenes: how they are parted takes longer than all else of a small search


@pytest.fixture(scope="session")
def coarse() -> Protocol:
    """Two seeds of a few scenes, everything as small as can be."""
    few = partial(Scenes, count=FEW)
    groups = [Group(f"seed {seed}", few("validation", seed=seed), few("final", seed=seed), seed) for seed in range(2)]
    quick = protocol("best", tuple(groups), 8, bfloat16=False, quick=True)
    search = RelaxedSettings(steps=2, items=5, checkpoint_every=2, candidates=1)
    settings = replace(
        quick.settings,
        prompts=6,
        items=5,
        validation=5,
        search=search,
        area="quadrant",
        temperatures=(1.5, 1.0),
        levels=(32.0, 127.5),
    )
    return replace(
        quick,
        settings=settings,
        greedy=GreedySettings(trials=3, sweeps=1),
        clustered=4,
        grid_layers=(0.25, 1.0),
        grid_shares=(0.2, 0.5),
        prompt_counts=(2, 6),
        item_counts=(1, 3),
        shown=2,
    )


@pytest.fixture(scope="session")
def study(
    small_model: MaeVqgan, coarse: Protocol, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Study, None, None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(opponents, "NEAREST_OF", 8)  # features of as few scenes as will do
        yield Study(small_model, coarse, Store(tmp_path_factory.mktemp("cells")))


@pytest.fixture(scope="session")
def one_seed(study: Study) -> Study:
    """The same of the first seed alone."""
    return Study(study.model, replace(study.protocol, groups=study.protocol.groups[:1]), study.store)
