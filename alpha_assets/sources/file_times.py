"""How the times of a file are written: the one reading that its whole column allows, and what it comes to in UTC."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

import polars as pl

from alpha_assets.quant.calendars import calendar_name, timezone
from alpha_assets.quant.schema import TIME
from alpha_assets.sources.file_access import FILES_REMEMBERED, File, Refusal, opened
from alpha_assets.sources.file_columns import Header, check_columns, header_of, scan

#: Shapes of a date as text, with the formats that could read it.
_DATE_SHAPES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"\d{4}-\d{1,2}-\d{1,2}", ("%Y-%m-%d",)),
    (r"\d{4}/\d{1,2}/\d{1,2}", ("%Y/%m/%d",)),
    (r"\d{4}\.\d{1,2}\.\d{1,2}", ("%Y.%m.%d",)),
    (r"\d{8}", ("%Y%m%d",)),
    (r"\d{1,2}/\d{1,2}/\d{4}", ("%d/%m/%Y", "%m/%d/%Y")),
    (r"\d{1,2}-\d{1,2}-\d{4}", ("%d-%m-%Y", "%m-%d-%Y")),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y", "%m.%d.%Y")),
    (r"\d{1,2}-[A-Za-z]{3}-\d{4}", ("%d-%b-%Y",)),
    (r"\d{1,2} [A-Za-z]{3} \d{4}", ("%d %b %Y",)),
    (r"[A-Za-z]{3} \d{1,2}, \d{4}", ("%b %d, %Y",)),
)
_CLOCK_SHAPE = (
    r"(?P<gap>[T ])\d{1,2}:\d{2}(?P<seconds>:\d{2}(?P<fraction>\.\d+)?)?"
    r"(?P<zone>(?P<blank> ?)(?P<offset>Z|UTC|[+-]\d{2}:?\d{2}))?"
)
_TIME_SHAPES = tuple((re.compile(f"{shape}(?:{_CLOCK_SHAPE})?"), formats) for shape, formats in _DATE_SHAPES)
_OFFSET = r" ?[+-]\d{2}:?\d{2}$"
_INTEGER = re.compile(r"[+-]?\d+(\.0+)?")

Unit = Literal["s", "ms", "us", "ns"]

#: Units of a number since 1970, by its greatest magnitude (each reaches to the year 2103), and how many make a
#: microsecond or are made of one.
_UNITS: tuple[tuple[Unit, int], ...] = (
    ("s", 4_200_000_000),
    ("ms", 4_200_000_000_000),
    ("us", 4_200_000_000_000_000),
    ("ns", 2**63),
)
_MICROSECONDS: Mapping[Unit, float] = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_DAY_NUMBERS = (19000101, 21001231)

#: 20200131 with the time of day behind it, which lies within the numbers since 1970 too.
_STAMP_NUMBERS = ((190001010000, 210012312359), (19000101000000, 21001231235959))

#: Daylight saving and the widest offset of any zone: how much earlier a bound on unconverted times has to begin.
_WIDEST_SHIFT = timedelta(days=2)


class Reading(NamedTuple):
    """The settings that decide what a file means; hashable, since what is remembered depends on them."""

    interval: str
    zone: str | None
    prices: str | None
    calendars: tuple[tuple[str, str], ...]

    def calendar(self, symbol: str) -> str:
        """The name of the symbol's calendar."""
        return calendar_name(symbol, dict(self.calendars))

    def exchange_zone(self, symbol: str) -> str:
        """The zone of the symbol's exchange."""
        return timezone(self.calendar(symbol))

    def naive_zone(self, symbol: str) -> str:
        """The zone of the symbol's intraday times that say none."""
        return self.zone or self.exchange_zone(symbol)


@dataclass(frozen=True)
class Clock:
    """How the values of a time column become times.

    They are dates (``date``), times of day without a zone (``wall``) or with one (``instant``). ``format`` reads text,
    ``unit`` numbers since 1970, "day" numbers like 20200131; neither: the column is of a time type.
    """

    kind: Literal["date", "wall", "instant"]
    format: str | None = None
    unit: Unit | Literal["day"] | None = None


@dataclass(frozen=True)
class Layout:
    """The one way in which a file can be read."""

    header: Header
    clock: Clock


@lru_cache(maxsize=FILES_REMEMBERED)
def layout_of(file: File) -> Layout:
    """The one reading that the columns of ``file`` allow; a refusal where there are several or none."""
    header = header_of(file)
    check_columns(header)
    return Layout(header, _clock(header))


def _clock(header: Header) -> Clock:
    """The one reading of the time column; looks at every value where the type alone does not say."""
    kind = header.type("time")
    if isinstance(kind, pl.Date):
        return Clock("date")
    if isinstance(kind, pl.Datetime):
        return Clock("instant" if kind.time_zone else "wall")
    with opened(header.file.path):
        values = scan(header, ["time"]).drop_nulls().collect()
    if values.is_empty():
        return Clock("date")
    if isinstance(kind, pl.String):
        return _text_clock(header, values)
    return _number_clock(header, values)


def _text_clock(header: Header, values: pl.DataFrame) -> Clock:
    first = str(values["time"][0])
    if _INTEGER.fullmatch(first):
        return _number_clock(header, values)
    for shape, formats in _TIME_SHAPES:
        if match := shape.fullmatch(first):
            return _one_clock(header, values, [_clock_of(match, date_format) for date_format in formats])
    raise Refusal(f"{header.where('time', values['row'][0])}: {first!r} is no time known here; write 2020-01-31 15:30")


def _clock_of(match: re.Match[str], date_format: str) -> Clock:
    part = match.groupdict()
    if not part["gap"]:
        return Clock("date", date_format)
    seconds = ":%S%.f" if part["fraction"] else ":%S" if part["seconds"] else ""
    wall = f"{date_format}{part['gap']}%H:%M{seconds}"
    if not part["zone"]:
        return Clock("wall", wall)
    return Clock("instant", wall + part["blank"] + (part["offset"] if part["offset"] in ("Z", "UTC") else "%z"))


def _one_clock(header: Header, values: pl.DataFrame, clocks: Sequence[Clock]) -> Clock:
    """The clock that reads the whole column; two that do (day or month first) leave it open, with none it is mixed."""
    unread = [values.filter(_wall(clock, pl.String()).is_null()) for clock in clocks]
    fitting = [clock for clock, rows in zip(clocks, unread, strict=True) if rows.is_empty()]
    first = values.row(0, named=True)
    if len(fitting) > 1:
        raise Refusal(
            f"{header.where('time', first['row'])}: {first['time']!r} may begin with the day or the month, and no "
            "value of the column decides it; write dates as 2020-01-31"
        )
    if not fitting:
        odd = min(unread, key=len).row(0, named=True)
        raise Refusal(
            f"{header.where('time', odd['row'])}: {odd['time']!r} is not written like {first['time']!r} in row "
            f"{first['row']}; write all times in one format"
        )
    return fitting[0]


def _number_clock(header: Header, values: pl.DataFrame) -> Clock:
    """Seconds to nanoseconds since 1970 by magnitude, or 20200131."""
    whole = values.with_columns(number=_whole(header.type("time")))
    _refuse_first(header, whole.filter(pl.col("number").is_null()), "is no whole number as the others are")
    magnitude = pl.col("number").abs()
    if whole.select(pl.col("number").is_between(*_DAY_NUMBERS).all()).item():
        clock = Clock("date", unit="day")
        _refuse_first(header, values.filter(_wall(clock, header.type("time")).is_null()), "is no date like 20200131")
        return clock
    greatest = whole.select(magnitude.max()).item()
    position = next(i for i, (_, limit) in enumerate(_UNITS) if greatest < limit)
    unit, smallest = _UNITS[position][0], _UNITS[position - 1][1] if position else 0
    stamps = [pl.col("number").is_between(*bounds).all() for bounds in _STAMP_NUMBERS]
    if whole.select(pl.any_horizontal(stamps)).item():
        _refuse_first(
            header, whole, f"may be a date with the time of day, or {unit} since 1970; write it as 2020-01-31 15:30"
        )
    stray = (magnitude < smallest) | (pl.col("number").is_between(*_DAY_NUMBERS) if position == 0 else False)
    _refuse_first(
        header, whole.filter(stray), f"does not count {unit} since 1970 as the others do; write all times in one format"
    )
    return Clock("instant", unit=unit)


def _refuse_first(header: Header, rows: pl.DataFrame, fault: str) -> None:
    if not rows.is_empty():
        first = rows.row(0, named=True)
        raise Refusal(f"{header.where('time', first['row'])}: {first['time']!r} {fault}")


def _whole(kind: pl.DataType) -> pl.Expr:
    """Column ``time`` as whole numbers; null where one is not."""
    column = pl.col("time")
    if isinstance(kind, pl.String):
        return column.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    return pl.when(column == column.cast(pl.Int64, strict=False)).then(column.cast(pl.Int64, strict=False))


def _wall(clock: Clock, kind: pl.DataType) -> pl.Expr:
    """Column ``time`` as it is written, without its zone (of numbers since 1970, UTC); null where it is not so."""
    column = pl.col("time")
    if clock.unit == "day":
        return _whole(kind).cast(pl.String).str.to_datetime("%Y%m%d", time_unit="us", strict=False)
    if clock.unit:
        return _instant(clock, kind).dt.replace_time_zone(None)
    if clock.format is None:
        return (column.dt.replace_time_zone(None) if clock.kind == "instant" else column).cast(pl.Datetime("us"))
    if not clock.format.endswith("%z"):
        return column.str.to_datetime(clock.format, time_unit="us", strict=False)
    wall = column.str.replace(_OFFSET, "").str.to_datetime(
        clock.format.removesuffix("%z").rstrip(), time_unit="us", strict=False
    )
    return pl.when(_instant(clock, kind).is_not_null()).then(wall)


def _instant(clock: Clock, kind: pl.DataType) -> pl.Expr:
    """Column ``time`` in UTC, for times that say their zone."""
    column = pl.col("time")
    if clock.unit and clock.unit != "day":
        factor = _MICROSECONDS[clock.unit]
        return (_whole(kind) * int(factor) if factor >= 1 else _whole(kind) // round(1 / factor)).cast(TIME)
    if clock.format is None:
        return column.dt.convert_time_zone("UTC").cast(TIME)
    if clock.format.endswith("%z"):
        return column.str.to_datetime(clock.format, time_unit="us", time_zone="UTC", strict=False)
    return _wall(clock, kind).dt.replace_time_zone("UTC")


def with_timestamps(rows: pl.DataFrame, layout: Layout, reading: Reading) -> pl.DataFrame:
    """``rows`` with ``timestamp`` as bars have it, and ``moment``, time of day kept, to see how far bars are apart."""
    clock, kind = layout.clock, layout.header.type("time")
    if reading.interval != "1d":
        return _with_starts(rows, clock, kind, reading)
    rows = rows.with_columns(moment=_wall(clock, kind))
    date = pl.col("moment").dt.date()
    if clock.kind != "instant":
        return rows.with_columns(timestamp=date.cast(TIME))
    rows = rows.with_columns(instant=_instant(clock, kind))
    midnight, midnight_utc = (pl.col(name).dt.truncate("1d") == pl.col(name) for name in ("moment", "instant"))
    rows = rows.with_columns(date=pl.when(midnight).then(date).when(midnight_utc).then(pl.col("instant").dt.date()))
    elsewhere = rows.filter(pl.col("date").is_null())["symbol"].unique()
    if len(elsewhere):
        there = _by_zone(
            elsewhere, reading.exchange_zone, lambda zone: pl.col("instant").dt.convert_time_zone(zone).dt.date()
        )
        rows = rows.with_columns(date=pl.coalesce("date", there))
    return rows.with_columns(timestamp=pl.col("date").cast(TIME)).drop("instant", "date")


def _with_starts(rows: pl.DataFrame, clock: Clock, kind: pl.DataType, reading: Reading) -> pl.DataFrame:
    """Intraday: an hour that the change of the clocks leaves out, or repeats, gives no timestamp."""
    if clock.kind == "instant":
        return rows.with_columns(timestamp=_instant(clock, kind)).with_columns(moment="timestamp")
    rows = rows.with_columns(wall=_wall(clock, kind))
    naive = pl.col("wall").dt
    start = _by_zone(
        rows["symbol"].unique(),
        reading.naive_zone,
        lambda zone: naive.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC"),
    )
    return rows.with_columns(timestamp=start, moment=pl.col("wall")).drop("wall")


def _by_zone(symbols: pl.Series, zone_of: Callable[[str], str], read: Callable[[str], pl.Expr]) -> pl.Expr:
    """``read(zone)`` for the symbols of each zone."""
    zones: dict[str, list[str]] = {}
    for symbol in symbols:
        zones.setdefault(zone_of(symbol), []).append(symbol)
    if len(zones) == 1:
        return read(next(iter(zones)))
    chosen = pl.lit(None)
    for zone, members in zones.items():
        chosen = pl.when(pl.col("symbol").is_in(members)).then(read(zone)).otherwise(chosen)
    return chosen


def not_written_before(layout: Layout, earliest: datetime) -> list[pl.Expr]:
    """Conditions on ``time`` as the file holds it that no row from ``earliest`` on fails; text has no order: none."""
    kind, unit = layout.header.type("time"), layout.clock.unit
    earliest -= _WIDEST_SHIFT
    if isinstance(kind, pl.Date):
        bound = pl.lit(earliest.date())
    elif isinstance(kind, pl.Datetime):
        bound = pl.lit(earliest if kind.time_zone else earliest.replace(tzinfo=None)).cast(kind)
    elif not kind.is_numeric() or unit is None:
        return []
    elif unit == "day":
        bound = pl.lit(int(f"{earliest:%Y%m%d}"))
    else:
        bound = pl.lit(int(earliest.timestamp() * 1e6 / _MICROSECONDS[unit]))
    return [(pl.col("time") >= bound) | pl.col("time").is_null()]
