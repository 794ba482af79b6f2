"""The default feature set as a user would write it in pandas, one symbol at a time with ``groupby.apply``.

Nothing is shared with the package, so that it is an oracle too: from a few hundred bars on, when what the averages
began with is forgotten, its columns are ours to 1e-6. It blanks no warm-up and guards nothing: of a flat stretch,
a listing's cut or a missing volume it makes infinities, and what it says of them is not compared.
"""

import numpy as np
import pandas as pd


def features(bars: pd.DataFrame, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """The columns of every symbol, indexed by symbol and timestamp.

    ``bars`` holds symbol, timestamp (naive midnights), open, high, low, close, volume and ``market``, the log return
    of the benchmark; ``sessions`` are the planned sessions, from before the first bar to after the last.
    """
    return bars.groupby("symbol").apply(lambda one: of_one_symbol(one.set_index("timestamp"), sessions))


def of_one_symbol(bars: pd.DataFrame, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """The columns of one symbol, whose bars are indexed by their time."""
    columns = _momentum(bars) | _oscillators(bars) | _trend(bars) | _volatility(bars) | _statistics(bars)
    columns |= _volume_and_range(bars) | _weekly(bars, sessions) | _calendar(bars, sessions) | _noise(bars)
    return pd.DataFrame(columns)


def _log(values: pd.Series) -> pd.Series:
    return pd.Series(np.log(values))


def _root(values: pd.Series) -> pd.Series:
    return pd.Series(np.sqrt(values))


def _wilder(values: pd.Series, bars: int) -> pd.Series:
    return values.ewm(alpha=1 / bars, adjust=False).mean()


def _ema(values: pd.Series, bars: int) -> pd.Series:
    return values.ewm(span=bars, adjust=False).mean()


def _true_range(bars: pd.DataFrame) -> pd.Series:
    before = bars.close.shift(1)
    return pd.concat([bars.high - bars.low, (bars.high - before).abs(), (bars.low - before).abs()], axis=1).max(axis=1)


def _log_return(bars: pd.DataFrame) -> pd.Series:
    return _log(bars.close).diff()


def _percent_k(bars: pd.DataFrame, window: int) -> pd.Series:
    lowest, highest = bars.low.rolling(window).min(), bars.high.rolling(window).max()
    return (bars.close - lowest) / (highest - lowest)


def _momentum(bars: pd.DataFrame) -> dict[str, pd.Series]:
    close, change = bars.close, bars.close.diff()
    gain, loss = _wilder(change.clip(lower=0), 14), _wilder(-change.clip(upper=0), 14)
    line = _ema(close, 12) - _ema(close, 26)
    signal = _ema(line, 9)
    return {
        "rsi_14": gain / (gain + loss),
        "macd_line": line / close,
        "macd_signal": signal / close,
        "macd_histogram": (line - signal) / close,
        "roc_12": close.pct_change(12),
        "momentum_10": close.diff(10) / _wilder(_true_range(bars), 14),
        "trix_15": 100 * _ema(_ema(_ema(close, 15), 15), 15).pct_change(),
    }


def _oscillators(bars: pd.DataFrame) -> dict[str, pd.Series]:
    close, before = bars.close, bars.close.shift(1)
    typical = (bars.high + bars.low + close) / 3
    apart = typical.rolling(20).apply(lambda window: np.abs(window - window.mean()).mean(), raw=True)
    flow = typical * bars.volume
    rising = flow.where(typical.diff() > 0, 0.0).rolling(14).sum()
    falling = flow.where(typical.diff() < 0, 0.0).rolling(14).sum()
    floor = bars.low.clip(upper=before)
    bought, whole = close - floor, bars.high.clip(lower=before) - floor
    shares = [bought.rolling(window).sum() / whole.rolling(window).sum() for window in (7, 14, 28)]
    up = 1 - bars.high.rolling(26).apply(lambda window: window[::-1].argmax(), raw=True) / 25
    down = 1 - bars.low.rolling(26).apply(lambda window: window[::-1].argmin(), raw=True) / 25
    k = _percent_k(bars, 14).rolling(3).mean()
    return {
        "stochastic_k": k,
        "stochastic_d": k.rolling(3).mean(),
        "williams_r_14": _percent_k(bars, 14) - 1,
        "cci_20": (typical - typical.rolling(20).mean()) / (1.5 * apart),
        "mfi_14": rising / (rising + falling),
        "ultimate_oscillator": (4 * shares[0] + 2 * shares[1] + shares[2]) / 7,
        "aroon_up": up,
        "aroon_down": down,
        "aroon_oscillator": up - down,
    }


def _trend(bars: pd.DataFrame) -> dict[str, pd.Series]:
    close, logs, returns = bars.close, _log(bars.close), _log_return(bars)
    rise, fall = bars.high.diff(), -bars.low.diff()
    ranges = _wilder(_true_range(bars), 14)
    plus = _wilder(rise.where((rise > fall) & (rise > 0), 0.0), 14) / ranges
    minus = _wilder(fall.where((fall > rise) & (fall > 0), 0.0), 14) / ranges
    days = np.arange(20)
    slope = logs.rolling(20).apply(lambda window: np.polyfit(days, window, 1)[0], raw=True)
    fit = logs.rolling(20).apply(lambda window: np.corrcoef(days, window)[0, 1] ** 2, raw=True)
    return {
        **{f"mean_ratio_{n}": _log(close / close.rolling(n).mean()) for n in (5, 10, 20, 50, 200)},
        **{f"ema_ratio_{n}": _log(close / _ema(close, n)) for n in (12, 26)},
        "slope_20": slope,
        "slope_fit_20": fit,
        "bollinger_position": (close - close.rolling(20).mean()) / (2 * close.rolling(20).std(ddof=0)),
        "plus_di_14": plus,
        "minus_di_14": minus,
        "adx_14": _wilder((plus - minus).abs() / (plus + minus), 14),
        **{f"efficiency_ratio_{n}": logs.diff(n).abs() / returns.abs().rolling(n).sum() for n in (10, 20)},
        "hurst_100": _hurst(logs),
    }


def _hurst(logs: pd.Series) -> pd.Series:
    spans = [1, 2, 4, 8, 16]
    moved = pd.concat([0.5 * _log((logs.diff(span) ** 2).rolling(84).mean()) for span in spans], axis=1).to_numpy()
    known = ~np.isnan(moved).any(axis=1)
    slopes = np.full(len(logs), np.nan)
    slopes[known] = np.polyfit(np.log(spans), moved[known].T, 1)[0]
    return pd.Series(slopes, logs.index)


def _volatility(bars: pd.DataFrame) -> dict[str, pd.Series]:
    close, returns, ranges = bars.close, _log_return(bars), _true_range(bars)
    tall, body = _log(bars.high / bars.low), _log(close / bars.open)
    above, below = _log(bars.high / bars.open), _log(bars.low / bars.open)
    gap = _log(bars.open / close.shift(1))
    inside = (above * (above - body) + below * (below - body)).rolling(20).mean()
    share = 0.34 / (1.34 + 21 / 19)
    yang_zhang = gap.rolling(20).var() + share * body.rolling(20).var() + (1 - share) * inside
    return {
        "bollinger_width": 4 * close.rolling(20).std(ddof=0) / close.rolling(20).mean(),
        "natr_14": _wilder(ranges, 14) / close,
        "atr_ratio": _log(_wilder(ranges, 5) / _wilder(ranges, 14)),
        "volatility_20": returns.rolling(20).std(),
        "volatility_60": returns.rolling(60).std(),
        "volatility_ratio": _log(returns.rolling(5).std() / returns.rolling(20).std()),
        "parkinson_20": _root((tall**2).rolling(20).mean() / np.log(16)),
        "garman_klass_20": _root((tall**2 / 2 - (2 * np.log(2) - 1) * body**2).rolling(20).mean()),
        "yang_zhang_20": _root(yang_zhang),
    }


def _statistics(bars: pd.DataFrame) -> dict[str, pd.Series]:
    close, logs, returns, n = bars.close, _log(bars.close), _log_return(bars), 60
    # pandas corrects both for the bias of a sample; ours are those of the window itself.
    skew = returns.rolling(n).skew() * (n - 2) / np.sqrt(n * (n - 1))
    kurtosis = (returns.rolling(n).kurt() * (n - 2) * (n - 3) / (n - 1) - 6) / (n + 1)
    return {
        **{f"return_{back}": logs.diff(back) for back in (1, 5, 10, 20)},
        "gap": _log(bars.open / close.shift(1)),
        "skew_60": skew,
        "kurtosis_60": kurtosis,
        **{f"autocorrelation_{lag}": returns.rolling(n).corr(returns.shift(lag)) for lag in (1, 5)},
        "z_score_60": (logs - logs.rolling(n).mean()) / logs.rolling(n).std(ddof=0),
        "return_z_score_20": returns / returns.rolling(20).std(),
        **{f"drawdown_{window}": close / close.rolling(window).max() - 1 for window in (60, 252)},
        "beta_60": returns.rolling(n).cov(bars.market) / bars.market.rolling(n).var(),
        "correlation_60": returns.rolling(n).corr(bars.market),
    }


def _volume_and_range(bars: pd.DataFrame) -> dict[str, pd.Series]:
    close, volume, width = bars.close, bars.volume, bars.high - bars.low
    mean = volume.rolling(20).mean()
    tall = _log(bars.high / bars.low)
    return {
        "volume_ratio_20": _log(volume / mean),
        "volume_trend": _log(volume.rolling(5).mean() / mean),
        "volume_shock_20": (volume - mean) / volume.rolling(20).std(ddof=0),
        "obv_change_20": (np.sign(close.diff()) * volume).rolling(20).sum() / volume.rolling(20).sum(),
        "close_in_bar": (close - bars.low) / width,
        "body": (close - bars.open) / width,
        "upper_shadow": (bars.high - np.maximum(bars.open, close)) / width,
        "range_ratio_20": tall / tall.rolling(20).mean(),
        "close_in_range_20": _percent_k(bars, 20),
    }


def _weekly(bars: pd.DataFrame, sessions: pd.DatetimeIndex) -> dict[str, pd.Series]:
    days = pd.DatetimeIndex(bars.index)
    weeks = days.to_period("W")
    by_week = bars.groupby(weeks)
    close, high, low = by_week.close.last(), by_week.high.max(), by_week.low.min()
    change, returns = close.diff(), _log(close).diff()
    lowest, highest = low.rolling(10).min(), high.rolling(10).max()
    of_weeks = pd.DataFrame(
        {
            "higher_return_1": returns,
            "higher_return_4": _log(close).diff(4),
            "higher_mean_ratio_10": _log(close / close.rolling(10).mean()),
            "higher_rsi_10": change.clip(lower=0).rolling(10).sum() / change.abs().rolling(10).sum(),
            "higher_volatility_10": returns.rolling(10).std(),
            "higher_range_10": (close - lowest) / (highest - lowest),
        }
    )
    following = sessions[sessions.searchsorted(days, side="right")]
    complete = pd.DatetimeIndex(following).to_period("W") != weeks
    this, before = of_weeks.reindex(weeks), of_weeks.shift(1).reindex(weeks)
    return {name: pd.Series(np.where(complete, this[name], before[name]), bars.index) for name in map(str, of_weeks)}


def _calendar(bars: pd.DataFrame, sessions: pd.DatetimeIndex) -> dict[str, pd.Series]:
    days = pd.DatetimeIndex(bars.index)
    following, previous = sessions[sessions.searchsorted(days, "right")], sessions[sessions.searchsorted(days) - 1]
    weekdays = pd.Series(1, pd.bdate_range(days[0].replace(day=1), days[-1] + pd.offsets.MonthEnd()))
    months = weekdays.groupby(pd.DatetimeIndex(weekdays.index).to_period("M"))
    gone = months.cumsum()
    left = months.transform("size") - gone + 1
    return {
        "day_of_week": pd.Series(days.day_of_week, days),
        "month_turn": gone.where(gone <= left, -left).reindex(days),
        "gap_ahead": pd.Series((following - days).days, days),
        "gap_behind": pd.Series((days - previous).days, days),
    }


def _noise(bars: pd.DataFrame) -> dict[str, pd.Series]:
    """The alpha-beta filter of a tracking index of 0.1, bar by bar, and what it drops of the movement."""
    root = (4 + 0.1 - np.sqrt(8 * 0.1 + 0.1**2)) / 4
    alpha = 1 - root**2
    beta = 2 * (2 - alpha) - 4 * np.sqrt(1 - alpha)
    prices = np.log(bars.close.to_numpy())
    level, slope, levels = prices[0], 0.0, []
    for price in prices:
        missed = price - level - slope
        level, slope = level + slope + alpha * missed, slope + beta * missed
        levels.append(level)
    kept = pd.Series(levels, bars.index).diff()
    dropped = (_log_return(bars) - kept).rolling(20).std()
    return {"noise_score_20": dropped / (dropped + kept.rolling(20).std())}
