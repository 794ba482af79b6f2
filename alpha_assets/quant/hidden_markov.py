"""Hidden Markov chains: the forward filter, which looks at nothing later than its step, and a fit by EM.

B sequences of T steps over K states run beside each other in one loop over time. Densities may be scaled by any
positive factor a step: every step is normalised, so nothing underflows. Smoothed probabilities look ahead; they stay
inside ``fit``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

#: Steps a block where long sequences are cut so that their blocks run beside each other.
BLOCK = 1024

#: Keeps quotients of vanishing probabilities finite; below it a state counts as impossible.
SMALLEST = 1e-300


@dataclass(frozen=True)
class Chains:
    """A chain a sequence, with Gaussian emissions.

    ``start`` (B, K) is the distribution before the first step, ``transition`` (B, K, K) goes from row to column,
    ``mean`` and ``deviation`` are (B, K).
    """

    start: Floats
    transition: Floats
    mean: Floats
    deviation: Floats

    def density(self, seen: Floats, chain: Integers) -> Floats:
        """Density of each of ``seen`` (..., ) in the states of its ``chain``, (..., K), the largest scaled to 1.

        NaN is a step that says nothing: 1 in every state.
        """
        distance = (seen[..., None] - self.mean[chain]) / self.deviation[chain]
        logs = -0.5 * distance**2 - np.log(self.deviation)[chain]
        return np.nan_to_num(np.exp(logs - logs.max(axis=-1, keepdims=True)), nan=1.0)


def forward_filter(density: Floats, transition: Floats, start: Floats) -> Floats:
    """P(state at t | everything up to t), (B, T, K), by Baum's forward recursion, normalised step by step.

    ``density`` is (B, T, K), ``transition`` (K, K) or (B, K, K), ``start`` (B, K) the distribution at the step before
    the first. A step that is impossible in every state keeps the prediction.
    """
    filtered = np.empty_like(density)
    now = start[:, None, :]
    for step in range(density.shape[1]):
        predicted = now @ transition
        joint = predicted * density[:, step, None, :]
        total = joint.sum(axis=2, keepdims=True)
        now = np.where(total > 0, joint / np.maximum(total, SMALLEST), predicted)
        filtered[:, step] = now[:, 0]
    return filtered


def filter_one_after_the_other(density: Floats, lengths: Integers, transition: Floats, start: Floats) -> Floats:
    """``forward_filter`` of sequences of any ``lengths`` (B,) that lie one after the other in ``density`` (N, K).

    The filter is a product of matrices. Every sequence is cut into blocks: one loop multiplies the matrices of all
    blocks beside each other, a short one carries the distribution from block to block, and the filter then runs over
    all blocks at once. Same numbers up to rounding; a million steps take a thousand.
    """
    states = density.shape[1]
    blocks = -(-lengths // BLOCK)
    chain = np.repeat(np.arange(len(lengths)), blocks)
    padding = np.repeat(np.cumsum(blocks * BLOCK - lengths) - (blocks * BLOCK - lengths), lengths)
    place = np.arange(len(density)) + padding
    cut = np.ones((len(chain), BLOCK, states))
    cut.reshape(-1, states)[place] = density
    moves = transition[chain]

    product = np.broadcast_to(np.eye(states), moves.shape)
    for step in range(BLOCK):
        product = (product @ moves) * cut[:, step, None, :]
        product /= np.maximum(product.max(axis=(1, 2), keepdims=True), SMALLEST)
    starts = start[chain]
    for block in np.flatnonzero(chain[1:] == chain[:-1]):
        carried = starts[block] @ product[block]
        starts[block + 1] = carried / carried.sum()
    return forward_filter(cut, moves, starts).reshape(-1, states)[place]


def fit(seen: Floats, guess: Chains, iterations: int, least_deviation: Floats) -> Chains:
    """The chain of each sequence ``seen`` (B, T) by ``iterations`` of EM (Baum et al. 1970) from ``guess``.

    ``least_deviation`` (B,) keeps a state from shrinking onto one observation, where the likelihood has no bound.
    """
    chains = guess
    each = np.arange(len(seen))[:, None]
    known = ~np.isnan(seen)
    value = np.where(known, seen, 0.0)
    for _ in range(iterations):
        before, smoothed, moves = _expected(chains.density(seen, each), chains)
        weight = np.maximum(np.einsum("btk,bt->bk", smoothed, known.astype(np.float64)), SMALLEST)
        mean = np.einsum("btk,bt->bk", smoothed, value) / weight
        squares = np.einsum("btk,btk->bk", smoothed, (value[:, :, None] - mean[:, None]) ** 2 * known[:, :, None])
        chains = Chains(
            start=before,
            transition=moves / np.maximum(moves.sum(axis=2, keepdims=True), SMALLEST),
            mean=mean,
            deviation=np.maximum(np.sqrt(squares / weight), least_deviation[:, None]),
        )
    return chains


def _expected(density: Floats, chains: Chains) -> tuple[Floats, Floats, Floats]:
    """Probability of each state given the whole sequence, and expected moves between states, (B, K, K).

    The probabilities are those of the step before the first, (B, K), and of the steps, (B, T, K).
    """
    filtered = forward_filter(density, chains.transition, chains.start)
    smoothed = np.empty_like(filtered)
    smoothed[:, -1] = filtered[:, -1]
    moves = np.zeros_like(chains.transition)
    before = chains.start
    for step in range(density.shape[1] - 2, -2, -1):
        now = filtered[:, step] if step >= 0 else chains.start
        predicted = (now[:, None, :] @ chains.transition)[:, 0]
        ratio = smoothed[:, step + 1] / np.maximum(predicted, SMALLEST)
        pairs = now[:, :, None] * chains.transition * ratio[:, None, :]
        moves = moves + pairs
        before = pairs.sum(axis=2)
        if step >= 0:
            smoothed[:, step] = before
    return before, smoothed, moves
