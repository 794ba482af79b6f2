"""The stores as of an instant: what had been learnt by then, nothing that came later, and nobody writes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alpha_assets.quant.patterns import PATTERN_OUTCOMES
from alpha_assets.quant.schema import BARS
from alpha_assets.settings import Settings
from alpha_assets.stores.as_of import LakeAsOf, LedgerAsOf, NotOfThePast
from alpha_assets.stores.cache import Cache
from alpha_assets.stores.lake import PREDICTIONS, TABLES, Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.homes import make_tables
from alpha_assets_tests.stores.test_ledger import decision, trained

#: Bars of these days become known in the evening of each.
DAYS = [datetime(2024, 3, day, tzinfo=UTC) for day in (4, 5, 6, 7)]

FEATURES = "features/default-000000000000"


def evening(day: datetime) -> datetime:
    return day + timedelta(hours=23)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def lake(settings: Settings) -> Lake:
    lake = Lake(settings)
    lake.append("bars", frame("bars", [{"timestamp": day, "fetched_at": evening(day)} for day in DAYS]))
    lake.append(FEATURES, pl.DataFrame([{"symbol": "AAA", "timestamp": day, "x": 1.0} for day in DAYS]))
    return lake


def frame(table: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of symbol AAA with null in every column that is not named."""
    schema = TABLES[table].schema
    assert schema is not None
    return pl.DataFrame([{**dict.fromkeys(schema), "symbol": "AAA", **row} for row in rows], schema=dict(schema))


def test_bars_are_there_from_when_they_were_learnt_and_features_with_their_bar(settings: Settings, lake: Lake) -> None:
    late = {"timestamp": DAYS[0] - timedelta(days=3), "fetched_at": evening(DAYS[3])}
    lake.append("bars", frame("bars", [late]))
    for known, at in enumerate(map(evening, DAYS), 1):
        for instant, held in ((at, known), (at - timedelta(microseconds=1), known - 1)):
            past = LakeAsOf(settings, instant)
            whole = [late["timestamp"]] * (instant >= evening(DAYS[3])) + DAYS[:held]
            assert past.read("bars")["timestamp"].to_list() == whole
            assert past.read("bars", columns=["close"]).columns == ["close"]
            assert past.read(FEATURES)["timestamp"].to_list() == DAYS[:held]
            assert past.read(FEATURES, since={"AAA": DAYS[1]}, columns=["x"]).shape == (max(0, held - 1), 1)
    assert list(LakeAsOf(settings, DAYS[0]).read("bars", columns=list(BARS)).schema) == list(BARS)


def test_a_prediction_is_there_from_when_it_was_made(settings: Settings, lake: Lake) -> None:
    made = [{"timestamp": DAYS[0], "origin": name, "made_at": DAYS[at]} for name, at in (("oof", 1), ("live", 2))]
    named = {"regime": "all", "training_id": "x"}
    lake.append("predictions", frame("predictions", [{**named, **row} for row in made]))
    for at, known in ((0, []), (1, ["oof"]), (2, ["live", "oof"])):
        assert LakeAsOf(settings, DAYS[at]).read("predictions", columns=["origin"])["origin"].to_list() == known
    assert LakeAsOf(settings, DAYS[0]).read("predictions").schema == pl.Schema(PREDICTIONS)
    chosen = LakeAsOf(settings, DAYS[2]).read("predictions", where=pl.col("origin") == "oof", ordered=False)
    assert chosen["origin"].to_list() == ["oof"]
    assert LakeAsOf(settings, DAYS[0]).read("predictions", where=pl.col("origin") == "oof").is_empty()


def test_what_followed_a_pattern_is_there_from_when_it_was_known(settings: Settings, lake: Lake) -> None:
    known = {"pattern": "doji", "timestamp": DAYS[0], "known_1": evening(DAYS[1]), "known_5": evening(DAYS[3])}
    said = {f"{kind}_{h}": value for h in (1, 5) for kind, value in (("return", 0.01), ("success", True))}
    lake.append("pattern_outcomes", frame("pattern_outcomes", [{**known, **said}]))
    columns = ["success_1", "return_1", "success_5", "return_5"]
    for day, told in ((0, [None] * 4), (1, [True, 0.01, None, None]), (3, [True, 0.01, True, 0.01])):
        past = LakeAsOf(settings, evening(DAYS[day]))
        assert past.read("pattern_outcomes", columns=columns).rows() == [tuple(told)]
        assert past.read("pattern_outcomes").schema == pl.Schema(PATTERN_OUTCOMES)


def test_what_is_appended_is_kept_beside_the_lake_and_everything_else_is_refused(
    settings: Settings, lake: Lake
) -> None:
    past, versions = LakeAsOf(settings, evening(DAYS[1])), {name: lake.version(name) for name in ("bars", FEATURES)}
    more = frame("bars", [{"timestamp": DAYS[3], "fetched_at": DAYS[0], "symbol": symbol} for symbol in "BC"])
    assert [past.append("bars", part) for part in (more.head(1), more.tail(1))] == [1, 1]
    assert past.kept["bars"].equals(more)
    assert past.read("bars").height == 2
    assert {name: lake.version(name) for name in versions} == versions
    for verb in ("replace", "compact", "vacuum", "last_rows", "last_times", "tables"):
        with pytest.raises(NotOfThePast):
            getattr(past, verb)("bars")


@pytest.mark.usefixtures("lake")
def test_the_ledger_counts_the_bars_that_were_held_and_forgets_a_quarantine_that_came_later(settings: Settings) -> None:
    ledger = filled(settings)
    state = {"symbol": "AAA", "bars": 4, "last_bar": DAYS[3], "features_set": "x"}
    ill = {"quarantine_cause": "outage", "quarantined_at": DAYS[2]}
    ledger.note_state([{**state, **ill}, {**dict.fromkeys(state), "symbol": "BBB", "bars": 0, **dict.fromkeys(ill)}])
    states = as_of(settings, ledger, evening(DAYS[1])).states()
    assert {name: states["AAA"][name] for name in ("bars", "first_bar", "last_bar", "quarantine_cause")} == {
        "bars": 2,
        "first_bar": DAYS[0],
        "last_bar": DAYS[1],
        "quarantine_cause": None,
    }
    assert (states["BBB"]["bars"], states["BBB"]["last_bar"]) == (0, None)
    assert as_of(settings, ledger, evening(DAYS[2])).states()["AAA"]["quarantine_cause"] == "outage"


def test_a_candidate_that_was_trained_later_is_replaced_by_the_one_last_decided_on(settings: Settings) -> None:
    ledger = filled(settings)
    for symbol in ("AAA", "BBB"):
        ledger.note_candidates([{**trained(symbol, f"{symbol}-2"), "model_version": "2", "trained_at": DAYS[2]}])
    ledger.decide([decision("AAA", 1, "reject", decided_at=DAYS[0])])
    ledger.decide([decision("AAA", 2, "reject", decided_at=DAYS[3])])
    told = {
        day: (known.candidates(), known.decided()) for day in range(4) for known in [as_of(settings, ledger, DAYS[day])]
    }
    versions = {day: {cell[0]: row["model_version"] for cell, row in found.items()} for day, (found, _) in told.items()}
    assert versions == {0: {"AAA": "1"}, 1: {"AAA": "1"}, 2: {"AAA": "2", "BBB": "2"}, 3: {"AAA": "2", "BBB": "2"}}
    decided = {day: [row["seq"] for row in found.values()] for day, (_, found) in told.items()}
    assert decided == {0: [1], 1: [1], 2: [], 3: [2]}


def test_the_ledger_of_the_past_has_no_cache_and_takes_nothing(settings: Settings) -> None:
    ledger = filled(settings)
    Cache(ledger).put("mine", "key", "kept", timedelta(days=9), DAYS[0])
    past = as_of(settings, ledger, DAYS[1])
    answer = Cache(past).through("mine", "key", timedelta(days=9), lambda: "made", DAYS[1])
    assert (answer.value, answer.held) == ("made", False)
    with pytest.raises(NotOfThePast):
        past.put_signals([{"symbol": "AAA"}])
    for verb in (past.signals, past.snapshot, past.decisions):
        with pytest.raises(NotOfThePast):
            verb()


def filled(settings: Settings) -> Ledger:
    make_tables(settings)
    return Ledger(settings)


def as_of(settings: Settings, ledger: Ledger, at: datetime) -> LedgerAsOf:
    return LedgerAsOf(settings, ledger, LakeAsOf(settings, at), at)
