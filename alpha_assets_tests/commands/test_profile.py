"""``alpha-assets profile``: the documents as people and programs read them."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from alpha_assets.quant.profile_schema import DOCUMENTS, SCHEMA_VERSION, faults
from alpha_assets_tests.commands.call import Answer, call, home

pytestmark = pytest.mark.xdist_group("commands")

Worked = tuple[Path, dict[str, Answer], dict[str, Answer]]


def test_json_holds_both_documents_as_they_are_stored(worked: Worked) -> None:
    with home(worked[0]):
        told = call("profile", "SIM01", "--format", "json").json
        one = call("profile", "SIM01", "--kind", "company", "--format", "json").json
    assert list(told) == ["statistical", "company"]
    assert one == {"company": told["company"]}
    for kind, row in told.items():
        assert row["schema_version"] == SCHEMA_VERSION
        assert faults(kind, row["document"]) == []


def test_csv_is_a_line_a_field_with_the_figure_as_it_is(worked: Worked) -> None:
    with home(worked[0]):
        told = call("profile", "SIM01", "--format", "json").json
        rows = call("profile", "SIM01", "--format", "csv").csv
    by_field = {(row["kind"], row["field"]): row for row in rows}
    sharpe = by_field["statistical", "returns.sharpe"]
    assert float(sharpe["value"]) == told["statistical"]["document"]["returns"]["sharpe"]
    assert by_field["company", "coverage.bars"]["unit"] == "bars"
    assert not any(field.startswith("state") for _, field in by_field)


def test_the_table_names_every_figure_with_its_unit(worked: Worked) -> None:
    with home(worked[0]):
        table = call("profile", "SIM01", "--kind", "statistical").out
    assert "returns.annual_volatility" in table
    assert "share/year" in table
    assert "company" not in table


def test_the_patterns_are_a_line_a_cell_and_shown_only_where_asked_for(worked: Worked) -> None:
    with home(worked[0]):
        stored = call("profile", "SIM01", "--kind", "patterns", "--format", "json").json
        rows = call("profile", "SIM01", "--kind", "patterns", "--format", "csv").csv
        table = call("profile", "SIM01", "--kind", "patterns").out
    assert list(stored) == ["patterns"]
    document = stored["patterns"]["document"]
    assert faults("patterns", document) == []
    told = {(row["pattern"], row["regime"], row["horizon"]): row for row in rows}
    cells = {
        (pattern, regime, horizon): figures
        for pattern, regimes in document["rates"].items()
        for regime, horizons in regimes.items()
        for horizon, figures in horizons.items()
    }
    assert cells
    assert told.keys() == cells.keys()
    for place, figures in cells.items():
        assert int(told[place]["count"]) == figures["count"]
        assert told[place]["rate"] == ("" if "rate" not in figures else str(figures["rate"]))
    assert f"outcomes known by {document['known_until'][:10]};" in table
    assert "fewer than 40 " in table


def test_the_fields_are_declared_without_any_home(tmp_path: Path) -> None:
    with home(tmp_path / "none"):
        rows = call("profile", "--fields", "--format", "csv").csv
    declared = {(kind, field) for kind, fields in DOCUMENTS.items() for field in fields}
    assert declared <= {(row["kind"], row["field"]) for row in rows}
    assert all(row["meaning"] for row in rows)


def test_a_symbol_that_is_unknown_or_has_no_profile_yet_is_told_apart(worked: Worked, tmp_path: Path) -> None:
    with home(worked[0]):
        assert "not in the universe" in call("profile", "NOPE").err
        assert "of which symbol" in call("profile").err
    with home(tmp_path):
        call("universe", "add", "SIM01")
        answer = call("profile", "SIM01")
    assert answer.code == 1
    assert "no profile yet: alpha-assets refresh --symbols SIM01" in answer.err


def test_a_symbol_whose_patterns_are_not_counted_yet_says_so(worked: Worked, tmp_path: Path) -> None:
    shutil.copytree(worked[0], tmp_path / "home")
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.db")) as ledger:
        ledger.execute("DELETE FROM profiles WHERE kind = 'patterns'")
        ledger.commit()
    with home(tmp_path / "home"):
        assert call("profile", "SIM01").code == 0
        answer = call("profile", "SIM01", "--kind", "patterns")
    assert answer.code == 1
    assert "SIM01 has no profile of its patterns yet: alpha-assets refresh --symbols SIM01" in answer.err
