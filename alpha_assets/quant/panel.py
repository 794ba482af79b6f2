"""Many series as one stretch of arrays: how features see bars, and how a frame of bars is cut into such stretches.

Numpy and TA-Lib are quick where arrays are long enough to pay for the call and short enough for the cache; a symbol's
series is neither. So the listings of many symbols are laid one after the other into stretches of ``STRETCH`` rows,
and a long listing is cut, each part preceded by the bars that its features need to remember.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import polars as pl

from alpha_assets.quant.schema import OHLC, OHLCV
from alpha_assets.quant.wilder import spells

Array = np.ndarray
Value = TypeVar("Value")

#: A ``map`` of work that answers nothing, perhaps in several threads.
Spread = Callable[[Callable[[Any], None], Iterable[Any]], Iterable[None]]

#: Rows of one stretch: a column of f64 is then 0.25 MB, and a handful of them fits the cache of one core.
STRETCH = 32_768


@dataclass(frozen=True)
class Part:
    """Consecutive rows of one listing: read from ``first`` to ``end``, of which those from ``wanted`` on are kept.

    ``age`` is the number of the listing's bars before ``first``.
    """

    first: int
    wanted: int
    end: int
    age: int

    @property
    def rows(self) -> int:
        """Rows read."""
        return self.end - self.first


@dataclass(frozen=True)
class Panel:
    """Adjusted bars of one or more listings, one after the other, each in time order: f64 arrays of equal length.

    ``starts`` holds the row at which each listing begins. What a feature computes over the whole arrays is nonsense in
    the first bars of each listing, where windows reach into the one before: its warm-up blanks them. ``columns`` holds
    what else a feature may read (the calendar's view of each bar, a benchmark).

    Prices are scaled, listing by listing, by a power of two so that the first close lies in [1, 2): no digit changes,
    and nothing that TA-Lib compares with a fixed small number is small because the price is.
    """

    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    starts: tuple[int, ...] = (0,)
    columns: Mapping[str, Array] = field(default_factory=dict)
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Scales the prices."""
        if not len(self.close):
            return
        exponents = -np.floor(np.log2(self.close[list(self.starts)]))
        scale = np.exp2(np.repeat(exponents, np.diff([*self.starts, len(self.close)])))
        for name in ("open", "high", "low", "close"):
            object.__setattr__(self, name, getattr(self, name) * scale)

    def __len__(self) -> int:
        """Rows."""
        return len(self.close)

    def once(self, function: Callable[..., Value], *arguments: Any) -> Value:
        """``function(self, *arguments)``, computed at the first call: many features share a mean or a deviation."""
        key = (function, *arguments)
        if key not in self._known:
            self._known[key] = function(self, *arguments)
        return self._known[key]

    def alone(self, function: Callable[..., Any], *inputs: Array, **parameters: float | str) -> Any:
        """A function with a memory of its own (TA-Lib's recursions), applied to each listing by itself.

        Several outputs come as a tuple.
        """
        function = _bare(function)
        outputs = [function(*(one[part] for one in inputs), **parameters) for part in self.parts]
        if isinstance(outputs[0], tuple):
            return tuple(np.concatenate(output) for output in zip(*outputs, strict=True))
        return np.concatenate(outputs)

    def in_motion(self, function: Callable[..., Array], *inputs: Array, **parameters: float | str) -> Array:
        """As ``alone``, over the spells in which a listing moves (``wilder``); NaN where it stands still."""
        function = _bare(function)
        out = np.full(len(self), np.nan)
        for spell in self.spells:
            out[spell] = function(*(one[spell] for one in inputs), **parameters)
        return out

    @cached_property
    def spells(self) -> tuple[slice, ...]:
        """The rows in which each listing moves."""
        return spells(self.high, self.low, self.close, self.starts)

    @cached_property
    def parts(self) -> tuple[slice, ...]:
        """The rows of each listing."""
        return tuple(slice(*pair) for pair in zip(self.starts, (*self.starts[1:], len(self)), strict=True))


def _bare(function: Callable[..., Value]) -> Callable[..., Value]:
    """TA-Lib's function without its wrapper, which looks for a frame of pandas or polars in every argument."""
    return getattr(function, "__wrapped__", function)


def cut(parts: Sequence[Part], memory: int) -> list[Part]:
    """Parts no longer than a stretch: what exceeds it becomes parts of their own, each ``memory`` bars ahead."""
    pieces = []
    for part in parts:
        for wanted in range(part.wanted, part.end, STRETCH):
            first = max(part.first, wanted - memory)
            end = min(wanted + STRETCH, part.end)
            pieces.append(Part(first, wanted, end, part.age + first - part.first))
    return pieces


def stretches(parts: Sequence[Part]) -> list[list[Part]]:
    """The parts in order, gathered until about ``STRETCH`` rows are together."""
    gathered: list[list[Part]] = []
    rows = STRETCH
    for part in parts:
        if rows + part.rows > STRETCH:
            gathered.append([])
            rows = 0
        gathered[-1].append(part)
        rows += part.rows
    return gathered


def lay_out(arrays: Mapping[str, Array], parts: Sequence[Part]) -> Panel:
    """One panel of the rows of these parts; ``arrays`` holds OHLCV and any other columns, a value a row."""
    rows = [slice(part.first, part.end) for part in parts]
    taken = {name: np.concatenate([values[some] for some in rows]) for name, values in arrays.items()}
    lengths = np.cumsum([0, *(part.rows for part in parts)])
    opened, high, low, close, volume = (taken.pop(name) for name in OHLCV)
    starts = tuple(int(start) for start in lengths[:-1])
    return Panel(opened, high, low, close, volume, starts, taken)


def refuse_bad_prices(bars: pl.DataFrame, what: str) -> None:
    """Raise ValueError, naming symbol and time, for a price that is null, not finite or not positive.

    TA-Lib turns a hidden NaN into plausible numbers.
    """
    sound = pl.all_horizontal(pl.col(name).is_finite() & (pl.col(name) > 0) for name in OHLC).fill_null(value=False)
    bad = bars.filter(~sound)
    if bad.is_empty():
        return
    first = bad.row(0, named=True)
    prices = ", ".join(f"{name} {first[name]}" for name in OHLC)
    raise ValueError(
        f"{what} of {first['symbol']}: the bar of {first['timestamp']} has {prices} ({bad.height} such bars in all); "
        "prices must be positive numbers, cleaning drops others"
    )
