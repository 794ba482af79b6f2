"""Rates of patterns are those of a count by hand, of one symbol and no other, from outcomes known by then."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from alpha_assets.quant.pattern_rates import ALL, RATES, cells, known_by, rates, running, told_horizon
from alpha_assets.quant.profile_schema import PATTERNS, RATE_FIGURES, faults
from alpha_assets.quant.schema import TIME

START = datetime(2015, 1, 1, tzinfo=UTC)
FOR_EVER = datetime(2100, 1, 1, tzinfo=UTC)
PRIOR = 20.0


def events_of(
    symbol: str, returns: list[float], direction: int = 1, pattern: str = "breakout_up", horizon: int = 1
) -> pl.DataFrame:
    """An event every third day, each known two days after the last bar held."""
    stamps = pl.Series([START + timedelta(days=3 * place) for place in range(len(returns))], dtype=TIME)
    right = [None if direction == 0 else value * direction > 0 for value in returns]
    return pl.DataFrame(
        {
            "symbol": [symbol] * len(returns),
            "timestamp": stamps,
            "pattern": [pattern] * len(returns),
            "direction": pl.Series([direction] * len(returns), dtype=pl.Int8),
            f"return_{horizon}": returns,
            f"success_{horizon}": right,
            f"known_{horizon}": stamps.dt.offset_by(f"{horizon + 2}d"),
        },
        schema_overrides={f"success_{horizon}": pl.Boolean()},
    )


def in_regime(table: pl.DataFrame, regime: str | None = "trending") -> pl.DataFrame:
    return table.select("symbol", "timestamp", regime=pl.lit(regime, pl.String)).unique()


def counted(table: pl.DataFrame, regimes: pl.DataFrame | None = None, until: datetime = FOR_EVER) -> pl.DataFrame:
    """The rates of all symbols of a table with one horizon, 1 unless there is another."""
    horizon = next(int(name.removeprefix("known_")) for name in table.columns if name.startswith("known_"))
    known = dict.fromkeys(table["symbol"].unique(), until)
    return rates(table, in_regime(table) if regimes is None else regimes, known, PRIOR, horizons=[horizon])


def test_outcomes_known_by_then_count_and_no_later_one() -> None:
    table = events_of("SYM", [0.01, 0.02, -0.03, 0.04])
    known = [counted(table, until=START + timedelta(days=day)).filter(regime=ALL) for day in (2, 8, 9, 99)]
    assert [(part["count"].sum(), part["successes"].sum()) for part in known] == [(0, 0), (2, 2), (3, 2), (4, 3)]
    last = known[-1].row(0, named=True)
    assert (last["symbol"], last["pattern"], last["horizon"], last["rate"]) == ("SYM", "breakout_up", 1, 0.75)
    assert last["mean_return"] == pytest.approx(0.01)


def test_each_symbol_has_its_own_time_and_who_is_not_asked_for_is_left_out() -> None:
    table = pl.concat([events_of(symbol, [0.01] * 4) for symbol in ("A", "B", "C")])
    known = {"A": START + timedelta(days=8), "C": FOR_EVER, "D": FOR_EVER}
    found = rates(table, in_regime(table), known, PRIOR, horizons=[1]).filter(regime=ALL)
    assert found.select("symbol", "count").rows() == [("A", 2), ("C", 4)]


@given(
    returns=st.lists(st.sampled_from([-0.02, 0.01]), min_size=1, max_size=12),
    horizon=st.sampled_from([1, 5, 20]),
    seed=st.integers(0, 99),
)
def test_the_rate_at_each_event_is_that_of_a_count_of_what_was_known_when_its_bar_began(
    returns: list[float], horizon: int, seed: int
) -> None:
    parts = [
        events_of("SYM", returns, direction=1, horizon=horizon),
        events_of("OTHER", returns[::-1], -1, horizon=horizon),
    ]
    parts += [
        events_of("SYM", returns[::-1], pattern="flag", horizon=horizon),
        events_of("SYM", returns, direction=0, pattern="CDLDOJI", horizon=horizon),
    ]
    table = pl.concat(parts).sample(fraction=1, shuffle=True, seed=seed)
    told = running(table, horizon, PRIOR)
    key = ["symbol", "timestamp", "pattern"]
    asked = table.filter(pl.col("direction") != 0).select(key)
    assert_frame_equal(told.select(key), asked)  # of patterns without direction there is no success
    for symbol, at, pattern, _, success in told.iter_rows():
        counted_by_then = counted(table.filter(symbol=symbol), until=at)
        row = counted_by_then.filter(regime=ALL, pattern=pattern)
        assert success == pytest.approx(row["shrunk"][0] if row.height and row["shrunk"][0] is not None else 0.5)


@pytest.mark.parametrize(("horizon", "told"), [(1, 1), (4, 1), (5, 5), (30, 20)])
def test_the_outcomes_that_are_counted_are_the_longest_that_a_label_holds(horizon: int, told: int) -> None:
    assert told_horizon(horizon) == told


def test_without_events_there_are_no_rates() -> None:
    table = events_of("SYM", [0.01])
    found = rates(table, in_regime(table), {"OTHER": FOR_EVER}, PRIOR, horizons=[1])
    assert_frame_equal(found, pl.DataFrame(schema=dict(RATES)))


def test_the_mean_return_is_in_the_direction_of_the_event_and_undirected_patterns_have_no_rate() -> None:
    table = pl.concat([events_of("SYM", [-0.02, -0.04], -1, "down"), events_of("SYM", [-0.02, 0.04], 0, "CDLDOJI")])
    by_name = {row["pattern"]: row for row in counted(table).to_dicts()}
    assert by_name["down"]["mean_return"] == pytest.approx(0.03)
    assert by_name["down"]["successes"] == 2
    assert by_name["CDLDOJI"]["mean_return"] == pytest.approx(0.01)
    assert by_name["CDLDOJI"]["count"] == 2
    assert [by_name["CDLDOJI"][name] for name in ("successes", "rate", "low", "high", "shrunk")] == [None] * 5


def test_an_event_without_a_regime_counts_in_all_of_them_only() -> None:
    table = events_of("SYM", [0.01, 0.02, -0.03, 0.04])
    regimes = table.select("symbol", "timestamp", regime=pl.Series(["volatile", None, "volatile", "trending"]))
    expected = [("all", 4), ("trending", 1), ("volatile", 2)]
    assert counted(table, regimes).select("regime", "count").rows() == expected
    assert counted(table, regimes.drop_nulls()).select("regime", "count").rows() == expected
    assert counted(table, regimes.clear()).select("regime", "count").rows() == [("all", 4)]


def test_a_rate_is_drawn_to_the_same_in_all_regimes_and_that_to_a_half() -> None:
    table = events_of("SYM", [0.01] * 30 + [-0.01] * 10)
    regimes = table.select("symbol", "timestamp", regime=pl.Series(["volatile"] * 4 + ["trending"] * 36))
    shown = {row["regime"]: row for row in counted(table, regimes).to_dicts()}
    overall = (30 + 20 * 0.5) / 60
    assert shown["all"]["shrunk"] == pytest.approx(overall)
    assert shown["volatile"]["rate"] == 1.0
    assert shown["volatile"]["shrunk"] == pytest.approx((4 + 20 * overall) / 24)
    assert shown["trending"]["shrunk"] == pytest.approx((26 + 20 * overall) / 56)


def test_the_interval_is_wilsons() -> None:
    shown = counted(events_of("SYM", [0.01, -0.01] * 100)).filter(regime=ALL).row(0, named=True)
    assert (shown["low"], shown["high"]) == pytest.approx((0.4314, 0.5686), abs=1e-4)


def test_outcomes_that_overlap_count_as_the_horizons_that_fit_into_their_time() -> None:
    # Twenty bars are held of the 22 until the outcome is known; the events come every third bar.
    shown = counted(events_of("SYM", [0.01] * 50, horizon=20)).filter(regime=ALL)
    assert shown["effective"].to_list() == pytest.approx([1 + 3 * 49 / 20])
    assert counted(events_of("SYM", [0.01] * 50)).filter(regime=ALL)["effective"].to_list() == [50.0]


@pytest.mark.parametrize(
    ("last", "days", "began"),
    [
        (datetime(2024, 1, 10, 15, 30, tzinfo=UTC), 7, datetime(2024, 1, 8, tzinfo=UTC)),
        (datetime(2024, 1, 8, tzinfo=UTC), 7, datetime(2024, 1, 8, tzinfo=UTC)),
        (datetime(2024, 1, 7, 23, 59, tzinfo=UTC), 7, datetime(2024, 1, 1, tzinfo=UTC)),
        (datetime(2024, 1, 10, tzinfo=UTC), 1, datetime(2024, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_period_begins_on_a_monday_at_midnight(last: datetime, days: int, began: datetime) -> None:
    assert known_by(last, days) == began


def test_a_period_lasts_as_many_days_as_it_should() -> None:
    began = [known_by(START + timedelta(days=day), 28) for day in range(28 * 4)]
    whole = [began.count(at) for at in sorted(set(began))][1:-1]
    assert whole
    assert set(whole) == {28}


# -- against a count by hand ------------------------------------------------------------------------------------------

Event = dict[str, Any]

HORIZONS = (1, 5)


def outcomes(at: datetime) -> st.SearchStrategy[dict[str, Any]]:
    """Returns by horizon and when each is known."""
    value = st.none() | st.floats(-0.5, 0.5, allow_subnormal=False)
    known = st.integers(2, 12).map(lambda days: at + timedelta(days=days))
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for h in HORIZONS:
        fields |= {f"return_{h}": value, f"known_{h}": known}
    return st.fixed_dictionaries(fields)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], dict[tuple[str, datetime], str | None]]:
    """Events of few symbols and patterns, and the regime of some of their bars."""
    keys = st.tuples(st.sampled_from(["A", "B"]), st.integers(0, 60), st.sampled_from(["up", "down", "doji"]))
    found = []
    for symbol, day, pattern in sorted(draw(st.sets(keys, max_size=20))):
        at = START + timedelta(days=day)
        direction = 0 if pattern == "doji" else draw(st.sampled_from([1, -1]))
        row = {"symbol": symbol, "timestamp": at, "pattern": pattern, "direction": direction, **draw(outcomes(at))}
        for h in HORIZONS:
            value = row[f"return_{h}"]
            row[f"success_{h}"] = None if value is None or direction == 0 else value * direction > 0
            row[f"known_{h}"] = None if value is None else row[f"known_{h}"]
        found.append(row)
    bars = {(row["symbol"], row["timestamp"]) for row in found}
    regime = st.sampled_from(["trending", "volatile", None])
    return found, {bar: draw(regime) for bar in sorted(bars) if draw(st.booleans())}


def tables(found: list[Event], regimes: Mapping[tuple[str, datetime], str | None]) -> tuple[pl.DataFrame, pl.DataFrame]:
    kinds = {"return": pl.Float64(), "success": pl.Boolean(), "known": TIME}
    schema = {"symbol": pl.String(), "timestamp": TIME, "pattern": pl.String(), "direction": pl.Int8()}
    schema |= {f"{kind}_{h}": of for kind, of in kinds.items() for h in HORIZONS}
    labels = [(*bar, regime) for bar, regime in regimes.items()]
    names = {"symbol": pl.String(), "timestamp": TIME, "regime": pl.String()}
    return pl.DataFrame(found, schema=schema), pl.DataFrame(labels, schema=names, orient="row")


def by_hand(
    found: list[Event], regimes: Mapping[tuple[str, datetime], str | None], until: Mapping[str, datetime], least: float
) -> dict[str, dict[str, Any]]:
    """The same documents, one cell after the other."""
    documents: dict[str, dict[str, Any]] = {}
    for symbol in until:
        for pattern in {row["pattern"] for row in found}:
            for h in HORIZONS:
                wider = 0.5
                for regime in (ALL, "trending", "volatile"):
                    rows = [
                        row
                        for row in found
                        if (row["symbol"], row["pattern"]) == (symbol, pattern)
                        and regime in (ALL, regimes.get((symbol, row["timestamp"])))
                        and row[f"return_{h}"] is not None
                        and row[f"known_{h}"] <= until[symbol]
                    ]
                    if not rows:
                        continue
                    figures = cell(rows, h, wider)
                    wider = figures.get("shrunk", wider) if regime == ALL else wider
                    if figures["effective"] >= least:
                        own = documents.setdefault(symbol, {}).setdefault(pattern, {})
                        own.setdefault(regime, {})[str(h)] = figures
    return documents


def cell(rows: list[Event], h: int, wider: float) -> dict[str, float]:
    n = len(rows)
    times = [row["timestamp"] for row in rows]
    lasted = sum((row[f"known_{h}"] - row["timestamp"]).total_seconds() for row in rows) / n * h / (h + 2)
    effective = min(n, 1 + (max(times) - min(times)).total_seconds() / lasted)
    mean = sum(row[f"return_{h}"] * (row["direction"] or 1) for row in rows) / n
    figures = {"count": n, "effective": effective, "mean_return": mean}
    if rows[0]["direction"] == 0:
        return figures
    right = sum(row[f"success_{h}"] for row in rows)
    p, z = right / n, 1.959964
    middle, scale = (p + z * z / (2 * effective)), 1 + z * z / effective
    width = z * math.sqrt(p * (1 - p) / effective + z * z / (4 * effective**2))
    return figures | {
        "successes": right,
        "rate": p,
        "low": (middle - width) / scale,
        "high": (middle + width) / scale,
        "shrunk": (effective * p + PRIOR * wider) / (effective + PRIOR),
    }


UNTIL = {"A": START + timedelta(days=40), "B": START + timedelta(days=70)}


@given(history=histories(), least=st.sampled_from([1.0, 2.3712, 5.9231]))
def test_documents_are_those_of_a_count_by_hand(
    history: tuple[list[Event], dict[tuple[str, datetime], str | None]], least: float
) -> None:
    found, expected = (
        cells(rates(*tables(*history), UNTIL, PRIOR, horizons=HORIZONS), least),
        by_hand(*history, UNTIL, least),
    )
    assert leaves_of(found).keys() == leaves_of(expected).keys()
    for path, value in leaves_of(expected).items():
        assert leaves_of(found)[path] == pytest.approx(value, rel=6e-3, abs=1e-12), path
    for rate in found.values():
        assert faults(PATTERNS, {"rates": rate}) == []


@given(history=histories())
def test_other_symbols_beside_it_change_no_bit_of_a_symbols_rates(
    history: tuple[list[Event], dict[tuple[str, datetime], str | None]],
) -> None:
    table, regimes = tables(*history)
    together = rates(table, regimes, UNTIL, PRIOR, horizons=HORIZONS)
    for symbol, until in UNTIL.items():
        alone = rates(table.filter(symbol=symbol), regimes, {symbol: until}, PRIOR, horizons=HORIZONS)
        assert_frame_equal(together.filter(symbol=symbol), alone, check_exact=True)


def leaves_of(documents: Mapping[str, Any], at: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for name, value in documents.items():
        path = (*at, name)
        found |= leaves_of(value, path) if isinstance(value, Mapping) else {path: value}
    return found


def test_a_cell_holds_every_figure_that_is_defined_rounded_to_what_it_bears() -> None:
    table = pl.concat([events_of("SYM", [0.01234567] * 3), events_of("SYM", [0.02], 0, "CDLDOJI")])
    told = cells(counted(table), 3.0)
    assert list(told["SYM"]) == ["breakout_up"]
    assert tuple(told["SYM"]["breakout_up"]["trending"]["1"]) == RATE_FIGURES
    assert told["SYM"]["breakout_up"]["all"]["1"]["mean_return"] == 0.0123
