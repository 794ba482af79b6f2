"""The picture of a strategy as it went: its account beside holding, its falls, its months, its rolling hit rate."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from alpha_assets.quant.performance import Account, monthly
from alpha_assets.stations.drawing import (
    INK,
    LINE,
    MUTED,
    TITLE,
    dates_below,
    draw_falls,
    draw_months,
    draw_wealth,
    draw_words,
    figure_of,
    png_of,
    thinned,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def performance_picture(account: Account, hits: pl.DataFrame, rolling: int, title: str) -> bytes:
    """A PNG of four panels; ``hits`` are ``performance.rolling_hits`` over ``rolling`` positions, perhaps none."""
    figure, (wealth, months, falls, rate) = figure_of(10.0, 6.2, rows=2, columns=2)
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    lines: Mapping[str, np.ndarray] = {"strategy": account.returns, "the same symbols held": account.held}
    draw_wealth(wealth, account.stamps, lines)
    draw_months(months, monthly(account).rows())
    draw_falls(falls, account.stamps, account.returns)
    draw_rate(rate, hits, rolling, account.stamps)
    return png_of(figure)


def draw_rate(panel: "Axes", hits: pl.DataFrame, rolling: int, stamps: np.ndarray) -> None:
    """The rolling hit rate, before and after costs, over the time of the account."""
    panel.set_title(f"share that went as said, of the last {rolling} closed positions", **TITLE)
    if hits.is_empty():
        draw_words(panel, "nothing was closed yet")
        return
    panel.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=":")
    shown = thinned(hits.height)
    at = hits["left_at"].dt.replace_time_zone(None).to_numpy()
    panel.plot(at[shown], hits["hit_rate"].to_numpy()[shown], color=LINE, linewidth=1.1, label="before costs")
    panel.plot(at[shown], hits["win_rate"].to_numpy()[shown], color=MUTED, linewidth=1.1, label="after costs")
    panel.legend(fontsize=7, frameon=False, loc="best")
    if len(stamps) > 1:
        panel.set_xlim(stamps[0], stamps[-1])
    dates_below(panel)
