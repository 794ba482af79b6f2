"""Which column of a file is what: their spellings, what a header leaves open, and the columns under their own names.

A file is refused where two columns could play one role, a role has none, or a line of a CSV has other fields.
"""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import polars as pl

from alpha_assets.quant.schema import OHLC, OHLCV
from alpha_assets.sources.base import Cause
from alpha_assets.sources.file_access import (
    CSV_SUFFIXES,
    FILES_REMEMBERED,
    NOT_TEXT,
    File,
    Refusal,
    opened,
    symbol_of,
    text_of,
)

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

_SEPARATORS = (",", ";", "\t", "|")
_PUNCTUATION = r"[\s_.\-<>/()]"


@dataclass(frozen=True)
class Header:
    """The columns of a file before any value is looked at; ``roles``: the positions of those that could play each."""

    file: File
    names: tuple[str, ...]
    types: tuple[pl.DataType, ...]
    separator: str | None
    roles: Mapping[str, tuple[int, ...]]

    def name(self, role: str) -> str:
        """The name of the column that plays ``role``."""
        return self.names[self.roles[role][0]]

    def type(self, role: str) -> pl.DataType:
        """The type of the column that plays ``role``; of a CSV always text."""
        return self.types[self.roles[role][0]]

    def where(self, role: str, row: int) -> str:
        """File, column and row: the opening of a refusal."""
        line = f" (line {row + 1})" if self.separator else ""
        return f"{self.file.path}, column {self.name(role)!r}, row {row}{line}"


@lru_cache(maxsize=FILES_REMEMBERED)
def header_of(file: File) -> Header:
    """The columns of ``file``, of which nothing but the header is read."""
    with opened(file.path):
        if not file.path.name.lower().endswith(CSV_SUFFIXES):
            schema = pl.scan_parquet(file.path, glob=False, hive_partitioning=False).collect_schema()
            return Header(file, tuple(schema.names()), tuple(schema.dtypes()), None, _roles(schema.names()))
        with text_of(file.path) as text:
            line = text.readline()
        if NOT_TEXT in line:
            fault = f"{file.path}, header row: {line.strip()!r} is not UTF-8 text; write the file as UTF-8"
            raise Refusal(fault, Cause.MALFORMED)
        separator = max(_SEPARATORS, key=line.count)
        names = next(csv.reader([line], delimiter=separator), [])
        return Header(file, tuple(names), (pl.String(),) * len(names), separator, _roles(names))


def _roles(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    spelled = [re.sub(r"^\d+", "", re.sub(_PUNCTUATION, "", name.lower())) for name in names]
    roles = {role: tuple(i for i, name in enumerate(spelled) if name in known) for role, known in SPELLINGS.items()}
    roles["symbol"] = roles["symbol"] or tuple(i for i, name in enumerate(spelled) if name == WEAK_SYMBOL_SPELLING)
    return {role: positions for role, positions in roles.items() if positions}


def check_columns(header: Header) -> None:
    """Refuse a file whose columns, time aside, allow several readings or none."""
    _check_doubles(header)
    missing = [role for role in REQUIRED if role not in header.roles]
    if missing:
        raise Refusal(
            f"{header.file.path}, header row: no column is the {' or the '.join(missing)}; "
            f"it has {_quoted(header.names)}"
        )
    volumes = [name for name in header.names if "volume" in name.lower()]
    if volumes and "volume" not in header.roles:
        raise Refusal(
            f"{header.file.path}, header row: {_quoted(volumes)} may count units or money; "
            "name the one of units 'volume'"
        )
    _check_types(header)
    if header.separator is not None:
        _check_fields(header, header.separator)


def _check_doubles(header: Header) -> None:
    for role, positions in header.roles.items():
        if len(positions) > 1:
            both = " and ".join(repr(header.names[position]) for position in positions)
            raise Refusal(f"{header.file.path}, header row: the columns {both} could both be the {role}; keep one")


def _quoted(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown or "none"


def _check_types(header: Header) -> None:
    for role in header.roles:
        kind = header.type(role)
        if role == "symbol":
            fits = kind.is_integer() or kind in (pl.String, pl.Categorical, pl.Enum)
        elif role == "time":
            fits = kind.is_numeric() or kind in (pl.String, pl.Date, pl.Datetime)
        else:
            fits = kind.is_numeric() or kind in (pl.String, pl.Null)
        if not fits:
            raise Refusal(f"{header.where(role, 1)}: its values are of type {kind}, which cannot be the {role}")


def _check_fields(header: Header, separator: str) -> None:
    """Refuse a CSV with a line of more or fewer fields than the header.

    Polars fills a short line, the last one of a cut file say, with nulls.
    """
    path = header.file.path
    with opened(path):
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
        replaced = lines.select(pl.col("line").str.contains(NOT_TEXT, literal=True).any()).item()
        if counts["line"].n_unique() <= 1 and not replaced:
            return
        with text_of(path) as text:
            for row, fields in enumerate(csv.reader(text, delimiter=separator)):
                _check_line(header, row, fields)


def _check_line(header: Header, row: int, fields: Sequence[str]) -> None:
    where = f"{header.file.path}, column {{!r}}, row {row} (line {row + 1})"
    expected = len(header.names)
    if fields and len(fields) != expected:
        column = header.names[min(len(fields), expected - 1)]
        raise Refusal(
            f"{where.format(column)}: the row has {len(fields)} fields, the header {expected}; the file was cut, "
            f"or a field that holds {header.separator!r} is not quoted",
            Cause.MALFORMED,
        )
    for name, value in zip(header.names, fields, strict=False):
        if NOT_TEXT in value:
            raise Refusal(
                f"{where.format(name)}: {value!r} is not UTF-8 text; write the file as UTF-8", Cause.MALFORMED
            )


def scan(header: Header, roles: Iterable[str]) -> pl.LazyFrame:
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


@lru_cache(maxsize=FILES_REMEMBERED)
def holders(file: File) -> frozenset[str]:
    """The symbols in ``file``, whatever else is wrong with it; a refusal where its columns do not say."""
    header = header_of(file)
    if "symbol" not in header.roles:
        return frozenset([symbol_of(file.path)])
    if len(header.roles["symbol"]) > 1:
        _check_doubles(header)
    with opened(file.path):
        found = scan(header, ["symbol"]).select(pl.col("symbol").unique().cast(pl.String)).collect()
    return frozenset(found["symbol"].drop_nulls())


def holders_if_known(file: File) -> frozenset[str] | None:
    """The symbols in ``file``; None where they cannot be read."""
    try:
        return holders(file)
    except Refusal:
        return None
