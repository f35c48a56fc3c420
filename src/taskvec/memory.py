"""How many rows one pass takes: by what a row needs, what memory is free, and how many rows there is a gain from."""

from pathlib import Path

import torch

from taskvec.canvas import ViewName
from taskvec.models.mae_vqgan import DecodeArea, MaeVqgan, StackConfig

SHARE = 0.5  # of the free memory that a pass may take: the rest is for others, and for what no model foresees
PROCESSOR_TOKENS = 4096  # of both stacks in one pass: on a processor more are no faster
GPU_TOKENS = 65536  # so that where memory is plenty rows do not hang on how much of it is free at the moment
NUMBER = 4  # bytes; bfloat16 needs less and is given as much


def rows_of_a_pass(model: MaeVqgan, view: ViewName, area: DecodeArea | None, decodes: bool, gradient: bool) -> int:
    """Patched runs that share a pass, at least one; ``decodes`` and ``gradient`` as in ``row_bytes``."""
    tokens = sum(len(model.view(view).tokens(stack)) for stack in model.projections())
    rows = (PROCESSOR_TOKENS if model.device.type == "cpu" else GPU_TOKENS) // tokens
    free = free_bytes(model.device)
    if free is not None:
        rows = min(rows, int(SHARE * free) // row_bytes(model, view, area, decodes, gradient))
    return max(1, rows)


def row_bytes(model: MaeVqgan, view: ViewName, area: DecodeArea | None, decodes: bool, gradient: bool) -> int:
    """Bytes that a row adds to the peak of a pass, estimated from above.

    With a gradient every layer of both stacks keeps what its backward pass needs; without, one layer's activations are
    there at a time. A GPU decodes all images at once if ``decodes``, a processor in pieces, which rows add nothing to.
    """
    tokens, config = model.view(view), model.config
    encoder = (config.encoder, len(tokens.encoder_tokens))
    decoder = (config.decoder, len(tokens.decoder_tokens))
    logits = 4 * len(tokens.predicted) * config.vqgan.codes  # predicted, selected, and two in the cross-entropy
    running = max(_running(*encoder), _running(*decoder), logits)
    kept = _kept(*encoder) + _kept(*decoder) if gradient else 0
    decoded = 0
    if decodes and model.device.type != "cpu":
        side = config.canvas_size if (area or model.default_area) == "canvas" else config.canvas_size // 2
        decoded = _decoded(model, side)
    return NUMBER * (kept + max(running, decoded))


def _running(config: StackConfig, tokens: int) -> int:
    """Numbers of one block: input, normed input, q, k and v as projected and once more in order, z, z as patched ..."""
    attention = 12 * tokens * config.width + 2 * config.heads * tokens**2
    mlp = (2 + 2 * config.mlp_ratio) * tokens * config.width
    return int(max(attention, mlp))


def _kept(config: StackConfig, tokens: int) -> int:
    """Numbers that all blocks keep: inputs of both norms, q, k, v, z and its change twice, attention, hidden layer."""
    block = (12 + config.mlp_ratio) * tokens * config.width + 2 * config.heads * tokens**2
    return int(config.layers * block)


def _decoded(model: MaeVqgan, side: int) -> int:
    """Numbers of the feature maps of the last level, at the size of the image."""
    config = model.config.vqgan
    return 4 * side**2 * config.channels * max(config.multipliers[:2])


def free_bytes(device: torch.device) -> int | None:
    """Memory that can be had now, within the limits of the process's control group; None where nothing says it."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    found = [_available_in_system(), _available_in_group()]
    return min((each for each in found if each is not None), default=None)


def _available_in_system() -> int | None:
    information = Path("/proc/meminfo")
    if not information.is_file():
        return None
    fields = dict(line.split(":") for line in information.read_text().splitlines())
    return 1024 * int(fields["MemAvailable"].split()[0])


def _available_in_group(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What a container's limit leaves (control groups of version 2)."""
    limit, used, statistics = (root / name for name in ("memory.max", "memory.current", "memory.stat"))
    if not limit.is_file() or not used.is_file() or limit.read_text().strip() == "max":
        return None
    known = dict(line.split() for line in statistics.read_text().splitlines()) if statistics.is_file() else {}
    cached = int(known.get("inactive_file", 0))  # files that were read, which give way
    return max(0, int(limit.read_text()) - int(used.read_text()) + cached)
