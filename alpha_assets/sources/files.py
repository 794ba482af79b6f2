"""Bars from the user's own Parquet or CSV files: the usual spellings are understood, anything ambiguous is refused.

Files are the input most easily read wrongly in silence: 03/04/2020 is March or April, 1,234 is a thousand or a little
more than one, a second ``close`` is adjusted or is not, and 202001311530 is a minute of 2020 or a millisecond of 1976.
A reader that guesses is right for years and then moves a whole history by a month. So a column is read only where **the
column as a whole** allows one reading, and a refusal names file, column and row. Rows count from 1 after the header; of
a CSV the line of the text is given too.

What is remembered between calls is small (the reading of each file, its symbols, the last bar of each), belongs to the
process and is keyed by path, modification time and size: a sensor tick costs one ``stat`` a file, and a changed file is
read again. Prices are never kept: a read of the tail pushes the time bound down into Parquet and converts only the rows
that it delivers.

Nothing is dropped here but the empty lines of a CSV: null prices, double keys and times in the future are delivered as
they are, since cleaning accounts for every row.
"""

import csv
import glob
import gzip
import logging
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import polars as pl
from polars.exceptions import PolarsError

from alpha_assets.quant.adjust import as_traded, dividends_as_paid, from_adjusted
from alpha_assets.quant.calendars import calendar_name, newest_final, session_of, timezone
from alpha_assets.quant.schema import ACTIONS, DIVIDEND, INTERVAL_SECONDS, OHLC, OHLCV, RAW_BARS, SPLIT, TIME
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, Failure, Fetched, SourceUnavailable

logger = logging.getLogger(__name__)

CSV_SUFFIXES = (".csv.gz", ".csv")
SUFFIXES = (".parquet", ".pq", *CSV_SUFFIXES)

#: Spellings of each column, in lower case without spaces, punctuation and a leading number ("4. close").
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "symbol": ("symbol", "ticker", "instrument", "tic"),
    "time": ("time", "date", "datetime", "timestamp", "opentime", "windowstart", "tradedate", "unix", "ts", "t"),
    "open": ("open", "o", "openprice"),
    "high": ("high", "h", "highprice"),
    "low": ("low", "l", "lowprice"),
    "close": ("close", "c", "closeprice", "closelast"),
    "volume": ("volume", "vol", "v"),
    "adj_close": ("adjclose", "adjustedclose", "adjcloseprice", "closeadj"),
    "dividend": ("dividend", "dividends", "div", "dividendamount", "divcash"),
    "split": ("split", "splits", "stocksplit", "stocksplits", "splitratio", "splitcoefficient", "splitfactor"),
}
#: May be a company's name too: the symbol only where no other column is.
WEAK_SYMBOL_SPELLING = "name"

REQUIRED = ("time", *OHLC)
NUMBERS = (*OHLCV, "adj_close", "dividend", "split")

#: What writers of CSV put where there is no number.
NULL_WORDS = ("", "null", "none", "nan", "na", "n/a", "-")

_SEPARATORS = (",", ";", "\t", "|")
_NOT_TEXT = "\ufffd"
_PUNCTUATION = r"[\s_.\-<>/()]"

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

#: Stamps of a daily series are a day apart, 23 hours over a change of the clocks; anything shorter is intraday.
_SHORTEST_DAY = timedelta(hours=20)
#: No calendar closes for days between most of its sessions: a usual step as long as this is a week or a month.
_LONGEST_DAY = timedelta(days=5)
#: Steps between the bars of a symbol from which a series is called too long, too fine or daily: fewer may be holidays
#: or thin trading.
_STEPS_OF_LONG, _STEPS_OF_FINE, _STEPS_OF_DAILY, _STEPS_OF_COARSE = 5, 2, 3, 10

#: Rounding between a file's ``close`` and its ``adj_close`` where both are adjusted.
_ROUNDING = 1e-3

#: Daylight saving and the widest offset of any zone: how much earlier a bound on unconverted times has to begin.
_WIDEST_SHIFT = timedelta(days=2)

_FILES_REMEMBERED = 16_384


class File(NamedTuple):
    """A file as it was seen: changed content is another ``File``, so what is remembered of one is never stale."""

    path: Path
    modified_ns: int
    size: int


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


class _Refusal(Exception):
    """A file that is not read, or not for some symbols; the message names file, column and row."""

    def __init__(self, message: str, cause: Cause = Cause.REFUSED) -> None:
        super().__init__(message)
        self.cause = cause


Refusals = dict[str, _Refusal]


@dataclass(frozen=True)
class _Header:
    """The columns of a file before any value is looked at; ``roles``: the positions of those that could play each."""

    file: File
    names: tuple[str, ...]
    types: tuple[pl.DataType, ...]
    separator: str | None
    roles: Mapping[str, tuple[int, ...]]

    def name(self, role: str) -> str:
        return self.names[self.roles[role][0]]

    def type(self, role: str) -> pl.DataType:
        return self.types[self.roles[role][0]]

    def where(self, role: str, row: int) -> str:
        """File, column and row: the opening of a refusal."""
        line = f" (line {row + 1})" if self.separator else ""
        return f"{self.file.path}, column {self.name(role)!r}, row {row}{line}"


@dataclass(frozen=True)
class _Clock:
    """How the values of a time column become times.

    They are dates (``date``), times of day without a zone (``wall``) or with one (``instant``). ``format`` reads text,
    ``unit`` numbers since 1970, "day" numbers like 20200131; neither: the column is of a time type.
    """

    kind: Literal["date", "wall", "instant"]
    format: str | None = None
    unit: Unit | Literal["day"] | None = None


@dataclass(frozen=True)
class _Layout:
    """The one way in which a file can be read."""

    header: _Header
    clock: _Clock


class Files:
    """The source ``files``: one file or many, long (a symbol column) or one file a symbol (named after it).

    ``settings`` says where they are (``files``: a file, a folder, searched to any depth, or a glob), what naive
    intraday times mean (``files_timezone``) and what the prices are (``files_prices``). No state: two instances, or two
    processes, answer alike.
    """

    name = "files"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        calendars = tuple(sorted(settings.calendars.items()))
        self._reading = Reading(settings.interval, settings.files_timezone, settings.files_prices, calendars)

    def fetch(self, symbols: Sequence[str], since: Mapping[str, datetime | None], now: datetime) -> Fetched:
        """Bars as traded and actions of ``symbols``, each from its ``since`` (None: from the history start).

        Bars come as the files hold them, in file order, the ones after ``now`` included: cleaning names those. Actions
        after ``now`` do not: they have not happened. A value that cannot be read fails its symbol, a file that cannot
        be read every symbol in it; the others go on. Raises SourceUnavailable where there is no file at all.
        """
        files = self._files()
        begin = datetime.combine(self._settings.history_start, time(), UTC)
        starts = {symbol: since.get(symbol) or begin for symbol in symbols}
        rows, refusals, unread = _gathered(files, starts, self._reading)
        events = _events(rows, self._reading)
        refusals |= _unlike_actions(events, files) | _unlike_twins(rows, files) | self._unclear_prices(rows, files)
        silent = sorted(starts.keys() - refusals.keys() - set(rows["symbol"].unique()))
        new = {symbol for symbol in symbols if since.get(symbol) is None}
        refusals |= self._absent(silent, new, files, unread)
        bars, actions = self._as_traded(_without(rows, refusals), _without(events, refusals))
        happened = actions.filter(pl.col("ex_date") <= now.astimezone(UTC).date())
        return Fetched(
            bars, happened, {symbol: Failure(symbol, why.cause, str(why)) for symbol, why in refusals.items()}
        )

    def complete_until(self, symbols: Sequence[str], now: datetime) -> dict[str, datetime | None]:
        """The last bar that the files hold of each symbol and that is over, lag included, by ``now``; else None.

        Reads nothing while the files are unchanged. None for every symbol also where no file matches: ``fetch`` says
        so.
        """
        newest: dict[str, datetime | None] = dict.fromkeys(symbols)
        files = _matching(self._settings.files or "")
        if not files:
            return newest
        calendars = {symbol: self._reading.calendar(symbol) for symbol in symbols}
        final = {calendar: self._newest_final(calendar, now) for calendar in set(calendars.values())}
        bounds = {symbol: bound for symbol in symbols if (bound := final[calendars[symbol]])}
        for file in files:
            for symbol, last in _newest_bars(file, bounds, self._reading).items():
                held = newest[symbol]
                newest[symbol] = last if held is None else max(held, last)
        return newest

    def symbols(self) -> list[str]:
        """Every symbol the files hold, sorted; a file of which not even the symbols can be read is logged and left out.

        Raises SourceUnavailable where there is no file at all.
        """
        held: set[str] = set()
        for file in self._files():
            try:
                held |= _holders(file)
            except _Refusal as refusal:
                logger.warning("left out: %s", refusal)
        return sorted(held)

    def _files(self) -> list[File]:
        if self._settings.files is None:
            raise SourceUnavailable(
                "the source files needs ALPHA_FILES: a file, a folder or a glob of Parquet or CSV files"
            )
        files = _matching(self._settings.files)
        if not files:
            raise SourceUnavailable(
                f"ALPHA_FILES={self._settings.files}: no Parquet or CSV file there "
                f"(looked for {', '.join(SUFFIXES)} from {Path.cwd()}); name a file, a folder or a glob"
            )
        return files

    def _newest_final(self, calendar: str, now: datetime) -> datetime | None:
        return newest_final(calendar, self._reading.interval, now, self._settings.final_lag)

    def _unclear_prices(self, rows: pl.DataFrame, files: Sequence[File]) -> Refusals:
        """Symbols whose files contradict what their prices are said, or by default taken, to be."""
        if self._reading.prices == "adjusted":
            return _not_adjusted(rows, files)
        if self._reading.prices is None:
            return _adjusted_or_not(rows, files)
        return {}

    def _absent(
        self, symbols: Sequence[str], new: set[str], files: Sequence[File], unread: Sequence[_Refusal]
    ) -> Refusals:
        """Why no row came of ``symbols``; nothing for one that the files hold and that is not new: it has nothing new.

        While a file cannot be read at all a symbol is not unknown: that file may be the one that holds it.
        """
        if not symbols:
            return {}
        held = {symbol for file in files for symbol in _holders_if_known(file) or ()}
        alike = {symbol.strip().upper(): symbol for symbol in held}
        refusals: Refusals = {}
        for symbol in symbols:
            if symbol in held and symbol in new:
                refusals[symbol] = self._no_data(symbol)
            elif symbol not in held and unread:
                refusals[symbol] = _Refusal(f"{symbol} is in no file that could be read; {unread[0]}", Cause.MALFORMED)
            elif symbol not in held:
                refusals[symbol] = self._unknown(symbol, alike.get(symbol.strip().upper()), len(held))
        return refusals

    def _no_data(self, symbol: str) -> _Refusal:
        start = self._settings.history_start
        return _Refusal(
            f"{symbol} has no row since ALPHA_HISTORY_START={start} in ALPHA_FILES={self._settings.files}",
            Cause.NO_DATA,
        )

    def _unknown(self, symbol: str, alike: str | None, held: int) -> _Refusal:
        hint = f"they hold {alike!r}: spell it so" if alike else f"they hold {held} other symbols"
        return _Refusal(f"{symbol} is in no file of ALPHA_FILES={self._settings.files}; {hint}", Cause.UNKNOWN_SYMBOL)

    def _as_traded(self, rows: pl.DataFrame, events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Bars and actions, prices brought back to what was traded and dividends to what was paid.

        Without ALPHA_FILES_PRICES nothing is converted: a file with splits is as traded, one without knows of none.
        """
        bars, order = rows.select(*RAW_BARS), ["symbol", "ex_date", "kind"]
        actions = events.select(*ACTIONS).unique(maintain_order=True).sort(order, maintain_order=True)
        if self._reading.prices in (None, "as-traded") or actions.is_empty():
            return bars, actions
        paid = dividends_as_paid(actions)
        convert = as_traded if self._reading.prices == "split-adjusted" else from_adjusted
        return convert(bars, paid, self._reading.interval, dict(self._reading.calendars)), paid


# --- Which files there are, and which columns they have


def _matching(pattern: str) -> list[File]:
    """The Parquet and CSV files of a file, folder or glob, by path; in a folder, hidden ones are nobody's data."""
    if not pattern:
        return []
    place = Path(pattern).expanduser()
    found: Iterable[Path]
    if place.is_dir():
        found = (
            path for path in place.rglob("*") if not any(part[0] in "._" for part in path.relative_to(place).parts)
        )
    elif place.exists():
        found = [place]
    else:
        found = (Path(name) for name in glob.glob(str(place), recursive=True))  # noqa: PTH207 (Path has no absolute patterns)
    files = []
    for path in sorted(found):
        # One that is being replaced may be gone by now: the next call sees its successor.
        with suppress(FileNotFoundError):
            if path.name.lower().endswith(SUFFIXES) and stat.S_ISREG((seen := path.stat()).st_mode):
                files.append(File(path, seen.st_mtime_ns, seen.st_size))
    return files


def _symbol_of(path: Path) -> str:
    """The name of a file without its suffix: BRK.B.csv.gz is BRK.B."""
    suffix = next(suffix for suffix in CSV_SUFFIXES + SUFFIXES if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]


@contextmanager
def _opened(path: Path) -> Iterator[None]:
    """Whatever a reader says of a broken file, as one refusal that names the file."""
    try:
        yield
    except (PolarsError, OSError, EOFError, zlib.error, csv.Error) as error:
        reason = " ".join(str(error).splitlines()[:1]) or type(error).__name__
        raise _Refusal(f"{path} cannot be read ({reason}): write it again, CSV as UTF-8", Cause.MALFORMED) from error


def _text(path: Path) -> TextIO:
    """The text of a CSV, packed or not, without a byte-order mark; _NOT_TEXT stands for what is not UTF-8."""
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


@lru_cache(maxsize=_FILES_REMEMBERED)
def _header(file: File) -> _Header:
    with _opened(file.path):
        if not file.path.name.lower().endswith(CSV_SUFFIXES):
            schema = pl.scan_parquet(file.path, glob=False, hive_partitioning=False).collect_schema()
            return _Header(file, tuple(schema.names()), tuple(schema.dtypes()), None, _roles(schema.names()))
        with _text(file.path) as text:
            line = text.readline()
        if _NOT_TEXT in line:
            fault = f"{file.path}, header row: {line.strip()!r} is not UTF-8 text; write the file as UTF-8"
            raise _Refusal(fault, Cause.MALFORMED)
        separator = max(_SEPARATORS, key=line.count)
        names = next(csv.reader([line], delimiter=separator), [])
        return _Header(file, tuple(names), (pl.String(),) * len(names), separator, _roles(names))


def _roles(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    spelled = [re.sub(r"^\d+", "", re.sub(_PUNCTUATION, "", name.lower())) for name in names]
    roles = {role: tuple(i for i, name in enumerate(spelled) if name in known) for role, known in SPELLINGS.items()}
    roles["symbol"] = roles["symbol"] or tuple(i for i, name in enumerate(spelled) if name == WEAK_SYMBOL_SPELLING)
    return {role: positions for role, positions in roles.items() if positions}


@lru_cache(maxsize=_FILES_REMEMBERED)
def _layout(file: File) -> _Layout:
    """The one reading that the columns of ``file`` allow; a refusal where there are several or none."""
    header = _header(file)
    for role, positions in header.roles.items():
        if len(positions) > 1:
            both = " and ".join(repr(header.names[position]) for position in positions)
            raise _Refusal(f"{file.path}, header row: the columns {both} could both be the {role}; keep one")
    missing = [role for role in REQUIRED if role not in header.roles]
    if missing:
        raise _Refusal(
            f"{file.path}, header row: no column is the {' or the '.join(missing)}; it has {_quoted(header.names)}"
        )
    volumes = [name for name in header.names if "volume" in name.lower()]
    if volumes and "volume" not in header.roles:
        raise _Refusal(
            f"{file.path}, header row: {_quoted(volumes)} may count units or money; name the one of units 'volume'"
        )
    _check_types(header)
    if header.separator is not None:
        _check_fields(header, header.separator)
    return _Layout(header, _clock(header))


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "none"


def _check_types(header: _Header) -> None:
    for role in header.roles:
        kind = header.type(role)
        if role == "symbol":
            fits = kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum)
        elif role == "time":
            fits = kind.is_numeric() or kind in (pl.String, pl.Date, pl.Datetime)
        else:
            fits = kind.is_numeric() or kind in (pl.String, pl.Null)
        if not fits:
            raise _Refusal(f"{header.where(role, 1)}: its values are of type {kind}, which cannot be the {role}")


def _check_fields(header: _Header, separator: str) -> None:
    """Refuse a CSV with a line of more or fewer fields than the header.

    Polars fills a short line, the last one of a cut file say, with nulls.
    """
    path = header.file.path
    with _opened(path):
        lines = pl.read_csv(
            path,
            separator="\x1f",
            quote_char=None,
            has_header=False,
            schema={"line": pl.String},
            truncate_ragged_lines=True,
            encoding="utf8-lossy",
        )
        counts = lines.drop_nulls().select(pl.col("line").str.count_matches(separator, literal=True))
        replaced = lines.select(pl.col("line").str.contains(_NOT_TEXT, literal=True).any()).item()
        if counts["line"].n_unique() <= 1 and not replaced:
            return
        with _text(path) as text:
            for row, fields in enumerate(csv.reader(text, delimiter=separator)):
                _check_line(header, row, fields)


def _check_line(header: _Header, row: int, fields: Sequence[str]) -> None:
    where = f"{header.file.path}, column {{!r}}, row {row} (line {row + 1})"
    expected = len(header.names)
    if fields and len(fields) != expected:
        column = header.names[min(len(fields), expected - 1)]
        raise _Refusal(
            f"{where.format(column)}: the row has {len(fields)} fields, the header {expected}; the file was cut, "
            f"or a field that holds {header.separator!r} is not quoted",
            Cause.MALFORMED,
        )
    for name, value in zip(header.names, fields, strict=False):
        if _NOT_TEXT in value:
            raise _Refusal(
                f"{where.format(name)}: {value!r} is not UTF-8 text; write the file as UTF-8", Cause.MALFORMED
            )


def _scan(header: _Header, roles: Iterable[str]) -> pl.LazyFrame:
    """``roles`` of the file under their own names, and ``row`` from 1; the text of a CSV without blanks around it."""
    path, present = header.file.path, [role for role in roles if role in header.roles]
    if header.separator is None:
        columns = {role: header.name(role) for role in present}
        frame = pl.scan_parquet(path, row_index_name="row", row_index_offset=1, glob=False, hive_partitioning=False)
    else:
        columns = {role: str(header.roles[role][0]) for role in present}
        frame = pl.scan_csv(
            path,
            separator=header.separator,
            has_header=False,
            skip_lines=1,
            schema={str(position): pl.String for position in range(len(header.names))},
            truncate_ragged_lines=True,
            row_index_name="row",
            row_index_offset=1,
            glob=False,
        )
    frame = frame.select("row", **{role: pl.col(name) for role, name in columns.items()})
    if header.separator is None:
        return frame
    stripped = frame.with_columns(pl.col(role).str.strip_chars() for role in present)
    return stripped.filter(~pl.all_horizontal(pl.col(present).is_null()))


@lru_cache(maxsize=_FILES_REMEMBERED)
def _holders(file: File) -> frozenset[str]:
    """The symbols in ``file``, whatever else is wrong with it; a refusal where its columns do not say."""
    header = _header(file)
    if "symbol" not in header.roles:
        return frozenset([_symbol_of(file.path)])
    if len(header.roles["symbol"]) > 1:
        _layout(file)
    with _opened(file.path):
        found = _scan(header, ["symbol"]).select(pl.col("symbol").unique().cast(pl.String)).collect()
    return frozenset(found["symbol"].drop_nulls())


def _holders_if_known(file: File) -> frozenset[str] | None:
    try:
        return _holders(file)
    except _Refusal:
        return None


# --- How times are written


def _clock(header: _Header) -> _Clock:
    """The one reading of the time column; looks at every value where the type alone does not say."""
    kind = header.type("time")
    if isinstance(kind, pl.Date):
        return _Clock("date")
    if isinstance(kind, pl.Datetime):
        return _Clock("instant" if kind.time_zone else "wall")
    with _opened(header.file.path):
        values = _scan(header, ["time"]).drop_nulls().collect()
    if values.is_empty():
        return _Clock("date")
    if isinstance(kind, pl.String):
        return _text_clock(header, values)
    return _number_clock(header, values)


def _text_clock(header: _Header, values: pl.DataFrame) -> _Clock:
    first = str(values["time"][0])
    if _INTEGER.fullmatch(first):
        return _number_clock(header, values)
    for shape, formats in _TIME_SHAPES:
        if match := shape.fullmatch(first):
            return _one_clock(header, values, [_clock_of(match, date_format) for date_format in formats])
    raise _Refusal(f"{header.where('time', values['row'][0])}: {first!r} is no time known here; write 2020-01-31 15:30")


def _clock_of(match: re.Match[str], date_format: str) -> _Clock:
    part = match.groupdict()
    if not part["gap"]:
        return _Clock("date", date_format)
    seconds = ":%S%.f" if part["fraction"] else ":%S" if part["seconds"] else ""
    wall = f"{date_format}{part['gap']}%H:%M{seconds}"
    if not part["zone"]:
        return _Clock("wall", wall)
    return _Clock("instant", wall + part["blank"] + (part["offset"] if part["offset"] in ("Z", "UTC") else "%z"))


def _one_clock(header: _Header, values: pl.DataFrame, clocks: Sequence[_Clock]) -> _Clock:
    """The clock that reads the whole column; two that do (day or month first) leave it open, with none it is mixed."""
    unread = [values.filter(_wall(clock, pl.String()).is_null()) for clock in clocks]
    fitting = [clock for clock, rows in zip(clocks, unread, strict=True) if rows.is_empty()]
    first = values.row(0, named=True)
    if len(fitting) > 1:
        raise _Refusal(
            f"{header.where('time', first['row'])}: {first['time']!r} may begin with the day or the month, and no "
            "value of the column decides it; write dates as 2020-01-31"
        )
    if not fitting:
        odd = min(unread, key=len).row(0, named=True)
        raise _Refusal(
            f"{header.where('time', odd['row'])}: {odd['time']!r} is not written like {first['time']!r} in row "
            f"{first['row']}; write all times in one format"
        )
    return fitting[0]


def _number_clock(header: _Header, values: pl.DataFrame) -> _Clock:
    """Seconds to nanoseconds since 1970 by magnitude, or 20200131."""
    whole = values.with_columns(number=_whole(header.type("time")))
    _refuse_first(header, whole.filter(pl.col("number").is_null()), "is no whole number as the others are")
    magnitude = pl.col("number").abs()
    if whole.select(pl.col("number").is_between(*_DAY_NUMBERS).all()).item():
        clock = _Clock("date", unit="day")
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
    return _Clock("instant", unit=unit)


def _refuse_first(header: _Header, rows: pl.DataFrame, fault: str) -> None:
    if not rows.is_empty():
        first = rows.row(0, named=True)
        raise _Refusal(f"{header.where('time', first['row'])}: {first['time']!r} {fault}")


def _whole(kind: pl.DataType) -> pl.Expr:
    """Column ``time`` as whole numbers; null where one is not."""
    column = pl.col("time")
    if isinstance(kind, pl.String):
        return column.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    return pl.when(column == column.cast(pl.Int64, strict=False)).then(column.cast(pl.Int64, strict=False))


def _wall(clock: _Clock, kind: pl.DataType) -> pl.Expr:
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


def _instant(clock: _Clock, kind: pl.DataType) -> pl.Expr:
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


def _with_timestamps(rows: pl.DataFrame, layout: _Layout, reading: Reading) -> pl.DataFrame:
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


def _with_starts(rows: pl.DataFrame, clock: _Clock, kind: pl.DataType, reading: Reading) -> pl.DataFrame:
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


# --- The rows of a file

_ROWS: Mapping[str, pl.DataType] = {
    **RAW_BARS,
    "adj_close": pl.Float64(),
    "dividend": pl.Float64(),
    "split": pl.Float64(),
    "row": pl.UInt32(),
    "file": pl.Int32(),
}


def _gathered(
    files: Sequence[File], starts: Mapping[str, datetime], reading: Reading
) -> tuple[pl.DataFrame, Refusals, list[_Refusal]]:
    """The rows of all files, why symbols are refused, and the files of which nobody knows the symbols.

    Files written alike are converted together: of a file a symbol there are hundreds, and each conversion has its
    price.
    """
    alike: dict[tuple[object, ...], list[tuple[_Layout, pl.DataFrame]]] = {}
    refusals: Refusals = {}
    unread: list[_Refusal] = []
    for number, file in enumerate(files):
        try:
            found = _raw(file, starts, reading)
            if found is not None:
                layout, rows = found
                numbered = rows.with_columns(file=pl.lit(number, pl.Int32))
                alike.setdefault((layout.clock, *rows.schema.items()), []).append((layout, numbered))
        except _Refusal as refusal:
            holders = _holders_if_known(file)
            if holders is None:
                unread.append(refusal)
            for symbol in holders or [_symbol_of(file.path)]:
                refusals.setdefault(symbol, refusal)
    parts = [pl.DataFrame(schema=dict(_ROWS))]
    for written in alike.values():
        rows, refused = _converted(pl.concat(rows for _, rows in written), written[0][0], files, starts, reading)
        parts.append(rows)
        refusals = refused | refusals
    refusals = {symbol: refusal for symbol, refusal in refusals.items() if symbol in starts}
    # Of one symbol the files keep their order, whichever of them were converted together.
    rows = pl.concat(parts) if len(alike) <= 1 else pl.concat(parts).sort("file", maintain_order=True)
    return _without(rows, refusals), refusals, unread


def _without(rows: pl.DataFrame, refusals: Refusals) -> pl.DataFrame:
    return rows.filter(~pl.col("symbol").is_in(list(refusals))) if refusals else rows


def _raw(file: File, starts: Mapping[str, datetime], reading: Reading) -> tuple[_Layout, pl.DataFrame] | None:
    """What ``file`` says of the symbols of ``starts``, values as they are written; None where it cannot hold one."""
    header = _header(file)
    own = None if "symbol" in header.roles else _symbol_of(file.path)
    if own is not None and own not in starts:
        return None
    layout = _layout(file)
    if layout.clock.kind == "date" and reading.interval != "1d":
        raise _Refusal(
            f"{header.where('time', 1)}: the file holds dates, so bars 1d apart, but "
            f"ALPHA_INTERVAL={reading.interval}; give files of that interval, or another home with theirs"
        )
    numbers = [role for role in NUMBERS if role != "adj_close" or reading.prices == "adjusted"]
    with _opened(file.path):
        rows = _scan(header, ["symbol", "time", *numbers]).filter(*_bounds(layout, starts)).collect()
    if own is not None:
        return layout, rows.with_columns(symbol=pl.lit(own))
    rows = rows.with_columns(pl.col("symbol").cast(pl.String))
    nameless = rows.filter(pl.col("symbol").is_null() | (pl.col("symbol") == ""))
    if not nameless.is_empty():
        raise _Refusal(
            f"{header.where('symbol', nameless['row'][0])}: there is no symbol, so nobody knows whose row it is"
        )
    return layout, rows


def _converted(
    rows: pl.DataFrame, layout: _Layout, files: Sequence[File], starts: Mapping[str, datetime], reading: Reading
) -> tuple[pl.DataFrame, Refusals]:
    """``rows`` of files written alike, from ``starts`` on, as _ROWS in their order; and who is refused for a value."""
    rows = _with_timestamps(rows, layout, reading)
    rows = rows.filter(_not_before(starts) | pl.col("timestamp").is_null())
    refusals = _no_time(rows, files, reading) | _wrong_interval(rows, files, reading)
    rows, not_numbers = _with_numbers(rows, files)
    return rows.select(*_ROWS), not_numbers | refusals


def _bounds(layout: _Layout, starts: Mapping[str, datetime]) -> list[pl.Expr]:
    """What a row must be to be looked at, on columns as the file holds them, so that a scan can leave out the rest."""
    bounds = []
    header, kind, unit = layout.header, layout.header.type("time"), layout.clock.unit
    if "symbol" in header.roles:
        symbol = pl.col("symbol") if isinstance(header.type("symbol"), pl.String) else pl.col("symbol").cast(pl.String)
        bounds.append(symbol.is_in(list(starts)) | symbol.is_null() | (symbol == ""))
    earliest = min(starts.values(), default=datetime.max.replace(tzinfo=UTC)) - _WIDEST_SHIFT
    bound: pl.Expr | None = None
    if isinstance(kind, pl.Date):
        bound = pl.lit(earliest.date())
    elif isinstance(kind, pl.Datetime):
        bound = pl.lit(earliest if kind.time_zone else earliest.replace(tzinfo=None)).cast(kind)
    elif kind.is_numeric() and unit == "day":
        bound = pl.lit(int(f"{earliest:%Y%m%d}"))
    elif kind.is_numeric() and unit is not None and unit != "day":
        bound = pl.lit(int(earliest.timestamp() * 1e6 / _MICROSECONDS[unit]))
    if bound is not None:
        bounds.append((pl.col("time") >= bound) | pl.col("time").is_null())
    return bounds


def _not_before(starts: Mapping[str, datetime]) -> pl.Expr:
    if len(set(starts.values())) == 1:
        return pl.col("timestamp") >= next(iter(starts.values()))
    return pl.col("timestamp") >= pl.col("symbol").replace_strict(starts, return_dtype=TIME, default=None)


Row = Mapping[str, Any]


def _first_of_each(rows: pl.DataFrame) -> Iterator[Row]:
    """The first row of each symbol."""
    yield from rows.unique("symbol", keep="first", maintain_order=True).iter_rows(named=True)


def _place(files: Sequence[File], row: Row, role: str) -> str:
    """File, column and row of a value; of one that its file lacks, the row's close."""
    header = _header(files[row["file"]])
    return header.where(role if role in header.roles else "close", row["row"])


def _no_time(rows: pl.DataFrame, files: Sequence[File], reading: Reading) -> Refusals:
    refusals: Refusals = {}
    for row in _first_of_each(rows.filter(pl.col("timestamp").is_null())):
        fault = f"{_place(files, row, 'time')}: {row['symbol']} has no time there"
        if row["time"] is not None:
            zone = reading.naive_zone(row["symbol"])
            fault = (
                f"{_place(files, row, 'time')}: {row['time']} comes twice or never in {zone}, where the clocks change; "
                "write times with their offset, or set ALPHA_FILES_TIMEZONE"
            )
        refusals[row["symbol"]] = _Refusal(fault)
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
        row["symbol"]: _Refusal(
            f"{_place(files, row, 'time')}: bars of {row['symbol']} are {_named(row['usual'])} apart, but "
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
        for row in _first_of_each(doubtful.filter(wrong[role] & ~words)):
            hint = "; a comma may mean thousands or decimals: write 1234.5" if "," in str(row[role]) else ""
            fault = f"{_place(files, row, role)}: {row[role]!r} cannot be the {role} of {row['symbol']}{hint}"
            refusals.setdefault(row["symbol"], _Refusal(fault))
    absent = [pl.lit(None, pl.Float64).alias(role) for role in NUMBERS if role not in present]
    rows = rows.with_columns(*(number.alias(role) for role, number in numbers.items()), *absent)
    split, dividend = pl.col("split"), pl.col("dividend")
    events = {"split": pl.when(~split.is_in([0.0, 1.0])).then(split), "dividend": pl.when(dividend != 0).then(dividend)}
    return rows.with_columns(**events), refusals


def _events(rows: pl.DataFrame, reading: Reading) -> pl.DataFrame:
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


def _unlike_actions(events: pl.DataFrame, files: Sequence[File]) -> Refusals:
    """Symbols with two different splits, or two dividends, on one session: a correction or two events, no file says."""
    key = ["symbol", "ex_date", "kind"]
    unlike = events.filter(pl.col("value").n_unique().over(key) > 1)
    refusals: Refusals = {}
    for row in _first_of_each(unlike):
        same = unlike.filter(*(pl.col(name) == row[name] for name in key), pl.col("value") != row["value"])
        other = same.row(0, named=True)
        refusals[row["symbol"]] = _Refusal(
            f"{_place(files, other, row['kind'])}: a {row['kind']} of {row['symbol']} on {row['ex_date']} is "
            f"{other['value']}, but {row['value']} in {_place(files, row, row['kind'])}; keep one, or their sum"
        )
    return refusals


# --- The last bars


def _newest_bars(file: File, bounds: Mapping[str, datetime], reading: Reading) -> dict[str, datetime]:
    """The last bar of each symbol of ``bounds`` not after its bound; of a refused file none, ``fetch`` says why."""
    try:
        header = _header(file)
        if "symbol" not in header.roles and _symbol_of(file.path) not in bounds:
            return {}
        last = _last_bars(file, reading)
        found = {symbol: last[symbol] for symbol, bound in bounds.items() if symbol in last and last[symbol] <= bound}
        unfinished = {symbol: bound for symbol, bound in bounds.items() if symbol in last and last[symbol] > bound}
        return found | (_last_bars_until(file, unfinished, reading) if unfinished else {})
    except _Refusal:
        return {}


@lru_cache(maxsize=_FILES_REMEMBERED)
def _last_bars(file: File, reading: Reading) -> Mapping[str, datetime]:
    layout = _layout(file)
    rows = _times(layout)
    if not isinstance(layout.header.type("time"), pl.String):
        # Text has no order of its own; other types do, and a maximum of millions of rows is found without converting
        # them.
        rows = rows.group_by("symbol").agg(pl.col("time").max())
    return _newest(rows, layout, reading)


def _last_bars_until(file: File, bounds: Mapping[str, datetime], reading: Reading) -> dict[str, datetime]:
    layout = _layout(file)
    wanted = _times(layout).filter(pl.col("symbol").is_in(list(bounds)))
    over = pl.col("timestamp") <= pl.col("symbol").replace_strict(bounds, return_dtype=TIME, default=None)
    return _newest(wanted, layout, reading, over)


def _times(layout: _Layout) -> pl.LazyFrame:
    header = layout.header
    rows = _scan(header, ["symbol", "time"])
    own = pl.col("symbol").cast(pl.String) if "symbol" in header.roles else pl.lit(_symbol_of(header.file.path))
    return rows.select("time", symbol=own).drop_nulls()


def _newest(rows: pl.LazyFrame, layout: _Layout, reading: Reading, over: pl.Expr | None = None) -> dict[str, datetime]:
    with _opened(layout.header.file.path):
        collected = rows.collect()
    dated = _with_timestamps(collected, layout, reading)
    newest = (
        (dated if over is None else dated.filter(over)).group_by("symbol").agg(pl.col("timestamp").max()).drop_nulls()
    )
    return dict(newest.iter_rows())


# --- What files say of each other


def _unlike_twins(rows: pl.DataFrame, files: Sequence[File]) -> Refusals:
    """Symbols of which two files hold one bar with different values; doubles within a file are left to cleaning."""
    shared = rows.group_by("symbol").agg(pl.col("file").n_unique()).filter(pl.col("file") > 1)["symbol"]
    if shared.is_empty():
        return {}
    key, values = ["symbol", "timestamp"], ["close", *(name for name in NUMBERS if name != "close")]
    twins = rows.filter(pl.col("symbol").is_in(shared.implode())).filter(pl.struct(key).is_duplicated())
    unlike = twins.filter(
        (pl.col("file").n_unique().over(key) > 1)
        & pl.any_horizontal(pl.col(name).n_unique().over(key) > 1 for name in values)
    )
    refusals: Refusals = {}
    for first in _first_of_each(unlike):
        same = unlike.filter(pl.col("symbol") == first["symbol"], pl.col("timestamp") == first["timestamp"])
        other = same.filter(pl.col("file") != first["file"]).row(0, named=True)
        role = next((name for name in values if other[name] != first[name]), "close")
        symbol = str(first["symbol"])
        refusals[symbol] = _Refusal(
            f"{_place(files, other, role)}: {symbol} of {other['timestamp']:%Y-%m-%d %H:%M} is {other[role]} there, "
            f"but {first[role]} in {_place(files, first, role)}; keep one of them"
        )
    return refusals


def _adjusted_or_not(rows: pl.DataFrame, files: Sequence[File]) -> Refusals:
    """Symbols with bars before a split that only another file knows: whether they are adjusted for it, no file says."""
    silent = [number for number, file in enumerate(files) if "split" not in _header_roles(file)]
    splits = rows.filter(pl.col("split").is_not_null()).group_by("symbol").agg(split_on=pl.col("timestamp").max())
    unclear = (
        rows.filter(pl.col("file").is_in(silent))
        .join(splits, on="symbol")
        .filter(pl.col("timestamp") < pl.col("split_on"))
    )
    return {
        str(row["symbol"]): _Refusal(
            f"{_place(files, row, 'close')}: the file has no splits, but another one knows a split of {row['symbol']} "
            f"on {row['split_on']:%Y-%m-%d}; set ALPHA_FILES_PRICES to say whether prices are adjusted for it"
        )
        for row in _first_of_each(unclear)
    }


def _header_roles(file: File) -> Mapping[str, tuple[int, ...]]:
    try:
        return _header(file).roles
    except _Refusal:
        return {}


def _not_adjusted(rows: pl.DataFrame, files: Sequence[File]) -> Refusals:
    """Symbols said to be adjusted whose own adjusted close is another one."""
    apart = (pl.col("close") - pl.col("adj_close")).abs() > _ROUNDING * pl.col("adj_close").abs()
    return {
        str(row["symbol"]): _Refusal(
            f"{_place(files, row, 'close')}: {row['close']} is not the adjusted close {row['adj_close']}, but "
            "ALPHA_FILES_PRICES=adjusted; set it to what the prices are"
        )
        for row in _first_of_each(rows.filter(apart))
    }
