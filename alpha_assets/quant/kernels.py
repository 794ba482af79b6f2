"""The inner loops that numpy cannot do in one pass, compiled by numba.

Vectors of numpy pass through memory once for each operation. Here a block of a series stays in the nearest cache from
the first merge to the last, which takes a fifth of the time and gives the same bits: nothing is reordered or contracted
(no fast-math). What goes on from bar to bar (Wilder's averages, hysteresis) is a plain loop.

Numba compiles at the first import and keeps the machine code beside the source; ``make setup`` has done it. It takes
half a second to load, so whoever needs this module imports it in the function that does. Threads run it side by
side: the interpreter's lock is not held. Nothing here looks whether an index lies within an array: who calls has to.
"""

from collections.abc import Mapping
from pickle import PickleError
from typing import Any, Final

import numpy as np
from numba import float32, float64, int8, int16, int64, njit, types, void

Array = np.ndarray

SUM: Final = 0
HIGHEST: Final = 1
LOWEST: Final = 2
NEWEST_HIGH: Final = 3
OLDEST_HIGH: Final = 4
SPREAD: Final = 5
THIRD: Final = 6
FOURTH: Final = 7
PRODUCT: Final = 8
PAIR: Final = 9
LINE: Final = 10

#: By kind its number and how many figures are kept of a window: the sum, the highest and lowest value, the highest and
#: how many bars ago it was, the mean and the sums of the deviations from it to the powers 2 to 4, both means and the
#: product of the deviations, both means, both squares and their product, and the same of a line over the bar's number.
KINDS: Final[Mapping[str, tuple[int, int]]] = {
    "sum": (SUM, 1),
    "highest": (HIGHEST, 1),
    "lowest": (LOWEST, 1),
    "newest high": (NEWEST_HIGH, 2),
    "oldest high": (OLDEST_HIGH, 2),
    "moments 2": (SPREAD, 2),
    "moments 3": (THIRD, 3),
    "moments 4": (FOURTH, 4),
    "product": (PRODUCT, 3),
    "pair": (PAIR, 5),
    "line": (LINE, 3),
}

#: Windows that are merged at a time; with the halves they come from they stay in 1 MB.
BLOCK: Final = 1024

_inner = njit(nogil=True, error_model="numpy")


def _compiled(*signatures: Any) -> Any:
    """What is called from outside, compiled when the module is imported."""

    def compiled(function: Any) -> Any:
        try:
            return njit(list(signatures), nogil=True, error_model="numpy", cache=True)(function)
        except (RuntimeError, OSError, EOFError, PickleError):
            # Nowhere to keep machine code (a container that is only read, a full disk), or what is kept is torn: each
            # process compiles, ten seconds long.
            return njit(list(signatures), nogil=True, error_model="numpy")(function)

    return compiled


def _read(kind: Any, dimensions: int = 1) -> Any:
    """An array that is only read: polars lends its own, which nobody may write."""
    return types.Array(kind, dimensions, "C", readonly=True)


@_inner
def _sum(older: Array, newer: Array, out: Array) -> None:
    for i in range(out.size):
        out[i] = older[i] + newer[i]


@_inner
def _highest(older: Array, newer: Array, out: Array) -> None:
    for i in range(out.size):
        highest = older[i] if older[i] > newer[i] else newer[i]
        out[i] = older[i] if older[i] != older[i] else highest


@_inner
def _lowest(older: Array, newer: Array, out: Array) -> None:
    for i in range(out.size):
        lowest = older[i] if older[i] < newer[i] else newer[i]
        out[i] = older[i] if older[i] != older[i] else lowest


@_inner
def _since_newest(older: Array, ago: Array, newer: Array, newer_ago: Array, of_newer: int, out: Array) -> None:
    for i in range(out.size):
        out[i] = newer_ago[i] if newer[i] >= older[i] else ago[i] + of_newer


@_inner
def _since_oldest(older: Array, ago: Array, newer: Array, newer_ago: Array, of_newer: int, out: Array) -> None:
    for i in range(out.size):
        out[i] = newer_ago[i] if newer[i] > older[i] else ago[i] + of_newer


@_inner
def _mean(older: Array, newer: Array, share: float, out: Array) -> None:
    for i in range(out.size):
        out[i] = older[i] + (newer[i] - older[i]) * share


@_inner
def _squares(older: Array, squares: Array, newer: Array, newer_squares: Array, weight: float, out: Array) -> None:
    for i in range(out.size):
        gap = newer[i] - older[i]
        out[i] = (squares[i] + newer_squares[i]) + gap * gap * weight


@_inner
def _cubes(older: Array, newer: Array, of_older: int, of_newer: int, first: int, last: int, out: Array) -> None:
    bars = of_older + of_newer
    share, three = of_older * of_newer * (of_older - of_newer) / bars**2, 3 / bars
    mean, squares, cubes = older[0, :last], older[1, :last], older[2, :last]
    mean_n, squares_n, cubes_n = newer[0, first:], newer[1, first:], newer[2, first:]
    for i in range(out.size):
        gap = mean_n[i] - mean[i]
        crossed = (squares_n[i] * of_older - squares[i] * of_newer) * gap * three
        out[i] = (cubes[i] + cubes_n[i]) + gap * gap * gap * share + crossed


@_inner
def _fourths(older: Array, newer: Array, of_older: int, of_newer: int, first: int, last: int, out: Array) -> None:
    bars = of_older + of_newer
    share = of_older * of_newer * (of_older**2 - of_older * of_newer + of_newer**2) / bars**3
    six, four = 6 / bars**2, 4 / bars
    mean, squares, cubes, fourths = older[0, :last], older[1, :last], older[2, :last], older[3, :last]
    mean_n, squares_n, cubes_n, fourths_n = newer[0, first:], newer[1, first:], newer[2, first:], newer[3, first:]
    for i in range(out.size):
        gap = mean_n[i] - mean[i]
        squared = gap * gap
        even = (squares_n[i] * of_older**2 + squares[i] * of_newer**2) * squared * six
        odd = (cubes_n[i] * of_older - cubes[i] * of_newer) * gap * four
        out[i] = (fourths[i] + fourths_n[i]) + squared * squared * share + even + odd


@_inner
def _products(
    older: Array,
    other: Array,
    product: Array,
    newer: Array,
    newer_other: Array,
    newer_product: Array,
    weight: float,
    out: Array,
) -> None:
    for i in range(out.size):
        gaps = (newer[i] - older[i]) * (newer_other[i] - other[i])
        out[i] = (product[i] + newer_product[i]) + gaps * weight


@_inner
def _against_number(
    older: Array, product: Array, newer: Array, newer_product: Array, weight: float, out: Array
) -> None:
    for i in range(out.size):
        out[i] = (product[i] + newer_product[i]) + (newer[i] - older[i]) * weight


@_inner
def _merge(kind: int, older: Array, of_older: int, newer: Array, of_newer: int, count: int, out: Array) -> None:
    """The figures of ``count`` windows, (figures, bars), from those of their older and newer parts.

    Window j is the older part that begins at j and the newer one that begins ``of_older`` later.
    """
    first, last = of_older, of_older + count
    bars = of_older + of_newer
    share, weight = of_newer / bars, of_older * of_newer / bars
    a, b, c = older[0, :count], newer[0, first:last], out[0, :count]
    if kind == SUM:
        _sum(a, b, c)
    elif kind == HIGHEST:
        _highest(a, b, c)
    elif kind == LOWEST:
        _lowest(a, b, c)
    elif kind == NEWEST_HIGH:
        _highest(a, b, c)
        _since_newest(a, older[1, :count], b, newer[1, first:last], of_newer, out[1, :count])
    elif kind == OLDEST_HIGH:
        _highest(a, b, c)
        _since_oldest(a, older[1, :count], b, newer[1, first:last], of_newer, out[1, :count])
    elif kind == PRODUCT:
        _mean(a, b, share, c)
        _mean(older[1, :count], newer[1, first:last], share, out[1, :count])
        _products(
            a, older[1, :count], older[2, :count], b, newer[1, first:last], newer[2, first:last], weight, out[2, :count]
        )
    elif kind == PAIR:
        _mean(a, b, share, c)
        _mean(older[1, :count], newer[1, first:last], share, out[1, :count])
        _squares(a, older[2, :count], b, newer[2, first:last], weight, out[2, :count])
        _squares(older[1, :count], older[3, :count], newer[1, first:last], newer[3, first:last], weight, out[3, :count])
        _products(
            a, older[1, :count], older[4, :count], b, newer[1, first:last], newer[4, first:last], weight, out[4, :count]
        )
    else:
        _mean(a, b, share, c)
        _squares(a, older[1, :count], b, newer[1, first:last], weight, out[1, :count])
        if kind == LINE:
            # The gap between the numbers of the bars of two halves is half their length.
            _against_number(a, older[2, :count], b, newer[2, first:last], bars / 2 * weight, out[2, :count])
        elif kind in (THIRD, FOURTH):
            _cubes(older, newer, of_older, of_newer, first, count, out[2, :count])
        if kind == FOURTH:
            _fourths(older, newer, of_older, of_newer, first, count, out[3, :count])


@_compiled(float64[:, :, ::1](int64, int64, _read(float64, 2), _read(int64, 2), _read(int64), int64))
def windows(kind: int, figures: int, values: Array, plan: Array, wanted: Array, block: int) -> Array:
    """The figures of every window of each wanted length: (lengths, figures, bars), NaN before the first full window.

    ``values``, (1 or 2, bars), are the figures of a single bar that are not zero. ``plan`` has a row a length that is
    merged: the numbers of the steps that made its older and its newer part (0: single bars, n: row n - 1), and the
    bars of each. ``wanted`` names steps.
    """
    bars = values.shape[1]
    lengths = np.ones(len(plan) + 1, np.int64)
    for step in range(len(plan)):
        lengths[step + 1] = plan[step, 2] + plan[step, 3]
    longest = lengths.max()
    out = np.empty((len(wanted), figures, bars))
    for number in range(len(wanted)):
        out[number, :, : min(bars, lengths[wanted[number]] - 1)] = np.nan
    known = np.empty((len(lengths), figures, block + longest - 1))
    known[0] = 0.0
    for begin in range(0, bars, block):
        there = min(block + longest - 1, bars - begin)
        known[0, : len(values), :there] = values[:, begin : begin + there]
        for step in range(len(plan)):
            older, newer, of_older, of_newer = plan[step]
            count = there - lengths[step + 1] + 1
            if count > 0:
                _merge(kind, known[older], of_older, known[newer], of_newer, count, known[step + 1])
        for number in range(len(wanted)):
            step = wanted[number]
            end = lengths[step] - 1
            count = min(block, bars - begin - end)
            if count > 0:
                out[number, :, begin + end : begin + end + count] = known[step, :, :count]
    return out


@_compiled(int64[::1](_read(int16), _read(int64), _read(int64), int64))
def below_before(values: Array, firsts: Array, rows: Array, bars: int) -> Array:
    """How many of the up to ``bars - 1`` values before each of ``rows``, from its own ``firsts`` on, are below it."""
    counts = np.empty(len(rows), np.int64)
    for number in range(len(rows)):
        row = rows[number]
        window = values[max(firsts[number], row - bars + 1) : row]
        newest, below = values[row], 0
        for begin in range(0, window.size, 32_767):
            # As wide as the values: more of them then go into one vector.
            some = window[begin : begin + 32_767]
            those: Any = np.int16(0)
            for i in range(some.size):
                those = np.int16(those + np.int16(some[i] < newest))
            below += those
        counts[number] = below
    return counts


@_inner
def _unseats(probabilities: Array, likeliest: Array, row: int, holder: int, margin: float, confirm: int) -> bool:
    """Whether the likeliest of the row has led the holder by more than the margin in as many rows as are wanted."""
    if row + 1 < confirm:
        return False
    for back in range(row, row - confirm, -1):
        challenger = likeliest[back]
        if challenger != likeliest[row]:
            return False
        if not probabilities[challenger, back] - probabilities[holder, back] > margin:
            return False
    return True


@_compiled(int8[::1](_read(float64, 2), _read(int64), _read(int64), _read(int64), float64, int64))
def settled(probabilities: Array, pending: Array, ends: Array, holders: Array, margin: float, confirm: int) -> Array:
    """The regime of every row from ``pending`` to ``ends`` of each listing, -1 elsewhere and while none is known.

    ``holders`` are the regimes just before, -1 for none. One and the same challenger unseats the holder, by a lead of
    more than ``margin`` in ``confirm`` rows in a row.
    """
    rows = probabilities.shape[1]
    likeliest = np.empty(rows, np.int8)
    for row in range(rows):
        best = 0
        for regime in range(1, len(probabilities)):
            if probabilities[regime, row] > probabilities[best, row]:
                best = regime
        likeliest[row] = best
    labels = np.full(rows, -1, np.int8)
    for listing in range(len(pending)):
        holder = holders[listing]
        for row in range(pending[listing], ends[listing]):
            if holder == -1:
                if not np.isfinite(probabilities[0, row]):
                    continue
                holder = likeliest[row]
            elif _unseats(probabilities, likeliest, row, holder, margin, confirm):
                holder = likeliest[row]
            labels[row] = holder
    return labels


@_compiled(float64[:, ::1](_read(float64), _read(float64), _read(float64), _read(int64, 2), int64, float64))
def directional_movement(high: Array, low: Array, close: Array, spells: Array, bars: int, still: float) -> Array:
    """``wilder.directional_movement``: the two indicators and the average index, (3, rows), NaN where undefined.

    ``spells`` has the first row and the end of each; ``still`` is the relative move that is none.
    """
    found = np.full((3, len(close)), np.nan)
    kept = (bars - 1) / bars
    for spell in range(len(spells)):
        first, end = spells[spell]
        up = down = reach = total = average = 0.0
        for row in range(first + 1, end):
            rise, fall = high[row] - high[row - 1], low[row - 1] - low[row]
            least = still * close[row]
            risen = rise if rise - fall > least and rise > least else 0.0
            fallen = fall if fall - rise > least and fall > least else 0.0
            highest = high[row] if high[row] > close[row - 1] else close[row - 1]
            lowest = low[row] if low[row] < close[row - 1] else close[row - 1]
            ranged = highest - lowest  # a NaN of the close stays one
            number = row - first
            if number < bars:
                up, down, reach = up + risen, down + fallen, reach + ranged
                continue
            up, down, reach = risen + kept * up, fallen + kept * down, ranged + kept * reach
            found[0, row], found[1, row] = up / reach, down / reach
            directed = up + down
            index = abs(up - down) / directed if directed > least else 0.0
            if number < 2 * bars:
                total += index
                average = total / bars
            else:
                average = index / bars + kept * average
            if number >= 2 * bars - 1:
                found[2, row] = average
    return found


@_compiled(*(void(_read(float64), _read(int64), kind[::1]) for kind in (float32, float64)))
def put(values: Array, cold: Array, out: Array) -> None:
    """The values in the type of ``out``, NaN where they are infinite and in the ``cold`` rows."""
    for row in range(len(out)):
        out[row] = values[row] if abs(values[row]) != np.inf else np.nan
    for number in range(len(cold)):
        out[cold[number]] = np.nan
