"""Figures of a series of periodic returns: what a strategy earned, how it got there, and how far it fell on the way.

``returns`` are simple returns of consecutive periods (0.01 is one per cent), one-dimensional and finite, of an account
that reinvests; ``a_year`` says how many periods a year has (252 sessions). The riskless rate is taken as 0. A figure
that is undefined (too few periods, nothing lost, a deviation of nothing) is None, never 0, NaN or infinite.

The definitions are those of jquantstats (MIT) and quantstats, which the tests hold them against, but for

- the drawdown begins at the money put in, so a first period that loses is a fall (jquantstats' ``calmar`` and length of
  a drawdown add returns up where these compound);
- ``longest_fall`` counts periods below the highest wealth so far, not calendar days;
- skew and kurtosis are moments of the population, not of a sample, and a normal distribution has a kurtosis of 3: what
  ``sharpe.sharpe_error`` asks for.
"""

import math

import numpy as np

Array = np.ndarray

#: Deviation, as a share of the largest return, below which returns stand still: rounding leaves as much.
STILL = 1e-12


def wealth(returns: Array) -> Array:
    """What one unit has become after each period: the running product of 1 + r; shape (periods,)."""
    return np.cumprod(1.0 + _checked(returns))


def falls(returns: Array) -> Array:
    """Wealth below its highest so far, the unit put in included, as a share of that: 0 or negative; (periods,)."""
    reached = wealth(returns)
    return reached / np.maximum(np.maximum.accumulate(reached), 1.0) - 1.0


def total_return(returns: Array) -> float:
    """Wealth at the end less 1; 0 of no periods."""
    return float(np.prod(1.0 + _checked(returns))) - 1.0


def annual_return(returns: Array, a_year: float) -> float | None:
    """Compound annual growth rate: (1 + total)^(a_year / periods) - 1; None where nothing or less is left."""
    left = 1.0 + total_return(returns)
    if not len(returns) or left <= 0:
        return None
    growth = math.log(left) * a_year / len(returns)
    return math.expm1(growth) if growth < 700.0 else None


def deviation(returns: Array) -> float | None:
    """Standard deviation of a sample (over n - 1), per period; None of fewer than two, 0 where they stand still."""
    if len(_checked(returns)) < 2:
        return None
    found = float(np.std(returns, ddof=1))
    return found if found > STILL * float(np.abs(returns).max()) else 0.0


def volatility(returns: Array, a_year: float) -> float | None:
    """Annualised standard deviation."""
    found = deviation(returns)
    return None if found is None else found * math.sqrt(a_year)


def sharpe(returns: Array, a_year: float) -> float | None:
    """Mean over deviation, times the root of ``a_year`` (Sharpe, 1994); with ``a_year`` 1 it is that of a period."""
    found = deviation(returns)
    return float(np.mean(returns)) / found * math.sqrt(a_year) if found else None


def sortino(returns: Array, a_year: float) -> float | None:
    """Mean over the root mean square of the losses, gains counting as 0, annualised (Sortino and Price, 1994)."""
    if not len(_checked(returns)):
        return None
    downside = math.sqrt(float(np.mean(np.minimum(returns, 0.0) ** 2)))
    return float(np.mean(returns)) / downside * math.sqrt(a_year) if downside > 0 else None


def max_fall(returns: Array) -> float:
    """The deepest of the ``falls``, 0 or negative: the maximum drawdown."""
    return float(falls(returns).min(initial=0.0))


def longest_fall(returns: Array) -> int:
    """Periods of the longest spell below the highest wealth so far; one that is not over counts as long as it was."""
    below = np.concatenate([[False], falls(returns) < 0, [False]])
    edges = np.flatnonzero(below[1:] != below[:-1])
    return int((edges[1::2] - edges[::2]).max(initial=0))


def calmar(returns: Array, a_year: float) -> float | None:
    """Annual return over the depth of the deepest fall (Young, 1991)."""
    deepest, grown = max_fall(returns), annual_return(returns, a_year)
    return grown / -deepest if grown is not None and deepest < 0 else None


def profit_factor(returns: Array) -> float | None:
    """What the gains add up to over what the losses do; None where nothing was lost."""
    gained, lost = np.maximum(_checked(returns), 0.0).sum(), -np.minimum(returns, 0.0).sum()
    return float(gained / lost) if lost > 0 else None


def hit_rate(returns: Array) -> float | None:
    """Share of gains among the periods that gained or lost anything."""
    moved = np.count_nonzero(_checked(returns))
    return int(np.count_nonzero(returns > 0)) / int(moved) if moved else None


def shape(returns: Array) -> tuple[float, float] | None:
    """Skew and kurtosis (3 for a normal distribution) of the population; None where the returns stand still."""
    if not deviation(returns):
        return None
    moved = returns - np.mean(returns)
    moved = moved / np.sqrt(np.mean(moved**2))
    return float(np.mean(moved**3)), float(np.mean(moved**4))


def figures(returns: Array, a_year: float) -> dict[str, float | int | None]:
    """Every figure by its name.

    periods, total_return, annual_return, volatility, sharpe, sortino, calmar, max_drawdown, longest_drawdown (periods),
    profit_factor, hit_rate, skew, kurtosis.
    """
    skew, kurtosis = shape(returns) or (None, None)
    return {
        "periods": len(returns),
        "total_return": total_return(returns),
        "annual_return": annual_return(returns, a_year),
        "volatility": volatility(returns, a_year),
        "sharpe": sharpe(returns, a_year),
        "sortino": sortino(returns, a_year),
        "calmar": calmar(returns, a_year),
        "max_drawdown": max_fall(returns),
        "longest_drawdown": longest_fall(returns),
        "profit_factor": profit_factor(returns),
        "hit_rate": hit_rate(returns),
        "skew": skew,
        "kurtosis": kurtosis,
    }


def _checked(returns: Array) -> Array:
    if returns.ndim != 1 or not np.isfinite(returns).all():
        raise ValueError(f"returns of shape {returns.shape}: wanted one row of finite numbers")
    return returns
