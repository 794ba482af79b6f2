"""When each exchange trades: sessions, opens and closes as arrays, and what follows for the end of a bar.

The source is exchange_calendars. Importing it (and pandas under it) takes more than a second and building a calendar
up to a tenth, so both happen at first use, once a calendar; after that every function here is an array lookup.
Sessions are built from 1990 to 2035 and, where a date outside is asked for, from 1900 or to 2099, never from the
clock: the same question has the same answer every day.

exchange_calendars knows less of some exchanges: in 4.13 Mumbai, Shanghai and Singapore end with 2026, Tokyo and Mumbai
begin with 1997. Beyond these ``bounds`` nothing is known, and a bar there is no error because nobody wrote down its
session. So there every day of the exchange's usual week is taken for a session of its usual hours, both as in the
nearest year that is known, and every function here agrees on that. The price: a holiday is waited for in vain until
exchange_calendars is upgraded (``ended`` says so), and a bar on a special Saturday is dropped until then. That a
session is missing can be said inside the bounds only. A bar before 1900 or after 2099 belongs to no session at all.

A session lasts from its open to its close. Lunch breaks (Tokyo, Hong Kong, Shanghai) are ignored: bars are counted
through them, so the newest final bar may name one that starts in the break and that no source has.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from threading import RLock
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from alpha_assets.quant.schema import INTERVAL_SECONDS, TIME

ALWAYS_OPEN = "24/7"
DEFAULT_CALENDAR = "XNYS"

#: Calendar by the suffix that Yahoo gives the symbols of an exchange.
SUFFIX_CALENDARS: Mapping[str, str] = {
    "SA": "BVMF",
    "L": "XLON",
    "IL": "XLON",
    "DE": "XETR",
    "F": "XFRA",
    "DU": "XDUS",
    "HM": "XHAM",
    "SG": "XSTU",
    "TO": "XTSE",
    "V": "XTSE",
    "PA": "XPAR",
    "AX": "XASX",
    "HK": "XHKG",
    "T": "XTKS",
    "OL": "XOSL",
    "TA": "XTAE",
    "ST": "XSTO",
    "SW": "XSWX",
    "MC": "XMAD",
    "MI": "XMIL",
    "AS": "XAMS",
    "BR": "XBRU",
    "LS": "XLIS",
    "VI": "XWBO",
    "HE": "XHEL",
    "CO": "XCSE",
    "IC": "XICE",
    "IR": "XDUB",
    "NS": "XBOM",
    "BO": "XBOM",
    "SS": "XSHG",
    "SZ": "XSHG",
    "KS": "XKRX",
    "KQ": "XKRX",
    "TW": "XTAI",
    "TWO": "XTAI",
    "SI": "XSES",
    "KL": "XKLS",
    "JK": "XIDX",
    "BK": "XBKK",
    "NZ": "XNZE",
    "JO": "XJSE",
    "MX": "XMEX",
    "BA": "XBUE",
    "SN": "XSGO",
    "IS": "XIST",
    "WA": "XWAR",
    "PR": "XPRA",
    "BD": "XBUD",
    "AT": "ASEX",
    "TL": "XTAL",
    "RG": "XRIS",
    "VS": "XLIT",
    "SR": "XSAU",
}

#: Calendar of the indices whose exchange is not New York.
INDEX_CALENDARS: Mapping[str, str] = {
    "^BVSP": "BVMF",
    "^FTSE": "XLON",
    "^FTMC": "XLON",
    "^GDAXI": "XETR",
    "^MDAXI": "XETR",
    "^STOXX50E": "XETR",
    "^STOXX": "XETR",
    "^FCHI": "XPAR",
    "^AEX": "XAMS",
    "^BFX": "XBRU",
    "^SSMI": "XSWX",
    "^IBEX": "XMAD",
    "^OMX": "XSTO",
    "^ATX": "XWBO",
    "^N225": "XTKS",
    "^HSI": "XHKG",
    "^HSCE": "XHKG",
    "^KS11": "XKRX",
    "^KQ11": "XKRX",
    "^TWII": "XTAI",
    "^STI": "XSES",
    "^AXJO": "XASX",
    "^AORD": "XASX",
    "^NZ50": "XNZE",
    "^BSESN": "XBOM",
    "^NSEI": "XBOM",
    "^JKSE": "XIDX",
    "^KLSE": "XKLS",
    "^GSPTSE": "XTSE",
    "^MXX": "XMEX",
    "^MERV": "XBUE",
    "^IPSA": "XSGO",
}

#: Pairs of a coin with a currency or a coin: BTC-USD, BTC/USDT, BTCUSDT. The second part is never a share class.
_PAIR = re.compile(r"[A-Z0-9]+[-/](USD|EUR|GBP|JPY|BRL|CAD|AUD|CHF|INR|KRW|USDT|USDC|BTC|ETH)|[A-Z0-9]{2,}(USDT|USDC)")

#: Every calendar reaches from here to there, known or taken for granted.
EARLIEST, LATEST = date(1900, 1, 1), date(2099, 12, 31)

_USUAL_FIRST, _USUAL_LAST = date(1990, 1, 1), date(2035, 12, 31)
_DAY = 86_400_000_000
#: Days, five centuries: a longer history is a mistake.
_LONGEST_SPAN = 183_000
#: Sessions of a year or so: the usual week and hours of an exchange are theirs.
_YEAR = 250
#: A day of the week with fewer sessions than this share of them is no part of the usual week (a fifth is).
_USUAL_SHARE = 0.1
_NEVER = np.iinfo(np.int64).min

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class _Table:
    """One calendar as arrays: sessions in days since 1970, opens and closes in microseconds since 1970 UTC."""

    sessions: Integers
    opens: Integers
    closes: Integers


def calendar_name(symbol: str, overrides: Mapping[str, str] | None = None) -> str:
    """The exchange_calendars name for ``symbol``, by override, else by the suffix conventions of Yahoo.

    Crypto pairs and FX (``=X``) are "24/7", futures (``=F``) CMES, indices and everything without a known suffix XNYS,
    so a share class such as BRK.B stays in New York. Raises ValueError where an override names no calendar.
    """
    override = (overrides or {}).get(symbol)
    if override is not None:
        return _known(override, symbol)
    name = symbol.upper()
    if name.endswith("=X") or _PAIR.fullmatch(name):
        return ALWAYS_OPEN
    if name.endswith("=F"):
        return "CMES"
    if name.startswith("^"):
        return INDEX_CALENDARS.get(name, DEFAULT_CALENDAR)
    return SUFFIX_CALENDARS.get(name.rpartition(".")[2], DEFAULT_CALENDAR) if "." in name else DEFAULT_CALENDAR


def sessions(calendar: str, first: date, last: date) -> pl.Series:
    """The sessions from ``first`` to ``last``, both inclusive, as ``pl.Date``.

    Raises ValueError, as every function of this module that takes dates, before ``EARLIEST`` and after ``LATEST``.
    """
    table, inside = _span(calendar, first, last)
    return _dates("session", table.sessions[inside])


def planned_sessions(calendar: str, first: date, last: date) -> pl.Series:
    """The sessions from ``first`` to ``last`` as one could know them before: unforeseen closings are sessions here.

    New York's extraordinary closings (September 2001, hurricane Sandy, days of mourning) came within days. Elsewhere
    exchange_calendars lists ordinary lunar holidays among them, so there every closing counts as planned.
    """
    held = sessions(calendar, first, last)
    exchange = _exchange(calendar)
    if exchange.name != DEFAULT_CALENDAR:
        return held
    closed = {day.date() for day in exchange.adhoc_holidays if first <= day.date() <= last and day.weekday() < 5}
    return pl.concat([held, pl.Series("session", sorted(closed), dtype=pl.Date)]).unique().sort()


def session_bounds(calendar: str, first: date, last: date) -> pl.DataFrame:
    """Columns ``session`` (Date), ``opens``, ``closes`` (UTC): the sessions from ``first`` to ``last``, inclusive."""
    table, inside = _span(calendar, first, last)
    return pl.DataFrame(
        [
            _dates("session", table.sessions[inside]),
            _times("opens", table.opens[inside]),
            _times("closes", table.closes[inside]),
        ]
    )


@cache
def timezone(calendar: str) -> str:
    """The IANA name of the exchange's time zone."""
    return str(_exchange(calendar).tz)


@cache
def bounds(calendar: str) -> tuple[date, date]:
    """The first and the last date of which exchange_calendars knows whether it is a session."""
    exchange = _exchange(calendar)
    first, last = exchange.bound_min(), exchange.bound_max()
    return max(EARLIEST, first.date()) if first else EARLIEST, min(LATEST, last.date()) if last else LATEST


def ended(names: Iterable[str], day: date) -> dict[str, str]:
    """Of these calendars the ones that know nothing of ``day`` any more, each with what that means and what to do."""
    ends = {name: bounds(name)[1] for name in sorted(set(names))}
    return {
        name: f"calendar {name} knows the sessions to {last} only: from then on every day of its usual week is taken "
        "for a session, so holidays are waited for and missing sessions not told; upgrade exchange_calendars"
        for name, last in ends.items()
        if last < day
    }


def bar_ends(bars: pl.DataFrame, interval: str, calendars: Mapping[str, str]) -> pl.Series:
    """The instant at which each bar of (symbol, timestamp) is over, in the order of the rows.

    A daily bar is over when its session closes (early closes and daylight saving included); a date that is no session
    at its 24:00 UTC. An intraday bar is over an interval after its start, or at the
    close where that comes first; one that starts outside the session an interval after its start. A symbol that
    ``calendars`` lacks has its ``calendar_name``. Null where the timestamp is.
    """
    step = _step(interval)
    find = _daily_ends if interval == "1d" else lambda calendar, starts: _intraday_ends(calendar, starts, step)
    return _times("end", _by_calendar(bars["symbol"], bars["timestamp"], calendars, find))


def bar_opens(bars: pl.DataFrame, interval: str, calendars: Mapping[str, str]) -> pl.Series:
    """The instant at which each bar of (symbol, timestamp) begins to trade, in the order of the rows.

    A daily bar's is the open of its session, of a date that is no session its midnight; an intraday bar's is its stamp.
    """
    if interval != "1d":
        return bars["timestamp"].alias("opens_at")
    return _times("opens_at", _by_calendar(bars["symbol"], bars["timestamp"], calendars, _daily_opens))


def session_of(calendar: str, timestamps: pl.Series) -> pl.Series:
    """The session (Date) to which a bar that starts at each of ``timestamps`` belongs.

    That is the session under way; for a start before the open or after the close (extended hours), the session of that
    date in the exchange's zone. Midnight UTC outside a session is read as a daily stamp, so that daily and intraday
    bars may be handed in alike. Null on a day without session and where the timestamp is null.
    """
    starts = _microseconds(timestamps)
    stamped, there = starts // _DAY, _days_there(calendar, starts)
    table = _covering(calendar, stamped)
    under_way = _under_way(table, starts)
    midnight = (starts % _DAY == 0) & _holds(table, stamped)
    days = np.where(midnight, stamped, np.where(_holds(table, there), there, _NEVER))
    days = np.where(under_way >= 0, table.sessions[under_way], days)
    return _dates("session", np.where(starts == _NEVER, _NEVER, days))


def bar_sessions(bars: pl.DataFrame, interval: str, calendars: Mapping[str, str]) -> pl.Series:
    """The session (Date) of each bar of (symbol, timestamp), in the order of the rows.

    A daily bar's is its date. An intraday bar's is not always the date of its stamp (Sydney opens at 23:00 UTC); on a
    day without session it is the date of the exchange, so that the bar is treated like its neighbours and not lost. A
    symbol that ``calendars`` lacks has its ``calendar_name``. Null where the timestamp is.
    """
    if interval == "1d":
        return bars["timestamp"].dt.date().alias("session")
    return _dates("session", _by_calendar(bars["symbol"], bars["timestamp"], calendars, _session_days))


def newest_final(calendar: str, interval: str, now: datetime, lag: timedelta) -> datetime | None:
    """The timestamp of the newest bar with end + ``lag`` <= ``now``; None before the first bar of the calendar.

    Daily: midnight UTC of the newest session that has closed. Intraday: bars start at the session's open and follow
    each other by the interval; the last one of a session is cut at its close. Raises ValueError where ``now`` has no
    zone or lies after ``LATEST``.
    """
    known = _instant(now) - lag // timedelta(microseconds=1)
    today = now.astimezone(UTC).date()
    table = _reaching(calendar, today, today)
    if interval == "1d":
        closed = int(np.searchsorted(table.closes, known, side="right")) - 1
        return _moment(table.sessions[closed] * _DAY) if closed >= 0 else None
    step = _step(interval)
    opened = int(np.searchsorted(table.opens, known, side="right")) - 1
    for session in (opened, opened - 1):
        if session < 0:
            return None
        start = _newest_start(table.opens[session], table.closes[session], step, known)
        if start is not None:
            return _moment(start)
    return None


def sessions_back(calendar: str, timestamp: datetime, count: int) -> datetime:
    """Midnight UTC of the session ``count`` sessions before the one that contains ``timestamp``.

    A timestamp on a day without session counts from the session before it. Raises ValueError where that is before
    ``EARLIEST``.
    """
    stamps = pl.Series([timestamp]).cast(TIME)
    day: date = session_of(calendar, stamps)[0] or timestamp.astimezone(UTC).date()
    for start in (_USUAL_FIRST, EARLIEST):
        table = _reaching(calendar, start, day)
        position = int(np.searchsorted(table.sessions, _day_number(day), side="right")) - 1 - count
        if position >= 0:
            return _moment(table.sessions[position] * _DAY)
    raise ValueError(f"{calendar}: no session {count} sessions before {day}; calendars begin on {EARLIEST}")


def elapsed_sessions(calendar: str, first: date, last: date) -> int:
    """How many sessions follow ``first`` up to and including ``last``: 1 from one to the next, 0 backwards."""
    if last <= first:
        return 0
    return len(sessions(calendar, first + timedelta(days=1), last))


@cache
def bars_a_year(calendar: str, interval: str) -> float:
    """Bars of a full year, counted in 2023, a year without unscheduled closings."""
    year = session_bounds(calendar, date(2023, 1, 1), date(2023, 12, 31))
    if interval == "1d":
        return float(year.height)
    seconds = year.select((pl.col("closes") - pl.col("opens")).dt.total_seconds().sum()).item()
    return float(seconds) / INTERVAL_SECONDS[interval]


def bars_a_session(calendar: str, interval: str) -> float:
    """Bars of an average session."""
    return bars_a_year(calendar, interval) / bars_a_year(calendar, "1d")


def _newest_start(opens: int, closes: int, step: int, known: int) -> int | None:
    """Start of the newest bar of one session that is over at ``known``."""
    if known >= closes:
        return opens + (closes - opens - 1) // step * step
    complete = (known - opens) // step
    return opens + (complete - 1) * step if complete > 0 else None


def _session_days(calendar: str, starts: Integers) -> Integers:
    """``session_of``, and on a day without session the date of the exchange."""
    found = session_of(calendar, _times("timestamp", starts)).to_physical().cast(pl.Int64)
    return np.where(found.is_null(), _days_there(calendar, starts), found.fill_null(_NEVER))


def _days_there(calendar: str, starts: Integers) -> Integers:
    """The date of each instant in the zone of the exchange."""
    there = _times("timestamp", starts).dt.convert_time_zone(timezone(calendar)).dt.date()
    return there.to_physical().cast(pl.Int64).fill_null(_NEVER).to_numpy()


def _daily_ends(calendar: str, starts: Integers) -> Integers:
    return _of_sessions(calendar, starts, lambda table: table.closes, otherwise=1)


def _daily_opens(calendar: str, starts: Integers) -> Integers:
    return _of_sessions(calendar, starts, lambda table: table.opens, otherwise=0)


def _of_sessions(calendar: str, starts: Integers, instants: Callable[[_Table], Integers], otherwise: int) -> Integers:
    """What the table says of each stamp's session; of a date that is none the midnight ``otherwise`` days later."""
    stamped = starts // _DAY
    table = _covering(calendar, stamped)
    days, place = each_day(stamped)
    found = np.searchsorted(table.sessions, days).clip(max=len(table.sessions) - 1)
    said = np.where(table.sessions[found] == days, instants(table)[found], (days + otherwise) * _DAY)
    return np.asarray(said[place])


def each_day(days: Integers) -> tuple[Integers, Integers]:
    """Ascending days that hold all of ``days``, at least one, and the place of each among them.

    What follows from the day alone is then found once a day and not once a bar. Gaps are filled, which is quicker than
    to look for the days that are there, unless a stamp in the wrong unit would fill centuries.
    """
    first, last = days.min(), days.max()
    if last - first > _LONGEST_SPAN:
        found, place = np.unique(days, return_inverse=True)
        return found, place
    return np.arange(first, last + 1), days - first


def _intraday_ends(calendar: str, starts: Integers, step: int) -> Integers:
    table = _covering(calendar, starts // _DAY)
    session = _under_way(table, starts)
    return np.where(session >= 0, np.minimum(starts + step, table.closes[session]), starts + step)


def _by_calendar(
    symbols: pl.Series, timestamps: pl.Series, calendars: Mapping[str, str], find: Callable[[str, Integers], Integers]
) -> Integers:
    """``find(calendar, starts)`` for the rows of each calendar, put back in the order of the rows."""
    starts = _microseconds(timestamps)
    ends = np.full(len(starts), _NEVER)
    unique = symbols.unique().to_list()
    names = {symbol: calendar_name(symbol, calendars) for symbol in unique}
    groups = sorted(set(names.values()))
    if len(groups) == 1 and not (starts == _NEVER).any():
        return find(groups[0], starts)
    codes = symbols.replace_strict(
        unique, [groups.index(names[symbol]) for symbol in unique], return_dtype=pl.Int32
    ).to_numpy()
    for code, calendar in enumerate(groups):
        rows = (codes == code) & (starts != _NEVER)
        if rows.any():
            ends[rows] = find(calendar, starts[rows])
    return ends


def _under_way(table: _Table, starts: Integers) -> Integers:
    """Position of the session that each instant falls into (open inclusive, close exclusive), -1 outside."""
    position = np.searchsorted(table.opens, starts, side="right") - 1
    return np.where((position >= 0) & (starts < table.closes[position]), position, -1)


def _holds(table: _Table, days: Integers) -> NDArray[np.bool_]:
    found = np.searchsorted(table.sessions, days).clip(max=len(table.sessions) - 1)
    return np.asarray(table.sessions[found] == days)


def _span(calendar: str, first: date, last: date) -> tuple[_Table, slice]:
    table = _reaching(calendar, first, last)
    begin = int(np.searchsorted(table.sessions, _day_number(first), side="left"))
    end = int(np.searchsorted(table.sessions, _day_number(last), side="right"))
    return table, slice(begin, max(begin, end))


def _reaching(calendar: str, first: date, last: date) -> _Table:
    """The calendar's table over a window that includes both dates."""
    if min(first, last) < EARLIEST or max(first, last) > LATEST:
        raise ValueError(
            f"calendar {calendar} was asked for the sessions from {first} to {last}: there are none before {EARLIEST} "
            f"and none after {LATEST}"
        )
    return _table(calendar, first < _USUAL_FIRST, last > _USUAL_LAST)


def _covering(calendar: str, days: Integers) -> _Table:
    """The table that includes ``days``; one before ``EARLIEST`` or after ``LATEST`` is simply no session of it."""
    known = days[days > _NEVER // _DAY]
    early = bool(len(known)) and int(known.min()) < _day_number(_USUAL_FIRST)
    late = bool(len(known)) and int(known.max()) > _day_number(_USUAL_LAST)
    return _table(calendar, early, late)


@cache
def _table(calendar: str, early: bool, late: bool) -> _Table:
    first, last = EARLIEST if early else _USUAL_FIRST, LATEST if late else _USUAL_LAST
    begins, ends = bounds(calendar)
    known = _known_sessions(calendar, max(first, begins), min(last, ends))
    before = _usual_sessions(calendar, known.head(_YEAR), first, begins - timedelta(days=1))
    after = _usual_sessions(calendar, known.tail(_YEAR), ends + timedelta(days=1), last)
    table = pl.concat([before, known, after])
    return _Table(*(table[name].to_numpy() for name in ("session", "opens", "closes")))


def _known_sessions(calendar: str, first: date, last: date) -> pl.DataFrame:
    """The sessions that exchange_calendars knows, in the integers of ``_Table``: session, opens, closes."""
    schedule = _exchange(calendar, first, last).schedule
    opens, closes = (schedule[name].dt.tz_convert(None).to_numpy() for name in ("open", "close"))
    return pl.DataFrame(
        {
            "session": schedule.index.to_numpy().astype("datetime64[D]").astype(np.int64),
            "opens": opens.astype("datetime64[us]").astype(np.int64),
            "closes": closes.astype("datetime64[us]").astype(np.int64),
        }
    )


def _usual_sessions(calendar: str, like: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    """As ``_known_sessions``, of dates of which nothing is known: the days of the week and the hours of ``like``."""
    if first > last:
        return like.clear()
    there = like.select(
        _day_of_week(pl.col("session")).alias("weekday"),
        *(_of_day_there(pl.col(name), calendar).alias(name) for name in ("opens", "closes")),
    )
    week = there.group_by("weekday").len().filter(pl.col("len") >= _USUAL_SHARE * like.height)["weekday"]
    hours = there.group_by("opens", "closes").len().sort("len", "opens", "closes").row(-1, named=True)
    days = pl.int_range(_day_number(first), _day_number(last) + 1, eager=True).alias("session").to_frame()
    usual = days.filter(_day_of_week(pl.col("session")).is_in(week.implode()))
    return usual.with_columns(**{name: _instant_there(hours[name], calendar) for name in ("opens", "closes")})


def _day_of_week(session: pl.Expr) -> pl.Expr:
    return session.cast(pl.Int32).cast(pl.Date).dt.weekday()


def _of_day_there(instant: pl.Expr, calendar: str) -> pl.Expr:
    """Microseconds from the midnight of the session's date to the instant, both by the exchange's wall clock."""
    wall = instant.cast(TIME).dt.convert_time_zone(timezone(calendar)).dt.replace_time_zone(None)
    return wall.to_physical() - pl.col("session") * _DAY


def _instant_there(of_day: int, calendar: str) -> pl.Expr:
    """The instant at which the exchange's wall clock shows so many microseconds after the midnight of the session."""
    wall = (pl.col("session") * _DAY + of_day).cast(pl.Datetime("us"))
    return wall.dt.replace_time_zone(timezone(calendar), ambiguous="earliest").cast(TIME).to_physical()


#: Only one thread at a time may silence warnings.
_BUILDING = RLock()


@cache
def _exchange(calendar: str, first: date | None = None, last: date | None = None) -> Any:
    """The calendar of exchange_calendars over these dates; without dates, over its default window."""
    from exchange_calendars import get_calendar
    from pandas.errors import Pandas4Warning

    with _BUILDING, warnings.catch_warnings():
        _speak_pandas()
        # Spellings of exchange_calendars 4.13 that pandas 4 will drop; nothing that a user of ours could change.
        warnings.filterwarnings("ignore", "Series.values returning an ndarray that drops timezone", Pandas4Warning)
        warnings.filterwarnings("ignore", "DatetimeIndex.weekday is deprecated", Pandas4Warning)
        if first is None or last is None:
            return get_calendar(_known(calendar))
        return get_calendar(_known(calendar), start=first.isoformat(), end=last.isoformat())


@cache
def _speak_pandas() -> None:
    """Makes the two kinds of offsets that exchange_calendars 4.13 defines work under pandas 3.1.

    That pandas draws up the days of a custom business day by one vectorised mask, which knows of one weekmask only:
    calendars with several by period (XTAE, XBOM, XKRX, XMOS) lose them. Tel Aviv, open on Sundays until 2026-01-04, can
    then not be built and Mumbai silently lacks its special Saturdays. And it adds an offset by ``_add_datetime`` where
    it called ``_apply`` before, so that calendars with an Orthodox Easter (ASEX, XBSE) cannot be built.
    """
    from exchange_calendars.pandas_extensions.offsets import CompositeCustomBusinessDay, OrthodoxEaster

    CompositeCustomBusinessDay._get_daily_offset_mask = _open_days
    for offset in (CompositeCustomBusinessDay, OrthodoxEaster):
        offset._add_datetime = offset._apply


def _open_days(offset: Any, days: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """True for each day that the offset's weekmask of that period, and its holidays, leave open."""
    days = days.astype("datetime64[D]")
    is_open = np.is_busday(days, busdaycal=offset.calendar)
    for first, last, of_period in offset.business_days:
        begins = days[0] if first is None else np.datetime64(first.date())
        ends = days[-1] if last is None else np.datetime64(last.date())
        inside = (days >= begins) & (days <= ends)
        is_open[inside] = np.is_busday(days[inside], busdaycal=of_period.calendar)
    return is_open


@cache
def _names() -> frozenset[str]:
    from exchange_calendars import get_calendar_names

    return frozenset(get_calendar_names())


def _known(calendar: str, symbol: str | None = None) -> str:
    if calendar in _names():
        return calendar
    where = "" if symbol is None else f" for {symbol} (ALPHA_CALENDARS)"
    raise ValueError(
        f"calendar {calendar!r}{where} is unknown: exchange_calendars has, for example, XNYS, BVMF, XLON and 24/7"
    )


def _step(interval: str) -> int:
    if interval not in INTERVAL_SECONDS:
        raise ValueError(f"interval {interval!r} is unknown: use one of {', '.join(INTERVAL_SECONDS)}")
    return INTERVAL_SECONDS[interval] * 1_000_000


def _microseconds(timestamps: pl.Series) -> Integers:
    return timestamps.cast(TIME).to_physical().fill_null(_NEVER).to_numpy()


def _instant(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"the time {moment} has no zone: pass an aware one, for example in UTC")
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))


def _day_number(day: date) -> int:
    return (day - date(1970, 1, 1)).days


def _dates(name: str, days: Integers) -> pl.Series:
    return pl.Series(name, days).set(pl.Series(days == _NEVER), None).cast(pl.Date)


def _times(name: str, microseconds: Integers) -> pl.Series:
    return pl.Series(name, microseconds).set(pl.Series(microseconds == _NEVER), None).cast(TIME)
