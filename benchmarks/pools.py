"""Pools of 20 symbols with and without an edge, and procedures that learn scores on them, walk-forward.

The market is given as returns; nothing is simulated that the gate does not look at.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import polars as pl

from alpha_assets.quant.evidence import Array
from alpha_assets.quant.labels import VOLATILITY_BARS
from benchmarks.market import SP500

SYMBOLS = 20
#: Bars that features look back, and those that a first fit may learn from.
PAST, LEARNT = 60, 250
EMBARGO, FOLDS = 5, 5

#: Memories of the persistent features; half of each is common to all symbols.
MEMORIES = (0.5, 0.9, 0.97, 0.99)
#: The one that an edge is planted in.
TELLING = MEMORIES.index(0.9)
#: Bars of past returns that are features, and momentum and contrarian scores by themselves.
LOOKBACKS = (5, 20, 60)

#: Volatility of a bar, its drift in the family with drift (a yearly Sharpe ratio of 0.8), and cross-correlation.
SIGMA, DRIFT, CORRELATION = 0.02, 0.05, 0.3
#: Rows that a ridge adds for «nothing», as many as a first fit has or twice as many: what is learnt of the noise would
#: else cost more log-loss than a small edge saves.
RIDGE_ROWS = {"pooled": float(LEARNT * SYMBOLS), "own": 2.0 * LEARNT}


@dataclass(frozen=True)
class Market:
    """One-bar returns in units of the typical volatility and features known at each bar's end; dates x symbols."""

    returns: Array
    features: Array


@dataclass(frozen=True)
class Labels:
    """What followed each bar, open to open over the horizon; ``scale`` is the trailing volatility of as many bars."""

    followed: Array
    scaled: Array
    scale: Array
    horizon: int


@dataclass(frozen=True)
class Predictions:
    """What a procedure said at each judged bar: expected scaled return, prior of up."""

    score: Array
    prior: Array


def independent(random: np.random.Generator, dates: int) -> Array:
    """Normal returns that know nothing of each other."""
    return random.standard_normal((dates, SYMBOLS))


def clustered(random: np.random.Generator, dates: int, drift: float = 0.0) -> Array:
    """Student-t returns of variance 1 with a common factor and its GARCH(1, 1) volatility, about a drift."""
    market = random.standard_t(5, (dates, 1)) * math.sqrt(0.6)
    own = random.standard_t(5, (dates, SYMBOLS)) * math.sqrt(0.6)
    mixed = math.sqrt(CORRELATION) * market + math.sqrt(1 - CORRELATION) * own
    variance = np.ones(dates)
    for date in range(1, dates):
        variance[date] = 0.05 + (0.1 * market[date - 1, 0] ** 2 + 0.85) * variance[date - 1]
    return mixed * np.sqrt(variance)[:, None] + drift


@cache
def real_returns() -> Array:
    """Open-to-open log returns of the S&P set's symbols without a missing session, dates x symbols."""
    wide = pl.read_parquet(SP500).pivot(on="symbol", index="timestamp", values="open").sort("timestamp")
    whole = [name for name in wide.columns[1:] if not wide[name].null_count()]
    return np.diff(np.log(wide.select(whole).to_numpy()), axis=0)


def flipped(random: np.random.Generator, dates: int) -> Array:
    """Real returns of some symbols, each date with a random sign: volatility and cross-correlation stay."""
    real = real_returns()
    chosen = random.choice(real.shape[1], SYMBOLS, replace=False)
    part = real[-dates:, chosen] / real[-dates:, chosen].std()
    return part * random.choice([-1.0, 1.0], (dates, 1))


NULLS: Mapping[str, Callable[[np.random.Generator, int], Array]] = {
    "iid": independent,
    "garch": clustered,
    "drift": partial(clustered, drift=DRIFT),
    "signflip": flipped,
}


def persistent(random: np.random.Generator, dates: int, memory: float) -> Array:
    """A stationary AR(1) of variance 1, half of it common to all symbols."""
    shocks = math.sqrt(0.5) * (random.standard_normal((dates, 1)) + random.standard_normal((dates, SYMBOLS)))
    values = shocks.copy()
    for date in range(1, dates):
        values[date] = memory * values[date - 1] + math.sqrt(1 - memory**2) * shocks[date]
    return values


def market(random: np.random.Generator, dates: int, make: Callable[[np.random.Generator, int], Array]) -> Market:
    """A market without an edge: features of its own past, and features that have nothing to do with it."""
    returns = make(random, dates)
    return Market(returns, _features(returns, [persistent(random, dates, memory) for memory in MEMORIES]))


def planted(random: np.random.Generator, dates: int, ic: float, horizon: int, edged: int = SYMBOLS) -> Market:
    """A clustered market in which a persistent feature has this TS-IC with the return over the horizon.

    A bar's share of it follows from the feature's memory m: corr = rho (1 + m + ... + m^(h-1)) / sqrt(h). The first
    ``edged`` symbols have it, the others nothing.
    """
    blind = clustered(random, dates)
    known = [persistent(random, dates, memory) for memory in MEMORIES]
    remembered = sum(MEMORIES[TELLING] ** bar for bar in range(horizon))
    rho = np.where(np.arange(SYMBOLS) < edged, ic * math.sqrt(horizon) / remembered, 0.0)
    before = np.concatenate([np.zeros((1, SYMBOLS)), known[TELLING][:-1]])
    size = np.sqrt((blind**2).mean(axis=1, keepdims=True))
    returns = rho * size * before + np.sqrt(1 - rho**2) * blind
    return Market(returns, _features(returns, known))


def _features(returns: Array, known: Sequence[Array]) -> Array:
    """Dates x symbols x features: the persistent ones, then past returns over their volatility."""
    scale = trailing_volatility(returns)
    past = [_sums(returns, bars) / (scale * math.sqrt(bars)) for bars in LOOKBACKS]
    return np.stack([*known, *past], axis=-1)


def trailing_volatility(returns: Array) -> Array:
    """Deviation of the last bars, as labels are scaled by; of those there are at the start."""
    count = np.minimum(np.arange(len(returns)) + 1, VOLATILITY_BARS)[:, None]
    mean = _sums(returns, VOLATILITY_BARS) / count
    variance = _sums(returns**2, VOLATILITY_BARS) / count - mean**2
    return np.sqrt(np.maximum(variance, 1e-4))


def _sums(values: Array, bars: int) -> Array:
    """Sum over the last so many bars, the bar itself included; of those there are at the start."""
    total = np.cumsum(values, axis=0)
    total[bars:] -= total[:-bars].copy()
    return total


def labelled(returns: Array, horizon: int) -> Labels:
    """Labels of all bars but the last ``horizon``: the sum of the next ``horizon`` returns."""
    total = np.cumsum(np.concatenate([np.zeros((1, SYMBOLS)), returns]), axis=0)
    dates = len(returns) - horizon
    followed = total[1 + horizon : 1 + horizon + dates] - total[1 : 1 + dates]
    scale = trailing_volatility(returns)[:dates] * math.sqrt(horizon)
    return Labels(followed, followed / scale, scale, horizon)


class Procedure:
    """A way to learn scores, repeated as often as one looks; the sums it needs are made once."""

    def __init__(self, market: Market, labels: Labels, learner: str, lookback: int) -> None:
        self.learner = learner
        self.labels = labels
        self.features = market.features[: len(labels.scaled)]
        self.past = self.features[..., len(MEMORIES) + LOOKBACKS.index(lookback)]
        self.ups = np.cumsum(labels.followed > 0, axis=0)
        if learner in ("pooled", "own"):
            over = "ts" if learner == "own" else "t"
            self.squares = np.cumsum(np.einsum(f"tsi,tsj->{over}ij", self.features, self.features), axis=0)
            self.products = np.cumsum(np.einsum(f"tsi,ts->{over}i", self.features, labels.scaled), axis=0)

    def predictions(self, until: int) -> Predictions:
        """Out of fold at the bars from ``PAST + LEARNT`` to ``until``, by fits on labels that were known before."""
        parts = [self._fold(fold) for fold in np.array_split(np.arange(PAST + LEARNT, until), FOLDS)]
        return Predictions(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _fold(self, fold: Array) -> tuple[Array, Array]:
        last = fold[0] - EMBARGO - self.labels.horizon - 1
        prior = np.clip((self.ups[last] - self.ups[PAST]) / (last - PAST), 0.05, 0.95)
        return self._scores(fold, last), np.broadcast_to(prior, (len(fold), SYMBOLS))

    def _scores(self, fold: Array, last: int) -> Array:
        if self.learner in ("momentum", "contrarian"):
            sign = 1 if self.learner == "momentum" else -1
            return 0.02 * sign * self.past[fold]
        squares, products = (sums[last] - sums[PAST] for sums in (self.squares, self.products))
        ridge = RIDGE_ROWS[self.learner] * np.eye(squares.shape[-1])
        weights = np.linalg.solve(squares + ridge, products[..., None])[..., 0]
        return np.einsum("tsi,si->ts" if self.learner == "own" else "tsi,i->ts", self.features[fold], weights)


def evidence(labels: Labels, said: Predictions) -> pl.DataFrame:
    """The rows that the gate is given, as the line would give them.

    The chance to rise is that of a normal return about the expected one: nothing is said of the market's drift.
    """
    from scipy.special import ndtr

    dates = len(said.score)
    rows = slice(PAST + LEARNT, PAST + LEARNT + dates)
    columns = {
        "score": said.score,
        "p_up": ndtr(said.score),
        "prior": said.prior,
        "scaled_return": labels.scaled[rows],
        "up": labels.followed[rows] > 0,
        "label_return": SIGMA * labels.followed[rows],
        "expected_return": SIGMA * said.score * labels.scale[rows],
    }
    stamps = np.datetime64("2015-01-01", "us") + np.repeat(np.arange(dates), SYMBOLS) * np.timedelta64(1, "D")
    names = np.tile([f"S{number:02}" for number in range(SYMBOLS)], dates)
    return pl.DataFrame(
        {"symbol": names, "timestamp": stamps, **{name: grid.ravel() for name, grid in columns.items()}}
    )
