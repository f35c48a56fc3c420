"""What a measurement was made on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

from taskvec.threads import chosen_by, cores


def machine() -> dict[str, object]:
    """Processor, cores this process may use, threads of torch and who chose them, memory in GiB, and the GPU's name if
    there is one."""
    facts: dict[str, object] = {"processor": _processor(), "cores": cores()}
    facts |= {"threads": torch.get_num_threads(), "threads_chosen_by": chosen_by()}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return {**facts, "system": platform.platform(terse=True)}


def versions() -> dict[str, str]:
    """Versions of Python and of what computes."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("taskvec", "torch", "numpy")}}


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 in hardware; elsewhere it is emulated and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    questions = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(question() for question in questions if question is not None)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
