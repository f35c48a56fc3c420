from collections.abc import Generator
from dataclasses import replace

import pytest

from taskvec import opponents
from taskvec.experiments.cells import Store
from taskvec.experiments.protocol import Protocol, protocol, scenes_groups
from taskvec.experiments.study import Study
from taskvec.models.mae_vqgan import MaeVqgan
from taskvec.search import GreedySettings, RelaxedSettings


@pytest.fixture(scope="session")
def coarse() -> Protocol:
    """Two seeds of scenes, everything as small as can be."""
    quick = protocol("best", scenes_groups(range(2)), 8, bfloat16=False, quick=True)
    search = RelaxedSettings(steps=2, items=5, checkpoint_every=2, candidates=1)
    settings = replace(quick.settings, prompts=6, items=5, validation=5, search=search, area="quadrant")
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
