"""The second station: only what is missing is computed, a changed past is computed anew, nothing stale is left.

That chunks give the features of one run, and that a kill at any write changes nothing, is proved in ``test_ingest.py``.
"""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from alpha_assets.quant.indicators import DEFAULT
from alpha_assets.quant.schema import DIVIDEND, OHLC
from alpha_assets.stations.base import Report
from alpha_assets.stations.featurise import featurise, table_of
from alpha_assets_tests.stations.market import House, Market, simulated, soil


@pytest.fixture
def market() -> Market:
    """Seven months of two symbols: longer than every window of a feature, shorter than the longest memory."""
    return simulated(2, date(2020, 1, 2), date(2020, 7, 31), split_rate=0.0, dividend_share=0.0)


@pytest.fixture
def days(market: Market) -> list[date]:
    return market.sessions()


@pytest.fixture
def house(tmp_path: Path, market: Market, days: list[date]) -> House:
    """A home with features up to the hundredth session."""
    house = House(tmp_path, market)
    house.refresh(days[99])
    build(house)
    return house


def build(house: House) -> Report:
    return featurise(house.lake, house.ledger, house.settings, house.symbols)


def stored(house: House) -> pl.DataFrame:
    return house.lake.read(table_of())


def test_the_first_run_builds_a_row_a_bar_and_the_next_one_says_unchanged(house: House) -> None:
    bars = house.lake.read("bars", columns=["symbol", "timestamp"])
    assert_frame_equal(stored(house).select("symbol", "timestamp"), bars)
    assert set(stored(house).columns) == {"symbol", "timestamp", *DEFAULT.columns}
    assert set(stored(house).select(DEFAULT.columns).dtypes) == {pl.Float32}
    version = house.lake.version(table_of())
    assert build(house).states() == {"unchanged": 2}
    assert house.lake.version(table_of()) == version


def test_an_update_adds_the_new_bars_and_rewrites_nothing(house: House, days: list[date]) -> None:
    before = stored(house)
    house.refresh(days[101])
    report = build(house)
    assert (report.totals["updated"], report.totals["rows"]) == (2, 4)
    newest = before["timestamp"].max()
    assert_frame_equal(stored(house).filter(pl.col("timestamp") <= newest), before)
    states = house.ledger.states()
    assert {states[name]["features_until"].date() for name in house.symbols} == {days[101]}


def test_a_restated_bar_builds_its_symbol_anew_and_only_it(house: House, market: Market, days: list[date]) -> None:
    changed, other = house.symbols
    before = stored(house)
    market.change(changed, days[97], lambda row: row | {name: row[name] * 1.02 for name in OHLC})
    house.refresh(days[100])
    report = build(house)
    assert report.partitions[changed] | {"state": "built", "rows": 101} == report.partitions[changed]
    assert report.partitions[other]["state"] == "updated"
    assert not house.ledger.states()[changed]["rebuild_features"]
    moved = before.join(stored(house), on=before.columns, how="anti", nulls_equal=True)
    assert set(moved["symbol"]) == {changed}
    assert moved["timestamp"].dt.date().min() == days[97]


def test_the_features_of_a_bar_that_is_gone_are_gone(house: House, market: Market, days: list[date]) -> None:
    name = house.symbols[0]
    soil(market, name, days[100], "level_error")
    house.refresh(days[100])
    build(house)
    assert days[100] in stored(house).filter(pl.col("symbol") == name)["timestamp"].dt.date().to_list()
    house.refresh(days[101])
    build(house)
    dates = stored(house).filter(pl.col("symbol") == name)["timestamp"].dt.date().to_list()
    assert days[100] not in dates
    assert days[101] in dates


class Rival:
    """A lake in which the bars are rewritten right after they were read."""

    def __init__(self, house: House, rewrite: Any) -> None:
        self._house, self._rewrite = house, rewrite

    def __getattr__(self, name: str) -> Any:
        return getattr(self._house.lake, name)

    def read(self, table: str, **asked: Any) -> pl.DataFrame:
        found = self._house.lake.read(table, **asked)
        if table == "bars" and self._rewrite is not None:
            self._rewrite, rewrite = None, self._rewrite
            rewrite()
        return found


def test_a_history_rewritten_while_its_features_are_built_is_built_again(
    house: House, market: Market, days: list[date], tmp_path: Path
) -> None:
    name = house.symbols[0]

    def restate(place: int, by: float) -> None:
        market.change(name, days[place], lambda row: row | {key: row[key] * by for key in OHLC})

    restate(97, 1.02)
    house.refresh(days[100])

    def rewrite() -> None:
        restate(98, 1.03)
        house.refresh(days[101])

    featurise(Rival(house, rewrite), house.ledger, house.settings, house.symbols)  # type: ignore[arg-type]
    assert house.ledger.states()[name]["rebuild_features"]
    build(house)
    calm = House(tmp_path / "calm", market)
    calm.refresh(days[101])
    build(calm)
    assert_frame_equal(stored(house), stored(calm), abs_tol=1e-6)


def test_a_symbol_without_bars_is_empty(tmp_path: Path, market: Market) -> None:
    report = build(House(tmp_path, market))
    assert report.states() == {"empty": 2}
    assert report.totals["rows"] == 0


def test_a_dividend_above_the_price_holds_its_symbol_and_no_other(
    house: House, market: Market, days: list[date]
) -> None:
    name, other = house.symbols
    market.act(name, days[100], DIVIDEND, 1e6)
    house.refresh(days[101])
    report = build(house)
    assert report.partitions[name]["state"] == "held"
    assert "is not below the last close before it" in report.partitions[name]["reason"]
    assert report.partitions[other]["state"] == "updated"
    assert house.ledger.states()[name]["features_until"].date() == days[99]
