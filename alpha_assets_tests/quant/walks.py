"""Random walks as bars on a calendar's sessions, for the tests of whatever reads bars."""

from datetime import date

import numpy as np
import polars as pl

from alpha_assets.quant.calendars import session_bounds
from alpha_assets.quant.schema import INTERVAL_SECONDS, TIME

FIRST = date(2015, 1, 2)


def walk(
    bars: int,
    seed: int,
    *,
    symbol: str = "SYM",
    start: float = 100.0,
    volume: float = 1e6,
    calendar: str = "XNYS",
    interval: str = "1d",
) -> pl.DataFrame:
    """So many consecutive bars of one listing from ``FIRST`` on: fat-tailed steps, gaps between bars, noisy volume."""
    random = np.random.default_rng(seed)
    close = start * np.exp(np.cumsum(random.standard_t(4, bars) * 0.012))
    opened = close * np.exp(random.normal(0, 0.005, bars))
    spread = np.abs(random.normal(0, 0.006, (2, bars)))
    return pl.DataFrame(
        {
            "symbol": pl.Series([symbol] * bars, dtype=pl.String),
            "timestamp": _stamps(bars, calendar, interval),
            "open": opened,
            "high": np.maximum(opened, close) * (1 + spread[0]),
            "low": np.minimum(opened, close) * (1 - spread[1]),
            "close": close,
            "volume": volume * np.exp(random.normal(0, 0.4, bars)),
        }
    ).with_columns(listing=pl.lit(FIRST))


def _stamps(bars: int, calendar: str, interval: str) -> pl.Series:
    sessions = session_bounds(calendar, FIRST, date(2022, 12, 31))
    if interval == "1d":
        return sessions["session"].head(bars).cast(TIME)
    step = f"{INTERVAL_SECONDS[interval]}s"
    starts = sessions.select(pl.datetime_ranges("opens", "closes", step, closed="left").alias("at")).explode("at")
    return starts["at"].head(bars).cast(TIME)
