"""How every picture of the project looks: colours, panels, and the PNG of them.

Drawn on figures of their own, never through pyplot, whose state belongs to the whole process.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, LINE, FALL, MUTED = "#1f2933", "#2563a8", "#b3423a", "#9aa5b1"

TITLE: Mapping[str, Any] = {"fontsize": 8.5, "color": INK, "loc": "left", "pad": 4}


def figure_of(
    width: float, height: float, rows: int = 1, heights: Sequence[float] | None = None, columns: int = 1
) -> "tuple[Figure, list[Axes]]":
    """A figure of so many inches and its panels, row by row; those of one column share their horizontal axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    ratios = {"height_ratios": heights or (1.0,) * rows}
    panels = figure.subplots(rows, columns, sharex=columns == 1, squeeze=False, gridspec_kw=ratios).ravel()
    for panel in panels:
        panel.grid(color="#e4e7eb", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=7.5, length=0, colors=INK)
        for side in panel.spines.values():
            side.set_visible(False)
    return figure, list(panels)


def png_of(figure: "Figure") -> bytes:
    """A PNG of few colours: a third of the bytes, and nobody sees the difference."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(colors=96, dither=Image.Dither.NONE)
    out = io.BytesIO()
    picture.save(out, format="png", optimize=True)
    return out.getvalue()
