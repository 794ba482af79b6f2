"""Wilder's recursions where they are ratios: they forget nothing while a market stands still, and ties decide nothing.

A ratio of two averages that decay alike stays what it was for as long as nothing moves; no number of bars would be
enough to recompute it. So after more than ``STILL_BARS`` motionless bars such an indicator ends, and it begins anew
with the first move.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.signal import lfilter

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
    high: Array, low: Array, close: Array, bars: int, over: Sequence[slice] = (slice(None),)
) -> tuple[Array, Array, Array]:
    """Positive and negative directional indicator and their average index, in [0, 1], of each spell: Wilder (1978).

    TA-Lib's, but for ties: in prices of whole ticks the move up often equals the move down, which is no direction;
    TA-Lib lets the rounding of an adjustment decide. Without any directed movement the index of a bar counts as 0. NaN
    outside the spells and before bar ``bars`` of each, the average before bar ``2 bars - 1``.
    """
    rise, fall = np.diff(high, prepend=high[:1]), -np.diff(low, prepend=low[:1])
    before = np.concatenate([close[:1], close[:-1]])
    least = STILL * close
    moves = np.stack(
        [
            np.where((rise - fall > least) & (rise > least), rise, 0.0),
            np.where((fall - rise > least) & (fall > least), fall, 0.0),
            np.maximum(high, before) - np.minimum(low, before),
        ]
    )
    alike = _alike(over, len(close))
    smooth = np.full(moves.shape, np.nan)
    for rows, count in alike:
        smooth[:, rows] = _wilder_sum(moves[:, rows].reshape(3, count, -1), bars).reshape(3, -1)
    up, down, ranges = smooth
    directed = up + down
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.where(directed > least, np.abs(up - down) / directed, 0.0)
        positive, negative = up / ranges, down / ranges
    average = np.full(len(close), np.nan)
    for rows, count in alike:
        average[rows] = _wilder_mean(index[rows].reshape(count, -1), bars).reshape(-1)
    return positive, negative, average


def _alike(over: Sequence[slice], length: int) -> list[tuple[slice, int]]:
    """Spells of one length that adjoin, as the rows of all of them and their number.

    A filter's call costs as much as two hundred bars, and gathering rows from here and there as much as filtering them.
    """
    alike: list[tuple[int, int, int]] = []
    for spell in over:
        first, end, _ = spell.indices(length)
        begun, reached, count = alike[-1] if alike else (first, -1, 0)
        if reached == first and reached - begun == count * (end - first):
            alike[-1] = begun, end, count + 1
        else:
            alike.append((first, end, 1))
    return [(slice(first, end), count) for first, end, count in alike]


def _wilder_mean(index: Array, bars: int) -> Array:
    """Wilder's average along the last axis from bar ``2 bars - 1`` on, NaN before.

    It begins with the mean of the first ``bars`` values.
    """
    out = np.full(index.shape, np.nan)
    if index.shape[-1] >= 2 * bars:
        start = index[..., bars : 2 * bars].mean(axis=-1)
        out[..., 2 * bars - 1] = start
        out[..., 2 * bars :] = _decaying(index[..., 2 * bars :] / bars, bars, start)
    return out


def _wilder_sum(values: Array, bars: int) -> Array:
    """Wilder's smoothed sum along the last axis from bar ``bars`` on, NaN before; the first bar has no movement."""
    out = np.full(values.shape, np.nan)
    if values.shape[-1] > bars:
        out[..., bars:] = _decaying(values[..., bars:], bars, values[..., 1:bars].sum(axis=-1))
    return out


def _decaying(values: Array, bars: int, start: Array) -> Array:
    """s(t) = s(t - 1) (bars - 1) / bars + value(t), from ``start`` on."""
    kept = (bars - 1) / bars
    return lfilter([1.0], [1.0, -kept], values, zi=np.expand_dims(start, -1) * kept)[0]
