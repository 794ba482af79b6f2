"""Where the rows of files contradict each other, or what their prices are said to be; who is refused for it."""

from collections.abc import Sequence

import polars as pl

from alpha_assets.sources.file_access import File, Refusal, Refusals
from alpha_assets.sources.file_columns import NUMBERS, header_of
from alpha_assets.sources.file_rows import first_of_each, place

#: Rounding between a file's ``close`` and its ``adj_close`` where both are adjusted.
_ROUNDING = 1e-3


def unlike_actions(events: pl.DataFrame, files: Sequence[File]) -> Refusals:
    """Symbols with two different splits, or two dividends, on one session: a correction or two events, no file says."""
    key = ["symbol", "ex_date", "kind"]
    unlike = events.filter(pl.col("value").n_unique().over(key) > 1)
    refusals: Refusals = {}
    for row in first_of_each(unlike):
        same = unlike.filter(*(pl.col(name) == row[name] for name in key), pl.col("value") != row["value"])
        other = same.row(0, named=True)
        refusals[row["symbol"]] = Refusal(
            f"{place(files, other, row['kind'])}: a {row['kind']} of {row['symbol']} on {row['ex_date']} is "
            f"{other['value']}, but {row['value']} in {place(files, row, row['kind'])}; keep one, or their sum"
        )
    return refusals


def unlike_twins(rows: pl.DataFrame, files: Sequence[File]) -> Refusals:
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
    for first in first_of_each(unlike):
        same = unlike.filter(pl.col("symbol") == first["symbol"], pl.col("timestamp") == first["timestamp"])
        other = same.filter(pl.col("file") != first["file"]).row(0, named=True)
        role = next((name for name in values if other[name] != first[name]), "close")
        symbol = first["symbol"]
        refusals[symbol] = Refusal(
            f"{place(files, other, role)}: {symbol} of {other['timestamp']:%Y-%m-%d %H:%M} is {other[role]} there, "
            f"but {first[role]} in {place(files, first, role)}; keep one of them"
        )
    return refusals


def adjusted_or_not(rows: pl.DataFrame, files: Sequence[File]) -> Refusals:
    """Symbols with bars before a split that only another file knows: whether they are adjusted for it, no file says."""
    silent = [number for number in rows["file"].unique() if "split" not in header_of(files[number]).roles]
    splits = rows.filter(pl.col("split").is_not_null()).group_by("symbol").agg(split_on=pl.col("timestamp").max())
    unclear = (
        rows.filter(pl.col("file").is_in(silent))
        .join(splits, on="symbol")
        .filter(pl.col("timestamp") < pl.col("split_on"))
    )
    return {
        row["symbol"]: Refusal(
            f"{place(files, row, 'close')}: the file has no splits, but another one knows a split of {row['symbol']} "
            f"on {row['split_on']:%Y-%m-%d}; set ALPHA_FILES_PRICES to say whether prices are adjusted for it"
        )
        for row in first_of_each(unclear)
    }


def not_adjusted(rows: pl.DataFrame, files: Sequence[File]) -> Refusals:
    """Symbols said to be adjusted whose own adjusted close is another one."""
    apart = (pl.col("close") - pl.col("adj_close")).abs() > _ROUNDING * pl.col("adj_close").abs()
    return {
        row["symbol"]: Refusal(
            f"{place(files, row, 'close')}: {row['close']} is not the adjusted close {row['adj_close']}, but "
            "ALPHA_FILES_PRICES=adjusted; set it to what the prices are"
        )
        for row in first_of_each(rows.filter(apart))
    }
