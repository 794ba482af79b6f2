"""What a blended score has been worth: how sure its direction is, what it earns, and where the price ends.

**Confidence** is the calibrated probability that a position in the stated direction earns more than its costs, fitted
on past scores of the same blend whose outcomes were known when the period began. Its log-odds are

    a + b · |score| + c · side + d · logit Φ(-costs / scale)

the last of which is what a coin has that must first earn the round trip: of a quiet symbol the costs are a larger part
of a move. This is Platt's calibration (1999) about that base, with a Gaussian belief that weighs as much as
``confidence_rows`` outcomes: a, c = 0, d = 1, and b what a blend of the prior's skill would earn. The regimes are
fitted about the fit of all, by the same weight. b is never below 0: a blend that was wrong is not believed, and not
believed to be wrong either; the others then say what its calls came to. Rows are counted in cells of like scores, which
makes a fit as cheap as its cells.

**Strong** is the top ``strong_share`` of what was stated in the trailing window: an oracle of IC 0.15 is right in 0.7
of its calls on 0.05 % of the bars, so no fixed probability would do.

**Price.** The price at which the label ends has the log return m + q · scale over the bar's close: m is the slope of
outcomes on the score, drawn to the prior's, and q are quantiles of what was left over on the past, in units of the
trailing deviation, so the tails of the market are in them. With too little past they are the normal's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from scipy.special import ndtr, ndtri

from alpha_assets.quant.blend import REACH, Past, Weights, known_sums, learnt, with_all
from alpha_assets.quant.calibration import LEAST_SPREAD, STEPS, log_odds, probability
from alpha_assets.quant.labels import LISTING
from alpha_assets.quant.learners import Array
from alpha_assets.quant.parameters import SignalParameters
from alpha_assets.quant.symbols import REGIMES

Signal = Literal["STRONG_BUY", "BUY", "HOLD", "SELL", "STRONG_SELL"]

#: Cells of the calibration: by the root of |score|, by the costs in units of the scale, and by side.
SCORE_CELLS = 24
COST_EDGES = np.array([0.03, 0.06, 0.12, 0.25, 0.5])

#: Of a, b, c, d those that are left where the score counts for nothing.
WITHOUT_SCORE = np.array([1.0, 0.0, 1.0, 1.0])

#: Log-odds that a deviation of the outcome's mean is worth where outcomes are normal: φ(0) / (1/4).
ODDS_A_DEVIATION = 1.596

#: Steps of the histograms of confidences and of residuals, and how far these reach.
CONFIDENCE_STEP = 5e-4
RESIDUAL_STEP = 0.02
RESIDUAL_REACH = 12.0


@dataclass(frozen=True)
class Outlook:
    """What is believed of blended scores in each period; leading axis the periods.

    ``odds`` (periods x regimes x 4) are a, b, c, d; ``strong_from`` the confidence from which a signal is strong, NaN:
    none is; ``slope`` the scaled return that a score of 1 earns; ``low`` and ``high`` the quantiles of the price's
    residual; ``seen`` how many outcomes the calibration rests on.
    """

    odds: Array
    strong_from: Array
    slope: Array
    low: Array
    high: Array
    seen: Array

    def confidence(self, blended: Array, scale: Array, cell: Array, period: Array, round_trip: float) -> Array:
        """P(net return in the direction of each score > 0); NaN for a score of 0 and where score or scale is none."""
        columns = _columns(np.abs(blended), np.sign(blended), base_odds(scale, round_trip))
        told = (columns * self.odds[period, cell]).sum(axis=-1)
        return np.where((blended != 0) & np.isfinite(told), probability(told), np.nan)

    def expected(self, blended: Array, scale: Array, period: Array) -> Array:
        """The return that each score has earned in the mean, before costs."""
        return np.asarray(self.slope[period] * blended * scale)

    def prices(self, price: Array, expected: Array, scale: Array, period: Array) -> tuple[Array, Array, Array]:
        """The price at the end of the label and the bounds of its interval: ``price`` times e to the log return."""
        middle = np.log1p(np.maximum(expected, -0.99))
        bounds = (0.0, self.low[period], self.high[period])
        middling, low, high = (np.asarray(price * np.exp(middle + bound * scale)) for bound in bounds)
        return middling, low, high


def base_odds(scale: Array, round_trip: float) -> Array:
    """Log-odds that a coin's normal return of this deviation is above the costs of the round trip."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(log_odds(ndtr(-round_trip / np.where(scale > 0, scale, np.nan))))


def _columns(size: Array, side: Array, base: Array) -> Array:
    return np.stack([np.ones(np.shape(size)), size, side, base], axis=-1)


def outlook(
    past: Past, blended: Array, parameters: SignalParameters, round_trip: float, *, last_only: bool = False
) -> Outlook:
    """What is believed of the blend in each period, by the outcomes known when it began.

    With ``last_only`` the calibration is that of the last period and of those whose statements say what is strong in
    it; in earlier ones nothing is confident.

    ``blended`` are the scores of all rows of ``past``, each by the weights of its own period; those count that are
    led. ``round_trip`` are the costs of entering and leaving, as a share of the price.
    """
    rows = np.flatnonzero(past.known & past.led & np.isfinite(blended) & (blended != 0) & (past.scale > 0))
    wanted = min(len(past.begins), _window(parameters) + 1) if last_only else len(past.begins)
    seen, odds = _calibrated(past, rows, blended[rows], parameters, round_trip, wanted)
    slope = _slope(past, rows, blended[rows], parameters)
    low, high = _quantiles(past, blended, slope, parameters)
    nothing = np.full(len(past.begins), np.nan)
    unmarked = Outlook(odds, nothing, slope, low, high, seen)
    heard = np.flatnonzero(past.led & (past.period >= 0))
    said = unmarked.confidence(blended[heard], past.scale[heard], past.cell[heard], past.period[heard], round_trip)
    stated = said >= parameters.least_confidence
    strong = _strong(past.period[heard][stated], said[stated], len(past.begins), parameters)
    return Outlook(odds, strong, slope, low, high, seen)


def _window(parameters: SignalParameters) -> int:
    """Periods whose statements say what is strong in the next."""
    return max(1, round(parameters.strong_days / parameters.record_days))


def _calibrated(
    past: Past, rows: Array, blended: Array, parameters: SignalParameters, round_trip: float, wanted: int
) -> tuple[Array, Array]:
    """The outcomes behind each period's fit, and the fits: periods x regimes x 4, NaN before the last ``wanted``."""
    periods, regimes = len(past.begins), len(REGIMES)
    scale, side, size = past.scale[rows], np.sign(blended), np.abs(blended)
    won = (side * past.returned[rows] > round_trip).astype(np.float64)
    base = base_odds(scale, round_trip)
    cell = np.minimum((SCORE_CELLS * np.sqrt(size)).astype(np.int64), SCORE_CELLS - 1)
    cell = (cell * (len(COST_EDGES) + 1) + np.searchsorted(COST_EDGES, round_trip / scale)) * 2 + (side > 0)
    count = SCORE_CELLS * (len(COST_EDGES) + 1) * 2
    place = np.ravel_multi_index((past.settled[rows], past.cell[rows], cell), (periods, regimes, count))
    # Of h bars that overlap each tells a share of one outcome.
    totals = [
        np.bincount(place, values, periods * regimes * count).reshape(periods, regimes, count).cumsum(axis=0)[-wanted:]
        for values in (None, won, size, base)
    ]
    totals = [with_all(total) for total in totals]
    rows_a_cell = np.maximum(totals[0], 1.0)
    sides = np.broadcast_to(np.where(np.arange(count) % 2, 1.0, -1.0), rows_a_cell.shape)
    columns = _columns(totals[2] / rows_a_cell, sides, totals[3] / rows_a_cell)
    number, right = totals[0] / past.horizon, totals[1] / past.horizon
    believed = np.array([0.0, ODDS_A_DEVIATION * REACH * parameters.skill_prior, 0.0, 1.0])
    odds, seen = np.full((periods, regimes, 4), np.nan), np.zeros(periods)
    told = odds[-wanted:]
    told[:, 0] = _fitted(columns[:, 0], number[:, 0], right[:, 0], np.tile(believed, (wanted, 1)), parameters)
    for regime in range(1, regimes):
        told[:, regime] = _fitted(columns[:, regime], number[:, regime], right[:, regime], told[:, 0], parameters)
    seen[-wanted:] = totals[0][:, 0].sum(axis=-1)
    return seen, odds


def _fitted(columns: Array, number: Array, right: Array, believed: Array, parameters: SignalParameters) -> Array:
    """Posterior modes of logistic regressions, one a period, by Newton's steps; as ``calibration.Platt`` is fitted.

    Where b would be below 0 the others are fitted anew without it: beside a b of theirs they say too much once it is 0.
    """
    total = np.maximum(number.sum(axis=1), 1e-9)[:, None]
    spread = (number[..., None] * columns**2).sum(axis=1) / total
    precision = parameters.confidence_rows / 4 * np.maximum(spread, (2 * LEAST_SPREAD) ** 2)
    found = believed.copy()
    for _ in range(STEPS):
        p = probability((columns * found[:, None, :]).sum(axis=-1))
        gradient = (columns * (right - number * p)[..., None]).sum(axis=1) - precision * (found - believed)
        information = np.swapaxes(columns * (number * p * (1 - p))[..., None], 1, 2) @ columns
        information = information + precision[:, None, :] * np.eye(4)
        found = found + np.linalg.solve(information, gradient[..., None])[..., 0]
    wrong = found[:, 1] < 0
    if wrong.any():
        unheard = (columns[wrong] * WITHOUT_SCORE, number[wrong], right[wrong], believed[wrong] * WITHOUT_SCORE)
        found[wrong] = _fitted(*unheard, parameters)
    return found


def _slope(past: Past, rows: Array, blended: Array, parameters: SignalParameters) -> Array:
    """The regression of scaled returns on the score through 0, drawn to what a blend of the prior's skill earns."""
    count, squares, products = known_sums(past, rows, blended**2, blended * past.earned[rows])
    mean = np.where(count > 0, squares / np.maximum(count, 1), UNIT_SQUARE)
    prior = mean / parameters.skill_spread**2
    believed = REACH * parameters.skill_prior
    return np.asarray(np.maximum((products / past.horizon + prior * believed) / (squares / past.horizon + prior), 0.0))


#: Mean square of a blended score that nobody has measured.
UNIT_SQUARE = 1.0 / REACH**2


def _quantiles(past: Past, blended: Array, slope: Array, parameters: SignalParameters) -> tuple[Array, Array]:
    """The quantiles of the residual that leave ``coverage`` between them, a period each."""
    rows = np.flatnonzero(past.known & np.isfinite(past.reached) & (past.scale > 0))
    settled, said = past.settled[rows], np.where(past.led[rows], np.nan_to_num(blended[rows]), 0.0)
    left = past.reached[rows] / past.scale[rows] - slope[np.maximum(past.period[rows], 0)] * said
    count = int(2 * RESIDUAL_REACH / RESIDUAL_STEP)
    step = np.clip((left + RESIDUAL_REACH) / RESIDUAL_STEP, 0, count - 1).astype(np.int64)
    periods = len(past.begins)
    grown = np.bincount(settled * count + step, minlength=periods * count).reshape(periods, count).cumsum(axis=0)
    total = grown.sum(axis=1)
    below = grown.cumsum(axis=1)
    found = []
    for share in ((1 - parameters.coverage) / 2, (1 + parameters.coverage) / 2):
        measured = ((below < share * total[:, None]).sum(axis=1) + 0.5) * RESIDUAL_STEP - RESIDUAL_REACH
        found.append(np.where(total / past.horizon >= parameters.least_rows, measured, ndtri(share)))
    return found[0], found[1]


def _strong(period: Array, stated: Array, periods: int, parameters: SignalParameters) -> Array:
    """The confidence that the top share of the trailing window's statements had, a period each."""
    count = int(1 / CONFIDENCE_STEP)
    step = np.minimum((stated / CONFIDENCE_STEP).astype(np.int64), count - 1)
    heard = np.bincount(period * count + step, minlength=periods * count).reshape(periods, count)
    window = _window(parameters)
    so_far = np.concatenate([np.zeros((1, count), dtype=np.int64), heard.cumsum(axis=0)])
    begun = np.maximum(np.arange(periods) - window, 0)
    within = so_far[:periods] - so_far[begun]
    total = within.sum(axis=1)
    above = total[:, None] - within.cumsum(axis=1)
    edge = ((above > parameters.strong_share * total[:, None]).sum(axis=1) + 1) * CONFIDENCE_STEP
    return np.where(total >= parameters.strong_least, edge, np.nan)


def word(blended: float, confidence: float, strong_from: float, parameters: SignalParameters) -> Signal:
    """The signal of a blended score: HOLD where its direction is not confident enough, or there is none."""
    if not confidence >= parameters.least_confidence:
        return "HOLD"
    strong = confidence >= strong_from
    if blended > 0:
        return "STRONG_BUY" if strong else "BUY"
    return "STRONG_SELL" if strong else "SELL"


@dataclass(frozen=True)
class Record:
    """What is believed of the views and of their blend, period by period."""

    views: tuple[str, ...]
    begins: Array
    weights: Weights
    outlook: Outlook

    def newest(self) -> dict[str, Any]:
        """The belief of the last period, for JSON; ``restored`` makes a record of one period of it."""
        return {
            "views": list(self.views),
            "begins": int(self.begins[-1]),
            **{name: _plain(value[-1]) for part in (self.weights, self.outlook) for name, value in vars(part).items()},
        }

    @classmethod
    def restored(cls, document: Mapping[str, Any]) -> "Record":
        """The record of one period that ``newest`` described."""

        def part(kind: type[Any]) -> Any:
            return kind(**{name: _array(document[name]) for name in kind.__dataclass_fields__})

        begins = np.array([document["begins"]], dtype=np.int64)
        return cls(tuple(document["views"]), begins, part(Weights), part(Outlook))


def reached(bars: pl.DataFrame, labels: pl.DataFrame) -> pl.Series:
    """The log of the price at which each label ends over the bar's close, null where there is no label.

    ``bars`` hold symbol, timestamp, listing, open and close, adjusted, sorted by symbol and timestamp; ``labels`` is
    what ``labels.open_to_open`` says of them, in the same order.
    """
    entered = bars.select(pl.col("open").shift(-1).over(LISTING) / pl.col("close")).to_series()
    return (entered.log() + labels["label_return"].log1p()).alias("reached")


def recorded(
    past: Past, parameters: SignalParameters, round_trip: float, *, last_only: bool = False
) -> tuple[Record, Array]:
    """The record of ``past``, and its blended scores, each by what was believed when its period began (``outlook``)."""
    weights = learnt(past, parameters)
    blended = weights.blend(past.scores, past.cell, past.period)
    seen = outlook(past, blended, parameters, round_trip, last_only=last_only)
    return Record(past.views, past.begins, weights, seen), blended


def _plain(value: Any) -> Any:
    """Numbers for JSON, which has no NaN."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return None if np.isnan(value) else float(value)


def _array(value: Any) -> Array:
    return np.array([np.nan if value is None else value], dtype=np.float64)
