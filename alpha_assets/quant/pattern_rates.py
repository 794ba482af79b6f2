"""How often each pattern was right: rates of success of one symbol by pattern, regime and horizon, and their document.

Every figure is of one symbol: what else is computed beside it changes nothing. So a rate of few outcomes is drawn to
what the same symbol says elsewhere, and that to a coin, never to a pool of symbols, whose make-up would rewrite it.

**A document stands still for a period.** It counts the outcomes that were known when the newest whole period began
(``known_by``), and periods begin on dates of the calendar: the same bars give the same document whenever and however
often it is written, and a day is no reason to write it again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alpha_assets.quant.metrics import wilson
from alpha_assets.quant.patterns import HORIZONS
from alpha_assets.quant.profile_schema import RATE_FIGURES
from alpha_assets.quant.schema import TIME, empty

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: The regime of every event, those of a bar that has none included.
ALL = "all"

#: What ``rates`` answers.
RATES: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "regime": pl.String(),
    "pattern": pl.String(),
    "horizon": pl.Int32(),
    "count": pl.Int64(),
    "effective": pl.Float64(),
    "successes": pl.Int64(),
    "rate": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "shrunk": pl.Float64(),
    "mean_return": pl.Float64(),
}

#: Digits that a cell is stored with: its estimates bear fewer, and the last bits of a sum are no news.
DIGITS = 3


def known_by(last_bar: datetime, days: int) -> datetime:
    """When the newest period of so many days began at the symbol's last bar: 00:00 UTC, a Monday for whole weeks."""
    day = last_bar.date()
    began = day - timedelta(days=(day.toordinal() - 1) % days)
    return datetime(began.year, began.month, began.day, tzinfo=UTC)


def rates(
    table: pl.DataFrame,
    regimes: pl.DataFrame,
    known_until: Mapping[str, datetime],
    prior: float,
    *,
    horizons: Sequence[int] = HORIZONS,
) -> pl.DataFrame:
    """One row a symbol, regime, pattern and horizon with an outcome known by the symbol's ``known_until``.

    ``table`` holds ``patterns.outcomes``, of which the symbols of ``known_until`` are counted; ``regimes`` the regime
    of each bar (symbol, timestamp, regime). An event counts in the regime of its bar and in ``all``; where the bar has
    no regime, in ``all`` only. The answer is sorted by symbol, regime, pattern and horizon; its columns are ``RATES``:

    - count, successes, rate: outcomes, those in the event's direction, and their share (null for undirected patterns)
    - mean_return: of the returns in the event's direction; as they are for undirected patterns
    - effective: count, but at most the horizons that fit into the time from first to last event: outcomes that overlap
      are one outcome seen twice
    - low, high: Wilson's interval of 95 % for the rate over ``effective`` outcomes (Wilson, JASA 22 (1927), 209-212)
    - shrunk: the rate drawn towards another that counts as ``prior`` outcomes (the mean of a beta posterior): that of
      ``all`` towards 1/2, that of a regime towards the shrunk rate of the same symbol, pattern and horizon in ``all``
    """
    own = regimes.select("symbol", pl.col("timestamp").cast(TIME), "regime")
    rows = table.filter(pl.col("symbol").is_in(list(known_until))).join(
        own, on=["symbol", "timestamp"], how="left", maintain_order="left"
    )
    if rows.is_empty():
        return empty(RATES)
    axes = {name: sorted(rows[name].drop_nulls().unique()) for name in ("symbol", "pattern", "regime")}
    shape = (len(axes["symbol"]), len(axes["pattern"]), len(axes["regime"]) + 1)
    codes = [_codes(rows[name], names) for name, names in axes.items()]
    cell = np.ravel_multi_index(codes, shape)
    until = pl.Series([known_until[symbol] for symbol in axes["symbol"]], dtype=TIME).to_physical().to_numpy()
    places = pl.concat(
        _of_horizon(rows, horizon, cell, shape, until[codes[0]], prior).with_columns(horizon=pl.lit(horizon))
        for horizon in horizons
    )
    names = {**axes, "regime": [*axes["regime"], ALL]}
    return (
        places.with_columns(pl.Series(name, own).gather(places[name]) for name, own in names.items())
        .select(*RATES)
        .cast(dict(RATES))  # type: ignore[arg-type]
        .sort("symbol", "regime", "pattern", "horizon")
    )


def _codes(column: pl.Series, names: Sequence[str]) -> Integers:
    """The place of each value among ``names``; of a null, the place after the last."""
    return column.cast(pl.Enum(names)).to_physical().cast(pl.Int64).fill_null(len(names)).to_numpy()


def _of_horizon(
    rows: pl.DataFrame, horizon: int, cell: Integers, shape: tuple[int, int, int], until: Integers, prior: float
) -> pl.DataFrame:
    """The figures of one horizon, a row a cell with an outcome; symbol, pattern and regime are places on their axis.

    Sums are taken in the order of the rows, so that other symbols beside them do not change the last bit. From the
    start of bar t to the end of t+1+h are h + 2 bars, of which h are held: that is how long an outcome lasts.
    """
    outcome, known, success = (rows[f"{kind}_{horizon}"] for kind in ("return", "known", "success"))
    used = np.flatnonzero((outcome.is_not_null() & known.is_not_null()).to_numpy())
    used = used[known.to_physical().gather(used).to_numpy() <= until[used]]
    at = rows["timestamp"].to_physical().gather(used).to_numpy()
    lasted = (known.to_physical().gather(used).to_numpy() - at) * (horizon / (horizon + 2))
    direction = rows["direction"].gather(used).to_numpy()
    along = outcome.gather(used).to_numpy() * np.where(direction == 0, 1, direction)
    right = success.gather(used).fill_null(value=False).to_numpy()
    cells, size = cell[used], int(np.prod(shape))

    def total(weights: NDArray[Any] | None = None) -> Floats:
        sums = np.bincount(cells, weights, size).reshape(shape).astype(np.float64)
        sums[..., -1] = sums.sum(axis=-1)
        return sums

    first, last = np.full(size, np.iinfo(np.int64).max), np.full(size, np.iinfo(np.int64).min)
    np.minimum.at(first, cells, at)
    np.maximum.at(last, cells, at)
    first, last = first.reshape(shape), last.reshape(shape)
    first[..., -1], last[..., -1] = first.min(axis=-1), last.max(axis=-1)
    count = total()
    found = np.nonzero(count)
    sums = {"held": lasted, "along": along, "directed": success.gather(used).is_not_null(), "successes": right}
    count, held, moved, directed, successes = (
        part[found] for part in (count, *(total(np.asarray(weights, dtype=np.float64)) for weights in sums.values()))
    )
    effective = np.minimum(count, 1 + (last[found] - first[found]) / (held / count))
    with np.errstate(invalid="ignore"):
        rate = successes / directed
    low, high = wilson(rate, effective)
    drawn = np.full(shape, np.nan)
    drawn[found] = (effective * rate + prior / 2) / (effective + prior)
    to_all = (effective * rate + prior * drawn[found[0], found[1], -1]) / (effective + prior)
    figures = {
        "successes": np.where(directed > 0, successes, np.nan),
        "rate": rate,
        "low": low,
        "high": high,
        "shrunk": np.where(found[2] == shape[2] - 1, drawn[found], to_all),
    }
    places = dict(zip(("symbol", "pattern", "regime"), found, strict=True))
    return pl.DataFrame(
        {**places, "count": count, "effective": effective, "mean_return": moved / count, **figures}
    ).with_columns(pl.col(*figures).fill_nan(None))


def cells(found: pl.DataFrame, least: float) -> dict[str, dict[str, Any]]:
    """The part ``rates`` of each symbol's document: pattern → regime → horizon → ``RATE_FIGURES``, those defined.

    ``found`` are ``rates``; a cell of fewer than ``least`` effective outcomes is left out.
    """
    told = found.filter(pl.col("effective") >= least).with_columns(
        pl.col(name).round_sig_figs(DIGITS) for name in RATE_FIGURES if RATES[name] == pl.Float64()
    )
    documents: dict[str, dict[str, Any]] = {}
    for symbol, regime, pattern, horizon, *figures in told.sort("symbol", "pattern", "regime", "horizon").iter_rows():
        own = documents.setdefault(symbol, {}).setdefault(pattern, {}).setdefault(regime, {})
        own[str(horizon)] = {
            name: value for name, value in zip(RATE_FIGURES, figures, strict=True) if value is not None
        }
    return documents


def running(table: pl.DataFrame, horizon: int, prior: float) -> pl.DataFrame:
    """symbol, timestamp, pattern, direction and ``success`` of every directed event: the rate as known at its bar.

    ``table`` holds ``patterns.outcomes``, whose order is kept. ``success`` is what ``rates`` calls ``shrunk``, of the
    regime ``all``, of the outcomes that were known when the event's bar began: 1/2 where none was. ``horizon`` is one
    of ``HORIZONS``.
    """
    known, right = f"known_{horizon}", f"success_{horizon}"
    events = table.filter(pl.col("direction") != 0)
    symbols, patterns = (events[name].unique().sort().to_list() for name in ("symbol", "pattern"))
    group = _codes(events["symbol"], symbols) * len(patterns) + _codes(events["pattern"], patterns)
    settled = np.flatnonzero(events.select(pl.all_horizontal(pl.col(known, right).is_not_null())).to_series())
    at, then = (events[name].to_physical().fill_null(0).to_numpy() for name in ("timestamp", known))
    stamps = pl.Series(np.concatenate([at, then[settled]])).unique().sort().to_numpy()
    # A place counts stamps within a group and groups before each other: one number to sort and to search by.
    began, ended = (group * len(stamps) + np.searchsorted(stamps, moments) for moments in (at, then))
    settled = settled[np.argsort(ended[settled], kind="stable")]
    success = events[right].gather(settled).cast(pl.Int64).to_numpy()
    rate = _so_far(group[settled], began[settled], stamps, then[settled] - at[settled], success, horizon, prior)
    newest = np.searchsorted(ended[settled], began, side="right") - 1
    own = np.append(group[settled], -1)[newest] == group
    told = np.append(rate, 0.5)[np.where(own, newest, -1)]
    return events.select("symbol", "timestamp", "pattern", "direction", success=pl.Series(told))


def _so_far(
    group: Integers,
    began: Integers,
    stamps: Integers,
    lasted: Integers,
    success: Integers,
    horizon: int,
    prior: float,
) -> Floats:
    """``shrunk`` of each outcome and of those before it in its group; they are sorted by group and when each is known.

    ``began`` are places: group times ``len(stamps)`` plus the place of the event's bar among ``stamps``. Sums are of
    whole numbers, so that other groups beside it do not change the last bit.
    """
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    first = np.repeat(begins, np.diff(begins, append=len(group)))
    count = np.arange(1, len(group) + 1) - first
    base = group * len(stamps)
    newest = stamps[np.maximum.accumulate(began) - base]
    oldest = stamps[len(stamps) - 1 - (np.maximum.accumulate(2 * base + len(stamps) - 1 - began) - base)]

    def total(values: Integers) -> Integers:
        sums = values.cumsum()
        return np.asarray(sums - (sums - values)[first])

    held = total(lasted) * (horizon / (horizon + 2))
    effective = np.minimum(count, 1 + (newest - oldest) / (held / count))
    return np.asarray((effective * total(success) / count + prior / 2) / (effective + prior))


def told_horizon(horizon: int) -> int:
    """The longest of ``HORIZONS`` that is not longer than ``horizon``: what is likest to a label of it."""
    return max(known for known in HORIZONS if known <= horizon)
