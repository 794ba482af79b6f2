"""The rows of files: read from each one's start on, converted, and refused by symbol where a value cannot be read."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from alpha_assets.quant.calendars import session_of
from alpha_assets.quant.schema import DIVIDEND, INTERVAL_SECONDS, RAW_BARS, SPLIT, TIME
from alpha_assets.sources.file_access import File, Refusal, Refusals, opened, symbol_of
from alpha_assets.sources.file_columns import NUMBERS, header_of, holders_if_known, scan
from alpha_assets.sources.file_times import Layout, Reading, layout_of, not_written_before, with_timestamps

#: What writers of CSV put where there is no number.
NULL_WORDS = ("", "null", "none", "nan", "na", "n/a", "-")

#: Stamps of a daily series are a day apart, 23 hours over a change of the clocks; anything shorter is intraday.
_SHORTEST_DAY = timedelta(hours=20)

#: No calendar closes for days between most of its sessions: a usual step as long as this is a week or a month.
_LONGEST_DAY = timedelta(days=5)

#: Steps between the bars of a symbol from which a series is called too long, too fine or daily: fewer may be holidays
#: or thin trading.
_STEPS_OF_LONG, _STEPS_OF_FINE, _STEPS_OF_DAILY, _STEPS_OF_COARSE = 5, 2, 3, 10

_ROWS: Mapping[str, pl.DataType] = {
    **RAW_BARS,
    "adj_close": pl.Float64(),
    "dividend": pl.Float64(),
    "split": pl.Float64(),
    "row": pl.UInt32(),
    "file": pl.Int32(),
}

Row = Mapping[str, Any]


def gathered(
    files: Sequence[File], starts: Mapping[str, datetime], reading: Reading
) -> tuple[pl.DataFrame, Refusals, list[Refusal]]:
    """The rows of all files, why symbols are refused, and the files of which nobody knows the symbols.

    Files written alike are converted together: of a file a symbol there are hundreds, and each conversion has its
    price.
    """
    alike: dict[tuple[object, ...], list[tuple[Layout, pl.DataFrame]]] = {}
    refusals: Refusals = {}
    unread: list[Refusal] = []
    for number, file in enumerate(files):
        try:
            found = _raw(file, starts, reading)
            if found is not None:
                layout, rows = found
                numbered = rows.with_columns(file=pl.lit(number, pl.Int32))
                alike.setdefault((layout.clock, *rows.schema.items()), []).append((layout, numbered))
        except Refusal as refusal:
            holders = holders_if_known(file)
            if holders is None:
                unread.append(refusal)
            for symbol in holders or [symbol_of(file.path)]:
                refusals.setdefault(symbol, refusal)
    parts = [pl.DataFrame(schema=dict(_ROWS))]
    for written in alike.values():
        rows, refused = _converted(pl.concat(rows for _, rows in written), written[0][0], files, starts, reading)
        parts.append(rows)
        refusals = refused | refusals
    refusals = {symbol: refusal for symbol, refusal in refusals.items() if symbol in starts}
    # Of one symbol the files keep their order, whichever of them were converted together.
    rows = pl.concat(parts) if len(alike) <= 1 else pl.concat(parts).sort("file", maintain_order=True)
    return without(rows, refusals), refusals, unread


def without(rows: pl.DataFrame, refusals: Refusals) -> pl.DataFrame:
    """``rows`` of the symbols that are not refused."""
    return rows.filter(~pl.col("symbol").is_in(list(refusals))) if refusals else rows


def _raw(file: File, starts: Mapping[str, datetime], reading: Reading) -> tuple[Layout, pl.DataFrame] | None:
    """What ``file`` says of the symbols of ``starts``, values as they are written; None where it cannot hold one."""
    header = header_of(file)
    own = None if "symbol" in header.roles else symbol_of(file.path)
    if own is not None and own not in starts:
        return None
    layout = layout_of(file)
    if layout.clock.kind == "date" and reading.interval != "1d":
        raise Refusal(
            f"{header.where('time', 1)}: the file holds dates, so bars 1d apart, but "
            f"ALPHA_INTERVAL={reading.interval}; give files of that interval, or another home with theirs"
        )
    numbers = [role for role in NUMBERS if role != "adj_close" or reading.prices == "adjusted"]
    with opened(file.path):
        rows = scan(header, ["symbol", "time", *numbers]).filter(*_bounds(layout, starts)).collect()
    if own is not None:
        return layout, rows.with_columns(symbol=pl.lit(own))
    rows = rows.with_columns(pl.col("symbol").cast(pl.String))
    nameless = rows.filter(pl.col("symbol").is_null() | (pl.col("symbol") == ""))
    if not nameless.is_empty():
        raise Refusal(
            f"{header.where('symbol', nameless['row'][0])}: there is no symbol, so nobody knows whose row it is"
        )
    return layout, rows


def _converted(
    rows: pl.DataFrame, layout: Layout, files: Sequence[File], starts: Mapping[str, datetime], reading: Reading
) -> tuple[pl.DataFrame, Refusals]:
    """``rows`` of files written alike, from ``starts`` on, as _ROWS in their order; and who is refused for a value."""
    rows = with_timestamps(rows, layout, reading)
    rows = rows.filter(_not_before(starts) | pl.col("timestamp").is_null())
    refusals = _no_time(rows, files, reading) | _wrong_interval(rows, files, reading)
    rows, not_numbers = _with_numbers(rows, files)
    return rows.select(*_ROWS), not_numbers | refusals


def _bounds(layout: Layout, starts: Mapping[str, datetime]) -> list[pl.Expr]:
    """What a row must be to be looked at, on columns as the file holds them, so that a scan can leave out the rest."""
    header = layout.header
    bounds = not_written_before(layout, min(starts.values(), default=datetime.max.replace(tzinfo=UTC)))
    if "symbol" not in header.roles:
        return bounds
    symbol = pl.col("symbol") if isinstance(header.type("symbol"), pl.String) else pl.col("symbol").cast(pl.String)
    return [symbol.is_in(list(starts)) | symbol.is_null() | (symbol == ""), *bounds]


def _not_before(starts: Mapping[str, datetime]) -> pl.Expr:
    if len(set(starts.values())) == 1:
        return pl.col("timestamp") >= next(iter(starts.values()))
    return pl.col("timestamp") >= pl.col("symbol").replace_strict(starts, return_dtype=TIME, default=None)


def first_of_each(rows: pl.DataFrame) -> Iterator[Row]:
    """The first row of each symbol."""
    yield from rows.unique("symbol", keep="first", maintain_order=True).iter_rows(named=True)


def place(files: Sequence[File], row: Row, role: str) -> str:
    """File, column and row of a value; of one that its file lacks, the row's close."""
    header = header_of(files[row["file"]])
    return header.where(role if role in header.roles else "close", row["row"])


def _no_time(rows: pl.DataFrame, files: Sequence[File], reading: Reading) -> Refusals:
    refusals: Refusals = {}
    for row in first_of_each(rows.filter(pl.col("timestamp").is_null())):
        fault = f"{place(files, row, 'time')}: {row['symbol']} has no time there"
        if row["time"] is not None:
            zone = reading.naive_zone(row["symbol"])
            fault = (
                f"{place(files, row, 'time')}: {row['time']} comes twice or never in {zone}, where the clocks change; "
                "write times with their offset, or set ALPHA_FILES_TIMEZONE"
            )
        refusals[row["symbol"]] = Refusal(fault)
    return refusals


def _wrong_interval(rows: pl.DataFrame, files: Sequence[File], reading: Reading) -> Refusals:
    """Symbols whose bars usually are further apart, or less far, than the interval that is asked for."""
    length = timedelta(seconds=INTERVAL_SECONDS[reading.interval])
    apart = pl.col("moment").unique().sort().diff().drop_nulls()
    steps = rows.group_by("symbol").agg(pl.col("row", "file").first(), usual=apart.mode().min(), count=apart.len())
    usual, count = pl.col("usual"), pl.col("count")
    if reading.interval == "1d":
        wrong = (usual < _SHORTEST_DAY) | ((usual >= _LONGEST_DAY) & (count >= _STEPS_OF_LONG))
    else:
        daily = (usual >= _SHORTEST_DAY) & (count >= _STEPS_OF_DAILY)
        wrong = (
            daily | ((usual < length) & (count >= _STEPS_OF_FINE)) | ((usual > length) & (count >= _STEPS_OF_COARSE))
        )
    return {
        row["symbol"]: Refusal(
            f"{place(files, row, 'time')}: bars of {row['symbol']} are {_named(row['usual'])} apart, but "
            f"ALPHA_INTERVAL={reading.interval}; give files of that interval, or another home with theirs"
        )
        for row in steps.filter(wrong).iter_rows(named=True)
    }


def _named(span: timedelta) -> str:
    """A length of time in its greatest whole unit: 5m, 1h, 7d."""
    for unit, seconds in (("d", 86400), ("h", 3600), ("m", 60)):
        if span.total_seconds() % seconds == 0:
            return f"{span.total_seconds() / seconds:.0f}{unit}"
    return f"{span.total_seconds():g}s"


def _with_numbers(rows: pl.DataFrame, files: Sequence[File]) -> tuple[pl.DataFrame, Refusals]:
    """``rows`` with all numbers as f64, null where there is none or no event; and the symbols with one that is none."""
    present = [role for role in NUMBERS if role in rows.columns]
    numbers = {role: pl.col(role).cast(pl.Float64, strict=False).fill_nan(None) for role in present}
    wrong = {
        role: number.is_infinite() | (number.is_null() & pl.col(role).is_not_null()) for role, number in numbers.items()
    }
    wrong |= {role: wrong[role] | (numbers[role] < 0) for role in ("dividend", "split") if role in present}
    doubtful = rows.filter(pl.any_horizontal(wrong.values()))
    refusals: Refusals = {}
    for role in present if len(doubtful) else ():
        words = pl.col(role).cast(pl.String).str.to_lowercase().is_in(NULL_WORDS)
        for row in first_of_each(doubtful.filter(wrong[role] & ~words)):
            hint = "; a comma may mean thousands or decimals: write 1234.5" if "," in str(row[role]) else ""
            fault = f"{place(files, row, role)}: {row[role]!r} cannot be the {role} of {row['symbol']}{hint}"
            refusals.setdefault(row["symbol"], Refusal(fault))
    absent = [pl.lit(None, pl.Float64).alias(role) for role in NUMBERS if role not in present]
    rows = rows.with_columns(*(number.alias(role) for role, number in numbers.items()), *absent)
    split, dividend = pl.col("split"), pl.col("dividend")
    events = {"split": pl.when(~split.is_in([0.0, 1.0])).then(split), "dividend": pl.when(dividend != 0).then(dividend)}
    return rows.with_columns(**events), refusals


def events_of(rows: pl.DataFrame, reading: Reading) -> pl.DataFrame:
    """The splits and dividends of ``rows`` on their sessions: columns of ACTIONS, ``row`` and ``file``."""
    held = rows.filter(pl.col("split").is_not_null() | pl.col("dividend").is_not_null())
    if reading.interval == "1d":
        dated = held.with_columns(ex_date=pl.col("timestamp").dt.date())
    else:
        parts = held.partition_by("symbol", as_dict=True, maintain_order=True).items()
        dated = pl.concat(
            [held.clear().with_columns(ex_date=pl.lit(None, pl.Date))]
            + [part.with_columns(ex_date=_session(part["timestamp"], reading, str(name))) for (name,), part in parts]
        )
    return pl.concat(
        dated.filter(pl.col(role).is_not_null()).select(
            "symbol", "ex_date", pl.lit(kind).alias("kind"), pl.col(role).alias("value"), "row", "file"
        )
        for role, kind in (("split", SPLIT), ("dividend", DIVIDEND))
    )


def _session(starts: pl.Series, reading: Reading, symbol: str) -> pl.Series:
    """The session of each bar; of one on a day without session the date of the exchange."""
    there = starts.dt.convert_time_zone(reading.exchange_zone(symbol)).dt.date()
    return pl.select(pl.coalesce(session_of(reading.calendar(symbol), starts), there)).to_series()
