"""A label is what could have been earned: open to open, inside one listing, with nothing flagged inside."""

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.labels import (
    open_to_open,
    pattern_success,
    regime_spells,
    side,
    triple_barrier,
    untrainable_regimes,
)
from alpha_assets.quant.parameters import PatternParameters
from alpha_assets.quant.patterns import HORIZONS, events, outcomes
from alpha_assets.quant.schema import ACTIONS, TIME
from alpha_assets.quant.symbols import REGIMES

START = datetime(2020, 1, 1, tzinfo=UTC)
LAG = timedelta(hours=21, minutes=30)


def bars(count: int, seed: int = 1, symbol: str = "SYM") -> pl.DataFrame:
    random = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(random.normal(0, 0.02, count)))
    opened = close * np.exp(random.normal(0, 0.01, count))
    reach = np.abs(random.normal(0, 0.01, (2, count)))
    stamps = [START + timedelta(days=day) for day in range(count)]
    return pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "timestamp": stamps,
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(reach[0]),
            "low": np.minimum(opened, close) * np.exp(-reach[1]),
            "close": close,
            "listing": [date(2020, 1, 1)] * count,
            "known_at": [stamp + LAG for stamp in stamps],
        },
        schema_overrides={"timestamp": pl.Datetime("us", "UTC"), "known_at": pl.Datetime("us", "UTC")},
    ).with_columns(flags=pl.lit(None, dtype=pl.String))


def flag(frame: pl.DataFrame, bar: int) -> pl.DataFrame:
    return frame.with_columns(flags=pl.when(pl.int_range(pl.len()) == bar).then(pl.lit("unexplained_jump")))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 10), bar=st.integers(0, 49))
def test_a_label_runs_from_the_next_open_over_the_horizon(seed: int, horizon: int, bar: int) -> None:
    frame = bars(50, seed)
    row = open_to_open(frame, horizon).row(bar, named=True)
    if bar + 1 + horizon >= 50:
        assert row["label_return"] is None
        assert row["label_end"] is None
        return
    opened = frame["open"]
    assert row["label_return"] == pytest.approx(opened[bar + 1 + horizon] / opened[bar + 1] - 1)
    assert row["label_start"] == frame["timestamp"][bar + 1]
    assert row["label_end"] == frame["known_at"][bar + 1 + horizon]
    assert row["held_until"] == frame["timestamp"][bar + 1 + horizon]
    assert row["up"] == (row["label_return"] > 0)


def test_the_gap_after_the_decision_is_in_no_label() -> None:
    frame = bars(40)
    gapped = frame.with_columns(
        pl.when(pl.int_range(pl.len()) > 30).then(pl.col(name) * 2).otherwise(name) for name in ("open", "close")
    )
    plain, jumped = (open_to_open(part, 2)["label_return"] for part in (frame, gapped))
    assert jumped[30] == pytest.approx(plain[30])
    assert jumped[29] == pytest.approx(2 * (1 + plain[29]) - 1)


def test_a_flagged_bar_of_one_symbol_voids_no_label_of_the_next() -> None:
    flagged, clean = flag(bars(40, symbol="AAA"), 20), bars(40, seed=2, symbol="BBB")
    together = open_to_open(pl.concat([flagged, clean]), 3)
    assert_frame_equal(together.filter(pl.col("symbol") == "BBB"), open_to_open(clean, 3))


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_flagged_bar_voids_every_label_that_holds_it_and_no_other(horizon: int) -> None:
    plain, flagged = open_to_open(bars(40), horizon), open_to_open(flag(bars(40), 20), horizon)
    void = [bar for bar in range(40) if plain["label_return"][bar] is not None and flagged["label_return"][bar] is None]
    assert void == list(range(20 - 1 - horizon, 20))


def test_no_label_crosses_a_listing_or_a_symbol() -> None:
    reused = bars(40).with_columns(
        listing=pl.when(pl.int_range(pl.len()) >= 25).then(date(2020, 1, 26)).otherwise("listing")
    )
    both = pl.concat([reused, bars(40, 2, symbol="ZZZ")])
    labels = open_to_open(both, 4)
    own = open_to_open(reused.slice(25), 4)
    assert labels["label_return"].is_null().arg_true().to_list() == [*range(20, 25), *range(35, 40), *range(75, 80)]
    assert labels.slice(25, 15).equals(own)


def test_scale_and_rivals_are_known_at_the_decision() -> None:
    frame = bars(80)
    shaken = frame.with_columns(
        pl.when(pl.int_range(pl.len()) > 60).then(pl.col(name) * 1.5).otherwise(name) for name in ("open", "close")
    )
    known = ["scale", "past_return", "momentum_return"]
    assert open_to_open(shaken, 5).head(61).select(known).equals(open_to_open(frame, 5).head(61).select(known))


def test_the_scaled_return_is_in_units_of_the_trailing_volatility() -> None:
    frame = bars(60)
    row = open_to_open(frame, 4).row(50, named=True)
    deviation = np.diff(np.log(frame["close"].to_numpy()))[30:50].std(ddof=1)
    assert row["scale"] == pytest.approx(deviation * 2)
    assert row["scaled_return"] == pytest.approx(row["label_return"] / row["scale"])
    assert open_to_open(frame, 4)["scaled_return"].head(20).null_count() == 20


def test_a_price_that_stands_still_has_no_scaled_return() -> None:
    still = bars(60).with_columns(close=pl.lit(10.0), open=pl.lit(10.0))
    labels = open_to_open(still, 1)
    assert labels["scaled_return"].null_count() == 60
    assert labels["up"].drop_nulls().any() is False


@pytest.mark.parametrize("growth", [1.0, 1.001, 1.03])
def test_a_price_that_grows_like_clockwork_has_no_scaled_return(growth: float) -> None:
    steady = pl.Series(0.7 * growth ** np.arange(60))
    labels = open_to_open(bars(60).with_columns(open=steady, close=steady), 3)
    assert labels["label_return"].null_count() == 4
    assert labels["scaled_return"].null_count() == 60


def test_the_return_is_total_dividends_included() -> None:
    flat = bars(30).with_columns(open=pl.lit(100.0), high=pl.lit(100.0), low=pl.lit(100.0), close=pl.lit(100.0))
    traded = flat.with_columns(
        pl.when(pl.int_range(pl.len()) >= 15).then(99.0).otherwise(100.0).alias(name)
        for name in ("open", "high", "low", "close")
    ).with_columns(volume=pl.lit(1e6))
    paid = pl.DataFrame(
        {"symbol": ["SYM"], "ex_date": [date(2020, 1, 16)], "kind": ["dividend"], "value": [1.0]}, schema=dict(ACTIONS)
    )
    labels = open_to_open(adjusted(traded, paid), 3)["label_return"].drop_nulls()
    assert labels.abs().max() == pytest.approx(0.0, abs=1e-12)


def test_the_columns_that_are_named_are_those_of_the_whole() -> None:
    frame, named = pl.concat([bars(40), bars(30, symbol="OTH")]), ["label_end", "symbol", "scaled_return"]
    assert_frame_equal(open_to_open(frame, 3, named), open_to_open(frame, 3).select(named), check_exact=True)


def test_a_missing_column_and_a_horizon_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="known_at"):
        open_to_open(bars(10).drop("known_at"), 1)
    with pytest.raises(ValueError, match="at least 1"):
        open_to_open(bars(10), 0)


# -- laws of every label ----------------------------------------------------------------------------------------------

LABELS = ["label_return", "label_start", "label_end", "held_until", "scaled_return", "up", "side"]
BARRIER = ["barrier", "exit_time", "exit_return", "held_until"]


def every_label(frame: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Both kinds of label of each bar; what both have is of the barrier under another name."""
    plain = open_to_open(frame, horizon).with_columns(side=side(0.4))
    touched = triple_barrier(frame, horizon, 0.8, 0.6).select("symbol", "timestamp", *BARRIER)
    return plain.join(
        touched.rename({"held_until": "barrier_until"}), on=["symbol", "timestamp"], maintain_order="left"
    )


def troubled(seed: int) -> pl.DataFrame:
    """Two symbols, one of which is another company half-way, each with halts and a flagged bar."""
    random = np.random.default_rng(seed)
    first = bars(90, seed).with_columns(
        listing=pl.when(pl.int_range(pl.len()) >= 45).then(date(2020, 2, 15)).otherwise("listing")
    )
    both = [flag(part, int(random.integers(90))) for part in (first, bars(90, seed + 1, symbol="ZZZ"))]
    return pl.concat(both).filter(pl.Series(random.random(180) < 0.9))


def assert_same_labels(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Instants and classes to the bit, numbers to 1e-9."""
    assert_frame_equal(found, expected, check_exact=False, rel_tol=1e-9, abs_tol=1e-12)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 12), first=st.integers(0, 60), count=st.integers(30, 90))
def test_labels_of_a_chunk_are_those_of_the_whole_where_its_bars_reach(
    seed: int, horizon: int, first: int, count: int
) -> None:
    frame = troubled(seed)
    chunk = (
        frame.group_by("symbol", maintain_order=True)
        .agg(pl.all().slice(first, count))
        .explode(pl.all().exclude("symbol"))
    )
    chunk = chunk.select(frame.columns)
    whole, part = every_label(frame, horizon), every_label(chunk, horizon)
    warm = (
        part.group_by("symbol", maintain_order=True)
        .agg(pl.col("timestamp").slice(21 if first else 0))
        .explode("timestamp")
    )
    place = ["symbol", "timestamp"]
    reached = part.join(warm.drop_nulls(), on=place, how="semi", maintain_order="left").filter(
        pl.col("label_return").is_not_null()
    )
    assert_same_labels(reached, reached.select(place).join(whole, on=place, maintain_order="left").select(part.columns))
    last = chunk.group_by("symbol").agg(known=pl.col("known_at").max())
    known = whole.join(chunk, on=place, how="semi", maintain_order="left").join(
        last, on="symbol", maintain_order="left"
    )
    assert known.filter(pl.col("label_end") <= pl.col("known")).height == part["label_return"].count()


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 12), by=st.floats(1e-4, 1e4))
def test_scaling_prices_changes_no_label(seed: int, horizon: int, by: float) -> None:
    frame = troubled(seed)
    scaled = frame.with_columns(pl.col("open", "high", "low", "close") * by)
    assert_same_labels(every_label(scaled, horizon), every_label(frame, horizon))


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 12))
def test_every_kind_of_label_stays_in_its_listing_and_is_there_for_the_same_bars(seed: int, horizon: int) -> None:
    frame = troubled(seed)
    whole = every_label(frame, horizon)
    alone = [every_label(part, horizon) for _, part in frame.group_by("symbol", "listing", maintain_order=True)]
    assert_same_labels(whole, pl.concat(alone))
    for name in ("side", "barrier", "exit_time", "exit_return", "barrier_until"):
        assert whole[name].is_null().equals(whole["scaled_return"].is_null()), name


# -- buy, hold, sell --------------------------------------------------------------------------------------------------


def test_a_side_is_what_the_scaled_return_says_beyond_the_threshold() -> None:
    scaled = pl.DataFrame({"scaled_return": [-2.0, -0.4, -0.1, 0.0, 0.4, 0.41, None]})
    assert scaled.select(side(0.4)).to_series().to_list() == ["sell", "hold", "hold", "hold", "hold", "buy", None]
    assert scaled.select(side(0.0)).to_series().to_list() == ["sell"] * 3 + ["hold", "buy", "buy", None]


def test_a_quiet_and_a_wild_symbol_have_the_same_sides() -> None:
    quiet = bars(200).with_columns(pl.col("open", "close").log() * 0.1).with_columns(pl.col("open", "close").exp())
    sides = [open_to_open(part, 1).select(side(0.4)).to_series() for part in (quiet, bars(200))]
    assert (sides[0] != sides[1]).sum() <= 2
    assert sides[0].n_unique() == 4


def test_the_columns_of_a_classifier_are_sell_hold_buy() -> None:
    found = open_to_open(bars(200), 1).select(side(0.4)).to_series()
    assert found.drop_nulls().to_physical().unique().sort().to_list() == [0, 1, 2]
    assert found.drop_nulls().cast(pl.String).unique().sort().to_list() == ["buy", "hold", "sell"]


def test_a_threshold_below_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="would overlap"):
        side(-0.1)


# -- triple barrier ---------------------------------------------------------------------------------------------------

#: Before the decision closes go up and down by the same factor, so that the scale of 4 bars is 0.2.
STEP = 0.1 / math.sqrt(20 / 19)

#: With that scale and an entry at 100: barriers at 120 and 80.
PROFIT, STOP = math.log(1.2) / 0.2, -math.log(0.8) / 0.2

Bar = tuple[float, float, float]  # open, high, low
CALM: Bar = (100.0, 105.0, 95.0)


def decided(*after: Bar) -> pl.DataFrame:
    """Twenty-one bars of known volatility, the last of them the decision, then these."""
    close = [100 * math.exp(STEP * (number % 2)) for number in range(21)]
    before = pl.DataFrame({"open": close, "high": close, "low": close, "close": close})
    then = pl.DataFrame(after, schema=["open", "high", "low"], orient="row").with_columns(close="open")
    stamps = pl.Series([START + timedelta(days=day) for day in range(21 + len(after))], dtype=TIME)
    return pl.concat([before, then]).with_columns(
        symbol=pl.lit("SYM"),
        timestamp=stamps,
        listing=pl.lit(date(2020, 1, 1)),
        known_at=stamps.dt.offset_by("21h30m"),
        flags=pl.lit(None, pl.String),
    )


@pytest.mark.parametrize(
    ("after", "barrier", "bar", "price", "until"),
    [
        pytest.param([CALM] * 4 + [(103, 110, 99)], "time", 5, 103, 5, id="neither: left at the open after h bars"),
        pytest.param([CALM, (101, 121, 99)] + [CALM] * 3, "profit", 2, 120, 3, id="profit inside the second bar"),
        pytest.param([CALM, CALM, (99, 101, 79)] + [CALM] * 2, "stop", 3, 80, 4, id="stop inside the third bar"),
        pytest.param([(100, 120, 95)] + [CALM] * 4, "profit", 1, 120, 2, id="reached exactly, in the bar of the entry"),
        pytest.param([CALM, (100, 125, 75)] + [CALM] * 3, "stop", 2, 80, 3, id="both in one bar: the stop first"),
        pytest.param(
            [CALM, (70, 90, 65)] + [CALM] * 3, "stop", 2, 70, 2, id="a gap through the stop fills at the open"
        ),
        pytest.param([CALM, (80, 90, 79)] + [CALM] * 3, "stop", 2, 80, 2, id="an open on the stop fills there"),
        pytest.param(
            [CALM, (130, 131, 70)] + [CALM] * 3, "profit", 2, 130, 2, id="a gap through the profit comes first"
        ),
        pytest.param([CALM] * 4 + [(70, 130, 60)], "time", 5, 70, 5, id="the last open is the end of the horizon"),
        pytest.param([CALM, (99, 101, 79), (130, 140, 120), CALM, CALM], "stop", 2, 80, 3, id="the first touch counts"),
    ],
)
def test_barriers_of_five_bars_on_paper(after: list[Bar], barrier: str, bar: int, price: float, until: int) -> None:
    frame = decided(*after, CALM)
    row = triple_barrier(frame, 4, PROFIT, STOP).row(20, named=True)
    assert open_to_open(frame, 4)["scale"][20] == pytest.approx(0.2, rel=1e-12)
    assert row["barrier"] == barrier
    assert row["exit_return"] == pytest.approx(price / 100 - 1)
    assert row["exit_time"] == frame["timestamp"][20 + bar]
    assert row["held_until"] == frame["timestamp"][20 + until]
    assert (row["label_start"], row["label_end"]) == (frame["timestamp"][21], frame["known_at"][25])


def test_a_flagged_bar_after_the_exit_voids_the_label_as_it_voids_that_of_the_whole_horizon() -> None:
    frame = decided(CALM, (101, 121, 99), CALM, CALM, CALM, CALM)
    assert triple_barrier(frame, 4, PROFIT, STOP)["barrier"][20] == "profit"
    assert triple_barrier(flag(frame, 24), 4, PROFIT, STOP)["barrier"][20] is None
    assert triple_barrier(frame.head(25), 4, PROFIT, STOP)["barrier"][20] is None


def by_hand(frame: pl.DataFrame, row: int, scale: float, horizon: int) -> tuple[str, float, Any]:
    """One position, bar after bar."""
    prices = frame.select("open", "high", "low", "timestamp").rows()
    entry = prices[row + 1][0]
    above, below = entry * math.exp(0.8 * scale), entry * math.exp(-0.6 * scale)
    for opened, high, low, stamp in prices[row + 1 : row + 1 + horizon]:
        for barrier, met in (("profit", opened >= above), ("stop", opened <= below)):
            if met:
                return barrier, opened / entry - 1, stamp
        if low <= below:
            return "stop", below / entry - 1, stamp
        if high >= above:
            return "profit", above / entry - 1, stamp
    opened, _, _, stamp = prices[row + 1 + horizon]
    return "time", opened / entry - 1, stamp


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 12))
def test_barriers_are_those_of_one_position_after_the_other(seed: int, horizon: int) -> None:
    frame = troubled(seed)
    scale = open_to_open(frame, horizon)["scale"]
    for row, found in enumerate(triple_barrier(frame, horizon, 0.8, 0.6).iter_rows(named=True)):
        if found["barrier"] is None:
            continue
        barrier, earned, stamp = by_hand(frame, row, scale[row], horizon)
        assert (found["barrier"], found["exit_time"]) == (barrier, stamp)
        assert found["exit_return"] == pytest.approx(earned, rel=1e-9, abs=1e-12)


def test_barriers_so_far_off_that_nothing_meets_them_are_the_open_to_open_return() -> None:
    plain, touched = open_to_open(bars(80), 3), triple_barrier(bars(80), 3, 19.0, 19.0)
    met = touched["barrier"].drop_nulls()
    assert (met.len(), met.unique().to_list()) == (80 - 20 - 4, ["time"])
    kept = plain["scaled_return"].is_not_null()
    assert_frame_equal(
        touched.filter(kept).select(label_return="exit_return", held_until="held_until"),
        plain.filter(kept).select("label_return", "held_until"),
    )


def test_barriers_at_the_entry_and_bars_without_a_range_are_refused() -> None:
    for profit, stop in ((0.0, 1.0), (1.0, -1.0)):
        with pytest.raises(ValueError, match="above 0"):
            triple_barrier(bars(40), 1, profit, stop)
    with pytest.raises(ValueError, match="high"):
        triple_barrier(bars(40).drop("high"), 1, 1.0, 1.0)


# -- success of patterns ----------------------------------------------------------------------------------------------


def test_an_event_is_right_if_the_next_opens_go_its_way() -> None:
    opened = [10.0, 10.0, 11.0, 11.0, 9.0, 9.0, 12.0, 12.0, 12.0, 12.0]
    frame = bars(10).with_columns(open=pl.Series(opened))
    said = [(0, "up", 1), (1, "doji", 0), (1, "up", 1), (2, "down", -1), (3, "up", 1), (5, "down", -1), (8, "up", 1)]
    found = pl.DataFrame(
        [("SYM", frame["timestamp"][bar], name, way, 0.5) for bar, name, way in said],
        schema={
            "symbol": pl.String,
            "timestamp": TIME,
            "pattern": pl.String,
            "direction": pl.Int8,
            "strength": pl.Float32,
        },
        orient="row",
    )
    told = pattern_success(found, open_to_open(frame, 1))
    # from the open of the next bar to that of the one after: 10 → 11, 11 → 11, 11 → 9, 9 → 9, 12 → 12, not known yet
    assert told["success"].to_list() == [True, None, False, True, False, False, None]
    assert told["label_return"].round(6).to_list() == [0.1, 0.0, 0.0, -0.181818, 0.0, 0.0, None]
    assert told.select(found.columns).equals(found)
    assert told["known_at"].to_list() == [frame["known_at"][bar] for bar, _, _ in said]
    assert told["label_end"][0] == frame["known_at"][2]


def test_success_at_any_horizon_is_that_of_the_table_of_outcomes() -> None:
    frame = bars(300)
    found = events(frame, PatternParameters())
    table = outcomes(found, frame)
    for horizon in HORIZONS:
        told = pattern_success(table, open_to_open(frame, horizon))
        assert told["success"].equals(table[f"success_{horizon}"].alias("success"))
        assert told["label_return"].equals(table[f"return_{horizon}"].alias("label_return"))
        assert told["success"].drop_nulls().n_unique() == 2
    assert pattern_success(found, open_to_open(frame, 7)).height == found.height


# -- how long a regime must last --------------------------------------------------------------------------------------


def lived(**spells: list[tuple[str | None, int]]) -> pl.DataFrame:
    """The regimes of symbols by their spells."""
    rows = [
        (symbol, START + timedelta(days=day), regime)
        for symbol, parts in spells.items()
        for day, regime in enumerate([regime for regime, bars in parts for _ in range(bars)])
    ]
    return pl.DataFrame(rows, schema={"symbol": pl.String, "timestamp": TIME, "regime": pl.String}, orient="row")


def test_spells_are_counted_over_the_pool_and_end_with_their_symbol() -> None:
    pool = lived(
        A=[(None, 9), ("trending", 4), ("volatile", 2), ("trending", 10)],
        B=[("trending", 6), (None, 1), ("trending", 8), ("sideways", 3)],
    )
    expected = [("sideways", 1, 3.0), ("trending", 4, 7.0), ("volatile", 1, 2.0)]
    assert regime_spells(pool).rows() == expected
    assert regime_spells(pool.sample(fraction=1.0, shuffle=True, seed=1)).rows() == expected


@pytest.mark.parametrize(
    ("horizon", "refused"),
    [(1, {"consolidation"}), (2, {"consolidation", "volatile"}), (3, {"consolidation", "volatile", "sideways"})],
)
def test_a_regime_is_trained_for_labels_of_half_its_median_spell_at_most(horizon: int, refused: set[str]) -> None:
    pool = lived(A=[("trending", 7), ("volatile", 2), ("trending", 7), ("sideways", 4)], B=[("volatile", 2)])
    reasons = untrainable_regimes(pool, horizon)
    assert set(reasons) == refused
    assert reasons["consolidation"] == "no bar of the pool is consolidation"
    if horizon == 2:
        assert "2 bars is longer than half the median spell of volatile (2 bars)" in reasons["volatile"]


def test_without_regimes_only_the_model_of_all_bars_is_trained() -> None:
    assert set(untrainable_regimes(lived(A=[(None, 5)]), 1)) == set(REGIMES) - {"all"}
