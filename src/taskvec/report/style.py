"""What figures and tables look like. Colours are Okabe and Ito's, which colour-blind readers tell apart, on white."""

from matplotlib.axes import Axes

from taskvec.metrics import Better

BLUE, VERMILLION = "#0072b2", "#d55e00"
INK, MUTED, FAINT = "#222222", "#666666", "#d0d0d0"
ARROWS: dict[Better, str] = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}"}


def tidy(axes: Axes) -> None:
    """Two spines, small muted ticks, small labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(labelsize=8.5, colors=MUTED)
    axes.xaxis.label.set_fontsize(9)
    axes.yaxis.label.set_fontsize(9)


def ticks(count: int) -> range:
    """Indices to name: each of a few, every fourth of many."""
    return range(0, count, 1 if count <= 8 else 4)
