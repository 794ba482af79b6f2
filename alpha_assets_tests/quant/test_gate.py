"""The gate is honest: noise seldom passes, a planted edge is found, and every verdict says why.

These tests work on predictions and returns directly; the whole line on simulated bars is tested with its stations.
Returns share a market factor, have fat tails and clustered volatility, and labels overlap.
"""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from alpha_assets.quant.gate import Judgement, attempt_level, judge
from alpha_assets.quant.metrics import ts_ic
from alpha_assets.quant.parameters import GateParameters
from alpha_assets.quant.shrinkage import shrink

PARAMETERS = GateParameters()
#: For tests over many pools: it is the level that is tested.
QUICK = GateParameters(min_effective_sample=50)
START = datetime(2015, 1, 1, tzinfo=UTC)


def innovations(random: np.random.Generator, dates: int, symbols: int) -> np.ndarray:
    """Student-t returns of variance about 1: a common factor (correlation 0.3), a common GARCH(1, 1) volatility."""
    market = random.standard_t(5, (dates, 1)) * math.sqrt(0.6)
    own = random.standard_t(5, (dates, symbols)) * math.sqrt(0.6)
    mixed = math.sqrt(0.3) * market + math.sqrt(0.7) * own
    variance = np.ones(dates)
    for day in range(1, dates):
        variance[day] = 0.05 + (0.1 * market[day - 1, 0] ** 2 + 0.85) * variance[day - 1]
    return mixed * np.sqrt(variance)[:, None]


def overlapping(returns: np.ndarray, horizon: int) -> np.ndarray:
    sums = np.cumsum(np.concatenate([np.zeros((1, returns.shape[1])), returns]), axis=0)
    return (sums[horizon:] - sums[:-horizon]) / math.sqrt(horizon)


def persistent(random: np.random.Generator, dates: int, symbols: int, memory: float) -> np.ndarray:
    """Scores that remember, half of them common to all symbols."""
    shocks = math.sqrt(0.5) * random.standard_normal((dates, 1)) + math.sqrt(0.5) * random.standard_normal(
        (dates, symbols)
    )
    scores = shocks.copy()
    for day in range(1, dates):
        scores[day] = memory * scores[day - 1] + math.sqrt(1 - memory**2) * shocks[day]
    return scores


def frame(score: np.ndarray, earned: np.ndarray) -> pl.DataFrame:
    dates, symbols = score.shape
    names = np.array([f"S{number:03}" for number in range(symbols)])
    return pl.DataFrame(
        {
            "symbol": np.tile(names, dates),
            "timestamp": np.datetime64("2015-01-01", "us")
            + np.repeat(np.arange(dates), symbols) * np.timedelta64(1, "D"),
            "score": score.ravel(),
            "scaled_return": earned.ravel(),
            "p_up": 1 / (1 + np.exp(-0.1 * score.ravel())),
            "up": earned.ravel() > 0,
        }
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


def noise(
    seed: int, dates: int, symbols: int, horizon: int = 1, memory: float = 0.0, drift: float = 0.0
) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    earned = overlapping(innovations(random, dates + horizon - 1, symbols) + drift, horizon)
    return frame(persistent(random, dates, symbols, memory), earned)


def planted(
    seed: int, dates: int, symbols: int, ic: float, edged: int | None = None, memory: float = 0.5
) -> pl.DataFrame:
    """The first ``edged`` symbols carry an edge of this TS-IC, the others none."""
    random = np.random.default_rng(seed)
    score = persistent(random, dates, symbols, memory)
    earned = innovations(random, dates, symbols)
    earned /= earned.std(axis=0)
    carries = np.arange(symbols) < (symbols if edged is None else edged)
    edge = np.where(carries, ic, 0.0)
    return frame(score, edge * score + np.sqrt(1 - edge**2) * earned)


NULLS = {
    "independent scores": {"dates": 400, "symbols": 10},
    "persistent scores, overlapping labels": {"dates": 400, "symbols": 10, "horizon": 5, "memory": 0.9},
    "the same with drift": {"dates": 400, "symbols": 10, "horizon": 5, "memory": 0.9, "drift": 0.1},
}


@pytest.mark.parametrize("family", NULLS)
def test_noise_passes_in_no_more_than_five_of_a_hundred_pools(family: str) -> None:
    pools = 150
    first = 1000 * list(NULLS).index(family)
    seeds = range(first, first + pools)
    passed = sum(judge_of(noise(seed, **NULLS[family]), family).pool.decision == "promote" for seed in seeds)
    assert passed <= binom.ppf(0.99, pools, 0.05), f"{passed} of {pools} null pools were promoted"


def judge_of(evidence: pl.DataFrame, family: str) -> Judgement:
    return judge(evidence, QUICK, horizon=NULLS[family].get("horizon", 1))


def test_a_contrarian_score_gains_nothing_from_the_demeaning() -> None:
    """Minus the past return on a random walk: demeaning alone gives it a TS-IC of one standard error here."""
    passed, figures, bounds = 0, [], []
    for seed in range(60):
        random = np.random.default_rng(seed)
        returns = random.standard_normal((500 + 20 + 5, 20))
        sums = np.cumsum(np.concatenate([np.zeros((1, 20)), returns]), axis=0)
        score = -(sums[20:520] - sums[:500])
        line = judge(frame(score, sums[25:525] - sums[20:520]), QUICK, horizon=5).pool.line("skill")
        passed += line.passed
        figures.append(line.figure)
        bounds.append((line.bound or 0.0) + 2 * (line.error or 0.0))
    assert np.mean(figures) > 0.01
    assert abs(np.mean(bounds)) < 0.006
    assert passed <= binom.ppf(0.99, 60, 0.08)


@pytest.mark.slow
def test_noise_is_seldom_ever_promoted_in_a_year_of_weekly_attempts() -> None:
    parameters = QUICK
    ever = 0
    for seed in range(600):
        evidence = noise(seed, 300 + 52 * 5, 5)
        ever += any(
            judge(evidence.head(5 * (300 + 5 * week)), parameters, horizon=1, attempt=week).pool.line("skill").passed
            for week in range(1, 53)
        )
    assert ever <= 20, f"{ever} of 600 null families were promoted at least once"


def test_a_planted_edge_is_always_found() -> None:
    for seed in range(10):
        judgement = judge(planted(seed, 2500, 20, 0.15), QUICK, horizon=1)
        assert judgement.pool.line("skill").passed
        assert judgement.pool.line("skill").figure == pytest.approx(0.15, abs=0.03)
    found = [judge(planted(seed, 2500, 20, 0.05), QUICK, horizon=1).pool.decision for seed in range(10)]
    assert found.count("promote") >= 9


def test_in_a_mixed_pool_the_symbols_without_an_edge_are_seldom_promoted() -> None:
    right = wrong = pools = 0
    for seed in range(12):
        judgement = judge(planted(seed, 2500, 20, 0.15, edged=5), QUICK, horizon=1)
        if judgement.pool.decision != "promote":
            continue
        pools += 1
        promoted = [verdict.decision == "promote" for verdict in judgement.symbols.values()]
        right += sum(promoted[:5])
        wrong += sum(promoted[5:])
    assert pools >= 10
    assert right >= 0.9 * 5 * pools
    assert wrong <= 0.1 * 15 * pools


def test_a_leak_is_blocked_until_a_person_has_looked() -> None:
    judgement = judge(planted(1, 600, 5, 0.5), PARAMETERS, horizon=1)
    assert judgement.pool.decision == "block"
    assert judgement.pool.reason.startswith("blocked: lower bound of TS-IC 0.3")
    assert "a person has to look" in judgement.pool.reason
    assert {verdict.decision for verdict in judgement.symbols.values()} == {"block"}


def test_directions_too_often_right_are_a_suspicion_of_their_own() -> None:
    clean = noise(2, 600, 5)
    leaked = clean.with_columns(
        p_up=pl.when(pl.int_range(pl.len()) % 3 == 0).then("p_up").otherwise(pl.col("up") * 0.8 + 0.1)
    )
    judgement = judge(leaked, PARAMETERS, horizon=1)
    assert judgement.pool.decision == "block"
    assert "lower bound of accuracy" in judgement.pool.line("suspicion").sentence
    assert judge(clean, PARAMETERS, horizon=1).pool.line("suspicion").passed


def test_a_verdict_says_why_in_a_sentence_with_its_figures() -> None:
    judgement = judge(noise(5, 1000, 12), PARAMETERS, horizon=1)
    line = judgement.pool.line("skill")
    assert judgement.pool.reason == (
        f"rejected: lower bound of TS-IC {line.bound:.3f} ≤ 0 over 12 symbols and 1,000 dates at level 0.03 "
        f"(TS-IC {line.figure:.3f} ± {line.error:.3f})"
    )
    assert all(
        verdict.reason.startswith("rejected with its pool: lower bound") for verdict in judgement.symbols.values()
    )
    json.dumps(judgement.document(), allow_nan=False)


def test_the_figure_is_the_ts_ic_and_its_error_is_that_of_independent_rows_where_they_are() -> None:
    random = np.random.default_rng(4)
    evidence = frame(random.standard_normal((1500, 10)), random.standard_normal((1500, 10)))
    line = judge(evidence, PARAMETERS, horizon=1).pool.line("skill")
    assert line.figure == pytest.approx(ts_ic(evidence))
    assert line.error == pytest.approx(1 / math.sqrt(15_000), rel=0.25)


def test_days_that_move_together_count_as_what_they_are_worth() -> None:
    random = np.random.default_rng(5)
    one_score, one_return = random.standard_normal((1000, 1)), random.standard_normal((1000, 1))
    alone = judge(frame(one_score, one_return), PARAMETERS, horizon=1).pool
    copies = judge(frame(np.repeat(one_score, 20, 1), np.repeat(one_return, 20, 1)), PARAMETERS, horizon=1).pool
    assert copies.line("skill").error == pytest.approx(alone.line("skill").error)
    assert copies.effective_sample == pytest.approx(alone.effective_sample) == pytest.approx(1000, rel=0.01)
    apart = judge(frame(random.standard_normal((1000, 20)), random.standard_normal((1000, 20))), PARAMETERS, horizon=4)
    assert apart.pool.effective_sample == pytest.approx(5000, rel=0.15)


def test_a_small_sample_is_rejected_however_good_it_looks() -> None:
    judgement = judge(planted(6, 200, 1, 0.4), PARAMETERS, horizon=1)
    assert judgement.pool.decision != "promote"
    assert "effective sample 200 < 250" in judge(noise(6, 200, 1), PARAMETERS, horizon=1).pool.reason


@pytest.mark.parametrize("dates", [0, 1, 15, 39])
def test_next_to_no_dates_are_a_verdict_not_an_error(dates: int) -> None:
    judgement = judge(noise(7, 60, 3).head(3 * dates), PARAMETERS, horizon=1)
    assert judgement.pool.decision == "reject"
    assert "fewer than two blocks" in judgement.pool.reason
    assert all(verdict.ic is None for verdict in judgement.symbols.values())
    json.dumps(judgement.document(), allow_nan=False)


def test_a_constant_score_has_no_skill_and_no_figure() -> None:
    evidence = noise(8, 400, 4).with_columns(score=pl.lit(0.3))
    judgement = judge(evidence, PARAMETERS, horizon=1)
    assert judgement.pool.decision == "reject"
    assert judgement.pool.line("skill").figure is None
    assert "constant" in judgement.pool.reason


def test_later_attempts_have_to_show_more_and_all_together_spend_the_level() -> None:
    levels = [attempt_level(0.05, attempt) for attempt in range(1, 20_000)]
    assert sum(levels) == pytest.approx(0.05, rel=1e-4)
    evidence = noise(9, 500, 5)
    bounds = [
        judge(evidence, PARAMETERS, horizon=1, attempt=attempt).pool.line("skill").bound for attempt in (1, 2, 52)
    ]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[2]


def test_the_same_evidence_gives_the_same_verdict_in_any_order() -> None:
    evidence = planted(10, 500, 6, 0.08)
    shuffled = evidence.sample(fraction=1.0, shuffle=True, seed=1)
    assert judge(shuffled, PARAMETERS, horizon=2) == judge(evidence, PARAMETERS, horizon=2)


def test_holes_late_listings_and_nulls_are_left_out() -> None:
    evidence = planted(11, 900, 6, 0.1)
    holed = evidence.filter(pl.int_range(pl.len()).hash(3) % 10 > 1).filter(
        (pl.col("symbol") != "S005") | (pl.col("timestamp") > START + timedelta(days=500))
    )
    nulls = holed.with_columns(scaled_return=pl.when(pl.col("symbol") == "S004").then(None).otherwise("scaled_return"))
    judgement = judge(nulls, PARAMETERS, horizon=1)
    assert sorted(judgement.symbols) == ["S000", "S001", "S002", "S003", "S005"]
    assert judgement.pool.rows == nulls.drop_nulls().height
    assert judgement.pool.line("skill").figure == pytest.approx(ts_ic(nulls.drop_nulls()))


def test_a_worse_model_than_the_prior_fails_calibration_but_only_reports_it() -> None:
    evidence = planted(12, 1500, 10, 0.1).with_columns(prior=pl.lit(0.5))
    loud = evidence.with_columns(p_up=1 / (1 + (-2.0 * pl.col("score")).exp()))
    judgement = judge(loud, PARAMETERS, horizon=1)
    assert not judgement.pool.line("calibration").passed
    assert judgement.pool.decision == "promote"
    strict = replace(PARAMETERS, deciding_lines=("sample", "skill", "suspicion", "calibration"))
    assert judge(loud, strict, horizon=1).pool.decision == "reject"
    assert judge(evidence, strict, horizon=1).pool.decision == "promote"


def test_a_successor_is_held_against_the_champion_on_common_rows() -> None:
    evidence = planted(13, 2000, 10, 0.1)
    oracle = evidence.select("symbol", "timestamp", "score")
    random = np.random.default_rng(1)
    weaker = evidence.with_columns(score=pl.col("score") + 2 * random.standard_normal(evidence.height))
    assert not judge(weaker, PARAMETERS, horizon=1, champion=oracle).pool.line("champion").passed
    assert judge(evidence, PARAMETERS, horizon=1, champion=oracle).pool.line("champion").figure == pytest.approx(0.0)
    better = judge(evidence, PARAMETERS, horizon=1, champion=weaker).pool.line("champion")
    assert better.passed
    assert better.figure > 0.02
    strangers = oracle.with_columns(pl.col("timestamp").dt.offset_by("30y"))
    assert "share 0 dates" in judge(evidence, PARAMETERS, horizon=1, champion=strangers).pool.line("champion").sentence


def test_shrinkage_draws_the_weak_to_the_pool_and_leaves_the_strong() -> None:
    errors = np.full(12, 0.03)
    equal = np.random.default_rng(2).normal(0.1, 0.03, 12)
    effect, probability = shrink(equal, errors)
    assert effect.std() < 0.6 * equal.std()
    assert (probability > 0.5).all()
    assert (probability > 0.9).sum() == 11
    lone = np.array([0.25] + [0.0] * 11)
    effect, probability = shrink(lone, errors)
    assert probability[0] > 0.99
    assert effect[0] > 0.15
    assert (probability[1:] < 0.5).all()


def test_wrong_questions_are_refused() -> None:
    evidence = noise(14, 50, 2)
    with pytest.raises(ValueError, match="count from 1"):
        judge(evidence, PARAMETERS, horizon=0)
    with pytest.raises(ValueError, match="count from 1"):
        judge(evidence, PARAMETERS, horizon=1, attempt=0)
    with pytest.raises(ValueError, match="lacks p_up"):
        judge(evidence.drop("p_up"), PARAMETERS, horizon=1)
    with pytest.raises(ValueError, match=r"4 rows of evidence share a key, first S000"):
        judge(pl.concat([evidence, evidence.head(2)]), PARAMETERS, horizon=1)
    with pytest.raises(ValueError, match="skill"):
        GateParameters(deciding_lines=("sample",))


def test_what_is_counted_is_called_by_its_name() -> None:
    daily = noise(1, 300, 3)
    hourly = daily.with_columns(timestamp=START + (pl.col("timestamp") - START) / 24)
    for evidence, unit in ((daily, "300 dates"), (hourly, "300 bar times")):
        assert unit in judge(evidence, QUICK, horizon=1).pool.line("sample").sentence
