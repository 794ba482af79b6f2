"""The columns of every frame that crosses a module's border, and the words used for them.

Times are UTC instants in microseconds. ``timestamp`` is a bar's start: for a daily bar its session's
date at 00:00 UTC, for an intraday bar the instant it opens. ``ex_date`` is a session's date.
"""

from collections.abc import Mapping
from functools import cache

import polars as pl

TIME = pl.Datetime("us", "UTC")

OHLC = ("open", "high", "low", "close")
OHLCV = (*OHLC, "volume")

#: What a source hands over: prices and volume as traded (no adjustment of any kind), nulls allowed.
RAW_BARS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "timestamp": TIME,
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
}

#: What the lake holds: cleaned bars. ``listing`` is the session at which this company's use of the ticker begins
#: (series are cut there); ``flags`` names the cleaning rules that fired, comma-separated in
#: alphabetical order, null where none did.
BARS: Mapping[str, pl.DataType] = {**RAW_BARS, "listing": pl.Date(), "flags": pl.String()}

#: Corporate actions. ``value`` of a split is new shares per old (7:1 is 7.0, 1:20 reverse is 0.05); of a
#: dividend the cash per share as paid, in the listing currency, not adjusted for later splits.
ACTIONS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "ex_date": pl.Date(),
    "kind": pl.String(),
    "value": pl.Float64(),
}
SPLIT = "split"
DIVIDEND = "dividend"

#: One line per row that cleaning touched: ``action`` is ``repaired``, ``dropped`` or ``flagged``;
#: ``rule`` its name; the prices are what the source said.
CLEANING: Mapping[str, pl.DataType] = {**RAW_BARS, "rule": pl.String(), "action": pl.String()}

#: Length of a bar in seconds, by the name of its interval. A daily bar lasts one session of its calendar.
INTERVAL_SECONDS: Mapping[str, int] = {
    "1m": 60,
    "2m": 120,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "1d": 86400,
}


def empty(schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """A frame with no rows and these columns."""
    return _empty(tuple(schema.items()))


@cache
def _empty(columns: tuple[tuple[str, pl.DataType], ...]) -> pl.DataFrame:
    """Kept: polars takes 5 ms for the columns of a feature table, and nobody changes a frame in place."""
    return pl.DataFrame(schema=dict(columns))
