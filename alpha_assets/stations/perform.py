"""How strategies do: figures of every cell for the ledger, metrics over time and a picture for MLflow.

All of it follows from the booked outcomes and the bars; where both are what they were, nothing is written.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.book import marks
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.quant.performance import (
    ALL,
    CELL,
    EVER,
    FIGURES,
    Account,
    account_of,
    monthly,
    performance,
    rolling_hits,
)
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Report
from alpha_assets.stations.outcome import BEGINNING, BLEND, MODEL_VIEW, VIEW, booked
from alpha_assets.stations.performance_picture import performance_picture
from alpha_assets.stations.series import calendars_of, traded_bars
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.outcomes import Outcomes
from alpha_assets.stores.registry import Point, Registry
from alpha_assets.stores.trouble import StoreTrouble

#: What is told of a version, or of a strategy, as of each date on which one of its positions was settled.
LIVE_FIGURES = ("live_closed", "live_hit_rate", "live_win_rate", "live_mean_return", "live_total_pnl")


def perform(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    now: datetime,
    tags: Mapping[str, str] | None = None,
) -> tuple[Report, bytes | None]:
    """Figures of every strategy as of the newest bar, and where they are new the picture of the blend's account."""
    started = time.perf_counter()
    report, store = Report(), Outcomes(ledger)
    positions, before = booked(store.all()), store.performance()
    sight = None if positions.is_empty() else _Sight.of(lake, ledger, settings, positions)
    if sight is None:
        # Figures whose bars are out of reach stay as they were told.
        if before and positions.is_empty():
            store.put_performance([])
        report.totals = {"strategies": 0, "cells": 0, "seconds": round(time.perf_counter() - started, 3)}
        return report, None
    rows = [_row(cell, sight.as_of, now) for cell in sight.figures(settings).iter_rows(named=True)]
    picture, versions, trouble = None, 0, None
    if _said(rows) != _said(before):
        account = account_of(sight.marked, sight.bars, BLEND, sight.as_of, settings.trading)
        picture = None if account is None else _drawn(account, sight, settings)
        since = max((_logged_until(row) for row in before), default=BEGINNING)
        try:
            versions = _log(registry, positions, since, rows, picture, account, tags or {})
        except StoreTrouble as error:  # the figures are good without MLflow, which is told the next time
            trouble = str(error)
            for row in rows:
                row["document"]["logged_until"] = since.isoformat()
        store.put_performance(rows)
    for row in rows:
        if (row["symbol"], row["regime"], row["window"]) == (ALL, ALL, EVER):
            report.say(row["strategy"], "told", **{name: row["document"].get(name) for name in SHOWN})
    report.totals = {
        "strategies": len(report.partitions),
        "cells": len(rows),
        "as_of": sight.as_of.isoformat(),
        "versions": versions,
        **({} if trouble is None else {"trouble": trouble}),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report, picture


@dataclass(frozen=True)
class _Sight:
    """Positions and what they were worth from bar to bar, as of the newest bar of their symbols."""

    positions: pl.DataFrame
    bars: pl.DataFrame
    marked: pl.DataFrame
    as_of: datetime
    a_year: float

    @classmethod
    def of(cls, lake: Lake, ledger: Ledger, settings: Settings, positions: pl.DataFrame) -> "_Sight | None":
        """None where there are no bars to see them by."""
        names = calendars_of(ledger)
        first = dict(positions.group_by("symbol").agg(pl.col("bar_time").min()).iter_rows())
        bars = traded_bars(lake, settings, names, sorted(first), first)
        calendar = Counter(names[symbol] for symbol in first).most_common(1)[0][0]
        as_of = bars["timestamp"].max()
        if not isinstance(as_of, datetime):
            return None
        marked = marks(positions, bars, settings.trading)
        return cls(positions, bars, marked, as_of, calendars.bars_a_year(calendar, settings.interval))

    def figures(self, settings: Settings) -> pl.DataFrame:
        return performance(self.positions, self.marked, self.bars, self.as_of, self.a_year, settings.trading)


def _drawn(account: Account, sight: _Sight, settings: Settings) -> bytes:
    hits = rolling_hits(sight.positions, BLEND, settings.trading)
    symbols = sight.positions["symbol"].n_unique()
    title = f"signals as they went until {sight.as_of:%Y-%m-%d}, net of costs; {symbols:,} symbols"
    return performance_picture(account, hits, settings.trading.rolling, title)


#: What the run says of a strategy.
SHOWN = (
    *("signals", "closed", "hit_rate", "win_rate", "expectancy", "profit_factor"),
    *("total_pnl", "sharpe", "max_drawdown"),
)


def _row(cell: Mapping[str, Any], as_of: datetime, now: datetime) -> Row:
    told = {name: cell[name] for name in FIGURES if cell[name] is not None}
    key = {name: cell[name] for name in (*CELL, "window")}
    reached = dict.fromkeys(("as_of", "logged_until"), as_of.isoformat())
    return {**key, "document": {**told, **reached}, "written_at": now}


def _logged_until(row: Row) -> datetime:
    return datetime.fromisoformat(row["document"]["logged_until"])


def _said(rows: Sequence[Row]) -> dict[tuple[str, ...], Any]:
    """What the rows say, the time of writing aside."""
    return {tuple(row[name] for name in (*CELL, "window")): row["document"] for row in rows}


def _log(
    registry: Registry,
    positions: pl.DataFrame,
    since: datetime,
    rows: Sequence[Row],
    picture: bytes | None,
    account: Account | None,
    tags: Mapping[str, str],
) -> int:
    """Tell MLflow what was settled after ``since``: on the run of each version, and of all strategies in one."""
    whole = {
        f"{row['strategy']} {row['window']}": row["document"]
        for row in rows
        if (row["symbol"], row["regime"]) == (ALL, ALL)
    }
    months = [] if account is None else monthly(account).to_dicts()
    told = {"disclaimer": DISCLAIMER, "strategies": whole, "months": months}
    points = [
        (f"{strategy.replace(':', '/')}/{name}", at, value)
        for (strategy,), own in live_points(positions, ["strategy"], since).items()
        for name, at, value in own
    ]
    registry.log_performance(points, tags=tags, report=told, picture=picture)
    strategy = VIEW + MODEL_VIEW if (positions["strategy"] == VIEW + MODEL_VIEW).any() else BLEND
    of_models = positions.filter(pl.col("strategy") == strategy).drop_nulls(["model_name", "model_version"])
    live = live_points(of_models, ["model_name", "model_version"], since)
    return registry.log_live({(name, number): own for (name, number), own in live.items()})


def live_points(positions: pl.DataFrame, by: Sequence[str], since: datetime) -> dict[tuple[Any, ...], list[Point]]:
    """``LIVE_FIGURES`` of each group, over all that was settled by then, whenever something was after ``since``."""
    right = {"live_hit_rate": pl.col("gross_return") > 0, "live_win_rate": pl.col("net_return") > 0}
    number = pl.col("live_closed")
    running = (
        positions.filter(pl.col("status") == "closed")
        .sort("settled_at", "symbol")
        .with_columns(
            live_closed=pl.int_range(1, pl.len() + 1).over(by).cast(pl.Float64),
            live_total_pnl=pl.col("pnl").cum_sum().over(by),
            live_mean_return=pl.col("net_return").cum_sum().over(by),
            **{name: went.cast(pl.Float64).cum_sum().over(by) for name, went in right.items()},
        )
        .with_columns(pl.col("live_mean_return", *right) / number)
        .unique([*by, "settled_at"], keep="last", maintain_order=True)
    )
    found: dict[tuple[Any, ...], list[Point]] = {}
    for row in running.filter(pl.col("settled_at") > since).iter_rows(named=True):
        points = found.setdefault(tuple(row[name] for name in by), [])
        points += [(name, row["settled_at"], row[name]) for name in LIVE_FIGURES]
    return found
