"""Every leaf of the three profile documents obeys the laws: nothing from the future, the same in any chunks, no scale.

The documents here are made as the stations make them, of regimes, indicators and pattern outcomes that are brought on
chunk by chunk too, each time from the bars and actions that were known by then. Dates and the set of leaves are
compared like any figure. Simulated bars split and pay often; the real ones are Apple's around its splits.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.feature_set import compute
from alpha_assets.quant.indicators import default_set, market_column
from alpha_assets.quant.parameters import PatternParameters, RegimeParameters, SimulationParameters
from alpha_assets.quant.pattern_rates import cells, known_by, rates
from alpha_assets.quant.patterns import HORIZONS, PATTERN_OUTCOMES, events, outcomes
from alpha_assets.quant.patterns import memory as pattern_memory
from alpha_assets.quant.profile_schema import COMPANY, DOCUMENTS, PATTERNS, STATISTICAL, field_of, leaves
from alpha_assets.quant.profiles import Labels, Series, company_profile, labels_since, series_of, statistical_profile
from alpha_assets.quant.regimes import LABELLED, REGIMES, regimes
from alpha_assets.quant.regimes import memory as regime_memory
from alpha_assets.quant.schema import ACTIONS, DIVIDEND, OHLC, OHLCV, SPLIT, TIME, empty
from alpha_assets.quant.simulate import simulate
from alpha_assets.quant.timeframes import with_timeframes

A_YEAR = 252.0
CORE = default_set()
RULES, FORMS = RegimeParameters(), PatternParameters()
#: Bars whose outcomes may still be unknown when the next one comes.
UNSETTLED = max(HORIZONS) + 1
#: Of so few outcomes a rate is told here, so that there are cells enough.
LEAST = 3.0
TABLE = "features/x"
#: What the source said of the company; no bar changes it.
TOLD = {
    "fundamentals_asked_at": "2020-01-02T00:00:00+00:00",
    "fundamentals": {"sector": {"value": "Technology", "read_at": "2020-01-02T00:00:00+00:00"}},
}

#: The leaves that scale: by which power of the price, and by which of the volume. All others are dimensionless.
SCALES: Mapping[tuple[str, str], tuple[int, int]] = {
    (STATISTICAL, "liquidity.mean_traded_value"): (1, 1),
    (STATISTICAL, "liquidity.median_traded_value"): (1, 1),
    (STATISTICAL, "liquidity.amihud"): (-1, -1),
    (STATISTICAL, "liquidity.mean_volume"): (0, 1),
    (STATISTICAL, "liquidity.median_volume"): (0, 1),
    (COMPANY, "performance.last_close"): (1, 0),
    (COMPANY, "actions.last_dividend.value"): (1, 0),
}

Leaves = dict[tuple[str, str], Any]


@dataclass(frozen=True)
class History:
    """One symbol's bars as traded and its actions, as they were known on the evening of its last bar."""

    bars: pl.DataFrame
    actions: pl.DataFrame

    def __len__(self) -> int:
        return self.bars.height

    @property
    def last(self) -> Any:
        return self.bars["timestamp"][-1]

    @property
    def names(self) -> dict[str, str]:
        return {self.bars["symbol"][0]: "XNYS"}

    def known(self, bars: int) -> "History":
        part = self.bars.head(bars)
        return History(part, self.actions.filter(pl.col("ex_date") <= part["timestamp"][-1].date()))

    def scaled(self, price: float, volume: float) -> "History":
        paid = pl.when(pl.col("kind") == DIVIDEND).then(pl.col("value") * price).otherwise("value")
        return History(
            self.bars.with_columns(pl.col(*OHLC) * price, pl.col("volume") * volume),
            self.actions.with_columns(value=paid),
        )

    def adjusted(self) -> pl.DataFrame:
        traded = self.bars.with_columns(traded_close="close", traded_volume="volume")
        return adjusted(traded, self.actions, calendars=self.names)

    def series(self) -> Series:
        whole = self.adjusted().with_columns(volume="traded_volume")
        done, wrong = series_of(whole, self.actions, "1d", self.names)
        assert not wrong
        return next(iter(done.values()))


@dataclass
class Desk:
    """What a home holds of the symbol: its regimes, its outcomes and its last statistical document."""

    labels: pl.DataFrame = field(default_factory=lambda: empty(LABELLED))
    table: pl.DataFrame = field(default_factory=lambda: empty(PATTERN_OUTCOMES))
    known: dict[str, Any] | None = None

    def bring_on(self, history: History) -> Leaves:
        """Take in the bars that are new, reading no more before them than must be remembered; the leaves then."""
        bars = history.adjusted()
        fresh = bars.height - self.labels.height
        read = bars.tail(fresh + (regime_memory(RULES) or 0))
        stored = self.labels.tail(1).select("symbol", "timestamp", "regime")
        self.labels = pl.concat([self.labels, regimes(read, RULES, stored if stored.height else None)])
        tail = bars["timestamp"][max(0, bars.height - fresh - UNSETTLED)]
        found = outcomes_of(bars.tail(fresh + UNSETTLED + pattern_memory(FORMS)))
        before, after = pl.col("timestamp") < tail, pl.col("timestamp") >= tail
        self.table = pl.concat([self.table.filter(before), found.filter(after)])
        indicators = indicators_of(bars.tail(CORE.memory + 1), history.names)
        self.known, documents = documents_of(history.series(), self.labels, self.table, indicators, self.known)
        return documents


def outcomes_of(bars: pl.DataFrame) -> pl.DataFrame:
    final = bars.with_columns(known_at=pl.col("timestamp") + timedelta(hours=21, minutes=30))
    return outcomes(events(final, FORMS), final)


def indicators_of(bars: pl.DataFrame, names: Mapping[str, str]) -> pl.DataFrame:
    """A row a bar; there is no benchmark."""
    nobody = pl.lit(None, pl.Float64).alias(market_column(None))
    return compute(with_timeframes(bars.with_columns(nobody), "1d", names), CORE)


def documents_of(
    own: Series,
    labels: pl.DataFrame,
    table: pl.DataFrame,
    indicators: pl.DataFrame,
    known: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Leaves]:
    """The statistical document as JSON keeps it, and the leaves of all three, of ``own`` and what its end knows."""
    until = labels_since(known, own, TABLE)
    at = labels["timestamp"].to_physical().to_numpy()
    new = at > (own.at[0] - 1 if until is None else until)
    code = labels["regime"].cast(pl.Enum(REGIMES)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    newest = indicators.filter(pl.col("timestamp").to_physical() == own.at[-1]).row(0, named=True)
    figures = {
        "at": newest["timestamp"].isoformat(),
        "table": TABLE,
        "values": {name: newest[name] for name in CORE.columns},
    }
    seen = Labels(TABLE, REGIMES, at[new], code[new])
    statistical = json.loads(json.dumps(statistical_profile(own, A_YEAR, known, seen, figures)))
    begun = known_by(newest["timestamp"], 28)
    found = rates(table, labels.select("symbol", "timestamp", "regime"), {own.symbol: begun}, FORMS.rate_prior)
    patterns = {"known_until": begun.isoformat(), "least": LEAST, "prior": FORMS.rate_prior, "patterns": "x"}
    patterns |= {"regimes": TABLE, "rates": cells(found, LEAST).get(own.symbol, {})}
    whole = {STATISTICAL: statistical, COMPANY: company_profile(own, statistical, TOLD), PATTERNS: patterns}
    flat = {(kind, path): value for kind, document in whole.items() for path, value in leaves(document)}
    return statistical, flat


def at_once(history: History) -> Leaves:
    return Desk().bring_on(history)


def differing(ours: Leaves, theirs: Leaves, rel: float) -> dict[str, tuple[Any, Any]]:
    """The leaves that are not in both, or not the same: numbers to ``rel``, and what is 0 but for rounding is 0."""
    wrong = {}
    for leaf in ours.keys() | theirs.keys():
        one, other = ours.get(leaf), theirs.get(leaf)
        numbers = isinstance(one, float) and isinstance(other, float)
        if not (math.isclose(one, other, rel_tol=rel, abs_tol=1e-12) if numbers else one == other):
            wrong[" ".join(leaf)] = (one, other)
    return wrong


# -- histories --------------------------------------------------------------------------------------------------------


SEEDS = (1, 2, 3)


@cache
def simulated(seed: int) -> History:
    """Five and a half years in whole cents, a split and more a year, dividends by the quarter."""
    chosen = SimulationParameters(seed=seed, symbols=1, split_rate=1.0, dividend_share=1.0, late_share=0.0)
    market = simulate(chosen, symbols=["SIM01"], first=date(2015, 1, 2), last=date(2020, 6, 30))
    bars = market.bars.with_columns(pl.col(*OHLC).round(2), listing=pl.lit(date(2015, 1, 2)))
    return History(bars.with_columns(flags=pl.lit(None, pl.String)), market.actions)


@cache
def whole(seed: int) -> Leaves:
    return at_once(simulated(seed))


@pytest.fixture(scope="module")
def apple(shared_data: Path) -> History:
    rows = pl.read_parquet(shared_data / "lean_us_daily_raw.parquet").filter(pl.col("symbol") == "AAPL")
    rows = rows.with_columns(pl.col("timestamp").cast(TIME), pl.col("volume").cast(pl.Float64))
    day = pl.col("timestamp").dt.date()
    actions = [
        rows.filter(pl.col(column) != 0.0).select("symbol", ex_date=day, kind=pl.lit(kind), value=column)
        for column, kind in (("splits", SPLIT), ("dividends", DIVIDEND))
    ]
    bars = rows.select("symbol", "timestamp", *OHLCV, listing=day.first(), flags=pl.lit(None, pl.String))
    return History(bars, pl.concat(actions).cast(dict(ACTIONS)).sort("ex_date"))  # type: ignore[arg-type]


def around(history: History, day: date, before: int, after: int) -> History:
    """A listing that begins so many bars before ``day``."""
    place = int((history.bars["timestamp"].dt.date() < day).sum())
    bars = history.bars.slice(place - before, before + after)
    begins, ends = bars["timestamp"].dt.date()[0], bars["timestamp"].dt.date()[-1]
    return History(
        bars.with_columns(listing=pl.lit(begins)), history.actions.filter(pl.col("ex_date").is_between(begins, ends))
    )


#: A split without dividends about it, and two with.
SPLITS = (date(2000, 6, 21), date(2014, 6, 9), date(2020, 8, 31))


def brought_on(history: History, stops: Sequence[int]) -> Leaves:
    desk = Desk()
    for stop in sorted({min(stop, len(history)) for stop in stops} | {len(history)}):
        found = desk.bring_on(history.known(stop))
    return found


def as_it_was(history: History, bars: int) -> Leaves:
    """The documents of bar ``bars``, made of everything that is known today."""
    adjusted_bars = history.adjusted()
    until = pl.col("timestamp") <= adjusted_bars["timestamp"][bars - 1]
    labels = regimes(adjusted_bars, RULES).filter(until)
    indicators = indicators_of(adjusted_bars, history.names)
    return documents_of(history.series().head(bars), labels, outcomes_of(adjusted_bars), indicators)[1]


def in_scale(found: Leaves, price: float, volume: float) -> Leaves:
    """What the leaves are to be at prices times ``price`` and volume times ``volume``."""
    factors = {leaf: price**by_price * volume**by_volume for leaf, (by_price, by_volume) in SCALES.items()}
    return found | {leaf: found[leaf] * factor for leaf, factor in factors.items() if leaf in found}


# -- the laws ---------------------------------------------------------------------------------------------------------


def test_every_declared_field_is_held_to_the_laws() -> None:
    found = {(kind, field_of(kind, path)) for seed in SEEDS for kind, path in whole(seed)}
    absent = {
        path for kind, declared in DOCUMENTS.items() for path, one in declared.items() if (kind, one) not in found
    }
    assert absent == {"fundamentals.*.value"}, "which stands for the source's own fields"
    assert {leaf for seed in SEEDS for leaf in whole(seed)} >= SCALES.keys()


@settings(max_examples=4)
@given(seed=st.sampled_from(SEEDS), stops=st.sets(st.integers(1, 1_380), min_size=1, max_size=4))
@example(seed=1, stops={1, 2, 600})
def test_documents_in_any_chunks_are_those_at_once(seed: int, stops: set[int]) -> None:
    assert differing(brought_on(simulated(seed), sorted(stops)), whole(seed), 1e-9) == {}


@settings(max_examples=4)
@given(seed=st.sampled_from(SEEDS), bars=st.integers(1, 1_380))
def test_what_becomes_known_later_changes_no_leaf(seed: int, bars: int) -> None:
    history = simulated(seed)
    assert differing(as_it_was(history, bars), at_once(history.known(bars)), 1e-9) == {}


@settings(max_examples=4)
@given(
    seed=st.sampled_from(SEEDS),
    price=st.sampled_from([1e-9, 1e-3, 1 / 7, 0.3, 7.0, 1e6]),
    volume=st.sampled_from([1e-6, 1 / 3, 1e3]),
)
def test_scaling_prices_and_volume_changes_only_what_is_in_currency(seed: int, price: float, volume: float) -> None:
    scaled = at_once(simulated(seed).scaled(price, volume))
    assert differing(scaled, in_scale(whole(seed), price, volume), 1e-8) == {}


@pytest.mark.parametrize("day", SPLITS, ids=str)
def test_real_documents_obey_all_three_laws_across_a_split(apple: History, day: date) -> None:
    history = around(apple, day, before=280, after=120)
    found = at_once(history)
    assert differing(brought_on(history, [279, 280, 281, 330]), found, 1e-9) == {}
    assert differing(as_it_was(history, 279), at_once(history.known(279)), 1e-9) == {}
    scaled = at_once(history.scaled(1 / 7, 3.0))
    assert differing(scaled, in_scale(found, 1 / 7, 3.0), 1e-8) == {}


@pytest.mark.slow
@settings(max_examples=25)
@given(
    stops=st.sets(st.integers(1, 5_840), min_size=1, max_size=12),
    price=st.floats(1e-6, 1e6),
    volume=st.floats(1e-6, 1e6),
)
def test_twenty_years_of_apple_obey_them_too(apple: History, stops: set[int], price: float, volume: float) -> None:
    found, first = at_once(apple), min(stops)
    assert differing(brought_on(apple, sorted(stops)), found, 1e-9) == {}
    assert differing(as_it_was(apple, first), at_once(apple.known(first)), 1e-9) == {}
    assert differing(at_once(apple.scaled(price, volume)), in_scale(found, price, volume), 1e-8) == {}
