"""``from alpha_assets import signals``: the shape of the command, its refusals, and its degrees of trouble."""

import json
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import SecretStr

from alpha_assets import signals
from alpha_assets.quant.parameters import DISCLAIMER
from alpha_assets.quant.symbols import REGIMES
from alpha_assets.quant.tally import METRIC_FIELDS, RECORD, WHOLE
from alpha_assets.reading import SIGNAL_FIELDS, NoSignal, SignalsDegraded, UnknownSymbol
from alpha_assets.settings import Settings
from alpha_assets.stores import unserved
from alpha_assets.stores.cache import METRICS, Cache
from alpha_assets.stores.home import OtherInterval, stamp
from alpha_assets.stores.lake import SIGNALS, Lake
from alpha_assets.stores.ledger import Ledger
from alpha_assets.stores.trouble import StoreTrouble
from alpha_assets_tests import postgres
from alpha_assets_tests.commands.call import call, home
from alpha_assets_tests.stores.test_ledger import decision, said

NOW = datetime.now(UTC)
BAR = datetime(2024, 3, 1, tzinfo=UTC)

TOLD = {"AAA": ("BUY", 0.6, "LOW"), "BBB": ("STRONG_SELL", 0.7, "HIGH"), "CCC": ("HOLD", None, "HIGH")}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home that follows four symbols, of which one was not spoken of yet and one more is retired."""
    settings = Settings(home=tmp_path / "home", source="simulated")
    ledger = Ledger(settings)
    names = [*TOLD, "DDD", "OLD"]
    ledger.add_symbols([{"symbol": name, "source": "files", "calendar": "XNYS", "added_at": NOW} for name in names])
    ledger.put_signals(
        [said(name, NOW, signal=word, confidence=sure, risk=risk) for name, (word, sure, risk) in TOLD.items()]
    )
    ledger.retire(["OLD"], NOW)
    return settings


def remember(settings: Settings, symbol: str, bar: datetime, made: datetime = NOW, **more: Any) -> None:
    """Say a signal to the lake alone."""
    row = {**dict.fromkeys(SIGNALS), "symbol": symbol, "signal": "SELL", "reason": "of the lake", "bar_time": bar}
    row |= {"created_at": made, "signal_id": f"{symbol}{bar}{made}", **more}
    Lake(settings).append("signals", pl.DataFrame([row], schema=dict(SIGNALS)))


def named(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["symbol"] for row in rows]


@pytest.mark.parametrize(
    ("by_program", "by_command"),
    [
        ({}, ()),
        ({"symbols": ["CCC", "AAA"]}, ("--symbols", "CCC,AAA")),
        ({"words": "buy"}, ("--signal", "buy")),
        ({"words": ["BUY", "strong_sell"]}, ("--signal", "BUY,strong_sell")),
        ({"min_confidence": 0.65}, ("--min-confidence", "0.65")),
        ({"risks": ["HIGH"], "words": ["HOLD"]}, ("--risk", "HIGH", "--signal", "HOLD")),
        ({"max_age_hours": 1}, ("--max-age", "1")),
    ],
)
def test_the_program_and_the_command_choose_the_same(
    settings: Settings, by_program: dict[str, Any], by_command: Sequence[str]
) -> None:
    with home(settings.home):
        rows = call("signals", *by_command, "--format", "json").json
        counted = call("signals", "metrics", *by_command, "--format", "json").json
    found = signals(settings=settings, **by_program)
    assert [tuple(row) for row in found] == [SIGNAL_FIELDS] * len(found)
    assert named(found) == named(rows)
    assert found
    assert {row["disclaimer"] for row in (*found, *rows)} == {DISCLAIMER}
    metrics = signals.metrics(settings=settings, **by_program)
    assert tuple(metrics) == METRIC_FIELDS
    assert metrics == counted


def test_an_explanation_is_what_the_command_tells(settings: Settings) -> None:
    weight = [[0.7, 0.3]] * len(REGIMES)
    record = {"views": ["model", "technical"], "weight": weight, "odds": [[0.1, 0.2, 0.3, 0.4]] * len(REGIMES)}
    Cache(Ledger(settings)).put(RECORD, "k", {**record, "seen": 12.0, "strong_from": None}, timedelta(days=1), NOW)
    told = signals.explain("AAA", settings)
    assert {name: told[name] for name in ("symbol", "signal", "confidence")} == {
        "symbol": "AAA",
        "signal": "BUY",
        "confidence": 0.6,
    }
    assert told["weights"] == {"model": 0.7, "technical": 0.3}
    assert told["calibration"]["odds"] == {"constant": 0.1, "score": 0.2, "side": 0.3, "costs": 0.4}
    assert told["calibration"]["outcomes"] == 12.0
    assert told["disclaimer"] == DISCLAIMER
    with home(settings.home):
        by_command = call("signals", "explain", "AAA", "--format", "json").json
    assert by_command.keys() == told.keys()
    assert all(by_command[name] == told[name] for name in ("weights", "calibration", "disclaimer", "reason"))


@pytest.mark.parametrize("ask", [signals, signals.metrics], ids=["signals", "metrics"])
def test_a_symbol_that_is_not_followed_is_refused_by_name_and_one_not_spoken_of_is_absent(
    settings: Settings, ask: Callable[..., Any]
) -> None:
    for symbols, sentence in (
        (["AAA", "NOPE"], "NOPE: not in the universe"),
        ("NOPE", "NOPE: not in the universe"),
        (["OLD"], "OLD: retired, no longer followed; «alpha-assets universe add OLD» follows again"),
    ):
        with pytest.raises(UnknownSymbol, match=sentence):
            ask(symbols, settings=settings)
    assert named(signals(["AAA", "DDD"], settings=settings)) == ["AAA"]
    assert signals([], settings=settings) == []


def test_what_cannot_be_explained_is_said_by_name(settings: Settings) -> None:
    with pytest.raises(NoSignal, match="DDD has no signal: alpha-assets refresh --symbols DDD"):
        signals.explain("DDD", settings)
    with pytest.raises(UnknownSymbol, match="NOPE: not in the universe"):
        signals.explain("NOPE", settings)


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"words": ["MAYBE"]}, "names something else than STRONG_SELL, SELL, HOLD, BUY, STRONG_BUY"),
        ({"words": []}, "names something else than"),
        ({"risks": "NONE"}, "names something else than LOW, MEDIUM, HIGH"),
        ({"min_confidence": 55}, "a probability from 0 to 1"),
        ({"max_age_hours": 1e9}, "a number of hours above 0, 876,000 at most"),
        ({"max_age_hours": -1}, "a number of hours above 0"),
        ({"max_age_hours": float("nan")}, "a number of hours above 0"),
    ],
)
def test_a_choice_that_is_none_is_refused(settings: Settings, choice: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        signals(settings=settings, **choice)


def test_before_anything_was_said_there_is_nothing_and_nothing_is_created(tmp_path: Path) -> None:
    fresh = Settings(home=tmp_path / "fresh", source="simulated")
    assert signals(settings=fresh) == []
    assert signals.metrics(settings=fresh)["signals"] == 0
    with pytest.raises(UnknownSymbol):
        signals.explain("AAA", fresh)
    assert not fresh.home.exists()


def test_a_home_of_another_interval_is_refused(settings: Settings) -> None:
    stamp(settings)
    with pytest.raises(OtherInterval, match="ALPHA_INTERVAL=1h"):
        signals(settings=settings.model_copy(update={"interval": "1h"}))


def gone(settings: Settings) -> None:
    for file in settings.home.glob("ledger.db*"):
        file.unlink()


def emptied(settings: Settings) -> None:
    gone(settings)
    settings.ledger_file.touch()


def damaged(settings: Settings) -> None:
    gone(settings)
    settings.ledger_file.write_bytes(b"no database " * 1000)


def without_its_table(settings: Settings) -> None:
    with sqlite3.connect(settings.ledger_file) as connection:
        connection.execute("DROP TABLE signals")


@pytest.mark.parametrize("broken", [gone, emptied, damaged, without_its_table])
def test_while_the_ledger_does_not_answer_the_lake_does_and_the_trouble_is_told(
    settings: Settings, broken: Callable[[Settings], None]
) -> None:
    for symbol in ("AAA", "BBB"):
        remember(settings, symbol, BAR)
    broken(settings)
    for ask in (
        lambda: named(signals(settings=settings)) == ["AAA", "BBB"],
        lambda: named(signals(["BBB", "NOPE"], settings=settings)) == ["BBB"],
        lambda: not any(row["fresh"] for row in signals(settings=settings)),
        lambda: signals.metrics(settings=settings)["sell"] == 2,
        lambda: signals.explain("AAA", settings)["reason"] == "of the lake",
    ):
        with pytest.warns(SignalsDegraded, match=r"ledger\.db .*; the signals are those that the lake remembers"):
            assert ask()
    with pytest.warns(SignalsDegraded, match="none is fresh.*; it remembers nothing of NOPE"):
        signals(["BBB", "NOPE"], settings=settings)
    with home(settings.home):
        told = [call("signals"), call("signals", "explain", "AAA"), call("signals", "metrics", "--symbols", "AAA")]
    assert [said.code for said in told] == [0, 0, 0]
    assert "not fresh: 2 of 2 signals\n" in told[0].out, "a refresh would be refused"
    assert "\nnot fresh\n" in told[1].out
    assert all("the signals are those that the lake remembers" in said.err for said in told)


def test_where_neither_answers_the_trouble_is_the_ledgers(settings: Settings) -> None:
    remember(settings, "AAA", BAR)
    shutil.rmtree(settings.home / "lake" / "signals" / "_delta_log")
    gone(settings)
    with pytest.raises(StoreTrouble, match=r"ledger\.db is not there"):
        signals(settings=settings)


def test_signals_that_the_ledger_did_not_take_are_served_from_the_lake_where_they_are_newer(
    settings: Settings,
) -> None:
    for symbol in ("AAA", "BBB", "CCC", "DDD", "OLD"):
        remember(settings, symbol, BAR + timedelta(days=1))
    unserved.note(settings, ["AAA", "OLD"], "database or disk is full")
    unserved.note(settings, ["DDD"], "database or disk is full")
    with pytest.warns(SignalsDegraded, match="is full; the signals of AAA, DDD are those that the lake remembers"):
        rows = signals(settings=settings)
    assert {row["symbol"]: row["reason"] for row in rows} == {
        "AAA": "of the lake",
        "BBB": "because",
        "CCC": "because",
        "DDD": "of the lake",
    }
    Cache(Ledger(settings)).put(METRICS, WHOLE, {"signals": 3}, timedelta(hours=1), NOW)
    with pytest.warns(SignalsDegraded, match="is full"):
        assert signals.metrics(settings=settings)["signals"] == 4, "what was counted was of the ledger's"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert named(signals(["BBB"], settings=settings)) == ["BBB"], "nobody else is concerned"
    Ledger(settings).put_signals([said("AAA", NOW, bar_time=BAR + timedelta(days=2))])
    with pytest.warns(SignalsDegraded):
        assert signals("AAA", settings=settings)[0]["reason"] == "because", "the ledger's is of a newer bar"
    unserved.settled(settings, ["AAA", "DDD"])
    assert json.loads((settings.home / unserved.FILE).read_bytes())["symbols"] == ["OLD"]
    unserved.settled(settings, ["OLD"])
    assert not (settings.home / unserved.FILE).exists()
    assert named(signals(settings=settings)) == ["AAA", "BBB", "CCC"]


@pytest.mark.parametrize("server", [False, True], ids=["sqlite", "postgresql"])
def test_who_asks_of_one_symbol_is_told_of_no_other_that_the_lake_remembers(tmp_path: Path, server: bool) -> None:
    with postgres.database() if server else nullcontext() as url:
        settings = Settings(home=tmp_path, ledger_url=SecretStr(url) if url else None)
        ledger, names = Ledger(settings), ["AAA", "BBB"]
        ledger.add_symbols([{"symbol": name, "source": "files", "calendar": "XNYS", "added_at": NOW} for name in names])
        ledger.put_signals([said(name, NOW) for name in names])
        for name in names:
            remember(settings, name, BAR + timedelta(days=1))
        unserved.note(settings, ["AAA"], "database or disk is full")
        with pytest.warns(SignalsDegraded, match="the signals of AAA are those"):
            told = [signals(["AAA"], settings=settings), signals(settings=settings)]
        with pytest.warns(SignalsDegraded):
            assert signals.explain("AAA", settings)["reason"] == "of the lake"
        ledger.close()
    assert [[(row["symbol"], row["reason"]) for row in rows] for rows in told] == [
        [("AAA", "of the lake")],
        [("AAA", "of the lake"), ("BBB", "because")],
    ]


@pytest.mark.parametrize("server", [False, True], ids=["sqlite", "postgresql"])
def test_what_the_lake_serves_beside_the_ledger_is_not_fresh_where_a_decision_or_a_bar_has_overtaken_it(
    tmp_path: Path, server: bool
) -> None:
    names, later = ["BAR", "OLD", "OTHER", "REJECT", "TAKEN"], NOW + timedelta(seconds=1)
    with postgres.database() if server else nullcontext() as url:
        settings = Settings(home=tmp_path, ledger_url=SecretStr(url) if url else None)
        ledger = Ledger(settings)
        ledger.add_symbols([{"symbol": name, "source": "files", "calendar": "XNYS", "added_at": NOW} for name in names])
        ledger.note_state([{"symbol": name, "last_bar": BAR + timedelta(days=name == "BAR")} for name in names])
        ledger.decide([decision("OLD", 1, decided_at=NOW - timedelta(seconds=1))])
        ledger.decide([decision("OTHER", 1, regime="volatile", decided_at=later)])
        ledger.decide([decision("REJECT", 1, "reject", decided_at=later)])
        ledger.decide([decision("TAKEN", 1, "rollback", decided_at=later)])
        for name in names:
            remember(settings, name, BAR, regime="sideways")
        unserved.note(settings, names, "database or disk is full")
        with pytest.warns(SignalsDegraded, match="is full"):
            told = {row["symbol"]: row["fresh"] for row in signals(settings=settings)}
        ledger.close()
    assert told == {"BAR": False, "OLD": True, "OTHER": True, "REJECT": True, "TAKEN": False}


@pytest.mark.parametrize("server", [False, True], ids=["sqlite", "postgresql"])
def test_readers_beside_a_writer_see_the_signals_of_one_writing_and_no_error(tmp_path: Path, server: bool) -> None:
    with postgres.database() if server else nullcontext() as url:
        settings = Settings(home=tmp_path, ledger_url=SecretStr(url) if url else None)
        names = [f"S{number:02}" for number in range(40)]
        ledger = Ledger(settings)
        ledger.add_symbols([{"symbol": name, "source": "files", "calendar": "XNYS", "added_at": NOW} for name in names])

        def write(number: int) -> None:
            ledger.put_signals([said(name, NOW, reason=str(number)) for name in names])

        def read(_: int) -> set[int]:
            found = [signals(settings=settings) for _ in range(40)]
            assert {len(rows) for rows in found} == {len(names)}
            return {len({row["reason"] for row in rows}) for rows in found}

        write(0)
        with ThreadPoolExecutor(5) as pool:
            writing = pool.submit(lambda: [write(number) for number in range(1, 60)])
            assert set().union(*pool.map(read, range(4))) == {1}
            writing.result()
        assert {row["reason"] for row in signals(settings=settings)} == {"59"}
        ledger.close()


def test_without_the_table_of_the_record_an_explanation_lacks_weights_and_says_why(settings: Settings) -> None:
    with sqlite3.connect(settings.ledger_file) as connection:
        connection.execute("DROP TABLE cache")
    with pytest.warns(SignalsDegraded, match="no such table: cache; weights and calibration are left out"):
        told = signals.explain("AAA", settings)
    assert (told["signal"], told["weights"], told["calibration"]) == ("BUY", {}, None)
