"""How strategies do: figures of every cell for the ledger, metrics over time and pictures for MLflow.

All of it follows from the booked outcomes and the bars; where both are what they were, nothing is written. How stated
confidences held (``stations.reliability``) stands in the documents of the cells over everything, those of the track
record in cells of a window of their own, ``OUT_OF_FOLD``.

Stores that do not answer cost what is kept in them and nothing else: the figures are told by the run, with the trouble.
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
from alpha_assets.quant.reliability import FIGURES as FIGURES_OF_RELIABILITY
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Report
from alpha_assets.stations.outcome import BEGINNING, BLEND, MODEL_VIEW, VIEW, booked
from alpha_assets.stations.performance_picture import performance_picture
from alpha_assets.stations.reliability import OUT_OF_FOLD, live, out_of_fold, reliability_of, sentences
from alpha_assets.stations.reliability_picture import reliability_picture
from alpha_assets.stations.series import calendars_of, traded_bars
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.outcomes import Outcomes
from alpha_assets.stores.registry import PICTURE, REPORT, Point, Registry
from alpha_assets.stores.trouble import StoreTrouble

#: What is told of a version, or of a strategy, as of each date on which one of its positions was settled.
LIVE_FIGURES = ("live_closed", "live_hit_rate", "live_win_rate", "live_mean_return", "live_total_pnl")

#: The data and the picture of the reliability curves in MLflow.
RELIABILITY, RELIABILITY_PICTURE = "reliability.json", "reliability.png"


def perform(
    lake: Lake,
    ledger: Ledger,
    registry: Registry,
    settings: Settings,
    now: datetime,
    tags: Mapping[str, str] | None = None,
) -> tuple[Report, dict[str, bytes]]:
    """Figures of every strategy as of the newest bar; where they are new the pictures, by the file they have in MLflow.

    Those are the blend's account and how confidences held, each where there is something to draw.
    """
    started = time.perf_counter()
    report, store = Report(), Outcomes(ledger)
    positions = booked(store.all())
    troubles: list[str] = []
    before = _before(store, troubles)
    sight = None if positions.is_empty() else _Sight.of(lake, ledger, settings, positions)
    rows = _live_rows(sight, positions, before, settings, now)
    rows += _record_rows(lake, ledger, settings, before, now, troubles)
    pictures, versions = dict[str, bytes](), 0
    if _said(rows) != _said(before):
        account = None if sight is None else sight.account(settings)
        since = max((_logged_until(row) for row in before if row["window"] != OUT_OF_FOLD), default=BEGINNING)
        pictures = _pictures(account, sight, rows, settings)
        try:
            versions = _log(registry, positions, since, rows, pictures, account, tags or {}) if rows else 0
        except StoreTrouble as error:  # the figures are good without MLflow, which is told the next time
            troubles.append(str(error))
            for row in rows:
                row["document"]["logged_until"] = since.isoformat()
        _put(store, rows, troubles)
    for row in rows:
        if (row["symbol"], row["regime"], row["window"]) == (ALL, ALL, EVER):
            report.say(row["strategy"], "told", **{name: row["document"].get(name) for name in SHOWN})
    report.totals = {
        "strategies": len(report.partitions),
        "cells": sum(row["window"] != OUT_OF_FOLD for row in rows),
        **({} if sight is None else {"as_of": sight.as_of.isoformat()}),
        "versions": versions,
        "calibration": sentences(reliability_of(rows)),
        **({"trouble": "; ".join(troubles)} if troubles else {}),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report, pictures


def _before(store: Outcomes, troubles: list[str]) -> list[Row]:
    """The rows of before; none where they cannot be read, and then everything is told again, which counts once."""
    try:
        return store.performance()
    except StoreTrouble as error:
        troubles.append(str(error))
        return []


def _put(store: Outcomes, rows: Sequence[Row], troubles: list[str]) -> None:
    try:
        store.put_performance(rows)
    except StoreTrouble as error:
        troubles.append(f"the figures are told and logged, and the ledger has not got them: {error}")


def _live_rows(
    sight: "_Sight | None", positions: pl.DataFrame, before: Sequence[Row], settings: Settings, now: datetime
) -> list[Row]:
    """The rows of what was said live; where their bars are out of reach they stay as they were told."""
    if sight is None:
        return [] if positions.is_empty() else [row for row in before if row["window"] != OUT_OF_FOLD]
    rows = [_row(cell, sight.as_of, now) for cell in sight.figures(settings).iter_rows(named=True)]
    held = live(positions, settings)
    for row in rows:
        if (row["symbol"], row["regime"], row["window"]) == (ALL, ALL, EVER) and row["strategy"] in held:
            row["document"]["reliability"] = held[row["strategy"]]
    return rows


def _record_rows(
    lake: Lake, ledger: Ledger, settings: Settings, before: Sequence[Row], now: datetime, troubles: list[str]
) -> list[Row]:
    """The rows of the track record; where it cannot be read they stay as they were told."""
    try:
        documents, as_of, trouble = out_of_fold(lake, ledger, settings, now)
    except StoreTrouble as error:
        troubles.append(f"the track record of the views cannot be read: {error}")
        return [row for row in before if row["window"] == OUT_OF_FOLD]
    if trouble is not None:
        troubles.append(trouble)
    if as_of is None:
        return []
    key = {"symbol": ALL, "regime": ALL, "window": OUT_OF_FOLD}
    reached = dict.fromkeys(("as_of", "logged_until"), as_of.isoformat())
    return [
        {"strategy": strategy, **key, "document": {"reliability": told, **reached}, "written_at": now}
        for strategy, told in documents.items()
    ]


def _pictures(
    account: Account | None, sight: "_Sight | None", rows: Sequence[Row], settings: Settings
) -> dict[str, bytes]:
    drawn = {
        PICTURE: None if account is None or sight is None else _drawn(account, sight, settings),
        RELIABILITY_PICTURE: reliability_picture(reliability_of(rows), "confidence, and what came of it"),
    }
    return {file: picture for file, picture in drawn.items() if picture is not None}


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

    def account(self, settings: Settings) -> Account | None:
        """That of the blend; None where it has held nothing yet."""
        return account_of(self.marked, self.bars, BLEND, self.as_of, settings.trading)

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
    pictures: Mapping[str, bytes],
    account: Account | None,
    tags: Mapping[str, str],
) -> int:
    """Tell MLflow what was settled after ``since``: on the run of each version, and of all strategies in one."""
    whole = {
        f"{row['strategy']} {row['window']}": row["document"]
        for row in rows
        if (row["symbol"], row["regime"]) == (ALL, ALL) and row["window"] != OUT_OF_FOLD
    }
    months = [] if account is None else monthly(account).to_dicts()
    told = {"disclaimer": DISCLAIMER, "strategies": whole, "months": months}
    points = [
        (f"{strategy.replace(':', '/')}/{name}", at, value)
        for (strategy,), own in live_points(positions, ["strategy"], since).items()
        for name, at, value in own
    ]
    held = {"disclaimer": DISCLAIMER, "figures": FIGURES_OF_RELIABILITY, **reliability_of(rows)}
    reports: dict[str, Mapping[str, Any]] = {REPORT: told, RELIABILITY: held}
    registry.log_performance([*points, *_held_points(rows)], tags=tags, reports=reports, pictures=pictures)
    strategy = VIEW + MODEL_VIEW if (positions["strategy"] == VIEW + MODEL_VIEW).any() else BLEND
    of_models = positions.filter(pl.col("strategy") == strategy).drop_nulls(["model_name", "model_version"])
    live = live_points(of_models, ["model_name", "model_version"], since)
    return registry.log_live({(name, number): own for (name, number), own in live.items()})


def _held_points(rows: Sequence[Row]) -> list[Point]:
    """How the confidences of each strategy held, as of the newest bar of their source: «blend/oof_brier»."""
    found = []
    for row in rows:
        document = row["document"]
        source = "oof" if row["window"] == OUT_OF_FOLD else "live"
        told = document.get("reliability") or {}
        at, strategy = datetime.fromisoformat(document["as_of"]), row["strategy"].replace(":", "/")
        found += [(f"{strategy}/{source}_{name}", at, told[name]) for name in FIGURES_OF_RELIABILITY if name in told]
    return found


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
