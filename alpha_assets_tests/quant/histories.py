"""Small histories of one symbol by hand, as profiles see them, and how two documents are compared."""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.profile_schema import leaves
from alpha_assets.quant.profiles import Series, series_of
from alpha_assets.quant.schema import ACTIONS, TIME

START = date(2020, 1, 1)  # a Wednesday
NAMES = {"SYM": "24/7", "A": "24/7"}


def bars_of(*prices: float | None, volume: float | None = 10.0, symbol: str = "SYM") -> pl.DataFrame:
    """A bar every day, as traded."""
    days = [datetime.combine(START, datetime.min.time(), UTC) + timedelta(days=day) for day in range(len(prices))]
    columns = {"symbol": [symbol] * len(prices), "timestamp": days, "close": prices, "volume": [volume] * len(prices)}
    schema = {"symbol": pl.String(), "timestamp": TIME, "close": pl.Float64(), "volume": pl.Float64()}
    return pl.DataFrame(columns, schema=schema).with_columns(
        listing=pl.lit(START), flags=pl.lit(None, pl.String), open="close", high="close", low="close"
    )


def actions_of(*events: tuple[date, str, float], symbol: str = "SYM") -> pl.DataFrame:
    return pl.DataFrame([(symbol, *event) for event in events], schema=dict(ACTIONS), orient="row")


def series(bars: pl.DataFrame, actions: pl.DataFrame | None = None) -> Series:
    """The series of the one symbol in ``bars``, adjusted for ``actions``."""
    events = actions_of() if actions is None else actions
    traded = bars.with_columns(traded_close="close", traded_volume="volume")
    whole = adjusted(traded, events, calendars=NAMES).with_columns(volume="traded_volume")
    done, wrong = series_of(whole, events, "1d", NAMES)
    assert not wrong
    return next(iter(done.values()))


def closes(*prices: float) -> Series:
    return series(bars_of(*prices))


def flat(document: Mapping[str, Any]) -> dict[str, Any]:
    return dict(leaves(document))


def assert_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Equal field by field, numbers to 1e-9."""
    one, other = flat(found), flat(expected)
    assert one.keys() == other.keys()
    for path, value in other.items():
        if isinstance(value, float):
            assert math.isclose(one[path], value, rel_tol=1e-9, abs_tol=1e-9), (path, one[path], value)
        else:
            assert one[path] == value, path
