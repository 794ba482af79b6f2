"""The gate: from out-of-fold predictions to a decision, for the pool first, then for each symbol.

The pool passes or not on lines, each a figure with its bootstrap error, held against a threshold by a one-sided
bound (GATE.md has the definitions). Days of a market move together and labels overlap, so the bootstrap
draws circular blocks of dates, all symbols of a date together (Politis and Romano, 1992). The bound is
figure - bias - t x error, with Student's t on blocks - 1: the levels of repeated attempts lie far beyond
the quantiles that resamples could show.

The bias is that of demeaning over a finite sample. A score made of past returns has a mean that goes with the mean of
the returns; taking both off makes a contrarian score look skilled and a momentum score look foolish, where
there is nothing (Stambaugh, 1999): IC 0.013 on 750 dates at h = 5, twice the standard error of 200 independent symbols.

A symbol's effect is shrunk to the pool. The effects of a passed pool are modelled as a share of exact zeros and a
normal rest; the share, the rest's mean and its spread are averaged over a grid by their marginal likelihood. With a
normal prior alone a symbol without any edge reaches P(effect > 0) = 0.9 in more than one case of ten, by arithmetic.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import time
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl

from alpha_assets.quant import metrics
from alpha_assets.quant.parameters import GateParameters

Array = np.ndarray

Decision = Literal["promote", "reject", "block"]

VERBS: Mapping[Decision, str] = {"promote": "promoted", "reject": "rejected", "block": "blocked"}

NEEDED = ("symbol", "timestamp", "score", "scaled_return", "p_up", "up")


@dataclass(frozen=True)
class Line:
    """One line of the gate: a figure, what its bound is held against, and the sentence that says so.

    ``figure``, ``error`` (one bootstrap standard error) and ``bound`` are None where they are undefined. ``decides`` is
    whether the line may turn the verdict; the others are reported.
    """

    name: str
    figure: float | None
    error: float | None
    bound: float | None
    threshold: float
    passed: bool
    decides: bool
    sentence: str


@dataclass(frozen=True)
class PoolVerdict:
    """What the evidence of a whole family is worth. ``level`` is this attempt's share of the family's yearly level."""

    decision: Decision
    reason: str
    lines: tuple[Line, ...]
    attempt: int
    level: float
    rows: int
    dates: int
    symbols: int
    effective_sample: float

    def line(self, name: str) -> Line:
        """The line of this name. Raises KeyError where it was not judged."""
        for line in self.lines:
            if line.name == name:
                return line
        raise KeyError(f"the gate judged no line {name!r}; it judged {', '.join(line.name for line in self.lines)}")


@dataclass(frozen=True)
class SymbolVerdict:
    """What the evidence says of one symbol.

    ``ic`` is the symbol's own TS-IC and ``error`` its standard error; ``effect`` the same shrunk to the pool;
    ``probability`` P(effect > 0). None where undefined.
    """

    decision: Decision
    reason: str
    rows: int
    ic: float | None
    error: float | None
    effect: float | None
    probability: float | None
    threshold: float


@dataclass(frozen=True)
class Judgement:
    """The verdict over the pool and over each of its symbols."""

    pool: PoolVerdict
    symbols: Mapping[str, SymbolVerdict]

    def document(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text, ready for JSON."""
        return {
            "pool": asdict(self.pool),
            "symbols": {symbol: asdict(verdict) for symbol, verdict in self.symbols.items()},
        }


def judge(
    evidence: pl.DataFrame,
    parameters: GateParameters,
    *,
    horizon: int,
    attempt: int = 1,
    champion: pl.DataFrame | None = None,
) -> Judgement:
    """The verdict on a family's out-of-fold predictions.

    ``evidence`` holds one row a prediction: symbol, timestamp, score, scaled_return (the labelled return over its
    scale), p_up, up, and perhaps prior, past_return and momentum_return for the naive rivals; a row with a null or NaN
    in one of the six is left out. ``horizon`` is the label's, in bars; ``attempt`` counts this family's looks within
    the rolling year, from 1; ``champion`` holds symbol, timestamp and score of the one to be succeeded. The same
    arguments give the same verdict, whatever the order of the rows.

    Raises ValueError for an attempt or horizon below 1, a missing column or two rows of one key.
    """
    _refuse(evidence, horizon, attempt)
    sample = Sample(_sound(evidence), parameters, horizon)
    level = attempt_level(parameters.level, attempt)
    lines = _lines(sample, parameters, level, champion)
    pool = _pool_verdict(sample, lines, attempt, level)
    return Judgement(pool=pool, symbols=_symbol_verdicts(sample, pool, parameters))


def attempt_level(level: float, attempt: int) -> float:
    """The share of a yearly level that the k-th attempt may spend: level x 6 / (pi^2 k^2), which sums to the level."""
    return level * 6 / (math.pi**2 * attempt**2)


def _refuse(evidence: pl.DataFrame, horizon: int, attempt: int) -> None:
    if horizon < 1 or attempt < 1:
        raise ValueError(f"horizon {horizon} and attempt {attempt}: both count from 1")
    missing = [name for name in NEEDED if name not in evidence.columns]
    if missing:
        raise ValueError(f"the evidence lacks {', '.join(missing)}")
    doubled = evidence.filter(pl.struct("symbol", "timestamp").is_duplicated())
    if doubled.height:
        row = doubled.row(0, named=True)
        raise ValueError(f"{doubled.height} rows of evidence share a key, first {row['symbol']} at {row['timestamp']}")


def _sound(evidence: pl.DataFrame) -> pl.DataFrame:
    finite = pl.all_horizontal(pl.col(name).is_finite() for name in ("score", "scaled_return", "p_up"))
    return evidence.filter(finite & pl.col("up").is_not_null()).sort("timestamp", "symbol")


class Sample:
    """The evidence as dates x symbols, and its resamples by blocks of dates. Absent rows are zeros with ``held`` 0."""

    def __init__(self, evidence: pl.DataFrame, parameters: GateParameters, horizon: int) -> None:
        self.evidence = evidence
        self.parameters = parameters
        self.horizon = horizon
        self.names = evidence["symbol"].unique().sort().to_list()
        self.symbol = evidence["symbol"].rank("dense").to_numpy().astype(np.int64) - 1
        self.date = evidence["timestamp"].rank("dense").to_numpy().astype(np.int64) - 1
        self.dates = int(self.date.max()) + 1 if evidence.height else 0
        daily = (evidence["timestamp"].dt.time() == time(0)).all()
        #: What ``dates`` counts, for a sentence: an intraday sample has many of them a day.
        self.unit = "dates" if daily else "bar times"
        self.block = max(parameters.min_block, parameters.block_horizons * horizon)

    @property
    def blocks(self) -> int:
        """Blocks of dates that a resample holds."""
        return self.dates // self.block

    @property
    def window(self) -> int:
        """Dates over which the longest memory is looked for: five blocks, a fifth of the dates at most."""
        return max(min(5 * self.block, self.dates // 5), 1)

    @property
    def widening(self) -> float:
        """Factor on every bootstrap error, as if one window of dates were missing.

        Block sums about their own mean vary too little, and the bias that is taken off is an estimate too. Without it
        4.0 % of null families passed at a level of 3.0 %, and a contrarian score in up to 9 %.
        """
        return math.sqrt(self.dates / (self.dates - self.window))

    def grid(self, values: Array) -> Array:
        """Row values as dates x symbols."""
        grid = np.zeros((self.dates, len(self.names)))
        grid[self.date, self.symbol] = values
        return grid

    def column(self, name: str) -> Array:
        """A column of the evidence as f64, in the order of the rows."""
        return self.evidence[name].cast(pl.Float64).to_numpy()

    def standard(self, name: str) -> Array:
        """A column as dates x symbols, less its symbol's mean, over the pooled deviation; zeros if it is constant."""
        values = self.grid(self.column(name))
        values = self.held * (values - _over(values.sum(axis=0), self.held.sum(axis=0)))
        deviation = math.sqrt(float((values**2).sum()) / max(self.evidence.height, 1))
        tiny = 1e-12 * max(float(np.abs(self.column(name)).max(initial=0.0)), 1e-300)
        return values / deviation if deviation > tiny else np.zeros_like(values)

    @cached_property
    def held(self) -> Array:
        """1 where there is a row."""
        return self.grid(np.ones(self.evidence.height))

    @cached_property
    def score(self) -> Array:
        """The standardised score."""
        return self.standard("score")

    @cached_property
    def earned(self) -> Array:
        """The standardised volatility-scaled return."""
        return self.standard("scaled_return")

    @cached_property
    def weights(self) -> Array:
        """How often each date is drawn: resamples x dates, whole circular blocks."""
        random = np.random.default_rng(self.parameters.seed)
        count = self.parameters.resamples
        starts = random.integers(0, self.dates, size=(count, max(self.blocks, 1)))
        steps = np.zeros((count, 2 * self.dates + 1))
        rows = np.repeat(np.arange(count), starts.shape[1])
        np.add.at(steps, (rows, starts.ravel()), 1.0)
        np.add.at(steps, (rows, starts.ravel() + min(self.block, self.dates)), -1.0)
        drawn = np.cumsum(steps, axis=1)
        return drawn[:, : self.dates] + drawn[:, self.dates : 2 * self.dates]

    def resampled_ic(self, score: Array) -> Array:
        """TS-IC of a standardised score in each resample, from the sums of each date.

        The symbols' means stay those of the whole sample: moving them changes the IC in second order only, and
        that part is ``demeaning_bias``.
        """
        products = np.stack([(score * self.earned).sum(1), (score**2).sum(1), (self.earned**2).sum(1)], axis=1)
        both, scores, earned = (self.weights @ products).T
        return _over(both, np.sqrt(scores * earned))

    def demeaning_bias(self, score: Array) -> float:
        """What taking off the symbols' means adds to the expected TS-IC of a standardised score.

        The numerator loses n cov(mean score, mean return) of each symbol, which is the covariance of the two's sums
        over a window, a date of it. A window sees only what of the memory fits into it.
        """
        window = self.window
        sums = _window_sums(score, window) * _window_sums(self.earned, window)
        share = _over(np.full(len(self.names), float(self.dates)), self.held.sum(axis=0))
        per_date = sums.mean(axis=0) / window * self.dates / max(self.dates - window, 1)
        return -float((per_date * share).sum()) / self.evidence.height

    def resampled_mean(self, values: Array) -> Array:
        """Mean over rows of a row value in each resample."""
        return _over(self.weights @ self.grid(values).sum(axis=1), self.weights @ self.held.sum(axis=1))

    @cached_property
    def breadth(self) -> float:
        """Independent symbols a date is worth: m / (1 + (m - 1) r), m symbols a date, r their mean cross-correlation.

        r is measured on the volatility-scaled returns and not taken below 0, so breadth is never above m.
        """
        held = self.held.sum(axis=1)
        pairs = float((held * (held - 1)).sum())
        mean_held = float(held.mean()) if self.dates else 0.0
        if not pairs or not self.earned.any():
            return min(mean_held, 1.0)
        crossed = float((self.earned.sum(axis=1) ** 2 - (self.earned**2).sum(axis=1)).sum()) / pairs
        return mean_held / (1 + (mean_held - 1) * min(max(crossed, 0.0), 1.0))

    @property
    def effective_sample(self) -> float:
        """Predictions that could be independent: dates / horizon, times the breadth."""
        return self.dates / self.horizon * self.breadth


def _window_sums(values: Array, window: int) -> Array:
    """Sums over every run of ``window`` dates."""
    sums = np.cumsum(np.concatenate([np.zeros((1, *values.shape[1:])), values]), axis=0)
    return sums[window:] - sums[:-window]


def _over(numerator: Array, denominator: Array) -> Array:
    """Quotient, 0 where the denominator is not positive: there is nothing there."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator, dtype=np.float64), where=denominator > 0)


@dataclass(frozen=True)
class _Estimate:
    """A figure with its bootstrap: value, standard error, and bias already known."""

    value: float
    error: float
    bias: float
    blocks: int

    def bound(self, level: float) -> float:
        """One-sided lower bound: the truth lies below it with probability ``level``."""
        from scipy.special import stdtrit

        return self.value - self.bias + float(stdtrit(self.blocks - 1, level)) * self.error


def _estimate(value: float, resampled: Array, sample: Sample, bias: float = 0.0) -> _Estimate:
    return _Estimate(value, float(resampled.std(ddof=1)) * sample.widening, bias, sample.blocks)


def _lines(sample: Sample, parameters: GateParameters, level: float, champion: pl.DataFrame | None) -> tuple[Line, ...]:
    lines = [_sample_line(sample, parameters)]
    if sample.blocks < 2:
        why = f"{sample.dates} {sample.unit} are fewer than two blocks of {sample.block}"
        return (lines[0], _undefined("skill", why))
    ic = _ic_estimate(sample)
    lines += [_skill_line(sample, ic, level), _suspicion_line(sample, ic, parameters), _calibration_line(sample, level)]
    if champion is not None:
        lines.append(_champion_line(sample, parameters, level, champion))
    return tuple(lines)


def _sample_line(sample: Sample, parameters: GateParameters) -> Line:
    least = parameters.min_effective_sample
    passed = sample.effective_sample >= least
    return Line(
        name="sample",
        figure=sample.effective_sample,
        error=None,
        bound=sample.effective_sample,
        threshold=least,
        passed=passed,
        decides="sample" in parameters.deciding_lines,
        sentence=(
            f"effective sample {sample.effective_sample:.0f} {'≥' if passed else '<'} {least:.0f} "
            f"({sample.dates} {sample.unit} / horizon {sample.horizon} x breadth {sample.breadth:.1f})"
        ),
    )


def _undefined(name: str, why: str, *, threshold: float = 0.0, decides: bool = True) -> Line:
    return Line(name, None, None, None, threshold, passed=False, decides=decides, sentence=f"no figure: {why}")


def _ic_estimate(sample: Sample) -> _Estimate | None:
    value = metrics.ts_ic(sample.evidence)
    if value is None or not sample.score.any() or not sample.earned.any():
        return None
    return _estimate(value, sample.resampled_ic(sample.score), sample, sample.demeaning_bias(sample.score))


def _skill_line(sample: Sample, ic: _Estimate | None, level: float) -> Line:
    if ic is None:
        return _undefined("skill", "the score or the return of every symbol is constant")
    bound = ic.bound(level)
    passed = bound > 0
    return Line(
        name="skill",
        figure=ic.value,
        error=ic.error,
        bound=bound,
        threshold=0.0,
        passed=passed,
        decides=True,
        sentence=(
            f"lower bound of TS-IC {bound:.3f} {'>' if passed else '≤'} 0 over {_extent(sample)} at level {level:.2g} "
            f"(TS-IC {ic.value:.3f} ± {ic.error:.3f})"
        ),
    )


def _suspicion_line(sample: Sample, ic: _Estimate | None, parameters: GateParameters) -> Line:
    """The nearer of two: TS-IC and accuracy, each by its lower bound; passes where neither is too good to be true."""
    p_up, up = sample.column("p_up"), sample.column("up") > 0
    hits = metrics.hits(p_up, up)
    accuracy = _estimate(float(hits.mean()), sample.resampled_mean(hits), sample)
    figures = [("accuracy", accuracy, parameters.suspicion_accuracy)]
    if ic is not None:
        figures.append(("TS-IC", ic, parameters.suspicion_ic))
    label, figure, threshold = max(figures, key=lambda item: item[1].bound(parameters.suspicion_level) - item[2])
    bound = figure.bound(parameters.suspicion_level)
    passed = bound <= threshold
    return Line(
        name="suspicion",
        figure=figure.value,
        error=figure.error,
        bound=bound,
        threshold=threshold,
        passed=passed,
        decides="suspicion" in parameters.deciding_lines,
        sentence=(
            f"lower bound of {label} {bound:.3f} {'≤' if passed else '>'} {threshold:.2f} "
            f"at level {parameters.suspicion_level:.2g}"
            + ("" if passed else ": too good to be true, a person has to look for a leak")
        ),
    )


def _calibration_line(sample: Sample, level: float) -> Line:
    """Log-loss of the best of the priors less the model's, which may be no worse than the margin."""
    parameters = sample.parameters
    up = sample.column("up") > 0
    losses = {
        name: metrics.log_losses(p_up, up)
        for name, p_up in metrics.rival_probabilities(sample.evidence).items()
        if name in ("half", "pooled_prior", "symbol_prior")
    }
    rival = min(losses, key=lambda name: float(losses[name].mean()))
    gain = losses[rival] - metrics.log_losses(sample.column("p_up"), up)
    estimate = _estimate(float(gain.mean()), sample.resampled_mean(gain), sample)
    bound, threshold = estimate.bound(level), -parameters.calibration_margin
    passed = bound > threshold
    return Line(
        name="calibration",
        figure=estimate.value,
        error=estimate.error,
        bound=bound,
        threshold=threshold,
        passed=passed,
        decides="calibration" in parameters.deciding_lines,
        sentence=(
            f"lower bound of the log-loss saved against {rival.replace('_', ' ')} {bound:.4f} "
            f"{'>' if passed else '≤'} {threshold:.4f} nats at level {level:.2g}"
        ),
    )


def _champion_line(sample: Sample, parameters: GateParameters, level: float, champion: pl.DataFrame) -> Line:
    """TS-IC less that of the champion, on the rows they share, block by block on the same resamples."""
    threshold, decides = -parameters.champion_margin, "champion" in parameters.deciding_lines
    theirs = champion.select("symbol", "timestamp", champion_score="score")
    shared = _sound(sample.evidence.join(theirs, on=["symbol", "timestamp"])).filter(
        pl.col("champion_score").is_finite()
    )
    common = Sample(shared, parameters, sample.horizon)
    if common.blocks < 2:
        why = f"champion and successor share {common.dates} {common.unit}, fewer than two blocks of {common.block}"
        return _undefined("champion", why, threshold=threshold, decides=decides)
    score, other = common.standard("score"), common.standard("champion_score")
    size = float(common.held.sum())
    value = float(((score - other) * common.earned).sum()) / size
    difference = common.resampled_ic(score) - common.resampled_ic(other)
    bias = common.demeaning_bias(score) - common.demeaning_bias(other)
    estimate = _estimate(value, difference, common, bias)
    bound = estimate.bound(level)
    passed = bound > threshold
    return Line(
        name="champion",
        figure=value,
        error=estimate.error,
        bound=bound,
        threshold=threshold,
        passed=passed,
        decides=decides,
        sentence=(
            f"lower bound of TS-IC less the champion's {bound:.3f} {'>' if passed else '≤'} {threshold:.3f} "
            f"over {_extent(common)} at level {level:.2g}"
        ),
    )


def _extent(sample: Sample) -> str:
    return f"{len(sample.names)} symbol{'s' * (len(sample.names) != 1)} and {sample.dates:,} {sample.unit}"


def _pool_verdict(sample: Sample, lines: tuple[Line, ...], attempt: int, level: float) -> PoolVerdict:
    failed = [line for line in lines if line.decides and not line.passed]
    decision: Decision = "promote"
    if failed:
        decision = "block" if any(line.name == "suspicion" for line in failed) else "reject"
    telling = failed or [line for line in lines if line.name == "skill"]
    return PoolVerdict(
        decision=decision,
        reason=f"{VERBS[decision]}: " + "; ".join(line.sentence for line in telling),
        lines=lines,
        attempt=attempt,
        level=level,
        rows=sample.evidence.height,
        dates=sample.dates,
        symbols=len(sample.names),
        effective_sample=sample.effective_sample,
    )


@dataclass(frozen=True)
class Effects:
    """Each symbol's own TS-IC, its standard error, the effect shrunk to the pool, and P(effect > 0); NaN: undefined."""

    ic: Array
    error: Array
    effect: Array
    probability: Array


def _symbol_verdicts(sample: Sample, pool: PoolVerdict, parameters: GateParameters) -> dict[str, SymbolVerdict]:
    effects = symbol_effects(sample)
    rows = sample.held.sum(axis=0).astype(int)
    verdicts = {}
    for number, name in enumerate(sample.names):
        ic, error = _defined(effects.ic[number]), _defined(effects.error[number])
        effect, probability = _defined(effects.effect[number]), _defined(effects.probability[number])
        decision, reason = _symbol_decision(pool, probability, ic, parameters.symbol_probability)
        verdicts[name] = SymbolVerdict(
            decision=decision,
            reason=reason,
            rows=int(rows[number]),
            ic=ic,
            error=error,
            effect=effect,
            probability=probability,
            threshold=parameters.symbol_probability,
        )
    return verdicts


def _symbol_decision(
    pool: PoolVerdict, probability: float | None, ic: float | None, threshold: float
) -> tuple[Decision, str]:
    if pool.decision != "promote":
        return pool.decision, f"{VERBS[pool.decision]} with its pool: {pool.reason.split(': ', 1)[1]}"
    if probability is None or ic is None:
        return "reject", "rejected: no figure, its score or its return is constant or its dates are too few"
    decision: Decision = "promote" if probability >= threshold else "reject"
    sign = "≥" if decision == "promote" else "<"
    return decision, (
        f"{VERBS[decision]}: P(effect > 0) {probability:.3f} {sign} {threshold:.2f}, own TS-IC {ic:.3f} "
        f"shrunk to a pool that passed"
    )


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def symbol_effects(sample: Sample) -> Effects:
    """Every symbol's TS-IC with its standard error, shrunk to the pool.

    Fisher's z of a symbol has the variance design / (n - 3), n its rows. The design factor is what overlap and
    clustering do to it: the variance of the symbol's IC under the block bootstrap over 1 / n, averaged over the
    symbols, because a single symbol's is too noisy to be believed, and at least 1.
    """
    nothing = np.full(len(sample.names), np.nan)
    if sample.blocks < 2:
        return Effects(nothing, nothing, nothing, nothing)
    rows = sample.held.sum(axis=0)
    score, earned = sample.score, sample.earned
    scale = np.sqrt((score**2).sum(axis=0) * (earned**2).sum(axis=0))
    known = (scale > 0) & (rows >= 2 * sample.block)
    if not known.any():
        return Effects(nothing, nothing, nothing, nothing)
    ic = _over((score * earned).sum(axis=0), scale)
    design = _design_factor(sample, ic, known)
    error = np.sqrt(design / np.maximum(rows - 3, 1))
    ceiling = 1 - 1e-9
    effect, probability = shrink(np.arctanh(np.clip(ic[known], -ceiling, ceiling)), error[known])
    answer = Effects(np.where(known, ic, np.nan), np.where(known, error, np.nan), nothing.copy(), nothing.copy())
    answer.effect[known], answer.probability[known] = np.tanh(effect), probability
    return answer


def _design_factor(sample: Sample, ic: Array, known: Array) -> float:
    """Mean over symbols of n x the circular-block-bootstrap variance of the IC's influence, exact without resampling.

    The influence of a date on a correlation r of standardised x and y is x y - r (x^2 + y^2) / 2.
    """
    rows = sample.held.sum(axis=0)
    x = sample.score * _over(np.sqrt(rows), np.sqrt((sample.score**2).sum(axis=0)))
    y = sample.earned * _over(np.sqrt(rows), np.sqrt((sample.earned**2).sum(axis=0)))
    influence = (x * y - ic * (x**2 + y**2) / 2)[:, known]
    totals = _window_sums(np.concatenate([influence, influence[: sample.block - 1]]), sample.block)
    variance = (totals**2).mean(axis=0) / sample.block * sample.dates
    plain = rows[known] * (1 - ic[known] ** 2) ** 2
    return max(float(np.mean(variance / plain)), 1.0)


#: The grid over which the prior of the symbols' effects is averaged: share of zeros, mean and spread of the rest
#: (Fisher's z). Means stop at the suspicion line's neighbourhood; a spread of 0 is a pool of equals.
ZERO_SHARES = np.linspace(0.0, 0.95, 20)
MEANS = np.linspace(-0.05, 0.35, 41)
SPREADS = np.array([0.0, 0.01, 0.02, 0.04, 0.07, 0.12])


def shrink(estimates: Array, errors: Array) -> tuple[Array, Array]:
    """Posterior mean and P(effect > 0) of each effect, by empirical Bayes.

    ``estimates`` are normal about the effects with standard ``errors``. An effect is 0 with probability p, else normal
    with mean m and deviation s; (p, m, s) is averaged over a grid, flat, weighted by the marginal likelihood of all
    estimates together (Efron, Large-Scale Inference, 2010, on two groups). Shapes: (symbols,) each.
    """
    from scipy.special import logsumexp, ndtr

    zero = _log_normal(estimates, errors**2)
    mean, spread = (axis[..., None] for axis in np.meshgrid(MEANS, SPREADS, indexing="ij"))
    total = errors**2 + spread**2
    rest = _log_normal(estimates - mean, total)
    shrunk = mean + spread**2 / total * (estimates - mean)
    narrow = np.sqrt(spread**2 * errors**2 / total)
    above = np.where(narrow > 0, ndtr(_over(shrunk, narrow)), shrunk > 0)

    weights, effects, probabilities = [], [], []
    for share in ZERO_SHARES:
        with_zero = np.log(share) + zero if share > 0 else np.full(zero.shape, -np.inf)
        marginal = np.logaddexp(with_zero, math.log1p(-share) + rest)
        nonzero = np.exp(math.log1p(-share) + rest - marginal)
        weights.append(marginal.sum(axis=-1))
        effects.append(nonzero * shrunk)
        probabilities.append(nonzero * above)
    evidence = np.array(weights)
    weight = np.exp(evidence - logsumexp(evidence))[..., None]
    axes = (0, 1, 2)
    return (weight * np.array(effects)).sum(axis=axes), (weight * np.array(probabilities)).sum(axis=axes)


def _log_normal(distance: Array, variance: Array) -> Array:
    return -0.5 * (distance**2 / variance + np.log(2 * math.pi * variance))
