"""Alpha158 against qlib's own output, against its definitions written out slowly, and under the laws of every feature.

The definitions below share nothing with the package: pandas, one window at a time, qlib's 1e-12 and its 32-bit changes
of volume included. They and ours are both held against what qlib 0.9.7 wrote for five symbols.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant.alpha158 import ALPHA158, NOT_SCALE_FREE, WINDOWS
from alpha_assets.quant.feature_set import compute
from alpha_assets.quant.schema import OHLCV

PRICES = ["open", "high", "low", "close"]
EPSILON = 1e-12

#: Of these, rounding is a visible part: qlib's 32-bit ratios and logarithms meet small variances.
WITHIN_1E_4 = ("CORR", "CORD", "WVMA", "RSQR", "RESI")


def slope_and_end(closes: np.ndarray) -> tuple[float, float]:
    slope, start = np.polyfit(np.arange(len(closes)), closes, 1)
    return slope, start + slope * (len(closes) - 1)


def explained(closes: np.ndarray) -> float:
    return float(np.corrcoef(np.arange(len(closes)), closes)[0, 1] ** 2)


def definitions(bars: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """The 158 columns of one symbol by name, in no order: the formulas of qlib's Alpha158, one by one."""
    o, h, low, c, v = (bars[name] for name in OHLCV)
    body, span = c - o, h - low + EPSILON
    top, bottom = np.maximum(o, c), np.minimum(o, c)
    yield "KMID", body / o
    yield "KLEN", (h - low) / o
    yield "KMID2", body / span
    yield "KUP", (h - top) / o
    yield "KUP2", (h - top) / span
    yield "KLOW", (bottom - low) / o
    yield "KLOW2", (bottom - low) / span
    yield "KSFT", (2 * c - h - low) / o
    yield "KSFT2", (2 * c - h - low) / span
    yield from (("OPEN0", o / c), ("HIGH0", h / c), ("LOW0", low / c), ("VWAP0", (h + low + c) / 3 / c))
    change, of_volume = c.diff(), v.diff().astype("float32").astype("float64")
    weighted = (c / c.shift() - 1).abs() * v
    for n in WINDOWS:
        yield f"ROC{n}", c.shift(n) / c
        yield f"MA{n}", c.rolling(n).mean() / c
        yield f"STD{n}", c.rolling(n).std() / c
        yield f"BETA{n}", c.rolling(n).apply(lambda w: slope_and_end(w)[0], raw=True) / c
        yield f"RSQR{n}", c.rolling(n).apply(explained, raw=True)
        yield f"RESI{n}", (c - c.rolling(n).apply(lambda w: slope_and_end(w)[1], raw=True)) / c
        highest, lowest = h.rolling(n).max(), low.rolling(n).min()
        yield f"MAX{n}", highest / c
        yield f"MIN{n}", lowest / c
        yield f"QTLU{n}", c.rolling(n).quantile(0.8) / c
        yield f"QTLD{n}", c.rolling(n).quantile(0.2) / c
        yield f"RANK{n}", c.rolling(n).rank(pct=True)
        yield f"RSV{n}", (c - lowest) / (highest - lowest + EPSILON)
        place_of_high = h.rolling(n).apply(lambda w: w.argmax() + 1, raw=True)
        place_of_low = low.rolling(n).apply(lambda w: w.argmin() + 1, raw=True)
        yield f"IMAX{n}", place_of_high / n
        yield f"IMIN{n}", place_of_low / n
        yield f"IMXD{n}", (place_of_high - place_of_low) / n
        yield f"CORR{n}", c.rolling(n).corr(np.log(v + 1))
        yield f"CORD{n}", (c / c.shift()).rolling(n).corr(np.log(v / v.shift() + 1))
        rises, falls = change.gt(0).where(change.notna()), change.lt(0).where(change.notna())
        rose, fell = rises.astype(float).rolling(n).mean(), falls.astype(float).rolling(n).mean()
        yield from ((f"CNTP{n}", rose), (f"CNTN{n}", fell), (f"CNTD{n}", rose - fell))
        for prefix, moves in (("", change), ("V", of_volume)):
            gained, lost = moves.clip(lower=0).rolling(n).sum(), (-moves).clip(lower=0).rolling(n).sum()
            moved = moves.abs().rolling(n).sum() + EPSILON
            yield f"{prefix}SUMP{n}", gained / moved
            yield f"{prefix}SUMN{n}", lost / moved
            yield f"{prefix}SUMD{n}", (gained - lost) / moved
        yield f"VMA{n}", v.rolling(n).mean() / (v + EPSILON)
        yield f"VSTD{n}", v.rolling(n).std() / (v + EPSILON)
        yield f"WVMA{n}", weighted.rolling(n).std() / (weighted.rolling(n).mean() + EPSILON)


def bars_of(frame: pl.DataFrame) -> pl.DataFrame:
    """A frame of symbol, timestamp and OHLCV as bars, one listing a symbol, rounded to 32 bits as qlib stores them."""
    return frame.drop_nulls(OHLCV).select(
        "symbol",
        pl.col("timestamp").cast(pl.Datetime("us", "UTC")),
        pl.lit(None, pl.Date).alias("listing"),
        *(pl.col(name).cast(pl.Float32).cast(pl.Float64) for name in OHLCV),
    )


def walk(bars: int = 150, seed: int = 1, symbol: str = "SIM") -> pl.DataFrame:
    """A random walk in cents, with ties, gaps between bars and small volumes."""
    random = np.random.default_rng(seed)
    close = np.round(40 * np.exp(np.cumsum(random.normal(0, 0.015, bars))), 2)
    opened = np.round(close * np.exp(random.normal(0, 0.01, bars)), 2)
    return pl.DataFrame(
        {
            "symbol": symbol,
            "timestamp": [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(bars)],
            "listing": pl.Series([None] * bars, dtype=pl.Date),
            "open": opened,
            "high": np.maximum(opened, close) + np.round(random.exponential(0.3, bars), 1),
            "low": np.minimum(opened, close) - np.round(random.exponential(0.3, bars), 1),
            "close": close,
            "volume": np.round(np.exp(random.normal(3, 0.6, bars))) + 1,
        }
    )


def values(table: pl.DataFrame, column: str) -> np.ndarray:
    return table[column].cast(pl.Float64).fill_null(np.nan).to_numpy()


def assert_agree(ours: np.ndarray, theirs: np.ndarray, column: str) -> None:
    """Within the promised distance wherever ours has a value; and it has one wherever theirs has."""
    assert np.isnan(ours).sum() == np.isnan(theirs).sum(), column
    if column.startswith(WITHIN_1E_4):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4, err_msg=column)
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12, err_msg=column)


@pytest.fixture(scope="module")
def sp500(shared_data: Path) -> pl.DataFrame:
    return bars_of(pl.read_parquet(shared_data / "sp500_daily_2013_2018.parquet"))


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> pl.DataFrame:
    return pl.read_parquet(shared_data / "alpha158_reference.parquet").sort("symbol", "timestamp")


def test_names_and_order_are_those_of_qlib(reference: pl.DataFrame) -> None:
    assert ALPHA158.columns == tuple(reference.columns[2:])
    assert len(ALPHA158.columns) == 158


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_column_equals_qlib_from_the_61st_bar(
    sp500: pl.DataFrame, reference: pl.DataFrame, dtype: type[np.floating]
) -> None:
    ours = compute(sp500.filter(pl.col("symbol").is_in(reference["symbol"].unique().to_list())), ALPHA158, dtype=dtype)
    assert ours["timestamp"].cast(pl.Date).equals(reference["timestamp"])
    full = ours.select(pl.int_range(pl.len()).over("symbol") >= 60).to_series()
    for column in ALPHA158.columns:
        assert_agree(values(ours.filter(full), column), values(reference.filter(full), column), column)


@pytest.mark.parametrize("symbol", ["GOOG", "CHK", "F", "NVDA"])
def test_every_column_equals_its_definition_on_symbols_qlib_was_not_asked_for(sp500: pl.DataFrame, symbol: str) -> None:
    of_symbol = sp500.filter(pl.col("symbol") == symbol).head(250)
    assert_equals_definitions(of_symbol)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1))
def test_every_column_equals_its_definition_on_any_walk(seed: int) -> None:
    assert_equals_definitions(walk(130, seed))


def assert_equals_definitions(bars: pl.DataFrame) -> None:
    ours, expected = compute(bars, ALPHA158), dict(definitions(bars.to_pandas()))
    assert set(expected) == set(ALPHA158.columns)
    for column in ALPHA158.columns:
        assert_agree(values(ours, column), expected[column].to_numpy(), column)


def test_the_definitions_above_equal_qlib(sp500: pl.DataFrame, reference: pl.DataFrame) -> None:
    bars = sp500.filter(pl.col("symbol") == "AMD").head(200).to_pandas()
    theirs = reference.filter(pl.col("symbol") == "AMD").head(200)
    for column, found in definitions(bars):
        assert_agree(found.to_numpy()[60:], values(theirs, column)[60:], column)


def test_a_window_that_is_not_full_has_no_value() -> None:
    found = compute(walk(61), ALPHA158)
    for feature in ALPHA158.features:
        empty = np.isnan(values(found, feature.name))
        assert empty[: feature.warm_up].all(), feature.name
        assert not empty[feature.warm_up :].any(), feature.name


def scaled(bars: pl.DataFrame, price: float, volume: float) -> pl.DataFrame:
    return bars.with_columns(*(pl.col(name) * price for name in PRICES), pl.col("volume") * volume)


@settings(max_examples=5)
@given(price=st.floats(1e-6, 1e6), volume=st.floats(1e-2, 1e6))
def test_no_column_changes_with_price_or_volume_but_those_listed(price: float, volume: float) -> None:
    bars = with_row(walk(130), 100, {"open": 40, "high": 40.00002, "low": 40, "close": 40.00001})
    plain, other = compute(bars, ALPHA158), compute(scaled(bars, price, volume), ALPHA158)
    for column in set(ALPHA158.columns) - set(NOT_SCALE_FREE):
        before, after = values(plain, column), values(other, column)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-8 * np.nanstd(before), err_msg=column)


def test_every_column_listed_as_not_scale_free_changes_with_the_volume() -> None:
    bars = walk(130)
    plain, other = compute(bars, ALPHA158), compute(scaled(bars, 1, 1 / 700), ALPHA158)
    for column in NOT_SCALE_FREE:
        before = values(plain, column)
        assert np.nanmax(np.abs(values(other, column) - before)) > 1e-8 * np.nanstd(before), column


def test_no_column_changes_with_the_price_alone() -> None:
    bars = walk(130)
    plain, other = compute(bars, ALPHA158), compute(scaled(bars, 7.3, 1), ALPHA158)
    for column in ALPHA158.columns:
        before = values(plain, column)
        np.testing.assert_allclose(values(other, column), before, rtol=0, atol=1e-8 * np.nanstd(before), err_msg=column)


@settings(max_examples=10)
@given(known=st.integers(1, 149))
def test_an_update_gives_the_bits_of_a_rebuild(known: int) -> None:
    bars = pl.concat([walk(150, 1, "ONE"), walk(150, 2, "TWO")])
    last = bars["timestamp"][known]
    found = compute(bars, ALPHA158, after={"ONE": last, "TWO": last})
    assert found.equals(compute(bars, ALPHA158).filter(pl.col("timestamp") > last))


@settings(max_examples=10)
@given(until=st.integers(1, 149))
def test_bars_to_come_change_nothing(until: int) -> None:
    bars = walk(150)
    assert compute(bars.head(until), ALPHA158).equals(compute(bars, ALPHA158).head(until))


def test_a_listing_begins_without_the_one_before_it() -> None:
    later = pl.col("timestamp") + pl.duration(days=400)
    relisted = walk(150, 3).with_columns(pl.lit(date(2021, 1, 1)).alias("listing"), later)
    found = compute(pl.concat([walk(150), relisted]), ALPHA158).tail(150)
    assert found.equals(compute(relisted, ALPHA158))


def test_a_missing_bar_is_no_row_and_windows_count_bars() -> None:
    bars = walk(150)
    halted = pl.concat([bars.head(100), bars.tail(50).with_columns(pl.col("timestamp") + pl.duration(days=30))])
    columns = list(ALPHA158.columns)
    assert compute(halted, ALPHA158).select(columns).equals(compute(bars, ALPHA158).select(columns))


def with_row(bars: pl.DataFrame, row: int, new: Mapping[str, float]) -> pl.DataFrame:
    at = pl.int_range(pl.len()) == row
    return bars.with_columns(pl.when(at).then(value).otherwise(name).alias(name) for name, value in new.items())


def test_a_bar_without_volume_leaves_what_divides_by_it_null_and_nothing_else() -> None:
    bars = walk(150)
    plain, found = compute(bars, ALPHA158), compute(with_row(bars, 80, {"volume": 0.0}), ALPHA158)
    for feature in ALPHA158.features:
        missing = np.isnan(values(found, feature.name)) & ~np.isnan(values(plain, feature.name))
        expected = {"VMA": [80], "VSTD": [80], "CORD": range(81, 81 + feature.parameters.get("bars", 0))}
        assert list(np.flatnonzero(missing)) == list(expected.get(feature.name.rstrip("0123456789"), [])), feature.name


def flat_from(bars: pl.DataFrame, row: int) -> pl.DataFrame:
    """The close of ``row`` from there on, as open, high and low too."""
    return bars.with_columns(
        pl.when(pl.int_range(pl.len()) >= row).then(pl.lit(bars["close"][row])).otherwise(name).alias(name)
        for name in PRICES
    )


def test_a_flat_window_has_no_line_correlation_or_weighted_volatility() -> None:
    found = compute(flat_from(walk(150), 80), ALPHA158)
    flat = {column for column in ALPHA158.columns if found[column][149] is None}
    assert flat == {f"{name}{bars}" for name in WITHIN_1E_4 for bars in WINDOWS}


def test_a_flat_window_has_what_qlib_says_of_the_rest() -> None:
    last = compute(flat_from(walk(150), 80), ALPHA158).row(149, named=True)
    assert last["KMID2"] == last["KSFT2"] == 0
    for bars in WINDOWS:
        for name in ("RSV", "SUMP", "SUMN", "SUMD", "CNTP", "CNTN", "STD", "BETA"):
            assert last[f"{name}{bars}"] == 0, name
        assert last[f"RANK{bars}"] == pytest.approx((bars + 1) / 2 / bars)  # all tie: their average rank
        assert last[f"IMAX{bars}"] == pytest.approx(1 / bars)  # the oldest of equals
        assert last[f"IMIN{bars}"] == pytest.approx(1 / bars)


@pytest.mark.parametrize(("wave", "defined"), [(0.99, False), (1.01, True)])
def test_a_window_counts_as_flat_below_a_relative_variance_of_1e_8(wave: float, defined: bool) -> None:
    zigzag = np.where(np.arange(150) % 2, 1.0, -1.0) * np.sqrt(59 / 60 * 1e-8) * wave
    bars = walk(150).with_columns(pl.Series(name, 1 + zigzag) for name in PRICES)
    last = compute(bars, ALPHA158).row(149, named=True)
    assert all((last[f"{name}60"] is not None) == defined for name in ("RSQR", "RESI", "CORR"))
