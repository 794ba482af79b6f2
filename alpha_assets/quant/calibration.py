"""What several heads say as one opinion, calibrated on outcomes that their fits had not seen.

Every head speaks of how far it leaves its prior (the share of up, the mean return, the shares of the classes in its
training rows), and calibration says how much of that distance is believed. Few samples are no special case: the belief
``slope_prior`` counts as much as ``slope_rows`` rows, so that little evidence leaves it where it was and much of it has
its way (the posterior mode under a Gaussian prior). A row counts as much as its outcome is its own (``weights.
uniqueness``): the labels of h overlapping bars, or the patterns of one bar, as one. A slope never falls
below ``LEAST_SLOPE``: a head that was wrong is hardly believed, not believed to be wrong, and its score still ranks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import expit

from alpha_assets.quant.learners import Kind
from alpha_assets.quant.parameters import LearningParameters

Array = np.ndarray

LEAST_SLOPE = 0.02

#: Probabilities are kept this far from 0 and 1, so that their log-odds are finite.
CLIP = 1e-6

#: How far from their prior heads are taken to speak at least, as a share of the outcome's deviation, where it is asked
#: what the belief weighs: of heads that said nothing but rounding, any slope would follow.
LEAST_SPREAD = 0.02

#: Newton's steps: the problems are convex and nearly quadratic.
STEPS = 12

#: Rows in a step of an isotonic calibration at least: a rate of fewer is known to 5 points only.
STEP_ROWS = 400


def log_odds(probability: Any) -> Any:
    """ln(p / (1 - p)), of probabilities kept inside (0, 1)."""
    inside = np.clip(probability, CLIP, 1 - CLIP)
    return np.log(inside / (1 - inside))


def probability(odds: Any) -> Any:
    """The probability of log-odds."""
    return expit(odds)


class Calibrator(Protocol):
    """Turns a vote and its prior into what is believed."""

    def __call__(self, vote: Array, base: Array) -> Array:
        """``vote`` as the heads said it and ``base`` as the prior of the fit behind each row, in the same unit."""

    def document(self) -> dict[str, Any]:
        """For JSON."""


@dataclass(frozen=True)
class Platt:
    """P(up) with log-odds base + shift + slope · (vote - base): Platt (1999) around the prior."""

    shift: float
    slope: float

    def __call__(self, vote: Array, base: Array) -> Array:
        """P(up) of each row."""
        odds = log_odds(base)
        return np.asarray(probability(odds + self.shift + self.slope * (log_odds(vote) - odds)))

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"how": "platt", "shift": self.shift, "slope": self.slope}


@dataclass(frozen=True)
class Isotonic:
    """P(up) with log-odds base + f(vote - base), f rising (Zadrozny and Elkan, 2002) and straight between its steps."""

    at: Array
    shift: Array

    def __call__(self, vote: Array, base: Array) -> Array:
        """P(up) of each row."""
        odds = log_odds(base)
        return np.asarray(probability(odds + np.interp(log_odds(vote) - odds, self.at, self.shift)))

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"how": "isotonic", "at": self.at.tolist(), "shift": self.shift.tolist()}


@dataclass(frozen=True)
class Straight:
    """A return: base + shift + slope · (vote - base), the regression of Mincer and Zarnowitz (1969)."""

    shift: float
    slope: float

    def __call__(self, vote: Array, base: Array) -> Array:
        """The expected return of each row."""
        return np.asarray(base + self.shift + self.slope * (vote - base))

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"how": "straight", "shift": self.shift, "slope": self.slope}


@dataclass(frozen=True)
class Tempered:
    """Class probabilities proportional to base · (vote / base)^slope: temperature scaling around the prior."""

    slope: float

    def __call__(self, vote: Array, base: Array) -> Array:
        """rows x classes, each row summing to 1."""
        logs = np.log(np.clip(base, CLIP, 1)) + self.slope * _beyond(vote, base)
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"how": "tempered", "slope": self.slope}


def restored(document: Mapping[str, Any]) -> Calibrator:
    """The calibrator of ``document``. Raises ValueError for one that this program does not know."""
    how = document["how"]
    if how == "platt":
        return Platt(document["shift"], document["slope"])
    if how == "isotonic":
        return Isotonic(np.asarray(document["at"]), np.asarray(document["shift"]))
    if how == "straight":
        return Straight(document["shift"], document["slope"])
    if how == "tempered":
        return Tempered(document["slope"])
    raise ValueError(f"no calibration is called {how!r}: this version was made by another program")


def believed_before(kind: Kind, parameters: LearningParameters) -> Calibrator:
    """What is believed of a vote as long as no outcome is known."""
    if kind == "direction":
        return Platt(0.0, parameters.slope_prior)
    return Straight(0.0, parameters.slope_prior) if kind == "return" else Tempered(parameters.slope_prior)


def calibrated(
    kind: Kind,
    vote: Array,
    base: Array,
    outcome: Array,
    weight: Array,
    share: Array,
    parameters: LearningParameters,
) -> Calibrator:
    """The calibrator that out-of-sample votes and their outcomes ask for.

    ``outcome`` is 0 or 1 (direction), the return (return) or the class (signal); ``weight`` counts in a regression of
    returns only; ``share``, in (0, 1], is what of each row's outcome is its own.
    """
    if not len(vote):
        return believed_before(kind, parameters)
    if kind == "signal":
        return _tempered(vote, base, outcome, share, parameters)
    if kind == "return":
        return _straight(vote, base, outcome, weight * share, parameters)
    if share.sum() >= parameters.isotonic_from:
        return _isotonic(vote, base, outcome, share)
    return _platt(vote, base, outcome, share, parameters)


def loss(kind: Kind, said: Array, outcome: Array, weight: Array) -> float:
    """Mean log-loss in nats, or the weighted mean squared error of returns."""
    if kind == "return":
        return float(np.average((outcome - said) ** 2, weights=weight))
    if kind == "direction":
        inside = np.clip(said, CLIP, 1 - CLIP)
        return float(-np.mean(np.where(outcome > 0, np.log(inside), np.log(1 - inside))))
    return float(-np.mean(np.log(np.clip(said[np.arange(len(outcome)), outcome], CLIP, 1))))


def _platt(vote: Array, base: Array, up: Array, share: Array, parameters: LearningParameters) -> Platt:
    offset = log_odds(base)
    columns = np.column_stack([np.ones(len(vote)), log_odds(vote) - offset])
    prior = np.array([0.0, parameters.slope_prior])
    # A row's log-odds have information p (1 - p), a quarter; one half is the deviation of an outcome.
    precision = parameters.slope_rows / 4 * np.maximum(np.mean(columns**2, axis=0), (2 * LEAST_SPREAD) ** 2)
    shift, slope = _logistic(offset, columns, up, share, prior, precision)
    if slope >= LEAST_SLOPE:
        return Platt(float(shift), float(slope))
    # Beside a slope below it the shift says too much once the slope is cut: it is fitted anew beside the least.
    held = offset + LEAST_SLOPE * columns[:, 1]
    (shift,) = _logistic(held, columns[:, :1], up, share, prior[:1], precision[:1])
    return Platt(float(shift), LEAST_SLOPE)


def _logistic(offset: Array, columns: Array, up: Array, share: Array, prior: Array, precision: Array) -> Array:
    """The posterior mode of a logistic regression beside ``offset``, by Newton's steps."""
    found = prior.copy()
    for _ in range(STEPS):
        p = probability(offset + columns @ found)
        gradient = columns.T @ (share * (up - p)) - precision * (found - prior)
        curvature = (columns * (share * p * (1 - p))[:, None]).T @ columns + np.diag(precision)
        found = found + np.linalg.solve(curvature, gradient)
    return np.asarray(found)


def _straight(vote: Array, base: Array, outcome: Array, weight: Array, parameters: LearningParameters) -> Straight:
    columns = np.column_stack([np.ones(len(vote)), vote - base])
    prior = np.array([0.0, parameters.slope_prior])
    least = LEAST_SPREAD**2 * float(np.average((outcome - base) ** 2, weights=weight))
    precision = parameters.slope_rows * np.maximum(np.mean(columns**2, axis=0), max(least, 1e-300))
    weighted = (columns * weight[:, None]).T
    shift, slope = np.linalg.solve(
        weighted @ columns + np.diag(precision), weighted @ (outcome - base) + precision * prior
    )
    if slope >= LEAST_SLOPE:
        return Straight(float(shift), float(slope))
    left = outcome - base - LEAST_SLOPE * columns[:, 1]
    return Straight(float(weight @ left / (weight.sum() + precision[0])), LEAST_SLOPE)


def _tempered(vote: Array, base: Array, classes: Array, share: Array, parameters: LearningParameters) -> Tempered:
    beyond = _beyond(vote, base)
    chosen = beyond[np.arange(len(classes)), classes]
    slope = parameters.slope_prior
    for _ in range(STEPS):
        said = Tempered(slope)(vote, base)
        mean = (said * beyond).sum(axis=1)
        spread = (said * beyond**2).sum(axis=1) - mean**2
        precision = parameters.slope_rows * max(float(spread.mean()), LEAST_SPREAD**2)
        gradient = float(share @ (chosen - mean)) - precision * (slope - parameters.slope_prior)
        slope = max(slope + gradient / (float(share @ spread) + precision), LEAST_SLOPE)
    return Tempered(slope)


def _isotonic(vote: Array, base: Array, up: Array, share: Array) -> Isotonic:
    from scipy.optimize import isotonic_regression

    offset = log_odds(base)
    beyond = log_odds(vote) - offset
    order = np.argsort(beyond, kind="stable")
    steps = np.array_split(order, max(2, int(share.sum()) // STEP_ROWS))
    rates = np.array([up[step].mean() for step in steps])
    sizes = np.array([len(step) for step in steps], dtype=np.float64)
    level = isotonic_regression(rates, weights=sizes).x
    at = np.array([beyond[step].mean() for step in steps])
    shift = log_odds(np.clip(level, 0.01, 0.99)) - np.array([offset[step].mean() for step in steps])
    return Isotonic(at, np.maximum.accumulate(shift))


def _beyond(vote: Array, base: Array) -> Array:
    return np.log(np.clip(vote, CLIP, 1)) - np.log(np.clip(base, CLIP, 1))


@dataclass(frozen=True)
class Voice:
    """Some heads of one kind as one opinion: a soft vote by their weights, then its calibration."""

    kind: Kind
    weights: Mapping[str, float]
    calibrator: Calibrator

    def vote(self, said: Mapping[str, Array]) -> Array:
        """The weighted mean of what the heads say."""
        return np.asarray(sum(weight * said[name] for name, weight in self.weights.items()))

    def __call__(self, said: Mapping[str, Array], base: Array) -> Array:
        """The calibrated opinion, rows or rows x 3; ``base`` is the prior of the fit, one a row."""
        return self.calibrator(self.vote(said), base)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {"kind": self.kind, "weights": dict(self.weights), "calibration": self.calibrator.document()}

    @classmethod
    def restored(cls, document: Mapping[str, Any]) -> "Voice":
        """The voice of ``document``."""
        return cls(document["kind"], document["weights"], restored(document["calibration"]))


def tuned(
    kind: Kind,
    said: Mapping[str, Array],
    base: Array,
    outcome: Array,
    weight: Array,
    share: Array,
    parameters: LearningParameters,
) -> Voice:
    """The voice that out-of-sample answers of some heads of one kind ask for.

    A head weighs by how much its own calibrated answers lowered the loss of the prior; where none did, or nothing is
    known yet, all weigh alike.
    """
    equal = dict.fromkeys(said, 1 / len(said))
    if not len(outcome):
        return Voice(kind, equal, believed_before(kind, parameters))
    nothing = loss(kind, base, outcome, weight)
    gains = {
        name: nothing
        - loss(kind, calibrated(kind, answer, base, outcome, weight, share, parameters)(answer, base), outcome, weight)
        for name, answer in said.items()
    }
    total = sum(max(gain, 0.0) for gain in gains.values())
    weights = {name: max(gain, 0.0) / total for name, gain in gains.items()} if total > 0 else equal
    voice = Voice(kind, weights, believed_before(kind, parameters))
    return Voice(kind, weights, calibrated(kind, voice.vote(said), base, outcome, weight, share, parameters))
