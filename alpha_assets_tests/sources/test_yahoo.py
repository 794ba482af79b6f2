"""The source ``yahoo``, driven through the unmodified client against a Yahoo on loopback that misbehaves on demand.

Nothing of the client and nothing of the source is replaced: what is tested is what runs. The truth is always a frame of
as-traded bars; the look-alike turns it into Yahoo's numbers on its own, so undoing the splits is checked against an
independent doing.
"""

import json
import logging
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.schema import ACTIONS, INTERVAL_SECONDS, RAW_BARS
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, Fetched, Source, SourceUnavailable
from alpha_assets.sources.yahoo import Yahoo, _Pace
from alpha_assets_tests.yahoo_lookalike import (
    EVERYTHING,
    SUMMARY,
    Fault,
    YahooLookalike,
    offer_control,
    redirected,
)

NOW = datetime(2024, 6, 28, 21, tzinfo=UTC)
FIRST, LAST = date(2024, 5, 1), date(2024, 6, 28)
FAST = {"history_start": FIRST, "yahoo_requests_per_second": 50.0, "yahoo_backoff_seconds": 0.001, "yahoo_attempts": 2}

#: What each fault is said to be, and a word that the message must hold.
SAID = {
    Fault.NOT_FOUND: (Cause.UNKNOWN_SYMBOL, "No data found, symbol may be delisted"),
    Fault.OUT_OF_RANGE: (Cause.NO_DATA, "Data doesn't exist for startDate"),
    Fault.EMPTY_QUOTE: (Cause.NO_DATA, "without bars"),
    Fault.RATE_LIMIT: (Cause.RATE_LIMITED, "ALPHA_YAHOO_REQUESTS_PER_SECOND"),
    Fault.SERVER_ERROR: (Cause.OUTAGE, "status 500"),
    Fault.SERVER_ERROR_JSON: (Cause.OUTAGE, "upstream connect error"),
    Fault.GO_AWAY: (Cause.OUTAGE, "status 999"),
    Fault.UNAUTHORIZED: (Cause.OUTAGE, "Invalid Crumb"),
    Fault.MAINTENANCE: (Cause.OUTAGE, "Will be right back"),
    Fault.CUT: (Cause.OUTAGE, "curl"),
    Fault.DEAF: (Cause.OUTAGE, "curl"),
    Fault.TRUNCATED: (Cause.MALFORMED, "JSONDecodeError"),
    Fault.HTML: (Cause.MALFORMED, "doctype html"),
    Fault.NULL_RESULT: (Cause.MALFORMED, '"result":null'),
    Fault.EMPTY_RESULT: (Cause.MALFORMED, '"result":[]'),
    Fault.NO_TIMESTAMPS: (Cause.MALFORMED, "timestamp"),
    Fault.BAD_SPLIT: (Cause.MALFORMED, "impossible ratio"),
}
PASSING = [fault for fault, (cause, _) in SAID.items() if cause.can_heal]


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[YahooLookalike]:
    """A look-alike that knows the control symbol, and this process's client redirected to it."""
    with YahooLookalike(tmp_path / "yahoo", NOW) as lookalike, redirected(lookalike):
        offer_control(lookalike)
        yield lookalike


def source(tmp_path: Path, **changes: Any) -> Yahoo:
    return Yahoo(Settings(home=tmp_path, **{**FAST, **changes}))


def daily(symbol: str, first: date = FIRST, last: date = LAST, start: float = 100.0) -> pl.DataFrame:
    """As-traded bars on every weekday, different for each symbol."""
    days = pl.date_range(first, last, "1d", eager=True).alias("day")
    seed = sum(map(ord, symbol)) % 17
    close = start * (1.0 + 0.05 * ((pl.int_range(pl.len()) * 7 + seed) % 11) / 11)
    return (
        pl.DataFrame(days)
        .filter(pl.col("day").dt.weekday() <= 5)
        .select(
            pl.lit(symbol).alias("symbol"),
            pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("timestamp"),
            (close * 0.99).alias("open"),
            (close * 1.02).alias("high"),
            (close * 0.97).alias("low"),
            close.alias("close"),
            (1_000_000.0 + 1000.0 * pl.int_range(pl.len())).alias("volume"),
        )
    )


def intraday(symbol: str, interval: str, sessions: list[date], opens: str = "13:30", bars: int = 26) -> pl.DataFrame:
    """As-traded bars from ``opens`` (UTC) on, on each of ``sessions``."""
    hour, minute = map(int, opens.split(":"))
    step = timedelta(seconds=INTERVAL_SECONDS[interval])
    starts = [
        datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC) + number * step
        for day in sessions
        for number in range(bars)
    ]
    close = 50.0 + pl.int_range(pl.len()) % 13
    return pl.DataFrame({"timestamp": starts}, schema={"timestamp": RAW_BARS["timestamp"]}).select(
        pl.lit(symbol).alias("symbol"),
        "timestamp",
        (close - 0.5).alias("open"),
        (close + 1.0).alias("high"),
        (close - 1.0).alias("low"),
        close.cast(pl.Float64).alias("close"),
        pl.lit(1000.0).alias("volume"),
    )


def events(symbol: str, *lines: tuple[date, str, float]) -> pl.DataFrame:
    return pl.DataFrame([(symbol, *line) for line in lines], schema=dict(ACTIONS), orient="row")


def offer(yahoo: YahooLookalike, *symbols: str) -> pl.DataFrame:
    """List ``symbols``; returns the truth."""
    for symbol in symbols:
        yahoo.offer(symbol, daily(symbol))
    return pl.concat([daily(symbol) for symbol in symbols]).sort("symbol", "timestamp")


def assert_bars(fetched: Fetched, truth: pl.DataFrame) -> None:
    """Exactly the bars of ``truth``: none lost, none doubled, each as traded."""
    assert_frame_equal(fetched.bars, truth.select(list(RAW_BARS)).sort("symbol", "timestamp"), rel_tol=1e-6)


class TestEachFault:
    @pytest.mark.parametrize("fault", SAID, ids=lambda fault: fault.name)
    def test_is_told_apart_stops_nobody_else_and_heals_with_the_next_fetch(
        self, yahoo: YahooLookalike, tmp_path: Path, fault: Fault
    ) -> None:
        truth = offer(yahoo, "BAD", "GOOD")
        yahoo.misbehave("BAD", fault)
        asked = source(tmp_path)
        fetched = asked.fetch(["BAD", "GOOD"], {}, NOW)
        cause, word = SAID[fault]
        assert {symbol: failure.cause for symbol, failure in fetched.failures.items()} == {"BAD": cause}
        assert word in fetched.failures["BAD"].message
        assert fetched.failures["BAD"].message.startswith("BAD")
        assert_bars(fetched, truth.filter(pl.col("symbol") == "GOOD"))
        yahoo.heal()
        healed = asked.fetch(["BAD", "GOOD"], {}, NOW)
        assert not healed.failures
        assert_bars(healed, truth)

    @pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.name)
    def test_that_passes_is_healed_by_the_retry_within_one_fetch(
        self, yahoo: YahooLookalike, tmp_path: Path, fault: Fault
    ) -> None:
        truth = offer(yahoo, "BAD", "GOOD")
        # The client asks a second time by itself where the status is 400 or more.
        yahoo.misbehave("BAD", fault, times=2 if fault in (Fault.RATE_LIMIT, Fault.SERVER_ERROR) else 1)
        fetched = source(tmp_path).fetch(["BAD", "GOOD"], {}, NOW)
        assert not fetched.failures
        assert_bars(fetched, truth)

    def test_one_429_is_healed_by_the_client_itself(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        truth = offer(yahoo, "BAD")
        yahoo.misbehave("BAD", Fault.RATE_LIMIT, times=1)
        assert_bars(source(tmp_path, yahoo_attempts=1).fetch(["BAD"], {}, NOW), truth)

    def test_a_slow_answer_is_an_outage_after_the_deadline_and_the_others_do_not_wait_for_it(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        truth = offer(yahoo, "GOOD", "SLOW")
        yahoo.misbehave("SLOW", Fault.SLOW)
        asked = source(tmp_path, yahoo_timeout_seconds=1.0, yahoo_attempts=1)
        fetched = asked.fetch(["SLOW", "GOOD"], {}, NOW)
        assert fetched.failures["SLOW"].cause is Cause.OUTAGE
        assert_bars(fetched, truth.filter(pl.col("symbol") == "GOOD"))
        yahoo.heal()
        assert_bars(asked.fetch(["SLOW", "GOOD"], {}, NOW), truth)

    def test_a_fault_of_one_symbol_among_fifty_that_work_costs_that_symbol_only(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        symbols = [f"S{number:02}" for number in range(50)]
        truth = offer(yahoo, *symbols, "BAD")
        yahoo.misbehave("BAD", Fault.HTML)
        asked = [*symbols[:25], "BAD", *symbols[25:]]
        fetched = source(tmp_path, yahoo_batch=30).fetch(asked, {}, NOW)
        assert list(fetched.failures) == ["BAD"]
        assert_bars(fetched, truth.filter(pl.col("symbol") != "BAD"))

    @hypothesis_settings(
        max_examples=12,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        faults=st.dictionaries(
            st.sampled_from("ABCDEF"), st.tuples(st.sampled_from(list(SAID)), st.integers(1, 6)), min_size=1
        )
    )
    def test_whatever_fails_a_symbol_is_complete_or_named_and_whole_after_healing(
        self, yahoo: YahooLookalike, tmp_path: Path, faults: Mapping[str, tuple[Fault, int]]
    ) -> None:
        truth = offer(yahoo, *"ABCDEF")
        for symbol, (fault, times) in faults.items():
            yahoo.misbehave(symbol, fault, times)
        asked = source(tmp_path)
        fetched = asked.fetch(list("ABCDEF"), {}, NOW)
        assert set(fetched.failures) <= set(faults)
        assert_bars(fetched, truth.filter(~pl.col("symbol").is_in(list(fetched.failures))))
        yahoo.heal()
        assert_bars(asked.fetch(list("ABCDEF"), {}, NOW), truth)


class TestAnOutageIsNotADelisting:
    @pytest.mark.parametrize(
        "fault", [Fault.NOT_FOUND, Fault.SERVER_ERROR, Fault.HTML, Fault.DEAF], ids=lambda f: f.name
    )
    def test_where_the_control_symbol_fails_too_nothing_is_called_unknown(
        self, yahoo: YahooLookalike, tmp_path: Path, fault: Fault
    ) -> None:
        truth = offer(yahoo, "A", "B", "C")
        yahoo.misbehave(EVERYTHING, fault)
        asked = source(tmp_path)
        fetched = asked.fetch(["A", "B", "C"], {}, NOW)
        assert {failure.cause for failure in fetched.failures.values()} == {Cause.OUTAGE}
        assert set(fetched.failures) == {"A", "B", "C"}
        assert all("control symbol SPY" in failure.message for failure in fetched.failures.values())
        yahoo.heal()
        assert_bars(asked.fetch(["A", "B", "C"], {}, NOW), truth)

    def test_that_begins_after_the_control_symbol_answered_is_noticed_too(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        offer(yahoo, "A", "B", "C", "D")
        # NONE is unknown indeed; SPY is asked because of it and answers; then everything looks unknown.
        yahoo.misbehave(EVERYTHING, Fault.NOT_FOUND, after=4)
        fetched = source(tmp_path, yahoo_concurrency=1).fetch(["NONE", "A", "B", "C", "D"], {}, NOW)
        assert Cause.UNKNOWN_SYMBOL not in {failure.cause for failure in fetched.failures.values()}
        assert {"B", "C", "D"} <= set(fetched.failures)

    def test_an_outage_ends_the_fetch_without_asking_every_symbol_of_the_batches_to_come(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        symbols = [f"S{number:03}" for number in range(200)]
        offer(yahoo, *symbols)
        yahoo.misbehave(EVERYTHING, Fault.SERVER_ERROR, after=30)
        fetched = source(tmp_path, yahoo_batch=20).fetch(symbols, {}, NOW)
        done = set(fetched.bars["symbol"])
        assert done
        assert done.isdisjoint(fetched.failures)
        assert done | set(fetched.failures) == set(symbols)
        assert len(yahoo.charts()) < 80
        assert "not asked" in fetched.failures["S199"].message

    def test_a_rate_limit_for_ever_is_said_and_ends_the_asking(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        symbols = [f"S{number:03}" for number in range(100)]
        truth = offer(yahoo, *symbols)
        yahoo.misbehave(EVERYTHING, Fault.RATE_LIMIT)
        asked = source(tmp_path)
        fetched = asked.fetch(symbols, {}, NOW)
        assert {failure.cause for failure in fetched.failures.values()} == {Cause.RATE_LIMITED}
        assert len(fetched.failures) == 100
        assert len(yahoo.charts()) < 60
        yahoo.heal()
        assert_bars(asked.fetch(symbols, {}, NOW), truth)

    def test_a_symbol_is_unknown_only_where_the_control_symbol_answered_after_it(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        fetched = source(tmp_path).fetch(["NONE"], {}, NOW)
        assert fetched.failures["NONE"].cause is Cause.UNKNOWN_SYMBOL
        assert [asked.symbol for asked in yahoo.charts()] == ["NONE", "NONE", "SPY"]

    @pytest.mark.usefixtures("yahoo")
    def test_an_unknown_control_symbol_is_named_so_that_it_can_be_corrected(self, tmp_path: Path) -> None:
        fetched = source(tmp_path, yahoo_control_symbol="SPYY").fetch(["NONE"], {}, NOW)
        assert fetched.failures["NONE"].cause is Cause.OUTAGE
        assert "control symbol SPYY" in fetched.failures["NONE"].message

    def test_a_retry_is_a_request_and_not_a_memory(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        offer(yahoo, "BAD")
        yahoo.misbehave("BAD", Fault.TRUNCATED)
        source(tmp_path, yahoo_attempts=3).fetch(["BAD"], {}, NOW)
        assert len(yahoo.charts("BAD")) == 3


class TestUnreachable:
    def test_yahoo_ends_the_fetch_with_one_sentence_that_names_the_other_sources(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        yahoo.refuse()
        told: list[tuple[int, int, str]] = []
        closed = Yahoo(Settings(home=tmp_path), lambda *line: told.append(line))
        with pytest.raises(SourceUnavailable, match="could not be reached") as stopped:
            closed.fetch([f"S{number}" for number in range(500)], {}, NOW)
        sentence = str(stopped.value)
        assert "`ALPHA_SOURCE=files ALPHA_FILES=<file, folder or glob>`" in sentence
        assert "`ALPHA_SOURCE=simulated`" in sentence
        assert "\n" not in sentence
        assert not told

    def test_yahoo_that_comes_back_is_read_by_the_next_fetch(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        truth = offer(yahoo, "A")
        yahoo.refuse()
        asked = source(tmp_path)
        with pytest.raises(SourceUnavailable):
            asked.fetch(["A"], {}, NOW)
        yahoo.accept()
        assert_bars(asked.fetch(["A"], {}, NOW), truth)

    def test_yahoo_in_the_middle_keeps_what_was_read_and_names_the_rest(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        symbols = [f"S{number:02}" for number in range(40)]
        truth = offer(yahoo, *symbols)
        settings = Settings(home=tmp_path, yahoo_batch=10, **FAST)
        broken = Yahoo(settings, lambda *line: yahoo.refuse() if line[0] == 15 else None)
        fetched = broken.fetch(symbols, {}, NOW)
        done = fetched.bars["symbol"].unique().to_list()
        assert len(done) >= 15
        assert {failure.cause for failure in fetched.failures.values()} == {Cause.OUTAGE}
        assert sorted([*done, *fetched.failures]) == symbols
        assert_bars(fetched, truth.filter(pl.col("symbol").is_in(done)))

    def test_a_cookie_that_never_comes_is_cut_off_by_our_deadline_because_the_client_has_none_for_it(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        offer(yahoo, "A")
        yahoo.cookie_seconds = 3600.0
        with pytest.raises(SourceUnavailable, match=r"no answer within 0\.5 s"):
            source(tmp_path, yahoo_timeout_seconds=0.5).fetch(["A"], {}, NOW)

    def test_hung_sockets_delay_neither_the_run_nor_the_exit_of_the_interpreter(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        offer(yahoo, "A")
        yahoo.cookie_seconds = yahoo.slow_seconds = 3600.0
        yahoo.misbehave(EVERYTHING, Fault.SLOW)
        program = (
            "from datetime import UTC, datetime\n"
            "from alpha_assets.settings import load\n"
            "from alpha_assets.sources.base import SourceUnavailable\n"
            "from alpha_assets.sources.yahoo import Yahoo\n"
            "try:\n"
            "    Yahoo(load()).fetch(['A', 'B', 'C'], {}, datetime(2024, 6, 28, 21, tzinfo=UTC))\n"
            "except SourceUnavailable as stopped:\n"
            "    print(stopped)\n"
        )
        variables = {"ALPHA_HOME": str(tmp_path), "ALPHA_YAHOO_TIMEOUT_SECONDS": "0.5"}
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **yahoo.environment(), **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert "could not be reached" in ended.stdout
        assert not ended.stderr


class TestWhatYahooAdjusts:
    def test_a_split_between_two_fetches_changes_no_bar_as_traded_and_is_reported(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        before, split = daily("NVDA", last=date(2024, 6, 7)), date(2024, 6, 10)
        after = daily("NVDA", first=split, start=10.0)
        paid = (date(2024, 5, 15), "dividend", 0.4)
        yahoo.offer("NVDA", pl.concat([before, after]), events("NVDA", paid, (split, "split", 10.0)))
        yahoo.moment = datetime(2024, 6, 7, 21, tzinfo=UTC)
        first = source(tmp_path).fetch(["NVDA"], {}, yahoo.moment)
        assert_bars(first, before)
        assert_frame_equal(first.actions, events("NVDA", paid))
        yahoo.moment = NOW
        since = datetime(2024, 6, 3, tzinfo=UTC)
        second = source(tmp_path).fetch(["NVDA"], {"NVDA": since}, NOW)
        assert_bars(second, pl.concat([before, after]).filter(pl.col("timestamp") >= since))
        assert_frame_equal(second.actions, events("NVDA", (split, "split", 10.0)))
        whole = source(tmp_path).fetch(["NVDA"], {}, NOW)
        assert_bars(whole, pl.concat([before, after]))
        assert_frame_equal(whole.actions, events("NVDA", paid, (split, "split", 10.0)), rel_tol=1e-9)

    def test_a_split_listed_today_before_its_open_is_undone_and_reported(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        before = daily("NVDA", last=date(2024, 6, 7))
        split = (date(2024, 6, 10), "split", 10.0)
        yahoo.offer("NVDA", before, events("NVDA", split))
        yahoo.moment = datetime(2024, 6, 10, 11, tzinfo=UTC)
        fetched = source(tmp_path).fetch(["NVDA"], {}, yahoo.moment)
        assert_bars(fetched, before)
        assert_frame_equal(fetched.actions, events("NVDA", split))

    @hypothesis_settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(
        splits=st.dictionaries(
            st.dates(FIRST, LAST), st.sampled_from([2.0, 3.0, 1.5, 7.0, 20.0, 0.1, 0.05, 1.0027]), max_size=4
        ),
        dividends=st.dictionaries(st.dates(FIRST, LAST), st.floats(0.01, 5.0), max_size=4),
        moment=st.dates(date(2024, 5, 10), LAST),
        since=st.none() | st.dates(FIRST, date(2024, 5, 10)),
    )
    def test_bars_and_dividends_are_as_traded_whatever_was_split_when(
        self,
        yahoo: YahooLookalike,
        tmp_path: Path,
        splits: Mapping[date, float],
        dividends: Mapping[date, float],
        moment: date,
        since: date | None,
    ) -> None:
        known = [(day, "split", value) for day, value in splits.items()]
        known += [(day, "dividend", value) for day, value in dividends.items()]
        yahoo.offer("ANY", daily("ANY"), events("ANY", *known))
        yahoo.moment = datetime(moment.year, moment.month, moment.day, 21, tzinfo=UTC)
        start = since or FIRST
        asked = {"ANY": datetime(since.year, since.month, since.day, tzinfo=UTC)} if since else {}
        fetched = source(tmp_path).fetch(["ANY"], asked, yahoo.moment)
        inside = pl.col("timestamp").dt.date().is_between(start, moment)
        truth = daily("ANY").filter(inside)
        assert_frame_equal(fetched.bars.drop("volume"), truth.drop("volume"), rel_tol=1e-9)
        # Yahoo's volume is a whole number of today's shares, and one of them may have been many.
        share = math.prod(1 / value for value in splits.values() if value < 1)
        assert_frame_equal(fetched.bars.select("volume"), truth.select("volume"), rel_tol=1e-3, abs_tol=share)
        expected = events("ANY", *known).filter(pl.col("ex_date").is_between(start, moment))
        assert_frame_equal(fetched.actions, expected.sort("ex_date", "kind"), rel_tol=1e-9)

    @pytest.mark.parametrize("symbol", ["AMZN", "GOOG"])
    def test_two_vintages_of_one_request_agree_as_traded_once_the_split_is_known(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path, symbol: str
    ) -> None:
        name = f"http__chart-{symbol}-2020-01-01-to-2020-01-03.json"
        yahoo.play(shared_data / "yahoo_chart" / name)
        asked = source(tmp_path, history_start=date(2020, 1, 1))
        old = asked.fetch([symbol], {}, datetime(2021, 11, 19, tzinfo=UTC))
        yahoo.play(shared_data / "yahoo_chart" / f"fixtures__{name}")
        restated = asked.fetch([symbol], {}, datetime(2025, 2, 20, tzinfo=UTC))
        assert old.bars["close"][0] / restated.bars["close"][0] == pytest.approx(20.0, rel=1e-4)
        ex_date = date(2022, 6, 6) if symbol == "AMZN" else date(2022, 7, 18)
        stamp = int(datetime(ex_date.year, ex_date.month, ex_date.day, 13, 30, tzinfo=UTC).timestamp())
        split = {"date": stamp, "numerator": 20, "denominator": 1, "splitRatio": "20:1"}
        yahoo.recordings[symbol, "1d"].results[-1]["events"] = {"splits": {str(stamp): split}}
        known = asked.fetch([symbol], {}, datetime(2025, 2, 20, tzinfo=UTC))
        assert_frame_equal(known.bars.drop("volume"), old.bars.drop("volume"), rel_tol=1e-4)
        assert_frame_equal(known.bars.select("volume"), old.bars.select("volume"), rel_tol=5e-3)
        assert_frame_equal(known.actions, events(symbol, (ex_date, "split", 20.0)))

    def test_the_recorded_split_and_dividend_of_apple_come_with_their_dates(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path
    ) -> None:
        yahoo.play(shared_data / "yahoo_chart" / "fixtures__http__chart-AAPL-2020-08-31-to-2020-11-07.json")
        fetched = source(tmp_path, history_start=date(2020, 8, 1)).fetch(["AAPL"], {}, NOW)
        assert fetched.bars.height == 49
        assert fetched.actions.rows() == [
            ("AAPL", date(2020, 8, 31), "split", 4.0),
            ("AAPL", date(2020, 11, 6), "dividend", 0.205),
        ]
        assert fetched.bars["close"][0] == pytest.approx(129.04, abs=0.005)

    def test_an_event_on_a_session_without_bar_keeps_its_date(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        split = date(2024, 6, 10)
        bars = daily("GAP").filter(pl.col("timestamp").dt.date() != split)
        yahoo.offer("GAP", bars, events("GAP", (split, "split", 2.0)))
        fetched = source(tmp_path).fetch(["GAP"], {}, NOW)
        assert_bars(fetched, bars)
        assert_frame_equal(fetched.actions, events("GAP", (split, "split", 2.0)))

    def test_a_capital_gain_counts_once_where_yahoo_lists_it_in_the_dividend_too(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        both, alone = stamp(date(2024, 5, 15)), stamp(date(2024, 6, 12))
        yahoo.play(
            body(
                tmp_path,
                "VWILX",
                {
                    "dividends": {str(both): {"amount": 9.968, "date": both}},
                    "capitalGains": {
                        str(both): {"amount": 8.999, "date": both},
                        str(alone): {"amount": 6.42, "date": alone},
                    },
                },
            )
        )
        fetched = source(tmp_path).fetch(["VWILX"], {}, NOW)
        expected = events("VWILX", (date(2024, 5, 15), "dividend", 9.968), (date(2024, 6, 12), "dividend", 6.42))
        assert_frame_equal(fetched.actions, expected)

    def test_a_dividend_in_pounds_of_a_listing_in_pence_is_told_in_pence_and_a_foreign_one_is_left_out_aloud(
        self, yahoo: YahooLookalike, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        pounds, dollars = stamp(date(2024, 5, 15)), stamp(date(2024, 6, 12))
        listed = {
            str(pounds): {"amount": 0.25, "date": pounds, "currency": "GBP"},
            str(dollars): {"amount": 0.31, "date": dollars, "currency": "USD"},
        }
        yahoo.play(body(tmp_path, "VOD.L", {"dividends": listed}, currency="GBp"))
        fetched = source(tmp_path).fetch(["VOD.L"], {}, NOW)
        assert_frame_equal(fetched.actions, events("VOD.L", (date(2024, 5, 15), "dividend", 25.0)))
        assert "VOD.L" in caplog.text
        assert "0.31" in caplog.text


def stamp(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, 13, 30, tzinfo=UTC).timestamp())


def body(tmp_path: Path, symbol: str, happened: Mapping[str, Any], currency: str = "USD") -> Path:
    """A recording of a few bars around made-up events, in the form of the recorded bodies."""
    lookalike = YahooLookalike(tmp_path / "maker", NOW)
    listing = lookalike.offer(symbol, daily(symbol), currency=currency, kind="MUTUALFUND")
    made = listing.body(NOW, 0, 2_000_000_000, uncut=False)
    result = made["chart"]["result"][0]
    result["meta"]["symbol"], result["events"] = symbol, happened
    file = tmp_path / "body.json"
    file.write_text(json.dumps({"status": 200, "url": "", "body": made}))
    return file


class TestWindow:
    def test_an_update_holds_what_a_full_read_holds_from_its_since_on(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        offer(yahoo, "A")
        since = datetime(2024, 6, 20, tzinfo=UTC)
        full, update = (source(tmp_path).fetch(["A"], asked, NOW) for asked in ({}, {"A": since}))
        assert_frame_equal(update.bars, full.bars.filter(pl.col("timestamp") >= since))
        assert update.bars["timestamp"][0] == since

    def test_a_symbol_with_nothing_new_is_neither_in_the_bars_nor_a_failure(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        offer(yahoo, "A")
        yahoo.offer("LATE", daily("LATE", first=date(2024, 8, 1), last=date(2024, 8, 2)))
        saturday = datetime(2024, 6, 29, tzinfo=UTC)
        fetched = source(tmp_path).fetch(["A", "LATE"], {"A": saturday, "LATE": saturday}, saturday)
        assert fetched.bars.is_empty()
        assert not fetched.failures

    def test_a_new_symbol_without_a_bar_in_the_range_has_no_data_and_is_not_unknown(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        yahoo.offer("LATE", daily("LATE", first=date(2024, 8, 1), last=date(2024, 8, 2)))
        fetched = source(tmp_path).fetch(["LATE"], {}, NOW)
        assert fetched.failures["LATE"].cause is Cause.NO_DATA
        assert "from 2024-05-01 to 2024-06-28" in fetched.failures["LATE"].message

    def test_rows_outside_the_window_are_dropped(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        yahoo.offer("A", daily("A", first=date(2024, 1, 2), last=date(2024, 6, 28)))
        yahoo.misbehave("A", Fault.UNCUT)
        fetched = source(tmp_path).fetch(["A"], {}, datetime(2024, 6, 12, 21, tzinfo=UTC))
        inside = pl.col("timestamp").dt.date().is_between(FIRST, date(2024, 6, 12))
        assert_bars(fetched, daily("A", first=date(2024, 1, 2)).filter(inside))

    def test_the_bar_of_a_session_under_way_is_handed_over(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        offer(yahoo, "A")
        noon = datetime(2024, 6, 26, 16, tzinfo=UTC)
        yahoo.moment = noon
        assert source(tmp_path).fetch(["A"], {}, noon).bars["timestamp"].max() == datetime(2024, 6, 26, tzinfo=UTC)

    def test_a_live_quote_beside_the_last_bar_is_one_row(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        offer(yahoo, "A")
        yahoo.misbehave("A", Fault.LIVE_ROW)
        fetched = source(tmp_path).fetch(["A"], {}, NOW)
        assert_frame_equal(fetched.bars.drop("volume"), daily("A").drop("volume"), rel_tol=1e-9)
        assert fetched.bars["volume"][-1] == daily("A")["volume"][-1] + 100

    @pytest.mark.parametrize(
        ("symbol", "zone", "opens"),
        [
            ("AIR.NZ", "Pacific/Auckland", 10),
            ("BHP.AX", "Australia/Sydney", 10),
            ("VOD.L", "Europe/London", 8),
            ("SAP.DE", "Europe/Berlin", 9),
            ("EQNR.OL", "Europe/Oslo", 9),
            ("RY.TO", "America/Toronto", 9),
            ("BTC-USD", "UTC", 0),
        ],
    )
    def test_a_daily_stamp_is_the_sessions_date_in_the_exchanges_zone_also_at_the_edges(
        self, yahoo: YahooLookalike, tmp_path: Path, symbol: str, zone: str, opens: int
    ) -> None:
        split = (date(2024, 6, 12), "split", 4.0)
        known = events(symbol, split)
        yahoo.offer(symbol, daily(symbol), known, zone=zone, opens=timedelta(hours=opens))
        fetched = source(tmp_path).fetch([symbol], {symbol: datetime(2024, 6, 5, tzinfo=UTC)}, NOW)
        assert_bars(fetched, daily(symbol).filter(pl.col("timestamp") >= datetime(2024, 6, 5, tzinfo=UTC)))
        assert_frame_equal(fetched.actions, known)

    def test_recorded_sessions_of_many_zones_and_currencies_have_their_dates(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path
    ) -> None:
        symbols = ["0P000071W8.TO", "AZT.OL", "BABA", "BTC-USD", "EURUSD=X"]
        for symbol in symbols:
            yahoo.play(shared_data / "yahoo_chart" / f"fixtures__http__chart-{symbol}-2020-01-01-to-2020-01-03.json")
        fetched = source(tmp_path, history_start=date(2020, 1, 1)).fetch(symbols, {}, NOW)
        assert not fetched.failures
        days = fetched.bars.group_by("symbol").agg(pl.col("timestamp").dt.date().dt.day())
        assert dict(days.iter_rows()) == {
            "0P000071W8.TO": [2],
            "AZT.OL": [2],
            "BABA": [2],
            "BTC-USD": [1, 2, 3],
            "EURUSD=X": [1, 2, 3],
        }


class TestNulls:
    def test_a_null_bar_in_the_middle_is_no_bar_until_yahoo_fills_it(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path
    ) -> None:
        name = "http__chart-WSU.DE-2023-08-04-to-2023-08-09.json"
        yahoo.play(shared_data / "yahoo_chart" / name)
        asked = source(tmp_path, history_start=date(2023, 8, 1))
        holed = asked.fetch(["WSU.DE"], {}, NOW)
        assert holed.bars["timestamp"].dt.date().to_list() == [date(2023, 8, 4), date(2023, 8, 8)]
        yahoo.play(shared_data / "yahoo_chart" / f"fixtures__{name}")
        filled = asked.fetch(["WSU.DE"], {}, NOW)
        assert filled.bars["timestamp"].dt.date().to_list() == [date(2023, 8, 4), date(2023, 8, 7), date(2023, 8, 8)]
        assert filled.bars.null_count().sum_horizontal()[0] == 0

    def test_a_bar_with_some_nulls_is_kept_for_the_cleaning_and_one_without_prices_is_no_bar(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        some, all_four = pl.int_range(pl.len()) == 3, pl.int_range(pl.len()) == 7
        holed = daily("A").with_columns(
            pl.when(~some & ~all_four).then("open").alias("open"),
            pl.when(~all_four).then(pl.col("high", "low", "close")).name.keep(),
        )
        yahoo.offer("A", holed)
        assert_bars(source(tmp_path).fetch(["A"], {}, NOW), holed.filter(pl.col("close").is_not_null()))

    @pytest.mark.parametrize("symbol", ["APS.AX", "^VXAPL"])
    def test_a_recorded_body_without_timestamps_is_no_data_for_a_new_symbol_and_nothing_new_for_a_known_one(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path, symbol: str
    ) -> None:
        yahoo.play(shared_data / "yahoo_chart" / f"http__chart-{symbol}-2020-01-01-to-2020-01-03.json")
        asked = source(tmp_path)
        assert asked.fetch([symbol], {}, NOW).failures[symbol].cause is Cause.NO_DATA
        known = asked.fetch([symbol], {symbol: datetime(2024, 6, 3, tzinfo=UTC)}, NOW)
        assert not known.failures
        assert known.bars.is_empty()

    def test_the_recorded_errors_of_a_delisted_and_of_an_unlisted_symbol_are_told_apart(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path
    ) -> None:
        yahoo.play(shared_data / "yahoo_chart" / "http__historical-via-chart-SI-2020-01-01-to-2020-01-03.json")
        yahoo.play(shared_data / "yahoo_chart" / "http__chart-BEKE-2020-01-01-to-2020-01-03.json")
        fetched = source(tmp_path).fetch(["SI", "BEKE"], {}, NOW)
        assert {symbol: failure.cause for symbol, failure in fetched.failures.items()} == {
            "SI": Cause.UNKNOWN_SYMBOL,
            "BEKE": Cause.NO_DATA,
        }


class TestIntraday:
    def test_recorded_minutes_lose_the_null_bar_and_the_live_quote_only(
        self, yahoo: YahooLookalike, tmp_path: Path, shared_data: Path
    ) -> None:
        file = "http__chart-AAPL-2024-10-02-to-2024-10-03-includePrePost-false-interval-1m.json"
        yahoo.play(shared_data / "yahoo_chart" / file)
        now = datetime(2024, 10, 3, 20, 30, tzinfo=UTC)
        fetched = source(tmp_path, interval="1m").fetch(["AAPL"], {}, now)
        recorded = json.loads((shared_data / "yahoo_chart" / file).read_text())["body"]["chart"]["result"][0]
        stamps = [datetime.fromtimestamp(second, UTC) for second in recorded["timestamp"]]
        null = [stamps[105]]
        live = [stamps[-1]]
        assert sorted(set(stamps) - set(fetched.bars["timestamp"])) == null + live
        assert fetched.bars.height == 389

    @pytest.mark.parametrize("interval", ["2m", "5m", "15m", "1h"])
    def test_bars_are_instants_in_utc_and_as_traded(self, yahoo: YahooLookalike, tmp_path: Path, interval: str) -> None:
        days = [date(2024, 6, 6), date(2024, 6, 7), date(2024, 6, 10)]
        truth = intraday("A", interval, days, bars=7)
        split = (date(2024, 6, 10), "split", 10.0)
        yahoo.offer("A", truth, events("A", split), interval=interval)
        fetched = source(tmp_path, interval=interval).fetch(["A"], {}, NOW)
        assert_bars(fetched, truth)
        assert_frame_equal(fetched.actions, events("A", split))

    def test_half_hours_are_two_quarters_each_and_the_night_holds_none(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        quarters = intraday("A", "15m", [date(2024, 6, 6), date(2024, 6, 7)])
        yahoo.offer("A", quarters, interval="15m")
        fetched = source(tmp_path, interval="30m").fetch(["A"], {}, NOW)
        expected = (
            quarters.group_by("symbol", pl.col("timestamp").dt.truncate("30m"), maintain_order=True)
            .agg(
                pl.col("open").first(),
                pl.col("high").max(),
                pl.col("low").min(),
                pl.col("close").last(),
                pl.col("volume").sum(),
            )
            .sort("timestamp")
        )
        assert_bars(fetched, expected)

    def test_a_month_of_minutes_is_read_in_windows_that_yahoo_serves(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        days = [date(2024, 6, day) for day in (3, 10, 11, 18, 24, 27)]
        truth = intraday("A", "1m", days, bars=30)
        yahoo.offer("A", truth, interval="1m")
        fetched = source(tmp_path, interval="1m").fetch(["A"], {}, NOW)
        assert_bars(fetched, truth)
        spans = [int(asked.query["period2"]) - int(asked.query["period1"]) for asked in yahoo.charts("A")]
        assert len(spans) == 5
        assert max(spans) <= 7 * 86400

    @pytest.mark.parametrize(("interval", "days"), [("1m", 30), ("5m", 60), ("1h", 730)])
    def test_a_start_further_back_than_yahoo_serves_is_moved_and_said(
        self, yahoo: YahooLookalike, tmp_path: Path, caplog: pytest.LogCaptureFixture, interval: str, days: int
    ) -> None:
        truth = intraday("A", interval, [date(2024, 6, 27)], bars=5)
        yahoo.offer("A", truth, interval=interval)
        asked = source(tmp_path, interval=interval, history_start=date(2015, 1, 1))
        with caplog.at_level(logging.WARNING):
            fetched = asked.fetch(["A"], {}, NOW)
        assert_bars(fetched, truth)
        assert f"{interval} bars of the last {days} days only" in caplog.text
        first = min(int(request.query["period1"]) for request in yahoo.charts("A"))
        assert NOW - timedelta(days=days) < datetime.fromtimestamp(first, UTC) <= NOW - timedelta(days=days - 1)


class TestManners:
    def test_no_more_requests_are_under_way_at_once_than_allowed(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        symbols = [f"S{number}" for number in range(12)]
        offer(yahoo, *symbols)
        yahoo.chart_seconds = 0.05
        source(tmp_path, yahoo_concurrency=3).fetch(symbols, {}, NOW)
        assert yahoo.most_at_once == 3

    @given(
        rate=st.floats(0.5, 50.0),
        burst=st.integers(1, 16),
        steps=st.lists(st.tuples(st.floats(0.0, 2.0), st.integers(1, 5)), min_size=1, max_size=60),
    )
    def test_the_rate_is_never_exceeded_beyond_the_burst_and_what_is_in_debt_is_waited_for(
        self, rate: float, burst: int, steps: list[tuple[float, int]]
    ) -> None:
        time = [100.0]
        pace = _Pace(rate, burst, lambda: time[0])
        spent: list[tuple[float, int]] = []
        for passes, tokens in steps:
            time[0] += passes
            if pace.pause() <= 0.0:
                pace.spend(tokens)
                spent.append((time[0], tokens))
        for begin, (since, _) in enumerate(spent):
            for end in range(begin, len(spent)):
                # The last spending may run into debt by all but one of its tokens.
                tokens = sum(count for _, count in spent[begin : end + 1]) - (spent[end][1] - 1)
                assert tokens <= burst + rate * (spent[end][0] - since) + 1e-6

    def test_a_cookie_that_the_client_stumbles_over_is_forgotten_and_the_next_fetch_heals(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        truth = offer(yahoo, "A", "B")
        yahoo.cookie_age = None
        asked = source(tmp_path)
        assert set(asked.fetch(["A", "B"], {}, NOW).failures) == {"A", "B"}
        yahoo.cookie_age = 31_536_000
        assert_bars(asked.fetch(["A", "B"], {}, NOW), truth)

    def test_a_refused_crumb_is_no_obstacle(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        truth = offer(yahoo, "A", "B")
        yahoo.crumb_status = 429
        assert_bars(source(tmp_path).fetch(["A", "B"], {}, NOW), truth)

    def test_a_symbol_costs_one_request(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        offer(yahoo, "A", "B")
        source(tmp_path).fetch(["A", "B", "A"], {}, NOW)
        assert sorted(str(asked.symbol) for asked in yahoo.charts()) == ["A", "B"]

    def test_progress_counts_every_symbol_once(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        offer(yahoo, "A", "B")
        told: list[tuple[int, int, str]] = []
        settings = Settings(home=tmp_path, **FAST)
        Yahoo(settings, lambda *line: told.append(line)).fetch(["A", "NONE", "B"], {}, NOW)
        assert [line[:2] for line in told] == [(1, 3), (2, 3), (3, 3)]
        assert {line[2] for line in told} == {"A", "B", "NONE"}

    def test_a_symbol_that_cannot_be_asked_is_refused_without_a_request(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        fetched = source(tmp_path).fetch(["BRK/B", "A B", ""], {}, NOW)
        assert {failure.cause for failure in fetched.failures.values()} == {Cause.REFUSED}
        assert len(fetched.failures) == 3
        assert not yahoo.asked

    def test_no_symbols_are_no_work(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        fetched = source(tmp_path).fetch([], {}, NOW)
        assert fetched.bars.is_empty()
        assert fetched.bars.columns == list(RAW_BARS)
        assert not yahoo.asked

    def test_the_flood_of_pandas_warnings_is_kept_from_the_reader(self, yahoo: YahooLookalike, tmp_path: Path) -> None:
        offer(yahoo, "A")
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            source(tmp_path).fetch(["A"], {}, NOW)
        assert not [warning for warning in heard if "yfinance" in str(warning.filename)]

    def test_complete_until_follows_the_calendars_without_a_request(
        self, yahoo: YahooLookalike, tmp_path: Path
    ) -> None:
        friday = datetime(2024, 6, 28, 20, 15, tzinfo=UTC)
        asked = source(tmp_path, calendars={"X": "XASX"})
        assert asked.complete_until(["AAPL", "VOD.L", "BTC-USD", "X"], friday) == {
            "AAPL": datetime(2024, 6, 27, tzinfo=UTC),
            "VOD.L": datetime(2024, 6, 28, tzinfo=UTC),
            "BTC-USD": datetime(2024, 6, 27, tzinfo=UTC),
            "X": datetime(2024, 6, 28, tzinfo=UTC),
        }
        assert asked.complete_until(["AAPL"], friday + timedelta(minutes=15))["AAPL"] == datetime(
            2024, 6, 28, tzinfo=UTC
        )
        assert not yahoo.asked

    def test_it_is_a_source_that_imports_its_client_at_the_first_fetch_only(self, tmp_path: Path) -> None:
        fits: Callable[[Source], str] = lambda any_source: any_source.name  # noqa: E731
        assert fits(source(tmp_path)) == "yahoo"
        program = "import sys, alpha_assets.sources.yahoo; print(sorted({'yfinance', 'pandas'} & set(sys.modules)))"
        said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == "[]"


# -- companies --------------------------------------------------------------------------------------------------------

#: The sections that the summary of a share has, with values of the kinds that occur: raw numbers, text, nothing, traps.
APPLE: dict[str, dict[str, Any]] = {
    "quoteType": {"longName": "Apple Inc.", "quoteType": "EQUITY", "firstTradeDateEpochUtc": 345479400},
    "assetProfile": {"sector": "Technology", "industry": " ", "fullTimeEmployees": 161000, "companyOfficers": []},
    "summaryDetail": {"marketCap": 3.2e12, "trailingPE": "Infinity", "dividendYield": 0.0044, "beta": None},
    "financialData": {"debtToEquity": 154.5},
}


def test_facts_of_a_company_come_in_our_names_and_units_and_what_is_not_there_is_absent(
    yahoo: YahooLookalike, tmp_path: Path
) -> None:
    yahoo.companies["AAPL"] = APPLE
    said = source(tmp_path).fundamentals(["AAPL"], NOW)
    assert said.failures == {}
    assert said.facts == {
        "AAPL": {
            "name": "Apple Inc.",
            "quote_type": "EQUITY",
            "listed": "1980-12-12",
            "sector": "Technology",
            "employees": 161_000,
            "market_cap": 3.2e12,
            "dividend_yield": 0.0044,
            "debt_to_equity": 1.545,
        }
    }


def test_an_index_without_a_summary_is_answered_with_no_facts_and_raises_no_alarm(
    yahoo: YahooLookalike, tmp_path: Path
) -> None:
    yahoo.companies["AAPL"] = APPLE
    said = source(tmp_path).fundamentals(["^GSPC", "AAPL", "A/B"], NOW)
    assert said.facts["^GSPC"] == {}
    assert said.facts["AAPL"]["sector"] == "Technology"
    assert {symbol: failure.cause for symbol, failure in said.failures.items()} == {"A/B": Cause.REFUSED}
    assert set(yahoo.summaries()) == {"AAPL", "^GSPC"}
    assert yahoo.charts() == [], "the control symbol was not needed"


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Fault.RATE_LIMIT, Cause.RATE_LIMITED),
        (Fault.SERVER_ERROR, Cause.OUTAGE),
        (Fault.UNAUTHORIZED, Cause.OUTAGE),
        (Fault.HTML, Cause.MALFORMED),
    ],
)
def test_a_summary_that_fails_has_the_cause_that_a_chart_would_have(
    yahoo: YahooLookalike, tmp_path: Path, fault: Fault, cause: Cause
) -> None:
    yahoo.companies |= {"AAPL": APPLE, "MSFT": APPLE}
    yahoo.misbehave("AAPL" + SUMMARY, fault)
    said = source(tmp_path).fundamentals(["AAPL", "MSFT"], NOW)
    assert said.failures["AAPL"].cause is cause
    assert set(said.facts) == {"MSFT"}


def test_a_summary_that_heals_is_asked_for_again(yahoo: YahooLookalike, tmp_path: Path) -> None:
    yahoo.companies["AAPL"] = APPLE
    yahoo.misbehave("AAPL" + SUMMARY, Fault.SERVER_ERROR, times=1)
    assert source(tmp_path).fundamentals(["AAPL"], NOW).facts["AAPL"]["name"] == "Apple Inc."


def test_companies_cannot_be_asked_about_where_nobody_is_there(yahoo: YahooLookalike, tmp_path: Path) -> None:
    yahoo.refuse()
    with pytest.raises(SourceUnavailable, match="could not be reached"):
        source(tmp_path).fundamentals(["AAPL"], NOW)
