"""What the calendar says of a bar before it begins."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant import calendars
from alpha_assets.quant.timeframes import COLUMNS, with_timeframes
from alpha_assets_tests.quant.walks import walk


def seen(stamps: list[datetime], calendar: str, interval: str = "1d") -> list[dict[str, float]]:
    bars = pl.DataFrame({"symbol": "S", "timestamp": stamps}, schema_overrides={"timestamp": pl.Datetime("us", "UTC")})
    return with_timeframes(bars, interval, {"S": calendar}).select(COLUMNS).to_dicts()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_thanksgiving_week_ends_on_its_half_friday_and_the_month_turns_on_monday() -> None:
    wednesday, friday, monday = seen([at("2024-11-27"), at("2024-11-29"), at("2024-12-02")], "XNYS")
    assert wednesday["day_of_week"] == 2
    assert wednesday["gap_ahead"] == friday["gap_behind"] == 2
    assert (wednesday["period_ends"], friday["period_ends"]) == (0, 1)
    assert monday["period"] == friday["period"] + 1
    assert (wednesday["month_turn"], friday["month_turn"], monday["month_turn"]) == (-3, -1, 1)
    assert monday["gap_behind"] == 3


def test_a_week_that_ends_on_thursday_is_complete_on_thursday() -> None:
    wednesday, thursday = seen([at("2024-03-27"), at("2024-03-28")], "XNYS")  # Good Friday follows
    assert (wednesday["period_ends"], thursday["period_ends"]) == (0, 1)
    assert thursday["gap_ahead"] == 4


def test_a_closing_that_nobody_foresaw_is_a_planned_session() -> None:
    monday, after = seen([at("2001-09-10"), at("2001-09-17")], "XNYS")
    assert (monday["gap_ahead"], monday["period_ends"]) == (1, 0)
    assert after["gap_behind"] == 3
    assert date(2001, 9, 11) not in calendars.sessions("XNYS", date(2001, 9, 10), date(2001, 9, 14)).to_list()


def test_coins_trade_on_sundays_which_end_their_week() -> None:
    saturday, sunday = seen([at("2024-03-30"), at("2024-03-31")], "24/7")
    assert (sunday["day_of_week"], sunday["gap_ahead"], sunday["gap_behind"]) == (6, 1, 1)
    assert (saturday["period_ends"], sunday["period_ends"]) == (0, 1)


def test_minutes_belong_to_their_hour_which_the_close_ends_early() -> None:
    stamps = [at("2024-07-02T14:58"), at("2024-07-02T14:59"), at("2024-07-02T15:00"), at("2024-07-03T16:59")]
    before, ending, following, closing = seen(stamps, "XNYS", "1m")
    assert (before["period_ends"], ending["period_ends"]) == (0, 1)
    assert following["period"] == ending["period"] + 1
    assert ending["gap_ahead"] == pytest.approx(5 / 6.5)
    assert (closing["gap_ahead"], closing["period_ends"]) == (0, 1)  # the third of July closes at 13:00


def test_hours_belong_to_their_session() -> None:
    opening, closing, coin = *seen([at("2024-07-02T13:30"), at("2024-07-02T19:30")], "XNYS", "1h"), None
    assert opening["period"] == closing["period"]
    assert (opening["period_ends"], closing["period_ends"], coin) == (0, 1, None)
    last, first = seen([at("2024-07-02T23:00"), at("2024-07-03T00:00")], "24/7", "1h")
    assert last["period_ends"] == 1
    assert first["period"] == last["period"] + 1


@settings(max_examples=20, deadline=None)
@given(keep=st.integers(2, 60), calendar=st.sampled_from(["XNYS", "24/7", "BVMF", "XTKS"]), minutes=st.booleans())
def test_what_is_known_of_a_bar_does_not_depend_on_the_bars_around_it(keep: int, calendar: str, minutes: bool) -> None:
    interval = "5m" if minutes else "1d"
    bars = walk(61, 1, calendar=calendar, interval=interval).select("symbol", "timestamp")
    whole = with_timeframes(bars, interval, {"SYM": calendar})
    assert with_timeframes(bars.head(keep), interval, {"SYM": calendar}).equals(whole.head(keep))


def test_each_symbol_follows_its_own_calendar_and_the_rows_keep_their_order() -> None:
    sunday = at("2024-03-31")
    bars = pl.DataFrame(
        {
            "symbol": ["BTC-USD", "AAPL", "BTC-USD"],
            "timestamp": [sunday, sunday + timedelta(days=1)] * 1 + [sunday + timedelta(days=1)],
        }
    )
    both = with_timeframes(bars, "1d", {"BTC-USD": "24/7", "AAPL": "XNYS"})
    assert both["symbol"].to_list() == ["BTC-USD", "AAPL", "BTC-USD"]
    assert both["gap_behind"].to_list() == [1, 4, 1]


def test_no_bars_are_no_rows() -> None:
    assert with_timeframes(walk(0, 1), "1d", {"SYM": "XNYS"}).height == 0
