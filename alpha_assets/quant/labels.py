"""Labels: the return that a decision at a bar could have earned, on the interval that would be traded.

Decided when bar t is known, entered at open(t+1), left at open(t+1+h): the gap between close(t) and open(t+1)
belongs to nobody who decides at t, so it is in no label. With bars adjusted for splits and dividends the label is the
total return.
"""

import math

import polars as pl

LISTING = ("symbol", "listing")

#: Bars over which the trailing volatility is measured.
VOLATILITY_BARS = 20

#: Bars over which the momentum rival looks back.
MOMENTUM_BARS = 20


def open_to_open(bars: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """What followed each bar, one row a bar, sorted by symbol and timestamp.

    ``bars`` holds symbol, timestamp, listing, open and close adjusted for splits and dividends, flags (cleaning
    rules that fired, null for none), and known_at, the instant the bar is known: its end
    (``calendars.bar_ends``) plus the lag. ``horizon`` is h, in bars.

    The answer holds:

    - symbol, timestamp, known_at
    - label_return: open(t+1+h) / open(t+1) - 1; null at the end of a listing and where one of the bars
      t+1 ... t+1+h carries a flag (an error or an unexplained jump is no outcome)
    - label_start, label_end: the stamp of bar t+1, and the instant at which bar t+1+h, hence the label, is known
    - scale: deviation of the one-bar log returns of the last 20 bars, times the root of h; known at t
    - scaled_return: label_return / scale; null where either is, or where prices stood still
    - up: label_return > 0
    - past_return, momentum_return: log return of close over the last h and the last 20 bars, known at t, whose signs
      are the naive rivals persistence and momentum

    Raises ValueError for a horizon below 1 or a column that is missing.
    """
    if horizon < 1:
        raise ValueError(f"a label of {horizon} bars: the horizon must be at least 1 bar")
    missing = [
        name for name in (*LISTING, "timestamp", "known_at", "open", "close", "flags") if name not in bars.columns
    ]
    if missing:
        raise ValueError(f"labels need the columns {', '.join(missing)}; known_at is the end of the bar plus the lag")
    entered, left = _later("open", 1), _later("open", 1 + horizon)
    return (
        bars.sort("symbol", "timestamp")
        .with_columns(
            clean=_flags_within(horizon) == 0,
            one_bar=pl.col("close").log() - pl.col("close").log().shift(1).over(LISTING),
        )
        .select(
            "symbol",
            "timestamp",
            "known_at",
            label_return=pl.when(pl.col("clean")).then(left / entered - 1),
            label_start=pl.when(pl.col("clean")).then(_later("timestamp", 1)),
            label_end=pl.when(pl.col("clean")).then(_later("known_at", 1 + horizon)),
            scale=pl.col("one_bar").rolling_std(VOLATILITY_BARS).over(LISTING) * math.sqrt(horizon),
            past_return=_log_return(horizon),
            momentum_return=_log_return(MOMENTUM_BARS),
        )
        .with_columns(
            scaled_return=pl.when(pl.col("scale") > 0).then(pl.col("label_return") / pl.col("scale")),
            up=pl.col("label_return") > 0,
        )
    )


def _later(column: str, bars: int) -> pl.Expr:
    return pl.col(column).shift(-bars).over(LISTING)


def _log_return(bars: int) -> pl.Expr:
    return pl.col("close").log() - pl.col("close").log().shift(bars).over(LISTING)


def _flags_within(horizon: int) -> pl.Expr:
    """Flagged bars among t+1 ... t+1+h; null where the listing ends before."""
    flagged = pl.col("flags").is_not_null().cast(pl.Int32).cum_sum()
    return (flagged.shift(-1 - horizon) - flagged).over(LISTING)
