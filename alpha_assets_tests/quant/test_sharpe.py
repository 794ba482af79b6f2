"""Probabilistic and deflated Sharpe ratios agree with the published example and with luck as it is drawn."""

import math

import numpy as np
import pytest

from alpha_assets.quant.sharpe import Trials, minimum_years, probabilistic_sharpe, sharpe_error


def test_the_example_of_bailey_and_lopez_de_prado() -> None:
    """Their section «A numerical example»: SR 2.5 a year over 1,250 days, the best of 100 trials of variance 1/2."""
    sharpe = 2.5 / math.sqrt(250)
    threshold = Trials(100, 0.5 / 250).threshold(1250)
    error = sharpe_error(sharpe, skew=-3.0, kurtosis=10.0, dates=1250)
    assert threshold == pytest.approx(0.1132, abs=5e-5)
    assert probabilistic_sharpe(sharpe, threshold, error) == pytest.approx(0.9004, abs=5e-5)


@pytest.mark.parametrize("count", [5, 30, 300])
def test_the_threshold_is_what_the_best_of_so_many_lucky_trials_reaches(count: int) -> None:
    luck = np.random.default_rng(count).normal(0, 0.04, (4000, count)).max(axis=1)
    assert Trials(count, 0.04**2).threshold(10_000) == pytest.approx(luck.mean(), rel=0.06)


def test_one_trial_has_nothing_to_beat_and_more_trials_have_more() -> None:
    assert Trials(1, 0.5).threshold(500) == 0
    thresholds = [Trials(count, 0.01).threshold(500) for count in (2, 5, 50, 5000)]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] > 0


def test_trials_are_counted_whether_or_not_their_score_is_known() -> None:
    assert Trials.of([0.1]) == Trials.of([None]) == Trials(1)
    four = Trials.of([0.1, None, 0.2, 0.6])
    assert (four.count, four.variance) == (4, pytest.approx(0.07))


def test_trials_cannot_agree_better_than_their_own_errors_let_them() -> None:
    assert Trials(10, 0.0).threshold(400) == Trials(10, 1 / 400).threshold(400)
    assert Trials(10, 0.01).threshold(400) > Trials(10, 1 / 400).threshold(400)


def test_the_error_of_a_sharpe_ratio_is_that_of_samples() -> None:
    random = np.random.default_rng(2)
    draws = random.exponential(1.0, (4000, 500)) - 0.9
    found = (draws.mean(axis=1) / draws.std(axis=1)).std()
    assert sharpe_error(0.1, skew=2.0, kurtosis=9.0, dates=500) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize(("count", "variance"), [(0, 0.1), (3, -0.1), (3, math.nan), (3, math.inf)])
def test_what_cannot_be_counted_is_refused(count: int, variance: float) -> None:
    with pytest.raises(ValueError, match="trials of variance"):
        Trials(count, variance)


def test_five_years_bear_no_more_than_45_trials_at_a_sharpe_ratio_of_one() -> None:
    """The example of Bailey, Borwein, Lopez de Prado and Zhu (2014), section «Minimum backtest length»."""
    assert minimum_years(45, 1.0) == pytest.approx(5.0, abs=0.1)
    assert minimum_years(45, 2.0) == pytest.approx(5.0 / 4, abs=0.03)
    assert minimum_years(1, 1.0) == 0
    assert minimum_years(45, 0.0) is None
