"""Estimates by blocks of dates: their errors are those of the bootstrap that is never drawn, and their bias is gone."""

import math
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant.evidence import Estimate, Panel, Sample
from alpha_assets.quant.metrics import ts_ic
from alpha_assets.quant.parameters import GateParameters
from alpha_assets_tests.quant.markets import frame, innovations, noise, overlapping, persistent

PARAMETERS = GateParameters()


def drawn(panel: Panel, figure: Callable[[np.ndarray], float], resamples: int = 3000) -> float:
    """Deviation of a figure of date weights over circular blocks of dates that are really drawn."""
    random = np.random.default_rng(1)
    figures = []
    for _ in range(resamples):
        starts = random.integers(0, panel.dates, panel.dates // panel.block)
        dates = (starts[:, None] + np.arange(panel.block)) % panel.dates
        figures.append(figure(np.bincount(dates.ravel(), minlength=panel.dates)))
    return float(np.std(figures))


def test_the_error_of_a_ts_ic_is_that_of_blocks_that_are_really_drawn() -> None:
    random = np.random.default_rng(3)
    panel = Panel(np.ones((800, 8)), PARAMETERS, 5)
    score = panel.standard(persistent(random, 800, 8, 0.9))
    earned = panel.standard(overlapping(innovations(random, 804, 8), 5) + 0.1 * score)
    both = (panel.purged(score) * earned).sum(axis=1)
    scores, returns = (score**2).sum(axis=1), (earned**2).sum(axis=1)

    def ic(weights: np.ndarray) -> float:
        return float(weights @ both / math.sqrt((weights @ scores) * (weights @ returns)))

    error = panel.estimate(panel.ic(score, earned)).error / panel.widening
    assert error == pytest.approx(drawn(panel, ic), rel=0.06)


def test_the_error_of_a_quotient_is_that_of_blocks_that_are_really_drawn() -> None:
    random = np.random.default_rng(4)
    panel = Panel(np.ones((600, 4)), PARAMETERS, 1)
    above, below = np.abs(innovations(random, 600, 4)), np.abs(innovations(random, 600, 4))
    daily_above, daily_below = above.sum(axis=1), below.sum(axis=1)
    estimate = panel.ratio(above, below)
    assert estimate is not None
    assert estimate.value == pytest.approx(above.sum() / below.sum())
    error = drawn(panel, lambda weights: float(weights @ daily_above / (weights @ daily_below)))
    assert estimate.error / panel.widening == pytest.approx(error, rel=0.06)


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.lists(st.floats(-5, 5), min_size=2, max_size=2), min_size=3, max_size=24),
    holes=st.lists(st.booleans(), min_size=48, max_size=48),
    share=st.floats(0.05, 0.5),
)
def test_a_purged_value_lacks_the_mean_of_the_dates_outside_the_window_after_it(
    values: list[list[float]], holes: list[bool], share: float
) -> None:
    held = 1.0 - np.array(holes[: 2 * len(values)], dtype=float).reshape(-1, 2)
    grid = np.array(values) * held
    panel = Panel(held, GateParameters(purged_share=share), 1)
    found = panel.purged(grid)
    for date, symbol in np.ndindex(grid.shape):
        if not held[date, symbol]:
            assert found[date, symbol] == 0
            continue
        far = [
            grid[other, symbol]
            for other in range(len(grid))
            if held[other, symbol] and not date < other <= date + panel.window
        ]
        assert found[date, symbol] == pytest.approx(grid[date, symbol] - np.mean(far), abs=1e-9)


@pytest.mark.parametrize(("sign", "lookback"), [(-1, 20), (1, 20), (-1, 60), (1, 60)])
def test_a_score_made_of_past_returns_gains_and_loses_nothing_by_the_demeaning(sign: int, lookback: int) -> None:
    """On random walks the plain TS-IC of such scores is off by a standard error; the purged one expects nothing."""
    plain, unbiased = [], []
    for seed in range(150):
        random = np.random.default_rng(seed)
        sums = np.cumsum(np.concatenate([np.zeros((1, 20)), random.standard_normal((505 + lookback, 20))]), axis=0)
        now = sums[lookback : lookback + 500]
        panel = Panel(np.ones((500, 20)), PARAMETERS, 5)
        score = panel.standard(sign * (now - sums[:500]))
        found = panel.ic(score, panel.standard(sums[lookback + 5 : lookback + 505] - now))
        plain.append(found.value)
        unbiased.append(found.unbiased)
    error = np.std(unbiased) / math.sqrt(len(unbiased))
    assert -sign * np.mean(plain) > 6 * error
    assert abs(np.mean(unbiased)) < 3 * error


def test_a_true_edge_is_left_as_it_is() -> None:
    figures = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        score = persistent(random, 1000, 10, 0.97)
        panel = Panel(np.ones((1000, 10)), PARAMETERS, 1)
        earned = 0.1 * score + math.sqrt(0.99) * random.standard_normal((1000, 10))
        figures.append(panel.ic(panel.standard(score), panel.standard(earned)).unbiased)
    assert np.mean(figures) == pytest.approx(0.1, abs=0.01)


def test_a_ts_ic_over_holes_is_the_one_that_metrics_knows() -> None:
    evidence = noise(11, 300, 6).filter(pl.int_range(pl.len()).hash(3) % 10 > 2)
    sample = Sample(evidence, PARAMETERS, 1)
    assert sample.rows == evidence.height
    assert sample.skill is not None
    assert sample.skill.value == pytest.approx(ts_ic(evidence))


def test_a_block_that_begins_near_the_end_goes_on_at_the_first_date() -> None:
    panel = Panel(np.ones((50, 1)), PARAMETERS, 1)
    sums = panel.block_sums(np.arange(50.0))
    assert len(sums) == 50
    assert sums[-1] == 49 + sum(range(19))
    assert sums.sum() == panel.block * sum(range(50))


def test_a_bound_lies_below_the_figure_by_as_many_errors_as_few_blocks_ask_for() -> None:
    few, many = Estimate(0.1, 0.02, 0.01, 3), Estimate(0.1, 0.02, 0.01, 10_000)
    assert many.bound(0.05) == pytest.approx(0.09 - 1.645 * 0.02, abs=1e-4)
    assert few.bound(0.05) < many.bound(0.05)
    assert many.bound(0.5) == pytest.approx(0.09)


def test_the_difference_of_a_score_and_itself_is_known_without_error() -> None:
    random = np.random.default_rng(6)
    panel = Panel(np.ones((300, 3)), PARAMETERS, 1)
    score, earned = (panel.standard(random.standard_normal((300, 3))) for _ in range(2))
    estimate = panel.estimate(panel.ic(score, earned).minus(panel.ic(score, earned)))
    assert (estimate.value, estimate.error, estimate.bias) == (0, 0, 0)


def test_many_bar_times_need_no_more_memory_than_the_panel() -> None:
    random = np.random.default_rng(8)
    evidence = frame(random.standard_normal((150_000, 1)), random.standard_normal((150_000, 1)))
    sample = Sample(evidence, PARAMETERS, 1)
    assert sample.skill is not None
    assert sample.estimate(sample.skill).error == pytest.approx(sample.widening / math.sqrt(150_000), rel=0.1)
