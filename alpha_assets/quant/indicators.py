"""Features: what a model sees of a bar, each declared once and dimensionless.

Prices enter adjusted for splits and dividends, volume for splits. Scaling a symbol's prices by c and its
volume by k changes no feature, so an adjustment rewrites none. A feature at t looks at the bars up to and
including t of one listing, nothing else.

Two traps shaped the arithmetic. TA-Lib's rolling sums carry the rounding of every bar they ever saw, so rolling
means and deviations are taken window by window here and do not depend on where the series starts; TA-Lib
computes the recursions and the rolling extremes. And TA-Lib turns a hidden NaN into plausible numbers: a price that
is null, not finite or not positive is refused by name.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl
import talib
from numpy.lib.stride_tricks import sliding_window_view

from alpha_assets.quant.schema import OHLC, OHLCV, TIME

Array = np.ndarray


@dataclass(frozen=True)
class Series:
    """One listing's adjusted bars in time order, f64, equal lengths."""

    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array


@dataclass(frozen=True)
class Feature:
    """One column of a feature set.

    ``warm_up`` counts the bars at the start of a listing that have no value. ``memory`` counts the bars
    before the first wanted one after which a value equals that of the whole series within 1e-9 standard
    deviations: as long as the window where that is all a feature sees, longer for a recursion.
    ``version`` is raised by hand whenever the function's values change, never otherwise.
    """

    name: str
    group: str
    function: Callable[..., Array]
    parameters: Mapping[str, int | float]
    warm_up: int
    memory: int
    doc: str
    version: int = 1

    def values(self, series: Series) -> Array:
        """The feature of every bar, f64, NaN during warm-up and where it is undefined (no range, no volume)."""
        values = np.asarray(self.function(series, **self.parameters), dtype=np.float64)
        values[: self.warm_up] = np.nan
        values[~np.isfinite(values)] = np.nan
        return values

    @property
    def identity(self) -> list[object]:
        """What makes two features the same numbers."""
        return [self.name, self.function.__name__, dict(sorted(self.parameters.items())), self.version]


@dataclass(frozen=True)
class FeatureSet:
    """A named, ordered choice of features; its columns are the columns of a model's matrix."""

    name: str
    features: tuple[Feature, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuses two features of one name: the later would hide the earlier."""
        names = [feature.name for feature in self.features]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled or not names:
            raise ValueError(f"feature set {self.name!r}: {doubled or 'no features'}; names must be distinct")

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature names in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over names, functions, parameters, versions and order; the set's name is left out."""
        identity = json.dumps([feature.identity for feature in self.features])
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    @cached_property
    def warm_up(self) -> int:
        """Bars to read before the first pending one, so that its values equal those of a full rebuild."""
        return max(feature.memory for feature in self.features)

    @cached_property
    def blank(self) -> int:
        """Bars at the start of a listing of which some feature has no value yet."""
        return max(feature.warm_up for feature in self.features)

    def warm(self) -> pl.Expr:
        """Whether a bar lies past the warm-up of every feature, over bars with symbol, listing and timestamp.

        A feature that is null there is undefined (no range, no volume), not missing.
        """
        return pl.col("timestamp").rank("ordinal").over("symbol", "listing") > self.blank


def compute(bars: pl.DataFrame, feature_set: FeatureSet) -> pl.DataFrame:
    """The features of every bar.

    ``bars`` holds symbol, timestamp, listing and adjusted open, high, low, close, volume, one row a key. The answer
    holds symbol, timestamp and a Float64 column a feature, sorted by both keys; a value is null
    during the feature's warm-up, counted from the start of the listing, and where it is undefined. Nothing
    crosses from one symbol or listing to another.

    Raises ValueError, naming symbol and time, for a price that is null, not finite or not positive.
    """
    ordered = bars.sort("symbol", "timestamp")
    _refuse_bad_prices(ordered)
    arrays = {name: ordered[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in OHLCV}
    matrix = np.full((len(feature_set.features), ordered.height), np.nan)
    for start, end in _listings(ordered):
        series = Series(**{name: arrays[name][start:end] for name in OHLCV})
        for row, feature in enumerate(feature_set.features):
            matrix[row, start:end] = feature.values(series)
    columns = [pl.Series(name, matrix[row], nan_to_null=True) for row, name in enumerate(feature_set.columns)]
    return ordered.select("symbol", pl.col("timestamp").cast(TIME)).with_columns(columns)


def _refuse_bad_prices(bars: pl.DataFrame) -> None:
    sound = pl.all_horizontal(pl.col(name).is_finite() & (pl.col(name) > 0) for name in OHLC).fill_null(value=False)
    bad = bars.filter(~sound)
    if bad.is_empty():
        return
    first = bad.row(0, named=True)
    prices = ", ".join(f"{name} {first[name]}" for name in OHLC)
    raise ValueError(
        f"features of {first['symbol']}: the bar of {first['timestamp']} has {prices} ({bad.height} such bars in all); "
        "prices must be positive numbers, cleaning drops others"
    )


def _listings(bars: pl.DataFrame) -> list[tuple[int, int]]:
    """Row ranges of one symbol's one listing each."""
    lengths = bars.select(pl.struct("symbol", "listing").rle().struct.field("len")).to_series().to_numpy()
    ends = np.cumsum(lengths, dtype=np.int64)
    return list(zip((ends - lengths).tolist(), ends.tolist(), strict=True))


def _windows(values: Array, bars: int) -> Array:
    """Every run of ``bars`` values, a row each: shape (len - bars + 1, bars), or (0, bars) for too short a series."""
    if len(values) < bars:
        return np.empty((0, bars))
    return sliding_window_view(values, bars)


def _padded(values: Array, length: int) -> Array:
    padded = np.full(length, np.nan)
    padded[length - len(values) :] = values
    return padded


def rolling_mean(values: Array, bars: int) -> Array:
    """Mean of the last ``bars`` values, NaN before there are so many."""
    return _padded(_windows(values, bars).mean(axis=1), len(values))


def rolling_deviation(values: Array, bars: int, ddof: int) -> Array:
    """Standard deviation of the last ``bars`` values, NaN before there are so many."""
    return _padded(_windows(values, bars).std(axis=1, ddof=ddof), len(values))


def log_return(close: Array, bars: int) -> Array:
    """ln(close(t) / close(t - bars)), NaN before there are so many."""
    return _padded(np.log(close[bars:] / close[:-bars]), len(close))


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Quotient, NaN where the denominator is zero or undefined."""
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def _log_ratio(numerator: Array, denominator: Array) -> Array:
    ratio = _ratio(numerator, denominator)
    return np.log(ratio, out=np.full(len(ratio), np.nan), where=ratio > 0)


def _return(series: Series, bars: int) -> Array:
    return log_return(series.close, bars)


def _gap(series: Series) -> Array:
    return _padded(np.log(series.open[1:] / series.close[:-1]), len(series.close))


def _close_in_bar(series: Series) -> Array:
    return _ratio(series.close - series.low, series.high - series.low)


def _close_in_range(series: Series, bars: int) -> Array:
    lowest, highest = talib.MIN(series.low, bars), talib.MAX(series.high, bars)
    return _ratio(series.close - lowest, highest - lowest)


def _rsi(series: Series, bars: int) -> Array:
    return talib.RSI(series.close, bars) / 100


def _macd(series: Series, fast: int, slow: int, signal: int, part: int) -> Array:
    return talib.MACD(series.close, fast, slow, signal)[part] / series.close


def _bollinger_position(series: Series, bars: int, width: float) -> Array:
    deviation = rolling_deviation(series.close, bars, ddof=0)
    position = _ratio(series.close - rolling_mean(series.close, bars), width * deviation)
    return np.where(deviation > FLAT * series.close, position, np.nan)


def _bollinger_width(series: Series, bars: int, width: float) -> Array:
    return 2 * width * rolling_deviation(series.close, bars, ddof=0) / rolling_mean(series.close, bars)


def _mean_ratio(series: Series, bars: int) -> Array:
    return _log_ratio(series.close, rolling_mean(series.close, bars))


def _atr(series: Series, bars: int) -> Array:
    return talib.ATR(series.high, series.low, series.close, bars) / series.close


def _volatility(series: Series, bars: int) -> Array:
    return rolling_deviation(log_return(series.close, 1), bars, ddof=1)


def _volatility_ratio(series: Series, fast: int, slow: int) -> Array:
    slow_volatility = _volatility(series, slow)
    ratio = _log_ratio(_volatility(series, fast), slow_volatility)
    return np.where(slow_volatility > FLAT, ratio, np.nan)


def _volume_ratio(series: Series, bars: int) -> Array:
    return _log_ratio(series.volume, rolling_mean(series.volume, bars))


#: Relative deviation at which a stretch counts as flat: what is left is the rounding of prices, not a shape.
FLAT = 1e-9


def _simple(
    name: str, group: str, function: Callable[..., Array], warm_up: int, doc: str, **parameters: int
) -> Feature:
    """A feature whose window is all it sees."""
    return Feature(name, group, function, parameters, warm_up, memory=warm_up, doc=doc)


_MACD = {"fast": 12, "slow": 26, "signal": 9}
_MACD_MEMORY = 400  # (25/27)^400 = 4e-14
_WILDER_MEMORY = 400  # (13/14)^400 = 1e-13

DEFAULT = FeatureSet(
    "core",
    (
        *(
            _simple(f"return_{bars}", "momentum", _return, bars, f"ln(C / C {bars} bars ago)", bars=bars)
            for bars in (1, 5, 10, 20)
        ),
        _simple("gap", "momentum", _gap, 1, "ln(O / C of the bar before)"),
        Feature(
            "rsi_14",
            "momentum",
            _rsi,
            {"bars": 14},
            warm_up=14,
            memory=_WILDER_MEMORY,
            doc="Relative strength index / 100, in [0, 1]: Wilder, New Concepts in Technical Trading Systems (1978)",
        ),
        *(
            Feature(
                f"macd_{label}",
                "momentum",
                _macd,
                {**_MACD, "part": part},
                warm_up=33,
                memory=_MACD_MEMORY,
                doc=f"{doc} / C: Appel, The Moving Average Convergence-Divergence Trading Method (1979)",
            )
            for part, (label, doc) in enumerate(
                (
                    ("line", "EMA 12 of C less EMA 26"),
                    ("signal", "EMA 9 of the MACD line"),
                    ("histogram", "MACD line less its signal"),
                )
            )
        ),
        *(
            _simple(f"mean_ratio_{bars}", "trend", _mean_ratio, bars - 1, f"ln(C / mean C of {bars} bars)", bars=bars)
            for bars in (5, 10, 20, 50)
        ),
        Feature(
            "bollinger_position",
            "trend",
            _bollinger_position,
            {"bars": 20, "width": 2.0},
            warm_up=19,
            memory=19,
            doc="(C - mean 20) / 2 deviations, null on a flat stretch: Bollinger on Bollinger Bands (2001)",
        ),
        Feature(
            "bollinger_width",
            "volatility",
            _bollinger_width,
            {"bars": 20, "width": 2.0},
            warm_up=19,
            memory=19,
            doc="4 deviations / mean 20 (bandwidth): Bollinger on Bollinger Bands (2001)",
        ),
        Feature(
            "natr_14",
            "volatility",
            _atr,
            {"bars": 14},
            warm_up=14,
            memory=_WILDER_MEMORY,
            doc="Average true range / C: Wilder (1978), normalised as in TA-Lib's NATR / 100",
        ),
        _simple("volatility_20", "volatility", _volatility, 20, "deviation of 20 one-bar log returns, a bar", bars=20),
        _simple(
            "volatility_ratio",
            "volatility",
            _volatility_ratio,
            20,
            "ln(deviation of 5 one-bar log returns / that of 20)",
            fast=5,
            slow=20,
        ),
        _simple("close_in_bar", "range", _close_in_bar, 0, "(C - L) / (H - L), null where H = L"),
        _simple(
            "close_in_range_20",
            "range",
            _close_in_range,
            19,
            "(C - lowest L) / (highest H - lowest L) of 20 bars: Lane's stochastic %K (1984)",
            bars=20,
        ),
        _simple("volume_ratio_20", "volume", _volume_ratio, 19, "ln(V / mean V of 20 bars), null at V = 0", bars=20),
    ),
)
