"""The default feature set: what a model sees of a bar, each column declared once and dimensionless.

Prices enter adjusted for splits and dividends, volume for splits. Scaling a symbol's prices by c and its volume by k
changes no feature, so an adjustment rewrites none.

Four rules shaped the arithmetic. Recursions (EMAs, Wilder's averages) are TA-Lib's where rounding cannot decide, and
everything with a window is taken window by window (``rolling``): TA-Lib's running sums carry the rounding of every bar
they ever saw, and it takes a sum below 1 or 1e-14 for zero, whatever the price. A move smaller than ``STILL`` of the
price is no move, and a stretch whose relative deviation is below ``FLAT`` is flat: what is left there is the rounding
of an adjustment. Ratios of Wilder's averages end where a market stands still (``wilder``). Higher timeframes use
windows only: a weekly Wilder average would need 2,000 daily bars.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import talib
from scipy.signal import lfilter

from alpha_assets.quant.feature_set import Feature, FeatureSet
from alpha_assets.quant.panel import Panel
from alpha_assets.quant.parameters import FeatureParameters
from alpha_assets.quant.rolling import (
    bars_since_max,
    bars_since_min,
    rolling_deviation,
    rolling_line,
    rolling_max,
    rolling_mean,
    rolling_min,
    rolling_moments,
    rolling_product,
    rolling_sum,
    shifted,
)
from alpha_assets.quant.wilder import STILL, directional_movement

Array = np.ndarray

#: Relative deviation at which a stretch counts as flat.
FLAT = 1e-9

#: Bars of the longest period of the next higher timeframe: a week of days, a day of hours, an hour of minutes.
BARS_A_PERIOD: Mapping[str, int] = {"1m": 60, "2m": 30, "5m": 12, "15m": 4, "30m": 2, "1h": 24, "1d": 7}

#: Bars after which a recursion has forgotten its start. The slowest is ADX 14, an average of averages: n bars leave
#: (n / 14) (13/14)^n of what it began with, times as much as the ranges have shrunk since, for what is old was large
#: then. 518 bars leave 8e-16: after a fall to 1 / 50,000 of the price, or of its moves, still less than 1e-9
#: deviations, where 400 were enough for a fall to 1 / 10. Beyond, the error grows with the fall (1e-8 after one to a
#: millionth): no number of bars is enough for every fall. The regimes' ADX reads as many.
FORGOTTEN = 518

#: Gain of the steady-state Kalman filter of a local linear trend at a tracking index of 0.1, and its memory.
TRACKING_INDEX = 0.1
SMOOTHER_MEMORY = 140


AS_SHIPPED = FeatureParameters()


def log_return(close: Array, bars: int) -> Array:
    """ln(close(t) / close(t - bars)), NaN before there are so many."""
    return np.log(close / shifted(close, bars))


def filtered(log_prices: Array, denoiser: str) -> Array:
    """A causal estimate of the level under the noise of one series of logarithms, from its first value on.

    ``ema``: exponential average of 5 bars. ``kalman``: the steady state of the Kalman filter of a local linear trend,
    the alpha-beta filter (Kalata 1984, The tracking index). Raises ValueError for another name.
    """
    if denoiser == "ema":
        gain = 2 / 6
        ahead, back = [gain], [1.0, gain - 1]
    elif denoiser == "kalman":
        root = (4 + TRACKING_INDEX - math.sqrt(8 * TRACKING_INDEX + TRACKING_INDEX**2)) / 4
        alpha = 1 - root**2
        beta = 2 * (2 - alpha) - 4 * math.sqrt(1 - alpha)
        ahead, back = [alpha, beta - alpha], [1.0, alpha + beta - 2, 1 - alpha]
    else:
        raise ValueError(f"denoiser {denoiser!r} is unknown: use none, ema or kalman")
    return log_prices[0] + lfilter(ahead, back, log_prices - log_prices[0])


def _guarded(values: Array, *, where: Array) -> Array:
    return np.where(where, values, np.nan)


def _returns(panel: Panel) -> Array:
    return log_return(panel.close, 1)


def _before(panel: Panel) -> Array:
    return shifted(panel.close, 1)


def _level(panel: Panel, denoiser: str) -> Array:
    """The close that trend and momentum look at."""
    if denoiser == "none":
        return panel.close
    return np.exp(panel.alone(filtered, np.log(panel.close), denoiser=denoiser))


def _log_level(panel: Panel, denoiser: str) -> Array:
    return np.log(panel.once(_level, denoiser))


def _mean(panel: Panel, bars: int, denoiser: str) -> Array:
    return rolling_mean(panel.once(_level, denoiser), bars)


def _deviation(panel: Panel, bars: int, denoiser: str) -> Array:
    return rolling_deviation(panel.once(_level, denoiser), bars, ddof=0)


def _sign(change: Array, level: Array) -> Array:
    """-1, 0 or 1; a change within rounding of the level is none."""
    return np.where(np.abs(change) > STILL * level, np.sign(change), np.where(np.isnan(change), np.nan, 0.0))


def _return(panel: Panel, bars: int) -> Array:
    return log_return(panel.close, bars) if bars > 1 else panel.once(_returns)


def _gap(panel: Panel) -> Array:
    return np.log(panel.open / panel.once(_before))


def _rsi(panel: Panel, bars: int, denoiser: str) -> Array:
    return panel.in_motion(talib.RSI, panel.once(_level, denoiser), timeperiod=bars) / 100


def _macds(panel: Panel, fast: int, slow: int, signal: int, denoiser: str) -> tuple[Array, Array, Array]:
    level = panel.once(_level, denoiser)
    return panel.alone(talib.MACD, level, fastperiod=fast, slowperiod=slow, signalperiod=signal)


def _macd(panel: Panel, fast: int, slow: int, signal: int, part: int, denoiser: str) -> Array:
    return panel.once(_macds, fast, slow, signal, denoiser)[part] / panel.close


def _rate_of_change(panel: Panel, bars: int, denoiser: str) -> Array:
    level = panel.once(_level, denoiser)
    return level / shifted(level, bars) - 1


def _momentum(panel: Panel, bars: int, of_range: int, denoiser: str) -> Array:
    level = panel.once(_level, denoiser)
    ranges = panel.once(_true_range, of_range)
    return _guarded((level - shifted(level, bars)) / ranges, where=ranges > FLAT * panel.close)


def _trix(panel: Panel, bars: int, denoiser: str) -> Array:
    return panel.alone(talib.TRIX, panel.once(_level, denoiser), timeperiod=bars)


def _fast_stochastic(panel: Panel, bars: int) -> Array:
    lowest, highest = rolling_min(panel.low, bars), rolling_max(panel.high, bars)
    return _guarded((panel.close - lowest) / (highest - lowest), where=highest - lowest > FLAT * highest)


def _stochastic(panel: Panel, bars: int, smoothings: int) -> Array:
    smooth = panel.once(_fast_stochastic, bars)
    for _ in range(smoothings):
        smooth = rolling_mean(smooth, 3)
    return smooth


def _williams(panel: Panel, bars: int) -> Array:
    return panel.once(_fast_stochastic, bars) - 1


def _typical(panel: Panel) -> Array:
    return (panel.high + panel.low + panel.close) / 3


def _cci(panel: Panel, bars: int) -> Array:
    typical = panel.once(_typical)
    mean = rolling_mean(typical, bars)
    apart = sum((np.abs(shifted(typical, back) - mean) for back in range(bars)), np.zeros(len(panel))) / bars
    return _guarded((typical - mean) / (1.5 * apart), where=apart > FLAT * mean)


def _mfi(panel: Panel, bars: int) -> Array:
    typical = panel.once(_typical)
    direction = _sign(typical - shifted(typical, 1), typical)
    flow = typical * panel.volume
    rising, falling = rolling_sum(flow * (direction > 0), bars), rolling_sum(flow * (direction < 0), bars)
    return rising / (rising + falling)


def _ultimate(panel: Panel, fast: int, middle: int, slow: int) -> Array:
    before = panel.once(_before)
    floor = np.minimum(panel.low, before)
    bought, true_range = panel.close - floor, np.maximum(panel.high, before) - floor

    def share(bars: int) -> Array:
        whole = rolling_sum(true_range, bars)
        return _guarded(rolling_sum(bought, bars) / whole, where=whole > FLAT * panel.close)

    return (4 * share(fast) + 2 * share(middle) + share(slow)) / 7


def _aroon_up(panel: Panel, bars: int) -> Array:
    return 1 - bars_since_max(panel.high, bars + 1) / bars


def _aroon_down(panel: Panel, bars: int) -> Array:
    return 1 - bars_since_min(panel.low, bars + 1) / bars


def _aroon(panel: Panel, bars: int, side: int) -> Array:
    up, down = panel.once(_aroon_up, bars), panel.once(_aroon_down, bars)
    return (up, down, up - down)[side]


def _directional(panel: Panel, bars: int) -> tuple[Array, Array, Array]:
    return directional_movement(panel.high, panel.low, panel.close, bars, panel.spells)


def _direction(panel: Panel, bars: int, part: int) -> Array:
    return panel.once(_directional, bars)[part]


def _mean_ratio(panel: Panel, bars: int, denoiser: str) -> Array:
    return np.log(panel.close / panel.once(_mean, bars, denoiser))


def _ema_ratio(panel: Panel, bars: int, denoiser: str) -> Array:
    return np.log(panel.close / panel.alone(talib.EMA, panel.once(_level, denoiser), timeperiod=bars))


def _line(panel: Panel, bars: int, denoiser: str) -> tuple[Array, ...]:
    return rolling_line(panel.once(_log_level, denoiser), bars)


def _slope(panel: Panel, bars: int, denoiser: str) -> Array:
    return panel.once(_line, bars, denoiser)[0]


def _slope_fit(panel: Panel, bars: int, denoiser: str) -> Array:
    slope, _, squares = panel.once(_line, bars, denoiser)
    explained = slope * slope * (bars * (bars * bars - 1) / 12)
    return _guarded(explained / squares, where=squares > bars * FLAT**2)


def _bollinger_position(panel: Panel, bars: int, width: float, denoiser: str) -> Array:
    mean, deviation = panel.once(_mean, bars, denoiser), panel.once(_deviation, bars, denoiser)
    return _guarded((panel.close - mean) / (width * deviation), where=deviation > FLAT * mean)


def _bollinger_width(panel: Panel, bars: int, width: float, denoiser: str) -> Array:
    return 2 * width * panel.once(_deviation, bars, denoiser) / panel.once(_mean, bars, denoiser)


def _efficiency(panel: Panel, bars: int) -> Array:
    path = rolling_sum(np.abs(panel.once(_returns)), bars)
    return _guarded(np.abs(log_return(panel.close, bars)) / path, where=path > FLAT)


def _hurst(panel: Panel, bars: int, longest: int) -> Array:
    logs = panel.once(_log_level, "none")
    spans = [2**power for power in range(longest.bit_length())]
    squares = [rolling_mean((logs - shifted(logs, span)) ** 2, bars) for span in spans]
    x = np.log(spans) - np.mean(np.log(spans))
    slope = sum((weight * 0.5 * np.log(one) for weight, one in zip(x, squares, strict=True)), np.zeros(len(panel)))
    return _guarded(slope / float(x @ x), where=np.minimum.reduce(squares) > FLAT**2)


def _true_range(panel: Panel, bars: int) -> Array:
    return panel.alone(talib.ATR, panel.high, panel.low, panel.close, timeperiod=bars)


def _atr(panel: Panel, bars: int) -> Array:
    return panel.once(_true_range, bars) / panel.close


def _atr_ratio(panel: Panel, fast: int, slow: int) -> Array:
    slowly = panel.once(_true_range, slow)
    return _guarded(np.log(panel.once(_true_range, fast) / slowly), where=slowly > FLAT * panel.close)


def _volatility(panel: Panel, bars: int) -> Array:
    return rolling_deviation(panel.once(_returns), bars, ddof=1)


def _volatility_ratio(panel: Panel, fast: int, slow: int) -> Array:
    slowly = panel.once(_volatility, slow)
    return _guarded(np.log(panel.once(_volatility, fast) / slowly), where=slowly > FLAT)


def _log_range(panel: Panel) -> Array:
    return np.log(panel.high / panel.low)


def _log_body(panel: Panel) -> Array:
    return np.log(panel.close / panel.open)


def _parkinson(panel: Panel, bars: int) -> Array:
    return np.sqrt(rolling_mean(panel.once(_log_range) ** 2, bars) / (4 * math.log(2)))


def _garman_klass(panel: Panel, bars: int) -> Array:
    bar = 0.5 * panel.once(_log_range) ** 2 - (2 * math.log(2) - 1) * panel.once(_log_body) ** 2
    return np.sqrt(np.maximum(rolling_mean(bar, bars), 0.0))


def _yang_zhang(panel: Panel, bars: int) -> Array:
    above, below = np.log(panel.high / panel.open), np.log(panel.low / panel.open)
    body = panel.once(_log_body)
    inside = rolling_mean(above * (above - body) + below * (below - body), bars)
    night = rolling_deviation(panel.once(_gap), bars, ddof=1) ** 2
    day = rolling_deviation(body, bars, ddof=1) ** 2
    share = 0.34 / (1.34 + (bars + 1) / (bars - 1))
    return np.sqrt(night + share * day + (1 - share) * inside)


def _moments(panel: Panel, bars: int) -> tuple[Array, ...]:
    return rolling_moments(panel.once(_returns), bars, order=4)


def _skew(panel: Panel, bars: int) -> Array:
    _, squares, cubes, _ = panel.once(_moments, bars)
    return _guarded(math.sqrt(bars) * cubes / squares**1.5, where=squares > bars * FLAT**2)


def _kurtosis(panel: Panel, bars: int) -> Array:
    _, squares, _, fourths = panel.once(_moments, bars)
    return _guarded(bars * fourths / squares**2 - 3, where=squares > bars * FLAT**2)


def _correlation(of_left: Array, of_right: Array, of_both: Array, bars: int) -> Array:
    least = bars * FLAT**2
    return _guarded(of_both / np.sqrt(of_left * of_right), where=(of_left > least) & (of_right > least))


def _autocorrelation(panel: Panel, lag: int, bars: int) -> Array:
    returns, squares = panel.once(_returns), panel.once(_moments, bars)[1]
    before = shifted(returns, lag)
    return _correlation(squares, shifted(squares, lag), rolling_product(returns, before, bars), bars)


def _z_score(panel: Panel, bars: int) -> Array:
    logs = panel.once(_log_level, "none")
    mean, squares = rolling_moments(logs, bars)
    return _guarded((logs - mean) / np.sqrt(squares / bars), where=squares > bars * FLAT**2)


def _return_z_score(panel: Panel, bars: int) -> Array:
    deviation = panel.once(_volatility, bars)
    return _guarded(panel.once(_returns) / deviation, where=deviation > FLAT)


def _drawdown(panel: Panel, bars: int) -> Array:
    return panel.close / rolling_max(panel.close, bars) - 1


def _with_market(panel: Panel, bars: int, market: str) -> tuple[Array, Array]:
    """Squares of the benchmark's returns, and products of both."""
    of_market = panel.columns[market]
    return rolling_moments(of_market, bars)[1], rolling_product(panel.once(_returns), of_market, bars)


def _beta(panel: Panel, bars: int, market: str) -> Array:
    of_market, of_both = panel.once(_with_market, bars, market)
    return _guarded(of_both / of_market, where=of_market > bars * FLAT**2)


def _market_correlation(panel: Panel, bars: int, market: str) -> Array:
    return _correlation(panel.once(_moments, bars)[1], *panel.once(_with_market, bars, market), bars)


def _mean_volume(panel: Panel, bars: int) -> Array:
    return rolling_mean(panel.volume, bars)


def _volume_ratio(panel: Panel, bars: int) -> Array:
    return np.log(panel.volume / panel.once(_mean_volume, bars))


def _volume_trend(panel: Panel, fast: int, slow: int) -> Array:
    return np.log(panel.once(_mean_volume, fast) / panel.once(_mean_volume, slow))


def _volume_shock(panel: Panel, bars: int) -> Array:
    mean, squares = rolling_moments(panel.volume, bars)
    deviation = np.sqrt(squares / bars)
    return _guarded((panel.volume - mean) / deviation, where=deviation > FLAT * mean)


def _obv_change(panel: Panel, bars: int) -> Array:
    direction = _sign(panel.close - panel.once(_before), panel.close)
    return rolling_sum(direction * panel.volume, bars) / rolling_sum(panel.volume, bars)


def _in_bar(panel: Panel, price: Array) -> Array:
    width = panel.high - panel.low
    return _guarded(price / width, where=width > STILL * panel.close)


def _close_in_bar(panel: Panel) -> Array:
    return _in_bar(panel, panel.close - panel.low)


def _body(panel: Panel) -> Array:
    return _in_bar(panel, panel.close - panel.open)


def _upper_shadow(panel: Panel) -> Array:
    return _in_bar(panel, panel.high - np.maximum(panel.open, panel.close))


def _range_ratio(panel: Panel, bars: int) -> Array:
    mean = rolling_mean(panel.once(_log_range), bars)
    return _guarded(panel.once(_log_range) / mean, where=mean > FLAT)


def _noise(panel: Panel, bars: int, denoiser: str) -> Array:
    moved = log_return(panel.once(_level, denoiser), 1)
    kept = rolling_deviation(moved, bars, ddof=1)
    dropped = rolling_deviation(panel.once(_returns) - moved, bars, ddof=1)
    return _guarded(dropped / (dropped + kept), where=dropped + kept > FLAT)


class _Higher:
    """The next higher timeframe's bars, and for each bar which of them is the newest completed one."""

    def __init__(self, panel: Panel) -> None:
        period = panel.columns["period"]
        begins = np.concatenate([[True], period[1:] != period[:-1]])
        begins[list(panel.starts)] = True
        first = np.flatnonzero(begins)
        last = np.concatenate([first[1:], [len(panel)]]) - 1
        self.newest = np.cumsum(begins) - 2 + (panel.columns["period_ends"] > 0)
        self.close = panel.close[last]
        self.high = np.maximum.reduceat(panel.high, first)
        self.low = np.minimum.reduceat(panel.low, first)

    def seen(self, values: Array) -> Array:
        """A value a period as each bar sees it: that of the newest completed period."""
        return np.where(self.newest >= 0, values[np.maximum(self.newest, 0)], np.nan)


def _higher_return(panel: Panel, periods: int) -> Array:
    higher = panel.once(_Higher)
    return higher.seen(log_return(higher.close, periods))


def _higher_mean_ratio(panel: Panel, periods: int) -> Array:
    higher = panel.once(_Higher)
    return higher.seen(np.log(higher.close / rolling_mean(higher.close, periods)))


def _higher_volatility(panel: Panel, periods: int) -> Array:
    higher = panel.once(_Higher)
    return higher.seen(rolling_deviation(log_return(higher.close, 1), periods, ddof=1))


def _higher_rsi(panel: Panel, periods: int) -> Array:
    higher = panel.once(_Higher)
    change = higher.close - shifted(higher.close, 1)
    path = rolling_sum(np.abs(change), periods)
    share = rolling_sum(np.maximum(change, 0.0), periods) / path
    return higher.seen(_guarded(share, where=path > FLAT * higher.close))


def _higher_close_in_range(panel: Panel, periods: int) -> Array:
    higher = panel.once(_Higher)
    lowest, highest = rolling_min(higher.low, periods), rolling_max(higher.high, periods)
    share = (higher.close - lowest) / (highest - lowest)
    return higher.seen(_guarded(share, where=highest - lowest > FLAT * highest))


def _column(panel: Panel, column: str) -> Array:
    return panel.columns[column]


def market_column(benchmark: str | None) -> str:
    """The column that holds the benchmark's log return as known at each bar; null throughout without a benchmark."""
    return f"return_of_{benchmark or 'nothing'}"


def default_set(interval: str = "1d", parameters: FeatureParameters = AS_SHIPPED) -> FeatureSet:
    """The default feature set, named ``core``, for bars of ``interval``; see the module's rules.

    With a denoiser the features of the groups momentum and trend that look at the close alone look at its filtered
    level; ``noise_score`` says how much of the movement the filter takes for noise.
    """
    found = [
        *(_denoised(feature, parameters.denoiser) for feature in _of_the_level()),
        *_of_ranges(),
        *_volatilities(),
        *_statistics(market_column(parameters.benchmark)),
        *_volumes(),
        *_higher(interval),
        *_of_the_calendar(interval),
        *_noises(parameters.denoiser),
    ]
    order = {group: place for place, group in enumerate(GROUPS)}
    return FeatureSet("core", tuple(sorted(found, key=lambda feature: order[feature.group])))


#: Groups of the default set, in the order of its columns.
GROUPS: Mapping[str, str] = {
    "momentum": "how far and how steadily price has moved",
    "oscillator": "where price stands within its recent extremes",
    "trend": "direction, strength and distance from averages",
    "volatility": "how much price moves, by several estimators",
    "statistics": "returns, their distribution and their company",
    "volume": "how much is traded, and on which side",
    "range": "the shape of the bar and its place in recent ranges",
    "higher timeframe": "the newest completed weeks of days, days of hours, hours of minutes",
    "calendar": "what is known of a bar before it begins",
    "noise": "how much of the movement is noise",
}


#: Works that several features come from.
WILDER = "Wilder (1978), New Concepts in Technical Trading Systems"
APPEL = "Appel (2005), Technical Analysis: Power Tools for Active Investors"
LANE = "Lane (1984), Lane's Stochastics"
CHANDE = "Chande (1995), A Time Price Oscillator"
BOLLINGER = "Bollinger (2001), Bollinger on Bollinger Bands"
KAUFMAN = "Kaufman (1995), Smarter Trading; here of logarithms"
AVERAGES = "Brock, Lakonishok and LeBaron (1992), Simple Technical Trading Rules; the logarithm is ours"
RETURNS = "Campbell, Lo and MacKinlay (1997), The Econometrics of Financial Markets, 1.4"
SERIAL = "Campbell, Lo and MacKinlay (1997), The Econometrics of Financial Markets, 2.4"
VOLATILITY = "Hull (2018), Options, Futures, and Other Derivatives: volatility from historical data"
YANG_ZHANG = "Yang and Zhang (2000), Drift-Independent Volatility Estimation"
DRAWDOWN = "Magdon-Ismail and Atiya (2004), Maximum Drawdown"
PEARSON = "Pearson (1895), Note on Regression and Inheritance"
MOMENTS = "Joanes and Gill (1998), Comparing Measures of Sample Skewness and Kurtosis"
WEEKEND = "French (1980), Stock Returns and the Weekend Effect"


def _window(
    name: str,
    group: str,
    function: Callable[..., Array],
    warm_up: int,
    doc: str,
    source: str,
    window: int,
    needs: tuple[str, ...] = (),
    **parameters: int | float | str,
) -> Feature:
    """A feature whose window is all it sees."""
    return Feature(name, group, function, parameters, warm_up, warm_up, doc, source, window, needs)


def _recursion(
    name: str,
    group: str,
    function: Callable[..., Array],
    warm_up: int,
    doc: str,
    source: str,
    window: int,
    **parameters: int | float | str,
) -> Feature:
    """A feature with TA-Lib's exponential memory."""
    return Feature(name, group, function, parameters, warm_up, FORGOTTEN, doc, source, window)


def _denoised(feature: Feature, denoiser: str) -> Feature:
    """The feature over the level that the denoiser leaves, which remembers so much longer."""
    memory = feature.memory + (0 if denoiser == "none" else SMOOTHER_MEMORY)
    return replace(feature, parameters={**feature.parameters, "denoiser": denoiser}, memory=memory)


def _of_the_level() -> list[Feature]:
    macd = {"fast": 12, "slow": 26, "signal": 9}
    ours = f"ours: TA-Lib's MOM over the range of {WILDER}"
    trix = "Hutson (1983), Good TRIX; TA-Lib's TRIX"
    line = "Least squares: TA-Lib's LINEARREG_SLOPE, of logarithms"
    fit = "Wright (1921), Correlation and Causation: coefficient of determination"
    position, width = "(C - mean 20) / 2 deviations, null on a flat stretch", "4 deviations / mean 20"
    return [
        _recursion("rsi_14", "momentum", _rsi, 14, "Relative strength index / 100", WILDER, 14, bars=14),
        *(
            _recursion(f"macd_{label}", "momentum", _macd, 33, f"{doc} / C", APPEL, 26, **macd, part=part)
            for part, (label, doc) in enumerate(
                (
                    ("line", "EMA 12 of C less EMA 26"),
                    ("signal", "EMA 9 of the MACD line"),
                    ("histogram", "MACD line less its signal"),
                )
            )
        ),
        _window("roc_12", "momentum", _rate_of_change, 12, "C / C 12 bars ago - 1", "TA-Lib's ROC / 100", 12, bars=12),
        _recursion(
            "momentum_10", "momentum", _momentum, 14, "(C - C 10 bars ago) / ATR 14", ours, 14, bars=10, of_range=14
        ),
        _recursion("trix_15", "momentum", _trix, 43, "Change of the triple EMA 15 of C, %", trix, 15, bars=15),
        *(
            _window(f"mean_ratio_{n}", "trend", _mean_ratio, n - 1, f"ln(C / mean C of {n} bars)", AVERAGES, n, bars=n)
            for n in (5, 10, 20, 50, 200)
        ),
        *(
            _recursion(f"ema_ratio_{n}", "trend", _ema_ratio, n - 1, f"ln(C / EMA {n} of C)", AVERAGES, n, bars=n)
            for n in (12, 26)
        ),
        _window("slope_20", "trend", _slope, 19, "Slope a bar of the line through ln C of 20 bars", line, 20, bars=20),
        _window("slope_fit_20", "trend", _slope_fit, 19, "R² of that line, null on a flat stretch", fit, 20, bars=20),
        _window("bollinger_position", "trend", _bollinger_position, 19, position, BOLLINGER, 20, bars=20, width=2.0),
        _window("bollinger_width", "volatility", _bollinger_width, 19, width, BOLLINGER, 20, bars=20, width=2.0),
    ]


def _of_ranges() -> list[Feature]:
    aroon = (
        ("up", "1 - bars since the highest H of 26 / 25"),
        ("down", "1 - bars since the lowest L of 26 / 25"),
        ("oscillator", "Aroon up less Aroon down"),
    )
    directions = (
        ("plus_di_14", 14, "Positive directional indicator / 100"),
        ("minus_di_14", 14, "Negative directional indicator / 100"),
        ("adx_14", 27, "Average directional index / 100"),
    )
    percent_r = "Williams (1973), How I Made One Million Dollars Last Year Trading Commodities"
    nison = "Nison (1991), Japanese Candlestick Charting Techniques"
    return [
        _window("stochastic_k", "oscillator", _stochastic, 15, "Mean 3 of %K 14", LANE, 16, bars=14, smoothings=1),
        _window(
            "stochastic_d", "oscillator", _stochastic, 17, "Mean 3 of stochastic_k", LANE, 18, bars=14, smoothings=2
        ),
        _window("williams_r_14", "oscillator", _williams, 13, "%K 14 - 1, in [-1, 0]", percent_r, 14, bars=14),
        _window(
            "cci_20",
            "oscillator",
            _cci,
            19,
            "(TP - mean TP) / (1.5 mean |TP - mean TP|), TP = (H + L + C) / 3",
            "Lambert (1980), Commodity Channel Index; / 100",
            20,
            bars=20,
        ),
        _window(
            "mfi_14",
            "oscillator",
            _mfi,
            14,
            "Share of TP V on bars whose TP rose, null without volume",
            "Quong and Soudack (1989), Volume-Weighted RSI: Money Flow; / 100",
            14,
            bars=14,
        ),
        _window(
            "ultimate_oscillator",
            "oscillator",
            _ultimate,
            28,
            "Buying pressure / true range of 7, 14, 28 bars, weighted 4:2:1",
            "Williams (1985), The Ultimate Oscillator; / 100",
            28,
            fast=7,
            middle=14,
            slow=28,
        ),
        *(
            _window(f"aroon_{label}", "oscillator", _aroon, 25, doc, f"{CHANDE}; / 100", 26, bars=25, side=side)
            for side, (label, doc) in enumerate(aroon)
        ),
        *(
            _recursion(name, "trend", _direction, warm_up, doc, WILDER, 14, bars=14, part=part)
            for part, (name, warm_up, doc) in enumerate(directions)
        ),
        _window(
            "close_in_bar",
            "range",
            _close_in_bar,
            0,
            "(C - L) / (H - L), null where H = L",
            f"%K 1 of {LANE}",
            1,
        ),
        _window("body", "range", _body, 0, "(C - O) / (H - L), null where H = L", f"{nison}; qlib's KMID2", 1),
        _window(
            "upper_shadow",
            "range",
            _upper_shadow,
            0,
            "(H - max(O, C)) / (H - L), null where H = L",
            f"{nison}; qlib's KUP2",
            1,
        ),
        _window("range_ratio_20", "range", _range_ratio, 19, "ln(H / L) / its mean of 20 bars", "ours", 20, bars=20),
        _window("close_in_range_20", "range", _fast_stochastic, 19, "%K 20", LANE, 20, bars=20),
    ]


def _volatilities() -> list[Feature]:
    atr_ratio = f"ours: two spans of the range of {WILDER}"
    ratio = "ours: two spans of volatility_20's estimator"
    return [
        _recursion(
            "natr_14", "volatility", _atr, 14, "Average true range / C", f"{WILDER}; TA-Lib's NATR", 14, bars=14
        ),
        _recursion("atr_ratio", "volatility", _atr_ratio, 14, "ln(ATR 5 / ATR 14)", atr_ratio, 14, fast=5, slow=14),
        *(
            _window(
                f"volatility_{bars}",
                "volatility",
                _volatility,
                bars,
                f"Deviation (n - 1) of {bars} one-bar log returns, a bar",
                VOLATILITY,
                bars,
                bars=bars,
            )
            for bars in (20, 60)
        ),
        _window(
            "volatility_ratio",
            "volatility",
            _volatility_ratio,
            20,
            "ln(volatility of 5 bars / of 20)",
            ratio,
            20,
            fast=5,
            slow=20,
        ),
        _window(
            "parkinson_20",
            "volatility",
            _parkinson,
            19,
            "sqrt(mean ln²(H / L) / ln 16)",
            "Parkinson (1980), The Extreme Value Method for Estimating the Variance of the Rate of Return",
            20,
            bars=20,
        ),
        _window(
            "garman_klass_20",
            "volatility",
            _garman_klass,
            19,
            "sqrt(mean(ln²(H / L) / 2 - (2 ln 2 - 1) ln²(C / O)))",
            "Garman and Klass (1980), On the Estimation of Security Price Volatilities from Historical Data",
            20,
            bars=20,
        ),
        _window(
            "yang_zhang_20",
            "volatility",
            _yang_zhang,
            20,
            "sqrt(overnight variance + k open-to-close variance + (1 - k) Rogers-Satchell's)",
            YANG_ZHANG,
            20,
            bars=20,
        ),
    ]


def _statistics(market: str) -> list[Feature]:
    peak = f"{DRAWDOWN}; the peak is the window's"
    correlation = "Correlation with the benchmark's log return, 60 bars; null without"
    return [
        *(
            _window(f"return_{n}", "statistics", _return, n, f"ln(C / C {n} bars ago)", RETURNS, n, bars=n)
            for n in (1, 5, 10, 20)
        ),
        _window("gap", "statistics", _gap, 1, "ln(O / C of the bar before)", f"{YANG_ZHANG}: normalised open", 1),
        _window(
            "skew_60",
            "statistics",
            _skew,
            60,
            "m3 / m2^1.5 of 60 one-bar log returns",
            f"Fisher's g1: {MOMENTS}",
            60,
            bars=60,
        ),
        _window(
            "kurtosis_60",
            "statistics",
            _kurtosis,
            60,
            "m4 / m2² - 3 of 60 one-bar log returns",
            f"Fisher's g2: {MOMENTS}",
            60,
            bars=60,
        ),
        *(
            _window(
                f"autocorrelation_{lag}",
                "statistics",
                _autocorrelation,
                60 + lag,
                f"Correlation of 60 one-bar log returns with those {lag} before",
                f"{SERIAL}; each window about its own mean",
                60 + lag,
                lag=lag,
                bars=60,
            )
            for lag in (1, 5)
        ),
        _window(
            "z_score_60",
            "statistics",
            _z_score,
            59,
            "(ln C - mean 60) / deviation 60, null where flat",
            "ours: the standard score of the logarithm in its window",
            60,
            bars=60,
        ),
        _window(
            "return_z_score_20",
            "statistics",
            _return_z_score,
            20,
            "Log return / volatility_20",
            "ours: the return in units of its own volatility",
            20,
            bars=20,
        ),
        *(
            _window(f"drawdown_{n}", "statistics", _drawdown, n - 1, f"C / highest C of {n} - 1", peak, n, bars=n)
            for n in (60, 252)
        ),
        _window(
            "beta_60",
            "statistics",
            _beta,
            60,
            "Slope on the benchmark's log return, 60 bars; null without",
            "Sharpe (1964), Capital Asset Prices",
            60,
            needs=(market,),
            bars=60,
            market=market,
        ),
        _window(
            "correlation_60",
            "statistics",
            _market_correlation,
            60,
            correlation,
            PEARSON,
            60,
            needs=(market,),
            bars=60,
            market=market,
        ),
        *(
            _window(
                f"efficiency_ratio_{n}",
                "trend",
                _efficiency,
                n,
                f"|ln(C / C {n} bars ago)| / sum of |one-bar log returns|",
                KAUFMAN,
                n,
                bars=n,
            )
            for n in (10, 20)
        ),
        _window(
            "hurst_100",
            "trend",
            _hurst,
            99,
            "Slope of ln rms of k-bar log returns over ln k, k = 1 to 16, 84 of each",
            "Di Matteo (2007), Multi-Scaling in Finance, at q = 2; Hurst (1951)",
            100,
            bars=84,
            longest=16,
        ),
    ]


def _volumes() -> list[Feature]:
    return [
        _window(
            "volume_ratio_20", "volume", _volume_ratio, 19, "ln(V / mean V of 20), null at V = 0", "ours", 20, bars=20
        ),
        _window(
            "volume_trend", "volume", _volume_trend, 19, "ln(mean V of 5 bars / of 20)", "ours", 20, fast=5, slow=20
        ),
        _window(
            "volume_shock_20",
            "volume",
            _volume_shock,
            19,
            "(V - mean 20) / deviation 20, null where flat",
            "ours: the standard score of volume in its window",
            20,
            bars=20,
        ),
        _window(
            "obv_change_20",
            "volume",
            _obv_change,
            20,
            "Sum of V signed by the close's direction / sum of V, 20 bars",
            "Granville (1963), New Key to Stock Market Profits: OBV, as a change",
            20,
            bars=20,
        ),
    ]


def _higher(interval: str) -> list[Feature]:
    a_period = BARS_A_PERIOD[interval]
    range_of = f"{LANE}: %K"
    rsi = f"{WILDER}: RSI, of Cutler's plain sums"
    mean_ratio = "ln(C / mean C of 10) of completed periods"
    deviation = "Deviation (n - 1) of 10 log returns of completed periods"

    # The first period held may be cut short, and the newest is not complete before its last bar.
    def feature(name: str, function: Callable[..., Array], doc: str, source: str, periods: int, before: int) -> Feature:
        warm_up, needs = (periods + before + 1) * a_period, ("period", "period_ends")
        window = periods * a_period
        return _window(name, "higher timeframe", function, warm_up, doc, source, window, needs, periods=periods)

    return [
        feature("higher_return_1", _higher_return, "ln(C / C before) of the newest completed period", RETURNS, 1, 1),
        feature("higher_return_4", _higher_return, "ln(C / C 4 before) of completed periods", RETURNS, 4, 1),
        feature("higher_mean_ratio_10", _higher_mean_ratio, mean_ratio, AVERAGES, 10, 0),
        feature("higher_rsi_10", _higher_rsi, "Rises / path of 10 completed periods", rsi, 10, 1),
        feature("higher_volatility_10", _higher_volatility, deviation, VOLATILITY, 10, 1),
        feature("higher_range_10", _higher_close_in_range, "%K of 10 completed periods", range_of, 10, 1),
    ]


def _of_the_calendar(interval: str) -> list[Feature]:
    ahead = "Days to the next session" if interval == "1d" else "Share of the session that is left"
    docs = {
        "day_of_week": ("Day of the session's week: 0 Monday to 6 Sunday", WEEKEND),
        "month_turn": ("Weekdays from the month's turn: 1 the first, -1 the last", "Ariel (1987), A Monthly Effect"),
        "gap_ahead": (f"{ahead}, as planned", "ours: the exchange's calendar"),
        "gap_behind": ("Days from the session before, as planned: 1 overnight, 3 over a weekend", WEEKEND),
    }
    return [
        _window(name, "calendar", _column, 0, doc, source, 1, (name,), column=name)
        for name, (doc, source) in docs.items()
    ]


def _noises(denoiser: str) -> list[Feature]:
    doc = "Deviation of what the filter drops / that and of what it keeps, of 20 one-bar log returns"
    which = "kalman" if denoiser == "none" else denoiser
    source = "ours: of the alpha-beta filter of Kalata (1984), The Tracking Index" if which == "kalman" else "ours"
    memory = 21 + SMOOTHER_MEMORY
    parameters: dict[str, int | float | str] = {"bars": 20, "denoiser": which}
    return [Feature("noise_score_20", "noise", _noise, parameters, 21, memory, doc, source, 20)]
