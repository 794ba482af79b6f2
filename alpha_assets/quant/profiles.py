"""The statistical profile of a symbol: what holding it was like, as a document."""

import math
from typing import Any

import numpy as np
import polars as pl


def statistical_profile(bars: pl.DataFrame, periods_per_year: float) -> dict[str, Any]:
    """Return, volatility, Sharpe ratio and drawdown of one symbol's newest listing, ready for JSON.

    ``bars`` holds timestamp, close adjusted for splits and dividends, and perhaps listing, one row a bar;
    ``periods_per_year`` is the number of bars a year (252 for daily bars of a stock exchange). All are shares of one:

    - bars, first_bar, last_bar (ISO 8601)
    - annual_return: (last close / first close) ^ (periods_per_year / returns) - 1
    - annual_volatility: deviation of the one-bar log returns, times the root of periods_per_year
    - sharpe: mean over deviation of the one-bar simple returns, times that root, against cash at 0
    - max_drawdown: deepest fall of close below its highest so far, 0 or negative; drawdown_peak, drawdown_trough: when
    - best_bar, worst_bar: {at, return}, simple returns

    What is undefined (no bars, one bar, no movement) is None, never 0 or NaN. Raises ValueError for a close that is not
    a positive number, and for several symbols at once.
    """
    ordered = _newest_listing(bars).sort("timestamp")
    close = ordered["close"].cast(pl.Float64).fill_null(math.nan).to_numpy()
    if not (np.isfinite(close) & (close > 0)).all():
        raise ValueError(f"profile of {_symbol(bars)}: a close is not a positive number; cleaning drops such bars")
    stamps = [stamp.isoformat() for stamp in ordered["timestamp"]]
    returns = close[1:] / close[:-1] - 1
    return {
        "bars": len(close),
        "first_bar": stamps[0] if stamps else None,
        "last_bar": stamps[-1] if stamps else None,
        "annual_return": _annual_return(close, periods_per_year),
        "annual_volatility": _annual_volatility(close, periods_per_year),
        "sharpe": _sharpe(returns, periods_per_year),
        **_drawdown(close, stamps),
        "best_bar": _extreme(returns, stamps, np.argmax),
        "worst_bar": _extreme(returns, stamps, np.argmin),
    }


def _symbol(bars: pl.DataFrame) -> str:
    return ", ".join(bars["symbol"].unique().sort()) if "symbol" in bars.columns else "a symbol"


def _newest_listing(bars: pl.DataFrame) -> pl.DataFrame:
    if "symbol" in bars.columns and bars["symbol"].n_unique() > 1:
        raise ValueError(f"a profile is of one symbol; got {_symbol(bars)}")
    if "listing" not in bars.columns:
        return bars
    return bars.filter(pl.col("listing") == pl.col("listing").max())


def _annual_return(close: np.ndarray, periods_per_year: float) -> float | None:
    if len(close) < 2:
        return None
    growth = math.log(close[-1] / close[0]) * periods_per_year / (len(close) - 1)
    return math.expm1(growth) if growth < 700 else None


def _annual_volatility(close: np.ndarray, periods_per_year: float) -> float | None:
    if len(close) < 3:
        return None
    return float(np.diff(np.log(close)).std(ddof=1)) * math.sqrt(periods_per_year)


def _sharpe(returns: np.ndarray, periods_per_year: float) -> float | None:
    if len(returns) < 2:
        return None
    deviation = float(returns.std(ddof=1))
    if not deviation > 1e-12:
        return None
    return float(returns.mean()) / deviation * math.sqrt(periods_per_year)


def _drawdown(close: np.ndarray, stamps: list[str]) -> dict[str, Any]:
    if len(close) < 2:
        return {"max_drawdown": None, "drawdown_peak": None, "drawdown_trough": None}
    fall = close / np.maximum.accumulate(close) - 1
    trough = int(fall.argmin())
    if fall[trough] == 0:
        return {"max_drawdown": 0.0, "drawdown_peak": None, "drawdown_trough": None}
    peak = int(close[: trough + 1].argmax())
    return {"max_drawdown": float(fall[trough]), "drawdown_peak": stamps[peak], "drawdown_trough": stamps[trough]}


def _extreme(returns: np.ndarray, stamps: list[str], pick: Any) -> dict[str, Any] | None:
    if not len(returns):
        return None
    at = int(pick(returns))
    return {"at": stamps[at + 1], "return": float(returns[at])}
