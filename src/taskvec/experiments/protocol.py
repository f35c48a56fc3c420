"""What is studied: a model, groups of data that results are averaged over, and how task vectors are found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from taskvec.data import DataSet, judging_split, load_data
from taskvec.data.examples import tasks_of
from taskvec.data.pascal import FOLDS
from taskvec.experiments.paper import TASKS
from taskvec.finding import FindSettings
from taskvec.presets import preset_named
from taskvec.search import GreedySettings
from taskvec.tasks import IDENTITY, Task

X_RAYS = "x-rays"  # of ``Protocol.others``


@dataclass(frozen=True)
class Group:
    """One split or seed: data to find task vectors on, other data to judge them on."""

    name: str
    train: DataSet
    test: DataSet
    seed: int


@dataclass(frozen=True)
class Protocol:
    """Groups, how task vectors are found, how many pairs judge them.

    ``grid_layers`` and ``grid_shares`` are those of Figure 14; layers are shares of all layers, as the paper's 14 to 20
    are of 32. ``prompt_counts`` and ``item_counts`` are the numbers of prompts and of search items of the two curves.
    ``shown`` is how many queries a figure shows; ``others`` are data that methods are judged on beside the groups' own,
    by name; ``tasks`` are those of the paper that the data serve, or their own.
    """

    settings: FindSettings
    groups: tuple[Group, ...]
    pairs: int
    greedy: GreedySettings = GreedySettings()
    baseline_items: int = 10
    clustered: int = 100
    grid_layers: tuple[float, ...] = tuple(layers / 32 for layers in range(14, 21))
    grid_shares: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    prompt_counts: tuple[int, ...] = (1, 2, 5, 10, 20, 50, 100)
    item_counts: tuple[int, ...] = (1, 2, 5, 10, 20)
    shown: int = 6
    others: Mapping[str, DataSet] = field(default_factory=dict)
    tasks: tuple[Task, ...] = field(init=False)

    def __post_init__(self) -> None:
        own = self.groups[0].test.own_task
        tasks = [task for task in tasks_of(self.groups[0].test) if task is own or task.name in (*TASKS, IDENTITY.name)]
        object.__setattr__(self, "tasks", tuple(tasks))


def scenes_groups(seeds: Sequence[int]) -> tuple[Group, ...]:
    """Drawn scenes that no model was trained on, others for every seed, judged on those that nothing is chosen on."""
    judging = judging_split("scenes")
    return tuple(
        Group(f"seed {s}", load_data("scenes", "validation", seed=s), load_data("scenes", judging, seed=s), s)
        for s in seeds
    )


def pascal_groups(seeds: Sequence[int], **options: object) -> tuple[Group, ...]:
    """The four splits of Pascal-5i, judged on the validation lists."""
    return tuple(
        Group(
            f"split {fold}" if len(seeds) == 1 else f"split {fold}, seed {seed}",
            load_data("pascal", "train", fold=fold, **options),
            load_data("pascal", "test", fold=fold, **options),
            seed,
        )
        for fold in range(FOLDS)
        for seed in seeds
    )


def folder_groups(seeds: Sequence[int], **options: object) -> tuple[Group, ...]:
    """A user's own images, of which a fifth judges; ValueError for a task of the user's own."""
    train, test = (load_data("folder", part, **options) for part in ("train", "test"))
    if test.own_task is not None:
        raise ValueError(
            f"{options['root']} has an output/ and so is a task of its own: the experiments are on the paper's tasks, "
            "for which a folder holds images alone"
        )
    return tuple(Group(f"seed {seed}", train, test, seed) for seed in seeds)


GROUPS = {"scenes": scenes_groups, "pascal": pascal_groups, "folder": folder_groups}


def protocol(
    preset: str, groups: tuple[Group, ...], pairs: int, *, bfloat16: bool, quick: bool, xrays: DataSet | None = None
) -> Protocol:
    """The protocol of a preset; ``quick`` makes everything coarse, so that it takes minutes."""
    others = {} if xrays is None else {X_RAYS: xrays}
    whole = Protocol(replace(preset_named(preset), bfloat16=bfloat16), groups, pairs, others=others)
    return _coarse(whole) if quick else whole


def _coarse(whole: Protocol) -> Protocol:
    settings = whole.settings
    search = settings.search.coarse()
    return replace(
        whole,
        settings=replace(settings, prompts=20, pool=min(settings.pool, 60), items=10, validation=20, search=search),
        pairs=min(whole.pairs, 40),
        greedy=whole.greedy.coarse(),
        baseline_items=2,
        clustered=20,
        grid_layers=whole.grid_layers[::3],
        grid_shares=whole.grid_shares[::2],
        prompt_counts=(1, 5, 20),
        item_counts=(1, 10),
        shown=4,
    )
