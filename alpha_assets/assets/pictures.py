"""Pictures for Dagster's metadata: PNG in a Markdown data URI, because the page shows no other kind.

Small on purpose: Dagster keeps every picture in its event log for ever.
"""

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alpha_assets.quant.profiles import Series
from alpha_assets.stations.drawing import FALL, INK, LINE, MUTED, TITLE, figure_of, png_of, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]

#: Names shown in the picture of the universe; more would lie on each other.
NAMED = 12


def as_markdown(png: bytes, what: str) -> str:
    """A picture as Markdown, ``what`` for those who do not see it."""
    return f"![{what}](data:image/png;base64,{base64.b64encode(png).decode()})"


def symbol_picture(series: Series, a_year: float) -> bytes:
    """Adjusted close, fall below the highest close so far, and volatility over a month of bars, one above the other."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    at = series.at.astype("datetime64[us]")
    fall = series.close / np.maximum.accumulate(series.close) - 1.0
    window = max(round(a_year / 12.0), 2)
    figure, (price, under, moves) = figure_of(7.2, 4.6, rows=3, heights=(2.2, 1.0, 1.0))
    shown = thinned(len(series))
    price.plot(at[shown], series.close[shown], color=LINE, linewidth=1.1)
    price.set_yscale("log")
    _plain_prices(price)
    price.set_title(f"{series.symbol}: close with dividends reinvested", **TITLE)
    under.fill_between(at[shown], fall[shown] * 100.0, 0.0, color=FALL, alpha=0.35, linewidth=0.0)
    under.plot(at[shown], fall[shown] * 100.0, color=FALL, linewidth=0.8)
    deepest = int(fall.argmin())
    if fall[deepest] < 0.0:
        right = deepest > 0.75 * len(series)
        under.annotate(
            f"\N{MINUS SIGN}{-fall[deepest] * 100.0:.1f} %",
            (at[deepest], fall[deepest] * 100.0),
            xytext=(-6 if right else 6, 2),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=7.5,
            color=FALL,
        )
    under.set_ylim(top=0.0)
    under.set_title("below the highest close so far, %", **TITLE)
    if len(series) > window:
        volatility = _trailing_deviation(np.diff(np.log(series.close)), window) * np.sqrt(a_year) * 100.0
        later = shown[shown >= window]
        moves.plot(at[later], volatility[later - window], color=INK, linewidth=0.9)
    moves.set_ylim(bottom=0.0)
    moves.set_title(f"volatility of {window:,} bars, % a year", **TITLE)
    for panel in (price, under, moves):
        panel.set_xlim(at[0], at[-1] if len(series) > 1 else at[0] + np.timedelta64(1, "D"))
    locator = AutoDateLocator(minticks=4, maxticks=9)
    moves.xaxis.set_major_locator(locator)
    moves.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    return png_of(figure)


def universe_picture(profiles: Mapping[str, Mapping[str, Any]]) -> bytes | None:
    """Annual return over volatility, a dot a symbol, coloured by its deepest drawdown; None where nobody has both.

    The axes end where the middle 98 % do, and whoever lies beyond is drawn at the edge: one symbol that doubled in a
    week would press all others into a corner.
    """
    found = [
        (symbol, returns["annual_volatility"], returns["annual"], -document.get("drawdown", {}).get("max", 0.0))
        for symbol, document in profiles.items()
        if {"annual", "annual_volatility"} <= (returns := document.get("returns", {})).keys()
    ]
    if not found:
        return None
    names = [row[0] for row in found]
    volatility, growth, fall = (np.array([row[place] for row in found]) * 100.0 for place in (1, 2, 3))
    figure, (panel,) = figure_of(7.2, 4.4)
    across, up = _limits(volatility, floor=0.0), _limits(growth)
    x, y = np.clip(volatility, *across), np.clip(growth, *up)
    panel.axhline(0.0, color=MUTED, linewidth=0.8)
    dots = panel.scatter(
        x, y, c=fall, cmap="cividis_r", vmin=0.0, vmax=100.0, s=20, edgecolors="white", linewidths=0.3, clip_on=False
    )
    _cross_of_medians(panel, volatility, growth)
    for place in _outermost(x, y):
        right = x[place] > across[0] + 0.9 * (across[1] - across[0])
        panel.annotate(
            names[place],
            (x[place], y[place]),
            xytext=(-4 if right else 4, 3),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=7,
            color=INK,
        )
    panel.set_xlim(*across)
    panel.set_ylim(*up)
    panel.set_xlabel("volatility, % a year", fontsize=8, color=INK)
    panel.set_ylabel("return, % a year", fontsize=8, color=INK)
    panel.set_title(f"{len(names):,} symbols, dividends reinvested; dotted: medians", **TITLE)
    bar = figure.colorbar(dots, ax=panel, pad=0.02, fraction=0.04)
    bar.set_label("deepest drawdown, %", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7, length=0, colors=INK)
    bar.outline.set_visible(False)
    return png_of(figure)


def _trailing_deviation(values: Floats, window: int) -> Floats:
    return np.lib.stride_tricks.sliding_window_view(values, window).std(axis=1, ddof=1)


def _plain_prices(panel: "Axes") -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    panel.yaxis.set_minor_locator(NullLocator())


def _limits(values: Floats, floor: float | None = None) -> tuple[float, float]:
    low, high = np.quantile(values, [0.01, 0.99]) if len(values) > 20 else (values.min(), values.max())
    room = max(0.08 * (high - low), 1.0)
    return (low - room if floor is None else max(floor, low - room)), high + room


def _cross_of_medians(panel: "Axes", volatility: Floats, growth: Floats) -> None:
    if len(volatility) < 3:
        return
    panel.axvline(float(np.median(volatility)), color=MUTED, linewidth=0.9, linestyle=":")
    panel.axhline(float(np.median(growth)), color=MUTED, linewidth=0.9, linestyle=":")


def _outermost(x: Floats, y: Floats) -> list[int]:
    """The places farthest from the medians, in the picture's proportions; of neighbours one has room for a name."""
    across, up = ((values - np.median(values)) / (np.ptp(values) or 1.0) for values in (x, y))
    chosen: list[int] = []
    for place in np.argsort(np.hypot(across, up))[::-1]:
        if len(chosen) == NAMED:
            break
        if all(abs(across[place] - across[one]) > 0.09 or abs(up[place] - up[one]) > 0.05 for one in chosen):
            chosen.append(int(place))
    return chosen
