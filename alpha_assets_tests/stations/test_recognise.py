"""Pattern outcomes: written once, settled when they are known, built anew where the past has changed."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from alpha_assets.quant.parameters import PatternParameters
from alpha_assets.quant.patterns import HORIZONS, events, outcomes
from alpha_assets.quant.schema import DIVIDEND, OHLC
from alpha_assets.stations.base import Report
from alpha_assets.stations.recognise import TABLE, recognise
from alpha_assets.stations.series import adjusted_bars, calendars_of, with_known_at
from alpha_assets_tests.stations.market import House, Market, evening, simulated, soil


@pytest.fixture
def market() -> Market:
    """Fourteen months of two symbols with splits and dividends: longer than what an update reads."""
    return simulated(2, date(2020, 1, 2), date(2021, 2, 26), split_rate=4.0)


@pytest.fixture
def days(market: Market) -> list[date]:
    return market.sessions()


@pytest.fixture
def house(tmp_path: Path, market: Market, days: list[date]) -> House:
    """A home with pattern outcomes up to the two hundredth session."""
    house = House(tmp_path, market)
    house.refresh(days[199])
    write(house)
    return house


def write(house: House) -> Report:
    return recognise(house.lake, house.ledger, house.settings, house.symbols, now=evening(date(2021, 2, 26)))


def stored(house: House) -> pl.DataFrame:
    return house.lake.read(TABLE)


def anew(house: House) -> pl.DataFrame:
    """What a rebuild of everything held would store."""
    names = calendars_of(house.ledger)
    bars, _ = adjusted_bars(house.lake, house.settings, names, house.symbols)
    return outcomes(events(bars, PatternParameters()), with_known_at(bars, house.settings, names))


def assert_equals_a_rebuild(house: House) -> None:
    assert_frame_equal(stored(house), anew(house), rel_tol=1e-6, abs_tol=1e-12)


def test_the_first_run_writes_every_event_and_the_next_one_says_unchanged(house: House) -> None:
    assert stored(house).height > 200
    assert_equals_a_rebuild(house)
    version = house.lake.version(TABLE)
    assert write(house).states() == {"unchanged": 2}
    assert house.lake.version(TABLE) == version


def test_updates_in_chunks_end_where_a_rebuild_ends_splits_in_between(house: House, days: list[date]) -> None:
    for day in (200, 201, 206, 230, 231, len(days) - 1):
        house.refresh(days[day])
        for name in house.symbols:
            house.ledger.note_state([{"symbol": name, "rebuild_patterns": False}])
        report = write(house)
        assert report.states() == {"updated": 2}
        assert_equals_a_rebuild(house)


def test_an_outcome_is_filled_when_it_is_known_and_nothing_older_is_touched(house: House, days: list[date]) -> None:
    before = stored(house)
    open_before = before.filter(pl.col("return_20").is_null())
    assert open_before["timestamp"].dt.date().min() == days[199 - max(HORIZONS)]
    house.refresh(days[200])
    report = write(house)
    after = stored(house)
    moved = before.join(after, on=before.columns, how="anti", nulls_equal=True)
    assert moved.height > 0
    assert moved.filter(pl.col("timestamp").dt.date() < days[199 - max(HORIZONS)]).is_empty()
    settled = after.filter(pl.col("timestamp").dt.date() == days[199 - max(HORIZONS)])
    assert settled["return_20"].null_count() == 0
    assert report.totals["rows"] == after.join(before, on=before.columns, how="anti", nulls_equal=True).height


def test_a_marked_symbol_is_built_anew_and_only_it(house: House, market: Market, days: list[date]) -> None:
    changed, other = house.symbols
    market.change(changed, days[150], lambda row: row | {name: row[name] * 1.02 for name in OHLC})
    house.refresh(days[200], full=True)
    house.ledger.note_state([{"symbol": name, "rebuild_patterns": name == changed} for name in house.symbols])
    report = write(house)
    assert (report.partitions[changed]["state"], report.partitions[other]["state"]) == ("built", "updated")
    assert not house.ledger.states()[changed]["rebuild_patterns"]
    assert_equals_a_rebuild(house)


def test_the_events_of_a_bar_that_is_gone_are_gone(house: House, market: Market, days: list[date]) -> None:
    name = house.symbols[0]
    soil(market, name, days[200], "level_error")
    house.refresh(days[200])
    write(house)
    house.refresh(days[201])
    house.ledger.note_state([{"symbol": name, "rebuild_patterns": True}])
    write(house)
    assert days[200] not in stored(house).filter(pl.col("symbol") == name)["timestamp"].dt.date().to_list()
    assert_equals_a_rebuild(house)


def test_a_lost_table_is_built_again(house: House) -> None:
    before = stored(house)
    house.lake.replace(TABLE, before.head(0), house.symbols)
    house.ledger.note_state([{"symbol": name, "patterns_set": "of older parameters"} for name in house.symbols])
    assert write(house).states() == {"built": 2}
    assert_frame_equal(stored(house), before)


def test_a_symbol_of_which_halts_left_too_few_bars_is_read_whole(
    tmp_path: Path, market: Market, days: list[date]
) -> None:
    gone = [day for place, day in enumerate(days[40:199]) if place % 4]
    halted = pl.col("timestamp").dt.date().is_in(gone) & (pl.col("symbol") == market.bars["symbol"][0])
    market.bars = market.bars.filter(~halted)
    house = House(tmp_path / "halted", market)
    house.refresh(days[199])
    write(house)
    house.refresh(days[201])
    assert write(house).states() == {"updated": 2}
    assert_equals_a_rebuild(house)


def test_a_symbol_without_bars_is_empty(tmp_path: Path, market: Market) -> None:
    assert write(House(tmp_path / "empty", market)).states() == {"empty": 2}


def test_a_dividend_above_the_price_holds_its_symbol_and_no_other(
    house: House, market: Market, days: list[date]
) -> None:
    name, other = house.symbols
    market.act(name, days[200], DIVIDEND, 1e6)
    house.refresh(days[201])
    report = write(house)
    assert report.partitions[name]["state"] == "held"
    assert "is not below the last close before it" in report.partitions[name]["reason"]
    assert report.partitions[other]["state"] in ("updated", "built")
    assert house.ledger.states()[name]["quarantine_cause"] == "impossible_action"


def test_a_symbol_of_which_a_pattern_raises_is_quarantined_until_it_does_not(house: House, days: list[date]) -> None:
    name, other = house.symbols
    house.refresh(days[200])
    bars = house.lake.read("bars", symbols=[name])
    wrong = pl.when(pl.int_range(pl.len()) == pl.len() - 1).then(-1.0).otherwise("close")
    house.lake.replace("bars", bars.with_columns(close=wrong), [name])
    report = write(house)
    assert report.partitions[other]["state"] == "updated"
    assert report.partitions[name]["state"] == "held"
    state = house.ledger.states()[name]
    assert state["quarantine_cause"] == "patterns_failed"
    assert "prices must be positive" in state["quarantine_reason"]
    house.lake.replace("bars", bars, [name])
    assert write(house).partitions[name]["state"] == "updated"
    assert house.ledger.states()[name]["quarantine_cause"] is None
    assert_equals_a_rebuild(house)
