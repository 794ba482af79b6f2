"""What a backtest is told as adds up: costs, years and months, benchmarks, luck, and who is missing."""

import json

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant import ratios
from alpha_assets.quant.backtest import Plan, held_from_the_start, play
from alpha_assets.quant.backtest_report import SURVIVORS, Row, break_even, luck, outcomes, report, trades
from alpha_assets.quant.parameters import GateParameters, TradingParameters
from alpha_assets.quant.sharpe import Trials
from alpha_assets_tests.quant.test_backtest import market, plan_of, random_scores

TRADING = TradingParameters(participation=1.0)


def told(plan: Plan, horizon: int = 2, trials: Trials = Trials(1), benchmark: str | None = None) -> Row:  # noqa: B008
    return report(plan, TRADING, GateParameters(), horizon, trials, benchmark)


@pytest.fixture(scope="module")
def bars() -> pl.DataFrame:
    return market(6, 500, seed=100)


@pytest.fixture(scope="module")
def plan(bars: pl.DataFrame) -> Plan:
    return plan_of(random_scores(bars, 101), bars, 2, trading=TRADING)


@pytest.fixture(scope="module")
def found(plan: Plan) -> Row:
    return told(plan, benchmark="S03")


def test_at_the_break_even_cost_nothing_is_left_of_the_sum(plan: Plan) -> None:
    even = break_even(plan.played(0.0, 0.005))
    assert even is not None
    played = plan.played(even / 1e4, 0.005)
    left = (played.gross - played.borrow).sum() - even / 1e4 * played.turnover.sum()
    assert left == pytest.approx(0.0, abs=2e-3)
    assert abs(even) > 0.01


def test_years_and_months_make_the_whole(found: Row) -> None:
    whole = 1 + found["figures"]["total_return"]
    for table in ("years", "months"):
        assert np.prod([1 + row["return"] for row in found[table]]) == pytest.approx(whole, rel=1e-9), table
    assert sum(row["periods"] for row in found["years"]) == found["figures"]["periods"]
    assert ratios.total_return(np.array(found["series"]["net"])) == pytest.approx(whole - 1, abs=1e-5)


def test_the_costs_are_told_at_none_and_at_those_of_the_settings_as_the_figures_tell_them(found: Row) -> None:
    by_cost = {row["cost_bp"]: row for row in found["costs"]}
    assert list(by_cost) == [0, 5, 10, 20]
    assert by_cost[10]["total_return"] == found["figures"]["total_return"]
    returns = [row["total_return"] for row in found["costs"]]
    assert returns == sorted(returns, reverse=True)


def test_the_regimes_share_out_the_gross_gain_and_the_trades(plan: Plan, found: Row) -> None:
    assert [row["regime"] for row in found["regimes"]] == ["sideways", "volatile"]
    assert sum(row["gained"] for row in found["regimes"]) == pytest.approx(plan.played(0.001, 0.005).gross.sum())
    assert sum(row["trades"] for row in found["regimes"]) == found["trades"]["closed"]


def test_every_trade_pays_two_sides_and_a_short_its_borrow_too(plan: Plan) -> None:
    over = outcomes(plan, TRADING, 2)
    paid = over.select("side", paid=pl.col("gross") - pl.col("net"))
    assert set(paid["side"]) == {-1, 1}
    assert paid.filter(pl.col("side") > 0)["paid"].to_numpy() == pytest.approx(0.002)
    assert paid.filter(pl.col("side") < 0)["paid"].to_numpy() == pytest.approx(0.002 + 0.005 * 2 / 252)


def test_no_bound_of_a_profit_factor_is_below_nothing(plan: Plan) -> None:
    over = outcomes(plan, TRADING, 2)
    few = over.filter((pl.col("net") < 0) | (pl.col("net") == pl.col("net").max()))
    found = trades(plan, few, GateParameters(), 2)["profit_factor"]
    assert found["value"] - 1.7 * found["error"] < 0 == found["low"] == found["bound"]
    assert found["value"] < found["high"]


def test_holding_the_universe_is_what_buying_all_of_it_once_and_for_long_would_be(bars: pl.DataFrame) -> None:
    once = random_scores(bars, 102).filter(pl.col("timestamp") == pl.col("timestamp").min()).with_columns(score=1.0)
    bought = plan_of(once, bars, 480, trading=TRADING)
    held = play(bought.grid, held_from_the_start(bought.grid, 0.3), 1, 1.0, 0.0, 0.0)
    gained = ratios.wealth(bought.played(0.0).net)[:480] - 1
    # One generation of 480, so a 480th of the account.
    assert 480 * gained == pytest.approx(ratios.wealth(held.net)[:480] - 1, abs=1e-9)


def test_a_benchmark_is_its_symbol_bought_at_the_second_open(bars: pl.DataFrame, found: Row) -> None:
    opens = bars.filter(pl.col("symbol") == "S03").sort("timestamp")["open"].to_numpy()
    assert set(found["benchmarks"]) == {"universe", "S03"}
    # One side is paid, at the entry.
    held = found["benchmarks"]["S03"]["total_return"]
    assert held == pytest.approx(opens[-1] / opens[1] - 1, abs=0.003)
    assert set(told_without(bars)["benchmarks"]) == {"universe"}


def told_without(bars: pl.DataFrame) -> Row:
    return told(plan_of(random_scores(bars, 103), bars, 2, trading=TRADING), benchmark="NOBODY")


def test_luck_asks_more_of_what_was_tried_more_often() -> None:
    net = np.random.default_rng(0).normal(0.0008, 0.01, 1000)
    one, many = (luck(net, 252, Trials(count, 0.001)) for count in (1, 50))
    assert one["deflated"] == one["probabilistic"] == many["probabilistic"]
    assert many["deflated"] < one["deflated"]
    assert many["minimum_years"] > one["minimum_years"] == 0
    assert one["years"] == pytest.approx(1000 / 252)


def test_a_universe_is_said_to_be_of_survivors_however_many_of_them_are_gone(bars: pl.DataFrame, found: Row) -> None:
    assert found["universe"]["survivor_biased"]
    assert found["universe"]["sentence"] == f"{SURVIVORS}: members and former ones, 0 of 6 gone, 0 retired"
    ended = bars.filter((pl.col("symbol") != "S05") | (pl.col("timestamp") < bars["timestamp"][300]))
    other = told(plan_of(random_scores(ended, 104), ended, 2, trading=TRADING))["universe"]
    assert other["survivor_biased"], "one that ended says nothing of those that were never followed"
    assert other["sentence"] == f"{SURVIVORS}: members and former ones, 1 of 6 gone, 0 retired"
    assert (other["gone"], other["retired"]) == (["S05"], [])


def test_who_was_retired_is_named_beside_who_is_gone(bars: pl.DataFrame) -> None:
    ended = bars.filter(~pl.col("symbol").is_in(["S04", "S05"]) | (pl.col("timestamp") < bars["timestamp"][300]))
    plan = plan_of(
        *(random_scores(ended, 104), ended, 2),
        trading=TRADING,
        followed_until={"S04": bars["timestamp"][305]},
        retired=["S04"],
    )
    other = told(plan)["universe"]
    assert other["sentence"] == f"{SURVIVORS}: members and former ones, 1 of 6 gone, 1 retired"
    assert (other["gone"], other["retired"]) == (["S05"], ["S04"])


def test_on_random_walks_the_interval_of_the_mean_gross_gain_contains_nothing() -> None:
    """In 95 of 100 cases, so in 10 of 12 at least but for one time in fifty; ``benchmarks.edges`` has more."""
    inside = []
    for seed in range(12):
        walks = market(10, 300, seed=1000 + 20 * seed)
        plan = plan_of(random_scores(walks, 300 + seed), walks, 5, trading=TRADING)
        gross = trades(plan, outcomes(plan, TRADING, 5), GateParameters(), 5)["gross"]
        inside.append(gross["low"] < 0 < gross["high"])
    assert sum(inside) >= 10


def test_a_report_without_a_single_trade_is_whole_and_plain(bars: pl.DataFrame) -> None:
    none = told(plan_of(random_scores(bars, 105).with_columns(score=0.0), bars, 2, trading=TRADING))
    assert none["trades"] == {"decisions": 0}
    assert none["break_even_bp"] is None
    assert none["figures"]["total_return"] == 0
    json.dumps(none, allow_nan=False)


def test_of_a_prediction_that_nothing_has_followed_yet_there_is_a_report_without_periods(bars: pl.DataFrame) -> None:
    newest = random_scores(bars, 106).filter(pl.col("timestamp") == bars["timestamp"].max())
    found = told(plan_of(newest, bars, 2, trading=TRADING))
    assert found["period"] == {"first": None, "last": None, "periods": 0}
    assert found["trades"] == {"decisions": newest.height, "unfilled": newest.height}
    assert found["benchmarks"] == {}
    json.dumps(found, allow_nan=False)


def test_a_report_is_plain_json(found: Row) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found
