"""Patterns are events of one bar: causal, the same in any chunks and at any scale, and judged by what could be earned.

Prices here are whole cents, as real ones are: only there do ties show.
"""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import talib
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.parameters import PatternParameters
from alpha_assets.quant.patterns import (
    CANDLES,
    EVENTS,
    PATTERN_OUTCOMES,
    STRUCTURES,
    UNDIRECTED,
    catalogue,
    events,
    identity,
    memory,
    outcomes,
)
from alpha_assets.quant.schema import ACTIONS, OHLC, TIME

START = datetime(2015, 1, 1, tzinfo=UTC)
LISTED = date(2015, 1, 1)
CHOSEN = PatternParameters()
KEY = ["symbol", "timestamp", "pattern"]

#: Windows short enough for examples made by hand.
SMALL = PatternParameters(
    range_bars=3, breakout_bars=4, swing_bars=2, double_bars=12, double_depth=1.0, double_patience=6, level_bars=12
)


def in_cents(bars: int, seed: int, *, symbol: str = "SYM", tick: float = 0.01) -> pl.DataFrame:
    """A random walk of few ticks a bar: every second comparison is a tie."""
    random = np.random.default_rng(seed)
    close = 2000 + np.cumsum(random.integers(-4, 5, bars))
    opened = np.where(random.random(bars) < 0.5, np.roll(close, 1), close + random.integers(-4, 5, bars))
    high = np.maximum(opened, close) + random.integers(0, 4, bars)
    low = np.minimum(opened, close) - random.integers(0, 4, bars)
    return frame(opened * tick, high * tick, low * tick, close * tick, symbol=symbol)


def frame(opened: object, high: object, low: object, close: object, *, symbol: str = "SYM") -> pl.DataFrame:
    prices = {
        name: np.asarray(values, dtype=float) for name, values in zip(OHLC, (opened, high, low, close), strict=True)
    }
    bars = len(prices["open"])
    return pl.DataFrame(
        {
            "symbol": [symbol] * bars,
            "timestamp": pl.Series([START + timedelta(days=day) for day in range(bars)], dtype=TIME),
            "listing": [LISTED] * bars,
            **prices,
        }
    )


def around(closes: list[float], reach: float = 0.5) -> pl.DataFrame:
    """Bars that open at the close before and reach as far above and below."""
    close = np.array(closes)
    opened = np.concatenate([close[:1], close[:-1]])
    return frame(opened, np.maximum(opened, close) + reach, np.minimum(opened, close) - reach, close)


def fired(table: pl.DataFrame, pattern: str) -> list[int]:
    """The bars at which a pattern fired."""
    return [(stamp - START).days for stamp in table.filter(pl.col("pattern") == pattern)["timestamp"]]


def labelled(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.with_columns(
        known_at=pl.col("timestamp") + timedelta(hours=21), flags=pl.lit(None, dtype=pl.String), volume=pl.lit(1e6)
    )


def test_every_candlestick_of_talib_is_there_with_its_own_warm_up() -> None:
    assert sorted(CANDLES) == sorted(talib.get_function_groups()["Pattern Recognition"])
    known = {pattern.name: pattern for pattern in catalogue(CHOSEN)}
    assert sorted(known) == sorted([*CANDLES, *STRUCTURES])
    assert known["CDLMORNINGSTAR"].warm_up == 12
    assert set(CANDLES) > UNDIRECTED


def test_events_are_sorted_rows_of_their_schema_with_a_strength_above_nothing() -> None:
    bars = pl.concat([in_cents(400, 1, symbol="B"), in_cents(400, 2, symbol="A")])
    table = events(bars.sample(fraction=1.0, shuffle=True, seed=1), CHOSEN)
    assert table.schema == EVENTS
    assert_frame_equal(table, table.unique(KEY).sort(KEY))
    assert set(table["direction"]) == {-1, 0, 1}
    assert table["strength"].is_between(0.0, 1.0, closed="right").all()
    directions = {name: set(part["direction"]) for (name,), part in table.group_by("pattern")}
    for name, found in directions.items():
        allowed = {STRUCTURES[str(name)]} if name in STRUCTURES else {0} if name in UNDIRECTED else {-1, 1}
        assert found <= allowed, name


def candles_of_talib(bars: pl.DataFrame) -> pl.DataFrame:
    """What TA-Lib says of one series of plain prices."""
    prices = [bars[name].to_numpy() for name in OHLC]
    parts = []
    for name in CANDLES:
        values = getattr(talib, name)(*prices)
        hits = np.flatnonzero(values)
        signs = np.zeros(len(hits)) if name in UNDIRECTED else np.sign(values[hits])
        parts.append(
            bars[hits].select(
                "symbol",
                "timestamp",
                pattern=pl.lit(name),
                direction=pl.Series(signs, dtype=pl.Int8),
                strength=pl.Series(np.abs(values[hits]) / 200, dtype=pl.Float32),
            )
        )
    return pl.concat(parts).sort(KEY)


@pytest.mark.parametrize("seed", range(3))
def test_on_prices_without_ties_the_candles_are_those_of_talib(seed: int) -> None:
    random = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(random.standard_t(4, 2000) * 0.012))
    opened = np.roll(close, 1) * np.exp(random.normal(0, 0.006, 2000))
    spread = np.abs(random.normal(0, 0.006, (2, 2000)))
    bars = frame(
        opened, np.maximum(opened, close) * (1 + spread[0]), np.minimum(opened, close) * (1 - spread[1]), close
    )
    ours = events(bars, CHOSEN).filter(pl.col("pattern").is_in(list(CANDLES)))
    assert ours["pattern"].n_unique() > 40
    assert_frame_equal(ours, candles_of_talib(bars))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), cut=st.integers(150, 380), tail=st.integers(1, 8))
def test_a_tail_with_the_declared_memory_gives_the_events_of_the_whole(seed: int, cut: int, tail: int) -> None:
    bars = in_cents(400, seed)
    wanted = pl.col("timestamp").is_in(bars.slice(cut, tail)["timestamp"].implode())
    part = events(bars.slice(cut - memory(CHOSEN), memory(CHOSEN) + tail), CHOSEN)
    assert_frame_equal(part.filter(wanted), events(bars, CHOSEN).filter(wanted))


@pytest.mark.parametrize("parameters", [CHOSEN, SMALL])
def test_each_pattern_needs_no_more_than_its_own_memory_and_warm_up(parameters: PatternParameters) -> None:
    for seed in range(3):
        bars = in_cents(260, seed)
        full = events(bars, parameters)
        for pattern in catalogue(parameters):
            of_pattern = pl.col("pattern") == pattern.name
            early = pl.col("timestamp") < START + timedelta(days=pattern.warm_up)
            assert full.filter(of_pattern & early).is_empty(), pattern
        for start in range(0, 150, 11):
            part = events(bars.slice(start), parameters)
            for pattern in catalogue(parameters):
                late = pl.col("timestamp") >= START + timedelta(days=start + pattern.memory)
                same = (pl.col("pattern") == pattern.name) & late
                assert_frame_equal(part.filter(same), full.filter(same))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), bar=st.integers(20, 299))
def test_no_event_looks_ahead(seed: int, bar: int) -> None:
    bars = in_cents(300, seed)
    last = bars["timestamp"][bar]
    assert_frame_equal(events(bars.head(bar + 1), CHOSEN), events(bars, CHOSEN).filter(pl.col("timestamp") <= last))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), factor=st.sampled_from([1e-12, 1e-3, 1 / 7, 0.3, 3.0, 1e5]))
def test_ties_fall_the_same_at_every_scale(seed: int, factor: float) -> None:
    bars = in_cents(400, seed)
    scaled = events(bars.with_columns(pl.col(*OHLC) * factor), CHOSEN)
    assert_frame_equal(scaled, events(bars, CHOSEN), rel_tol=1e-6)


def test_talib_alone_would_decide_ties_by_rounding() -> None:
    bars = in_cents(2000, 1)
    scaled = bars.with_columns(pl.col(*OHLC) / 7)
    assert not candles_of_talib(bars).equals(candles_of_talib(scaled))


def test_a_split_rewrites_no_event_before_it_and_makes_none() -> None:
    traded = in_cents(300, 4).with_columns(volume=pl.lit(1e6))
    ex_date = (START + timedelta(days=200)).date()
    split = pl.DataFrame(
        {"symbol": ["SYM"], "ex_date": [ex_date], "kind": ["split"], "value": [7.0]}, schema=dict(ACTIONS)
    )
    halved = traded.with_columns(
        pl.when(pl.col("timestamp").dt.date() < ex_date).then(pl.col(name)).otherwise(pl.col(name) / 7) for name in OHLC
    )
    before = events(traded, CHOSEN)
    after = events(adjusted(halved, split), CHOSEN)
    assert_frame_equal(after, before, rel_tol=1e-6)


@pytest.mark.parametrize("parameters", [CHOSEN, SMALL])
@pytest.mark.parametrize("factor", [1.0, 1e-12, 1e12])
def test_nothing_crosses_from_one_listing_or_symbol_to_another(parameters: PatternParameters, factor: float) -> None:
    """The bars go on over the cut as if nothing were, or at a price that would spoil the neighbour's sums."""
    for seed in range(20):
        bars = in_cents(300, seed)
        first, second, third = bars.head(100), bars.slice(100, 100), bars.slice(200)
        second = second.with_columns(pl.col(*OHLC) * factor, listing=pl.lit(date(2018, 1, 1)))
        third = third.with_columns(symbol=pl.lit("TWO"))
        together = events(pl.concat([first, second, third]), parameters)
        alone = pl.concat([events(part, parameters) for part in (first, second, third)])
        assert_frame_equal(together, alone)


@pytest.mark.parametrize("bars", [0, 1, 2, 10, 63, 64, 65])
def test_short_series_raise_nothing(bars: int) -> None:
    assert events(in_cents(70, 6).head(bars), CHOSEN).schema == EVENTS


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), 0.0, -3.0])
def test_a_price_that_is_no_price_is_refused_by_symbol_and_time(bad: float | None) -> None:
    bars = in_cents(60, 8, symbol="BAD").with_columns(
        low=pl.when(pl.int_range(pl.len()) == 40).then(pl.lit(bad)).otherwise("low")
    )
    with pytest.raises(ValueError, match="BAD: the bar of 2015-02-10"):
        events(bars, CHOSEN)


FLAT = [10.0] * 6


def test_a_breakout_is_a_close_beyond_the_highest_high_of_the_bars_before() -> None:
    table = events(around([*FLAT, 13.0, 13.0]), SMALL)
    assert fired(table, "breakout_up") == [6]
    assert fired(table, "breakout_down") == []
    event = table.filter(pl.col("pattern") == "breakout_up").row(0, named=True)
    # 2.5 above the high of 10.5; the bars before have a range of 1.
    assert (event["direction"], event["strength"]) == (1, 1.0)
    assert fired(events(around([*FLAT, 7.0, 7.0]), SMALL), "breakout_down") == [6]
    modest = events(around([*FLAT, 10.9]), SMALL).filter(pl.col("pattern") == "breakout_up")
    assert modest["strength"].to_list() == pytest.approx([0.4]), "in ranges of the bars before, its own aside"


def test_a_close_at_the_highest_high_or_of_a_narrow_bar_breaks_nothing() -> None:
    assert fired(events(around([*FLAT, 10.5]), SMALL), "breakout_up") == []
    adjusted_by_a_split = pl.when(pl.int_range(pl.len()) < 6).then(1 - 2**-50).otherwise(1.0)
    rounded = around([*FLAT, 10.5]).with_columns(pl.col(*OHLC) * adjusted_by_a_split)
    assert fired(events(rounded, SMALL), "breakout_up") == []
    narrow = around([*FLAT, 10.6]).with_columns(
        pl.when(pl.int_range(pl.len()) == 6).then(pl.col(name) + by).otherwise(name).alias(name)
        for name, by in (("open", 0.5), ("low", 0.5), ("high", -0.4))
    )
    wide = PatternParameters(range_bars=3, breakout_bars=4, breakout_range=0.5)
    assert fired(events(narrow, SMALL), "breakout_up") == []
    assert fired(events(narrow, wide), "breakout_up") == [6]


#: Tops of 14.5 and 14.4 at bars 8 and 14, the low between at bar 11, a close below it at bar 18.
DOUBLE_TOP = [*FLAT, 11, 12.5, 14, 13, 12, 11.5, 12, 13, 13.9, 13, 12.5, 12, 10.5, 10, 10]


def test_a_double_top_fires_where_the_close_falls_through_the_low_between() -> None:
    table = events(around([float(close) for close in DOUBLE_TOP]), SMALL)
    assert fired(table, "double_top") == [18]
    event = table.filter(pl.col("pattern") == "double_top").row(0, named=True)
    assert event["direction"] == -1
    # A close of 10.5 against the low of 11.0; the three bars up to the second top have ranges of 1.5, 2 and 1.9.
    assert event["strength"] == pytest.approx(0.5 / 1.8)


def test_a_double_bottom_is_a_double_top_upside_down() -> None:
    table = events(around([24.0 - close for close in DOUBLE_TOP]), SMALL)
    assert fired(table, "double_bottom") == [18]
    assert table.filter(pl.col("pattern") == "double_bottom")["direction"].to_list() == [1]


def test_a_low_that_breaks_before_the_second_top_is_known_counts_when_it_is_known() -> None:
    early = [*DOUBLE_TOP[:15], 10.0, 9.0, 8.0]
    bars = around([float(close) for close in early])
    assert fired(events(bars, SMALL), "double_top") == [16]
    assert fired(events(bars.head(16), SMALL), "double_top") == []


def test_a_double_top_needs_its_whole_memory_and_no_more() -> None:
    widest = PatternParameters(**{**vars(SMALL), "double_bars": 6, "double_patience": 3})
    needed = {pattern.name: pattern.memory for pattern in catalogue(widest)}["double_top"]
    bars = around([float(close) for close in DOUBLE_TOP])
    for start, bars_of_it in ((18 - needed, [18]), (19 - needed, [])):
        assert fired(events(bars.slice(start), widest), "double_top") == bars_of_it


def test_a_double_top_is_as_deep_as_asked() -> None:
    bars = around([float(close) for close in DOUBLE_TOP])
    # 3.4 from the lower top to the low between, in mean ranges of 1.8.
    for depth, bars_of_it in ((1.85, [18]), (1.95, [])):
        asked = PatternParameters(**{**vars(SMALL), "double_depth": depth})
        assert fired(events(bars, asked), "double_top") == bars_of_it


@pytest.mark.parametrize(
    "closes",
    [
        [*DOUBLE_TOP[:17], 25.0, 12, 10.5, 10, 10],  # a close above the tops
        [*DOUBLE_TOP[:9], 13, 11.5, 10.8, 10.8, 12, 11, 10.5, 9.8, 9.8],  # the second top is lower by more than a range
        [*DOUBLE_TOP[:18], *[12.0] * 8, 10.5, 10],  # the low between breaks too late
    ],
)
def test_what_only_resembles_a_double_top_is_none(closes: list[float]) -> None:
    assert fired(events(around([float(close) for close in closes]), SMALL), "double_top") == []


#: A swing low of 7.5 at bar 8; the price comes back to it at bar 14.
SUPPORT = [*FLAT, 9.5, 9, 8, 9, 10, 11, 11, 10.5, 8.2, 9, 10]


def test_support_is_touched_where_price_comes_back_to_a_swing_low_and_closes_above() -> None:
    table = events(around([float(close) for close in SUPPORT]), SMALL)
    assert fired(table, "support_touch") == [14]
    event = table.filter(pl.col("pattern") == "support_touch").row(0, named=True)
    # The low of bar 14 is 7.7; it closes 0.7 above the level; the last three ranges are 1, 1.5 and 3.3.
    assert event["direction"] == 1
    assert event["strength"] == pytest.approx(0.7 / (5.8 / 3))


def test_resistance_is_support_upside_down() -> None:
    table = events(around([20.0 - close for close in SUPPORT]), SMALL)
    assert fired(table, "resistance_touch") == [14]
    assert table.filter(pl.col("pattern") == "resistance_touch")["direction"].to_list() == [-1]


def test_a_level_that_a_close_has_broken_supports_nothing() -> None:
    broken = [*SUPPORT[:12], 7.0, 9.5, 10.5, 8.2, 9]
    assert fired(events(around([float(close) for close in broken]), SMALL), "support_touch") == []


def test_a_level_grows_old() -> None:
    closes = [*SUPPORT[:12], *[11.0] * 6, 10.5, 8.2, 9]
    young, old = (PatternParameters(**{**vars(SMALL), "level_bars": bars}) for bars in (12, 10))
    bars = around([float(close) for close in closes])
    assert fired(events(bars, young), "support_touch") == [19]
    assert fired(events(bars, old), "support_touch") == []


def test_an_outcome_is_the_label_of_its_bar_in_the_direction_of_the_event() -> None:
    bars = labelled(in_cents(200, 9))
    table = outcomes(events(bars, CHOSEN), bars)
    assert table.schema == PATTERN_OUTCOMES
    for horizon in (1, 20):
        labels = open_to_open(bars, horizon).select("symbol", "timestamp", "label_return", "label_end")
        joined = table.join(labels, on=["symbol", "timestamp"], how="left", maintain_order="left")
        assert joined[f"return_{horizon}"].equals(joined["label_return"])
        assert joined[f"known_{horizon}"].equals(joined["label_end"])
    opened = bars["open"].to_list()
    event = table.filter(pl.col("timestamp") >= START + timedelta(days=100), pl.col("direction") != 0).row(
        0, named=True
    )
    bar = (event["timestamp"] - START).days
    assert event["return_5"] == pytest.approx(opened[bar + 6] / opened[bar + 1] - 1)
    assert event["success_5"] == (event["return_5"] * event["direction"] > 0)
    assert table.filter(pl.col("direction") == 0)["success_5"].null_count() == (table["direction"] == 0).sum()
    for direction in (1, -1):
        moved = table.filter(pl.col("direction") == direction, pl.col("return_1") != 0)
        assert moved["success_1"].n_unique() == 2
        assert moved["success_1"].equals(moved["return_1"] * direction > 0, check_names=False)


def test_an_outcome_is_null_while_it_is_unknown_and_where_a_flag_voids_it() -> None:
    bars = labelled(in_cents(200, 9)).with_columns(
        flags=pl.when(pl.int_range(pl.len()) == 100).then(pl.lit("unexplained_jump"))
    )
    table = outcomes(events(bars, CHOSEN), bars, [5])
    null = table.filter(pl.col("return_5").is_null())
    days = sorted({(stamp - START).days for stamp in null["timestamp"]})
    assert set(days) <= {*range(94, 100), *range(194, 200)}
    assert {94, 99, 194, 199} <= set(days)
    assert null["success_5"].null_count() == null["known_5"].null_count() == null.height
    assert table.filter(pl.col("return_5").is_not_null(), pl.col("direction") != 0)["success_5"].null_count() == 0


def voided(bars: pl.DataFrame, random: np.random.Generator) -> pl.DataFrame:
    """Here and there a flag."""
    return bars.with_columns(flags=pl.when(pl.Series(random.random(bars.height) < 0.03)).then(pl.lit("level_error")))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), cut=st.integers(1, 250))
def test_what_comes_after_an_outcome_was_known_does_not_change_it(seed: int, cut: int) -> None:
    bars = voided(labelled(in_cents(250, seed)), np.random.default_rng(seed))
    past, until = bars.head(cut), bars["known_at"][cut - 1]
    then = outcomes(events(past, CHOSEN), past)
    later = outcomes(events(bars, CHOSEN), bars).filter(pl.col("timestamp") <= past["timestamp"][-1])
    assert_frame_equal(then.select(list(EVENTS)), later.select(list(EVENTS)))
    for horizon in (1, 5, 20):
        of_one = [f"{kind}_{horizon}" for kind in ("return", "success", "known")]
        known = (pl.col(of_one[-1]) <= until).fill_null(value=False)
        of_then = later.with_columns(pl.when(known).then(pl.col(name)).alias(name) for name in of_one)
        assert_frame_equal(then.select(of_one), of_then.select(of_one))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6), price=st.sampled_from([1e-6, 1 / 7, 0.3, 3.0, 1e5]), volume=st.sampled_from([0.1, 7])
)
def test_outcomes_are_the_same_at_every_scale(seed: int, price: float, volume: float) -> None:
    bars = voided(labelled(in_cents(250, seed)), np.random.default_rng(seed))
    scaled = bars.with_columns(pl.col(*OHLC) * price, pl.col("volume") * volume)
    ours, theirs = (outcomes(events(one, CHOSEN), one) for one in (scaled, bars))
    assert_frame_equal(ours, theirs, rel_tol=1e-9, abs_tol=1e-12)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), paid=st.floats(0.01, 0.5))
@example(seed=16, paid=0.11)
def test_a_dividend_changes_no_outcome_before_it_and_a_return_of_nothing_across_a_split_is_none(
    seed: int, paid: float
) -> None:
    """As traded the open is a third after the split, in whole cents: many returns across it are exactly nothing."""
    place = pl.int_range(pl.len())
    traded = labelled(in_cents(300, seed, tick=0.03)).with_columns(
        pl.when(place < 150).then(name).otherwise(pl.col(name) / 3).round(2).alias(name) for name in OHLC
    )
    actions = pl.DataFrame(
        [
            ("SYM", (START + timedelta(days=150)).date(), "split", 3.0),
            ("SYM", (START + timedelta(days=270)).date(), "dividend", paid),
        ],
        schema=dict(ACTIONS),
        orient="row",
    )
    before, after = (
        outcomes(events(bars, CHOSEN), bars)
        for bars in (adjusted(traded.head(270), actions.head(1)), adjusted(traded, actions))
    )
    settled = after.filter(pl.col("timestamp") < START + timedelta(days=240))
    assert_frame_equal(before.head(settled.height), settled, rel_tol=1e-9, abs_tol=1e-12)
    still = settled.filter(pl.col("return_1").abs() < 1e-12, pl.col("direction") != 0)
    assert still.height > 0
    assert not still["success_1"].any()


def test_another_parameter_is_another_table_of_outcomes() -> None:
    assert identity(CHOSEN) == identity(PatternParameters())
    assert identity(CHOSEN) != identity(PatternParameters(touch_distance=0.3))


@pytest.mark.parametrize(
    ("name", "value"),
    [("range_bars", 1), ("breakout_bars", 0), ("swing_bars", 0), ("level_bars", 5), ("touch_distance", -0.1)],
)
def test_parameters_that_hold_nothing_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        PatternParameters(**{name: value})  # type: ignore[arg-type]


def test_real_bars_give_the_same_events_at_another_scale_and_from_a_tail(shared_data: Path) -> None:
    bars = (
        pl.read_parquet(shared_data / "sp500_daily_2013_2018.parquet")
        .filter(pl.col("symbol").is_in(["AAPL", "AMD", "BBY", "F", "JPM", "XOM"]))
        .drop_nulls()
        .with_columns(pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), listing=pl.lit(LISTED))
    )
    full = events(bars, CHOSEN)
    for factor in (1 / 7, 0.3, 1e-3):
        assert_frame_equal(events(bars.with_columns(pl.col(*OHLC) * factor), CHOSEN), full, rel_tol=1e-6)
    tail = bars.group_by("symbol", maintain_order=True).tail(memory(CHOSEN) + 5)
    last = bars.group_by("symbol", maintain_order=True).tail(5).select("symbol", "timestamp")
    of_last = [part.join(last, on=["symbol", "timestamp"], how="semi") for part in (events(tail, CHOSEN), full)]
    assert_frame_equal(*of_last)
