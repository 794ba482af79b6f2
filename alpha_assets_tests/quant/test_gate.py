"""The gate is honest: noise seldom passes, a planted edge is found, and every verdict says why.

These tests work on predictions and returns directly; the whole line on simulated bars is tested with its stations.
Returns share a market factor, have fat tails and clustered volatility, and labels overlap.
"""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom

from alpha_assets.quant.evidence import Panel
from alpha_assets.quant.gate import (
    REGISTERED,
    Judgement,
    against_pool,
    attempt_level,
    configuration_of,
    judge,
    sharpe_of,
)
from alpha_assets.quant.gate_lines import Drift
from alpha_assets.quant.metrics import direction, ts_ic, xs_ic
from alpha_assets.quant.parameters import GATE_LINES, GateParameters
from alpha_assets.quant.sharpe import Trials
from alpha_assets_tests.quant.markets import frame, noise, planted

PARAMETERS = GateParameters()
#: For tests over many pools: it is the level that is tested.
QUICK = GateParameters(min_effective_sample=50)
START = datetime(2015, 1, 1, tzinfo=UTC)


NULLS = {
    "independent scores": {"dates": 400, "symbols": 10},
    "persistent scores, overlapping labels": {"dates": 400, "symbols": 10, "horizon": 5, "memory": 0.9},
    "the same with drift": {"dates": 400, "symbols": 10, "horizon": 5, "memory": 0.9, "drift": 0.1},
}


@pytest.mark.parametrize("family", NULLS)
def test_noise_passes_in_no_more_than_five_of_a_hundred_pools(family: str) -> None:
    pools = 80
    first = 1000 * list(NULLS).index(family)
    seeds = range(first, first + pools)
    passed = sum(judge_of(noise(seed, **NULLS[family]), family).pool.decision == "promote" for seed in seeds)
    assert passed <= binom.ppf(0.99, pools, 0.05), f"{passed} of {pools} null pools were promoted"


def judge_of(evidence: pl.DataFrame, family: str) -> Judgement:
    return judge(evidence, QUICK, horizon=NULLS[family].get("horizon", 1))


def test_contrarian_scores_pass_no_more_often_than_others() -> None:
    """Minus the past return on a random walk, which demeaning gives a TS-IC of one standard error for nothing."""
    passed = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        sums = np.cumsum(np.concatenate([np.zeros((1, 20)), random.standard_normal((565, 20))]), axis=0)
        score = -(sums[60:560] - sums[:500])
        panel = Panel(np.ones((500, 20)), PARAMETERS, 5)
        ic = panel.estimate(panel.ic(panel.standard(score), panel.standard(sums[65:565] - sums[60:560])))
        passed += ic.bound(attempt_level(0.05, 1)) > 0
    assert passed <= binom.ppf(0.99, 200, attempt_level(0.05, 1))


def test_a_planted_edge_is_always_found() -> None:
    for seed in range(5):
        judgement = judge(planted(seed, 2500, 20, 0.15), QUICK, horizon=1)
        assert judgement.pool.decision == "promote"
        assert judgement.pool.line("skill").figure == pytest.approx(0.15, abs=0.03)
    found = [judge(planted(seed, 2500, 20, 0.05), QUICK, horizon=1).pool.decision for seed in range(6)]
    assert found.count("promote") >= 5


def test_in_a_mixed_pool_the_symbols_without_an_edge_are_seldom_promoted() -> None:
    right = wrong = pools = 0
    for seed in range(8):
        judgement = judge(planted(seed, 2500, 20, 0.15, edged=5), QUICK, horizon=1)
        if judgement.pool.decision != "promote":
            continue
        pools += 1
        promoted = [verdict.decision == "promote" for verdict in judgement.symbols.values()]
        right += sum(promoted[:5])
        wrong += sum(promoted[5:])
    assert pools >= 7
    assert right >= 0.9 * 5 * pools
    assert wrong <= 0.1 * 15 * pools


def test_a_leak_is_blocked_until_a_person_has_looked() -> None:
    judgement = judge(planted(1, 600, 5, 0.5), PARAMETERS, horizon=1)
    assert judgement.pool.decision == "block"
    assert judgement.pool.reason.startswith("blocked: lower bound of TS-IC 0.3")
    assert "a person has to look" in judgement.pool.reason
    assert {verdict.decision for verdict in judgement.symbols.values()} == {"block"}


def test_a_leak_into_one_symbol_of_twenty_is_blocked_though_the_pool_does_not_show_it() -> None:
    clean = planted(3, 1500, 20, 0.10)
    leaker = clean["symbol"][0]
    seen = clean.with_columns(score=pl.when(pl.col("symbol") == leaker).then("scaled_return").otherwise("score"))
    assert judge(clean, PARAMETERS, horizon=1).symbols[leaker].decision == "promote"
    judgement = judge(seen, PARAMETERS, horizon=1)
    assert judgement.pool.decision == "promote"
    verdict = judgement.symbols.pop(leaker)
    assert verdict.decision == "block"
    assert verdict.reason.startswith("blocked: lower bound of its own TS-IC 0.9")
    assert "a person has to look" in verdict.reason
    assert "block" not in {one.decision for one in judgement.symbols.values()}
    assert verdict.reason.endswith("at level 0.0005: too good to be true, a person has to look for a leak")
    told = judge(seen, without("suspicion"), horizon=1).symbols[leaker]
    assert told.decision == "promote", "where the line does not decide, nothing is blocked"


def test_the_thresholds_are_those_that_this_release_registered() -> None:
    """They are chosen once a release, before any evidence is seen: a change here needs a new release beside it."""
    assert REGISTERED[version("alpha_assets")] == configuration_of(GateParameters())
    assert judge(noise(2, 600, 5), PARAMETERS, horizon=1).pool.configuration in REGISTERED.values()
    assert configuration_of(replace(PARAMETERS, suspicion_ic=0.2)) not in REGISTERED.values()


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
    judgement = judge(noise(5, 1000, 12), without("calibration", "deflated_sharpe"), horizon=1)
    line = judgement.pool.line("skill")
    assert judgement.pool.reason == (
        f"rejected: lower bound of TS-IC {line.bound:.3f} ≤ 0 over 12 symbols and 1,000 dates at level 0.03 "
        f"(TS-IC {line.figure:.3f} ± {line.error:.3f})"
    )
    contrarian = noise(5, 1000, 12).with_columns(score=-pl.col("scaled_return").rolling_sum(60).shift(1).over("symbol"))
    assert " of it by demeaning alone)" in judge(contrarian, PARAMETERS, horizon=1).pool.line("skill").sentence
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


def test_a_small_sample_makes_a_canary_at_most_however_good_it_looks() -> None:
    judgement = judge(planted(6, 240, 1, 0.25), PARAMETERS, horizon=1)
    assert judgement.pool.line("skill").passed
    assert judgement.pool.decision == "canary"
    assert judgement.pool.reason.startswith("canary at most: effective sample 240 < 250")
    assert judgement.symbols["S000"].decision == "canary"
    assert "shrunk to a pool that is canary at most: effective sample" in judgement.symbols["S000"].reason
    assert judge(planted(6, 240, 1, 0.25), QUICK, horizon=1).pool.decision == "promote"


def test_a_small_sample_without_skill_is_no_canary() -> None:
    judgement = judge(noise(6, 200, 1), PARAMETERS, horizon=1)
    assert judgement.pool.decision == "reject"
    assert "effective sample 200 < 250" in judgement.pool.reason


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
    evidence = with_linear(traded(planted(10, 500, 21, 0.08), 0.08), 1.0, 1.0).with_columns(prior=pl.lit(0.5))
    champion = evidence.select("symbol", "timestamp", score="linear_score")
    first = judge(evidence, PARAMETERS, horizon=2, champions=[champion])
    for seed in range(3):
        shuffled = evidence.sample(fraction=1.0, shuffle=True, seed=seed)
        mixed = champion.sample(fraction=1.0, shuffle=True, seed=seed + 1)
        assert judge(shuffled, PARAMETERS, horizon=2, champions=[mixed]) == first


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


def without(*names: str) -> GateParameters:
    """The defaults, these lines being told only."""
    return replace(PARAMETERS, deciding_lines=tuple(name for name in PARAMETERS.deciding_lines if name not in names))


def test_a_worse_model_than_the_prior_is_rejected_for_it_unless_the_line_is_only_told() -> None:
    evidence = planted(12, 1500, 10, 0.1).with_columns(prior=pl.lit(0.5))
    loud = evidence.with_columns(p_up=1 / (1 + (-2.0 * pl.col("score")).exp()))
    judgement = judge(loud, PARAMETERS, horizon=1)
    assert not judgement.pool.line("calibration").passed
    assert judgement.pool.reason.startswith("rejected: lower bound of the log-loss saved against")
    told = judge(loud, without("calibration"), horizon=1).pool
    assert not told.line("calibration").passed
    assert told.decision == "promote"
    assert judge(evidence, PARAMETERS, horizon=1).pool.decision == "promote"


@pytest.mark.parametrize("rival", ["half", "pooled prior", "symbol prior"])
def test_calibration_is_held_against_the_best_of_the_priors(rival: str) -> None:
    evidence = noise(15, 800, 6).with_columns(
        prior=pl.lit(0.5),
        p_up=pl.lit(0.5),
        up=pl.int_range(pl.len()).hash(1) % 100 < pl.when(pl.col("symbol") < "S003").then(70).otherwise(50),
    )
    priors = {
        "half": 0.9,
        "pooled prior": 0.6,
        "symbol prior": pl.when(pl.col("symbol") < "S003").then(0.7).otherwise(0.5),
    }
    line = judge(evidence.with_columns(prior=priors[rival]), PARAMETERS, horizon=1).pool.line("calibration")
    assert f"against {rival} " in line.sentence
    assert line.passed == (rival == "half")


def traded(evidence: pl.DataFrame, ic: float, sigma: float = 0.02) -> pl.DataFrame:
    """The evidence with a label of this volatility and the return that an oracle of this IC expects."""
    return evidence.with_columns(
        label_return=sigma * pl.col("scaled_return"), expected_return=ic * sigma * pl.col("score")
    )


MONEY = replace(PARAMETERS, deciding_lines=(*PARAMETERS.deciding_lines, "money"))


def test_money_decides_only_where_the_user_says_so() -> None:
    evidence = traded(planted(16, 1500, 10, 0.06), 0.06)
    told = judge(evidence, PARAMETERS, horizon=1).pool
    assert not told.line("money").passed
    assert told.decision == "promote"
    asked = judge(evidence, MONEY, horizon=1).pool
    assert asked.decision == "reject"
    assert "rejected: lower bound of the net excess return of a trade" in asked.reason


def test_an_edge_beyond_the_round_trip_earns_money_and_costs_take_it_away() -> None:
    evidence = traded(planted(17, 1500, 10, 0.14), 0.14)
    lines = {
        cost: judge(evidence, replace(MONEY, cost_per_side=cost), horizon=1).pool.line("money") for cost in (0, 0.003)
    }
    assert lines[0].passed
    assert "profit factor 1." in lines[0].sentence
    assert not lines[0.003].passed
    dear = judge(evidence, replace(MONEY, cost_per_side=0.05), horizon=1).pool
    assert dear.line("money").sentence == "no figure: no expected return exceeds the round trip of 1000.0 bp"
    assert dear.decision == "reject"


def test_the_net_return_of_a_trade_is_what_a_loop_would_count() -> None:
    evidence = traded(planted(18, 600, 3, 0.3), 0.3)
    line = judge(evidence, PARAMETERS, horizon=1).pool.line("money")
    total = count = 0.0
    for _, rows in evidence.group_by("symbol"):
        position = np.where(rows["expected_return"].abs() > 0.002, np.sign(rows["expected_return"].to_numpy()), 0.0)
        dates = np.arange(600)
        total -= 0.002 * np.abs(position).sum()
        count += np.abs(position).sum()
        for date in dates:
            safe = (dates <= date) | (dates > date + 200)
            total += (position[date] - position[safe].mean()) * rows["label_return"][int(date)]
    assert line.figure == pytest.approx(total / count)


def test_holding_a_rising_market_earns_money_but_nothing_in_excess() -> None:
    rising = noise(19, 1000, 8, drift=0.3).with_columns(
        label_return=0.02 * pl.col("scaled_return"), expected_return=pl.lit(0.01)
    )
    line = judge(rising, PARAMETERS, horizon=1).pool.line("money")
    assert line.figure == pytest.approx(-2 * PARAMETERS.cost_per_side)
    assert not line.passed
    assert float(line.sentence.split("profit factor ")[1][:4]) > 1.2


def test_without_its_columns_money_is_told_to_have_no_figure_and_rejects_where_it_decides() -> None:
    evidence = planted(20, 1500, 10, 0.1)
    assert judge(evidence, PARAMETERS, horizon=1).pool.line("money").figure is None
    assert judge(evidence, PARAMETERS, horizon=1).pool.decision == "promote"
    asked = judge(evidence, MONEY, horizon=1).pool
    assert asked.decision == "reject"
    assert "no figure: the evidence lacks expected_return and label_return" in asked.reason


def test_the_more_trials_were_counted_the_more_their_best_has_to_show() -> None:
    evidence = planted(21, 1000, 6, 0.06)
    pools = {count: judge(evidence, PARAMETERS, horizon=1, trials=Trials(count)).pool for count in (1, 20, 5000)}
    lines = {count: pool.line("deflated_sharpe") for count, pool in pools.items()}
    assert [line.threshold for line in lines.values()] == sorted(line.threshold for line in lines.values())
    assert lines[1].threshold == 0
    assert (pools[1].decision, pools[5000].decision) == ("promote", "reject")
    assert "the best of 5000 trials by luck" in pools[5000].reason
    assert judge(evidence, without("deflated_sharpe"), horizon=1, trials=Trials(5000)).pool.decision == "promote"
    assert pools[1].line("trials").sentence == "no other configuration of this family was tried"
    assert pools[20].line("trials").sentence.startswith("20 configurations of this family were tried, this one incl")
    assert (pools[20].line("trials").figure, pools[20].line("trials").decides) == (20, False)
    apart = judge(evidence, PARAMETERS, horizon=1, trials=Trials(20, 0.05)).pool.line("deflated_sharpe")
    assert apart.threshold > lines[20].threshold


def test_the_sharpe_ratio_is_that_of_the_pooled_portfolio() -> None:
    evidence = planted(22, 1200, 5, 0.2, memory=0.0)
    found = judge(evidence, PARAMETERS, horizon=1).pool
    daily = (
        evidence.with_columns(pl.col("score", "scaled_return") - pl.col("score", "scaled_return").mean().over("symbol"))
        .group_by("timestamp")
        .agg(earned=(pl.col("score") * pl.col("scaled_return")).sum())["earned"]
    )
    assert found.figures["sharpe"] == pytest.approx(float(daily.mean() / daily.std()), rel=0.02)
    assert found.line("deflated_sharpe").figure == found.figures["sharpe"]
    assert sharpe_of(evidence, PARAMETERS, horizon=1) == found.figures["sharpe"]
    assert sharpe_of(evidence.head(0), PARAMETERS, horizon=1) is None
    linear = with_linear(evidence, 3.0, 0.0)
    served = judge(linear, PARAMETERS, horizon=1).pool
    assert (served.serves, sharpe_of(linear, PARAMETERS, horizon=1)) == ("linear", served.figures["sharpe"])


def with_linear(evidence: pl.DataFrame, noise_of_tree: float, noise_of_linear: float) -> pl.DataFrame:
    """Tree and linear rival see the same score through noise of their own."""
    random = np.random.default_rng(9)
    size = evidence.height
    spoilt = evidence.with_columns(
        score=pl.col("score") + noise_of_tree * random.standard_normal(size),
        linear_score=pl.col("score") + noise_of_linear * random.standard_normal(size),
    )
    return spoilt.with_columns(
        p_up=1 / (1 + (-0.1 * pl.col("score")).exp()), linear_p_up=1 / (1 + (-0.1 * pl.col("linear_score")).exp())
    )


def test_where_the_tree_is_worse_than_the_linear_rival_the_linear_one_is_the_candidate() -> None:
    evidence = with_linear(planted(23, 2000, 10, 0.12), 3.0, 0.0)
    pool = judge(evidence, PARAMETERS, horizon=1).pool
    assert pool.serves == "linear"
    assert not pool.line("linear").passed
    assert pool.line("skill").figure == pytest.approx(ts_ic(evidence.with_columns(score="linear_score")))
    assert pool.decision == "promote"
    assert pool.reason.endswith("(the linear rival in the candidate's place)")
    told = judge(evidence, without("linear"), horizon=1).pool
    assert told.serves == "candidate"
    assert told.line("skill").figure == pytest.approx(ts_ic(evidence))


def test_a_tree_as_good_as_the_linear_rival_stays_the_candidate_and_two_share_a_level() -> None:
    evidence = with_linear(planted(24, 2000, 10, 0.12), 0.0, 3.0)
    alone = judge(evidence.drop("linear_score", "linear_p_up"), PARAMETERS, horizon=1).pool
    both = judge(evidence, PARAMETERS, horizon=1).pool
    assert (both.serves, alone.serves) == ("candidate", "candidate")
    assert both.line("linear").passed
    assert both.decision == "promote"
    assert both.line("skill").figure == alone.line("skill").figure
    assert both.line("skill").bound < alone.line("skill").bound
    assert "at level 0.015 " in both.line("skill").sentence
    assert (alone.line("trials").figure, both.line("trials").figure) == (1, 2)
    assert both.line("deflated_sharpe").threshold > alone.line("deflated_sharpe").threshold == 0


def test_a_linear_rival_that_said_nothing_costs_no_level() -> None:
    evidence = planted(24, 500, 5, 0.12)
    silent = evidence.with_columns(linear_score=pl.lit(None, pl.Float64), linear_p_up=pl.lit(None, pl.Float64))
    pool = judge(silent, PARAMETERS, horizon=1).pool
    assert pool.line("linear").figure is None
    assert pool.line("skill") == judge(evidence, PARAMETERS, horizon=1).pool.line("skill")
    assert pool.serves == "candidate"


def test_a_comparison_that_chooses_nobody_costs_no_level_and_is_no_trial() -> None:
    evidence = with_linear(planted(24, 1000, 6, 0.12), 0.0, 3.0)
    pooled = against_pool(evidence, evidence.with_columns(score="linear_score"), PARAMETERS, horizon=1)

    def cost(*told: str) -> tuple[float | None, str]:
        pool = judge(evidence, without(*told), horizon=1, pooled=pooled).pool
        assert None not in (pool.line("linear").figure, pool.line("pooled").figure), "they are told all the same"
        return pool.line("trials").figure, pool.line("skill").sentence.split(" at level ")[1].split()[0]

    assert cost() == (3, "0.0076")
    assert cost("linear") == cost("pooled") == (2, "0.015")
    assert cost("linear", "pooled") == (1, "0.03")


def test_a_linear_model_that_is_the_candidate_itself_is_no_rival_of_its_own() -> None:
    evidence = planted(24, 1000, 6, 0.12)
    linear = evidence.with_columns(linear_score="score", linear_p_up="p_up")
    assert judge(linear, PARAMETERS, horizon=1).document() == judge(evidence, PARAMETERS, horizon=1).document()
    strict = replace(PARAMETERS, linear_margin=0.0)
    assert judge(linear, strict, horizon=1).pool.serves == "candidate", "at no margin as good is not better"


def test_the_money_of_a_linear_rival_is_its_own() -> None:
    evidence = with_linear(planted(25, 2000, 10, 0.14), 3.0, 0.0).with_columns(
        label_return=0.02 * pl.col("scaled_return"),
        expected_return=pl.lit(0.0),
        linear_expected_return=0.14 * 0.02 * pl.col("linear_score"),
    )
    assert judge(evidence, PARAMETERS, horizon=1).pool.line("money").figure > 0
    silent = judge(evidence.drop("linear_expected_return"), PARAMETERS, horizon=1).pool
    assert silent.line("money").figure is None
    unknown = evidence.with_columns(linear_expected_return=pl.lit(None, pl.Float64))
    for pool in (silent, judge(unknown, PARAMETERS, horizon=1).pool):
        assert pool.line("money").sentence == "no figure: expected_return not told"


def test_drift_flags_and_turns_down_only_the_symbols_whose_loss_confirms_it() -> None:
    evidence = planted(26, 1500, 6, 0.12)
    drift = {
        "S000": Drift(alarmed=True, confirmed=True, sentence="S000: drift is confirmed"),
        "S001": Drift(alarmed=True, confirmed=False, sentence="S001: drift is not confirmed"),
        "S002": Drift(alarmed=False, confirmed=True, sentence="S002: no alarm"),
    }
    judgement = judge(evidence, PARAMETERS, horizon=1, drift=drift)
    assert judgement.pool.decision == "promote"
    line = judgement.pool.line("drift")
    assert line.sentence == "drift of 2 symbols is on record: S000, S001; the realised loss confirms 1"
    assert not line.decides
    plain = judge(evidence, PARAMETERS, horizon=1)
    assert judgement.symbols["S000"].reason == "rejected: S000: drift is confirmed"
    assert {name: one for name, one in judgement.symbols.items() if name != "S000"} == {
        name: one for name, one in plain.symbols.items() if name != "S000"
    }
    assert judge(evidence, without("drift"), horizon=1, drift=drift).symbols == plain.symbols


def test_floors_are_the_users_and_off_by_default() -> None:
    evidence = planted(27, 1500, 10, 0.12)
    plain = judge(evidence, PARAMETERS, horizon=1).pool
    wanted = direction(evidence["p_up"].to_numpy(), evidence["up"].to_numpy())
    for name in ("f1", "precision", "recall"):
        line = plain.line(name)
        assert line.figure == pytest.approx(wanted[name])
        assert (line.threshold, line.passed, line.decides) == (None, True, False)
        assert line.error > 0
        floored = judge(evidence, replace(PARAMETERS, **{f"{name}_floor": 0.7}), horizon=1).pool
        assert floored.decision == "reject"
        assert floored.reason.startswith(f"rejected: {name} of up {line.figure:.3f} ± {line.error:.3f} < 0.700")
        assert judge(evidence, replace(PARAMETERS, **{f"{name}_floor": 0.4}), horizon=1).pool.decision == "promote"


def test_xs_ic_and_macro_f1_are_told_with_their_errors_and_never_decide() -> None:
    evidence = planted(28, 700, 25, 0.1)
    figures = judge(evidence, PARAMETERS, horizon=1).pool.figures
    assert figures["xs_ic"] == pytest.approx(xs_ic(evidence))
    assert figures["xs_ic_error"] == pytest.approx(1 / math.sqrt(700 * 24), rel=0.6)
    wanted = direction(evidence["p_up"].to_numpy(), evidence["up"].to_numpy())
    assert figures["macro_f1"] == pytest.approx(wanted["macro_f1"])
    assert figures["macro_f1_error"] > 0
    few = judge(planted(28, 700, 19, 0.1), PARAMETERS, horizon=1).pool.figures
    assert (few["xs_ic"], few["xs_ic_error"]) == (None, None)
    assert not {"xs_ic", "macro_f1"} & set(GATE_LINES)


def test_what_was_spent_of_the_years_level_is_told() -> None:
    evidence = noise(29, 400, 4)
    line = judge(evidence, PARAMETERS, horizon=1, attempt=3).pool.line("alpha")
    assert line.figure == pytest.approx(sum(attempt_level(0.05, attempt) for attempt in (1, 2, 3)))
    assert line.sentence == "attempt 3 of the rolling year spends 0.0034; 0.041 of 0.050 is spent"
    assert not line.decides


def test_every_line_is_told_with_figure_error_and_threshold_in_a_sentence() -> None:
    evidence = with_linear(traded(planted(30, 1500, 20, 0.1), 0.1), 0.0, 0.5)
    champion = evidence.select("symbol", "timestamp", score="linear_score")
    drift = {"S000": Drift(alarmed=False, confirmed=False, sentence="S000: no alarm")}
    pooled = against_pool(evidence, champion, PARAMETERS, horizon=1)
    pool = judge(evidence, PARAMETERS, horizon=1, champions=[champion], drift=drift, pooled=pooled).pool
    assert {line.name for line in pool.lines} == {*GATE_LINES, "trials", "alpha", "f1", "precision", "recall"}
    for line in pool.lines:
        assert line.figure is not None
        assert line.error is not None or line.name in ("sample", "drift", "trials", "alpha")
        assert line.threshold is not None or line.name in ("trials", "f1", "precision", "recall")
        assert len(line.sentence) > 20
    json.dumps(judge(evidence, PARAMETERS, horizon=1).document(), allow_nan=False)


def test_a_successor_is_held_against_the_champion_on_common_rows() -> None:
    evidence = planted(13, 2000, 10, 0.1)
    oracle = evidence.select("symbol", "timestamp", "score")
    random = np.random.default_rng(1)
    weaker = evidence.with_columns(score=pl.col("score") + 2 * random.standard_normal(evidence.height))
    assert not judge(weaker, PARAMETERS, horizon=1, champions=[oracle]).pool.line("champion").passed
    assert judge(evidence, PARAMETERS, horizon=1, champions=[oracle]).pool.line("champion").figure == pytest.approx(0.0)
    better = judge(evidence, PARAMETERS, horizon=1, champions=[weaker]).pool.line("champion")
    assert better.passed
    assert better.figure > 0.02
    strangers = oracle.with_columns(pl.col("timestamp").dt.offset_by("30y"))
    unknown = judge(evidence, PARAMETERS, horizon=1, champions=[strangers]).pool
    assert "shares 0 dates with the champion" in unknown.line("champion").sentence
    assert (unknown.decision, unknown.line("champion").decides) == ("promote", False), "or nobody could ever succeed it"
    assert unknown.unmatched == unknown.line("champion").sentence
    assert unknown.reason.endswith(f"; {unknown.unmatched}")


def test_own_fits_serve_only_where_they_beat_the_pooled_model_and_the_two_share_a_level() -> None:
    evidence = planted(13, 2000, 10, 0.1)
    random = np.random.default_rng(1)
    weaker = evidence.with_columns(score=pl.col("score") + 2 * random.standard_normal(evidence.height))
    better = against_pool(evidence, weaker, PARAMETERS, horizon=1)
    assert (better.passed, better.threshold) == (True, 0)
    assert better.figure > 0.02
    worse = against_pool(weaker, evidence, PARAMETERS, horizon=1)
    assert (worse.passed, worse.figure) == (False, pytest.approx(-better.figure))
    assert worse.sentence.startswith("lower bound of TS-IC less that of the pooled model -0.")
    alike = evidence.with_columns(score=pl.col("score") + 0.2 * random.standard_normal(evidence.height))
    assert not against_pool(alike, evidence, PARAMETERS, horizon=1).passed, "as good is not better"
    strangers = weaker.with_columns(pl.col("timestamp").dt.offset_by("30y"))
    unmet = against_pool(evidence, strangers, PARAMETERS, horizon=1)
    assert (unmet.passed, unmet.figure) == (False, None)
    for line, share in ((better, 2), (worse, 2), (unmet, 1), (None, 1)):
        pool = judge(evidence, PARAMETERS, horizon=1, pooled=line).pool
        assert f"at level {attempt_level(0.05, 1) / share:.2g} " in pool.line("skill").sentence
        assert pool.decision == "promote", "the line says who is judged and turns no verdict"


def test_of_several_champions_the_best_is_held_against_the_successor() -> None:
    evidence = planted(13, 2000, 10, 0.1)
    oracle = evidence.select("symbol", "timestamp", "score")
    random = np.random.default_rng(1)
    weaker = oracle.with_columns(score=pl.col("score") + 2 * random.standard_normal(evidence.height))
    strangers = oracle.with_columns(pl.col("timestamp").dt.offset_by("30y"))
    alone = judge(evidence, PARAMETERS, horizon=1, champions=[oracle]).pool.line("champion")
    for champions in ([weaker, strangers, oracle], [oracle, weaker]):
        line = judge(evidence, PARAMETERS, horizon=1, champions=champions).pool.line("champion")
        assert (line.figure, line.bound) == (alone.figure, alone.bound)
        assert f"that of the best of {len(champions)} champions" in line.sentence
    assert judge(evidence, PARAMETERS, horizon=1).pool.unmatched is None


def test_a_successor_that_is_worse_than_production_is_rejected_and_one_that_is_as_good_is_not() -> None:
    evidence = planted(13, 2000, 10, 0.12)
    oracle = evidence.select("symbol", "timestamp", "score")
    random = np.random.default_rng(1)
    weaker = evidence.with_columns(score=pl.col("score") + 2 * random.standard_normal(evidence.height))
    assert judge(weaker, PARAMETERS, horizon=1).pool.decision == "promote"
    assert judge(weaker, PARAMETERS, horizon=1, champions=[oracle]).pool.decision == "reject"
    like = evidence.with_columns(score=pl.col("score") + 0.2 * random.standard_normal(evidence.height))
    assert judge(like, PARAMETERS, horizon=1, champions=[oracle]).pool.decision == "promote"


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
