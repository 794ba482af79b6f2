"""The default features are definitions: equal to the literature's, causal, dimensionless, the same in any chunks.

The bars here are random walks on real sessions with gaps in level and scale; the last tests run on real bars.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats

from alpha_assets.quant.alpha158 import ALPHA158
from alpha_assets.quant.feature_set import Feature, FeatureSet, compute
from alpha_assets.quant.indicators import BARS_A_PERIOD, GROUPS, SMOOTHER_MEMORY, default_set, filtered, market_column
from alpha_assets.quant.parameters import FeatureParameters
from alpha_assets.quant.schema import OHLC, TIME
from alpha_assets.quant.timeframes import with_timeframes
from alpha_assets_tests.quant.walks import walk

MARKET = market_column("SPY")
CORE = default_set("1d", FeatureParameters(benchmark="SPY"))
MARKETS = ("XNYS", "24/7")


def seen(bars: pl.DataFrame, calendar: str = "XNYS", interval: str = "1d") -> pl.DataFrame:
    """The bars with everything that the default set reads; the benchmark's return is noise of its own."""
    if MARKET not in bars.columns:
        noise = np.random.default_rng(7).normal(0, 0.01, bars.height)
        bars = bars.with_columns(pl.Series(MARKET, noise))
    return with_timeframes(bars, interval, dict.fromkeys(bars["symbol"].unique(), calendar))


def worst(left: pl.DataFrame, right: pl.DataFrame, sd_of: pl.DataFrame, columns: Sequence[str]) -> dict[str, float]:
    """Largest difference of each feature in its standard deviations; infinite where nulls differ."""
    differences = {}
    for name in columns:
        if not (left[name].is_null() == right[name].is_null()).all():
            differences[name] = float("inf")
            continue
        gap = (left[name] - right[name]).abs().max() or 0.0
        deviation = float(sd_of[name].std() or 0.0)
        differences[name] = float(gap) / deviation if deviation else float(gap)
    return differences


def excess(differences: dict[str, float], bound: float) -> dict[str, float]:
    return {name: value for name, value in differences.items() if value > bound}


#: Every set that settings can ask for.
SETS = [default_set(interval) for interval in BARS_A_PERIOD]
SETS += [default_set("1d", FeatureParameters(denoiser=name, benchmark="SPY")) for name in ("ema", "kalman")]
SETS.append(ALPHA158)


def test_the_set_has_at_least_sixty_columns_each_in_a_named_group() -> None:
    assert len(CORE.features) >= 60
    assert {feature.group for feature in CORE.features} == set(GROUPS)


def test_every_feature_of_every_set_has_a_formula_and_says_where_it_is_from() -> None:
    """A year of a paper or book, a library, or that it is ours."""
    for feature in (feature for chosen in SETS for feature in chosen.features):
        assert feature.doc.strip(), feature.name
        assert re.search(r"\((18|19|20)\d\d\)|TA-Lib|qlib|^ours", feature.source), feature.name


def test_the_window_of_every_feature_is_full_at_its_first_value() -> None:
    for feature in (feature for chosen in SETS for feature in chosen.features):
        assert 1 <= feature.window <= feature.warm_up + 1, feature.name


def test_what_a_window_sees_is_its_bars_and_at_most_the_close_before_them() -> None:
    windows = [
        feature
        for chosen in SETS
        for feature in chosen.features
        if feature.memory == feature.warm_up and feature.group != "higher timeframe"
    ]
    assert len(windows) > 600
    for feature in windows:
        assert feature.memory in (feature.window - 1, feature.window), feature.name


def test_the_window_of_a_higher_timeframe_is_that_of_its_periods() -> None:
    for interval, bars in BARS_A_PERIOD.items():
        higher = [feature for feature in default_set(interval).features if feature.group == "higher timeframe"]
        assert {f.name: f.window for f in higher} == {f.name: int(f.parameters["periods"]) * bars for f in higher}


@pytest.mark.parametrize("feature", CORE.features, ids=lambda feature: feature.name)
def test_a_feature_is_null_during_its_declared_warm_up_and_not_after(feature: Feature) -> None:
    values = compute(seen(walk(420, 2)), FeatureSet("one", (feature,)))[feature.name]
    assert values[: feature.warm_up].null_count() == feature.warm_up
    assert values[feature.warm_up :].null_count() == 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    cut=st.integers(CORE.memory + 10, 790),
    tail=st.integers(1, 8),
    calendar=st.sampled_from(MARKETS),
)
def test_a_tail_of_the_declared_memory_gives_what_a_full_rebuild_gives(
    seed: int, cut: int, tail: int, calendar: str
) -> None:
    bars = seen(walk(800, seed, calendar=calendar), calendar)
    full = compute(bars, CORE)
    part = compute(bars.slice(cut - CORE.memory, CORE.memory + tail), CORE, after={"SYM": bars["timestamp"][cut - 1]})
    assert part.height == tail
    assert not excess(worst(part, full.slice(cut, tail), full, CORE.columns), 1e-9)


#: The bar at which something happens in the histories below.
SHOCK = 150


def fallen(bars: pl.DataFrame, to: float, within: int = 1) -> pl.DataFrame:
    """Prices times ``to`` from ``SHOCK`` on, after a fall of so many bars."""
    share = ((pl.int_range(pl.len()) - SHOCK + within) / within).clip(0, 1)
    return bars.with_columns(pl.col(*OHLC) * to**share)


def calmed(bars: pl.DataFrame, share: float, first: int) -> pl.DataFrame:
    """Every move from bar ``first`` on shrunk to ``share`` of itself."""
    level = bars["close"][first]
    shrunk = (level * (pl.col(name) / level) ** share for name in OHLC)
    return bars.with_columns(
        pl.when(pl.int_range(pl.len()) < first).then(name).otherwise(one).alias(name)
        for name, one in zip(OHLC, shrunk, strict=True)
    )


#: What a recursion remembers longest, each with the bound that is declared for it.
HISTORIES: Mapping[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], float]] = {
    "as ever": (lambda bars: bars, 1e-9),
    "a coin of a thousandth of the moves leaves its peg": (lambda bars: fallen(calmed(bars, 1e-3, 0), 0.88), 1e-9),
    "a fall of 99 % in one bar": (lambda bars: fallen(bars, 0.01), 1e-9),
    "a hundredth of the volatility": (lambda bars: calmed(bars, 0.01, SHOCK), 1e-9),
    "a fall to 1 / 10,000 in ten bars": (lambda bars: fallen(bars, 1e-4, within=10), 1e-9),
    "a fall to a millionth in one bar": (lambda bars: fallen(bars, 1e-6), 3e-8),
}


@pytest.mark.parametrize("denoiser", ["none", "ema", "kalman"])
@pytest.mark.parametrize("history", HISTORIES)
def test_a_feature_forgets_within_its_declared_memory(history: str, denoiser: str) -> None:
    chosen = default_set("1d", FeatureParameters(denoiser=denoiser, benchmark="SPY"))
    happens, bound = HISTORIES[history]
    bars = seen(happens(walk(SHOCK + chosen.memory + 1, len(history))))
    full = compute(bars, chosen)
    for memory in {feature.memory for feature in chosen.features}:
        alike = FeatureSet("alike", tuple(feature for feature in chosen.features if feature.memory == memory))
        for before in (0, 1, 14, 27):
            last = SHOCK - before + memory
            part = compute(bars.slice(SHOCK - before, memory + 1), alike).tail(1)
            assert not excess(worst(part, full.slice(last, 1), full, alike.columns), bound), before


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bar=st.integers(60, 399),
    calendar=st.sampled_from(MARKETS),
    denoiser=st.sampled_from(["none", "ema", "kalman"]),
)
def test_no_feature_looks_ahead(seed: int, bar: int, calendar: str, denoiser: str) -> None:
    chosen = default_set("1d", FeatureParameters(denoiser=denoiser, benchmark="SPY"))
    bars = walk(400, seed, calendar=calendar).with_columns(pl.lit(0.001).alias(MARKET))
    full = compute(seen(bars, calendar), chosen)
    known = compute(seen(bars.head(bar + 1), calendar), chosen)
    assert not excess(worst(known, full.head(bar + 1), full, chosen.columns), 1e-12)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    price=st.sampled_from([1e-15, 1e-9, 1e-3, 1 / 7, 0.25, 7.0, 1e6]),
    volume=st.floats(1e-9, 1e9, allow_subnormal=False),
    denoiser=st.sampled_from(["none", "ema", "kalman"]),
)
def test_scaling_prices_and_volume_changes_no_feature(seed: int, price: float, volume: float, denoiser: str) -> None:
    chosen = default_set("1d", FeatureParameters(denoiser=denoiser, benchmark="SPY"))
    bars = seen(walk(400, seed))
    scaled = bars.with_columns(pl.col(*OHLC) * price, pl.col("volume") * volume)
    full = compute(bars, chosen)
    assert not excess(worst(compute(scaled, chosen), full, full, chosen.columns), 1e-8)


def test_prices_in_ticks_scale_as_well() -> None:
    """Equal prices, equal typical prices and flat stretches are where rounding could decide."""
    bars = walk(600, 12)
    ticks = bars.with_columns((pl.col(*OHLC) / 2).round(0) * 0.01 + 1)
    ticks = seen(ticks.with_columns(high=pl.max_horizontal(OHLC), low=pl.min_horizontal(OHLC)))
    full = compute(ticks, CORE)
    for factor in (1 / 7, 1 / 3, 1e-4, 28.0):
        scaled = compute(ticks.with_columns(pl.col(*OHLC) * factor), CORE)
        assert not excess(worst(scaled, full, full, CORE.columns), 1e-8), factor


def test_features_equal_talib_on_ordinary_prices() -> None:
    bars = walk(500, 9)
    opened, high, low, close, volume = (bars[name].to_numpy() for name in (*OHLC, "volume"))
    upper, middle, lower = talib.BBANDS(close, 20, 2, 2)
    slow_k, slow_d = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    aroon_down, aroon_up = talib.AROON(high, low, 25)
    expected = {
        "rsi_14": talib.RSI(close, 14) / 100,
        "macd_line": talib.MACD(close, 12, 26, 9)[0] / close,
        "macd_histogram": talib.MACD(close, 12, 26, 9)[2] / close,
        "roc_12": talib.ROC(close, 12) / 100,
        "momentum_10": talib.MOM(close, 10) / talib.ATR(high, low, close, 14),
        "trix_15": talib.TRIX(close, 15),
        "stochastic_k": slow_k / 100,
        "stochastic_d": slow_d / 100,
        "williams_r_14": talib.WILLR(high, low, close, 14) / 100,
        "cci_20": talib.CCI(high, low, close, 20) / 100,
        "mfi_14": talib.MFI(high, low, close, volume, 14) / 100,
        "ultimate_oscillator": talib.ULTOSC(high, low, close) / 100,
        "aroon_up": aroon_up / 100,
        "aroon_down": aroon_down / 100,
        "aroon_oscillator": talib.AROONOSC(high, low, 25) / 100,
        "adx_14": talib.ADX(high, low, close, 14) / 100,
        "plus_di_14": talib.PLUS_DI(high, low, close, 14) / 100,
        "minus_di_14": talib.MINUS_DI(high, low, close, 14) / 100,
        "natr_14": talib.NATR(high, low, close, 14) / 100,
        "bollinger_position": (close - middle) / ((upper - lower) / 2),
        "bollinger_width": (upper - lower) / middle,
        "mean_ratio_200": np.log(close / talib.SMA(close, 200)),
        "ema_ratio_26": np.log(close / talib.EMA(close, 26)),
        "slope_20": talib.LINEARREG_SLOPE(np.log(close), 20),
        "obv_change_20": (talib.OBV(close, volume) - np.roll(talib.OBV(close, volume), 20)) / talib.SUM(volume, 20),
    }
    table = compute(seen(bars), CORE)
    for name, values in expected.items():
        ours, theirs = table[name].fill_null(np.nan).to_numpy()[60:], values[60:]
        np.testing.assert_allclose(ours[150:], theirs[150:], rtol=1e-7, atol=1e-9, err_msg=name)
    assert table["return_5"][100] == pytest.approx(np.log(close[100] / close[95]))
    assert table["gap"][100] == pytest.approx(np.log(opened[100] / close[99]))


def test_statistics_equal_scipy_and_the_papers_formulas() -> None:
    bars = seen(walk(300, 10))
    opened, high, low, close = (bars[name].to_numpy() for name in OHLC)
    market, volume = bars[MARKET].to_numpy(), bars["volume"].to_numpy()
    returns = np.diff(np.log(close), prepend=np.nan)
    at, back = 250, slice(191, 251)
    bar = slice(231, 251)
    o, u, d, c = (np.log(x) for x in (opened[1:] / close[:-1], high / opened, low / opened, close / opened))
    k = 0.34 / (1.34 + 21 / 19)
    rogers = (u * (u - c) + d * (d - c))[bar].mean()
    yang_zhang = np.sqrt(np.var(o[230:250], ddof=1) + k * np.var(c[bar], ddof=1) + (1 - k) * rogers)
    path = np.abs(returns[bar]).sum()
    expected = {
        "volatility_20": returns[bar].std(ddof=1),
        "parkinson_20": np.sqrt((np.log(high / low)[bar] ** 2).mean() / (4 * np.log(2))),
        "garman_klass_20": np.sqrt((0.5 * np.log(high / low) ** 2 - (2 * np.log(2) - 1) * c**2)[bar].mean()),
        "yang_zhang_20": yang_zhang,
        "skew_60": stats.skew(returns[back]),
        "kurtosis_60": stats.kurtosis(returns[back]),
        "autocorrelation_5": np.corrcoef(returns[back], returns[186:246])[0, 1],
        "z_score_60": stats.zscore(np.log(close[back]))[-1],
        "drawdown_60": close[at] / close[back].max() - 1,
        "beta_60": np.polyfit(market[back], returns[back], 1)[0],
        "correlation_60": np.corrcoef(market[back], returns[back])[0, 1],
        "efficiency_ratio_20": abs(np.log(close[250] / close[230])) / path,
        "volume_shock_20": stats.zscore(volume[bar])[-1],
        "slope_fit_20": stats.linregress(np.arange(20), np.log(close[bar])).rvalue ** 2,
    }
    row = compute(bars, CORE).row(at, named=True)
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_the_hurst_exponent_of_a_random_walk_is_one_half_and_that_of_a_line_is_one() -> None:
    close = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 20_000)))
    line = 100 * np.exp(np.arange(300) * 0.01)
    hurst = FeatureSet("one", tuple(f for f in CORE.features if f.name == "hurst_100"))
    frame = walk(1, 0).drop(*OHLC, "timestamp")
    for path, expected, width in ((close, 0.5, 0.03), (line, 1.0, 1e-9)):
        times = np.datetime64("1950-01-01", "us") + np.arange(len(path)) * np.timedelta64(1, "D")
        series = dict.fromkeys(OHLC, path)
        bars = pl.DataFrame({"timestamp": times, **series}).join(frame, how="cross")
        assert compute(bars.with_columns(pl.col("timestamp").cast(TIME)), hurst)["hurst_100"].mean() == pytest.approx(
            expected, abs=width
        )


def test_a_flat_stretch_and_bars_without_volume_are_null_not_noise() -> None:
    bars = walk(300, 10).with_columns(pl.lit(0.1).alias(name) for name in OHLC).with_columns(volume=pl.lit(0.0))
    last = compute(seen(bars), CORE).row(-1, named=True)
    undefined = {
        *("momentum_10", "stochastic_k", "stochastic_d", "williams_r_14", "cci_20", "mfi_14", "ultimate_oscillator"),
        *("slope_fit_20", "bollinger_position", "efficiency_ratio_10", "efficiency_ratio_20", "hurst_100", "atr_ratio"),
        *("volatility_ratio", "skew_60", "kurtosis_60", "autocorrelation_1", "autocorrelation_5", "z_score_60"),
        *("return_z_score_20", "correlation_60", "volume_ratio_20", "volume_trend", "volume_shock_20", "obv_change_20"),
        *("close_in_bar", "body", "upper_shadow", "range_ratio_20", "close_in_range_20", "higher_rsi_10"),
        *("higher_range_10", "noise_score_20", "plus_di_14", "minus_di_14", "adx_14", "rsi_14"),
    }
    assert {name for name in CORE.columns if last[name] is None} == undefined
    assert last["return_20"] == 0.0
    assert last["natr_14"] == pytest.approx(0.0, abs=1e-15)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    begins=st.integers(40, 500),
    still=st.integers(1, 500),
    factor=st.sampled_from([1, 1 / 7]),
)
def test_a_market_that_stands_still_is_remembered_no_longer_than_declared(
    seed: int, begins: int, still: int, factor: float
) -> None:
    bars = walk(1000, seed)
    inside = pl.int_range(pl.len()).is_between(begins, begins + still)
    frozen = bars["close"][begins]
    halted = bars.with_columns(pl.when(inside).then(frozen).otherwise(pl.col(name)).alias(name) for name in OHLC)
    bars = seen(halted.with_columns(pl.col(*OHLC) * factor))
    full = compute(bars, CORE)
    for cut in (begins + still // 2 + CORE.memory // 2, 990):
        cut = min(max(cut, CORE.memory + 1), 990)
        part = compute(bars.slice(cut - CORE.memory, CORE.memory + 5), CORE, after={"SYM": bars["timestamp"][cut - 1]})
        assert not excess(worst(part, full.slice(cut, 5), full, CORE.columns), 1e-9)


def test_one_bar_without_volume_is_null_where_it_is_seen_and_heals() -> None:
    bars = seen(walk(400, 11))
    halted = bars.with_columns(volume=pl.when(pl.int_range(pl.len()) == 300).then(0.0).otherwise("volume"))
    whole, spoilt = compute(bars, CORE), compute(halted, CORE)
    assert spoilt["volume_ratio_20"][300] is None
    assert spoilt["volume_ratio_20"][301] is not None
    same = spoilt.slice(321).select(CORE.columns)
    assert not excess(worst(same, whole.slice(321), whole, CORE.columns), 1e-9)


def test_without_a_benchmark_beta_and_correlation_are_null() -> None:
    alone = default_set()
    column = market_column(None)
    table = compute(seen(walk(120, 1)).with_columns(pl.lit(None, pl.Float64).alias(column)), alone)
    assert table["beta_60"].null_count() == table["correlation_60"].null_count() == 120
    assert alone.hash != CORE.hash


@pytest.mark.parametrize("bars", [0, 1, 2, 13, 14, 15, 34])
def test_short_series_have_nulls_and_no_error(bars: int) -> None:
    table = compute(seen(walk(bars, 11)), CORE)
    assert table.height == bars
    assert table["mean_ratio_50"].null_count() == bars


def test_the_weekly_view_holds_completed_weeks_only() -> None:
    """Written out by hand: the newest week counts from its calendar's last session on, a halted Friday from Monday."""
    bars = walk(300, 3).filter(pl.int_range(pl.len()) != 204)
    day = bars["timestamp"].dt.date()
    assert day[203].isoweekday() == 4
    assert day[204].isoweekday() == 1
    table = compute(seen(bars), CORE)["higher_return_1"]
    week = (
        bars.with_columns(week=day.dt.truncate("1w")).group_by("week", maintain_order=True).agg(pl.col("close").last())
    )
    expected = np.log(week["close"].to_numpy()[1:] / week["close"].to_numpy()[:-1])
    numbers = day.dt.truncate("1w").rle_id()
    for at in range(200, 215):
        complete = numbers[at] if day[at].isoweekday() == 5 else numbers[at] - 1
        assert table[at] == pytest.approx(expected[complete - 1]), day[at]


def test_a_filter_keeps_a_trend_and_drops_noise() -> None:
    random = np.random.default_rng(3)
    trend = np.cumsum(np.repeat(random.normal(0, 0.003, 40), 25))
    noisy = trend + random.normal(0, 0.02, len(trend))
    for denoiser in ("ema", "kalman"):
        kept = filtered(noisy, denoiser)
        assert np.std(kept - trend) < 0.8 * np.std(noisy - trend)
    with pytest.raises(ValueError, match="savgol"):
        filtered(noisy, "savgol")


def test_a_denoiser_is_another_set_with_a_longer_memory() -> None:
    plain, smooth = default_set(), default_set("1d", FeatureParameters(denoiser="ema"))
    assert plain.hash != smooth.hash
    assert smooth.memory == plain.memory + SMOOTHER_MEMORY


def test_noise_scores_high_on_noise_and_low_on_a_trend() -> None:
    random = np.random.default_rng(5)
    bars = walk(400, 1)
    steady = 100 * np.exp(np.cumsum(np.full(400, 0.01) + random.normal(0, 1e-4, 400)))
    jumpy = 100 * np.exp(random.normal(0, 0.02, 400))
    scores = {}
    for name, path in (("steady", steady), ("jumpy", jumpy)):
        frame = bars.with_columns(pl.Series("close", path)).with_columns(
            high=pl.max_horizontal(OHLC), low=pl.min_horizontal(OHLC)
        )
        scores[name] = float(compute(seen(frame), CORE)["noise_score_20"].tail(100).mean())  # type: ignore[arg-type]
    assert scores["jumpy"] > 0.6 > scores["steady"]


@pytest.mark.parametrize(("interval", "calendar"), [("5m", "24/7"), ("1h", "24/7"), ("1m", "XNYS"), ("1h", "XNYS")])
def test_intraday_sets_forget_and_look_back_only(interval: str, calendar: str) -> None:
    chosen = default_set(interval, FeatureParameters(benchmark="SPY"))
    bars = seen(walk(chosen.memory + 300, 4, calendar=calendar, interval=interval), calendar, interval)
    full = compute(bars, chosen)
    cut = bars.height - 40
    tail = compute(bars.slice(cut - chosen.memory), chosen, after={"SYM": bars["timestamp"][cut - 1]})
    assert not excess(worst(tail, full.slice(cut), full, chosen.columns), 1e-9)
    known = compute(bars.head(cut), chosen)
    assert not excess(worst(known, full.head(cut), full, chosen.columns), 1e-12)
    assert full.tail(1).select(chosen.columns).null_count().sum_horizontal().item() == 0


def test_real_bars_give_the_same_features_from_a_tail(shared_data: Path) -> None:
    bars = (
        pl.read_parquet(shared_data / "sp500_daily_2013_2018.parquet")
        .filter(pl.col("symbol").is_in(["AAPL", "AMD", "BBY", "JPM", "XOM"]))
        .drop_nulls()
        .with_columns(pl.col("timestamp").cast(TIME), pl.col("volume").cast(pl.Float64), listing=pl.date(2013, 2, 8))
        .sort("symbol", "timestamp")
    )
    bars = seen(bars)
    full = compute(bars, CORE)
    after = bars["timestamp"].unique().sort()[-6]
    tail = compute(
        bars.group_by("symbol", maintain_order=True).tail(CORE.memory + 5),
        CORE,
        dict.fromkeys(bars["symbol"].unique(), after),
    )
    last = full.group_by("symbol", maintain_order=True).tail(5)
    assert not excess(worst(tail, last, full, CORE.columns), 1e-9)


def test_aroon_counts_the_newest_of_equal_extremes() -> None:
    bars = walk(60, 1).with_columns(high=pl.lit(200.0), low=pl.lit(1.0))
    last = compute(seen(bars), CORE).row(-1, named=True)
    assert last["aroon_up"] == last["aroon_down"] == 1.0


def test_mean_deviation_of_cci_is_that_of_the_window() -> None:
    bars = walk(60, 5)
    typical = bars.select(pl.mean_horizontal("high", "low", "close")).to_series().to_numpy()
    window = sliding_window_view(typical, 20)[-1]
    expected = (window[-1] - window.mean()) / (1.5 * np.abs(window - window.mean()).mean())
    assert compute(seen(bars), CORE)["cci_20"][-1] == pytest.approx(expected)
