"""Alpha158: the 158 columns of Microsoft's qlib, by their published definitions, under qlib's names and in its order.

Nine figures of the candle itself, four prices over the close, and 29 figures of the last 5, 10, 20, 30 and 60 bars.
qlib computes them one by one; here all windows of a figure share one pass, and figures share their sums.

Equal to qlib 0.9.7 on whole windows, with these exceptions, each on purpose:

- qlib fills short windows at the start of a series; here a value is null until its window is full.
- qlib lays bars on the union of all sessions, so that a halt is an empty row: it takes a place in the window, the rest
  is computed without it, and ``IMAX`` and ``IMIN`` point at it. Here a missing bar is no row and a window holds as
  many bars as its name says, so the two differ while a halt lies in the window.
- ``RSQR``, ``RESI``, ``CORR``, ``CORD`` and ``WVMA`` are null where the window hardly moves (relative variance below
  ``FLAT``): rounding decides there, in qlib too.
- qlib adds 1e-12 to some denominators, which only matters where they are zero. Nought over nought is 0, as there. On a
  bar without volume, ``VMA`` and ``VSTD`` are qlib's window figure times 1e12: here they are null.
- The bar after one without volume has no ratio of volumes: ``CORD`` is null while it lies in the window; qlib goes on
  without it.

qlib stores bars as 32-bit floats. On bars rounded so, the columns agree within 1e-6 of their value, those five within
1e-4. On unrounded bars, a small difference of large prices (``KMID``, ``RSV``, ``SUMD``) shows qlib's rounding: 1e-7 of
the price.
"""

from collections.abc import Callable

import numpy as np

from alpha_assets.quant.feature_set import Feature, FeatureSet
from alpha_assets.quant.panel import Panel
from alpha_assets.quant.rolling import (
    State,
    rolling_highs,
    rolling_lines,
    rolling_pairs,
    rolling_quantiles,
    rolling_ranks,
    rolling_spreads,
    rolling_sums,
    shifted,
)

Array = np.ndarray

#: Lengths of the windows in bars, as qlib has them.
WINDOWS = (5, 10, 20, 30, 60)

SOURCE = "qlib 0.9.7, Alpha158"

#: Below this variance over the squared mean a window is flat: slopes, correlations and the like are rounding.
FLAT = 1e-8

#: The columns that change when volume is scaled; none changes with the price. CORR because log(volume + 1) is not
#: log(volume); VSUMD, by 1e-7, because qlib rounds changes of volume to 32 bits.
NOT_SCALE_FREE = tuple(f"{name}{bars}" for name in ("CORR", "VSUMD") for bars in WINDOWS)


def _over(figure: Array, base: Array) -> Array:
    """A ratio, nought over nought being 0: what qlib adds 1e-12 for, which would make the ratio depend on the scale."""
    return np.where((figure == 0) & (base == 0), 0.0, figure / base)


def _moving(values: Array, mean: Array, squares: Array, bars: int) -> Array:
    """The values where the window's relative variance is at least ``FLAT``, NaN elsewhere."""
    return np.where(squares >= FLAT * (bars - 1) * mean * mean, values, np.nan)


# Of the bar itself


def _kmid(panel: Panel) -> Array:
    return (panel.close - panel.open) / panel.open


def _klen(panel: Panel) -> Array:
    return (panel.high - panel.low) / panel.open


def _kmid2(panel: Panel) -> Array:
    return _over(panel.close - panel.open, panel.high - panel.low)


def _kup(panel: Panel) -> Array:
    return (panel.high - np.maximum(panel.open, panel.close)) / panel.open


def _kup2(panel: Panel) -> Array:
    return _over(panel.high - np.maximum(panel.open, panel.close), panel.high - panel.low)


def _klow(panel: Panel) -> Array:
    return (np.minimum(panel.open, panel.close) - panel.low) / panel.open


def _klow2(panel: Panel) -> Array:
    return _over(np.minimum(panel.open, panel.close) - panel.low, panel.high - panel.low)


def _ksft(panel: Panel) -> Array:
    return (2 * panel.close - panel.high - panel.low) / panel.open


def _ksft2(panel: Panel) -> Array:
    return _over(2 * panel.close - panel.high - panel.low, panel.high - panel.low)


def _open0(panel: Panel) -> Array:
    return panel.open / panel.close


def _high0(panel: Panel) -> Array:
    return panel.high / panel.close


def _low0(panel: Panel) -> Array:
    return panel.low / panel.close


def _vwap0(panel: Panel) -> Array:
    return (panel.high + panel.low + panel.close) / 3 / panel.close


# What the windows share


def _lines(panel: Panel) -> dict[int, State]:
    return rolling_lines(panel.close, WINDOWS)


def _highs(panel: Panel) -> dict[int, State]:
    return rolling_highs(panel.high, WINDOWS)


def _lows(panel: Panel) -> dict[int, State]:
    """The lowest lows, their sign turned, and how many bars ago each was."""
    return rolling_highs(-panel.low, WINDOWS)


def _quantiles(panel: Panel, share: float) -> dict[int, Array]:
    return rolling_quantiles(panel.close, WINDOWS, share)


def _ranks(panel: Panel) -> dict[int, Array]:
    return rolling_ranks(panel.close, WINDOWS)


def _close_and_volume(panel: Panel) -> dict[int, State]:
    return rolling_pairs(panel.close, np.log(panel.volume + 1), WINDOWS)


def _changes(panel: Panel) -> dict[int, State]:
    closes, volumes = panel.close / shifted(panel.close, 1), panel.volume / shifted(panel.volume, 1)
    return rolling_pairs(closes, np.log(volumes + 1), WINDOWS)


def _ups(panel: Panel) -> dict[int, Array]:
    return rolling_sums((panel.close > shifted(panel.close, 1)).astype(np.float64), WINDOWS)


def _downs(panel: Panel) -> dict[int, Array]:
    return rolling_sums((panel.close < shifted(panel.close, 1)).astype(np.float64), WINDOWS)


def _gains(panel: Panel, of: str) -> dict[int, Array]:
    values = getattr(panel, of)
    return rolling_sums(np.maximum(values - shifted(values, 1), 0), WINDOWS)


def _losses(panel: Panel, of: str) -> dict[int, Array]:
    values = getattr(panel, of)
    return rolling_sums(np.maximum(shifted(values, 1) - values, 0), WINDOWS)


def _short_changes(panel: Panel) -> dict[int, tuple[Array, Array]]:
    """Sums of rises and of falls of volume, each change rounded to 32 bits: qlib does, and a small VSUMD shows it."""
    changes = (panel.volume - shifted(panel.volume, 1)).astype(np.float32).astype(np.float64)
    rises, falls = (rolling_sums(np.maximum(some, 0), WINDOWS) for some in (changes, -changes))
    return {bars: (rises[bars], falls[bars]) for bars in WINDOWS}


def _volumes(panel: Panel) -> dict[int, State]:
    return rolling_spreads(panel.volume, WINDOWS)


def _weighted_changes(panel: Panel) -> dict[int, State]:
    return rolling_spreads(np.abs(panel.close / shifted(panel.close, 1) - 1) * panel.volume, WINDOWS)


# Of the window


def _roc(panel: Panel, bars: int) -> Array:
    return shifted(panel.close, bars) / panel.close


def _ma(panel: Panel, bars: int) -> Array:
    _, mean, _ = panel.once(_lines)[bars]
    return mean / panel.close


def _std(panel: Panel, bars: int) -> Array:
    _, _, squares = panel.once(_lines)[bars]
    return np.sqrt(squares / (bars - 1)) / panel.close


def _beta(panel: Panel, bars: int) -> Array:
    slope, _, _ = panel.once(_lines)[bars]
    return slope / panel.close


def _rsqr(panel: Panel, bars: int) -> Array:
    slope, mean, squares = panel.once(_lines)[bars]
    return _moving(slope * slope * (bars * (bars * bars - 1) / 12) / squares, mean, squares, bars)


def _resi(panel: Panel, bars: int) -> Array:
    slope, mean, squares = panel.once(_lines)[bars]
    return _moving((panel.close - mean - slope * ((bars - 1) / 2)) / panel.close, mean, squares, bars)


def _max(panel: Panel, bars: int) -> Array:
    return panel.once(_highs)[bars][0] / panel.close


def _min(panel: Panel, bars: int) -> Array:
    return -panel.once(_lows)[bars][0] / panel.close


def _qtlu(panel: Panel, bars: int) -> Array:
    return panel.once(_quantiles, 0.8)[bars] / panel.close


def _qtld(panel: Panel, bars: int) -> Array:
    return panel.once(_quantiles, 0.2)[bars] / panel.close


def _rank(panel: Panel, bars: int) -> Array:
    return panel.once(_ranks)[bars]


def _rsv(panel: Panel, bars: int) -> Array:
    highest, turned_lowest = panel.once(_highs)[bars][0], panel.once(_lows)[bars][0]
    return _over(panel.close + turned_lowest, highest + turned_lowest)


def _imax(panel: Panel, bars: int) -> Array:
    return (bars - panel.once(_highs)[bars][1]) / bars


def _imin(panel: Panel, bars: int) -> Array:
    return (bars - panel.once(_lows)[bars][1]) / bars


def _imxd(panel: Panel, bars: int) -> Array:
    return (panel.once(_lows)[bars][1] - panel.once(_highs)[bars][1]) / bars


def _correlation(pair: State, bars: int) -> Array:
    mean, other_mean, squares, other_squares, products = pair
    found = products / np.sqrt(squares * other_squares)
    return _moving(_moving(found, mean, squares, bars), other_mean, other_squares, bars)


def _corr(panel: Panel, bars: int) -> Array:
    return _correlation(panel.once(_close_and_volume)[bars], bars)


def _cord(panel: Panel, bars: int) -> Array:
    return _correlation(panel.once(_changes)[bars], bars)


def _cntp(panel: Panel, bars: int) -> Array:
    return panel.once(_ups)[bars] / bars


def _cntn(panel: Panel, bars: int) -> Array:
    return panel.once(_downs)[bars] / bars


def _cntd(panel: Panel, bars: int) -> Array:
    return (panel.once(_ups)[bars] - panel.once(_downs)[bars]) / bars


def _sump(panel: Panel, bars: int, of: str) -> Array:
    gains, losses = panel.once(_gains, of)[bars], panel.once(_losses, of)[bars]
    return _over(gains, gains + losses)


def _sumn(panel: Panel, bars: int, of: str) -> Array:
    gains, losses = panel.once(_gains, of)[bars], panel.once(_losses, of)[bars]
    return _over(losses, gains + losses)


def _sumd(panel: Panel, bars: int) -> Array:
    gains, losses = panel.once(_gains, "close")[bars], panel.once(_losses, "close")[bars]
    return _over(gains - losses, gains + losses)


def _vsumd(panel: Panel, bars: int) -> Array:
    rises, falls = panel.once(_short_changes)[bars]
    return _over(rises - falls, rises + falls)


def _vma(panel: Panel, bars: int) -> Array:
    mean, _ = panel.once(_volumes)[bars]
    return mean / panel.volume


def _vstd(panel: Panel, bars: int) -> Array:
    _, squares = panel.once(_volumes)[bars]
    return np.sqrt(squares / (bars - 1)) / panel.volume


def _wvma(panel: Panel, bars: int) -> Array:
    mean, squares = panel.once(_weighted_changes)[bars]
    return _moving(np.sqrt(squares / (bars - 1)) / mean, mean, squares, bars)


Function = Callable[..., Array]

_CANDLE: tuple[tuple[str, Function, str], ...] = (
    ("KMID", _kmid, "(close - open) / open"),
    ("KLEN", _klen, "(high - low) / open"),
    ("KMID2", _kmid2, "(close - open) / (high - low)"),
    ("KUP", _kup, "(high - max(open, close)) / open"),
    ("KUP2", _kup2, "(high - max(open, close)) / (high - low)"),
    ("KLOW", _klow, "(min(open, close) - low) / open"),
    ("KLOW2", _klow2, "(min(open, close) - low) / (high - low)"),
    ("KSFT", _ksft, "(2 close - high - low) / open"),
    ("KSFT2", _ksft2, "(2 close - high - low) / (high - low)"),
    ("OPEN0", _open0, "open / close"),
    ("HIGH0", _high0, "high / close"),
    ("LOW0", _low0, "low / close"),
    ("VWAP0", _vwap0, "(high + low + close) / 3 / close, in place of a traded average price"),
)

#: Name, function, what it reads, bars before the window that it looks at (a change needs one), formula over n bars.
_ROLLING: tuple[tuple[str, Function, dict[str, str], int, str], ...] = (
    ("ROC", _roc, {}, 1, "close n bars ago / close"),
    ("MA", _ma, {}, 0, "mean of close / close"),
    ("STD", _std, {}, 0, "standard deviation of close (n - 1) / close"),
    ("BETA", _beta, {}, 0, "least-squares slope of close a bar / close"),
    ("RSQR", _rsqr, {}, 0, "share of the variance of close that its line explains"),
    ("RESI", _resi, {}, 0, "close less its line's last value, / close"),
    ("MAX", _max, {}, 0, "highest high / close"),
    ("MIN", _min, {}, 0, "lowest low / close"),
    ("QTLU", _qtlu, {}, 0, "0.8 quantile of close, linear between neighbours, / close"),
    ("QTLD", _qtld, {}, 0, "0.2 quantile of close, linear between neighbours, / close"),
    ("RANK", _rank, {}, 0, "average rank of close in the window / n"),
    ("RSV", _rsv, {}, 0, "(close - lowest low) / (highest high - lowest low)"),
    ("IMAX", _imax, {}, 0, "place of the first highest high in the window, 1 the oldest, / n"),
    ("IMIN", _imin, {}, 0, "place of the first lowest low in the window, 1 the oldest, / n"),
    ("IMXD", _imxd, {}, 0, "IMAX - IMIN"),
    ("CORR", _corr, {}, 0, "correlation of close and log(volume + 1)"),
    ("CORD", _cord, {}, 1, "correlation of the ratio of closes and log(1 + the ratio of volumes)"),
    ("CNTP", _cntp, {}, 1, "share of bars whose close rose"),
    ("CNTN", _cntn, {}, 1, "share of bars whose close fell"),
    ("CNTD", _cntd, {}, 1, "CNTP - CNTN"),
    ("SUMP", _sump, {"of": "close"}, 1, "sum of rises of close / sum of its absolute changes"),
    ("SUMN", _sumn, {"of": "close"}, 1, "sum of falls of close / sum of its absolute changes"),
    ("SUMD", _sumd, {}, 1, "SUMP - SUMN"),
    ("VMA", _vma, {}, 0, "mean of volume / volume"),
    ("VSTD", _vstd, {}, 0, "standard deviation of volume (n - 1) / volume"),
    ("WVMA", _wvma, {}, 1, "standard deviation (n - 1) / mean of |change of close| · volume"),
    ("VSUMP", _sump, {"of": "volume"}, 1, "sum of rises of volume / sum of its absolute changes"),
    ("VSUMN", _sumn, {"of": "volume"}, 1, "sum of falls of volume / sum of its absolute changes"),
    ("VSUMD", _vsumd, {}, 1, "VSUMP - VSUMN"),
)

ALPHA158 = FeatureSet(
    "alpha158",
    (
        *(Feature(name, "alpha158", function, {}, 0, 0, doc, SOURCE, 1) for name, function, doc in _CANDLE),
        *(
            Feature(
                name=f"{name}{bars}",
                group="alpha158",
                function=function,
                parameters={"bars": bars, **reads},
                warm_up=bars - 1 + before,
                memory=bars - 1 + before,
                doc=f"{doc}, n = {bars}",
                source=SOURCE,
                window=bars,
            )
            for name, function, reads, before, doc in _ROLLING
            for bars in WINDOWS
        ),
    ),
    scale_free=False,
)
