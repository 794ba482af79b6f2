"""Figures of strategies: by hand on four positions, and as sums that have to agree whatever the market did."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant import ratios
from alpha_assets.quant.book import marks, positions
from alpha_assets.quant.metrics import calibration_error, wilson
from alpha_assets.quant.parameters import TradingParameters
from alpha_assets.quant.performance import ACCOUNT, ALL, EVER, account_of, monthly, performance, rolling_hits
from alpha_assets_tests.quant.trading import ALL_WAYS, PLAIN, bars_of, both, day, market, random_signals, said


def figures(
    signals: pl.DataFrame, traded: pl.DataFrame, horizon: int, parameters: TradingParameters, last: int = 59
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    booked = positions(signals, traded, horizon, parameters)
    marked = marks(booked, traded, parameters)
    return booked, marked, performance(booked, marked, traded, day(last), 365.0, parameters)


def cell(found: pl.DataFrame, strategy: str = "blend", symbol: str = ALL, regime: str = ALL, window: str = EVER) -> Any:
    rows = found.filter(
        pl.col("strategy") == strategy,
        pl.col("symbol") == symbol,
        pl.col("regime") == regime,
        pl.col("window") == window,
    ).rows(named=True)
    assert len(rows) == 1
    return rows[0]


def stairs() -> pl.DataFrame:
    """Opens of 100, 110, 99, 108.9, 98.01, then 98.01: up 10 %, down 10 %, up 10 %, down 10 %; closes are opens."""
    opens = [100.0, 100.0, 110.0, 99.0, 108.9, 98.01, 98.01, 98.01]
    return market(bars_of([(price, price, price, price) for price in opens]))


def test_four_positions_by_hand() -> None:
    # Bars 0 to 3 say +1, +1, -1, +1, held for a bar: +10 %, -10 %, -10 % (short of a rise), -10 %.
    free = replace(PLAIN, commission_bp=0.0, slippage_bp=0.0, borrow_bp_year=0.0)
    _, _, found = figures(said((0, 1), (1, 1), (2, -1), (3, 1)), stairs(), 1, free, last=7)
    row = cell(found)
    assert (row["signals"], row["closed"], row["wins"]) == (4, 4, 1)
    assert row["total_pnl"] == pytest.approx(-200.0)
    assert row["expectancy"] == pytest.approx(-0.05)
    assert row["profit_factor"] == pytest.approx(1 / 3)
    assert row["held_long"] == pytest.approx(0.0)
    assert row["win_rate"] == row["hit_rate"] == 0.25
    assert (row["win_low"], row["win_high"]) == (pytest.approx(0.0456, abs=1e-4), pytest.approx(0.6994, abs=1e-4))
    assert row["mean_confidence"] == pytest.approx(0.6)
    assert row["brier"] == pytest.approx((0.4**2 + 3 * 0.6**2) / 4)
    # Persistence bets on the bar before: of bar 0 there is none, bar 1 stood still, bar 2 rose and what came rose too,
    # bar 3 fell and what came fell too: nothing, 0, +10 %, +10 %.
    assert row["persistence"] == pytest.approx(0.2 / 3)
    assert row["momentum"] is None
    # The account: 1,000 for the one symbol, first in bar 1; +10 %, -10 %, -10 %, -10 % of it in bars 2 to 5.
    assert row["total_return"] == pytest.approx(1.1 * 0.9**3 - 1)
    assert row["max_drawdown"] == pytest.approx(0.9**3 - 1)
    assert row["turnover"] == pytest.approx((4 * 1000 + 1100 + 900 + 1100 + 900) / 1000 / 7 * 365)
    assert row["exposure"] == pytest.approx(4 / 7)
    assert row["hold_return"] == pytest.approx(98.01 / 100 - 1)
    assert row["exposed_return"] == pytest.approx(2 / 7 * (98.01 / 100 - 1))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 6))
def test_what_is_told_together_is_the_sum_of_what_is_told_apart(seed: int, horizon: int) -> None:
    bars, actions = both(seed)
    traded = market(bars, actions)
    signals = random_signals(seed, bars, 0.5, changing=True).with_columns(
        regime=pl.when(pl.col("bar_time").dt.day() % 3 == 0).then(pl.lit("trending")).otherwise(pl.lit("volatile"))
    )
    booked, marked, found = figures(signals, traded, horizon, ALL_WAYS)
    for strategy in booked["strategy"].unique():
        whole = cell(found, strategy)
        ours = found.filter(pl.col("strategy") == strategy, pl.col("window") == EVER)
        for apart in (
            ours.filter(pl.col("symbol") != ALL, pl.col("regime") == ALL),
            ours.filter(pl.col("symbol") == ALL, pl.col("regime") != ALL),
            ours.filter(pl.col("symbol") != ALL, pl.col("regime") != ALL),
        ):
            for name in ("signals", "closed", "open", "void", "wins", "total_pnl"):
                assert apart[name].sum() == pytest.approx(whole[name], abs=1e-6), name
        account = account_of(marked, traded, strategy, day(59), ALL_WAYS)
        assert account is not None
        symbols = booked.filter(pl.col("strategy") == strategy, pl.col("entry_price").is_not_null())[
            "symbol"
        ].n_unique()
        capital = ALL_WAYS.notional * symbols
        assert account.returns.sum() * capital == pytest.approx(whole["total_pnl"], abs=1e-6)
        assert whole["sharpe"] == pytest.approx(ratios.sharpe(account.returns, 365.0))
        growth = (1 + monthly(account)["earned"]).product()
        assert growth == pytest.approx(1 + whole["total_return"])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), horizon=st.integers(1, 6), cut=st.integers(30, 58))
def test_later_bars_change_no_figure_as_of_a_day(seed: int, horizon: int, cut: int) -> None:
    bars, actions = both(seed)
    traded, signals = market(bars, actions), random_signals(seed, bars, 0.5, changing=True)
    then = traded.filter(pl.col("timestamp") <= day(cut))
    told = signals.filter(pl.col("bar_time") <= day(cut))
    booked, marked, found = figures(told, then, horizon, ALL_WAYS, last=cut)
    later = performance(booked, marked, traded, day(cut), 365.0, ALL_WAYS)
    assert_frame_equal(found, later)


def test_a_ratio_over_a_year_is_none_of_a_few_days() -> None:
    bars, actions = both(3)
    traded, signals = market(bars, actions), random_signals(3, bars, 0.5, changing=True)
    for last, told in ((10, False), (40, True)):
        until = [
            frame.filter(pl.col(name) <= day(last)) for frame, name in ((signals, "bar_time"), (traded, "timestamp"))
        ]
        _, _, found = figures(*until, 1, ALL_WAYS, last=last)
        whole = cell(found)
        assert whole["max_drawdown"] < 0
        assert [whole[name] is not None for name in ("sharpe", "sortino", "hold_sharpe")] == [told] * 3


def test_a_window_holds_the_positions_decided_on_within_it() -> None:
    parameters = replace(PLAIN, windows=(3,))
    _, _, found = figures(said((0, 1), (2, 1), (5, -1)), stairs(), 1, parameters, last=7)
    assert cell(found, window="3")["signals"] == 1
    assert cell(found, window=EVER)["signals"] == 3
    assert found.filter(pl.col("window") == "3").height == 4, "of both, of the symbol, of the regime, of the crossing"


def test_a_symbol_in_a_regime_has_no_account_and_what_is_undefined_is_null() -> None:
    booked, _, found = figures(said((0, 1)), stairs(), 1, PLAIN, last=7)
    assert booked.height == 1
    assert all(cell(found, symbol="SYM", regime="all")[name] is None for name in ACCOUNT)
    row = cell(found)
    assert row["profit_factor"] is None, "nothing was lost"
    assert not any(isinstance(value, float) and math.isnan(value) for value in row.values())


def test_without_a_position_there_are_no_figures() -> None:
    booked, marked, found = figures(said((0, 0)), stairs(), 1, PLAIN)
    assert booked.is_empty()
    assert found.is_empty()
    assert account_of(marked, stairs(), "blend", day(59), PLAIN) is None


def test_what_waits_for_its_open_is_a_signal_and_has_no_account() -> None:
    _, _, found = figures(said((7, 1)), stairs(), 1, PLAIN, last=7)
    assert (cell(found)["signals"], cell(found)["closed"], cell(found)["sharpe"]) == (1, 0, None)


def test_the_rolling_hit_rate_is_over_the_last_closed_positions() -> None:
    signals = said((0, 1), (1, 1), (2, -1), (3, 1))
    booked, _, _ = figures(signals, stairs(), 1, replace(PLAIN, rolling=2))
    assert rolling_hits(booked, "blend", replace(PLAIN, rolling=2))["hit_rate"].to_list() == [0.5, 0.0, 0.0]


def test_the_calibration_error_is_the_distance_of_what_was_said_from_what_came() -> None:
    said_often, came = np.repeat([0.2, 0.8], 50), np.repeat([0.0, 1.0], 50)
    assert calibration_error(said_often, came, 2) == pytest.approx(0.2)
    assert calibration_error(np.full(10, 0.3), np.repeat([1.0, 0.0], [3, 7]), 1) == pytest.approx(0.0)
    assert calibration_error(np.empty(0), np.empty(0)) is None


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe (1998), table I: 81 of 263 is 0.2553 to 0.3662, 0 of 20 is 0 to 0.1611.
    low, high = wilson(np.array([81 / 263, 0.0]), np.array([263.0, 20.0]))
    assert low == pytest.approx([0.2553, 0.0], abs=5e-5)
    assert high == pytest.approx([0.3662, 0.1611], abs=5e-5)
