"""Bars as the stations after ingestion see them: adjusted, with the instant each became known."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from alpha_assets.quant import calendars
from alpha_assets.quant.adjust import adjusted_where_possible, carried
from alpha_assets.quant.schema import BARS, OHLCV, TIME
from alpha_assets.settings import Settings
from alpha_assets.stations.base import StationFailed
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row


def calendars_of(ledger: Ledger) -> dict[str, str]:
    """The calendar of every member, retired ones too."""
    return {row["symbol"]: row["calendar"] for row in ledger.universe(retired=True)}


def followed_until(lake: Lake, ledger: Ledger, patience: int) -> dict[str, datetime]:
    """Until when it says anything that there is no bar, of each symbol that has one: as far as its source has gone on.

    Of a retired one only until the newest bar that its source had given of any symbol when it was retired: nobody asked
    since. Of one that is followed again and has not answered yet it is its own last bar, until its source has gone on
    for more than ``patience`` sessions. Told by when bars were fetched: one retires by the clock, and a simulated
    market or a folder of files stands elsewhere.
    """
    members = {row["symbol"]: row for row in ledger.universe(retired=True)}
    last = {symbol: row["last_bar"] for symbol, row in ledger.states().items() if symbol in members and row["last_bar"]}
    newest = newest_bars(members, last)
    end = {symbol: newest[members[symbol]["source"]] for symbol in last}
    silent = [symbol for symbol, at in last.items() if at < end[symbol]]
    retired = {symbol: at for symbol in silent if (at := members[symbol]["retired_at"])}
    unheard = _unheard(lake, {symbol: last[symbol] for symbol in silent if symbol not in retired}, members)
    asked = _given_by(lake, retired | unheard, members, last)

    def waits(symbol: str) -> bool:
        calendar = members[symbol]["calendar"]
        return calendars.elapsed_sessions(calendar, asked[symbol].date(), end[symbol].date()) <= patience

    waiting = {symbol: last[symbol] for symbol in unheard if waits(symbol)}
    return end | {symbol: asked[symbol] for symbol in retired} | waiting


def _unheard(lake: Lake, last: Mapping[str, datetime], members: Mapping[str, Row]) -> dict[str, datetime]:
    """Since when those are followed that have given no bar since: they were retired before. By their ``last`` bar."""
    if not last:
        return {}
    fetched = lake.read("bars", since=last, columns=["symbol", "fetched_at"])
    heard = dict(fetched.group_by("symbol").agg(pl.col("fetched_at").max()).iter_rows())
    added = {symbol: members[symbol]["added_at"] for symbol in heard}
    return {symbol: at for symbol, at in added.items() if heard[symbol] < at}


def _given_by(
    lake: Lake, asked: Mapping[str, datetime], members: Mapping[str, Row], last: Mapping[str, datetime]
) -> dict[str, datetime]:
    """The newest bar that the source of each symbol had given of any at the instant when it was ``asked`` of."""
    if not asked:
        return {}
    given = lake.read(
        "bars", since=min(last[symbol] for symbol in asked), columns=["symbol", "timestamp", "fetched_at"]
    )
    source = pl.col("symbol").replace_strict({name: row["source"] for name, row in members.items()}, default=None)
    given = given.with_columns(source=source)

    def newest(symbol: str, at: datetime) -> Any:
        by_then = given.filter(pl.col("source") == members[symbol]["source"], pl.col("fetched_at") <= at)
        return by_then.select(pl.col("timestamp").max()).item()

    return {symbol: max(last[symbol], newest(symbol, at) or last[symbol]) for symbol, at in asked.items()}


def newest_bars(members: Mapping[str, Row], last: Mapping[str, datetime]) -> dict[str, datetime]:
    """The newest bar that each source has given of any symbol, by the last one of each symbol."""
    newest: dict[str, datetime] = {}
    for symbol, at in last.items():
        source = members[symbol]["source"]
        newest[source] = max(at, newest.get(source, at))
    return newest


def follow_calendars(ledger: Ledger, settings: Settings) -> dict[str, str]:
    """Record what ALPHA_CALENDARS and the suffix say of each member's calendar now; what has changed, by symbol.

    The sources answer by the settings, the stations by the ledger: after this they say the same.
    """
    members = ledger.universe()
    try:
        named = {row["symbol"]: calendars.calendar_name(row["symbol"], settings.calendars) for row in members}
    except ValueError as error:
        raise StationFailed(f"ALPHA_CALENDARS: {error}") from error
    changed = {row["symbol"]: named[row["symbol"]] for row in members if row["calendar"] != named[row["symbol"]]}
    if changed:
        ledger.set_calendars(changed)
    return changed


def adjusted_bars(
    lake: Lake,
    settings: Settings,
    names: Mapping[str, str],
    symbols: Sequence[str],
    since: datetime | Mapping[str, datetime | None] | None = None,
    columns: Sequence[str] = tuple(BARS),
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Bars of ``symbols`` adjusted for all splits and dividends, and for each symbol left out the reason.

    The columns are those of ``schema.BARS`` unless fewer are named. A symbol with an action that cannot be (a dividend
    above the price) is left out: no factor would be right, and its neighbours are not to suffer.
    """
    bars = lake.read("bars", symbols=symbols, since=since, columns=columns)
    actions = lake.read("actions", symbols=symbols).drop("first_seen_at")
    return soundly_adjusted(bars, actions, settings, names)


def soundly_adjusted(
    bars: pl.DataFrame, actions: pl.DataFrame, settings: Settings, names: Mapping[str, str]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """``adjusted_bars`` of bars and actions that are read already; other columns stay as they are."""
    sound, wrong = adjusted_where_possible(bars, actions, settings.interval, names)
    reasons = dict(wrong.group_by("symbol", maintain_order=True).agg(pl.col("reason").first()).iter_rows())
    return sound, reasons


def pending_bars(
    lake: Lake,
    settings: Settings,
    names: Mapping[str, str],
    pending: Mapping[str, datetime | None],
    memory: int | None,
) -> tuple[pl.DataFrame, dict[str, str]]:
    """``adjusted_bars`` after each symbol's time, and ``memory`` bars before them; all of them where either is None.

    Where halts left fewer bars than that in the sessions that should hold them, the whole history is read.
    """
    starts: dict[tuple[str, datetime | None], datetime | None] = {}
    for calendar, until in {(names[symbol], until) for symbol, until in pending.items()}:
        starts[calendar, until] = None
        if memory is not None and until is not None:
            sessions = math.ceil(1.05 * memory / calendars.bars_a_session(calendar, settings.interval)) + 1
            starts[calendar, until] = calendars.sessions_back(calendar, until, sessions)
    since = {symbol: starts[names[symbol], until] for symbol, until in pending.items()}
    bars, held = adjusted_bars(lake, settings, names, list(pending), since)
    bound = pl.col("symbol").replace_strict(dict(pending), return_dtype=TIME, default=None)
    # Of a listing that is read from its first bar on there is no more.
    begun = pl.col("timestamp").first().dt.date() <= pl.col("listing").first()
    found = bars.group_by("symbol").agg(known=(pl.col("timestamp") <= bound).sum(), whole=begun)
    lacks = found.filter(pl.col("known").is_between(1, memory or 0, closed="left") & ~pl.col("whole"))
    short = [symbol for symbol in lacks["symbol"] if since[symbol] is not None]
    if short:
        whole_history, _ = adjusted_bars(lake, settings, names, short)
        bars = pl.concat([bars.filter(~pl.col("symbol").is_in(short)), whole_history]).sort("symbol", "timestamp")
    return bars, held


def with_known_at(bars: pl.DataFrame, settings: Settings, names: Mapping[str, str]) -> pl.DataFrame:
    """The bars with ``known_at``: their end plus the lag until they are final."""
    ends = calendars.bar_ends(bars.select("symbol", "timestamp"), settings.interval, names)
    return bars.with_columns(known_at=(ends + settings.final_lag).cast(TIME))


def traded_bars(
    lake: Lake,
    settings: Settings,
    names: Mapping[str, str],
    symbols: Sequence[str],
    since: Mapping[str, datetime | None] | None = None,
) -> pl.DataFrame:
    """Bars of ``symbols`` as traded, with what a unit becomes between them: what ``quant.book`` reads."""
    bars = lake.read("bars", symbols=symbols, since=since, columns=list(BARS))
    actions = lake.read("actions", symbols=symbols).drop("first_seen_at")
    opens = calendars.bar_opens(bars, settings.interval, names).cast(TIME)
    return with_known_at(carried(bars, actions, settings.interval, names).with_columns(opens), settings, names)


def prices_only(bars: pl.DataFrame) -> pl.DataFrame:
    """What the indicators read."""
    return bars.select("symbol", "timestamp", "listing", *OHLCV)
