"""Figures of the last ``bars`` values, exact and fast: every window is built from halves by doubling.

A running sum carries the rounding of every value it ever saw, and one NaN poisons the rest. Here a window of 20 is
16 + 4, a window of 16 twice 8, and so on: a handful of vector additions whatever the length. The result at t depends
on the values of its window alone, to the last bit, wherever the array begins; a NaN spoils the windows that hold it
and no other. Deviations and higher moments are merged from those of the halves (Chan, Golub and LeVeque 1983; Pébay,
SAND2008-6212), so that nothing cancels where prices are large and their spread is small.

Arrays are one-dimensional f64 in time order; the answer has the same length, NaN before the first full window. The
listings of many symbols may lie one after the other: whoever calls blanks the first bars of each. Twenty thousand to
sixty thousand values at a time stay in the processor's cache: there an addition costs 0.1 ns a value, ten times less
than on half a million.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl

Array = np.ndarray

#: What is kept of a window; an entry j of each array stands for the window that begins at value j.
State = tuple[Array, ...]

#: Joins the state of a window with that of the window that follows it: (older, its bars, newer, its bars).
Merge = Callable[[State, int, State, int], State]


def over_windows(state: State, bars: int, merge: Merge) -> State:
    """The state of every window of ``bars`` values, given that of every single value; NaN before the first window.

    Raises ValueError for a window shorter than one value.
    """
    return over_nested_windows(state, (bars,), merge)[bars]


def over_nested_windows(state: State, windows: Sequence[int], merge: Merge) -> dict[int, State]:
    """As ``over_windows`` for several lengths at once: 5, 10, 20, 30 and 60 bars take 7 merges together, not 27.

    Raises ValueError for a window shorter than one value.
    """
    if min(windows) < 1:
        raise ValueError(f"a window holds at least 1 bar, not {min(windows)}")
    length = len(state[0])
    known = _from_their_start(state, [bars for bars in windows if bars <= length], merge)
    absent = tuple(np.full(length, np.nan) for _ in state)
    return {
        bars: tuple(_ending_here(figure, length) for figure in known[bars]) if bars <= length else absent
        for bars in windows
    }


def _from_their_start(state: State, windows: Sequence[int], merge: Merge) -> dict[int, State]:
    """The states of these windows, none longer than the series; entry j is of the window that begins at value j."""
    length = len(state[0])
    known = {1: state}

    def build(bars: int) -> State:
        if bars not in known:
            of_older = _older_share(bars, known)
            of_newer = bars - of_older
            older, newer = build(of_older), build(of_newer)
            rows = length - bars + 1
            known[bars] = merge(_cut(older, 0, rows), of_older, _cut(newer, of_older, of_older + rows), of_newer)
        return known[bars]

    return {bars: build(bars) for bars in sorted(windows)}


def _older_share(bars: int, known: Mapping[int, State]) -> int:
    """Into how many older and newer values to split a window: two known lengths, else halves, else a power of two."""
    for of_older in sorted(known, reverse=True):
        if bars - of_older in known:
            return of_older
    return bars // 2 if bars % 2 == 0 else int(2 ** (bars.bit_length() - 1))


def _cut(state: State, first: int, last: int) -> State:
    return tuple(figure[first:last] for figure in state)


def _ending_here(figure: Array, length: int) -> Array:
    whole = np.empty(length)
    whole[: length - len(figure)] = np.nan
    whole[length - len(figure) :] = figure
    return whole


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
    found = over_nested_windows((values,), windows, lambda older, _, newer, __: (older[0] + newer[0],))
    return {bars: state[0] for bars, state in found.items()}


def rolling_mean(values: Array, bars: int) -> Array:
    """Mean of the last ``bars`` values."""
    return rolling_sum(values, bars) / bars


def rolling_max(values: Array, bars: int) -> Array:
    """Highest of the last ``bars`` values."""
    return over_windows((values,), bars, lambda older, _, newer, __: (np.maximum(older[0], newer[0]),))[0]


def rolling_min(values: Array, bars: int) -> Array:
    """Lowest of the last ``bars`` values."""
    return over_windows((values,), bars, lambda older, _, newer, __: (np.minimum(older[0], newer[0]),))[0]


def bars_since_max(values: Array, bars: int) -> Array:
    """How many bars ago the highest of the last ``bars`` values was; the newest of equals counts."""
    return _highs(values, (bars,), _newest_maximum)[bars][1]


def bars_since_min(values: Array, bars: int) -> Array:
    """How many bars ago the lowest of the last ``bars`` values was; the newest of equals counts."""
    return bars_since_max(-values, bars)


def rolling_highs(values: Array, windows: Sequence[int]) -> dict[int, State]:
    """The highest value of the window and how many bars ago it was, for each length; the oldest of equals counts."""
    return _highs(values, windows, _oldest_maximum)


def _highs(values: Array, windows: Sequence[int], merge: Merge) -> dict[int, State]:
    """Bars are counted in small integers, which pass through the cache quicker; TA-Lib's index of a maximum is quicker
    still, but of equals it takes now the newest, now the oldest."""
    ago = np.zeros(len(values), np.min_scalar_type(max(windows)))
    found = over_nested_windows((values, ago), windows, merge)
    return {bars: (highest, np.where(np.isnan(highest), np.nan, ago)) for bars, (highest, ago) in found.items()}


def _newest_maximum(older: State, _: int, newer: State, of_newer: int) -> State:
    ago = older[1] + newer[1].dtype.type(of_newer)
    np.copyto(ago, newer[1], where=newer[0] >= older[0])
    return np.maximum(older[0], newer[0]), ago


def _oldest_maximum(older: State, _: int, newer: State, of_newer: int) -> State:
    ago = older[1] + newer[1].dtype.type(of_newer)
    np.copyto(ago, newer[1], where=newer[0] > older[0])
    return np.maximum(older[0], newer[0]), ago


def rolling_moments(values: Array, bars: int, order: int = 2) -> State:
    """Mean, and sums of the deviations from it to the powers 2 … ``order`` (2, 3 or 4), of the last ``bars`` values."""
    zero = np.zeros(len(values))
    merge = {2: _merged_two, 3: _merged_three, 4: _merged_four}[order]
    return over_windows((values, *(zero for _ in range(order - 1))), bars, merge)


def rolling_spreads(values: Array, windows: Sequence[int]) -> dict[int, State]:
    """Mean and sum of the squared deviations from it, of each length."""
    return over_nested_windows((values, np.zeros(len(values))), windows, _merged_two)


def rolling_deviation(values: Array, bars: int, ddof: int) -> Array:
    """Standard deviation of the last ``bars`` values, their squares divided by ``bars - ddof``."""
    return np.sqrt(rolling_moments(values, bars)[1] / (bars - ddof))


def _merged_two(older: State, of_older: int, newer: State, of_newer: int) -> State:
    return _merged_from_gap(newer[0] - older[0], older, of_older, newer, of_newer)


def _merged_from_gap(gap: Array, older: State, of_older: int, newer: State, of_newer: int) -> State:
    """Mean and squares of both halves; ``gap``, between their means, is used up: less new memory, less cache."""
    bars = of_older + of_newer
    mean = gap * (of_newer / bars)
    mean += older[0]
    gap *= gap
    gap *= of_older * of_newer / bars
    squares = older[1] + newer[1]
    squares += gap
    return mean, squares


def _merged_three(older: State, of_older: int, newer: State, of_newer: int) -> State:
    bars = of_older + of_newer
    gap = newer[0] - older[0]
    cubes = older[2] + newer[2]
    term = gap * gap
    term *= gap
    term *= of_older * of_newer * (of_older - of_newer) / bars**2
    cubes += term
    np.multiply(newer[1], of_older, out=term)
    term -= of_newer * older[1]
    term *= gap
    term *= 3 / bars
    cubes += term
    return *_merged_from_gap(gap, older, of_older, newer, of_newer), cubes


def _merged_four(older: State, of_older: int, newer: State, of_newer: int) -> State:
    bars = of_older + of_newer
    gap = newer[0] - older[0]
    squared = gap * gap
    fourths = older[3] + newer[3]
    term = squared * squared
    term *= of_older * of_newer * (of_older**2 - of_older * of_newer + of_newer**2) / bars**3
    fourths += term
    np.multiply(newer[1], of_older**2, out=term)
    term += of_newer**2 * older[1]
    term *= squared
    term *= 6 / bars**2
    fourths += term
    np.multiply(newer[2], of_older, out=term)
    term -= of_newer * older[2]
    term *= gap
    term *= 4 / bars
    fourths += term
    return *_merged_three(older[:3], of_older, newer[:3], of_newer), fourths


def rolling_product(left: Array, right: Array, bars: int) -> Array:
    """Sum of (left - its mean) (right - its mean) over the last ``bars`` values."""
    return over_windows((left, right, np.zeros(len(left))), bars, _merged_product)[2]


def _merged_product(older: State, of_older: int, newer: State, of_newer: int) -> State:
    bars = of_older + of_newer
    left, right = newer[0] - older[0], newer[1] - older[1]
    product = _merged_cross(older[2], newer[2], left * right, of_older * of_newer / bars)
    for gap, mean in ((left, older[0]), (right, older[1])):
        gap *= of_newer / bars
        gap += mean
    return left, right, product


def _merged_cross(older: Array, newer: Array, gaps: Array, share: float) -> Array:
    """The sum of products of both halves; ``gaps``, the product of those between their means, is used up."""
    gaps *= share
    product = older + newer
    product += gaps
    return product


def rolling_pairs(left: Array, right: Array, windows: Sequence[int]) -> dict[int, State]:
    """The means of left and right, then the sums of the squared deviations of each and of their product."""
    zero = np.zeros(len(left))
    return over_nested_windows((left, right, zero, zero, zero), windows, _merged_products)


def _merged_products(older: State, of_older: int, newer: State, of_newer: int) -> State:
    gaps = newer[0] - older[0], newer[1] - older[1]
    product = _merged_cross(older[4], newer[4], gaps[0] * gaps[1], of_older * of_newer / (of_older + of_newer))
    (left, of_left), (right, of_right) = (
        _merged_from_gap(gaps[side], older[side:4:2], of_older, newer[side:4:2], of_newer) for side in (0, 1)
    )
    return left, right, of_left, of_right, product


def rolling_line(values: Array, bars: int) -> State:
    """The least-squares line through the last ``bars`` values over their number: slope a bar, mean, squares.

    Squares is the sum of the squared deviations from the mean; what the line explains of it is
    slope² · bars (bars² - 1) / 12.
    """
    return rolling_lines(values, (bars,))[bars]


def rolling_lines(values: Array, windows: Sequence[int]) -> dict[int, State]:
    """``rolling_line`` of each of these lengths."""
    zero = np.zeros(len(values))
    found = over_nested_windows((values, zero, zero), windows, _merged_line)
    return {
        bars: (product / (bars * (bars * bars - 1) / 12), mean, squares)
        for bars, (mean, squares, product) in found.items()
    }


def _merged_line(older: State, of_older: int, newer: State, of_newer: int) -> State:
    """As ``_merged_products`` with the bar's number on the right: its gap between two halves is half their length."""
    bars = of_older + of_newer
    gap, ahead = newer[0] - older[0], bars / 2
    product = older[2] + newer[2]
    product += gap * (ahead * (of_older * of_newer / bars))
    return *_merged_from_gap(gap, older, of_older, newer, of_newer), product


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
    lowest = _from_their_start(
        (values,), tuple(places), lambda older, _, newer, __: tuple(_lowest_of(older[:kept], newer[:kept], kept))
    )
    for bars, (below, part) in places.items():
        lower, upper = lowest[bars][int(below)], lowest[bars][min(int(below) + 1, bars - 1)]
        found[bars][bars - 1 :] = lower + (upper - lower) * part
    return found


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
