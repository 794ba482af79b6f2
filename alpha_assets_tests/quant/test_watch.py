"""What a shadow shows, and the test of live loss that holds at every look."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpha_assets.quant.parameters import PromotionParameters
from alpha_assets.quant.watch import live_loss, shadow

RULES = PromotionParameters(shadow_bars=3)


def views(*rows: tuple[float | None, float, bool | None]) -> pl.DataFrame:
    schema = {"p_up": pl.Float64, "lag_hours": pl.Float64, "up": pl.Boolean}
    alone = pl.lit(None, pl.Float64)
    return pl.DataFrame(list(rows), schema=schema, orient="row").with_columns(champion=alone)


class TestShadow:
    @pytest.mark.parametrize(
        ("rows", "state", "words"),
        [
            ([], "waiting", "0 of 3 bars"),
            ([(0.5, 0.1, None)] * 2, "waiting", "2 of 3 bars"),
            ([(0.5, 0.1, None)] * 3, "passed", "no outcome known yet"),
            ([(0.6, 0.1, True), (0.6, 0.1, False), (0.6, 0.1, None)], "passed", "on 2 outcomes"),
            ([(None, 0.1, None)], "failed", "1 of 1 shadow views are no probability"),
            ([(float("nan"), 0.1, None)], "failed", "are no probability"),
            ([(1.2, 0.1, None), (0.5, 0.1, None)], "failed", "1 of 2"),
            ([(0.5, 7.0, None)], "failed", "later than 6 hours"),
            ([(0.95, 0.1, False)] * 3, "failed", "gross"),
            ([(0.95, 0.1, False)] * 2, "waiting", "2 of 3"),
        ],
    )
    def test_fails_on_what_is_no_answer_at_once_and_on_gross_loss_when_it_is_complete(
        self, rows: list[tuple[float | None, float, bool | None]], state: str, words: str
    ) -> None:
        verdict = shadow(views(*rows), RULES)
        assert (verdict.state, verdict.bars) == (state, len(rows))
        assert words in verdict.reason

    @given(
        rows=st.lists(
            st.tuples(
                st.one_of(st.none(), st.floats(-0.5, 1.5), st.just(float("nan"))),
                st.floats(0, 10),
                st.one_of(st.none(), st.booleans()),
            ),
            max_size=6,
        ),
        seed=st.randoms(),
    )
    def test_does_not_mind_the_order_of_its_bars(self, rows: list[Any], seed: Any) -> None:
        shuffled = list(rows)
        seed.shuffle(shuffled)
        one, other = shadow(views(*rows), RULES), shadow(views(*shuffled), RULES)
        assert (one.state, one.bars, one.reason) == (other.state, other.bars, other.reason)

    @pytest.mark.parametrize(
        ("champion", "p_up", "state", "words"),
        [
            # Both were surprised: alone the canary would have failed.
            ([0.95] * 3, 0.95, "passed", "log-loss 2.996 on 3 outcomes, +0.0000 nats a bar against the champion on 3"),
            ([0.1] * 3, 0.5, "passed", "+0.5878 nats a bar against the champion on 3 of them"),
            ([0.1] * 3, 0.6, "failed", "+0.8109 nats a bar against the champion on 3 of them, gross from 0.7069 on"),
            ([None, 0.1, float("nan")], 0.6, "failed", "against the champion on 1 of them"),
            ([None] * 3, 0.6, "passed", "log-loss 0.916 on 3 outcomes"),
        ],
    )
    def test_loss_is_held_against_what_the_champion_lost_on_the_same_bars(
        self, champion: list[float | None], p_up: float, state: str, words: str
    ) -> None:
        beside = views(*[(p_up, 0.1, False)] * 3).with_columns(champion=pl.Series(champion, dtype=pl.Float64))
        verdict = shadow(beside, RULES)
        assert (verdict.state, verdict.compared) == (state, sum(said in (0.1, 0.95) for said in champion))
        assert words in verdict.reason
        assert (verdict.excess is None) == (verdict.compared == 0)

    @given(p_up=st.floats(0.26, 0.74), ups=st.lists(st.booleans(), min_size=3, max_size=20))
    def test_a_cautious_model_cannot_lose_grossly_whatever_follows(self, p_up: float, ups: list[bool]) -> None:
        assert shadow(views(*((p_up, 0.0, up) for up in ups)), RULES).state == "passed"


def live(p_up: np.ndarray, up: np.ndarray, baseline: float = 0.5) -> pl.DataFrame:
    positions = np.arange(len(up))
    return pl.DataFrame({"position": positions, "p_up": p_up, "up": up.astype(bool)}).with_columns(
        baseline=pl.lit(baseline)
    )


def ever_confirmed(p_up: np.ndarray, up: np.ndarray, baseline: float, rules: PromotionParameters) -> bool:
    """Whether any of the looks, one after every tenth bar, confirms a loss."""
    looks = range(10, len(up) + 1, 10)
    return any(live_loss(live(p_up[:n], up[:n], baseline), rules, 1).confirmed for n in looks)


class TestLiveLoss:
    def test_a_model_that_is_right_about_its_probabilities_is_hardly_ever_taken_back_however_often_one_looks(
        self,
    ) -> None:
        rng, rules = np.random.default_rng(7), PromotionParameters(rollback_level=0.1)
        confirmed = 0
        for _ in range(100):
            p_up = rng.uniform(0.3, 0.7, 200)
            confirmed += ever_confirmed(p_up, rng.random(200) < p_up, 0.5, rules)
        # 10 of 100 is what the law allows; a model that is right loses less than nothing.
        assert confirmed <= 3

    def test_the_law_holds_at_its_edge_where_model_and_baseline_lose_the_same(self) -> None:
        """0.6 against 0.5 loses the same where it rises in log(0.5 / 0.4) / log(0.6 / 0.4) of the cases."""
        rng, rules = np.random.default_rng(11), PromotionParameters(rollback_level=0.1)
        even = np.log(0.5 / 0.4) / np.log(0.6 / 0.4)
        p_up = np.full(200, 0.6)
        confirmed = sum(ever_confirmed(p_up, rng.random(200) < even, 0.5, rules) for _ in range(150))
        assert confirmed <= 23  # 15 expected at most; 23 is beyond the 98th percentile of a binomial of 150 at 0.1

    def test_a_model_that_has_turned_about_is_taken_back(self) -> None:
        rng = np.random.default_rng(3)
        up = rng.random(300) < 0.5
        p_up = np.where(up, 0.4, 0.6)
        verdict = live_loss(live(p_up, up), PromotionParameters(), 1)
        assert verdict.confirmed
        assert verdict.excess is not None
        assert verdict.excess > 0.2
        assert not live_loss(live(p_up[:5], up[:5]), PromotionParameters(), 1).confirmed

    def test_overlapping_labels_count_once(self) -> None:
        up = np.zeros(40, dtype=bool)
        whole = live_loss(live(np.full(40, 0.6), up), PromotionParameters(), 1)
        thinned = live_loss(live(np.full(40, 0.6), up), PromotionParameters(), 5)
        assert (whole.outcomes, thinned.outcomes) == (40, 8)
        assert thinned.wealth < whole.wealth

    def test_what_says_the_same_as_its_baseline_or_has_no_outcome_is_never_taken_back(self) -> None:
        same = live_loss(live(np.full(50, 0.5), np.zeros(50)), PromotionParameters(), 1)
        none = live_loss(live(np.zeros(0), np.zeros(0)), PromotionParameters(), 1)
        assert (same.wealth, none.wealth) == (1.0, 1.0)
        assert not same.confirmed
        assert none.excess is None

    def test_a_wealth_beyond_all_numbers_is_one_all_the_same(self) -> None:
        verdict = live_loss(live(np.full(5000, 0.99), np.zeros(5000)), PromotionParameters(), 1)
        assert verdict.confirmed
        assert np.isfinite(verdict.wealth)
