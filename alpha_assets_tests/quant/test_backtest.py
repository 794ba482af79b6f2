"""The laws of the backtest: it trades the labelled interval, looks nowhere ahead, and its costs are what was traded."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpha_assets.quant import ratios
from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.backtest import Plan, depended_on, held_from_the_start, planned, play
from alpha_assets.quant.labels import open_to_open
from alpha_assets.quant.parameters import BacktestParameters, SignalParameters, SimulationParameters, TradingParameters
from alpha_assets.quant.simulate import default_symbols, simulate
from alpha_assets_tests.quant.walks import FIRST, walk

#: Everything is bought that is said to rise, up to the whole account.
FORCED = BacktestParameters(rule="sign", per_position=1.0)
FREE = TradingParameters(commission_bp=0.0, slippage_bp=0.0, borrow_bp_year=0.0, participation=1.0)
A_YEAR = 252


def with_rest(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars as the labels want them, with what was traded of them in currency."""
    flags = pl.lit(None, pl.String)
    known = pl.col("timestamp") + timedelta(hours=21)
    return bars.with_columns(flags=flags, known_at=known, value=pl.col("volume") * pl.col("open"))


def market(symbols: int, bars: int, seed: int) -> pl.DataFrame:
    return with_rest(pl.concat([walk(bars, seed + number, symbol=f"S{number:02}") for number in range(symbols)]))


def random_scores(bars: pl.DataFrame, seed: int) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    score = random.standard_normal(bars.height)
    return bars.select("symbol", "timestamp").with_columns(
        regime=pl.Series(random.choice(["volatile", "sideways"], bars.height)),
        score=pl.Series(score),
        p_up=pl.Series(1 / (1 + np.exp(-score / 5))),
        expected_return=pl.Series(score * 0.01),
    )


def plan_of(
    predictions: pl.DataFrame,
    bars: pl.DataFrame,
    horizon: int = 1,
    parameters: BacktestParameters = FORCED,
    trading: TradingParameters = FREE,
    **about: Any,
) -> Plan:
    return planned(
        *(predictions, bars),
        horizon=horizon,
        parameters=parameters,
        trading=trading,
        signal=SignalParameters(),
        a_year=A_YEAR,
        **about,
    )


def flagged(bars: pl.DataFrame, share: float, seed: int) -> pl.DataFrame:
    """The bars with some flagged, and their prices nonsense."""
    wrong = pl.Series(np.random.default_rng(seed).random(bars.height) < share)
    price = pl.when(wrong).then(pl.col("open") * 100).otherwise("open")
    return bars.with_columns(flags=pl.when(wrong).then(pl.lit("unexplained_jump")), open=price)


class TestTheInterval:
    @pytest.mark.parametrize("horizon", [1, 5])
    def test_what_a_closed_position_earned_is_its_label_and_what_is_void_has_none(self, horizon: int) -> None:
        bars = flagged(market(6, 150, seed=1), share=0.03, seed=2)
        decisions = plan_of(random_scores(bars, 3), bars, horizon).decisions
        labels = open_to_open(bars, horizon).select("symbol", "timestamp", "label_return", "label_start", "held_until")
        both = decisions.join(labels, on=["symbol", "timestamp"])
        closed = both.filter(pl.col("state") == "closed")
        assert closed.height > 500
        assert closed.select("trade_return", "entered", "left").equals(
            closed.select(trade_return="label_return", entered="label_start", left="held_until")
        )
        assert both.filter(pl.col("state") != "closed")["label_return"].null_count() == both.height - closed.height

    @pytest.mark.parametrize("horizon", [1, 5])
    def test_the_account_gains_of_each_position_its_size_times_the_label(self, horizon: int) -> None:
        bars = flagged(market(1, 120, seed=4), share=0.0, seed=0)
        one = random_scores(bars, 5)[40:41]
        plan = plan_of(one, bars, horizon)
        played = plan.played(0.0)
        label = plan.decisions["trade_return"][0]
        assert ratios.total_return(played.net) == pytest.approx(label * plan.orders.share[0], abs=1e-12)
        assert played.value[0] == pytest.approx(np.sign(one["score"][0]) / horizon)

    def test_one_symbol_at_no_cost_is_the_chain_of_its_opens(self) -> None:
        bars = market(1, 200, seed=6)
        played = plan_of(random_scores(bars, 7).with_columns(score=1.0), bars, horizon=1).played(0.0)
        opens = bars["open"].to_numpy()
        assert played.net[1:] == pytest.approx(opens[2:] / opens[1:-1] - 1, abs=1e-12)
        assert played.turnover[2:] == pytest.approx(0.0, abs=1e-12)

    def test_generations_that_are_held_at_once_make_the_account_that_a_book_of_each_would(self) -> None:
        bars = market(3, 80, seed=6)
        rules = replace(FORCED, per_position=0.2)
        plan = plan_of(random_scores(bars, 7), bars, 4, rules)
        opens = bars.pivot("symbol", index="timestamp", values="open").sort("timestamp").drop("timestamp").to_numpy()
        account = [1.0]
        for period in range(len(opens) - 1):
            gained = 0.0
            for order in np.flatnonzero(plan.orders.share):
                entered, column = plan.orders.entered[order], plan.orders.listing[order]
                if entered <= period < entered + 4:
                    bought = plan.orders.share[order] * account[entered] / opens[entered, column]
                    gained += bought * (opens[period + 1, column] - opens[period, column])
            account.append(account[-1] + gained)
        assert ratios.wealth(plan.played(0.0).net) == pytest.approx(account[1:], abs=1e-12)

    def test_a_flagged_bar_takes_off_what_the_position_had_made_and_its_price_is_believed_by_nobody(self) -> None:
        bars = market(1, 60, seed=8)
        at = bars["timestamp"][33]
        wrong = pl.col("timestamp") == at
        bad = bars.with_columns(
            flags=pl.when(wrong).then(pl.lit("jump")), open=pl.when(wrong).then(9e9).otherwise("open")
        )
        one = random_scores(bars, 9)[30:31].with_columns(score=1.0)
        plan = plan_of(one, bad, horizon=5)
        played = plan.played(0.0)
        assert plan.decisions["state"].to_list() == ["void"]
        assert plan.decisions["left"].to_list() == [at]
        assert np.abs(played.gross[:2]).max() > 0
        assert ratios.total_return(played.net) == pytest.approx(0.0, abs=1e-12)
        assert np.abs(played.exposure[3:]).max() == 0

    def test_a_delisted_position_is_closed_at_the_last_close_less_the_haircut_when_the_listing_is_held_to_be_gone(
        self,
    ) -> None:
        both = market(2, 80, seed=10)
        bars = both.filter((pl.col("symbol") == "S01") | (pl.col("timestamp") <= both["timestamp"][50]))
        one = random_scores(bars, 11).filter(pl.col("symbol") == "S00")[49:50].with_columns(score=1.0)
        rules = replace(FORCED, gone_after=10)
        plan = plan_of(one, bars, 5, rules)
        played = plan.played(0.0)
        opened, close = bars.filter(pl.col("symbol") == "S00")["open"][50], bars["close"][50]
        assert plan.decisions["state"].to_list() == ["delisted"]
        assert plan.decisions["trade_return"][0] == pytest.approx(close * 0.7 / opened - 1)
        assert ratios.total_return(played.net) == pytest.approx((close * 0.7 / opened - 1) / 5)
        # From the first open after the decision: bars 49 is the first stamp, 50 the last bar, 11 later it is gone.
        assert np.flatnonzero(played.gross).tolist() == [11]
        short = plan_of(one.with_columns(score=-1.0), bars, 5, rules).decisions["trade_return"][0]
        assert short == pytest.approx(close / opened - 1), "an assumption is no gain"
        assert plan.gone == ["S00"]
        assert plan_of(one, bars.filter(pl.col("timestamp") <= both["timestamp"][60]), 5, rules).gone == []

    def test_a_position_of_a_symbol_that_nobody_follows_ends_at_the_last_close_and_is_not_gone(
        self,
    ) -> None:
        both = market(2, 80, seed=10)
        bars = both.filter((pl.col("symbol") == "S01") | (pl.col("timestamp") <= both["timestamp"][50]))
        one = random_scores(bars, 11).filter(pl.col("symbol") == "S00")[49:50].with_columns(score=1.0)
        rules, stamps = replace(FORCED, gone_after=10), both["timestamp"][:80]

        def until(place: int, held: pl.DataFrame = bars) -> Plan:
            return plan_of(one, held, 5, rules, followed_until={"S00": stamps[place]}, retired=["S00"])

        plan = until(60)
        opened, close = bars.filter(pl.col("symbol") == "S00")["open"][50], bars["close"][50]
        assert plan.decisions.select("state", "left").row(0) == ("retired", stamps[61])
        assert plan.decisions["trade_return"][0] == pytest.approx(close / opened - 1)
        assert ratios.total_return(plan.played(0.0).net) == pytest.approx((close / opened - 1) / 5)
        assert plan.gone == []
        held = play(plan.grid, held_from_the_start(plan.grid, 0.3, ["S00"]), 1, 1.0, 0.0, 0.0)
        assert ratios.total_return(held.net) == pytest.approx(close / opened - 1)
        early = until(60, bars.filter(pl.col("timestamp") <= stamps[60]))
        assert early.decisions.select("state", "left").row(0) == ("open", None)
        gone = until(61)
        assert (gone.decisions["state"][0], gone.gone) == ("delisted", ["S00"]), "it was, before it was retired"
        silent = plan_of(one, bars, 5, rules, followed_until={"S00": stamps[60]})
        assert (silent.decisions["state"][0], silent.gone) == ("open", []), "its source has stopped"
        another = random_scores(bars, 11).filter(pl.col("symbol") == "S01")[75:76]
        late = plan_of(another, bars, 5, rules, followed_until={"S00": stamps[51]}, retired=["S00"])
        assert late.gone == [], "it was retired before there was anything to play"

    def test_a_weekend_of_one_exchange_is_no_silence_where_another_never_sleeps(self) -> None:
        hours = {"S00": ("XNYS", 140), "BTC": ("24/7", 900)}
        bars = with_rest(
            pl.concat(
                walk(count, 12, symbol=name, calendar=calendar, interval="1h")
                for name, (calendar, count) in hours.items()
            )
        )
        names, stamps = {"BTC": "24/7"}, bars.filter(pl.col("symbol") == "S00")["timestamp"]
        sunday = pl.col("timestamp").dt.replace_time_zone(None) == datetime(2015, 1, 18, 12)
        friday, monday = (
            stamps.filter(stamps < datetime(2015, 1, 18, tzinfo=UTC))[-1],
            datetime(2015, 1, 20, tzinfo=UTC),
        )
        spoken = random_scores(bars, 13).filter(sunday | (pl.col("timestamp") == friday)).with_columns(score=1.0)
        for held in (bars, bars.filter(pl.col("timestamp") < monday)):
            plan = plan_of(spoken, held, 1, names=names).while_held(spoken["timestamp"].max())
            assert plan.gone == []
            assert "delisted" not in plan.decisions["state"].to_list()
        plan = plan_of(spoken, bars, 1, names=names).while_held(spoken["timestamp"].max())
        assert plan.decisions["state"].unique().to_list() == ["closed"]
        assert plan.grid.stamps[-1] == plan.decisions["left"].max() > monday
        assert plan_of(spoken, bars, 1, replace(FORCED, gone_after=4), names=names).gone == ["S00"]


class TestNothingAhead:
    @given(st.integers(0, 10**6), st.integers(30, 115), st.sampled_from([1, 3, 7]))
    @settings(max_examples=15, deadline=None)
    def test_removing_what_came_after_a_bar_changes_no_period_that_ended_by_it(
        self, seed: int, cut: int, horizon: int
    ) -> None:
        bars = flagged(market(5, 120, seed), share=0.02, seed=seed)
        bars = bars.filter((pl.col("symbol") != "S02") | (pl.col("timestamp") <= bars["timestamp"][60]))
        said = random_scores(bars, seed)
        rules = replace(FORCED, per_position=0.1, gone_after=5, sizing=["equal", "volatility", "kelly"][seed % 3])
        costly = TradingParameters()
        until = pl.col("timestamp") <= bars["timestamp"][cut]
        whole = plan_of(said, bars, horizon, rules, costly).played(0.001, 0.005)
        known = plan_of(said.filter(until), bars.filter(until), horizon, rules, costly).played(0.001, 0.005)
        assert len(known.net) == cut
        for name in ("gross", "cost", "borrow", "turnover", "long", "short", "held"):
            assert getattr(known, name) == pytest.approx(getattr(whole, name)[:cut], abs=1e-12), name

    def test_sizes_know_the_volatility_of_their_own_bar_and_not_a_later_one(self) -> None:
        bars = market(3, 90, seed=12)
        said = random_scores(bars, 13)
        rules = replace(FORCED, sizing="volatility")
        later = pl.col("timestamp") > bars["timestamp"][60]
        wild = bars.with_columns(
            pl.when(later).then(pl.col(name) * (1 + 0.2 * (pl.col("volume") % 2))).otherwise(name).alias(name)
            for name in ("open", "close")
        )
        shares = [
            plan_of(said, some, 2, rules).decisions.filter(~later).select("symbol", "timestamp", "share")
            for some in (bars, wild)
        ]
        assert shares[0].equals(shares[1])


class TestScale:
    @given(st.sampled_from([1e-3, 0.5, 3.0, 1e4]), st.integers(0, 99))
    @settings(max_examples=8, deadline=None)
    def test_prices_times_a_number_and_volumes_over_it_change_nothing(self, by: float, seed: int) -> None:
        bars = market(4, 100, seed)
        scaled = bars.with_columns(pl.col("open", "high", "low", "close") * by, pl.col("volume") / by)
        said = random_scores(bars, seed)
        one, other = (plan_of(said, some, 3).played(0.001, 0.005) for some in (bars, scaled))
        assert one.net == pytest.approx(other.net, abs=1e-12)
        assert one.turnover == pytest.approx(other.turnover, abs=1e-12)

    def test_a_split_in_between_changes_nothing(self) -> None:
        traded = pl.concat([walk(120, 20, symbol="A"), walk(120, 21, symbol="B")])
        day = traded["timestamp"][70].date()
        split = pl.DataFrame({"symbol": ["A"], "ex_date": [day], "kind": ["split"], "value": [7.0]})
        after = (pl.col("symbol") == "A") & (pl.col("timestamp").dt.date() >= day)
        divided = traded.with_columns(
            *(
                pl.when(after).then(pl.col(name) / 7).otherwise(name).alias(name)
                for name in ("open", "high", "low", "close")
            ),
            volume=pl.when(after).then(pl.col("volume") * 7).otherwise("volume"),
        )
        said = random_scores(traded, 22)
        plain = plan_of(said, with_rest(traded), 5).played(0.001, 0.005)
        adjusted_bars = with_rest(adjusted(divided, split))
        assert plan_of(said, adjusted_bars, 5).played(0.001, 0.005).net == pytest.approx(plain.net, abs=1e-12)


class TestCosts:
    @given(st.integers(0, 10**6), st.sampled_from([1, 5]))
    @settings(max_examples=10, deadline=None)
    def test_what_is_paid_is_the_cost_times_what_is_traded(self, seed: int, horizon: int) -> None:
        bars = market(5, 90, seed)
        plan = plan_of(random_scores(bars, seed), bars, horizon)
        for cost in (0.0, 0.0005, 0.002):
            played = plan.played(cost)
            assert played.cost == pytest.approx(cost * played.turnover, abs=1e-15)
            assert played.net == pytest.approx(played.gross - played.cost - played.borrow, abs=1e-15)

    def test_every_position_is_traded_twice_unless_the_next_one_takes_it_over(self) -> None:
        bars = market(1, 30, seed=30)
        apart = random_scores(bars, 31)[[2, 10, 18]].with_columns(score=1.0)
        played = plan_of(apart, bars, horizon=2).played(0.0)
        assert np.count_nonzero(played.turnover) == 6
        assert played.turnover[played.turnover > 0] == pytest.approx(0.5, rel=0.1)

    def test_shorts_pay_to_borrow_and_longs_do_not(self) -> None:
        bars = market(1, 60, seed=32)
        said = random_scores(bars, 33)
        short = plan_of(said.with_columns(score=-1.0), bars).played(0.0, 0.252)
        long = plan_of(said.with_columns(score=1.0), bars).played(0.0, 0.252)
        assert short.borrow[1:] == pytest.approx(0.001, rel=1e-9)
        assert long.borrow.max() == 0

    def test_the_opposite_of_every_score_is_the_opposite_of_every_gross_gain(self) -> None:
        bars = market(6, 100, seed=34)
        said = random_scores(bars, 35)
        plans = [plan_of(some, bars, 1) for some in (said, said.with_columns(-pl.col("score")))]
        one, other = (plan.played(0.0) for plan in plans)
        assert one.gross == pytest.approx(-other.gross, abs=1e-12)
        assert plans[0].decisions["trade_return"].equals(plans[1].decisions["trade_return"])

    def test_as_many_long_as_short_are_blind_to_what_moves_them_all(self) -> None:
        bars = market(1, 80, seed=36)
        twins = pl.concat([bars.with_columns(symbol=pl.lit(name)) for name in ("A", "B")])
        said = random_scores(twins, 37).with_columns(score=pl.when(pl.col("symbol") == "A").then(1.0).otherwise(-1.0))
        played = plan_of(said, twins, 3).played(0.0)
        assert played.exposure[5:] == pytest.approx(1.0, rel=0.2)
        assert played.gross == pytest.approx(0.0, abs=1e-12)


class TestLimits:
    @given(
        st.integers(0, 10**6),
        st.sampled_from(["equal", "volatility", "kelly"]),
        st.sampled_from([0.3, 1.0, 2.0]),
        st.sampled_from([0.02, 0.1, 1.0]),
        st.sampled_from([1, 4]),
    )
    @settings(max_examples=25, deadline=None)
    def test_no_position_and_no_account_is_larger_than_it_may_be(
        self, seed: int, sizing: str, gross: float, most: float, horizon: int
    ) -> None:
        bars = market(6, 90, seed)
        rules = replace(FORCED, sizing=sizing, gross=gross, per_position=most, target_volatility=0.9)
        plan = plan_of(random_scores(bars, seed), bars, horizon, rules)
        played = plan.played(0.0)
        assert np.abs(played.value).max() <= most / horizon + 1e-12
        opened = np.zeros(len(plan.grid.stamps))
        np.add.at(
            opened, plan.orders.entered[plan.orders.share != 0], np.abs(plan.orders.share[plan.orders.share != 0])
        )
        assert opened.max() <= gross / horizon + 1e-12
        # What is held may drift beyond, but nothing more is then opened.
        over = np.flatnonzero(played.exposure > gross + 1e-9)
        drifted = np.array([np.abs(played.value[plan.orders.entered == period]).sum() for period in over])
        assert (drifted <= 1e-12).all()

    def test_what_has_outgrown_the_account_lets_nothing_more_be_opened(self) -> None:
        bars = market(1, 40, seed=39)
        risen = bars.with_columns(open=pl.lit(1.05) ** pl.int_range(pl.len()))
        sold = random_scores(bars, 38).with_columns(score=-1.0)
        plan = plan_of(sold, risen, 5)
        played = plan.played(0.0)
        opened = plan.orders.entered[played.value < 0]
        assert played.exposure[opened].max() <= 1 + 1e-9
        assert played.value.min() > -1 / 5 - 1e-12
        assert played.value[4] > -0.1

    def test_the_most_convinced_are_opened_first(self) -> None:
        bars = market(6, 60, seed=40)
        said = random_scores(bars, 41)
        decisions = plan_of(said, bars, 1, replace(FORCED, positions=2)).decisions
        best = said.with_columns(size=pl.col("score").abs()).group_by("timestamp").agg(pl.col("size").top_k(2).min())
        checked = decisions.join(best, on="timestamp")
        assert checked.group_by("timestamp").len()["len"].max() == 2
        assert (checked["score"].abs() >= checked["size"]).all()

    def test_long_only_holds_no_short(self) -> None:
        bars = market(4, 60, seed=42)
        played = plan_of(random_scores(bars, 43), bars, 2, replace(FORCED, long_only=True)).played(0.001, 0.005)
        assert played.short.max() == 0
        assert played.long.max() > 0

    def test_a_fill_takes_no_more_than_its_share_of_the_bars_volume(self) -> None:
        bars = market(1, 60, seed=44)
        said = random_scores(bars, 45).with_columns(score=1.0)
        trading = replace(FREE, participation=0.01)
        rich = replace(FORCED, capital=1e9)
        plan = plan_of(said, bars, 1, rich, trading)
        value = bars["value"].to_numpy()[1:]
        filled = plan.played(0.0).value[:58]
        assert filled == pytest.approx(np.minimum(1.0, 0.01 * value[:58] / 1e9), rel=0.1)
        halted = pl.col("timestamp") > bars["timestamp"][30]
        none = bars.with_columns(value=pl.when(halted).then(0.0).otherwise("value"))
        states = plan_of(said, none, 1, rich, trading).decisions["state"].to_list()
        assert (set(states[:30]), set(states[30:])) == ({"closed"}, {"unfilled"})
        index = bars.with_columns(value=pl.lit(None, pl.Float64))
        assert plan_of(said, index, 1, rich, trading).played(0.0).value[:58] == pytest.approx(1.0)


class TestSizes:
    def test_a_wild_symbol_gets_less_than_a_quiet_one(self) -> None:
        quiet = market(1, 90, seed=50)
        wild = walk(90, 51, symbol="W").with_columns(pl.col("open", "close", "high", "low") ** 3)
        bars = pl.concat([quiet, with_rest(wild)])
        rules = replace(FORCED, sizing="volatility", target_volatility=0.05)
        shares = plan_of(random_scores(bars, 52), bars, 1, rules).decisions.with_columns(pl.col("share").abs())
        by_symbol = dict(shares.group_by("symbol").agg(pl.col("share").median()).iter_rows())
        assert by_symbol["S00"] / by_symbol["W"] == pytest.approx(3.0, rel=0.3)

    def test_kelly_bets_what_is_expected_net_of_costs_over_the_variance(self) -> None:
        bars = market(1, 60, seed=53)
        scale = open_to_open(bars, 1)["scale"][40]
        said = random_scores(bars, 54)[40:41].with_columns(score=1.0, expected_return=0.003)
        rules = replace(FORCED, sizing="kelly", kelly_fraction=0.01)
        (share,) = plan_of(said, bars, 1, rules, TradingParameters()).decisions["share"]
        assert share == pytest.approx(0.01 * (0.003 - 0.002) / scale**2)
        told = said.with_columns(expected_return=None, p_up=0.6)
        (share,) = plan_of(told, bars, 1, rules).decisions["share"]
        assert share == pytest.approx(0.01 * 0.2 * np.sqrt(2 / np.pi) / scale)


class TestRules:
    def test_the_rule_signal_goes_by_the_thresholds_of_a_signal(self) -> None:
        bars = market(3, 60, seed=60)
        said = random_scores(bars, 61)
        decisions = plan_of(said, bars, 1, replace(FORCED, rule="signal")).decisions
        wanted = said.filter((pl.col("p_up") >= 0.52) | (pl.col("p_up") <= 0.48))
        assert decisions.height == wanted.height
        assert (decisions["side"] == (decisions["p_up"] > 0.5).cast(pl.Int8) * 2 - 1).all()

    def test_the_rule_expected_trades_only_beyond_the_round_trip(self) -> None:
        bars = market(3, 60, seed=62)
        decisions = plan_of(
            random_scores(bars, 63), bars, 1, replace(FORCED, rule="expected"), TradingParameters()
        ).decisions
        assert decisions["expected_return"].abs().min() > 0.002
        assert (decisions["side"] == decisions["expected_return"].sign().cast(pl.Int8)).all()

    @pytest.mark.parametrize(
        ("broken", "message"),
        [
            ({"drop": "p_up"}, "lack p_up"),
            ({"twice": True}, "two predictions of S00"),
            ({"none": True}, "no prediction"),
        ],
    )
    def test_what_cannot_be_traded_on_is_refused(self, broken: dict[str, Any], message: str) -> None:
        bars = market(1, 40, seed=64)
        said = random_scores(bars, 65)
        said = said.drop(broken["drop"]) if "drop" in broken else said
        said = pl.concat([said, said[:1]]) if "twice" in broken else said
        said = said.clear() if "none" in broken else said
        with pytest.raises(ValueError, match=message):
            plan_of(said, bars)


def test_the_gain_is_told_by_the_regime_of_the_decision() -> None:
    bars = market(4, 90, seed=70)
    plan = plan_of(random_scores(bars, 71), bars, 3)
    played = plan.played(0.0)
    assert plan.groups == ["sideways", "volatile"]
    assert played.by_group.sum(axis=1) == pytest.approx(played.gross, abs=1e-15)
    alone = plan.decisions["regime"].to_numpy() == "sideways"
    assert np.abs(played.by_group[:, 0]).sum() > 0
    assert 0 < alone.sum() < len(alone)


def test_splits_dividends_and_delistings_of_a_simulated_market_are_traded_as_labelled() -> None:
    parameters = SimulationParameters(symbols=8, years=2.0, split_rate=1.0, delisted_share=0.5, seed=5)
    made = simulate(parameters, symbols=default_symbols(8), first=FIRST, last=FIRST + timedelta(days=730))
    assert made.actions.height > 5
    whole = with_rest(adjusted(made.bars, made.actions).with_columns(listing=pl.lit(None, pl.Date)))
    plan = plan_of(random_scores(whole, 80), whole, 5)
    states = dict(plan.decisions["state"].value_counts().iter_rows())
    assert states["delisted"] > 0
    assert plan.gone
    labels = open_to_open(whole, 5)
    both = plan.decisions.join(labels, on=["symbol", "timestamp"]).filter(pl.col("state") == "closed")
    assert both["trade_return"].equals(both["label_return"].alias("trade_return"))


@pytest.mark.parametrize(
    ("rules", "knob", "matters"),
    [
        ({"rule": "signal"}, "buy_from", True),
        ({"rule": "signal"}, "sell_to", True),
        ({"rule": "sign"}, "buy_from", False),
        ({"rule": "expected"}, "sell_to", False),
        ({"rule": "signal"}, "commission_bp", False),
        ({"rule": "expected"}, "commission_bp", True),
        ({"rule": "sign", "sizing": "kelly"}, "slippage_bp", True),
        ({"rule": "sign"}, "participation", True),
        ({"rule": "expected", "sizing": "kelly"}, "borrow_bp_year", False),
    ],
)
def test_what_the_trades_depend_on_is_what_turning_it_would_change(
    rules: dict[str, str], knob: str, matters: bool
) -> None:
    """Decided on the trades themselves, so that a rule which comes to read another setting has to say so."""
    bars = market(4, 120, seed=70)
    said = random_scores(bars, 71).with_columns(pl.col("expected_return") * 0.3)
    parameters = BacktestParameters(**rules, capital=1e12)  # type: ignore[arg-type]
    values = {"buy_from": 0.54, "sell_to": 0.44, "participation": 0.5}

    def turned(*, other: bool) -> tuple[pl.DataFrame, dict[str, float]]:
        chosen = {knob: values.get(knob, 40.0)} if other else {}
        of_signal = knob in ("buy_from", "sell_to")
        signal = SignalParameters(**(chosen if of_signal else {}))  # type: ignore[arg-type]
        trading = TradingParameters(**({} if of_signal else chosen))  # type: ignore[arg-type]
        plan = planned(*(said, bars), horizon=2, parameters=parameters, trading=trading, signal=signal, a_year=A_YEAR)
        filled = plan.played(0.001, 0.005).value
        trades = plan.decisions.select("symbol", "timestamp", "side", value=pl.Series(filled))
        return trades, depended_on(parameters, trading, signal)

    (trades, depended), (others, otherwise) = turned(other=False), turned(other=True)
    assert trades.equals(others) is not matters
    assert (depended == otherwise) is not matters
