"""Wilder's recursions where they are ratios: they forget nothing while a market stands still, and ties decide nothing.

A ratio of two averages that decay alike stays what it was for as long as nothing moves; no number of bars would be
enough to recompute it. So after more than ``STILL_BARS`` motionless bars such an indicator ends, and it begins anew
with the first move.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

Array = np.ndarray

#: Relative change at which two prices count as equal: the rounding of an adjustment, and less than any tick.
STILL = 1e-12

#: Motionless bars after which a market stands still.
STILL_BARS = 14


def spells(high: Array, low: Array, close: Array, starts: tuple[int, ...]) -> tuple[slice, ...]:
    """The stretches in which each listing moves, in order; ``starts`` are the rows at which the listings begin.

    The first ``STILL_BARS`` motionless bars still belong to one: only then is it known that nothing moves.
    """
    least = STILL * close
    moves = np.ones(len(close), np.bool_)
    moves[1:] = ((high - low) > least)[1:] | (np.abs(low[1:] - close[:-1]) > least[1:])
    moves[list(starts)] = True
    rows = np.arange(len(close))
    trades = rows - np.maximum.accumulate(np.where(moves, rows, 0)) <= STILL_BARS
    edges = np.flatnonzero(np.diff(trades, prepend=False, append=False))
    edges = np.unique(np.concatenate([edges, starts, [len(close)]]))
    return tuple(slice(int(first), int(end)) for first, end in pairwise(edges) if trades[first])


def directional_movement(
    high: Array, low: Array, close: Array, bars: int, over: Sequence[slice] | None = None
) -> tuple[Array, Array, Array]:
    """Positive and negative directional indicator and their average index, in [0, 1], of each spell: Wilder (1978).

    TA-Lib's, but for ties: in prices of whole ticks the move up often equals the move down, which is no direction;
    TA-Lib lets the rounding of an adjustment decide. Without any directed movement the index of a bar counts as 0. NaN
    outside the spells (without them all is one) and before bar ``bars`` of each, the average before bar
    ``2 bars - 1``.
    """
    # Where it is used: it brings a compiler along.
    from alpha_assets.quant import kernels

    spans = [(0, len(close))] if over is None else [(spell.start, spell.stop) for spell in over]
    edges = np.array(spans, np.int64).reshape(-1, 2)
    high, low, close = (np.ascontiguousarray(one, np.float64) for one in (high, low, close))
    positive, negative, average = kernels.directional_movement(high, low, close, edges, bars, STILL)
    return positive, negative, average
