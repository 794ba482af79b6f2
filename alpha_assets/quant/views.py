"""Views: ways of looking at a bar, each with a score, a confidence and its reasons in words.

A view is computed over columns: a frame of bars, one row a bar, in which whoever calls has laid beside the key what
views read (features, answers of a model, patterns). So one function gives the whole past for the track record and the
newest bar for the signal. A view reads nothing but its row: what is known at a bar is a matter of the columns.

Another view is one class with ``name``, ``speaks`` and ``explains``, and a line in ``VIEWS``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import polars as pl

from alpha_assets.quant.learners import Array
from alpha_assets.quant.parameters import ViewParameters

#: What a view says of a bar; both null where it abstains.
SPOKEN: Mapping[str, pl.DataType] = {"score": pl.Float64(), "confidence": pl.Float64()}

Bar = Mapping[str, Any]

#: Reasons in words, and detail for JSON.
Explained = tuple[list[str], dict[str, Any]]


@dataclass(frozen=True)
class Opinion:
    """What one view says of one bar: ``score`` in [-1, 1], ``confidence`` in [0, 1]; both None where it abstains."""

    name: str
    score: float | None
    confidence: float | None
    reasons: tuple[str, ...]
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def abstained(self) -> bool:
        """Whether it says nothing."""
        return self.score is None

    @property
    def side(self) -> int:
        """1 for up, -1 for down, 0 for neither."""
        return 0 if self.score is None else int(np.sign(self.score))

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "score": self.score,
            "confidence": self.confidence,
            "side": self.side,
            "abstained": self.abstained,
            "reasons": list(self.reasons),
            "detail": dict(self.detail),
        }


class View(Protocol):
    """One way of looking at bars."""

    name: ClassVar[str]
    #: The columns that it reads beside the symbol; those of the feature set are laid in the frame for it.
    reads: tuple[str, ...]

    def __init__(self, parameters: ViewParameters) -> None: ...

    def speaks(self, bars: pl.DataFrame) -> pl.DataFrame:
        """``SPOKEN``, one row a bar in the order of ``bars``; a column that it reads and that is missing is unknown."""

    def explains(self, bars: pl.DataFrame) -> list[Explained]:
        """Why it says of each bar what it says, or why it abstains; for a few bars, not for the whole past."""


def views_of(parameters: ViewParameters) -> list[View]:
    """The views that are heard. Raises ValueError for a name that is none."""
    unknown = [name for name in parameters.names if name not in VIEWS]
    if unknown:
        raise ValueError(f"no view is called {unknown[0]!r}; there are {', '.join(VIEWS)}")
    return [VIEWS[name](parameters) for name in parameters.names]


def scores(views: Sequence[View], bars: pl.DataFrame) -> Array:
    """What each view says of each bar, bars x views, NaN where it abstains."""
    said = [view.speaks(bars)["score"].cast(pl.Float64).fill_null(np.nan).to_numpy() for view in views]
    return np.column_stack(said) if said else np.empty((bars.height, 0))


def opinions(views: Sequence[View], bars: pl.DataFrame) -> list[list[Opinion]]:
    """The opinions of all views on each bar, with their reasons, in the order of ``bars``."""
    by_view = [
        [
            Opinion(view.name, score, confidence, tuple(reasons), detail)
            for (score, confidence), (reasons, detail) in zip(
                view.speaks(bars).rows(), view.explains(bars), strict=True
            )
        ]
        for view in views
    ]
    return [list(of_bar) for of_bar in zip(*by_view, strict=True)] if by_view else [[] for _ in range(bars.height)]


def _silent(bars: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({name: pl.Series([None] * bars.height, dtype=kind) for name, kind in SPOKEN.items()})


def _known(bars: pl.DataFrame, name: str, kind: pl.DataType | None = None) -> pl.Expr:
    """The column, null where the frame lacks it."""
    return pl.col(name) if name in bars.columns else pl.lit(None, kind or pl.Float64())


# -- the model -------------------------------------------------------------------------------------------------------

#: What the model view reads: the answers of the promoted model (``heads.ANSWERS``), in the voice that was judged, and
#: ``model_overdue``, the days that it is past its expiry (null or not above 0: it is not).
MODEL_READS = ("p_up", "expected_return", "p_sell", "p_hold", "p_buy", "dissimilarity", "model_overdue")


class ModelView:
    """What the promoted model says: score 2 P(up) - 1, the expected side; confidence the probability of that side.

    It abstains without a promoted model, where that is past its expiry, and where the bar is too unlike what it was
    trained on (``dissimilar_from``).
    """

    name: ClassVar[str] = "model"
    reads: tuple[str, ...] = MODEL_READS

    def __init__(self, parameters: ViewParameters) -> None:
        self.parameters = parameters

    def speaks(self, bars: pl.DataFrame) -> pl.DataFrame:
        """``SPOKEN`` a bar."""
        p_up = _known(bars, "p_up").cast(pl.Float64)
        like = (_known(bars, "dissimilarity") < self.parameters.dissimilar_from).fill_null(value=True)
        fresh = (_known(bars, "model_overdue") <= 0.0).fill_null(value=True)
        heard = pl.when(like & fresh & p_up.is_finite()).then(p_up)
        asked = bars.select("symbol", heard=heard)
        p = pl.col("heard")
        return asked.select(score=2 * p - 1, confidence=pl.max_horizontal(p, 1 - p))

    def explains(self, bars: pl.DataFrame) -> list[Explained]:
        """P(up) and what else is told, or why nothing is."""
        return [self._explained(bar) for bar in bars.iter_rows(named=True)]

    def _explained(self, bar: Bar) -> Explained:
        detail = {name: bar.get(name) for name in MODEL_READS if name != "model_overdue"}
        p_up, unlike, overdue = bar.get("p_up"), bar.get("dissimilarity"), bar.get("model_overdue")
        if p_up is None or not np.isfinite(p_up):
            return ["no promoted model speaks of this bar"], detail
        if overdue is not None and overdue > 0:
            return [f"the model is {overdue:.0f} days past its expiry: train again"], detail
        limit = self.parameters.dissimilar_from
        if unlike is not None and not unlike < limit:
            return [f"the bar is too unlike what the model was trained on: {unlike:.2f}, from {limit:g} on"], detail
        told = [f"P(up) {p_up:.3f}"]
        if bar.get("expected_return") is not None:
            told.append(f"expected return {bar['expected_return']:+.2%}")
        return told, detail


# -- technical rules -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """A named rule on features: ``up`` and ``down`` are its conditions, ``words`` says both; it votes 1, -1 or 0."""

    name: str
    reads: tuple[str, ...]
    up: pl.Expr
    down: pl.Expr
    words: tuple[str, str]

    @property
    def vote(self) -> pl.Expr:
        """1, -1 or 0 a bar; null where a feature is unknown."""
        known = pl.all_horizontal(pl.col(self.reads).is_not_null())
        side = pl.when(self.up).then(1.0).when(self.down).then(-1.0).otherwise(0.0)
        return pl.when(known).then(side).alias(self.name)


def rules(p: ViewParameters) -> tuple[Rule, ...]:
    """The technical rules, on columns of the feature set ``core``; where each indicator is from is said there.

    Oscillators are read against the move (an extreme is overdone), averages and directional movement with it.
    """

    def extreme(name: str, column: str, low: float, high: float, what: str) -> Rule:
        value = pl.col(column)
        words = (f"{what} below {low:g}: oversold", f"{what} above {high:g}: overbought")
        return Rule(name, (column,), value < low, value > high, words)

    def sign(name: str, column: str, words: tuple[str, str], beyond: float = 0.0) -> Rule:
        return Rule(name, (column,), pl.col(column) > beyond, pl.col(column) < -beyond, words)

    k, d = pl.col("stochastic_k"), pl.col("stochastic_d")
    fast, slow = pl.col("mean_ratio_50"), pl.col("mean_ratio_200")
    trending = pl.col("adx_14") >= p.trend_from
    plus, minus = pl.col("plus_di_14"), pl.col("minus_di_14")
    both = pl.max_horizontal(k, d), pl.min_horizontal(k, d)
    return (
        extreme("rsi_extreme", "rsi_14", p.rsi_low, p.rsi_high, "RSI 14"),
        Rule(
            "stochastic_extreme",
            ("stochastic_k", "stochastic_d"),
            both[0] < p.stochastic_low,
            both[1] > p.stochastic_high,
            (
                f"both lines of the stochastic below {p.stochastic_low:g}: oversold",
                f"both lines of the stochastic above {p.stochastic_high:g}: overbought",
            ),
        ),
        extreme("mfi_extreme", "mfi_14", p.mfi_low, p.mfi_high, "money flow index 14"),
        extreme("cci_extreme", "cci_20", -p.cci_edge, p.cci_edge, "CCI 20 / 100"),
        extreme("bollinger_band", "bollinger_position", -p.band_edge, p.band_edge, "position in the Bollinger bands"),
        sign("macd_histogram", "macd_histogram", ("MACD above its signal line", "MACD below its signal line")),
        sign("macd_line", "macd_line", ("EMA 12 above EMA 26", "EMA 12 below EMA 26")),
        Rule(
            "price_above_means",
            ("mean_ratio_50", "mean_ratio_200"),
            (fast > 0) & (slow > 0),
            (fast < 0) & (slow < 0),
            ("close above its means of 50 and 200 bars", "close below its means of 50 and 200 bars"),
        ),
        Rule(
            "mean_cross",
            ("mean_ratio_50", "mean_ratio_200"),
            slow > fast,
            slow < fast,
            ("mean of 50 bars above that of 200", "mean of 50 bars below that of 200"),
        ),
        Rule(
            "directional_movement",
            ("adx_14", "plus_di_14", "minus_di_14"),
            trending & (plus > minus),
            trending & (plus < minus),
            (
                f"ADX 14 from {p.trend_from:g} with +DI above -DI: an up trend",
                f"ADX 14 from {p.trend_from:g} with -DI above +DI: a down trend",
            ),
        ),
        sign(
            "aroon",
            "aroon_oscillator",
            (f"Aroon oscillator above {p.aroon_from:g}", f"Aroon oscillator below -{p.aroon_from:g}"),
            p.aroon_from,
        ),
        sign(
            "volume_flow",
            "obv_change_20",
            (f"net volume flow of 20 bars above {p.flow_from:g}", f"net volume flow of 20 bars below -{p.flow_from:g}"),
            p.flow_from,
        ),
    )


class TechnicalView:
    """Named rules on the indicators: score the mean vote of the rules that have a value, silent ones included.

    Confidence is how far those that spoke agree, |sum of votes| / sum of |votes|, 0 where none did. It abstains where
    no rule has a value: a bar without features, or another feature set than ``core``.
    """

    name: ClassVar[str] = "technical"

    def __init__(self, parameters: ViewParameters) -> None:
        self.rules = rules(parameters)
        self.reads: tuple[str, ...] = tuple(sorted({name for rule in self.rules for name in rule.reads}))

    def speaks(self, bars: pl.DataFrame) -> pl.DataFrame:
        """``SPOKEN`` a bar."""
        possible = self._possible(bars)
        if not possible:
            return _silent(bars)
        votes = bars.select(rule.vote for rule in possible)
        total, loud = (pl.sum_horizontal(what) for what in (pl.all(), pl.all().abs()))
        spoke = pl.sum_horizontal(pl.all().is_not_null())
        return votes.select(
            score=pl.when(spoke > 0).then(total / spoke),
            confidence=pl.when(spoke > 0).then(pl.when(loud > 0).then(total.abs() / loud).otherwise(0.0)),
        )

    def explains(self, bars: pl.DataFrame) -> list[Explained]:
        """The condition of each rule that spoke, and every vote by name."""
        possible = self._possible(bars)
        if not possible:
            missing = min(set(self.reads) - set(bars.columns))
            return [([f"no rule can be read: the feature set has no {missing}"], {})] * bars.height
        votes = bars.select(rule.vote for rule in possible)
        return [self._explained(row) for row in votes.iter_rows(named=True)]

    def _possible(self, bars: pl.DataFrame) -> list[Rule]:
        return [rule for rule in self.rules if set(rule.reads) <= set(bars.columns)]

    def _explained(self, row: Bar) -> Explained:
        votes = {name: vote for name, vote in row.items() if vote is not None}
        if not votes:
            return ["no rule can be read: the indicators have no value at this bar"], {}
        words = [rule.words[votes[rule.name] < 0] for rule in self.rules if votes.get(rule.name)]
        return words or ["no rule speaks: every indicator is in its middle"], {"rules": votes}


# -- patterns --------------------------------------------------------------------------------------------------------

KEY = ("symbol", "timestamp")

#: What patterns say is summed in whole numbers of this: the last bit of a sum of floats depends on their order.
GRAIN = 1e-12

#: What the pattern view reads beside the key; ``fired`` is told of the bars that are explained, not of the whole past.
FIRED: Mapping[str, pl.DataType] = {"pattern_score": pl.Float64(), "pattern_confidence": pl.Float64()}


def fired(events: pl.DataFrame, *, told: bool = False) -> pl.DataFrame:
    """What the patterns of each bar say together: symbol, timestamp and ``FIRED``, a row a bar that has one, unsorted.

    ``events`` hold symbol, timestamp, pattern, direction and ``success``, the probability that it goes the way it says,
    as known at the bar, null where nobody knows one, in any order; those without direction or probability say nothing.
    The score is the mean of direction · (2 success - 1): a pattern that is mostly wrong speaks against its name. The
    confidence is the probability of the side of the pattern that says most. With ``told`` a list ``fired`` of the
    patterns beside it.
    """
    said = events.filter((pl.col("direction") != 0) & pl.col("success").is_not_null()).with_columns(
        lean=pl.col("direction") * (2 * pl.col("success") - 1)
    )
    listed = [pl.struct("pattern", "direction", "success", "told_by").alias("fired")] if told else []
    return said.group_by(KEY, maintain_order=told).agg(
        ((pl.col("lean") / GRAIN).round().cast(pl.Int64).sum() * GRAIN / pl.len()).alias("pattern_score"),
        (0.5 + pl.col("lean").abs().max() / 2).alias("pattern_confidence"),
        *listed,
    )


class PatternView:
    """What the patterns that fired at the bar say (``fired``); it abstains where none did that says a direction."""

    name: ClassVar[str] = "pattern"
    reads: tuple[str, ...] = tuple(FIRED)

    def __init__(self, parameters: ViewParameters) -> None:
        self.parameters = parameters

    def speaks(self, bars: pl.DataFrame) -> pl.DataFrame:
        """``SPOKEN`` a bar."""
        return bars.select(
            pl.col("symbol"), *(_known(bars, f"pattern_{name}").cast(kind).alias(name) for name, kind in SPOKEN.items())
        ).drop("symbol")

    def explains(self, bars: pl.DataFrame) -> list[Explained]:
        """Each pattern with the probability that it goes the way it says, and who says so."""
        return [self._explained(bar) for bar in bars.iter_rows(named=True)]

    def _explained(self, bar: Bar) -> Explained:
        if bar.get("pattern_score") is None:
            return ["no pattern that says a direction fired at this bar"], {}
        told = bar.get("fired") or []
        way = {1: "up", -1: "down"}
        words = [f"{one['pattern']} says {way[one['direction']]}, right in {one['success']:.0%}" for one in told]
        return [f"{word} ({one['told_by']})" for word, one in zip(words, told, strict=True)], {"patterns": list(told)}


VIEWS: dict[str, type[View]] = {view.name: view for view in (ModelView, TechnicalView, PatternView)}
