"""``alpha-assets universe``: which symbols are followed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from alpha_assets_tests.commands.call import call, home


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path) -> Iterator[Path]:
    with home(tmp_path / "home", SOURCE="yahoo") as folder:
        yield folder


def followed(*more: str) -> list[str]:
    return [row["symbol"] for row in call("universe", "list", "--format", "json", *more).json]


def test_symbols_are_added_listed_and_retired_and_come_back() -> None:
    assert call("universe", "add", "AAPL", "BTC-USD", "VOD.L").code == 0
    assert followed() == ["AAPL", "BTC-USD", "VOD.L"]
    assert call("universe", "retire", "AAPL").out == "1 symbol no longer followed; bars and models stay\n"
    assert followed() == ["BTC-USD", "VOD.L"]
    assert followed("--retired") == ["AAPL", "BTC-USD", "VOD.L"]
    assert call("universe", "add", "AAPL").code == 0
    assert followed() == ["AAPL", "BTC-USD", "VOD.L"]


def test_the_list_has_documented_fields_in_every_format() -> None:
    call("universe", "add", "VOD.L", "--source", "yahoo")
    (row,) = call("universe", "list", "--format", "json").json
    assert (row["symbol"], row["source"], row["calendar"], row["retired_at"]) == ("VOD.L", "yahoo", "XLON", None)
    assert call("universe", "list", "--format", "csv").csv == [{**row, "retired_at": ""}]
    assert "VOD.L" in call("universe", "list").out


def test_adding_again_does_only_what_is_new_and_says_so() -> None:
    said = call("universe", "add", "SIM01", "SIM02", "--source", "simulated").out
    assert said == "2 symbols followed from now on, source: simulated\n"
    said = call("universe", "add", "SIM01", "CCC", "CCC").out
    assert said == "1 symbol followed from now on, source: yahoo; 1 followed already, source unchanged\n"
    assert [row["source"] for row in call("universe", "list", "--format", "json").json] == [
        "yahoo",
        "simulated",
        "simulated",
    ]


def test_what_a_finite_source_does_not_hold_is_refused_by_name_and_nothing_is_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = call("universe", "add", "SIM01", "AAPL", "--source", "simulated")
    assert (said.code, said.out) == (1, "")
    assert said.err == (
        "alpha-assets: AAPL: not in the simulated market, which has SIM01, SIM02, SIM03, SIM04; nothing was added\n"
    )
    (tmp_path / "MSFT.csv").write_text("date,open,high,low,close,volume\n2024-01-02,1,1,1,1,1\n")
    monkeypatch.setenv("ALPHA_FILES", str(tmp_path))
    said = call("universe", "add", "MSFT", "AAPL", "--source", "files")
    assert said.err == f"alpha-assets: AAPL: not in ALPHA_FILES={tmp_path}, which has MSFT; nothing was added\n"
    assert followed() == []
    assert call("universe", "add", "MSFT", "--source", "files").code == 0


def test_a_symbol_that_is_followed_may_be_named_again_whatever_its_source_holds_now() -> None:
    call("universe", "add", "AAPL")
    assert call("universe", "add", "AAPL", "--source", "simulated").code == 0


def test_all_that_a_source_holds_are_added() -> None:
    assert call("universe", "add", "--all", "--source", "simulated").code == 0
    assert followed() == ["SIM01", "SIM02", "SIM03", "SIM04"]


@pytest.mark.parametrize("symbol", ["", "../x", "A B", "A...B", "A" * 33, "ÄÖÜ", "A|B", "'; drop table universe"])
def test_what_is_no_symbol_is_refused_by_name_and_nothing_is_added(symbol: str) -> None:
    said = call("universe", "add", "GOOD", symbol)
    assert said.code == 1
    assert repr(symbol) in said.err
    assert followed() == []


def test_an_unknown_calendar_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHA_CALENDARS", '{"AAPL": "XMARS"}')
    said = call("universe", "add", "AAPL")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("alpha-assets: ALPHA_CALENDARS={'AAPL': 'XMARS'} must name calendars")
    monkeypatch.delenv("ALPHA_CALENDARS")
    assert followed() == []


def test_a_calendar_may_be_named_by_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHA_CALENDARS", '{"AAPL": "XLON"}')
    call("universe", "add", "AAPL")
    assert [row["calendar"] for row in call("universe", "list", "--format", "json").json] == ["XLON"]


def test_retiring_what_is_not_followed_is_refused_by_name() -> None:
    call("universe", "add", "AAPL")
    said = call("universe", "retire", "AAPL", "NOPE")
    assert (said.code, said.err) == (1, "alpha-assets: NOPE: not in the universe, see «alpha-assets universe list»\n")
    assert followed() == ["AAPL"]


def test_naming_nothing_is_refused() -> None:
    assert "name the symbols to follow, or --all" in call("universe", "add").err


def test_yahoo_cannot_list_its_symbols() -> None:
    said = call("universe", "add", "--all", "--source", "yahoo")
    assert (said.code, said.err) == (1, "alpha-assets: yahoo cannot list its symbols: name the ones to follow\n")


def test_files_without_files_says_what_to_set() -> None:
    said = call("universe", "add", "--all", "--source", "files")
    assert said.code == 1
    assert "ALPHA_FILES" in said.err
    assert len(said.err.splitlines()) == 1


def test_an_empty_universe_says_what_to_do() -> None:
    assert call("universe", "list").out == "the universe is empty: alpha-assets universe add SYMBOL\n"
    assert call("universe", "list", "--format", "json").json == []
