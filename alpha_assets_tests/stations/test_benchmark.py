"""The benchmark beside the bars: as known when each bar was, waited for where it is due, and never looked ahead to."""

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from alpha_assets.quant.indicators import market_column
from alpha_assets.quant.parameters import FeatureParameters, SimulationParameters
from alpha_assets.quant.schema import DIVIDEND, OHLC
from alpha_assets.quant.simulate import simulate
from alpha_assets.stations import benchmark
from alpha_assets.stations.base import Report
from alpha_assets.stations.benchmark import Benchmark
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.replay import causality_verdict
from alpha_assets.stations.series import adjusted_bars, calendars_of, prices_only
from alpha_assets.stations.sets import table_of
from alpha_assets.stores.lake import LakeUnavailable
from alpha_assets_tests.stations.market import House, Market, evening, simulated, soil
from alpha_assets_tests.stations.test_ingest import Killed, Mortal, assert_same_features

INDEX, STOCK = "SIM01", "SIM02"
WITH_INDEX = FeatureParameters(benchmark=INDEX)
MARKET = market_column(INDEX)


@pytest.fixture
def market() -> Market:
    """The stock moves twice as far as the index, bar by bar and exactly."""
    clean = simulated(2, date(2020, 1, 2), date(2020, 7, 31), split_rate=0.0, dividend_share=0.0)
    index = clean.bars.filter(pl.col("symbol") == INDEX)
    stock = index.with_columns(pl.col(*OHLC) ** 2 / 10, symbol=pl.lit(STOCK))
    clean.bars = pl.concat([index, stock])
    return clean


@pytest.fixture
def days(market: Market) -> list[date]:
    return market.sessions()


@pytest.fixture
def house(tmp_path: Path, market: Market, days: list[date]) -> House:
    house = House(tmp_path / "home", market, features=WITH_INDEX)
    house.refresh(days[99])
    build(house)
    return house


def build(house: House, *symbols: str) -> Report:
    return featurise(house.lake, house.ledger, house.settings, symbols or house.symbols)


def stored(house: House, symbol: str = STOCK) -> pl.DataFrame:
    return house.lake.read(table_of(house.settings), symbols=[symbol])


def until(house: House, symbol: str = STOCK) -> date:
    at = house.ledger.states()[symbol]["features_until"]
    assert isinstance(at, datetime)
    return at.date()


def assert_rebuilt(house: House, last: date) -> None:
    """What is stored is what a home that saw everything at once has stored."""
    fresh = House(house.settings.home.parent / "fresh", house.market, features=WITH_INDEX)
    fresh.refresh(last)
    build(fresh)
    assert until(fresh) == last
    assert_same_features(house, fresh)


def returns(house: House, symbol: str) -> dict[date, float | None]:
    """The benchmark's return beside each bar of ``symbol``."""
    names = calendars_of(house.ledger)
    bars, _ = adjusted_bars(house.lake, house.settings, names, [symbol])
    beside = Benchmark.of(INDEX, house.lake, house.settings, names, None).beside(prices_only(bars))
    return dict(beside.select(pl.col("timestamp").dt.date(), MARKET).iter_rows())


def closes(house: House, symbol: str) -> dict[date, float]:
    bars = house.lake.read("bars", symbols=[symbol])
    return dict(bars.select(pl.col("timestamp").dt.date(), "close").iter_rows())


def test_beta_and_correlation_with_a_benchmark_that_is_exactly_known(house: House) -> None:
    stock, index = stored(house), stored(house, INDEX)
    for table, beta in ((stock, 2.0), (index, 1.0)):
        assert table["beta_60"].null_count() == table["correlation_60"].null_count() == 60
        np.testing.assert_allclose(table["beta_60"].drop_nulls(), beta, rtol=1e-6)
        np.testing.assert_allclose(table["correlation_60"].drop_nulls(), 1.0, rtol=1e-6)


def test_a_dividend_of_the_benchmark_is_no_return_of_it(house: House, market: Market, days: list[date]) -> None:
    close = closes(house, INDEX)[days[99]]
    market.act(INDEX, days[100], DIVIDEND, close / 2)
    after = (pl.col("symbol") == INDEX) & (pl.col("timestamp").dt.date() >= days[100])
    market.bars = market.bars.with_columns(pl.when(after).then(pl.col(OHLC) / 2).otherwise(pl.col(OHLC)))
    house.refresh(days[101])
    assert build(house).states() == {"updated": 2}
    np.testing.assert_allclose(stored(house)["beta_60"].drop_nulls(), 2.0, rtol=1e-5)


def test_a_bar_waits_for_the_benchmarks_bar_and_catches_up(house: House, days: list[date]) -> None:
    house.refresh(days[101], symbols=[STOCK])
    report = build(house)
    assert report.partitions[STOCK]["state"] == "waiting"
    assert report.partitions[STOCK]["reason"].startswith(f"no newer bar of the benchmark {INDEX} yet: follow and")
    assert until(house) == days[99]
    assert stored(house)["timestamp"].max().date() == days[99]  # type: ignore[union-attr]
    house.refresh(days[100], symbols=[INDEX])
    assert build(house).states() == {"updated": 2}
    assert until(house) == days[100], "as far as the benchmark reaches"
    house.refresh(days[101])
    assert build(house).states() == {"updated": 2}
    assert_rebuilt(house, days[101])


def test_a_symbol_that_is_built_anew_waits_at_the_same_bar(house: House, days: list[date]) -> None:
    house.refresh(days[101], symbols=[STOCK])
    house.ledger.note_state([{"symbol": STOCK, "rebuild_features": True}])
    report = build(house)
    assert report.partitions[STOCK]["state"] == "built"
    assert until(house) == days[99]
    house.refresh(days[101])
    build(house)
    assert_rebuilt(house, days[101])


def test_rows_beyond_a_benchmark_that_comes_late_and_short_are_taken_back(
    tmp_path: Path, market: Market, days: list[date]
) -> None:
    """Written without it, they would keep their null beta for ever."""
    house = House(tmp_path, market, features=FeatureParameters(benchmark=INDEX))
    house.refresh(days[101], symbols=[STOCK])
    build(house, STOCK)
    assert until(house) == days[101]
    house.refresh(days[100], symbols=[INDEX])
    build(house)
    build(house)
    assert until(house) == stored(house)["timestamp"].max().date() == days[100]  # type: ignore[union-attr]
    house.refresh(days[101])
    build(house)
    assert_rebuilt(house, days[101])


@pytest.mark.parametrize("anew", [True, False])
def test_where_the_benchmarks_past_cannot_be_told_everybody_waits_and_keeps_what_is_published(
    house: House, days: list[date], anew: bool
) -> None:
    """A null beta would say that there is no benchmark."""
    house.refresh(days[100])
    paid = {"symbol": INDEX, "ex_date": days[50], "kind": DIVIDEND, "value": 1e6, "first_seen_at": evening(days[100])}
    house.lake.append("actions", pl.DataFrame([paid]))
    house.ledger.note_state([{"symbol": STOCK, "rebuild_features": anew}])
    published = stored(house)
    said = build(house, STOCK).partitions[STOCK]
    assert said["state"] == "waiting"
    assert said["reason"].startswith(f"the past of the benchmark cannot be told: {INDEX}: the dividend of")
    assert_frame_equal(stored(house), published)
    house.ledger.note_state([{"symbol": STOCK, "rebuild_features": False}])
    verdict = causality_verdict(
        house.lake, house.ledger, house.settings, [STOCK], datetime.combine(days[100], time(22), UTC)
    )
    assert verdict.passed, "null betas would not be what is stored"
    assert anew or "the dividend of" in verdict.sentence, "a symbol that is to be built anew is not looked at"
    house.ledger.note_state([{"symbol": STOCK, "rebuild_features": anew}])
    house.lake.replace("actions", pl.DataFrame([paid]).clear(), [INDEX])
    build(house)
    assert_rebuilt(house, days[100])


def test_a_lake_out_of_reach_is_no_symbols_fault(
    house: House, days: list[date], monkeypatch: pytest.MonkeyPatch
) -> None:
    house.refresh(days[100])

    def refuse(*_: object, **__: object) -> object:
        raise LakeUnavailable("nobody answers")

    monkeypatch.setattr(benchmark, "adjusted_bars", refuse)
    with pytest.raises(LakeUnavailable, match="nobody answers"):
        build(house)
    assert house.ledger.states()[STOCK]["quarantine_cause"] is None


@pytest.mark.parametrize("rule", ["late", "missing", "restated", "level_error"])
def test_what_happens_to_a_bar_of_the_benchmark_reaches_everybody(
    house: House, market: Market, days: list[date], rule: str
) -> None:
    soil(market, INDEX, days[101], rule)
    for day in days[100:106]:
        house.refresh(day)
        build(house)
    assert until(house) == days[105]
    assert_rebuilt(house, days[105])


def restate(house: House, days: list[date]) -> None:
    house.market.change(INDEX, days[97], lambda row: row | {name: row[name] * 1.02 for name in OHLC})
    house.refresh(days[100])


def test_a_restated_bar_of_the_benchmark_builds_everybody_anew(house: House, days: list[date]) -> None:
    restate(house, days)
    assert not house.ledger.states()[STOCK]["rebuild_features"]
    assert build(house).states() == {"built": 2}
    assert build(house).states() == {"unchanged": 2}
    assert_rebuilt(house, days[100])


def test_a_run_over_the_benchmark_alone_leaves_the_mark_to_the_others(house: House, days: list[date]) -> None:
    restate(house, days)
    assert build(house, STOCK).states() == {"updated": 1}
    assert build(house, INDEX).states() == {"built": 1}
    assert build(house, STOCK).states() == {"built": 1}
    assert_rebuilt(house, days[100])


def test_a_kill_while_a_restated_benchmark_is_spread_loses_nobody(house: House, days: list[date]) -> None:
    restate(house, days)
    writes, killed = 0, True
    while killed:
        writes += 1
        shutil.copytree(house.settings.home, house.settings.home.parent / f"killed-{writes}")
        victim = House(house.settings.home.parent / f"killed-{writes}", house.market, features=WITH_INDEX)
        fuse = [writes]
        lake, ledger = (Mortal(store, fuse) for store in (victim.lake, victim.ledger))
        try:
            featurise(lake, ledger, victim.settings, victim.symbols)  # type: ignore[arg-type]
            killed = False
        except Killed:
            build(victim)
        if writes == 1:
            build(house)
            assert_rebuilt(house, days[100])
        assert_same_features(victim, house)
    assert writes > 3


def test_a_benchmark_that_is_not_followed_leaves_beta_and_correlation_null(
    tmp_path: Path, market: Market, days: list[date]
) -> None:
    house = House(tmp_path, market, features=FeatureParameters(benchmark="SPY"))
    house.refresh(days[99])
    assert build(house).states() == {"built": 2}
    assert stored(house)["beta_60"].null_count() == stored(house)["correlation_60"].null_count() == 100
    assert stored(house)["volatility_60"].null_count() == 60


def test_a_benchmark_that_comes_after_the_others_builds_them_anew_once(
    tmp_path: Path, market: Market, days: list[date]
) -> None:
    house = House(tmp_path / "home", market, features=WITH_INDEX)
    house.refresh(days[99], symbols=[STOCK])
    assert build(house).states() == {"empty": 1, "built": 1}
    assert stored(house)["beta_60"].null_count() == 100
    house.refresh(days[100])
    assert build(house).states() == {"built": 2}
    assert build(house).states() == {"unchanged": 2}
    assert_rebuilt(house, days[100])


def test_a_restated_benchmark_changes_an_older_table_that_reads_it(house: House, days: list[date]) -> None:
    old = table_of(house.settings)
    row = {"symbol": STOCK, "regime": "all", "seq": 1, "verdict": "promote", "reason": "it is good"}
    more = {"model_version": "1", "features_set": old, "evidence": {}, "decided_at": datetime(2020, 6, 1, tzinfo=UTC)}
    house.ledger.decide([row | more])
    plain = House(house.settings.home, house.market)
    build(plain)
    before = stored(house)
    restate(plain, days)
    build(plain)
    fresh = House(house.settings.home.parent / "fresh", house.market, features=WITH_INDEX)
    fresh.refresh(days[100])
    build(fresh)
    ours, theirs = stored(house), stored(fresh)
    assert ours["timestamp"].equals(theirs["timestamp"])
    np.testing.assert_allclose(ours["beta_60"].drop_nulls(), theirs["beta_60"].drop_nulls(), rtol=1e-6)
    assert not ours["beta_60"][:100].equals(before["beta_60"])


# --- A set that reads no benchmark, whatever the settings say


def indifferent(tmp_path: Path, market: Market, days: list[date]) -> House:
    """A home of alpha158 under a setting that names the index, which no column of it reads."""
    house = House(tmp_path / "home", market, features=FeatureParameters(set="alpha158", benchmark=INDEX))
    house.refresh(days[99])
    assert build(house).states() == {"built": 2}
    return house


def test_a_set_without_beta_waits_for_no_benchmark(tmp_path: Path, market: Market, days: list[date]) -> None:
    house = indifferent(tmp_path, market, days)
    house.refresh(days[101], symbols=[STOCK])
    assert build(house).partitions[STOCK]["state"] == "updated"
    assert until(house) == days[101]
    house.ledger.note_state([{"symbol": STOCK, "rebuild_features": True}])
    build(house)
    assert until(house) == days[101], "nor where it is built anew"


def test_a_set_without_beta_is_not_built_anew_with_a_restated_benchmark(
    tmp_path: Path, market: Market, days: list[date]
) -> None:
    house = indifferent(tmp_path, market, days)
    restate(house, days)
    said = build(house).partitions
    assert (said[INDEX]["state"], said[STOCK]["state"]) == ("built", "updated")


def test_a_set_without_beta_goes_on_where_the_past_of_the_benchmark_cannot_be_told(
    tmp_path: Path, market: Market, days: list[date]
) -> None:
    house = indifferent(tmp_path, market, days)
    house.refresh(days[100])
    paid = {"symbol": INDEX, "ex_date": days[50], "kind": DIVIDEND, "value": 1e6, "first_seen_at": evening(days[100])}
    house.lake.append("actions", pl.DataFrame([paid]))
    said = build(house).partitions
    assert (said[INDEX]["state"], said[STOCK]["state"]) == ("held", "updated")


def test_a_benchmark_that_comes_after_the_others_leaves_a_set_without_beta_alone(
    tmp_path: Path, market: Market, days: list[date]
) -> None:
    house = House(tmp_path, market, features=FeatureParameters(set="alpha158", benchmark=INDEX))
    house.refresh(days[99], symbols=[STOCK])
    build(house)
    house.refresh(days[99])
    said = build(house).partitions
    assert (said[INDEX]["state"], said[STOCK]["state"]) == ("built", "unchanged")


def test_an_older_table_without_beta_makes_nobody_follow_the_benchmark_of_its_recipe(
    tmp_path: Path, market: Market, days: list[date]
) -> None:
    house = indifferent(tmp_path, market, days)
    old = table_of(house.settings)
    row = {"symbol": STOCK, "regime": "all", "seq": 1, "verdict": "promote", "reason": "it is good"}
    more = {"model_version": "1", "features_set": old, "evidence": {}, "decided_at": datetime(2020, 6, 1, tzinfo=UTC)}
    house.ledger.decide([row | more])
    plain = House(house.settings.home, house.market)
    build(plain)
    restate(plain, days)
    said = build(plain)
    assert said.partitions[STOCK]["state"] == "updated"
    assert said.totals["older"] == {old: {"rows": 1, "updated": 1}}


# --- Across calendars


def mixed(tmp_path: Path, other: str, change: Callable[[Market], None] = lambda _: None) -> House:
    """The index of New York and a symbol of another calendar, of which nothing is stored yet."""
    market = mixed_market(other)
    change(market)
    return House(tmp_path, market, {STOCK: other}, features=WITH_INDEX)


def mixed_market(other: str) -> Market:
    first, last = date(2020, 1, 2), date(2020, 7, 31)
    chosen = SimulationParameters(
        seed=7, symbols=2, first=first, late_share=0.0, delisted_share=0.0, split_rate=0.0, dividend_share=0.0
    )
    drawn = simulate(chosen, symbols=[INDEX, STOCK], first=first, last=last, calendars={STOCK: other})
    return Market(drawn.bars, drawn.actions)


#: A Sunday in June; the Friday before and the Monday after are sessions of New York.
SUNDAY = date(2020, 6, 14)


def test_on_a_sunday_nobody_waits_for_new_york(tmp_path: Path) -> None:
    house = mixed(tmp_path, "24/7")
    friday, monday = SUNDAY - timedelta(days=2), SUNDAY + timedelta(days=1)
    house.refresh(monday, at=time(1, 0))
    assert house.ledger.states()[INDEX]["last_bar"].date() == friday
    assert build(house).states() == {"built": 2}
    assert until(house) == SUNDAY
    beside, close = returns(house, STOCK), closes(house, INDEX)
    thursday = friday - timedelta(days=1)
    assert beside[friday] == pytest.approx(np.log(close[friday] / close[thursday])), "its day ends after New York's"
    assert beside[SUNDAY] == beside[SUNDAY - timedelta(days=1)] == 0.0


def test_a_bar_of_a_monday_that_never_sleeps_waits_for_new_yorks_monday(tmp_path: Path) -> None:
    house = mixed(tmp_path / "home", "24/7")
    monday, tuesday = SUNDAY + timedelta(days=1), SUNDAY + timedelta(days=2)
    house.refresh(monday, at=time(1, 0))
    build(house)
    house.refresh(tuesday, symbols=[STOCK], at=time(1, 0))
    assert build(house).partitions[STOCK]["state"] == "waiting"
    assert until(house) == SUNDAY
    house.refresh(tuesday, at=time(1, 0))
    assert build(house).states() == {"updated": 2}
    assert until(house) == monday
    whole = mixed(tmp_path / "whole", "24/7")
    whole.refresh(tuesday, at=time(1, 0))
    build(whole)
    assert_same_features(house, whole)


def test_londons_close_sees_new_yorks_of_the_day_before(tmp_path: Path) -> None:
    house = mixed(tmp_path, "XLON")
    house.refresh(date(2020, 6, 19))
    build(house)
    beside, close = returns(house, STOCK), closes(house, INDEX)
    tuesday, wednesday, thursday = (date(2020, 6, day) for day in (16, 17, 18))
    assert beside[thursday] == pytest.approx(np.log(close[wednesday] / close[tuesday]))


def test_londons_row_is_the_same_whatever_new_york_does_later_that_day(tmp_path: Path) -> None:
    thursday, friday = date(2020, 6, 18), date(2020, 6, 19)

    def crash(market: Market) -> None:
        market.change(INDEX, thursday, lambda row: row | {name: row[name] * 0.8 for name in OHLC})

    calm, crashed = mixed(tmp_path / "calm", "XLON"), mixed(tmp_path / "crashed", "XLON", crash)
    for house in (calm, crashed):
        house.refresh(friday)
        build(house)
    by_day = [
        {row["timestamp"].date(): row for row in stored(house).iter_rows(named=True)} for house in (calm, crashed)
    ]
    assert by_day[0][thursday] == by_day[1][thursday]
    assert by_day[0][friday]["beta_60"] != by_day[1][friday]["beta_60"]


def test_london_does_not_wait_for_new_yorks_same_day(tmp_path: Path) -> None:
    house = mixed(tmp_path, "XLON")
    thursday = date(2020, 6, 18)
    house.refresh(thursday, at=time(16, 30))
    assert house.ledger.states()[INDEX]["last_bar"].date() == date(2020, 6, 17)
    build(house)
    assert until(house) == thursday


def test_an_hour_waits_for_the_benchmarks_hour_and_not_over_night(tmp_path: Path) -> None:
    first, last = date(2020, 3, 2), date(2020, 3, 13)
    chosen = SimulationParameters(
        symbols=2, first=first, late_share=0, delisted_share=0, split_rate=0.0, dividend_share=0.0
    )
    drawn = simulate(chosen, symbols=[INDEX, STOCK], first=first, last=last, interval="1h")
    house = House(tmp_path, Market(drawn.bars, drawn.actions), interval="1h", features=WITH_INDEX)
    house.refresh(date(2020, 3, 5), at=time(17, 5))
    build(house)
    house.refresh(date(2020, 3, 5), symbols=[STOCK], at=time(19, 5))
    assert build(house).partitions[STOCK]["state"] == "waiting"
    house.refresh(date(2020, 3, 5), at=time(19, 5))
    assert build(house).states() == {"updated": 2}
    house.refresh(date(2020, 3, 5))
    assert build(house).states() == {"updated": 2}
    states = house.ledger.states()
    assert states[STOCK]["features_until"] == states[INDEX]["last_bar"] == datetime(2020, 3, 5, 20, 30, tzinfo=UTC)
    house.refresh(date(2020, 3, 6), symbols=[STOCK], at=time(16, 5))
    assert build(house).partitions[STOCK]["state"] == "waiting"
