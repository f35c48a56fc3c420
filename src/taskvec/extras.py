"""Libraries that only some of the work needs, by the names of the package's extras, and how they are installed.

They are named themselves: that works beside a checkout and beside a wheel, and no index has to know this package.
"""

EXTRAS = {
    "app": ("gradio>=6.0",),
    "cluster": ("ray[data]>=2.50",),
    "frames": ("pandas>=2.2",),
    "llm": ("accelerate>=1.0", "gguf>=0.10", "transformers>=5.24"),
    "medical": ("pydicom>=3",),
    "parquet": ("pyarrow>=15",),
    "seggpt": ("transformers>=5.24",),
    "tensorboard": ("tensorboard>=2.17",),
}


def install(extra: str) -> str:
    """The command that brings what an extra stands for: pip install "gradio>=6.0"."""
    return " ".join(["pip install", *(f'"{each}"' for each in EXTRAS[extra])])
