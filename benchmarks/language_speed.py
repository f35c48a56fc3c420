"""Losses of a language model under many masks: seconds and memory of this project, other libraries and plain hooks.

    benchmarks/.venv/bin/python benchmarks/language_speed.py --model models/smollm2 --out language_speed.json
    .venv/bin/python benchmarks/language_speed.py --model models/smollm2 --search

`make benchmarks/.venv/installed` sets up the environment of the first, which has the other libraries. The objective is
that of a search: masks that each replace the head outputs z of 30 % of all heads at a prompt's last token by means over
ten-shot prompts, wanted the cross-entropy of the answer's first token. `zero-shot` are the bare questions of a
relation, `ten-shot` the same behind ten examples.

`taskvec` evaluates all masks on all prompts, the preparation of the prompts included, and some of them with fewer rows
a pass than its default. The other ways run as many rows as ROWS says, passes of one prompt each so that nothing is
filled up, with the faster of the batch sizes in BATCHES, and compute logits of the last token alone. `whole` runs whole
sequences in each pass; `kept` goes on from keys and values of a prompt that are computed once and copied for every row,
which none of the libraries does by itself, but its user can with the transformers library's cache. A way whose losses
are not ours (TOLERANCE) is said to be wrong.

Each way is a process of its own; they take turns in every repeat. Milliseconds are medians, of processor time of the
one thread that computes, so that other work on the machine counts less, and of wall-clock time; ratios are medians over
repeats of a way's time over that of taskvec in the same repeat. Memory is the largest that was resident while
evaluating, libraries and weights included, and `growth` what of it came on top of the loaded model.

With --random, the model is a Llama of a billion random float32 weights (RANDOM), with the tokenizer of --model: a few
rows, once. With --search, the time of a whole search of preset `language` for one relation instead, by threads.
"""

import argparse
import copy
import ctypes
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Only its own process imports a peer, or taskvec: each one's memory holds its own libraries alone.
# pyright: reportMissingImports=false
# ruff: noqa: PLC0415

RELATION, SEED, PROMPTS, SHARE = "present-past", 0, 10, 0.3
OURS = "taskvec"
CASES: dict[str, Any] = {"zero-shot": "query_only", "ten-shot": "one_shot"}  # the views of a model
ROWS = {"zero-shot": 128, "ten-shot": 16}  # of a peer in each repeat
KEPT_ROWS = {"zero-shot": 128, "ten-shot": 128}
BATCHES = {"zero-shot": (16, 64), "ten-shot": (4, 16)}
KEPT_BATCHES = {"zero-shot": (16, 64), "ten-shot": (16, 64)}
OUR_ROWS = (256, 128, 64, 16)  # of a pass, beside the default
OUR_MASKS = 64  # where rows are not the default's
TOLERANCE = 1e-3  # in nats
RANDOM = {
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": True,
}


class Work(NamedTuple):
    """What a process is told to do: masks and prompts by their numbers, and how many rows a pass has."""

    case: str
    masks: int
    prompts: tuple[int, ...]
    rows: int | None


class Done(NamedTuple):
    """Losses [masks, prompts] and what they cost: seconds of the clock and the processor, memory in MiB."""

    losses: Any
    seconds: float
    processor_seconds: float
    peak: float
    growth: float

    @property
    def size(self) -> int:
        return self.losses.size


@dataclass(frozen=True)
class Problem:
    """The same in every process. ``tokens`` and ``targets`` by case; means [layers, heads, width], masks of heads."""

    source: Path
    random: bool
    tokens: dict[str, list[list[int]]]
    targets: list[int]  # the first tokens of the answers
    means: Tensor
    masks: Tensor  # bool [masks, layers, heads]

    def model(self) -> Any:
        return load(self.source, self.random)[0]

    def typical(self, case: str) -> tuple[int, ...]:
        """The prompts by how near their length is to the mean."""
        lengths = [len(own) for own in self.tokens[case]]
        mean = sum(lengths) / len(lengths)
        return tuple(sorted(range(len(lengths)), key=lambda number: abs(lengths[number] - mean)))


def load(source: Path, random: bool) -> tuple[Any, Any]:
    """A model of transformers, frozen, and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
    if random:
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=len(tokenizer), **RANDOM)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    else:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, local_files_only=True)
    return model.eval().requires_grad_(False), tokenizer


def our_model(source: Path, random: bool) -> Any:
    from taskvec.models.causal_lm import CausalLm

    return CausalLm(*load(source, random)) if random else CausalLm.load(source)


def our_prompts(count: int, seed: int) -> Any:
    from taskvec import draw_prompts, load_data

    data: Any = load_data("relations", "train", relation=RELATION)
    return draw_prompts(data, data.own_task, count, 0, seed)


def pose(source: Path, random: bool, masks: int) -> Problem:
    from taskvec import collect
    from taskvec.models.token_texts import TokenTexts, texts_of

    model = our_model(source, random)
    prompts, behind_means = our_prompts(PROMPTS, SEED), our_prompts(4 if random else 20, SEED + 1)
    means = collect(model, [behind_means]).means([behind_means.task.name])["decoder"]
    texts = TokenTexts(model.tokenizer)
    tokens = {case: texts.of_texts(texts_of(prompts, view)) for case, view in CASES.items()}
    targets = model.truths(prompts)[:, 0].tolist()
    chosen = model.sites("head").sample(masks, SHARE).view(masks, *means.shape[1:3])
    return Problem(source, random, tokens, targets, means[0, :, :, 0].clone(), chosen)


Evaluate = Callable[[Work], Tensor]


def taskvec(problem: Problem) -> Evaluate:
    from taskvec.heads import Means
    from taskvec.objectives import Objective

    model, prompts = our_model(problem.source, problem.random), our_prompts(PROMPTS, SEED)
    means = Means({"decoder": problem.means[None, :, :, None]}, model.fingerprint())
    sites = model.sites("head")

    def evaluate(work: Work) -> Tensor:
        objective = Objective(model, sites, means, [prompts], "token", CASES[work.case], rows=work.rows)
        return objective.evaluate_product(problem.masks[: work.masks].flatten(1), torch.tensor(work.prompts))

    return evaluate


class Run(NamedTuple):
    """Logits [rows, vocabulary] of a peer: ``run(tokens [rows, tokens], masks, given)``, and the model that it runs."""

    run: Callable[[Tensor, Tensor, dict[str, Any]], Tensor]
    model: Any


def whole(peer: Run, problem: Problem) -> Evaluate:
    """Whole sequences in every pass."""
    return _by_prompt(problem, lambda tokens: lambda masks: peer.run(tokens.expand(len(masks), -1), masks, {}))


def kept(peer: Run, problem: Problem) -> Evaluate:
    """The last token alone, behind keys and values of the others."""
    from transformers import DynamicCache

    def of_prompt(tokens: Tensor) -> Callable[[Tensor], Tensor]:
        cache = DynamicCache()
        peer.model(input_ids=tokens[:, :-1], past_key_values=cache, logits_to_keep=1)

        def run(masks: Tensor) -> Tensor:
            own = copy.deepcopy(cache)
            own.batch_repeat_interleave(len(masks))
            return peer.run(tokens[:, -1:].expand(len(masks), -1), masks, {"past_key_values": own})

        return run

    return _by_prompt(problem, of_prompt)


def _by_prompt(problem: Problem, of_prompt: Callable[[Tensor], Callable[[Tensor], Tensor]]) -> Evaluate:
    def evaluate(work: Work) -> Tensor:
        losses = torch.empty(work.masks, len(work.prompts))
        for column, number in enumerate(work.prompts):
            run = of_prompt(torch.tensor([problem.tokens[work.case][number]]))
            for rows in torch.arange(work.masks).split(work.rows or work.masks):
                logits, target = run(problem.masks[rows]), torch.tensor(problem.targets[number])
                losses[rows, column] = F.cross_entropy(logits, target.expand(len(rows)), reduction="none")
        return losses

    return evaluate


def by_hand(problem: Problem) -> Run:
    """Hooks in front of the output projections."""
    model = problem.model()
    current: list[Tensor] = []

    def hook(layer: int) -> Callable[[Any, tuple[Tensor]], tuple[Tensor]]:
        def replace(module: Any, arguments: tuple[Tensor]) -> tuple[Tensor]:
            z = arguments[0].clone()
            z[:, -1] = _replaced(problem, layer, current[0], z[:, -1])
            return (z,)

        return replace

    for layer, block in enumerate(model.model.layers):
        block.self_attn.o_proj.register_forward_pre_hook(hook(layer))

    def run(tokens: Tensor, masks: Tensor, given: dict[str, Any]) -> Tensor:
        current[:] = [masks]
        return model(input_ids=tokens, logits_to_keep=1, **given).logits[:, -1]

    return Run(run, _undisturbed(problem, model, lambda masks: current.__setitem__(slice(None), [masks])))


def transformer_lens(problem: Problem) -> Run:
    """Hooks at ``hook_z``, [rows, tokens, heads, width]."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    model = problem.model()
    bridge = build_bridge_from_module(model, "LlamaForCausalLM", hf_config=model.config)

    def run(tokens: Tensor, masks: Tensor, given: dict[str, Any]) -> Tensor:
        def hook(layer: int) -> Callable[..., Tensor]:
            def replace(z: Tensor, hook: Any) -> Tensor:
                z = z.clone()
                z[:, -1] = torch.where(masks[:, layer, :, None], problem.means[layer], z[:, -1])
                return z

            return replace

        hooks = [(f"blocks.{layer}.attn.hook_z", hook(layer)) for layer in range(len(problem.means))]
        given = {"logits_to_keep": 1, **given}
        return bridge.run_with_hooks(tokens, fwd_hooks=hooks, return_type="logits", **given)[:, -1]

    return Run(run, model)


def nnsight(problem: Problem) -> Run:
    """One trace for a batch of rows, with a tensor of their masks."""
    import nnsight
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(problem.source, local_files_only=True)
    plain = problem.model()
    model = nnsight.TransformersModel(plain, tokenizer=tokenizer)

    def run(tokens: Tensor, masks: Tensor, given: dict[str, Any]) -> Tensor:
        with model.trace(tokens, logits_to_keep=1, **given):
            for layer in range(len(problem.means)):
                projection = model.model.layers[layer].self_attn.o_proj
                z = projection.input.clone()
                z[:, -1] = _replaced(problem, layer, masks, z[:, -1])
                projection.input = z
            logits = model.output.logits[:, -1].save()
        return logits  # noqa: RET504 - what a trace saves is there after it

    return Run(run, plain)


def pyvene_subspaces(problem: Problem) -> Run:
    """Different heads in each row as different subspaces of what the projection is given."""
    import pyvene

    heads, width = problem.means.shape[1:]
    # an empty part, chosen in every row: where the first row chooses nothing, pyvene silently leaves out the layer
    parts = [[head * width, (head + 1) * width] for head in range(heads)] + [[]]
    kind = "attention_value_output"
    layers = range(len(problem.means))
    plain = problem.model()
    config = pyvene.IntervenableConfig(
        model_type=type(plain),
        representations=[pyvene.RepresentationConfig(n, kind, subspace_partition=parts) for n in layers],
        intervention_types=pyvene.VanillaIntervention,
    )
    model = pyvene.IntervenableModel(config, plain)
    means = problem.means.flatten(1)

    def run(tokens: Tensor, masks: Tensor, given: dict[str, Any]) -> Tensor:
        count, last = tokens.shape[0], tokens.shape[1] - 1
        chosen = [[[*row.nonzero()[:, 0].tolist(), heads] for row in masks[:, layer]] for layer in layers]
        sources = {key: means[layer].expand(count, 1, -1) for layer, key in enumerate(model.sorted_keys)}
        places = {"sources->base": (None, [[[last]] * count] * len(layers))}
        base = {"input_ids": tokens, "logits_to_keep": 1, **given}
        return model(base, unit_locations=places, source_representations=sources, subspaces=chosen)[1].logits[:, -1]

    return Run(run, plain)


def pyvene_own(problem: Problem) -> Run:
    """An intervention of the user's, with a tensor of masks."""
    import pyvene

    class Replace(pyvene.SourcelessIntervention):
        def __init__(self, layer: int):
            super().__init__()
            self.layer, self.masks = layer, torch.empty(0)

        def forward(self, base: Tensor, source: Any = None, subspaces: Any = None) -> Tensor:
            return _replaced(problem, self.layer, self.masks, base)

    own = [Replace(layer) for layer in range(len(problem.means))]
    representations = [
        pyvene.RepresentationConfig(layer, "attention_value_output", intervention=own[layer])
        for layer in range(len(own))
    ]
    plain = problem.model()
    config = pyvene.IntervenableConfig(model_type=type(plain), representations=representations)
    model = pyvene.IntervenableModel(config, plain)

    def run(tokens: Tensor, masks: Tensor, given: dict[str, Any]) -> Tensor:
        for intervention in own:
            intervention.masks = masks
        base = {"input_ids": tokens, "logits_to_keep": 1, **given}
        return model(base, unit_locations={"base": tokens.shape[1] - 1})[1].logits[:, -1]

    return Run(run, plain)


def _replaced(problem: Problem, layer: int, masks: Tensor, z: Tensor) -> Tensor:
    """z [rows, heads times width] of a layer, with the means where the masks say."""
    means = problem.means[layer]
    return torch.where(masks[:, layer, :, None], means, z.unflatten(-1, means.shape)).flatten(-2)


def _undisturbed(problem: Problem, model: Any, choose: Callable[[Tensor], None]) -> Callable[..., Any]:
    """The model without a replacement."""

    def run(**inputs: Any) -> Any:
        choose(torch.zeros_like(problem.masks[:1]))
        return model(**inputs)

    return run


WAYS: dict[str, Callable[[Problem], Evaluate]] = {
    OURS: taskvec,
    "by hand, whole": lambda problem: whole(by_hand(problem), problem),
    "TransformerLens, whole": lambda problem: whole(transformer_lens(problem), problem),
    "nnsight, whole": lambda problem: whole(nnsight(problem), problem),
    "pyvene subspaces, whole": lambda problem: whole(pyvene_subspaces(problem), problem),
    "pyvene own intervention, whole": lambda problem: whole(pyvene_own(problem), problem),
    "by hand, kept": lambda problem: kept(by_hand(problem), problem),
    "TransformerLens, kept": lambda problem: kept(transformer_lens(problem), problem),
    "nnsight, kept": lambda problem: kept(nnsight(problem), problem),
    "pyvene own intervention, kept": lambda problem: kept(pyvene_own(problem), problem),
}


def serve(connection: Connection, way: str, problem: Problem) -> None:
    """The process of one way: say whether it is there, then do the work that it is told to."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.stdout = sys.stderr  # peers greet
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with torch.no_grad():
        try:
            evaluate = WAYS[way](problem)
        except ImportError as error:
            connection.send(str(error))
            return
        connection.send(None)
        while (work := connection.recv()) is not None:
            forget_peak()
            before, started, processor = resident(), time.perf_counter(), time.process_time()
            try:
                losses = evaluate(work).numpy()
            except Exception as error:  # of a peer, which the table tells of
                connection.send(f"{type(error).__name__}: {error}")
                continue
            seconds = time.perf_counter() - started, time.process_time() - processor
            connection.send(Done(losses, *seconds, peak(), peak() - before))


def peak() -> float:
    """The largest resident memory since ``forget_peak`` on Linux, elsewhere since the start, in MiB."""
    path = Path("/proc/self/status")
    if path.is_file():  # getrusage's is never less than that of the process that started this one
        return int(path.read_text().partition("VmHWM:")[2].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def resident() -> float:
    """Resident memory, in MiB; the peak where the system does not say."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if path.is_file() else peak()


def forget_peak() -> None:
    """Give memory that is no longer used back, and let the peak begin anew; on Linux alone."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        ctypes.CDLL(None).malloc_trim(0)
        path.write_text("5")


class Server:
    """The process of one way, as the parent sees it."""

    def __init__(self, way: str, problem: Problem):
        context = multiprocessing.get_context("spawn")
        self.way = way
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, way, problem), daemon=True)
        self.process.start()
        other.close()  # so that a process that fails is noticed
        self.missing: str | None = self.connection.recv()

    def do(self, work: Work) -> Done:
        self.connection.send(work)
        done = self.connection.recv()
        if isinstance(done, str):
            raise RuntimeError(f"{self.way}: {done}")
        return done

    def stop(self) -> None:
        if self.missing is None:
            self.connection.send(None)
        self.process.join()


def works_of(way: str, case: str, problem: Problem, our_rows: Sequence[int]) -> list[Work]:
    """What a way may be told in a case: of a peer one for each batch size, the best of which is then measured."""
    most = len(problem.masks)
    if way == OURS:
        every = tuple(range(PROMPTS))
        return [Work(case, most, every, None), *(Work(case, min(most, OUR_MASKS), every, own) for own in our_rows)]
    rows, batches = (KEPT_ROWS, KEPT_BATCHES) if way.endswith("kept") else (ROWS, BATCHES)
    typical = problem.typical(case)
    sizes = [min(size, most) for size in batches[case]]
    return [Work(case, size, typical[: rows[case] // size], size) for size in dict.fromkeys(sizes)]


def label(way: str, work: Work) -> str:
    return f"{way}, {work.rows or 'default'} rows" if way == OURS else f"{way}, {work.rows} rows"


def measure(
    servers: Sequence[Server], case: str, problem: Problem, our_rows: Sequence[int], repeats: int
) -> list[dict[str, Any]]:
    """A record of each way, the batch sizes of peers chosen by a first run."""
    tasks: list[tuple[Server, Work]] = []
    expected: Any = None
    failed: list[dict[str, Any]] = []
    for server in servers:
        works = works_of(server.way, case, problem, our_rows)
        if server.way == OURS:
            tasks += [(server, work) for work in works]
            expected = server.do(works[0]).losses  # of every mask and prompt, by their numbers
            continue
        tried: dict[Work, float] = {}
        try:
            for work in works:
                done = server.do(work)
                tried[work] = done.processor_seconds / done.size
                difference = abs(done.losses - expected[: work.masks, list(work.prompts)]).max()
                print(f"{case}: {label(server.way, work)}: {1000 * tried[work]:.1f} ms a row", file=sys.stderr)
                if not difference <= TOLERANCE:
                    raise RuntimeError(f"{server.way} is wrong: losses differ by {difference:.2g} nats")
        except RuntimeError as error:
            print(error, file=sys.stderr)
            failed.append({"case": case, "way": server.way, "failed": str(error)})
            continue
        tasks.append((server, min(tried, key=lambda work: tried[work])))
    runs: list[list[Done]] = [[] for _ in tasks]
    for number in range(repeats):
        for own, (server, work) in zip(runs, tasks, strict=True):
            own.append(server.do(work))
        print(f"{case}: repeat {number + 1} of {repeats}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    records = []
    for own, (server, work) in zip(runs, tasks, strict=True):
        difference = abs(own[0].losses - expected[: work.masks, list(work.prompts)]).max()
        record: dict[str, Any] = {"case": case, "way": label(server.way, work), "rows": own[0].size}
        for name, seconds in (("processor", "processor_seconds"), ("clock", "seconds")):
            each = [getattr(done, seconds) / done.size for done in own]
            ours = [getattr(done, seconds) / done.size for done in runs[0]]
            record[f"{name}_ms"] = 1000 * statistics.median(each)
            record[f"{name}_ratio"] = statistics.median(a / b for a, b in zip(each, ours, strict=True))
        record |= {"peak_mib": max(done.peak for done in own), "growth_mib": max(done.growth for done in own)}
        records.append(record | {"difference": float(difference)})
    return records + failed


def show(record: dict[str, Any]) -> str:
    if "failed" in record:
        return f"| {record['case']} | {record['way']} | {record['failed']} | | | | | |"
    times = f"{record['processor_ms']:.2f} | {record['processor_ratio']:.2f}"
    clock = f"{record['clock_ms']:.2f} | {record['clock_ratio']:.2f}"
    memory = f"{record['peak_mib']:.0f} | {record['growth_mib']:.0f}"
    return f"| {record['case']} | {record['way']} | {record['rows']} | {times} | {clock} | {memory} |"


HEADER = (
    "| case | way | rows | processor ms a row | times taskvec's | ms a row | times taskvec's | peak, MiB "
    "| growth, MiB |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def search(source: Path, random: bool, threads: int) -> dict[str, Any]:
    """Seconds of statistics and of a search of preset ``language`` for one relation."""
    from taskvec import find, load_data
    from taskvec.finding import collect_for
    from taskvec.presets import PRESETS

    torch.set_num_threads(threads)
    model, settings = our_model(source, random), PRESETS["language"]
    data: Any = load_data("relations", "train", relation=RELATION)
    forget_peak()
    before, loads, times = resident(), [os.getloadavg()[0]], [(time.perf_counter(), time.process_time())]
    collected = collect_for(model, data, [data.own_task], settings)
    times.append((time.perf_counter(), time.process_time()))
    vectors = find(model, data, None, settings, collected, progress=False)
    times.append((time.perf_counter(), time.process_time()))
    loads.append(os.getloadavg()[0])
    seconds, processor = ([after - earlier for earlier, after in pairwise(each)] for each in zip(*times, strict=True))
    return {
        "threads": threads,
        "statistics_s": seconds[0],
        "statistics_processor_s": processor[0],
        "search_s": seconds[1],
        "search_processor_s": processor[1],
        "heads": sum(int((~mean.isnan().any(-1)).sum()) for mean in vectors.means.values()),
        "peak_mib": peak(),
        "growth_mib": peak() - before,
        "load": loads,
    }


def _search(connection: Connection, source: Path, random: bool, threads: int) -> None:
    connection.send(search(source, random, threads))


def searches(source: Path, random: bool, threads: Sequence[int]) -> list[dict[str, Any]]:
    """Each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    records = []
    print("| threads | statistics, s | search, s | both, s | processor s of both | peak, MiB | growth, MiB | load |")
    print("|---|---|---|---|---|---|---|---|")
    for count in threads:
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_search, args=(sending, source, random, count), daemon=True)
        process.start()
        sending.close()  # so that a process that fails is noticed
        records.append(own := receiving.recv())
        process.join()
        both = own["statistics_s"] + own["search_s"]
        processor = own["statistics_processor_s"] + own["search_processor_s"]
        seconds = f"{own['statistics_s']:.1f} | {own['search_s']:.1f} | {both:.1f} | {processor:.1f}"
        load = " to ".join(f"{each:.1f}" for each in own["load"])
        print(f"| {count} | {seconds} | {own['peak_mib']:.0f} | {own['growth_mib']:.0f} | {load} |", flush=True)
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, required=True, help="a directory with a Llama and its tokenizer")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), help="of the others, by default all")
    parser.add_argument("--masks", type=int, default=320)
    parser.add_argument("--rows", nargs="*", type=int, default=OUR_ROWS, help="of taskvec's passes, beside the default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--random", action="store_true", help="a billion random weights in place of the model's")
    parser.add_argument(
        "--search", nargs="*", type=int, metavar="THREADS", help="time a search instead, by default 1 2"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from taskvec import environment

    os.environ["HF_HUB_OFFLINE"] = "1"
    libraries = ("transformers", "pyvene", "nnsight", "transformer-lens")
    found = {name: version(name) for name in libraries if find_spec(name.replace("-", "_"))}
    results: dict[str, Any] = {
        "machine": environment.machine(),
        "versions": {**environment.versions(), **found},
        "model": dict(RANDOM) if options.random else options.model.name,
        "relation": RELATION,
        "load_before": os.getloadavg(),
    }
    if options.search is not None:
        results["searches"] = searches(options.model, options.random, options.search or [1, 2])
    else:
        torch.set_num_threads(1)
        problem = pose(options.model, options.random, options.masks)
        results["tokens"] = {case: [len(own) for own in tokens] for case, tokens in problem.tokens.items()}
        wanted = [OURS, *([way for way in WAYS if way != OURS] if options.ways is None else options.ways)]
        servers = [Server(way, problem) for way in wanted]
        for server in servers:
            if server.missing is not None:
                print(f"left out: {server.way}: {server.missing}", file=sys.stderr)
        servers = [server for server in servers if server.missing is None]
        results["records"] = []
        print(HEADER)
        for case in options.cases:
            results["records"] += (own := measure(servers, case, problem, options.rows, options.repeats))
            print("\n".join(map(show, own)), flush=True)
        for server in servers:
            server.stop()
    results["load_after"] = os.getloadavg()
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
