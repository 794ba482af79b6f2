"""Evidence as a simulated market would leave it: returns share a factor, have fat tails and clustered volatility."""

import math

import numpy as np
import polars as pl


def innovations(random: np.random.Generator, dates: int, symbols: int) -> np.ndarray:
    """Student-t returns of variance about 1: a common factor (correlation 0.3), a common GARCH(1, 1) volatility."""
    market = random.standard_t(5, (dates, 1)) * math.sqrt(0.6)
    own = random.standard_t(5, (dates, symbols)) * math.sqrt(0.6)
    mixed = math.sqrt(0.3) * market + math.sqrt(0.7) * own
    variance = np.ones(dates)
    for day in range(1, dates):
        variance[day] = 0.05 + (0.1 * market[day - 1, 0] ** 2 + 0.85) * variance[day - 1]
    return mixed * np.sqrt(variance)[:, None]


def overlapping(returns: np.ndarray, horizon: int) -> np.ndarray:
    sums = np.cumsum(np.concatenate([np.zeros((1, returns.shape[1])), returns]), axis=0)
    return (sums[horizon:] - sums[:-horizon]) / math.sqrt(horizon)


def persistent(random: np.random.Generator, dates: int, symbols: int, memory: float) -> np.ndarray:
    """Scores that remember, half of them common to all symbols."""
    shocks = math.sqrt(0.5) * random.standard_normal((dates, 1)) + math.sqrt(0.5) * random.standard_normal(
        (dates, symbols)
    )
    scores = shocks.copy()
    for day in range(1, dates):
        scores[day] = memory * scores[day - 1] + math.sqrt(1 - memory**2) * shocks[day]
    return scores


def frame(score: np.ndarray, earned: np.ndarray) -> pl.DataFrame:
    dates, symbols = score.shape
    names = np.array([f"S{number:03}" for number in range(symbols)])
    return pl.DataFrame(
        {
            "symbol": np.tile(names, dates),
            "timestamp": np.datetime64("2015-01-01", "us")
            + np.repeat(np.arange(dates), symbols) * np.timedelta64(1, "D"),
            "score": score.ravel(),
            "scaled_return": earned.ravel(),
            "p_up": 1 / (1 + np.exp(-0.1 * score.ravel())),
            "up": earned.ravel() > 0,
        }
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


def noise(
    seed: int, dates: int, symbols: int, horizon: int = 1, memory: float = 0.0, drift: float = 0.0
) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    earned = overlapping(innovations(random, dates + horizon - 1, symbols) + drift, horizon)
    return frame(persistent(random, dates, symbols, memory), earned)


def planted(
    seed: int, dates: int, symbols: int, ic: float, edged: int | None = None, memory: float = 0.5
) -> pl.DataFrame:
    """The first ``edged`` symbols carry an edge of this TS-IC, the others none."""
    random = np.random.default_rng(seed)
    score = persistent(random, dates, symbols, memory)
    earned = innovations(random, dates, symbols)
    earned /= earned.std(axis=0)
    carries = np.arange(symbols) < (symbols if edged is None else edged)
    edge = np.where(carries, ic, 0.0)
    return frame(score, edge * score + np.sqrt(1 - edge**2) * earned)
