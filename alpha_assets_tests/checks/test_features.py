"""Checks of the features: what looks ahead or was tampered with is named, and what is behind."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from alpha_assets.checks.features import DESCRIPTIONS
from alpha_assets.quant import feature_set, patterns
from alpha_assets.quant.panel import Panel
from alpha_assets.quant.parameters import RegimeParameters
from alpha_assets.stations import featurise as station
from alpha_assets.stations import replay, sets
from alpha_assets.stations.featurise import featurise
from alpha_assets.stations.inspect import Verdict
from alpha_assets.stations.recognise import TABLE as PATTERNS
from alpha_assets.stations.recognise import recognise
from alpha_assets.stations.replay import causality_verdict
from alpha_assets.stations.sets import recipe_of, table_of
from alpha_assets_tests.assets.world import LAST, World, at
from alpha_assets_tests.checks.test_bars import by_themselves, refreshed
from alpha_assets_tests.stations.market import House, evening, simulated

TODAY = datetime(2024, 1, 10, tzinfo=UTC)


@pytest.fixture
def _everything_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at the whole of a short table, so that whatever is wrong is seen."""
    monkeypatch.setattr(replay, "SYMBOLS", 10)
    monkeypatch.setattr(replay, "BARS", 100)


def looked(line: House, today: datetime = TODAY) -> Verdict:
    return causality_verdict(line.lake, line.ledger, line.settings, line.symbols, today)


def tampered(line: House, symbol: str, place: int, how: Callable[[pl.Expr], pl.Expr], column: str) -> str:
    """Store something else in one row; the row's date."""
    table = table_of(line.settings)
    rows = line.lake.read(table, symbols=[symbol])
    here = pl.int_range(pl.len()) == place % rows.height
    changed = rows.with_columns(pl.when(here).then(how(pl.col(column))).otherwise(column).alias(column))
    line.lake.replace(table, changed, [symbol])
    return f"{rows['timestamp'][place]:%Y-%m-%d}"


def built(folder: Path, sessions: int, *more: int, **knobs: Any) -> House:
    """Two symbols with features of so many sessions, brought on by so many more."""
    market = simulated(2, date(2020, 1, 2), date(2022, 12, 30), split_rate=2.0)
    home, days = House(folder, market, **knobs), market.sessions()
    for place in (sessions, *more):
        home.refresh(days[place - 1])
        featurise(home.lake, home.ledger, home.settings, home.symbols)
    return home


def test_a_healthy_home_passes_on_any_day_and_by_a_sample_only(tmp_path: Path) -> None:
    home = built(tmp_path, 680, 690, 700)
    for day in range(1, 4):
        verdict = looked(home, datetime(2024, 1, day, tzinfo=UTC))
        assert (verdict.passed, verdict.count, verdict.sample) == (True, 0, [])
        assert verdict.sentence == "8 rows of 2 symbols equal what their own past gives"


@pytest.mark.parametrize(
    "regimes",
    [RegimeParameters(), RegimeParameters(method="hmm", hmm_bars=100, hmm_iterations=3)],
    ids=["rules", "hmm"],
)
def test_a_past_too_long_to_be_computed_anew_is_cut_only_as_far_as_features_and_regimes_remember(
    regimes: RegimeParameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fitted filter remembers the first bars of its listing for ever."""
    monkeypatch.setattr(replay, "LONG", 150)
    verdict = looked(built(tmp_path, 610, 620, regimes=regimes))
    assert (verdict.sample, verdict.sentence) == ([], "8 rows of 2 symbols equal what their own past gives")


def test_a_home_without_features_passes_and_says_so(tmp_path: Path) -> None:
    verdict = looked(House(tmp_path, simulated(1, date(2020, 1, 2), date(2020, 1, 31))))
    assert (verdict.passed, verdict.sentence) == (True, "no features yet")


@pytest.fixture
def line(tmp_path: Path, _everything_is_sampled: None) -> House:
    """The first thirty bars of two symbols: few enough to look at every one."""
    return built(tmp_path / "home", 30)


def test_every_row_of_a_short_home_passes(line: House) -> None:
    verdict = looked(line)
    assert (verdict.passed, verdict.sentence) == (True, "60 rows of 2 symbols equal what their own past gives")


def rebuilt(line: House) -> None:
    line.ledger.note_state([{"symbol": symbol, "rebuild_features": True} for symbol in line.symbols])
    featurise(line.lake, line.ledger, line.settings, line.symbols)


def test_stored_values_that_are_not_what_the_past_gives_are_named_until_they_are_made_again(line: House) -> None:
    otherwise: list[tuple[str, Callable[[pl.Expr], pl.Expr]]] = [
        ("rsi_14", lambda value: value * 1.00001),
        ("return_1", lambda value: value + 1e-6),
        ("volatility_20", lambda _: pl.lit(None, pl.Float32)),
        ("mean_ratio_200", lambda _: pl.lit(0.5, pl.Float32)),
        ("regime", lambda _: pl.lit("volatile")),
    ]
    days = [tampered(line, "SIM02", 25 + place, how, name) for place, (name, how) in enumerate(otherwise)]
    verdict = looked(line)
    assert (verdict.passed, verdict.count) == (False, 5)
    for said, day, (column, _) in zip(verdict.sample, days, otherwise, strict=True):
        assert said.startswith(f"SIM02 {day} 00:00: {column} is stored as ")
    assert verdict.sentence == "5 values are not what their own past gives"
    found = {f"{row['day']}" for row in line.ledger.findings([replay.NOT_OF_ITS_PAST])}
    assert found == set(days)
    rebuilt(line)
    assert looked(line).passed
    assert line.ledger.findings([replay.NOT_OF_ITS_PAST]) == []


def test_a_day_that_was_found_is_looked_at_again_whatever_the_sample_is(
    line: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = tampered(line, "SIM02", 25, lambda value: value * 1.00001, "rsi_14")
    assert not looked(line).passed
    monkeypatch.setattr(replay, "SYMBOLS", 0)
    monkeypatch.setattr(replay, "BARS", 0)
    assert [said.split()[:2] for said in looked(line).sample] == [["SIM02", day]]
    rebuilt(line)
    assert looked(line).sentence == "1 rows of 1 symbols equal what their own past gives"
    assert looked(line).sentence == "no features yet"


def test_what_f32_rounds_is_no_difference(line: House) -> None:
    tampered(line, "SIM02", 25, lambda value: value * (1 + 2**-23), "rsi_14")
    assert looked(line).passed


def test_a_row_without_a_bar_is_named(line: House) -> None:
    table = table_of(line.settings)
    extra = line.lake.read(table, symbols=["SIM01"]).tail(1).with_columns(pl.col("timestamp").dt.offset_by("1d"))
    line.lake.append(table, extra)
    verdict = looked(line)
    assert verdict.sample == [
        f"SIM01 {extra['timestamp'][0]:%Y-%m-%d} 00:00: there is no bar of this time, or it is not known yet"
    ]


def tomorrow(panel: Panel) -> np.ndarray:
    """A feature that looks one bar ahead: the return that is still to come."""
    return np.roll(np.log(panel.close / np.roll(panel.close, 1)), -1)


@pytest.fixture
def _prescient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The program's ``gap`` looks ahead; it keeps the name of its function, so that the table is the same."""
    chosen = sets.default_set("1d")
    (honest,) = (feature for feature in chosen.features if feature.name == "gap")
    tomorrow.__name__ = honest.function.__name__
    ahead = feature_set.Feature(**{**vars(honest), "function": tomorrow})
    looking = feature_set.FeatureSet("core", tuple(ahead if f is honest else f for f in chosen.features))
    assert looking.hash == chosen.hash
    with monkeypatch.context() as patch:
        patch.setattr(sets, "_feature_set", lambda *_: looking)
        yield


@pytest.mark.usefixtures("_prescient")
def test_a_feature_that_looks_ahead_is_named_with_symbol_and_date(line: House) -> None:
    rebuilt(line)
    verdict = looked(line)
    assert not verdict.passed
    assert verdict.count == 2 * 29, "every bar but the first of each symbol, which is blank"
    stored = line.lake.read(table_of(line.settings), symbols=["SIM01"])
    assert verdict.sample[0].startswith(f"SIM01 {stored['timestamp'][1]:%Y-%m-%d} 00:00: gap is stored as ")
    assert len(verdict.sample) == 20
    assert {text.split(": ")[1].split()[0] for text in verdict.sample} == {"gap"}


def test_features_that_an_older_program_made_looking_ahead_are_found_by_this_one(
    line: House, request: pytest.FixtureRequest
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        honest = station.compute
        patch.setattr(station, "compute", lambda *given: honest(*given).with_columns(pl.col("gap").shift(-1)))
        rebuilt(line)
    assert not looked(line).passed
    rebuilt(line)
    assert looked(line).passed, request.node.name


def test_a_symbol_in_quarantine_or_about_to_be_built_anew_is_not_looked_at(line: House) -> None:
    for symbol in line.symbols:
        tampered(line, symbol, 25, lambda value: value + 1, "rsi_14")
    assert looked(line).count == 2
    line.ledger.note_state([{"symbol": "SIM01", "rebuild_features": True}])
    assert looked(line).count == 1
    line.ledger.note_state([{"symbol": "SIM02", "quarantine_cause": "outage"}])
    assert looked(line).sentence == "no features yet"


def test_a_table_that_was_left_and_not_yet_taken_up_again_is_not_looked_at(line: House) -> None:
    tampered(line, "SIM01", 25, lambda value: value + 1, "rsi_14")
    line.ledger.note_state([{"symbol": "SIM01", "features_set": "features/another"}])
    assert looked(line).sentence == "30 rows of 1 symbols equal what their own past gives"


def test_a_bar_of_which_features_cannot_be_computed_is_named_and_stops_no_check(line: House) -> None:
    bars = line.lake.read("bars", symbols=["SIM01"])
    wrong = pl.when(pl.int_range(pl.len()) == 28).then(-1.0).otherwise("low")
    line.lake.replace("bars", bars.with_columns(low=wrong), ["SIM01"])
    verdict = looked(line)
    assert verdict.count == 2
    assert f"features of SIM01: the bar of {bars['timestamp'][28].date()}" in verdict.sample[0]


def test_a_symbol_with_an_impossible_action_stops_no_check(line: House) -> None:
    action = {"symbol": "SIM01", "ex_date": date(2020, 1, 15), "kind": "dividend", "value": 1e6}
    line.lake.append("actions", pl.DataFrame([{**action, "first_seen_at": evening(date(2020, 2, 20))}]))
    rebuilt(line)
    assert looked(line).sentence == "30 rows of 1 symbols equal what their own past gives"


# --- Patterns


@pytest.fixture
def patterned(line: House) -> House:
    """The same thirty bars of two symbols, with their pattern events."""
    recognise(line.lake, line.ledger, line.settings, line.symbols)
    return line


def test_every_event_of_a_healthy_home_is_seen(patterned: House) -> None:
    events = patterned.lake.read(PATTERNS).height
    assert events > 60
    said = f"60 rows with {events} pattern events of 2 symbols equal what their own past gives"
    assert looked(patterned) == Verdict(True, 0, [], said)


def test_events_of_a_past_too_long_to_be_computed_anew_are_those_of_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = built(tmp_path, 400)
    recognise(home.lake, home.ledger, home.settings, home.symbols)
    monkeypatch.setattr(replay, "LONG", 2)
    monkeypatch.setattr(replay, "BARS", 12)
    verdict = looked(home)
    assert not [named for named in verdict.sample if "the pattern" in named]


def a_bar_early(honest: Callable[..., Any], names: Sequence[str], pattern: str) -> Callable[..., Any]:
    """The hits of ``names``, those of one pattern at the bar before: what is known tomorrow."""

    def hits(*given: Any) -> Any:
        found = list(honest(*given))
        place = list(names).index(pattern)
        rows, direction, strength = found[place]
        found[place] = (np.maximum(rows - 1, 0), direction, strength)
        return found

    return hits


@pytest.mark.parametrize(
    ("function", "names", "pattern"),
    [("_candle_hits", patterns.CANDLES, "CDLDOJI"), ("_structure_hits", patterns.STRUCTURES, "breakout_up")],
)
def test_a_pattern_that_looks_ahead_is_named_with_symbol_and_date(
    line: House, monkeypatch: pytest.MonkeyPatch, function: str, names: Sequence[str], pattern: str
) -> None:
    small = replace(line.settings.patterns, breakout_bars=2, range_bars=2)
    settings = line.settings.model_copy(update={"patterns": small})
    monkeypatch.setattr(patterns, function, a_bar_early(getattr(patterns, function), names, pattern))
    recognise(line.lake, line.ledger, settings, line.symbols)
    ahead = line.lake.read(PATTERNS).filter(pl.col("pattern") == pattern)
    verdict = causality_verdict(line.lake, line.ledger, settings, line.symbols, TODAY)
    assert not verdict.passed
    assert verdict.count == ahead.height > 0
    symbol, at = ahead.row(0)[:2]
    assert verdict.sample[0].startswith(f"{symbol} {at:%Y-%m-%d} 00:00: the pattern {pattern} is stored as direction ")
    assert verdict.sample[0].endswith(" and is no event from the bars until then")
    assert all(f"the pattern {pattern} " in named for named in verdict.sample)


def test_events_that_are_not_what_the_past_gives_are_named_until_they_are_made_again(patterned: House) -> None:
    """One is turned round, one is weaker, one has another name, one is gone."""
    rows = patterned.lake.read(PATTERNS, symbols=["SIM02"]).sort("timestamp", "pattern")
    chosen = rows.filter(pl.col("timestamp") != pl.col("timestamp").shift(1))[2:6]
    turned, weaker, renamed, gone = chosen.iter_rows(named=True)
    instead = [
        turned | {"direction": -1 if turned["direction"] == 1 else 1},
        weaker | {"strength": weaker["strength"] - 0.01},
        renamed | {"pattern": "of another program"},
    ]
    keys = chosen.select("symbol", "timestamp", "pattern")
    patterned.lake.replace(PATTERNS, pl.DataFrame(instead, schema=rows.schema), ["SIM02"], gone=keys[2:])
    is_stored, told = "is stored as direction", "from the bars until then"
    direction = re.escape(f"{instead[0]['direction']:+d}")
    expected = [
        (turned, rf"{turned['pattern']} {is_stored} {direction} .* and is direction .* {told}"),
        (
            weaker,
            rf"{weaker['pattern']} {is_stored} .* and is direction .* with strength {weaker['strength']:.6g} {told}",
        ),
        (renamed, rf"{renamed['pattern']} is stored as no event and is direction .* {told}"),
        (renamed, rf"of another program {is_stored} .* and is no event {told}"),
        (gone, rf"{gone['pattern']} is stored as no event and is direction .* {told}"),
    ]
    verdict = looked(patterned)
    assert (verdict.passed, verdict.count) == (False, 5)
    for row, said in expected:
        sentence = rf"SIM02 {row['timestamp']:%Y-%m-%d} 00:00: the pattern {said}"
        assert any(re.fullmatch(sentence, named) for named in verdict.sample), sentence
    patterned.ledger.note_state([{"symbol": "SIM02", "rebuild_patterns": True}])
    recognise(patterned.lake, patterned.ledger, patterned.settings, patterned.symbols)
    assert looked(patterned).passed


def test_patterns_that_are_to_be_made_anew_are_not_looked_at(patterned: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "BARS", 5)
    weaker = patterned.lake.read(PATTERNS).with_columns(strength=pl.lit(0.9, pl.Float32))
    patterned.lake.replace(PATTERNS, weaker, patterned.symbols)
    assert not looked(patterned).passed
    settled = patterned.ledger.states()["SIM01"]
    for anew in ({"rebuild_patterns": True}, {"patterns_set": "another"}, {"patterns_until": None}):
        before = {name: settled[name] for name in ("rebuild_patterns", "patterns_set", "patterns_until")}
        patterned.ledger.note_state([{"symbol": symbol, **before, **anew} for symbol in patterned.symbols])
        assert looked(patterned).sentence == "10 rows of 2 symbols equal what their own past gives"


# --- In Dagster


def test_both_run_in_a_refresh_and_pass_on_good_bars(world: World) -> None:
    world.follow("AAA", "BBB")
    found = refreshed(world, "AAA", "BBB")
    assert set(DESCRIPTIONS) < set(found)
    said = r"8 rows with \d+ pattern events of 2 symbols equal what their own past gives"
    assert re.fullmatch(said, found["prefix_invariant"]["said"])
    assert all(found[name]["passed"] for name in DESCRIPTIONS)


def test_both_run_by_themselves_over_the_whole_universe(world: World, request: pytest.FixtureRequest) -> None:
    world.follow("AAA", "BBB")
    refreshed(world, "AAA", "BBB")
    assert all(by_themselves(world)[name]["passed"] for name in DESCRIPTIONS)
    table = table_of(world.settings)
    rows = world.lake.read(table, symbols=["BBB"])
    wrong = pl.when(pl.col("timestamp") == at(LAST)).then(0.25).otherwise("rsi_14")
    world.lake.replace(table, rows.with_columns(rsi_14=wrong.cast(pl.Float32)), ["BBB"])
    world.ledger.note_state([{"symbol": "AAA", "features_until": at(date(2024, 1, 8))}])
    request.getfixturevalue("_everything_is_sampled")
    found = by_themselves(world)
    assert (found["prefix_invariant"]["passed"], found["features_complete"]["passed"]) == (False, False)
    assert found["prefix_invariant"]["severity"] == dg.AssetCheckSeverity.ERROR
    (named,) = found["prefix_invariant"]["sample"]
    assert named.startswith(f"BBB {LAST} 00:00: rsi_14 is stored as 0.25")
    assert found["features_complete"]["severity"] == dg.AssetCheckSeverity.WARN
    assert found["features_complete"]["sample"] == ["AAA: 2024-01-08 00:00, bars until 2024-01-09 00:00"]


def test_a_symbol_in_quarantine_is_not_said_to_be_behind_too(world: World) -> None:
    world.follow("AAA")
    refreshed(world, "AAA")
    world.ledger.note_state([{"symbol": "AAA", "features_until": None, "quarantine_cause": "impossible_action"}])
    assert by_themselves(world)["features_complete"]["passed"]


def test_the_checked_columns_are_those_of_the_table(world: World) -> None:
    world.follow("AAA")
    refreshed(world, "AAA")
    columns = world.lake.read(table_of(world.settings)).columns
    assert set(recipe_of(world.settings).columns) < set(columns)
