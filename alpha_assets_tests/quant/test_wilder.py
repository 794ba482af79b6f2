"""Wilder's directional movement, and the spells between which a market stands still."""

import numpy as np
import pytest
import talib
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant.schema import OHLC
from alpha_assets.quant.wilder import STILL_BARS, directional_movement, spells
from alpha_assets_tests.quant.walks import walk

Array = np.ndarray


def prices(bars: int, seed: int) -> tuple[Array, Array, Array]:
    frame = walk(bars, seed)
    return frame["high"].to_numpy(), frame["low"].to_numpy(), frame["close"].to_numpy()


def in_ticks(bars: int, seed: int) -> tuple[Array, Array, Array]:
    """Whole numbers of ticks, so few that the move up often equals the move down."""
    frame = walk(bars, seed).select(*OHLC).to_numpy()
    whole = np.round(frame / 2) + 20
    return whole.max(axis=1), whole.min(axis=1), whole[:, 3]


@pytest.mark.parametrize("bars", [5, 14])
@pytest.mark.parametrize("seed", range(5))
def test_directional_movement_equals_talib_on_ordinary_prices(bars: int, seed: int) -> None:
    high, low, close = prices(300, seed)
    positive, negative, average = directional_movement(high, low, close, bars)
    expected = (talib.PLUS_DI, talib.MINUS_DI, talib.ADX)
    for ours, theirs in zip((positive, negative, average), expected, strict=True):
        np.testing.assert_allclose(ours, theirs(high, low, close, bars) / 100, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bars", [1, 13, 14, 15, 27, 28, 29])
def test_short_series_have_as_many_values_as_talib_gives(bars: int) -> None:
    high, low, close = prices(bars, 3)
    positive, negative, average = directional_movement(high, low, close, 14)
    for values, first in ((positive, 14), (negative, 14), (average, 27)):
        assert np.isnan(values).tolist() == [place < first for place in range(bars)]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), factor=st.floats(1e-6, 1e6, allow_subnormal=False))
def test_ties_decide_nothing_however_prices_are_scaled(seed: int, factor: float) -> None:
    high, low, close = in_ticks(200, seed)
    plain = directional_movement(high, low, close, 14)
    scaled = directional_movement(high * factor, low * factor, close * factor, 14)
    for ours, theirs in zip(scaled, plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_a_move_up_that_equals_the_move_down_is_no_direction() -> None:
    """Each bar reaches a tick further on both sides; by rounding one would be the longer."""
    reach = 0.1 * np.arange(40)
    high, low, close = 7.0 + reach, 7.0 - reach, np.full(40, 7.0)
    positive, negative, average = directional_movement(high, low, close, 14)
    assert (positive[14:] == 0).all()
    assert (negative[14:] == 0).all()
    assert (average[27:] == 0).all()


def still(bars: int) -> Array:
    return np.full(bars, 5.0)


def moving(bars: int, seed: int = 1) -> Array:
    return 5.0 + np.abs(np.random.default_rng(seed).normal(0, 1, bars)).cumsum() + 0.5


def spells_of(*pieces: Array) -> list[tuple[int, int]]:
    """First and last bar of each spell of one listing whose prices are these."""
    close = np.concatenate(pieces)
    return [(spell.start, spell.stop - 1) for spell in spells(close, close, close, (0,))]


def test_a_listing_that_moves_is_one_spell() -> None:
    assert spells_of(moving(50)) == [(0, 49)]


@pytest.mark.parametrize(("motionless", "ends"), [(STILL_BARS, False), (STILL_BARS + 1, True), (80, True)])
def test_a_spell_ends_after_so_many_motionless_bars_and_the_next_begins_with_the_first_move(
    motionless: int, ends: bool
) -> None:
    """The first of the still bars is a move to where it stands still."""
    found = spells_of(moving(30), still(1 + motionless), moving(20))
    last = 50 + motionless
    assert found == ([(0, 30 + STILL_BARS), (31 + motionless, last)] if ends else [(0, last)])


def test_the_rounding_of_an_adjustment_is_no_move_and_a_range_is_one() -> None:
    close = still(60) * (1 + np.random.default_rng(1).choice([-1e-15, 0, 1e-15], 60))
    assert [spell.stop for spell in spells(close, close, close, (0,))] == [STILL_BARS + 1]
    high = still(60) + 0.01
    assert [spell.stop for spell in spells(high, still(60), still(60), (0,))] == [60]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    which=st.lists(st.booleans(), min_size=8, max_size=8),
    seed=st.integers(0, 10**6),
)
def test_no_spell_crosses_the_beginning_of_a_listing(lengths: list[int], which: list[bool], seed: int) -> None:
    pieces = [moving(bars, seed + place) if which[place] else still(bars) for place, bars in enumerate(lengths)]
    starts = tuple(int(start) for start in np.cumsum([0, *lengths[:-1]]))
    close = np.concatenate(pieces)
    together = [(spell.start, spell.stop) for spell in spells(close, close, close, starts)]
    alone = [
        (start + spell.start, start + spell.stop)
        for start, piece in zip(starts, pieces, strict=True)
        for spell in spells(piece, piece, piece, (0,))
    ]
    assert together == alone
