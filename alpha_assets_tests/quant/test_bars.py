"""Cleaning: every rule by an example, and the laws that make it safe to clean in increments.

The laws run on made series with every kind of dirt the rules know, placed at random; the real samples have a file of
their own (``test_cleaning_on_real_bars``).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.bars import RULES, Cleaned, clean, compare, context_sessions, held_symbols
from alpha_assets.quant.calendars import (
    LATEST,
    bar_ends,
    bounds,
    calendar_name,
    session_bounds,
    sessions,
    sessions_back,
)
from alpha_assets.quant.parameters import CleaningParameters
from alpha_assets.quant.schema import ACTIONS, BARS, CLEANING, INTERVAL_SECONDS, OHLC, RAW_BARS, TIME, empty

LATER = datetime(2026, 1, 1, tzinfo=UTC)
LAG = timedelta(minutes=30)
NO_ACTIONS = empty(ACTIONS)
SATURDAY = datetime(2023, 1, 7, tzinfo=UTC)


def cleaned(raw: pl.DataFrame, actions: pl.DataFrame = NO_ACTIONS, **changed: object) -> Cleaned:
    said = {"interval": "1d", "calendars": {}, "parameters": CleaningParameters(), "now": LATER, "lag": LAG, **changed}
    return clean(raw, actions, **said)  # type: ignore[arg-type]


@cache
def stamps(count: int, interval: str = "1d", calendar: str = "XNYS") -> list[datetime]:
    """Starts of ``count`` bars from 2023-01-03 on."""
    days = sessions(calendar, date(2023, 1, 3), date(2023, 1, 3) + timedelta(days=2 * count + 10))
    if interval == "1d":
        return [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days[:count]]
    step = timedelta(seconds=INTERVAL_SECONDS[interval])
    bounds = session_bounds(calendar, days[0], days[count // 5 + 1])
    starts = [opens + k * step for _, opens, closes in bounds.iter_rows() for k in range((closes - opens) // step)]
    return starts[:count]


def series(
    count: int = 60, symbol: str = "AAA", interval: str = "1d", seed: int = 0, level: float = 50.0
) -> pl.DataFrame:
    """A quiet market: daily moves of 1 %, ordinary ranges, whole cents, no dirt."""
    random = np.random.default_rng(seed)
    close = level * np.exp(np.cumsum(0.01 * random.standard_normal(count)))
    open_ = np.concatenate([[level], close[:-1]]) * np.exp(0.002 * random.standard_normal(count))
    wick = np.exp(0.004 * np.abs(random.standard_normal((2, count))))
    return pl.DataFrame(
        {
            "symbol": symbol,
            "timestamp": stamps(count, interval),
            "open": open_.round(2),
            "high": (np.maximum(open_, close) * wick[0]).round(2) + 0.01,
            "low": (np.minimum(open_, close) / wick[1]).round(2) - 0.01,
            "close": close.round(2),
            "volume": random.integers(100_000, 200_000, count).astype(float),
        },
        schema=dict(RAW_BARS),
    )


def changed(raw: pl.DataFrame, at: int, **values: float | None) -> pl.DataFrame:
    """``raw`` with other values in the row at a place."""
    here = pl.int_range(pl.len()) == at
    return raw.with_columns(
        pl.when(here).then(pl.lit(value, pl.Float64())).otherwise(pl.col(name)).alias(name)
        for name, value in values.items()
    )


def times(raw: pl.DataFrame, factor: float, first: int, last: int | None = None, volume: float = 1.0) -> pl.DataFrame:
    """``raw`` with prices and volume of the rows from ``first`` up to ``last`` multiplied."""
    here = pl.int_range(pl.len()).is_between(first, raw.height if last is None else last, closed="left")
    return raw.with_columns(
        pl.when(here).then(pl.col(name) * by).otherwise(pl.col(name))
        for name, by in [*((name, factor) for name in OHLC), ("volume", volume)]
    )


def split(ex_date: datetime, ratio: float, symbol: str = "AAA") -> pl.DataFrame:
    return pl.DataFrame([(symbol, ex_date.date(), "split", ratio)], schema=dict(ACTIONS), orient="row")


def verdicts(result: Cleaned) -> list[tuple[int, str]]:
    """(place among the stamps, rule) of every line of the log."""
    places = {stamp: place for place, stamp in enumerate(stamps(400))}
    return [(places[when], rule) for when, rule in result.log.select("timestamp", "rule").iter_rows()]


# What a row says by itself


def test_clean_rows_pass_unchanged_and_unflagged() -> None:
    raw = series()
    result = cleaned(raw)
    assert_frame_equal(result.bars.select(list(RAW_BARS)), raw)
    assert result.log.is_empty()
    assert result.counts == {
        "rows_read": 60, "kept": 60, "repaired": 0, "dropped": 0, "flagged": 0, "by_rule": {}, "unordered": 0
    }  # fmt: skip
    assert dict(result.bars.schema) == dict(BARS)
    assert dict(result.log.schema) == dict(CLEANING)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"open": None}, "null_price"),
        ({"close": float("nan")}, "null_price"),
        ({"high": float("inf")}, "null_price"),
        ({"low": 0.0}, "nonpositive_price"),
        ({"open": -1.0}, "nonpositive_price"),
        ({"high": 40.0}, "ohlc_inconsistent"),
        ({"close": 25.0}, "ohlc_inconsistent"),
    ],
)
def test_a_row_with_an_impossible_price_is_dropped(values: dict[str, float | None], rule: str) -> None:
    result = cleaned(changed(series(), 30, **values))
    assert verdicts(result) == [(30, rule)]
    assert result.bars.height == 59
    assert result.counts["dropped"] == 1
    assert result.counts["by_rule"] == {rule: {"repaired": 0, "dropped": 1, "flagged": 0}}


def test_the_log_holds_what_the_source_said() -> None:
    raw = changed(series(), 30, open=None)
    assert_frame_equal(cleaned(raw).log.select(list(RAW_BARS)), raw[30:31])


def test_a_range_that_misses_open_or_close_by_little_is_widened() -> None:
    raw = changed(series(), 30, open=50.0, low=50.1, high=50.9, close=51.0)
    result = cleaned(raw)
    assert verdicts(result) == [(30, "range_widened")]
    assert result.bars.row(30)[2:6] == (50.0, 51.0, 50.0, 51.0)
    assert result.bars["flags"][30] == "range_widened"
    assert result.counts["repaired"] == 1
    assert result.counts["kept"] == 59


def test_an_impossible_volume_becomes_unknown_and_an_unknown_one_stays() -> None:
    raw = changed(changed(changed(series(), 10, volume=-5.0), 20, volume=None), 30, volume=float("nan"))
    result = cleaned(raw)
    assert verdicts(result) == [(10, "volume_unknown"), (30, "volume_unknown")]
    assert [place for place, volume in enumerate(result.bars["volume"]) if volume is None] == [10, 20, 30]


def test_a_bar_is_final_when_its_session_has_closed_and_the_lag_is_over() -> None:
    raw = series()
    last = raw["timestamp"][-1]
    close = bar_ends(raw[-1:], "1d", {})[0]
    assert cleaned(raw, now=close + LAG).bars["timestamp"][-1] == last
    early = cleaned(raw, now=close + LAG - timedelta(seconds=1))
    assert verdicts(early) == [(59, "not_final")]
    assert early.bars["timestamp"][-1] < last


def test_bars_from_the_future_are_dropped_whatever_the_calendar_knows() -> None:
    raw = series(3).with_columns(
        timestamp=pl.Series(["2024-01-02", "2090-01-03", "2500-01-04"]).str.to_datetime(time_zone="UTC", time_unit="us")
    )
    assert cleaned(raw).log["rule"].to_list() == ["not_final", "not_final"]


def test_bars_on_closed_days_are_dropped_by_the_calendar_of_their_symbol() -> None:
    raw = pl.concat([series(3, symbol).with_columns(timestamp=pl.lit(SATURDAY, TIME)) for symbol in ("AAA", "BTC-USD")])
    result = cleaned(raw[[0, 3]])
    assert result.log.select("symbol", "rule").rows() == [("AAA", "closed_day")]
    assert result.bars["symbol"].to_list() == ["BTC-USD"]


@pytest.mark.parametrize("symbol", ["TCS.NS", "600519.SS", "D05.SI", "7203.T"])
def test_bars_beyond_what_a_calendar_knows_are_kept_but_for_those_outside_its_week(symbol: str) -> None:
    begins, ends = bounds(calendar_name(symbol))
    days = [ends + timedelta(days=n) for n in range(1, 61)] if ends < LATEST else []
    days += [begins - timedelta(days=n) for n in range(60, 0, -1)]
    stamps = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in sorted(days)]
    raw = series(len(stamps), symbol).with_columns(timestamp=pl.Series(stamps, dtype=TIME))
    result = cleaned(raw, now=stamps[-1] + timedelta(days=3))
    assert result.bars["timestamp"].to_list() == [stamp for stamp in stamps if stamp.weekday() < 5]
    assert set(result.log["rule"]) <= {"closed_day", "stale", "split_sized_jump"}
    assert result.log.filter(rule="closed_day")["timestamp"].dt.weekday().unique().sort().to_list() == [6, 7]


def test_intraday_bars_beyond_what_a_calendar_knows_are_kept_in_the_usual_hours() -> None:
    last = bounds("XBOM")[1]
    held = session_bounds("XBOM", last - timedelta(days=5), last + timedelta(days=5))
    stamps = [opens + timedelta(minutes=15 * k) for opens in held["opens"] for k in range(25)]
    raw = series(len(stamps), "TCS.NS").with_columns(timestamp=pl.Series(stamps, dtype=TIME))
    late = raw.tail(1).with_columns(pl.col("timestamp") + timedelta(hours=6))
    result = cleaned(pl.concat([raw, late]), interval="15m", now=stamps[-1] + timedelta(days=2))
    assert result.bars["timestamp"].to_list() == stamps
    assert result.log.filter(rule="outside_hours")["timestamp"].to_list() == late["timestamp"].to_list()


def test_intraday_bars_outside_the_session_and_off_the_grid_are_dropped() -> None:
    raw = series(4, interval="30m")
    opens = raw["timestamp"][0]
    moved = [
        opens - timedelta(minutes=30),
        opens,
        opens + timedelta(minutes=37),
        opens + timedelta(hours=6, minutes=30),
    ]
    result = cleaned(raw.with_columns(timestamp=pl.Series(moved, dtype=TIME)), interval="30m")
    assert result.log["rule"].to_list() == ["outside_hours", "off_grid", "outside_hours"]
    assert result.bars["timestamp"].to_list() == [opens]


@pytest.mark.parametrize("interval", ["1d", "5m"])
def test_no_rows_give_no_bars(interval: str) -> None:
    nothing = cleaned(
        empty(RAW_BARS), split(stamps(1)[0], 2.0), interval=interval, listing_cuts={"AAA": [date(2023, 5, 1)]}
    )
    assert_frame_equal(nothing.bars, empty(BARS))
    assert_frame_equal(nothing.log, empty(CLEANING))
    assert nothing.counts["rows_read"] == 0


def test_rows_without_a_key_are_dropped_and_counted() -> None:
    raw = series(3).with_columns(
        symbol=pl.Series(["AAA", None, "AAA"]), timestamp=pl.Series([*stamps(2), None], dtype=TIME)
    )
    result = cleaned(raw)
    assert result.log["rule"].to_list() == ["null_key", "null_key"]
    assert (result.counts["rows_read"], result.counts["dropped"]) == (3, 2)


def test_of_identical_rows_one_is_kept() -> None:
    raw = series()
    result = cleaned(pl.concat([raw, raw[20:23], raw[20:21]]))
    assert verdicts(result) == [(place, "duplicate_identical") for place in (20, 20, 21, 22)]
    assert_frame_equal(result.bars.select(list(RAW_BARS)), raw)


def test_of_contradicting_rows_the_one_with_the_most_volume_is_kept_and_flagged() -> None:
    raw = series()
    other = changed(raw, 20, close=raw["low"][20], volume=1.0)[20:21]
    unknown = changed(raw, 20, close=raw["low"][20], volume=float("nan"))[20:21]
    for delivered in (pl.concat([raw, other]), pl.concat([other, raw]), pl.concat([raw, unknown])):
        result = cleaned(delivered)
        assert sorted(verdicts(result)) == [(20, "conflict_resolved"), (20, "duplicate_conflicting")]
        assert_frame_equal(result.bars.select(list(RAW_BARS)), raw)
        assert result.bars["flags"][20] == "conflict_resolved"


def test_a_duplicate_without_prices_contradicts_nothing() -> None:
    raw = series()
    result = cleaned(pl.concat([raw, changed(raw, 20, open=None)[20:21]]))
    assert verdicts(result) == [(20, "null_price")]
    assert result.bars["flags"].null_count() == 60


# What neighbours say


def test_a_copy_of_the_next_bar_is_dropped_once_the_next_bar_is_there() -> None:
    raw = series()
    copied = pl.concat([raw[:30], raw[31:32].with_columns(timestamp=raw["timestamp"][30]), raw[31:]])
    assert verdicts(cleaned(copied)) == [(30, "copy_of_next")]
    assert verdicts(cleaned(copied[:31])) == []
    assert verdicts(cleaned(copied[:32])) == [(30, "copy_of_next")]


def test_equal_flat_bars_without_volume_are_stale_and_kept() -> None:
    raw = series()
    price = raw["close"][29]
    halted = raw
    for place in (30, 31, 32):
        halted = changed(halted, place, open=price, high=price, low=price, close=price, volume=0.0)
    result = cleaned(halted)
    assert verdicts(result) == [(place, "stale") for place in (30, 31, 32)]
    assert result.bars.height == 60
    assert result.counts["flagged"] == 3


def test_a_price_that_is_set_once_a_day_is_not_stale() -> None:
    daily = series(level=5000.0).with_columns(open="close", high="close", low="close", volume=pl.lit(0.0))
    assert verdicts(cleaned(daily)) == []


@pytest.mark.parametrize("factor", [1.3, 0.75, 2.0, 0.5, 7.0])
def test_a_bar_on_another_level_for_one_day_is_dropped_and_what_follows_is_not_flagged(factor: float) -> None:
    raw = times(series(), factor, 30, 31)
    assert verdicts(cleaned(raw)) == [(30, "level_error")]
    assert "level_error" not in [rule for _, rule in verdicts(cleaned(raw[:31]))]


def test_a_bar_that_is_repaired_and_then_dropped_is_counted_once() -> None:
    raw = times(series(), 1.4, 30, 31)
    narrow = changed(raw, 30, high=0.999 * max(raw["open"][30], raw["close"][30]))
    result = cleaned(narrow)
    assert verdicts(result) == [(30, "level_error")]
    assert (result.counts["kept"], result.counts["repaired"], result.counts["dropped"]) == (59, 0, 1)


def test_a_move_that_lasts_is_no_level_error() -> None:
    assert verdicts(cleaned(times(series(), 1.25, 30))) == []


def test_a_spike_whose_range_joins_its_neighbours_is_real() -> None:
    raw = series()
    price = raw["close"][29]
    spike = changed(raw, 30, open=price, high=1.3 * price, low=0.99 * price, close=1.28 * price)
    assert verdicts(cleaned(spike)) == []


def test_a_day_of_five_percent_is_ordinary_where_ranges_are_wide() -> None:
    raw = series().with_columns(high=pl.col("high") * 1.03, low=pl.col("low") * 0.97)
    moved = times(raw, 1.16, 30, 31)
    assert verdicts(cleaned(moved)) == []
    assert verdicts(cleaned(moved, parameters=replace(CleaningParameters(), level_ranges=0.5))) == [(30, "level_error")]


@pytest.mark.parametrize("days", [1, 2, 5])
@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_slips_of_the_unit_are_divided_out(factor: float, days: int) -> None:
    raw = series()
    result = cleaned(times(raw, factor, 30, 30 + days))
    assert verdicts(result) == [(place, "unit_slip") for place in range(30, 30 + days)]
    assert_frame_equal(result.bars.select(list(RAW_BARS)), raw)
    assert result.counts["repaired"] == days


def test_a_series_that_changes_its_unit_for_good_is_repaired_for_some_days_then_flagged_once_and_accepted() -> None:
    raw = series()
    result = cleaned(times(raw, 100.0, 30))
    repaired = [place for place, rule in verdicts(result) if rule == "unit_slip"]
    flagged = [place for place, rule in verdicts(result) if rule == "split_sized_jump"]
    assert repaired == list(range(30, flagged[0]))
    assert len(flagged) == 1
    assert len(repaired) < 14
    assert result.bars["close"][-1] == pytest.approx(100 * raw["close"][-1])


def test_a_unit_is_not_guessed_from_a_short_history() -> None:
    result = cleaned(times(series(), 0.01, 0, 4))
    assert verdicts(result) == [(4, "split_sized_jump")]
    assert result.counts["repaired"] == 0


def test_a_split_of_a_hundred_without_event_is_a_jump_and_no_slip() -> None:
    assert verdicts(cleaned(times(series(), 0.01, 30, volume=100.0))) == [(30, "split_sized_jump")]


@pytest.mark.parametrize("ratio", [2.0, 1.5, 7.0, 20.0, 0.5, 0.05, 0.1])
def test_a_split_is_an_event_where_it_is_recorded_and_a_flag_where_it_is_not(ratio: float) -> None:
    raw = times(series(), 1 / ratio, 30, volume=ratio)
    unrecorded = cleaned(raw)
    assert verdicts(unrecorded) == [(30, "split_sized_jump")]
    assert unrecorded.bars.height == 60
    assert held_symbols(unrecorded.bars, within=30).rows() == [("AAA", stamps(60)[30].date())]
    assert held_symbols(unrecorded.bars, within=29).is_empty()
    assert verdicts(cleaned(raw, split(stamps(60)[30], ratio))) == []


def test_a_recorded_split_that_prices_do_not_show_is_flagged() -> None:
    assert verdicts(cleaned(series(), split(stamps(60)[30], 2.0))) == [(30, "split_sized_jump")]


def test_a_crash_that_trades_is_not_flagged() -> None:
    raw = series()
    before = raw["close"][29]
    crashed = times(raw, 0.5, 30, volume=1.0)
    wide = changed(crashed, 30, open=0.5 * before, high=0.62 * before, low=0.45 * before)
    assert verdicts(cleaned(wide)) == []
    heavy = changed(crashed, 30, volume=40 * raw["volume"][30])
    assert verdicts(cleaned(heavy)) == []
    assert verdicts(cleaned(crashed)) == [(30, "split_sized_jump")]


def test_neighbours_of_other_symbols_are_no_neighbours() -> None:
    raw = pl.concat([series(level=5.0), series(symbol="BBB", level=500.0), series(symbol="CCC", level=5.0)])
    assert verdicts(cleaned(raw)) == []


@pytest.mark.parametrize(
    "wrong", [{"level_floor": 0.0}, {"unexplained_drop": 1.0}, {"split_ratios": (2.0, -1.0)}, {"unit_history": -3}]
)
def test_thresholds_that_mean_nothing_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CleaningParameters(**wrong)  # type: ignore[arg-type]


# Listings


def test_a_long_gap_or_a_mapping_event_begins_another_listing() -> None:
    raw = series(200)
    gap = pl.concat([raw[:50], raw[111:]])
    listings = cleaned(gap).bars["listing"].unique().sort().to_list()
    assert listings == [stamps(200)[0].date(), stamps(200)[111].date()]
    assert cleaned(pl.concat([raw[:50], raw[109:]])).bars["listing"].n_unique() == 1
    cuts = {"AAA": [stamps(200)[80].date()], "BBB": [stamps(200)[90].date()]}
    mapped = cleaned(raw, listing_cuts=cuts).bars["listing"].unique().sort().to_list()
    assert mapped == [stamps(200)[0].date(), stamps(200)[80].date()]


def test_a_cut_on_a_day_without_a_bar_acts_on_the_next_bar() -> None:
    raw = series(100)
    result = cleaned(pl.concat([raw[:40], raw[43:]]), listing_cuts={"AAA": [stamps(100)[41].date()]})
    assert result.bars["listing"].unique().sort().to_list() == [stamps(100)[0].date(), stamps(100)[43].date()]


@pytest.mark.parametrize("interval", ["1d", "30m"])
def test_the_bars_of_another_company_are_no_neighbours(interval: str) -> None:
    raw = times(series(100, interval=interval), 0.5, 52)
    cut = {"AAA": [stamps(100, interval)[52].date()], "ZZZ": [date(2020, 1, 2)]}
    assert cleaned(raw, interval=interval).log["rule"].to_list() == ["split_sized_jump"]
    result = cleaned(raw, interval=interval, listing_cuts=cut)
    assert result.log.is_empty()
    assert result.bars["listing"].n_unique() == 2


# Comparing what is stored with what is fetched


def test_equal_bars_are_neither_new_nor_restated() -> None:
    bars = cleaned(series()).bars
    nothing = compare(bars, bars)
    assert nothing.new.is_empty()
    assert nothing.moved.is_empty()


def test_new_keys_are_new_and_rounding_is_no_restatement() -> None:
    bars = cleaned(series()).bars
    rounded = bars.with_columns(pl.col("close") * (1 + 5e-5), pl.col("volume") * 1.004)
    difference = compare(bars[:50], rounded)
    assert_frame_equal(difference.new, rounded[50:])
    assert difference.moved.is_empty()


@pytest.mark.parametrize(
    "change",
    [
        pl.col("open") * 1.0002,
        pl.col("volume") * 1.006,
        pl.lit(None, pl.Float64()).alias("volume"),
        pl.lit("stale").alias("flags"),
        pl.lit(date(2023, 2, 1)).alias("listing"),
    ],
)
def test_a_bar_that_says_something_else_is_restated(change: pl.Expr) -> None:
    bars = pl.concat([cleaned(series()).bars, cleaned(series(symbol="BBB", seed=1)).bars])
    here = (pl.int_range(pl.len()) == 70) & (pl.col("symbol") == "BBB")
    name = change.meta.output_name()
    fetched = bars.with_columns(pl.when(here).then(change).otherwise(pl.col(name)).alias(name))
    assert_frame_equal(compare(bars, fetched).moved, fetched.filter(here))


def test_a_bar_that_was_not_fetched_is_no_difference() -> None:
    bars = cleaned(series()).bars
    for fetched in (pl.concat([bars[:30], bars[31:]]), bars[:30], bars[:0]):
        difference = compare(bars, fetched)
        assert difference.new.is_empty()
        assert difference.moved.is_empty()


# Laws


@dataclass(frozen=True)
class Market:
    """Made series with dirt in them, what is known beside, and moments soon after the dirt, when verdicts are young."""

    raw: pl.DataFrame
    actions: pl.DataFrame
    cuts: dict[str, list[date]]
    interval: str
    moments: list[datetime]

    def cleaned(self, **changed: object) -> Cleaned:
        return cleaned(self.raw, self.actions, interval=self.interval, listing_cuts=self.cuts, **changed)


def dirty(raw: pl.DataFrame, kind: str, at: int) -> pl.DataFrame:
    """``raw`` with one kind of dirt at a place."""
    if at + 2 >= raw.height:
        return raw
    row, after = raw[at : at + 1], raw[at + 1 : at + 2]
    price = raw["close"][max(at - 1, 0)]
    kinds: dict[str, Callable[[], pl.DataFrame]] = {
        "null": lambda: changed(raw, at, open=None),
        "zero": lambda: changed(raw, at, low=0.0),
        "inconsistent": lambda: changed(raw, at, high=raw["low"][at] * 0.9),
        "narrow": lambda: changed(raw, at, high=raw["close"][at] * 0.999),
        "volume": lambda: changed(raw, at, volume=-1.0),
        "missing": lambda: pl.concat([raw[:at], raw[at + 1 :]]),
        "gap": lambda: pl.concat([raw[:at], raw[at + 65 :]]),
        "copy": lambda: pl.concat([raw[:at], after.with_columns(row["timestamp"]), raw[at + 1 :]]),
        "stale": lambda: changed(raw, at, open=price, high=price, low=price, close=price, volume=0.0),
        "twice": lambda: pl.concat([raw, row]),
        "conflict": lambda: pl.concat([raw, changed(raw, at, close=raw["low"][at])[at : at + 1]]),
        "level": lambda: times(raw, 1.4, at, at + 1),
        "slip": lambda: times(raw, 100.0, at, at + 1),
        "slips": lambda: times(raw, 0.01, at, at + 5),
        "unit": lambda: times(raw, 100.0, at),
        "split": lambda: times(raw, 0.5, at, volume=2.0),
        "crash": lambda: times(raw, 0.55, at, volume=1.0),
        "off_grid": lambda: pl.concat([raw, row.with_columns(pl.col("timestamp") + timedelta(minutes=7))]),
        "weekend": lambda: pl.concat([raw, row.with_columns(timestamp=pl.lit(SATURDAY, TIME))]),
    }
    return kinds[kind]()


KINDS = (
    "null", "zero", "inconsistent", "narrow", "volume", "missing", "gap", "copy", "stale", "twice", "conflict",
    "level", "slip", "slips", "unit", "split", "crash", "off_grid", "weekend",
)  # fmt: skip


@st.composite
def markets(draw: st.DrawFn, interval: str = "1d", count: int = 130) -> Market:
    parts, places = [], [count - 1]
    for symbol in ("AAA", "BBB"):
        raw = series(count, symbol, interval, seed=draw(st.integers(0, 9)))
        for kind, at in draw(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, count - 1)), max_size=6)):
            raw = dirty(raw, kind, at)
            places += [min(max(at + after, 2), count - 1) for after in (0, 1, 5)]
        parts.append(raw)
    event = draw(st.none() | st.integers(1, count - 1))
    actions = NO_ACTIONS if event is None else split(stamps(count, interval)[event], 2.0)
    cuts = draw(st.sets(st.integers(1, count - 1), max_size=2))
    chosen = sorted(draw(st.sets(st.sampled_from(places), min_size=1, max_size=5)))
    over = timedelta(hours=23) if interval == "1d" else timedelta(hours=1, minutes=1)
    return Market(
        pl.concat(parts),
        actions,
        {"BBB": [stamps(count, interval)[place].date() for place in cuts]},
        interval,
        [stamps(count, interval)[place] + over for place in chosen],
    )


def increments(market: Market) -> pl.DataFrame:
    """What is stored after a refresh at each of the moments, each judging the newest stored bar again."""
    stored = empty(BARS)
    for now in market.moments:
        newest = dict(stored.group_by("symbol").agg(pl.col("timestamp").max()).iter_rows())
        earlier = stored.filter(pl.col("timestamp") < pl.col("symbol").replace_strict(newest, return_dtype=TIME))
        carried = earlier.group_by("symbol", maintain_order=True).agg(pl.col("timestamp", "listing").last())
        since = {
            symbol: sessions_back("XNYS", stamp, context_sessions(market.interval)) for symbol, stamp in newest.items()
        }
        fetched = market.raw.filter(
            pl.col("timestamp") >= pl.col("symbol").replace_strict(since, default=stamps(1)[0], return_dtype=TIME)
        )
        fresh = cleaned(
            fetched,
            market.actions,
            interval=market.interval,
            listing_cuts=market.cuts,
            now=now,
            judged_from=newest,
            carried={symbol: (stamp, listing) for symbol, stamp, listing in carried.iter_rows()},
        )
        stored = pl.concat([earlier, fresh.bars]).sort("symbol", "timestamp")
    return stored


@given(markets())
@settings(max_examples=30, deadline=None)
def test_cleaning_in_increments_says_what_cleaning_at_once_says(market: Market) -> None:
    assert_frame_equal(increments(market), market.cleaned(now=market.moments[-1]).bars)


@given(markets("30m"))
@settings(max_examples=15, deadline=None)
def test_intraday_cleaning_in_increments_says_what_cleaning_at_once_says(market: Market) -> None:
    assert_frame_equal(increments(market), market.cleaned(now=market.moments[-1]).bars)


@given(markets())
@settings(max_examples=20, deadline=None)
def test_what_comes_later_changes_the_newest_bar_at_most(market: Market) -> None:
    later = market.cleaned().bars
    for now in market.moments:
        then = market.cleaned(now=now).bars
        for symbol in ("AAA", "BBB"):
            known = then.filter(pl.col("symbol") == symbol)[:-1]
            assert_frame_equal(known, later.filter(pl.col("symbol") == symbol)[: known.height])


@given(markets(), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_every_row_is_accounted_for_in_any_order(market: Market, random: st.DataObject) -> None:
    result = market.cleaned()
    counts = result.counts
    assert counts["kept"] + counts["repaired"] + counts["dropped"] == counts["rows_read"] == market.raw.height
    assert result.bars.height == counts["kept"] + counts["repaired"]
    for action in ("repaired", "dropped", "flagged"):
        assert sum(rule[action] for rule in counts["by_rule"].values()) == (result.log["action"] == action).sum()
    assert set(result.log["rule"]) <= RULES.keys()
    assert result.log.filter(pl.col("action") == "dropped").height == counts["dropped"]
    kept = result.bars
    assert kept.select(pl.struct("symbol", "timestamp").is_unique().all()).item()
    assert kept.select(
        ((pl.min_horizontal(OHLC) == pl.col("low")) & (pl.max_horizontal(OHLC) == pl.col("high"))).all()
    ).item()
    places = list(range(market.raw.height))
    random.shuffle(places)  # type: ignore[attr-defined]
    shuffled = replace(market, raw=market.raw[places]).cleaned()
    assert_frame_equal(shuffled.bars, result.bars)
    assert shuffled.counts | {"unordered": 0} == counts | {"unordered": 0}


@given(markets(), st.sampled_from([0.01, 0.37, 1.3, 250.0]))
@settings(max_examples=20, deadline=None)
def test_verdicts_do_not_depend_on_the_level_of_prices(market: Market, scale: float) -> None:
    scaled = replace(market, raw=market.raw.with_columns(pl.col(OHLC) * scale))
    before, after = market.cleaned().log, scaled.cleaned().log
    assert_frame_equal(after.select("symbol", "timestamp", "rule"), before.select("symbol", "timestamp", "rule"))
