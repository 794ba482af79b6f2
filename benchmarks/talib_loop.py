"""The rival of every feature engine: a plain loop of TA-Lib calls over arrays that are in memory already.

One core, 64-bit, nothing read, adjusted, checked or stored.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
import talib

from alpha_assets.quant.schema import OHLCV

Array = np.ndarray


def outputs(high: Array, low: Array, close: Array, volume: Array) -> list[Array]:
    """Those of our columns that TA-Lib has, with our windows.

    Beta and correlation are of highs and lows, which cost what any pair does.
    """
    return [
        talib.RSI(close, 14),
        *talib.MACD(close, 12, 26, 9),
        talib.MOM(close, 10),
        talib.TRIX(close, 15),
        *talib.STOCH(high, low, close, fastk_period=14, slowk_period=3, slowd_period=3),
        talib.WILLR(high, low, close, 14),
        talib.CCI(high, low, close, 20),
        talib.MFI(high, low, close, volume, 14),
        talib.ULTOSC(high, low, close, 7, 14, 28),
        *talib.AROON(high, low, 25),
        talib.AROONOSC(high, low, 25),
        talib.PLUS_DI(high, low, close, 14),
        talib.MINUS_DI(high, low, close, 14),
        talib.ADX(high, low, close, 14),
        talib.LINEARREG_SLOPE(close, 20),
        *talib.BBANDS(close, 20, 2.0, 2.0),
        talib.ATR(high, low, close, 5),
        talib.NATR(high, low, close, 14),
        talib.STDDEV(close, 20),
        talib.STDDEV(close, 60),
        talib.VAR(close, 60),
        talib.OBV(close, volume),
        talib.BETA(high, low, 60),
        talib.CORREL(high, low, 60),
        talib.MAX(close, 60),
        talib.MAX(close, 252),
        talib.SMA(volume, 5),
        talib.SMA(volume, 20),
        *(talib.ROC(close, bars) for bars in (1, 5, 10, 12, 20)),
        *(talib.SMA(close, bars) for bars in (5, 10, 20, 50, 200)),
        *(talib.EMA(close, bars) for bars in (12, 26)),
    ]


def series_of(bars: pl.DataFrame) -> list[list[Array]]:
    """High, low, close and volume of each symbol as arrays of f64."""
    parts = bars.sort("symbol", "timestamp").partition_by("symbol")
    return [[part[name].to_numpy().astype(np.float64) for name in OHLCV[1:]] for part in parts]


def computed(series: Sequence[Sequence[Array]]) -> int:
    """Compute everything of every symbol and keep it, as whoever wants it does; the number of values."""
    kept = [outputs(*one) for one in series]
    return sum(found.size for one in kept for found in one)
