"""``alpha-assets doctor`` and ``alpha-assets settings``."""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alpha_assets.commands import doctor
from alpha_assets.quant.calendars import bounds
from alpha_assets.settings import Settings
from alpha_assets.stores.ledger import Ledger
from alpha_assets_tests.commands.call import Answer, call, home
from alpha_assets_tests.stations.line import rewritable

pytestmark = pytest.mark.xdist_group("commands")

NOW = datetime(2026, 1, 2, tzinfo=UTC)

Worked = tuple[Path, dict[str, Answer], dict[str, Answer]]


def examined(said: Answer) -> dict[str, dict[str, object]]:
    """The rows of an answer, whatever its code."""
    return {row["what"]: row for row in json.loads(said.out)}


class TestDoctor:
    def test_finds_a_home_that_works_in_good_health(self, worked: Worked) -> None:
        with home(worked[0]):
            said = call("doctor", "--format", "json")
        assert said.code == 0
        found = examined(said)
        assert [name for name, row in found.items() if not row["ok"]] == []
        stores = {"home", "ledger", "lake", "mlflow", "models"}
        assert set(found) == {"python", "libraries", *stores, "source", "universe", "calendars", "benchmark"}
        assert "versions in production" in str(found["mlflow"]["found"])
        assert list(found["home"]) == ["what", "ok", "found", "do"]

    def test_says_how_a_home_that_was_moved_finds_its_models_again(self, worked: Worked, tmp_path: Path) -> None:
        moved = tmp_path / "elsewhere" / "home"
        shutil.copytree(worked[0], moved, symlinks=True)
        before = Path(next(iter(Ledger(Settings(home=worked[0])).production().values()))["model_location"])
        with closing(sqlite3.connect(moved / "ledger.db")) as ledger, rewritable(ledger):
            for table in ("decisions", "candidates"):
                ledger.execute(
                    f"UPDATE {table} SET model_location = replace(model_location, ?, ?)",
                    (str(worked[0]), str(tmp_path / "before")),
                )
        with home(moved):
            ill = examined(call("doctor", "--format", "json"))["models"]
            (tmp_path / "before").symlink_to(moved)
            well = examined(call("doctor", "--format", "json"))["models"]
        assert before.is_relative_to(worked[0])
        assert not ill["ok"]
        assert str(ill["do"]).startswith("this home was moved, and MLflow keeps absolute places")
        assert str(ill["do"]).endswith(f": ln -s {moved} {tmp_path / 'before'}, or move it back")
        assert well["ok"]

    def test_names_a_model_whose_files_are_not_those_that_were_registered(self, worked: Worked, tmp_path: Path) -> None:
        shutil.copytree(worked[0], tmp_path / "home", symlinks=True)
        with closing(sqlite3.connect(tmp_path / "home" / "ledger.db")) as ledger, rewritable(ledger):
            ledger.execute("UPDATE decisions SET model_digest = 'another'")
        with home(tmp_path / "home"):
            found = examined(call("doctor", "--format", "json"))["models"]
        assert not found["ok"]
        assert "registered was another" in str(found["found"])
        assert found["do"] == "restore the files, roll back, or train again"

    def test_says_that_a_ledger_is_gone_and_nobody_begins_another_in_its_place(
        self, worked: Worked, tmp_path: Path
    ) -> None:
        shutil.copytree(worked[0], tmp_path / "home", symlinks=True)
        for file in (tmp_path / "home").glob("ledger.db*"):
            file.unlink()
        with home(tmp_path / "home"):
            found = examined(call("doctor", "--format", "json"))["ledger"]
            asked = [call("status"), call("promotions"), call("universe", "add", "NEW"), call("refresh")]
        assert (found["ok"], "ledger.db is not there" in str(found["found"])) == (False, True)
        assert [(said.code, "ledger.db is not there" in said.err) for said in asked] == [(1, True)] * 4
        assert not list((tmp_path / "home").glob("ledger.db*"))

    def test_creates_nothing(self, tmp_path: Path) -> None:
        with home(tmp_path / "home"):
            said = call("doctor", "--format", "json")
        assert said.code == 1, "nobody is followed yet"
        assert {name for name, row in examined(said).items() if not row["ok"]} == {"universe"}
        assert not (tmp_path / "home").exists()

    def test_says_that_the_benchmark_is_not_followed(self, worked: Worked) -> None:
        with home(worked[0], FEATURES__BENCHMARK="SPY"):
            found = examined(call("doctor", "--format", "json"))["benchmark"]
        assert not found["ok"]
        assert found["do"] == "alpha-assets universe add SPY, or another ALPHA_FEATURES__BENCHMARK"

    def test_asks_for_no_benchmark_that_no_feature_reads(self, worked: Worked) -> None:
        with home(worked[0], FEATURES__SET="alpha158", FEATURES__BENCHMARK="SPY"):
            found = examined(call("doctor", "--format", "json"))["benchmark"]
        assert (found["ok"], found["found"]) == (True, "none: no feature of the set alpha158 reads SPY")

    def test_asks_the_sources_that_the_followed_symbols_have(self, worked: Worked) -> None:
        with home(worked[0], SOURCE="yahoo"):
            found = examined(call("doctor", "--format", "json"))["source"]
        assert (found["ok"], found["found"]) == (True, "simulated: 4 symbols")

    def test_names_a_calendar_that_soon_knows_nothing_more(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(doctor, "WARNING", timedelta(days=3650))
        rows = [{"symbol": name, "source": "yahoo", "calendar": name, "added_at": NOW} for name in ("XBOM", "XNYS")]
        with home(tmp_path / "home") as folder:
            Ledger(Settings(home=folder)).add_symbols(rows)
            found = examined(call("doctor", "--format", "json"))["calendars"]
        assert not found["ok"]
        assert f"XBOM knows the sessions to {bounds('XBOM')[1]} only" in str(found["found"])
        assert "XNYS" not in str(found["found"])

    def test_says_what_is_wrong_and_what_to_do_without_a_password(self, tmp_path: Path) -> None:
        away = "postgresql://me:geheim@127.0.0.1:1/x"
        with home(tmp_path / "home", LEDGER_URL=away, MLFLOW_URL=away):
            said = call("doctor", "--format", "json")
        found = examined(said)
        assert said.code == 1
        for name, store in (("ledger", "the ledger at"), ("mlflow", "MLflow's store at")):
            assert str(found[name]["found"]).startswith(f"{store} postgresql://me:***@127.0.0.1:1/x")
            assert found[name]["do"]
        assert "geheim" not in said.out + said.err

    def test_names_an_interval_that_is_not_the_homes(self, worked: Worked) -> None:
        with home(worked[0], INTERVAL="1h"):
            found = examined(call("doctor", "--format", "json"))
        assert found["home"]["ok"] is False
        assert "ALPHA_INTERVAL=1d" in str(found["home"]["do"])

    def test_is_a_table_for_people(self, worked: Worked) -> None:
        with home(worked[0]):
            assert "libraries" in call("doctor").out


class TestSettings:
    def test_lists_every_variable_with_value_default_and_meaning(self, tmp_path: Path) -> None:
        with home(tmp_path / "home", WORKERS="3", GATE__MIN_BLOCK="30"):
            rows = {row["name"]: row for row in call("settings", "--format", "json").json}
            table = call("settings", "--format", "csv").csv
        assert {f"ALPHA_{name.upper()}" for name in Settings.model_fields} <= {name.split("__")[0] for name in rows}
        assert [name for name, row in rows.items() if not row["meaning"]] == []
        assert (rows["ALPHA_WORKERS"]["value"], rows["ALPHA_WORKERS"]["default"]) == (3, 0)
        assert (rows["ALPHA_GATE__MIN_BLOCK"]["value"], rows["ALPHA_GATE__MIN_BLOCK"]["default"]) == (30, 20)
        assert len(table) == len(rows)

    def test_says_that_a_secret_is_set_and_not_what_it_is(self, tmp_path: Path) -> None:
        with home(tmp_path / "home", LEDGER_URL="postgresql://me:geheim@host/x"):
            rows = {row["name"]: row["value"] for row in call("settings", "--format", "json").json}
        assert rows["ALPHA_LEDGER_URL"] == "(set, not shown)"
        assert rows["ALPHA_MLFLOW_URL"] is None
