"""Regimes: the laws first, then what each name means, then how often the names are right where the truth is known.

The truth is known on simulated markets. There, filters of the same truth bound what can be had: one that knows the
parameters, and one that had to fit them on the past. Thresholds of the rules were chosen on seeds 1 and 2; nothing here
uses these.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy.stats import t as student

from alpha_assets.quant import simulate, symbols
from alpha_assets.quant.adjust import adjusted
from alpha_assets.quant.hidden_markov import Chains, forward_filter
from alpha_assets.quant.kernels import settled
from alpha_assets.quant.parameters import RegimeParameters, SimulationParameters
from alpha_assets.quant.regimes import (
    ABOVE_ALL,
    LABELLED,
    NONE,
    REGIMES,
    Floats,
    _states,
    memory,
    regime_scores,
    regimes,
    trailing_share,
    warm_up,
)

RULES = RegimeParameters()
FILTER = RegimeParameters(method="hmm", hmm_bars=200, hmm_iterations=5)
#: Windows short enough that a listing of some hundred bars reaches back beyond them.
SHORT = RegimeParameters(percentile_bars=60, percentile_least=20, adx_bars=5, bandwidth_bars=10, volatility_bars=5)
METHODS = {"rules": RULES, "short": SHORT, "hmm": FILTER}
PROBABILITIES = [f"regime_p_{name}" for name in REGIMES]
FIRST = datetime(2010, 1, 4, tzinfo=UTC)


def bars(seed: int, lengths: Mapping[str, tuple[int, ...]]) -> pl.DataFrame:
    """Random walks with calm and wild spells, and stretches without any trade; a length a listing of each symbol."""
    stream = np.random.default_rng(seed)
    frames = []
    for symbol, listings in lengths.items():
        begin = FIRST
        for length in listings:
            spell = np.repeat(stream.choice([0.0, 0.3, 1.0, 1.0, 3.0], length // 40 + 1), 40)[:length]
            step, gap = 0.01 * spell * stream.standard_normal((2, length)) + 0.001 * np.sign(spell)
            path = np.cumsum(step + gap / 3)
            close = 50 * np.exp(path)
            opened = close * np.exp(-step)
            reach = np.exp(0.01 * spell[:, None] * np.abs(stream.standard_normal((length, 2))))
            frames.append(
                pl.DataFrame(
                    {
                        "symbol": symbol,
                        "timestamp": [begin + timedelta(days=day) for day in range(length)],
                        "listing": begin.date(),
                        "open": opened,
                        "high": np.maximum(opened, close) * reach[:, 0],
                        "low": np.minimum(opened, close) / reach[:, 1],
                        "close": close,
                        "volume": 1.0,
                    }
                ).with_columns(pl.col("timestamp").dt.cast_time_unit("us"))
            )
            begin += timedelta(days=length + 100)
    return pl.concat(frames)


def one(length: int, seed: int = 0) -> pl.DataFrame:
    return bars(seed, {"AAA": (length,)})


def shaped(close: Floats, spread: float = 0.0) -> pl.DataFrame:
    """Bars that open at the close before."""
    opened = np.concatenate([close[:1], close[:-1]])
    return one(len(close)).with_columns(
        open=opened,
        close=close,
        high=np.maximum(opened, close) * (1 + spread),
        low=np.minimum(opened, close) * (1 - spread),
    )


def same(left: pl.DataFrame, right: pl.DataFrame, tolerance: float = 1e-9) -> None:
    """Labels identical, probabilities within ``tolerance``."""
    assert_frame_equal(left.drop(PROBABILITIES), right.drop(PROBABILITIES))
    assert_frame_equal(left, right, rel_tol=0, abs_tol=tolerance)


# Laws


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), cut=st.integers(1, 1199), method=st.sampled_from(list(METHODS)))
def test_later_bars_change_no_regime(seed: int, cut: int, method: str) -> None:
    history = one(1200, seed)
    same(regimes(history.head(cut), METHODS[method]), regimes(history, METHODS[method]).head(cut))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), method=st.sampled_from(list(METHODS)), data=st.data())
def test_updates_in_chunks_equal_a_rebuild_and_read_only_the_memory(
    seed: int, method: str, data: st.DataObject
) -> None:
    parameters = METHODS[method]
    history = bars(seed, {"AAA": (1500,), "BBB": (300, 900), "CCC": (50, 30)})
    days = sorted(history["timestamp"].unique())
    cuts = sorted(data.draw(st.sets(st.integers(1, len(days) - 1), min_size=1, max_size=6)))
    stored = regimes(history.filter(pl.col("timestamp") < days[cuts[0]]), parameters)
    back = memory(parameters)
    for begin, end in zip(cuts, [*cuts[1:], len(days)], strict=True):
        known = history.filter(pl.col("timestamp") < days[end - 1] + timedelta(days=1))
        old = pl.col("timestamp") < days[begin]
        before = known.filter(old)
        read = pl.concat([before if back is None else before.group_by("symbol").tail(back), known.filter(~old)])
        last = stored.group_by("symbol").last().select("symbol", "timestamp", "regime")
        new = regimes(read.sort("symbol", "timestamp"), parameters, last)
        assert new.filter(old).is_empty()
        stored = pl.concat([stored, new]).sort("symbol", "timestamp")
    same(stored, regimes(history, parameters))


def test_a_market_that_stood_still_longer_than_the_memory_is_resumed_as_rebuilt() -> None:
    moving, back = noise(1600, 0.01, 5), memory(RULES) or 0
    moving[300 : 400 + back] = 0
    history = shaped(np.exp(np.cumsum(moving)))
    full = regimes(history, RULES)
    for begin in range(350 + back, 600 + back, 10):
        read = history.slice(begin - back, back + 10)
        same(regimes(read, RULES, full.slice(begin - 1, 1)), full.slice(begin, 10))


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32),
    c=st.sampled_from([0.25, 7.0, 1e-9, 1e-16, 1e9, 0.1]),
    method=st.sampled_from(list(METHODS)),
)
def test_scaling_prices_changes_no_regime(seed: int, c: float, method: str) -> None:
    history = one(900, seed)
    scaled = history.with_columns(pl.col("open", "high", "low", "close") * c)
    same(regimes(scaled, METHODS[method]), regimes(history, METHODS[method]), tolerance=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_crosses_from_one_series_to_another(method: str) -> None:
    both = bars(2, {"AAA": (700,), "BBB": (400, 700)})
    together = regimes(both, METHODS[method])
    for _, series in both.group_by("symbol", "listing"):
        alone = regimes(series.sort("timestamp"), METHODS[method])
        keys = series.select("symbol", "timestamp").sort("timestamp")
        same(alone, keys.join(together, on=["symbol", "timestamp"], maintain_order="left"))


@pytest.mark.parametrize("method", METHODS)
def test_a_bar_has_a_regime_exactly_from_the_end_of_the_warm_up(method: str) -> None:
    found = regimes(one(700, 11), METHODS[method])
    blank = warm_up(METHODS[method])
    assert found.schema == pl.Schema(LABELLED)
    assert found["regime"].is_null().to_list() == [True] * blank + [False] * (700 - blank)
    for column in PROBABILITIES:
        assert_frame_equal(
            found.select(pl.col(column).is_null()), found.select(pl.col("regime").is_null().alias(column))
        )
    sums = found.tail(700 - blank).select(pl.sum_horizontal(PROBABILITIES)).to_series()
    assert sums.to_numpy() == pytest.approx(np.ones(700 - blank), abs=1e-12)
    assert found.select(pl.min_horizontal(PROBABILITIES).min()).item() >= 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("length", [1, 2, 19])
def test_too_short_a_series_has_no_regime(method: str, length: int) -> None:
    assert regimes(one(length), METHODS[method])["regime"].null_count() == length


@pytest.mark.parametrize("method", METHODS)
def test_no_bars_have_no_regimes(method: str) -> None:
    assert regimes(one(5).clear(), METHODS[method]).schema == pl.Schema(LABELLED)


def test_a_stored_row_without_regime_and_an_unknown_symbol_start_with_the_listing() -> None:
    history = bars(6, {"AAA": (300,), "BBB": (300,)})
    last = regimes(history.filter(pl.col("timestamp") < FIRST + timedelta(days=30)), RULES).group_by("symbol").last()
    stored = last.filter(pl.col("symbol") == "AAA")
    assert stored["regime"].to_list() == [None]
    wanted = pl.col("timestamp") >= pl.when(pl.col("symbol") == "AAA").then(FIRST + timedelta(days=30)).otherwise(FIRST)
    same(regimes(history, RULES, stored), regimes(history, RULES).filter(wanted))


# What the names mean


def test_the_names_are_those_of_the_partitions_and_of_the_simulated_truth() -> None:
    assert ("all", *REGIMES) == symbols.REGIMES
    assert simulate.REGIMES == REGIMES


def likeliest(series: pl.DataFrame, last: int) -> set[str]:
    return set(regimes(series, RULES).tail(last)["regime"])


def noise(length: int, size: float, seed: int = 0) -> Floats:
    return size * np.random.default_rng(seed).standard_normal(length)


def test_a_steady_climb_and_a_steady_fall_are_trends() -> None:
    for way in (1, -1):
        climb = noise(600, 0.01)
        climb[560:] = 0.3 * climb[560:] + way * 0.005
        assert likeliest(shaped(np.exp(np.cumsum(climb)), 0.005), 15) == {"trending"}


def test_a_burst_is_volatile_though_it_goes_nowhere() -> None:
    wild = noise(600, 0.01)
    wild[570:] *= 4
    assert likeliest(shaped(np.exp(np.cumsum(wild)), 0.005), 15) == {"volatile"}


def test_a_lull_is_consolidation_and_so_is_a_market_that_stands_still() -> None:
    for rest in (0.2, 0.0):
        lull = noise(600, 0.01)
        lull[570:] *= rest
        assert likeliest(shaped(np.exp(np.cumsum(lull))), 5) == {"consolidation"}
    assert likeliest(shaped(np.full(600, 17.3)), 400) == {"consolidation"}


def test_to_and_fro_at_the_usual_pace_is_sideways() -> None:
    swing = np.exp(0.02 * np.sin(np.arange(600) * 2 * np.pi / 5) + np.cumsum(noise(600, 0.002)))
    assert (
        regimes(shaped(swing, 0.002), RULES).drop_nulls()["regime"].value_counts(sort=True)["regime"][0] == "sideways"
    )


def test_hysteresis_makes_fewer_switches_and_keeps_the_accuracy() -> None:
    market = Simulated(seed=11, count=6)
    held, plain = (market.scores(parameters) for parameters in (RULES, replace(RULES, margin=0.0, confirm=1)))
    assert held["switches"] < 0.6 * plain["switches"]
    assert held["balanced_accuracy"] > plain["balanced_accuracy"] - 0.03


# The parts


@given(
    values=st.lists(st.integers(-5, 5), min_size=1, max_size=60),
    cuts=st.sets(st.integers(1, 59), max_size=3),
    bars=st.sampled_from([2, 3, 7, 300]),
    blank=st.integers(0, 3),
)
def test_a_share_is_what_counting_gives(values: list[int], cuts: set[int], bars: int, blank: int) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(values)), len(values)]
    starts, ends = np.array(edges[:-1]), np.array(edges[1:])
    steps = np.array(values, np.int16)
    for start, end in zip(starts, ends, strict=True):
        steps[start : min(start + blank, end)] = ABOVE_ALL
    expected = []
    for start, end in zip(starts, ends, strict=True):
        for row in range(start, end):
            before = [step for step in steps[max(start, row - bars + 1) : row] if step != ABOVE_ALL]
            share = float(np.mean([step < steps[row] for step in before])) if before else 0.0
            expected.append(np.nan if steps[row] == ABOVE_ALL else share)
    assert trailing_share(steps, starts, ends, bars) == pytest.approx(np.array(expected), abs=1e-12, nan_ok=True)


def test_a_share_counts_beyond_what_a_byte_holds() -> None:
    rising = np.arange(2000, dtype=np.int16)
    share = trailing_share(rising, np.array([0]), np.array([2000]), 1500)
    assert share[1:].tolist() == [1.0] * 1999


@given(
    seed=st.integers(0, 2**32),
    margin=st.sampled_from([0.0, 0.1, 0.3]),
    confirm=st.integers(1, 4),
    blank=st.integers(0, 5),
    holder=st.integers(NONE, 3),
)
def test_the_label_goes_as_it_would_bar_by_bar(seed: int, margin: float, confirm: int, blank: int, holder: int) -> None:
    stream = np.random.default_rng(seed)
    probabilities = stream.dirichlet(np.full(4, 0.5), 80).T
    probabilities[:, :blank] = np.nan
    first = 0 if holder == NONE else max(blank, 40)
    now, expected = holder, []
    for bar in range(first, 80):
        here = probabilities[:, bar]
        best = int(np.argmax(here))
        window = probabilities[:, max(0, bar - confirm + 1) : bar + 1]
        if bar < blank:
            expected.append(NONE)
            continue
        if now == NONE:
            now = best
        elif window.shape[1] == confirm and not np.isnan(window).any():
            leads = window[best] - window[now] > margin
            now = best if leads.all() and (window.argmax(axis=0) == best).all() else now
        expected.append(now)
    labels = settled(
        np.ascontiguousarray(probabilities), np.array([first]), np.array([80]), np.array([holder]), margin, confirm
    )
    assert labels[first:].tolist() == expected
    assert set(labels[:first].tolist()) <= {NONE}


def test_a_state_is_named_by_its_deviation_and_between_the_extremes_by_its_drift_up_or_down() -> None:
    chains = Chains(
        start=np.full((2, 4), 0.25),
        transition=np.broadcast_to(np.eye(4), (2, 4, 4)),
        mean=np.array([[0.0, 0.001, 0.5, 0.0], [-0.003, 0.001, 0.5, 0.0]]),
        deviation=np.array([[0.03, 0.02, 0.04, 0.01], [0.03, 0.02, 0.04, 0.01]]),
    )
    named = [dict(zip(REGIMES, states, strict=True)) for states in _states(chains).tolist()]
    assert named[0] == {"trending": 1, "sideways": 0, "volatile": 2, "consolidation": 3}
    assert named[1] == {"trending": 0, "sideways": 1, "volatile": 2, "consolidation": 3}


def rows(names: str, symbol: str = "AAA") -> pl.DataFrame:
    """A row a letter: t, s, v, c, or a dash for none."""
    full = {name[0]: name for name in REGIMES}
    return pl.DataFrame(
        {
            "symbol": symbol,
            "timestamp": [FIRST + timedelta(days=day) for day in range(len(names))],
            "regime": pl.Series([full.get(letter) for letter in names], dtype=pl.String),
        }
    )


def test_scores_of_a_hand_made_case() -> None:
    truth = pl.concat([rows("tttttvvvvvsssss"), rows("ss", "BBB")])
    labels = pl.concat([rows("--tttttvvvtssts"), rows("tt", "BBB")])
    scores = regime_scores(truth, labels)
    assert scores["recall_trending"] == 1
    assert scores["recall_volatile"] == pytest.approx(3 / 5)
    assert scores["recall_sideways"] == pytest.approx(3 / 7)
    assert scores["balanced_accuracy"] == pytest.approx((1 + 3 / 5 + 3 / 7) / 3)
    assert scores["delay"] == 1.5
    assert scores["found"] == 1
    assert scores["switches"] == pytest.approx(100 * 5 / 13)


def test_a_spell_that_nobody_named_counts_as_the_longest_delay() -> None:
    scores = regime_scores(rows("tttvvvsssttt"), rows("tttvvvvvvvtt"))
    assert scores["found"] == pytest.approx(2 / 3)
    assert scores["delay"] == 1
    with pytest.raises(ValueError, match="nothing can be scored"):
        regime_scores(rows("ttt"), rows("---"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "oracle"),
        ("volatility_bars", 0),
        ("percentile_least", 505),
        ("volatile_from", 1.5),
        ("consolidation_to", 0.8),
        ("percentile_softness", 0.0),
        ("margin", 1.0),
        ("margin", -0.1),
        ("confirm", 0),
        ("hmm_bars", 5),
    ],
)
def test_parameters_that_name_no_regime_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name if name != "percentile_least" else "percentile_bars"):
        replace(RULES, **{name: value})


# The truth


class Simulated:
    """A market, its truth, and the scores of whatever names its regimes."""

    def __init__(self, seed: int, count: int, years: int = 8, **parameters: Any) -> None:
        still: dict[str, Any] = {"late_share": 0.0, "delisted_share": 0.0, "volatility_spread": 0.0, "edge_share": 1.0}
        self.parameters = SimulationParameters(seed=seed, **(still | {"edge": 0.0} | parameters))
        first = date(2010, 1, 4)
        names = simulate.default_symbols(count)
        market = simulate.simulate(self.parameters, symbols=names, first=first, last=date(2010 + years, 1, 4))
        self.truth = market.truth
        self.count = count
        self.bars = (
            adjusted(market.bars, market.actions).with_columns(listing=pl.lit(first)).sort("symbol", "timestamp")
        )

    def scores(self, parameters: RegimeParameters, from_bar: int = 504) -> dict[str, float]:
        """Of the bars that every method names."""
        return self.of(regimes(self.bars, parameters), from_bar)

    def of(self, labels: pl.DataFrame, from_bar: int = 504) -> dict[str, float]:
        early = pl.int_range(pl.len()).over("symbol") < from_bar
        return regime_scores(
            self.truth, labels.with_columns(regime=pl.when(early).then(None).otherwise(pl.col("regime")))
        )

    def ceiling(self) -> pl.DataFrame:
        """Labels by the forward filter that knows the market: four regimes times a grid of log-volatility.

        It sees the body of each bar, as the fitted filter sees its return.
        """
        p = self.parameters
        spells, multiples, drifts = (
            np.array([getattr(p, f"{regime}_{figure}") for regime in REGIMES])
            for figure in ("spell", "volatility", "drift")
        )
        drifts = drifts - np.average(drifts, weights=spells)
        variance = np.average(drifts**2, weights=spells)
        grid = np.linspace(-2.5, 2.5, 15) if p.clustering > 0 else np.zeros(1)
        keep = 0.5 ** (1 / p.clustering_half_life)
        moods = np.exp(-0.5 * (grid - keep * grid[:, None]) ** 2 / (1 - keep**2))
        stay = 1 - 1 / spells
        moves = np.diag(stay) + (1 - np.eye(4)) * (1 - stay)[:, None] / 3
        transition = np.kron(moves, moods / moods.sum(axis=1, keepdims=True))
        sigma = p.volatility * multiples[:, None] * np.exp(p.clustering * grid - p.clustering**2)
        body = (1 - simulate.TICK) * (1 - p.overnight)
        mean = (p.edge * drifts / np.sqrt(1 + variance))[:, None] * sigma * body
        scale = sigma * np.sqrt(body) * ((p.tail - 2) / p.tail) ** 0.5
        seen = (self.bars["close"] / self.bars["open"] - 1).to_numpy().reshape(self.count, -1, 1, 1)
        logs = student.logpdf((seen - mean) / scale, p.tail) - np.log(scale)
        density = np.exp(logs - logs.max(axis=(2, 3), keepdims=True)).reshape(*seen.shape[:2], -1)
        start = np.full((self.count, density.shape[2]), 1 / density.shape[2])
        filtered = forward_filter(density, transition, start).reshape(-1, 4, len(grid)).sum(axis=2)
        named = pl.Series(REGIMES).gather(pl.Series(filtered.argmax(axis=1)))
        return self.bars.select("symbol", "timestamp").with_columns(named.alias("regime"))


#: Without an edge regimes differ in volatility alone. ``trends``: half of what moves a trending market is its drift.
MARKETS: dict[str, dict[str, float]] = {
    "no edge": {},
    "the demo's edge": {"edge": 0.15},
    "trends": {"edge": 0.4, "trending_drift": 2.0, "volatile_drift": 0.0, "momentum": True},
    "no edge, steady": {"clustering": 0.0},
    "trends, steady": {
        "clustering": 0.0,
        "edge": 0.4,
        "trending_drift": 2.0,
        "volatile_drift": 0.0,
        "momentum": True,
    },
}
#: The classic filter: the likeliest state, bar by bar.
FITTED = RegimeParameters(method="hmm", margin=0.0, confirm=1)


def compared(name: str, seed: int, count: int, years: int) -> dict[str, dict[str, float]]:
    market = Simulated(seed, count, years, **MARKETS[name])
    found = {
        "rules": market.scores(RULES),
        "true parameters": market.of(market.ceiling()),
        "fitted": market.scores(FITTED),
        "fitted, held": market.scores(replace(RULES, method="hmm")),
    }
    for method, scores in found.items():
        figures = ", ".join(f"{key} {value:.3f}" for key, value in scores.items())
        print(f"{name} (seed {seed}, {count} symbols, {years} years), {method}: {figures}")
    return found


def judged(found: dict[str, dict[str, float]]) -> None:
    rules, fitted, ceiling = found["rules"], found["fitted"], found["true parameters"]
    assert rules["balanced_accuracy"] >= fitted["balanced_accuracy"] - 0.05
    assert rules["switches"] < fitted["switches"]
    assert ceiling["balanced_accuracy"] > max(rules["balanced_accuracy"], fitted["balanced_accuracy"])
    assert rules["balanced_accuracy"] > 0.35, "chance is 0.25"


@pytest.mark.parametrize("name", ["no edge", "trends"])
def test_rules_are_as_right_as_a_fitted_filter_with_fewer_switches(name: str) -> None:
    judged(compared(name, seed=101, count=8, years=8))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [201, 202, 203])
@pytest.mark.parametrize("name", MARKETS)
def test_rules_are_as_right_as_a_fitted_filter_on_larger_markets(name: str, seed: int) -> None:
    judged(compared(name, seed=seed, count=40, years=12))


# Real bars


def test_real_bars_have_every_regime_and_updates_equal_the_rebuild(shared_data: Path) -> None:
    wanted = ["AAPL", "AMD", "BBY", "JPM", "XOM", "VRTX"]
    history = (
        pl.read_parquet(shared_data / "sp500_daily_2013_2018.parquet")
        .filter(pl.col("symbol").is_in(wanted))
        .drop_nulls()
        .with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")), listing=pl.lit(date(2013, 2, 8)))
        .sort("symbol", "timestamp")
    )
    full = regimes(history, RULES)
    shares = full.drop_nulls().group_by("regime").len()
    assert set(shares["regime"]) == set(REGIMES)
    assert shares["len"].min() / shares["len"].sum() > 0.05  # type: ignore[operator]
    by_symbol = full.group_by("symbol", maintain_order=True)
    stored = by_symbol.tail(20).group_by("symbol").first()
    tail = history.group_by("symbol", maintain_order=True).tail((memory(RULES) or 0) + 19)
    same(regimes(tail, RULES, stored), by_symbol.tail(19))
