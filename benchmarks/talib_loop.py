"""The rival of every feature engine: our columns by a plain loop over the symbols, arrays in memory, one core.

Each column is TA-Lib's call where it has the function, else the few calls of TA-Lib and numpy that a user would
write: a mean is ``SMA``, a spread ``STDDEV``. Nothing is read, adjusted, checked, cut or stored. The calendar's columns
are no indicators and are left out; the week of each bar is known before.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import talib
from scipy.signal import lfilter

Array = np.ndarray


@dataclass(frozen=True)
class Series:
    """One symbol: arrays of f64, the number of its week, whether it ends there, the benchmark's log return."""

    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    period: Array
    period_ends: Array
    market: Array


def series_of(bars: pl.DataFrame, market: str) -> list[Series]:
    """The symbols of bars that have the columns of ``quant.timeframes`` and, in column ``market``, the benchmark's."""
    names = ("open", "high", "low", "close", "volume", "period", "period_ends", market)
    parts = bars.sort("symbol", "timestamp").partition_by("symbol")
    return [Series(*(part[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names)) for part in parts]


def computed(series: Sequence[Series]) -> int:
    """Compute every column of every symbol and keep it, as whoever wants it does; the number of values."""
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = [columns(one) for one in series]
    return sum(found.size for one in kept for found in one.values())


def columns(bars: Series) -> Mapping[str, Array]:
    """The columns of one symbol."""
    close, logs = bars.close, np.log(bars.close)
    returns = _change(logs, 1)
    means = {n: talib.SMA(close, n) for n in (5, 10, 20, 50, 200)}
    atr = talib.ATR(bars.high, bars.low, close, 14)
    return {
        **_momentum(bars, atr),
        **_oscillators(bars),
        **_trend(bars, logs, returns, means),
        **_volatilities(bars, returns, atr),
        **_statistics(bars, logs, returns),
        **_volumes(bars),
        **_ranges(bars),
        **_weekly(bars),
        "noise_score_20": _noise(logs, returns),
    }


def _before(values: Array, bars: int) -> Array:
    out = np.empty(len(values))
    out[:bars], out[bars:] = np.nan, values[:-bars]
    return out


def _change(values: Array, bars: int) -> Array:
    return values - _before(values, bars)


def _momentum(bars: Series, atr: Array) -> dict[str, Array]:
    close = bars.close
    line, signal, histogram = talib.MACD(close, 12, 26, 9)
    return {
        "rsi_14": talib.RSI(close, 14) / 100,
        "macd_line": line / close,
        "macd_signal": signal / close,
        "macd_histogram": histogram / close,
        "roc_12": talib.ROCP(close, 12),
        "momentum_10": talib.MOM(close, 10) / atr,
        "trix_15": talib.TRIX(close, 15),
    }


def _oscillators(bars: Series) -> dict[str, Array]:
    high, low, close = bars.high, bars.low, bars.close
    k, d = talib.STOCH(high, low, close, fastk_period=14, slowk_period=3, slowd_period=3)
    down, up = talib.AROON(high, low, 25)
    return {
        "stochastic_k": k / 100,
        "stochastic_d": d / 100,
        "williams_r_14": talib.WILLR(high, low, close, 14) / 100,
        "cci_20": talib.CCI(high, low, close, 20) / 100,
        "mfi_14": talib.MFI(high, low, close, bars.volume, 14) / 100,
        "ultimate_oscillator": talib.ULTOSC(high, low, close, 7, 14, 28) / 100,
        "aroon_up": up / 100,
        "aroon_down": down / 100,
        "aroon_oscillator": talib.AROONOSC(high, low, 25) / 100,
    }


def _trend(bars: Series, logs: Array, returns: Array, means: Mapping[int, Array]) -> dict[str, Array]:
    high, low, close = bars.high, bars.low, bars.close
    slope = talib.LINEARREG_SLOPE(logs, 20)
    path = np.abs(returns)
    return {
        **{f"mean_ratio_{n}": np.log(close / mean) for n, mean in means.items()},
        **{f"ema_ratio_{n}": np.log(close / talib.EMA(close, n)) for n in (12, 26)},
        "slope_20": slope,
        "slope_fit_20": slope * slope * ((20 * 20 - 1) / 12) / talib.VAR(logs, 20),
        "bollinger_position": (close - means[20]) / (2 * talib.STDDEV(close, 20)),
        "plus_di_14": talib.PLUS_DI(high, low, close, 14) / 100,
        "minus_di_14": talib.MINUS_DI(high, low, close, 14) / 100,
        "adx_14": talib.ADX(high, low, close, 14) / 100,
        **{f"efficiency_ratio_{n}": np.abs(_change(logs, n)) / talib.SUM(path, n) for n in (10, 20)},
        "hurst_100": _hurst(logs),
    }


def _hurst(logs: Array) -> Array:
    spans = [1, 2, 4, 8, 16]
    x = np.log(spans) - np.mean(np.log(spans))
    rows = [0.5 * np.log(talib.SMA(_change(logs, span) ** 2, 84)) for span in spans]
    return np.asarray((x @ np.stack(rows)) / (x @ x))


def _deviation(values: Array, bars: int) -> Array:
    return talib.STDDEV(values, bars, math.sqrt(bars / (bars - 1)))


def _volatilities(bars: Series, returns: Array, atr: Array) -> dict[str, Array]:
    tall, body = np.log(bars.high / bars.low), np.log(bars.close / bars.open)
    above, below = np.log(bars.high / bars.open), np.log(bars.low / bars.open)
    gap = np.log(bars.open / _before(bars.close, 1))
    squares = tall * tall
    inside = talib.SMA(above * (above - body) + below * (below - body), 20)
    share = 0.34 / (1.34 + 21 / 19)
    yang_zhang = (talib.VAR(gap, 20) + share * talib.VAR(body, 20)) * (20 / 19) + (1 - share) * inside
    volatility = _deviation(returns, 20)
    upper, middle, lower = talib.BBANDS(bars.close, 20, 2.0, 2.0)
    return {
        "bollinger_width": (upper - lower) / middle,
        "natr_14": atr / bars.close,
        "atr_ratio": np.log(talib.ATR(bars.high, bars.low, bars.close, 5) / atr),
        "volatility_20": volatility,
        "volatility_60": _deviation(returns, 60),
        "volatility_ratio": np.log(_deviation(returns, 5) / volatility),
        "parkinson_20": np.sqrt(talib.SMA(squares, 20) / math.log(16)),
        "garman_klass_20": np.sqrt(talib.SMA(squares / 2 - (2 * math.log(2) - 1) * body * body, 20)),
        "yang_zhang_20": np.sqrt(yang_zhang),
    }


def _statistics(bars: Series, logs: Array, returns: Array) -> dict[str, Array]:
    n = 60
    mean, variance = talib.SMA(returns, n), talib.VAR(returns, n)
    squares = returns * returns
    second, third, fourth = (talib.SMA(power, n) for power in (squares, squares * returns, squares * squares))
    cubes = third - 3 * mean * second + 2 * mean**3
    fourths = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
    correlation = talib.CORREL(returns, bars.market, n)
    return {
        **{f"return_{back}": _change(logs, back) for back in (1, 5, 10, 20)},
        "gap": np.log(bars.open / _before(bars.close, 1)),
        "skew_60": cubes / variance**1.5,
        "kurtosis_60": fourths / variance**2 - 3,
        **{f"autocorrelation_{lag}": talib.CORREL(returns, _before(returns, lag), n) for lag in (1, 5)},
        "z_score_60": (logs - talib.SMA(logs, n)) / talib.STDDEV(logs, n),
        "return_z_score_20": returns / _deviation(returns, 20),
        **{f"drawdown_{window}": bars.close / talib.MAX(bars.close, window) - 1 for window in (60, 252)},
        "beta_60": correlation * np.sqrt(variance / talib.VAR(bars.market, n)),
        "correlation_60": correlation,
    }


def _volumes(bars: Series) -> dict[str, Array]:
    volume = bars.volume
    mean = talib.SMA(volume, 20)
    direction = np.sign(_change(bars.close, 1))
    return {
        "volume_ratio_20": np.log(volume / mean),
        "volume_trend": np.log(talib.SMA(volume, 5) / mean),
        "volume_shock_20": (volume - mean) / talib.STDDEV(volume, 20),
        "obv_change_20": talib.SUM(direction * volume, 20) / talib.SUM(volume, 20),
    }


def _ranges(bars: Series) -> dict[str, Array]:
    width = bars.high - bars.low
    tall = np.log(bars.high / bars.low)
    lowest, highest = talib.MIN(bars.low, 20), talib.MAX(bars.high, 20)
    return {
        "close_in_bar": (bars.close - bars.low) / width,
        "body": (bars.close - bars.open) / width,
        "upper_shadow": (bars.high - np.maximum(bars.open, bars.close)) / width,
        "range_ratio_20": tall / talib.SMA(tall, 20),
        "close_in_range_20": (bars.close - lowest) / (highest - lowest),
    }


def _weekly(bars: Series) -> dict[str, Array]:
    first = np.flatnonzero(np.diff(bars.period, prepend=-1.0))
    close = bars.close[np.append(first[1:], len(bars.close)) - 1]
    high, low = np.maximum.reduceat(bars.high, first), np.minimum.reduceat(bars.low, first)
    newest = np.repeat(np.arange(len(first)), np.diff(first, append=len(bars.close))) - 1 + (bars.period_ends > 0)
    logs, change = np.log(close), _change(close, 1)
    lowest, highest = talib.MIN(low, 10), talib.MAX(high, 10)
    weekly = {
        "higher_return_1": _change(logs, 1),
        "higher_return_4": _change(logs, 4),
        "higher_mean_ratio_10": np.log(close / talib.SMA(close, 10)),
        "higher_rsi_10": talib.SUM(np.maximum(change, 0.0), 10) / talib.SUM(np.abs(change), 10),
        "higher_volatility_10": _deviation(_change(logs, 1), 10),
        "higher_range_10": (close - lowest) / (highest - lowest),
    }
    return {name: np.where(newest >= 0, values[newest], np.nan) for name, values in weekly.items()}


def _noise(logs: Array, returns: Array) -> Array:
    """What the alpha-beta filter of a tracking index of 0.1 drops of the movement."""
    root = (4 + 0.1 - math.sqrt(8 * 0.1 + 0.1**2)) / 4
    alpha = 1 - root**2
    beta = 2 * (2 - alpha) - 4 * math.sqrt(1 - alpha)
    level = lfilter([alpha, beta - alpha], [1.0, alpha + beta - 2, 1 - alpha], logs - logs[0])
    kept = _change(level, 1)
    dropped = _deviation(returns - kept, 20)
    return np.asarray(dropped / (dropped + _deviation(kept, 20)))
