"""Bars from Yahoo into the lake, through whatever Yahoo does: what is stored, what is said, and that it heals.

Everything that runs is the real thing: the unmodified client, the source, the ingest station, a Delta lake and a SQLite
ledger. Only the far end is made: a Yahoo on loopback that misbehaves on demand. The yardstick of healing is a twin
home that saw the same market at the same moments and no fault; clocks aside, nothing may tell the two apart.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant import calendars
from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.schema import ACTIONS, BARS, INTERVAL_SECONDS, RAW_BARS
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, SourceUnavailable
from alpha_assets.sources.yahoo import Yahoo
from alpha_assets.stations.base import Report
from alpha_assets.stations.ingest import BAR_KEY, FINDING_RULES, NothingIngested, TooManyFailed, ingest
from alpha_assets.stores.lake import Lake
from alpha_assets.stores.ledger import Ledger, Row
from alpha_assets_tests.homes import make_tables
from alpha_assets_tests.yahoo_lookalike import EVERYTHING, Fault, YahooLookalike, offer_control, redirected

FIRST = date(2024, 1, 2)
#: Three evenings in New York: the first full load, an increment with news of every kind, and the day that heals.
LOADED = datetime(2024, 6, 7, 21, tzinfo=UTC)
GREW = datetime(2024, 6, 12, 21, tzinfo=UTC)
HEALED = datetime(2024, 6, 13, 21, tzinfo=UTC)

SPLIT = (date(2024, 6, 10), "split", 10.0)
PAID_BEFORE = (date(2024, 3, 8), "dividend", 1.2)
PAID_AFTER = (date(2024, 6, 11), "dividend", 0.15)
EVENTS = (PAID_BEFORE, SPLIT, PAID_AFTER)

FAST = {"yahoo_requests_per_second": 50.0, "yahoo_backoff_seconds": 0.001, "yahoo_attempts": 2}


@dataclass(frozen=True)
class Said:
    """What the ledger says of a symbol after a fault: a cause and a word, or no cause where the fault passes unseen."""

    cause: Cause | None = None
    word: str = ""


UNKNOWN = Said(Cause.UNKNOWN_SYMBOL, "alpha-assets universe retire BAD")
NOTHING = Said(Cause.NO_DATA, "check ALPHA_HISTORY_START and ALPHA_INTERVAL")
LIMITED = Said(Cause.RATE_LIMITED, "a lower ALPHA_YAHOO_REQUESTS_PER_SECOND helps")
OUTAGE = Said(Cause.OUTAGE, "out or out of reach")
MALFORMED = Said(Cause.MALFORMED, "cannot be read")
UNSEEN = Said()

#: What is said of BAD where it cannot be loaded at first.
AT_FIRST: Mapping[Fault, Said] = {
    Fault.NOT_FOUND: UNKNOWN,
    Fault.OUT_OF_RANGE: NOTHING,
    Fault.EMPTY_QUOTE: NOTHING,
    Fault.RATE_LIMIT: LIMITED,
    Fault.SERVER_ERROR: OUTAGE,
    Fault.SERVER_ERROR_JSON: OUTAGE,
    Fault.GO_AWAY: OUTAGE,
    Fault.UNAUTHORIZED: OUTAGE,
    Fault.MAINTENANCE: OUTAGE,
    Fault.CUT: OUTAGE,
    Fault.DEAF: OUTAGE,
    Fault.SLOW: OUTAGE,
    Fault.TRUNCATED: MALFORMED,
    Fault.HTML: MALFORMED,
    Fault.NULL_RESULT: MALFORMED,
    Fault.EMPTY_RESULT: MALFORMED,
    Fault.NO_TIMESTAMPS: MALFORMED,
    Fault.BAD_SPLIT: MALFORMED,
    Fault.UNCUT: UNSEEN,
    Fault.LIVE_ROW: UNSEEN,
}
#: The same where it is loaded already: an empty answer is then «nothing new», which the next refresh may correct.
LATER: Mapping[Fault, Said] = {**AT_FIRST, Fault.OUT_OF_RANGE: UNSEEN, Fault.EMPTY_QUOTE: UNSEEN}
#: Faults that cost BAD nothing, not even until the next refresh.
HARMLESS = {Fault.UNCUT, Fault.LIVE_ROW}
#: The same faults as they are tried alone: of those that are said alike, one in passing and all in the slow suite.
IN_TURN = [
    fault
    if fault in HARMLESS or said not in list(LATER.values())[:place]
    else pytest.param(fault, marks=pytest.mark.slow)
    for place, (fault, said) in enumerate(LATER.items())
]


@dataclass(frozen=True)
class Seen:
    """What a home holds and says, clocks aside."""

    bars: pl.DataFrame
    actions: pl.DataFrame
    standing: list[Row]


class Home:
    """One home with its real lake and ledger, refreshed from the look-alike at moments of our choosing."""

    def __init__(self, folder: Path, yahoo: YahooLookalike, *symbols: str, **changes: Any) -> None:
        self.settings = Settings(home=folder, **{"history_start": FIRST, **FAST, **changes})
        self.lake, self.ledger = Lake(self.settings), Ledger(self.settings)
        self.source = Yahoo(self.settings)
        self._yahoo = yahoo
        self.follow(*symbols)

    def follow(self, *symbols: str) -> None:
        """Put symbols into the universe."""
        make_tables(self.settings)
        rows = [{"symbol": name, "source": "yahoo", "calendar": calendars.calendar_name(name)} for name in symbols]
        self.ledger.add_symbols([{**row, "added_at": LOADED} for row in rows])

    @property
    def symbols(self) -> list[str]:
        """Who is followed."""
        return [row["symbol"] for row in self.ledger.universe()]

    def refresh(self, moment: datetime, full: bool = False) -> Report:
        """One refresh of everybody, at a moment that is Yahoo's too."""
        self._yahoo.moment = moment
        return ingest(self.lake, self.ledger, {"yahoo": self.source}, self.settings, self.symbols, moment, full)

    def bars(self, *symbols: str) -> pl.DataFrame:
        """What is stored, clock aside."""
        return self.lake.read("bars", symbols=symbols or None, columns=list(BARS))

    def actions(self, *symbols: str) -> pl.DataFrame:
        """The same of splits and dividends."""
        return self.lake.read("actions", symbols=symbols or None, columns=list(ACTIONS))

    def state(self, symbol: str) -> Row:
        """What the ledger says of a symbol."""
        return self.ledger.states()[symbol]

    def seen(self) -> "Seen":
        """Everything but the clocks."""
        return Seen(self.bars(), self.actions(), self.standing())

    def standing(self) -> list[Row]:
        """The ledger's hints and quarantine of everybody, and what the checks found: the clock aside."""
        kept = ("symbol", "bars", "first_bar", "last_bar", "quarantine_cause", "quarantine_reason", "attempts")
        states = [{name: row[name] for name in kept} for row in self.ledger.states().values()]
        found = [{name: row[name] for name in ("symbol", "rule", "day")} for row in self.ledger.findings(FINDING_RULES)]
        return sorted(states, key=lambda row: row["symbol"]) + found


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[YahooLookalike]:
    """A look-alike that knows the control symbol, and this process's client redirected to it."""
    with YahooLookalike(tmp_path / "yahoo", HEALED) as lookalike, redirected(lookalike):
        offer_control(lookalike)
        yield lookalike


@pytest.fixture(scope="module")
def good_times(tmp_path_factory: pytest.TempPathFactory) -> dict[datetime, Seen]:
    """BAD and GOOD at the three moments in a home that saw no fault."""
    folder = tmp_path_factory.mktemp("good-times")
    seen = {}
    with YahooLookalike(folder / "yahoo", HEALED) as lookalike, redirected(lookalike):
        offer_control(lookalike)
        offer(lookalike, "BAD", "GOOD")
        home = Home(folder / "home", lookalike, "BAD", "GOOD")
        for moment in (LOADED, GREW, HEALED):
            home.refresh(moment)
            seen[moment] = home.seen()
    return seen


def daily(symbol: str, split: date | None = None) -> pl.DataFrame:
    """As-traded bars of every session: a wave of a few percent, a tenth of it from ``split`` on."""
    days = calendars.sessions(calendars.calendar_name(symbol), FIRST, HEALED.date())
    seed = sum(map(ord, symbol)) % 17
    place = pl.int_range(pl.len())
    close = 100.0 * (1.0 + 0.03 * ((place * 7 + seed) % 11) / 11)
    ratio = pl.when(pl.col("day") >= split).then(SPLIT[2]).otherwise(1.0) if split else pl.lit(1.0)
    return pl.DataFrame(days.alias("day")).select(
        pl.lit(symbol).alias("symbol"),
        pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("timestamp"),
        (close * 0.99 / ratio).alias("open"),
        (close * 1.02 / ratio).alias("high"),
        (close * 0.97 / ratio).alias("low"),
        (close / ratio).alias("close"),
        ((1_000_000 + 1000 * place) * ratio).cast(pl.Float64).alias("volume"),
    )


def events(symbol: str, *lines: tuple[date, str, float]) -> pl.DataFrame:
    return pl.DataFrame([(symbol, *line) for line in lines], schema=dict(ACTIONS), orient="row")


def offer(yahoo: YahooLookalike, *symbols: str) -> pl.DataFrame:
    """List ``symbols``; BAD has a split and two dividends. Returns the truth."""
    for symbol in symbols:
        yahoo.offer(symbol, bars_of(symbol), events(symbol, *EVENTS) if symbol == "BAD" else None)
    return pl.concat([bars_of(symbol) for symbol in symbols]).sort("symbol", "timestamp")


def bars_of(symbol: str) -> pl.DataFrame:
    return daily(symbol, SPLIT[0] if symbol == "BAD" else None)


def until(truth: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    return truth.filter(pl.col("timestamp") <= moment)


def without(truth: pl.DataFrame, *symbols: str) -> pl.DataFrame:
    return truth.filter(~pl.col("symbol").is_in(symbols))


def assert_holds(home: Home, truth: pl.DataFrame) -> None:
    """Exactly the bars of ``truth``, each once and as traded; Yahoo's volume is a whole number of today's shares."""
    held = home.bars()
    assert_frame_equal(held.select(*RAW_BARS).drop("volume"), truth.drop("volume"), rel_tol=1e-9)
    assert_frame_equal(held.select("volume"), truth.select("volume"), rel_tol=1e-3)


def assert_twins(home: Home, twin: Seen) -> None:
    """Bars, actions, hints, quarantine and findings are the same."""
    seen = home.seen()
    assert_frame_equal(seen.bars.drop("volume"), twin.bars.drop("volume"), rel_tol=1e-9)
    assert_frame_equal(seen.bars.select("volume"), twin.bars.select("volume"), rel_tol=1e-3)
    assert_frame_equal(seen.actions, twin.actions, rel_tol=1e-9)
    assert seen.standing == twin.standing


def undisturbed(folder: Path, yahoo: YahooLookalike, home: Home, *moments: datetime, **changes: Any) -> Seen:
    """What a twin of ``home`` holds that was refreshed at these moments by a Yahoo that behaves."""
    yahoo.heal()
    twin = Home(folder / "twin", yahoo, *home.symbols, **changes)
    for moment in moments:
        twin.refresh(moment)
    return twin.seen()


def assert_said(home: Home, report: Report, said: Said) -> None:
    """The ledger and the report say of BAD what they should, and of nobody else anything."""
    state = home.state("BAD") if "BAD" in home.ledger.states() else {}
    assert state.get("quarantine_cause") == (said.cause and str(said.cause))
    assert report.totals["quarantined"] == (0 if said.cause is None else 1)
    assert [row["symbol"] for row in home.ledger.states().values() if row["quarantine_cause"]] == (
        [] if said.cause is None else ["BAD"]
    )
    if said.cause is None:
        return
    assert state["quarantine_reason"].startswith("BAD")
    assert said.word in state["quarantine_reason"]
    assert report.partitions["BAD"]["state"] == "quarantined"
    assert report.partitions["BAD"]["reason"] == state["quarantine_reason"]


class TestEachFaultOfOneSymbol:
    @pytest.mark.parametrize("fault", AT_FIRST, ids=lambda fault: fault.name)
    def test_in_the_first_load_costs_that_symbol_only_is_said_and_heals_with_the_next_refresh(
        self, yahoo: YahooLookalike, tmp_path: Path, good_times: dict[datetime, Seen], fault: Fault
    ) -> None:
        truth = offer(yahoo, "BAD", "GOOD")
        timeout = {"yahoo_timeout_seconds": 0.5} if fault is Fault.SLOW else {}
        home = Home(tmp_path / "home", yahoo, "BAD", "GOOD", **timeout)
        yahoo.misbehave("BAD", fault)
        report = home.refresh(LOADED)
        assert_said(home, report, AT_FIRST[fault])
        loaded = until(truth, LOADED)
        assert_holds(home, loaded if fault in HARMLESS else without(loaded, "BAD"))
        assert report.totals["new"] == home.bars().height
        if fault not in HARMLESS:
            assert home.actions().is_empty()
        yahoo.heal()
        again = home.refresh(GREW)
        assert again.totals["restated"] == again.totals["quarantined"] == 0
        assert_holds(home, until(truth, GREW))
        assert_twins(home, good_times[GREW])

    @pytest.mark.parametrize("fault", IN_TURN, ids=lambda fault: fault.name)
    def test_in_an_increment_leaves_what_is_stored_is_said_and_heals_with_the_next_refresh(
        self, yahoo: YahooLookalike, tmp_path: Path, good_times: dict[datetime, Seen], fault: Fault
    ) -> None:
        truth = offer(yahoo, "BAD", "GOOD")
        timeout = {"yahoo_timeout_seconds": 0.5} if fault is Fault.SLOW else {}
        home = Home(tmp_path / "home", yahoo, "BAD", "GOOD", **timeout)
        home.refresh(LOADED)
        yahoo.misbehave("BAD", fault)
        report = home.refresh(GREW)
        assert_said(home, report, LATER[fault])
        behind = without(until(truth, GREW), "BAD"), until(truth, LOADED).filter(pl.col("symbol") == "BAD")
        assert_holds(home, until(truth, GREW) if fault in HARMLESS else pl.concat(behind).sort("symbol", "timestamp"))
        assert report.totals["restated"] == 0
        assert report.totals["new"] == (6 if fault in HARMLESS else 3)
        yahoo.heal()
        again = home.refresh(HEALED)
        assert again.totals["restated"] == again.totals["quarantined"] == 0
        assert again.totals["new"] == (2 if fault in HARMLESS else 5)
        assert_holds(home, truth)
        assert_twins(home, good_times[HEALED])

    def test_among_fifty_that_work_costs_that_symbol_only_and_the_step_goes_on(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        fifty = [f"S{number:02}" for number in range(50)]
        truth = offer(yahoo, *fifty, "BAD")
        home = Home(tmp_path / "home", yahoo, *fifty, "BAD", yahoo_batch=30)
        yahoo.misbehave("BAD", Fault.HTML)
        report = home.refresh(LOADED)
        assert_said(home, report, MALFORMED)
        assert report.totals["symbols"] == 51
        assert_holds(home, without(until(truth, LOADED), "BAD"))
        assert {symbol: len(yahoo.charts(symbol)) for symbol in fifty} == dict.fromkeys(fifty, 1)
        yahoo.misbehave("BAD", Fault.NOT_FOUND)
        assert_said(home, home.refresh(GREW), UNKNOWN)
        assert_holds(home, without(until(truth, GREW), "BAD"))
        yahoo.heal()
        assert_said(home, home.refresh(HEALED), UNSEEN)
        assert_holds(home, truth)

    def test_that_passes_within_one_refresh_is_healed_by_the_source_and_never_said(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        passing = {f"S{place:02}": fault for place, (fault, said) in enumerate(AT_FIRST.items()) if said.cause}
        passing = {name: fault for name, fault in passing.items() if AT_FIRST[fault] in (LIMITED, OUTAGE, MALFORMED)}
        truth = offer(yahoo, *passing)
        home = Home(tmp_path / "home", yahoo, *passing, yahoo_timeout_seconds=2.0)
        for moment in (LOADED, GREW):
            for name, fault in passing.items():
                yahoo.misbehave(name, fault, times=1)
            report = home.refresh(moment)
            assert report.totals["quarantined"] == report.totals["restated"] == 0
            assert_holds(home, until(truth, moment))

    def test_for_ever_is_counted_and_waits_longer_before_each_automatic_try(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        offer(yahoo, "BAD", "GOOD")
        home = Home(tmp_path / "home", yahoo, "BAD", "GOOD")
        yahoo.misbehave("BAD", Fault.RATE_LIMIT)
        pauses = []
        for attempt, moment in enumerate((LOADED, GREW, HEALED), start=1):
            home.refresh(moment)
            state = home.state("BAD")
            assert (state["attempts"], state["quarantined_at"]) == (attempt, LOADED)
            pauses.append(state["next_try"] - moment)
        assert pauses == [timedelta(minutes=15), timedelta(minutes=30), timedelta(minutes=60)]


#: Evenings, and noons at which the session under way has a bar that is not final.
MOMENTS = [datetime(2024, 6, day, hour, tzinfo=UTC) for day in (5, 6, 7, 10, 11, 12) for hour in (16, 21)]


class TestWhateverHappens:
    @pytest.mark.slow
    @hypothesis_settings(
        max_examples=40,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        play=st.dictionaries(
            st.sampled_from(MOMENTS),
            st.dictionaries(
                st.sampled_from(["BAD", "GOOD", EVERYTHING]),
                st.tuples(st.sampled_from([fault for fault in AT_FIRST if fault is not Fault.SLOW]), st.integers(1, 5)),
            ),
            min_size=1,
            max_size=5,
        )
    )
    def test_over_days_of_any_faults_one_good_refresh_makes_the_home_that_saw_none(
        self,
        yahoo: YahooLookalike,
        tmp_path_factory: pytest.TempPathFactory,
        good_times: dict[datetime, Seen],
        play: Mapping[datetime, Mapping[str, tuple[Fault, int]]],
    ) -> None:
        truth = offer(yahoo, "BAD", "GOOD")
        home = Home(tmp_path_factory.mktemp("home"), yahoo, "BAD", "GOOD")
        for moment, faults in sorted(play.items()):
            yahoo.heal()
            for symbol, (fault, times) in faults.items():
                yahoo.misbehave(symbol, fault, times)
            with suppress(NothingIngested, SourceUnavailable):
                assert home.refresh(moment).totals["restated"] == 0
            held = home.bars().select(BAR_KEY)
            assert held.is_unique().all()
            assert held.join(until(truth, moment), on=BAR_KEY, how="anti").is_empty()
        yahoo.heal()
        home.refresh(HEALED)
        assert_twins(home, good_times[HEALED])


class TestAnOutageOfEverything:
    def test_refused_at_the_first_load_stores_nothing_retires_nobody_and_raises_its_sentence(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        truth = offer(yahoo, "A", "B")
        home = Home(tmp_path / "home", yahoo, "A", "B")
        yahoo.refuse()
        with pytest.raises(SourceUnavailable, match=r"Yahoo Finance could not be reached .*`ALPHA_SOURCE=simulated`"):
            home.refresh(LOADED)
        assert home.lake.tables() == []
        assert home.symbols == ["A", "B"]
        assert {row["quarantine_cause"] for row in home.ledger.states().values()} == {"outage"}
        yahoo.accept()
        home.refresh(LOADED)
        assert_holds(home, until(truth, LOADED))
        assert_twins(home, undisturbed(tmp_path, yahoo, home, LOADED))

    def test_refused_at_an_increment_leaves_every_table_as_it_was_and_heals(
        self, yahoo: YahooLookalike, tmp_path: Path, good_times: dict[datetime, Seen]
    ) -> None:
        offer(yahoo, "BAD", "GOOD")
        home = Home(tmp_path / "home", yahoo, "BAD", "GOOD")
        home.refresh(LOADED)
        versions = {table: home.lake.version(table) for table in home.lake.tables()}
        yahoo.refuse()
        with pytest.raises(SourceUnavailable, match="could not be reached"):
            home.refresh(GREW)
        assert {table: home.lake.version(table) for table in home.lake.tables()} == versions
        assert home.symbols == ["BAD", "GOOD"]
        assert [home.state(symbol)["bars"] for symbol in home.symbols] == [110, 110]
        yahoo.accept()
        home.refresh(HEALED)
        assert_twins(home, good_times[HEALED])

    @pytest.mark.parametrize(
        ("fault", "cause"),
        [
            (Fault.NOT_FOUND, Cause.OUTAGE),
            (Fault.SERVER_ERROR, Cause.OUTAGE),
            (Fault.RATE_LIMIT, Cause.RATE_LIMITED),
            (Fault.HTML, Cause.OUTAGE),
            (Fault.EMPTY_RESULT, Cause.OUTAGE),
        ],
        ids=lambda value: value.name,
    )
    def test_that_looks_like_something_else_is_no_delisting_stores_nothing_and_heals(
        self, yahoo: YahooLookalike, tmp_path: Path, good_times: dict[datetime, Seen], fault: Fault, cause: Cause
    ) -> None:
        offer(yahoo, "BAD", "GOOD")
        home = Home(tmp_path / "home", yahoo, "BAD", "GOOD")
        home.refresh(LOADED)
        versions = {table: home.lake.version(table) for table in home.lake.tables()}
        yahoo.misbehave(EVERYTHING, fault)
        with pytest.raises(NothingIngested, match=r"all 2 symbols failed: .*BAD failed .* the control symbol SPY"):
            home.refresh(GREW)
        assert {table: home.lake.version(table) for table in home.lake.tables()} == versions
        assert {row["quarantine_cause"] for row in home.ledger.states().values()} == {str(cause)}
        yahoo.heal()
        home.refresh(HEALED)
        assert_twins(home, good_times[HEALED])

    def test_that_answers_empty_is_nothing_new_and_the_next_refresh_brings_what_was_missed(
        self, yahoo: YahooLookalike, tmp_path: Path, good_times: dict[datetime, Seen]
    ) -> None:
        offer(yahoo, "BAD", "GOOD")
        home = Home(tmp_path / "home", yahoo, "BAD", "GOOD")
        home.refresh(LOADED)
        yahoo.misbehave(EVERYTHING, Fault.EMPTY_QUOTE)
        report = home.refresh(GREW)
        assert report.states() == {"unchanged": 2}
        assert_twins(home, good_times[LOADED])
        yahoo.heal()
        home.refresh(HEALED)
        assert_twins(home, good_times[HEALED])

    def test_in_the_middle_of_a_refresh_keeps_what_was_read_and_asks_for_another_try(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        forty = [f"S{number:02}" for number in range(40)]
        truth = offer(yahoo, *forty)
        home = Home(tmp_path / "home", yahoo, *forty, yahoo_batch=10)
        home.source.progress = lambda *line: yahoo.refuse() if line[0] == 15 else None
        with pytest.raises(TooManyFailed, match=r"of 40 symbols failed for causes that can heal .* others are stored"):
            home.refresh(LOADED)
        read = home.bars()["symbol"].unique().to_list()
        assert len(read) >= 15
        assert_holds(home, until(truth, LOADED).filter(pl.col("symbol").is_in(read)))
        quarantined = [name for name, row in home.ledger.states().items() if row["quarantine_cause"] == "outage"]
        assert sorted([*read, *quarantined]) == forty
        home.source.progress = None
        yahoo.accept()
        home.refresh(LOADED)
        assert_holds(home, until(truth, LOADED))
        assert_twins(home, undisturbed(tmp_path, yahoo, home, LOADED))


class TestADelisting:
    def test_is_quarantined_as_unknown_keeps_its_bars_and_never_fails_the_step(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        dead, alive = [f"D{number}" for number in range(7)], ["A", "B"]
        truth = offer(yahoo, *dead, *alive)
        home = Home(tmp_path / "home", yahoo, *dead, *alive)
        home.refresh(LOADED)
        for name in dead:
            del yahoo.listings[name, "1d"]
        for moment in (GREW, HEALED):
            report = home.refresh(moment)
            assert report.totals["quarantined"] == len(dead)
            assert {home.state(name)["quarantine_cause"] for name in dead} == {"unknown_symbol"}
            assert "universe retire D0" in home.state("D0")["quarantine_reason"]
        assert home.symbols == sorted([*dead, *alive])
        assert_holds(home, truth.filter((pl.col("timestamp") <= LOADED) | pl.col("symbol").is_in(alive)))

    def test_beside_too_many_that_can_heal_is_not_counted_among_them(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        dead, ill, alive = ["D0", "D1", "D2"], [f"I{number}" for number in range(5)], ["A", "B"]
        offer(yahoo, *ill, *alive)
        for name in ill:
            yahoo.misbehave(name, Fault.TRUNCATED)
        home = Home(tmp_path / "home", yahoo, *dead, *ill, *alive)
        with pytest.raises(TooManyFailed, match="5 of 10 symbols failed for causes that can heal") as stopped:
            home.refresh(LOADED)
        assert "D0" not in str(stopped.value)
        assert sorted(home.bars()["symbol"].unique()) == alive

    def test_as_recorded_for_silvergate_between_two_refreshes(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path
    ) -> None:
        recorded = shared_data / "yahoo_chart"
        yahoo.play(recorded / "http__chart-SI-2020-01-01-to-2020-01-03.json")
        yahoo.offer("GOOD", daily("GOOD"))
        home = Home(tmp_path / "home", yahoo, "SI", "GOOD", history_start=date(2020, 1, 1))
        home.refresh(datetime(2024, 3, 1, 22, tzinfo=UTC))
        assert home.bars("SI").height == 1
        yahoo.play(recorded / "http__historical-via-chart-SI-2020-01-01-to-2020-01-03.json")
        report = home.refresh(datetime(2024, 3, 4, 22, tzinfo=UTC))
        assert report.partitions["SI"]["cause"] == "unknown_symbol"
        assert "No data found, symbol may be delisted" in home.state("SI")["quarantine_reason"]
        assert home.bars("SI").height == 1
        assert report.partitions["GOOD"]["new"] == 1


class TestSplitsAndDividends:
    def test_a_split_between_two_refreshes_is_recorded_once_and_leaves_the_bars_as_they_were_traded(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        truth = offer(yahoo, "BAD")
        home = Home(tmp_path / "home", yahoo, "BAD")
        home.refresh(LOADED)
        # Yahoo has the prices of before the split in its answers, a tenth of what was traded, from GREW on.
        served = yahoo.listings["BAD", "1d"].body(GREW, 0, 2_000_000_000, uncut=False)["chart"]["result"][0]
        assert served["indicators"]["quote"][0]["close"][0] == pytest.approx(truth["close"][0] / 10)
        for moment in (GREW, HEALED):
            report = home.refresh(moment)
            assert report.totals["restated"] == 0
            assert report.partitions["BAD"]["state"] == "updated"
        assert_holds(home, truth)
        assert home.lake.read("actions").rows() == [
            ("BAD", *PAID_BEFORE, LOADED),
            ("BAD", *SPLIT, GREW),
            ("BAD", *PAID_AFTER, GREW),
        ]
        assert home.lake.read("bars", until=LOADED)["fetched_at"].unique().to_list() == [LOADED]
        assert len(yahoo.charts("BAD")) == 3

    def test_adjusted_closes_are_continuous_over_a_split_and_are_what_was_known_before_it(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        offer(yahoo, "BAD")
        home = Home(tmp_path / "home", yahoo, "BAD")
        home.refresh(LOADED)
        known = adjusted(home.bars(), home.actions())
        home.refresh(HEALED)
        closes = adjusted(home.bars(), home.actions(), dividends=False)["close"]
        assert closes.pct_change().abs().max() < 0.035  # type: ignore[operator]
        assert home.bars()["close"].pct_change().min() < -0.89  # type: ignore[operator]
        assert_frame_equal(adjusted(home.bars(), home.actions(), LOADED.date()), known, rel_tol=1e-9)

    def test_a_dividend_between_two_refreshes_is_recorded_as_paid_whatever_is_split_later(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        truth = daily("PAYER", SPLIT[0])
        paid = (date(2024, 6, 6), "dividend", 2.5)
        yahoo.offer("PAYER", truth, events("PAYER", paid, SPLIT))
        home = Home(tmp_path / "home", yahoo, "PAYER")
        home.refresh(datetime(2024, 6, 5, 21, tzinfo=UTC))
        assert home.actions().is_empty()
        report = home.refresh(LOADED)
        assert report.partitions["PAYER"]["new"] == 2
        assert "late_actions" not in report.partitions["PAYER"]
        # From the split on Yahoo quotes the same dividend as 0.25 of today's shares.
        report = home.refresh(GREW)
        assert report.totals["restated"] == 0
        assert home.lake.read("actions").rows() == [("PAYER", *paid, LOADED), ("PAYER", *SPLIT, GREW)]
        assert_holds(home, until(truth, GREW))

    @pytest.mark.parametrize("ex_date", [SPLIT[0], date(2024, 5, 20)], ids=["in the overlap", "before it"])
    def test_a_split_listed_days_late_is_learnt_and_the_bars_stay_as_traded(
        self, yahoo: YahooLookalike, tmp_path: Path, ex_date: date
    ) -> None:
        truth = daily("LATE", ex_date)
        # Until it lists the split, Yahoo serves prices as they were traded, with the jump.
        yahoo.offer("LATE", truth)
        home = Home(tmp_path / "home", yahoo, "LATE")
        home.refresh(GREW)
        assert [(row["rule"], row["day"]) for row in home.ledger.findings()] == [("split_sized_jump", ex_date)]
        yahoo.offer("LATE", truth, events("LATE", (ex_date, "split", SPLIT[2])))
        home.refresh(HEALED)
        assert_holds(home, truth)
        assert home.lake.read("actions").rows() == [("LATE", ex_date, "split", SPLIT[2], HEALED)]
        assert home.state("LATE")["rebuild_features"]
        assert_twins(home, undisturbed(tmp_path, yahoo, home, HEALED))

    @pytest.mark.parametrize(
        ("symbol", "ex_date", "known"),
        [("AMZN", date(2022, 6, 6), True), ("GOOG", date(2022, 7, 18), True), ("AMZN", date(2022, 6, 6), False)],
    )
    def test_two_recorded_vintages_over_a_split_of_20_to_1_end_as_one_history_as_traded(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path, symbol: str, ex_date: date, known: bool
    ) -> None:
        before, after = datetime(2021, 11, 19, 22, tzinfo=UTC), datetime(2025, 2, 20, 22, tzinfo=UTC)
        name = f"http__chart-{symbol}-2020-01-01-to-2020-01-03.json"
        yahoo.play(shared_data / "yahoo_chart" / name)
        home = Home(tmp_path / "home", yahoo, symbol, history_start=date(2020, 1, 1))
        home.refresh(before)
        first = home.bars()
        yahoo.play(shared_data / "yahoo_chart" / f"fixtures__{name}")
        stamp = int(datetime.combine(ex_date, time(13, 30), UTC).timestamp())
        split = {"date": stamp, "numerator": 20, "denominator": 1, "splitRatio": "20:1"}
        if not known:
            # The prices are rescaled before the split is listed: nothing tells that from a correction of the vendor.
            report = home.refresh(after - timedelta(days=1))
            assert report.totals["restated"] == 1
            assert home.bars()["close"][0] == pytest.approx(first["close"][0] / 20, rel=1e-4)
        # The recorded request ended in 2020, so its answer lacks what a request that runs to now is told.
        yahoo.recordings[symbol, "1d"].results[-1]["events"] = {"splits": {str(stamp): split}}
        report = home.refresh(after)
        assert report.totals["restated"] == (0 if known else 1)
        assert_frame_equal(home.bars().drop("volume"), first.drop("volume"), rel_tol=1e-4)
        assert_frame_equal(home.bars().select("volume"), first.select("volume"), rel_tol=5e-3)
        assert home.lake.read("actions").rows() == [(symbol, ex_date, "split", 20.0, after)]


def corrected(bars: pl.DataFrame, session: date, factor: float) -> pl.DataFrame:
    """The bars with one close said otherwise."""
    at = pl.col("timestamp").dt.date() == session
    return bars.with_columns(close=pl.when(at).then(pl.col("close") * factor).otherwise("close"))


class TestARestatement:
    def test_within_the_overlap_is_counted_and_costs_a_second_request_of_that_symbol_only(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        truth = offer(yahoo, "A", "B", "C")
        home = Home(tmp_path / "home", yahoo, "A", "B", "C")
        home.refresh(LOADED)
        said = corrected(daily("B"), date(2024, 6, 5), 1.01)
        yahoo.offer("B", said)
        yahoo.asked.clear()
        report = home.refresh(GREW)
        assert [len(yahoo.charts(symbol)) for symbol in "ABC"] == [1, 2, 1]
        assert (report.totals["restated"], report.totals["new"], report.totals["quarantined"]) == (1, 9, 0)
        assert {symbol: figures["state"] for symbol, figures in report.partitions.items()} == {
            "A": "updated",
            "B": "restated",
            "C": "updated",
        }
        assert_holds(home, until(pl.concat([without(truth, "B"), said]).sort("symbol", "timestamp"), GREW))
        learnt = home.lake.read("bars", symbols=["B"], until=LOADED).filter(pl.col("fetched_at") > LOADED)
        assert learnt["timestamp"].to_list() == [datetime(2024, 6, 5, tzinfo=UTC)]
        assert [home.state(symbol)["rebuild_features"] for symbol in "ABC"] == [False, True, False]
        assert_twins(home, undisturbed(tmp_path, yahoo, home, GREW))
        assert home.refresh(HEALED).totals["restated"] == 0

    def test_older_than_the_overlap_is_brought_in_with_one_within_it_or_by_a_full_refresh(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        offer(yahoo, "A")
        home = Home(tmp_path / "home", yahoo, "A")
        home.refresh(LOADED)
        said = corrected(daily("A"), date(2024, 2, 5), 1.01)
        yahoo.offer("A", said)
        assert home.refresh(GREW).totals["restated"] == 0
        report = home.refresh(GREW, full=True)
        assert (report.totals["restated"], report.totals["new"]) == (1, 0)
        assert_holds(home, until(said, GREW))

    @pytest.mark.parametrize("fault", [Fault.NOT_FOUND, Fault.SERVER_ERROR, Fault.EMPTY_QUOTE], ids=lambda f: f.name)
    def test_whose_second_reading_fails_leaves_all_as_it_was_and_is_made_up_for_by_the_next_refresh(
        self, yahoo: YahooLookalike, tmp_path: Path, fault: Fault
    ) -> None:
        offer(yahoo, "BAD", "GOOD")
        home = Home(tmp_path / "home", yahoo, "BAD", "GOOD")
        home.refresh(LOADED)
        before = home.bars("BAD")
        said = corrected(bars_of("BAD"), date(2024, 6, 5), 1.01)
        yahoo.offer("BAD", said, events("BAD", *EVENTS))
        yahoo.misbehave("BAD", fault, after=1)
        report = home.refresh(GREW)
        assert_said(home, report, AT_FIRST[fault])
        assert (report.totals["restated"], report.totals["new"]) == (0, 3)
        assert_frame_equal(home.bars("BAD"), before)
        yahoo.heal()
        report = home.refresh(HEALED)
        assert (report.totals["restated"], report.totals["new"], report.totals["quarantined"]) == (1, 5, 0)
        assert_twins(home, undisturbed(tmp_path, yahoo, home, HEALED))

    def test_that_is_only_an_answer_cut_short_restates_and_loses_nothing(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        truth = offer(yahoo, "A")
        home = Home(tmp_path / "home", yahoo, "A")
        home.refresh(GREW)
        yahoo.offer("A", truth.filter(pl.col("timestamp") < datetime(2024, 6, 6, tzinfo=UTC)))
        assert home.refresh(GREW + timedelta(hours=1)).totals["restated"] == 0
        assert_holds(home, until(truth, GREW))
        report = home.refresh(GREW + timedelta(hours=2), full=True)
        assert (report.totals["restated"], report.totals["new"]) == (0, 0)
        assert_holds(home, until(truth, GREW))
        said = corrected(truth, date(2024, 6, 5), 1.01)
        yahoo.offer("A", said.filter(pl.col("timestamp") < datetime(2024, 6, 6, tzinfo=UTC)))
        assert home.refresh(GREW + timedelta(hours=3)).totals["restated"] == 1
        assert_holds(home, until(said, GREW))
        yahoo.offer("A", said)
        home.refresh(HEALED)
        assert_holds(home, said)


class TestANullBar:
    def test_as_recorded_for_wsu_appears_where_it_belongs_once_yahoo_fills_it(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path
    ) -> None:
        name = "http__chart-WSU.DE-2023-08-04-to-2023-08-09.json"
        yahoo.play(shared_data / "yahoo_chart" / name)
        home = Home(tmp_path / "home", yahoo, "WSU.DE", history_start=date(2023, 8, 1))
        home.refresh(datetime(2023, 8, 8, 20, tzinfo=UTC))
        assert home.bars()["timestamp"].dt.day().to_list() == [4, 8]
        assert [(row["rule"], row["day"].day) for row in home.ledger.findings()] == [("missing_session", 7)]
        home.ledger.note_state([{"symbol": "WSU.DE", "rebuild_features": False}])
        yahoo.play(shared_data / "yahoo_chart" / f"fixtures__{name}")
        for new in (1, 0):
            report = home.refresh(datetime(2023, 8, 9, 20 + 1 - new, tzinfo=UTC))
            assert (report.totals["new"], report.totals["restated"]) == (new, 0)
            assert home.bars()["timestamp"].dt.day().to_list() == [4, 7, 8]
        assert home.ledger.findings() == []
        assert (home.state("WSU.DE")["bars"], home.state("WSU.DE")["rebuild_features"]) == (3, True)
        assert_twins(home, undisturbed(tmp_path, yahoo, home, HEALED, history_start=date(2023, 8, 1)))


class TestTheRecordedAnswers:
    def test_are_stored_bar_for_bar_and_a_later_vintage_adds_only_what_the_earlier_lacked(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path
    ) -> None:
        recorded = shared_data / "yahoo_chart"
        early, late = (
            [file for file in sorted(recorded.glob(f"{vintage}*.json")) if ".fake." not in file.name]
            for vintage in ("http__", "fixtures__")
        )
        for file in early:
            yahoo.play(file)
        unheard = {"BEKE", "SI", "APS.AX", "^VXAPL"}
        symbols = {symbol for symbol, interval in yahoo.recordings if interval == "1d"} | unheard
        home = Home(tmp_path / "home", yahoo, *symbols, history_start=date(2010, 1, 1))
        report = home.refresh(datetime(2024, 10, 4, 22, tzinfo=UTC))
        assert report.totals["quarantined"] == len(unheard)
        assert {home.state(symbol)["quarantine_cause"] for symbol in unheard - {"SI"}} == {"no_data"}
        assert home.state("SI")["quarantine_cause"] == "unknown_symbol"
        assert counted(home.bars()) == recorded_bars(yahoo, symbols - unheard)
        assert report.totals["dropped"] == report.totals["repaired"] == 0
        home.follow("MSFT", "NVDA")
        for file in late:
            yahoo.play(file)
        report = home.refresh(datetime(2025, 3, 10, 22, tzinfo=UTC))
        assert counted(home.bars()) == recorded_bars(yahoo, (symbols | {"MSFT", "NVDA"}) - unheard)
        assert report.totals["restated"] == 0
        assert report.in_state("updated") == ["MSFT", "NVDA", "WSU.DE"]
        splits = home.actions().filter(pl.col("kind") == "split").select("symbol", "ex_date", "value")
        assert splits.rows() == [("AAPL", date(2020, 8, 31), 4.0), ("NVDA", date(2021, 7, 20), 4.0)]
        dividends = home.actions("MSFT")["value"].to_list()
        assert dividends == pytest.approx([0.56, 0.56, 0.56, 0.62])


def counted(bars: pl.DataFrame) -> dict[str, int]:
    return dict(bars.group_by("symbol").len().iter_rows())


def recorded_bars(yahoo: YahooLookalike, symbols: set[str]) -> dict[str, int]:
    """Different stamps with a close among the recorded bodies of each symbol, a body's newer vintage winning."""
    held = {}
    for symbol in symbols:
        closes: dict[int, float | None] = {}
        for result in yahoo.recordings[symbol, "1d"].results:
            quote = result["indicators"]["quote"][0]
            closes |= dict(zip(result.get("timestamp", []), quote.get("close", []), strict=True))
        held[symbol] = sum(close is not None for close in closes.values())
    return held


#: Sessions of New York in the intraday homes, and the evenings on which they are refreshed.
DAYS = [date(2024, 6, day) for day in (3, 4, 5, 6, 7, 10, 11, 12, 13)]


def intraday(symbol: str, interval: str, bars: int) -> pl.DataFrame:
    """As-traded bars from each session's open on, a tenth of the price from the split on."""
    step = timedelta(seconds=INTERVAL_SECONDS[interval])
    bounds = calendars.session_bounds("XNYS", DAYS[0], DAYS[-1])
    starts = [opens + number * step for opens in bounds["opens"] for number in range(bars)]
    place = pl.int_range(pl.len())
    close = 50.0 * (1.0 + 0.01 * (place * 7 % 11) / 11)
    ratio = pl.when(pl.col("timestamp").dt.date() >= SPLIT[0]).then(SPLIT[2]).otherwise(1.0)
    return pl.DataFrame({"timestamp": starts}, schema={"timestamp": RAW_BARS["timestamp"]}).select(
        pl.lit(symbol).alias("symbol"),
        "timestamp",
        (close * 0.999 / ratio).alias("open"),
        (close * 1.001 / ratio).alias("high"),
        (close * 0.998 / ratio).alias("low"),
        (close / ratio).alias("close"),
        ((100_000 + 10 * place) * ratio).cast(pl.Float64).alias("volume"),
    )


class TestIntradayHomes:
    @pytest.mark.parametrize(("interval", "bars", "good"), [("1m", 30, 6), ("1h", 7, 0)])
    @pytest.mark.parametrize("fault", [Fault.RATE_LIMIT, Fault.CUT], ids=lambda fault: fault.name)
    def test_lose_and_double_no_bar_through_faults_at_first_and_later_and_over_a_split(
        self, yahoo: YahooLookalike, tmp_path: Path, interval: str, bars: int, good: int, fault: Fault
    ) -> None:
        for symbol in ("BAD", "GOOD"):
            yahoo.offer(symbol, intraday(symbol, interval, bars), events(symbol, SPLIT), interval=interval)
        truth = pl.concat([intraday(symbol, interval, bars) for symbol in ("BAD", "GOOD")])
        home = Home(tmp_path / "home", yahoo, "BAD", "GOOD", interval=interval, yahoo_attempts=1)
        # A month of minutes is read in five windows. The fourth fails and the fifth would not: a symbol is complete or
        # has failed. (The first three are before its first bar, and a status of 400 is asked twice.)
        yahoo.misbehave("BAD", fault, times=2 if fault is Fault.RATE_LIMIT else 1, after=good)
        assert_said(home, home.refresh(LOADED), AT_FIRST[fault])
        assert_holds(home, without(until(truth, LOADED), "BAD"))
        yahoo.heal()
        assert_said(home, home.refresh(GREW - timedelta(days=1)), UNSEEN)
        yahoo.misbehave("BAD", fault)
        assert_said(home, home.refresh(GREW), AT_FIRST[fault])
        yahoo.heal()
        report = home.refresh(HEALED)
        assert (report.totals["restated"], report.totals["quarantined"], report.totals["new"]) == (0, 0, 3 * bars)
        assert_holds(home, truth)
        assert home.actions().rows() == [("BAD", *SPLIT), ("GOOD", *SPLIT)]
        assert_twins(home, undisturbed(tmp_path, yahoo, home, LOADED, HEALED, interval=interval))


class TestACalendarThatEnds:
    """exchange_calendars 4.13 knows Mumbai, Shanghai and Singapore to the end of 2026 only."""

    def test_goes_on_with_its_usual_week_and_costs_the_others_nothing(self, tmp_path: Path) -> None:
        ended = ["RELIANCE.NS", "600519.SS", "D05.SI"]
        source = Yahoo(Settings(home=tmp_path))
        later = datetime(2027, 3, 3, 22, tzinfo=UTC)
        assert source.complete_until([*ended, "AAPL", "BTC-USD"], later) == {
            **dict.fromkeys([*ended, "AAPL"], datetime(2027, 3, 3, tzinfo=UTC)),
            "BTC-USD": datetime(2027, 3, 2, tzinfo=UTC),
        }
        assert source.complete_until(ended, datetime(2026, 12, 30, 22, tzinfo=UTC)) == dict.fromkeys(
            ended, datetime(2026, 12, 30, tzinfo=UTC)
        )

    def test_still_refuses_a_time_without_zone(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no zone"):
            Yahoo(Settings(home=tmp_path)).complete_until(["AAPL"], datetime(2024, 6, 7))
