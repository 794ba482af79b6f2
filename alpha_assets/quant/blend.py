"""From views to one score: each view in its own unit, weighed by its track record in the regime.

**Periods.** What is believed of the views changes at the beginning of a period and stands still within it, so what was
said at a bar can be said again. Periods begin on dates of the calendar (``period_begins``); the belief of a period
rests on outcomes that were known when it began, and is used for bars that begin in it.

**Unit.** Views speak in units of their own: 2 P(up) - 1 of a daily model seldom leaves ±0.1, a mean of votes does every
week. So a score is divided by the root mean square of the view's past scores and cut at ``REACH`` of these; the
unit of a view's scores changes nothing.

**Weights.** A view's skill is the correlation (IC) of its score with the label's scaled return, over the pool, in a
regime. Scores of one unit whose errors are unrelated are best added in proportion to their ICs (Grinold and Kahn,
Active Portfolio Management, 2000, ch. 10 and 11). An IC of little evidence is drawn towards what is known without it,
each by its precision (the posterior mean of a normal with a normal prior; Gelman et al., Bayesian Data Analysis,
2013, 2.5): that of all regimes together towards ``skill_prior``, the same for every view, that of a regime towards that
of all. So without evidence all weights are equal, and with much the better view has its way. No weight falls
below ``LEAST`` of the prior: a view without skill is hardly heard, never held against itself. A view that abstains
drops out and the others share its weight.

**Precision.** Outcomes of one week overlap, and share the market: the variance of an IC is that of sums over periods,
with Newey's and West's (1987) weights where an outcome reaches into later periods, and never less than as many
independent outcomes as there are rows / horizon. Of few periods that variance is no measure: it is taken ``CAUTION``
periods too large.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from alpha_assets.quant.learners import Array
from alpha_assets.quant.parameters import SignalParameters
from alpha_assets.quant.symbols import REGIMES

#: Deviations of a view's own scores at which a score stops counting more.
REACH = 3.0

#: The least weight, as a share of what a view of the prior's skill has.
LEAST = 0.05

#: Periods that the variance of an IC is taken to lack.
CAUTION = 10.0

#: A score's root mean square where it is not measured yet: then a score of 1 is as far as a view reaches.
UNMEASURED = 1.0 / REACH

DAY = 86_400_000_000  # microseconds


def period_begins(first: datetime, last: datetime, days: int) -> Array:
    """When the periods of ``days`` begin that hold ``first`` to ``last``: epochs in µs, 00:00 UTC, int64.

    They are those of ``pattern_rates.known_by``: whole weeks begin on a Monday. Shape (periods,).
    """
    ordinal = np.array([first.date().toordinal(), last.date().toordinal()])
    whole = (ordinal - 1) // days
    epoch = datetime(1970, 1, 1).toordinal()
    return np.asarray((np.arange(whole[0], whole[1] + 1) * days + 1 - epoch) * DAY, dtype=np.int64)


@dataclass(frozen=True)
class Past:
    """The bars of a pool with what views said and what followed, one row a bar, in any order.

    ``scores`` (rows x views, NaN: abstained); ``earned`` the label's return in units of ``scale``, cut, NaN where it is
    not known; ``cell`` the place of the regime in ``REGIMES`` (0 without one); ``period`` the period the bar begins in;
    ``settled`` the first period that begins when the outcome is known, ``len(begins)`` where none does; ``returned``
    the label's return; ``scale`` its trailing deviation, known at the bar; ``reached`` the log of the price at which
    the label ends over the bar's close; ``led`` whether the view that leads speaks.
    """

    views: tuple[str, ...]
    begins: Array
    scores: Array
    earned: Array
    returned: Array
    scale: Array
    reached: Array
    cell: Array
    period: Array
    settled: Array
    led: Array
    horizon: int

    @property
    def known(self) -> Array:
        """Whether the outcome is known at the beginning of the last period."""
        return np.asarray((self.settled < len(self.begins)) & np.isfinite(self.earned))


def past_of(
    bars: pl.DataFrame, views: Sequence[str], scores: Array, begins: Array, horizon: int, clip: float, led: Array
) -> Past:
    """The past of ``bars``: timestamp, regime, label_return, scaled_return, scale, label_end and ``reached``.

    What they are ``labels.open_to_open`` says, ``reached`` beside it is of ``outlook``; ``clip`` cuts scaled returns.
    """
    stamps = bars["timestamp"].dt.epoch("us").to_numpy()
    ends = bars["label_end"].dt.epoch("us").fill_null(np.iinfo(np.int64).max).to_numpy()
    numbers = {name: bars[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in _NUMBERS}
    return Past(
        views=tuple(views),
        begins=begins,
        scores=scores,
        earned=np.clip(numbers["scaled_return"], -clip, clip),
        returned=numbers["label_return"],
        scale=numbers["scale"],
        reached=numbers["reached"],
        cell=cells_of(bars["regime"]),
        period=np.searchsorted(begins, stamps, side="right") - 1,
        settled=np.searchsorted(begins, ends, side="left"),
        led=led,
        horizon=horizon,
    )


_NUMBERS = ("scaled_return", "label_return", "scale", "reached")


def cells_of(regimes: pl.Series) -> Array:
    """The place of each regime in ``REGIMES``; 0, that of all bars, where a bar has none."""
    return regimes.replace_strict(list(REGIMES), list(range(len(REGIMES))), default=0, return_dtype=pl.Int64).to_numpy()


@dataclass(frozen=True)
class Weights:
    """What is believed of the views in each period.

    ``unit`` (periods x views) the root mean square of their scores; ``skill`` (periods x regimes x views) their IC,
    drawn to the prior, ``weight`` of the same shape what follows, each row summing to 1; ``outcomes`` (periods x views)
    the independent outcomes that the IC of all regimes weighs as much as.
    """

    unit: Array
    skill: Array
    weight: Array
    outcomes: Array

    def blend(self, scores: Array, cell: Array, period: Array) -> Array:
        """The blended score of rows, in [-1, 1]; NaN where every view abstains. Shapes as in ``Past``."""
        regimes, views = self.weight.shape[1:]
        unit = self.unit.take(period, axis=0)
        weight = self.weight.reshape(-1, views).take(period * regimes + cell, axis=0)
        speaks = np.isfinite(scores)
        said = np.where(speaks, np.clip(scores / unit, -REACH, REACH) / REACH, 0.0)
        total = (weight * speaks).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(total > 0, (weight * said).sum(axis=1) / total, np.nan))


def learnt(past: Past, parameters: SignalParameters) -> Weights:
    """The weights in each period, learnt from the outcomes known when it began."""
    periods, regimes = len(past.begins), len(REGIMES)
    shape = (periods, regimes, len(past.views))
    unit, skill, outcomes = np.empty((periods, shape[2])), np.empty(shape), np.empty((periods, shape[2]))
    prior = 1 / parameters.skill_spread**2
    for view in range(shape[2]):
        unit[:, view] = _unit(past, view, parameters)
        ic, precision = _ics(past, view)
        outcomes[:, view] = precision[:, 0]
        together = (precision[:, :1] * ic[:, :1] + prior * parameters.skill_prior) / (precision[:, :1] + prior)
        skill[:, :1, view] = together
        skill[:, 1:, view] = (precision[:, 1:] * ic[:, 1:] + prior * together) / (precision[:, 1:] + prior)
    heard = np.maximum(skill, LEAST * max(parameters.skill_prior, 1e-9))
    return Weights(unit, skill, heard / heard.sum(axis=2, keepdims=True), outcomes)


def _unit(past: Past, view: int, parameters: SignalParameters) -> Array:
    """The root mean square of a view's scores before each period, of all bars: no outcome is asked for."""
    said = past.scores[:, view]
    heard = np.isfinite(said) & (past.period >= 0)
    count, squares = (_before(past, past.period[heard], weights) for weights in (None, said[heard] ** 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        measured = np.sqrt(squares / count)
    return np.where((count >= parameters.least_rows) & (squares > 0), measured, UNMEASURED)


def _before(past: Past, period: Array, weights: Array | None) -> Array:
    """Sums over the rows of earlier periods, one a period."""
    sums = np.bincount(period, weights, len(past.begins)).cumsum()
    return np.concatenate([[0.0], sums[:-1]])


def known_sums(past: Past, rows: Array, *values: Array) -> list[Array]:
    """Of the count and of each of ``values`` the sum over ``rows`` whose outcome was known by each period."""
    settled = past.settled[rows]
    return [np.bincount(settled, weights, len(past.begins)).cumsum() for weights in (None, *values)]


def _ics(past: Past, view: int) -> tuple[Array, Array]:
    """A view's IC and its precision in independent outcomes (periods x regimes): of all bars, then of each regime's."""
    said = past.scores[:, view]
    rows = np.flatnonzero(past.known & np.isfinite(said))
    z, y, settled, cell = said[rows], past.earned[rows], past.settled[rows], past.cell[rows]
    shape = (len(past.begins), len(REGIMES))

    place = settled * shape[1] + cell

    def told(weights: Array | None = None) -> Array:
        return np.bincount(place, weights, shape[0] * shape[1]).reshape(shape)

    told_then = with_all(told())
    count, sum_z, sum_y, sum_zz, sum_yy, sum_zy = (
        part.cumsum(axis=0) for part in (told_then, *(with_all(told(sums)) for sums in (z, y, z * z, y * y, z * y)))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_z, mean_y = sum_z / count, sum_y / count
        scale = (sum_zz - count * mean_z**2) * (sum_yy - count * mean_y**2)
        measured = scale > 1e-12 * sum_zz * sum_yy
        ic = np.where(measured, (sum_zy - count * mean_z * mean_y) / np.sqrt(scale), 0.0)
        together = told((z - mean_z.take(place)) * (y - mean_y.take(place)))
        together[:, 0] = np.bincount(
            settled, (z - mean_z[:, 0].take(settled)) * (y - mean_y[:, 0].take(settled)), shape[0]
        )
        noise = _long_run(together, settled - past.period[rows], cell) / scale
        periods = np.cumsum(told_then > 0, axis=0)
        outcomes = np.minimum(count / past.horizon, periods / (periods + CAUTION) / noise)
    return np.clip(ic, -1, 1), np.where(measured & np.isfinite(outcomes), outcomes, 0.0)


def with_all(of_regimes: Array) -> Array:
    """Sums by period and regime (periods x regimes x …), where the first is of every bar instead of those without."""
    return np.concatenate([of_regimes.sum(axis=1, keepdims=True), of_regimes[:, 1:]], axis=1)


def _long_run(sums: Array, lasted: Array, cell: Array) -> Array:
    """The variance of the running sum of z·y (periods x regimes) from its sums by period: Bartlett's weights over what
    they share.

    ``lasted`` is how many periods after its own each row's outcome became known. One that is known when the next period
    begins shares nothing with those that become known later.
    """
    total = (sums**2).cumsum(axis=0)
    for regime in range(sums.shape[1]):
        own = lasted if regime == 0 else lasted[cell == regime]
        reach = max(int(np.median(own)) - 1, 0) if len(own) else 0
        for lag in range(1, reach + 1):
            shared = np.concatenate([np.zeros(lag), sums[lag:, regime] * sums[:-lag, regime]])[: len(sums)].cumsum()
            total[:, regime] += 2 * (1 - lag / (reach + 1)) * shared
    return np.maximum(total, (sums**2).cumsum(axis=0) / 2)


def shares(
    weights: Weights, views: Sequence[str], spoke: Sequence[bool], cell: int, period: int
) -> Mapping[str, float]:
    """How much each view that spoke counts in the blend of one bar; they sum to 1, or there are none."""
    heard = weights.weight[period, cell] * np.asarray(spoke)
    total = heard.sum()
    return {name: float(share / total) for name, share in zip(views, heard, strict=True) if share > 0 and total > 0}
