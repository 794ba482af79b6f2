"""The first station's laws: chunks equal one run, kills and rivals change nothing, nothing is silent.

The market is simulated and soiled on purpose (``market.py``); lake and ledger are the real ones in a folder. Every run
of a ``House`` also checks that kept, repaired and dropped add up to the rows read.
"""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Barrier
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant import calendars
from alpha_assets.quant.bars import Cleaned, clean
from alpha_assets.quant.schema import DIVIDEND, OHLC, SPLIT, TIME
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, SourceUnavailable
from alpha_assets.sources.files import Files
from alpha_assets.stations import ingest as station
from alpha_assets.stations.base import Report, StationFailed
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.ingest import FIRST_PAUSE, NothingIngested, TooManyFailed, ingest
from alpha_assets.stations.sets import table_of
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.stations.market import DIRT, EVERY, House, Market, evening, simulated, soil

FIRST, LAST = date(2020, 1, 2), date(2020, 5, 29)
Dirt = list[tuple[int, int, str]]


@pytest.fixture
def market() -> Market:
    """Five months of three clean symbols."""
    return simulated(3, FIRST, LAST)


@pytest.fixture
def days(market: Market) -> list[date]:
    """Its sessions."""
    return market.sessions()


@pytest.fixture
def house(tmp_path: Path, market: Market) -> House:
    """An empty home that follows it."""
    return House(tmp_path / "home", market)


def assert_same_tables(one: House, other: House) -> None:
    """What two homes hold is the same, the clocks aside."""
    ours, theirs = one.tables(), other.tables()
    for name, table in ours.items():
        assert_frame_equal(table, theirs[name], check_exact=True)


def assert_same_features(one: House, other: House) -> None:
    """The stored features of two homes agree within one unit in the last place of a 32-bit float."""
    ours, theirs = (house.lake.read(table_of(house.settings)) for house in (one, other))
    key = ["symbol", "timestamp"]
    assert_frame_equal(ours.select(key), theirs.select(key))
    for name in (name for name in ours.columns if name not in key):
        assert_frame_equal(ours.select(pl.col(name).is_null()), theirs.select(pl.col(name).is_null()))
        if ours.schema[name] == pl.String:
            assert_frame_equal(ours.select(name), theirs.select(name))
            continue
        a, b = (frame[name].drop_nulls().to_numpy() for frame in (ours, theirs))
        assert (np.abs(a - b) <= np.spacing(np.maximum(np.abs(a), np.abs(b)))).all(), name


# --- Law 1: incremental equals full


def in_chunks_and_at_once(folder: Path, market: Market, stops: list[date]) -> tuple[House, House]:
    """A home that refreshed at each stop, and one that refreshed at the last only."""
    chunks, once = House(folder / "chunks", market), House(folder / "once", market)
    for stop in stops:
        chunks.refresh(stop)
    once.refresh(stops[-1])
    return chunks, once


def dirty_market(dirt: Dirt) -> Market:
    market = simulated(3, FIRST, LAST)
    names, sessions = sorted(market.bars["symbol"].unique()), market.sessions()
    for name, place, rule in dirt:
        if not market.bars.filter(
            pl.col("symbol") == names[name],
            pl.col("timestamp").dt.date() == sessions[place],
            pl.col("said_until").is_null(),
        ).is_empty():
            soil(market, names[name], sessions[place], rule)
    return market


#: Places from the 40th session on: before it, too little history says what is ordinary.
SOILED = st.lists(
    st.tuples(st.integers(0, 2), st.integers(40, 90), st.sampled_from(DIRT)),
    max_size=8,
    unique_by=lambda spot: (spot[0], spot[1]),
)
STOPS = st.lists(st.integers(1, 98), min_size=1, max_size=6, unique=True)


def chunks_equal_one_run(dirt: Dirt, places: list[int]) -> None:
    market = dirty_market(dirt)
    sessions = [day for day in market.sessions() if day <= LAST]
    stops = [sessions[min(place, len(sessions) - 1)] for place in sorted(places)] + [sessions[-1]]
    with TemporaryDirectory() as folder:
        assert_same_tables(*in_chunks_and_at_once(Path(folder), market, stops))


@given(dirt=SOILED, places=STOPS)
@examples(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_chunks_store_what_one_run_stores(dirt: Dirt, places: list[int]) -> None:
    chunks_equal_one_run(dirt, places)


@pytest.mark.slow
@given(dirt=SOILED, places=STOPS)
@examples(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_chunks_store_what_one_run_stores_many_times_over(dirt: Dirt, places: list[int]) -> None:
    chunks_equal_one_run(dirt, places)


@pytest.mark.slow
def test_session_by_session_stores_what_one_run_stores_with_every_kind_of_dirt_in_between(tmp_path: Path) -> None:
    market = dirty_market([(place % 3, 40 + 2 * place, rule) for place, rule in enumerate(DIRT)])
    chunks, once = in_chunks_and_at_once(tmp_path, market, market.sessions()[38:84])
    assert_same_tables(chunks, once)
    reread = [list(asked) for asked in market.asked[1:-1] if None in asked.values()]
    restating = ("level_error", "copy_of_next", "late", "restated")
    assert reread == [[once.symbols[DIRT.index(rule) % 3]] for rule in restating]
    found = set(once.lake.read("cleaning")["rule"])
    assert {"copy_of_next", "level_error", "unit_slip", "split_sized_jump", "null_price", "null_key"} <= found
    assert {"split", "dividend"} <= set(once.lake.read("actions")["kind"])


def test_chunks_give_the_features_of_one_run_across_splits_dividends_and_restatements(tmp_path: Path) -> None:
    market = simulated(2, date(2018, 1, 2), date(2020, 5, 29))
    sessions, (first, second) = market.sessions(), sorted(market.bars["symbol"].unique())
    for place, rule in ((560, "level_error"), (566, "late"), (572, "restated"), (577, "copy_of_next")):
        soil(market, first, sessions[place], rule)
    market.act(second, sessions[569], SPLIT, 1.0001)
    market.act(second, sessions[571], DIVIDEND, 0.4, said_from=sessions[575])
    chunks, once = House(tmp_path / "chunks", market), House(tmp_path / "once", market)
    for stop in [*sessions[555:582:3], sessions[-1]]:
        chunks.refresh(stop)
        featurise(chunks.lake, chunks.ledger, chunks.settings, chunks.symbols)
    once.refresh(sessions[-1])
    featurise(once.lake, once.ledger, once.settings, once.symbols)
    assert_same_tables(chunks, once)
    assert_same_features(chunks, once)


def test_chunks_of_intraday_bars_cut_within_sessions_store_what_one_run_stores(tmp_path: Path) -> None:
    from alpha_assets.quant.parameters import SimulationParameters
    from alpha_assets.quant.simulate import default_symbols, simulate

    first, last = date(2020, 3, 2), date(2020, 3, 31)
    drawn = simulate(
        SimulationParameters(symbols=2, first=first, late_share=0, delisted_share=0),
        symbols=default_symbols(2),
        first=first,
        last=last,
        interval="1h",
    )
    chunks, once = (
        House(tmp_path / name, Market(drawn.bars, drawn.actions), interval="1h") for name in ("chunks", "once")
    )
    for day, at in ((6, time(15, 12)), (9, time(14, 1)), (9, time(20, 5)), (10, time(20, 31)), (24, time(3, 0))):
        chunks.refresh(date(2020, 3, day), at=at)
    assert chunks.ledger.states()[chunks.symbols[0]]["last_bar"] == datetime(2020, 3, 23, 19, 30, tzinfo=UTC)
    chunks.refresh(last)
    once.refresh(last)
    assert_same_tables(chunks, once)


# --- What is asked, and what leads to a re-read


def test_every_refresh_reads_at_least_five_sessions_again(house: House, market: Market, days: list[date]) -> None:
    house.refresh(days[60])
    report = house.refresh(days[61])
    assert report.totals["rows_read"] == 3 * 7
    assert report.totals["new"] == 3
    assert all(since is not None and since.date() <= days[55] for since in market.asked[-1].values())


@pytest.mark.parametrize(("sessions_ago", "seen"), [(1, True), (5, True), (7, False)])
def test_a_restated_bar_of_the_overlap_leads_to_a_reread_of_its_symbol_only(
    house: House, market: Market, days: list[date], sessions_ago: int, seen: bool
) -> None:
    house.refresh(days[60])
    name = house.symbols[1]
    market.change(name, days[60 - sessions_ago], lambda row: row | {key: row[key] * 1.002 for key in OHLC})
    report = house.refresh(days[61])
    asked_whole = [asked for asked in market.asked[1:] if None in asked.values()]
    assert asked_whole == ([{name: None}] if seen else [])
    assert report.totals["restated"] == (1 if seen else 0)
    assert report.partitions[name]["state"] == ("restated" if seen else "updated")
    assert house.ledger.states()[name]["rebuild_features"] is seen
    assert not any(house.ledger.states()[other]["rebuild_features"] for other in house.symbols if other != name)


def test_a_vendors_rounding_is_no_restatement(house: House, market: Market, days: list[date]) -> None:
    house.refresh(days[60])
    market.change(house.symbols[0], days[58], lambda row: row | {key: row[key] * 1.00005 for key in OHLC})
    report = house.refresh(days[61])
    assert (report.totals["restated"], len(market.asked)) == (0, 2)


def test_a_reread_writes_what_moved_and_leaves_the_rounding_of_the_rest(
    house: House, market: Market, days: list[date]
) -> None:
    house.refresh(days[60])
    name = house.symbols[0]
    market.bars = market.bars.with_columns(pl.col(OHLC) * 1.00001)
    market.change(name, days[59], lambda row: row | {key: row[key] * 1.01 for key in OHLC})
    report = house.refresh(days[61])
    assert report.totals["restated"] == 1
    learnt = house.lake.read("bars", symbols=[name], columns=["timestamp", "fetched_at"])
    rewritten = learnt.filter(pl.col("fetched_at") == evening(days[61]))["timestamp"].dt.date().to_list()
    assert rewritten == [days[59], days[61]]


def test_a_bar_that_comes_late_enters_and_the_features_are_built_anew(
    house: House, market: Market, days: list[date]
) -> None:
    name = house.symbols[2]
    soil(market, name, days[58], "late")
    house.refresh(days[59])
    assert (name, days[58]) in {(row["symbol"], row["day"]) for row in house.ledger.findings(["missing_session"])}
    report = house.refresh(days[61])
    assert report.partitions[name]["new"] == 3
    assert house.ledger.states()[name]["rebuild_features"]
    assert house.ledger.findings(["missing_session"]) == []


def test_a_bar_that_the_source_no_longer_has_stays_and_is_not_asked_for_again_and_again(
    house: House, market: Market, days: list[date]
) -> None:
    house.refresh(days[60])
    before = house.lake.read("bars")
    market.behaviour.forgotten = {(house.symbols[0], days[58]), (house.symbols[1], days[60])}
    report = house.refresh(days[61])
    assert len(market.asked) == 2
    assert report.totals["restated"] == 0
    assert house.ledger.findings(["missing_session"]) == []
    after = house.lake.read("bars").filter(pl.col("timestamp") <= before["timestamp"].max())
    assert_frame_equal(after, before)


def test_a_bar_that_the_source_now_spoils_stays_and_the_spoilt_row_is_logged(
    house: House, market: Market, days: list[date]
) -> None:
    house.refresh(days[60])
    before = house.lake.read("bars")
    name = house.symbols[0]
    market.change(name, days[59], lambda row: row | {"close": None})
    report = house.refresh(days[61])
    assert (report.totals["restated"], len(market.asked)) == (0, 2)
    assert_frame_equal(house.lake.read("bars").filter(pl.col("timestamp") <= before["timestamp"].max()), before)
    assert house.lake.read("cleaning").select("symbol", "rule").rows() == [(name, "null_price")]


@pytest.mark.parametrize("rule", ["copy_of_next", "level_error"])
def test_a_bar_that_its_successor_shows_to_be_wrong_goes(
    house: House, market: Market, days: list[date], rule: str
) -> None:
    name = house.symbols[0]
    soil(market, name, days[60], rule)
    house.refresh(days[60])
    held = house.ledger.states()[name]["bars"]
    report = house.refresh(days[61])
    assert (report.totals["restated"], report.partitions[name]["state"]) == (1, "restated")
    assert report.partitions[name]["dropped"] == 1
    dates = house.lake.read("bars", symbols=[name])["timestamp"].dt.date()
    assert days[60] not in dates.to_list()
    state = house.ledger.states()[name]
    assert (state["bars"], state["rebuild_features"]) == (held, True)


def test_a_split_whose_history_the_vendor_rescales_rewrites_nothing(tmp_path: Path) -> None:
    """Split-adjusted files: on the ex-date the vendor divides the whole history by seven; as traded it is the same."""
    market = simulated(1, FIRST, LAST, split_rate=0.0, dividend_share=0.0)
    sessions, (name,) = market.sessions(), market.bars["symbol"].unique()
    file = tmp_path / "bars.parquet"
    settings = Settings(home=tmp_path / "home", files=str(file), files_prices="split-adjusted", _env_file=None)  # type: ignore[call-arg]
    lake, ledger = Lake(settings), Ledger(settings)
    ledger.add_symbols([{"symbol": name, "source": "files", "calendar": "XNYS", "added_at": evening(FIRST)}])
    ex_date = sessions[61]

    def publish(until: date) -> Report:
        held = market.bars.filter(pl.col("timestamp").dt.date() <= until).select("symbol", "timestamp", *OHLC, "volume")
        after = pl.col("timestamp").dt.date() >= ex_date
        ratio = 7.0 if until >= ex_date else 1.0
        prices = held.with_columns(pl.col(OHLC) / ratio, pl.col("volume") * ratio)
        prices.with_columns(
            pl.col("timestamp").dt.date(),
            splits=pl.when(after & ~after.shift(1).fill_null(True)).then(ratio).otherwise(0.0),
        ).write_parquet(file)
        return ingest(lake, ledger, {"files": Files(settings)}, settings, [name], evening(until))

    publish(sessions[60])
    before = lake.read("bars")
    report = publish(sessions[61])
    assert (report.totals["restated"], report.totals["new"], report.totals["rows_read"]) == (0, 1, 7)
    assert lake.read("actions").select("ex_date", "kind", "value").rows() == [(ex_date, SPLIT, 7.0)]
    assert not ledger.states()[name]["rebuild_features"]
    assert_frame_equal(lake.read("bars").head(before.height), before)
    jump = lake.read("bars")["close"][-1] / before["close"][-1]
    assert jump == pytest.approx(1 / 7, rel=0.1) or jump == pytest.approx(1.0, rel=0.1)
    assert publish(sessions[64]).totals["restated"] == 0


def test_an_action_known_by_its_day_marks_nothing_and_a_late_one_marks_its_symbol(
    house: House, market: Market, days: list[date]
) -> None:
    first, second, third = house.symbols
    market.act(first, days[61], DIVIDEND, 0.31)
    market.act(second, days[50], DIVIDEND, 0.47, said_from=days[61])
    house.refresh(days[60])
    report = house.refresh(days[61])
    marked = {name for name in house.symbols if house.ledger.states()[name]["rebuild_features"]}
    assert marked == {second}
    assert report.partitions[second]["late_actions"] is True
    assert len(market.asked) == 2
    assert {0.31, 0.47} <= set(house.lake.read("actions")["value"])
    assert third not in marked


def test_a_dividend_that_the_vendor_corrects_is_corrected_and_is_late(
    house: House, market: Market, days: list[date]
) -> None:
    name = house.symbols[0]
    market.act(name, days[58], DIVIDEND, 0.30)
    house.refresh(days[60])
    market.actions = market.actions.with_columns(
        pl.when(pl.col("ex_date") == days[58]).then(0.35).otherwise("value").alias("value")
    )
    house.refresh(days[61])
    assert house.lake.read("actions", symbols=[name]).filter(pl.col("ex_date") == days[58])["value"].to_list() == [0.35]
    assert house.ledger.states()[name]["rebuild_features"]


def test_a_split_learnt_late_explains_the_jump_that_was_flagged_for_its_lack(
    house: House, market: Market, days: list[date]
) -> None:
    name = house.symbols[0]
    soil(market, name, days[50], "split_sized_jump")
    market.act(name, days[50], SPLIT, 3.0, said_from=days[61])
    house.refresh(days[60])
    assert {row["day"] for row in house.ledger.findings(["split_sized_jump"])} == {days[50]}
    house.refresh(days[61])
    assert market.asked[-1] == {name: None}
    assert house.ledger.findings(["split_sized_jump"]) == []
    assert house.lake.read("bars", symbols=[name])["flags"].null_count() == 62


@pytest.mark.parametrize("kind", [DIVIDEND, SPLIT])
@pytest.mark.parametrize("full", [False, True])
def test_an_action_that_the_vendor_takes_back_goes_and_is_late(tmp_path: Path, kind: str, full: bool) -> None:
    market = simulated(2, FIRST, LAST, split_rate=0.0, dividend_share=0.0)
    days, (name, other) = market.sessions(), sorted(market.bars["symbol"].unique())
    market.act(name, days[50], kind, 2.0, said_until=days[60])
    market.act(other, days[50], kind, 2.0)
    chunks, once = House(tmp_path / "chunks", market), House(tmp_path / "once", market)
    chunks.refresh(days[59])
    assert chunks.lake.read("actions")["symbol"].to_list() == [name, other]
    report = chunks.refresh(days[60], full=full)
    assert report.partitions[name]["late_actions"] is True
    assert report.partitions[other].get("late_actions") is None
    states = chunks.ledger.states()
    assert [states[symbol]["rebuild_features"] for symbol in (name, other)] == [True, False]
    once.refresh(days[60])
    assert once.lake.read("actions")["symbol"].to_list() == [other]
    assert_same_tables(chunks, once)


def test_a_split_taken_back_leaves_its_jump_to_be_flagged(tmp_path: Path) -> None:
    market = simulated(1, FIRST, LAST, split_rate=0.0, dividend_share=0.0)
    days, (name,) = market.sessions(), market.bars["symbol"].unique()
    soil(market, name, days[40], "split_sized_jump")
    market.act(name, days[40], SPLIT, 3.0, said_until=days[60])
    house = House(tmp_path, market)
    house.refresh(days[59])
    assert house.ledger.findings(["split_sized_jump"]) == []
    house.refresh(days[60])
    assert market.asked[-1] == {name: None}
    assert [row["day"] for row in house.ledger.findings(["split_sized_jump"])] == [days[40]]


def test_an_action_is_withdrawn_only_where_bars_of_its_time_were_answered(tmp_path: Path) -> None:
    market = simulated(3, FIRST, LAST, split_rate=0.0, dividend_share=0.0)
    days, (old, failed, empty) = market.sessions(), sorted(market.bars["symbol"].unique())
    market.act(old, days[5], DIVIDEND, 0.2, said_until=days[60])  # before the tail that is read
    market.act(old, days[20], DIVIDEND, 0.2, said_until=days[61])  # before the whole answer of a source that forgets
    market.act(failed, days[55], DIVIDEND, 0.2, said_until=days[60])
    market.act(empty, days[55], DIVIDEND, 0.2, said_until=days[60])
    house = House(tmp_path, market)
    house.refresh(days[59])
    held = house.lake.read("actions")
    assert held.height == 4
    market.behaviour.failing = {failed: Cause.OUTAGE}
    market.behaviour.forgotten = {(empty, day) for day in days} | {(old, day) for day in days[:30]}
    house.refresh(days[60])
    house.refresh(days[61], full=True)
    assert_frame_equal(house.lake.read("actions"), held)
    market.behaviour.monstrous = {old}
    house.refresh(days[62], full=True)
    assert_frame_equal(house.lake.read("actions"), held)
    market.behaviour = type(market.behaviour)()
    house.refresh(days[63], full=True)
    assert house.lake.read("actions").is_empty()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pruned", [30, 57])
def test_a_reread_of_a_source_that_reaches_back_less_far_changes_the_restated_bar_only(
    tmp_path: Path, pruned: int, full: bool
) -> None:
    market = simulated(1, FIRST, LAST, split_rate=0.0, dividend_share=0.0)
    days, (name,) = market.sessions(), market.bars["symbol"].unique()
    soil(market, name, days[20], "missing")
    soil(market, name, days[32], "split_sized_jump")
    soil(market, name, days[59], "restated")
    house = House(tmp_path, market)
    house.refresh(days[60])
    before, found = house.lake.read("bars"), house.tables()["findings"]
    assert sorted(found["rule"]) == ["missing_session", "split_sized_jump"]
    market.behaviour.forgotten = {(name, day) for day in days[:pruned]}
    report = house.refresh(days[61], full=full)
    assert {None} == set(market.asked[-1].values())
    assert (report.totals["restated"], report.totals["new"]) == (1, 1)
    after = house.lake.read("bars")
    assert after["listing"].unique().to_list() == [days[0]]
    rewritten = after.filter(pl.col("fetched_at") == evening(days[61]))["timestamp"].dt.date().to_list()
    assert rewritten == [days[59], days[61]]
    untouched = ~pl.col("timestamp").dt.date().is_in([days[59], days[61]])
    assert_frame_equal(after.filter(untouched), before.filter(untouched))
    assert_frame_equal(house.tables()["findings"], found)


def test_the_first_rows_of_a_shorter_answer_keep_the_verdicts_that_had_their_context(tmp_path: Path) -> None:
    market = simulated(1, FIRST, LAST, split_rate=0.0, dividend_share=0.0)
    days, (name,) = market.sessions(), market.bars["symbol"].unique()
    soil(market, name, days[30], "split_sized_jump")
    house = House(tmp_path, market)
    house.refresh(days[90])
    market.behaviour.forgotten = {(name, day) for day in days[:30]}
    report = house.refresh(days[90], full=True)
    assert (report.totals["restated"], report.totals["new"]) == (0, 0)
    assert [row["day"] for row in house.ledger.findings()] == [days[30]]
    market.change(name, days[70], lambda row: row | {key: row[key] * 1.01 for key in OHLC})
    assert house.refresh(days[90], full=True).totals["restated"] == 1


def test_a_full_refresh_of_the_same_history_writes_nothing(house: House, days: list[date]) -> None:
    house.refresh(days[60])
    versions = {table: house.lake.version(table) for table in ("bars", "actions", "cleaning")}
    report = house.refresh(days[60], full=True)
    assert {table: house.lake.version(table) for table in versions} == versions
    assert (report.totals["rows_read"], report.totals["new"], report.totals["restated"]) == (3 * 61, 0, 0)
    assert set(report.states()) == {"unchanged"}


def test_a_full_refresh_finds_what_the_overlap_does_not_reach(house: House, market: Market, days: list[date]) -> None:
    house.refresh(days[60])
    market.change(house.symbols[0], days[20], lambda row: row | {key: row[key] * 1.01 for key in OHLC})
    assert house.refresh(days[61]).totals["restated"] == 0
    assert house.refresh(days[61], full=True).totals["restated"] == 1


# --- Which bars enter


@pytest.mark.parametrize("at", [time(15, 0), time(20, 0), time(20, 29)])
def test_a_session_still_open_or_within_the_lag_is_not_stored_and_blocks_nothing(
    house: House, days: list[date], at: time
) -> None:
    house.refresh(days[60])
    report = house.refresh(days[61], at=at)
    assert report.totals["new"] == 0
    assert report.totals["by_rule"]["not_final"]["dropped"] == 3
    assert house.lake.read("cleaning").is_empty()
    assert house.refresh(days[61], at=time(20, 30)).totals["new"] == 3


def test_a_gap_within_a_listing_is_bridged_and_one_of_more_than_sixty_sessions_begins_another(tmp_path: Path) -> None:
    market = simulated(2, date(2019, 1, 2), date(2020, 5, 29), split_rate=0.0, dividend_share=0.0)
    sessions, (halted, reused) = market.sessions(), sorted(market.bars["symbol"].unique())
    for name, gap in ((halted, 45), (reused, 75)):
        absent = pl.col("timestamp").dt.date().is_between(sessions[200], sessions[200 + gap - 1])
        market.bars = market.bars.filter(~((pl.col("symbol") == name) & absent))
    chunks, once = House(tmp_path / "chunks", market), House(tmp_path / "once", market)
    for stop in [*sessions[199:290:9], *sessions[290:300], sessions[-1]]:
        chunks.refresh(stop)
    once.refresh(sessions[-1])
    assert_same_tables(chunks, once)
    assert all(None not in asked.values() for asked in market.asked[1:-1])
    begun = [(row["symbol"], row["day"]) for row in once.ledger.findings(["listing_begins"])]
    assert begun == [(reused, sessions[275])]
    assert once.lake.read("bars").group_by("symbol").agg(pl.col("listing").n_unique()).sort("symbol").rows() == [
        (halted, 1),
        (reused, 2),
    ]
    missing = [row["day"] for row in once.ledger.findings(["missing_session"])]
    assert missing == sessions[200:245]


# --- Law 4: kills


class Killed(BaseException):
    """Not an Exception: as a SIGKILL, nobody handles it."""


class Mortal:
    """A store that dies right before its n-th write, which is right after the one before."""

    WRITES = ("append", "replace", "note_state", "note_findings")

    def __init__(self, store: Any, fuse: list[int]) -> None:
        self._store, self._fuse = store, fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        return self._guarded(method) if name in self.WRITES else method

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def write(*given: Any, **named: Any) -> Any:
            self._fuse[0] -= 1
            if self._fuse[0] == 0:
                raise Killed
            return method(*given, **named)

        return write


def killed_at(house: House, day: date, write: int) -> bool:
    """Refresh and featurise until the n-th write kills; False where there are fewer writes."""
    fuse = [write]
    lake, ledger = (Mortal(store, fuse) for store in (house.lake, house.ledger))
    try:
        ingest(lake, ledger, {"market": house.market}, house.settings, house.symbols, evening(day))  # type: ignore[arg-type]
        featurise(lake, ledger, house.settings, house.symbols)  # type: ignore[arg-type]
    except Killed:
        return True
    return False


def eventful(days: list[date]) -> Market:
    """Between session 60 and 61: new bars, a restated one, a wrong one, a late one, late actions, dirt.

    Some of the dirt is older than the overlap: a run that loses its findings leaves none that would see it again.
    """
    market = simulated(6, FIRST, LAST)
    names = sorted(market.bars["symbol"].unique())
    soil(market, names[0], days[5], "null_price")
    soil(market, names[0], days[8], "missing")
    soil(market, names[0], days[59], "restated")
    soil(market, names[1], days[20], "missing")
    soil(market, names[1], days[60], "level_error")
    soil(market, names[1], days[61], "range_widened")
    soil(market, names[2], days[25], "split_sized_jump")
    soil(market, names[2], days[59], "late")
    soil(market, names[3], days[30], "split_sized_jump")
    market.act(names[3], days[30], SPLIT, 3.0, said_from=days[61])
    market.act(names[3], days[10], DIVIDEND, 0.1)
    market.act(names[3], days[57], DIVIDEND, 0.2, said_from=days[61])
    market.act(names[4], days[45], DIVIDEND, 0.3, said_until=days[61])
    market.act(names[5], days[45], SPLIT, 2.0, said_until=days[61])
    soil(market, names[3], days[61], "null_price")
    return market


@pytest.mark.slow
@pytest.mark.parametrize("every", EVERY)
def test_a_run_killed_at_any_write_and_run_again_leaves_the_tables_of_an_undisturbed_run(
    tmp_path: Path, days: list[date], every: int
) -> None:
    market = eventful(days)
    prepared = House(tmp_path / "prepared", market)
    prepared.refresh(days[60])
    featurise(prepared.lake, prepared.ledger, prepared.settings, prepared.symbols)
    undisturbed = copy_of(prepared, tmp_path / "undisturbed")
    assert not killed_at(undisturbed, days[61], 1000)
    for writes in count(1, every):
        house = copy_of(prepared, tmp_path / f"killed-{writes}")
        if not killed_at(house, days[61], writes):
            break
        assert not killed_at(house, days[61], 1000)
        assert_same_tables(house, undisturbed)
        assert_same_features(house, undisturbed)
        shutil.rmtree(house.settings.home)
    assert writes > 15


@pytest.mark.slow
@pytest.mark.parametrize("every", EVERY)
def test_a_first_load_killed_at_any_write_and_run_again_is_whole(tmp_path: Path, days: list[date], every: int) -> None:
    market = eventful(days)
    undisturbed = House(tmp_path / "undisturbed", market)
    assert not killed_at(undisturbed, days[61], 1000)
    for writes in count(1, every):
        house = House(tmp_path / f"killed-{writes}", market)
        killed = killed_at(house, days[61], writes)
        assert not killed_at(house, days[61], 1000)
        assert_same_tables(house, undisturbed)
        assert_same_features(house, undisturbed)
        if not killed:
            break
    assert writes > 6
    found = [(row["rule"], row["day"]) for row in undisturbed.ledger.findings()]
    assert {("missing_session", days[20]), ("split_sized_jump", days[25])} <= set(found)


def test_an_interrupted_rewrite_is_marked_until_the_history_is_read_whole(
    house: House, market: Market, days: list[date]
) -> None:
    house.refresh(days[60])
    name = house.symbols[0]
    house.ledger.note_state([{"symbol": name, "rewriting": True}])
    market.behaviour.failing_whole = {name: Cause.OUTAGE}
    house.refresh(days[60])
    assert house.ledger.states()[name]["rewriting"]
    market.behaviour.failing_whole = {}
    house.refresh(days[60])
    assert market.asked[-1][name] is None
    state = house.ledger.states()[name]
    assert (state["rewriting"], state["rebuild_features"], state["bars"]) == (False, True, 61)
    house.refresh(days[61])
    assert market.asked[-1][name] is not None


def copy_of(house: House, home: Path) -> House:
    shutil.copytree(house.settings.home, home)
    return House(home, house.market)


# --- Hints


def test_a_hint_that_lags_behind_the_lake_is_healed(house: House, days: list[date]) -> None:
    house.refresh(days[60])
    name = house.symbols[0]
    behind = datetime(days[55].year, days[55].month, days[55].day, tzinfo=UTC)
    house.ledger.note_state([{"symbol": name, "last_bar": behind, "bars": 56}])
    report = house.refresh(days[60])
    state = house.ledger.states()[name]
    assert (state["last_bar"].date(), state["bars"]) == (days[60], 61)
    assert report.totals["new"] == 0
    assert house.lake.last_rows("bars")["rows"].to_list() == [61, 61, 61]


def test_a_hint_that_is_missing_is_read_from_the_lake(house: House, market: Market, days: list[date]) -> None:
    house.refresh(days[60])
    name = house.symbols[0]
    house.ledger.note_state([{"symbol": name, "last_bar": None, "first_bar": None, "bars": 0}])
    house.refresh(days[61])
    state = house.ledger.states()[name]
    assert (state["first_bar"].date(), state["last_bar"].date(), state["bars"]) == (days[0], days[61], 62)
    assert market.asked[-1][name] is not None


# --- Two at once


@pytest.mark.slow
def test_two_ingests_at_once_double_and_lose_nothing(tmp_path: Path, days: list[date]) -> None:
    market = eventful(days)
    prepared = House(tmp_path / "prepared", market)
    prepared.refresh(days[60])
    undisturbed = copy_of(prepared, tmp_path / "undisturbed")
    undisturbed.refresh(days[61])
    undisturbed.refresh(days[62])
    for attempt in range(3):
        home = tmp_path / f"rivals-{attempt}"
        shutil.copytree(prepared.settings.home, home)
        rivals = [House(home, market) for _ in range(3)]
        gate = Barrier(len(rivals))

        def refresh(rival: House, day: date, gate: Barrier = gate) -> None:
            gate.wait()
            rival.refresh(day)

        with ThreadPoolExecutor(len(rivals)) as pool:
            list(pool.map(refresh, rivals, (days[61], days[61], days[62])))
        rivals[0].refresh(days[62])
        assert_same_tables(rivals[0], undisturbed)


def test_two_first_loads_at_once_double_and_lose_nothing(tmp_path: Path, market: Market, days: list[date]) -> None:
    once = House(tmp_path / "once", market)
    once.refresh(days[60])
    rivals = [House(tmp_path / "rivals", market) for _ in range(3)]
    with ThreadPoolExecutor(len(rivals)) as pool:
        list(pool.map(lambda rival: rival.refresh(days[60]), rivals))
    assert_same_tables(rivals[0], once)


# --- What fails


@pytest.mark.parametrize("cause", list(Cause))
def test_a_failed_symbol_is_quarantined_with_its_cause_and_the_others_are_stored(
    house: House, market: Market, days: list[date], cause: Cause
) -> None:
    bad, *good = house.symbols
    market.behaviour.failing = {bad: cause}
    report = house.refresh(days[60])
    state = house.ledger.states()[bad]
    assert (state["quarantine_cause"], state["attempts"]) == (cause, 1)
    assert state["quarantine_reason"] == f"{bad}: {cause}, says the market"
    assert state["quarantined_at"] == evening(days[60])
    assert state["next_try"] == evening(days[60]) + FIRST_PAUSE
    assert report.partitions[bad] == {"state": "quarantined", "cause": cause, "reason": state["quarantine_reason"]}
    assert report.totals["quarantined"] == 1
    assert house.lake.read("bars")["symbol"].unique().sort().to_list() == good


def test_attempts_are_counted_the_pause_doubles_and_a_good_answer_heals(
    house: House, market: Market, days: list[date]
) -> None:
    bad = house.symbols[0]
    house.refresh(days[50])
    market.behaviour.failing = {bad: Cause.RATE_LIMITED}
    pauses = []
    for day in days[51:60]:
        house.refresh(day)
        state = house.ledger.states()[bad]
        pauses.append(state["next_try"] - evening(day))
        assert state["quarantined_at"] == evening(days[51])
    assert pauses[:3] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert max(pauses) == timedelta(days=1)
    assert house.lake.read("bars", symbols=[bad]).height == 51
    market.behaviour.failing = {}
    report = house.refresh(days[60])
    state = house.ledger.states()[bad]
    assert report.partitions[bad]["new"] == 10
    healed = [state[name] for name in ("quarantine_cause", "quarantine_reason", "quarantined_at", "next_try")]
    assert (healed, state["attempts"]) == ([None] * 4, 0)


def test_a_symbol_with_nothing_new_is_heard_and_heals(house: House, market: Market, days: list[date]) -> None:
    name = house.symbols[0]
    house.refresh(days[60])
    market.behaviour.failing = {name: Cause.OUTAGE}
    house.refresh(days[61])
    market.behaviour = type(market.behaviour)()
    market.bars = market.bars.filter(pl.col("symbol") != name)
    report = house.refresh(days[62])
    assert report.partitions[name] == {"state": "unchanged", "new": 0}
    assert house.ledger.states()[name]["quarantine_cause"] is None
    assert house.lake.read("bars", symbols=[name]).height == 61


def test_a_symbol_of_which_there_is_no_bar_yet_is_empty_and_healthy(
    house: House, market: Market, days: list[date]
) -> None:
    name = house.symbols[0]
    market.bars = market.bars.filter((pl.col("symbol") != name) | (pl.col("timestamp").dt.date() >= days[62]))
    assert house.refresh(days[60]).partitions[name]["state"] == "empty"
    assert house.ledger.states()[name]["quarantine_cause"] is None
    assert house.refresh(days[63]).partitions[name] == {
        "state": "updated",
        "new": 2,
        "bars": 2,
        "last_bar": str(evening(days[63], time())),
    }


def test_a_reread_that_fails_leaves_the_symbol_as_it_was_and_quarantined(
    house: House, market: Market, days: list[date]
) -> None:
    house.refresh(days[60])
    before = house.lake.read("bars")
    name = house.symbols[0]
    market.change(name, days[58], lambda row: row | {key: row[key] * 1.01 for key in OHLC})
    market.behaviour.failing_whole = {name: Cause.OUTAGE}
    report = house.refresh(days[61])
    assert report.partitions[name]["state"] == "quarantined"
    assert_frame_equal(house.lake.read("bars", symbols=[name]), before.filter(pl.col("symbol") == name))
    market.behaviour.failing_whole = {}
    assert house.refresh(days[62]).totals["restated"] == 1


def test_an_outage_is_no_delisting(house: House, market: Market, days: list[date]) -> None:
    house.refresh(days[60])
    before = house.tables()
    market.behaviour.down = True
    with pytest.raises(SourceUnavailable, match=r"^the market cannot be reached: wait, or take ALPHA_SOURCE=files$"):
        house.refresh(days[61])
    after = house.tables()
    for name in ("bars", "actions", "cleaning", "findings"):
        assert_frame_equal(after[name], before[name])
    assert [row["retired_at"] for row in house.ledger.universe(retired=True)] == [None] * 3
    states = house.ledger.states().values()
    assert {(state["quarantine_cause"], state["bars"]) for state in states} == {("outage", 61)}
    market.behaviour.down = False
    assert house.refresh(days[61]).totals["new"] == 3


def test_an_outage_before_the_first_bar_stores_nothing_empty(house: House, market: Market, days: list[date]) -> None:
    market.behaviour.down = True
    with pytest.raises(SourceUnavailable):
        house.refresh(days[60])
    assert house.lake.tables() == []
    assert {state["last_bar"] for state in house.ledger.states().values()} == {None}


@pytest.mark.parametrize(
    ("failing", "cause", "fails"),
    [
        (4, Cause.OUTAGE, False),
        (5, Cause.OUTAGE, True),
        (5, Cause.MALFORMED, True),
        (5, Cause.UNKNOWN_SYMBOL, False),
        (9, Cause.NO_DATA, False),
    ],
)
def test_the_step_fails_only_if_many_failed_for_causes_that_can_heal(
    tmp_path: Path, failing: int, cause: Cause, fails: bool
) -> None:
    market = simulated(10, date(2020, 1, 2), date(2020, 1, 31))
    house = House(tmp_path, market)
    market.behaviour.failing = dict.fromkeys(house.symbols[:failing], cause)
    if fails:
        with pytest.raises(TooManyFailed, match=f"^{failing} of 10 symbols failed .* the others are stored$"):
            house.refresh(date(2020, 1, 31))
    else:
        house.refresh(date(2020, 1, 31))
    assert house.lake.read("bars")["symbol"].n_unique() == 10 - failing


def test_five_failures_of_thirty_are_not_many(tmp_path: Path) -> None:
    market = simulated(30, date(2020, 1, 2), date(2020, 1, 10))
    house = House(tmp_path, market)
    market.behaviour.failing = dict.fromkeys(house.symbols[:5], Cause.OUTAGE)
    assert house.refresh(date(2020, 1, 10)).totals["quarantined"] == 5


def test_a_run_of_one_symbol_fails_plainly_with_the_cause(house: House, market: Market, days: list[date]) -> None:
    name = house.symbols[0]
    market.behaviour.failing = {name: Cause.UNKNOWN_SYMBOL}
    with pytest.raises(NothingIngested, match=f"^{name}: {name}: unknown_symbol, says the market$"):
        house.refresh(days[60], [name])


def test_a_run_in_which_all_failed_says_so(house: House, market: Market, days: list[date]) -> None:
    market.behaviour.failing = dict.fromkeys(house.symbols, Cause.RATE_LIMITED)
    with pytest.raises(NothingIngested, match=r"^all 3 symbols failed: "):
        house.refresh(days[60])


def test_a_symbol_that_makes_cleaning_raise_stops_no_other(
    house: House, days: list[date], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No input is known that does; so the real cleaning is given one."""
    bad = house.symbols[1]

    def touchy(raw: pl.DataFrame, *given: Any, **named: Any) -> Cleaned:
        if bad in raw["symbol"]:
            raise ArithmeticError("a row that nobody thought of")
        return clean(raw, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(station, "clean", touchy)
        report = house.refresh(days[60])
    assert report.partitions[bad]["cause"] == Cause.MALFORMED
    assert report.partitions[bad]["reason"] == (
        f"what the source says of {bad} cannot be cleaned: ArithmeticError: a row that nobody thought of"
    )
    assert report.totals["rows_read"] == report.totals["new"] == 2 * 61
    assert bad not in house.lake.read("bars")["symbol"].to_list()
    assert house.refresh(days[61]).partitions[bad]["new"] == 62


def test_a_row_that_no_calendar_reaches_is_dropped_and_stops_nobody(
    tmp_path: Path, market: Market, days: list[date]
) -> None:
    odd = sorted(market.bars["symbol"].unique())[1]
    house = House(tmp_path, market, calendars={odd: "24/7"})
    market.behaviour.monstrous = {odd}
    report = house.refresh(days[60])
    assert report.totals["by_rule"]["closed_day"]["dropped"] == 1
    assert report.totals["new"] == 3 * 61 - 1  # at its hour the newest day of a market that never closes is not over


def test_bars_go_on_where_a_calendar_ends_and_one_warning_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last = calendars.bounds("XBOM")[1]
    file = tmp_path / "TCS.NS.csv"
    settings = Settings(home=tmp_path / "home", files=str(file), _env_file=None)  # type: ignore[call-arg]
    lake, ledger, source = Lake(settings), Ledger(settings), Files(settings)
    ledger.add_symbols([{"symbol": "TCS.NS", "source": "files", "calendar": "XBOM", "added_at": evening(last)}])
    days = calendars.sessions("XBOM", last - timedelta(days=40), last + timedelta(days=40)).to_list()
    holiday = next(day for day in days if day > last + timedelta(days=7))

    def publish(until: date) -> Report:
        lines = [f"{day},9,{10 + day.day},8,9.5,{1000 + day.day}" for day in days if day != holiday and day <= until]
        file.write_text("\n".join(["date,open,high,low,close,volume", *lines]) + "\n")
        return ingest(lake, ledger, {"files": source}, settings, ["TCS.NS"], evening(until))

    publish(last)
    assert "upgrade exchange_calendars" not in caplog.text
    report = publish(days[-1])
    assert report.totals["dropped"] == report.totals["quarantined"] == 0
    assert lake.read("bars")["timestamp"].dt.date().to_list() == [day for day in days if day != holiday]
    assert source.complete_until(["TCS.NS"], evening(days[-1])) == {"TCS.NS": ledger.states()["TCS.NS"]["last_bar"]}
    assert [row for row in ledger.findings() if row["rule"] == station.MISSING_SESSION] == []
    assert caplog.text.count("upgrade exchange_calendars") == 1
    assert f"calendar XBOM knows the sessions to {last} only" in caplog.text


@given(st.lists(st.integers(0, 61), unique=True, min_size=1))
def test_what_is_held_dropped_and_missing_makes_up_the_calendar_inside_the_held_span(places: list[int]) -> None:
    every = calendars.sessions("XNYS", date(2020, 1, 1), date(2020, 3, 31)).to_list()
    held = [every[place] for place in places]
    frame = pl.DataFrame({"symbol": "A", "listing": every[0], "day": held})
    log = pl.DataFrame({"symbol": ["A"], "timestamp": [datetime(2020, 2, 3, tzinfo=UTC)]})
    missing = station.missing_sessions(frame, log, {"A": "XNYS"})["day"].to_list()
    assert sorted({*held, date(2020, 2, 3), *missing}) == sorted(
        {day for day in every if min(held) <= day <= max(held)} | {date(2020, 2, 3)}
    )
    assert len(missing) == len(set(missing) - set(held) - {date(2020, 2, 3)})


def test_a_symbol_of_an_unknown_calendar_is_quarantined_by_name(house: House, days: list[date]) -> None:
    house.refresh(days[60])
    bad = house.symbols[0]
    row = {"symbol": bad, "source": "market", "calendar": "XATL", "added_at": evening(days[60])}
    house.ledger.add_symbols([row])
    report = house.refresh(days[61])
    assert report.totals["new"] == 2
    assert report.partitions[bad]["cause"] == Cause.REFUSED
    assert report.partitions[bad]["reason"].startswith("calendar 'XATL' is unknown")


def test_a_symbol_that_nobody_added_is_refused_by_name(house: House, days: list[date]) -> None:
    with pytest.raises(
        StationFailed, match=r"^NEMO is not in the universe: add it with «alpha-assets universe add NEMO»"
    ):
        house.refresh(days[60], ["NEMO"])


# --- What is said


@pytest.fixture
def told(house: House, days: list[date]) -> list[tuple[str, int, int]]:
    words: list[tuple[str, int, int]] = []
    ingest(
        house.lake,
        house.ledger,
        {"market": house.market},
        house.settings,
        house.symbols,
        evening(days[60]),
        progress=lambda stage, done, total: words.append((stage, done, total)),
    )
    return words


def test_progress_names_the_source_and_ends_with_all(told: list[tuple[str, int, int]]) -> None:
    assert told == [("fetching from market", 0, 3), ("stored", 3, 3)]


def test_every_row_is_accounted_for_with_rereads_too(house: House, market: Market, days: list[date]) -> None:
    house.refresh(days[60])
    name = house.symbols[0]
    soil(market, name, days[61], "duplicate_conflicting")
    market.change(name, days[58], lambda row: row | {key: row[key] * 1.01 for key in OHLC})
    totals = house.refresh(days[61]).totals
    assert totals["rows_read"] == (3 * 7 + 1) + (62 + 1)
    assert (totals["dropped"], totals["flagged"]) == (2, 2)
    assert totals["by_rule"]["duplicate_conflicting"] == {"repaired": 0, "dropped": 2, "flagged": 0}


def test_the_last_bars_of_the_states_are_the_lakes(house: House, days: list[date]) -> None:
    house.refresh(days[40])
    house.refresh(days[60])
    held = house.lake.last_rows("bars")
    states = house.ledger.states()
    assert [(states[name]["first_bar"], states[name]["last_bar"], states[name]["bars"]) for name in house.symbols] == (
        held.select("first", "last", "rows").rows()
    )
    assert held.schema["last"] == TIME
    assert calendars.sessions("XNYS", days[0], days[60]).len() == held["rows"][0]
