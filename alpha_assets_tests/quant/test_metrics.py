"""Figures equal scikit-learn's and the definitions of GATE.md; what is undefined is None."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import brier_score_loss, f1_score, log_loss, precision_recall_fscore_support, roc_auc_score

from alpha_assets.quant import metrics

START = datetime(2020, 1, 1, tzinfo=UTC)


def evidence(dates: int, symbols: int, seed: int = 1, ic: float = 0.0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    score = random.standard_normal((dates, symbols))
    earned = ic * score + math.sqrt(1 - ic**2) * random.standard_normal((dates, symbols))
    return pl.DataFrame(
        {
            "symbol": [f"S{number:02}" for number in range(symbols)] * dates,
            "timestamp": [START + timedelta(days=day) for day in range(dates) for _ in range(symbols)],
            "score": score.ravel(),
            "scaled_return": earned.ravel(),
            "p_up": np.round(1 / (1 + np.exp(-0.2 * score.ravel())), 2),
            "up": earned.ravel() > 0,
            "prior": random.uniform(0.45, 0.55, dates * symbols),
            "past_return": random.standard_normal(dates * symbols),
            "momentum_return": np.sign(earned.ravel()),
        }
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), dates=st.integers(20, 80))
def test_figures_equal_those_of_scikit_learn(seed: int, dates: int) -> None:
    rows = evidence(dates, 3, seed)
    p_up, up = rows["p_up"].to_numpy(), rows["up"].to_numpy()
    figures = metrics.figures(rows)
    assert figures["auc"] == pytest.approx(roc_auc_score(up, p_up))
    assert figures["brier"] == pytest.approx(brier_score_loss(up, p_up))
    assert figures["log_loss"] == pytest.approx(log_loss(up, p_up))


def test_ts_ic_is_the_correlation_of_what_is_left_of_each_symbols_mean() -> None:
    rows = evidence(200, 4, ic=0.3)
    frame = rows.to_pandas()
    left = frame[["score", "scaled_return"]] - frame.groupby("symbol")[["score", "scaled_return"]].transform("mean")
    assert metrics.ts_ic(rows) == pytest.approx(float(left.corr().iloc[0, 1]))


def test_ts_ic_sees_no_skill_in_knowing_which_symbol_drifts() -> None:
    rows = evidence(400, 4, seed=3)
    level = pl.col("symbol").str.slice(1).cast(pl.Float64)
    drifting = rows.with_columns(pl.col("score") + 5 * level, pl.col("scaled_return") + 5 * level)
    assert metrics.ts_ic(drifting) == pytest.approx(metrics.ts_ic(rows))
    assert np.corrcoef(drifting["score"], drifting["scaled_return"])[0, 1] > 0.9


def test_a_probability_of_one_half_is_half_right() -> None:
    assert metrics.accuracy(np.array([0.5, 0.6, 0.4, 0.4]), np.array([True, True, True, False])) == pytest.approx(0.625)


def test_what_is_undefined_is_none() -> None:
    rows = evidence(30, 2)
    assert metrics.ts_ic(rows.with_columns(score=pl.lit(1.0))) is None
    assert metrics.auc(np.array([0.4, 0.6]), np.array([True, True])) is None
    empty = metrics.figures(rows.clear())
    assert {name for name, figure in empty.items() if figure is None} == {
        *("ts_ic", "xs_ic", "accuracy", "brier", "log_loss", "auc"),
        *("precision", "recall", "f1", "macro_f1"),
    }


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(5, 80))
def test_figures_of_direction_equal_those_of_scikit_learn(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    p_up, up = random.uniform(0.3, 0.7, rows), random.random(rows) > 0.4
    found = metrics.direction(p_up, up)
    if 0 < up.sum() < rows and 0 < (p_up > 0.5).sum() < rows:
        precision, recall, f1, _ = precision_recall_fscore_support(up, p_up > 0.5, average="binary")
        assert (found["precision"], found["recall"], found["f1"]) == pytest.approx((precision, recall, f1))
        assert found["macro_f1"] == pytest.approx(f1_score(up, p_up > 0.5, average="macro"))


def test_a_model_that_never_says_up_has_no_precision() -> None:
    found = metrics.direction(np.array([0.4, 0.4]), np.array([True, False]))
    assert (found["precision"], found["recall"]) == (None, 0.0)


def test_xs_ic_is_the_mean_of_the_daily_rank_correlations() -> None:
    rows = evidence(40, 22, ic=0.3)
    daily = [spearmanr(part["score"], part["scaled_return"]).statistic for _, part in rows.group_by("timestamp")]
    assert metrics.xs_ic(rows) == pytest.approx(float(np.mean(daily)))


def test_xs_ic_needs_twenty_symbols_on_a_date() -> None:
    assert metrics.xs_ic(evidence(40, 19, ic=0.3)) is None
    rows = evidence(40, 20, ic=0.3)
    some = rows.filter((pl.col("symbol") != "S00") | (pl.col("timestamp") < START + timedelta(days=7)))
    assert metrics.daily_rank_ic(some).height == 7


def test_one_certain_miss_does_not_cost_infinity() -> None:
    assert metrics.log_loss(np.array([0.0]), np.array([True])) == pytest.approx(-math.log(metrics.CLIP))


def test_every_naive_rival_stands_beside_the_model() -> None:
    rows = evidence(300, 4)
    rivals = metrics.rivals(rows)
    assert list(rivals) == ["half", "pooled_prior", "symbol_prior", "persistence", "momentum"]
    assert rivals["half"]["log_loss"] == pytest.approx(math.log(2))
    assert rivals["half"]["accuracy"] == pytest.approx(0.5)
    assert rivals["momentum"]["accuracy"] == pytest.approx(1.0)
    assert rivals["persistence"]["accuracy"] == pytest.approx(0.5, abs=0.06)
    pooled = metrics.rival_probabilities(rows)["pooled_prior"]
    assert pooled[:4] == pytest.approx([rows["prior"][:4].mean()] * 4)


def test_a_rival_without_its_column_is_left_out() -> None:
    rows = evidence(30, 2).drop("prior", "past_return", "momentum_return")
    assert list(metrics.rivals(rows)) == ["half"]


def test_a_prior_that_is_unknown_is_one_half() -> None:
    rows = evidence(10, 2).with_columns(prior=pl.when(pl.col("symbol") == "S00").then(0.6).otherwise(None))
    rivals = metrics.rival_probabilities(rows)
    assert rivals["symbol_prior"].tolist() == [0.6, 0.5] * 10
    assert rivals["pooled_prior"].tolist() == [0.6] * 20
    nothing = metrics.rival_probabilities(rows.with_columns(prior=pl.lit(None, pl.Float64)))
    assert nothing["pooled_prior"].tolist() == [0.5] * 20


def test_a_bet_that_is_always_wrong_is_turned_and_one_that_is_never_made_says_half() -> None:
    rows = evidence(50, 2).with_columns(
        past_return=pl.lit(0.0), momentum_return=pl.when("up").then(-1.0).otherwise(1.0)
    )
    rivals = metrics.rival_probabilities(rows)
    assert rivals["persistence"].tolist() == [0.5] * 100
    assert metrics.accuracy(rivals["momentum"], rows["up"].to_numpy()) == 1.0
