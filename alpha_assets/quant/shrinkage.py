"""From the pool to the symbol: each symbol's skill, shrunk to that of all.

The effects of a passed pool are modelled as a share of exact zeros and a normal rest; the share, the rest's mean and
its spread are averaged over a grid by their marginal likelihood. With a normal prior alone a symbol without any edge
reaches P(effect > 0) = 0.9 in more than one case of ten, by arithmetic.
"""

import math
from dataclasses import dataclass

import numpy as np

from alpha_assets.quant.evidence import Array, Sample, over


@dataclass(frozen=True)
class Effects:
    """Each symbol's own TS-IC, its standard error, the effect shrunk to the pool, and P(effect > 0); NaN: undefined."""

    ic: Array
    error: Array
    effect: Array
    probability: Array


def symbol_effects(sample: Sample) -> Effects:
    """Every symbol's TS-IC with its standard error, shrunk to the pool.

    What is shrunk is free of the bias of demeaning (``Panel.purged``). Fisher's z of a symbol has the variance
    design / (n - 3), n its rows. The design factor is what overlap and clustering do to it: the variance of the
    symbol's IC under the block bootstrap over 1 / n, taken over all symbols, because a single symbol's is too noisy
    to be believed, and at least 1.
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
    unbiased = over((sample.purged(score) * earned).sum(axis=0), scale)
    error = np.sqrt(_design_factor(sample, unbiased, known) / np.maximum(rows - 3, 1))
    ceiling = 1 - 1e-9
    effect, probability = shrink(np.arctanh(np.clip(unbiased[known], -ceiling, ceiling)), error[known])
    own = over((score * earned).sum(axis=0), scale)
    answer = Effects(np.where(known, own, np.nan), np.where(known, error, np.nan), nothing.copy(), nothing.copy())
    answer.effect[known], answer.probability[known] = np.tanh(effect), probability
    return answer


def _design_factor(sample: Sample, ic: Array, known: Array) -> float:
    """Over all symbols, n x the block-bootstrap variance of the ICs' influences (``Panel.ic``) over the plain ones."""
    rows = sample.held.sum(axis=0)
    of_score = over(np.sqrt(rows), np.sqrt((sample.score**2).sum(axis=0)))
    of_return = over(np.sqrt(rows), np.sqrt((sample.earned**2).sum(axis=0)))
    x, y = sample.score * of_score, sample.earned * of_return
    influence = (sample.purged(sample.score) * of_score * y - ic * (x**2 + y**2) / 2)[:, known]
    variance = (sample.block_sums(influence) ** 2).mean(axis=0) / sample.block * sample.dates
    plain = rows[known] * (1 - ic[known] ** 2) ** 2
    # Of the sums and not the mean of ratios: one symbol with an IC of 1, a leak, has a plain variance of nothing, and
    # made the error of every other one infinite.
    return max(float(variance.sum() / plain.sum()), 1.0)


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
    above = np.where(narrow > 0, ndtr(over(shrunk, narrow)), shrunk > 0)

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
