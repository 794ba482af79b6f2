"""How much of what heads say is believed: by outcomes they had not seen, and by a stated belief where there are few."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_assets.quant.calibration import (
    LEAST_SLOPE,
    Isotonic,
    Platt,
    Straight,
    Tempered,
    Voice,
    believed_before,
    calibrated,
    log_odds,
    loss,
    probability,
    restored,
    tuned,
)
from alpha_assets.quant.parameters import LearningParameters

PARAMETERS = LearningParameters(slope_prior=0.4, slope_rows=200.0)
RANDOM = np.random.default_rng


def exaggerating(count: int, times: float, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes whose log-odds beyond the prior are ``times`` what is true, the prior, and what happened."""
    random = RANDOM(seed)
    true = 0.8 * random.standard_normal(count)
    base = np.full(count, 0.55)
    up = (random.random(count) < probability(log_odds(base) + true)).astype(int)
    return probability(log_odds(base) + times * true), base, up


def test_an_exaggeration_is_taken_back_by_as_much_as_it_was() -> None:
    vote, base, up = exaggerating(20_000, 4.0)
    found = calibrated(
        "direction", vote, base, up, np.ones(len(up)), np.ones(len(up)), replace(PARAMETERS, isotonic_from=10**9)
    )
    assert isinstance(found, Platt)
    assert found.slope == pytest.approx(1 / 4, abs=0.02)
    assert found.shift == pytest.approx(0.0, abs=0.05)


def test_enough_samples_are_calibrated_by_a_rising_curve_of_any_shape() -> None:
    vote, base, up = exaggerating(40_000, 2.0)
    bent = probability(log_odds(base) + (log_odds(vote) - log_odds(base)) ** 3)
    found = calibrated(
        "direction", bent, base, up, np.ones(len(up)), np.ones(len(up)), replace(PARAMETERS, isotonic_from=30_000)
    )
    assert isinstance(found, Isotonic)
    assert (np.diff(found.shift) >= 0).all()
    straight = calibrated(
        "direction", bent, base, up, np.ones(len(up)), np.ones(len(up)), replace(PARAMETERS, isotonic_from=10**9)
    )
    one = np.ones(len(up))
    assert loss("direction", found(bent, base), up, one) < loss("direction", straight(bent, base), up, one) - 0.001
    shared, many = np.full(len(up), 0.5), replace(PARAMETERS, isotonic_from=30_000)
    assert isinstance(calibrated("direction", bent, base, up, one, shared, many), Platt), "20,000 labels, not 40,000"


@pytest.mark.parametrize("kind", ["direction", "return", "signal"])
def test_without_any_outcome_the_stated_belief_holds_and_few_outcomes_hardly_move_it(kind: str) -> None:
    vote, base, up = exaggerating(4, 1.0)
    three = (np.column_stack([1 - vote, vote / 2, vote / 2]), np.tile([0.4, 0.3, 0.3], (4, 1)), np.array([0, 1, 2, 0]))
    votes, bases, outcome = three if kind == "signal" else (vote, base, up)
    parameters = replace(PARAMETERS, slope_rows=10_000.0)
    before = believed_before(kind, parameters)  # type: ignore[arg-type]
    nothing = calibrated(kind, votes[:0], bases[:0], outcome[:0], np.ones(0), np.ones(0), parameters)  # type: ignore[arg-type]
    few = calibrated(kind, votes, bases, outcome, np.ones(4), np.ones(4), parameters)  # type: ignore[arg-type]
    assert nothing == before
    assert few.document()["slope"] == pytest.approx(0.4, abs=0.01)


def test_overlapping_labels_count_once() -> None:
    vote, base, up = exaggerating(400, 2.0)
    repeated = [np.repeat(part, 5) for part in (vote, base, up)]
    once = calibrated("direction", vote, base, up, np.ones(400), np.ones(400), PARAMETERS)
    five = calibrated("direction", *repeated, np.ones(2000), np.full(2000, 1 / 5), PARAMETERS)
    assert five.document()["slope"] == pytest.approx(once.document()["slope"], rel=1e-9)


def test_a_head_that_was_wrong_is_hardly_believed_and_never_turned_round() -> None:
    vote, base, up = exaggerating(5000, 1.0)
    for kind, outcome in (("direction", 1 - up), ("return", -(vote - base))):
        found = calibrated(kind, vote, base, outcome, np.ones(5000), np.ones(5000), PARAMETERS)  # type: ignore[arg-type]
        assert found.document()["slope"] == LEAST_SLOPE
        said = found(vote, base)
        assert (np.diff(said[np.argsort(vote)]) > 0).all()


def test_what_is_stated_in_the_place_of_a_wrong_head_comes_as_often_as_it_says() -> None:
    random = RANDOM(4)
    beyond = 0.8 + 0.5 * random.standard_normal(5000)
    base = np.full(5000, 0.5)
    up = (random.random(5000) < probability(-beyond / 2)).astype(int)
    votes = {"direction": probability(beyond), "return": base + beyond}
    for kind, vote in votes.items():
        outcome = up if kind == "direction" else base - beyond / 2
        said = calibrated(kind, vote, base, outcome, np.ones(5000), np.ones(5000), PARAMETERS)(vote, base)  # type: ignore[arg-type]
        assert np.mean(said) == pytest.approx(np.mean(outcome), abs=0.02)


def test_rounding_is_no_opinion_that_a_slope_could_be_fitted_to() -> None:
    base = np.full(300, 0.01)
    vote = base + 1e-18 * np.arange(300)
    outcome = 0.01 + 0.02 * RANDOM(1).standard_normal(300)
    found = calibrated("return", vote, base, outcome, np.ones(300), np.ones(300), PARAMETERS)
    assert isinstance(found, Straight)
    assert found.slope == pytest.approx(0.4, abs=1e-6)


@given(st.integers(0, 2**31), st.floats(0.02, 3.0))
def test_classes_stay_probabilities_and_a_slope_of_one_leaves_them_as_they_are(seed: int, slope: float) -> None:
    random = RANDOM(seed)
    vote, base = (random.dirichlet([1.0, 2.0, 1.0], 50) for _ in range(2))
    said = Tempered(slope)(vote, base)
    np.testing.assert_allclose(said.sum(axis=1), 1.0)
    np.testing.assert_allclose(Tempered(1.0)(vote, base), vote, atol=1e-5)


@given(st.integers(0, 2**31))
def test_calibrated_classes_lose_no_more_than_those_believed_before(seed: int) -> None:
    random = RANDOM(seed)
    base = np.tile([0.3, 0.4, 0.3], (500, 1))
    vote = random.dirichlet([3.0, 4.0, 3.0], 500)
    classes = (random.random((500, 1)) > vote.cumsum(axis=1)).sum(axis=1)
    one = np.ones(500)
    found, before = (
        calibrated("signal", vote, base, classes, one, one, PARAMETERS),
        believed_before("signal", PARAMETERS),
    )
    assert loss("signal", found(vote, base), classes, one) <= loss("signal", before(vote, base), classes, one)


def test_a_vote_weighs_its_heads_by_what_they_were_worth_out_of_sample() -> None:
    vote, base, up = exaggerating(5000, 1.0)
    noise = probability(log_odds(base) + RANDOM(9).standard_normal(5000))
    voice = tuned("direction", {"good": vote, "noise": noise}, base, up, np.ones(5000), np.ones(5000), PARAMETERS)
    assert voice.weights["good"] > 0.95
    assert sum(voice.weights.values()) == pytest.approx(1.0)
    against = (noise < np.median(noise)).astype(int)
    half, bolder = np.full(5000, 0.5), probability(2 * log_odds(noise))
    worthless = tuned(
        "direction", {"one": noise, "other": bolder}, half, against, np.ones(5000), np.ones(5000), PARAMETERS
    )
    assert set(worthless.weights.values()) == {0.5}


@pytest.mark.parametrize(
    "calibrator",
    [Platt(0.1, 0.3), Straight(0.001, 0.2), Tempered(0.7), Isotonic(np.array([-1.0, 1.0]), np.array([-0.2, 0.3]))],
)
def test_a_voice_survives_json(calibrator: object) -> None:
    voice = Voice("direction", {"a": 0.25, "b": 0.75}, calibrator)  # type: ignore[arg-type]
    again = Voice.restored(json.loads(json.dumps(voice.document())))
    assert again.document() == voice.document()
    with pytest.raises(ValueError, match="another program"):
        restored({"how": "magic"})
