"""How far files reach: the last bar of each symbol, found without reading an unchanged file again."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache

import polars as pl

from alpha_assets.quant.schema import TIME
from alpha_assets.sources.file_access import FILES_REMEMBERED, File, Refusal, opened, symbol_of
from alpha_assets.sources.file_columns import header_of, scan
from alpha_assets.sources.file_times import Layout, Reading, layout_of, with_timestamps


def newest_bars(file: File, bounds: Mapping[str, datetime], reading: Reading) -> dict[str, datetime]:
    """The last bar of each symbol of ``bounds`` not after its bound; of a refused file none, ``fetch`` says why."""
    try:
        header = header_of(file)
        if "symbol" not in header.roles and symbol_of(file.path) not in bounds:
            return {}
        last = _last_bars(file, reading)
        found = {symbol: last[symbol] for symbol, bound in bounds.items() if symbol in last and last[symbol] <= bound}
        unfinished = {symbol: bound for symbol, bound in bounds.items() if symbol in last and last[symbol] > bound}
        return found | (_last_bars_until(file, unfinished, reading) if unfinished else {})
    except Refusal:
        return {}


@lru_cache(maxsize=FILES_REMEMBERED)
def _last_bars(file: File, reading: Reading) -> Mapping[str, datetime]:
    layout = layout_of(file)
    rows = _times(layout)
    if not isinstance(layout.header.type("time"), pl.String):
        # Text has no order of its own; other types do, and a maximum of millions of rows is found without converting
        # them.
        rows = rows.group_by("symbol").agg(pl.col("time").max())
    return _newest(rows, layout, reading)


def _last_bars_until(file: File, bounds: Mapping[str, datetime], reading: Reading) -> dict[str, datetime]:
    layout = layout_of(file)
    wanted = _times(layout).filter(pl.col("symbol").is_in(list(bounds)))
    over = pl.col("timestamp") <= pl.col("symbol").replace_strict(bounds, return_dtype=TIME, default=None)
    return _newest(wanted, layout, reading, over)


def _times(layout: Layout) -> pl.LazyFrame:
    header = layout.header
    rows = scan(header, ["symbol", "time"])
    own = pl.col("symbol").cast(pl.String) if "symbol" in header.roles else pl.lit(symbol_of(header.file.path))
    return rows.select("time", symbol=own).drop_nulls()


def _newest(rows: pl.LazyFrame, layout: Layout, reading: Reading, over: pl.Expr | None = None) -> dict[str, datetime]:
    with opened(layout.header.file.path):
        collected = rows.collect()
    dated = with_timestamps(collected, layout, reading)
    newest = (
        (dated if over is None else dated.filter(over)).group_by("symbol").agg(pl.col("timestamp").max()).drop_nulls()
    )
    return dict(newest.iter_rows())
