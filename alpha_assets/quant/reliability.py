"""Whether stated confidences are what they say: the reliability curve, and GATE.md's test of calibration.

A confidence is P(net return in the stated direction > 0), and what came is 1 or 0. Tested is Cox's (1958) recalibration

    logit P(won) = intercept + slope · logit(said)

whose slope is 1 and whose intercept is 0 where confidences hold, and beside it the expected calibration error (ECE)
over ten groups of rising confidence against what noise alone would show. A slope below 1 is boasting: what was said
lies too far from one half.

**Errors.** Outcomes of one date share the market and labels overlap, so rows are no sample: as everywhere in the gate,
errors are those of circular blocks of dates (``quant.evidence``), and intervals are Student's with as many degrees of
freedom as there are blocks, less one. Two things differ. The gate's widening is left out: a gate is honest where its
errors are too wide, a test of calibration where they are not. And the noise bound of the ECE is drawn: the misses of
the ten groups together have the covariance that their block sums show, so that long and short on one date, which go
wrong against each other, are no assumption here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alpha_assets.quant.calibration import log_odds, probability
from alpha_assets.quant.evidence import Panel
from alpha_assets.quant.metrics import brier, calibration_error, equal_groups
from alpha_assets.quant.parameters import GateParameters

Array = np.ndarray

#: Outcomes from which calibration is tested (GATE.md), and blocks of dates from which their spread can be told.
LEAST_OUTCOMES = 2_000
LEAST_BLOCKS = 8

#: Outcomes from which a curve is shown: below ten in a group its points are dice.
LEAST_SHOWN = 100

GROUPS = 10

#: Of both ends of an interval of 95 % the level, and how often noise alone may pass the bound of the ECE.
TAIL, NOISE = 0.025, 0.01

#: Drawn errors of a calibrated forecaster, from this seed: the same outcomes are judged the same.
DRAWS, SEED = 4_000, 1

#: Newton's steps, and the step below which they have arrived.
STEPS, ARRIVED = 50, 1e-9


@dataclass(frozen=True)
class Interval:
    """A coefficient and its interval of 95 %."""

    value: float
    low: float
    high: float

    def holds(self, wanted: float) -> bool:
        """Whether ``wanted`` lies inside."""
        return self.low < wanted < self.high


@dataclass(frozen=True)
class Reliability:
    """How stated confidences held.

    ``outcomes`` on ``dates`` (bar times), ``said`` and ``came`` their means, ``brier`` the mean squared distance of the
    two. ``curve`` is a row a group of rising confidence (``rows, said, came, error``), none of too few outcomes.
    ``slope``, ``intercept``, ``ece`` and ``noise`` (its bound) are None where they are not tested, ``calibrated`` what
    they come to, None where nobody can say, and ``sentence`` all of it in words.
    """

    outcomes: int
    dates: int
    said: float | None
    came: float | None
    brier: float | None
    curve: tuple[Mapping[str, float], ...] = ()
    slope: Interval | None = None
    intercept: Interval | None = None
    ece: float | None = None
    noise: float | None = None
    calibrated: bool | None = None
    sentence: str = ""

    def figures(self) -> dict[str, float]:
        """``FIGURES`` that are known, flat; ``calibrated`` is 1 or 0."""
        told: dict[str, float | None] = {name: getattr(self, name) for name in _PLAIN}
        for name, interval in (("slope", self.slope), ("intercept", self.intercept)):
            if interval is not None:
                told |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        return {name: float(told[name]) for name in FIGURES if told.get(name) is not None}  # type: ignore[arg-type]

    def document(self) -> dict[str, Any]:
        """For JSON: the figures that are known, the curve and the sentence."""
        return {**self.figures(), "curve": [dict(group) for group in self.curve], "sentence": self.sentence}


#: What is told of a reliability, each with its meaning.
FIGURES: Mapping[str, str] = {
    "outcomes": "stated confidences whose outcome is known",
    "dates": "bar times that they were stated at",
    "said": "mean confidence",
    "came": "share that earned more than its costs",
    "brier": "mean squared distance of the confidence from the net win (1 or 0)",
    "ece": "mean distance of confidence and share of wins, over ten groups of rising confidence",
    "noise": "what noise alone keeps the ece below in 99 of 100 cases",
    "slope": "slope of the outcome's log-odds on those of the confidence; below 1: too bold",
    "slope_low": "lower end of its interval of 95 %",
    "slope_high": "upper end",
    "intercept": "intercept of the same regression",
    "intercept_low": "lower end of its interval of 95 %",
    "intercept_high": "upper end",
    "calibrated": "1 where slope, intercept and ece all hold, else 0",
}

_PLAIN = ("outcomes", "dates", "said", "came", "brier", "ece", "noise", "calibrated")


def reliability(said: Array, won: Array, stamps: Array, parameters: GateParameters, horizon: int) -> Reliability:
    """How confidences held: ``said`` in (0, 1), ``won`` 1 or 0, ``stamps`` the bar each was stated at; all (rows,).

    ``horizon`` are the bars of a position: blocks of dates are at least ``parameters.block_horizons`` of them long.
    Looks at outcomes, so it is of the past alone.
    """
    if not len(said):
        return Reliability(0, 0, None, None, None, sentence="nothing was stated whose outcome is known")
    won = won.astype(np.float64)
    times, date = np.unique(stamps, return_inverse=True)
    panel = Panel(np.ones((len(times), 1)), parameters, horizon)
    score = brier(said, won)
    whole = Reliability(len(said), len(times), float(said.mean()), float(won.mean()), score)
    if len(said) < LEAST_SHOWN or panel.blocks < 2:
        return replace(whole, sentence=_too_few(whole, panel))
    misses = _misses(said, won, date, panel)
    whole = replace(whole, curve=misses.curve)
    if len(said) < LEAST_OUTCOMES or panel.blocks < LEAST_BLOCKS:
        return replace(whole, sentence=_too_few(whole, panel))
    fitted = _fitted(said, won, date, panel)
    slope, intercept = fitted or (None, None)
    ece, noise = calibration_error(said, won, GROUPS), misses.noise_bound()
    return _judged(replace(whole, ece=ece, noise=noise, slope=slope, intercept=intercept))


def _judged(one: Reliability) -> Reliability:
    assert one.ece is not None
    assert one.noise is not None
    quiet = one.ece < one.noise
    if one.slope is None or one.intercept is None:
        verdict = None if quiet else False
        lines = "no slope can be told: every confidence or every outcome is the same"
    else:
        verdict = quiet and one.slope.holds(1.0) and one.intercept.holds(0.0)
        lines = f"slope {_told(one.slope)} about 1, intercept {_told(one.intercept)} about 0"
    word = {True: "calibrated", False: "not calibrated", None: "cannot be judged"}[verdict]
    noisy = f"ECE {one.ece:.2%} {'below' if quiet else 'above'} its noise bound {one.noise:.2%}"
    return replace(one, calibrated=verdict, sentence=f"{word}: {_extent(one)}; {lines}; {noisy}")


def _too_few(one: Reliability, panel: Panel) -> str:
    if one.outcomes < LEAST_OUTCOMES:
        return f"too few to judge: {_extent(one)}; {LEAST_OUTCOMES:,} outcomes are needed"
    needed = LEAST_BLOCKS * panel.block
    return f"too few to judge: {_extent(one)}; {needed:,} bar times are needed, {LEAST_BLOCKS} blocks of {panel.block}"


def _extent(one: Reliability) -> str:
    return f"{one.outcomes:,} outcomes at {one.dates:,} bar times, said {one.said:.1%}, came {one.came:.1%}"


def _told(one: Interval) -> str:
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


@dataclass(frozen=True)
class _Misses:
    """How far each group of rising confidence missed, and how far it would by noise: the covariance of the misses."""

    curve: tuple[Mapping[str, float], ...]
    covariance: Array
    freedom: int

    def noise_bound(self) -> float:
        """The ECE that a calibrated forecaster with errors of this covariance exceeds in ``NOISE`` of all cases."""
        random = np.random.default_rng(SEED)
        value, vector = np.linalg.eigh(self.covariance)
        root = vector * np.sqrt(np.maximum(value, 0.0))
        heavy = np.sqrt(random.chisquare(self.freedom, DRAWS) / self.freedom)
        drawn = random.standard_normal((DRAWS, len(root))) @ root.T
        return float(np.quantile(np.abs(drawn).sum(axis=1) / heavy, 1 - NOISE))


def _misses(said: Array, won: Array, date: Array, panel: Panel) -> _Misses:
    group = equal_groups(said, GROUPS)
    rows = np.bincount(group)
    sums = np.bincount(date * GROUPS + group, won - said, panel.dates * GROUPS).reshape(panel.dates, GROUPS)
    # About its own mean, so that what is missed for ever widens no noise.
    counts = np.bincount(date * GROUPS + group, minlength=panel.dates * GROUPS).reshape(panel.dates, GROUPS)
    covariance = _covariance(sums - counts * (sums.sum(axis=0) / rows), panel) / len(said) ** 2
    error = np.sqrt(np.diag(covariance)) * len(said) / rows
    curve = tuple(
        {"rows": int(rows[at]), "said": means[0], "came": means[1], "error": float(error[at])}
        for at, means in enumerate(
            zip(*((np.bincount(group, values) / rows).tolist() for values in (said, won)), strict=True)
        )
    )
    return _Misses(curve, covariance, panel.blocks - 1)


def _fitted(said: Array, won: Array, date: Array, panel: Panel) -> tuple[Interval, Interval] | None:
    """Slope and intercept with their intervals; None where the outcomes determine none."""
    from scipy.special import stdtrit

    columns = np.column_stack([log_odds(said), np.ones(len(said))])
    if np.ptp(columns[:, 0]) < 1e-9 or won.min() == won.max():
        return None
    found = np.array([1.0, 0.0])
    for _ in range(STEPS):
        p = probability(columns @ found)
        information = (columns * (p * (1 - p))[:, None]).T @ columns
        if not np.linalg.cond(information) < 1e12:
            return None
        step = np.linalg.solve(information, columns.T @ (won - p))
        found = found + step
        if np.abs(step).max() < ARRIVED:
            break
    else:
        return None
    rows = (columns * (won - p)[:, None]) @ np.linalg.inv(information)
    influences = np.column_stack([np.bincount(date, rows[:, at], panel.dates) for at in range(2)])
    reach = -float(stdtrit(panel.blocks - 1, TAIL)) * np.sqrt(np.diag(_covariance(influences, panel)))
    slope, intercept = (Interval(float(v), float(v - r), float(v + r)) for v, r in zip(found, reach, strict=True))
    return slope, intercept


def _covariance(influences: Array, panel: Panel) -> Array:
    """The covariance of sums over dates (dates x figures), from blocks that begin at every date.

    Block sums vary about their own mean, which is as many blocks' sum: a share of 1 / blocks of the variance is lost.
    """
    sums = np.column_stack([panel.block_sums(influences[:, at]) for at in range(influences.shape[1])])
    lost = 1 - panel.block / panel.dates
    return np.asarray(panel.dates / panel.block * np.cov(sums.T, bias=True) / lost)
