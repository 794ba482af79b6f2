"""Features are definitions: equal to the literature's, causal, dimensionless, and the same in any chunks.

The bars here are random walks with gaps in level and scale; the last tests run on real bars.
"""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant.indicators import DEFAULT, Feature, FeatureSet, Series, compute
from alpha_assets.quant.schema import OHLC, TIME


def walk(bars: int, seed: int, *, symbol: str = "SYM", start: float = 100.0, volume: float = 1e6) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    close = start * np.exp(np.cumsum(random.standard_t(4, bars) * 0.012))
    opened = close * np.exp(random.normal(0, 0.005, bars))
    spread = np.abs(random.normal(0, 0.006, (2, bars)))
    return pl.DataFrame(
        {
            "symbol": [symbol] * bars,
            "timestamp": np.datetime64("2015-01-01", "us") + np.arange(bars) * np.timedelta64(1, "D"),
            "open": opened,
            "high": np.maximum(opened, close) * (1 + spread[0]),
            "low": np.minimum(opened, close) * (1 - spread[1]),
            "close": close,
            "volume": volume * np.exp(random.normal(0, 0.4, bars)),
        }
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), listing=pl.date(2015, 1, 1))


def worst(left: pl.DataFrame, right: pl.DataFrame, sd_of: pl.DataFrame) -> dict[str, float]:
    """Largest difference of each feature in its standard deviations; infinite where nulls differ."""
    differences = {}
    for name in DEFAULT.columns:
        if not (left[name].is_null() == right[name].is_null()).all():
            differences[name] = float("inf")
            continue
        gap = (left[name] - right[name]).abs().max() or 0.0
        differences[name] = float(gap) / float(sd_of[name].std())
    return differences


def test_every_feature_is_a_float_column_beside_its_key() -> None:
    table = compute(walk(120, 1), DEFAULT)
    assert table.columns == ["symbol", "timestamp", *DEFAULT.columns]
    assert table.schema["timestamp"] == TIME
    assert all(table.schema[name] == pl.Float64 for name in DEFAULT.columns)
    assert not any(table[name].is_nan().any() for name in DEFAULT.columns)


@pytest.mark.parametrize("feature", DEFAULT.features, ids=lambda feature: feature.name)
def test_a_feature_is_null_during_its_declared_warm_up_and_no_longer(feature: Feature) -> None:
    values = compute(walk(120, 2), FeatureSet("one", (feature,)))[feature.name]
    assert values[: feature.warm_up].null_count() == feature.warm_up
    assert values[feature.warm_up :].null_count() == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cut=st.integers(410, 690), tail=st.integers(1, 8))
def test_a_tail_of_the_declared_warm_up_gives_what_a_full_rebuild_gives(seed: int, cut: int, tail: int) -> None:
    bars = walk(700, seed)
    full = compute(bars, DEFAULT)
    part = compute(bars.slice(cut - DEFAULT.warm_up, DEFAULT.warm_up + tail), DEFAULT)
    differences = worst(part.tail(tail), full.slice(cut, tail), sd_of=full)
    assert max(differences.values()) <= 1e-9, differences


@pytest.mark.parametrize("feature", DEFAULT.features, ids=lambda feature: feature.name)
def test_a_feature_forgets_within_its_declared_memory(feature: Feature) -> None:
    for seed in range(5):
        bars = walk(600, seed)
        full = compute(bars, DEFAULT)[feature.name]
        part = compute(bars.slice(550 - feature.memory, feature.memory + 1), FeatureSet("one", (feature,)))
        assert abs(part[feature.name][-1] - full[550]) <= 1e-9 * float(full.std())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), bar=st.integers(60, 199))
def test_no_feature_looks_ahead(seed: int, bar: int) -> None:
    bars = walk(200, seed)
    full = compute(bars, DEFAULT)
    differences = worst(compute(bars.head(bar + 1), DEFAULT), full.head(bar + 1), sd_of=full)
    assert max(differences.values()) <= 1e-12, differences


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    price=st.sampled_from([1e-15, 1e-9, 1e-3, 0.25, 7.0, 1e6]),
    volume=st.floats(1e-3, 1e6, allow_subnormal=False),
)
def test_scaling_prices_and_volume_changes_no_feature(seed: int, price: float, volume: float) -> None:
    bars = walk(200, seed)
    scaled = bars.with_columns(pl.col(*OHLC) * price, pl.col("volume") * volume)
    full = compute(bars, DEFAULT)
    assert max(worst(compute(scaled, DEFAULT), full, sd_of=full).values()) <= 1e-8


def test_nothing_crosses_from_one_listing_or_symbol_to_another() -> None:
    first, second = walk(150, 3), walk(150, 4, start=0.02)
    reused = pl.concat(
        [first, second.with_columns(pl.col("timestamp").dt.offset_by("3y"), listing=pl.date(2018, 1, 1))]
    )
    other = walk(150, 5, symbol="OTHER")
    table = compute(pl.concat([other, reused]), DEFAULT)
    alone = pl.concat([compute(part, DEFAULT) for part in (other, first, second)])
    assert table.select(DEFAULT.columns).equals(alone.select(DEFAULT.columns))


def test_the_order_of_the_rows_does_not_matter() -> None:
    bars = pl.concat([walk(80, 6, symbol="B"), walk(80, 7, symbol="A")])
    assert compute(bars.sample(fraction=1.0, shuffle=True, seed=1), DEFAULT).equals(compute(bars, DEFAULT))


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), 0.0, -3.0])
def test_a_price_that_is_no_price_is_refused_by_symbol_and_time(bad: float | None) -> None:
    bars = walk(60, 8, symbol="BAD").with_columns(
        low=pl.when(pl.int_range(pl.len()) == 40).then(pl.lit(bad)).otherwise("low")
    )
    with pytest.raises(ValueError, match=r"BAD: the bar of 2015-02-10"):
        compute(bars, DEFAULT)


def test_features_equal_talib_on_ordinary_prices() -> None:
    bars = walk(400, 9)
    opened, high, low, close, _ = (bars[name].to_numpy() for name in (*OHLC, "volume"))
    upper, middle, lower = talib.BBANDS(close, 20, 2, 2)
    expected = {
        "rsi_14": talib.RSI(close, 14) / 100,
        "macd_histogram": talib.MACD(close, 12, 26, 9)[2] / close,
        "natr_14": talib.NATR(high, low, close, 14) / 100,
        "bollinger_position": (close - middle) / ((upper - lower) / 2),
        "bollinger_width": (upper - lower) / middle,
        "mean_ratio_50": np.log(close / talib.SMA(close, 50)),
    }
    table = compute(bars, DEFAULT)
    for name, values in expected.items():
        np.testing.assert_allclose(
            table[name].fill_null(np.nan).to_numpy(), values, rtol=1e-8, atol=1e-10, err_msg=name
        )
    assert table["return_5"][100] == pytest.approx(np.log(close[100] / close[95]))
    assert table["gap"][100] == pytest.approx(np.log(opened[100] / close[99]))
    assert table["volatility_20"][100] == pytest.approx(np.diff(np.log(close))[80:100].std(ddof=1))


def test_a_flat_stretch_and_a_day_without_volume_are_null_not_noise() -> None:
    bars = walk(100, 10).with_columns(pl.lit(0.1).alias(name) for name in OHLC).with_columns(volume=pl.lit(0.0))
    last = compute(bars, DEFAULT).row(-1, named=True)
    undefined = {"bollinger_position", "volatility_ratio", "close_in_bar", "close_in_range_20", "volume_ratio_20"}
    assert {name for name in DEFAULT.columns if last[name] is None} == undefined
    assert last["return_20"] == 0.0
    assert last["natr_14"] == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("bars", [0, 1, 2, 13, 14, 15, 34])
def test_short_series_have_nulls_and_no_error(bars: int) -> None:
    table = compute(walk(bars, 11), DEFAULT)
    assert table.height == bars
    assert table["mean_ratio_50"].null_count() == bars


def test_the_hash_covers_names_parameters_versions_and_order_and_nothing_else() -> None:
    rsi, gap = (next(f for f in DEFAULT.features if f.name == name) for name in ("rsi_14", "gap"))
    base = FeatureSet("a", (rsi, gap)).hash
    assert FeatureSet("b", (replace(rsi, doc="other words"), gap)).hash == base
    others = [
        (gap, rsi),
        (rsi,),
        (replace(rsi, version=2), gap),
        (replace(rsi, parameters={"bars": 15}), gap),
        (replace(rsi, name="rsi"), gap),
    ]
    assert len({FeatureSet("a", features).hash for features in others} | {base}) == len(others) + 1


def test_two_features_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="gap"):
        FeatureSet("twice", tuple(f for f in DEFAULT.features if f.name == "gap") * 2)


def test_a_feature_sees_one_listing_as_plain_arrays() -> None:
    gap = next(f for f in DEFAULT.features if f.name == "gap")
    series = Series(*(np.array([1.0, 2.0]) for _ in range(5)))
    assert np.isnan(gap.values(series)[0])
    assert gap.values(series)[1] == pytest.approx(np.log(2.0))


@pytest.mark.parametrize("symbols", [("AAPL", "AMD", "BBY", "JPM", "XOM")])
def test_real_bars_give_the_same_features_from_a_tail(shared_data: Path, symbols: tuple[str, ...]) -> None:
    bars = (
        pl.read_parquet(shared_data / "sp500_daily_2013_2018.parquet")
        .filter(pl.col("symbol").is_in(symbols))
        .drop_nulls()
        .with_columns(pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
        .with_columns(listing=pl.lit(date(2013, 2, 8)))
    )
    full = compute(bars, DEFAULT)
    tail = compute(bars.group_by("symbol", maintain_order=True).tail(DEFAULT.warm_up + 5), DEFAULT)
    last = (frame.group_by("symbol", maintain_order=True).tail(5) for frame in (tail, full))
    assert max(worst(*last, sd_of=full).values()) <= 1e-9
