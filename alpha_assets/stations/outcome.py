"""What became of every signal: positions of the blend, of each view and of each kind of model, booked as GATE.md says.

Only what is new is traded: of each (symbol, strategy) the signals from its oldest position that is not over on, or from
where it stood when nothing was held (``book.resume_points``). That gives the ledger that a rebuild gives.

**From when a signal can be acted upon.** Of a live source from the instant at which it was said: what was said late is
entered late. A simulated market and a folder of files wait for whoever reads them: there the next bar is the next.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.book import LANE, POSITIONS, STATUSES, positions, resume_points
from alpha_assets.quant.book import SIGNALS as ORDERS
from alpha_assets.quant.schema import TIME
from alpha_assets.settings import Settings
from alpha_assets.stations.base import Progress, Report, silent
from alpha_assets.stations.series import calendars_of, followed_until, traded_bars
from alpha_assets.stations.watch import LEAD
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets.stores.outcomes import OUTSIDE, Outcomes, row_of

#: Sources whose market goes on while nobody reads it.
LIVE_SOURCES = ("yahoo",)

BLEND, VIEW, KIND = "blend", "view:", "kind:"

#: The view that tells of its model: who it is, and what each kind of head says.
MODEL_VIEW = "model"

#: Before any bar.
BEGINNING = datetime(1, 1, 1, tzinfo=UTC)

#: What became of no signal.
NOTHING = pl.DataFrame(schema=dict(POSITIONS))

#: The direction of each signal.
SIDES = {"STRONG_BUY": 1, "BUY": 1, "HOLD": 0, "SELL": -1, "STRONG_SELL": -1}


def outcome(
    lake: Lake,
    ledger: Ledger,
    settings: Settings,
    now: datetime,
    progress: Progress = silent,
    *,
    rebuild: bool = False,
) -> Report:
    """Trade the signals that have come since, and go on with what is held; ``rebuild`` trades all of them anew.

    What is booked as over stays as it is booked, though a bar of it be restated later: a rebuild sees the bars of now.
    """
    started = time.perf_counter()
    report, store = Report(), Outcomes(ledger)
    members, states = {row["symbol"]: row for row in ledger.universe(retired=True)}, ledger.states()
    known = {} if rebuild else states
    until = {symbol: at for symbol, row in known.items() if (at := row["outcomes_until"]) is not None}
    points = resume_points(booked(store.last()), until)
    if rebuild:
        points = points.with_columns(since=pl.lit(BEGINNING, TIME))
    orders, bars = _tradable(lake, settings, calendars_of(ledger), _orders(lake, members, points, until))
    progress("outcomes", 1, 2)
    ended = _ended(members, states, settings, followed_until(lake, ledger, settings.cleaning.listing_gap_sessions))
    traded = positions(orders, bars, settings.learning.horizon, settings.trading, ended) if orders.height else NOTHING
    anew = points.join(orders.select("symbol").unique(), on="symbol", how="semi").to_dicts()
    reached = dict(orders.group_by("symbol").agg(pl.col("bar_time").max()).iter_rows())
    store.book(anew, [row_of(row, now) for row in traded.iter_rows(named=True)], reached)
    progress("outcomes", 2, 2)
    for symbol, part in traded.group_by("symbol", maintain_order=True):
        counts = dict(part.group_by("status").len().iter_rows())
        report.say(str(symbol[0]), "traded", **counts)
    report.totals = {
        "symbols": len(reached),
        "strategies": orders["strategy"].n_unique(),
        "traded": traded.height,
        **{status: int((traded["status"] == status).sum()) for status in STATUSES.categories},
        "delisted": int((traded["reason"] == "delisted").sum()),
        "seconds": round(time.perf_counter() - started, 3),
    }
    return report


def booked(rows: Sequence[Row]) -> pl.DataFrame:
    """Rows of the ledger as ``quant.book.POSITIONS``."""
    found = [{**{name: row[name] for name in OUTSIDE}, **row["document"]} for row in rows]
    texts = {name: pl.String() if kind == TIME and name not in OUTSIDE else kind for name, kind in POSITIONS.items()}
    frame = pl.DataFrame(found, schema=texts, orient="row")
    times = [name for name, kind in texts.items() if kind == pl.String() and POSITIONS[name] == TIME]
    return frame.with_columns(pl.col(times).str.to_datetime("%+", time_unit="us", time_zone="UTC"))


def _orders(
    lake: Lake, members: Mapping[str, Row], points: pl.DataFrame, until: Mapping[str, datetime]
) -> pl.DataFrame:
    """``quant.book.SIGNALS`` to trade: of each strategy from its point on, of a new one from what is untraded."""
    if lake.version("signals") is None:
        return pl.DataFrame(schema=dict(ORDERS))
    first = dict(points.group_by("symbol").agg(pl.col("since").min()).iter_rows())
    since = {symbol: min(at, first.get(symbol, at)) if (at := until.get(symbol)) else None for symbol in members}
    rows = lake.read("signals", since=since) if since else pl.DataFrame()
    live = {symbol for symbol, row in members.items() if row["source"] in LIVE_SOURCES}
    said = [order for row in rows.iter_rows(named=True) for order in orders_of(row, live=row["symbol"] in live)]
    orders = pl.DataFrame(said, schema=dict(ORDERS), orient="row")
    mark = pl.col("symbol").replace_strict(dict(until), default=None, return_dtype=TIME)
    due = orders.join(points, on=LANE, how="left").with_columns(since=pl.coalesce("since", mark))
    return due.filter(pl.col("since").is_null() | (pl.col("bar_time") >= pl.col("since"))).drop("since")


def orders_of(row: Row, live: bool) -> Iterator[dict[str, Any]]:
    """What a stored signal tells each strategy to do: the blend, then its views and the kinds of its model.

    A row without views is of before there were any, and tells the blend alone.
    """
    views = row.get("views") or []
    views = json.loads(views) if isinstance(views, str) else views
    detail = next((view.get("detail") or {} for view in views if view["name"] == MODEL_VIEW), {})
    common = {
        "symbol": row["symbol"],
        "bar_time": row["bar_time"],
        "signal_id": row["signal_id"],
        "said_at": row["created_at"],
        "known_at": row["created_at"] if live else None,
        "regime": row.get("regime"),
    }
    model = {
        "model_name": detail.get("model_name"),
        "model_version": detail.get("model_version") or row["model_version"],
    }
    yield {**common, **model, "strategy": BLEND, "side": SIDES[row["signal"]], "confidence": row["confidence"]}
    for view in views:
        whose = model if view["name"] == MODEL_VIEW else dict.fromkeys(model)
        side = 0 if view.get("abstained") else view.get("side")
        stated = view.get("confidence") if side else None
        yield {**common, **whose, "strategy": VIEW + view["name"], "side": side, "confidence": stated}
    for name, side in (detail.get("kinds") or {}).items():
        yield {**common, **model, "strategy": KIND + name, "side": side, "confidence": None}


def _tradable(
    lake: Lake, settings: Settings, names: Mapping[str, str], orders: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The orders that can be traded now, and the bars to trade them.

    A symbol whose bars are not there waits as it is booked: a lake that lost them is no market that closed.
    """
    if orders.is_empty():
        return orders, orders
    first = dict(orders.group_by("symbol").agg(pl.col("bar_time").min() - LEAD).iter_rows())
    bars = traded_bars(lake, settings, names, sorted(first), first)
    return orders.join(bars, on="symbol", how="semi"), bars


def _ended(
    members: Mapping[str, Row], states: Mapping[str, Row], settings: Settings, until: Mapping[str, datetime]
) -> list[str]:
    """Symbols of which there is no bar for longer than one listing lasts without, while their source goes on.

    An outage is not a delisting, nor is it one that nobody asks any more: sessions count as far as it says anything
    that there is no bar, ``until`` then (``series.followed_until``).
    """
    last = {symbol: row["last_bar"] for symbol, row in states.items() if symbol in members and row["last_bar"]}
    gap = settings.cleaning.listing_gap_sessions

    def behind(symbol: str, day: date) -> int:
        calendar, end = members[symbol]["calendar"], until[symbol].date()
        # Fewer days than sessions in the gap cannot hold them.
        return 0 if end - day <= timedelta(days=gap) else calendars.elapsed_sessions(calendar, day, end)

    return [symbol for symbol, at in last.items() if behind(symbol, at.date()) > gap]
