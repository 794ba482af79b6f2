"""Weights of views: by their own track record, equal without one, and blind to what became known later."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant.blend import DAY, LEAST, learnt, past_of, period_begins, shares
from alpha_assets.quant.parameters import SignalParameters
from alpha_assets.quant.pattern_rates import known_by
from alpha_assets_tests.quant.pasts import changed_after, past

PARAMETERS = SignalParameters()


@given(days=st.integers(1, 90), offset=st.integers(0, 4000))
def test_periods_begin_where_those_of_the_pattern_rates_do(days: int, offset: int) -> None:
    first = datetime.fromtimestamp(offset * 86_400 + 3600, UTC)
    begins = period_begins(first, datetime(2020, 3, 4, 5, tzinfo=UTC), days)
    assert (np.diff(begins) == days * DAY).all()
    assert begins[0] == int(known_by(first, days).timestamp()) * 10**6
    assert begins[-1] == int(known_by(datetime(2020, 3, 4, tzinfo=UTC), days).timestamp()) * 10**6


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), period=st.integers(1, 30))
def test_what_became_known_later_changes_no_weight_and_no_blend_of_a_period(seed: int, period: int) -> None:
    one = past(seed, 150, 4, (0.1, 0.0))
    weights, others = learnt(one, PARAMETERS), learnt(changed_after(one, period), PARAMETERS)
    for name in ("unit", "skill", "weight", "outcomes"):
        np.testing.assert_array_equal(getattr(weights, name)[: period + 1], getattr(others, name)[: period + 1])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), dates=st.integers(2, 200), skill=st.tuples(*[st.floats(-0.3, 0.3)] * 3))
def test_weights_are_never_negative_and_sum_to_one(seed: int, dates: int, skill: tuple[float, ...]) -> None:
    weights = learnt(past(seed, dates, 3, skill), PARAMETERS)
    assert (weights.weight > 0).all()
    np.testing.assert_allclose(weights.weight.sum(axis=2), 1.0)
    assert np.isfinite(weights.skill).all()
    assert (weights.outcomes >= 0).all()


def test_without_evidence_all_weights_are_equal() -> None:
    weights = learnt(past(1, 200, 10, (0.2, 0.0, 0.0)), PARAMETERS)
    np.testing.assert_allclose(weights.weight[0], 1 / 3)
    assert np.ptp(weights.weight[1:3]) < np.ptp(weights.weight[-1])


def test_with_evidence_the_better_view_has_its_way_in_every_regime() -> None:
    weights = learnt(past(2, 2000, 20, (0.1, 0.0)), PARAMETERS)
    assert (weights.weight[-1, :, 0] > 0.8).all()
    assert weights.skill[-1, 0, 0] == pytest.approx(0.1, abs=0.02)
    assert abs(weights.skill[-1, 0, 1]) < 0.02


def test_a_regime_of_its_own_has_weights_of_its_own_and_one_without_rows_those_of_all() -> None:
    one = past(3, 2000, 20, (0.1, 0.0))
    crossed = np.where((one.cell == 2)[:, None], one.scores[:, ::-1], one.scores)
    weights = learnt(replace(one, scores=crossed, cell=np.where(one.cell == 4, 0, one.cell)), PARAMETERS)
    last = weights.weight[-1]
    assert last[1, 0] > 0.7 > 0.3 > last[2, 0]
    np.testing.assert_allclose(last[4], last[0], rtol=1e-12)


def test_views_of_no_skill_are_weighed_alike_and_none_is_turned_round() -> None:
    weights = learnt(past(4, 1500, 20, (-0.1, -0.1)), PARAMETERS)
    np.testing.assert_array_equal(weights.weight[-1], 0.5)
    assert (weights.skill[-1, 0] < 0).all()
    mixed = learnt(past(4, 1500, 20, (0.1, -0.1)), PARAMETERS).weight[-1, 0]
    assert 0 < mixed[1] < LEAST


@settings(deadline=None, max_examples=15)
@given(factor=st.floats(0.01, 1.0), seed=st.integers(0, 1000))
def test_the_unit_of_a_views_scores_changes_nothing_once_it_is_measured(factor: float, seed: int) -> None:
    one = past(seed, 200, 10, (0.1, 0.05))
    scaled = replace(one, scores=one.scores * np.array([factor, 1.0]))
    blends = []
    for each in (one, scaled):
        weights = learnt(each, PARAMETERS)
        np.testing.assert_allclose(weights.weight, learnt(one, PARAMETERS).weight, rtol=1e-9)
        blends.append(weights.blend(each.scores, each.cell, each.period))
    measured = one.period >= 6
    assert measured.mean() > 0.5
    np.testing.assert_allclose(blends[1][measured], blends[0][measured], rtol=1e-9, atol=1e-12)


def test_a_view_that_abstains_drops_out_and_the_others_share_its_weight() -> None:
    one = past(5, 300, 10, (0.1, 0.05, 0.0))
    weights = learnt(one, PARAMETERS)
    alone = np.where(np.arange(3) == 1, one.scores, np.nan)
    period = np.full(len(alone), len(one.begins) - 1)
    single = weights.blend(alone, one.cell, period)
    unit = weights.unit[-1, 1]
    np.testing.assert_allclose(single, np.clip(one.scores[:, 1] / unit, -3, 3) / 3)
    assert np.isnan(weights.blend(np.full_like(alone, np.nan), one.cell, period)).all()
    shared = shares(weights, one.views, (True, False, True), 0, -1)
    assert list(shared) == ["view0", "view2"]
    assert sum(shared.values()) == pytest.approx(1.0)
    assert shares(weights, one.views, (False, False, False), 0, -1) == {}


def test_blended_scores_stay_within_their_bounds() -> None:
    one = past(6, 300, 10, (0.1, 0.05))
    blended = learnt(one, PARAMETERS).blend(one.scores * 100, one.cell, one.period)
    assert np.abs(blended).max() <= 1.0


@pytest.mark.parametrize("jitter", [0.0, 0.01])
def test_a_view_that_always_says_up_has_no_skill_because_the_market_rises(jitter: float) -> None:
    one = past(7, 1000, 20, (0.05, 0.0))
    up = 0.5 + jitter * np.sign(one.scores[:, 1])
    rising = replace(one, earned=one.earned + 0.1, scores=np.column_stack([one.scores[:, 0], up]))
    weights = learnt(rising, PARAMETERS)
    assert weights.skill[-1, 0, 1] == pytest.approx(PARAMETERS.skill_prior, abs=0.05)
    if not jitter:
        assert weights.skill[-1, 0, 1] == pytest.approx(PARAMETERS.skill_prior)


def test_a_bar_is_of_the_period_that_it_begins_in_and_its_outcome_of_the_next_that_begins_when_it_is_known() -> None:
    days = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(21)]
    ends = [day + timedelta(days=3) for day in days[:-1]]
    bars = pl.DataFrame(
        {"timestamp": days, "label_end": [*ends, None], "regime": ["trending", None, "volatile"] * 7}
    ).with_columns(pl.lit(0.01).alias(name) for name in ("scaled_return", "label_return", "scale", "reached"))
    begins = period_begins(days[0], days[-1], 7)
    made = past_of(bars, ["one"], np.zeros((21, 1)), begins, 1, 5.0, np.ones(21, dtype=bool))
    assert made.period.tolist() == [0] * 7 + [1] * 7 + [2] * 7
    # Known on the fourth day after, on a Monday too: Friday's bar is the period's that begins then.
    assert made.settled.tolist() == [1] * 5 + [2] * 7 + [3] * 9
    assert made.known.sum() == 12
    assert made.cell[:3].tolist() == [1, 0, 3]


def test_the_precision_of_an_ic_counts_dates_that_move_together_as_less_than_their_rows() -> None:
    one = past(8, 1500, 20, (0.0,))
    together = replace(one, scores=np.repeat(one.scores[::20], 20, axis=0))
    apart, shared = (learnt(each, PARAMETERS).outcomes[-1, 0] for each in (one, together))
    assert shared < 0.5 * apart
    assert apart <= 30_000
