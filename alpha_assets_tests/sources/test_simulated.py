"""The simulated market behind the source protocol: its clock, its answers, and what it refuses."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from alpha_assets.quant.calendars import sessions
from alpha_assets.quant.parameters import SimulationParameters
from alpha_assets.quant.schema import ACTIONS, RAW_BARS
from alpha_assets.quant.simulate import life, simulate
from alpha_assets.settings import Settings
from alpha_assets.sources import simulated as module
from alpha_assets.sources.base import Cause, Source, SourceUnavailable
from alpha_assets.sources.simulated import Simulated

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
WHOLE = dict.fromkeys(["SIM01", "SIM02", "SIM03", "SIM10", "SIM12"])

#: A small market in which all kinds of symbols meet within two years.
MORTAL = SimulationParameters(years=2, late_share=0.4, delisted_share=0.4, split_rate=2.0)


def home(folder: Path, **settings: object) -> Settings:
    return Settings.model_validate(
        {"home": folder, "source": "simulated", "history_start": date(2015, 1, 1), **settings}
    )


def test_it_keeps_the_protocol(tmp_path: Path) -> None:
    source: Source = Simulated(home(tmp_path))
    answer = source.fetch(["SIM01"], {}, NOW)
    assert source.name == "simulated"
    assert dict(answer.bars.schema) == dict(RAW_BARS)
    assert dict(answer.actions.schema) == dict(ACTIONS)


def test_a_new_market_has_six_years_of_twelve_symbols_whenever_it_is_begun(tmp_path: Path) -> None:
    source = Simulated(home(tmp_path / "not" / "there" / "yet"))
    answer = source.fetch(source.symbols(), {}, NOW)
    assert source.symbols()[0] == "SIM01"
    assert source.symbols()[-1] == "SIM12"
    assert source.clock() == date(2023, 12, 29)
    assert answer.bars["timestamp"].min() == datetime(2018, 1, 2, tzinfo=UTC)
    assert answer.bars["timestamp"].max() == datetime(2023, 12, 29, tzinfo=UTC)
    assert answer.bars["symbol"].n_unique() == 12
    assert not answer.failures


def test_the_wall_clock_changes_no_answer(tmp_path: Path) -> None:
    source = Simulated(home(tmp_path))
    early, late = (source.fetch(["SIM01"], {}, now) for now in (datetime(1999, 1, 1, tzinfo=UTC), NOW))
    assert_frame_equal(early.bars, late.bars, check_exact=True)
    assert source.complete_until(["SIM01"], NOW) == source.complete_until(["SIM01"], datetime(1999, 1, 1, tzinfo=UTC))


def test_the_clock_is_stored_and_read_by_every_process(tmp_path: Path) -> None:
    assert Simulated(home(tmp_path)).advance(3) == date(2024, 1, 4)
    assert Simulated(home(tmp_path)).clock() == date(2024, 1, 4)
    assert not (tmp_path / "simulated-market.new").exists()


def test_advancing_by_sessions_appends_exactly_one_bar_per_living_symbol(tmp_path: Path) -> None:
    source = Simulated(home(tmp_path, simulation=replace(MORTAL, years=0.5)))
    while source.clock() < date(2019, 12, 31):
        before = source.complete_until(source.symbols(), NOW)
        clock = source.advance()
        midnight = datetime(clock.year, clock.month, clock.day, tzinfo=UTC)
        lives = {symbol: life(source._parameters, symbol, MORTAL.first) for symbol in source.symbols()}
        living = {
            symbol
            for symbol, own in lives.items()
            if own.listed <= clock and (own.delisted is None or clock <= own.delisted)
        }
        after = source.complete_until(source.symbols(), NOW)
        assert {symbol for symbol in after if after[symbol] != before[symbol]} == living
        assert {after[symbol] for symbol in living} <= {midnight}


@pytest.mark.parametrize("interval", ["1d", "1h"])
def test_fetching_after_each_advance_equals_fetching_once(tmp_path: Path, interval: str) -> None:
    source = Simulated(home(tmp_path, simulation=replace(MORTAL, years=0.6), interval=interval))
    names = source.symbols()
    held = source.fetch(names, {}, NOW).bars
    for count in (1, 1, 2, 5, 20, 90):
        source.advance(count)
        last = dict(held.group_by("symbol").agg(pl.col("timestamp").max()).iter_rows())
        news = source.fetch(names, {name: last.get(name) for name in names}, NOW).bars
        overlap = news.join(held, on=["symbol", "timestamp"], how="semi")
        assert_frame_equal(overlap, held.join(news, on=["symbol", "timestamp"], how="semi"), check_row_order=False)
        assert overlap.height == len(last)
        held = pl.concat([held, news.join(overlap, on=["symbol", "timestamp"], how="anti")])
    once = source.fetch(names, {}, NOW).bars
    assert_frame_equal(held.sort("symbol", "timestamp"), once, check_exact=True)


def test_since_is_inclusive_and_each_symbol_has_its_own(tmp_path: Path) -> None:
    source = Simulated(home(tmp_path))
    since = {"SIM01": datetime(2023, 12, 28, tzinfo=UTC), "SIM02": datetime(2022, 6, 1, tzinfo=UTC), "SIM03": None}
    answer = source.fetch(list(since), since, NOW)
    first = dict(answer.bars.group_by("symbol").agg(pl.col("timestamp").min()).iter_rows())
    assert first == {**since, "SIM03": datetime(2018, 1, 2, tzinfo=UTC)}
    everything = source.fetch(list(since), {}, NOW).actions
    for symbol, moment in since.items():
        own = everything.filter(pl.col("symbol") == symbol)
        wanted = own if moment is None else own.filter(pl.col("ex_date") >= moment.date())
        assert_frame_equal(answer.actions.filter(pl.col("symbol") == symbol), wanted)


def test_the_history_start_of_the_settings_bounds_a_new_symbol(tmp_path: Path) -> None:
    source = Simulated(home(tmp_path, history_start=date(2020, 7, 1)))
    assert source.fetch(["SIM01"], {"SIM01": None}, NOW).bars["timestamp"].min() == datetime(2020, 7, 1, tzinfo=UTC)


def test_what_it_says_is_the_simulated_market(tmp_path: Path) -> None:
    source = Simulated(home(tmp_path))
    market = simulate(SimulationParameters(), symbols=list(WHOLE), first=date(2018, 1, 2), last=date(2023, 12, 29))
    answer = source.fetch(list(WHOLE), WHOLE, NOW)
    assert_frame_equal(answer.bars, market.bars, check_exact=True)
    assert_frame_equal(answer.actions, market.actions, check_exact=True)


def test_an_unknown_name_fails_alone_and_says_which_names_there_are(tmp_path: Path) -> None:
    answer = Simulated(home(tmp_path)).fetch(["AAPL", "SIM01", "SIM1"], {}, NOW)
    assert set(answer.failures) == {"AAPL", "SIM1"}
    assert answer.failures["AAPL"].cause is Cause.UNKNOWN_SYMBOL
    assert "SIM01 to SIM12" in answer.failures["AAPL"].message
    assert answer.bars["symbol"].unique().to_list() == ["SIM01"]


@pytest.mark.parametrize("interval", ["1d", "1h"])
def test_complete_until_is_the_newest_bar_that_a_fetch_brings(tmp_path: Path, interval: str) -> None:
    settings = home(tmp_path, simulation=MORTAL, interval=interval, calendars={"SIM02": "24/7", "SIM04": "XASX"})
    source = Simulated(settings)
    names = [*source.symbols(), "AAPL"]
    for count in (1, 60, 150):
        source.advance(count)
        bars = source.fetch(names, {}, NOW).bars
        newest = dict(bars.group_by("symbol").agg(pl.col("timestamp").max()).iter_rows())
        assert source.complete_until(names, NOW) == {name: newest.get(name) for name in names}


def test_a_symbol_has_no_newest_bar_before_it_is_listed_or_where_it_ended_before_the_history(tmp_path: Path) -> None:
    young = Simulated(home(tmp_path / "young", simulation=replace(SimulationParameters(), late_share=1.0, years=1)))
    listed = {symbol: life(young._parameters, symbol, date(2018, 1, 2)).listed for symbol in young.symbols()}
    (tmp_path / "young").mkdir()
    stored = {"clock": "2018-03-01", "market": young._identity()}
    (tmp_path / "young" / "simulated-market.json").write_text(json.dumps(stored))
    expected = {symbol for symbol, day in listed.items() if day <= date(2018, 3, 1)}
    found = young.complete_until(young.symbols(), NOW)
    assert {symbol for symbol, newest in found.items() if newest is not None} == expected
    assert 0 < len(expected) < 12

    late = Simulated(home(tmp_path / "late", history_start=date(2023, 6, 1)))
    assert late.complete_until(["SIM03"], NOW) == {"SIM03": None}  # delisted on 2023-05-10
    assert late.fetch(["SIM03"], {}, NOW).bars.is_empty()


def test_complete_until_simulates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a sensor's tick simulated the market")

    monkeypatch.setattr(module, "simulate", refuse)
    source = Simulated(home(tmp_path, interval="1m"))
    assert source.complete_until(["SIM01"], NOW) == {"SIM01": datetime(2023, 12, 29, 20, 59, tzinfo=UTC)}


def test_many_at_once_advance_the_clock_by_the_sum_of_their_steps(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Simulated(home(tmp_path)).advance(2), range(20)))
    wanted = sessions("XNYS", date(2024, 1, 1), date(2024, 12, 31))[39]
    assert Simulated(home(tmp_path)).clock() == wanted


def test_a_home_of_another_market_is_refused_and_the_setting_named(tmp_path: Path) -> None:
    Simulated(home(tmp_path)).clock()
    for other, name in (
        ({"simulation": SimulationParameters(seed=2)}, "ALPHA_SIMULATION__SEED=34 \\(not 2\\)"),
        (
            {"simulation": SimulationParameters(trending_drift=0.0)},
            "ALPHA_SIMULATION__TRENDING_DRIFT=0.4 \\(not 0.0\\)",
        ),
        ({"calendars": {"SIM01": "24/7"}}, "ALPHA_CALENDARS"),
    ):
        source = Simulated(home(tmp_path, **other))
        with pytest.raises(SourceUnavailable, match=name):
            source.fetch(["SIM01"], {}, NOW)
        with pytest.raises(SourceUnavailable, match="choose another ALPHA_HOME"):
            source.advance()
    assert Simulated(home(tmp_path, calendars={"VOD.L": "XLON"})).clock() == date(2023, 12, 29)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"clock": "soon", "market": {}}', '{"clock": "2023-12-29"'])
def test_a_damaged_clock_is_an_error_that_names_its_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "simulated-market.json").write_text(text)
    with pytest.raises(SourceUnavailable, match=r"simulated-market\.json, cannot be read"):
        Simulated(home(tmp_path)).clock()


def test_the_clock_does_not_pass_the_end_of_the_calendar(tmp_path: Path) -> None:
    source = Simulated(home(tmp_path))
    with pytest.raises(SourceUnavailable, match="stands at 2023-12-29 and cannot go on by 90000 sessions"):
        source.advance(90_000)
    assert source.clock() == date(2023, 12, 29)


def test_the_clock_goes_forward_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 session or more, not 0"):
        Simulated(home(tmp_path)).advance(0)


def test_a_market_shorter_than_a_session_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match="ALPHA_SIMULATION__YEARS"):
        Simulated(home(tmp_path, simulation=SimulationParameters(years=0.001))).clock()
