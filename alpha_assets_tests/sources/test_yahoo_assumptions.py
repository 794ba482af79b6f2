"""What the source ``yahoo`` takes for granted about the vendor's client, one assumption a test.

Red here and green in ``test_yahoo``: the client changed and a precaution may go. Red in both: the client changed and a
precaution no longer holds. The client is used as its manual says, without any part of ours.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yfinance
from curl_cffi.requests.exceptions import ConnectionError as NobodyThere
from pandas.errors import Pandas4Warning
from yfinance.cache import get_cookie_cache
from yfinance.data import YfData
from yfinance.exceptions import YFPricesMissingError, YFRateLimitError
from yfinance.scrapers.history import PriceHistory

from alpha_assets_tests.yahoo_lookalike import Fault, YahooLookalike, redirected

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")

NOW = datetime(2024, 6, 28, 21, tzinfo=UTC)
START, END = (int(datetime(2024, 5, day, tzinfo=UTC).timestamp()) for day in (1, 31))


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[YahooLookalike]:
    """A look-alike with one listing, A, and this process's client redirected to it, its exceptions switched on."""
    with YahooLookalike(tmp_path / "yahoo", NOW) as lookalike, redirected(lookalike):
        yfinance.config.debug.hide_exceptions = False
        lookalike.offer("A", bars())
        yield lookalike


def bars(**changes: Any) -> pl.DataFrame:
    """Weekdays of May 2024 at 10, 11, 12 … with some columns changed."""
    days = pl.date_range(date(2024, 5, 1), date(2024, 5, 31), "1d", eager=True).alias("day").to_frame()
    price = 10.0 + pl.int_range(pl.len()).cast(pl.Float64)
    return (
        days.filter(pl.col("day").dt.weekday() <= 5)
        .select(pl.col("day").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("timestamp"))
        .with_columns(**dict.fromkeys(("open", "high", "low", "close"), price), volume=pl.lit(500.0))
        .with_columns(**changes)
    )


def history(symbol: str = "A", **arguments: Any) -> Any:
    return yfinance.Ticker(symbol).history(
        **{"start": START, "end": END, "auto_adjust": False, "actions": True, **arguments}
    )


def test_an_outage_is_reported_in_the_words_of_a_delisting(
    yahoo: YahooLookalike, caplog: pytest.LogCaptureFixture
) -> None:
    history()
    YfData.cache_get.cache_clear()
    yfinance.config.debug.hide_exceptions = True
    yahoo.refuse()
    with caplog.at_level(logging.ERROR, "yfinance"):
        assert history().empty
    assert "possibly delisted" in caplog.text


def test_with_its_exceptions_on_the_client_tells_the_causes_apart(yahoo: YahooLookalike) -> None:
    history()  # so that the zone is known and only the prices are asked
    for fault, error in (
        (Fault.NOT_FOUND, YFPricesMissingError),
        (Fault.RATE_LIMIT, YFRateLimitError),
        (Fault.DEAF, NobodyThere),
        (Fault.HTML, ValueError),
    ):
        YfData.cache_get.cache_clear()
        yahoo.misbehave("A", fault)
        with pytest.raises(error):
            history()


def test_a_missing_price_carries_yahoos_own_reason(yahoo: YahooLookalike) -> None:
    history()
    YfData.cache_get.cache_clear()
    yahoo.misbehave("A", Fault.NOT_FOUND)
    with pytest.raises(YFPricesMissingError) as missing:
        history()
    assert missing.value.yahoo_reason == "No data found, symbol may be delisted"


def test_a_retry_of_a_past_range_is_served_from_memory_errors_included(yahoo: YahooLookalike) -> None:
    history()
    YfData.cache_get.cache_clear()
    yahoo.misbehave("A", Fault.TRUNCATED)
    with pytest.raises(ValueError, match=r"Unterminated|delimiter|Expecting"):
        history()
    yahoo.heal()
    asked = len(yahoo.asked)
    with pytest.raises(ValueError, match=r"Unterminated|delimiter|Expecting"):
        history()
    assert len(yahoo.asked) == asked
    YfData.cache_get.cache_clear()
    assert len(history()) == 22


def test_a_status_of_400_or_more_is_asked_a_second_time_with_other_cookies(yahoo: YahooLookalike) -> None:
    yahoo.misbehave("A", Fault.NOT_FOUND)
    yahoo.cookie_age = 0
    with pytest.raises(YFPricesMissingError):
        PriceHistory(YfData(), "A", "UTC").history(start=START, end=END)
    assert [asked.status for asked in yahoo.charts("A")] == [404, 404]
    assert [asked.host for asked in yahoo.asked if "consent" in asked.path.lower()] == [
        "guce.yahoo.com",
        "consent.yahoo.com",
        "guce.yahoo.com",
    ]


def test_the_price_reader_with_a_zone_of_ours_saves_the_request_for_the_zone(yahoo: YahooLookalike) -> None:
    ours = PriceHistory(YfData(), "A", "UTC").history(start=START, end=END, auto_adjust=False, actions=True)
    assert len(yahoo.charts("A")) == 1
    theirs = history()
    assert ours.equals(theirs)
    assert [asked.query.get("range") for asked in yahoo.charts("A")] == [None, "1d"]


@pytest.mark.usefixtures("yahoo")
def test_the_price_reader_takes_whatever_data_layer_it_is_given() -> None:
    class Layer:
        def __init__(self) -> None:
            self.calls: list[str] = []

        get = None

        def cache_get(self, url: str, params: Any, timeout: Any) -> Any:
            self.calls.append(url)
            return YfData().get(url=url, params=params, timeout=timeout)

    layer = Layer()
    assert len(PriceHistory(layer, "A", "UTC").history(start=START, end=END)) == 22
    assert layer.calls == ["https://query2.finance.yahoo.com/v8/finance/chart/A"]


def test_close_is_adjusted_for_later_splits_even_without_auto_adjust(yahoo: YahooLookalike, shared_data: Path) -> None:
    name = "fixtures__http__historical-via-chart-NVDA-split-2021-02-01-to-2022-01-31.csv.json"
    yahoo.play(shared_data / "yahoo_chart" / name)
    frame = history("NVDA", start="2021-07-19", end="2021-07-20")
    # Traded at 751.19; 4:1 on the next day and 10:1 in June 2024.
    assert frame["Close"].iloc[0] * 40 == pytest.approx(751.19, abs=0.01)


def test_rows_outside_the_period_are_kept_but_for_a_last_one_after_its_end(yahoo: YahooLookalike) -> None:
    yahoo.misbehave("A", Fault.UNCUT)
    frame = history(start=int(datetime(2024, 5, 13, tzinfo=UTC).timestamp()), end=END)
    assert frame.index[0].date() == date(2024, 5, 1)
    assert frame.index[-1].date() == date(2024, 5, 30)
    yahoo.misbehave("A", Fault.UNCUT)
    YfData.cache_get.cache_clear()
    early = history(end=int(datetime(2024, 5, 13, tzinfo=UTC).timestamp()))
    assert early.index[-1].date() == date(2024, 5, 30)


def test_an_event_on_a_session_without_bar_is_moved_to_the_bar_before(yahoo: YahooLookalike) -> None:
    gap, before = date(2024, 5, 15), date(2024, 5, 14)
    split = pl.DataFrame({"ex_date": [gap], "kind": ["split"], "value": [2.0]})
    yahoo.offer("A", bars().filter(pl.col("timestamp").dt.date() != gap), split)
    frame = history()
    assert [day.date() for day in frame.index[frame["Stock Splits"] != 0]] == [before]


def test_a_null_volume_arrives_as_zero_and_a_null_price_as_nan(yahoo: YahooLookalike) -> None:
    third = pl.int_range(pl.len()) == 2
    yahoo.offer(
        "A", bars(volume=pl.when(third).then(None).otherwise(500.0), close=pl.when(third).then(None).otherwise(9.0))
    )
    row = history(keepna=True).iloc[2]
    assert row["Volume"] == 0
    assert row["Close"] != row["Close"]


def test_of_a_last_bar_and_a_live_quote_on_the_same_day_the_quote_stays(yahoo: YahooLookalike) -> None:
    yahoo.misbehave("A", Fault.LIVE_ROW)
    frame = history(end=int(datetime(2024, 6, 5, tzinfo=UTC).timestamp()))
    assert len(frame) == 23
    assert frame["Volume"].iloc[-1] == 600


def test_half_hours_are_asked_as_quarters(yahoo: YahooLookalike) -> None:
    start = datetime(2024, 6, 27, 13, 30, tzinfo=UTC)
    quarters = (
        bars()
        .head(4)
        .with_columns(
            timestamp=pl.Series(
                [start + timedelta(minutes=15 * step) for step in range(4)], dtype=pl.Datetime("us", "UTC")
            )
        )
    )
    yahoo.offer("A", quarters, interval="15m")
    frame = history(start=int(start.timestamp()), end=int(NOW.timestamp()), interval="30m")
    assert yahoo.charts("A")[-1].query["interval"] == "15m"
    assert frame["Open"].to_list() == [10.0, 12.0]
    assert frame["Close"].to_list() == [11.0, 13.0]


def test_a_cookie_without_an_expiry_breaks_this_process_and_through_the_cache_on_disk_the_next(
    yahoo: YahooLookalike,
) -> None:
    yahoo.cookie_age = None
    with pytest.raises(TypeError, match="NoneType"):
        history()
    yahoo.cookie_age = 31_536_000
    with redirected(yahoo), pytest.raises(TypeError, match="NoneType"):
        history()


def test_a_bad_cookie_can_be_forgotten(yahoo: YahooLookalike) -> None:
    yahoo.cookie_age = None
    with pytest.raises(TypeError, match="NoneType"):
        history()
    yahoo.cookie_age = 31_536_000
    get_cookie_cache().store("curlCffi", None)
    assert len(history()) == 22


def test_without_a_cache_the_cookie_is_fetched_before_every_request(yahoo: YahooLookalike) -> None:
    yfinance.set_tz_cache_location(f"{os.devnull}/none")
    for _ in range(3):
        PriceHistory(YfData(), "A", "UTC").history(start=START, end=END)
        YfData.cache_get.cache_clear()
    assert len(yahoo.charts()) == 3
    assert [asked.host for asked in yahoo.asked].count("fc.yahoo.com") >= 3


def test_a_refused_crumb_is_sent_as_the_crumb_and_the_chart_answers_nevertheless(yahoo: YahooLookalike) -> None:
    yahoo.crumb_status = 429
    assert len(history()) == 22
    assert yahoo.charts("A")[-1].query.get("crumb") == "Too Many Requests"


def test_refused_connections_and_unresolved_hosts_have_the_codes_of_libcurl(yahoo: YahooLookalike) -> None:
    history()
    yahoo.refuse()
    YfData.cache_get.cache_clear()
    with pytest.raises(NobodyThere) as refused:
        history()
    assert refused.value.code == 7
    yfinance.config.network.proxy = "http://nowhere.invalid:1"
    try:
        with pytest.raises(OSError, match="resolve") as unresolved:
            history()
    finally:
        yfinance.config.network.proxy = None
    assert getattr(unresolved.value, "code", None) == 5


@pytest.mark.usefixtures("yahoo")
def test_the_client_floods_pandas_warnings() -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        history()
    assert {warning.category for warning in heard if "yfinance" in warning.filename} == {Pandas4Warning}
