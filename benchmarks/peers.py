"""The same masked head replacement by pyvene, nnsight, TransformerLens and taskvec: seconds and memory.

    benchmarks/.venv/bin/python benchmarks/peers.py --sizes toy narrow --out peers.json

`make benchmarks/.venv/installed` sets that environment up.
A GPT-2 with random weights, one sequence, and masks that each replace the outputs z of 30 % of its heads, at all
tokens, by given means; wanted are the logits after the last token. Every way must give the same ones (see TOLERANCE).
`by hand` is a way that the peer allows but leaves to the user: the same `where` over a batch that taskvec does, written
in the peer's own hooks. Each way is a process of its own; they take turns in every repeat, and the ratio is the median
over repeats of their time over taskvec's. `peak` is the process's largest resident memory, libraries and all, and
`growth` how much of it came while evaluating.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Only its own process imports a peer, or taskvec: each one's memory holds its own libraries alone.
# pyright: reportMissingImports=false
# ruff: noqa: PLC0415

SIZES = {"toy": (2, 4, 64), "narrow": (4, 8, 128), "gpt2": (6, 12, 768)}  # layers, heads, width
TOKENS, VOCABULARY, SHARE, ROWS = 50, 1000, 0.3, 32
TOLERANCE = 1e-4  # relative to the largest logit: attention is computed in another order where a peer must see it
OURS = "taskvec, 32 masks a pass"

Logits = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Problem:
    """The same in every process. tokens [1, tokens]; means [layers, heads, tokens, head_dim]."""

    model: Any
    tokens: Tensor
    means: Tensor

    @classmethod
    def draw(cls, layers: int, heads: int, width: int) -> "Problem":
        from transformers import GPT2Config, GPT2LMHeadModel

        torch.manual_seed(0)
        sizes: dict[str, Any] = {"n_positions": TOKENS, "n_embd": width, "n_layer": layers, "n_head": heads}
        config = GPT2Config(vocab_size=VOCABULARY, **sizes, bos_token_id=0, eos_token_id=0)
        model = GPT2LMHeadModel(config).eval().requires_grad_(False)
        means = torch.randn(layers, heads, TOKENS, width // heads)
        return cls(model, torch.randint(VOCABULARY, (1, TOKENS)), means)

    @property
    def layers(self) -> range:
        return range(len(self.means))

    def rows(self, count: int) -> Tensor:
        return self.tokens.expand(count, -1)

    def replaced(self, layer: int, masks: Tensor, z: Tensor) -> Tensor:
        """z [rows, tokens, heads, head_dim] of one layer, with the means where the masks [rows, layers, heads] say."""
        return torch.where(masks[:, layer, None, :, None], self.means[layer].transpose(0, 1), z)


def draw_masks(count: int, layers: int, heads: int) -> Tensor:
    """Different ones with the same number of heads, [count, layers, heads]."""
    order = torch.rand(count, layers * heads, generator=torch.Generator().manual_seed(1)).argsort(1).argsort(1)
    return (order < SHARE * layers * heads).view(count, layers, heads)


def in_batches(evaluate: Logits) -> Logits:
    return lambda masks: torch.cat([evaluate(some) for some in masks.split(ROWS)])


def one_by_one(evaluate: Logits) -> Logits:
    return lambda masks: torch.cat([evaluate(mask[None]) for mask in masks])


def unpatched(problem: Problem) -> Logits:
    return lambda masks: problem.model(problem.rows(len(masks)), use_cache=False).logits[:, -1]


def taskvec(problem: Problem) -> Logits:
    """At all tokens, which a ``CausalLm`` leaves to its user: it patches the last one alone."""
    from taskvec.heads import Means, Patch
    from taskvec.models.attention_taps import find_taps
    from taskvec.models.interface import Locations, Place, StackLayout
    from taskvec.sites import Sites

    layers, heads, _, width = problem.means.shape
    places = tuple(Place(None, token) for token in range(TOKENS))
    taps = find_taps(problem.model).taps

    class Decoder:
        def __init__(self) -> None:
            self.stacks = {"decoder": StackLayout(layers, heads, width, places)}

        def taps(self) -> Any:
            return {"decoder": taps}

        def fingerprint(self) -> str:
            return "drawn"

    decoder, where = Decoder(), {"decoder": Locations(torch.arange(TOKENS)[None], TOKENS)}
    sites = Sites.group(decoder.stacks, {"decoder": torch.arange(TOKENS)}, "head")
    means = Means({"decoder": problem.means[None]}, decoder.fingerprint())

    def evaluate(masks: Tensor) -> Tensor:
        with Patch(sites, masks.flatten(1), means).applied(decoder, where):
            return problem.model(problem.rows(len(masks)), use_cache=False).logits[:, -1]

    return evaluate


def pyvene(problem: Problem) -> Logits:
    """One mask a call: an intervention on every layer, made once, and the heads that this call replaces in each."""
    import pyvene

    model = _pyvene(
        problem, [pyvene.RepresentationConfig(n, "head_attention_value_output", "h.pos") for n in problem.layers]
    )
    every_token = list(range(TOKENS))

    def evaluate(masks: Tensor) -> Tensor:
        locations, sources = [], {}
        for layer, key in enumerate(model.sorted_keys):
            heads = masks[0, layer].nonzero()[:, 0].tolist()
            locations.append([[heads], [every_token]])
            if heads:
                sources[key] = problem.means[None, layer, heads]
        places = {"sources->base": (None, locations)}
        return model({"input_ids": problem.tokens}, unit_locations=places, source_representations=sources)[1].logits[
            :, -1
        ]

    return evaluate


def pyvene_batch(problem: Problem) -> Logits:
    """Different heads in each row as different subspaces of the layer's output, which pyvene replaces row by row."""
    import pyvene

    _, heads, _, width = problem.means.shape
    # an empty part, chosen in every row: where the first row chooses nothing, pyvene silently leaves out the layer
    parts = [[head * width, (head + 1) * width] for head in range(heads)] + [[]]
    kind = "attention_value_output"
    model = _pyvene(problem, [pyvene.RepresentationConfig(n, kind, subspace_partition=parts) for n in problem.layers])
    means = problem.means.transpose(1, 2).flatten(2)

    def evaluate(masks: Tensor) -> Tensor:
        count = len(masks)
        chosen = [[[*row.nonzero()[:, 0].tolist(), heads] for row in masks[:, layer]] for layer in problem.layers]
        sources = {key: means[layer].expand(count, -1, -1) for layer, key in enumerate(model.sorted_keys)}
        base = {"input_ids": problem.rows(count)}
        return model(base, source_representations=sources, subspaces=chosen)[1].logits[:, -1]

    return evaluate


def _pyvene(problem: Problem, representations: list[Any]) -> Any:
    import pyvene

    config = pyvene.IntervenableConfig(
        model_type=type(problem.model),
        representations=representations,
        intervention_types=pyvene.VanillaIntervention,
    )
    return pyvene.IntervenableModel(config, problem.model)


def nnsight(problem: Problem) -> Logits:
    """One mask a trace."""
    model = _nnsight(problem)

    def evaluate(masks: Tensor) -> Tensor:
        with model.trace(problem.tokens):
            for layer in problem.layers:
                if masks[0, layer].any():
                    projection = model.transformer.h[layer].attn.c_proj
                    z = projection.input.unflatten(-1, problem.means.shape[1::2])
                    projection.input = problem.replaced(layer, masks, z).flatten(-2)
            logits = model.output.logits[:, -1].save()
        return logits  # noqa: RET504 - what a trace saves is there after it

    return evaluate


def nnsight_batch(problem: Problem) -> Logits:
    """An invoke for each mask, all in one pass."""
    import nnsight

    model = _nnsight(problem)

    def evaluate(masks: Tensor) -> Tensor:
        with model.trace() as tracer:
            logits = nnsight.save([])
            for mask in masks.split(1):
                with tracer.invoke(problem.tokens):
                    for layer in problem.layers:
                        if mask[0, layer].any():
                            projection = model.transformer.h[layer].attn.c_proj
                            z = projection.input.unflatten(-1, problem.means.shape[1::2])
                            projection.input = problem.replaced(layer, mask, z).flatten(-2)
                    logits.append(model.output.logits[:, -1])
        return torch.cat(logits)

    return evaluate


def nnsight_by_hand(problem: Problem) -> Logits:
    model = _nnsight(problem)

    def evaluate(masks: Tensor) -> Tensor:
        with model.trace(problem.rows(len(masks))):
            for layer in problem.layers:
                projection = model.transformer.h[layer].attn.c_proj
                z = projection.input.unflatten(-1, problem.means.shape[1::2])
                projection.input = problem.replaced(layer, masks, z).flatten(-2)
            logits = model.output.logits[:, -1].save()
        return logits  # noqa: RET504 - what a trace saves is there after it

    return evaluate


def _nnsight(problem: Problem) -> Any:
    """With a tokenizer of numbers, which it needs for invokes."""
    import nnsight
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = models.WordLevel({str(token): token for token in range(VOCABULARY)}, unk_token="0")  # noqa: S106
    return nnsight.TransformersModel(
        problem.model,
        tokenizer=PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token="0"),  # noqa: S106
    )


def transformer_lens(problem: Problem) -> Logits:
    """Hooks at the layers' ``hook_z``; a batch is replaced as a user would write it, for there is no other way."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    model = build_bridge_from_module(problem.model, "GPT2LMHeadModel", hf_config=problem.model.config)

    def evaluate(masks: Tensor) -> Tensor:
        def hook(layer: int) -> Callable[..., Tensor]:
            return lambda z, hook: problem.replaced(layer, masks, z)

        patched = masks.flatten(2).any(-1).any(0).nonzero()[:, 0].tolist()
        hooks = [(f"blocks.{layer}.attn.hook_z", hook(layer)) for layer in patched]
        return model.run_with_hooks(problem.rows(len(masks)), fwd_hooks=hooks, return_type="logits")[:, -1]

    return evaluate


WAYS: dict[str, Callable[[Problem], Logits]] = {
    OURS: lambda problem: in_batches(taskvec(problem)),
    "taskvec, one mask a pass": lambda problem: one_by_one(taskvec(problem)),
    "pyvene, one mask a call": lambda problem: one_by_one(pyvene(problem)),
    "pyvene, 32 rows of subspaces": lambda problem: in_batches(pyvene_batch(problem)),
    "nnsight, one mask a trace": lambda problem: one_by_one(nnsight(problem)),
    "nnsight, 32 invokes a trace": lambda problem: in_batches(nnsight_batch(problem)),
    "nnsight, 32 masks by hand": lambda problem: in_batches(nnsight_by_hand(problem)),
    "TransformerLens, one mask a run": lambda problem: one_by_one(transformer_lens(problem)),
    "TransformerLens, 32 masks by hand": lambda problem: in_batches(transformer_lens(problem)),
    "no patch, one row a pass": lambda problem: one_by_one(unpatched(problem)),
    "no patch, 32 rows a pass": lambda problem: in_batches(unpatched(problem)),
}


def serve(connection: Connection, way: str, size: tuple[int, int, int], count: int, threads: int) -> None:
    """The process of one way: say whether it is there, then evaluate all masks each time it is told to."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.stdout = sys.stderr  # peers greet
    torch.set_num_threads(threads)
    masks = draw_masks(count, *size[:2])
    with torch.inference_mode():
        try:
            evaluate = WAYS[way](Problem.draw(*size))
        except ImportError as error:
            connection.send(str(error))
            return
        connection.send(None)
        loaded = _peak()
        while connection.recv():
            started = time.perf_counter()
            logits = evaluate(masks)
            connection.send((time.perf_counter() - started, _peak(), _peak() - loaded, logits.numpy()))


def _peak() -> float:
    """The largest resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(size: tuple[int, int, int], count: int, threads: int, repeats: int) -> list[dict[str, Any]]:
    """A record of each way whose library is there."""
    context = multiprocessing.get_context("spawn")
    connections: dict[str, Connection] = {}
    for way in WAYS:
        connections[way], other = context.Pipe()
        arguments = (other, way, size, count, threads)
        context.Process(target=serve, args=arguments, daemon=True).start()
    for way in WAYS:
        missing = connections[way].recv()
        if missing is not None:
            print(f"left out: {way}: {missing}", file=sys.stderr)
            del connections[way]
    answers: dict[str, list[tuple[float, float, float, Any]]] = {way: [] for way in connections}
    for _ in range(repeats + 1):
        for way, connection in connections.items():
            connection.send(True)
            answers[way].append(connection.recv())
    for connection in connections.values():
        connection.send(False)
    expected = answers[OURS][0][3]
    records = []
    for way, own in answers.items():
        difference = float(abs(own[0][3] - expected).max() / abs(expected).max())
        if not way.startswith("no patch") and difference > TOLERANCE:
            raise RuntimeError(f"{way} gives other logits than {OURS}: they differ by {difference:.1e} of the largest")
        seconds = [answer[0] for answer in own[1:]]  # the first is for warming up
        ratio = statistics.median(a / b[0] for a, b in zip(seconds, answers[OURS][1:], strict=True))
        record = {"way": way, "seconds": statistics.median(seconds), "ratio": ratio, "difference": difference}
        records.append(record | {"peak_mib": own[-1][1], "growth_mib": own[-1][2]})
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["toy", "narrow"])
    parser.add_argument("--masks", type=int, default=320)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from taskvec import environment

    libraries = ("transformers", "pyvene", "nnsight", "transformer-lens")
    versions = {
        **environment.versions(),
        **{name: version(name) for name in libraries if find_spec(name.replace("-", "_"))},
    }
    results: dict[str, Any] = {
        "machine": environment.machine(),
        "versions": versions,
        "masks": options.masks,
        "threads_of_each": options.threads,
        "sizes": {},
    }
    print("| size | way | ms a mask | times taskvec's | peak, MiB | growth, MiB |\n|---|---|---|---|---|---|")
    for name in options.sizes:
        results["sizes"][name] = measure(SIZES[name], options.masks, options.threads, options.repeats)
        for record in results["sizes"][name]:
            milliseconds = f"{1000 * record['seconds'] / options.masks:.2f} | {record['ratio']:.2f}"
            memory = f"{record['peak_mib']:.0f} | {record['growth_mib']:.0f}"
            print(f"| {name} | {record['way']} | {milliseconds} | {memory} |", flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
