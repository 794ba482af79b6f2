"""The picture of a backtest: the account beside its benchmarks, its falls, its months, and what costs do to it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from alpha_assets.quant import ratios
from alpha_assets.stations.drawing import FALL, INK, LINE, MUTED, TITLE, figure_of, png_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Points a line needs at most: more are finer than a pixel.
POINTS = 800

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def backtest_picture(told: Mapping[str, Any], title: str) -> bytes:
    """A PNG of four panels of a report (``quant.backtest_report``)."""
    figure, (account, months, below, costs) = figure_of(10.0, 6.2, rows=2, columns=2)
    said = told["universe"]["sentence"].partition(":")[0] if told["universe"]["survivor_biased"] else ""
    figure.suptitle(f"{title}, net of costs{f' · {said}' if said else ''}", fontsize=10, color=INK, x=0.01, ha="left")
    _account(account, told)
    _months(months, told["months"])
    _falls(below, told["series"])
    _costs(costs, told)
    return png_of(figure)


def _account(panel: "Axes", told: Mapping[str, Any]) -> None:
    panel.set_title("what one became", **TITLE)
    series, at = told["series"], _stamps(told["series"])
    shown = _thinned(len(at))
    for name, colour in zip(told["benchmarks"], (MUTED, FALL), strict=False):
        panel.plot(at[shown], ratios.wealth(np.array(series[name]))[shown], color=colour, linewidth=0.9, label=name)
    panel.plot(at[shown], ratios.wealth(np.array(series["net"]))[shown], color=LINE, linewidth=1.2, label="strategy")
    panel.legend(fontsize=7, frameon=False, loc="best")
    _dates(panel)


def _falls(panel: "Axes", series: Mapping[str, Any]) -> None:
    panel.set_title("below the highest so far, %", **TITLE)
    at, fall = _stamps(series), 100 * ratios.falls(np.array(series["net"]))
    shown = _thinned(len(at))
    panel.fill_between(at[shown], fall[shown], 0.0, color=FALL, alpha=0.35, linewidth=0.0)
    panel.plot(at[shown], fall[shown], color=FALL, linewidth=0.8)
    panel.set_ylim(top=0.0)
    _dates(panel)


def _months(panel: "Axes", rows: list[Mapping[str, Any]]) -> None:
    panel.set_title("return of each month, %", **TITLE)
    years = sorted({row["year"] for row in rows})
    table = np.full((max(len(years), 1), 12), np.nan)
    for row in rows:
        table[years.index(row["year"]), row["month"] - 1] = 100 * row["return"]
    panel.grid(visible=False)
    most = max(float(np.nanmax(np.abs(table))) if rows else 0.0, 1e-9)
    panel.imshow(table, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    if len(years) <= 12:
        for place, value in np.ndenumerate(table):
            if np.isfinite(value):
                dark = abs(value) > 0.6 * most
                panel.text(
                    place[1], place[0], f"{value:.1f}", ha="center", va="center", fontsize=6.5,
                    color="white" if dark else INK,
                )  # fmt: skip
    panel.set_xticks(range(12), MONTHS)
    panel.set_yticks(range(len(years)), [str(year) for year in years])


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


def _thinned(count: int) -> np.ndarray:
    return np.unique(np.linspace(0, count - 1, min(count, POINTS)).astype(int)) if count else np.empty(0, int)


def _dates(panel: "Axes") -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=7)
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(ConciseDateFormatter(locator))
