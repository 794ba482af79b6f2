"""Reading: signals, status, findings."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from alpha_assets import signals
from alpha_assets.commands.explain import VIEW_FIELDS
from alpha_assets.settings import Settings
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.commands.call import Answer, call, home
from alpha_assets_tests.stores.test_ledger import said as spoken

pytestmark = pytest.mark.xdist_group("commands")

Worked = tuple[Path, dict[str, Answer], dict[str, Answer]]

#: Fields that programs may rely on.
STATUS = {"symbol", "bars", "first_bar", "last_bar", "features_until", "models", "signal_age_s", "quarantined"}
SIGNALS = {
    "symbol",
    "signal",
    "confidence",
    "bar_time",
    "created_at",
    "expires_at",
    "model_version",
    "reason",
}


class TestSignals:
    def test_have_the_documented_fields_in_csv_and_json(self, worked: Worked) -> None:
        with home(worked[0]):
            rows = call("signals", "--format", "json").json
            table = call("signals", "--format", "csv").csv
        assert all(set(row) >= SIGNALS for row in rows)
        assert [list(row) for row in table] == [list(row) for row in rows]
        assert (
            [row["symbol"] for row in table] == [row["symbol"] for row in rows] == ["SIM01", "SIM02", "SIM03", "SIM04"]
        )
        for row in rows:
            assert row["signal"] in ("STRONG_BUY", "BUY", "HOLD", "SELL", "STRONG_SELL")
            assert (row["confidence"] is None) == (row["signal"] == "HOLD")
            assert datetime.fromisoformat(row["created_at"]).tzinfo is not None

    def test_are_the_same_by_the_command_and_by_the_package(self, worked: Worked) -> None:
        with home(worked[0]):
            by_command = call("signals", "--format", "json").json
            by_package = signals()
        assert [(row["symbol"], row["signal"], row["confidence"]) for row in by_command] == [
            (row["symbol"], row["signal"], row["confidence"]) for row in by_package
        ]

    def test_may_be_chosen_by_symbol(self, worked: Worked) -> None:
        with home(worked[0]):
            assert [row["symbol"] for row in call("signals", "--symbols", "SIM03,SIM01", "--format", "json").json] == [
                "SIM01",
                "SIM03",
            ]

    def test_may_be_chosen_by_what_they_say_how_sure_they_are_and_how_much_may_go_wrong(self, tmp_path: Path) -> None:
        ledger, now = Ledger(Settings(home=tmp_path / "home")), datetime.now(UTC)
        told = {"AAA": ("BUY", 0.6, "LOW"), "BBB": ("STRONG_SELL", 0.7, "HIGH"), "CCC": ("HOLD", None, "HIGH")}
        ledger.put_signals(
            [
                spoken(symbol, now, signal=word, confidence=sure, risk=risk)
                for symbol, (word, sure, risk) in told.items()
            ]
        )
        with home(tmp_path / "home"):
            for choice, expected in (
                (("--signal", "buy,strong_sell"), ["AAA", "BBB"]),
                (("--min-confidence", "0.65"), ["BBB"]),
                (("--risk", "HIGH"), ["BBB", "CCC"]),
                (("--risk", "HIGH", "--signal", "HOLD"), ["CCC"]),
            ):
                assert [row["symbol"] for row in call("signals", *choice, "--format", "json").json] == expected
            assert call("signals", "--min-confidence", "0.9").out.startswith("no signal fits")
            counted = call("signals", "metrics", "--risk", "HIGH", "--format", "json").json
            table = call("signals", "metrics", "--risk", "HIGH").out
            wrong = [call("signals", *pair) for pair in (("--signal", "MAYBE"), ("--min-confidence", "2"))]
        assert (counted["signals"], counted["sell"], counted["hold"], counted["high_risk"]) == (2, 1, 1, 2)
        assert f"│ {counted['oldest_bar'][:10]} │" in table
        assert "00:00" not in table
        assert [said.code for said in wrong] == [2, 2]
        assert "names something else than STRONG_SELL, SELL, HOLD, BUY, STRONG_BUY" in wrong[0].err

    def test_are_made_anew_where_that_is_asked_for(self, worked: Worked) -> None:
        with home(worked[0]):
            before = {row["symbol"]: row["created_at"] for row in call("signals", "--format", "json").json}
            said = call("signals", "--symbols", "SIM01", "--refresh", "--format", "json")
            after = {row["symbol"]: row["created_at"] for row in call("signals", "--format", "json").json}
        assert [row["symbol"] for row in said.json] == ["SIM01"]
        assert "models asked: 0 of 1 at SIM01" in said.err
        assert "signals written: 3 of 3" in said.err
        assert {symbol for symbol in after if after[symbol] != before[symbol]} == {"SIM01"}

    def test_come_from_the_lake_while_the_ledger_does_not_answer_and_that_is_told(
        self, worked: Worked, tmp_path: Path
    ) -> None:
        shutil.copytree(worked[0], tmp_path / "home", symlinks=True)
        with home(tmp_path / "home"):
            before = call("signals", "--format", "json").json
            for file in (tmp_path / "home").glob("ledger.db*"):
                file.unlink()
            gone = call("signals", "--format", "json")
        dated = [row for row in before if row["bar_time"] is not None]
        names = ("symbol", "signal", "confidence", "reason", "bar_time", "views")
        assert [[row[name] for name in names] for row in gone.json] == [[row[name] for name in names] for row in dated]
        assert "ledger.db is not there" in gone.err
        assert "; the signals are those that the lake remembers" in gone.err

    def test_of_a_symbol_that_nobody_follows_are_refused_by_name(self, worked: Worked) -> None:
        with home(worked[0]):
            said = call("signals", "--symbols", "SIM01,NOPE", "--format", "json")
        assert (said.code, said.out) == (1, "")
        assert "NOPE: not in the universe" in said.err

    def test_older_than_the_maximum_age_are_left_out(self, tmp_path: Path) -> None:
        ledger = Ledger(Settings(home=tmp_path / "home"))
        now = datetime.now(UTC)
        ages = {"OLD": timedelta(hours=5), "NEW": timedelta(minutes=5)}
        ledger.add_symbols([{"symbol": name, "source": "files", "calendar": "XNYS", "added_at": now} for name in ages])
        ledger.put_signals(
            [
                {
                    "symbol": symbol,
                    "signal": "HOLD",
                    "created_at": now - age,
                    "expires_at": now + timedelta(hours=1),
                    "reason": "because",
                    "signal_id": symbol,
                }
                for symbol, age in ages.items()
            ]
        )
        with home(tmp_path / "home"):
            assert [row["symbol"] for row in call("signals", "--max-age", "1", "--format", "json").json] == ["NEW"]
            assert [row["symbol"] for row in call("signals", "--max-age", "6", "--format", "json").json] == [
                "NEW",
                "OLD",
            ]
            assert call("signals", "--max-age", "1", "--symbols", "OLD", "--format", "json").json == []
            assert call("signals", "--max-age", "0.01").out == (
                "2 signals held, none within --max-age 0.01 hours: the youngest is 0.1 hours old; "
                "alpha-assets refresh\n"
            )
            assert call("signals", "--max-age", "1", "--symbols", "OLD").out.startswith("1 signal held, none within")

    @pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "old", "1e9"])
    def test_of_an_age_that_is_none_are_refused_by_name(self, hours: str) -> None:
        said = call("signals", "--max-age", hours)
        assert (said.code, said.out) == (2, "")
        assert said.err.endswith(f"argument --max-age: {hours!r} is no number of hours above 0, 876,000 at most\n")

    def test_as_a_table_carry_the_disclaimer_and_say_when_they_have_expired(self, worked: Worked) -> None:
        with home(worked[0]):
            said = call("signals").out
        assert "not financial advice" in said
        assert "SIM01" in said
        assert "expired" not in said

    def test_on_an_empty_home_are_none_and_nothing_is_created(self, tmp_path: Path) -> None:
        with home(tmp_path / "home"):
            assert call("signals", "--format", "json").json == []
            assert call("signals", "--format", "csv").out.startswith("symbol,signal,confidence")
            assert call("signals").out == "no signals are held: alpha-assets refresh\n"
            assert call("status", "--format", "json").json == []
            assert call("promotions", "--format", "json").json == []
        assert not (tmp_path / "home").exists()

    def test_are_read_without_sqlalchemy_where_sqlite_will_do_because_its_import_is_most_of_the_time(
        self, worked: Worked
    ) -> None:
        code = (
            "import sys; from alpha_assets.cli import main; main(['signals', '--format', 'json']);"
            "heavy = ('sqlalchemy', 'rich', 'polars', 'dagster');"
            "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
        )
        with home(worked[0]):
            ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert len(json.loads(ended.stdout)) == 4
        assert ended.stderr == "[]\n"


class TestSignalsExplained:
    def test_as_json_hold_the_signal_with_its_views_weights_calibration_and_disclaimer(self, worked: Worked) -> None:
        with home(worked[0]):
            (row,) = call("signals", "--symbols", "SIM02", "--format", "json").json
            told = call("signals", "explain", "SIM02", "--format", "json").json
        assert {name: told[name] for name in row} == row
        assert [view["name"] for view in told["views"]] == ["model", "technical", "pattern"]
        assert set(told["weights"]) == {"model", "technical", "pattern"}
        assert sum(told["weights"].values()) == pytest.approx(1.0)
        assert set(told["calibration"]["odds"]) == {"constant", "score", "side", "costs"}
        assert "not financial advice" in told["disclaimer"]

    def test_as_a_table_are_sentences_and_a_line_a_view(self, worked: Worked) -> None:
        with home(worked[0]):
            (row,) = call("signals", "--symbols", "SIM02", "--format", "json").json
            said = call("signals", "explain", "SIM02").out
            table = call("signals", "explain", "SIM02", "--format", "csv").csv
        assert said.startswith(f"SIM02 {row['bar_time'][:10]}: {row['signal']}")
        assert f"Why: {row['reason']}." in said
        for feature in row["top_features"]:
            assert feature["feature"] in said
        assert "not financial advice" in said
        assert [line["view"] for line in table] == ["model", "technical", "pattern"]
        assert list(table[0]) == list(VIEW_FIELDS)
        assert all(line["reasons"] for line in table)

    def test_of_a_symbol_that_nobody_follows_or_spoke_of_are_refused_by_name(self, tmp_path: Path) -> None:
        ledger, now = Ledger(Settings(home=tmp_path / "home")), datetime.now(UTC)
        ledger.add_symbols([{"symbol": "ONE", "source": "files", "calendar": "XNYS", "added_at": now}])
        with home(tmp_path / "home"):
            strange, silent = call("signals", "explain", "NOPE"), call("signals", "explain", "ONE")
        assert [(said.code, said.out) for said in (strange, silent)] == [(1, "")] * 2
        assert strange.err.startswith("alpha-assets: NOPE: not in the universe")
        assert silent.err == "alpha-assets: ONE has no signal: alpha-assets refresh --symbols ONE\n"

    def test_without_a_track_record_have_no_weights(self, tmp_path: Path) -> None:
        ledger, now = Ledger(Settings(home=tmp_path / "home")), datetime.now(UTC)
        row = {"symbol": "ONE", "signal": "HOLD", "created_at": now, "expires_at": now, "reason": "because"}
        ledger.add_symbols([{"symbol": "ONE", "source": "files", "calendar": "XNYS", "added_at": now}])
        ledger.put_signals([{**row, "signal_id": "1"}])
        with home(tmp_path / "home"):
            told = call("signals", "explain", "ONE", "--format", "json").json
            said = call("signals", "explain", "ONE").out
        assert (told["weights"], told["calibration"], told["views"]) == ({}, None, [])
        assert said.startswith("ONE: HOLD.")


class TestStatus:
    def test_has_a_line_a_symbol_with_the_documented_fields(self, worked: Worked) -> None:
        with home(worked[0]):
            rows = call("status", "--format", "json").json
            table = call("status", "--format", "csv").csv
        assert [list(row) for row in table] == [list(row) for row in rows]
        assert [row["symbol"] for row in rows] == ["SIM01", "SIM02", "SIM03", "SIM04"]
        for row in rows:
            assert set(row) >= STATUS
            assert row["bars"] > 1000
            assert row["first_bar"] < row["last_bar"]
            assert row["models"] == 4, "one a regime but for the one that has too few bars of it"
            assert row["signal_age_s"] >= 0
            assert row["quarantined"] is None

    def test_may_be_chosen_by_symbol_and_refuses_unknown_ones_by_name(self, worked: Worked) -> None:
        with home(worked[0]):
            assert [row["symbol"] for row in call("status", "--symbols", "SIM02", "--format", "json").json] == ["SIM02"]
            said = call("status", "--symbols", "NOPE", "--format", "json")
        assert (said.code, said.out) == (1, "")
        assert "NOPE" in said.err

    def test_says_why_a_symbol_is_quarantined(self, tmp_path: Path) -> None:
        ledger = Ledger(Settings(home=tmp_path / "home"))
        now = datetime.now(UTC)
        ledger.add_symbols([{"symbol": "AAA", "source": "yahoo", "calendar": "XNYS", "added_at": now}])
        ledger.note_state([{"symbol": "AAA", "quarantine_cause": "outage", "quarantine_reason": "no answer"}])
        with home(tmp_path / "home"):
            (row,) = call("status", "--format", "json").json
        assert row["quarantined"] == "outage: no answer"
        assert (row["bars"], row["first_bar"], row["signal_age_s"]) == (0, None, None)


class TestOfARetiredSymbol:
    @pytest.mark.parametrize("verb", ["status", "signals", "findings"])
    def test_the_present_is_refused_by_name_and_that_it_is_retired_is_said(self, tmp_path: Path, verb: str) -> None:
        with home(tmp_path / "home", SOURCE="yahoo"):
            call("universe", "add", "AAA", "BBB")
            call("universe", "retire", "BBB")
            said = call(verb, "--symbols", "AAA,BBB", "--format", "json")
            alone = call(verb, "--symbols", "BBB")
        assert (said.code, said.out) == (alone.code, alone.out) == (1, "")
        assert alone.err == said.err
        assert said.err.startswith("alpha-assets: BBB: retired, no longer followed; «alpha-assets universe add BBB»")

    @pytest.mark.parametrize("verb", ["status", "signals", "findings"])
    def test_or_of_no_symbol_at_all_nothing_is_shown(self, tmp_path: Path, verb: str) -> None:
        with home(tmp_path / "home", SOURCE="yahoo"):
            said = call(verb, "--symbols", ",")
        assert (said.code, said.err) == (1, "alpha-assets: --symbols names no symbol: write them as A,B\n")


class TestFindings:
    @pytest.fixture
    def found(self, tmp_path: Path) -> Path:
        ledger = Ledger(Settings(home=tmp_path / "home"))
        now = datetime(2024, 1, 5, 21, 30, tzinfo=UTC)
        names = ("AAA", "BBB", "GONE")
        ledger.add_symbols([{"symbol": name, "source": "yahoo", "calendar": "XNYS", "added_at": now} for name in names])
        rows = [("BBB", "stale", 3), ("AAA", "split_sized_jump", 4), ("AAA", "stale", 2), ("GONE", "stale", 2)]
        ledger.note_findings(
            dict.fromkeys(names),
            ["stale", "split_sized_jump"],
            [{"symbol": name, "rule": rule, "day": date(2024, 1, day), "seen_at": now} for name, rule, day in rows],
        )
        ledger.retire(["GONE"], now)
        return tmp_path / "home"

    def test_are_listed_by_symbol_and_day_of_whoever_is_followed(self, found: Path) -> None:
        with home(found):
            rows = call("findings", "--format", "json").json
            table = call("findings", "--format", "csv").csv
        seen = "2024-01-05T21:30:00+00:00"
        assert (
            rows
            == table
            == [
                {"symbol": "AAA", "rule": "stale", "day": "2024-01-02", "seen_at": seen},
                {"symbol": "AAA", "rule": "split_sized_jump", "day": "2024-01-04", "seen_at": seen},
                {"symbol": "BBB", "rule": "stale", "day": "2024-01-03", "seen_at": seen},
            ]
        )

    def test_may_be_chosen_by_symbol_and_none_is_an_answer(self, found: Path, tmp_path: Path) -> None:
        with home(found):
            assert [row["symbol"] for row in call("findings", "--symbols", "BBB", "--format", "json").json] == ["BBB"]
            assert "2024-01-05 21:30 UTC" in call("findings").out
        with home(tmp_path / "other"):
            assert call("findings").out == "nothing was found\n"


class TestTrouble:
    def test_a_ledger_of_a_newer_program_is_refused_with_a_sentence(self, tmp_path: Path) -> None:
        ledger = Ledger(Settings(home=tmp_path / "home"))
        ledger.migrate()
        with ledger.engine().begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        ledger.close()
        with home(tmp_path / "home"):
            for verb in ("signals", "status", "refresh"):
                said = call(verb)
                assert (said.code, said.out) == (1, "")
                assert said.err.splitlines()[-1].startswith("alpha-assets: the ledger has the schema 9999")

    def test_a_ledger_that_does_not_answer_is_named_without_its_password(self, tmp_path: Path) -> None:
        with home(tmp_path / "home", LEDGER_URL="postgresql://me:geheim@127.0.0.1:1/ledger"):
            for verb in ("signals", "status"):
                said = call(verb)
                assert (said.code, said.out) == (1, "")
                assert said.err.startswith("alpha-assets: the ledger at postgresql://me:***@127.0.0.1:1/ledger")
                assert "geheim" not in said.err
