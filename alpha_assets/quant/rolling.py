"""Figures of the last ``bars`` values, exact and fast: every window is built from halves by doubling.

A running sum carries the rounding of every value it ever saw, and one NaN poisons the rest. Here a window of 20 is
16 + 4, a window of 16 twice 8, and so on: a handful of vector additions whatever the length. The result at t depends
on the values of its window alone, to the last bit, wherever the array begins; a NaN spoils the windows that hold it
and no other. Deviations and higher moments are merged from those of the halves (Chan, Golub and LeVeque 1983; Pébay,
SAND2008-6212), so that nothing cancels where prices are large and their spread is small.

Arrays are one-dimensional f64 in time order; the answer has the same length, NaN before the first full window. The
listings of many symbols may lie one after the other: whoever calls blanks the first bars of each. The merges are
compiled (``kernels``).
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import polars as pl

Array = np.ndarray

#: What is kept of a window, an array a figure.
State = tuple[Array, ...]


def _windows(kind: str, values: Sequence[Array], windows: Sequence[int]) -> dict[int, State]:
    """The figures of a kind (``kernels.KINDS``) of every window of these lengths; NaN before the first full window.

    ``values`` are the figures of a single bar that are not zero. Lengths share their parts: 5, 10, 20, 30 and 60 bars
    take 7 merges together, not 27. Raises ValueError for a window shorter than one value.
    """
    # Where it is used: it brings a compiler along.
    from alpha_assets.quant import kernels

    plan, steps = merges(tuple(windows))
    number, figures = kernels.KINDS[kind]
    singles = np.ascontiguousarray(values[0], np.float64)[None] if len(values) == 1 else np.stack(values)
    found = kernels.windows(number, figures, singles, plan, steps, kernels.BLOCK)
    return {bars: tuple(state) for bars, state in zip(windows, found, strict=True)}


@lru_cache(maxsize=256)
def merges(windows: tuple[int, ...]) -> tuple[Array, Array]:
    """What to merge, in order, for windows of these lengths; and after which step each of them is known.

    A row names the steps that made the older and the newer part (0: single values, n: row n - 1) and their lengths.
    Raises ValueError for a window shorter than one value.
    """
    if min(windows) < 1:
        raise ValueError(f"a window holds at least 1 bar, not {min(windows)}")
    steps = {1: 0}
    rows: list[tuple[int, int, int, int]] = []

    def build(bars: int) -> None:
        if bars in steps:
            return
        of_older = _older_share(bars, steps)
        of_newer = bars - of_older
        build(of_older)
        build(of_newer)
        rows.append((steps[of_older], steps[of_newer], of_older, of_newer))
        steps[bars] = len(rows)

    for bars in sorted(windows):
        build(bars)
    return np.array(rows, np.int64).reshape(-1, 4), np.array([steps[bars] for bars in windows], np.int64)


def _older_share(bars: int, known: Mapping[int, int]) -> int:
    """Into how many older and newer values to split a window: two known lengths, else halves, else a power of two."""
    for of_older in sorted(known, reverse=True):
        if bars - of_older in known:
            return of_older
    return bars // 2 if bars % 2 == 0 else int(2 ** (bars.bit_length() - 1))


def shifted(values: Array, bars: int) -> Array:
    """The value ``bars`` before, NaN where there is none."""
    out = np.empty(len(values))
    out[:bars] = np.nan
    out[bars:] = values[: max(0, len(values) - bars)]
    return out


def rolling_sum(values: Array, bars: int) -> Array:
    """Sum of the last ``bars`` values."""
    return rolling_sums(values, (bars,))[bars]


def rolling_sums(values: Array, windows: Sequence[int]) -> dict[int, Array]:
    """``rolling_sum`` of each of these lengths."""
    return {bars: total for bars, (total,) in _windows("sum", (values,), windows).items()}


def rolling_mean(values: Array, bars: int) -> Array:
    """Mean of the last ``bars`` values."""
    return rolling_sum(values, bars) / bars


def rolling_max(values: Array, bars: int) -> Array:
    """Highest of the last ``bars`` values."""
    return _windows("highest", (values,), (bars,))[bars][0]


def rolling_min(values: Array, bars: int) -> Array:
    """Lowest of the last ``bars`` values."""
    return _windows("lowest", (values,), (bars,))[bars][0]


def bars_since_max(values: Array, bars: int) -> Array:
    """How many bars ago the highest of the last ``bars`` values was; the newest of equals counts."""
    return _highs("newest high", values, (bars,))[bars][1]


def bars_since_min(values: Array, bars: int) -> Array:
    """How many bars ago the lowest of the last ``bars`` values was; the newest of equals counts."""
    return bars_since_max(-values, bars)


def rolling_highs(values: Array, windows: Sequence[int]) -> dict[int, State]:
    """The highest value of the window and how many bars ago it was, for each length; the oldest of equals counts."""
    return _highs("oldest high", values, windows)


def _highs(kind: str, values: Array, windows: Sequence[int]) -> dict[int, State]:
    """TA-Lib's index of a maximum is no substitute: of equals it takes now the newest, now the oldest."""
    found = _windows(kind, (values,), windows)
    return {bars: (highest, np.where(np.isnan(highest), np.nan, ago)) for bars, (highest, ago) in found.items()}


def rolling_moments(values: Array, bars: int, order: int = 2) -> State:
    """Mean, and sums of the deviations from it to the powers 2 … ``order`` (2, 3 or 4), of the last ``bars`` values."""
    kind = {2: "moments 2", 3: "moments 3", 4: "moments 4"}[order]
    return _windows(kind, (values,), (bars,))[bars]


def rolling_spreads(values: Array, windows: Sequence[int]) -> dict[int, State]:
    """Mean and sum of the squared deviations from it, of each length."""
    return _windows("moments 2", (values,), windows)


def rolling_deviation(values: Array, bars: int, ddof: int) -> Array:
    """Standard deviation of the last ``bars`` values, their squares divided by ``bars - ddof``."""
    return np.sqrt(rolling_moments(values, bars)[1] / (bars - ddof))


def rolling_product(left: Array, right: Array, bars: int) -> Array:
    """Sum of (left - its mean) (right - its mean) over the last ``bars`` values."""
    return _windows("product", (left, right), (bars,))[bars][2]


def rolling_pairs(left: Array, right: Array, windows: Sequence[int]) -> dict[int, State]:
    """The means of left and right, then the sums of the squared deviations of each and of their product."""
    return _windows("pair", (left, right), windows)


def rolling_line(values: Array, bars: int) -> State:
    """The least-squares line through the last ``bars`` values over their number: slope a bar, mean, squares.

    Squares is the sum of the squared deviations from the mean; what the line explains of it is
    slope² · bars (bars² - 1) / 12.
    """
    return rolling_lines(values, (bars,))[bars]


def rolling_lines(values: Array, windows: Sequence[int]) -> dict[int, State]:
    """``rolling_line`` of each of these lengths."""
    found = _windows("line", (values,), windows)
    return {
        bars: (product / (bars * (bars * bars - 1) / 12), mean, squares)
        for bars, (mean, squares, product) in found.items()
    }


def rolling_rank(values: Array, bars: int) -> Array:
    """Share of the last ``bars`` values, the newest among them, that are below the newest; equal ones count half.

    That is the average rank over the number of values, as a share in (0, 1].
    """
    return rolling_ranks(values, (bars,))[bars]


def rolling_ranks(values: Array, windows: Sequence[int]) -> dict[int, Array]:
    """``rolling_rank`` of each of these lengths: the newest value is compared once with each one before it."""
    length, longest = len(values), max(windows)
    twice = np.zeros(length, np.min_scalar_type(2 * longest))  # a value below counts two, an equal one one
    spoilt = rolling_sums(values, windows)
    found = {bars: np.full(length, np.nan) for bars in windows}
    for back in range(min(longest, length)):
        newest, other, so_far = values[back:], values[: length - back], twice[back:]
        so_far += (other < newest).view(np.uint8)
        so_far += (other <= newest).view(np.uint8)
        if back + 1 in found:
            share = (twice + 1.0) / (2 * (back + 1))
            found[back + 1] = np.where(np.isnan(spoilt[back + 1]), np.nan, share)
    return found


def rolling_quantile(values: Array, bars: int, share: float) -> Array:
    """The ``share`` quantile of the last ``bars`` values, linear between neighbours as pandas and numpy have it."""
    found = pl.Series(values, nan_to_null=True).rolling_quantile(share, "linear", window_size=bars)
    return found.cast(pl.Float64).fill_null(np.nan).to_numpy()


def rolling_quantiles(values: Array, windows: Sequence[int], share: float) -> dict[int, Array]:
    """``rolling_quantile`` of each of these lengths, faster where windows nest and the share is near 0 or 1.

    Each window's lowest (or highest) values are merged, sorted, from those of its parts: the lower fifth of 5, 10, 20,
    30 and 60 bars takes a quarter of the time, a median of 60 alone twice as long.
    """
    if share > 0.5:
        return {bars: -found for bars, found in rolling_quantiles(-values, windows, 1 - share).items()}
    found = {bars: np.full(len(values), np.nan) for bars in windows}
    places = {bars: divmod((bars - 1) * share, 1.0) for bars in windows if bars <= len(values)}
    if not places:
        return found
    kept = max(int(below) for below, _ in places.values()) + 2
    plan, steps = merges(tuple(places))
    lowest: list[State] = [(values,)]
    for older, newer, of_older, of_newer in plan.tolist():
        count = len(values) - of_older - of_newer + 1
        first, second = _cut(lowest[older], 0, count), _cut(lowest[newer], of_older, of_older + count)
        lowest.append(tuple(_lowest_of(first, second, kept)))
    for step, (bars, (below, part)) in zip(steps.tolist(), places.items(), strict=True):
        lower, upper = lowest[step][int(below)], lowest[step][min(int(below) + 1, bars - 1)]
        found[bars][bars - 1 :] = lower + (upper - lower) * part
    return found


def _cut(state: State, first: int, last: int) -> State:
    return tuple(figure[first:last] for figure in state)


def _lowest_of(left: State, right: State, kept: int) -> list[Array]:
    """The ``kept`` lowest of two ascending sequences, ascending: Batcher's odd-even merge (1968) of arrays."""
    if not left or not right:
        return list((left or right)[:kept])
    if len(left) == len(right) == 1:
        return [np.minimum(left[0], right[0]), np.maximum(left[0], right[0])][:kept]
    even = _lowest_of(left[::2], right[::2], kept // 2 + 1)
    odd = _lowest_of(left[1::2], right[1::2], kept // 2)
    merged = even[:1]
    for low, high in zip(odd, even[1:], strict=False):
        merged += [np.minimum(low, high), np.maximum(low, high)]
    paired = min(len(odd), len(even) - 1)
    return [*merged, *odd[paired:], *even[1 + paired :]][:kept]
