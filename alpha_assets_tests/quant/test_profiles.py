"""A profile is arithmetic that can be checked by hand; what is undefined is absent, and merged is what is computed."""

import json
import math
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from alpha_assets.quant.profile_schema import COMPANY, STATE, STATISTICAL, faults
from alpha_assets.quant.profiles import (
    Labels,
    Moments,
    Series,
    company_profile,
    dickey_fuller,
    labels_since,
    resumable,
    series_of,
    statistical_profile,
    unit_root_p,
)
from alpha_assets_tests.quant.histories import NAMES, START, actions_of, assert_same, bars_of, closes, flat, series

REGIMES = ("sideways", "trending", "volatile")


def walk(count: int, seed: int = 1, sd: float = 0.02) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).standard_t(4, count) * sd))


# -- figures by hand --------------------------------------------------------------------------------------------------


def test_a_short_series_by_hand() -> None:
    document = flat(statistical_profile(closes(100, 110, 55, 66, 121), 4))
    returns = np.array([0.1, -0.5, 0.2, 121 / 66 - 1])
    expected = {
        "as_of": "2020-01-05T00:00:00+00:00",
        "coverage.bars": 5,
        "coverage.first_bar": "2020-01-01T00:00:00+00:00",
        "returns.total": 0.21,
        "returns.annual": 0.21,
        "returns.annual_volatility": np.log1p(returns).std(ddof=1) * 2,
        "returns.sharpe": returns.mean() / returns.std(ddof=1) * 2,
        "returns.sortino": returns.mean() / math.sqrt(0.25 / 4) * 2,
        "returns.calmar": 0.21 / 0.5,
        "returns.positive_share": 0.75,
        "returns.best.at": "2020-01-05T00:00:00+00:00",
        "returns.worst.return": -0.5,
        "drawdown.max": -0.5,
        "drawdown.peak": "2020-01-02T00:00:00+00:00",
        "drawdown.trough": "2020-01-03T00:00:00+00:00",
        "drawdown.recovery": "2020-01-05T00:00:00+00:00",
        "drawdown.now": 0.0,
        "liquidity.mean_volume": 10.0,
        "liquidity.median_volume": 10.0,
        "liquidity.mean_traded_value": 904.0,
        "liquidity.median_traded_value": 1000.0,
        "liquidity.zero_volume_share": 0.0,
    }
    for path, value in expected.items():
        assert document[path] == (pytest.approx(value) if isinstance(value, float) else value), path


def test_a_fall_that_is_not_made_good_has_no_recovery() -> None:
    drawdown = statistical_profile(closes(100, 80, 90, 60, 99), 252)["drawdown"]
    assert drawdown == {
        "max": pytest.approx(-0.4),
        "peak": "2020-01-01T00:00:00+00:00",
        "trough": "2020-01-04T00:00:00+00:00",
        "now": pytest.approx(-0.01),
    }


def test_of_equal_peaks_the_first_counts_also_where_the_second_came_later() -> None:
    own = closes(100, 110, 110, 90)
    known = statistical_profile(own.head(2), 252)
    for end in (3, 4):
        known = statistical_profile(own.head(end), 252, known)
    assert known["drawdown"]["peak"] == "2020-01-02T00:00:00+00:00"
    assert known["drawdown"] == statistical_profile(own, 252)["drawdown"]


#: A fifth is lost four times over, and each time made good and more.
EQUAL_FALLS = (28.72, 22.976, 43.08, 34.464, 64.62, 51.696, 96.93, 77.544, 145.395, 145.395)


def test_of_equal_falls_the_first_counts_whatever_a_later_dividend_does_to_the_last_digits() -> None:
    bars, paid = bars_of(*EQUAL_FALLS), actions_of((START + timedelta(days=9), "dividend", 0.1))
    before, own = statistical_profile(series(bars.head(9)), 252), series(bars, paid)
    places = {"peak": "2020-01-01", "trough": "2020-01-02", "recovery": "2020-01-03"}
    for document in (before, statistical_profile(own, 252, before), statistical_profile(own, 252)):
        assert {name: document["drawdown"][name][:10] for name in places} == places


@pytest.mark.parametrize("factor", [1.0, 1 / 7, 0.3, 1e-3, 7.0])
def test_of_equal_returns_and_equal_peaks_the_first_counts_at_every_scale(factor: float) -> None:
    """What is equal by its decimals need not be in binary: 3 x 0.7 is less than 2.1."""
    falls = statistical_profile(closes(*(price * factor for price in EQUAL_FALLS)), 252)
    assert falls["returns"]["worst"]["at"][:10] == "2020-01-02"
    assert falls["returns"]["best"]["at"][:10] == "2020-01-03"
    peaks = [price * factor for price in (1.0, 2.1, 0.7 * 3, 1.5, 2.1, 0.7 * 3)]
    drawdown = statistical_profile(closes(*peaks), 252)["drawdown"]
    assert (drawdown["peak"][:10], drawdown["recovery"][:10]) == ("2020-01-02", "2020-01-05")
    assert -1e-15 < drawdown["now"] <= 0.0


def test_a_close_that_only_rounding_moves_has_not_fallen() -> None:
    assert "peak" not in statistical_profile(closes(2.1, 0.7 * 3, 2.1, 0.7 * 3), 252)["drawdown"]


def test_moments_are_those_of_scipy() -> None:
    returns = np.diff(np.log(walk(500)))
    found = statistical_profile(closes(*walk(500)), 252)["distribution"]
    assert found["deviation"] == pytest.approx(returns.std(ddof=1))
    assert found["skew"] == pytest.approx(stats.skew(returns))
    assert found["excess_kurtosis"] == pytest.approx(stats.kurtosis(returns))


def test_value_at_risk_is_a_quantile_and_the_shortfall_the_mean_beyond_it() -> None:
    simple = np.linspace(-0.1, 0.1, 250)
    risk = statistical_profile(closes(*np.cumprod([100.0, *(1.0 + np.roll(simple, 77))])), 252)["risk"]
    ordered = np.sort(simple)
    assert risk["var_95"] == pytest.approx(-ordered[12])  # the 13th of 250: 5 % is 12.5 bars
    assert risk["cvar_95"] == pytest.approx(-(ordered[:12].sum() + ordered[12] / 2) / 12.5)
    assert risk["var_99"] == pytest.approx(-ordered[2])
    assert risk["cvar_95"] >= risk["var_95"]


def test_a_tail_that_is_a_power_law_has_its_exponent() -> None:
    losses = stats.pareto.ppf((np.arange(4_000) + 0.5) / 4_000, 3.0) * 0.001
    shuffled = np.random.default_rng(3).permutation(np.concatenate([-losses, losses]))
    risk = statistical_profile(closes(*100.0 * np.exp(np.cumsum(shuffled))), 252)["risk"]
    assert risk["tail_bars"] == 399
    assert risk["tail_index"] == pytest.approx(3.0, rel=0.1)


def test_autocorrelation_of_a_process_with_memory() -> None:
    noise = np.random.default_rng(4).normal(0, 0.01, 4_000)
    returns = np.zeros(4_000)
    for place in range(1, 4_000):
        returns[place] = 0.5 * returns[place - 1] + noise[place]
    found = statistical_profile(closes(*100 * np.exp(np.cumsum(returns))), 252)["dependence"]["autocorrelation"]
    assert found["1"] == pytest.approx(0.5, abs=0.05)
    assert found["2"] == pytest.approx(0.25, abs=0.06)
    assert abs(found["20"]) < 0.08


def test_the_unit_root_test_is_the_regression_it_claims_to_be() -> None:
    levels = np.log(walk(400, seed=9))
    found = dickey_fuller(levels)
    lags, change = found["lags"], np.diff(levels)
    assert lags == 5
    rows = len(change) - lags
    design = np.column_stack(
        [np.ones(rows), levels[lags:-1], *(change[lags - lag : len(change) - lag] for lag in range(1, lags + 1))]
    )
    weights, residual, *_ = np.linalg.lstsq(design, change[lags:])
    variance = residual[0] / (rows - design.shape[1]) * np.linalg.inv(design.T @ design)[1, 1]
    assert found["statistic"] == pytest.approx(weights[1] / math.sqrt(variance), rel=1e-6)


@pytest.mark.parametrize(("statistic", "p"), [(-3.43, 0.01), (-2.86, 0.05), (-2.57, 0.10), (3.0, 1.0), (-20.0, 0.0)])
def test_the_p_values_are_those_of_the_tables(statistic: float, p: float) -> None:
    assert unit_root_p(statistic) == pytest.approx(p, abs=0.002)


def test_a_random_walk_has_a_unit_root_and_its_returns_have_none() -> None:
    p = [dickey_fuller(np.log(walk(1_000, seed)))["p_value"] for seed in range(20)]
    assert sum(value < 0.05 for value in p) <= 3
    assert all(dickey_fuller(np.diff(np.log(walk(1_000, seed))))["p_value"] < 1e-6 for seed in range(20))


def test_only_complete_weeks_and_months_count() -> None:
    prices = np.arange(100.0, 200.0)
    fifth_of_february = closes(*prices[:36])  # a Wednesday
    week = statistical_profile(fifth_of_february, 365)["timeframes"]["week"]
    assert week["last_end"] == "2020-02-02"
    assert week["periods"] == 4
    assert week["last_return"] == pytest.approx(prices[32] / prices[25] - 1)
    assert "month" not in statistical_profile(fifth_of_february, 365)["timeframes"]
    month = statistical_profile(closes(*prices[:60]), 365)["timeframes"]["month"]
    assert month["last_end"] == "2020-02-29"
    assert month["last_return"] == pytest.approx(prices[59] / prices[30] - 1)


def test_a_week_ends_with_its_last_session_by_the_calendar() -> None:
    """Good Friday 2020 was 10 April: the week was over on Thursday."""
    days = [date(2020, 3, 30) + timedelta(days=day) for day in range(11) if day % 7 < 5]
    frame = bars_of(*range(100, 100 + len(days))).with_columns(
        timestamp=pl.Series(days).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"), traded_close="close"
    )
    for count, weeks in ((len(days), 1), (len(days) - 1, 0)):
        done, _ = series_of(frame.head(count), actions_of(), "1d", {"SYM": "XNYS"})
        found = statistical_profile(done["SYM"], 252).get("timeframes", {})
        assert found.get("week", {"periods": 0})["periods"] == weeks


def test_regimes_are_counted_bar_by_bar() -> None:
    own = closes(*range(100, 108))
    labels = Labels("features/x", REGIMES, own.at, np.array([-1, 0, 0, 1, -1, 1, 1, 0]))
    found = statistical_profile(own, 252, labels=labels)["regimes"]
    assert found == {
        "until": "2020-01-08T00:00:00+00:00",
        "now": "sideways",
        "bars": {"sideways": 3, "trending": 3},
        "shares": {"sideways": 0.5, "trending": 0.5},
        "transitions": {
            "sideways": {"sideways": 0.5, "trending": 0.5},
            "trending": {"trending": 0.5, "sideways": 0.5},
        },
    }


def test_labels_that_are_counted_already_are_not_counted_again() -> None:
    own = closes(*range(100, 130))
    known = statistical_profile(own.head(20), 252, labels=labels_of(own.head(20)))
    everything = labels_of(own)
    assert_same(statistical_profile(own, 252, known, everything), statistical_profile(own, 252, labels=everything))


# -- what is undefined ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prices", "there", "absent"),
    [
        ((5.0,), {"coverage.bars"}, {"returns.total", "drawdown.max", "distribution.mean"}),
        ((5.0, 6.0), {"returns.total"}, {"returns.annual_volatility", "returns.sharpe", "returns.sortino"}),
        (
            (5.0, 5.0, 5.0),
            {"returns.annual_volatility", "drawdown.max"},
            {"returns.sharpe", "returns.calmar", "distribution.skew", "drawdown.peak", "risk.var_95"},
        ),
    ],
)
def test_what_is_undefined_is_absent(prices: tuple[float, ...], there: set[str], absent: set[str]) -> None:
    found = set(flat(statistical_profile(closes(*prices), 252)))
    assert there <= found
    assert not absent & found
    assert not any(path.startswith(("regimes", "indicators", "timeframes")) for path in found)


def with_volume(bars: pl.DataFrame, volume: Sequence[float | None]) -> pl.DataFrame:
    return bars.with_columns(volume=pl.Series(list(volume), dtype=pl.Float64))


def test_volume_by_hand_a_split_in_between_and_one_bar_unknown() -> None:
    """Ten units a bar and one bar of which nothing is known, then a split of 2 for 1 and forty new units a bar."""
    bars = with_volume(bars_of(*[100.0] * 15, *[50.0] * 25), [10.0] * 14 + [None] + [40.0] * 24 + [60.0])
    split = actions_of((START + timedelta(days=15), "split", 2.0))
    liquidity = statistical_profile(series(bars, split), 252)["liquidity"]
    assert liquidity["mean_volume"] == pytest.approx((14 * 20 + 24 * 40 + 60) / 39)
    assert liquidity["median_volume"] == 40.0
    assert liquidity["volume_to_mean_20"] == pytest.approx(60 / 41)
    before = statistical_profile(series(bars.head(14)), 252)["liquidity"]
    assert (before["mean_volume"], before["median_volume"]) == (10.0, 10.0)


def test_the_usual_volume_is_that_of_twenty_known_bars_that_traded() -> None:
    def ratio(*volume: float | None) -> float | None:
        bars = with_volume(bars_of(*[5.0] * len(volume)), volume)
        return statistical_profile(series(bars), 252)["liquidity"].get("volume_to_mean_20")

    assert ratio(*[10.0] * 19) is None
    assert ratio(*[10.0] * 20) == 1.0
    assert ratio(999.0, *[10.0] * 19, 0.0) == 0.0
    assert ratio(*[10.0] * 10, None, *[10.0] * 10) is None
    assert ratio(*[0.0] * 20) is None


def test_volume_that_is_unknown_is_not_zero() -> None:
    assert "liquidity" not in statistical_profile(series(bars_of(1, 2, 3, volume=None)), 252)
    still = statistical_profile(series(bars_of(1, 2, 3, volume=0.0)), 252)["liquidity"]
    assert still["zero_volume_share"] == 1.0
    assert "amihud" not in still


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=40), st.sampled_from([52, 252, 98_280]))
def test_every_document_follows_its_schema(prices: list[float], a_year: int) -> None:
    own = closes(*prices)
    document = statistical_profile(own, a_year)
    json.dumps(document, allow_nan=False)
    assert faults(STATISTICAL, document) == []
    company = company_profile(own, document)
    json.dumps(company, allow_nan=False)
    assert faults(COMPANY, company) == []


def test_a_field_that_is_not_declared_or_of_another_type_is_a_fault() -> None:
    assert len(faults(STATISTICAL, {"returns": {"luck": 1.0, "sharpe": "high"}, "as_of": None})) == 3
    assert len(faults(COMPANY, {"fundamentals": {"sector": {"value": 3.0, "read_at": "x"}, "mood": {"value": 1}}})) == 2


def test_a_symbol_whose_close_is_no_price_is_named_and_the_other_is_done() -> None:
    both = pl.concat([bars_of(1, 2, symbol="A"), bars_of(1, None, 3)]).with_columns(traded_close="close")
    done, wrong = series_of(both, actions_of(), "1d", NAMES)
    assert list(done) == ["A"]
    assert "SYM" in wrong["SYM"]


def test_only_the_newest_listing_counts() -> None:
    frame = bars_of(900, 800, 10, 11).with_columns(
        listing=pl.when(pl.int_range(pl.len()) < 2).then(START).otherwise(START + timedelta(days=2))
    )
    document = statistical_profile(series(frame), 252)
    assert document["coverage"]["bars"] == 2
    assert document["returns"]["total"] == pytest.approx(0.1)
    assert company_profile(series(frame), document)["coverage"]["listings"] == 2


# -- laws -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=60), st.data())
def test_moments_of_parts_add_up_to_those_of_the_whole(values: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    whole = np.array(values)
    merged = Moments.of(whole[:cut]) + Moments.of(whole[cut:])
    for name in ("count", "mean", "m2", "m3", "m4"):
        assert math.isclose(getattr(merged, name), getattr(Moments.of(whole), name), rel_tol=1e-9, abs_tol=1e-13)


def labels_of(own: Series, since: int | None = None) -> Labels:
    """A regime a bar that follows from its time alone; the first five bars have none."""
    code = np.where(own.at < own.at[0] + 5 * 86_400_000_000, -1, (own.at // 86_400_000_000 // 3) % 3)
    new = own.at > (own.at[0] - 1 if since is None else since)
    return Labels("features/x", REGIMES, own.at[new], code[new])


@settings(max_examples=40)
@given(st.data())
def test_updating_in_any_chunks_is_computing_at_once_with_splits_and_dividends_in_between(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 120))
    # Rounded, so that equal closes and equal returns occur; now and then nothing moves at all.
    steps = data.draw(st.lists(st.sampled_from([-0.05, -0.01, 0.0, 0.0, 0.01, 0.05, 0.3]), min_size=count))
    prices = [float(price) for price in np.round(100.0 * np.cumprod(1.0 + np.array(steps[:count])), 2)]
    events = data.draw(
        st.lists(
            st.tuples(
                st.integers(1, count + 3).map(lambda day: START + timedelta(days=day)),
                st.sampled_from([("split", 2.0), ("split", 0.1), ("dividend", 0.001)]),
            ),
            max_size=4,
            unique_by=lambda event: (event[0], event[1][0]),
        )
    )
    actions = actions_of(*((day, kind, value) for day, (kind, value) in events))
    volume = data.draw(st.lists(st.sampled_from([None, 0.0, 1.0, 250.5, 1e6]), min_size=count, max_size=count))
    bars = with_volume(bars_of(*prices), volume)
    known: dict[str, Any] | None = None
    end = 0
    while end < count:
        end = min(count, end + data.draw(st.integers(1, 40)))
        # Only what had happened by then was known by then.
        seen = actions.filter(pl.col("ex_date") <= START + timedelta(days=end - 1))
        own = series(bars.head(end), seen)
        assert known is None or resumable(known, own)
        labels = labels_of(own, labels_since(known, own, "features/x"))
        known = json.loads(json.dumps(statistical_profile(own, 365, known, labels)))
    assert known is not None
    at_once = statistical_profile(own, 365, labels=labels_of(own))
    assert_same(known, at_once)
    assert known[STATE]["drawdown"] == at_once[STATE]["drawdown"]


def test_merging_is_what_happens_when_nothing_changed() -> None:
    """The law above would hold for code that never merges; here the state is tampered with and must be believed."""
    prices = walk(200)
    known = statistical_profile(closes(*prices[:150]), 252)
    known[STATE]["log"][1] += 1.0
    assert statistical_profile(closes(*prices), 252, known)["distribution"]["mean"] > 0.5


@pytest.mark.parametrize(
    "change",
    [
        lambda bars: bars.with_columns(close=pl.when(pl.int_range(pl.len()) == 40).then(77.7).otherwise("close")),
        lambda bars: bars.with_columns(volume=pl.when(pl.int_range(pl.len()) == 40).then(1.0).otherwise("volume")),
        lambda bars: bars.filter(pl.int_range(pl.len()) != 40),
        lambda bars: bars.with_columns(listing=pl.lit(START - timedelta(days=9))),
        lambda bars: bars.with_columns(
            listing=pl.when(pl.int_range(pl.len()) < 9).then(START).otherwise(date(2020, 1, 10))
        ),
    ],
    ids=["a restated close", "a restated volume", "a bar that is gone", "another listing", "a cut"],
)
def test_a_past_that_was_changed_is_computed_anew(change: Any) -> None:
    bars = bars_of(*walk(120))
    known = statistical_profile(series(bars.head(100)), 252)
    known[STATE]["log"][1] += 1.0  # would be seen, were it merged into
    changed = series(change(bars))
    assert not resumable(known, changed)
    assert_same(statistical_profile(changed, 252, known), statistical_profile(changed, 252))


def test_an_event_that_is_learnt_late_is_computed_anew_and_one_of_today_is_merged() -> None:
    bars = bars_of(*walk(120))
    known = statistical_profile(series(bars.head(100)), 252)
    late = actions_of((START + timedelta(days=50), "dividend", 1.0))
    today = actions_of((START + timedelta(days=100), "dividend", 1.0))
    assert not resumable(known, series(bars, late))
    assert resumable(known, series(bars, today))
    assert_same(statistical_profile(series(bars, today), 252, known), statistical_profile(series(bars, today), 252))


@settings(max_examples=40)
@given(
    st.lists(st.integers(-100, 100).map(lambda step: step / 1_000), min_size=2, max_size=80),
    st.floats(1e-3, 1e3),
    st.floats(1e-3, 1e3),
)
def test_scaling_prices_and_volumes_changes_only_what_is_in_currency_or_in_units(
    steps: list[float], factor: float, more: float
) -> None:
    prices = 100.0 * np.cumprod(1.0 + np.array(steps))
    plain = flat(statistical_profile(series(bars_of(*prices)), 252))
    scaled = flat(statistical_profile(series(bars_of(*prices * factor, volume=10.0 * more)), 252))
    money, units = factor * more, more
    scale = {
        "liquidity.mean_volume": units,
        "liquidity.median_volume": units,
        "liquidity.mean_traded_value": money,
        "liquidity.median_traded_value": money,
        "liquidity.amihud": 1 / money,
    }
    for path, value in plain.items():
        if isinstance(value, float) and path in scaled:
            wanted = value * scale.get(path, 1.0)
            assert math.isclose(scaled[path], wanted, rel_tol=1e-6, abs_tol=1e-7), path


def test_a_split_changes_no_figure_but_that_of_units() -> None:
    prices = walk(150)
    split = actions_of((START + timedelta(days=80), "split", 4.0))
    traded = np.where(np.arange(150) < 80, prices, prices / 4.0)
    volume = np.where(np.arange(150) < 80, 10.0, 40.0)
    halved = bars_of(*traded).with_columns(volume=pl.Series(volume))
    expected = statistical_profile(series(bars_of(*prices)), 252)
    for name in ("mean_volume", "median_volume"):
        expected["liquidity"][name] *= 4.0
    assert_same(statistical_profile(series(halved, split), 252), expected)


def test_what_comes_later_changes_nothing_that_was_said() -> None:
    prices = walk(150)
    later = actions_of((START + timedelta(days=120), "split", 4.0), (START + timedelta(days=130), "dividend", 1.0))
    whole = series(bars_of(*prices), later)
    assert_same(statistical_profile(whole.head(100), 252), statistical_profile(closes(*prices[:100]), 252))


# -- the company ------------------------------------------------------------------------------------------------------


def test_the_company_document_by_hand() -> None:
    prices = [100.0 + day for day in range(400)]
    bars = bars_of(*prices).filter(~pl.int_range(pl.len()).is_in([10, 11, 12, 50]))
    events = actions_of(
        (START + timedelta(days=30), "dividend", 0.5),
        (START + timedelta(days=60), "split", 2.0),
        (START + timedelta(days=900), "split", 3.0),
    )
    own = series(bars, events)
    document = company_profile(own, statistical_profile(own, 365))
    assert document["coverage"] == {
        "bars": 396,
        "first_bar": "2020-01-01T00:00:00+00:00",
        "last_bar": "2021-02-03T00:00:00+00:00",
        "listings": 1,
        "sessions": 396,
        "missing_sessions": 4,
        "longest_gap": 3,
        "flagged_bars": 0,
    }
    assert document["actions"] == {
        "splits": 1,
        "dividends": 1,
        "last_split": {"at": "2020-03-01", "value": 2.0},
        "last_dividend": {"at": "2020-01-31", "value": 0.5},
    }
    performance = document["performance"]
    assert performance["return_1m"] == pytest.approx(499 / 468 - 1)  # 3 January 2021 to 3 February
    assert performance["year_to_date"] == pytest.approx(499 / 465 - 1)
    assert performance["return_12m"] == pytest.approx(499 / (133 / 2) - 1)  # before the split
    assert "return_36m" not in performance
    assert performance["below_year_high"] == 0.0
    assert performance["last_close"] == 499.0


def test_fundamentals_are_in_the_document_as_they_were_read() -> None:
    own = closes(1, 2, 3)
    read = {"sector": {"value": "Technology", "read_at": "2020-01-05T00:00:00+00:00"}}
    told = {"fundamentals": read, "fundamentals_asked_at": "2020-01-05T00:00:00+00:00"}
    document = company_profile(own, statistical_profile(own, 252), told)
    assert document["fundamentals"] == read
    assert faults(COMPANY, document) == []
    assert "fundamentals" not in company_profile(own, statistical_profile(own, 252))


# -- real bars --------------------------------------------------------------------------------------------------------


REAL = ("AAPL", "AMD", "BBY", "F", "JPM", "XOM")


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, Series]:
    frame = pl.read_parquet(shared_data / "sp500_daily_2013_2018.parquet").drop_nulls()
    bars = frame.filter(pl.col("symbol").is_in(REAL)).select(
        "symbol",
        pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
        *(pl.col(name).cast(pl.Float64) for name in ("open", "high", "low", "close", "volume")),
        listing=pl.lit(date(2013, 1, 1)),
        flags=pl.lit(None, pl.String),
        traded_close=pl.col("close").cast(pl.Float64),
    )
    return series_of(bars.sort("symbol", "timestamp"), actions_of(), "1d", dict.fromkeys(REAL, "XNYS"))[0]


@settings(max_examples=10, deadline=None)
@given(name=st.sampled_from(REAL), stops=st.sets(st.integers(1, 1_250), max_size=8))
@example(name="AAPL", stops={1, 2, 3, 50, 51, 700, 1_000})
def test_real_bars_in_chunks_are_real_bars_at_once(real: dict[str, Series], name: str, stops: set[int]) -> None:
    own = real[name]
    known = None
    for end in sorted({*(min(stop, len(own)) for stop in stops), len(own)}):
        part = own.head(end)
        known = statistical_profile(part, 252, known, labels_of(part, labels_since(known, part, "features/x")))
    assert known is not None
    assert_same(known, statistical_profile(own, 252, labels=labels_of(own)))
    assert faults(STATISTICAL, known) == []
