"""The picture of a strategy as it went: its account beside holding, its falls, its months, its rolling hit rate."""

from collections.abc import Mapping

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
    figure_of,
    png_of,
    thinned,
)


def performance_picture(account: Account, hits: pl.DataFrame, rolling: int, title: str) -> bytes:
    """A PNG of four panels; ``hits`` are ``performance.rolling_hits`` over ``rolling`` positions, perhaps none."""
    figure, (wealth, months, falls, rate) = figure_of(10.0, 6.2, rows=2, columns=2)
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    lines: Mapping[str, np.ndarray] = {"strategy": account.returns, "the same symbols held": account.held}
    draw_wealth(wealth, account.stamps, lines)
    draw_months(months, monthly(account).rows())
    draw_falls(falls, account.stamps, account.returns)
    rate.set_title(f"share that went as said, of the last {rolling} closed positions", **TITLE)
    rate.axhline(0.5, color=MUTED, linewidth=0.9, linestyle=":")
    shown = thinned(hits.height)
    at = hits["left_at"].dt.replace_time_zone(None).to_numpy()
    rate.plot(at[shown], hits["hit_rate"].to_numpy()[shown], color=LINE, linewidth=1.1, label="before costs")
    rate.plot(at[shown], hits["win_rate"].to_numpy()[shown], color=MUTED, linewidth=1.1, label="after costs")
    if hits.height:
        rate.legend(fontsize=7, frameon=False, loc="best")
    if len(account.stamps) > 1:
        rate.set_xlim(account.stamps[0], account.stamps[-1])
    dates_below(rate)
    return png_of(figure)
