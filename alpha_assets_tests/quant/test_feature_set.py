"""The engine under the features: packed, cut, shared out or asked for in any way, the numbers are the same."""

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant import panel
from alpha_assets.quant.feature_set import SOON, Feature, FeatureSet, compute
from alpha_assets.quant.indicators import default_set, market_column
from alpha_assets.quant.panel import Panel
from alpha_assets.quant.schema import TIME
from alpha_assets.quant.timeframes import with_timeframes
from alpha_assets.stations.threads import side_by_side
from alpha_assets_tests.quant.walks import walk

CORE = default_set()
MARKET = market_column(None)


def feature(name: str) -> Feature:
    return next(feature for feature in CORE.features if feature.name == name)


#: A window, two recursions, a spell, a higher timeframe and a bar by itself.
FEW = FeatureSet(
    "few", tuple(map(feature, ("return_5", "rsi_14", "macd_signal", "adx_14", "higher_return_1", "close_in_bar")))
)


def seen(*parts: pl.DataFrame) -> pl.DataFrame:
    """Bars with everything that the default set reads."""
    bars = pl.concat(parts)
    noise = np.random.default_rng(7).normal(0, 0.01, bars.height)
    bars = bars.with_columns(pl.Series(MARKET, noise))
    return with_timeframes(bars, "1d", dict.fromkeys(bars["symbol"].unique(), "XNYS"))


def relisted(bars: pl.DataFrame, years: int) -> pl.DataFrame:
    """The same bars so many years later, as another listing."""
    return bars.with_columns(
        pl.col("timestamp").dt.offset_by(f"{364 * years}d"), pl.col("listing").dt.offset_by(f"{years}y")
    )


def assert_same(ours: pl.DataFrame, theirs: pl.DataFrame, chosen: FeatureSet = CORE, bound: float = 1e-9) -> None:
    """Equal keys, equal nulls, and values within ``bound`` standard deviations."""
    key = ["symbol", "timestamp"]
    assert ours.columns == theirs.columns == [*key, *chosen.columns]
    assert ours.select(key).equals(theirs.select(key))
    for name in chosen.columns:
        assert ours[name].is_null().equals(theirs[name].is_null()), name
        apart = float((ours[name] - theirs[name]).abs().max() or 0.0)  # type: ignore[arg-type]
        assert apart <= bound * max(float(theirs[name].std() or 0.0), 1e-12), name  # type: ignore[arg-type]


def test_every_feature_is_a_float_column_beside_its_key() -> None:
    table = compute(seen(walk(420, 1)), CORE)
    assert table.columns == ["symbol", "timestamp", *CORE.columns]
    assert table.schema["timestamp"] == TIME
    assert all(table.schema[name] == pl.Float64 for name in CORE.columns)
    assert not any(table[name].is_nan().any() or table[name].is_infinite().any() for name in CORE.columns)


def test_nothing_crosses_from_one_listing_or_symbol_to_another() -> None:
    """Levels a million apart beside each other: whatever reached across would show."""
    first, second = walk(450, 3, start=2e4), relisted(walk(450, 4, start=0.02), 3)
    parts = [seen(part) for part in (walk(450, 5, symbol="OTHER"), first, second)]
    together = compute(pl.concat(parts), CORE)
    assert_same(together, pl.concat([compute(part, CORE) for part in parts]), bound=0.0)


def test_many_short_listings_in_one_stretch_are_each_what_they_are_alone() -> None:
    lengths = [1, 2, 3, 14, 15, 16, 20, 29, 33, 34, 35, 60, 61, 90] * 6
    parts = [
        seen(walk(bars, seed, symbol=f"S{seed:03}", start=10.0 ** (seed % 7 - 3))) for seed, bars in enumerate(lengths)
    ]
    assert sum(lengths) < panel.STRETCH
    together = compute(pl.concat(parts), CORE)
    assert_same(together, pl.concat([compute(part, CORE) for part in parts]), bound=0.0)


WHOLE = seen(
    walk(900, 1, symbol="LONG"), walk(3, 2, symbol="TINY"), walk(450, 3, symbol="TWO"), relisted(walk(300, 4), 3)
).sort("symbol", "timestamp")
UNCUT = compute(WHOLE, CORE)


@settings(max_examples=12, deadline=None)
@given(stretch=st.integers(1, 1000), workers=st.integers(1, 4))
def test_a_listing_longer_than_a_stretch_is_cut_and_nothing_shows(stretch: int, workers: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # One row a stretch would compute the memory anew for every bar.
        patch.setattr(panel, "STRETCH", max(stretch, 40))
        assert_same(compute(WHOLE, CORE, spread=side_by_side(workers)), UNCUT)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_the_smallest_stretches_are_right_too(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(panel, "STRETCH", rows)
    bars = WHOLE.filter(pl.col("symbol") != "LONG").group_by("symbol", maintain_order=True).head(60)
    assert_same(compute(bars, FEW), compute(bars, CORE).select("symbol", "timestamp", *FEW.columns), FEW)


@settings(max_examples=20, deadline=None)
@given(
    places=st.lists(st.integers(0, 2000), min_size=3, max_size=3),
    stretch=st.sampled_from([50, 500, 40_000]),
    workers=st.integers(1, 3),
)
def test_after_gives_exactly_the_rows_of_a_full_build_that_are_later(
    places: list[int], stretch: int, workers: int
) -> None:
    """A symbol that is not named is given whole."""
    after = {}
    for symbol, place in zip(("LONG", "SYM", "TWO"), places, strict=True):
        times = WHOLE.filter(pl.col("symbol") == symbol)["timestamp"]
        after[symbol] = times[place % len(times)]
    bound = pl.col("symbol").replace_strict(after, return_dtype=TIME, default=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panel, "STRETCH", stretch)
        found = compute(WHOLE, CORE, after, spread=side_by_side(workers))
    expected = UNCUT.filter((pl.col("timestamp") > bound).fill_null(value=True))
    assert found.height == expected.height
    deviations = UNCUT.select(pl.col(CORE.columns).std())
    for name in CORE.columns:
        assert found[name].is_null().equals(expected[name].is_null()), name
        apart = float((found[name] - expected[name]).abs().max() or 0.0)  # type: ignore[arg-type]
        assert apart <= 1e-9 * (deviations[name][0] or 1e-3), name


def test_a_warm_up_longer_than_the_memory_is_counted_from_the_listings_first_bar_too() -> None:
    late = FeatureSet("late", (replace(feature("close_in_bar"), warm_up=5, memory=2),))
    bars = walk(20, 1)
    whole = compute(bars, late)
    assert whole["close_in_bar"].null_count() == 5
    for place in range(19):
        assert compute(bars, late, {"SYM": bars["timestamp"][place]}).equals(whole.slice(place + 1))


def test_after_the_last_bar_there_is_nothing() -> None:
    last = dict(WHOLE.group_by("symbol").agg(pl.col("timestamp").max()).iter_rows())
    table = compute(WHOLE, CORE, last)
    assert table.is_empty()
    assert table.columns == ["symbol", "timestamp", *CORE.columns]


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_any_number_of_workers_gives_the_identical_frame(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(panel, "STRETCH", 200)
    assert compute(WHOLE, CORE, spread=side_by_side(workers)).equals(compute(WHOLE, CORE))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_undefined_warns_nobody_in_any_thread(monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """Numpy's silence about a division by zero is a thread's own."""
    monkeypatch.setattr(panel, "STRETCH", 20)
    silent = seen(walk(60, 1)).with_columns(volume=pl.lit(0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute(silent, CORE, spread=side_by_side(workers))["volume_ratio_20"].null_count() == 60


def test_the_order_of_the_rows_does_not_matter() -> None:
    assert compute(WHOLE.sample(fraction=1.0, shuffle=True, seed=1), CORE).equals(UNCUT)


def test_features_in_32_bits_are_those_of_64_rounded_once() -> None:
    small = compute(WHOLE, CORE, dtype=np.float32)
    assert small.equals(UNCUT.with_columns(pl.col(pl.Float64).cast(pl.Float32)))


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), 0.0, -3.0])
@pytest.mark.parametrize("price", ["open", "low", "close"])
def test_a_price_that_is_no_price_is_refused_by_symbol_and_time(bad: float | None, price: str) -> None:
    bars = walk(60, 8, symbol="BAD").with_columns(
        pl.when(pl.int_range(pl.len()) == 40).then(pl.lit(bad)).otherwise(price).alias(price)
    )
    day = bars["timestamp"][40].date()
    with pytest.raises(ValueError, match=rf"features of BAD: the bar of {day}.*{price} {bad}.*1 such bars"):
        compute(seen(walk(60, 9, symbol="AAA"), bars), CORE)


def test_a_column_that_the_bars_lack_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=rf"core reads {MARKET}: the bars do not hold it"):
        compute(seen(walk(30, 1)).drop(MARKET), CORE)
    assert compute(walk(30, 1), FeatureSet("bare", (feature("gap"),))).height == 30


def test_the_hash_covers_what_makes_the_numbers_and_nothing_else() -> None:
    rsi, gap = feature("rsi_14"), feature("gap")
    base = FeatureSet("a", (rsi, gap)).hash
    words = [{"doc": "other words"}, {"source": "another book"}, {"window": 13}, {"group": "another"}, {"memory": 500}]
    same = [replace(rsi, **other) for other in words]  # type: ignore[arg-type]
    assert {FeatureSet("b", (one, gap)).hash for one in same} == {base}
    others = [
        (gap, rsi),
        (rsi,),
        (replace(rsi, version=2), gap),
        (replace(rsi, parameters={**rsi.parameters, "bars": 15}), gap),
        (replace(rsi, name="rsi"), gap),
        (replace(rsi, warm_up=15), gap),
        (replace(rsi, function=feature("roc_12").function), gap),
    ]
    assert len({FeatureSet("a", features).hash for features in others} | {base}) == len(others) + 1
    assert len(base) == 12


def test_the_order_of_a_functions_parameters_is_no_difference() -> None:
    macd = feature("macd_line")
    turned = replace(macd, parameters=dict(reversed(list(macd.parameters.items()))))
    assert FeatureSet("a", (turned,)).hash == FeatureSet("a", (macd,)).hash


def test_two_features_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"twice.*gap"):
        FeatureSet("twice", (feature("gap"),) * 2)
    with pytest.raises(ValueError, match="no features"):
        FeatureSet("none", ())


def test_a_bar_is_warm_past_the_longest_warm_up_that_ends_soon_counted_within_its_listing() -> None:
    chosen = FeatureSet("some", (feature("gap"), feature("return_20"), feature("mean_ratio_200")))
    assert chosen.blank == 20 < SOON < feature("mean_ratio_200").warm_up
    first = walk(30, 1)
    bars = pl.concat([first, relisted(first.head(21), 3), walk(20, 2, symbol="NEW")])
    warm = bars.with_columns(warm=chosen.warm()).group_by("symbol", "listing", maintain_order=True).agg("warm")
    assert warm["warm"].to_list() == [[False] * 20 + [True] * 10, [False] * 20 + [True], [False] * 20]


def test_the_memory_of_a_set_is_the_longest_of_its_features_and_its_needs_are_theirs() -> None:
    chosen = FeatureSet("some", (feature("gap"), feature("higher_return_1"), feature("rsi_14")))
    assert chosen.memory == feature("rsi_14").memory
    assert chosen.needs == ("period", "period_ends")
    assert chosen.columns == ("gap", "higher_return_1", "rsi_14")


def test_a_feature_sees_one_listing_as_plain_arrays() -> None:
    pair = np.array([1.0, 2.0])
    gap = feature("gap").values(Panel(pair, pair, pair, pair, pair))
    assert np.isnan(gap[0])
    assert gap[1] == pytest.approx(np.log(2.0))


def test_a_panel_scales_each_listings_prices_by_a_power_of_two_and_no_digit_changes() -> None:
    close = np.array([1e-9, 1.1e-9, 3e7, 2.9e7])
    laid = Panel(close, close, close, close, np.ones(4), starts=(0, 2))
    assert [1 <= laid.close[start] < 2 for start in laid.starts] == [True, True]
    assert np.frexp(laid.close)[0].tolist() == np.frexp(close)[0].tolist()


def test_what_features_share_is_computed_once_a_panel() -> None:
    asked = []

    def mean(panel: Panel, bars: int) -> float:
        asked.append(bars)
        return float(panel.close.mean())

    pair = np.array([1.0, 2.0])
    laid = Panel(pair, pair, pair, pair, pair)
    assert [laid.once(mean, 1), laid.once(mean, 1), laid.once(mean, 2)] == [1.5] * 3
    assert asked == [1, 2]
