"""The patterns' document: written where its inputs are others, the same however it came about, a symbol for itself."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from alpha_assets.quant.parameters import PatternParameters, ProfileParameters
from alpha_assets.quant.pattern_rates import cells, known_by, rates
from alpha_assets.quant.patterns import identity
from alpha_assets.quant.profile_schema import PATTERNS, STATISTICAL, faults
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stations import profile_patterns
from alpha_assets.stations.profile import profile
from alpha_assets.stations.recognise import TABLE, recognise
from alpha_assets.stores.lake import Lake
from alpha_assets_tests.stations.line import NOW, SYMBOLS, Line, copied, later

pytestmark = pytest.mark.xdist_group("line")

KNOBS = ProfileParameters(rate_least=10.0)


@pytest.fixture(scope="session")
def recognised(featured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The featured home with the patterns of all but the newest sessions."""
    line = copied(featured, tmp_path_factory.mktemp("recognised") / "home", profiles=KNOBS)
    recognise(line.lake, line.ledger, line.settings, SYMBOLS)
    return line.settings.home


@pytest.fixture
def line(recognised: Path, tmp_path: Path) -> Line:
    return copied(recognised, tmp_path / "home", profiles=KNOBS)


def write(line: Line, now: datetime = NOW, symbols: Sequence[str] = SYMBOLS) -> Any:
    return profile(line.lake, line.ledger, line.settings, symbols, now)


def counted(line: Line, now: datetime = NOW) -> int:
    """How many documents of patterns a run over all symbols wrote."""
    return int(write(line, now).totals.get("patterns_counted", 0))


def documents(line: Line) -> dict[str, dict[str, Any]]:
    found = line.ledger.profiles().items()
    return {symbol: row["document"] for (symbol, kind), row in found if kind == PATTERNS}


def trade(line: Line, sessions: int) -> datetime:
    """So many sessions later, features and patterns included."""
    now = datetime.combine(Simulated(line.settings).advance(sessions), time(12), UTC) + timedelta(days=1)
    line.refresh(now)
    recognise(line.lake, line.ledger, line.settings, SYMBOLS)
    return now


def restate(line: Line, column: str) -> None:
    """Another price in the middle of SIM01, written and marked as the ingestion does it."""
    bars = line.lake.read("bars", symbols=["SIM01"])
    middle = pl.int_range(pl.len()) == 300
    other = pl.when(middle).then((pl.col("low") + pl.col("high")) / 2).otherwise(column)
    line.lake.replace("bars", bars.with_columns(other.alias(column)), ["SIM01"])
    line.ledger.note_state([{"symbol": "SIM01", "rebuild_patterns": True}])


def test_it_holds_the_rates_of_the_stored_outcomes_and_follows_its_schema(line: Line) -> None:
    assert counted(line) == len(SYMBOLS)
    states = line.ledger.states()
    for symbol, document in documents(line).items():
        until = known_by(states[symbol]["last_bar"], KNOBS.rate_days)
        outcomes = line.lake.read(TABLE, symbols=[symbol])
        regimes = line.lake.read(states[symbol]["features_set"], symbols=[symbol])
        expected = cells(rates(outcomes, regimes, {symbol: until}, 20.0), 10.0)[symbol]
        assert document["rates"] == expected
        assert {regime for own in expected.values() for regime in own} > {"all"}
        assert document["known_until"] == until.isoformat()
        assert document["patterns"] == identity(PatternParameters())
        assert document["regimes"] == states[symbol]["features_set"]
        assert faults(PATTERNS, document) == []


def test_a_day_is_no_reason_to_write_it_again_and_a_new_period_is_one(line: Line) -> None:
    write(line)
    ended = documents(line)["SIM03"]
    begun, written = [datetime.fromisoformat(documents(line)["SIM01"]["known_until"])], 0
    for _ in range(10):
        count = counted(line, trade(line, 4))
        at = known_by(line.ledger.states()["SIM01"]["last_bar"], KNOBS.rate_days)
        assert count == (0 if at == begun[-1] else 3), "all but the delisted one"
        assert documents(line)["SIM01"]["known_until"] == at.isoformat()
        begun += [at] if count else []
        written += count > 0
    assert 1 <= written <= 3
    assert documents(line)["SIM03"] == ended


def test_it_is_the_same_written_often_seldom_together_or_alone(line: Line, recognised: Path, tmp_path: Path) -> None:
    other = copied(recognised, tmp_path / "other", profiles=KNOBS)
    write(line)
    for sessions in (9, 13, 18):
        write(line, trade(line, sessions))
        trade(other, sessions)
    for symbol in reversed(SYMBOLS):
        write(other, symbols=[symbol])
    assert documents(line) == documents(other)


@pytest.mark.parametrize("column", ["open", "high", "close"])
def test_a_restated_price_is_seen_once_the_patterns_are_built_anew(line: Line, column: str) -> None:
    write(line)
    restate(line, column)
    assert counted(line, later(days=1)) == 0, "what is to be built anew is waited for"
    recognise(line.lake, line.ledger, line.settings, SYMBOLS)
    assert counted(line, later(days=1)) == 1
    assert counted(line, later(days=2)) == 0
    assert line.ledger.profiles()["SIM01", PATTERNS]["written_at"] == later(days=1)


def test_an_event_learnt_late_is_seen_and_one_of_the_present_period_is_not(line: Line) -> None:
    write(line)
    bars = line.lake.read("bars", symbols=["SIM02"])
    for bar, expected in ((200, 1), (-1, 0)):
        paid = {"symbol": "SIM02", "ex_date": bars["timestamp"][bar].date(), "kind": "dividend", "value": 0.5}
        line.lake.append("actions", pl.DataFrame([{**paid, "first_seen_at": NOW}]))
        assert counted(line, later(days=1)) == expected


def test_only_the_newest_company_of_a_ticker_counts(line: Line) -> None:
    write(line)
    bars = line.lake.read("bars", symbols=["SIM01"])
    began = bars["timestamp"][-500]
    listing = pl.when(pl.col("timestamp") >= began).then(pl.lit(began.date())).otherwise("listing")
    line.lake.replace("bars", bars.with_columns(listing=listing), ["SIM01"])
    line.ledger.note_state([{"symbol": "SIM01", "rebuild_patterns": True}])
    recognise(line.lake, line.ledger, line.settings, SYMBOLS)
    assert counted(line) == 1
    until = datetime.fromisoformat(documents(line)["SIM01"]["known_until"])
    known = line.lake.read(TABLE, symbols=["SIM01"], since=began).filter(pl.col("known_1") <= until)
    counts = dict(known.drop_nulls("return_1").group_by("pattern").len().iter_rows())
    told = {pattern: of["all"]["1"]["count"] for pattern, of in documents(line)["SIM01"]["rates"].items()}
    assert told
    assert told == {pattern: counts[pattern] for pattern in told}


def test_features_that_are_behind_or_to_be_built_anew_are_waited_for(line: Line) -> None:
    long_ago = NOW - timedelta(days=400)
    line.ledger.note_state([{"symbol": "SIM01", "rebuild_features": True}])
    line.ledger.note_state([{"symbol": "SIM02", "features_until": long_ago}])
    line.ledger.note_state([{"symbol": "SIM04", "patterns_until": long_ago}])
    write(line)
    assert list(documents(line)) == ["SIM03"]


def test_other_knobs_are_another_document(line: Line) -> None:
    write(line)
    line.settings = line.settings.model_copy(update={"profiles": replace(KNOBS, rate_least=30.0)})
    assert counted(line, later(days=1)) == len(SYMBOLS)


def test_where_the_patterns_are_lost_nothing_is_counted(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    version = Lake.version
    monkeypatch.setattr(Lake, "version", lambda lake, table: None if table == TABLE else version(lake, table))
    assert counted(line) == 0


def test_a_symbol_whose_rates_cannot_be_computed_is_quarantined_and_the_others_are_written(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moody(table: pl.DataFrame, *more: Any) -> pl.DataFrame:
        if "SIM02" in table["symbol"]:
            raise ValueError("no rates today")
        return rates(table, *more)

    with monkeypatch.context() as patch:
        patch.setattr(profile_patterns, "rates", moody)
        report = write(line)
    assert report.states() == {"written": 3, "held": 1}
    assert "no rates today" in report.partitions["SIM02"]["reason"]
    assert sorted(documents(line)) == ["SIM01", "SIM03", "SIM04"]
    assert ("SIM02", STATISTICAL) not in line.ledger.profiles()
    assert line.ledger.states()["SIM02"]["quarantine_cause"] == "profile_failed"
    assert counted(line) == 1
    assert line.ledger.states()["SIM02"]["quarantine_cause"] is None
