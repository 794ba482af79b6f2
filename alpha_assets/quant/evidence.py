"""Evidence as a panel of dates x symbols, and how far its figures can be trusted: estimates by blocks of dates.

Days of a market move together and labels overlap, so what is resampled are circular blocks of dates, all symbols of a
date together (Politis and Romano, 1992). The variance that such a bootstrap would show is known without drawing: a
figure is linearised into the influence of each date, and blocks of influences are summed wherever they may
begin. So an estimate needs no random numbers, no seed and no memory beyond the panel; a million bar times are as good
as a thousand dates.

A score made of past returns has a mean that goes with the mean of the returns; taking both off makes a contrarian score
look skilled and a momentum score look foolish, where there is nothing (Stambaugh, 1999): IC 0.036 at h = 5 on 500
dates for minus the return of 60 bars, a whole standard error. So a bound rests on products whose score lacks the mean
over those dates only that cannot know the return they are multiplied with: ``Panel.purged``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time
from functools import cached_property

import numpy as np
import polars as pl

from alpha_assets.quant.parameters import GateParameters

Array = np.ndarray

#: What a row of evidence must hold, and what it may hold.
NEEDED = ("symbol", "timestamp", "score", "scaled_return", "p_up", "up")


@dataclass(frozen=True)
class Estimate:
    """A figure, its bootstrap standard error, the bias that is known of it, and the degrees of freedom of the error."""

    value: float
    error: float
    bias: float
    freedom: int

    def bound(self, level: float) -> float:
        """One-sided lower bound: the truth lies below it with probability ``level``.

        By Student's t, because the levels of repeated attempts lie far beyond the quantiles that resamples could show.
        """
        from scipy.special import stdtrit

        return self.value - self.bias + float(stdtrit(self.freedom, level)) * self.error


@dataclass(frozen=True)
class Influences:
    """A figure's value, its value without the bias of demeaning, and what each date adds to it; shape (dates,)."""

    value: float
    unbiased: float
    dates: Array

    def minus(self, other: "Influences") -> "Influences":
        """The difference of two figures of one panel, paired date by date."""
        return Influences(self.value - other.value, self.unbiased - other.unbiased, self.dates - other.dates)


class Panel:
    """Where there is a row, dates x symbols, and the blocks of dates that estimates are made of.

    ``held`` is 1 where there is a row and 0 elsewhere; every grid of values is 0 where there is none. ``horizon`` is
    that of the labels, in bars.
    """

    def __init__(self, held: Array, parameters: GateParameters, horizon: int) -> None:
        self.held = held
        self.parameters = parameters
        self.horizon = horizon
        self.block = max(parameters.min_block, parameters.block_horizons * horizon)

    @property
    def dates(self) -> int:
        """Dates with a row."""
        return len(self.held)

    @cached_property
    def rows(self) -> int:
        """Rows over all symbols."""
        return int(self.held.sum())

    @property
    def blocks(self) -> int:
        """Blocks of dates that a resample holds."""
        return self.dates // self.block

    @property
    def window(self) -> int:
        """Dates after a return for which a score may remember it."""
        return int(self.dates * self.parameters.purged_share)

    @property
    def widening(self) -> float:
        """Factor on every bootstrap error, as if one window of dates were missing.

        Block sums vary too little about their own mean and where tails are heavy, and too little exactly where a
        contrarian score was lucky: without it such scores passed at 5 to 7 % where 3 % was allowed, with it at 3 to 4.
        """
        return math.sqrt(self.dates / (self.dates - self.window))

    def standard(self, values: Array) -> Array:
        """A grid less each symbol's mean, over the pooled deviation; zeros where it is constant."""
        centred = self.held * (values - over(values.sum(axis=0), self.held.sum(axis=0)))
        deviation = math.sqrt(float((centred**2).sum()) / max(self.rows, 1))
        tiny = 1e-12 * max(float(np.abs(values).max(initial=0.0)), 1e-300)
        return centred / deviation if deviation > tiny else np.zeros_like(centred)

    def purged(self, values: Array) -> Array:
        """A grid less each symbol's mean over the dates that cannot know the return of its own row.

        Those are the row's own, those before, and those more than ``window`` dates later. What is made of past returns
        is free of the return of its own row and hence, with this mean, its product with it expects nothing.
        """
        sums = _totals(np.stack([values, self.held]))
        first = np.minimum(np.arange(self.dates) + 1, self.dates)
        last = np.minimum(first + self.window, self.dates)
        near, near_rows = sums[:, last] - sums[:, first]
        return self.held * (values - over(sums[0, -1] - near, sums[1, -1] - near_rows))

    def error(self, influences: Array) -> float:
        """Standard error of a figure whose dates have these influences: blocks of them, summed wherever they begin."""
        sums = self.block_sums(influences)
        return self.widening * math.sqrt(self.dates / self.block * float(sums.var()))

    def block_sums(self, values: Array) -> Array:
        """Sums over the block that begins at each date, the last ones going on at the first date."""
        return window_sums(np.concatenate([values, values[: self.block - 1]]), self.block)

    def estimate(self, influences: Influences) -> Estimate:
        """The estimate of a figure from its influences."""
        error = self.error(influences.dates)
        return Estimate(influences.value, error, influences.value - influences.unbiased, self.blocks - 1)

    def ratio(self, numerator: Array, denominator: Array) -> Estimate | None:
        """The estimate of a quotient of two sums, given by their grids; None where the denominator is nothing."""
        influences = self.ratio_influences(numerator, denominator)
        return self.estimate(influences) if influences is not None else None

    def ratio_influences(self, numerator: Array, denominator: Array) -> Influences | None:
        """The influences on a quotient of two sums; None where the denominator is nothing."""
        above, below = (grid.reshape(self.dates, -1).sum(axis=1) for grid in (numerator, denominator))
        total = float(below.sum())
        if not total > 0:
            return None
        value = float(above.sum()) / total
        return Influences(value, value, (above - value * below) / total)

    def ic(self, score: Array, earned: Array) -> Influences:
        """TS-IC of two standardised grids.

        The influence of a row on a correlation r of standardised x and y is x y - r (x^2 + y^2) / 2.
        """
        products = self.purged(score) * earned
        unbiased = float(products.sum()) / self.rows
        spread = (score**2 + earned**2).sum(axis=1) / 2
        return Influences(
            value=float((score * earned).sum()) / self.rows,
            unbiased=unbiased,
            dates=(products.sum(axis=1) - unbiased * spread) / self.rows,
        )

    def breadth(self, earned: Array) -> float:
        """Independent symbols a date is worth: m / (1 + (m - 1) r), m symbols a date, r their mean cross-correlation.

        r is measured on standardised returns and not taken below 0, so breadth is never above m.
        """
        held = self.held.sum(axis=1)
        pairs = float((held * (held - 1)).sum())
        mean_held = float(held.mean()) if self.dates else 0.0
        if not pairs or not earned.any():
            return min(mean_held, 1.0)
        crossed = float((earned.sum(axis=1) ** 2 - (earned**2).sum(axis=1)).sum()) / pairs
        return mean_held / (1 + (mean_held - 1) * min(max(crossed, 0.0), 1.0))


class Sample(Panel):
    """Rows of evidence, sorted and sound, as a panel."""

    def __init__(self, evidence: pl.DataFrame, parameters: GateParameters, horizon: int) -> None:
        self.evidence = sound(evidence)
        self.names: Sequence[str] = self.evidence["symbol"].unique().sort().to_list()
        self._symbol = self.evidence["symbol"].rank("dense").to_numpy().astype(np.int64) - 1
        self._date = self.evidence["timestamp"].rank("dense").to_numpy().astype(np.int64) - 1
        self._dates = int(self._date.max()) + 1 if self.evidence.height else 0
        super().__init__(self.grid(np.ones(self.evidence.height)), parameters, horizon)
        daily = (self.evidence["timestamp"].dt.time() == time(0)).all()
        #: What ``dates`` counts, for a sentence: an intraday sample has many of them a day.
        self.unit = "dates" if daily else "bar times"

    @property
    def extent(self) -> str:
        """How much it is, for a sentence."""
        count = len(self.names)
        return f"{count} symbol{'s' * (count != 1)} and {self.dates:,} {self.unit}"

    def holds(self, *names: str) -> bool:
        """Whether the evidence has all of these columns."""
        return set(names) <= set(self.evidence.columns)

    def tells(self, name: str) -> bool:
        """Whether the evidence has a number of this name in any row."""
        return bool(self.evidence[name].cast(pl.Float64).is_finite().any())

    def values(self, name: str) -> Array:
        """A column as f64 in the order of the rows, 0 where it is null or not a number."""
        return self.evidence[name].cast(pl.Float64).fill_null(0.0).fill_nan(0.0).to_numpy()

    def grid(self, values: Array) -> Array:
        """Row values as dates x symbols."""
        grid = np.zeros((self._dates, len(self.names)))
        grid[self._date, self._symbol] = values
        return grid

    def column(self, name: str) -> Array:
        """A column as dates x symbols."""
        return self.grid(self.values(name))

    @cached_property
    def score(self) -> Array:
        """The standardised score."""
        return self.standard(self.column("score"))

    @cached_property
    def earned(self) -> Array:
        """The standardised volatility-scaled return."""
        return self.standard(self.column("scaled_return"))

    @cached_property
    def skill(self) -> Influences | None:
        """TS-IC of the score; None where the score or the return of every symbol is constant."""
        if self.blocks < 2 or not self.score.any() or not self.earned.any():
            return None
        return self.ic(self.score, self.earned)

    @property
    def effective_sample(self) -> float:
        """Predictions that could be independent: dates / horizon, times the breadth."""
        return self.dates / self.horizon * self.breadth(self.earned)


def refuse(evidence: pl.DataFrame) -> None:
    """Raises ValueError for a missing column or two rows of one key."""
    missing = [name for name in NEEDED if name not in evidence.columns]
    if missing:
        raise ValueError(f"the evidence lacks {', '.join(missing)}")
    doubled = evidence.filter(pl.struct("symbol", "timestamp").is_duplicated())
    if doubled.height:
        row = doubled.sort("symbol", "timestamp").row(0, named=True)
        raise ValueError(f"{doubled.height} rows of evidence share a key, first {row['symbol']} at {row['timestamp']}")


def sound(evidence: pl.DataFrame) -> pl.DataFrame:
    """The rows that say something, by timestamp and symbol: score, scaled_return, p_up finite and up known."""
    finite = pl.all_horizontal(pl.col(name).is_finite() for name in ("score", "scaled_return", "p_up"))
    return evidence.filter(finite & pl.col("up").is_not_null()).sort("timestamp", "symbol")


def window_sums(values: Array, window: int) -> Array:
    """Sums over every run of ``window`` dates, along the first axis."""
    sums = _totals(values[None])[0]
    return sums[window:] - sums[:-window]


def _totals(values: Array) -> Array:
    """Running sums along the second axis, beginning with 0."""
    before = np.zeros((values.shape[0], 1, *values.shape[2:]))
    return np.cumsum(np.concatenate([before, values], axis=1), axis=1)


def over(numerator: Array, denominator: Array) -> Array:
    """Quotient, 0 where the denominator is not positive: there is nothing there."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator, dtype=np.float64), where=denominator > 0)
