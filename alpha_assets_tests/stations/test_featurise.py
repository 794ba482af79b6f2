"""The second station: only what is missing is computed, a changed past is computed anew, nothing stale is left.

That chunks give the features of one run, and that a kill at any write changes nothing, is proved in ``test_ingest.py``.
"""

from collections.abc import Callable
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
from alpha_assets.stations.ingest import ingest
from alpha_assets.stations.inspect import quarantine_verdict
from alpha_assets.stores.lake import Lake
from alpha_assets_tests.stations.market import House, Market, evening, simulated, soil


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


class Interrupted:
    """A lake beside which something else happens, once, right before a call."""

    def __init__(self, lake: Lake, call: str, table: str, meanwhile: Callable[[], object]) -> None:
        self._lake, self._call, self._table, self._meanwhile = lake, call, table, [meanwhile]

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._lake, name)

        def called(table: str, *given: Any, **named: Any) -> Any:
            if (name, table) == (self._call, self._table) and self._meanwhile:
                self._meanwhile.pop()()
            return method(table, *given, **named)

        return called


@pytest.mark.parametrize("first", ["features", "bars"])
def test_features_built_while_a_history_is_rewritten_are_built_again(
    house: House, market: Market, days: list[date], tmp_path: Path, first: str
) -> None:
    """Either station may be the one in the middle of which the other one runs."""
    name = house.symbols[0]
    market.change(name, days[97], lambda row: row | {key: row[key] * 1.02 for key in OHLC})
    house.refresh(days[100])
    market.change(name, days[98], lambda row: row | {key: row[key] * 1.03 for key in OHLC})
    if first == "features":
        # The features of the old bars are written after the bars were replaced.
        lake = Interrupted(house.lake, "replace", table_of(), lambda: house.refresh(days[101]))
        featurise(lake, house.ledger, house.settings, house.symbols)  # type: ignore[arg-type]
    else:
        # They are built between the mark and the bars.
        lake = Interrupted(house.lake, "replace", "bars", lambda: build(house))
        ingest(lake, house.ledger, {"market": market}, house.settings, house.symbols, evening(days[101]))  # type: ignore[arg-type]
    assert house.ledger.states()[name]["rebuild_features"]
    build(house)
    calm = House(tmp_path / "calm", market)
    calm.refresh(days[101])
    build(calm)
    assert_frame_equal(stored(house), stored(calm), rel_tol=1e-6, abs_tol=1e-7)


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
    state = house.ledger.states()[name]
    assert state["quarantine_cause"] == "impossible_action"
    assert state["quarantine_reason"] == report.partitions[name]["reason"]
    assert not quarantine_verdict(house.ledger).passed
    house.refresh(days[102])
    build(house)
    assert house.ledger.states()[name]["quarantine_cause"] == "impossible_action", "reading it again heals nothing"


def test_a_symbol_whose_features_are_built_again_leaves_this_quarantine_and_no_other(house: House) -> None:
    ours, theirs = house.symbols
    for name, cause in ((ours, "impossible_action"), (theirs, "outage")):
        house.ledger.note_state([{"symbol": name, "quarantine_cause": cause, "quarantine_reason": "because"}])
    build(house)
    states = house.ledger.states()
    assert (states[ours]["quarantine_cause"], states[theirs]["quarantine_cause"]) == (None, "outage")


@pytest.mark.parametrize("anew", [True, False])
def test_a_symbol_of_which_a_feature_raises_is_quarantined_and_the_others_are_built(
    house: House, days: list[date], anew: bool
) -> None:
    name, other = house.symbols
    house.refresh(days[100])
    bars = house.lake.read("bars", symbols=[name])
    wrong = pl.when(pl.int_range(pl.len()) == pl.len() - 1).then(-1.0).otherwise("close")
    house.lake.replace("bars", bars.with_columns(close=wrong), [name])
    house.ledger.note_state([{"symbol": symbol, "rebuild_features": anew} for symbol in house.symbols])
    report = featurise(house.lake, house.ledger, house.settings, house.symbols, now=evening(days[100]))
    assert report.partitions[other]["state"] == ("built" if anew else "updated")
    assert report.partitions[name]["state"] == "held"
    state = house.ledger.states()[name]
    assert (state["quarantine_cause"], state["quarantined_at"]) == ("features_failed", evening(days[100]))
    assert "prices must be positive" in state["quarantine_reason"]
    house.lake.replace("bars", bars, [name])
    build(house)
    assert house.ledger.states()[name]["quarantine_cause"] is None
    assert house.ledger.states()[name]["features_until"].date() == days[100]
