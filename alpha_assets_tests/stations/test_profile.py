"""Statistical profiles: a document a symbol, written where its newest bar is not in it yet."""

from pathlib import Path

import polars as pl
import pytest

from alpha_assets.quant.calendars import bars_a_year
from alpha_assets.quant.profiles import statistical_profile
from alpha_assets.sources.simulated import Simulated
from alpha_assets.stations.profile import profile
from alpha_assets.stations.series import adjusted_bars
from alpha_assets_tests.stations.line import NOW, SYMBOLS, Line, copied, later

pytestmark = pytest.mark.xdist_group("line")


@pytest.fixture
def line(featured: Path, tmp_path: Path) -> Line:
    return copied(featured, tmp_path / "home")


def test_the_document_holds_the_figures_of_the_adjusted_bars_and_what_they_cover(line: Line) -> None:
    report = profile(line.lake, line.ledger, line.settings, SYMBOLS, NOW)
    assert report.states() == {"written": len(SYMBOLS)}
    for symbol in SYMBOLS:
        bars, _ = adjusted_bars(line.lake, line.settings, {symbol: "XNYS"}, [symbol])
        row = line.ledger.profiles()[symbol, "statistical"]
        state = line.ledger.states()[symbol]
        assert row["document"] == {
            **statistical_profile(bars, bars_a_year("XNYS", "1d")),
            "as_of": state["last_bar"].isoformat(),
            "bars_held": state["bars"],
        }
        assert row["written_at"] == NOW


def test_it_is_written_again_only_where_there_is_a_new_bar(line: Line) -> None:
    profile(line.lake, line.ledger, line.settings, SYMBOLS, NOW)
    assert profile(line.lake, line.ledger, line.settings, SYMBOLS, later(days=1)).states() == {"unchanged": 4}
    Simulated(line.settings).advance(1)
    line.refresh(later(days=1))
    report = profile(line.lake, line.ledger, line.settings, SYMBOLS, later(days=2))
    assert report.in_state("unchanged") == ["SIM03"], "the delisted one has no new bar"
    assert report.states() == {"unchanged": 1, "written": 3}
    assert {row["written_at"] for row in line.ledger.profiles().values()} == {NOW, later(days=2)}


def test_a_symbol_without_bars_has_none(line: Line) -> None:
    report = profile(line.lake, line.ledger, line.settings, ["NEW"], NOW)
    assert report.partitions["NEW"] == {"state": "empty", "reason": "no bars yet"}
    assert line.ledger.profiles() == {}


def test_a_symbol_with_an_impossible_dividend_is_held_and_the_others_are_written(line: Line) -> None:
    bars = line.lake.read("bars", symbols=["SIM01"])
    action = {"symbol": "SIM01", "ex_date": bars["timestamp"][100].date(), "kind": "dividend", "value": 1e6}
    line.lake.append("actions", pl.DataFrame([{**action, "first_seen_at": NOW}]))
    report = profile(line.lake, line.ledger, line.settings, SYMBOLS, NOW)
    assert report.states() == {"written": 3, "held": 1}
    assert "dividend" in report.partitions["SIM01"]["reason"]


def test_a_symbol_whose_figures_cannot_be_computed_is_quarantined_until_they_can_and_the_others_are_written(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moody(bars: pl.DataFrame, a_year: float) -> dict[str, object]:
        if bars["symbol"][0] == "SIM02":
            raise ValueError("no figures today")
        return statistical_profile(bars, a_year)

    with monkeypatch.context() as patch:
        patch.setattr("alpha_assets.stations.profile.statistical_profile", moody)
        report = profile(line.lake, line.ledger, line.settings, SYMBOLS, NOW)
    assert report.states() == {"written": 3, "held": 1}
    assert "no figures today" in report.partitions["SIM02"]["reason"]
    state = line.ledger.states()["SIM02"]
    assert (state["quarantine_cause"], state["quarantined_at"]) == ("profile_failed", NOW)
    assert profile(line.lake, line.ledger, line.settings, SYMBOLS, NOW).states() == {"unchanged": 3, "written": 1}
    assert line.ledger.states()["SIM02"]["quarantine_cause"] is None
