"""How every picture of the project looks: colours, panels, and the PNG of them.

Drawn on figures of their own, never through pyplot, whose state belongs to the whole process.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alpha_assets.quant import ratios

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


#: Points a line needs at most: more are finer than a pixel.
POINTS = 800

#: What stands where an account has begun and there is no line yet.
TOO_SHORT = "one period so far, a line has two"

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def draw_wealth(panel: "Axes", at: np.ndarray, lines: Mapping[str, np.ndarray]) -> None:
    """What one unit became over the returns of each line, the first in the foreground."""
    panel.set_title("what one became", **TITLE)
    if len(at) < 2:
        draw_words(panel, TOO_SHORT)
        return
    shown = thinned(len(at))
    for place, (name, returns) in reversed(list(enumerate(lines.items()))):
        colour, width = (LINE, 1.2) if place == 0 else ((MUTED, FALL)[(place - 1) % 2], 0.9)
        panel.plot(at[shown], ratios.wealth(returns)[shown], color=colour, linewidth=width, label=name)
    panel.legend(fontsize=7, frameon=False, loc="best")
    dates_below(panel)


def draw_falls(panel: "Axes", at: np.ndarray, returns: np.ndarray) -> None:
    """How far the account was below its highest so far."""
    panel.set_title("below the highest so far, %", **TITLE)
    if len(at) < 2:
        draw_words(panel, TOO_SHORT)
        return
    shown, fall = thinned(len(at)), 100 * ratios.falls(returns)
    panel.fill_between(at[shown], fall[shown], 0.0, color=FALL, alpha=0.35, linewidth=0.0)
    panel.plot(at[shown], fall[shown], color=FALL, linewidth=0.8)
    panel.set_ylim(top=0.0)
    dates_below(panel)


def draw_months(panel: "Axes", rows: Sequence[tuple[int, int, float]]) -> None:
    """The return of each (year, month), in a table of years; its figures where there is room for them."""
    panel.set_title("return of each month, %", **TITLE)
    years = sorted({year for year, _, _ in rows})
    table = np.full((max(len(years), 1), 12), np.nan)
    for year, month, earned in rows:
        table[years.index(year), month - 1] = 100 * earned
    panel.grid(visible=False)
    most = max(float(np.nanmax(np.abs(table))) if rows else 0.0, 1e-9)
    panel.imshow(table, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value) and len(years) <= 12:
            colour = "white" if abs(value) > 0.6 * most else INK
            panel.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=6.5, color=colour)
    panel.set_xticks(range(12), MONTHS)
    panel.set_yticks(range(len(years)), [str(year) for year in years])


def draw_held(panel: "Axes", said: np.ndarray, came: np.ndarray, error: np.ndarray, label: str | None = None) -> None:
    """A reliability curve: what came of what was said, with its errors, about the line on which both are the same."""
    ends = min(said.min(), (came - error).min()), max(said.max(), (came + error).max())
    panel.plot(ends, ends, color=MUTED, linewidth=0.9, linestyle=":")
    style: Mapping[str, Any] = {"ecolor": MUTED, "elinewidth": 0.9, "marker": "o", "markersize": 3.5}
    panel.errorbar(said, came, yerr=error, color=LINE, label=label, **style)


def draw_words(panel: "Axes", words: str) -> None:
    """A panel that has no figure says why."""
    panel.text(0.5, 0.5, words, ha="center", va="center", fontsize=8, color=MUTED, transform=panel.transAxes, wrap=True)
    panel.set_xticks([])
    panel.set_yticks([])


def thinned(count: int) -> np.ndarray:
    """Places of at most ``POINTS`` of so many points, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(int)) if count else np.empty(0, int)


def dates_below(panel: "Axes") -> None:
    """Few dates under a panel, each as short as its neighbours let it be."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=7)
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
