"""Figures of a series of returns: by hand, and against jquantstats, written by others."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jquantstats import Data

from alpha_assets.quant import ratios

#: Within which two implementations of one definition agree.
SAME = 1e-6

LOSSES_FIRST = np.array([-0.10, 0.05, 0.0, -0.02, 0.20, -0.01])


def series_of(seed: int, periods: int = 900) -> np.ndarray:
    """Begins with a period of nothing: jquantstats' falls do not know of the money put in before it."""
    moved = np.random.default_rng(seed).standard_t(5, periods) * 0.01 + 0.0003
    return np.concatenate([[0.0], moved])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("a_year", [252, 52])
def test_the_figures_agree_with_jquantstats_where_the_definitions_coincide(seed: int, a_year: int) -> None:
    returns = series_of(seed)
    found = ratios.figures(returns, a_year)
    days = pl.date_range(pl.date(2015, 1, 1), pl.date(2015, 1, 1) + pl.duration(days=len(returns) - 1), eager=True)
    stats = Data.from_returns(pl.DataFrame({"date": days, "made": returns}), date_col="date").stats
    theirs = {
        "total_return": stats.comp(),
        "annual_return": stats.cagr(periods=a_year),
        "volatility": stats.volatility(periods=a_year),
        "sharpe": stats.sharpe(periods=a_year),
        "sortino": stats.sortino(periods=a_year),
        "profit_factor": stats.profit_factor(),
        "hit_rate": stats.win_rate(),
    }
    for name, value in theirs.items():
        assert found[name] == pytest.approx(value["made"], abs=SAME, rel=SAME), name
    assert ratios.falls(returns) == pytest.approx(-np.abs(stats.drawdown()["made"].to_numpy()), abs=SAME)
    assert found["max_drawdown"] == pytest.approx(-abs(stats.max_drawdown()["made"]), abs=SAME)


def test_the_figures_of_six_returns_by_hand() -> None:
    found = ratios.figures(LOSSES_FIRST, a_year=6)
    total = 0.90 * 1.05 * 1.00 * 0.98 * 1.20 * 0.99 - 1
    assert found["total_return"] == found["annual_return"] == pytest.approx(total, abs=1e-12)
    assert found["max_drawdown"] == pytest.approx(-0.10)
    assert found["longest_drawdown"] == 4
    assert found["calmar"] == pytest.approx(total / 0.10)
    assert found["profit_factor"] == pytest.approx(0.25 / 0.13)
    assert found["hit_rate"] == pytest.approx(2 / 5)
    downside = math.sqrt((0.10**2 + 0.02**2 + 0.01**2) / 6)
    assert found["sortino"] == pytest.approx(0.02 / downside * math.sqrt(6))


def test_a_fall_begins_at_the_money_put_in_and_lasts_while_it_is_not_over() -> None:
    assert ratios.falls(np.array([-0.5, 0.5, 1.0, -0.1])) == pytest.approx([-0.5, -0.25, 0.0, -0.1])
    assert ratios.longest_fall(np.array([0.1, -0.1, 0.0, 0.01])) == 3


@pytest.mark.parametrize("returns", [[], [0.01], [0.02, 0.02, 0.02], [0.0, 0.0]])
def test_what_is_undefined_is_none_and_never_infinite(returns: list[float]) -> None:
    found = ratios.figures(np.array(returns), a_year=252)
    assert {
        name for name in ("sharpe", "sortino", "calmar", "profit_factor", "skew") if found[name] is not None
    } == set()
    assert all(value is None or math.isfinite(value) for value in found.values())


def test_an_account_that_lost_everything_has_no_rate_of_growth() -> None:
    found = ratios.figures(np.array([0.1, -1.0, 0.3]), a_year=252)
    assert (found["total_return"], found["annual_return"], found["calmar"]) == (-1.0, None, None)


def test_returns_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        ratios.sharpe(np.array([0.1, np.nan]), 252)


MADE = arrays(np.float64, st.integers(2, 60), elements=st.floats(-0.5, 0.5, width=16))


@given(MADE, st.floats(0.125, 8.0))
def test_leverage_changes_no_ratio_of_means(returns: np.ndarray, leverage: float) -> None:
    for ratio in (ratios.sharpe, ratios.sortino):
        plain, levered = ratio(returns, 252), ratio(returns * leverage, 252)
        assert (plain is None) == (levered is None)
        assert plain is None or plain == pytest.approx(levered, rel=1e-9, abs=1e-12)


@given(MADE)
def test_falls_end_where_wealth_is_at_its_highest_and_never_exceed_it(returns: np.ndarray) -> None:
    deep, reached = ratios.falls(returns), ratios.wealth(returns)
    assert (deep <= 0).all()
    assert (deep >= -1).all()
    assert ratios.max_fall(returns) == deep.min(initial=0.0)
    assert deep[reached.argmax()] == (0.0 if reached.max() >= 1 else reached.max() - 1.0)
