"""A label is what could have been earned: open to open, inside one listing, with nothing flagged inside."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.schema import ACTIONS

START = datetime(2020, 1, 1, tzinfo=UTC)
LAG = timedelta(hours=21, minutes=30)


def bars(count: int, seed: int = 1, symbol: str = "SYM") -> pl.DataFrame:
    random = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(random.normal(0, 0.02, count)))
    stamps = [START + timedelta(days=day) for day in range(count)]
    return pl.DataFrame(
        {
            "symbol": [symbol] * count,
            "timestamp": stamps,
            "open": close * np.exp(random.normal(0, 0.01, count)),
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


def test_a_missing_column_and_a_horizon_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="known_at"):
        open_to_open(bars(10).drop("known_at"), 1)
    with pytest.raises(ValueError, match="at least 1"):
        open_to_open(bars(10), 0)
