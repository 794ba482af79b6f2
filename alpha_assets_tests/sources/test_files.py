"""The source ``files``: what is understood, what is refused, and that nothing is lost on the way.

Every file here is really written and really read. The laws come first (what is written comes back, a tail is the end of
the whole, one bad file stops nobody), then the spellings, then every refusal with the file, column and row it has to
name.
"""

import gzip
import os
import re
import string
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.schema import ACTIONS, RAW_BARS, TIME
from alpha_assets.settings import Settings
from alpha_assets.sources.base import Cause, Failure, Fetched, Source, SourceUnavailable
from alpha_assets.sources.file_access import Refusal
from alpha_assets.sources.files import Files

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
PRICES = "open,high,low,close,volume"
ONE = pl.DataFrame({name: [1.0] for name in PRICES.split(",")})


def source(files: Path | str, **overrides: Any) -> Files:
    return Files(Settings(source="files", files=str(files), **{"history_start": date(1990, 1, 1)} | overrides))


def fetch(files: Path | str, *symbols: str, since: Mapping[str, datetime] | None = None, **overrides: Any) -> Fetched:
    return source(files, **overrides).fetch(symbols, since or {}, NOW)


def refused(files: Path | str, *symbols: str, **overrides: Any) -> Failure:
    """The failure of the first symbol, none of whose rows may be delivered."""
    fetched = fetch(files, *symbols, **overrides)
    assert symbols[0] in fetched.failures, f"delivered {fetched.bars}"
    assert symbols[0] not in fetched.bars["symbol"]
    assert symbols[0] not in fetched.actions["symbol"]
    return fetched.failures[symbols[0]]


def csv_file(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def daily(path: Path, times: list[str], header: str = f"date,{PRICES}") -> Path:
    """A file of one symbol with a bar at each of ``times``, the close counting from 1."""
    return csv_file(path, header, *(f"{text},{n},{n},{n},{n},100" for n, text in enumerate(times, 1)))


def days(fetched: Fetched) -> list[date]:
    assert not fetched.failures, fetched.failures
    return fetched.bars["timestamp"].dt.date().to_list()


# --- Laws


def numbers(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(low, high, allow_nan=False)


BAR = st.tuples(*(numbers(0.01, 1e6) for _ in range(4)), numbers(0, 1e12))

DAILY_TIMES: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "date": lambda t: t.dt.date(),
    "naive milliseconds": lambda t: t.dt.replace_time_zone(None).cast(pl.Datetime("ms")),
    "nanoseconds in New York": lambda t: (
        t.dt.replace_time_zone(None)
        .dt.replace_time_zone("America/New_York")
        .cast(pl.Datetime("ns", "America/New_York"))
    ),
    "text": lambda t: t.dt.to_string("%Y-%m-%d"),
    "text with slashes": lambda t: t.dt.to_string("%Y/%m/%d"),
    "text with a time": lambda t: t.dt.to_string("%Y-%m-%d %H:%M:%S"),
    "text with an offset": lambda t: t.dt.to_string("%Y-%m-%dT%H:%M:%S-05:00"),
    "text in UTC": lambda t: t.dt.to_string("%Y-%m-%dT%H:%M:%SZ"),
    "month as a word": lambda t: t.dt.to_string("%d-%b-%Y"),
    "number of the day": lambda t: t.dt.to_string("%Y%m%d").cast(pl.Int64),
    "seconds": lambda t: t.dt.epoch("s"),
}
INTRADAY_TIMES: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "microseconds in UTC": lambda t: t,
    "naive in New York": lambda t: t.dt.convert_time_zone("America/New_York").dt.replace_time_zone(None),
    "naive text in New York": lambda t: t.dt.convert_time_zone("America/New_York").dt.to_string("%Y-%m-%d %H:%M"),
    "text with an offset": lambda t: t.dt.convert_time_zone("America/New_York").dt.to_string("%Y-%m-%d %H:%M:%S%z"),
    "text in UTC": lambda t: t.dt.to_string("%Y-%m-%d %H:%M:%S UTC"),
    "compact text": lambda t: t.dt.to_string("%Y%m%d %H:%M:%S%.3fZ"),
    "seconds": lambda t: t.dt.epoch("s"),
    "seconds with a fraction of nothing": lambda t: t.dt.epoch("s").cast(pl.Float64),
    "milliseconds": lambda t: t.dt.epoch("ms"),
    "microseconds": lambda t: t.dt.epoch("us"),
    "nanoseconds": lambda t: t.dt.epoch("ns"),
}
SPELLINGS = (
    ("timestamp", "open", "high", "low", "close", "volume"),
    ("Date", "Open", "High", "Low", "Close", "Volume"),
    ("DATETIME", "o", "h", "l", "c", "v"),
    ("open_time", "1. open", "2. high", "3. low", "4. close", "5. volume"),
    ("<Date>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
    ("Time", " Open Price ", "high_price", "low.price", "Close/Last", "vol"),
)


def write(bars: pl.DataFrame, folder: Path, form: str, names: tuple[str, ...], symbol: str | None) -> None:
    """``bars`` as Parquet or CSV: long where the symbol column has a name, else a file a symbol."""
    table = bars.rename(dict(zip(("timestamp", "open", "high", "low", "close", "volume"), names, strict=True)))
    parts = {"all": table.rename({"symbol": symbol})} if symbol else _by_symbol(table)
    for name, part in parts.items():
        if form == "parquet":
            part.write_parquet(folder / f"{name}.PARQUET")
        elif form == "csv.gz":
            (folder / f"{name}.csv.gz").write_bytes(gzip.compress(part.write_csv().encode()))
        else:
            part.write_csv(folder / f"{name}.CSV", separator=";" if form == "semicolons" else ",")


def _by_symbol(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    return {str(name): part.drop("symbol") for (name,), part in table.partition_by("symbol", as_dict=True).items()}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(BAR, min_size=1, max_size=12),
    symbols=st.lists(
        st.text(string.ascii_uppercase + ".-", min_size=1, max_size=5).filter(str.isalpha),
        min_size=1,
        max_size=3,
        unique=True,
    ),
    intraday=st.booleans(),
    names=st.sampled_from(SPELLINGS),
    symbol=st.sampled_from([None, "symbol", "Ticker", "Name", "INSTRUMENT"]),
    form=st.sampled_from(["parquet", "csv", "csv.gz", "semicolons"]),
    data=st.data(),
)
def test_what_is_written_in_any_accepted_form_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[float | None, ...]],
    symbols: list[str],
    intraday: bool,
    names: tuple[str, ...],
    symbol: str | None,
    form: str,
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("written")
    first = datetime(2024, 6, 3, 13, 30, tzinfo=UTC) if intraday else datetime(2024, 1, 30, tzinfo=UTC)
    step = timedelta(minutes=5) if intraday else timedelta(days=1)
    written = data.draw(st.sampled_from(sorted(INTRADAY_TIMES if intraday else DAILY_TIMES)))
    expression = (INTRADAY_TIMES if intraday else DAILY_TIMES)[written](pl.col("timestamp"))
    bars = pl.DataFrame(
        [(name, first + n * step, *row) for name in symbols for n, row in enumerate(rows)],
        schema=dict(RAW_BARS),
        orient="row",
    )
    write(bars.with_columns(timestamp=expression), folder, form, names, symbol)
    fetched = source(folder, interval="5m" if intraday else "1d").fetch(symbols, {}, NOW)
    assert not fetched.failures
    assert_frame_equal(fetched.bars.sort("symbol", "timestamp"), bars.sort("symbol", "timestamp"), check_exact=True)


@settings(max_examples=25, deadline=None)
@given(
    since=st.lists(st.dates(date(2014, 5, 30), date(2014, 6, 20)), min_size=2, max_size=2),
    form=st.sampled_from(["parquet", "csv"]),
)
def test_a_tail_is_the_end_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, shared_data: Path, since: list[date], form: str
) -> None:
    folder = tmp_path_factory.mktemp("tail")
    bars = pl.read_parquet(shared_data / "lean_us_daily_raw.parquet").filter(
        pl.col("symbol").is_in(["AAPL", "IBM"]), pl.col("timestamp").is_between(date(2014, 4, 1), date(2014, 7, 1))
    )
    write_to = bars.write_parquet if form == "parquet" else bars.write_csv
    write_to(folder / f"bars.{form}")
    starts = {s: datetime.combine(day, datetime.min.time(), UTC) for s, day in zip(["AAPL", "IBM"], since, strict=True)}
    for prices in ("as-traded", "split-adjusted", "adjusted"):
        if prices == "adjusted":
            bars.drop("adj_close").write_parquet(folder / "bars.parquet")
            (folder / "bars.csv").unlink(missing_ok=True)
        whole = fetch(folder, "AAPL", "IBM", files_prices=prices)
        tail = fetch(folder, "AAPL", "IBM", since=starts, files_prices=prices)
        start = pl.col("symbol").replace_strict(starts, return_dtype=TIME)
        assert_frame_equal(tail.bars, whole.bars.filter(pl.col("timestamp") >= start))
        assert_frame_equal(tail.actions, whole.actions.filter(pl.col("ex_date") >= start.dt.date()))


def test_it_is_a_source(tmp_path: Path) -> None:
    typed: Source = source(tmp_path)
    assert typed.name == "files"


def test_one_bad_file_stops_no_other(tmp_path: Path) -> None:
    daily(tmp_path / "GOOD.csv", ["2020-01-30", "2020-01-31"])
    daily(tmp_path / "BAD.csv", ["2020-01-30", "31.1.20"])
    (tmp_path / "BROKEN.parquet").write_bytes(b"PAR1 cut off")
    fetched = fetch(tmp_path, "GOOD", "BAD", "BROKEN", "NOWHERE")
    assert fetched.bars["symbol"].unique().to_list() == ["GOOD"]
    assert fetched.failures["BAD"].cause == Cause.REFUSED
    assert fetched.failures["BROKEN"].cause == Cause.MALFORMED
    assert str(tmp_path / "BROKEN.parquet") in fetched.failures["BROKEN"].message


def test_a_symbol_is_not_unknown_while_a_file_cannot_be_read(tmp_path: Path) -> None:
    daily(tmp_path / "GOOD.csv", ["2020-01-30"])
    broken = tmp_path / "all.parquet"
    broken.write_bytes(b"half a file")
    failure = refused(tmp_path, "AAPL")
    assert failure.cause == Cause.MALFORMED
    assert str(broken) in failure.message
    broken.unlink()
    assert refused(tmp_path, "AAPL").cause == Cause.UNKNOWN_SYMBOL


def test_a_bad_value_fails_its_own_symbol_only(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "long.csv", f"symbol,date,{PRICES}", "A,2020-01-30,1,1,1,1,1", "B,2020-01-30,1,x,1,1,1")
    fetched = fetch(path, "A", "B")
    assert fetched.bars["symbol"].to_list() == ["A"]
    assert list(fetched.failures) == ["B"]


def test_null_double_unordered_and_future_rows_are_delivered_in_file_order(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path / "A.csv",
        f"date,{PRICES}",
        "2020-01-31,1,1,1,1,1",
        "2020-01-30,,,,NaN,null",
        "2020-01-31,2,2,1,-2,0",
        "2099-01-01,1,1,1,1,1",
    )
    fetched = fetch(path, "A")
    assert days(fetched) == [date(2020, 1, 31), date(2020, 1, 30), date(2020, 1, 31), date(2099, 1, 1)]
    assert fetched.bars["close"].to_list() == [1.0, None, -2.0, 1.0]


def test_nothing_new_is_an_answer_and_no_history_a_failure(tmp_path: Path) -> None:
    path = daily(tmp_path / "A.csv", ["2020-01-30", "2020-01-31"])
    later = fetch(path, "A", since={"A": datetime(2020, 2, 3, tzinfo=UTC)})
    assert later.bars.is_empty()
    assert not later.failures
    failure = refused(path, "A", history_start=date(2021, 1, 1))
    assert failure.cause == Cause.NO_DATA
    assert "ALPHA_HISTORY_START" in failure.message


# --- Where files are found, and what they hold


def test_files_are_found_by_name_folder_and_glob(tmp_path: Path) -> None:
    daily(tmp_path / "data" / "deep" / "BRK.B.csv", ["2020-01-30"])
    daily(tmp_path / "data" / "MSFT.CSV", ["2020-01-30"])
    ONE.with_columns(date=date(2020, 1, 30)).write_parquet(tmp_path / "data" / "AAPL.Parquet")
    daily(tmp_path / "data" / ".hidden" / "X.csv", ["2020-01-30"])
    (tmp_path / "data" / "README.md").write_text("not bars")
    assert source(tmp_path / "data").symbols() == ["AAPL", "BRK.B", "MSFT"]
    assert source(tmp_path / "data" / "**" / "*.csv").symbols() == ["BRK.B"]
    assert source(tmp_path / "data" / "*[!t].*").symbols() == ["AAPL", "MSFT"]
    assert source(tmp_path / "data" / "MSFT.CSV").symbols() == ["MSFT"]
    assert days(fetch(tmp_path / "data", "AAPL", "BRK.B", "MSFT")) == [date(2020, 1, 30)] * 3


@pytest.mark.parametrize("files", [None, "", "nowhere", "nowhere/*.csv"])
def test_no_file_at_all_is_one_sentence_that_names_the_setting(tmp_path: Path, files: str | None) -> None:
    unset = Files(Settings(source="files", files=str(tmp_path / files) if files else files))
    with pytest.raises(SourceUnavailable, match="ALPHA_FILES") as error:
        unset.fetch(["AAPL"], {}, NOW)
    assert "\n" not in str(error.value)
    with pytest.raises(SourceUnavailable):
        unset.symbols()
    assert unset.complete_until(["AAPL"], NOW) == {"AAPL": None}


def test_an_unknown_symbol_is_told_how_the_files_spell_it(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "long.csv", f"Name,date,{PRICES}", "aapl,2020-01-30,1,1,1,1,1")
    failure = refused(path, "AAPL")
    assert failure.cause == Cause.UNKNOWN_SYMBOL
    assert "'aapl'" in failure.message


def test_a_company_name_beside_the_symbol_is_no_symbol(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "long.csv", f"Symbol,Name,date,{PRICES}", "AAPL,Apple Inc.,2020-01-30,1,1,1,1,1")
    assert source(path).symbols() == ["AAPL"]


def test_the_symbol_na_is_a_symbol(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "long.csv", f"symbol,date,{PRICES}", "NA,2020-01-30,1,1,1,1,1")
    assert fetch(path, "NA").bars["symbol"].to_list() == ["NA"]


def test_numbers_and_categories_are_symbols_too(tmp_path: Path) -> None:
    bars = ONE.cast(pl.Int32).with_columns(date=date(2020, 1, 30))
    bars.with_columns(symbol=pl.lit(700)).write_parquet(tmp_path / "a.parquet")
    bars.with_columns(symbol=pl.lit("X", pl.Categorical)).write_parquet(tmp_path / "b.parquet")
    assert days(fetch(tmp_path, "700", "X")) == [date(2020, 1, 30)] * 2


def test_empty_lines_and_a_byte_order_mark_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_bytes(f"\ufeffdate,{PRICES}\r\n2020-01-30,1,1,1,1,1\r\n\r\n2020-01-31, 2 ,2,2,2,2\r\n\r\n".encode())
    assert days(fetch(path, "A")) == [date(2020, 1, 30), date(2020, 1, 31)]


def test_a_file_without_volume_has_none(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "EURUSD.csv", "date,open,high,low,close", "2020-01-30,1,1,1,1")
    assert fetch(path, "EURUSD").bars["volume"].to_list() == [None]


def test_a_history_and_a_file_a_session_are_one_series(tmp_path: Path) -> None:
    header = f"symbol,date,{PRICES}"
    csv_file(tmp_path / "2019.csv", header, "A,2019-12-30,1,1,1,1,1", "A,2019-12-31,2,2,2,2,2")
    csv_file(tmp_path / "2020-01-02.csv", header, "A,2019-12-31,2,2,2,2,2", "A,2020-01-02,3,3,3,3,3")
    assert fetch(tmp_path, "A").bars["close"].to_list() == [1.0, 2.0, 2.0, 3.0]


def test_files_written_differently_keep_their_order(tmp_path: Path) -> None:
    csv_file(tmp_path / "1.csv", f"symbol,date,{PRICES}", "A,2020-01-29,1,1,1,1,1")
    ONE.with_columns(symbol=pl.lit("A"), date=date(2020, 1, 30)).write_parquet(tmp_path / "2.parquet")
    csv_file(tmp_path / "3.csv", f"symbol,date,{PRICES}", "A,2020-01-31,1,1,1,1,1")
    assert [day.day for day in days(fetch(tmp_path, "A"))] == [29, 30, 31]


# --- Times


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-31 00:00:00-05:00",
        "2020-01-31 00:00:00+00:00",
        "2020-01-31T00:00:00Z",
        "2020-01-30 19:00:00-05:00",  # midnight UTC, converted
        "2020-01-31 00:00:00+09:00",
        "2020-01-31 16:00:00",
        "2020-01-31 16:00:00-05:00",
        "2020-01-31 21:00:00 UTC",
        "2020-02-01 02:30:00+00:00",  # 21:30 in New York
        "2020-01-31",
        "2020/1/31",
        "31/01/2020",
        "01/31/2020",
        "31.1.2020",
        "Jan 31, 2020",
        "20200131",
        "1580428800",
        "1580446800000",  # midnight in New York
    ],
)
def test_a_daily_stamp_belongs_to_its_local_date(tmp_path: Path, text: str) -> None:
    assert days(fetch(daily(tmp_path / "A.csv", [f'"{text}"']), "A")) == [date(2020, 1, 31)]


def test_a_daily_stamp_is_read_in_the_zone_of_its_own_exchange(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path / "long.csv",
        f"symbol,date,{PRICES}",
        "SAP.DE,2020-01-30 23:00:00+00:00,1,1,1,1,1",
        "AAPL,2020-01-31 05:00:00+00:00,1,1,1,1,1",
    )
    assert days(fetch(path, "SAP.DE", "AAPL")) == [date(2020, 1, 31)] * 2


def test_one_value_decides_whether_day_or_month_comes_first(tmp_path: Path) -> None:
    day_first = daily(tmp_path / "A.csv", ["03/02/2020", "13/02/2020"])
    month_first = daily(tmp_path / "B.csv", ["02/03/2020", "02/13/2020"])
    assert days(fetch(day_first, "A")) == days(fetch(month_first, "B")) == [date(2020, 2, 3), date(2020, 2, 13)]


@pytest.mark.parametrize(
    ("symbol", "zone", "utc_hour"),
    [("AAPL", None, 14), ("SAP.DE", None, 8), ("BTCUSDT", None, 9), ("AAPL", "UTC", 9), ("AAPL", "Asia/Tokyo", 0)],
)
def test_naive_intraday_times_are_the_exchanges_unless_said_otherwise(
    tmp_path: Path, symbol: str, zone: str | None, utc_hour: int
) -> None:
    path = daily(tmp_path / f"{symbol}.csv", ["2020-01-31 09:00", "2020-01-31 10:00"])
    fetched = fetch(path, symbol, interval="1h", files_timezone=zone)
    assert fetched.bars["timestamp"][0] == datetime(2020, 1, 31, utc_hour, tzinfo=UTC)


def test_each_symbol_of_a_long_file_has_its_own_zone(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path / "long.csv",
        f"symbol,time,{PRICES}",
        "AAPL,2020-01-31 10:00,1,1,1,1,1",
        "SAP.DE,2020-01-31 10:00,1,1,1,1,1",
    )
    assert fetch(path, "AAPL", "SAP.DE", interval="1h").bars["timestamp"].dt.hour().to_list() == [15, 9]


# --- Prices and actions


def test_events_of_nothing_are_no_actions(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path / "A.csv",
        f"date,{PRICES},Dividends,Stock Splits",
        *(
            "2020-01-27,8,8,8,8,1,0,0",
            "2020-01-28,8,8,8,8,1,,",
            "2020-01-29,8,8,8,8,1,0.0,1.0",
            "2020-01-30,4,4,4,4,2,0.5,2",
        ),
    )
    fetched = fetch(path, "A")
    assert fetched.actions.schema == pl.Schema(ACTIONS)
    assert fetched.actions.rows() == [("A", date(2020, 1, 30), "dividend", 0.5), ("A", date(2020, 1, 30), "split", 2.0)]
    assert fetched.bars["close"].to_list() == [8.0, 8.0, 8.0, 4.0]


def test_an_action_that_has_not_happened_is_not_delivered(tmp_path: Path) -> None:
    path = csv_file(tmp_path / "A.csv", f"date,{PRICES},split", "2026-01-14,1,1,1,1,1,0", "2026-01-16,1,1,1,1,1,2")
    assert fetch(path, "A").actions.is_empty()


def test_an_intraday_action_is_of_its_session(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path / "A.csv",
        f"time,{PRICES},dividends",
        *(f"2020-01-31 {hour}:30,1,1,1,1,1,{int(hour == 10)}" for hour in (10, 11, 12)),
    )
    assert fetch(path, "A", interval="1h").actions.rows() == [("A", date(2020, 1, 31), "dividend", 1.0)]


@pytest.mark.parametrize("said", ["split-adjusted", "adjusted"])
def test_adjusted_prices_come_back_as_traded(tmp_path: Path, shared_data: Path, said: str) -> None:
    raw = pl.read_parquet(shared_data / "lean_us_daily_raw.parquet").filter(pl.col("symbol").is_in(["AAPL", "USO"]))
    raw = raw.filter(pl.col("timestamp") > date(2010, 1, 1))
    raw.write_parquet(tmp_path / "raw.parquet")
    traded = fetch(tmp_path / "raw.parquet", "AAPL", "USO")
    vendor = adjusted(traded.bars, traded.actions, dividends=said == "adjusted")
    splits = pl.col("splits").replace(0.0, 1.0)
    later = splits.cum_prod(reverse=True).over("symbol") / splits
    events = raw.select(pl.col("dividends") / later, "splits")
    vendor.hstack(events).write_parquet(tmp_path / "vendor.parquet")
    back = fetch(tmp_path / "vendor.parquet", "AAPL", "USO", files_prices=said)
    assert_frame_equal(back.bars, traded.bars, rel_tol=1e-9)
    assert_frame_equal(back.actions, traded.actions, rel_tol=1e-9)


def test_prices_without_any_known_split_are_taken_as_they_are(tmp_path: Path) -> None:
    path = daily(tmp_path / "A.csv", ["2020-01-30", "2020-01-31"])
    for said in (None, "as-traded", "split-adjusted", "adjusted"):
        assert fetch(path, "A", files_prices=said).bars["close"].to_list() == [1.0, 2.0]


# --- Real samples


def test_every_row_of_the_sp500_sample_is_delivered_nulls_included(shared_data: Path) -> None:
    path = shared_data / "sp500_daily_2013_2018.parquet"
    files = source(path)
    held = files.symbols()
    fetched = files.fetch(held, {}, NOW)
    expected = pl.read_parquet(path).with_columns(pl.col("timestamp").cast(TIME))
    assert len(held) == 505
    assert not fetched.failures
    assert_frame_equal(fetched.bars, expected, check_exact=True)
    assert fetched.bars.schema == pl.Schema(RAW_BARS)


def test_the_last_sessions_of_the_sp500_sample_are_its_tail(shared_data: Path) -> None:
    files = source(shared_data / "sp500_daily_2013_2018.parquet")
    since = dict.fromkeys(files.symbols(), datetime(2018, 1, 31, tzinfo=UTC))
    fetched = files.fetch(list(since), since, NOW)
    assert len(fetched.bars) == 505 * 6
    assert fetched.bars["timestamp"].min() == datetime(2018, 1, 31, tzinfo=UTC)


def test_the_lean_sample_is_as_traded_with_its_splits_and_dividends(shared_data: Path) -> None:
    files = source(shared_data / "lean_us_daily_raw.parquet")
    fetched = files.fetch(files.symbols(), {}, NOW)
    assert len(fetched.bars) == 70_025
    splits = fetched.actions.filter(pl.col("symbol") == "AAPL", pl.col("kind") == "split")
    assert splits["ex_date"].to_list() == [date(2000, 6, 21), date(2005, 2, 28), date(2014, 6, 9), date(2020, 8, 31)]
    assert splits["value"].to_list() == pytest.approx([2, 2, 7, 4], rel=1e-5)
    assert fetched.actions.filter(pl.col("symbol") == "AAPL", pl.col("kind") == "dividend").height == 35
    assert fetched.actions.filter(pl.col("symbol") == "AAA").is_empty()
    close = fetched.bars.filter(pl.col("symbol") == "AAPL", pl.col("timestamp").dt.date() == date(2014, 6, 6))[
        "close"
    ].item()
    assert close == pytest.approx(645.57, rel=1e-3)


def test_the_crypto_samples_are_delivered_to_the_row_and_their_stale_tails_seen(shared_data: Path) -> None:
    files = source(shared_data / "crypto_5m_majors.parquet", interval="5m")
    assert len(files.fetch(files.symbols(), {}, NOW).bars) == 1_007_628
    until = files.complete_until(["BTCUSDT", "AVAXUSDT"], NOW)
    assert until == {
        "BTCUSDT": datetime(2024, 9, 6, 4, 40, tzinfo=UTC),
        "AVAXUSDT": datetime(2024, 9, 7, 2, 30, tzinfo=UTC),
    }
    hours = fetch(shared_data / "btcusdt_1h_long.parquet", "BTCUSDT", interval="1h")
    assert len(hours.bars) == 58_419


def test_the_dirty_yahoo_sample_has_offsets_that_change_with_daylight_saving(tmp_path: Path, shared_data: Path) -> None:
    rows = pl.read_parquet(shared_data / "yahoo_dirty_fixed_pairs.parquet").filter(
        pl.col("interval") == "1d", ~pl.col("fixed")
    )
    rows.drop("file", "interval", "case", "fixed").write_csv(tmp_path / "yahoo.csv")
    fetched = fetch(tmp_path, "AET-L", "TENT-L", calendars={"AET-L": "XLON", "TENT-L": "XLON"})
    assert not fetched.failures
    expected = rows.filter(pl.col("symbol").is_in(["AET-L", "TENT-L"]))
    assert fetched.bars["timestamp"].dt.to_string("%Y-%m-%d").to_list() == expected["timestamp"].str.head(10).to_list()


# --- How far the files reach


def test_complete_until_is_the_last_bar_that_is_over(tmp_path: Path) -> None:
    path = daily(tmp_path / "AAPL.csv", ["2020-01-29", "2020-01-30", "2020-01-31"])
    files = source(path)
    closed = datetime(2020, 1, 31, 21, tzinfo=UTC)
    lag = timedelta(minutes=30)
    before = files.complete_until(["AAPL", "MSFT"], closed + lag - timedelta(seconds=1))
    assert before == {"AAPL": datetime(2020, 1, 30, tzinfo=UTC), "MSFT": None}
    assert files.complete_until(["AAPL"], closed + lag) == {"AAPL": datetime(2020, 1, 31, tzinfo=UTC)}
    assert files.complete_until(["AAPL"], datetime(2019, 1, 4, tzinfo=UTC)) == {"AAPL": None}


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = daily(tmp_path / "AAPL.csv", ["2020-01-30"])
    files = source(tmp_path)
    assert files.complete_until(["AAPL"], NOW) == {"AAPL": datetime(2020, 1, 30, tzinfo=UTC)}
    daily(path, ["2020-01-30", "2020-01-31"])
    assert files.complete_until(["AAPL"], NOW) == {"AAPL": datetime(2020, 1, 31, tzinfo=UTC)}
    daily(tmp_path / "MSFT.csv", ["2020-02-03"])
    assert files.complete_until(["MSFT"], NOW) == {"MSFT": datetime(2020, 2, 3, tzinfo=UTC)}
    assert len(files.fetch(["AAPL"], {}, NOW).bars) == 2


def test_a_tick_reads_no_file_that_is_unchanged(tmp_path: Path) -> None:
    """The content is exchanged under the same size and time: whoever reads it again sees another date."""
    path = daily(tmp_path / "AAPL.csv", ["2020-01-30"])
    files, seen = source(tmp_path), path.stat()
    first = files.complete_until(["AAPL"], NOW)
    path.write_text(path.read_text().replace("2020-01-30", "2020-01-31"))
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert source(tmp_path).complete_until(["AAPL"], NOW) == first


def test_complete_until_takes_the_newest_of_several_files_and_passes_over_a_refused_one(tmp_path: Path) -> None:
    header = f"symbol,date,{PRICES}"
    csv_file(tmp_path / "a.csv", header, "A,2020-01-31,1,1,1,1,1", "B,2020-01-30,1,1,1,1,1")
    csv_file(tmp_path / "b.csv", header, "A,2020-01-29,1,1,1,1,1", "B,2020-02-03,1,1,1,1,1")
    csv_file(tmp_path / "c.csv", f"{header},Close", "A,2020-02-04,1,1,1,1,1,1")
    assert source(tmp_path).complete_until(["A", "B"], NOW) == {
        "A": datetime(2020, 1, 31, tzinfo=UTC),
        "B": datetime(2020, 2, 3, tzinfo=UTC),
    }


# --- Refusals: each names file, column and row

LONG = f"symbol,date,{PRICES}"
ROW = "A,2020-01-30,1,1,1,1,1"

REFUSALS: Mapping[str, tuple[list[str], str, int | str, str]] = {
    "two closes": ([f"{LONG},Close", f"{ROW},1"], "Close", "header", "keep one"),
    "the same header twice": ([f"{LONG},close", f"{ROW},1"], "close", "header", "keep one"),
    "two times": ([f"{LONG},Time", f"{ROW},09:30"], "Time", "header", "keep one"),
    "no close": (["symbol,date,open,high,low,volume", "A,2020-01-30,1,1,1,1"], "close", "header", "no column"),
    "no time": ([f"symbol,{PRICES}", "A,1,1,1,1,1"], "time", "header", "no column"),
    "no header": ([ROW, ROW], "time", "header", "no column"),
    "two volumes": (
        ["symbol,date,open,high,low,close,Volume BTC,Volume USDT", f"{ROW},1"],
        "Volume BTC",
        "header",
        "units",
    ),
    "thousands": ([LONG, ROW, 'A,2020-01-31,"1,234.5",1,1,1,1'], "open", 2, "thousands"),
    "decimal comma": ([LONG, ROW, 'A,2020-01-31,1,1,1,"1,5",1'], "close", 2, "thousands"),
    "a word": ([LONG, ROW, "A,2020-01-31,1,1,1,1,many"], "volume", 2, "'many'"),
    "currency": ([LONG, ROW, "A,2020-01-31,1,1,1,$1,1"], "close", 2, "'$1'"),
    "infinity": ([LONG, ROW, "A,2020-01-31,1,inf,1,1,1"], "high", 2, "'inf'"),
    "negative dividend": ([f"{LONG},div", f"{ROW},0", f"{ROW},-1"], "div", 2, "dividend"),
    "split as a ratio of two": ([f"{LONG},split", f"{ROW},0", f"{ROW},4:1"], "split", 2, "'4:1'"),
    "no symbol": ([LONG, ROW, ",2020-01-31,1,1,1,1,1"], "symbol", 2, "no symbol"),
    "no time of a row": ([LONG, ROW, "A,,1,1,1,1,1"], "date", 2, "no time"),
    "an open date order": ([LONG, "A,03/04/2020,1,1,1,1,1", "A,04/04/2020,1,1,1,1,1"], "date", 1, "day or the month"),
    "both date orders": ([LONG, "A,31/01/2020,1,1,1,1,1", "A,01/31/2020,1,1,1,1,1"], "date", 2, "not written like"),
    "mixed formats": ([LONG, ROW, "A,2020-01-31 00:00:00,1,1,1,1,1"], "date", 2, "not written like"),
    "some with an offset": (
        [LONG, "A,2020-01-30 00:00+00:00,1,1,1,1,1", "A,2020-01-31 00:00,1,1,1,1,1"],
        "date",
        2,
        "not written like",
    ),
    "a day that is none": ([LONG, ROW, "A,2020-02-30,1,1,1,1,1"], "date", 2, "not written like"),
    "two-digit years": ([LONG, "A,1/2/20,1,1,1,1,1"], "date", 1, "no time"),
    "mixed units": ([LONG, "A,1580428800000,1,1,1,1,1", "A,1580515200,1,1,1,1,1"], "date", 2, "ms since 1970"),
    "text among numbers": ([LONG, "A,1580428800,1,1,1,1,1", "A,2020-02-01,1,1,1,1,1"], "date", 2, "no whole number"),
    "a minute or a millisecond": ([LONG, "A,202001311530,1,1,1,1,1"], "date", 1, "or ms since 1970"),
    "a short line": ([LONG, ROW, "A,2020-01-31,1,1"], "low", 2, "4 fields"),
    "a long line": ([LONG, ROW, f"{ROW},5"], "volume", 2, "8 fields"),
}


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_whatever_is_ambiguous_is_refused_with_file_column_and_row(tmp_path: Path, case: str) -> None:
    lines, column, row, why = REFUSALS[case]
    path = csv_file(tmp_path / "long.csv", *lines)
    failure = refused(path, "A") if case != "no header" else refused(path, "long")
    assert str(path) in failure.message
    assert column in failure.message
    assert f"row {row}" in failure.message or f"{row} row" in failure.message
    assert why in failure.message
    assert "\n" not in failure.message


@pytest.mark.parametrize(
    ("column", "values", "row", "why"),
    [
        ("close", [1.0, float("inf")], 2, "inf"),
        ("close", ["1.5", "1,5"], 2, "thousands"),
        ("close", [True, False], 1, "Boolean"),
        ("date", [True, False], 1, "Boolean"),
        ("date", [1.5, 2.5], 1, "no whole number"),
        ("date", [date(2020, 1, 30), None], 2, "no time"),
        ("symbol", ["A", None], 2, "no symbol"),
        ("symbol", [1.0, 2.0], 1, "Float64"),
    ],
)
def test_parquet_is_refused_with_file_column_and_row_too(
    tmp_path: Path, column: str, values: list[Any], row: int, why: str
) -> None:
    table = {
        "symbol": ["A", "A"],
        "date": [date(2020, 1, 30), date(2020, 1, 31)],
        **{name: [1.0, 2.0] for name in PRICES.split(",")},
    }
    path = tmp_path / "long.parquet"
    pl.DataFrame(table | {column: values}).write_parquet(path)
    failure = refused(path, "1.0" if values == [1.0, 2.0] else "A")
    assert f"{path}, column {column!r}, row {row}" in failure.message
    assert why in failure.message


def test_a_file_that_is_not_utf_8_is_refused_with_the_row(tmp_path: Path) -> None:
    path = tmp_path / "A.csv"
    path.write_bytes(f"date,{PRICES},note\n2020-01-30,1,1,1,1,1,ok\n2020-01-31,1,1,1,1,1,caf\xe9\n".encode("latin-1"))
    failure = refused(path, "A")
    assert f"{path}, column 'note', row 2 (line 3)" in failure.message
    assert "UTF-8" in failure.message
    assert failure.cause == Cause.MALFORMED


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b cut", b"\xff\xfed\x00a\x00", b"\x93\x07a\xc1\x1b[31m\x80" * 50, b"date,\x00\xffopen\n1,2\n"],
)
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_a_broken_file_is_refused_by_name_and_its_bytes_are_not_shown(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    path = tmp_path / f"A.{suffix}"
    path.write_bytes(content)
    failure = refused(path, "A")
    assert failure.message.startswith(str(path))
    assert failure.message.isprintable()
    assert not re.search(r"\ufffd|\\x|b'|31m", failure.message)


def test_what_can_be_read_of_a_value_that_is_no_text_stays_in_the_message() -> None:
    assert str(Refusal("A.csv, row 2: 'caf\ufffd au lait' is not UTF-8")) == "A.csv, row 2: 'caf… au lait' is not UTF-8"
    assert str(Refusal("/data/Übersicht.csv, column 'ä'")) == "/data/Übersicht.csv, column 'ä'"


def test_a_packed_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "A.csv.gz"
    whole = gzip.compress(f"date,{PRICES}\n".encode() + b"2020-01-30,1,1,1,1,1\n" * 1000)
    path.write_bytes(whole[:-20])
    assert refused(path, "A").cause == Cause.MALFORMED


def test_the_same_bar_with_other_values_in_two_files_is_refused(tmp_path: Path) -> None:
    one = csv_file(tmp_path / "one.csv", LONG, ROW, "A,2020-01-31,1,1,1,1,1", "B,2020-01-31,1,1,1,1,1")
    two = csv_file(tmp_path / "two.csv", LONG, "A,2020-01-31,1,1,1,1.5,1", "B,2020-01-31,1,1,1,1,1")
    fetched = fetch(tmp_path, "A", "B")
    message = fetched.failures["A"].message
    assert f"{one}, column 'close', row 2" in message
    assert f"{two}, column 'close', row 1" in message
    assert "2020-01-31" in message
    assert fetched.bars["symbol"].to_list() == ["B", "B"]


def test_two_dividends_of_one_session_that_differ_are_refused(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path / "A.csv", f"date,{PRICES},dividends", "2020-01-30,1,1,1,1,1,0.1", "2020-01-30,1,1,1,1,1,0.2"
    )
    assert f"{path}, column 'dividends', row 2" in refused(path, "A").message


def test_a_file_without_splits_beside_one_that_knows_a_later_split_is_refused(tmp_path: Path) -> None:
    csv_file(tmp_path / "new.csv", f"{LONG},splits", "A,2020-01-31,1,1,1,1,1,2", "B,2020-01-31,1,1,1,1,1,0")
    old = csv_file(tmp_path / "old.csv", LONG, ROW, ROW.replace("A", "B"))
    message = refused(tmp_path, "A", "B").message
    assert f"{old}, column 'close', row 1" in message
    assert "ALPHA_FILES_PRICES" in message
    assert fetch(tmp_path, "B").bars["close"].to_list() == [1.0, 1.0]
    said = fetch(tmp_path, "A", files_prices="split-adjusted")
    assert sorted(said.bars["open"]) == [1.0, 2.0]


def test_prices_said_to_be_adjusted_that_are_not_are_refused(tmp_path: Path) -> None:
    path = csv_file(
        tmp_path / "A.csv", f"date,{PRICES},Adj Close", "2020-01-30,1,1,1,1,1,1", "2020-01-31,1,1,1,1,1,0.9"
    )
    failure = refused(path, "A", files_prices="adjusted")
    assert f"{path}, column 'close', row 2" in failure.message
    assert fetch(path, "A").bars["close"].to_list() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("step", "interval", "found"),
    [
        ("1h", "1d", "1h"),
        ("5m", "1h", "5m"),
        ("1d", "1h", "1d"),
        ("1h", "5m", "1h"),
        ("7d", "1d", "7d"),
        ("1m", "1d", "1m"),
    ],
)
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_bars_of_another_interval_are_refused_with_the_spacing_found(
    tmp_path: Path, step: str, interval: str, found: str, zone: str | None
) -> None:
    times = pl.datetime_range(datetime(2024, 6, 3, 9), datetime(2025, 6, 3), step, time_zone=zone, eager=True).head(20)
    path = tmp_path / "A.parquet"
    ONE.join(times.to_frame("time"), how="cross").write_parquet(path)
    message = refused(path, "A", interval=interval).message
    assert f"{path}, column 'time', row 1" in message
    assert f"{found} apart" in message
    assert f"ALPHA_INTERVAL={interval}" in message


def test_dates_are_no_intraday_times(tmp_path: Path) -> None:
    path = daily(tmp_path / "A.csv", ["2020-01-30"])
    message = refused(path, "A", interval="1h").message
    assert f"{path}, column 'date', row 1" in message
    assert "1d apart" in message


@pytest.mark.parametrize("text", ["2023-11-05 01:30", "2024-03-10 02:30"])
def test_an_hour_that_the_clocks_repeat_or_leave_out_is_refused(tmp_path: Path, text: str) -> None:
    path = daily(tmp_path / "AAPL.csv", ["2023-11-03 10:30", text])
    message = refused(path, "AAPL", interval="1h").message
    assert f"{path}, column 'date', row 2 (line 3)" in message
    assert "America/New_York" in message
    assert "ALPHA_FILES_TIMEZONE" in message
    assert not fetch(path, "AAPL", interval="1h", files_timezone="UTC").failures
