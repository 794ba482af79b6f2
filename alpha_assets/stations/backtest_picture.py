"""The picture of a backtest: the account beside its benchmarks, its falls, its months, and what costs do to it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from alpha_assets.stations.drawing import (
    FALL,
    INK,
    LINE,
    MUTED,
    TITLE,
    draw_falls,
    draw_months,
    draw_wealth,
    figure_of,
    png_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def backtest_picture(told: Mapping[str, Any], title: str) -> bytes:
    """A PNG of four panels of a report (``quant.backtest_report``)."""
    figure, (account, months, below, costs) = figure_of(10.0, 6.2, rows=2, columns=2)
    said = told["universe"]["sentence"].partition(":")[0] if told["universe"]["survivor_biased"] else ""
    figure.suptitle(f"{title}, net of costs{f' · {said}' if said else ''}", fontsize=10, color=INK, x=0.01, ha="left")
    _account(account, told)
    draw_months(months, [(row["year"], row["month"], row["return"]) for row in told["months"]])
    draw_falls(below, _stamps(told["series"]), np.array(told["series"]["net"]))
    _costs(costs, told)
    return png_of(figure)


def _account(panel: "Axes", told: Mapping[str, Any]) -> None:
    series = told["series"]
    lines = {"strategy": series["net"], **{name: series[name] for name in told["benchmarks"]}}
    draw_wealth(panel, _stamps(series), {name: np.array(returns) for name, returns in lines.items()})


def _costs(panel: "Axes", told: Mapping[str, Any]) -> None:
    even = told["break_even_bp"]
    panel.set_title(
        "annual return, %, by the cost a side in bp" + ("" if even is None else f"; nothing is left at {even:.1f}"),
        **TITLE,
    )
    rows = [row for row in told["costs"] if row["annual_return"] is not None]
    values = [100 * row["annual_return"] for row in rows]
    colours = [LINE if value >= 0 else FALL for value in values]
    panel.bar([f"{row['cost_bp']:g}" for row in rows], values, color=colours, width=0.6)
    panel.axhline(0.0, color=MUTED, linewidth=0.9)


def _stamps(series: Mapping[str, Any]) -> np.ndarray:
    return np.array(series["timestamp"], dtype="datetime64[m]")
