"""A profile is arithmetic that can be checked by hand; what is undefined is None."""

import json
import math
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant.profiles import statistical_profile

START = datetime(2020, 1, 1, tzinfo=UTC)


def closes(*prices: float | None) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "symbol": ["SYM"] * len(prices),
            "timestamp": [START + timedelta(days=day) for day in range(len(prices))],
            "close": prices,
        },
        schema={"symbol": pl.String, "timestamp": pl.Datetime("us", "UTC"), "close": pl.Float64},
    )


def test_a_short_series_by_hand() -> None:
    profile = statistical_profile(closes(100, 110, 55, 66, 121), 4)
    returns = np.array([0.1, -0.5, 0.2, 121 / 66 - 1])
    assert profile["bars"] == 5
    assert profile["first_bar"] == "2020-01-01T00:00:00+00:00"
    assert profile["last_bar"] == "2020-01-05T00:00:00+00:00"
    assert profile["annual_return"] == pytest.approx(0.21)
    assert profile["annual_volatility"] == pytest.approx(np.log1p(returns).std(ddof=1) * 2)
    assert profile["sharpe"] == pytest.approx(returns.mean() / returns.std(ddof=1) * 2)
    assert profile["max_drawdown"] == pytest.approx(-0.5)
    assert profile["drawdown_peak"] == "2020-01-02T00:00:00+00:00"
    assert profile["drawdown_trough"] == "2020-01-03T00:00:00+00:00"
    assert profile["best_bar"] == {"at": "2020-01-05T00:00:00+00:00", "return": pytest.approx(121 / 66 - 1)}
    assert profile["worst_bar"] == {"at": "2020-01-03T00:00:00+00:00", "return": pytest.approx(-0.5)}


@pytest.mark.parametrize(
    ("prices", "none"),
    [
        ((), {"first_bar", "last_bar", "annual_return", "annual_volatility", "sharpe", "max_drawdown", "best_bar"}),
        ((5.0,), {"annual_return", "annual_volatility", "sharpe", "max_drawdown", "best_bar"}),
        ((5.0, 6.0), {"annual_volatility", "sharpe"}),
        ((5.0, 5.0, 5.0), {"sharpe"}),
    ],
)
def test_what_is_undefined_is_none(prices: tuple[float, ...], none: set[str]) -> None:
    profile = statistical_profile(closes(*prices), 252)
    dates = {"drawdown_peak", "drawdown_trough", "worst_bar"}
    assert {name for name, figure in profile.items() if figure is None and name not in dates} == none


@settings(deadline=None)
@given(st.lists(st.floats(1e-6, 1e9), max_size=30), st.sampled_from([52, 252, 98_280]))
def test_every_profile_is_json_without_nan(prices: list[float], periods: int) -> None:
    profile = statistical_profile(closes(*prices), periods)
    json.dumps(profile, allow_nan=False)
    assert profile["max_drawdown"] is None or -1 < profile["max_drawdown"] <= 0


@settings(deadline=None)
@given(st.lists(st.floats(10.0, 1e3), min_size=3, max_size=30), st.floats(1e-3, 1e3))
def test_a_split_changes_no_figure(prices: list[float], factor: float) -> None:
    scaled = statistical_profile(closes(*(price * factor for price in prices)), 252)
    plain = statistical_profile(closes(*prices), 252)
    for name in ("annual_return", "annual_volatility", "max_drawdown"):
        assert math.isclose(scaled[name], plain[name], rel_tol=1e-6, abs_tol=1e-9)


def test_only_the_newest_listing_counts() -> None:
    frame = closes(900, 800, 10, 11).with_columns(
        listing=pl.when(pl.int_range(pl.len()) < 2).then(date(2020, 1, 1)).otherwise(date(2020, 1, 3))
    )
    assert statistical_profile(frame, 252) == statistical_profile(frame.tail(2).drop("listing"), 252)


def test_several_symbols_or_no_price_are_refused() -> None:
    with pytest.raises(ValueError, match="A, SYM"):
        statistical_profile(pl.concat([closes(1, 2), closes(3).with_columns(symbol=pl.lit("A"))]), 252)
    with pytest.raises(ValueError, match="SYM"):
        statistical_profile(closes(1, None, 3), 252)
