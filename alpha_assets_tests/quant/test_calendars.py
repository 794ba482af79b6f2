"""Calendars against what the exchanges really did, and against a slow reading of the same sessions.

Every calendar here is the real one of exchange_calendars: nothing is replaced. The tests named after Tel Aviv, Mumbai
and Athens, and the one of silence, guard how that library works under our pandas: they tell a broken vendor from a
broken program.
"""

import subprocess
import sys
import warnings
from datetime import UTC, date, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant import calendars
from alpha_assets.quant.schema import INTERVAL_SECONDS, TIME

NAMES = ("XNYS", "BVMF", "XLON", "XTKS", "XASX", "CMES", "24/7")
FIRST, LAST = date(2019, 1, 2), date(2021, 12, 31)
MOMENTS = st.datetimes(datetime(2019, 2, 1), datetime(2021, 12, 1), timezones=st.just(UTC))
LAGS = st.sampled_from([timedelta(0), timedelta(minutes=30), timedelta(days=1)])


def utc(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[misc, arg-type]


def times(*moments: datetime | None) -> pl.Series:
    return pl.Series("timestamp", moments, dtype=TIME)


def bars(*rows: tuple[str, datetime | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"symbol": pl.String, "timestamp": TIME}, orient="row")


@cache
def bounds(calendar: str) -> list[tuple[date, datetime, datetime]]:
    return list(calendars.session_bounds(calendar, FIRST, LAST).iter_rows())


def slow_bars(calendar: str, interval: str, around: datetime) -> list[tuple[datetime, datetime]]:
    """(timestamp, end) of every bar of the sessions within a fortnight of ``around``, one after the other."""
    found = []
    for session, opens, closes in bounds(calendar):
        if abs((session - around.date()).days) > 14:
            continue
        if interval == "1d":
            found.append((datetime.combine(session, datetime.min.time(), UTC), closes))
            continue
        step, start = timedelta(seconds=INTERVAL_SECONDS[interval]), opens
        while start < closes:
            found.append((start, min(start + step, closes)))
            start += step
    return found


@pytest.mark.parametrize(
    ("symbol", "calendar"),
    [
        ("AAPL", "XNYS"),
        ("BRK.B", "XNYS"),
        ("BF-B", "XNYS"),
        ("PETR4.SA", "BVMF"),
        ("VOD.L", "XLON"),
        ("vod.l", "XLON"),
        ("SAP.DE", "XETR"),
        ("7203.T", "XTKS"),
        ("KEN.TA", "XTAE"),
        ("0700.HK", "XHKG"),
        ("BTC-USD", "24/7"),
        ("ETH/USDT", "24/7"),
        ("BTCUSDT", "24/7"),
        ("1INCH-EUR", "24/7"),
        ("EURUSD=X", "24/7"),
        ("ES=F", "CMES"),
        ("^GSPC", "XNYS"),
        ("^BVSP", "BVMF"),
        ("^FTSE", "XLON"),
        ("^GDAXI", "XETR"),
        ("^N225", "XTKS"),
    ],
)
def test_a_symbol_finds_its_calendar_by_the_conventions_of_yahoo(symbol: str, calendar: str) -> None:
    assert calendars.calendar_name(symbol) == calendar


def test_an_override_wins_over_the_suffix() -> None:
    assert calendars.calendar_name("VOD.L", {"VOD.L": "XNYS"}) == "XNYS"
    assert calendars.calendar_name("BP.L", {"VOD.L": "XNYS"}) == "XLON"


def test_an_override_that_names_no_calendar_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"'XLOM' for VOD\.L .*unknown"):
        calendars.calendar_name("VOD.L", {"VOD.L": "XLOM"})


def test_every_calendar_that_a_symbol_can_find_exists() -> None:
    from exchange_calendars import get_calendar_names

    ours = {*calendars.SUFFIX_CALENDARS.values(), *calendars.INDEX_CALENDARS.values(), "CMES", "24/7", "XNYS"}
    assert ours <= set(get_calendar_names())


def test_importing_the_module_costs_neither_pandas_nor_exchange_calendars() -> None:
    code = "import sys, alpha_assets.quant.calendars; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "exchange_calendars"} & set(done.stdout.split())


@pytest.mark.parametrize("calendar", ["XNYS", "XHKG", "XTAE"])
def test_building_a_calendar_says_nothing_on_the_side(calendar: str) -> None:
    calendars._table.cache_clear()
    calendars._exchange.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(calendars.sessions(calendar, date(2024, 1, 1), date(2024, 1, 31))) > 15


def test_sessions_are_inclusive_at_both_ends_and_leave_out_holidays() -> None:
    held = calendars.sessions("XNYS", date(2024, 7, 3), date(2024, 7, 8))
    assert held.dtype == pl.Date
    assert held.to_list() == [date(2024, 7, 3), date(2024, 7, 5), date(2024, 7, 8)]
    assert calendars.sessions("XNYS", date(2024, 7, 6), date(2024, 7, 7)).to_list() == []


def test_an_early_close_and_both_sides_of_daylight_saving_are_honoured() -> None:
    held = {row[0]: row[1:] for row in calendars.session_bounds("XNYS", date(2024, 3, 8), date(2024, 7, 3)).iter_rows()}
    assert held[date(2024, 3, 8)] == (utc(2024, 3, 8, 14, 30), utc(2024, 3, 8, 21))
    assert held[date(2024, 3, 11)] == (utc(2024, 3, 11, 13, 30), utc(2024, 3, 11, 20))
    assert held[date(2024, 7, 3)] == (utc(2024, 7, 3, 13, 30), utc(2024, 7, 3, 17))


def test_crypto_is_always_open_and_a_session_ends_at_midnight() -> None:
    held = calendars.session_bounds("24/7", date(2023, 12, 31), date(2024, 1, 1))
    assert held["opens"].to_list() == [utc(2023, 12, 31), utc(2024, 1, 1)]
    assert held["closes"].to_list() == [utc(2024, 1, 1), utc(2024, 1, 2)]


def test_tel_aviv_is_open_on_sundays_until_2026_and_on_fridays_from_then() -> None:
    held = set(calendars.sessions("XTAE", date(2024, 6, 1), date(2026, 6, 30)))
    weekend = {date(2024, 6, 2), date(2024, 6, 7), date(2026, 6, 7), date(2026, 6, 5)}
    assert held & weekend == {date(2024, 6, 2), date(2026, 6, 5)}


def test_mumbai_traded_on_saturday_2024_01_20_and_closed_the_monday_after() -> None:
    held = calendars.sessions("XBOM", date(2024, 1, 19), date(2024, 1, 23)).to_list()
    assert held == [date(2024, 1, 19), date(2024, 1, 20), date(2024, 1, 23)]


def test_athens_keeps_the_orthodox_easter() -> None:
    held = calendars.sessions("ASEX", date(2024, 5, 2), date(2024, 5, 8)).to_list()
    assert held == [date(2024, 5, 2), date(2024, 5, 7), date(2024, 5, 8)]


def test_a_calendar_reaches_back_beyond_its_usual_window_when_asked() -> None:
    # New York stayed closed on 1985-09-27 (hurricane Gloria).
    held = calendars.sessions("XNYS", date(1985, 9, 26), date(1985, 9, 30))
    assert held.to_list() == [date(1985, 9, 26), date(1985, 9, 30)]


@pytest.mark.parametrize(("first", "last"), [((1899, 12, 31), (2022, 1, 1)), ((2022, 1, 1), (2100, 1, 1))])
@pytest.mark.parametrize("calendar", ["XNYS", "XBOM"])
def test_dates_before_1900_and_after_2099_are_refused_with_the_name_of_the_calendar(
    calendar: str, first: tuple[int, int, int], last: tuple[int, int, int]
) -> None:
    with pytest.raises(ValueError, match=rf"calendar {calendar} was asked .* none before 1900-01-01 and none after"):
        calendars.sessions(calendar, date(*first), date(*last))


#: Calendars of which exchange_calendars knows neither the far past nor the far future; XSAU trades on Sundays.
NARROW = ("XBOM", "XSHG", "XSES", "XSAU", "XHKG")
BEYOND = st.tuples(st.sampled_from(NARROW), st.integers(1, 4_000), st.booleans())


def beyond(calendar: str, days: int, late: bool) -> date:
    """So many days before the first, or after the last, date that the calendar knows; at most the window's end."""
    first, last = calendars.bounds(calendar)
    return last + timedelta(days=days) if late else first - timedelta(days=days)


def usual_week(calendar: str) -> set[int]:
    return {6, 0, 1, 2, 3} if calendar == "XSAU" else {0, 1, 2, 3, 4}


@settings(max_examples=150, deadline=None)
@given(BEYOND)
def test_beyond_its_bounds_a_calendar_takes_the_days_of_its_usual_week_for_sessions(where: tuple) -> None:
    calendar, day = where[0], beyond(*where)
    is_session = day.weekday() in usual_week(calendar)
    assert calendars.sessions(calendar, day, day).to_list() == [day] * is_session
    assert calendars.session_of(calendar, times(utc(*day.timetuple()[:3])))[0] == (day if is_session else None)


@settings(max_examples=150, deadline=None)
@given(BEYOND, st.sampled_from(["1d", "1h"]))
def test_beyond_its_bounds_every_function_agrees_on_the_sessions(where: tuple, interval: str) -> None:
    calendar, day = where[0], beyond(*where)
    for session, opens, closes in calendars.session_bounds(calendar, day, day + timedelta(days=9)).iter_rows():
        start = utc(*session.timetuple()[:3]) if interval == "1d" else opens
        frame = bars(("S", start))
        (end,) = calendars.bar_ends(frame, interval, {"S": calendar})
        assert end == (closes if interval == "1d" else min(opens + timedelta(hours=1), closes))
        assert calendars.bar_sessions(frame, interval, {"S": calendar}).to_list() == [session]
        assert calendars.session_of(calendar, times(opens, closes - timedelta(minutes=1))).to_list() == [session] * 2
        assert calendars.newest_final(calendar, interval, end, timedelta(0)) == start
        before = calendars.sessions_back(calendar, start, 1).date()
        assert calendars.elapsed_sessions(calendar, before, session) == 1


@pytest.mark.parametrize("calendar", NARROW)
def test_beyond_its_bounds_an_exchange_keeps_the_hours_it_had(calendar: str) -> None:
    first, last = calendars.bounds(calendar)
    zone = calendars.timezone(calendar)
    for known, unknown in (
        ((first, first + timedelta(days=300)), (first - timedelta(days=300), first - timedelta(days=1))),
        ((last - timedelta(days=300), last), (last + timedelta(days=1), last + timedelta(days=300))),
    ):
        seen, taken = (
            calendars.session_bounds(calendar, *span).select(
                pl.col(name).dt.convert_time_zone(zone).dt.time() for name in ("opens", "closes")
            )
            for span in (known, unknown)
        )
        assert taken.unique().rows() == [max(set(seen.rows()), key=seen.rows().count)]


def test_a_special_saturday_makes_no_saturday_a_session_beyond_the_bounds() -> None:
    year = calendars._known_sessions("XBOM", date(2023, 6, 1), date(2024, 5, 31))
    assert (date(2024, 1, 20) - date(1970, 1, 1)).days in year["session"]
    beyond = calendars._usual_sessions("XBOM", year, date(2027, 1, 1), date(2027, 1, 31))["session"]
    assert beyond.cast(pl.Int32).cast(pl.Date).dt.weekday().unique().sort().to_list() == [1, 2, 3, 4, 5]


def test_sessions_neither_overlap_nor_turn_back_where_a_calendar_ends() -> None:
    for calendar in NARROW:
        held = calendars.session_bounds(calendar, calendars.EARLIEST, calendars.LATEST)
        assert held["session"].is_sorted()
        assert held["session"].is_unique().all()
        assert (held["opens"] < held["closes"]).all()
        assert (held["closes"].head(-1) <= held["opens"].tail(-1)).all()


def test_a_calendar_that_has_ended_is_named_with_its_last_day_and_what_to_do() -> None:
    last = calendars.bounds("XBOM")[1]
    assert calendars.ended(["XNYS", "XBOM"], last) == {}
    said = calendars.ended(["XNYS", "XBOM", "XBOM"], last + timedelta(days=1))
    assert list(said) == ["XBOM"]
    assert said["XBOM"].startswith(f"calendar XBOM knows the sessions to {last} only")
    assert said["XBOM"].endswith("upgrade exchange_calendars")


def test_the_zone_of_a_calendar_is_an_iana_name() -> None:
    assert calendars.timezone("BVMF") == "America/Sao_Paulo"
    assert calendars.timezone("24/7") == "UTC"


def test_bars_end_at_the_close_at_the_interval_or_at_midnight_in_the_order_of_the_rows() -> None:
    daily = bars(
        ("BTC-USD", utc(2024, 7, 3)),
        ("AAPL", utc(2024, 7, 3)),
        ("VOD.L", utc(2024, 7, 3)),
        ("AAPL", utc(2024, 7, 4)),
        ("AAPL", None),
        ("AAPL", utc(2024, 7, 2)),
        ("AAPL", utc(1850, 1, 1)),
    )
    assert calendars.bar_ends(daily, "1d", {}).to_list() == [
        utc(2024, 7, 4),
        utc(2024, 7, 3, 17),
        utc(2024, 7, 3, 15, 30),
        utc(2024, 7, 5),
        None,
        utc(2024, 7, 2, 20),
        utc(1850, 1, 2),
    ]
    hourly = bars(
        ("AAPL", utc(2024, 7, 2, 19, 30)),
        ("AAPL", utc(2024, 7, 2, 13, 30)),
        ("AAPL", utc(2024, 7, 3, 16, 30)),
        ("AAPL", utc(2024, 7, 2, 21)),
        ("X", utc(2024, 7, 2, 19, 30)),
    )
    assert calendars.bar_ends(hourly, "1h", {"X": "24/7"}).to_list() == [
        utc(2024, 7, 2, 20),
        utc(2024, 7, 2, 14, 30),
        utc(2024, 7, 3, 17),
        utc(2024, 7, 2, 22),
        utc(2024, 7, 2, 20, 30),
    ]


def test_a_bar_opens_with_its_session_or_at_its_stamp() -> None:
    daily = bars(("AAPL", utc(2024, 7, 3)), ("AAPL", utc(2024, 1, 3)), ("AAPL", utc(2024, 7, 4)), ("AAPL", None))
    assert calendars.bar_opens(daily, "1d", {}).to_list() == [
        utc(2024, 7, 3, 13, 30),
        utc(2024, 1, 3, 14, 30),
        utc(2024, 7, 4),
        None,
    ]
    assert calendars.bar_opens(daily, "1h", {}).to_list() == daily["timestamp"].to_list()


@pytest.mark.parametrize("interval", ["1d", "1h"])
def test_no_bars_have_no_ends(interval: str) -> None:
    assert calendars.bar_ends(bars(), interval, {}).to_list() == []


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(["1d", "1h", "30m"]), MOMENTS)
def test_the_end_of_a_bar_is_what_its_session_says(calendar: str, interval: str, around: datetime) -> None:
    expected = slow_bars(calendar, interval, around)
    frame = bars(*(("S", start) for start, _ in expected))
    assert calendars.bar_ends(frame, interval, {"S": calendar}).to_list() == [end for _, end in expected]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(["1d", "1h", "5m"]), MOMENTS, LAGS)
def test_the_newest_final_bar_is_the_last_one_that_has_ended_and_waited(
    calendar: str, interval: str, now: datetime, lag: timedelta
) -> None:
    over = [start for start, end in slow_bars(calendar, interval, now) if end + lag <= now]
    assert calendars.newest_final(calendar, interval, now, lag) == over[-1]


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(["1d", "15m"]), MOMENTS, st.timedeltas(timedelta(0), timedelta(days=9)))
def test_time_never_takes_a_final_bar_back(calendar: str, interval: str, now: datetime, later: timedelta) -> None:
    before = calendars.newest_final(calendar, interval, now, timedelta(minutes=30))
    after = calendars.newest_final(calendar, interval, now + later, timedelta(minutes=30))
    assert before is not None
    assert after is not None
    assert before <= after


def test_a_daily_bar_is_final_when_the_lag_after_an_early_close_is_over_not_before() -> None:
    lag = timedelta(minutes=30)
    assert calendars.newest_final("XNYS", "1d", utc(2024, 7, 3, 17, 29), lag) == utc(2024, 7, 2)
    assert calendars.newest_final("XNYS", "1d", utc(2024, 7, 3, 17, 30), lag) == utc(2024, 7, 3)
    assert calendars.newest_final("XNYS", "1h", utc(2024, 7, 3, 17, 29), lag) == utc(2024, 7, 3, 15, 30)


def test_the_newest_bar_before_the_first_open_is_of_the_session_before() -> None:
    assert calendars.newest_final("XNYS", "1h", utc(2024, 7, 5, 14, 29), timedelta(0)) == utc(2024, 7, 3, 16, 30)


def test_before_the_first_session_of_1900_there_is_no_final_bar() -> None:
    for interval in ("1d", "1h"):
        assert calendars.newest_final("XNYS", interval, utc(1900, 1, 1, 12), timedelta(0)) is None


def test_a_time_without_a_zone_and_an_unknown_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="has no zone"):
        calendars.newest_final("XNYS", "1d", datetime(2024, 7, 3), timedelta(0))
    with pytest.raises(ValueError, match="interval '7m' is unknown"):
        calendars.newest_final("XNYS", "7m", utc(2024, 7, 3), timedelta(0))


def test_a_bar_belongs_to_the_session_under_way_also_before_midnight_utc() -> None:
    assert calendars.session_of("XASX", times(utc(2024, 1, 9, 23, 0))).to_list() == [date(2024, 1, 10)]
    assert calendars.session_of("CMES", times(utc(2024, 1, 9, 23, 30))).to_list() == [date(2024, 1, 10)]


def test_extended_hours_belong_to_their_date_and_a_closed_day_to_none() -> None:
    found = calendars.session_of(
        "XNYS",
        times(
            utc(2024, 7, 5, 12), utc(2024, 7, 5, 23), utc(2024, 7, 4, 15), utc(2024, 7, 6, 15), utc(1850, 1, 1), None
        ),
    )
    assert found.to_list() == [date(2024, 7, 5), date(2024, 7, 5), None, None, None, None]


def test_the_session_of_a_bar_on_a_closed_day_is_the_date_of_its_exchange() -> None:
    frame = bars(("S", utc(2024, 7, 4, 15)), ("S", utc(2024, 7, 5, 2)), ("S", None), ("A", utc(2024, 1, 9, 23)))
    names = {"S": "XNYS", "A": "XASX"}
    assert calendars.bar_sessions(frame, "1h", names).to_list() == [
        date(2024, 7, 4),
        date(2024, 7, 4),
        None,
        date(2024, 1, 10),
    ]
    assert calendars.bar_sessions(frame.clear(), "1h", names).to_list() == []
    assert calendars.bar_sessions(frame, "1d", names).to_list() == frame["timestamp"].dt.date().to_list()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.sampled_from(["1d", "1h"]), MOMENTS)
def test_every_bar_of_a_session_belongs_to_it_daily_stamps_included(
    calendar: str, interval: str, around: datetime
) -> None:
    held = bounds(calendar)
    starts = [start for start, _ in slow_bars(calendar, interval, around)]
    if interval == "1d":
        expected = [start.date() for start in starts]
    else:
        expected = [next(day for day, opens, closes in held if opens <= start < closes) for start in starts]
    assert calendars.session_of(calendar, times(*starts)).to_list() == expected


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(NAMES), MOMENTS, st.integers(0, 400))
def test_going_back_some_sessions_elapses_as_many(calendar: str, moment: datetime, count: int) -> None:
    day = calendars.sessions_back(calendar, moment, 0).date()
    back = calendars.sessions_back(calendar, moment, count)
    assert (back.hour, back.minute, back.tzinfo) == (0, 0, UTC)
    assert calendars.elapsed_sessions(calendar, back.date(), day) == count


def test_going_back_counts_from_the_session_of_a_stamp_or_the_last_one_before_a_closed_day() -> None:
    assert calendars.sessions_back("XNYS", utc(2024, 7, 5), 1) == utc(2024, 7, 3)
    assert calendars.sessions_back("XNYS", utc(2024, 7, 5, 14), 1) == utc(2024, 7, 3)
    assert calendars.sessions_back("XNYS", utc(2024, 7, 4), 1) == utc(2024, 7, 2)
    assert calendars.sessions_back("XNYS", utc(1990, 1, 3), 2) == utc(1989, 12, 29)
    with pytest.raises(ValueError, match="XNYS: no session 5 sessions before 1900-01-04; calendars begin"):
        calendars.sessions_back("XNYS", utc(1900, 1, 4), 5)


def test_sixty_one_sessions_lie_between_the_two_uses_of_a_ticker_but_none_backwards() -> None:
    assert calendars.elapsed_sessions("XNYS", date(2024, 7, 3), date(2024, 7, 5)) == 1
    assert calendars.elapsed_sessions("XNYS", date(2024, 7, 5), date(2024, 7, 3)) == 0
    assert calendars.elapsed_sessions("XNYS", date(2008, 9, 26), date(2009, 8, 5)) == 215


def test_real_trading_days_are_the_sessions_of_new_york(shared_data) -> None:  # type: ignore[no-untyped-def]
    traded = pl.read_parquet(shared_data / "lean_us_daily_raw.parquet").filter(pl.col("symbol") == "SPY")["timestamp"]
    assert traded.to_list() == calendars.sessions("XNYS", traded.min(), traded.max()).to_list()  # type: ignore[arg-type]
    assert calendars.elapsed_sessions("XNYS", traded.min(), traded.max()) == len(traded) - 1  # type: ignore[arg-type]


def test_a_year_has_as_many_bars_as_its_sessions_hold() -> None:
    assert calendars.bars_a_year("XNYS", "1d") == 250
    assert calendars.bars_a_session("XNYS", "1d") == 1
    assert calendars.bars_a_session("24/7", "1h") == 24
    # Six hours and a half, and two half days of three and a half in 2023.
    assert calendars.bars_a_session("XNYS", "1h") == pytest.approx(6.5 - 2 * 3 / 250)


@pytest.mark.parametrize("last", [20_010, 10**9])
def test_each_day_holds_the_days_in_order_however_far_apart_they_are(last: int) -> None:
    wanted = np.array([20_003, last, 20_001, 20_003])
    days, place = calendars.each_day(wanted)
    assert (days[place] == wanted).all()
    assert (np.diff(days) > 0).all()
    assert len(days) <= 10


def test_a_stamp_in_the_wrong_unit_is_a_bar_like_others() -> None:
    stamps = [datetime(2024, 1, 2, tzinfo=UTC), datetime(9999, 1, 4, tzinfo=UTC)]
    bars = pl.DataFrame({"symbol": ["A", "A"], "timestamp": stamps}, schema={"symbol": pl.String, "timestamp": TIME})
    ends = calendars.bar_ends(bars, "1d", {"A": "XNYS"})
    assert ends.to_list() == [datetime(2024, 1, 2, 21, tzinfo=UTC), datetime(9999, 1, 5, tzinfo=UTC)]
