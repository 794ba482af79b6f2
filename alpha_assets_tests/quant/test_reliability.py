"""The test of calibration passes what is calibrated about as often as it says, and sees what is not."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from alpha_assets.quant.calibration import log_odds, probability
from alpha_assets.quant.parameters import GateParameters
from alpha_assets.quant.reliability import FIGURES, LEAST_OUTCOMES, LEAST_SHOWN, Interval, Reliability, reliability

PARAMETERS = GateParameters()

Told = tuple[np.ndarray, np.ndarray, np.ndarray]


def told(seed: int, dates: int, symbols: int, *, push: float = 1.0, horizon: int = 1, longs: float = 0.7) -> Told:
    """Confidences whose log-odds are ``push`` times what is true, of longs and shorts that share a market.

    Outcomes of one date have 0.3 in common, and those of bars nearer than ``horizon`` overlap.
    """
    random = np.random.default_rng(seed)
    spread = np.abs(random.standard_normal((dates, symbols))) + 0.4 * np.abs(random.standard_normal((dates, 1)))
    true = probability(0.1 + 0.25 * spread)
    side = np.where(random.random((dates, symbols)) < longs, 1, -1)
    shared, own = random.standard_normal((dates + horizon, 1)), random.standard_normal((dates + horizon, symbols))
    latent = side * (np.sqrt(0.3) * overlapping(shared, horizon) + np.sqrt(0.7) * overlapping(own, horizon))
    said = probability(push * log_odds(true))
    return said.ravel(), (latent < ndtri(true)).ravel(), np.repeat(np.arange(dates), symbols)


def overlapping(noise: np.ndarray, horizon: int) -> np.ndarray:
    sums = np.concatenate([np.zeros((1, noise.shape[1])), noise.cumsum(axis=0)])
    return (sums[horizon:] - sums[:-horizon])[: len(noise) - horizon] / np.sqrt(horizon)


def judged(many: int, dates: int, push: float, horizon: int = 1, longs: float = 0.7) -> np.ndarray:
    """Of ``many`` forecasters whether the test passed, and each of its lines: slope, intercept, ECE."""
    found = []
    for seed in range(many):
        one = reliability(*told(seed, dates, 20, push=push, horizon=horizon, longs=longs), PARAMETERS, horizon)
        assert one.slope is not None
        assert one.intercept is not None
        assert one.ece is not None
        assert one.noise is not None
        found.append((one.calibrated, one.slope.holds(1.0), one.intercept.holds(0.0), one.ece < one.noise))
    return np.array(found, dtype=float).mean(axis=0)


@pytest.mark.parametrize(("dates", "horizon", "longs"), [(400, 1, 0.7), (400, 1, 1.0), (400, 5, 1.0), (170, 1, 0.7)])
def test_calibrated_confidences_pass_about_as_often_as_intervals_of_95_percent_should(
    dates: int, horizon: int, longs: float
) -> None:
    # 60 forecasters know a share of 0.95 to 3 points.
    passed = judged(60, dates, 1.0, horizon, longs)
    assert 0.86 <= passed[0] <= 1.0
    assert (passed[1:] >= 0.87).all()


@pytest.mark.parametrize("push", [2.0, 0.4])
def test_confidences_that_are_too_bold_or_too_timid_fail(push: float) -> None:
    passed = judged(20, 400, push)
    assert passed[0] == 0.0
    assert passed[1] <= 0.1, "the slope is 1 / push"


def test_outcomes_that_are_told_again_on_their_date_are_no_more_evidence() -> None:
    said, won, stamps = told(3, 400, 20)
    once = reliability(said, won, stamps, PARAMETERS, 1)
    again = reliability(*(np.repeat(rows, 4) for rows in (said, won, stamps)), PARAMETERS, 1)
    figures, more = once.figures(), again.figures()
    assert more.pop("outcomes") == 4 * figures.pop("outcomes")
    assert more == pytest.approx(figures, rel=1e-6)
    assert [group["error"] for group in again.curve] == pytest.approx([group["error"] for group in once.curve])


def test_the_curve_is_what_came_of_ten_groups_of_rising_confidence() -> None:
    said, won, stamps = told(1, 400, 20)
    one = reliability(said, won, stamps, PARAMETERS, 1)
    order = np.argsort(said, kind="stable")
    for group, rows in zip(one.curve, np.split(order, 10), strict=True):
        assert group["rows"] == 800
        assert group["said"] == pytest.approx(said[rows].mean())
        assert group["came"] == pytest.approx(won[rows].mean())
        assert 0.5 / np.sqrt(800) * 0.7 < group["error"] < 0.06
    assert one.ece == pytest.approx(np.mean([abs(group["said"] - group["came"]) for group in one.curve]))
    assert one.brier == pytest.approx(np.mean((said - won) ** 2))


def test_the_same_outcomes_in_another_order_are_judged_the_same() -> None:
    said, won, stamps = told(2, 200, 20)
    order = np.random.default_rng(0).permutation(len(said))
    one, other = (
        reliability(*parts, PARAMETERS, 1) for parts in ((said, won, stamps), (said[order], won[order], stamps[order]))
    )
    assert one.sentence == other.sentence
    assert one.figures() == pytest.approx(other.figures())


def test_too_few_outcomes_or_dates_are_said_to_be_too_few_and_nothing_is_made_up() -> None:
    said, won, stamps = told(1, 400, 20)
    tested = {"slope", "slope_low", "slope_high", "intercept", "intercept_low", "intercept_high"}
    tested |= {"ece", "noise", "calibrated"}
    for count, needed in ((LEAST_OUTCOMES - 1, "2,000 outcomes are needed"), (50, "2,000 outcomes are needed")):
        few = reliability(said[:count], won[:count], stamps[:count], PARAMETERS, 1)
        assert few.calibrated is None
        assert few.sentence.startswith(f"too few to judge: {count:,} outcomes at")
        assert needed in few.sentence
        assert set(few.figures()) == set(FIGURES) - tested
        assert len(few.curve) == (10 if count >= LEAST_SHOWN else 0)
    dates = stamps % 159
    short = reliability(said, won, dates, PARAMETERS, 1)
    assert short.calibrated is None
    assert "159 bar times" in short.sentence
    assert "160 bar times are needed, 8 blocks of 20" in short.sentence
    nothing = reliability(said[:0], won[:0], stamps[:0], PARAMETERS, 1)
    assert (nothing.figures(), nothing.sentence) == (
        {"outcomes": 0.0, "dates": 0.0},
        "nothing was stated whose outcome is known",
    )


def test_where_every_confidence_is_the_same_there_is_no_slope_and_the_distance_decides() -> None:
    _, won, stamps = told(1, 400, 20)
    for said, verdict, word in ((won.mean(), None, "cannot be judged"), (0.9, False, "not calibrated")):
        one = reliability(np.full(len(won), said), won, stamps, PARAMETERS, 1)
        assert (one.slope, one.calibrated) == (None, verdict)
        assert one.sentence.startswith(word)
        assert "no slope can be told" in one.sentence


def test_an_interval_holds_what_lies_inside_it() -> None:
    one = Interval(1.0, 0.5, 1.5)
    assert one.holds(1.4)
    assert not one.holds(1.5)
    assert not one.holds(0.4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(0, 4_000), dates=st.integers(1, 500))
def test_whatever_was_stated_the_document_is_json_of_finite_numbers(seed: int, rows: int, dates: int) -> None:
    random = np.random.default_rng(seed)
    said = np.round(random.random(rows), random.integers(0, 3))
    won = random.random(rows) < random.choice([0.0, 0.5, 1.0])
    one = reliability(said, won, random.integers(0, dates, rows), PARAMETERS, 1)
    again = json.loads(json.dumps(one.document(), allow_nan=False))
    assert set(again) <= {*FIGURES, "curve", "sentence"}
    assert again["sentence"]
    assert isinstance(one, Reliability)
