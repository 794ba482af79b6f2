"""Confidence is what it says it is; strong is the top decile; the interval holds what it says; nothing looks ahead."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant.blend import Past, past_of, period_begins
from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.outlook import Record, reached, recorded, word
from alpha_assets.quant.parameters import GateParameters, SignalParameters, SimulationParameters
from alpha_assets.quant.reliability import Reliability, reliability
from alpha_assets.quant.simulate import default_symbols, simulate
from alpha_assets_tests.quant.pasts import changed_after, past

PARAMETERS = SignalParameters()
ROUND_TRIP = 0.002


def spoken(
    one: Past, parameters: SignalParameters = PARAMETERS, round_trip: float = ROUND_TRIP
) -> tuple[Record, np.ndarray, np.ndarray]:
    record, blended = recorded(one, parameters, round_trip)
    sure = record.outlook.confidence(blended, one.scale, one.cell, one.period, round_trip)
    return record, blended, sure


def stated(one: Past, sure: np.ndarray, from_period: int = 52) -> np.ndarray:
    return np.flatnonzero((sure >= PARAMETERS.least_confidence) & (one.period >= from_period) & one.known)


def judged(one: Past, blended: np.ndarray, sure: np.ndarray, stamps: np.ndarray) -> Reliability:
    rows = stated(one, sure)
    won = np.sign(blended[rows]) * one.returned[rows] > ROUND_TRIP
    return reliability(sure[rows], won, stamps[rows], GateParameters(), one.horizon)


@pytest.mark.parametrize("seed", [1, 2])
def test_confidence_is_the_share_of_stated_directions_that_earned_their_costs(seed: int) -> None:
    one = past(seed, 1500, 20, (0.15, 0.0, 0.03))
    _, blended, sure = spoken(one)
    found = judged(one, blended, sure, np.arange(len(sure)) // 20)
    assert found.calibrated, found.sentence


@pytest.mark.parametrize("broken", [lambda p: 0.5 + 3 * (p - 0.5), lambda p: p + 0.06])
def test_a_broken_calibrator_is_seen(broken: Callable[[np.ndarray], np.ndarray]) -> None:
    one = past(1, 1500, 20, (0.15, 0.0, 0.03))
    _, blended, sure = spoken(one)
    wrong = np.where(sure >= 0.5, np.clip(broken(sure), 0.5, 0.99), sure)
    found = judged(one, blended, wrong, np.arange(len(sure)) // 20)
    assert found.calibrated is False
    assert found.slope is not None
    assert found.intercept is not None
    assert not found.slope.holds(1.0) or not found.intercept.holds(0.0)
    assert (found.ece or 0.0) > (found.noise or 1.0)


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 10**6), period=st.integers(5, 40))
def test_what_became_known_later_changes_nothing_that_is_believed_in_a_period(seed: int, period: int) -> None:
    one = past(seed, 200, 8, (0.15, 0.0))
    parameters = replace(PARAMETERS, strong_least=5, least_rows=50)
    record, other = (spoken(each, parameters)[0] for each in (one, changed_after(one, period, seed)))
    for name in vars(record.outlook):
        mine, its = (getattr(each.outlook, name)[: period + 1] for each in (record, other))
        np.testing.assert_array_equal(mine, its, err_msg=name)
    assert not np.array_equal(record.outlook.odds[period + 1 :], other.outlook.odds[period + 1 :])


def test_the_strong_are_the_top_decile_of_what_was_stated() -> None:
    one = past(3, 1500, 20, (0.15, 0.0))
    record, _, sure = spoken(one)
    rows = stated(one, sure)
    strong = sure[rows] >= record.outlook.strong_from[one.period[rows]]
    assert strong.mean() == pytest.approx(PARAMETERS.strong_share, abs=0.03)
    assert np.isnan(record.outlook.strong_from[0])


def test_the_last_period_alone_is_believed_as_it_is_among_all() -> None:
    one = past(3, 700, 10, (0.15, 0.0))
    whole, last = (recorded(one, PARAMETERS, ROUND_TRIP, last_only=only)[0] for only in (False, True))
    assert len(one.begins) > 100
    assert last.newest() == whole.newest()
    assert np.isnan(last.outlook.odds[0]).all()


def test_nothing_is_strong_before_enough_was_stated() -> None:
    one = past(3, 300, 20, (0.15, 0.0))
    record, _, _ = spoken(one, replace(PARAMETERS, strong_least=10**6))
    assert np.isnan(record.outlook.strong_from).all()


def test_without_evidence_a_confident_score_is_hardly_more_than_a_coin_that_pays_its_costs() -> None:
    one = past(4, 30, 2, (0.0, 0.0))
    record, _, _ = spoken(one)
    ends, zero = np.zeros(2, dtype=int), np.array([1.0, -1.0])
    sure = record.outlook.confidence(zero, np.full(2, 0.015), ends, ends, ROUND_TRIP)
    np.testing.assert_allclose(sure, 0.4706, atol=0.001)
    assert (record.outlook.confidence(zero, np.full(2, 0.005), ends, ends, ROUND_TRIP) < sure).all()


def test_a_blend_that_was_wrong_is_not_believed_to_be_wrong() -> None:
    one = past(5, 1500, 20, (-0.15,))
    record, _, sure = spoken(one)
    assert (record.outlook.odds[..., 1] >= 0).all()
    assert (record.outlook.slope >= 0).all()
    assert not (sure[one.period > 100] >= 0.5).any()


@pytest.mark.parametrize("round_trip", [0.0, ROUND_TRIP])
def test_of_a_blend_that_was_wrong_no_more_is_said_than_its_calls_came_to(round_trip: float) -> None:
    one = past(5, 1500, 20, (-0.15,))
    _, blended, sure = spoken(one, round_trip=round_trip)
    won = np.sign(blended) * one.returned > round_trip
    overstated = (sure - won)[(one.period >= 52) & one.known].reshape(-1, 20).mean(axis=1)
    assert abs(overstated.mean()) < 3 * overstated.std() / np.sqrt(len(overstated))


def test_what_was_believed_of_a_blend_that_was_right_stays_to_the_bit_when_it_goes_wrong() -> None:
    right, turn = past(8, 900, 20, (0.15,)), 60
    wrong_later = replace(right, scores=np.where(right.period[:, None] >= turn, -right.scores, right.scores))
    before, after = (spoken(one)[0].outlook.odds for one in (right, wrong_later))
    assert (before[..., 1] > 0).all()
    assert (after[-1, :, 1] == 0).any()
    np.testing.assert_array_equal(after[: turn + 1], before[: turn + 1])


def test_a_score_of_nothing_has_no_confidence() -> None:
    one = past(6, 30, 2, (0.1,))
    record, _, _ = spoken(one)
    none = np.zeros(3, dtype=int)
    sure = record.outlook.confidence(np.array([0.0, np.nan, 0.5]), np.array([0.01, 0.01, 0.0]), none, none, ROUND_TRIP)
    assert np.isnan(sure).all()


@pytest.fixture(scope="module")
def simulated() -> Past:
    """Twelve symbols of a simulated market over six years, with the oracle's score for a view."""
    whole = SimulationParameters(late_share=0.0, delisted_share=0.0, split_rate=0.0, dividend_share=0.0)
    parameters = replace(whole, edge_share=1.0)
    first, last = date(2012, 1, 3), date(2017, 12, 29)
    drawn = simulate(parameters, symbols=default_symbols(12), first=first, last=last)
    bars = drawn.bars.with_columns(listing=pl.lit(first), flags=pl.lit(None, pl.String), known_at="timestamp")
    labels = open_to_open(bars, 1)
    truth = drawn.truth.rename({"regime": "true_regime"})
    rows = labels.with_columns(reached(bars, labels)).join(truth, on=["symbol", "timestamp"], maintain_order="left")
    begins = period_begins(rows["timestamp"].min(), rows["timestamp"].max(), PARAMETERS.record_days)  # type: ignore[arg-type]
    scores = np.tanh(rows["z"].to_numpy() / 3)[:, None]
    led = np.ones(rows.height, dtype=bool)
    return past_of(rows.with_columns(regime="true_regime"), ["oracle"], scores, begins, 1, 5.0, led)


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_the_interval_holds_as_many_prices_as_it_says(simulated: Past, coverage: float) -> None:
    record, blended, _ = spoken(simulated, replace(PARAMETERS, coverage=coverage))
    expected = record.outlook.expected(blended, simulated.scale, simulated.period)
    price = np.full(len(blended), 50.0)
    middle, low, high = record.outlook.prices(price, expected, simulated.scale, simulated.period)
    rows = (simulated.period > 52) & np.isfinite(simulated.reached) & np.isfinite(low)
    assert rows.sum() > 10_000
    ended = 50.0 * np.exp(simulated.reached)
    held = ((low < ended) & (ended < high))[rows]
    # Of 15,000 rows that share a market: the error of a share is half a point.
    assert held.mean() == pytest.approx(coverage, abs=0.02)
    assert (low[rows] < middle[rows]).all()
    assert (middle[rows] < high[rows]).all()


def test_confidence_holds_on_simulated_bars_too(simulated: Past) -> None:
    _, blended, sure = spoken(simulated)
    found = judged(simulated, blended, sure, simulated.period)
    assert found.calibrated, found.sentence


def test_the_expected_return_is_what_such_scores_earned() -> None:
    one = past(8, 1500, 20, (0.15,))
    record, blended, _ = spoken(one)
    late = one.period > 100
    expected = record.outlook.expected(blended, one.scale, one.period)[late]
    slope = (expected * one.returned[late]).sum() / (expected**2).sum()
    assert slope == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize(
    ("blended", "confidence", "strong_from", "signal"),
    [
        (0.3, 0.5, 0.6, "BUY"),
        (0.3, 0.6, 0.6, "STRONG_BUY"),
        (-0.3, 0.55, float("nan"), "SELL"),
        (-0.3, 0.7, 0.6, "STRONG_SELL"),
        (0.3, 0.499, 0.4, "HOLD"),
        (float("nan"), float("nan"), 0.4, "HOLD"),
    ],
)
def test_the_word_is_by_confidence(blended: float, confidence: float, strong_from: float, signal: str) -> None:
    assert word(blended, confidence, strong_from, PARAMETERS) == signal


@pytest.mark.parametrize("dates", [3, 400])
def test_the_newest_belief_is_the_same_after_a_detour_through_json(dates: int) -> None:
    one = past(9, dates, 10, (0.1, 0.0))
    record, _, _ = spoken(one)
    again = Record.restored(json.loads(json.dumps(record.newest())))
    assert again.views == record.views
    for part in ("weights", "outlook"):
        for name, value in vars(getattr(record, part)).items():
            np.testing.assert_array_equal(getattr(getattr(again, part), name), value[-1:], err_msg=name)
