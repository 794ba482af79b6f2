"""Labels: the return that a decision at a bar could have earned, on the interval that would be traded.

Decided when bar t is known, entered at open(t+1), left at open(t+1+h): the gap between close(t) and open(t+1)
belongs to nobody who decides at t, so it is in no label. With bars adjusted for splits and dividends the label is the
total return.

**Two ends.** A label is known at ``label_end``, when its last bar is final: purging goes by that. Its return stops
accruing at ``held_until``, an open: two labels share a return, and so count as less than two, only where the spans from
``label_start`` to ``held_until`` overlap. At a horizon of one bar no two do, though each is known a bar after the next
one has begun.

**What is labelled never depends on the outcome.** A barrier that is touched early is known early; were such rows taken
before the others of the same horizon, the newest rows of a training set would all be those that moved. So a label of
any kind is there where the whole horizon is over and clean, and is known then.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from alpha_assets.quant.symbols import REGIMES

#: Relative difference below which two prices are the same price: far above the rounding of an adjustment, far below a
#: tick.
TIE = 1e-9

LISTING = ("symbol", "listing")

#: What a bar's scaled return says to do, in the order of a classifier's columns.
SIDES = pl.Enum(("sell", "hold", "buy"))

#: Which barrier a long position met first: the stop, the end of the horizon, or the profit.
BARRIERS = pl.Enum(("stop", "time", "profit"))

#: Bars over which the trailing volatility is measured.
VOLATILITY_BARS = 20

#: Bars over which the momentum rival looks back.
MOMENTUM_BARS = 20

#: Deviation of one-bar log returns down to which a price stands still or grows like clockwork: rounding leaves as much.
STILL = 1e-9


def open_to_open(bars: pl.DataFrame, horizon: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """What followed each bar, one row a bar, sorted by symbol and timestamp; of that exactly ``columns``, if named.

    ``bars`` holds symbol, timestamp, listing, open and close adjusted for splits and dividends, flags (cleaning
    rules that fired, null for none), and known_at, the instant the bar is known: its end
    (``calendars.bar_ends``) plus the lag. ``horizon`` is h, in bars.

    The answer holds:

    - symbol, timestamp, known_at
    - label_return: open(t+1+h) / open(t+1) - 1; null at the end of a listing and where one of the bars
      t+1 ... t+1+h carries a flag (an error or an unexplained jump is no outcome)
    - label_start, label_end: the stamp of bar t+1, and the instant at which bar t+1+h, hence the label, is known
    - held_until: the stamp of bar t+1+h, at whose open the position is left; null like the two
    - scale: deviation of the one-bar log returns of the last 20 bars, times the root of h; known at t
    - scaled_return: label_return / scale; null where either is, or where prices stood ``STILL``
    - up: label_return > 0, by more than ``TIE``
    - past_return, momentum_return: log return of close over the last h and the last 20 bars, known at t, whose signs
      are the naive rivals persistence and momentum

    Raises ValueError for a horizon below 1 or a column that is missing.
    """
    if horizon < 1:
        raise ValueError(f"a label of {horizon} bars: the horizon must be at least 1 bar")
    _require(bars, (*LISTING, "timestamp", "known_at", "open", "close", "flags"))
    entered, left = _later("open", 1), _later("open", 1 + horizon)
    followed = (
        bars.lazy()
        .sort("symbol", "timestamp")
        .with_columns(clean=_flags_within(horizon) == 0)
        .select(
            "symbol",
            "timestamp",
            "known_at",
            label_return=pl.when(pl.col("clean")).then(left / entered - 1),
            label_start=pl.when(pl.col("clean")).then(_later("timestamp", 1)),
            label_end=pl.when(pl.col("clean")).then(_later("known_at", 1 + horizon)),
            held_until=pl.when(pl.col("clean")).then(_later("timestamp", 1 + horizon)),
            **known_then(horizon),
        )
        .with_columns(
            scaled_return=pl.when(pl.col("scale") > STILL * math.sqrt(horizon)).then(
                pl.col("label_return") / pl.col("scale")
            ),
            up=pl.col("label_return") > TIE,
        )
    )
    return (followed if columns is None else followed.select(columns)).collect()


def known_then(horizon: int) -> Mapping[str, pl.Expr]:
    """``scale``, ``past_return`` and ``momentum_return`` of ``open_to_open``, of adjusted bars in order of time."""
    return {
        "scale": pl.col("close").log().diff().rolling_std(VOLATILITY_BARS).over(LISTING) * math.sqrt(horizon),
        "past_return": _log_return(horizon),
        "momentum_return": _log_return(MOMENTUM_BARS),
    }


def side(threshold: float) -> pl.Expr:
    """Buy, hold or sell (``SIDES``) by the ``scaled_return`` of ``open_to_open``; null where that is.

    Buy above ``threshold``, sell below its negative, hold between them and at either: a return that is small for the
    symbol and its time is none to trade on, whichever way it goes. In units of ``scale``, so that the classes are as
    frequent in a quiet symbol as in a wild one. Raises ValueError for a threshold below 0.
    """
    if not threshold >= 0:
        raise ValueError(f"a threshold of {threshold}: buy and sell would overlap, it must be at least 0")
    scaled = pl.col("scaled_return")
    buy, hold, sell = (pl.lit(name, dtype=SIDES) for name in ("buy", "hold", "sell"))
    return (
        pl.when(scaled > threshold).then(buy).when(scaled < -threshold).then(sell).when(scaled.is_not_null()).then(hold)
    )


def met_first() -> pl.Expr:
    """The ``barrier`` of ``triple_barrier`` as ``SIDES``: the stop is a sell, the profit a buy, the time neither."""
    return pl.col("barrier").to_physical().replace_strict([0, 1, 2], SIDES.categories, return_dtype=SIDES)


def triple_barrier(bars: pl.DataFrame, horizon: int, profit: float, stop: float) -> pl.DataFrame:
    """Which barrier a long position met first (Lopez de Prado 2018, 3.4), one row a bar as in ``open_to_open``.

    ``bars`` are those of ``open_to_open`` with adjusted high and low. Entered at open(t+1) = P; the barriers are
    P exp(profit · scale) and P exp(-stop · scale), ``scale`` being that of ``open_to_open``, known before the entry;
    they are watched through the bars t+1 ... t+h, and the position is left at open(t+1+h) at the latest. A bar that
    opens beyond a barrier fills there, at its open; one that holds both fills the stop (GATE.md, the ledger's
    conventions).

    The answer holds symbol, timestamp, known_at, label_start and label_end as in ``open_to_open``, and

    - barrier: ``BARRIERS``; null where ``scaled_return`` is
    - exit_time: the stamp of the bar in which the position is left
    - exit_return: exit over P, less 1
    - held_until: the stamp of that bar where it is left at the open, else of the next one

    Raises ValueError as ``open_to_open``, and for a barrier that is not above 0.
    """
    if not (profit > 0 and stop > 0):
        raise ValueError(f"barriers at {profit} and {stop} times the scale: both must be above 0")
    _require(bars, ("high", "low"))
    labels = open_to_open(bars, horizon)
    ordered = bars.sort("symbol", "timestamp")
    at = labels["scaled_return"].is_not_null().arg_true().to_numpy()
    met, left, price, inside = _first_barrier(ordered, labels["scale"].to_numpy()[at], at, horizon, profit, stop)
    stamps = ordered["timestamp"]
    exits = pl.DataFrame(
        {
            "row": at.astype(np.uint32),
            "barrier": pl.Series(BARRIERS.categories, dtype=BARRIERS).gather(met),
            "exit_time": stamps.gather(left),
            "exit_return": price / ordered["open"].to_numpy()[at + 1] - 1,
            "held_until": stamps.gather(left + inside),
        },
        schema_overrides={"row": pl.UInt32()},
    )
    return (
        labels.select("symbol", "timestamp", "known_at", "label_start", "label_end")
        .with_row_index("row")
        .join(exits, on="row", how="left", maintain_order="left")
        .drop("row")
    )


def _first_barrier(
    bars: pl.DataFrame, scale: np.ndarray, at: np.ndarray, horizon: int, profit: float, stop: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of the decisions at rows ``at``: place in ``BARRIERS``, exit row and price, and 1 where it is inside that bar."""
    opened, high, low = (bars[name].to_numpy() for name in ("open", "high", "low"))
    above, below = opened[at + 1] * np.exp(profit * scale), opened[at + 1] * np.exp(-stop * scale)
    met, left, inside = np.ones(len(at), np.uint32), at + 1 + horizon, np.zeros(len(at), np.int64)
    price = opened[left]
    held = np.arange(len(at))
    for bar in range(1, horizon + 1):
        row = at[held] + bar
        stopped, reached, fill = touched(opened[row], high[row], low[row], below[held], above[held])
        for place, hit in ((0, stopped), (2, reached)):
            done = held[hit]
            met[done], left[done], price[done] = place, row[hit], fill[hit]
            inside[done] = fill[hit] != opened[row[hit]]
        held = held[~(stopped | reached)]
    return met, left, price, inside


def touched(
    opened: np.ndarray, high: np.ndarray, low: np.ndarray, below: np.ndarray, above: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether each bar meets the stop ``below``, or the profit ``above``, of a long position, and the fill's price.

    A bar that opens beyond a barrier fills at its open; one that holds both meets the stop (GATE.md, the ledger's
    conventions). A barrier that is NaN is never met; the price is NaN where none is.
    """
    gapped_up = opened >= above
    stopped = ~gapped_up & (low <= below)
    reached = gapped_up | (~stopped & (high >= above))
    fill = np.where(stopped, np.minimum(opened, below), np.where(reached, np.maximum(opened, above), np.nan))
    return stopped, reached, fill


def in_direction(outcome: pl.Expr, direction: pl.Expr) -> pl.Expr:
    """Whether a return goes the way that an event said (+1 or -1); null for 0 and for an unknown return.

    A return of nothing, up to ``TIE``, goes no way: which side of it the rounding of a later split puts it is no news.
    """
    return pl.when(direction != 0).then(outcome * direction > TIE)


def pattern_success(events: pl.DataFrame, labels: pl.DataFrame) -> pl.DataFrame:
    """One row a pattern event in the order of ``events``: whether it was right, beside the key of its features.

    ``events`` holds ``patterns.EVENTS``, as the table ``pattern_outcomes`` does; ``labels`` is what ``open_to_open``
    says of the same symbols, at any horizon. The answer holds symbol, timestamp, pattern, direction, strength, then
    known_at, label_start, label_end, held_until and label_return of the bar, and ``success`` (``in_direction``): null
    for a pattern without direction, and where the return is void or not known yet.
    """
    taken = ["known_at", "label_start", "label_end", "held_until", "label_return"]
    return (
        events.select("symbol", "timestamp", "pattern", "direction", "strength")
        .join(
            labels.select("symbol", "timestamp", *taken), on=["symbol", "timestamp"], how="left", maintain_order="left"
        )
        .with_columns(success=in_direction(pl.col("label_return"), pl.col("direction")))
    )


def regime_spells(regimes: pl.DataFrame) -> pl.DataFrame:
    """How long regimes last in a pool: a row a regime that occurs, with ``spells`` and ``median_spell`` in bars.

    ``regimes`` holds symbol, timestamp and regime of every bar of the pool, null during warm-up. A spell is a run of
    consecutive bars of one symbol; the first and the last of a symbol count for as long as they were seen, which is
    shorter than they are: the median is never too long for that.
    """
    runs = regimes.sort("symbol", "timestamp").select(pl.struct("symbol", "regime").rle().alias("run")).unnest("run")
    return (
        runs.select(pl.col("value").struct.field("regime"), pl.col("len"))
        .drop_nulls("regime")
        .group_by("regime")
        .agg(spells=pl.len(), median_spell=pl.col("len").median())
        .sort("regime")
    )


def untrainable_regimes(regimes: pl.DataFrame, horizon: int) -> Mapping[str, str]:
    """The regimes that no model of this horizon is trained for, each with the reason; ``all`` is never among them.

    A label of h bars lies within one regime only if that lasts: h may be half the median spell in the pool at most
    (GATE.md). ``regimes`` as in ``regime_spells``.
    """
    lasts = dict(regime_spells(regimes).select("regime", "median_spell").iter_rows())
    reasons = {}
    for name in REGIMES[1:]:
        if name not in lasts:
            reasons[name] = f"no bar of the pool is {name}"
        elif horizon > lasts[name] / 2:
            reasons[name] = (
                f"a label of {horizon} bars is longer than half the median spell of {name} ({lasts[name]:g} bars): "
                "it would mostly be earned in other regimes"
            )
    return reasons


def _require(bars: pl.DataFrame, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in bars.columns]
    if missing:
        raise ValueError(f"labels need the columns {', '.join(missing)}; known_at is the end of the bar plus the lag")


def _later(column: str, bars: int) -> pl.Expr:
    return pl.col(column).shift(-bars).over(LISTING)


def _log_return(bars: int) -> pl.Expr:
    return pl.col("close").log() - pl.col("close").log().shift(bars).over(LISTING)


def _flags_within(horizon: int) -> pl.Expr:
    """Flagged bars among t+1 ... t+1+h; null where the listing ends before."""
    flagged = pl.col("flags").is_not_null().cast(pl.Int32).cum_sum()
    return (flagged.shift(-1 - horizon) - flagged).over(LISTING)
