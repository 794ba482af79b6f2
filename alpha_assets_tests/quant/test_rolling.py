"""Rolling figures: each equals its slow definition, window by window, and sees its window alone.

The laws hold for every kernel in ``KERNELS``: one that is added to the module belongs into that table.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant import kernels, rolling

Array = np.ndarray
NESTED = (5, 10, 20, 30, 60)


@dataclass(frozen=True)
class Kernel:
    """A kernel of one series and one window, and what it should be of one window; ``least`` bars make sense."""

    rolled: Callable[[Array, int], Array]
    of_window: Callable[[Array], float]
    least: int = 1


def partner(values: Array) -> Array:
    """A second series that depends on the first value by value, and not linearly."""
    return np.sqrt(np.abs(values))


def deviations(window: Array, power: int) -> float:
    mean = math.fsum(window) / len(window)
    return math.fsum((value - mean) ** power for value in window)


def co_deviations(window: Array, other: Array) -> float:
    mean, other_mean = math.fsum(window) / len(window), math.fsum(other) / len(other)
    return math.fsum((a - mean) * (b - other_mean) for a, b in zip(window, other, strict=True))


def slope(window: Array) -> float:
    number = np.arange(len(window), dtype=float)
    return co_deviations(window, number) / co_deviations(number, number)


def average_rank(window: Array) -> float:
    newest = window[-1]
    return float(((window < newest).sum() + (window <= newest).sum() + 1) / 2 / len(window))


def ago(window: Array, place: int) -> float:
    return float(len(window) - 1 - place)


KERNELS = {
    "sum": Kernel(rolling.rolling_sum, math.fsum),
    "sum, nested": Kernel(lambda values, bars: rolling.rolling_sums(values, (*NESTED, bars))[bars], math.fsum),
    "mean": Kernel(rolling.rolling_mean, lambda w: math.fsum(w) / len(w)),
    "max": Kernel(rolling.rolling_max, max),
    "min": Kernel(rolling.rolling_min, min),
    "bars since max": Kernel(rolling.bars_since_max, lambda w: ago(w, len(w) - 1 - int(np.argmax(w[::-1])))),
    "bars since min": Kernel(rolling.bars_since_min, lambda w: ago(w, len(w) - 1 - int(np.argmin(w[::-1])))),
    "high": Kernel(lambda values, bars: rolling.rolling_highs(values, (bars,))[bars][0], max),
    "bars since high": Kernel(
        lambda values, bars: rolling.rolling_highs(values, (*NESTED, bars))[bars][1],
        lambda w: ago(w, int(np.argmax(w))),
    ),
    "squares": Kernel(lambda values, bars: rolling.rolling_moments(values, bars)[1], lambda w: deviations(w, 2)),
    "cubes": Kernel(lambda values, bars: rolling.rolling_moments(values, bars, 3)[2], lambda w: deviations(w, 3)),
    "fourths": Kernel(lambda values, bars: rolling.rolling_moments(values, bars, 4)[3], lambda w: deviations(w, 4)),
    "spread": Kernel(
        lambda values, bars: rolling.rolling_spreads(values, (*NESTED, bars))[bars][1], lambda w: deviations(w, 2)
    ),
    "deviation of a sample": Kernel(
        lambda values, bars: rolling.rolling_deviation(values, bars, 1),
        lambda w: math.sqrt(deviations(w, 2) / (len(w) - 1)),
        least=2,
    ),
    "product": Kernel(
        lambda values, bars: rolling.rolling_product(values, partner(values), bars),
        lambda w: co_deviations(w, partner(w)),
    ),
    "product of a pair": Kernel(
        lambda values, bars: rolling.rolling_pairs(values, partner(values), (*NESTED, bars))[bars][4],
        lambda w: co_deviations(w, partner(w)),
    ),
    "squares of the one": Kernel(
        lambda values, bars: rolling.rolling_pairs(values, partner(values), (*NESTED, bars))[bars][2],
        lambda w: deviations(w, 2),
    ),
    "squares of the other": Kernel(
        lambda values, bars: rolling.rolling_pairs(values, partner(values), (*NESTED, bars))[bars][3],
        lambda w: deviations(partner(w), 2),
    ),
    "mean of the other": Kernel(
        lambda values, bars: rolling.rolling_pairs(values, partner(values), (*NESTED, bars))[bars][1],
        lambda w: math.fsum(partner(w)) / len(w),
    ),
    "slope": Kernel(lambda values, bars: rolling.rolling_line(values, bars)[0], slope, least=2),
    "squares about the line's mean": Kernel(
        lambda values, bars: rolling.rolling_lines(values, (*NESTED, bars))[bars][2],
        lambda w: deviations(w, 2),
        least=2,
    ),
    "rank": Kernel(rolling.rolling_rank, average_rank),
    "rank, nested": Kernel(lambda values, bars: rolling.rolling_ranks(values, (*NESTED, bars))[bars], average_rank),
    "quantile": Kernel(
        lambda values, bars: rolling.rolling_quantile(values, bars, 0.2), lambda w: float(np.quantile(w, 0.2))
    ),
    **{
        f"quantile {share}, nested": Kernel(
            lambda values, bars, share=share: rolling.rolling_quantiles(values, (bars, *NESTED), share)[bars],
            lambda w, share=share: float(np.quantile(w, share)),
        )
        for share in (0.0, 0.2, 0.5, 0.8, 1.0)
    },
}

each_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())

#: Some with many ties, some with none, some far from zero.
SERIES = st.one_of(
    st.lists(st.integers(-3, 3).map(float), max_size=90),
    st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), max_size=90),
    st.lists(st.floats(1e3, 1.001e3), max_size=90),
).map(lambda values: np.array(values, dtype=float))


def walk(length: int = 200, seed: int = 7) -> Array:
    return np.round(100 + np.cumsum(np.random.default_rng(seed).normal(size=length)), 1)


def equal_bits(left: Array, right: Array) -> bool:
    return np.array_equal(left, right, equal_nan=True)


@each_kernel
@settings(max_examples=40)
@given(values=SERIES, bars=st.integers(1, 70))
def test_each_value_is_the_figure_of_its_window(kernel: Kernel, values: Array, bars: int) -> None:
    bars = max(bars, kernel.least)
    expected = [kernel.of_window(values[end - bars : end]) for end in range(bars, len(values) + 1)]
    rolled = kernel.rolled(values, bars)
    assert len(rolled) == len(values)
    assert np.isnan(rolled[: bars - 1]).all()
    scale = max(1.0, *np.abs(expected)) if expected else 1.0
    np.testing.assert_allclose(rolled[bars - 1 :][: len(expected)], expected, rtol=1e-9, atol=1e-9 * scale)


@each_kernel
@settings(max_examples=40)
@given(bars=st.integers(2, 61), first=st.integers(1, 139))
def test_a_series_that_begins_later_gives_the_same_bits(kernel: Kernel, bars: int, first: int) -> None:
    values = walk()
    whole, part = kernel.rolled(values, bars), kernel.rolled(values[first:], bars)
    assert equal_bits(part[bars - 1 :], whole[first + bars - 1 :])


@each_kernel
@settings(max_examples=40)
@given(bars=st.integers(2, 61), at=st.integers(0, 199))
def test_a_nan_spoils_the_windows_that_hold_it_and_no_other(kernel: Kernel, bars: int, at: int) -> None:
    values = walk()
    clean = np.array(kernel.rolled(values, bars))
    values[at] = np.nan
    spoilt = kernel.rolled(values, bars)
    holding = slice(max(at, bars - 1), at + bars)
    assert np.isnan(spoilt[holding]).all()
    clean[holding] = np.nan
    assert equal_bits(spoilt, clean)


@pytest.mark.parametrize("name", ["squares", "spread", "slope", "squares about the line's mean"])
def test_what_moves_little_on_a_high_level_does_not_cancel(name: str) -> None:
    small = np.random.default_rng(3).integers(-8, 8, 200) / 8
    found = KERNELS[name].rolled(small + 2.0**20, 60)[59:]
    expected = [KERNELS[name].of_window(small[end - 60 : end]) for end in range(60, 201)]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9)


def test_of_equal_highs_one_function_counts_the_newest_and_the_other_the_oldest() -> None:
    values = np.array([1.0, 9.0, 9.0, 2.0])
    assert rolling.bars_since_max(values, 4)[-1] == 1
    assert rolling.rolling_highs(values, (4,))[4][1][-1] == 2


def test_five_nested_windows_take_seven_merges() -> None:
    plan, steps = rolling.merges(NESTED)
    lengths = [1, *plan[:, 2:].sum(axis=1).tolist()]
    assert sorted(lengths) == [1, 2, 4, 5, 10, 20, 30, 60]
    assert [lengths[step] for step in steps] == list(NESTED)


@given(bars=st.integers(1, 300))
def test_a_window_takes_at_most_two_merges_for_each_doubling(bars: int) -> None:
    assert len(rolling.merges((bars,))[0]) <= 2 * math.log2(bars)


@settings(max_examples=40)
@given(bars=st.integers(2, 300), length=st.integers(1, 5_000))
def test_a_window_is_the_same_bits_wherever_a_block_of_the_kernel_begins(bars: int, length: int) -> None:
    values = np.random.default_rng(5).normal(size=length)
    plan, steps = rolling.merges((bars,))
    number, figures = kernels.KINDS["moments 4"]
    one, other = (kernels.windows(number, figures, values[None], plan, steps, block) for block in (7, kernels.BLOCK))
    assert equal_bits(one, other)


@pytest.mark.parametrize("bars", [0, -3])
def test_a_window_of_no_bars_is_refused(bars: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1 bar, not {bars}"):
        rolling.rolling_sum(walk(), bars)


@given(bars=st.integers(0, 12))
def test_a_shift_hands_on_earlier_values(bars: int) -> None:
    values = walk(9)
    expected = [values[row - bars] if row >= bars else math.nan for row in range(9)]
    assert equal_bits(rolling.shifted(values, bars), np.array(expected))
