"""The second station: only what is missing is computed, a changed past is computed anew, nothing stale is left.

That chunks give the features of one run, and that a kill at any write changes nothing, is proved in ``test_ingest.py``.
"""

import shutil
from collections.abc import Callable, Iterator
from datetime import date, time
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from threading import Event, Lock, Semaphore
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.parameters import FeatureParameters, RegimeParameters
from alpha_assets.quant.schema import DIVIDEND, OHLC
from alpha_assets.stations import featurise as station
from alpha_assets.stations.base import Report
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.ingest import ingest
from alpha_assets.stations.inspect import quarantine_verdict
from alpha_assets.stations.series import adjusted_bars, calendars_of
from alpha_assets.stations.sets import REGIME_COLUMNS, recipe_of, table_of
from alpha_assets.stations.train import lacking
from alpha_assets.stores.lake import Lake, LakeUnavailable
from alpha_assets_tests.stations.market import EVERY, House, Market, evening, simulated, soil
from alpha_assets_tests.stations.test_ingest import Killed, Mortal, assert_same_features


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
    house = House(tmp_path / "home", market)
    house.refresh(days[99])
    build(house)
    return house


def build(house: House) -> Report:
    return featurise(house.lake, house.ledger, house.settings, house.symbols)


def stored(house: House) -> pl.DataFrame:
    return house.lake.read(table_of(house.settings))


def test_the_first_run_builds_a_row_a_bar_and_the_next_one_says_unchanged(house: House) -> None:
    bars = house.lake.read("bars", columns=["symbol", "timestamp"])
    assert_frame_equal(stored(house).select("symbol", "timestamp"), bars)
    assert set(stored(house).columns) == {"symbol", "timestamp", *recipe_of(house.settings).columns, *REGIME_COLUMNS}
    assert set(stored(house).select(recipe_of(house.settings).columns).dtypes) == {pl.Float32}
    version = house.lake.version(table_of(house.settings))
    assert build(house).states() == {"unchanged": 2}
    assert house.lake.version(table_of(house.settings)) == version


@pytest.mark.parametrize("by", [["timestamp", "symbol"], [pl.col("symbol"), -pl.int_range(pl.len())]])
def test_bars_in_another_order_are_refused_by_symbol_and_time_for_regimes_would_stand_beside_another_bars_features(
    house: House, by: list[Any]
) -> None:
    """Of one symbol a wrong order would pass unseen: as many rows, and a regime in each."""
    names = calendars_of(house.ledger)
    bars, _ = adjusted_bars(house.lake, house.settings, names, house.symbols)
    kitchen = station.Kitchen(house.lake, house.settings, recipe_of(house.settings), names)
    assert kitchen.values(bars, kitchen.benchmark()).equals(stored(house))
    with pytest.raises(ValueError, match=r"SIM01 2020-\d\d-\d\d.*sorted by symbol and timestamp"):
        kitchen.values(bars.sort(by), kitchen.benchmark())


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_batches_side_by_side_fill_the_table_that_one_batch_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    market = simulated(7, date(2020, 1, 2), date(2020, 5, 29), split_rate=2.0)
    at_once = House(tmp_path / "at-once", market)
    at_once.refresh(market.sessions()[-1])
    batches = again(at_once, tmp_path / "batches", workers=workers)
    build(at_once)
    said: list[tuple[int, int]] = []
    monkeypatch.setattr(station, "SYMBOLS_AT_ONCE", 2)

    def told(_stage: str, done: int, total: int, _at: str = "") -> None:
        said.append((done, total))

    report = featurise(batches.lake, batches.ledger, batches.settings, batches.symbols, told)
    assert report.states() == {"built": 7}
    assert said == sorted(said)
    assert said[-1] == (7, 7)
    assert_frame_equal(stored(batches), stored(at_once))


class Watched:
    """How many are in one part of a build at a time, and at most were.

    Each stays until there are as many as may be, and then a little, for one too many to come.
    """

    def __init__(self, most: int) -> None:
        self.most, self.now, self.peak, self.entered = most, 0, 0, 0
        self.full, self.crowded, self.counting = Event(), Event(), Lock()

    def __enter__(self) -> None:
        with self.counting:
            self.now += 1
            self.entered += 1
            self.peak = max(self.peak, self.now)
            if self.now >= self.most:
                self.full.set()
            if self.now > self.most:
                self.crowded.set()

    def linger(self) -> None:
        self.full.wait(20)
        self.crowded.wait(0.1)

    def __exit__(self, *_: object) -> None:
        with self.counting:
            self.now -= 1


class Slate:
    """A lake of which every write is watched, and waits for something to be computed beside it."""

    def __init__(self, lake: Lake, writes: Watched, computed: Watched, both: Event) -> None:
        self._lake, self._writes, self._computed, self._both = lake, writes, computed, both

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lake, name)

    def replace(self, *given: Any, **named: Any) -> int:
        with self._writes:
            if self._computed.now:
                self._both.set()
            self._both.wait(2)
            self._writes.linger()
            return self._lake.replace(*given, **named)


@pytest.mark.parametrize("workers", [1, 2])
def test_as_many_batches_as_workers_are_computed_at_a_time_and_meanwhile_one_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    market = simulated(6, date(2020, 1, 2), date(2020, 2, 28))
    house = House(tmp_path, market, workers=workers)
    house.refresh(market.sessions()[-1])
    computed, writes, both = Watched(workers), Watched(1), Event()
    honest = station.compute

    def compute(*given: Any, **named: Any) -> pl.DataFrame:
        with computed:
            if writes.now:
                both.set()
            computed.linger()
            return honest(*given, **named)

    monkeypatch.setattr(station, "compute", compute)
    monkeypatch.setattr(station, "SYMBOLS_AT_ONCE", 1)
    lake = Slate(house.lake, writes, computed, both)
    report = featurise(lake, house.ledger, house.settings, house.symbols)  # type: ignore[arg-type]
    assert report.states() == {"built": 6}
    assert (computed.entered, writes.entered) == (6, 6)
    assert (computed.peak, writes.peak) == (workers, 1)
    assert both.is_set(), "nothing was computed while a batch was written"


class Failing:
    """A lake of which one method fails the second time it is asked about features."""

    def __init__(self, lake: Lake, method: str) -> None:
        self._lake, self.method, self.asked = lake, method, 0

    def __getattr__(self, name: str) -> Any:
        honest = getattr(self._lake, name)
        return partial(self._asked, honest) if name == self.method else honest

    def _asked(self, honest: Callable[..., Any], *given: Any, **named: Any) -> Any:
        self.asked += 1
        if self.asked == 2:
            raise LakeUnavailable("the disk is gone")
        return honest(*given, **named)


@pytest.mark.parametrize("method", ["read", "replace"])
def test_a_batch_that_fails_gives_back_its_place_at_computing_and_at_writing(house: House, method: str) -> None:
    recipe, names = recipe_of(house.settings), dict.fromkeys(house.symbols, "XNYS")
    lake = Failing(house.lake, method)
    kitchen = station.Kitchen(lake, house.settings, recipe, names)  # type: ignore[arg-type]
    computing, writing = Semaphore(1), Lock()
    batch = partial(kitchen._build, benchmark=kitchen.benchmark(), computing=computing, writing=writing, workers=1)
    lake.asked = 1
    with pytest.raises(LakeUnavailable, match="the disk is gone"):
        batch(house.symbols[:1])
    assert computing.acquire(blocking=False), "the next batch would wait for ever to compute"
    computing.release()
    assert not writing.locked(), "the next batch would wait for ever to write"
    written, _, _ = batch(house.symbols[1:])
    assert written["symbol"].to_list() == house.symbols[1:]


def test_a_build_of_which_one_batch_cannot_be_written_ends_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = simulated(5, date(2020, 1, 2), date(2020, 2, 28))
    house = House(tmp_path, market, workers=2)
    house.refresh(market.sessions()[-1])
    monkeypatch.setattr(station, "SYMBOLS_AT_ONCE", 1)
    lake = Failing(house.lake, "replace")
    with pytest.raises(LakeUnavailable, match="the disk is gone"):
        featurise(lake, house.ledger, house.settings, house.symbols)  # type: ignore[arg-type]
    assert build(house).states() == {"built": 5}
    assert stored(house).height == house.lake.read("bars").height


@pytest.mark.parametrize(
    ("symbols", "at_once", "sizes"),
    [
        (1, 150, [1]),
        (150, 150, [150]),
        (151, 150, [113, 38]),
        (505, 200, [150, 200, 155]),
        (3, 1, [1, 1, 1]),
        (9, 4, [3, 4, 2]),
    ],
)
def test_batches_hold_every_symbol_once_and_the_first_of_several_is_shorter(
    symbols: int, at_once: int, sizes: list[int]
) -> None:
    names = [f"S{number:03}" for number in range(symbols)]
    batches = station._batches(names, at_once)
    assert [len(batch) for batch in batches] == sizes
    assert [name for batch in batches for name in batch] == names


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
        lake = Interrupted(house.lake, "replace", table_of(house.settings), lambda: house.refresh(days[101]))
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
    published = stored(house).filter(pl.col("symbol") == name)
    report = featurise(house.lake, house.ledger, house.settings, house.symbols, now=evening(days[100]))
    assert_frame_equal(stored(house).filter(pl.col("symbol") == name), published)
    assert report.partitions[other]["state"] == ("built" if anew else "updated")
    assert report.partitions[name]["state"] == "held"
    state = house.ledger.states()[name]
    assert (state["quarantine_cause"], state["quarantined_at"]) == ("features_failed", evening(days[100]))
    assert "prices must be positive" in state["quarantine_reason"]
    house.lake.replace("bars", bars, [name])
    build(house)
    assert house.ledger.states()[name]["quarantine_cause"] is None
    assert house.ledger.states()[name]["features_until"].date() == days[100]


def test_a_symbol_whose_newest_row_is_gone_is_built_anew_and_not_held_for_ever(house: House, days: list[date]) -> None:
    """As after a table is brought back from a backup: the ledger knows of rows that the lake has no more."""
    name, other = house.symbols
    rows = stored(house)
    lost = rows.filter(pl.col("symbol") == name).tail(3).select("symbol", "timestamp")
    house.lake.replace(table_of(house.settings), rows.clear(), [name], gone=lost)
    house.refresh(days[100])
    report = build(house)
    assert {report.partitions[symbol]["state"] for symbol in (name, other)} == {"updated"}
    bars = house.lake.read("bars", columns=["symbol", "timestamp"])
    assert_frame_equal(stored(house).select("symbol", "timestamp"), bars)


# --- Tables that are no longer the current one


SMOOTH = FeatureParameters(denoiser="ema")

CHANGES: dict[str, dict[str, Any]] = {
    "denoiser": {"features": SMOOTH},
    "benchmark": {"features": FeatureParameters(benchmark="SIM01")},
    "regimes": {"regimes": RegimeParameters(volatile_from=0.8)},
}


def again(house: House, folder: Path | None = None, **knobs: Any) -> House:
    """The same home, or a copy of it, under other settings."""
    if folder is not None:
        shutil.copytree(house.settings.home, folder)
    return House(folder or house.settings.home, house.market, **knobs)


def promote(house: House, symbol: str, table: str, seq: int = 1, regime: str = "all") -> None:
    """A decision by which the production model of ``symbol`` reads ``table``."""
    decided = {"symbol": symbol, "regime": regime, "seq": seq, "verdict": "promote", "reason": "it is good"}
    more = {"model_version": "1", "features_set": table, "evidence": {}, "decided_at": evening(date(2020, 6, 1))}
    house.ledger.decide([decided | more])


def last_of(house: House, table: str) -> dict[str, date]:
    return {symbol: at.date() for symbol, at in house.lake.last_times(table, house.symbols).items()}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_setting_is_another_table_built_whole_and_the_old_one_stays_as_it_was(
    house: House, days: list[date], change: str
) -> None:
    old, before = table_of(house.settings), stored(house)
    changed = again(house, **CHANGES[change])
    changed.refresh(days[101])
    assert build(changed).states() == {"built": 2}
    assert table_of(changed.settings) != old
    assert set(last_of(changed, table_of(changed.settings)).values()) == {days[101]}
    assert_frame_equal(house.lake.read(old), before)
    assert build(changed).states() == {"unchanged": 2}


def test_an_old_table_is_kept_up_to_date_for_the_symbols_whose_promoted_model_reads_it(
    house: House, days: list[date]
) -> None:
    reader, other = house.symbols
    old = table_of(house.settings)
    promote(house, reader, old)
    promote(house, reader, old, regime="volatile")
    changed = again(house, features=SMOOTH)
    for day in (days[101], days[103]):
        changed.refresh(day)
        build(changed)
        assert last_of(changed, old) == {reader: day, other: days[99]}
    assert build(house).states() == {"built": 2}, "whoever returns to it finds nothing out of date"
    promote(house, reader, table_of(changed.settings), seq=2)
    promote(house, reader, table_of(changed.settings), seq=2, regime="volatile")
    build(changed)
    changed.refresh(days[105])
    build(changed)
    assert last_of(changed, old)[reader] == days[103], "nobody reads it any more"


def test_an_old_table_is_what_its_own_settings_would_have_made_of_it(house: House, days: list[date]) -> None:
    """In one run a symbol is rebuilt and another brought on, in both tables."""
    for symbol in house.symbols:
        promote(house, symbol, table_of(house.settings))
    twin = again(house, house.settings.home.parent / "twin")
    changed = again(house, features=SMOOTH)
    build(changed)
    house.market.change(house.symbols[0], days[95], lambda row: row | {name: row[name] * 1.02 for name in OHLC})
    for home in (changed, twin):
        home.refresh(days[100], full=True)
        build(home)
    assert_same_features(again(changed), twin)
    fresh = House(house.settings.home.parent / "fresh", house.market, features=SMOOTH)
    fresh.refresh(days[100])
    build(fresh)
    assert_same_features(changed, fresh)


def test_an_old_table_is_updated_by_its_own_memory_not_by_that_of_the_settings(tmp_path: Path) -> None:
    """A hidden Markov chain needs its listing from the first bar on; rules do not."""
    market = simulated(1, date(2017, 1, 3), date(2020, 1, 31), split_rate=0.0)
    sessions = market.sessions()
    old = House(tmp_path / "old", market, regimes=WHOLE_LISTINGS)
    old.refresh(sessions[-4])
    build(old)
    promote(old, old.symbols[0], table_of(old.settings))
    twin = again(old, tmp_path / "twin", regimes=old.settings.regimes)
    changed = again(old)
    build(changed)
    for home in (changed, twin):
        home.refresh(sessions[-1])
        build(home)
    assert last_of(changed, table_of(old.settings)) == {old.symbols[0]: sessions[-1]}
    assert_same_features(old, twin)


#: A regime filter that reads each listing from its first bar on, unlike the rules.
WHOLE_LISTINGS = RegimeParameters(method="hmm", hmm_bars=100, hmm_iterations=2)


def torn(tmp_path: Path) -> tuple[House, str, list[date]]:
    """Two symbols whose models read an older table; a bar of the first, which only that table still reads, is broken.

    The home under its new settings, the older table, and the market's sessions, of which three are new.
    """
    market = simulated(2, date(2017, 1, 3), date(2020, 1, 31), split_rate=0.0, dividend_share=0.0)
    sessions = market.sessions()
    old = House(tmp_path / "old", market, regimes=WHOLE_LISTINGS)
    old.refresh(sessions[-4])
    build(old)
    for symbol in old.symbols:
        promote(old, symbol, table_of(old.settings))
    changed = again(old)
    build(changed)
    break_bar(changed, 5)
    changed.refresh(sessions[-1])
    return changed, table_of(old.settings), sessions


def break_bar(house: House, place: int) -> pl.DataFrame:
    """Store a negative close of the first symbol; its bars before."""
    bars = house.lake.read("bars", symbols=house.symbols[:1])
    wrong = pl.when(pl.int_range(pl.len()) == place % bars.height).then(-1.0).otherwise("close")
    house.lake.replace("bars", bars.with_columns(close=wrong), house.symbols[:1])
    return bars


def mend_bar(house: House) -> None:
    bars = house.lake.read("bars", symbols=house.symbols[:1])
    house.lake.replace("bars", bars.with_columns(close=pl.col("close").abs().clip(pl.col("low"))), house.symbols[:1])


def test_an_old_table_that_cannot_go_on_names_symbol_table_and_cause_and_the_others_go_on(tmp_path: Path) -> None:
    house, old, sessions = torn(tmp_path)
    name, other = house.symbols
    at = evening(sessions[-1])
    report = featurise(house.lake, house.ledger, house.settings, house.symbols, now=at)
    assert report.states() == {"updated": 2}, "the current table reads no bar so old"
    assert last_of(house, old) == {name: sessions[-4], other: sessions[-1]}
    assert report.totals["older"] == {old: {"rows": 3, "updated": 1, "held": 1}}
    assert "older" not in report.partitions[other]
    said = report.partitions[name]["older"]
    assert said.startswith(f"{old}, which its promoted model reads: its features cannot be computed")
    assert f"of {name}: the bar of {sessions[5]}" in said
    state = house.ledger.states()[name]
    told = (state["quarantine_cause"], state["quarantine_reason"], state["quarantined_at"])
    assert told == ("older_features_failed", said, at)
    assert house.ledger.states()[other]["quarantine_cause"] is None
    assert lacking(state, house.settings) is None, "a new model is what ends the need for the older table"


def test_a_symbol_whose_old_table_stands_still_stays_named_until_it_goes_on(tmp_path: Path) -> None:
    house, old, sessions = torn(tmp_path)
    name, other = house.symbols
    for hour in (22, 23):
        at = evening(sessions[-1], time(hour))
        report = featurise(house.lake, house.ledger, house.settings, house.symbols, now=at)
    assert (report.states(), report.totals["older"][old]) == ({"unchanged": 2}, {"rows": 0, "unchanged": 1, "held": 1})
    assert report.partitions[name]["older"] == house.ledger.states()[name]["quarantine_reason"]
    assert house.ledger.states()[name]["quarantined_at"] == evening(sessions[-1], time(22)), "since the first run"
    build_of_other = featurise(house.lake, house.ledger, house.settings, [other])
    assert build_of_other.totals["older"] == {old: {"rows": 0, "unchanged": 1}}
    assert house.ledger.states()[name]["quarantine_cause"] == "older_features_failed", "a run of others heals nothing"
    mend_bar(house)
    report = build(house)
    assert report.totals["older"] == {old: {"rows": 3, "unchanged": 1, "updated": 1}}
    assert "older" not in report.partitions[name]
    assert last_of(house, old) == dict.fromkeys(house.symbols, sessions[-1])
    assert house.ledger.states()[name]["quarantine_cause"] is None


def test_what_holds_both_tables_is_said_of_the_current_one(house: House, days: list[date]) -> None:
    name, old = house.symbols[0], table_of(house.settings)
    promote(house, name, old)
    changed = again(house, features=SMOOTH)
    build(changed)
    changed.refresh(days[101])
    bars = break_bar(changed, -1)
    for _ in range(2):
        report = build(changed)
        assert report.partitions[name]["state"] == "held"
        assert report.partitions[name]["older"].startswith(old)
        assert changed.ledger.states()[name]["quarantine_cause"] == "features_failed"
    changed.lake.replace("bars", bars, [name])
    assert "older" not in build(changed).partitions[name]
    assert changed.ledger.states()[name]["quarantine_cause"] is None
    assert last_of(changed, old)[name] == days[101]


def test_an_old_table_that_waits_for_its_benchmark_says_so_and_is_nobodys_fault(house: House, days: list[date]) -> None:
    benchmark, name = house.symbols
    old = again(house, features=FeatureParameters(benchmark=benchmark))
    build(old)
    promote(old, name, table_of(old.settings))
    build(house)
    house.refresh(days[100], [name])
    report = build(house)
    assert report.partitions[name]["state"] == "updated"
    assert f"no newer bar of the benchmark {benchmark} yet" in report.partitions[name]["older"]
    assert report.totals["older"] == {table_of(old.settings): {"rows": 0, "waiting": 1}}
    assert house.ledger.states()[name]["quarantine_cause"] is None


def test_an_old_table_of_which_nobody_knows_the_recipe_any_more_is_named(house: House) -> None:
    name, lost = house.symbols[0], "features/core-000000000000"
    promote(house, name, lost)
    report = build(house)
    assert report.totals["older"] == {lost: {"rows": 0, "stopped": 1}}
    assert report.partitions[name]["older"].startswith(f"{lost}, which its promoted model reads: this program makes")
    assert house.ledger.states()[name]["quarantine_cause"] is None


def test_a_rewrite_while_the_old_table_is_built_leaves_no_table_behind(house: House, days: list[date]) -> None:
    name = house.symbols[0]
    old = table_of(house.settings)
    promote(house, name, old)
    changed = again(house, features=SMOOTH)
    build(changed)
    house.market.change(name, days[97], lambda row: row | {key: row[key] * 1.02 for key in OHLC})
    changed.refresh(days[100])
    house.market.change(name, days[98], lambda row: row | {key: row[key] * 1.03 for key in OHLC})
    lake = Interrupted(changed.lake, "replace", old, lambda: changed.refresh(days[101]))
    featurise(lake, changed.ledger, changed.settings, changed.symbols)  # type: ignore[arg-type]
    build(changed)
    calm = House(house.settings.home.parent / "calm", house.market)
    calm.refresh(days[101])
    build(calm)
    ours, theirs = (home.lake.read(old, symbols=[name]) for home in (changed, calm))
    assert_frame_equal(ours, theirs, rel_tol=1e-6, abs_tol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("every", EVERY)
def test_a_kill_at_any_write_leaves_old_and_new_table_as_an_undisturbed_run_does(
    house: House, days: list[date], every: int
) -> None:
    folder = house.settings.home.parent
    for symbol in house.symbols:
        promote(house, symbol, table_of(house.settings))
    changed = again(house, features=SMOOTH)
    build(changed)
    house.market.change(house.symbols[0], days[97], lambda row: row | {name: row[name] * 1.02 for name in OHLC})
    changed.refresh(days[100])
    calm = again(changed, folder / "calm", features=SMOOTH)
    build(calm)
    for writes in count(1, every):
        victim = again(changed, folder / f"killed-{writes}", features=SMOOTH)
        fuse = [writes]
        lake, ledger = (Mortal(store, fuse) for store in (victim.lake, victim.ledger))
        try:
            featurise(lake, ledger, victim.settings, victim.symbols)  # type: ignore[arg-type]
            killed = False
        except Killed:
            killed = True
            build(victim)
        assert_same_features(victim, calm)
        assert_same_features(again(victim), again(calm))
        assert not any(state["rebuild_features"] for state in victim.ledger.states().values())
        if not killed:
            break
    assert writes > 6


# --- Law 1: any chunks give what one rebuild gives


@pytest.fixture(scope="module")
def long_market() -> Market:
    """Longer than the longest memory of a feature or a regime, with splits and dividends up to its end."""
    return simulated(2, date(2017, 1, 3), date(2020, 3, 31), split_rate=4.0, dividend_share=1.0)


@pytest.fixture(scope="module")
def begun_and_whole(long_market: Market, tmp_path_factory: pytest.TempPathFactory) -> tuple[House, House]:
    """A home up to bar 700, and one that was built at once."""
    folder = tmp_path_factory.mktemp("chunks")
    begun, whole = House(folder / "begun", long_market), House(folder / "whole", long_market)
    begun.refresh(long_market.sessions()[699])
    whole.refresh(long_market.sessions()[-1])
    for home in (begun, whole):
        build(home)
    return begun, whole


ALPHA158 = FeatureParameters(set="alpha158")

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def built_on(chunks: House, sizes: list[int]) -> Iterator[tuple[date, date, Report]]:
    """What the station says of each chunk after bar 700, with the session before it and its last one."""
    sessions = chunks.market.sessions()
    places = [min(699 + sum(sizes[:count]), len(sessions) - 1) for count in range(1, len(sizes) + 1)]
    for before, place in pairwise(dict.fromkeys([699, *places, len(sessions) - 1])):
        chunks.refresh(sessions[place])
        yield sessions[before], sessions[place], build(chunks)


@pytest.fixture(scope="module")
def begun_and_whole_158(
    begun_and_whole: tuple[House, House], tmp_path_factory: pytest.TempPathFactory
) -> tuple[House, House]:
    """The same homes with qlib's features."""
    folder = tmp_path_factory.mktemp("chunks-158")
    begun, whole = (
        again(home, folder / name, features=ALPHA158)
        for name, home in zip(("begun", "whole"), begun_and_whole, strict=True)
    )
    for home in (begun, whole):
        build(home)
    return begun, whole


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(sizes=SIZES)
def test_chunks_of_any_size_give_alpha158_of_one_rebuild_and_only_a_split_reads_the_past_again(
    begun_and_whole_158: tuple[House, House], tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    begun, whole = begun_and_whole_158
    splits = whole.lake.read("actions").filter(pl.col("kind") == "split").select("symbol", "ex_date").rows()
    chunks = again(begun, tmp_path_factory.mktemp("copy") / "home", features=ALPHA158)
    of_splits: set[str] = set()
    for before, last, report in built_on(chunks, sizes):
        split = {symbol for symbol, day in splits if before < day <= last}
        assert set(report.in_state("built")) == split
        of_splits |= split
    assert of_splits
    assert_same_features(chunks, whole)


@settings(max_examples=4, deadline=None)
@given(sizes=SIZES)
def test_chunks_of_any_size_give_features_regimes_and_probabilities_of_one_rebuild(
    begun_and_whole: tuple[House, House], tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    begun, whole = begun_and_whole
    chunks = again(begun, tmp_path_factory.mktemp("copy") / "home")
    for _, _, report in built_on(chunks, sizes):
        assert set(report.states()) <= {"updated", "unchanged"}, "a split that is known in time rebuilds nobody"
    ours, theirs = stored(chunks), stored(whole)
    assert_frame_equal(ours.select("symbol", "timestamp", "regime"), theirs.select("symbol", "timestamp", "regime"))
    assert ours["regime"].n_unique() >= 4
    assert_same_features(chunks, whole)
    actions = whole.lake.read("actions")
    assert set(actions.filter(pl.col("ex_date") > whole.market.sessions()[699])["kind"]) == {"split", "dividend"}
