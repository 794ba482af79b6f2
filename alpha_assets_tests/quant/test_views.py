"""Views speak over columns, row by row alike; rules are named; who cannot know says so; another one is one class."""

from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest

from alpha_assets.quant import views
from alpha_assets.quant.indicators import default_set
from alpha_assets.quant.parameters import VIEW_NAMES, ViewParameters
from alpha_assets.quant.views import SPOKEN, VIEWS, ModelView, Opinion, PatternView, TechnicalView, fired, opinions
from alpha_assets.quant.views import rules as rules_of

PARAMETERS = ViewParameters()
RULES = {rule.name: rule for rule in rules_of(PARAMETERS)}

#: A bar on which every indicator is in its middle.
MIDDLE = {
    **{
        "rsi_14": 0.5,
        "stochastic_k": 0.5,
        "stochastic_d": 0.5,
        "mfi_14": 0.5,
        "cci_20": 0.0,
        "bollinger_position": 0.0,
    },
    **{"macd_histogram": 0.0, "macd_line": 0.0, "mean_ratio_50": 0.0, "mean_ratio_200": 0.0, "adx_14": 0.1},
    **{"plus_di_14": 0.2, "minus_di_14": 0.1, "aroon_oscillator": 0.0, "obv_change_20": 0.0},
}


def frame(*bars: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{"symbol": "A", **bar} for bar in bars])


def only(view: views.View, bar: dict[str, Any]) -> Opinion:
    ((opinion,),) = opinions([view], frame(bar))
    return opinion


def test_the_views_that_ship_are_those_that_the_settings_name() -> None:
    assert tuple(VIEWS) == VIEW_NAMES == PARAMETERS.names
    assert [view.name for view in views.views_of(PARAMETERS)] == list(VIEW_NAMES)
    with pytest.raises(ValueError, match="no view is called 'tarot'; there are model, technical, pattern"):
        views.views_of(ViewParameters(names=("model", "tarot")))


class Sentiment:
    """A view of somebody else: one class, and a line in ``VIEWS``."""

    name: ClassVar[str] = "sentiment"
    reads: tuple[str, ...] = ("mood",)

    def __init__(self, parameters: ViewParameters) -> None:
        self.parameters = parameters

    def speaks(self, bars: pl.DataFrame) -> pl.DataFrame:
        return bars.select(score=pl.col("mood").clip(-1, 1), confidence=pl.col("mood").abs().clip(0, 1))

    def explains(self, bars: pl.DataFrame) -> list[views.Explained]:
        return [([f"the news is {mood:+.1f}"], {"mood": mood}) for mood in bars["mood"]]


def test_another_view_is_one_class_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VIEWS, "sentiment", Sentiment)
    chosen = views.views_of(ViewParameters(names=("technical", "sentiment")))
    bars = frame({**MIDDLE, "mood": -0.5}, {**MIDDLE, "mood": 0.2})
    np.testing.assert_array_equal(views.scores(chosen, bars), [[0.0, -0.5], [0.0, 0.2]])
    (_, first), _ = opinions(chosen, bars)
    assert first.document() == {
        "name": "sentiment",
        "score": -0.5,
        "confidence": 0.5,
        "side": -1,
        "abstained": False,
        "reasons": ["the news is -0.5"],
        "detail": {"mood": -0.5},
    }


class TestTheModelView:
    view = ModelView(PARAMETERS)

    @pytest.mark.parametrize(("p_up", "score", "confidence", "side"), [(0.6, 0.2, 0.6, 1), (0.25, -0.5, 0.75, -1)])
    def test_says_the_expected_side(self, p_up: float, score: float, confidence: float, side: int) -> None:
        said = only(self.view, {"p_up": p_up, "expected_return": 0.0123, "dissimilarity": 0.5})
        assert (said.score, said.confidence, said.side) == (pytest.approx(score), pytest.approx(confidence), side)
        assert said.reasons == (f"P(up) {p_up:.3f}", "expected return +1.23%")
        assert said.detail["dissimilarity"] == 0.5

    @pytest.mark.parametrize(
        ("bar", "reason"),
        [
            ({}, "no promoted model speaks"),
            ({"p_up": None}, "no promoted model speaks"),
            ({"p_up": float("nan")}, "no promoted model speaks"),
            ({"p_up": 0.6, "dissimilarity": 1.5}, "too unlike what the model was trained on: 1.50, from 1.5 on"),
            ({"p_up": 0.6, "dissimilarity": float("inf")}, "too unlike"),
            ({"p_up": 0.6, "model_overdue": 12.2}, "the model is 12 days past its expiry"),
        ],
    )
    def test_abstains_and_says_why(self, bar: dict[str, Any], reason: str) -> None:
        said = only(self.view, bar)
        assert (said.score, said.confidence, said.side, said.abstained) == (None, None, 0, True)
        assert reason in said.reasons[0]

    def test_of_a_model_that_is_not_yet_due_speaks(self) -> None:
        assert only(self.view, {"p_up": 0.6, "dissimilarity": 1.49, "model_overdue": 0.0}).side == 1


class TestTheTechnicalView:
    view = TechnicalView(PARAMETERS)

    def test_reads_columns_of_the_default_set_only(self) -> None:
        assert {name for rule in RULES.values() for name in rule.reads} <= set(default_set().columns)

    @pytest.mark.parametrize(
        ("rule", "bar", "vote"),
        [
            ("rsi_extreme", {"rsi_14": 0.2}, 1),
            ("rsi_extreme", {"rsi_14": 0.8}, -1),
            ("stochastic_extreme", {"stochastic_k": 0.1, "stochastic_d": 0.1}, 1),
            ("stochastic_extreme", {"stochastic_k": 0.1, "stochastic_d": 0.3}, 0),
            ("stochastic_extreme", {"stochastic_k": 0.9, "stochastic_d": 0.85}, -1),
            ("mfi_extreme", {"mfi_14": 0.1}, 1),
            ("cci_extreme", {"cci_20": -1.2}, 1),
            ("bollinger_band", {"bollinger_position": 1.1}, -1),
            ("macd_histogram", {"macd_histogram": 0.001}, 1),
            ("macd_line", {"macd_line": -0.001}, -1),
            ("price_above_means", {"mean_ratio_50": 0.1, "mean_ratio_200": 0.1}, 1),
            ("price_above_means", {"mean_ratio_50": 0.1, "mean_ratio_200": -0.1}, 0),
            ("mean_cross", {"mean_ratio_50": 0.1, "mean_ratio_200": 0.3}, 1),
            ("directional_movement", {"adx_14": 0.3}, 1),
            ("directional_movement", {"adx_14": 0.3, "minus_di_14": 0.4}, -1),
            ("aroon", {"aroon_oscillator": -0.6}, -1),
            ("volume_flow", {"obv_change_20": 0.3}, 1),
        ],
    )
    def test_votes_by_named_rules_and_names_those_that_spoke(self, rule: str, bar: dict[str, Any], vote: int) -> None:
        said = only(self.view, MIDDLE | bar)
        assert said.detail["rules"][rule] == vote
        words = RULES[rule].words[vote < 0]
        assert (words in said.reasons) == (vote != 0)
        votes = said.detail["rules"].values()
        assert said.score == pytest.approx(sum(votes) / len(RULES))

    def test_in_the_middle_says_nothing_either_way(self) -> None:
        said = only(self.view, MIDDLE)
        assert (said.score, said.confidence, said.abstained) == (0.0, 0.0, False)
        assert said.reasons == ("no rule speaks: every indicator is in its middle",)

    def test_is_as_confident_as_its_rules_agree(self) -> None:
        assert only(self.view, MIDDLE | {"rsi_14": 0.2, "mfi_14": 0.1}).confidence == 1.0
        assert only(self.view, MIDDLE | {"rsi_14": 0.2, "mfi_14": 0.9, "cci_20": -2.0}).confidence == pytest.approx(
            1 / 3
        )

    def test_a_rule_without_a_value_has_no_vote(self) -> None:
        said = only(self.view, MIDDLE | {"mfi_14": None, "rsi_14": 0.2})
        assert "mfi_extreme" not in said.detail["rules"]
        assert said.score == pytest.approx(1 / (len(RULES) - 1))

    def test_abstains_on_a_bar_without_indicators_and_says_so(self) -> None:
        ((said,),) = opinions(
            [self.view], frame(MIDDLE).with_columns(pl.lit(None, pl.Float32).alias(name) for name in MIDDLE)
        )
        assert said.abstained
        assert said.reasons == ("no rule can be read: the indicators have no value at this bar",)

    def test_abstains_on_another_feature_set_and_says_so(self) -> None:
        said = only(self.view, {"KMID": 0.1})
        assert said.abstained
        assert said.reasons == ("no rule can be read: the feature set has no adx_14",)

    def test_says_of_many_bars_what_it_says_of_each_alone(self) -> None:
        random = np.random.default_rng(1)
        bars = frame(*({name: random.uniform(-1, 1) for name in MIDDLE} for _ in range(50)))
        together = self.view.speaks(bars)
        alone = pl.concat([self.view.speaks(bars[place]) for place in range(50)])
        assert together.equals(alone)
        assert together["score"].is_between(-1, 1).all()
        assert together.schema == pl.Schema(SPOKEN)


EVENTS = pl.DataFrame(
    {
        "symbol": ["A", "A", "A", "B", "B"],
        "timestamp": [1, 1, 2, 1, 2],
        "pattern": ["CDLHAMMER", "double_top", "CDLDOJI", "CDLENGULFING", "breakout_up"],
        "direction": [1, -1, 0, -1, 1],
        "success": [0.6, 0.7, 0.5, 0.4, None],
        "told_by": ["its rate"] * 5,
    }
)


class TestThePatternView:
    view = PatternView(PARAMETERS)

    def test_is_the_mean_of_what_its_patterns_say(self) -> None:
        said = fired(EVENTS).sort("symbol")
        assert said.select("symbol", "timestamp").rows() == [("A", 1), ("B", 1)]
        np.testing.assert_allclose(said["pattern_score"], [(0.2 - 0.4) / 2, 0.2])
        np.testing.assert_allclose(said["pattern_confidence"], [0.7, 0.6])

    def test_names_each_pattern_with_its_probability(self) -> None:
        (one,), (other,) = opinions([self.view], fired(EVENTS, told=True).sort("symbol"))
        assert one.reasons == (
            "CDLHAMMER says up, right in 60% (its rate)",
            "double_top says down, right in 70% (its rate)",
        )
        assert (one.side, other.side) == (-1, 1), "a pattern that is mostly wrong speaks against its name"
        assert one.detail["patterns"][1]["pattern"] == "double_top"

    def test_abstains_where_none_fired(self) -> None:
        assert only(self.view, {"pattern_score": None}).reasons == (
            "no pattern that says a direction fired at this bar",
        )
        assert only(self.view, {"close": 1.0}).abstained


@pytest.mark.parametrize(
    "wrong", [{"names": ()}, {"names": ("model", "model")}, {"rsi_low": 0.8}, {"mfi_high": 1.2}, {"trend_from": -0.1}]
)
def test_rules_that_could_not_speak_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"names|wanted|must be"):
        ViewParameters(**wrong)
