"""Language models from files of this machine: nothing is fetched, no code in a directory is run, nothing is unpickled.

What is read is a directory with config.json, safetensors files and a tokenizer, or a GGUF file, whose weights become
plain ones again. Reading that takes twenty seconds or more; ``write`` makes a directory of it that loads at once.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from taskvec.extras import install
from taskvec.files import read_json, replacing
from taskvec.models.pretrained import CONFIG, WEIGHTS

GGUF = ".gguf"
READERS = ("gguf", "accelerate")  # libraries that transformers reads GGUF with
SAFETENSORS = ".safetensors"
PICKLED = (".bin", ".pt", ".pth")
INSTALL = f"a language model needs the library transformers: {install('llm')}"
# of every model that is read: files of this machine, and no code but the library's
OFFLINE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def require_transformers() -> None:
    """ValueError, which says what to do, where the library is not there."""
    if find_spec("transformers") is None:
        raise ValueError(INSTALL)


def is_gguf(path: Path) -> bool:
    """Whether this is a GGUF file, or a directory that holds one and no config.json."""
    return (path.suffix == GGUF and path.is_file()) or (
        path.is_dir() and not _config_in(path) and bool(_ggufs_in(path))
    )


def is_decoder(model_type: str) -> bool:
    """Whether transformers has a causal language model of this type of config.json, alone or with pictures.

    ValueError where the library is not there.
    """
    require_transformers()
    from transformers.models.auto import modeling_auto  # noqa: PLC0415 (an extra, and slow to import)

    known = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    return any(model_type in names for names in known)


def read(path: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """The model, whose weights are of this type, and the tokenizer of a directory or a GGUF file.

    Raises ValueError, which names the file, where one is missing, is of another kind or does not fit.
    """
    require_transformers()
    with _quietly():
        return _read_gguf(path, dtype) if is_gguf(path) else _read_directory(path, dtype)


def write(model: Any, tokenizer: Any, directory: Path) -> None:
    """Write weights as safetensors, configuration and tokenizer; weights that are one in the model are stored once."""
    directory.mkdir(parents=True, exist_ok=True)
    state: dict[str, Tensor] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for name, tensor in model.state_dict().items():
        key = tensor.data_ptr(), tensor.shape
        if key not in seen:
            state[name] = tensor.detach().cpu().contiguous()
        seen.add(key)
    with replacing(directory / WEIGHTS) as temporary:
        save_file(state, temporary, {"format": "pt"})
    config = type(model.config).from_dict({**model.config.to_dict(), "quantization_config": None})
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [type(model).__name__]
    config.dtype = next(model.parameters()).dtype
    config.save_pretrained(directory)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _read_directory(directory: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer  # noqa: PLC0415
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES  # noqa: PLC0415

    if not _config_in(directory):
        raise ValueError(f"{directory} is not a model: there is no {CONFIG} in it")
    names = sorted(path.name for path in directory.iterdir())
    if not any(name.endswith(SAFETENSORS) for name in names):
        pickled = next((name for name in names if name.endswith(PICKLED)), None)
        if pickled is not None:
            raise ValueError(
                f"{directory / pickled} is a pickle, which could run code: expected weights as {SAFETENSORS} files"
            )
        raise ValueError(f"{directory} is not a model: there is no {SAFETENSORS} file in it")
    kind = read_json(directory / CONFIG).get("model_type")
    auto: Any = AutoModelForCausalLM if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else AutoModelForImageTextToText
    with _read_errors(directory):
        model, report = auto.from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # which are in the report, and refused
            **OFFLINE,
        )
    _check_report(report, model, directory)
    _check_finite(model, directory)
    with _read_errors(directory):
        return model, AutoTokenizer.from_pretrained(directory, **OFFLINE)


def _read_gguf(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    if not all(find_spec(library) for library in READERS):
        raise ValueError(f"{path}: reading GGUF needs {' and '.join(READERS)}: pip install {' '.join(READERS)}")
    files = _ggufs_in(path) if path.is_dir() else [path]
    if len(files) > 1:
        raise ValueError(
            f"{path} holds {len(files)} files of GGUF, {files[0].name} first: expected one, or its own name"
        )
    options = {"gguf_file": files[0].name, **OFFLINE}
    with _read_errors(files[0]):
        model = AutoModelForCausalLM.from_pretrained(files[0].parent, dtype=dtype, **options)
        _check_finite(model, files[0])
        return model, AutoTokenizer.from_pretrained(files[0].parent, **options)


def _check_report(report: dict[str, Any], model: Any, directory: Path) -> None:
    """ValueError for a weight that is missing or of another shape, a warning for some that the model does not have."""
    differing: list[Any] = sorted(report.get("mismatched_keys") or ())
    for name, found, expected in differing:
        raise ValueError(f"{directory}: the weight {name} has shape {tuple(found)}, expected {tuple(expected)}")
    for name in sorted(report.get("missing_keys") or ()):
        raise ValueError(f"{directory}: the weight {name} is missing")
    if surplus := sorted(report.get("unexpected_keys") or ()):
        are = "is no part" if len(surplus) == 1 else "are no part"
        warnings.warn(
            f"{directory}: {len(surplus)} of the weights {are} of {type(model).__name__}: {surplus[0]}", stacklevel=2
        )


def _check_finite(model: Any, source: Path) -> None:
    for name, weight in model.named_parameters():
        if not weight.detach().sum(dtype=torch.float32).isfinite() and not weight.isfinite().all():
            raise ValueError(f"{source}: {name} holds values that are not finite")


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the library's own bars and reports on the error stream."""
    from transformers.utils import logging  # noqa: PLC0415

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def _read_errors(source: Path) -> Iterator[None]:
    """Whatever the library raises for files that it cannot read, as a ValueError of one sentence."""
    try:
        yield
    except Exception as error:  # anything: of JSON, of validation, of safetensors, of shapes
        if isinstance(error, ValueError) and str(error).startswith(str(source)):
            raise
        reason = " ".join(str(error).split())[:400] or type(error).__name__
        raise ValueError(f"{source} cannot be read as a language model: {reason}") from error


def _config_in(directory: Path) -> bool:
    return (directory / CONFIG).is_file()


def _ggufs_in(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"*{GGUF}"))
