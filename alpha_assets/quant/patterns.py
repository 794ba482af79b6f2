"""Chart patterns: the 61 candlesticks of TA-Lib, breakouts, double tops and bottoms, touches of support and resistance.

Each firing is an event of one bar, decided by that bar and those before it in its listing: a swing counts only once the
bars after it have confirmed it, and the event then carries the stamp of the confirming bar. Prices are adjusted;
nothing here looks at volume, which many sources lack.

**Ties.** Real prices are whole cents, so comparisons meet exact ties all the time (a body as long as a shadow, one as
long as the mean of ten), and where a tie is computed from rounded numbers the rounding decides it. With TA-Lib on
plain prices, multiplying them by 1/7, 0.3 or 0.001 moves 2,100 to 2,700 of the 1.23 million candle events of the S&P
bars of 2013 to 2018, and 17,000 of 2 million of five-minute bars of crypto: a split or dividend would rewrite the
past. Its candle averages are running sums besides, which carry what a fall through several powers of two leaves
behind. So candles are judged in whole numbers: the prices of a bar and of the bars before it are divided by one close
among its last ``ANCHOR_BARS`` bars and rounded to multiples of 2**-24 of it (0.06 millionths). Sums of whole numbers
are exact wherever they start, the quotients are free of scale, equal prices stay equal, and a tie between differences
of unequal prices is decided by the grid: 0.4 % of events differ from TA-Lib on plain prices, and none moves by
rescaling. Which close is taken is decided by the timestamps alone: that with the least hash among the last bars (the
«minimizer» of Roberts et al., Bioinformatics 20 (2004), 3363-3369). It depends on nothing before those bars and stays
the same for some thirty in a row, which are judged together. The other patterns compare single prices and windows,
where a margin of ``TIE`` decides: what differs by less is equal.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl

from alpha_assets.quant.labels import LISTING, TIE, in_direction, open_to_open
from alpha_assets.quant.panel import refuse_bad_prices
from alpha_assets.quant.parameters import PatternParameters
from alpha_assets.quant.rolling import bars_since_min, rolling_max, rolling_mean, shifted
from alpha_assets.quant.schema import OHLC, TIME

Array = np.ndarray

#: Bars held after an event of which outcomes are kept: a day, a week, two and four weeks of daily bars. They are
#: columns of a table, hence no setting.
HORIZONS = (1, 5, 10, 20)

#: Raised by hand whenever the same bars give other events or outcomes.
VERSION = 2

#: What ``events`` answers.
EVENTS: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "timestamp": TIME,
    "pattern": pl.String(),
    "direction": pl.Int8(),
    "strength": pl.Float32(),
}

#: The lake's table of outcomes, as ``outcomes`` answers it for ``HORIZONS``.
PATTERN_OUTCOMES: Mapping[str, pl.DataType] = {
    **EVENTS,
    **{f"return_{bars}": pl.Float64() for bars in HORIZONS},
    **{f"success_{bars}": pl.Boolean() for bars in HORIZONS},
    **{f"known_{bars}": TIME for bars in HORIZONS},
}

#: Bars among which the close is that the candles of a bar are measured by. At 64, runs of one close are 32 bars long on
#: average, and the bars read again before each add less than half to the work.
ANCHOR_BARS = 64

#: Steps of the grid of prices to one close: fine enough for the body of a quiet minute, and a quotient that differs in
#: its last bits is on another step once in 10**8.
GRID = 2.0**24

#: TA-Lib's largest answer, a pattern confirmed by the bars after it.
_CONFIRMED = 200

#: What each candlestick is, by the name of TA-Lib's function, which defines it.
CANDLES: Mapping[str, str] = {
    "CDL2CROWS": "two crows: a black candle gaps up from a long white one, the next closes inside it",
    "CDL3BLACKCROWS": "three falling black candles, each opening in the body before",
    "CDL3INSIDE": "three inside up or down: a harami that the third candle confirms",
    "CDL3LINESTRIKE": "three candles one way, the fourth takes all of it back",
    "CDL3OUTSIDE": "three outside up or down: an engulfing that the third candle confirms",
    "CDL3STARSINSOUTH": "three stars in the south: three shrinking black candles with rising lows",
    "CDL3WHITESOLDIERS": "three advancing white soldiers",
    "CDLABANDONEDBABY": "a doji that gaps from the candle before and from the one after",
    "CDLADVANCEBLOCK": "three white candles of dwindling strength",
    "CDLBELTHOLD": "a long candle that opens at its extreme",
    "CDLBREAKAWAY": "a gap and three more candles one way, the fifth closes within the gap",
    "CDLCLOSINGMARUBOZU": "a long candle that closes at its extreme",
    "CDLCONCEALBABYSWALL": "concealing baby swallow: four black candles, the last engulfs the third",
    "CDLCOUNTERATTACK": "two long candles of opposite colour with the same close",
    "CDLDARKCLOUDCOVER": "a black candle opens above a long white one and closes deep within it",
    "CDLDOJI": "open and close almost equal",
    "CDLDOJISTAR": "a doji that gaps from a long candle",
    "CDLDRAGONFLYDOJI": "a doji with a lower shadow only",
    "CDLENGULFING": "a body that engulfs the opposite body before",
    "CDLEVENINGDOJISTAR": "a doji above a long white candle, then a black one",
    "CDLEVENINGSTAR": "a short body above a long white candle, then a black one",
    "CDLGAPSIDESIDEWHITE": "two like white candles side by side after a gap",
    "CDLGRAVESTONEDOJI": "a doji with an upper shadow only",
    "CDLHAMMER": "a short body with a long lower shadow near the low before",
    "CDLHANGINGMAN": "a short body with a long lower shadow near the high before",
    "CDLHARAMI": "a short body inside the long body before",
    "CDLHARAMICROSS": "a doji inside the long body before",
    "CDLHIGHWAVE": "a short body between very long shadows",
    "CDLHIKKAKE": "an inside bar that breaks the wrong way; confirmed when it is taken back within three bars",
    "CDLHIKKAKEMOD": "a hikkake after a bar whose close says where it comes from",
    "CDLHOMINGPIGEON": "a short black body inside the long black body before",
    "CDLIDENTICAL3CROWS": "three crows, each opening at the close before",
    "CDLINNECK": "a white candle closes just into the long black body before",
    "CDLINVERTEDHAMMER": "a short body with a long upper shadow that gaps down",
    "CDLKICKING": "two opposite marubozus with a gap between",
    "CDLKICKINGBYLENGTH": "a kicking whose direction is that of the longer marubozu",
    "CDLLADDERBOTTOM": "three falling black candles, one with an upper shadow, then a white one above",
    "CDLLONGLEGGEDDOJI": "a doji with a long shadow",
    "CDLLONGLINE": "a long body with short shadows",
    "CDLMARUBOZU": "a long body without shadows",
    "CDLMATCHINGLOW": "two black candles with the same close",
    "CDLMATHOLD": "a long white candle, a gap, three small ones, then higher",
    "CDLMORNINGDOJISTAR": "a doji below a long black candle, then a white one",
    "CDLMORNINGSTAR": "a short body below a long black candle, then a white one",
    "CDLONNECK": "a white candle closes at the low of the long black one before",
    "CDLPIERCING": "a white candle opens below a long black one and closes above its middle",
    "CDLRICKSHAWMAN": "a long-legged doji with the body in the middle",
    "CDLRISEFALL3METHODS": "a long candle, three small ones against it within its range, then on",
    "CDLSEPARATINGLINES": "two candles of opposite colour with the same open",
    "CDLSHOOTINGSTAR": "a short body with a long upper shadow that gaps up",
    "CDLSHORTLINE": "a short body with short shadows",
    "CDLSPINNINGTOP": "a short body with longer shadows",
    "CDLSTALLEDPATTERN": "two long white candles, then a small one that hardly rises",
    "CDLSTICKSANDWICH": "a white candle between two black ones with the same close",
    "CDLTAKURI": "a doji with a very long lower shadow",
    "CDLTASUKIGAP": "a gap that the opposite candle after fills in part",
    "CDLTHRUSTING": "a white candle closes below the middle of the long black body before",
    "CDLTRISTAR": "three dojis, the middle one with a gap",
    "CDLUNIQUE3RIVER": "a long black candle, a harami with a new low, a small white one below",
    "CDLUPSIDEGAP2CROWS": "two black candles above a long white one, the second engulfs the first",
    "CDLXSIDEGAP3METHODS": "a gap in the trend that the third candle closes",
}

#: Candles whose sign is the colour of a bar or always +1; TA-Lib says of each that it does not mean bullish or bearish.
UNDIRECTED = frozenset(
    (
        "CDLDOJI",
        "CDLDRAGONFLYDOJI",
        "CDLGRAVESTONEDOJI",
        "CDLHIGHWAVE",
        "CDLLONGLEGGEDDOJI",
        "CDLLONGLINE",
        "CDLRICKSHAWMAN",
        "CDLSHORTLINE",
        "CDLSPINNINGTOP",
        "CDLTAKURI",
    )
)

#: The other patterns with the direction of each.
STRUCTURES: Mapping[str, int] = {
    "breakout_up": 1,
    "breakout_down": -1,
    "double_top": -1,
    "double_bottom": 1,
    "support_touch": 1,
    "resistance_touch": -1,
}


@cache
def _lookbacks() -> dict[str, int]:
    """Bars that each candlestick looks back to. TA-Lib imports pandas: who reads the table's schema shall not wait."""
    from talib import abstract

    return {name: int(getattr(abstract, name).lookback) for name in CANDLES}


@dataclass(frozen=True)
class Pattern:
    """One pattern: its name, what it is, and how many bars it takes.

    ``warm_up`` counts the bars at the start of a listing that can have no event. ``memory`` counts the bars before the
    first wanted one that must be at hand for the events to be those of the whole series.
    """

    name: str
    doc: str
    warm_up: int
    memory: int


def catalogue(parameters: PatternParameters) -> tuple[Pattern, ...]:
    """Every pattern, sorted by name."""
    p = parameters
    broken = max(p.breakout_bars, p.range_bars + 1)
    doubled = max(p.range_bars, 2 * p.swing_bars + 1) + p.swing_bars
    double_memory = max(p.range_bars, p.double_bars + p.swing_bars) + p.swing_bars + p.double_patience - 1
    touched = max(p.range_bars, 2 * p.swing_bars)
    touch_memory = max(p.range_bars, p.level_bars + p.swing_bars)
    off, short = f"{p.touch_distance} mean ranges", f"{p.swing_bars} bars on either side"
    patterns = [Pattern(name, CANDLES[name], bars, max(bars, ANCHOR_BARS - 1)) for name, bars in _lookbacks().items()]
    for name, side, extreme in (("breakout_up", "above", "highest high"), ("breakout_down", "below", "lowest low")):
        doc = (
            f"a close {side} the {extreme} of the {p.breakout_bars} bars before, by a bar whose true range is at least "
            f"{p.breakout_range} mean ranges"
        )
        patterns.append(Pattern(name, doc, broken, broken))
    for name, swing, side in (("double_top", "high", "below the low"), ("double_bottom", "low", "above the high")):
        doc = (
            f"two swing {swing}s ({short}) within {p.double_bars} bars and {p.double_distance} mean ranges of each "
            f"other, then, within {p.double_patience} bars, the first close {side} between them"
        )
        patterns.append(Pattern(name, doc, doubled, double_memory))
    for name, swing, side in (("support_touch", "low", "above"), ("resistance_touch", "high", "below")):
        doc = (
            f"a swing {swing} ({short}) of the last {p.level_bars} bars that no bar closed beyond is reached within "
            f"{off} from further off, and the bar closes {side} it"
        )
        patterns.append(Pattern(name, doc, touched, touch_memory))
    return tuple(sorted(patterns, key=lambda pattern: pattern.name))


def identity(parameters: PatternParameters) -> str:
    """Twelve hex digits over what makes two tables of outcomes the same: parameters, horizons and ``VERSION``."""
    what = json.dumps([dict(sorted(vars(parameters).items())), HORIZONS, VERSION])
    return hashlib.sha256(what.encode()).hexdigest()[:12]


def memory(parameters: PatternParameters) -> int:
    """Bars to read before the first wanted one, so that its events are those of the whole series."""
    return max(pattern.memory for pattern in catalogue(parameters))


def events(bars: pl.DataFrame, parameters: PatternParameters) -> pl.DataFrame:
    """Every firing of every pattern, sorted by symbol, timestamp and pattern; the columns are ``EVENTS``.

    ``bars`` holds symbol, timestamp, listing and adjusted open, high, low, close, one row a key. ``direction`` is +1
    where the pattern says up, -1 where it says down, 0 where it says nothing about it (``UNDIRECTED``). ``strength``
    is in (0, 1]: of a candle TA-Lib's value / 200 (1: the bars after have confirmed it, and the event is theirs; 0.5:
    the pattern; 0.4: two ends of its bodies only touch); of the others how far the bar closed from the level that it
    broke or that held it, in mean ranges, at most 1. A mean range is the mean true range of the last ``range_bars``
    bars: up to the event for a touch, up to the bar before for a breakout, up to the second swing for a double top or
    bottom.

    Raises ValueError, naming symbol and time, for a price that is null, not finite or not positive.
    """
    ordered = bars.sort("symbol", "timestamp")
    if ordered.is_empty():
        return pl.DataFrame(schema=dict(EVENTS))
    refuse_bad_prices(ordered, "patterns")
    series = _Series.of(ordered)
    found = [*_candle_hits(series), *_structure_hits(series, parameters)]
    names = np.array([*CANDLES, *STRUCTURES])
    codes = np.concatenate([np.full(len(rows), code) for code, (rows, _, _) in enumerate(found)])
    rows, direction, strength = (np.concatenate(part) for part in zip(*found, strict=True))
    by_name = np.empty(len(names), dtype=np.int64)
    by_name[np.argsort(names)] = np.arange(len(names))
    order = np.argsort(rows * len(names) + by_name[codes])
    return (
        ordered.select("symbol", pl.col("timestamp").cast(TIME))[rows[order]]
        .with_columns(
            pattern=pl.Series(names.tolist())[codes[order]],
            direction=pl.Series(direction[order], dtype=pl.Int8),
            strength=pl.Series(strength[order], dtype=pl.Float32),
        )
        .select(*EVENTS)
    )


def outcomes(found: pl.DataFrame, bars: pl.DataFrame, horizons: Sequence[int] = HORIZONS) -> pl.DataFrame:
    """The events with what followed each, by horizon h in bars.

    ``found`` are ``events``; ``bars`` are those of ``labels.open_to_open``, which defines outcome and label alike.
    ``return_h`` is the total return from open(t+1) to open(t+1+h), null while it is unknown and where a flagged bar or
    the end of the listing voids it; ``success_h`` says whether it goes in the event's direction (null for direction 0;
    a return of nothing, up to ``TIE``, is none); ``known_h`` is the instant from which on it is known.
    """
    label_of = {horizon: open_to_open(bars, horizon) for horizon in horizons}
    table = found
    for horizon, labels in label_of.items():
        table = table.join(
            labels.select(
                "symbol",
                pl.col("timestamp").cast(TIME),
                pl.col("label_return").alias(f"return_{horizon}"),
                pl.col("label_end").cast(TIME).alias(f"known_{horizon}"),
            ),
            on=["symbol", "timestamp"],
            how="left",
            maintain_order="left",
        )
    return table.with_columns(
        in_direction(pl.col(f"return_{h}"), pl.col("direction")).alias(f"success_{h}") for h in horizons
    ).select(*EVENTS, *(f"{kind}_{h}" for kind in ("return", "success", "known") for h in horizons))


@dataclass(frozen=True)
class _Series:
    """All listings one after the other: prices, the place of each bar in its listing, and the bars' times in µs."""

    open: Array
    high: Array
    low: Array
    close: Array
    place: Array
    time: Array

    @classmethod
    def of(cls, ordered: pl.DataFrame) -> "_Series":
        lengths = ordered.select(pl.struct(LISTING).rle().struct.field("len")).to_series().to_numpy().astype(np.int64)
        place = np.arange(ordered.height) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        time = ordered["timestamp"].cast(TIME).to_physical().to_numpy()
        prices = {name: ordered[name].cast(pl.Float64).to_numpy() for name in OHLC}
        return cls(**prices, place=place, time=time)

    @property
    def mirrored(self) -> "_Series":
        """Upside down: highs are lows, a top is a bottom."""
        return _Series(-self.open, -self.low, -self.high, -self.close, self.place, self.time)


_Hits = tuple[Array, Array, Array]  # rows, direction, strength


def _candle_hits(series: _Series) -> list[_Hits]:
    """The hits of each candlestick, in the order of ``CANDLES``."""
    import talib

    rows, wanted, anchor = _runs(series)
    on_grid = [np.rint(getattr(series, name)[rows] / anchor * GRID) for name in OHLC]
    place = np.where(wanted, series.place[rows], -1)
    hits = []
    for name, lookback in _lookbacks().items():
        values = getattr(talib, name)(*on_grid)
        at = np.flatnonzero(values)
        at = at[place[at] >= lookback]
        value = values[at]
        direction = np.zeros(len(at)) if name in UNDIRECTED else np.sign(value)
        hits.append((rows[at], direction, np.abs(value) / _CONFIRMED))
    return hits


def _runs(series: _Series) -> tuple[Array, Array, Array]:
    """Every run of bars that are measured by the same close, with the bars that TA-Lib looks back to before it.

    The answer is one long array of runs: the row of each bar, whether it belongs to the run (and not to the bars before
    it), and the close it is divided by.
    """
    by = _anchors(series)
    lead = max(_lookbacks().values())
    starts = np.flatnonzero(np.diff(by, prepend=-1))
    lengths = np.diff(starts, append=len(by))
    padded = lengths + lead
    ends = np.cumsum(padded)
    step = np.arange(ends[-1]) - np.repeat(ends - padded, padded) - lead
    first = np.repeat(starts, padded)
    # Before a listing's first bar stands that bar again, not the neighbour's: its prices could be too large for sums
    # to be exact.
    rows = np.maximum(first + step, first - series.place[first])
    return rows, step >= 0, np.repeat(series.close[by[starts]], padded)


def _anchors(series: _Series) -> Array:
    """The row of the close that each bar is measured by: of its last bars that with the least hash of its time."""
    rows = np.arange(len(series.time))
    first = rows - series.place
    mixed = series.time.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    ago = bars_since_min((mixed >> np.uint64(11)).astype(np.float64), ANCHOR_BARS)
    return np.where(series.place >= ANCHOR_BARS - 1, rows - np.nan_to_num(ago).astype(np.int64), first)


def _structure_hits(series: _Series, parameters: PatternParameters) -> list[_Hits]:
    """The hits of each structure, in the order of ``STRUCTURES``."""
    mirrored = series.mirrored
    true_range, mean_range = _ranges(series, parameters.range_bars)
    strengths = {
        "breakout_up": _breakouts(series, true_range, mean_range, parameters),
        "breakout_down": _breakouts(mirrored, true_range, mean_range, parameters),
        "double_top": _double_tops(series, mean_range, parameters),
        "double_bottom": _double_tops(mirrored, mean_range, parameters),
        "support_touch": _touches(mirrored, mean_range, parameters),
        "resistance_touch": _touches(series, mean_range, parameters),
    }
    hits = []
    for name, direction in STRUCTURES.items():
        rows = np.flatnonzero(strengths[name])
        hits.append((rows, np.full(len(rows), direction), strengths[name][rows]))
    return hits


def _beyond(price: Array, level: Array) -> Array:
    """price > level, ties aside."""
    return price - level > TIE * np.abs(level)


def _reaches(price: Array, level: Array) -> Array:
    """price >= level, ties included."""
    return ~_beyond(level, price)


def _ranges(series: _Series, bars: int) -> tuple[Array, Array]:
    """True range of each bar, and its mean over the last ``bars`` bars, NaN where the listing has not so many before.

    The first true range of a listing reaches into another one, and is in no mean.
    """
    before = shifted(series.close, 1)
    true_range = np.maximum(series.high, before) - np.minimum(series.low, before)
    return true_range, np.where(series.place >= bars, rolling_mean(true_range, bars), np.nan)


def _strength(distance: Array, mean_range: Array) -> Array:
    """Distance in mean ranges, at most 1."""
    return np.minimum(distance / np.maximum(mean_range, distance), 1.0)


def _breakouts(series: _Series, true_range: Array, mean_range: Array, parameters: PatternParameters) -> Array:
    """Strength of the breakout at each bar, 0 where there is none."""
    ceiling = shifted(rolling_max(series.high, parameters.breakout_bars), 1)
    usual = shifted(mean_range, 1)
    wide = true_range - parameters.breakout_range * usual > -TIE * np.abs(series.close)
    broken = (series.place >= parameters.breakout_bars) & wide & _beyond(series.close, ceiling)
    strength = np.zeros(len(broken))
    strength[broken] = _strength((series.close - ceiling)[broken], usual[broken])
    return strength


def _swing_highs(series: _Series, bars: int) -> Array:
    """Rows of bars above the ``bars`` before and not below the ``bars`` after, all of one listing."""
    highest = rolling_max(series.high, bars)
    tops = np.arange(bars, len(highest) - bars)
    confirmed = series.place[tops + bars] >= 2 * bars
    high = series.high[tops]
    return tops[confirmed & _beyond(high, highest[tops - 1]) & _reaches(high, highest[tops + bars])]


def _double_tops(series: _Series, mean_range: Array, parameters: PatternParameters) -> Array:
    """Strength of the double top that is completed at each bar, 0 where there is none."""
    p = parameters
    strength = np.zeros(len(series.close))
    swings = _swing_highs(series, p.swing_bars)
    first, second = swings[:-1], swings[1:]
    near = (second - first <= p.double_bars) & (series.place[second] > second - first)
    first, second = first[near], second[near]
    if len(first) == 0:
        return strength
    tops = np.stack([series.high[first], series.high[second]])
    edges = np.stack([first, second], axis=1).ravel()
    neckline = np.minimum.reduceat(series.low, edges)[::2]
    usual, slack = mean_range[second], TIE * np.abs(tops[0])
    alike = np.abs(tops[0] - tops[1]) <= p.double_distance * usual + slack
    deep = tops.min(axis=0) - neckline >= p.double_depth * usual - slack
    waiting = alike & deep
    last = len(series.close) - 1
    for step in range(1, p.swing_bars + p.double_patience):
        at = np.minimum(second + step, last)
        waiting &= series.place[at] - series.place[second] == step
        close = series.close[at]
        waiting &= ~_beyond(close, tops.max(axis=0))
        if step < p.swing_bars:
            continue
        done = waiting & _beyond(neckline, close)
        np.maximum.at(strength, at[done], _strength((neckline - close)[done], usual[done]))
        waiting &= ~done
    return strength


def _touches(series: _Series, mean_range: Array, parameters: PatternParameters) -> Array:
    """Strength of the touch of resistance at each bar, 0 where there is none."""
    p = parameters
    strength = np.zeros(len(series.close))
    swings = _swing_highs(series, p.swing_bars)
    level, holds = series.high[swings], np.ones(len(swings), dtype=bool)
    last = len(series.close) - 1
    for step in range(p.swing_bars, p.level_bars + 1):
        at = np.minimum(swings + step, last)
        holds &= series.place[at] - series.place[swings] == step
        close, usual = series.close[at], mean_range[at]
        holds &= ~_beyond(close, level)
        zone = level - p.touch_distance * usual
        comes = _reaches(series.high[at], zone) & _beyond(zone, series.high[at - 1])
        touched = holds & comes & _beyond(level, close)
        np.maximum.at(strength, at[touched], _strength((level - close)[touched], usual[touched]))
    return strength
