"""Feature sets: columns declared once, computed for many symbols at a time, whole or only where they are missing.

A feature at t looks at the bars up to and including t of one listing, nothing else, and says how many of them it needs
(``memory``). So an update reads and computes no more than that, and every feature of a set as little as it can.

A price that is null, not finite or not positive is refused by symbol and time: TA-Lib turns a hidden NaN into plausible
numbers. A bar that is missing (a halt, a holiday) is no row: windows count bars, not days. Where a value is undefined
(no range, no volume, a flat stretch) it is null, in that row and in the windows that need it, never in the rest.
"""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import polars as pl

from alpha_assets.quant.panel import Panel, Part, Spread, cut, lay_out, refuse_bad_prices, stretches
from alpha_assets.quant.schema import OHLCV, TIME

Array = np.ndarray

#: Updates group the features by how far they remember, so that a one-bar return is not computed over 518 bars; 252 is
#: the longest window of daily bars.
REACHES = (32, 72, 128, 252)

#: A bar counts as warm when every feature of at most this warm-up has a value. A window of 200 bars is null for longer,
#: which a learner takes for missing; to wait for it would cost each new listing most of its first year.
SOON = 100


@dataclass(frozen=True)
class Feature:
    """One column of a feature set.

    ``warm_up`` counts the bars at the start of a listing that have no value. ``memory`` counts the bars
    before the first wanted one after which a value equals that of the whole series within 1e-9 standard
    deviations: as long as the window where that is all a feature sees, longer for a recursion
    (``indicators.FORGOTTEN`` says up to which fall of the price).
    ``doc`` is the formula, ``source`` the paper, book or library that it is from («ours» where it is of this project).
    ``window`` counts the bars that the formula spans, its own included; a change over n bars spans n, a figure of n
    returns n, a recursion the period of its slowest average. It is full where the feature has its first value.
    ``needs`` names the columns it reads beside OHLCV.
    ``version`` is raised by hand whenever the function's values change, never otherwise.
    """

    name: str
    group: str
    function: Callable[..., Array]
    parameters: Mapping[str, int | float | str]
    warm_up: int
    memory: int
    doc: str
    source: str
    window: int
    needs: tuple[str, ...] = ()
    version: int = 1

    def values(self, panel: Panel) -> Array:
        """The feature of every bar, f64, NaN or infinite where it is undefined; warm-up is blanked by ``compute``."""
        return np.asarray(self.function(panel, **self.parameters), dtype=np.float64)

    @property
    def identity(self) -> list[object]:
        """What makes two features the same numbers."""
        return [self.name, self.function.__name__, dict(sorted(self.parameters.items())), self.warm_up, self.version]


@dataclass(frozen=True)
class FeatureSet:
    """A named, ordered choice of features; its columns are the columns of a model's matrix.

    ``scale_free``: scaling prices and volume changes no feature, so that no split rewrites a published one.
    """

    name: str
    features: tuple[Feature, ...] = field(repr=False)
    scale_free: bool = True

    def __post_init__(self) -> None:
        """Refuses two features of one name: the later would hide the earlier."""
        names = [feature.name for feature in self.features]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled or not names:
            raise ValueError(f"feature set {self.name!r}: {doubled or 'no features'}; names must be distinct")

    @property
    def columns(self) -> tuple[str, ...]:
        """The feature names in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits over names, functions, parameters, versions and order; the set's name is left out."""
        identity = json.dumps([feature.identity for feature in self.features])
        return hashlib.sha256(identity.encode()).hexdigest()[:12]

    @cached_property
    def memory(self) -> int:
        """Bars to read before the first pending one, so that its values equal those of a full rebuild."""
        return max(feature.memory for feature in self.features)

    @cached_property
    def blank(self) -> int:
        """Bars at the start of a listing of which some feature of a warm-up up to ``SOON`` has no value yet."""
        return max((feature.warm_up for feature in self.features if feature.warm_up <= SOON), default=0)

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The columns beside OHLCV that some feature reads."""
        return tuple(sorted({name for feature in self.features for name in feature.needs}))

    def warm(self) -> pl.Expr:
        """Whether a bar lies past ``blank``, over bars with symbol, listing and timestamp."""
        return pl.col("timestamp").rank("ordinal").over("symbol", "listing") > self.blank


def compute(
    bars: pl.DataFrame,
    feature_set: FeatureSet,
    after: Mapping[str, object] | None = None,
    dtype: type[np.floating] = np.float64,
    spread: Spread = map,
) -> pl.DataFrame:
    """The features of every bar, or of the bars later than a symbol's time in ``after``.

    ``bars`` holds symbol, timestamp, listing, adjusted open, high, low, close, volume and the columns the set needs,
    one row a key. The answer holds symbol, timestamp and a column a feature, of type ``dtype``, sorted by both keys; a
    value is null during the feature's warm-up, counted from the first bar of the listing that is handed in, and where
    it is undefined. Nothing crosses from one symbol or listing to another. ``spread`` is a ``map`` that may
    work in several threads; the answer is the same with any.

    Raises ValueError, naming symbol and time, for a price that is null, not finite or not positive, and for a column
    that is missing.
    """
    missing = [name for name in feature_set.needs if name not in bars.columns]
    if missing:
        raise ValueError(f"feature set {feature_set.name} reads {', '.join(missing)}: the bars do not hold it")
    ordered = bars.sort("symbol", "timestamp")
    refuse_bad_prices(ordered, "features")
    arrays = {
        name: ordered[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (*OHLCV, *feature_set.needs)
    }
    wanted = _wanted(ordered, after)
    listings = _listings(ordered, wanted)
    places = np.cumsum([0, *(part.end - part.wanted for part in listings)])
    columns = [np.empty(int(places[-1]), dtype) for _ in feature_set.features]
    place_of = {part.end: int(place) - part.wanted for part, place in zip(listings, places[:-1], strict=True)}
    work = [
        (features, parts)
        for features, reach in _by_reach(feature_set, whole=all(part.first == part.wanted for part in listings))
        for parts in stretches(cut([_shortened(part, reach) for part in listings], reach))
    ]
    ends = np.array([part.end for part in listings], dtype=np.int64)

    def fill(features: Sequence[tuple[int, Feature]], parts: Sequence[Part]) -> None:
        panel = lay_out(arrays, parts)
        begin = place_of[int(ends[np.searchsorted(ends, parts[0].end)])] + parts[0].wanted
        rows, age = _wanted_rows(parts)
        warm_ups = {feature.warm_up for _, feature in features}
        cold = {warm_up: np.flatnonzero(age < warm_up) for warm_up in warm_ups}
        for row, feature in features:
            _put(columns[row][begin : begin + len(age)], feature, panel, rows, cold[feature.warm_up])

    def quietly(one: tuple[Sequence[tuple[int, Feature]], Sequence[Part]]) -> None:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # each thread has its own
            fill(*one)

    deque(spread(quietly, work), maxlen=0)
    keys = ordered.select("symbol", pl.col("timestamp").cast(TIME)).filter(wanted)
    # Popped one by one: polars copies each, and a long history would be there twice.
    return keys.with_columns([pl.Series(name, columns.pop(0), nan_to_null=True) for name in feature_set.columns])


def _put(out: Array, feature: Feature, panel: Panel, rows: Array | slice, cold: Array) -> None:
    """One feature of the wanted rows of one stretch, blank in the ``cold`` ones and where it is infinite."""
    # Where it is used: it brings a compiler along.
    from alpha_assets.quant.kernels import put

    put(np.ascontiguousarray(feature.values(panel)[rows]), cold, out)


def _wanted_rows(parts: Sequence[Part]) -> tuple[Array | slice, Array]:
    """Where the wanted rows of a stretch lie in its panel, and how many bars of its listing each has before it."""
    starts = np.cumsum([0, *(part.rows for part in parts)])
    age = np.concatenate([np.arange(part.wanted - part.first, part.rows) + part.age for part in parts])
    if len(age) == starts[-1]:
        return slice(None), age
    spans = [
        np.arange(start + part.wanted - part.first, start + part.rows)
        for start, part in zip(starts[:-1], parts, strict=True)
    ]
    return np.concatenate(spans), age


def _by_reach(feature_set: FeatureSet, *, whole: bool) -> list[tuple[list[tuple[int, Feature]], int]]:
    """The features, numbered by their row, in groups that remember about equally far; one group for whole listings."""
    bounds = [feature_set.memory] if whole else [*(r for r in REACHES if r < feature_set.memory), feature_set.memory]
    groups: list[list[tuple[int, Feature]]] = [[] for _ in bounds]
    for row, feature in enumerate(feature_set.features):
        groups[next(i for i, bound in enumerate(bounds) if feature.memory <= bound)].append((row, feature))
    return [(group, bound) for group, bound in zip(groups, bounds, strict=True) if group]


def _shortened(part: Part, reach: int) -> Part:
    first = max(part.first, part.wanted - reach)
    return Part(first, part.wanted, part.end, part.age + first - part.first)


def _wanted(bars: pl.DataFrame, after: Mapping[str, object] | None) -> pl.Series:
    if after is None:
        return pl.repeat(value=True, n=bars.height, eager=True)
    bound = pl.col("symbol").replace_strict(dict(after), return_dtype=TIME, default=None)
    return bars.select((pl.col("timestamp") > bound).fill_null(value=True)).to_series()


def _listings(bars: pl.DataFrame, wanted: pl.Series) -> list[Part]:
    """The listings that have a wanted row, each from its first bar on; the wanted rows are its last ones."""
    runs = bars.select(pl.struct("symbol", "listing").rle().struct.field("len")).to_series().to_numpy()
    ends = np.cumsum(runs, dtype=np.int64)
    counted = np.concatenate([[0], np.cumsum(wanted.to_numpy(), dtype=np.int64)])
    pending = counted[ends] - counted[ends - runs]
    return [
        Part(first, end - new, end, 0)
        for first, end, new in zip((ends - runs).tolist(), ends.tolist(), pending.tolist(), strict=True)
        if new
    ]
