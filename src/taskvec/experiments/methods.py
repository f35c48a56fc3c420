"""How each method of the paper finds the positions that it patches."""

from dataclasses import dataclass, replace
from typing import Literal

from taskvec.experiments.protocol import Protocol
from taskvec.finding import FindSettings
from taskvec.models.interface import PromptedModel, ViewName
from taskvec.search import CmaSettings
from taskvec.search.greedy import PAPER_LAYERS, Order
from taskvec.sites import Granularity

Kind = Literal["vectors", "cma", "greedy", "random", "top"]
BOTH = ("encoder", "decoder")


@dataclass(frozen=True)
class Patching:
    """Which sites a method patches. ``multi`` methods have one set of sites for all tasks.

    ``vectors`` are found by the protocol's own search, ``cma`` and ``greedy`` by those of the baselines; ``random`` and
    ``top`` quadrants are as many as the positions of ``vectors`` of the same kind. ``view`` is what the model sees when
    it answers; sites are always found for the query alone.
    """

    kind: Kind
    multi: bool = False
    granularity: Granularity = "quadrant"
    stacks: tuple[str, ...] = BOTH
    order: Order = "taskness"
    view: ViewName = "query_only"


PATCHINGS = {
    "vectors": Patching("vectors"),
    "vectors_multi": Patching("vectors", multi=True),
    "vectors_token": Patching("vectors", granularity="token"),
    "vectors_head": Patching("vectors", granularity="head"),
    "vectors_layer": Patching("vectors", granularity="layer"),
    "vectors_multi_token": Patching("vectors", multi=True, granularity="token"),
    "vectors_multi_head": Patching("vectors", multi=True, granularity="head"),
    "vectors_encoder": Patching("vectors", stacks=("encoder",)),
    "vectors_decoder": Patching("vectors", stacks=("decoder",)),
    "cma": Patching("cma"),
    "cma_multi": Patching("cma", multi=True),
    "greedy": Patching("greedy"),
    "greedy_multi": Patching("greedy", multi=True),
    "greedy_random_layers": Patching("greedy", order="random"),
    "greedy_encoder": Patching("greedy", stacks=("encoder",)),
    "greedy_decoder": Patching("greedy", stacks=("decoder",)),
    "greedy_head": Patching("greedy", granularity="head"),
    "greedy_layer": Patching("greedy", granularity="layer"),
    "random": Patching("random"),
    "top": Patching("top"),
    "random_multi": Patching("random", multi=True),
    "one_shot_vectors": Patching("vectors", view="one_shot"),
}


def find_settings(patching: Patching, protocol: Protocol, model: PromptedModel, seed: int) -> FindSettings:
    """The settings of a method's search.

    The baselines are searched by the task's own metric on 10 items, as in the paper, whatever the protocol's search is.
    Greedy random search takes the paper's 17 of 32 layers, that is as large a share of this model's, and all layers
    where it is confined to the decoder (Section 13.2).
    """
    base = replace(protocol.settings, granularity=patching.granularity, stacks=patching.stacks, seed=seed)
    if patching.kind in ("vectors", "random", "top"):  # the last two take as many sites as the first
        return base
    baseline = replace(base, objective="pixel", search=CmaSettings(), items=protocol.baseline_items)
    if patching.kind == "cma":
        return baseline
    share = 1 if patching.stacks == ("decoder",) else PAPER_LAYERS
    greedy = replace(protocol.greedy, layers=layers_of(share, model), order=patching.order)
    return replace(baseline, search=greedy)


def layers_of(share: float, model: PromptedModel) -> int:
    """A share of all layers as a number, at least one."""
    return max(1, round(share * sum(stack.layers for stack in model.stacks.values())))
