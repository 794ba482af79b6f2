"""The regime of every bar: trending, sideways, volatile or consolidation, from what was known at its close.

**Rules.** Volatility (Garman and Klass 1980, with the gap before the bar) and the width of the Bollinger bands are
ranked within their own trailing window; trend strength is the geometric mean of Wilder's ADX and Kaufman's efficiency
ratio, each over its threshold. The probabilities form a tree: volatile or not by the rank of volatility; if not, quiet
or not by the mean of both ranks (a smooth trend has small bars but wide bands); if not, trending or sideways.

**Hidden Markov.** The forward filter of a four-state chain, fitted once on the first ``hmm_bars`` bars of a listing,
which stay without a regime: within them the fit has seen the future.

**The label** follows the likeliest regime with hysteresis: a challenger takes over once it has led the holder by
``margin`` of probability for ``confirm`` bars in a row. Which bars would unseat which holder is known without the
path, so that the path goes from switch to switch and not from bar to bar. Its only state is the label itself: stored
in the row, resumed from it, and defined by the rebuild from the first bar of the listing.

Scaling prices changes nothing. Ranks compare ln(volatility) in steps of 0.1 %, so that rounding breaks no tie.
"""

from collections import deque
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from alpha_assets.quant.hidden_markov import Chains, filter_one_after_the_other, fit
from alpha_assets.quant.panel import STRETCH, Spread
from alpha_assets.quant.parameters import RegimeParameters
from alpha_assets.quant.rolling import rolling_deviation, rolling_mean, rolling_sum
from alpha_assets.quant.schema import OHLC, TIME
from alpha_assets.quant.symbols import REGIMES as CELLS
from alpha_assets.quant.wilder import directional_movement, spells

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Steps = NDArray[np.int16]

#: By method, raised by hand whenever labels or probabilities change, never otherwise: part of a feature table's name.
VERSIONS: Mapping[str, int] = {"rules": 1, "hmm": 2}

#: The regimes a bar can have; ``all``, the first of the cells a model is trained for, is every bar.
REGIMES = CELLS[1:]
TRENDING, SIDEWAYS, VOLATILE, CONSOLIDATION = range(len(REGIMES))
NONE = -1

#: A row a bar: ``regime`` is null during warm-up, and so are the probabilities; they sum to 1.
LABELLED: Mapping[str, pl.DataType] = {
    "symbol": pl.String(),
    "timestamp": TIME,
    "regime": pl.String(),
    **{f"regime_p_{name}": pl.Float64() for name in REGIMES},
}

#: Width of a step of ln(volatility) where ranks are taken. 16 bits then reach from e^-32 to e^32.
STEP = 0.001
ABOVE_ALL = 32767
#: Wilder's recursions forget a bar within this many windows to below the rounding of f64: (13/14)^(36 · 14) is 6e-17.
WILDER_MEMORY = 36

#: A guess for the four states by rising volatility, from which EM starts: multiples of the deviation of all bars.
SPREAD = np.array([0.5, 0.8, 1.2, 2.0])
#: And the mean spell, in bars, that it starts from.
SPELL = 50
#: No state is narrower than this share of the deviation of all bars.
LEAST_SPREAD = 0.05


def warm_up(parameters: RegimeParameters) -> int:
    """Bars at the start of a listing that have no regime."""
    if parameters.method == "hmm":
        return parameters.hmm_bars
    ranked = max(parameters.volatility_bars, parameters.bandwidth_bars - 1) + parameters.percentile_least - 1
    return max(ranked, 2 * parameters.adx_bars - 1, parameters.efficiency_bars)


def memory(parameters: RegimeParameters) -> int | None:
    """Bars before the first pending one that ``regimes`` needs to resume; None: the listing from its first bar.

    The hidden Markov chain is fitted on the first bars of the listing, and so needs them at every update.
    """
    if parameters.method == "hmm":
        return None
    ranked = max(parameters.volatility_bars, parameters.bandwidth_bars) + parameters.percentile_bars
    return max(ranked, (1 + WILDER_MEMORY) * parameters.adx_bars) + parameters.confirm


def regimes(
    bars: pl.DataFrame,
    parameters: RegimeParameters,
    resume: pl.DataFrame | None = None,
    spread: Spread = map,
) -> pl.DataFrame:
    """The regime of every bar (``LABELLED``), or of every pending one.

    ``bars`` holds symbol, timestamp, listing and adjusted open, high, low, close, sorted by symbol and timestamp. With
    ``resume``, the last stored row of each symbol (symbol, timestamp, regime), only later bars are answered; ``bars``
    then begins ``memory`` bars before the first of them, or with the listing. A listing that began after the stored row
    starts anew, and so does a symbol without one. Labels equal those of a rebuild, probabilities to 1e-9. ``spread``
    is a ``map`` that may work in several threads.
    """
    # Where it is used: it brings a compiler along.
    from alpha_assets.quant.kernels import settled

    starts, ends = _listings(bars)
    prices = {name: bars[name].cast(pl.Float64).to_numpy() for name in OHLC}
    place = np.arange(bars.height) - np.repeat(starts, ends - starts)
    pending, holders = _pending(bars, resume, starts, ends)
    if parameters.method == "hmm":
        probabilities = _by_chain(prices, starts, ends, place, parameters)
    else:
        # A challenger must have led for so many bars: those before the first pending one count too.
        needed = place >= np.repeat(pending - parameters.confirm - starts, ends - starts)
        probabilities = np.empty((len(REGIMES), len(place)))

        def fill(some: slice) -> None:
            rows = slice(starts[some][0], ends[some][-1])
            of_some = {name: values[rows] for name, values in prices.items()}
            first, end = starts[some] - rows.start, ends[some] - rows.start
            probabilities[:, rows] = _by_rules(of_some, first, end, place[rows], needed[rows], parameters)

        deque(spread(fill, _stretches(ends)), maxlen=0)
    labels = settled(probabilities, pending, ends, np.array(holders, np.int64), parameters.margin, parameters.confirm)
    known = pl.Series(labels.astype(np.int64))
    answer = bars.select("symbol", pl.col("timestamp").cast(TIME)).with_columns(
        pl.Series(REGIMES).gather(known.set(known == NONE, None)).alias("regime"),
        *(
            pl.Series(f"regime_p_{name}", probability, nan_to_null=True)
            for name, probability in zip(REGIMES, probabilities, strict=True)
        ),
    )
    if resume is None:
        return answer
    return answer.filter(pl.Series(place >= np.repeat(pending - starts, ends - starts)))


def _stretches(ends: Integers) -> list[slice]:
    """The listings in order, gathered until about ``STRETCH`` rows are together: they stay in the processor's cache."""
    number = (ends - 1) // STRETCH
    edges = np.flatnonzero(np.diff(number, prepend=-1, append=-1))
    return [slice(int(first), int(end)) for first, end in pairwise(edges)]


def _listings(bars: pl.DataFrame) -> tuple[Integers, Integers]:
    """First row of each listing of each symbol, and the row after its last."""
    if bars.is_empty():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    begins = pl.any_horizontal(pl.col("symbol", "listing").ne_missing(pl.col("symbol", "listing").shift(1)))
    starts = bars.select(begins.arg_true()).to_series().to_numpy().astype(np.int64)
    starts[0] = 0
    return starts, np.append(starts[1:], bars.height)


def _pending(
    bars: pl.DataFrame, resume: pl.DataFrame | None, starts: Integers, ends: Integers
) -> tuple[Integers, list[int]]:
    """First row of each listing that is later than its symbol's stored one, and the regime held before it."""
    if resume is None:
        return starts, [NONE] * len(starts)
    stored = {
        symbol: (time, NONE if regime is None else REGIMES.index(regime))
        for symbol, time, regime in resume.select(
            "symbol", pl.col("timestamp").cast(TIME).dt.epoch("us"), "regime"
        ).iter_rows()
    }
    times = bars["timestamp"].cast(TIME).dt.epoch("us").to_numpy()
    pending, holders = starts.copy(), [NONE] * len(starts)
    for number, symbol in enumerate(bars["symbol"].gather(starts)):
        if symbol not in stored:
            continue
        time, held = stored[symbol]
        start, end = starts[number], ends[number]
        pending[number] += np.searchsorted(times[start:end], time, side="right")
        if pending[number] > start:
            holders[number] = held
    return pending, holders


def _by_rules(
    prices: Mapping[str, Floats],
    starts: Integers,
    ends: Integers,
    place: Integers,
    needed: NDArray[np.bool_],
    parameters: RegimeParameters,
) -> Floats:
    """Probability of each regime, (4, bars), NaN during warm-up and where it is not ``needed``."""
    volatility = _steps(_volatility(prices, parameters.volatility_bars), place < parameters.volatility_bars)
    width = _steps(_bandwidth(prices["close"], parameters.bandwidth_bars), place < parameters.bandwidth_bars - 1)
    loud, wide = (
        trailing_share(steps, starts, ends, parameters.percentile_bars, needed) for steps in (volatility, width)
    )
    adx = _adx(prices, starts, parameters.adx_bars) / parameters.trending_adx
    efficiency = _efficiency(prices["close"], parameters.efficiency_bars) / parameters.trending_efficiency

    volatile = expit((loud - parameters.volatile_from) / parameters.percentile_softness)
    quiet = expit((parameters.consolidation_to - (loud + wide) / 2) / parameters.percentile_softness)
    strength = np.sqrt(adx * efficiency)
    # expit(ln(s) / w), written so that no strength at all is simply 0.
    powered = strength ** (1 / parameters.trend_softness)
    trending = powered / (1 + powered)
    probabilities = np.empty((len(REGIMES), len(place)))
    probabilities[VOLATILE] = volatile
    probabilities[CONSOLIDATION] = (1 - volatile) * quiet
    rest = (1 - volatile) * (1 - quiet)
    probabilities[TRENDING] = rest * trending
    probabilities[SIDEWAYS] = rest * (1 - trending)
    probabilities[:, place < warm_up(parameters)] = np.nan
    return probabilities


def _volatility(prices: Mapping[str, Floats], bars: int) -> Floats:
    """Root of the mean, over the bars, of Garman and Klass's variance and the square of the gap before the bar."""
    gap = np.zeros(len(prices["open"]))
    gap[1:] = np.log(prices["open"][1:] / prices["close"][:-1])
    reach, body = np.log(prices["high"] / prices["low"]), np.log(prices["close"] / prices["open"])
    return np.sqrt(rolling_mean(0.5 * reach**2 - (2 * np.log(2) - 1) * body**2 + gap**2, bars))


def _bandwidth(close: Floats, bars: int) -> Floats:
    """Deviation over mean of the closes: a quarter of the width of Bollinger's bands over their middle."""
    return rolling_deviation(close, bars, ddof=0) / rolling_mean(close, bars)


def _efficiency(close: Floats, bars: int) -> Floats:
    """Kaufman's efficiency ratio: way made over way gone; 0 where the price did not move."""
    step = np.zeros(len(close))
    step[1:] = np.abs(np.diff(close))
    gone, made = rolling_sum(step, bars), np.zeros(len(close))
    made[bars:] = np.abs(close[bars:] - close[:-bars])
    return np.divide(made, gone, out=np.zeros(len(close)), where=gone > 0)


def _adx(prices: Mapping[str, Floats], starts: Integers, bars: int) -> Floats:
    """Wilder's average directional index as a share, each listing on its own; 0 while none is known."""
    high, low, close = prices["high"], prices["low"], prices["close"]
    moving = spells(high, low, close, tuple(starts.tolist()))
    return np.nan_to_num(directional_movement(high, low, close, bars, moving)[2])


def _steps(values: Floats, unknown: NDArray[np.bool_]) -> Steps:
    """ln(values) in steps, the lowest for 0; ``ABOVE_ALL`` where ``unknown``."""
    logs = np.log(values, out=np.full(len(values), -np.inf), where=values > 0)
    steps = np.clip(np.rint(logs / STEP), -ABOVE_ALL, ABOVE_ALL - 1)
    steps[unknown] = ABOVE_ALL
    return steps.astype(np.int16)


def trailing_share(
    values: Steps, starts: Integers, ends: Integers, bars: int, needed: NDArray[np.bool_] | None = None
) -> Floats:
    """Share of the ``bars - 1`` values before that are below the newest, within each listing, from 0 to 1.

    NaN where it is not ``needed``. Of the values there are, where the listing has fewer; ``ABOVE_ALL`` is no value, and
    neither has nor gets a share. Equal ones do not count, so that a market that stands still has share 0.
    """
    # Where it is used: it brings a compiler along.
    from alpha_assets.quant.kernels import below_before

    held = values != ABOVE_ALL
    rows = np.flatnonzero(held if needed is None else held & needed)
    since = np.cumsum(held)
    before = since - np.repeat(since[starts] - held[starts], ends - starts) - 1
    share = np.full(len(values), np.nan)
    below = below_before(values, np.repeat(starts, ends - starts)[rows], rows, bars)
    share[rows] = below / np.clip(before[rows], 1, bars - 1)
    return share


def _by_chain(
    prices: Mapping[str, Floats], starts: Integers, ends: Integers, place: Integers, parameters: RegimeParameters
) -> Floats:
    """Probability of each regime by the forward filter, (4, bars), NaN within the bars of the fit."""
    probabilities = np.full((len(REGIMES), len(place)), np.nan)
    returns = np.full(len(place), np.nan)
    returns[1:] = np.log(prices["close"][1:] / prices["close"][:-1])
    returns[starts] = np.nan
    long = np.flatnonzero(ends - starts > parameters.hmm_bars)
    firsts = returns[starts[long, None] + np.arange(parameters.hmm_bars)]
    moves = np.nanstd(firsts, axis=1) > 0
    long, firsts = long[moves], firsts[moves]
    if not long.size:
        return probabilities
    chains = _fitted(firsts, parameters.hmm_iterations)
    lengths = (ends - starts)[long]
    chain = np.repeat(np.arange(len(long)), lengths)
    rows = np.arange(len(chain)) + np.repeat(starts[long] - (np.cumsum(lengths) - lengths), lengths)
    filtered = filter_one_after_the_other(
        chains.density(returns[rows], chain), lengths, chains.transition, chains.start
    )
    probabilities[:, rows] = np.take_along_axis(filtered, _states(chains)[chain], axis=1).T
    probabilities[:, place < parameters.hmm_bars] = np.nan
    return probabilities


def _fitted(returns: Floats, iterations: int) -> Chains:
    """Four-state Gaussian chains of the log returns (B, T)."""
    count, states = len(returns), len(REGIMES)
    mean, deviation = np.nanmean(returns, axis=1), np.nanstd(returns, axis=1)
    stay = (1 - 1 / SPELL) * np.eye(states) + (1 - np.eye(states)) / SPELL / (states - 1)
    guess = Chains(
        start=np.full((count, states), 1 / states),
        transition=np.broadcast_to(stay, (count, states, states)),
        mean=np.repeat(mean[:, None], states, axis=1),
        deviation=deviation[:, None] * SPREAD,
    )
    return fit(returns, guess, iterations, LEAST_SPREAD * deviation)


def _states(chains: Chains) -> Integers:
    """The state that stands for each regime, (B, 4).

    The narrowest is consolidation, the widest volatile; of the two between, trending is the one with more drift for its
    deviation, up or down.
    """
    narrow, one, other, wide = np.argsort(chains.deviation, axis=1).T
    drift = np.abs(chains.mean) / chains.deviation
    each = np.arange(len(drift))
    swap = drift[each, one] > drift[each, other]
    states = np.empty(drift.shape, np.int64)
    states[:, TRENDING], states[:, SIDEWAYS] = np.where(swap, one, other), np.where(swap, other, one)
    states[:, VOLATILE], states[:, CONSOLIDATION] = wide, narrow
    return states


def regime_scores(truth: pl.DataFrame, labels: pl.DataFrame) -> dict[str, float]:
    """How well ``labels`` name the regimes of ``truth``; both hold symbol, timestamp, regime.

    Bars without a label are out.

    - ``balanced_accuracy``: mean over the true regimes of the share of their bars that bear their name;
      ``recall_<regime>`` is each.
    - ``delay``: median bars from the first of a true spell to the first in it that bears its name. Spells that were
      never named count as longer than any; NaN where they are half or more. ``found``: share of spells named.
      Spells that began before the first label are out.
    - ``switches``: changes of the label per 100 bars, from one bar of a symbol to its next.

    Raises ValueError where no bar has both.
    """
    both = (
        truth.select("symbol", "timestamp", true="regime")
        .join(labels.select("symbol", "timestamp", "regime"), on=["symbol", "timestamp"])
        .sort("symbol", "timestamp")
        .with_columns(
            number=pl.int_range(pl.len()).over("symbol"),
            spell=pl.struct("symbol", "true").rle_id(),
            hit=pl.col("true") == pl.col("regime"),
            switched=(pl.col("regime") != pl.col("regime").shift(1)).over("symbol"),
        )
    )
    labelled = both.drop_nulls("regime")
    if labelled.is_empty():
        raise ValueError("no bar has both a true regime and a label: nothing can be scored")
    recall = dict(labelled.group_by("true").agg(pl.col("hit").mean()).sort("true").iter_rows())
    spells = (
        both.group_by("spell")
        .agg(
            pl.col("regime").first(),
            delay=pl.col("number").filter(pl.col("hit")).min() - pl.col("number").min(),
            begins=pl.col("number").min() > 0,
        )
        .filter(pl.col("begins") & pl.col("regime").is_not_null())
    )
    delays = np.sort(spells["delay"].cast(pl.Float64).fill_null(np.inf).to_numpy())
    switched = labelled.select(pl.col("switched").cast(pl.Float64).mean().fill_null(0.0)).item()
    middle = float(np.median(delays)) if delays.size else np.nan
    return {
        "balanced_accuracy": float(np.mean(list(recall.values()))),
        **{f"recall_{regime}": float(share) for regime, share in recall.items()},
        "delay": middle if np.isfinite(middle) else np.nan,
        "found": float(np.isfinite(delays).mean()) if delays.size else np.nan,
        "switches": 100 * switched,
    }
